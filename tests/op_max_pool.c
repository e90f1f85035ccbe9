// SPDX-License-Identifier: MIT
//
// 2x2 max pooling against plain C. --bench times the encoder's.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

static void build(struct test_node *test, struct test_random *random, uint32_t batch, uint32_t height, uint32_t width,
                  uint32_t channels, uint32_t first, enum hymn_storage storage) {
    test_node_begin(test, HYMN_KIND_MAX_POOL, batch, storage);
    test_node_input(test, random, 2 * height, 2 * width, first + channels, storage, -3.0f, 3.0f);
    test_node_output(test, height, width, channels, storage);
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, first, channels};
    test->node->term_count = 1;
    test->node->output = test->outputs[0].value;
}

static double *reference(const struct test_node *test) {
    const struct hymn_value *value = &test->graph.values[test->outputs[0].value];
    size_t count = test_op_size(&test->graph, test->outputs[0].value);
    double *expected = malloc(count * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        size_t pixel = i / value->channels, x = pixel % value->width, y = pixel / value->width % value->height;
        expected[i] = -INFINITY;
        for (uint32_t tap = 0; tap < 4; tap++) {
            double from = test_node_at(test, 0, (uint32_t)(pixel / value->width / value->height),
                                       (int64_t)(2 * y + tap / 2), (int64_t)(2 * x + tap % 2),
                                       test->node->terms[0].source.first + (uint32_t)(i % value->channels));
            expected[i] = fmax(expected[i], from);
        }
    }
    return expected;
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_max_pool");
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t height = i < 2 ? 1 : test_random_range(&random, 1, 20);
        uint32_t width = i < 2 ? 1 : test_random_range(&random, 1, 40);
        struct test_node test;
        build(&test, &random, test_random_range(&random, 1, 3), height, width, test_random_range(&random, 1, 70),
              8 * test_random_range(&random, 0, 2), (enum hymn_storage)(i % 2));
        double *expected = reference(&test);
        test_node_check(&test, context, expected, 0.0, "max_pool");
    }
}

// More rows than a dispatch has workgroups in a dimension: they are folded into two.
static void test_many_rows(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_max_pool many rows");
    struct test_node test;
    build(&test, &random, 1, 65537, 1, 1, 0, HYMN_STORAGE_F16);
    double *expected = reference(&test);
    test_node_check(&test, context, expected, 0.0, "max_pool");
}

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t size = 128 >> i % 2, channels = 16 << i % 2;
        struct test_node test;
        build(&test, &random, 1, size, size, channels, 0, (enum hymn_storage)(i / 2));
        double ms = 0.0;
        test_node_run(&test, context, NULL, 20, &ms);
        printf("to %u x %u, %u channels, %s: %.3f ms\n", size, size, channels, i / 2 ? "f16" : "f32", ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_many_rows),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_max_pool", &context, tests, sizeof tests / sizeof *tests, bench});
}
