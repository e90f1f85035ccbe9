// SPDX-License-Identifier: MIT
//
// The gated skip e * sigmoid(resize(g)) + e against plain C in double precision. --bench times the decoder's.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

struct gate_case {
    uint32_t batch, height, width, channels; // height, width: of the gate
    uint32_t gate_first, e_first;
    enum hymn_storage storage;
};

static void build(struct test_node *test, struct test_random *random, const struct gate_case *c) {
    test_node_begin(test, HYMN_KIND_GATE, c->batch, c->storage);
    test_node_input(test, random, 2 * c->height, 2 * c->width, c->e_first + c->channels, c->storage, -3.0f, 3.0f);
    // The gate's channels are followed by those of a shortcut.
    test_node_input(test, random, c->height, c->width, c->gate_first + hymn_round_up(c->channels, 8) + 8, c->storage,
                    -9.0f, 9.0f);
    test_node_output(test, 2 * c->height, 2 * c->width, c->channels, c->storage);
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, c->e_first, c->channels};
    test->node->terms[1].source = (struct hymn_source){test->inputs[1].value, c->gate_first, c->channels};
    test->node->term_count = 2;
    test->node->output = test->outputs[0].value;
}

static double *reference(const struct test_node *test, const struct gate_case *c) {
    size_t count = test_op_size(&test->graph, test->outputs[0].value);
    double *expected = malloc(count * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        size_t pixel = i / c->channels, row = pixel / (2 * c->width);
        uint32_t image = (uint32_t)(row / (2 * c->height)), y = (uint32_t)(row % (2 * c->height));
        uint32_t x = (uint32_t)(pixel % (2 * c->width)), channel = (uint32_t)(i % c->channels);
        double e = test_node_at(test, 0, image, y, x, c->e_first + channel);
        expected[i] = e / (1.0 + exp(-test_node_resized(test, 1, image, y, x, c->gate_first + channel))) + e;
    }
    return expected;
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_gate");
    for (uint32_t i = 0; i < 12; i++) {
        struct gate_case c = {
            .batch = test_random_range(&random, 1, 3),
            .height = i < 2 ? 1 : test_random_range(&random, 1, 15),
            .width = i < 2 ? 1 : test_random_range(&random, 1, 30),
            .channels = test_random_range(&random, 1, 70),
            .gate_first = 8 * test_random_range(&random, 0, 2),
            .e_first = 8 * test_random_range(&random, 0, 2),
            .storage = (enum hymn_storage)(i % 2),
        };
        struct test_node test;
        build(&test, &random, &c);
        double *expected = reference(&test, &c);
        test_node_check(&test, context, expected, test_op_tolerance(c.storage), "gate");
    }
}

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t size = 128 >> i % 4, channels = 16 << i % 4;
        struct gate_case c = {1, size, size, channels, 0, 0, (enum hymn_storage)(i / 4)};
        struct test_node test;
        build(&test, &random, &c);
        double ms = 0.0;
        test_node_run(&test, context, NULL, 20, &ms);
        printf("from %u x %u, %u channels, %s: %.3f ms\n", size, size, channels, i / 4 ? "f16" : "f32", ms);
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
    };
    return op_main(argc, argv, &(struct op_program){"op_gate", &context, tests, sizeof tests / sizeof *tests, bench});
}
