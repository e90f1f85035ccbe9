// SPDX-License-Identifier: MIT
//
// Shared memory of the convolutions on matrix units on made-up devices: what each step of two networks declares, found
// in its SPIR-V with the step's constants, is what the device has at most; and hymn_conv2d_matrix_valid allows a tile
// from just as many bytes on as the largest of its variants declares. By the rules and by the methods that tuning
// lists. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "model/blank.h"
#include "ops/conv2d_tile.h"
#include "session/network.h"
#include "session/survey.h"
#include "support/test_log.h"
#include "support/test_snapshot.h"
#include "support/test_spirv.h"
#include "tune/tune.h"

enum {
    FLAG_SLACK = 12, // conv2d_matrix.comp has a flag of 4 bytes, for which 16 are reckoned with
    AT_KERNEL = 3,   // of a step's constants
    UNIT = 16,       // bytes
    HALF_CELL = 8,   // likewise
    DEPTHWISE = 11   // units of a cell of channels: bias and nine weights of each
};

static bool seen[HYMN_VK_MAX_SHADERS]; // in a step; by the shader's place in the table

// ------------------------------------------------------------------------------------------------------------- devices

static const struct {
    struct hymn_vk_matrix matrix;
    uint32_t subgroup;
    enum hymn_device_type type;
} devices[] = {
    {{16, 16, 16, 1}, 32, HYMN_DEVICE_TYPE_DISCRETE_GPU},   {{16, 16, 16, 1}, 64, HYMN_DEVICE_TYPE_DISCRETE_GPU},
    {{16, 16, 16, 1}, 32, HYMN_DEVICE_TYPE_INTEGRATED_GPU}, {{16, 16, 16, 0}, 32, HYMN_DEVICE_TYPE_DISCRETE_GPU},
    {{16, 8, 16, 1}, 32, HYMN_DEVICE_TYPE_DISCRETE_GPU},    {{16, 8, 16, 0}, 64, HYMN_DEVICE_TYPE_INTEGRATED_GPU},
    {{8, 8, 16, 1}, 8, HYMN_DEVICE_TYPE_INTEGRATED_GPU},    {{8, 16, 16, 1}, 16, HYMN_DEVICE_TYPE_DISCRETE_GPU},
    {{16, 16, 32, 1}, 32, HYMN_DEVICE_TYPE_DISCRETE_GPU},   {{32, 8, 16, 1}, 32, HYMN_DEVICE_TYPE_DISCRETE_GPU},
    {{8, 8, 8, 1}, 8, HYMN_DEVICE_TYPE_DISCRETE_GPU},       {{8, 8, 8, 1}, 8, HYMN_DEVICE_TYPE_CPU},
};
static const uint32_t shared_bytes[] = {16 * 1024, 32 * 1024, 48 * 1024, 227 * 1024}; // beyond 64 KiB all are alike

enum { DEVICES = sizeof devices / sizeof *devices, SIZES = sizeof shared_bytes / sizeof *shared_bytes };

static struct hymn_vk_plan make_plan(uint32_t device, uint32_t shared) {
    struct hymn_vk_snapshot snapshot = test_snapshot(devices[device].type);
    snapshot.subgroup_size = snapshot.subgroup_min = snapshot.subgroup_max = devices[device].subgroup;
    snapshot.max_shared_bytes = shared;
    snapshot.matrices[0] = devices[device].matrix;
    snapshot.matrix_count = 1;
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&snapshot, HYMN_TIER_MATRIX, &plan);
    assert_true(plan.usable && plan.tier == HYMN_TIER_MATRIX && plan.max_shared_bytes <= shared);
    return plan;
}

// --------------------------------------------------------------------------------------------------------------- steps

static uint64_t declared_bytes(const struct hymn_shader *shader, const struct hymn_vk_step *step) {
    assert_non_null(shader);
    return test_spirv_shared_bytes(shader, step->constants, step->constant_count);
}

