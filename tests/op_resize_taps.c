// SPDX-License-Identifier: MIT
//
// The sum of a 3x3 kernel's taps over a map that is resized after its products, against plain C in double precision.
// --bench times the decoder's, of the batch given.
#include <stdlib.h>
#include <string.h>

#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

// The input has 8 * before channels that are none of a map, the nine maps, and 8 * behind others.
static void build(struct test_node *test, struct test_random *random, uint32_t batch, uint32_t height, uint32_t width,
                  uint32_t channels, uint32_t before, uint32_t behind, enum hymn_storage storage) {
    test_node_begin(test, HYMN_KIND_RESIZE_TAPS, batch, storage);
    test_node_input(test, random, height, width, 8 * before + 9 * channels + 8 * behind, storage, -3.0f, 3.0f);
    test_node_output(test, 2 * height, 2 * width, channels, storage);
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, 8 * before, 9 * channels};
    test->node->term_count = 1;
    test->node->output = test->outputs[0].value;
}

static double *reference(const struct test_node *test) {
    const struct hymn_value *value = &test->graph.values[test->outputs[0].value];
    size_t count = test_op_size(&test->graph, test->outputs[0].value);
    double *expected = calloc(count, sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        size_t pixel = i / value->channels, row = pixel / value->width;
        uint32_t first = test->node->terms[0].source.first + (uint32_t)(i % value->channels);
        for (uint32_t tap = 0; tap < 9; tap++) {
            int64_t y = (int64_t)(row % value->height) + tap / 3 - 1, x = (int64_t)(pixel % value->width) + tap % 3 - 1;
            bool inside = y >= 0 && x >= 0 && y < value->height && x < value->width;
            expected[i] += inside ? test_node_resized(test, 0, (uint32_t)(row / value->height), y, x,
                                                      first + tap * value->channels)
                                  : 0.0;
        }
    }
    return expected;
}

// The channels of a map are whole cells, as the product before it pads them.
static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_resize_taps");
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t height = i < 2 ? 1 : test_random_range(&random, 1, 15);
        uint32_t width = i < 2 ? 1 : test_random_range(&random, 1, 30);
        enum hymn_storage storage = (enum hymn_storage)(i % 2);
        struct test_node test;
        build(&test, &random, test_random_range(&random, 1, 3), height, width, 8 * test_random_range(&random, 1, 4),
              test_random_range(&random, 0, 2), test_random_range(&random, 0, 1), storage);
        double *expected = reference(&test);
        test_node_check(&test, context, expected, test_op_tolerance(storage), "resize of taps");
    }
}

static int bench(int count, char **arguments) {
    const uint32_t batch = op_number(count, arguments, 1, 1);
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t size = 64 >> i % 3, channels = 64 << i % 3;
        struct test_node test;
        build(&test, &random, batch, size, size, channels, channels / 4, 0, (enum hymn_storage)(i / 3));
        double ms = 0.0;
        test_node_run(&test, context, NULL, 20, &ms);
        printf("from %u x %u, %u channels, batch %u, %s: %.4f ms\n", size, size, channels, batch, i / 3 ? "f16" : "f32",
               ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_resize_taps", &context, tests, sizeof tests / sizeof *tests, bench});
}
