// SPDX-License-Identifier: MIT
//
// Validation layers that are newer than the loader, or than volk: this program gets between volk and the loader.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test_vk.h"

#define SETTINGS VK_EXT_LAYER_SETTINGS_EXTENSION_NAME

static PFN_vkGetInstanceProcAddr real_get;
static PFN_vkCreateInstance real_create;
static PFN_vkEnumerateInstanceExtensionProperties real_enumerate;
static int refused, created, created_with_settings;
static bool made_up; // the extension: the layer does not know its structures

static VKAPI_ATTR VkResult VKAPI_CALL create_as_old_loaders(const VkInstanceCreateInfo *info,
                                                            const VkAllocationCallbacks *allocator,
                                                            VkInstance *instance) {
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++) {
        if (strcmp(info->ppEnabledExtensionNames[i], SETTINGS) == 0) {
            refused++;
            return VK_ERROR_EXTENSION_NOT_PRESENT;
        }
    }
    created++;
    VkInstanceCreateInfo known = *info;
    const VkBaseInStructure *first = info->pNext;
    if (first && first->sType == VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT) {
        created_with_settings++;
        known.pNext = made_up ? first->pNext : first;
    }
    return real_create(&known, allocator, instance);
}

// The layer has the extension, if there is a layer at all; old ones are given it.
static VKAPI_ATTR VkResult VKAPI_CALL enumerate_as_new_layers(const char *layer, uint32_t *count,
                                                              VkExtensionProperties *properties) {
    const uint32_t room = *count;
    const VkResult result = real_enumerate(layer, count, properties);
    for (uint32_t i = 0; properties && i < *count && layer; i++) {
        if (strcmp(properties[i].extensionName, SETTINGS) == 0) {
            return result;
        }
    }
    if (!layer || result < VK_SUCCESS || (properties && *count == room)) {
        return result;
    }
    made_up = properties != NULL;
    if (properties) {
        properties[*count] = (VkExtensionProperties){.extensionName = SETTINGS, .specVersion = 2};
    }
    ++*count;
    return VK_SUCCESS;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_as_old_loaders(VkInstance instance, const char *name) {
    if (instance == VK_NULL_HANDLE && strcmp(name, "vkCreateInstance") == 0) {
        real_create = (PFN_vkCreateInstance)real_get(instance, name);
        return (PFN_vkVoidFunction)create_as_old_loaders;
    }
    if (strcmp(name, "vkEnumerateInstanceExtensionProperties") == 0) {
        real_enumerate = (PFN_vkEnumerateInstanceExtensionProperties)real_get(instance, name);
        return (PFN_vkVoidFunction)enumerate_as_new_layers;
    }
    return real_get(instance, name);
}

VkResult __real_volkInitialize(void);
VkResult __wrap_volkInitialize(void);

VkResult __wrap_volkInitialize(void) {
    VkResult result = __real_volkInitialize();
    if (result == VK_SUCCESS) {
        real_get = vkGetInstanceProcAddr;
        vkGetInstanceProcAddr = get_as_old_loaders;
    }
    return result;
}

// False: there is no validation layer here.
static bool open_with_validation(struct test_vk *vk) {
    enum hymn_status status = test_vk_try(vk, getenv("HYMN_DEVICE"), "", true);
    if (status == HYMN_STATUS_UNSUPPORTED && test_log_has(&vk->log, "VK_LAYER_KHRONOS_validation")) {
        return false;
    }
    assert_int_equal(status, HYMN_STATUS_OK);
    return true;
}

static void settings_reach_the_layer_without_their_extension(void **state) {
    (void)state;
    struct test_vk vk;
    refused = created = created_with_settings = 0;
    if (!open_with_validation(&vk)) {
        skip();
    }
    print_message("refused %d times, created %d, with settings %d\n", refused, created, created_with_settings);
    assert_int_equal(refused, 1);
    assert_int_equal(created, 1);
    assert_int_equal(created_with_settings, 1);
    test_vk_close(&vk);
}

static void send(struct test_vk *vk, const char *name) {
    PFN_vkSubmitDebugUtilsMessageEXT submit =
        (PFN_vkSubmitDebugUtilsMessageEXT)real_get(vk->device->instance->handle, "vkSubmitDebugUtilsMessageEXT");
    assert_non_null(submit);
    VkDebugUtilsMessengerCallbackDataEXT data = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CALLBACK_DATA_EXT,
        .pMessageIdName = name,
        .pMessage = "made up",
    };
    submit(vk->device->instance->handle, VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
           VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT, &data);
}

static void messages_about_volk_do_not_count(void **state) {
    (void)state;
    struct test_vk vk;
    if (!open_with_validation(&vk)) {
        skip();
    }
    send(&vk, "WARNING-vkGetDeviceProcAddr-device");
    assert_int_equal(vk.device->instance->validation_messages, 0);
    send(&vk, "VUID-made-up");
    assert_int_equal(vk.device->instance->validation_messages, 1);
    assert_log(&vk.log, "VUID-made-up");
    vk.device->instance->validation_messages = 0;
    test_log_start(&vk.log);
    test_vk_close(&vk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_reach_the_layer_without_their_extension),
        cmocka_unit_test(messages_about_volk_do_not_count),
    };
    return cmocka_run_group_tests_name("vk_device_loader", tests, NULL, NULL);
}