// As the step would be with another variant.
static uint64_t declared_by(const char *variant, const struct hymn_vk_step *step) {
    char name[64];
    snprintf(name, sizeof name, HYMN_CONV2D_MATRIX "%s", variant);
    return declared_bytes(hymn_shader_find(name), step);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// Whether a step of conv2d_matrix.comp may become one that goes on to masks.
static bool masks(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                  const struct hymn_vk_plan *plan) {
    return problem->plain && problem->wide && tile->columns == 1 &&
           hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_mask", NULL);
}

// The most of the variants that the engine leaves room for: whatever finishes the sums, and beside it what goes on from
// there.
static uint64_t most_declared(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                              const struct hymn_vk_plan *plan, const struct hymn_vk_step *step) {
    const uint64_t own = declared_bytes(step->shader, step);
    if (hymn_conv2d_streams(tile)) {
        return own;
    }
    if (hymn_conv2d_walks(tile)) {
        return tile->columns == 1 ? larger(own, declared_by("_rows_mask", step)) : own;
    }
    struct hymn_vk_step apart = *step;
    if (problem->thin) { // all taps are one stage, whose pixels have no margin
        apart.constants[AT_KERNEL] = 1;
    }
    const uint64_t sums = larger(declared_by("", &apart), problem->plain ? declared_by("_packed", &apart) : 0);
    if (problem->thin) {
        return larger(larger(own, declared_by("_pictures", step)),
                      sums + (tile->width + 2) * (tile->height + 2) * HALF_CELL);
    }
    if (hymn_conv2d_convolves(problem, tile)) {
        return larger(own, sums + DEPTHWISE * UNIT * (tile->channels / 8));
    }
    return masks(problem, tile, plan)
               ? larger(larger(own, sums) + UNIT * (tile->channels / 4 + 1), declared_by("_mask", step))
               : larger(own, sums);
}

struct check {
    const struct hymn_vk_plan *plan;
    struct hymn_graph *graph;
};

static bool valid_with(const struct check *check, const struct hymn_node *node, const struct hymn_conv2d_tile *tile,
                       uint64_t bytes) {
    struct hymn_vk_plan plan = *check->plan;
    plan.max_shared_bytes = (uint32_t)bytes;
    return hymn_conv2d_matrix_valid(check->graph, node, &plan, tile);
}

static void fail_step(const struct check *check, const struct hymn_vk_step *step, const struct hymn_conv2d_tile *tile,
                      const char *what, uint64_t bytes) {
    const struct hymn_vk_matrix *matrix = &check->plan->matrix;
    fail_msg("%s, %s: %llu bytes, %s; %u are there: matrices of %ux%ux%u, subgroups of %u, tile %ux%u %u, %ux%u, "
             "taps %u, depth %u, x%u, /%u",
             step->name, step->shader->name, (unsigned long long)bytes, what, check->plan->max_shared_bytes, matrix->m,
             matrix->n, matrix->k, check->plan->subgroup_size, tile->width, tile->height, tile->channels, tile->rows,
             tile->columns, tile->taps, tile->depth, tile->buffers, tile->splits);
}

// node: not prepared yet.
static void check_matrix(const struct check *check, const struct hymn_node *node, const struct hymn_vk_step *step) {
    const struct hymn_conv2d_problem problem = hymn_conv2d_describe(check->graph, node, check->plan);
    const struct hymn_conv2d_tile tile = hymn_conv2d_tile_of(check->graph, node, check->plan);
    const uint64_t most = most_declared(&problem, &tile, check->plan, step);
    const uint64_t slack = tile.buffers > 0 ? FLAG_SLACK : 0;
    if (valid_with(check, node, &tile, most - 1)) {
        fail_step(check, step, &tile, "more than reckoned with", most);
    }
    if (!valid_with(check, node, &tile, most + slack)) {
        fail_step(check, step, &tile, "less than reckoned with", most);
    }
}

static bool is_matrix(const struct hymn_shader *shader) {
    return strncmp(shader->name, HYMN_CONV2D_MATRIX, strlen(HYMN_CONV2D_MATRIX)) == 0;
}

static void check_declared(const struct hymn_vk_plan *plan, const struct hymn_vk_step *step) {
    const uint64_t bytes = declared_bytes(step->shader, step);
    assert_in_range(step->shader - hymn_shaders, 0, HYMN_VK_MAX_SHADERS - 1);
    seen[step->shader - hymn_shaders] = true;
    if (bytes > plan->max_shared_bytes) {
        fail_msg("%s, %s: %llu bytes of %u", step->name, step->shader->name, (unsigned long long)bytes,
                 plan->max_shared_bytes);
    }
}

// --------------------------------------------------------------------------------------------------------------- nodes

// By the method, or by the rules.
static void check_node(const struct check *check, const struct hymn_node *of, const struct hymn_method *method) {
    struct test_log log;
    const struct hymn_log sink = test_log_start(&log);
    struct hymn_lower lower = {.graph = check->graph, .plan = check->plan, .log = &sink, .blank = true};
    struct hymn_node node = *of;
    if (method) {
        node.tuned = true;
        node.method = *method;
    }
    const struct hymn_node before = node;
    assert_int_equal(hymn_conv2d_prepare(check->graph, &node, check->plan, &sink), HYMN_STATUS_OK);
    assert_int_equal(hymn_conv2d_lower(&lower, &node), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < lower.program.count; i++) {
        check_declared(check->plan, &lower.program.steps[i]);
        if (is_matrix(lower.program.steps[i].shader)) {
            check_matrix(check, &before, &lower.program.steps[i]);
        }
    }
    hymn_lower_free(&lower);
}

static void check_methods(const struct check *check, const struct hymn_node *node) {
    struct hymn_method methods[HYMN_TUNE_MOST_METHODS], others[HYMN_TUNE_MOST_METHODS];
    const uint32_t count =
        hymn_conv2d_list_methods(check->graph, node, check->plan, NULL, methods, HYMN_TUNE_MOST_METHODS);
    check_node(check, node, NULL);
    for (uint32_t i = 0; i < count; i++) {
        check_node(check, node, &methods[i]);
    }
    if (count > 0) { // what is tried next where the last one was the fastest
        const struct hymn_method *from = &methods[count - 1];
        const uint32_t more =
            hymn_conv2d_list_methods(check->graph, node, check->plan, from, others, HYMN_TUNE_MOST_METHODS);
        for (uint32_t i = 0; i < more; i++) {
            check_node(check, node, &others[i]);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ networks

#define CONFIG(dims, depths)                                                                                           \
    "{\"architecture\":\"hymunet\",\"version\":1,\"dims\":[" dims "],\"depths\":[" depths "],\"conv_stages\":2,"       \
    "\"decoder_depths\":[1,1,1,1],\"in_channels\":3,\"num_classes\":1,\"d_state\":16,\"ssm_ratio\":2.0,"               \
    "\"dt_rank\":\"auto\",\"skip\":\"mgf\",\"input_size\":[256,256]}"

static const char tiny[] = CONFIG("16,32,64,128,256", "1,1,1,1,1"), base[] = CONFIG("32,64,128,256,512", "2,2,2,2,2");

struct network {
    void *data;
    struct hymn_model *model;
};

static void open_network(const char *config, const struct hymn_log *log, struct network *network) {
    size_t size;
    assert_int_equal(hymn_model_blank(config, "blank", log, &network->data, &size), HYMN_STATUS_OK);
    const struct hymn_model_params params = {.log = *log, .data = network->data, .size = size, .name = "blank"};
    assert_int_equal(hymn_model_create(&params, &network->model), HYMN_STATUS_OK);
}

static void close_network(struct network *network) {
    hymn_model_destroy(&network->model);
    hymn_free(network->data);
}

// Of nodes that are the same problem, one.
static void check_convolutions(const struct check *check) {
    static uint64_t keys[1024];
    uint32_t count = 0;
    const uint32_t node_count = check->graph->node_count;
    assert_in_range(node_count, 1, sizeof keys / sizeof *keys);
    for (uint32_t i = 0; i < node_count; i++) {
        const struct hymn_node node = check->graph->nodes[i];
        const uint64_t key = hymn_tune_key(check->plan, check->graph, &node);
        bool again = node.kind != HYMN_KIND_CONV2D;
        for (uint32_t k = 0; k < count && !again; k++) {
            again = keys[k] == key;
        }
        if (!again) {
            keys[count++] = key;
            check_methods(check, &node);
        }
    }
}

// On software devices, or on the others, for which the graph is another one.
static void check_size(const struct hymn_model *model, uint32_t side, uint32_t batch, bool cpu) {
    struct test_log log;
    const struct hymn_log sink = test_log_start(&log);
    struct hymn_network_shape shape;
    struct hymn_graph graph = {0};
    assert_int_equal(hymn_network_shape_make(model, side, side, batch, HYMN_PRECISION_FP16, &sink, &shape),
                     HYMN_STATUS_OK);
    for (uint32_t i = 0; i < DEVICES * SIZES; i++) {
        const struct hymn_vk_plan plan = make_plan(i / SIZES, shared_bytes[i % SIZES]);
        if (plan.cpu != cpu) {
            continue;
        }
        if (graph.node_count == 0) {
            assert_int_equal(hymn_network_make(model, &shape, &plan, &sink, &graph), HYMN_STATUS_OK);
        }
        check_convolutions(&(struct check){&plan, &graph});
    }
    hymn_graph_free(&graph);
}

static void check_network(const char *config) {
    static const uint32_t sizes[][2] = {{256, 1}, {256, 8}, {256, 32}, {64, 1}}; // side, batch
    struct test_log log;
    const struct hymn_log sink = test_log_start(&log);
    struct network network;
    open_network(config, &sink, &network);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_size(network.model, sizes[i][0], sizes[i][1], false);
        check_size(network.model, sizes[i][0], sizes[i][1], true);
    }
    close_network(&network);
}

static void tiny_declares_what_is_reckoned_with(void **state) {
    (void)state;
    check_network(tiny);
}

static void base_declares_what_is_reckoned_with(void **state) {
    (void)state;
    check_network(base);
}

// Whole networks as sessions run them, with what all kinds of inputs and outputs make of the first and the last step.
static void networks_declare_what_devices_have(void **state) {
    (void)state;
    struct test_log log;
    const struct hymn_log sink = test_log_start(&log);
    struct network network;
    open_network(tiny, &sink, &network);
    for (uint32_t i = 0; i < DEVICES * SIZES; i++) {
        struct hymn_vk_program program = {0};
        struct hymn_arena names = {0};
        const struct hymn_vk_plan plan = make_plan(i / SIZES, shared_bytes[i % SIZES]);
        const struct hymn_survey_params params = {network.model, &plan, HYMN_PRECISION_FP16, i % 2 ? 8 : 1};
        assert_int_equal(hymn_survey_add(&params, &sink, &names, &program), HYMN_STATUS_OK);
        for (uint32_t k = 0; k < program.count; k++) {
            if (program.steps[k].kind == HYMN_VK_STEP_DISPATCH) {
                check_declared(&plan, &program.steps[k]);
            }
        }
        hymn_vk_program_free(&program);
        hymn_arena_free(&names);
    }
    close_network(&network);
}

// After the others.
static void every_variant_was_seen(void **state) {
    (void)state;
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        if (is_matrix(&hymn_shaders[i]) && !seen[i]) {
            fail_msg("%s was in no step", hymn_shaders[i].name);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_declares_what_is_reckoned_with),
        cmocka_unit_test(base_declares_what_is_reckoned_with),
        cmocka_unit_test(networks_declare_what_devices_have),
        cmocka_unit_test(every_variant_was_seen),
    };
    return cmocka_run_group_tests_name("matrix_shared", tests, NULL, NULL);
}
