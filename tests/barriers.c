// SPDX-License-Identifier: MIT
//
// What steps of the whole network write, without a device. Barriers: no more than the longest chain of steps that need
// each other asks for, although activations share memory, so that no order of the steps would need fewer.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/ops.h"
#include "session/network.h"
#include "support/golden.h"
#include "vk/device.h"
#include "vk/hazard.h"

static const struct hymn_log print_log = {.callback = golden_print_log, .level = HYMN_LOG_WARNING};

static struct hymn_vk_plan make_plan(bool matrices) {
    struct hymn_vk_snapshot snapshot = {
        .name = "made up",
        .type = HYMN_DEVICE_TYPE_DISCRETE_GPU,
        .api_version = VK_API_VERSION_1_3,
        .max_workgroup_invocations = 1024,
        .max_workgroup_size = {1024, 1024, 64},
        .max_workgroup_count = {65535, 65535, 65535},
        .max_shared_bytes = 49152,
        .max_push_bytes = 256,
        .max_storage_buffers = 1u << 20,
        .max_storage_buffer_range = 0xFFFFFFFFu,
        .storage_buffer_alignment = 16,
        .non_coherent_atom = 64,
        .max_allocation_bytes = (uint64_t)8 << 30,
        .subgroup_size = 32,
        .subgroup_arithmetic = true,
        .subgroup_shuffle = true,
        .storage_16bit = matrices,
        .float16 = matrices,
        .memory_model = matrices,
        .subgroup_min = 32,
        .subgroup_max = 32,
        .matrices = {{16, 16, 16, 1}},
        .matrix_count = matrices,
        .compute_queue = true,
        .device_heap_bytes = (uint64_t)8 << 30,
    };
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&snapshot, HYMN_TIER_AUTO, &plan);
    return plan;
}

struct counts {
    uint32_t steps, barriers, longest; // longest: steps of the longest chain of which each needs the one before
};

static uint32_t list_accesses(const struct hymn_vk_step *step, struct hymn_vk_access *out_accesses) {
    for (uint32_t i = 0; i < step->binding_count; i++) {
        const struct hymn_vk_binding *binding = &step->bindings[i];
        out_accesses[i] = (struct hymn_vk_access){binding->role, binding->offset, binding->offset + binding->bytes,
                                                  step->write_mask >> i & 1};
    }
    return step->binding_count;
}

static bool depends(const struct hymn_vk_step *step, const struct hymn_vk_step *earlier) {
    struct hymn_vk_access accesses[2][HYMN_VK_MAX_BINDINGS];
    struct hymn_vk_hazards hazards = {.count = 0};
    bool written;
    hymn_vk_hazards_add(&hazards, accesses[0], list_accesses(earlier, accesses[0]));
    return hymn_vk_hazards_check(&hazards, accesses[1], list_accesses(step, accesses[1]), &written);
}

static struct counts count(const struct hymn_vk_program *program) {
    struct counts counts = {.steps = program->count};
    struct hymn_vk_hazards hazards = {.count = 0};
    uint32_t *levels = calloc(program->count, sizeof *levels);
    assert_non_null(levels);
    for (uint32_t i = 0; i < program->count; i++) {
        struct hymn_vk_access accesses[HYMN_VK_MAX_BINDINGS];
        uint32_t access_count = list_accesses(&program->steps[i], accesses);
        bool written;
        if (hymn_vk_hazards_check(&hazards, accesses, access_count, &written)) {
            counts.barriers++;
            hymn_vk_hazards_clear(&hazards);
        }
        hymn_vk_hazards_add(&hazards, accesses, access_count);
        levels[i] = 1;
        for (uint32_t j = 0; j < i; j++) {
            if (levels[j] >= levels[i] && depends(&program->steps[i], &program->steps[j])) {
                levels[i] = levels[j] + 1;
            }
        }
        counts.longest = levels[i] > counts.longest ? levels[i] : counts.longest;
    }
    free(levels);
    return counts;
}

