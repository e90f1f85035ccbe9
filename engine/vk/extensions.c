// SPDX-License-Identifier: MIT
#include "vk/extensions.h"

#include <string.h>

#include "vk/vulkan.h"

static bool has(const struct hymn_vk_extensions *chosen, const char *name) {
    for (uint32_t i = 0; i < chosen->count; i++) {
        if (strcmp(chosen->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

// A layer may list an extension that the driver lists too.
static bool enable(struct hymn_vk_extensions *chosen, const char *offered, const char *name) {
    if (strcmp(offered, name) == 0 && !has(chosen, name) && chosen->count < HYMN_VK_MAX_EXTENSIONS) {
        chosen->names[chosen->count++] = name;
        return true;
    }
    return false;
}

void hymn_vk_extensions_offer(const struct hymn_vk_snapshot *snapshot, const struct hymn_vk_plan *plan, bool statistics,
                              const char *name, struct hymn_vk_extensions *chosen) {
    // Must be enabled where it is offered. Of what it lets a device lack, compute shaders on storage buffers use
    // nothing, so none of its features is asked for.
    chosen->portability_subset |= enable(chosen, name, HYMN_VK_PORTABILITY_SUBSET_EXTENSION_NAME);
    chosen->memory_budget |= enable(chosen, name, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (plan->needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX) {
        enable(chosen, name, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    }
    if (snapshot->api_version < VK_API_VERSION_1_2 && (plan->needs_met & HYMN_NEEDS_FLOAT16)) {
        enable(chosen, name, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    }
    if (snapshot->api_version < VK_API_VERSION_1_3 && plan->subgroup_full) {
        enable(chosen, name, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    }
    if (snapshot->pipeline_robustness) {
        chosen->pipeline_robustness |= enable(chosen, name, VK_EXT_PIPELINE_ROBUSTNESS_EXTENSION_NAME);
    }
    if (statistics) {
        chosen->statistics |= enable(chosen, name, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    }
}
