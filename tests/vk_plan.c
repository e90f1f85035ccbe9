// SPDX-License-Identifier: MIT
//
// What is decided about a device, on made-up devices; the choice among several; and the tracking of hazards. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test_log.h"
#include "support/test_random.h"
#include "vk/device.h"
#include "vk/hazard.h"
#include "vk/plan.h"
#include "vk/program.h"

#define GIB ((uint64_t)1 << 30)

// Exactly the limits that Vulkan 1.1 requires.
static struct hymn_vk_snapshot smallest(void) {
    return (struct hymn_vk_snapshot){
        .name = "smallest",
        .api_version = VK_API_VERSION_1_1,
        .max_workgroup_invocations = 128,
        .max_workgroup_size = {128, 128, 64},
        .max_workgroup_count = {65535, 65535, 65535},
        .max_shared_bytes = 16384,
        .max_push_bytes = 128,
        .max_storage_buffers = 4,
        .max_storage_buffer_range = (uint64_t)1 << 27,
        .storage_buffer_alignment = 256,
        .non_coherent_atom = 256,
        .max_allocation_bytes = GIB,
        .subgroup_size = 1,
        .compute_queue = true,
        .device_heap_bytes = GIB,
    };
}

static struct hymn_vk_snapshot phone(void) {
    struct hymn_vk_snapshot s = smallest();
    s.type = HYMN_DEVICE_TYPE_INTEGRATED_GPU;
    s.max_workgroup_invocations = s.max_workgroup_size[0] = 512;
    s.max_shared_bytes = 32768;
    s.max_storage_buffers = 16;
    s.storage_buffer_alignment = 64;
    s.subgroup_size = 16;
    s.subgroup_fixed = s.subgroup_arithmetic = s.subgroup_shuffle = true;
    s.storage_16bit = s.float16 = s.unified_memory = true;
    s.timestamp_bits = 48;
    s.timestamp_period = 52.08f;
    return s;
}

static struct hymn_vk_snapshot desktop(void) {
    struct hymn_vk_snapshot s = phone();
    s.type = HYMN_DEVICE_TYPE_DISCRETE_GPU;
    s.api_version = VK_API_VERSION_1_3;
    s.max_workgroup_invocations = s.max_workgroup_size[0] = 1536;
    s.max_workgroup_count[0] = UINT32_MAX;
    s.max_shared_bytes = 101376;
    s.max_push_bytes = 256;
    s.max_storage_buffers = 1048576;
    s.max_storage_buffer_range = UINT32_MAX;
    s.storage_buffer_alignment = 16;
    s.subgroup_size = 32;
    s.unified_memory = false;
    s.timestamp_bits = 64;
    s.timestamp_period = 1.0f;
    s.device_heap_bytes = 16 * GIB;
    return s;
}

static struct hymn_vk_snapshot software(void) {
    struct hymn_vk_snapshot s = smallest();
    s.type = HYMN_DEVICE_TYPE_CPU;
    s.max_workgroup_invocations = s.max_workgroup_size[0] = 1024;
    s.max_shared_bytes = 32768;
    s.max_storage_buffers = 8;
    s.subgroup_size = 8;
    s.subgroup_fixed = s.subgroup_arithmetic = s.subgroup_shuffle = true;
    s.storage_16bit = s.float16 = s.unified_memory = true;
    return s;
}

static struct hymn_vk_plan plan_of(const struct hymn_vk_snapshot *snapshot, enum hymn_tier tier) {
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(snapshot, tier, &plan);
    return plan;
}

static void smallest_device_is_usable(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = smallest();
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.usable);
    assert_string_equal(plan.reason, "");
    assert_int_equal(plan.needs_met, 0);
    assert_int_equal(plan.tier, HYMN_TIER_BASE);
    assert_int_equal(plan_of(&s, HYMN_TIER_MATRIX).tier, HYMN_TIER_BASE);
    assert_int_equal(plan.max_invocations, 128);
    assert_int_equal(plan.max_shared_bytes, 16384);
    assert_int_equal(plan.max_groups_x, 65535);
    assert_int_equal(plan.subgroup_size, 1);
    assert_int_equal(plan.max_binding_bytes, 1u << 27);
    assert_int_equal(plan.alignment, 256);
    assert_false(plan.cpu || plan.weights_f32 || plan.skip_staging || plan.timestamps);
    assert_true(plan.target_lanes >= 1024);
}

