// SPDX-License-Identifier: MIT
//
// Which of a device's extensions are enabled, as a pure function of its snapshot, so that it is tested on made-up
// devices.
#ifndef HYMN_VK_EXTENSIONS_H
#define HYMN_VK_EXTENSIONS_H

#include "vk/plan.h"

// Provisional in the registry: its own macro needs VK_ENABLE_BETA_EXTENSIONS.
#define HYMN_VK_PORTABILITY_SUBSET_EXTENSION_NAME "VK_KHR_portability_subset"

enum { HYMN_VK_MAX_EXTENSIONS = 8 };

struct hymn_vk_extensions {
    const char *names[HYMN_VK_MAX_EXTENSIONS]; // static storage
    uint32_t count;
    bool memory_budget, statistics, portability_subset, pipeline_robustness; // enabled
};

// To be called with each extension that the device has, on an initially zero *chosen: adds it where it is worth
// enabling. statistics: VK_KHR_pipeline_executable_properties is.
void hymn_vk_extensions_offer(const struct hymn_vk_snapshot *snapshot, const struct hymn_vk_plan *plan, bool statistics,
                              const char *name, struct hymn_vk_extensions *chosen);

#endif
