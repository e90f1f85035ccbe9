// SPDX-License-Identifier: MIT
#include "vk/device.h"

#include <string.h>

#include "base/alloc.h"
#include "vk/cache.h"
#include "vk/divide.h"
#include "vk/extensions.h"
#include "vk/pipeline.h"
#include "vk/slowness.h"
#include "vk/store.h"

enum hymn_status hymn_vk_result(struct hymn_vk_device *device, VkResult result, const char *what) {
    if (result >= VK_SUCCESS) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = HYMN_STATUS_INTERNAL;
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        status = HYMN_STATUS_OUT_OF_MEMORY;
        break;
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
        status = HYMN_STATUS_OUT_OF_DEVICE_MEMORY;
        break;
    case VK_ERROR_DEVICE_LOST:
        atomic_store(&device->lost, true);
        status = HYMN_STATUS_DEVICE_LOST;
        break;
    default:
        break;
    }
    return hymn_fail(&device->log, status, "%s: %s", what, hymn_vk_result_string(result));
}

enum hymn_status hymn_vk_device_check(struct hymn_vk_device *device) {
    if (atomic_load(&device->lost)) {
        return hymn_fail(&device->log, HYMN_STATUS_DEVICE_LOST, "%s was lost", device->info.name);
    }
    return HYMN_STATUS_OK;
}

void hymn_vk_name(struct hymn_vk_device *device, VkObjectType type, uint64_t handle, const char *name) {
    if (device->instance->table.vkSetDebugUtilsObjectNameEXT) {
        VkDebugUtilsObjectNameInfoEXT info = {
            .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
            .objectType = type,
            .objectHandle = handle,
            .pObjectName = name,
        };
        device->instance->table.vkSetDebugUtilsObjectNameEXT(device->handle, &info);
    }
}

// Chooses the physical device and fills what is known about it.
static enum hymn_status choose(struct hymn_vk_device *device, const char *wanted) {
    struct hymn_vk_instance *instance = device->instance;
    VkPhysicalDevice *devices = NULL;
    struct hymn_device_info *infos = NULL;
    uint32_t count = 0, index = 0;
    struct hymn_vk_queues queues;
    enum hymn_status status = hymn_vk_instance_devices(instance, &devices, &count);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_infos(instance, devices, count, &infos);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_select(infos, count, wanted, &device->log, &index);
    }
    if (status == HYMN_STATUS_OK) {
        device->physical = devices[index];
        status = hymn_vk_snapshot_take(instance, device->physical, index, &device->snapshot, &device->info, &queues);
    }
    if (status == HYMN_STATUS_OK) {
        device->queue_family = queues.compute;
        device->queue_count = device->queue_count < queues.compute_count ? device->queue_count : queues.compute_count;
        device->transfer_family = queues.transfer;
        if (device->transfer == HYMN_TRANSFER_ON) {
            device->snapshot.unified_memory = false; // then there is something to upload
        }
        hymn_vk_plan_make(&device->snapshot, device->tier, &device->plan);
        instance->table.vkGetPhysicalDeviceMemoryProperties(device->physical, &device->memory);
    }
    hymn_free(infos);
    hymn_free(devices);
    return status;
}

// The optional extensions that are worth enabling, among those the device has.
static enum hymn_status choose_extensions(struct hymn_vk_device *device, struct hymn_vk_extensions *out_chosen) {
    const struct hymn_vk_instance_table *table = &device->instance->table;
    uint32_t count = 0;
    *out_chosen = (struct hymn_vk_extensions){0};
    VkResult result = table->vkEnumerateDeviceExtensionProperties(device->physical, NULL, &count, NULL);
    VkExtensionProperties *properties = hymn_alloc(count, sizeof *properties);
    if (!properties) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    if (result >= VK_SUCCESS) {
        result = table->vkEnumerateDeviceExtensionProperties(device->physical, NULL, &count, properties);
    }
    for (uint32_t i = 0; i < count && result >= VK_SUCCESS; i++) {
        hymn_vk_extensions_offer(&device->snapshot, &device->plan, device->inspected, properties[i].extensionName,
                                 out_chosen);
    }
    hymn_free(properties);
    device->memory_budget = out_chosen->memory_budget;
    device->statistics = out_chosen->statistics;
    device->unchecked = out_chosen->pipeline_robustness;
    return hymn_vk_result(device, result, "vkEnumerateDeviceExtensionProperties");
}

