// SPDX-License-Identifier: MIT
#include "vk/plan.h"

#include <stdio.h>
#include <string.h>

#include "vk/program.h"

// The smallest device class: what every base variant keeps to.
#define BASE_INVOCATIONS 128u
#define BASE_SHARED_BYTES (16u * 1024)
#define BASE_GROUPS 65535u
#define BASE_BUFFERS 4u                          // of a shader
#define BASE_BINDING_BYTES ((uint64_t)128 << 20) // maxStorageBufferRange of the smallest legal device
// No variant asks for more than this; what a device claims beyond it is not believed.
#define MOST_INVOCATIONS 1024u
#define MOST_SHARED_BYTES (64u * 1024)
#define MOST_GROUPS 0x7FFFFFFFu
#define BINDING_ALIGNMENT 256u
#define PIECE_MARGIN (1u << 20)
#define MOST_SUBGROUP 128u
// What one run's input may take of the heap that the host sees: 4 MiB of the classic window of 256 MiB, which belongs
// to everyone who uses the device, and more than any input where all of the memory is visible.
#define DIRECT_PART 64
// VK_MAKE_API_VERSION(0, 1, 1, 0)
#define VERSION_1_1 ((1u << 22) | (1u << 12))

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static bool is_power_of_two(uint64_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

// One requirement: where it is not met and nothing else was missing before it, says so.
static bool require(struct hymn_vk_plan *plan, bool met, const char *what, uint64_t has, uint64_t needed) {
    if (!met && plan->reason[0] == '\0') {
        snprintf(plan->reason, sizeof plan->reason, "%llu %s, and %llu are needed", (unsigned long long)has, what,
                 (unsigned long long)needed);
    }
    return met;
}

static bool check_required(const struct hymn_vk_snapshot *s, struct hymn_vk_plan *plan) {
    if (s->api_version < VERSION_1_1) {
        snprintf(plan->reason, sizeof plan->reason, "version %u.%u of Vulkan, and 1.1 is needed",
                 (s->api_version >> 22) & 0x7F, (s->api_version >> 12) & 0x3FF);
        return false;
    }
    if (!s->compute_queue) {
        snprintf(plan->reason, sizeof plan->reason, "no queue family with compute");
        return false;
    }
    uint32_t invocations = min_u32(s->max_workgroup_invocations, s->max_workgroup_size[0]);
    uint32_t groups = min_u32(s->max_workgroup_count[0], min_u32(s->max_workgroup_count[1], s->max_workgroup_count[2]));
    if (s->storage_buffer_alignment > BINDING_ALIGNMENT) {
        snprintf(plan->reason, sizeof plan->reason, "storage buffers aligned to %llu bytes, and 256 is the most",
                 (unsigned long long)s->storage_buffer_alignment);
        return false;
    }
    return require(plan, invocations >= BASE_INVOCATIONS, "invocations of a workgroup", invocations,
                   BASE_INVOCATIONS) &&
           require(plan, groups >= BASE_GROUPS, "workgroups of a dispatch", groups, BASE_GROUPS) &&
           require(plan, s->max_shared_bytes >= BASE_SHARED_BYTES, "bytes of shared memory", s->max_shared_bytes,
                   BASE_SHARED_BYTES) &&
           require(plan, s->max_push_bytes >= HYMN_VK_MAX_PUSH_BYTES, "bytes of push constants", s->max_push_bytes,
                   HYMN_VK_MAX_PUSH_BYTES) &&
           require(plan, s->max_storage_buffers >= BASE_BUFFERS, "storage buffers of a shader", s->max_storage_buffers,
                   BASE_BUFFERS) &&
           require(plan, s->max_storage_buffer_range >= BASE_BINDING_BYTES, "bytes of a storage buffer",
                   s->max_storage_buffer_range, BASE_BINDING_BYTES);
}

static bool subgroup_size_plausible(const struct hymn_vk_snapshot *s) {
    return is_power_of_two(s->subgroup_size) && s->subgroup_size <= MOST_SUBGROUP;
}

// Whether a pipeline can ask for the size, without which a driver may choose another one for each shader.
static bool subgroup_size_asked(const struct hymn_vk_snapshot *s) {
    return subgroup_size_plausible(s) && s->subgroup_min > 0 && s->subgroup_min <= s->subgroup_size &&
           s->subgroup_size <= s->subgroup_max;
}

// Kernels that share across a subgroup count their subgroups and lanes: the size must be fixed, or one that can be
// asked for, and subgroups whole.
static bool subgroup_size_known(const struct hymn_vk_snapshot *s) {
    return subgroup_size_asked(s) || (subgroup_size_plausible(s) && s->subgroup_fixed);
}

// What the device has that is beyond the base class.
static uint32_t needs_met(const struct hymn_vk_snapshot *s) {
    uint32_t met = s->max_storage_buffers >= HYMN_VK_MAX_BINDINGS ? HYMN_NEEDS_BUFFERS : 0;
    if (s->storage_16bit) {
        met |= HYMN_NEEDS_STORAGE_16BIT;
    }
    if (s->float16) {
        met |= HYMN_NEEDS_FLOAT16;
    }
    if (s->subgroup_shuffle && subgroup_size_known(s)) {
        met |= HYMN_NEEDS_SUBGROUP_SHUFFLE;
    }
    if (min_u32(s->max_workgroup_invocations, s->max_workgroup_size[0]) > BASE_INVOCATIONS ||
        s->max_shared_bytes > BASE_SHARED_BYTES) {
        met |= HYMN_NEEDS_WIDE;
    }
    return met;
}

static bool matrix_side(uint32_t side) {
    return side == 8 || side == 16 || side == 32;
}

// The shape nearest to 16 x 16 x 16 among those that the kernels can be made for; zeros: none.
static struct hymn_vk_matrix choose_matrix(const struct hymn_vk_snapshot *s) {
    struct hymn_vk_matrix best = {0};
    uint32_t best_distance = UINT32_MAX;
    for (uint32_t i = 0; i < s->matrix_count; i++) {
        const struct hymn_vk_matrix *matrix = &s->matrices[i];
        uint32_t volume = matrix->m * matrix->n * matrix->k, distance = volume > 4096 ? volume - 4096 : 4096 - volume;
        if (matrix_side(matrix->m) && matrix_side(matrix->n) && matrix_side(matrix->k) && distance < best_distance) {
            best = *matrix;
            best_distance = distance;
        }
    }
    return best;
}

// ------------------------------------------------------------------------------------------------------------- tiers

#define WIDE_NEEDS (HYMN_NEEDS_WIDE | HYMN_NEEDS_SUBGROUP_SHUFFLE)
#define HALF_NEEDS (HYMN_NEEDS_STORAGE_16BIT | HYMN_NEEDS_FLOAT16)

enum hymn_tier hymn_vk_tier_limit(enum hymn_tier a, enum hymn_tier b) {
    if (a == HYMN_TIER_AUTO || b == HYMN_TIER_AUTO) {
        return a == HYMN_TIER_AUTO ? b : a;
    }
    return a < b ? a : b;
}

static uint32_t allowed_needs(enum hymn_tier tier) {
    uint32_t needs = HYMN_NEEDS_BUFFERS; // what a device lacks there is no matter of speed: the base tier has it too
    needs |= tier >= HYMN_TIER_WIDE ? WIDE_NEEDS : 0;
    needs |= tier >= HYMN_TIER_HALF ? HALF_NEEDS : 0;
    return needs | (tier >= HYMN_TIER_MATRIX ? HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_HALF_SUMS : 0);
}

// The highest tier that brings something over the one before it.
static enum hymn_tier tier_of(uint32_t needs, uint32_t max_groups_x) {
    if (needs & HYMN_NEEDS_COOPERATIVE_MATRIX) {
        return HYMN_TIER_MATRIX;
    }
    if (needs & HALF_NEEDS) {
        return HYMN_TIER_HALF;
    }
    return needs & WIDE_NEEDS || max_groups_x > BASE_GROUPS ? HYMN_TIER_WIDE : HYMN_TIER_BASE;
}

// needs_met, tier and matrix.
static void choose_tier(const struct hymn_vk_snapshot *s, enum hymn_tier asked, struct hymn_vk_plan *plan) {
    enum hymn_tier most = asked == HYMN_TIER_AUTO ? HYMN_TIER_MATRIX : asked;
    uint32_t needs = plan->usable ? needs_met(s) : 0;
    plan->matrix = choose_matrix(s);
    if (plan->usable && plan->matrix.m && needs & HYMN_NEEDS_BUFFERS && s->float16 && s->memory_model &&
        s->subgroup_size >= 4 && subgroup_size_known(s)) {
        needs |= HYMN_NEEDS_COOPERATIVE_MATRIX | (plan->matrix.half_sums ? HYMN_NEEDS_HALF_SUMS : 0);
    }
    plan->needs_met = needs & allowed_needs(most);
    uint32_t groups = most > HYMN_TIER_BASE && plan->usable ? s->max_workgroup_count[0] : BASE_GROUPS;
    bool emulated = plan->cpu && asked == HYMN_TIER_AUTO;
    plan->tier = tier_of(plan->needs_met & ~(emulated ? HYMN_NEEDS_COOPERATIVE_MATRIX : 0), groups);
}

bool hymn_vk_plan_allows(const struct hymn_vk_plan *plan, const struct hymn_shader *shader) {
    if (!shader || shader->needs & ~plan->needs_met) {
        return false;
    }
    ptrdiff_t index = shader - hymn_shaders;
    return index < 0 || index >= HYMN_VK_MAX_SHADERS || !(plan->demoted[index / 32] >> index % 32 & 1);
}

void hymn_vk_plan_demote(struct hymn_vk_plan *plan, const struct hymn_shader *shader, bool demoted) {
    ptrdiff_t index = shader - hymn_shaders;
    if (index >= 0 && index < HYMN_VK_MAX_SHADERS) {
        uint32_t bit = 1u << index % 32, *word = &plan->demoted[index / 32];
        *word = demoted ? *word | bit : *word & ~bit;
    }
}

// Invocations that keep a device of this type busy. Software devices gain nothing from more than their few threads.
static uint32_t target_lanes(enum hymn_device_type type) {
    switch (type) {
    case HYMN_DEVICE_TYPE_CPU:
        return 64;
    case HYMN_DEVICE_TYPE_DISCRETE_GPU:
        return 131072;
    case HYMN_DEVICE_TYPE_VIRTUAL_GPU:
        return 65536;
    case HYMN_DEVICE_TYPE_INTEGRATED_GPU:
    case HYMN_DEVICE_TYPE_OTHER:
        break;
    }
    return 16384;
}

// What even a slow device of its type reaches with these shaders; measured runs correct it.
static void guess_rates(enum hymn_device_type type, struct hymn_vk_plan *plan) {
    double gigabytes = type == HYMN_DEVICE_TYPE_DISCRETE_GPU ? 50.0 : type == HYMN_DEVICE_TYPE_CPU ? 2.0 : 5.0;
    double gigaflops = type == HYMN_DEVICE_TYPE_DISCRETE_GPU ? 500.0 : type == HYMN_DEVICE_TYPE_CPU ? 5.0 : 50.0;
    plan->bytes_per_second = 1e9 * gigabytes;
    plan->flops_per_second = 1e9 * gigaflops;
}

void hymn_vk_plan_make(const struct hymn_vk_snapshot *snapshot, enum hymn_tier tier, struct hymn_vk_plan *out_plan) {
    const struct hymn_vk_snapshot *s = snapshot;
    struct hymn_vk_plan *plan = out_plan;
    memset(plan, 0, sizeof *plan);
    plan->usable = check_required(s, plan);
    plan->cpu = s->type == HYMN_DEVICE_TYPE_CPU;
    plan->integrated = hymn_vk_is_integrated(s->type);
    // A discrete device whose whole memory the host can see is still behind a bus: shaders must not read across it.
    plan->skip_staging = s->unified_memory && plan->integrated;
    plan->transfer_queue = plan->usable && s->transfer_queue && !plan->skip_staging;
    plan->direct_bytes = plan->usable && !plan->skip_staging ? s->visible_bytes / DIRECT_PART : 0;
    choose_tier(s, tier, plan);
    plan->weights_f32 = plan->cpu && plan->tier < HYMN_TIER_MATRIX; // the matrix kernels read halves
    bool shares = plan->needs_met & (HYMN_NEEDS_SUBGROUP_SHUFFLE | HYMN_NEEDS_COOPERATIVE_MATRIX);
    plan->subgroup_sized = shares && subgroup_size_asked(s);
    plan->subgroup_full = plan->subgroup_sized || (shares && s->subgroup_fixed);
    plan->max_invocations = BASE_INVOCATIONS;
    plan->max_shared_bytes = BASE_SHARED_BYTES;
    plan->max_groups_x = BASE_GROUPS;
    if (plan->usable && tier != HYMN_TIER_BASE) {
        uint32_t invocations = min_u32(s->max_workgroup_invocations, s->max_workgroup_size[0]);
        plan->max_invocations = min_u32(invocations, MOST_INVOCATIONS);
        if (plan->subgroup_sized && s->max_subgroups > 0) {
            uint32_t lanes = min_u32(s->max_subgroups, MOST_INVOCATIONS) * s->subgroup_size;
            plan->max_invocations = min_u32(plan->max_invocations, lanes > BASE_INVOCATIONS ? lanes : BASE_INVOCATIONS);
        }
        plan->max_shared_bytes = min_u32(s->max_shared_bytes, MOST_SHARED_BYTES);
        plan->max_groups_x = min_u32(s->max_workgroup_count[0], MOST_GROUPS);
    }
    plan->subgroup_size = subgroup_size_plausible(s) ? s->subgroup_size : 1;
    plan->unrolled_ends = s->nvk; // https://docs.mesa3d.org/drivers/nvk.html
    // Shaders count in 32 bits.
    plan->max_binding_bytes = min_u64(max_u64(s->max_storage_buffer_range, BASE_BINDING_BYTES), UINT32_MAX);
    plan->max_piece_bytes =
        s->max_allocation_bytes > 2 * PIECE_MARGIN ? (s->max_allocation_bytes - PIECE_MARGIN) / 256 * 256 : 0;
    plan->alignment = BINDING_ALIGNMENT;
    plan->target_lanes = target_lanes(s->type);
    guess_rates(s->type, plan);
    plan->timestamps = s->timestamp_bits > 0 && s->timestamp_bits <= 64 && s->timestamp_period > 0.0f;
}