static void phone_reads_host_memory_directly(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = phone();
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.usable && plan.skip_staging && plan.timestamps);
    assert_false(plan.cpu || plan.weights_f32);
    assert_int_equal(plan.needs_met, HYMN_NEEDS_BUFFERS | HYMN_NEEDS_WIDE | HYMN_NEEDS_STORAGE_16BIT |
                                         HYMN_NEEDS_FLOAT16 | HYMN_NEEDS_SUBGROUP_SHUFFLE);
    assert_int_equal(plan.tier, HYMN_TIER_HALF);
    assert_int_equal(plan.max_invocations, 512);
    assert_int_equal(plan.subgroup_size, 16);
    assert_int_equal(plan.alignment, 256);
    s.unified_memory = false; // of memory that is set aside for it the host may not see all
    plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.integrated && !plan.skip_staging);
}

static void desktop_keeps_its_limits_and_stages(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = desktop();
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO), small;
    assert_true(plan.usable && plan.timestamps);
    assert_false(plan.skip_staging || plan.integrated || plan.cpu);
    assert_int_equal(plan.max_invocations, 1024); // no variant asks for more
    assert_int_equal(plan.max_groups_x, INT32_MAX);
    assert_int_equal(plan.max_binding_bytes, UINT32_MAX);
    s.unified_memory = true; // resizable BAR: visible, but across the bus
    assert_false(plan_of(&s, HYMN_TIER_AUTO).skip_staging);
    s = phone();
    small = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.target_lanes > small.target_lanes);
}

static void software_device_wants_few_lanes_and_wide_weights(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = software();
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.usable && plan.cpu && plan.weights_f32 && plan.integrated && plan.skip_staging);
    assert_true(plan.target_lanes <= 256);
}

// Only where there is a bus to be crossed, whatever the tier.
static void transfer_queues_are_for_devices_behind_a_bus(void **state) {
    (void)state;
    struct hymn_vk_snapshot snapshots[] = {smallest(), phone(), desktop(), software()};
    for (size_t i = 0; i < sizeof snapshots / sizeof *snapshots; i++) {
        for (int tier = HYMN_TIER_AUTO; tier <= HYMN_TIER_MATRIX; tier++) {
            struct hymn_vk_snapshot s = snapshots[i];
            assert_false(plan_of(&s, (enum hymn_tier)tier).transfer_queue);
            s.transfer_queue = true;
            struct hymn_vk_plan plan = plan_of(&s, (enum hymn_tier)tier);
            assert_int_equal(plan.transfer_queue, !plan.skip_staging);
            s.compute_queue = false;
            assert_false(plan_of(&s, (enum hymn_tier)tier).transfer_queue);
        }
    }
    struct hymn_vk_snapshot s = desktop();
    s.transfer_queue = s.unified_memory = true; // resizable BAR
    assert_true(plan_of(&s, HYMN_TIER_AUTO).transfer_queue);
}

// Across a bus, of memory that the host sees all of or through a window; never where it is the host's memory anyway.
static void inputs_are_written_directly_where_they_can_be(void **state) {
    (void)state;
    struct hymn_vk_snapshot snapshots[] = {smallest(), phone(), desktop(), software()};
    for (size_t i = 0; i < sizeof snapshots / sizeof *snapshots; i++) {
        for (int tier = HYMN_TIER_AUTO; tier <= HYMN_TIER_MATRIX; tier++) {
            struct hymn_vk_snapshot s = snapshots[i];
            assert_int_equal(plan_of(&s, (enum hymn_tier)tier).direct_bytes, 0);
            s.visible_bytes = GIB / 4;
            struct hymn_vk_plan plan = plan_of(&s, (enum hymn_tier)tier);
            assert_int_equal(plan.direct_bytes, plan.skip_staging ? 0 : GIB / 256); // 4 MiB of the classic window
            s.compute_queue = false;
            assert_int_equal(plan_of(&s, (enum hymn_tier)tier).direct_bytes, 0);
        }
    }
    struct hymn_vk_snapshot s = desktop();
    s.visible_bytes = s.device_heap_bytes;
    s.unified_memory = true;
    assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).direct_bytes, GIB / 4);
    assert_false(plan_of(&s, HYMN_TIER_AUTO).skip_staging);
}

static void base_tier_is_that_of_the_smallest_device(void **state) {
    (void)state;
    struct hymn_vk_snapshot snapshots[] = {smallest(), phone(), desktop(), software(), {.name = "unknown"}};
    for (size_t i = 0; i < sizeof snapshots / sizeof *snapshots; i++) {
        struct hymn_vk_plan plan = plan_of(&snapshots[i], HYMN_TIER_BASE);
        assert_int_equal(plan.needs_met, i == 0 || i == 4 ? 0 : HYMN_NEEDS_BUFFERS);
        assert_int_equal(plan.tier, HYMN_TIER_BASE);
        assert_int_equal(plan.max_invocations, 128);
        assert_int_equal(plan.max_shared_bytes, 16384);
        assert_int_equal(plan.max_groups_x, 65535);
        assert_true(plan.max_binding_bytes >= (uint64_t)1 << 27);
        assert_int_equal(plan.usable, i < 4);
    }
}