// Of each family in use. priorities: HYMN_VK_MAX_QUEUES of them.
static uint32_t list_queues(const struct hymn_vk_device *device, const float *priorities,
                            VkDeviceQueueCreateInfo out_queues[2]) {
    const uint32_t families[2] = {device->queue_family, device->transfer_family};
    const uint32_t counts[2] = {device->queue_count, 1};
    uint32_t count = device->plan.transfer_queue && device->transfer != HYMN_TRANSFER_OFF ? 2 : 1;
    for (uint32_t i = 0; i < count; i++) {
        out_queues[i] = (VkDeviceQueueCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = families[i],
            .queueCount = counts[i],
            .pQueuePriorities = priorities,
        };
    }
    return count;
}

static void take_queues(struct hymn_vk_device *device, uint32_t count) {
    for (uint32_t i = 0; i < device->queue_count; i++) {
        device->table.vkGetDeviceQueue(device->handle, device->queue_family, i, &device->queues[i]);
    }
    if (count > 1) {
        device->table.vkGetDeviceQueue(device->handle, device->transfer_family, 0, &device->transfer_queue);
    } else if (device->transfer == HYMN_TRANSFER_ON) {
        device->transfer_queue = device->queues[0];
        device->transfer_family = device->queue_family;
    }
    device->info.transfer_queue = device->transfer_queue != VK_NULL_HANDLE;
    device->direct_bytes = device->transfer == HYMN_TRANSFER_AUTO ? device->plan.direct_bytes : 0;
}

// *out_result: of vkCreateDevice.
static enum hymn_status try_open(struct hymn_vk_device *device, VkResult *out_result) {
    *out_result = VK_SUCCESS;
    struct hymn_vk_extensions extensions;
    enum hymn_status status = choose_extensions(device, &extensions);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkPhysicalDeviceShaderFloat16Int8Features float16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES, .shaderFloat16 = VK_TRUE};
    VkPhysicalDevice16BitStorageFeatures storage = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .pNext = device->plan.needs_met & HYMN_NEEDS_FLOAT16 ? &float16 : NULL,
        .storageBuffer16BitAccess = (device->plan.needs_met & HYMN_NEEDS_STORAGE_16BIT) != 0};
    // What kernels that share across a subgroup ask for, and what the matrix kernels need: see plan.c.
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .pNext = &storage,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE};
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
        .pNext = &subgroup_size,
        .vulkanMemoryModel = VK_TRUE};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = &memory_model,
        .cooperativeMatrix = VK_TRUE};
    bool matrices = device->plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX;
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pNext = matrices                     ? (void *)&matrix
                 : device->plan.subgroup_full ? (void *)&subgroup_size
                                              : (void *)&storage,
        .pipelineExecutableInfo = VK_TRUE};
    VkPhysicalDevicePipelineRobustnessFeaturesEXT robustness = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_ROBUSTNESS_FEATURES_EXT,
        .pNext = device->statistics ? (void *)&executables : executables.pNext,
        .pipelineRobustness = VK_TRUE};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = device->unchecked ? (void *)&robustness : robustness.pNext};
    const float priorities[HYMN_VK_MAX_QUEUES] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    VkDeviceQueueCreateInfo queues[2];
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features,
        .queueCreateInfoCount = list_queues(device, priorities, queues),
        .pQueueCreateInfos = queues,
        .enabledExtensionCount = extensions.count,
        .ppEnabledExtensionNames = extensions.names,
    };
    VkResult result = device->instance->table.vkCreateDevice(device->physical, &info, NULL, &device->handle);
    *out_result = result;
    if (result != VK_SUCCESS) {
        device->handle = VK_NULL_HANDLE;
        return HYMN_STATUS_OK;
    }
    device->owns_device = true;
    hymn_vk_device_table_load(device->instance, device->handle, &device->table);
    take_queues(device, info.queueCreateInfoCount);
    return HYMN_STATUS_OK;
}

// A device may be refused for a feature that it claims to have: then the next lower tier is tried. Matrices are asked
// for on software devices too, whose tier is lower.
static enum hymn_status open_device(struct hymn_vk_device *device) {
    VkResult result;
    enum hymn_status status = try_open(device, &result);
    while (status == HYMN_STATUS_OK &&
           (result == VK_ERROR_FEATURE_NOT_PRESENT || result == VK_ERROR_EXTENSION_NOT_PRESENT) &&
           device->plan.tier > HYMN_TIER_BASE) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING, "%s claims what tier %s needs, and cannot be opened with it: %s",
                       device->info.name, hymn_tier_string(device->plan.tier), hymn_vk_result_string(result));
        device->tier = device->plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX ? HYMN_TIER_HALF : device->plan.tier - 1;
        hymn_vk_plan_make(&device->snapshot, device->tier, &device->plan);
        status = try_open(device, &result);
    }
    return status == HYMN_STATUS_OK ? hymn_vk_result(device, result, "vkCreateDevice") : status;
}

