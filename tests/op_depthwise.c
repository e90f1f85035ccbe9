// SPDX-License-Identifier: MIT
//
// The depthwise 3x3 convolution against plain C in double precision. --bench [BATCH] times those of base.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

struct depthwise_case {
    uint32_t batch, height, width, channels, first;
    enum hymn_storage storage;
    enum hymn_activation activation;
};

static double expected_at(const struct test_node *test, const struct depthwise_case *c, uint32_t image, uint32_t y,
                          uint32_t x, uint32_t channel) {
    double sum = test->node->bias[channel];
    for (uint32_t tap = 0; tap < 9; tap++) {
        double value =
            test_node_at(test, 0, image, (int64_t)y + tap / 3 - 1, (int64_t)x + tap % 3 - 1, c->first + channel);
        sum += value * test->node->terms[0].weights[tap * c->channels + channel];
    }
    switch (c->activation) {
    case HYMN_ACTIVATION_RELU:
        return sum > 0.0 ? sum : 0.0;
    case HYMN_ACTIVATION_SILU:
        return sum / (1.0 + exp(-sum));
    case HYMN_ACTIVATION_NONE:
        break;
    }
    return sum;
}

static void build(struct test_node *test, const struct depthwise_case *c, struct test_random *random) {
    test_node_begin(test, HYMN_KIND_DEPTHWISE, c->batch, c->storage);
    // More channels before and behind the slice that is read.
    uint32_t behind = c->first && c->channels % 8 == 0 ? 8 : 0;
    test_node_input(test, random, c->height, c->width, c->first + c->channels + behind, c->storage, -3.0f, 3.0f);
    test_node_output(test, c->height, c->width, c->channels, c->storage);
    struct hymn_node *node = test->node;
    node->terms[0].source = (struct hymn_source){test->inputs[0].value, c->first, c->channels};
    node->terms[0].kernel = 3;
    node->terms[0].weights = test_node_array(test, random, (size_t)9 * c->channels, -1.0f, 1.0f);
    // A sum that is all there is must not be next to nothing, where the errors of its terms are large beside it.
    const float least = c->channels == 1 ? 4.0f : -1.0f;
    node->bias = test_node_array(test, random, c->channels, least, least + 2.0f);
    node->term_count = 1;
    node->activation = c->activation;
    node->output = test->outputs[0].value;
}

static void check(const struct depthwise_case *c, struct test_random *random) {
    struct test_node test;
    build(&test, c, random);
    size_t count = test_op_size(&test.graph, test.outputs[0].value);
    double *expected = malloc(count * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        size_t pixel = i / c->channels;
        expected[i] =
            expected_at(&test, c, (uint32_t)(pixel / c->width / c->height), (uint32_t)(pixel / c->width % c->height),
                        (uint32_t)(pixel % c->width), (uint32_t)(i % c->channels));
    }
    for (uint32_t i = 0; i < TEST_NODE_PLANS; i++) {
        struct hymn_vk_plan plan = test_node_plan(context, i);
        if (!plan.cpu && test_random_range(random, 0, 1)) {
            plan.target_lanes = 1; // so that lanes have long strips
        }
        test_node_run(&test, context, &plan, 0, NULL);
        test_node_compare(&test, 0, expected, test_op_tolerance(c->storage), "depthwise");
    }
    free(expected);
    test_node_end(&test);
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_depthwise");
    for (uint32_t i = 0; i < 16; i++) {
        struct depthwise_case c = {
            .batch = test_random_range(&random, 1, 3),
            .height = test_random_range(&random, 1, 20),
            .width = test_random_range(&random, 1, 40),
            .channels = test_random_range(&random, 1, 70),
            .first = 8 * test_random_range(&random, 0, 2),
            .storage = (enum hymn_storage)(i % 2),
            .activation = (enum hymn_activation)(i / 2 % 3),
        };
        if (i < 2) {
            c.height = c.width = c.channels = 1;
        }
        check(&c, &random);
    }
}

// Lanes have four pixels where so many of them are left that they fill a part of the device, else two.
static void test_strips(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_depthwise strips");
    const struct depthwise_case c = {.batch = 1, .height = 6, .width = 9, .channels = 16};
    for (uint32_t i = 0; i < 3; i++) {
        struct test_node test;
        build(&test, &c, &random);
        struct hymn_vk_plan plan = test_node_plan(context, 0);
        plan.cpu = i == 2;
        plan.target_lanes = 4 * 6 * 3 * 2 + (i > 0 ? 1 : 0); // four times the lanes with four pixels
        struct hymn_lower lower = {.graph = &test.graph, .plan = &plan, .log = &context->device->log};
        assert_int_equal(hymn_graph_plan_memory(&test.graph, false, lower.log), HYMN_STATUS_OK);
        assert_int_equal(hymn_ops_lower(&lower), HYMN_STATUS_OK);
        assert_int_equal(lower.program.steps[0].constants[2], i == 1 ? 2 : 4);
        hymn_lower_free(&lower);
        test_node_end(&test);
    }
}

static int bench(int count, char **arguments) {
    const uint32_t batch = op_number(count, arguments, 1, 1);
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t size = 64 >> i % 3, channels = 256 << i % 3;
        struct depthwise_case c = {batch, size, size, channels, 0, (enum hymn_storage)(i / 3), HYMN_ACTIVATION_SILU};
        struct test_node test;
        build(&test, &c, &random);
        double ms = 0.0;
        test_node_run(&test, context, NULL, 100, &ms);
        printf("%u x %u, %u channels, %s: %.3f ms\n", size, size, channels, i / 3 ? "f16" : "f32", ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_strips),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_depthwise", &context, tests, sizeof tests / sizeof *tests, bench});
}