static void expect_reason(const struct hymn_vk_snapshot *s, const char *reason) {
    struct hymn_vk_plan plan = plan_of(s, HYMN_TIER_AUTO);
    assert_false(plan.usable);
    assert_string_equal(plan.reason, reason);
    assert_int_equal(plan.needs_met, 0);
    // Decisions stay within what operators can work with.
    assert_true(plan.max_invocations >= 128 && plan.max_groups_x > 0 && plan.alignment == 256);
}

static void lacking_devices_say_what_they_lack(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = smallest();
    s.api_version = VK_API_VERSION_1_0;
    expect_reason(&s, "version 1.0 of Vulkan, and 1.1 is needed");
    s = smallest();
    s.compute_queue = false;
    expect_reason(&s, "no queue family with compute");
    s = desktop();
    s.max_workgroup_invocations = 64;
    expect_reason(&s, "64 invocations of a workgroup, and 128 are needed");
    s = desktop();
    s.max_workgroup_size[0] = 32;
    expect_reason(&s, "32 invocations of a workgroup, and 128 are needed");
    s = desktop();
    s.max_workgroup_count[2] = 1024;
    expect_reason(&s, "1024 workgroups of a dispatch, and 65535 are needed");
    s = phone();
    s.max_shared_bytes = 8192;
    expect_reason(&s, "8192 bytes of shared memory, and 16384 are needed");
    s = phone();
    s.max_push_bytes = 64;
    expect_reason(&s, "64 bytes of push constants, and 128 are needed");
    s = phone();
    s.max_storage_buffers = 3;
    expect_reason(&s, "3 storage buffers of a shader, and 4 are needed");
    s = phone();
    s.max_storage_buffer_range = 65536;
    expect_reason(&s, "65536 bytes of a storage buffer, and 134217728 are needed");
    s = phone();
    s.storage_buffer_alignment = 4096;
    expect_reason(&s, "storage buffers aligned to 4096 bytes, and 256 is the most");
}

static void implausible_claims_are_not_believed(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = desktop();
    s.max_workgroup_invocations = s.max_workgroup_size[0] = UINT32_MAX;
    s.max_shared_bytes = UINT32_MAX;
    s.subgroup_size = 0;
    s.timestamp_bits = 36;
    s.timestamp_period = 0.0f;
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_true(plan.usable);
    assert_int_equal(plan.max_invocations, 1024);
    assert_int_equal(plan.max_shared_bytes, 65536);
    assert_int_equal(plan.subgroup_size, 1);
    assert_int_equal(plan.needs_met & HYMN_NEEDS_SUBGROUP_SHUFFLE, 0);
    assert_false(plan.timestamps);
    s.subgroup_size = 48;
    assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).subgroup_size, 1);
    s.subgroup_size = 128;
    assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).subgroup_size, 128);
    s.timestamp_period = 1.0f;
    s.timestamp_bits = 0;
    assert_false(plan_of(&s, HYMN_TIER_AUTO).timestamps);
}

// ----------------------------------------------------------------------------------------------------------- tiers

static struct hymn_vk_snapshot with_matrices(const struct hymn_vk_matrix *matrices, uint32_t count) {
    struct hymn_vk_snapshot s = desktop();
    s.memory_model = true;
    s.subgroup_min = s.subgroup_max = s.subgroup_size;
    s.subgroup_fixed = false; // it can be asked for all the same
    memcpy(s.matrices, matrices, count * sizeof *matrices);
    s.matrix_count = count;
    return s;
}

static void integrated_gpu_without_halves_is_wide(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = phone();
    s.storage_16bit = s.float16 = false;
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_int_equal(plan.tier, HYMN_TIER_WIDE);
    assert_int_equal(plan.needs_met, HYMN_NEEDS_BUFFERS | HYMN_NEEDS_WIDE | HYMN_NEEDS_SUBGROUP_SHUFFLE);
    // Only one of the two kinds of halves is enough.
    s.float16 = true;
    assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).tier, HYMN_TIER_HALF);
    // More workgroups than the smallest device are something too.
    s = smallest();
    s.max_workgroup_count[0] = 1u << 20;
    plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_int_equal(plan.tier, HYMN_TIER_WIDE);
    assert_int_equal(plan.max_groups_x, 1u << 20);
}

