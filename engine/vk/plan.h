// SPDX-License-Identifier: MIT
//
// Decisions about a device, as a pure function of a snapshot of its properties, so that they are tested on made-up
// devices. Knows no Vulkan call and no operator.
#ifndef HYMN_VK_PLAN_H
#define HYMN_VK_PLAN_H

#include <hymn/hymn.h>

#include "vk/shader.h"

// A shape of cooperative matrices: M x K times K x N.
struct hymn_vk_matrix {
    uint32_t m, n, k;
    uint32_t half_sums; // 1: M x N of sums may be f16 too
};

enum { HYMN_VK_MAX_MATRICES = 32 };

// What was queried. All sizes in bytes.
struct hymn_vk_snapshot {
    char name[256];
    uint32_t api_version; // VK_MAKE_API_VERSION
    enum hymn_device_type type;
    uint32_t max_workgroup_invocations;
    uint32_t max_workgroup_size[3];
    uint32_t max_workgroup_count[3];
    uint32_t max_shared_bytes;
    uint32_t max_push_bytes;
    uint32_t max_storage_buffers; // per stage
    uint64_t max_storage_buffer_range;
    uint64_t storage_buffer_alignment;
    uint64_t non_coherent_atom;
    uint64_t max_allocation_bytes; // of one that is one buffer: the smaller of the limits of both
    bool nvk;                      // Mesa's driver for NVIDIA's GPUs
    uint32_t subgroup_size;
    bool subgroup_arithmetic;            // in compute shaders
    bool subgroup_shuffle;               // likewise
    bool storage_16bit;                  // storageBuffer16BitAccess
    bool float16;                        // shaderFloat16
    bool memory_model;                   // vulkanMemoryModel
    uint32_t subgroup_min, subgroup_max; // sizes that a compute pipeline may ask for; both 0: it cannot ask
    uint32_t max_subgroups;              // of a workgroup whose size was asked for; 0: not told
    bool subgroup_fixed;                 // has subgroup_size always, and can ask for full subgroups
    bool portability_subset;             // VK_KHR_portability_subset: not a conformant Vulkan (MoltenVK)
    bool pipeline_robustness;            // VK_EXT_pipeline_robustness: bounds checks of shaders can be left out
    struct hymn_vk_matrix matrices[HYMN_VK_MAX_MATRICES]; // f16 x f16 + f32 -> f32, of a subgroup
    uint32_t matrix_count;
    bool compute_queue;
    uint32_t compute_queues; // of its family, HYMN_VK_MAX_QUEUES at most
    bool transfer_queue;     // a family that only copies (queues.h)
    uint32_t timestamp_bits;
    float timestamp_period;     // nanoseconds a tick
    uint64_t device_heap_bytes; // hymn_vk_memory_bytes
    bool unified_memory;        // the host sees all of the device's memory (memory_type.h)
    uint64_t visible_bytes;     // heap of the device's own that the host can write to (memory_type.h); 0: none
};

enum { HYMN_VK_MAX_SHADERS = 256 };

struct hymn_vk_plan {
    bool usable;
    char reason[256];                           // why not
    enum hymn_tier tier;                        // in use: never AUTO
    uint32_t needs_met;                         // hymn_shader_needs bits that this device satisfies and the tier allows
    uint32_t demoted[HYMN_VK_MAX_SHADERS / 32]; // bit i: hymn_shaders[i] is wrong on this device
    bool cpu;                                   // a software device: few wide threads, no use for occupancy
    bool weights_f32;      // keep weights in 32 bits even with fp16 activations (converting costs more than it saves)
    bool integrated;       // the host's memory is as fast for shaders as the device's own
    bool skip_staging;     // shaders read and write host-visible memory directly
    bool transfer_queue;   // uploads may overlap with computing, on a queue of their own (upload.h)
    uint64_t direct_bytes; // up to so many of a run's input are written across the bus by the host (upload.h); 0: none
    uint32_t max_invocations; // of one workgroup
    uint32_t max_shared_bytes;
    uint32_t max_groups_x; // min over what may be dispatched in x
    uint32_t subgroup_size;
    bool subgroup_sized;          // pipelines can ask for that size, and those that share across a subgroup do
    bool subgroup_full;           // likewise for whole subgroups
    struct hymn_vk_matrix matrix; // the shape that matrix kernels use, where needs_met has COOPERATIVE_MATRIX
    // conv2d_matrix.comp leaves no loop among those over its sums to the compiler: NVK keeps the sums in memory
    // otherwise, but NVIDIA's own driver makes faster code of a loop (measured on an H100).
    bool unrolled_ends;
    uint64_t max_binding_bytes; // a tensor beyond this cannot be bound
    uint64_t max_piece_bytes;   // of one allocation, with room for the driver's own needs; 0: not known
    uint64_t alignment;         // of bindings: at least 256
    uint32_t target_lanes;      // enough parallel invocations to fill the device: how finely scans are chunked
    bool timestamps;
    double bytes_per_second, flops_per_second; // a careful guess, for estimates of how long work takes
};

// Whether no bus lies between such a device and the host's memory.
static inline bool hymn_vk_is_integrated(enum hymn_device_type type) {
    return type == HYMN_DEVICE_TYPE_INTEGRATED_GPU || type == HYMN_DEVICE_TYPE_CPU;
}

// tier: the most to make use of. BASE decides as for the smallest device class (128 invocations, 16 KiB shared memory,
// nothing optional), on whatever device this is. AUTO on a software device does not use its matrix units, but needs_met
// still tells of them.
void hymn_vk_plan_make(const struct hymn_vk_snapshot *snapshot, enum hymn_tier tier, struct hymn_vk_plan *out_plan);
// The lower of two tiers, where AUTO is no limit.
enum hymn_tier hymn_vk_tier_limit(enum hymn_tier a, enum hymn_tier b);
// Whether programs for this plan may use a shader: the device has what it needs, the tier allows it, and it has not
// been found wrong. False for NULL.
bool hymn_vk_plan_allows(const struct hymn_vk_plan *plan, const struct hymn_shader *shader);
// Takes a shader (of hymn_shaders) out of use, or back into it.
void hymn_vk_plan_demote(struct hymn_vk_plan *plan, const struct hymn_shader *shader, bool demoted);

#endif
