// SPDX-License-Identifier: MIT
//
// The merge of a scan's directions, and its statistics, against plain C in double precision. --bench times those of the
// tiny network.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/params.h"
#include "support/test_context.h"
#include "support/test_node.h"

static struct hymn_context *context;

struct merge_case {
    uint32_t batch, height, width, channels;
    enum hymn_storage storage;
    bool small; // so that epsilon counts
};

static void build(struct test_node *test, struct test_random *random, const struct merge_case *c) {
    float reach = c->small ? 0.01f : 3.0f;
    test_node_begin(test, HYMN_KIND_MERGE, c->batch, c->storage);
    // Four planes are four times the images.
    test->graph.batch = 4 * c->batch;
    test_node_input(test, random, c->height, c->width, c->channels, c->storage, -reach, reach);
    test->graph.batch = c->batch;
    test->graph.values[test->inputs[0].value].planes = 4;
    test_node_output(test, c->height, c->width, c->channels, c->storage);
    test_node_output(test, c->height, c->width, 2, HYMN_STORAGE_F32);
    test->graph.values[test->outputs[1].value].stride = 2;
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, 0, c->channels};
    test->node->term_count = 1;
    test->node->output = test->outputs[0].value;
    test->node->stats = test->outputs[1].value;
}

static void reference(const struct test_node *test, const struct merge_case *c, double *sums, double *stats) {
    size_t pixels = (size_t)c->batch * c->height * c->width, plane = pixels * c->channels;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        double mean = 0.0, squares = 0.0;
        double *sum = sums + pixel * c->channels;
        for (uint32_t i = 0; i < c->channels; i++) {
            const float *from = test->inputs[0].data + pixel * c->channels + i;
            sum[i] = (double)from[0] + from[plane] + from[2 * plane] + from[3 * plane];
            mean += sum[i] / c->channels;
        }
        for (uint32_t i = 0; i < c->channels; i++) {
            squares += (sum[i] - mean) * (sum[i] - mean);
        }
        stats[2 * pixel] = mean;
        double unit = c->storage == HYMN_STORAGE_F16 ? HYMN_SCAN_UNIT : 1.0;
        stats[2 * pixel + 1] = 1.0 / sqrt(squares / c->channels + 1e-5 / (unit * unit));
    }
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge");
    for (uint32_t i = 0; i < 12; i++) {
        struct merge_case c = {
            .batch = test_random_range(&random, 1, 3),
            .height = i < 2 ? 1 : test_random_range(&random, 1, 12),
            .width = i < 2 ? 1 : test_random_range(&random, 1, 24),
            .channels = i < 2 ? 1 : test_random_range(&random, 1, 300),
            .storage = (enum hymn_storage)(i % 2),
            .small = i % 4 > 1,
        };
        struct test_node test;
        build(&test, &random, &c);
        size_t pixels = (size_t)c.batch * c.height * c.width;
        double *sums = malloc(pixels * c.channels * sizeof *sums), *stats = malloc(2 * pixels * sizeof *stats);
        assert_non_null(sums);
        assert_non_null(stats);
        reference(&test, &c, sums, stats);
        for (uint32_t p = 0; p < TEST_NODE_PLANS; p++) {
            struct hymn_vk_plan plan = test_node_plan(context, p);
            test_node_run(&test, context, &plan, 0, NULL);
            test_node_compare(&test, 0, sums, test_op_tolerance(c.storage), "merge");
            test_node_compare(&test, 1, stats, test_op_tolerance(HYMN_STORAGE_F32), "statistics of merge");
        }
        free(sums);
        free(stats);
        test_node_end(&test);
    }
}

static int bench(void) {
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t size = 64 >> i % 3, channels = 128 << i % 3;
        struct merge_case c = {1, size, size, channels, (enum hymn_storage)(i / 3), false};
        struct test_node test;
        build(&test, &random, &c);
        double ms = 0.0;
        test_node_run(&test, context, NULL, 20, &ms);
        printf("%u x %u, %u channels, %s: %.3f ms\n", size, size, channels, i / 3 ? "f16" : "f32", ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    context = test_context_open();
    if (!context) {
        return 1;
    }
    int failed;
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        failed = bench();
    } else {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_shapes),
        };
        failed = cmocka_run_group_tests_name("op_merge", tests, NULL, NULL);
    }
    return test_context_close(&context) != 0 || failed;
}