// What is kept per device, on a device of our own or a lent one.
static enum hymn_status create_contents(struct hymn_vk_device *device, const char *cache_dir) {
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
        .queueFamilyIndex = device->queue_family,
    };
    VkResult result = device->table.vkCreateCommandPool(device->handle, &info, NULL, &device->transfer_pool);
    enum hymn_status status = hymn_vk_result(device, result, "vkCreateCommandPool");
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_cache_path(device, cache_dir, &device->cache_path);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_store_open(device, cache_dir);
    }
    if (status == HYMN_STATUS_OK) {
        hymn_vk_slowness_load(device);
        status = hymn_vk_pipelines_create(device);
    }
    return status;
}

static enum hymn_status check_params(const struct hymn_context_params *params) {
    if ((uint32_t)params->tier > HYMN_TIER_MATRIX) {
        return hymn_fail(&params->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "tier %d is none of auto, base, wide, half, matrix", (int)params->tier);
    }
    if ((uint32_t)params->transfer > HYMN_TRANSFER_ON) {
        return hymn_fail(&params->log, HYMN_STATUS_INVALID_ARGUMENT, "transfer %d is none of auto, off, on",
                         (int)params->transfer);
    }
    if (params->compute_queues > HYMN_VK_MAX_QUEUES) {
        return hymn_fail(&params->log, HYMN_STATUS_INVALID_ARGUMENT, "compute_queues is %u; at most %d are possible",
                         params->compute_queues, HYMN_VK_MAX_QUEUES);
    }
    return HYMN_STATUS_OK;
}

// Takes the instance over, whatever comes of it.
static enum hymn_status create(const struct hymn_context_params *params, bool inspected,
                               struct hymn_vk_instance *instance, struct hymn_vk_device **out_device) {
    *out_device = NULL;
    struct hymn_vk_device *device = hymn_alloc(1, sizeof *device);
    if (!device) {
        hymn_vk_instance_destroy(&instance);
        return hymn_fail(&params->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    device->instance = instance;
    device->owns_instance = true;
    device->log = params->log;
    device->tier = params->tier;
    device->transfer = params->transfer;
    device->queue_count = params->compute_queues ? params->compute_queues : 1;
    device->inspected = inspected;
    device->trust_variants = params->trust_variants;
    device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
    enum hymn_status status = choose(device, params->device);
    if (status == HYMN_STATUS_OK) {
        status = open_device(device);
    }
    if (status == HYMN_STATUS_OK) {
        status = create_contents(device, params->cache_dir);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_vk_device_destroy(&device);
        return status;
    }
    hymn_log_write(&device->log, HYMN_LOG_INFO, "device %u: %s, Vulkan %s, %s", device->info.index, device->info.name,
                   device->info.api_version, device->info.driver);
    *out_device = device;
    return HYMN_STATUS_OK;
}

static enum hymn_status create_alone(const struct hymn_context_params *params, bool inspected,
                                     struct hymn_vk_device **out_device) {
    static const struct hymn_context_params defaults;
    params = params ? params : &defaults;
    *out_device = NULL;
    struct hymn_vk_instance *instance = NULL;
    enum hymn_status status = check_params(params);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_instance_create(&params->log, params->validation, &instance);
    }
    return status == HYMN_STATUS_OK ? create(params, inspected, instance, out_device) : status;
}

enum hymn_status hymn_vk_device_create(const struct hymn_context_params *params, struct hymn_vk_device **out_device) {
    return create_alone(params, false, out_device);
}

enum hymn_status hymn_vk_device_create_inspected(const struct hymn_context_params *params,
                                                 struct hymn_vk_device **out_device) {
    return create_alone(params, true, out_device);
}

enum hymn_status hymn_vk_device_create_on(struct hymn_vk_instance *instance, const struct hymn_context_params *params,
                                          struct hymn_vk_device **out_device) {
    return create(params, false, instance, out_device);
}

void hymn_vk_device_destroy(struct hymn_vk_device **device) {
    if (!device || !*device) {
        return;
    }
    struct hymn_vk_device *old = *device;
    if (old->handle) {
        for (uint32_t i = 0; i < old->queue_count; i++) {
            old->table.vkQueueWaitIdle(old->queues[i]);
        }
        if (old->transfer_queue && old->transfer_queue != old->queues[0]) {
            old->table.vkQueueWaitIdle(old->transfer_queue);
        }
        hymn_vk_pipelines_destroy(old);
        hymn_vk_store_close(old);
        old->table.vkDestroyCommandPool(old->handle, old->transfer_pool, NULL);
        if (old->owns_device) {
            old->table.vkDestroyDevice(old->handle, NULL);
        }
    }
    if (old->owns_instance) {
        hymn_vk_instance_destroy(&old->instance);
    }
    hymn_free(old->cache_path);
    hymn_free(old);
    *device = NULL;
}
