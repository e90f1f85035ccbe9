// SPDX-License-Identifier: MIT
//
// A device that nobody has.
#ifndef TEST_SNAPSHOT_H
#define TEST_SNAPSHOT_H

#include "vk/plan.h"

// Vulkan 1.3, workgroups of 1024, subgroups of 32 as they are asked for, all 16-bit features, no matrices.
static inline struct hymn_vk_snapshot test_snapshot(enum hymn_device_type type) {
    return (struct hymn_vk_snapshot){
        .api_version = (1u << 22) | (3u << 12),
        .type = type,
        .max_workgroup_invocations = 1024,
        .max_workgroup_size = {1024, 1024, 64},
        .max_workgroup_count = {65535, 65535, 65535},
        .max_shared_bytes = 32768,
        .max_push_bytes = 128,
        .max_storage_buffers = 8,
        .max_storage_buffer_range = (uint64_t)1 << 27,
        .storage_buffer_alignment = 64,
        .subgroup_size = 32,
        .subgroup_min = 32,
        .subgroup_max = 32,
        .subgroup_arithmetic = true,
        .subgroup_shuffle = true,
        .storage_16bit = true,
        .float16 = true,
        .memory_model = true,
        .compute_queue = true,
    };
}

#endif