static void a_lower_tier_hides_what_is_above_it(void **state) {
    (void)state;
    const uint32_t wide = HYMN_NEEDS_BUFFERS | HYMN_NEEDS_WIDE | HYMN_NEEDS_SUBGROUP_SHUFFLE;
    const uint32_t half = wide | HYMN_NEEDS_STORAGE_16BIT | HYMN_NEEDS_FLOAT16;
    const uint32_t needs[] = {half | HYMN_NEEDS_COOPERATIVE_MATRIX, HYMN_NEEDS_BUFFERS, wide, half,
                              half | HYMN_NEEDS_COOPERATIVE_MATRIX};
    struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
    for (int tier = HYMN_TIER_AUTO; tier <= HYMN_TIER_MATRIX; tier++) {
        struct hymn_vk_plan plan = plan_of(&s, tier);
        assert_int_equal(plan.tier, tier ? tier : HYMN_TIER_MATRIX);
        assert_int_equal(plan.needs_met, needs[tier]);
        assert_int_equal(plan.max_invocations, tier == HYMN_TIER_BASE ? 128 : 1024);
        assert_int_equal(plan.max_groups_x, tier == HYMN_TIER_BASE ? 65535 : INT32_MAX);
        assert_false(plan.weights_f32);
        // What is asked for and not there becomes the best that is.
        struct hymn_vk_snapshot p = phone();
        assert_int_equal(plan_of(&p, tier).tier, tier && tier < HYMN_TIER_HALF ? tier : HYMN_TIER_HALF);
    }
    // That sums may be f16 comes with the matrices.
    s.matrices[0].half_sums = 1;
    for (int tier = HYMN_TIER_AUTO; tier <= HYMN_TIER_MATRIX; tier++) {
        bool matrices = needs[tier] & HYMN_NEEDS_COOPERATIVE_MATRIX;
        assert_int_equal(plan_of(&s, tier).needs_met, needs[tier] | (matrices ? HYMN_NEEDS_HALF_SUMS : 0));
    }
    assert_int_equal(hymn_vk_tier_limit(HYMN_TIER_AUTO, HYMN_TIER_WIDE), HYMN_TIER_WIDE);
    assert_int_equal(hymn_vk_tier_limit(HYMN_TIER_HALF, HYMN_TIER_AUTO), HYMN_TIER_HALF);
    assert_int_equal(hymn_vk_tier_limit(HYMN_TIER_HALF, HYMN_TIER_BASE), HYMN_TIER_BASE);
    assert_int_equal(hymn_vk_tier_limit(HYMN_TIER_AUTO, HYMN_TIER_AUTO), HYMN_TIER_AUTO);
}

static void matrix_shapes_are_chosen_or_refused(void **state) {
    (void)state;
    static const struct {
        struct hymn_vk_matrix matrices[3];
        uint32_t count, m, n, k; // m 0: none
    } cases[] = {
        {{{16, 16, 16, 0}}, 1, 16, 16, 16},
        {{{8, 8, 16, 0}}, 1, 8, 8, 16},
        {{{8, 8, 8, 0}, {16, 16, 16, 0}, {32, 32, 32, 0}}, 3, 16, 16, 16},
        {{{16, 8, 8, 0}, {16, 8, 16, 0}}, 2, 16, 8, 16},
        {{{4, 4, 4, 0}, {16, 16, 12, 0}, {64, 64, 64, 0}}, 3, 0, 0, 0}, // of no useful size
        {{{0}}, 1, 0, 0, 0},
        {{{0}}, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hymn_vk_snapshot s = with_matrices(cases[i].matrices, cases[i].count);
        struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
        assert_int_equal(plan.tier, cases[i].m ? HYMN_TIER_MATRIX : HYMN_TIER_HALF);
        assert_int_equal(!!(plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX), cases[i].m > 0);
        assert_int_equal(plan.matrix.m, cases[i].m);
        assert_int_equal(plan.matrix.n, cases[i].n);
        assert_int_equal(plan.matrix.k, cases[i].k);
    }
}

// What matrices need beside themselves: each left out once. Also subgroups that no device can have. Without a size that
// is known nothing is shared across a subgroup.
static void lies_about_one_feature_cost_only_what_needs_it(void **state) {
    (void)state;
    const struct hymn_vk_snapshot good = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
    struct hymn_vk_snapshot lies[] = {good, good, good, good, good, good};
    lies[0].float16 = false;
    lies[1].memory_model = false;
    lies[2].subgroup_min = lies[2].subgroup_max = 0;
    lies[3].subgroup_min = lies[3].subgroup_max = 64; // not the size that it says it has
    lies[4].subgroup_size = lies[4].subgroup_min = lies[4].subgroup_max = 0;
    lies[5].subgroup_size = lies[5].subgroup_min = lies[5].subgroup_max = 4096;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct hymn_vk_plan plan = plan_of(&lies[i], HYMN_TIER_AUTO);
        assert_true(plan.usable);
        assert_int_equal(plan.tier, HYMN_TIER_HALF);
        assert_int_equal(plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX, 0);
        assert_true(plan.needs_met & HYMN_NEEDS_WIDE);
        assert_int_equal(plan.needs_met & HYMN_NEEDS_SUBGROUP_SHUFFLE, i < 2 ? HYMN_NEEDS_SUBGROUP_SHUFFLE : 0);
    }
}

