// SPDX-License-Identifier: MIT
//
// The Vulkan loader and one VkInstance with its functions, per context or device list.
#ifndef HYMN_VK_INSTANCE_H
#define HYMN_VK_INSTANCE_H

#include <stdatomic.h>

#include "base/log.h"
#include "vk/vulkan.h"

// clang-format off
#define HYMN_VK_INSTANCE_FUNCTIONS(X)         \
    X(vkDestroyInstance)                      \
    X(vkEnumeratePhysicalDevices)             \
    X(vkEnumerateDeviceExtensionProperties)   \
    X(vkGetPhysicalDeviceProperties)          \
    X(vkGetPhysicalDeviceProperties2)         \
    X(vkGetPhysicalDeviceFeatures2)           \
    X(vkGetPhysicalDeviceMemoryProperties)    \
    X(vkGetPhysicalDeviceMemoryProperties2)   \
    X(vkGetPhysicalDeviceQueueFamilyProperties) \
    X(vkCreateDevice)                         \
    X(vkGetDeviceProcAddr)
// Of extensions of a device: NULL where no device has them.
#define HYMN_VK_OPTIONAL_FUNCTIONS(X)         \
    X(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
// Of VK_EXT_debug_utils: NULL without validation.
#define HYMN_VK_DEBUG_FUNCTIONS(X)            \
    X(vkCreateDebugUtilsMessengerEXT)         \
    X(vkDestroyDebugUtilsMessengerEXT)        \
    X(vkSetDebugUtilsObjectNameEXT)           \
    X(vkCmdBeginDebugUtilsLabelEXT)           \
    X(vkCmdEndDebugUtilsLabelEXT)
// clang-format on

struct hymn_vk_instance_table {
#define HYMN_VK_MEMBER(name) PFN_##name name;
    HYMN_VK_INSTANCE_FUNCTIONS(HYMN_VK_MEMBER)
    HYMN_VK_OPTIONAL_FUNCTIONS(HYMN_VK_MEMBER)
    HYMN_VK_DEBUG_FUNCTIONS(HYMN_VK_MEMBER)
#undef HYMN_VK_MEMBER
};

struct hymn_vk_instance {
    VkInstance handle;
    struct hymn_vk_instance_table table;
    struct hymn_log log; // of validation messages
    bool validation;
    VkDebugUtilsMessengerEXT messenger;
    _Atomic uint32_t validation_messages;
};

// NO_DEVICE: no loader, or one older than Vulkan 1.1. UNSUPPORTED: validation asked for and the layer not installed.
// OUT_OF_MEMORY, INTERNAL. Thread-safety: any thread.
enum hymn_status hymn_vk_instance_create(const struct hymn_log *log, bool validation,
                                         struct hymn_vk_instance **out_instance);
void hymn_vk_instance_destroy(struct hymn_vk_instance **instance);

// The physical devices in the loader's order; *out_devices is freed with hymn_free. An empty list is a success.
enum hymn_status hymn_vk_instance_devices(struct hymn_vk_instance *instance, VkPhysicalDevice **out_devices,
                                          uint32_t *out_count);

// Fills a device's function table. Thread-safety: any thread.
void hymn_vk_device_table_load(const struct hymn_vk_instance *instance, VkDevice device, struct VolkDeviceTable *table);

// "VK_ERROR_DEVICE_LOST" and the like; never NULL.
const char *hymn_vk_result_string(VkResult result);

#endif
