// SPDX-License-Identifier: MIT
//
// Shared memory of the selective scan's shaders on made-up devices: what each declares, found in its SPIR-V with the
// step's constants, is what the device has at most. By the rules, by every method that tuning lists, and by those of
// chunks in two passes that it would not list. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "ops/ops.h"
#include "ops/selective_scan.h"
#include "support/test_log.h"
#include "support/test_snapshot.h"
#include "support/test_spirv.h"

struct problem {
    uint32_t length, states, rank;
    enum hymn_storage storage;
};

static void build(struct hymn_graph *graph, const struct problem *problem) {
    enum { CHANNELS = 128 };
    hymn_graph_init(graph, 1, problem->storage);
    const uint32_t rows = 4 * hymn_round_up(problem->rank + 2 * problem->states, 8);
    const uint32_t u = hymn_graph_add_value(graph, "u", 1, problem->length, CHANNELS, problem->storage);
    const uint32_t projected = hymn_graph_add_value(graph, "x_proj", 1, problem->length, rows, HYMN_STORAGE_F32);
    const uint32_t output = hymn_graph_add_value(graph, "y", 1, problem->length, CHANNELS, problem->storage);
    struct hymn_node *node = hymn_graph_add_node(graph, HYMN_KIND_SELECTIVE_SCAN, "scan");
    assert_true(u != HYMN_NONE && projected != HYMN_NONE && output != HYMN_NONE && node);
    graph->values[output].planes = 4;
    node->terms[0].source = (struct hymn_source){u, 0, CHANNELS};
    node->terms[1].source = (struct hymn_source){projected, 0, rows};
    node->term_count = 2;
    node->output = output;
    node->d_state = problem->states;
    node->dt_rank = problem->rank;
}

static uint32_t joint_steps; // with chunks in two passes

// The node as it is tuned, or by the rules.
static void check(const struct hymn_vk_plan *plan, const struct problem *problem, const struct hymn_node *tuned,
                  bool settled) {
    struct test_log log;
    const struct hymn_log sink = test_log_start(&log);
    struct hymn_graph graph;
    build(&graph, problem);
    if (tuned) {
        graph.nodes[0].tuned = true;
        graph.nodes[0].method = tuned->method;
    }
    if (settled) {
        hymn_ops_settle(&graph, plan);
    }
    struct hymn_lower lower = {.graph = &graph, .plan = plan, .log = &sink, .blank = true};
    assert_int_equal(hymn_ops_prepare(&graph, plan, &sink), HYMN_STATUS_OK);
    assert_int_equal(hymn_graph_plan_memory(&graph, false, &sink), HYMN_STATUS_OK);
    assert_int_equal(hymn_ops_lower(&lower), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < lower.program.count; i++) {
        const struct hymn_vk_step *step = &lower.program.steps[i];
        const uint64_t bytes = test_spirv_shared_bytes(step->shader, step->constants, step->constant_count);
        joint_steps += strncmp(step->shader->name, "selective_scan_joint", 20) == 0;
        if (bytes > plan->max_shared_bytes) {
            const uint32_t *m = graph.nodes[0].method.words;
            fail_msg("%s has %llu bytes of %u: subgroups of %u, %u steps, %u states, rank %u, %s {%u %u %u %u %u %u %u "
                     "%u %u}",
                     step->shader->name, (unsigned long long)bytes, plan->max_shared_bytes, plan->subgroup_size,
                     problem->length, problem->states, problem->rank, tuned ? "method" : "rule", m[0], m[1], m[2], m[3],
                     m[4], m[5], m[6], m[7], m[8]);
        }
    }
    hymn_lower_free(&lower);
    hymn_graph_free(&graph);
}

static void check_all(const struct hymn_vk_plan *plan, const struct problem *problem) {
    struct hymn_method methods[64];
    struct hymn_graph graph;
    for (uint32_t settled = 0; settled < 2; settled++) {
        build(&graph, problem);
        if (settled) {
            hymn_ops_settle(&graph, plan);
        }
        struct hymn_node node = graph.nodes[0];
        const uint32_t count = hymn_selective_scan_list_methods(&graph, &node, plan, NULL, methods, 64);
        assert_in_range(count, 1, 63);
        check(plan, problem, NULL, settled);
        for (uint32_t i = 0; i < count; i++) {
            node.method = methods[i];
            check(plan, problem, &node, settled);
        }
        hymn_graph_free(&graph);
    }
    for (uint32_t i = 0; i < 8; i++) { // spans of 1, 2, 4, 8 in chunks of 16 steps, rows staged or not
        const struct hymn_node node = {.method = {{16, 0, i % 2, 0, 0, 1u << i / 2, 0, 0, 0}}};
        check(plan, problem, &node, false);
    }
}

static struct hymn_vk_plan make_plan(uint32_t subgroup, uint32_t shared) {
    struct hymn_vk_snapshot snapshot = test_snapshot(HYMN_DEVICE_TYPE_DISCRETE_GPU);
    snapshot.subgroup_size = snapshot.subgroup_min = snapshot.subgroup_max = subgroup;
    snapshot.max_shared_bytes = shared;
    snapshot.matrices[0] = (struct hymn_vk_matrix){16, 16, 16, 1};
    snapshot.matrix_count = 1;
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&snapshot, HYMN_TIER_AUTO, &plan);
    assert_true(plan.usable && plan.max_shared_bytes == shared);
    return plan;
}

static void scans_declare_what_devices_have(void **state) {
    (void)state;
    static const uint32_t states[] = {16, 32, 63, 64}, ranks[] = {1, 32}, lengths[] = {256, 1024, 4096};
    for (uint32_t subgroup = 32; subgroup <= 128; subgroup *= 2) {
        static const uint32_t shared[] = {16, 32, 36, 48}; // KiB
        for (uint32_t i = 0; i < 4 * 4 * 2 * 2 * 3; i++) {
            const struct hymn_vk_plan plan = make_plan(subgroup, shared[i % 4] * 1024);
            const struct problem problem = {lengths[i / 64], states[i / 4 % 4], ranks[i / 16 % 2],
                                            (enum hymn_storage)(i / 32 % 2)};
            check_all(&plan, &problem);
        }
    }
    assert_true(joint_steps > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_declare_what_devices_have),
    };
    return cmocka_run_group_tests_name("scan_shared", tests, NULL, NULL);
}
