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

// ------------------------------------------------------------------------------------------------------------- SPIR-V

enum { // of the specification, version 1.6
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT = 43,
    OP_SPEC_CONSTANT_TRUE = 48,
    OP_SPEC_CONSTANT_FALSE = 49,
    OP_SPEC_CONSTANT = 50,
    OP_SPEC_CONSTANT_COMPOSITE = 51,
    OP_SPEC_CONSTANT_OP = 52,
    OP_VARIABLE = 59,
    OP_DECORATE = 71,
    OP_COMPOSITE_EXTRACT = 81,
    OP_I_ADD = 128,
    OP_I_SUB = 130,
    OP_I_MUL = 132,
    OP_U_DIV = 134,
    OP_U_MOD = 137,
    OP_LOGICAL_AND = 167,
    OP_LOGICAL_NOT = 168,
    OP_SELECT = 169,
    OP_I_EQUAL = 170,
    OP_I_NOT_EQUAL = 171,
    OP_U_GREATER_THAN = 172,
    OP_U_LESS_THAN = 176,
    SPEC_ID = 1,
    STORAGE_WORKGROUP = 4,
    MOST_IDS = 16384
};

static const uint32_t *made[MOST_IDS]; // by id: the instruction that makes it
static int32_t constant_of[MOST_IDS];  // its specialization constant; -1: none
static const uint32_t *given;          // these constants

static uint32_t opcode(const uint32_t *at) {
    return at[0] & 0xFFFF;
}

static uint32_t value_of(uint32_t id);

// Of an OpSpecConstantOp: operation, operands.
static uint32_t compute(const uint32_t *words) {
    if (words[0] == OP_SELECT) {
        return value_of(words[1]) ? value_of(words[2]) : value_of(words[3]);
    }
    if (words[0] == OP_COMPOSITE_EXTRACT) {
        assert_int_equal(opcode(made[words[1]]), OP_SPEC_CONSTANT_COMPOSITE);
        return value_of(made[words[1]][3 + words[2]]);
    }
    const uint32_t a = value_of(words[1]), b = words[0] == OP_LOGICAL_NOT ? 0 : value_of(words[2]);
    assert_true((words[0] != OP_U_DIV && words[0] != OP_U_MOD) || b > 0);
    switch (words[0]) {
    case OP_I_ADD:
        return a + b;
    case OP_I_SUB:
        return a - b;
    case OP_I_MUL:
        return a * b;
    case OP_U_DIV:
        return a / b;
    case OP_U_MOD:
        return a % b;
    case OP_LOGICAL_AND:
        return a && b;
    case OP_LOGICAL_NOT:
        return !a;
    case OP_I_EQUAL:
        return a == b;
    case OP_I_NOT_EQUAL:
        return a != b;
    case OP_U_GREATER_THAN:
        return a > b;
    case OP_U_LESS_THAN:
        return a < b;
    default:
        fail_msg("operation %u of a size is not known here", words[0]);
        return 0;
    }
}

static uint32_t value_of(uint32_t id) {
    const uint32_t *at = made[id];
    assert_non_null(at);
    if (constant_of[id] >= 0) {
        return given[constant_of[id]];
    }
    switch (opcode(at)) {
    case OP_CONSTANT:
        return at[3];
    case OP_SPEC_CONSTANT_OP:
        return compute(at + 3);
    default:
        fail_msg("constant of instruction %u is not known here", opcode(at));
        return 0;
    }
}

static uint64_t size_of(uint32_t type) {
    const uint32_t *at = made[type];
    assert_non_null(at);
    switch (opcode(at)) {
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
        return at[2] / 8;
    case OP_TYPE_VECTOR:
        return at[3] * size_of(at[2]);
    case OP_TYPE_ARRAY:
        return value_of(at[3]) * size_of(at[2]);
    default:
        fail_msg("type of instruction %u is not known here", opcode(at));
        return 0;
    }
}

static void index_code(const struct hymn_shader *shader) {
    memset(made, 0, sizeof made);
    memset(constant_of, -1, sizeof constant_of);
    const uint32_t *end = shader->code + shader->code_bytes / 4;
    assert_in_range(shader->code[3], 1, MOST_IDS);
    for (const uint32_t *at = shader->code + 5; at < end; at += at[0] >> 16) {
        const uint32_t op = opcode(at);
        if (op >= OP_TYPE_INT && op <= OP_TYPE_POINTER) {
            made[at[1]] = at;
        } else if ((op >= OP_CONSTANT && op <= OP_SPEC_CONSTANT_OP) || op == OP_VARIABLE) {
            made[at[2]] = at;
        } else if (op == OP_DECORATE && at[2] == SPEC_ID) {
            constant_of[at[1]] = (int32_t)at[3];
        }
    }
}

// Bytes of all variables of a workgroup.
static uint64_t declared_bytes(const struct hymn_vk_step *step) {
    uint64_t sum = 0;
    index_code(step->shader);
    given = step->constants;
    for (uint32_t id = 0; id < step->shader->code[3]; id++) {
        if (made[id] && opcode(made[id]) == OP_VARIABLE && made[id][3] == STORAGE_WORKGROUP) {
            sum += size_of(made[made[id][1]][3]);
        }
    }
    return sum;
}

// -------------------------------------------------------------------------------------------------------------- scans

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
        const uint64_t bytes = declared_bytes(step);
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
