// SPDX-License-Identifier: MIT
//
// A program that links libvulkan and calls it itself, before and after hymn has loaded Vulkan its own way.
#include <hymn/hymn.h>
#include <stdio.h>
#include <vulkan/vulkan.h>

static int call_vulkan(void) {
    uint32_t version = 0;
    VkResult result = vkEnumerateInstanceVersion(&version);
    VkInstance instance = VK_NULL_HANDLE;
    const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                           .apiVersion = VK_API_VERSION_1_1};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pApplicationInfo = &application};
    if (result == VK_SUCCESS) {
        result = vkCreateInstance(&info, NULL, &instance);
    }
    uint32_t devices = 0;
    if (result == VK_SUCCESS) {
        result = vkEnumeratePhysicalDevices(instance, &devices, NULL);
        vkDestroyInstance(instance, NULL);
    }
    printf("Vulkan %u.%u, %u devices\n", VK_VERSION_MAJOR(version), VK_VERSION_MINOR(version), devices);
    return result == VK_SUCCESS ? 0 : 1;
}

int main(void) {
    if (call_vulkan()) {
        return 1;
    }
    struct hymn_device_list *devices = NULL;
    const enum hymn_status listed = hymn_device_list_create(NULL, &devices);
    hymn_device_list_destroy(&devices);
    return listed == HYMN_STATUS_OK ? call_vulkan() : 1;
}