// Sizes from 1 to 128, that can be asked for, or are fixed, or may vary from shader to shader (as where neither
// Vulkan 1.3 nor VK_EXT_subgroup_size_control tells of them), which nothing that is shared across a subgroup can bear.
static void subgroups_of_any_size(void **state) {
    (void)state;
    for (uint32_t size = 1; size <= 128; size *= 2) {
        for (int kind = 0; kind < 3; kind++) {
            bool sized = kind == 1, fixed = kind == 2, known = sized || fixed;
            struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
            s.subgroup_size = size;
            s.subgroup_min = sized ? size / 2 + (size == 1) : 0;
            s.subgroup_max = sized ? 128 : 0;
            s.subgroup_fixed = fixed;
            struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO), base = plan_of(&s, HYMN_TIER_BASE);
            assert_true(plan.usable && base.usable);
            assert_int_equal(plan.subgroup_size, size);
            assert_int_equal(plan.subgroup_sized, sized);
            assert_int_equal(plan.subgroup_full, known);
            assert_false(base.subgroup_sized || base.subgroup_full);
            assert_int_equal(!!(plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX), known && size >= 4);
            assert_int_equal(!!(plan.needs_met & HYMN_NEEDS_SUBGROUP_SHUFFLE), known);
            assert_int_equal(plan.tier, known && size >= 4 ? HYMN_TIER_MATRIX : HYMN_TIER_HALF);
        }
    }
}

// A workgroup whose subgroups' size is asked for has so many of them at most.
static void subgroups_limit_workgroups(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
    static const uint32_t subgroups[] = {0, 1, 8, 16, 64, UINT32_MAX}, lanes[] = {1024, 128, 256, 512, 1024, 1024};
    for (int i = 0; i < 6; i++) {
        s.max_subgroups = subgroups[i];
        assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).max_invocations, lanes[i]);
        assert_int_equal(plan_of(&s, HYMN_TIER_BASE).max_invocations, 128);
    }
    s.subgroup_min = s.subgroup_max = 0;
    s.max_subgroups = 1;
    assert_int_equal(plan_of(&s, HYMN_TIER_AUTO).max_invocations, 1024); // nothing asks
}

// The loop that NVIDIA's driver is faster with makes Mesa's keep the sums of matrices in memory.
static void sums_stay_in_registers_on_nvk(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
    assert_false(plan_of(&s, HYMN_TIER_AUTO).unrolled_ends);
    s.nvk = true;
    assert_true(plan_of(&s, HYMN_TIER_AUTO).unrolled_ends);
}

static void software_device_uses_matrices_only_when_told(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){8, 8, 8, 0}, 1);
    s.type = HYMN_DEVICE_TYPE_CPU;
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO);
    assert_int_equal(plan.tier, HYMN_TIER_HALF);
    assert_true(plan.weights_f32);                               // so no kernel takes them,
    assert_true(plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX); // but the device is opened with them
    plan = plan_of(&s, HYMN_TIER_MATRIX);
    assert_int_equal(plan.tier, HYMN_TIER_MATRIX);
    assert_false(plan.weights_f32);
    plan = plan_of(&s, HYMN_TIER_HALF);
    assert_true(plan.weights_f32);
    assert_int_equal(plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX, 0);
}

static void plans_allow_what_they_have_and_is_not_demoted(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = with_matrices(&(struct hymn_vk_matrix){16, 16, 16, 0}, 1);
    struct hymn_vk_plan plan = plan_of(&s, HYMN_TIER_AUTO), base = plan_of(&s, HYMN_TIER_BASE);
    assert_true(hymn_shader_count <= HYMN_VK_MAX_SHADERS);
    assert_false(hymn_vk_plan_allows(&plan, NULL));
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        const struct hymn_shader *shader = &hymn_shaders[i], *other = &hymn_shaders[(i + 1) % hymn_shader_count];
        bool met = !(shader->needs & ~plan.needs_met), other_met = !(other->needs & ~plan.needs_met);
        assert_int_equal(hymn_vk_plan_allows(&plan, shader), met);
        assert_int_equal(hymn_vk_plan_allows(&base, shader), hymn_shader_is_base(shader));
        hymn_vk_plan_demote(&plan, shader, true);
        assert_false(hymn_vk_plan_allows(&plan, shader));
        assert_int_equal(hymn_vk_plan_allows(&plan, other), other_met);
        hymn_vk_plan_demote(&plan, shader, false);
        assert_int_equal(hymn_vk_plan_allows(&plan, shader), met);
    }
}

