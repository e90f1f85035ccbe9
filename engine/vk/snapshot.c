// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "vk/device.h"
#include "vk/memory_type.h"
#include "vk/extensions.h"

#define DRIVER_ID_NVK 24u // VK_DRIVER_ID_MESA_NVK, which older headers lack

static enum hymn_device_type type_of(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return HYMN_DEVICE_TYPE_INTEGRATED_GPU;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return HYMN_DEVICE_TYPE_DISCRETE_GPU;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return HYMN_DEVICE_TYPE_VIRTUAL_GPU;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return HYMN_DEVICE_TYPE_CPU;
    default:
        return HYMN_DEVICE_TYPE_OTHER;
    }
}

static void find_queues(const struct hymn_vk_instance *instance, VkPhysicalDevice physical, struct hymn_vk_snapshot *s,
                        struct hymn_vk_queues *out_queues) {
    VkQueueFamilyProperties families[16];
    uint32_t count = 0;
    instance->table.vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, NULL);
    count = count < 16 ? count : 16;
    instance->table.vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    *out_queues = hymn_vk_queues_choose(families, count);
    s->compute_queue = out_queues->compute != HYMN_VK_NO_FAMILY;
    s->compute_queues = out_queues->compute_count;
    s->transfer_queue = out_queues->transfer != HYMN_VK_NO_FAMILY;
    s->timestamp_bits = s->compute_queue ? families[out_queues->compute].timestampValidBits : 0;
}

static void read_memory(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                        struct hymn_vk_snapshot *s) {
    VkPhysicalDeviceMemoryProperties memory;
    instance->table.vkGetPhysicalDeviceMemoryProperties(physical, &memory);
    s->unified_memory = hymn_vk_memory_is_unified(&memory);
    s->device_heap_bytes = hymn_vk_memory_bytes(&memory, hymn_vk_is_integrated(s->type));
    s->visible_bytes = hymn_vk_memory_visible_bytes(&memory);
}

static void read_limits(const VkPhysicalDeviceProperties *properties, struct hymn_vk_snapshot *s) {
    const VkPhysicalDeviceLimits *limits = &properties->limits;
    snprintf(s->name, sizeof s->name, "%s", properties->deviceName);
    s->api_version = properties->apiVersion;
    s->type = type_of(properties->deviceType);
    s->max_workgroup_invocations = limits->maxComputeWorkGroupInvocations;
    memcpy(s->max_workgroup_size, limits->maxComputeWorkGroupSize, sizeof s->max_workgroup_size);
    memcpy(s->max_workgroup_count, limits->maxComputeWorkGroupCount, sizeof s->max_workgroup_count);
    s->max_shared_bytes = limits->maxComputeSharedMemorySize;
    s->max_push_bytes = limits->maxPushConstantsSize;
    s->max_storage_buffers = limits->maxPerStageDescriptorStorageBuffers;
    s->max_storage_buffer_range = limits->maxStorageBufferRange;
    s->storage_buffer_alignment = limits->minStorageBufferOffsetAlignment;
    s->non_coherent_atom = limits->nonCoherentAtomSize;
    s->timestamp_period = limits->timestampPeriod;
}

// The extensions that tell more about a device of Vulkan 1.1.
struct extensions {
    bool driver_properties, float16, subgroup_size_control, cooperative_matrix, portability_subset, pipeline_robustness;
    bool maintenance4;
};

