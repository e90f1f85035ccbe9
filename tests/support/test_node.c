// SPDX-License-Identifier: MIT
#include "support/test_node.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void test_node_begin(struct test_node *test, enum hymn_kind kind, uint32_t batch, enum hymn_storage storage) {
    memset(test, 0, sizeof *test);
    hymn_graph_init(&test->graph, batch, storage);
    test->node = hymn_graph_add_node(&test->graph, kind, "node");
    assert_non_null(test->node);
}

void test_node_end(struct test_node *test) {
    for (uint32_t i = 0; i < TEST_NODE_MAX; i++) {
        free(test->inputs[i].data);
        free(test->outputs[i].data);
        free(test->arrays[i]);
    }
    hymn_graph_free(&test->graph);
}

uint32_t test_node_input(struct test_node *test, struct test_random *random, uint32_t height, uint32_t width,
                         uint32_t channels, enum hymn_storage storage, float low, float high) {
    uint32_t value = hymn_graph_add_value(&test->graph, "input", height, width, channels, storage);
    assert_int_not_equal(value, HYMN_NONE);
    assert_true(test->input_count < TEST_NODE_MAX);
    float *data = test_op_random(&test->graph, value, random, low, high);
    assert_non_null(data);
    test->inputs[test->input_count] = (struct test_op_tensor){value, data};
    return test->input_count++;
}

uint32_t test_node_output(struct test_node *test, uint32_t height, uint32_t width, uint32_t channels,
                          enum hymn_storage storage) {
    uint32_t value = hymn_graph_add_value(&test->graph, "output", height, width, channels, storage);
    assert_int_not_equal(value, HYMN_NONE);
    assert_true(test->output_count < TEST_NODE_MAX);
    test->outputs[test->output_count] = (struct test_op_tensor){value, NULL};
    return test->output_count++;
}

float *test_node_array(struct test_node *test, struct test_random *random, size_t count, float low, float high) {
    assert_true(test->array_count < TEST_NODE_MAX);
    float *data = malloc(count * sizeof *data);
    assert_non_null(data);
    test_random_fill(random, data, count, low, high);
    return test->arrays[test->array_count++] = data;
}

double test_node_at(const struct test_node *test, uint32_t input, uint32_t image, int64_t y, int64_t x,
                    uint32_t channel) {
    const struct hymn_value *value = &test->graph.values[test->inputs[input].value];
    if (y < 0 || x < 0 || y >= (int64_t)value->height || x >= (int64_t)value->width) {
        return 0.0;
    }
    size_t pixel = ((size_t)image * value->height + (size_t)y) * value->width + (size_t)x;
    return test->inputs[input].data[pixel * value->channels + channel];
}

double test_node_resized(const struct test_node *test, uint32_t input, uint32_t image, int64_t y, int64_t x,
                         uint32_t channel) {
    const struct hymn_value *value = &test->graph.values[test->inputs[input].value];
    double sy = ((double)y + 0.5) / 2 - 0.5, sx = ((double)x + 0.5) / 2 - 0.5, sum = 0.0;
    for (uint32_t corner = 0; corner < 4; corner++) {
        int64_t at_y = (int64_t)floor(sy) + corner / 2, at_x = (int64_t)floor(sx) + corner % 2;
        double weight = (1.0 - fabs(sy - (double)at_y)) * (1.0 - fabs(sx - (double)at_x));
        at_y = at_y < 0 ? 0 : at_y >= value->height ? value->height - 1 : at_y;
        at_x = at_x < 0 ? 0 : at_x >= value->width ? value->width - 1 : at_x;
        sum += weight * test_node_at(test, input, image, at_y, at_x, channel);
    }
    return sum;
}

struct hymn_vk_plan test_node_plan(const struct hymn_context *context, uint32_t index) {
    struct hymn_vk_plan plan = context->device->plan;
    if (index > 0) {
        hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
    }
    if (index > 1) {
        plan.cpu = plan.weights_f32 = false;
        plan.target_lanes = 16384;
    }
    return plan;
}

void test_node_run(struct test_node *test, struct hymn_context *context, const struct hymn_vk_plan *plan,
                   uint32_t repeat, double *out_ms) {
    for (uint32_t i = 0; i < test->output_count; i++) {
        free(test->outputs[i].data);
        test->outputs[i].data = malloc(test_op_size(&test->graph, test->outputs[i].value) * sizeof(float));
        assert_non_null(test->outputs[i].data);
    }
    struct test_op_run run = {
        .context = context,
        .plan = plan,
        .graph = &test->graph,
        .inputs = test->inputs,
        .input_count = test->input_count,
        .outputs = test->outputs,
        .output_count = test->output_count,
        .repeat = repeat,
    };
    assert_true(test_op_run(&run, out_ms));
}

void test_node_compare(const struct test_node *test, uint32_t output, const double *expected, double tolerance,
                       const char *what) {
    size_t count = test_op_size(&test->graph, test->outputs[output].value);
    const struct hymn_value *value = &test->graph.values[test->outputs[output].value];
    // Near zero the steps of binary16 stay 2^-24: half of one is no error, and may be all there is of a single number.
    double rounding = value->storage == HYMN_STORAGE_F16 ? ldexp(1.0, -25) : 0.0, error = 0.0, power = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = test->outputs[output].data[i] - expected[i];
        error += difference * difference;
        power += expected[i] * expected[i];
    }
    // Not "error > ...": NaN must fail.
    if (!(error <= tolerance * power + (double)count * rounding * rounding)) {
        fail_msg("%s, %u images of %u x %u x %u, %s: NMSE %.2g", what, test->graph.batch, value->height, value->width,
                 value->channels, value->storage == HYMN_STORAGE_F16 ? "f16" : "f32", error / power);
    }
}

void test_node_check(struct test_node *test, struct hymn_context *context, double *expected, double tolerance,
                     const char *what) {
    for (uint32_t i = 0; i < TEST_NODE_PLANS; i++) {
        struct hymn_vk_plan plan = test_node_plan(context, i);
        test_node_run(test, context, &plan, 0, NULL);
        test_node_compare(test, 0, expected, tolerance, what);
    }
    free(expected);
    test_node_end(test);
}