// ------------------------------------------------------------------------------------------------------- selection

static const struct hymn_device_info machine[] = {
    {.name = "Tiny (old)", .type = HYMN_DEVICE_TYPE_DISCRETE_GPU, .memory_bytes = 64 * GIB, .reason = "it is old"},
    {.name = "llvmpipe", .type = HYMN_DEVICE_TYPE_CPU, .memory_bytes = 128 * GIB, .usable = true},
    {.name = "Intel UHD", .type = HYMN_DEVICE_TYPE_INTEGRATED_GPU, .memory_bytes = 16 * GIB, .usable = true},
    {.name = "RTX 4090",
     .type = HYMN_DEVICE_TYPE_DISCRETE_GPU,
     .memory_bytes = 8 * GIB,
     .usable = true,
     .uuid = {0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}},
    {.name = "RTX 4090", .type = HYMN_DEVICE_TYPE_DISCRETE_GPU, .memory_bytes = 24 * GIB, .usable = true},
};

static enum hymn_status choose(const char *wanted, uint32_t *out_index, struct test_log *log) {
    struct hymn_log sink = test_log_start(log);
    return hymn_vk_device_select(machine, 5, wanted, &sink, out_index);
}

static void devices_are_chosen_by_index_name_and_uuid(void **state) {
    (void)state;
    static const struct {
        const char *wanted;
        uint32_t index;
    } cases[] = {
        {NULL, 4},
        {"", 4},
        {"1", 1},
        {"2", 2},
        {"LLVM", 1},
        {"intel uhd", 2},
        {"01", 1},
        {"4090", 4},
        {"409", 4}, // of three digits, and there are fewer devices
        {"rtx", 4},
        {"0123456789abcdef0000000000000000", 3},
        {"I", 2}, // "Intel" and "llvmpipe" and "Tiny (old)": the best that can be used
        {"01234567-89AB-CDEF-0000-000000000000", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_log log;
        uint32_t index = 99;
        assert_int_equal(choose(cases[i].wanted, &index, &log), HYMN_STATUS_OK);
        assert_int_equal(index, cases[i].index);
        assert_int_equal(log.lines, 0);
    }
}

static void unknown_and_unusable_devices_are_named(void **state) {
    (void)state;
    struct test_log log;
    uint32_t index;
    assert_int_equal(choose("Radeon", &index, &log), HYMN_STATUS_NO_DEVICE);
    assert_log(&log,
               "no Vulkan device matches \"Radeon\"; there are:\n  0: Tiny (old), cannot be used: it is old\n  1: "
               "llvmpipe\n");
    static const char *const numbers[] = {"5", "9", "17", "40", "90"}; // some are in a name, but it is for indices
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_int_equal(choose(numbers[i], &index, &log), HYMN_STATUS_NO_DEVICE);
        assert_log(&log, "\"; there are:\n  0: Tiny (old), cannot be used: it is old\n  1: llvmpipe\n");
    }
    assert_int_equal(choose("491", &index, &log), HYMN_STATUS_NO_DEVICE);
    assert_int_equal(choose("ffffffffffffffffffffffffffffffff", &index, &log), HYMN_STATUS_NO_DEVICE);
    assert_int_equal(choose("0", &index, &log), HYMN_STATUS_UNSUPPORTED);
    assert_log(&log, "Tiny (old) cannot be used: it is old");
    assert_int_equal(choose("tiny", &index, &log), HYMN_STATUS_UNSUPPORTED);
    struct hymn_log sink = test_log_start(&log);
    assert_int_equal(hymn_vk_device_select(machine, 1, NULL, &sink, &index), HYMN_STATUS_NO_DEVICE);
    assert_log(&log, "no Vulkan device can be used; there are:\n  0: Tiny (old), cannot be used: it is old\n");
    sink = test_log_start(&log);
    assert_int_equal(hymn_vk_device_select(NULL, 0, "0", &sink, &index), HYMN_STATUS_NO_DEVICE);
    assert_log(&log, "no driver is installed");
}

// --------------------------------------------------------------------------------------------------------- hazards

