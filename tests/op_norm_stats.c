// SPDX-License-Identifier: MIT
//
// Norm statistics of pixels and of 2x2 cells against plain C in double precision. --bench times those of the tiny
// network.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

struct stats_case {
    uint32_t batch, height, width, channels, first, kernel;
    enum hymn_storage storage;
    float low, high;
};

static void build(struct test_node *test, struct test_random *random, const struct stats_case *c) {
    test_node_begin(test, HYMN_KIND_NORM_STATS, c->batch, c->storage);
    uint32_t behind = c->first && c->channels % 8 == 0 ? 8 : 0;
    test_node_input(test, random, c->kernel * c->height, c->kernel * c->width, c->first + c->channels + behind,
                    c->storage, c->low, c->high);
    test_node_output(test, c->height, c->width, 2, HYMN_STORAGE_F32);
    test->graph.values[test->outputs[0].value].stride = 2;
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, c->first, c->channels};
    test->node->terms[0].kernel = c->kernel;
    test->node->term_count = 1;
    test->node->output = test->outputs[0].value;
}

// Mean and 1 / sqrt(variance + 1e-5) of one output pixel.
static void reference_at(const struct test_node *test, const struct stats_case *c, size_t pixel, double *out) {
    uint32_t image = (uint32_t)(pixel / c->width / c->height), count = c->kernel * c->kernel * c->channels;
    int64_t y = (int64_t)(pixel / c->width % c->height), x = (int64_t)(pixel % c->width);
    double mean = 0.0, squares = 0.0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t tap = i / c->channels;
            double value = test_node_at(test, 0, image, c->kernel * y + tap / c->kernel,
                                        c->kernel * x + tap % c->kernel, c->first + i % c->channels);
            if (pass == 0) {
                mean += value / count;
            } else {
                squares += (value - mean) * (value - mean);
            }
        }
    }
    out[0] = mean;
    out[1] = 1.0 / sqrt(squares / count + 1e-5);
}

static void check(const struct stats_case *c, struct test_random *random) {
    struct test_node test;
    build(&test, random, c);
    size_t pixels = (size_t)c->batch * c->height * c->width;
    double *expected = malloc(2 * pixels * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < pixels; i++) {
        reference_at(&test, c, i, expected + 2 * i);
    }
    test_node_check(&test, context, expected, test_op_tolerance(HYMN_STORAGE_F32), "norm_stats");
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_norm_stats");
    for (uint32_t i = 0; i < 16; i++) {
        struct stats_case c = {
            .batch = test_random_range(&random, 1, 3),
            .height = test_random_range(&random, 1, 12),
            .width = test_random_range(&random, 1, 24),
            .channels = test_random_range(&random, 1, 300),
            .first = 8 * test_random_range(&random, 0, 2),
            .kernel = 1 + i / 2 % 2,
            .storage = (enum hymn_storage)(i % 2),
            .low = -3.0f,
            .high = 3.0f,
        };
        if (i < 4) {
            c.height = c.width = c.channels = 1;
        }
        check(&c, &random);
    }
}

// Where the mean is large against the deviations, the difference of squares would have no digits left.
static void test_large_mean(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_norm_stats large mean");
    struct stats_case c = {2, 5, 9, 130, 8, 1, HYMN_STORAGE_F32, 999.0f, 1001.0f};
    check(&c, &random);
    c.kernel = 2;
    check(&c, &random);
}

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t size = 64 >> i % 4 / 2, channels = 64 << i % 4 / 2, kernel = 1 + i % 2;
        struct stats_case c = {
            1, size, size, kernel == 2 ? channels / 2 : channels, 0, kernel, (enum hymn_storage)(i / 4), -1.0f, 1.0f};
        struct test_node test;
        build(&test, &random, &c);
        double ms = 0.0;
        test_node_run(&test, context, NULL, 20, &ms);
        printf("%u x %u, %u channels of %u pixels, %s: %.3f ms\n", size, size, c.channels, kernel * kernel,
               i / 4 ? "f16" : "f32", ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_large_mean),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_norm_stats", &context, tests, sizeof tests / sizeof *tests, bench});
}