static enum hymn_status read_extensions(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                        uint32_t api_version, struct extensions *out_found) {
    bool newer = api_version >= VK_API_VERSION_1_2, newest = api_version >= VK_API_VERSION_1_3;
    *out_found = (struct extensions){
        .driver_properties = newer, .float16 = newer, .subgroup_size_control = newest, .maintenance4 = newest};
    uint32_t count = 0;
    VkResult result = instance->table.vkEnumerateDeviceExtensionProperties(physical, NULL, &count, NULL);
    VkExtensionProperties *list = hymn_alloc(count, sizeof *list);
    if (!list) {
        return hymn_fail(&instance->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    result = result >= VK_SUCCESS ? instance->table.vkEnumerateDeviceExtensionProperties(physical, NULL, &count, list)
                                  : result;
    if (result < VK_SUCCESS) {
        hymn_log_write(&instance->log, HYMN_LOG_WARNING,
                       "vkEnumerateDeviceExtensionProperties: %s; the device counts as one without extensions",
                       hymn_vk_result_string(result));
    } else {
        for (uint32_t i = 0; i < count; i++) {
            out_found->driver_properties |= strcmp(list[i].extensionName, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME) == 0;
            out_found->float16 |= strcmp(list[i].extensionName, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME) == 0;
            out_found->subgroup_size_control |=
                strcmp(list[i].extensionName, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME) == 0;
            out_found->cooperative_matrix |=
                strcmp(list[i].extensionName, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) == 0;
            out_found->portability_subset |=
                strcmp(list[i].extensionName, HYMN_VK_PORTABILITY_SUBSET_EXTENSION_NAME) == 0;
            out_found->maintenance4 |= strcmp(list[i].extensionName, VK_KHR_MAINTENANCE_4_EXTENSION_NAME) == 0;
            out_found->pipeline_robustness |=
                strcmp(list[i].extensionName, VK_EXT_PIPELINE_ROBUSTNESS_EXTENSION_NAME) == 0;
        }
    }
    hymn_free(list);
    return HYMN_STATUS_OK;
}

static bool of_subgroup(const VkCooperativeMatrixPropertiesKHR *p) {
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->scope == VK_SCOPE_SUBGROUP_KHR && !p->saturatingAccumulation;
}

// Whether sums of the same shape may be f16, which is a property of its own.
static bool has_half_sums(const VkCooperativeMatrixPropertiesKHR *list, uint32_t count,
                          const VkCooperativeMatrixPropertiesKHR *like) {
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        found = found || (of_subgroup(&list[i]) && list[i].MSize == like->MSize && list[i].NSize == like->NSize &&
                          list[i].ResultType == VK_COMPONENT_TYPE_FLOAT16_KHR);
    }
    return found;
}

// The shapes of f16 x f16 + f32 -> f32 that a subgroup multiplies.
static enum hymn_status read_matrices(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                      struct hymn_vk_snapshot *s) {
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        instance->table.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR;
    uint32_t count = 0;
    if (!get || get(physical, &count, NULL) < VK_SUCCESS || count == 0) {
        return HYMN_STATUS_OK;
    }
    VkCooperativeMatrixPropertiesKHR *list = hymn_alloc(count, sizeof *list);
    if (!list) {
        return hymn_fail(&instance->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    }
    if (get(physical, &count, list) < VK_SUCCESS) {
        count = 0;
    }
    for (uint32_t i = 0; i < count && s->matrix_count < HYMN_VK_MAX_MATRICES; i++) {
        if (of_subgroup(&list[i]) && list[i].CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            list[i].ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR) {
            s->matrices[s->matrix_count++] = (struct hymn_vk_matrix){list[i].MSize, list[i].NSize, list[i].KSize,
                                                                     has_half_sums(list, count, &list[i])};
        }
    }
    hymn_free(list);
    return HYMN_STATUS_OK;
}

static void read_features(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                          struct extensions extensions, struct hymn_vk_snapshot *s) {
    VkPhysicalDeviceShaderFloat16Int8Features float16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES};
    VkPhysicalDevice16BitStorageFeatures storage = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
                                                    .pNext = extensions.float16 ? &float16 : NULL};
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES, .pNext = &storage};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = s->api_version >= VK_API_VERSION_1_2 ? (void *)&memory_model
                                                                                        : (void *)&storage};
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES, .pNext = features.pNext};
    if (extensions.subgroup_size_control) {
        features.pNext = &subgroup_size;
    }
    VkPhysicalDevicePipelineRobustnessFeaturesEXT robustness = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_ROBUSTNESS_FEATURES_EXT, .pNext = features.pNext};
    if (extensions.pipeline_robustness) {
        features.pNext = &robustness;
    }
    instance->table.vkGetPhysicalDeviceFeatures2(physical, &features);
    s->storage_16bit = storage.storageBuffer16BitAccess;
    s->float16 = float16.shaderFloat16;
    s->memory_model = memory_model.vulkanMemoryModel;
    s->pipeline_robustness = robustness.pipelineRobustness;
    if (!subgroup_size.subgroupSizeControl || !subgroup_size.computeFullSubgroups) {
        s->subgroup_min = s->subgroup_max = 0;
        s->subgroup_fixed = false;
    }
}

static void format_driver(const VkPhysicalDeviceProperties *properties, const VkPhysicalDeviceDriverProperties *driver,
                          struct hymn_device_info *info) {
    if (driver && driver->driverName[0]) {
        int length = snprintf(info->driver, sizeof info->driver, "%s", driver->driverName);
        if (driver->driverInfo[0] && length > 0 && (size_t)length < VK_MAX_DRIVER_NAME_SIZE) {
            snprintf(info->driver + length, sizeof info->driver - (size_t)length, ", %.250s", driver->driverInfo);
        }
        return;
    }
    uint32_t version = properties->driverVersion;
    snprintf(info->driver, sizeof info->driver, "version %u.%u.%u", version >> 22, (version >> 12) & 0x3FF,
             version & 0xFFF);
}

