// SPDX-License-Identifier: MIT
#include "vk/statistics.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "vk/pipeline.h"

static double value_of(const VkPipelineExecutableStatisticKHR *statistic) {
    switch (statistic->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
        return statistic->value.b32 ? 1.0 : 0.0;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
        return (double)statistic->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
        return (double)statistic->value.u64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR:
        return statistic->value.f64;
    default:
        return -1.0;
    }
}

static bool is_hash(const char *name) {
    return strstr(name, "hash") || strstr(name, "Hash");
}

// Counters of several executables of one pipeline add up.
static void add(struct hymn_vk_statistics *statistics, const char *name, double value) {
    for (uint32_t i = 0; i < statistics->count; i++) {
        if (strcmp(statistics->items[i].name, name) == 0) {
            statistics->items[i].value += value;
            return;
        }
    }
    if (statistics->count < HYMN_VK_MAX_STATISTICS) {
        struct hymn_vk_statistic *item = &statistics->items[statistics->count++];
        snprintf(item->name, sizeof item->name, "%.63s", name);
        item->value = value;
    }
}

static enum hymn_status read_executable(struct hymn_vk_device *device, VkPipeline pipeline, uint32_t index,
                                        struct hymn_vk_statistics *statistics) {
    VkPipelineExecutableInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline, .executableIndex = index};
    uint32_t count = 0;
    VkResult result = device->table.vkGetPipelineExecutableStatisticsKHR(device->handle, &info, &count, NULL);
    VkPipelineExecutableStatisticKHR *list = hymn_alloc(count, sizeof *list);
    if (!list) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        list[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    }
    if (result >= VK_SUCCESS) {
        result = device->table.vkGetPipelineExecutableStatisticsKHR(device->handle, &info, &count, list);
    }
    for (uint32_t i = 0; i < count && result >= VK_SUCCESS; i++) {
        if (!is_hash(list[i].name)) {
            add(statistics, list[i].name, value_of(&list[i]));
        }
    }
    hymn_free(list);
    return hymn_vk_result(device, result, "vkGetPipelineExecutableStatisticsKHR");
}

enum hymn_status hymn_vk_statistics_read(struct hymn_vk_device *device, const struct hymn_vk_step *step,
                                         struct hymn_vk_statistics *out_statistics) {
    memset(out_statistics, 0, sizeof *out_statistics);
    const struct hymn_vk_pipeline *pipeline = hymn_vk_pipeline_find(device, step);
    enum hymn_status status = HYMN_STATUS_OK;
    if (!pipeline) {
        status = hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: no pipeline was made", step->name);
    }
    VkPipelineExecutablePropertiesKHR *executables = NULL;
    uint32_t count = 0;
    if (status == HYMN_STATUS_OK && device->statistics) {
        VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline->handle};
        VkResult result = device->table.vkGetPipelineExecutablePropertiesKHR(device->handle, &info, &count, NULL);
        executables = hymn_alloc(count, sizeof *executables);
        for (uint32_t i = 0; executables && i < count; i++) {
            executables[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR;
        }
        if (executables && result >= VK_SUCCESS) {
            result = device->table.vkGetPipelineExecutablePropertiesKHR(device->handle, &info, &count, executables);
        }
        status = executables ? hymn_vk_result(device, result, "vkGetPipelineExecutablePropertiesKHR")
                             : hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        out_statistics->subgroup_size = executables[i].subgroupSize;
        status = read_executable(device, pipeline->handle, i, out_statistics);
    }
    hymn_free(executables);
    hymn_vk_statistics_translate(out_statistics);
    return status;
}

// ---- the drivers' words

// Mesa: RADV, Turnip, Honeykrisp, NVK, ANV, v3dv and panvk; AMDVLK. Each name means the same wherever it occurs.
static const char *const registers[] = {"VGPRs",          "Registers used", "GPRs",
                                        "Number of GPRs", "numUsedVgprs",   "Register Count"};
static const char *const spills[] = {"Spilled SGPRs", "Spilled VGPRs",    "STP Count",
                                     "Spills",        "Spills to memory", "Spill Count"};
static const char *const scratch[] = {"Scratch size", "Scratch", "SLM size", "Scratch Memory Size",
                                      "scratchMemUsageInBytes"};
static const char *const shared[] = {"LDS size", "Workgroup Memory Size", "ldsUsageSizeInBytes"};
static const char *const instructions[] = {"Instructions", "Instruction Count", "Instruction count"};

// Sum of the items of these names; negative: there is none.
static double sum_of(const struct hymn_vk_statistics *statistics, const char *const *names, size_t count) {
    double sum = -1.0;
    for (uint32_t i = 0; i < statistics->count; i++) {
        for (size_t name = 0; name < count; name++) {
            if (strcmp(statistics->items[i].name, names[name]) == 0) {
                sum = (sum < 0.0 ? 0.0 : sum) + statistics->items[i].value;
            }
        }
    }
    return sum;
}

#define SUM_OF(statistics, names) sum_of(statistics, names, sizeof(names) / sizeof(names)[0])

void hymn_vk_statistics_translate(struct hymn_vk_statistics *statistics) {
    statistics->registers = SUM_OF(statistics, registers);
    statistics->spills = SUM_OF(statistics, spills);
    statistics->scratch_bytes = SUM_OF(statistics, scratch);
    statistics->shared_bytes = SUM_OF(statistics, shared);
    statistics->instructions = SUM_OF(statistics, instructions);
}