// Whether the second access must wait for the first.
static bool must_wait(struct hymn_vk_access first, struct hymn_vk_access second, bool *out_written) {
    struct hymn_vk_hazards *hazards = calloc(1, sizeof *hazards);
    assert_non_null(hazards);
    hymn_vk_hazards_add(hazards, &first, 1);
    bool wait = hymn_vk_hazards_check(hazards, &second, 1, out_written);
    hymn_vk_hazards_clear(hazards);
    bool written;
    assert_false(hymn_vk_hazards_check(hazards, &second, 1, &written));
    assert_false(written);
    free(hazards);
    return wait;
}

static void only_overlapping_writes_wait(void **state) {
    (void)state;
    struct hymn_vk_access read = {0, 256, 512, false}, write = {0, 256, 512, true};
    bool written;
    assert_true(must_wait(write, read, &written));
    assert_true(written);
    assert_true(must_wait(write, write, &written));
    assert_true(written);
    assert_true(must_wait(read, write, &written));
    assert_false(written); // order is enough
    assert_false(must_wait(read, read, &written));
    struct hymn_vk_access after = {0, 512, 768, true}, other = {1, 256, 512, true}, last = {0, 508, 768, true};
    assert_false(must_wait(write, after, &written));
    assert_false(must_wait(after, write, &written));
    assert_false(must_wait(write, other, &written));
    assert_true(must_wait(write, last, &written));
    assert_true(must_wait(last, read, &written));
}

static void full_tracker_asks_for_a_barrier(void **state) {
    (void)state;
    struct hymn_vk_hazards *hazards = calloc(1, sizeof *hazards);
    assert_non_null(hazards);
    bool written;
    struct hymn_vk_access accesses[2] = {{0, 0, 4, false}, {0, 4, 8, false}};
    for (uint32_t i = 0; i < HYMN_VK_MAX_ACCESSES / 2; i++) {
        assert_false(hymn_vk_hazards_check(hazards, accesses, 2, &written));
        hymn_vk_hazards_add(hazards, accesses, 2);
    }
    assert_true(hymn_vk_hazards_check(hazards, accesses, 1, &written));
    assert_false(written);
    free(hazards);
}

// Every pair of conflicting steps has a barrier between them, and a barrier is never put where the steps since the last
// one do not conflict with the next.
static void random_programs_are_separated_where_needed(void **state) {
    (void)state;
    struct test_random random = test_random_start("random_programs_are_separated_where_needed");
    enum { STEPS = 200 };
    struct hymn_vk_access steps[STEPS];
    struct hymn_vk_hazards *hazards = calloc(1, sizeof *hazards);
    assert_non_null(hazards);
    uint32_t since = 0; // first step after the last barrier
    for (uint32_t i = 0; i < STEPS; i++) {
        uint64_t begin = test_random_range(&random, 0, 40);
        steps[i] =
            (struct hymn_vk_access){test_random_range(&random, 0, 2), begin, begin + test_random_range(&random, 1, 8),
                                    test_random_range(&random, 0, 2) == 0};
        bool expected = false, written, expected_written = false;
        for (uint32_t j = since; j < i; j++) {
            bool overlap =
                steps[i].buffer == steps[j].buffer && steps[i].begin < steps[j].end && steps[j].begin < steps[i].end;
            expected = expected || (overlap && (steps[i].write || steps[j].write));
            expected_written = expected_written || steps[j].write;
        }
        assert_int_equal(hymn_vk_hazards_check(hazards, &steps[i], 1, &written), expected);
        assert_int_equal(written, expected_written);
        if (expected) {
            hymn_vk_hazards_clear(hazards);
            since = i;
        }
        hymn_vk_hazards_add(hazards, &steps[i], 1);
    }
    free(hazards);
}

// The ranges hold every byte that was written and no other, or there are too many of them.
static void written_ranges_are_exact(void **state) {
    (void)state;
    struct test_random random = test_random_start("written_ranges_are_exact");
    enum { BYTES = 64, BUFFERS = 3 };
    uint32_t few = 0, many = 0;
    for (uint32_t round = 0; round < 300; round++) {
        bool touched[BUFFERS][BYTES] = {{false}}, told[BUFFERS][BYTES] = {{false}};
        struct hymn_vk_hazards *hazards = calloc(1, sizeof *hazards);
        assert_non_null(hazards);
        uint32_t steps = test_random_range(&random, 0, 20), writes = 0;
        for (uint32_t i = 0; i < steps; i++) {
            uint32_t buffer = test_random_range(&random, 0, BUFFERS - 1), begin = test_random_range(&random, 0, 55);
            struct hymn_vk_access access = {buffer, begin, begin + test_random_range(&random, 1, 8),
                                            test_random_range(&random, 0, 1) == 0};
            for (uint64_t at = access.begin; at < access.end && access.write; at++) {
                touched[buffer][at] = true;
            }
            writes += access.write;
            hymn_vk_hazards_add(hazards, &access, 1);
        }
        struct hymn_vk_range ranges[HYMN_VK_MAX_RANGES];
        uint32_t count = hymn_vk_hazards_written(hazards, ranges);
        free(hazards);
        assert_true(count <= writes && (count > 0) == (writes > 0));
        if (count > HYMN_VK_MAX_RANGES) {
            many++;
            continue;
        }
        few++;
        for (uint32_t i = 0; i < count; i++) {
            memset(&told[ranges[i].buffer][ranges[i].begin], true, ranges[i].end - ranges[i].begin);
        }
        assert_memory_equal(touched, told, sizeof touched);
    }
    assert_true(few > 0 && many > 0);
}