// Needs a device of Vulkan 1.1.
static void read_properties(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                            struct extensions extensions, struct hymn_vk_snapshot *s, struct hymn_device_info *info) {
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceMaintenance3Properties maintenance = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
        .pNext = extensions.driver_properties ? &driver : NULL};
    VkPhysicalDeviceMaintenance4Properties buffers = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES, .pNext = maintenance.pNext};
    if (extensions.maintenance4) {
        maintenance.pNext = &buffers;
    }
    VkPhysicalDeviceSubgroupSizeControlProperties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES, .pNext = &maintenance};
    VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
                                                   .pNext = &maintenance};
    if (extensions.subgroup_size_control) {
        subgroup.pNext = &sizes;
    }
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES, .pNext = &subgroup};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
    instance->table.vkGetPhysicalDeviceProperties2(physical, &properties);
    s->nvk = extensions.driver_properties && (uint32_t)driver.driverID == DRIVER_ID_NVK;
    s->max_allocation_bytes = maintenance.maxMemoryAllocationSize;
    if (buffers.maxBufferSize > 0 && buffers.maxBufferSize < s->max_allocation_bytes) {
        s->max_allocation_bytes = buffers.maxBufferSize;
    }
    s->subgroup_size = subgroup.subgroupSize;
    if (sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) {
        s->subgroup_min = sizes.minSubgroupSize;
        s->subgroup_max = sizes.maxSubgroupSize;
        s->max_subgroups = sizes.maxComputeWorkgroupSubgroups;
    }
    s->subgroup_fixed = sizes.minSubgroupSize == s->subgroup_size && sizes.maxSubgroupSize == s->subgroup_size;
    VkSubgroupFeatureFlags operations =
        subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT ? subgroup.supportedOperations : 0;
    s->subgroup_arithmetic = operations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
    s->subgroup_shuffle = operations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    memcpy(info->uuid, id.deviceUUID, sizeof info->uuid);
    format_driver(&properties.properties, extensions.driver_properties ? &driver : NULL, info);
}

enum hymn_status hymn_vk_snapshot_take(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                       uint32_t index, struct hymn_vk_snapshot *out_snapshot,
                                       struct hymn_device_info *out_info, struct hymn_vk_queues *out_queues) {
    struct hymn_vk_snapshot *s = out_snapshot;
    struct hymn_device_info *info = out_info;
    memset(s, 0, sizeof *s);
    memset(info, 0, sizeof *info);
    VkPhysicalDeviceProperties properties;
    instance->table.vkGetPhysicalDeviceProperties(physical, &properties);
    read_limits(&properties, s);
    read_memory(instance, physical, s);
    find_queues(instance, physical, s, out_queues);
    format_driver(&properties, NULL, info);
    if (properties.apiVersion >= VK_API_VERSION_1_1) {
        struct extensions extensions;
        enum hymn_status status = read_extensions(instance, physical, properties.apiVersion, &extensions);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
        s->portability_subset = extensions.portability_subset;
        read_properties(instance, physical, extensions, s, info);
        read_features(instance, physical, extensions, s);
        status = extensions.cooperative_matrix ? read_matrices(instance, physical, s) : HYMN_STATUS_OK;
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    info->index = index;
    memcpy(info->name, s->name, sizeof info->name);
    snprintf(info->api_version, sizeof info->api_version, "%u.%u.%u", VK_API_VERSION_MAJOR(properties.apiVersion),
             VK_API_VERSION_MINOR(properties.apiVersion), VK_API_VERSION_PATCH(properties.apiVersion));
    info->vendor_id = properties.vendorID;
    info->device_id = properties.deviceID;
    info->type = s->type;
    info->memory_bytes = s->device_heap_bytes;
    info->subgroup_size = s->subgroup_size;
    info->storage_16bit = s->storage_16bit;
    info->arithmetic_16bit = s->float16;
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(s, HYMN_TIER_AUTO, &plan);
    info->tier = plan.tier;
    info->transfer_queue = plan.transfer_queue;
    info->compute_queues = s->compute_queues;
    info->usable = plan.usable;
    memcpy(info->reason, plan.reason, sizeof info->reason);
    return HYMN_STATUS_OK;
}
