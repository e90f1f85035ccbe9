// SPDX-License-Identifier: MIT
//
// The merge of a scan's directions, with its norm and gate, against plain C in double precision. --bench times those of
// the tiny network.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/params.h"
#include "support/op_main.h"
#include "support/test_node.h"

static struct hymn_context *context;

struct merge_case {
    uint32_t batch, height, width, channels, first; // first: of z in its tensor
    enum hymn_storage storage;
    float low, high; // of each plane
    float z_low, z_high;
};

static void build(struct test_node *test, struct test_random *random, const struct merge_case *c) {
    test_node_begin(test, HYMN_KIND_MERGE, c->batch, c->storage);
    // Four planes are four times the images.
    test->graph.batch = 4 * c->batch;
    test_node_input(test, random, c->height, c->width, c->channels, c->storage, c->low, c->high);
    test->graph.batch = c->batch;
    test->graph.values[test->inputs[0].value].planes = 4;
    uint32_t behind = c->first && c->channels % 8 == 0 ? 8 : 0;
    test_node_input(test, random, c->height, c->width, c->first + c->channels + behind, c->storage, c->z_low,
                    c->z_high);
    test_node_output(test, c->height, c->width, c->channels, c->storage);
    test->node->terms[0].source = (struct hymn_source){test->inputs[0].value, 0, c->channels};
    test->node->terms[1].source = (struct hymn_source){test->inputs[1].value, c->first, c->channels};
    test->node->term_count = 2;
    test->node->gamma = test_node_array(test, random, c->channels, -1.5f, 1.5f);
    test->node->beta = test_node_array(test, random, c->channels, -1.0f, 1.0f);
    test->node->output = test->outputs[0].value;
}

// The sum of the planes in their unit.
static double sum_at(const struct test_node *test, const struct merge_case *c, size_t pixel, uint32_t channel) {
    size_t plane = (size_t)c->batch * c->height * c->width * c->channels;
    const float *from = test->inputs[0].data + pixel * c->channels + channel;
    return (double)from[0] + from[plane] + from[2 * plane] + from[3 * plane];
}

static void reference_at(const struct test_node *test, const struct merge_case *c, size_t pixel, double *out) {
    uint32_t image = (uint32_t)(pixel / c->width / c->height);
    int64_t y = (int64_t)(pixel / c->width % c->height), x = (int64_t)(pixel % c->width);
    double mean = 0.0, squares = 0.0, unit = c->storage == HYMN_STORAGE_F16 ? HYMN_SCAN_UNIT : 1.0;
    for (uint32_t i = 0; i < c->channels; i++) {
        mean += sum_at(test, c, pixel, i) / c->channels;
    }
    for (uint32_t i = 0; i < c->channels; i++) {
        double deviation = sum_at(test, c, pixel, i) - mean;
        squares += deviation * deviation;
    }
    for (uint32_t i = 0; i < c->channels; i++) {
        double normed = unit * (sum_at(test, c, pixel, i) - mean) / sqrt(unit * unit * squares / c->channels + 1e-5);
        double z = test_node_at(test, 1, image, y, x, c->first + i);
        double value = (normed * test->node->gamma[i] + test->node->beta[i]) * z / (1.0 + exp(-z));
        out[i] = c->storage == HYMN_STORAGE_F16 ? fmax(fmin(value, 65504.0), -65504.0) : value;
    }
}

static void check(const struct merge_case *c, struct test_random *random) {
    struct test_node test;
    build(&test, random, c);
    size_t pixels = (size_t)c->batch * c->height * c->width;
    double *expected = malloc(pixels * c->channels * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < pixels; i++) {
        reference_at(&test, c, i, expected + i * c->channels);
    }
    test_node_check(&test, context, expected, test_op_tolerance(c->storage), "merge");
}

static struct merge_case random_case(struct test_random *random, enum hymn_storage storage) {
    return (struct merge_case){
        .batch = test_random_range(random, 1, 3),
        .height = test_random_range(random, 1, 12),
        .width = test_random_range(random, 1, 24),
        .channels = test_random_range(random, 1, 300),
        .first = 8 * test_random_range(random, 0, 2),
        .storage = storage,
        .low = -3.0f,
        .high = 3.0f,
        .z_low = -4.0f,
        .z_high = 4.0f,
    };
}

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge");
    for (uint32_t i = 0; i < 12; i++) {
        struct merge_case c = random_case(&random, (enum hymn_storage)(i % 2));
        if (i < 2) {
            c.height = c.width = c.channels = 1;
        }
        check(&c, &random);
    }
}

// From one cell a lane to more than a lane keeps.
static void test_channels(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge channels");
    static const uint32_t channels[] = {256, 257, 600, 1001, 1024, 1025, 3001};
    for (uint32_t i = 0; i < 2 * sizeof channels / sizeof *channels; i++) {
        struct merge_case c = random_case(&random, (enum hymn_storage)(i % 2));
        c.channels = channels[i / 2];
        c.batch = 1;
        c.height = test_random_range(&random, 1, 3);
        check(&c, &random);
    }
}

// Where epsilon counts: deviations of its square root's size (in f16 of the unit's part of that), and none at all.
static void test_small_variance(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge small variance");
    for (uint32_t i = 0; i < 4; i++) {
        struct merge_case c = random_case(&random, (enum hymn_storage)(i % 2));
        c.high = c.storage == HYMN_STORAGE_F16 ? 2e-5f : 2e-3f;
        c.low = i < 2 ? -c.high : c.high;
        check(&c, &random);
    }
}

// Where the mean is large against the deviations, the difference of squares would have no digits left.
static void test_large_mean(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge large mean");
    for (uint32_t i = 0; i < 4; i++) {
        struct merge_case c = random_case(&random, (enum hymn_storage)(i % 2));
        c.channels += 100;
        float mean = c.storage == HYMN_STORAGE_F16 ? 100.0f : 10.0f; // f32's own rounding of the mean shows beyond
        c.low = (i < 2 ? mean : -mean) - 1.0f;
        c.high = c.low + 2.0f;
        check(&c, &random);
    }
}

// Planes and gates at the ends of binary16, and gates that are all but shut.
static void test_large_values(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_merge large values");
    for (uint32_t i = 0; i < 6; i++) {
        struct merge_case c = random_case(&random, (enum hymn_storage)(i % 2));
        if (i < 2) {
            c.high = 65504.0f;
            c.low = -c.high;
        } else if (i < 4) {
            c.z_high = 65504.0f;
            c.z_low = -c.z_high;
        } else {
            c.storage = HYMN_STORAGE_F32;
            c.z_low = i == 4 ? -40.0f : -78.0f;
            c.z_high = c.z_low + 20.0f;
        }
        check(&c, &random);
    }
}

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t size = 64 >> i % 3, channels = 128 << i % 3;
        struct merge_case c = {1, size, size, channels, channels, (enum hymn_storage)(i / 3), -3.0f, 3.0f, -4.0f, 4.0f};
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),     cmocka_unit_test(test_channels),     cmocka_unit_test(test_small_variance),
        cmocka_unit_test(test_large_mean), cmocka_unit_test(test_large_values),
    };
    return op_main(argc, argv, &(struct op_program){"op_merge", &context, tests, sizeof tests / sizeof *tests, bench});
}