static void lower_model(const struct hymn_model *model, uint32_t side, uint32_t batch, const struct hymn_vk_plan *plan,
                        bool alias, struct hymn_graph *graph, struct hymn_lower *lower) {
    struct hymn_network_shape shape;
    assert_int_equal(hymn_network_shape_make(model, side, side, batch, HYMN_PRECISION_FP16, &print_log, &shape),
                     HYMN_STATUS_OK);
    assert_int_equal(hymn_network_make(model, &shape, plan, &print_log, graph), HYMN_STATUS_OK);
    assert_int_equal(hymn_ops_prepare(graph, plan, &print_log), HYMN_STATUS_OK);
    assert_int_equal(hymn_graph_plan_memory(graph, alias, &print_log), HYMN_STATUS_OK);
    *lower = (struct hymn_lower){.graph = graph, .plan = plan, .log = &print_log, .blank = true};
    assert_int_equal(hymn_ops_lower(lower), HYMN_STATUS_OK);
}

static struct counts count_case(const struct golden *golden, bool alias) {
    const struct hymn_vk_plan plan = make_plan(false);
    struct hymn_graph graph;
    struct hymn_lower lower;
    lower_model(golden->model, 64, 2, &plan, alias, &graph, &lower);
    struct counts counts = count(&lower.program);
    hymn_lower_free(&lower);
    hymn_graph_free(&graph);
    return counts;
}

// Steps that write to counters; to weights none do, as runs of several streams share them.
static uint32_t count_counting(const struct hymn_model *model, uint32_t side, const struct hymn_vk_plan *plan) {
    struct hymn_graph graph;
    struct hymn_lower lower;
    uint32_t counting = 0;
    lower_model(model, side, 1, plan, true, &graph, &lower);
    for (uint32_t i = 0; i < lower.program.count; i++) {
        const struct hymn_vk_step *step = &lower.program.steps[i];
        for (uint32_t b = 0; b < step->binding_count; b++) {
            bool written = step->write_mask >> b & 1;
            assert_false(written && step->bindings[b].role == HYMN_VK_ROLE_WEIGHTS);
            counting += written && step->bindings[b].role == HYMN_VK_ROLE_COUNTERS;
        }
    }
    hymn_lower_free(&lower);
    hymn_graph_free(&graph);
    return counting;
}

static void weights_are_only_read(void **state) {
    (void)state;
    const struct hymn_vk_plan plans[] = {make_plan(false), make_plan(true)};
    char names[GOLDEN_MAX_CASES][64];
    size_t cases = golden_names(names);
    for (size_t i = 0; i < cases; i++) {
        struct golden golden;
        golden_load(names[i], &golden);
        for (uint32_t p = 0; p < 2; p++) {
            count_counting(golden.model, 64, &plans[p]);
        }
        golden_free(&golden);
    }
    // Large enough for workgroups that share a tile.
    struct hymn_model *base = NULL;
    const struct hymn_model_params params = {.path = HYMN_SOURCE_DIR "/apps/demo/models/base.safetensors"};
    assert_int_equal(hymn_model_create(&params, &base), HYMN_STATUS_OK);
    assert_int_equal(count_counting(base, 256, &plans[0]), 0);
    assert_true(count_counting(base, 256, &plans[1]) > 0);
    hymn_model_destroy(&base);
}

static void barriers_are_as_few_as_can_be(void **state) {
    (void)state;
    char names[GOLDEN_MAX_CASES][64];
    size_t cases = golden_names(names);
    assert_true(cases > 0);
    uint32_t shared = 0;
    for (size_t i = 0; i < cases; i++) {
        struct golden golden;
        golden_load(names[i], &golden);
        struct counts apart = count_case(&golden, false), planned = count_case(&golden, true);
        printf("%-20s %u steps, %u barriers, longest chain %u\n", names[i], planned.steps, planned.barriers,
               apart.longest);
        assert_int_equal(planned.barriers + 1, apart.longest);
        shared += planned.steps - apart.longest;
        golden_free(&golden);
    }
    assert_true(shared > 0); // somewhere, steps share a barrier
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_are_as_few_as_can_be),
        cmocka_unit_test(weights_are_only_read),
    };
    return cmocka_run_group_tests_name("barriers", tests, NULL, NULL);
}