// Whichever comes first.
static void ranges_side_by_side_are_one(void **state) {
    (void)state;
    const struct hymn_vk_access accesses[] = {{0, 8, 16, true}, {0, 16, 24, true}, {0, 0, 8, true}, {0, 25, 32, true}};
    struct hymn_vk_hazards *hazards = calloc(1, sizeof *hazards);
    assert_non_null(hazards);
    struct hymn_vk_range ranges[HYMN_VK_MAX_RANGES];
    hymn_vk_hazards_add(hazards, accesses, 3);
    assert_int_equal(hymn_vk_hazards_written(hazards, ranges), 1);
    assert_true(ranges[0].begin == 0 && ranges[0].end == 24);
    hymn_vk_hazards_add(hazards, accesses + 3, 1);
    assert_int_equal(hymn_vk_hazards_written(hazards, ranges), 2);
    free(hazards);
}

// --------------------------------------------------------------------------------------------------------- programs

static void programs_grow_and_shaders_are_found(void **state) {
    (void)state;
    struct hymn_vk_program program = {0};
    for (uint32_t i = 0; i < 100; i++) {
        struct hymn_vk_step *step = hymn_vk_program_add(&program);
        assert_non_null(step);
        assert_int_equal(step->groups[0] * step->groups[1] * step->groups[2], 1);
        assert_null(step->shader);
        hymn_vk_step_push(step, &i, sizeof i);
    }
    assert_int_equal(program.count, 100);
    assert_int_equal(program.steps[77].push[0], 77);
    assert_int_equal(program.steps[77].push_bytes, 4);
    hymn_vk_program_free(&program);
    assert_null(program.steps);
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        assert_ptr_equal(hymn_shader_find(hymn_shaders[i].name), &hymn_shaders[i]);
    }
    assert_null(hymn_shader_find("no such shader"));
    assert_null(hymn_shader_find(""));
    assert_null(hymn_shader_find("~"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_device_is_usable),
        cmocka_unit_test(phone_reads_host_memory_directly),
        cmocka_unit_test(desktop_keeps_its_limits_and_stages),
        cmocka_unit_test(software_device_wants_few_lanes_and_wide_weights),
        cmocka_unit_test(transfer_queues_are_for_devices_behind_a_bus),
        cmocka_unit_test(inputs_are_written_directly_where_they_can_be),
        cmocka_unit_test(base_tier_is_that_of_the_smallest_device),
        cmocka_unit_test(lacking_devices_say_what_they_lack),
        cmocka_unit_test(implausible_claims_are_not_believed),
        cmocka_unit_test(integrated_gpu_without_halves_is_wide),
        cmocka_unit_test(a_lower_tier_hides_what_is_above_it),
        cmocka_unit_test(matrix_shapes_are_chosen_or_refused),
        cmocka_unit_test(lies_about_one_feature_cost_only_what_needs_it),
        cmocka_unit_test(subgroups_of_any_size),
        cmocka_unit_test(subgroups_limit_workgroups),
        cmocka_unit_test(sums_stay_in_registers_on_nvk),
        cmocka_unit_test(software_device_uses_matrices_only_when_told),
        cmocka_unit_test(plans_allow_what_they_have_and_is_not_demoted),
        cmocka_unit_test(devices_are_chosen_by_index_name_and_uuid),
        cmocka_unit_test(unknown_and_unusable_devices_are_named),
        cmocka_unit_test(only_overlapping_writes_wait),
        cmocka_unit_test(full_tracker_asks_for_a_barrier),
        cmocka_unit_test(random_programs_are_separated_where_needed),
        cmocka_unit_test(written_ranges_are_exact),
        cmocka_unit_test(ranges_side_by_side_are_one),
        cmocka_unit_test(programs_grow_and_shaders_are_found),
    };
    return cmocka_run_group_tests_name("vk_plan", tests, NULL, NULL);
}
