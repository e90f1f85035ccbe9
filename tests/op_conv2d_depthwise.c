// SPDX-License-Identifier: MIT
//
// Products on matrix units that convolve the first part of what they compute in depth by themselves, on devices that
// have matrices: both outputs against double precision.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "ops/conv2d.h"
#include "ops/conv2d_matrix.h"
#include "support/op_main.h"
#include "support/test_conv.h"
#include "support/test_share.h"
#include "support/test_trial.h"

static struct hymn_context *context;

// A product, the convolution in depth of its first part, and what is expected of that.
struct pair {
    struct test_conv conv;
    uint32_t value; // the convolution's output
    float *weights, *bias, *result, *expected;
    enum hymn_activation activation;
};

static float *make_numbers(uint32_t count, struct test_random *random) {
    float *numbers = calloc(count, sizeof *numbers);
    assert_non_null(numbers);
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = hymn_half_to_float(hymn_half_from_float(test_random_float(random, -1.0f, 1.0f)));
    }
    return numbers;
}

// A product of what is convolved and of what that is made of.
static void add_reader(struct pair *pair) {
    struct hymn_graph *graph = &pair->conv.graph;
    const struct hymn_value output = graph->values[pair->conv.output.value];
    const uint32_t channels = pair->conv.shape.parts[0];
    uint32_t value = hymn_graph_add_value(graph, "both", output.height, output.width, channels, output.storage);
    struct hymn_node *node = hymn_graph_add_node(graph, HYMN_KIND_CONV2D, "reader");
    assert_true(value != HYMN_NONE && node);
    node->terms[0].source = (struct hymn_source){pair->value, 0, channels};
    node->terms[1].source = (struct hymn_source){pair->conv.output.value, 0, channels};
    node->term_count = 2;
    node->out_channels = node->parts[0] = channels;
    node->part_count = 1;
    node->output = graph->output = value;
}

// Lets the graph find that the second node convolves a part of the first one's output. read: a third reads that too.
static void build(struct pair *pair, const struct test_conv_case *shape, bool read, struct test_random *random) {
    static const struct hymn_log quiet;
    struct test_conv *b = &pair->conv;
    test_conv_build(b, shape, random);
    const uint32_t channels = shape->parts[0];
    const struct hymn_value output = b->graph.values[b->output.value];
    pair->weights = make_numbers(9 * channels, random);
    pair->bias = make_numbers(channels, random);
    pair->activation = test_random_range(random, 0, 2);
    pair->value = hymn_graph_add_value(&b->graph, "convolved", output.height, output.width, channels, output.storage);
    assert_int_not_equal(pair->value, HYMN_NONE);
    struct hymn_node *node = hymn_graph_add_node(&b->graph, HYMN_KIND_DEPTHWISE, "depthwise");
    assert_non_null(node);
    node->terms[0] = (struct hymn_term){{b->output.value, 0, channels}, 3, pair->weights};
    node->term_count = 1;
    node->bias = pair->bias;
    node->activation = pair->activation;
    node->output = b->graph.output = pair->value;
    if (read) {
        add_reader(pair);
    }
    assert_int_equal(hymn_graph_optimize(&b->graph, &quiet), HYMN_STATUS_OK);
    b->node = b->graph.nodes;
    assert_int_equal(b->node->depthwise, read ? HYMN_NONE : pair->value);
    pair->result = calloc(test_op_size(&b->graph, pair->value), sizeof *pair->result);
    pair->expected = calloc(test_op_size(&b->graph, pair->value), sizeof *pair->expected);
    assert_true(pair->result && pair->expected);
}

static void destroy(struct pair *pair) {
    free(pair->weights);
    free(pair->bias);
    free(pair->result);
    free(pair->expected);
    test_conv_destroy(&pair->conv);
}

static double activate(enum hymn_activation activation, double v) {
    return activation == HYMN_ACTIVATION_SILU   ? v / (1.0 + exp(-v))
           : activation == HYMN_ACTIVATION_RELU ? fmax(v, 0)
                                                : v;
}

// In double precision, of the product's output as binary16 has it.
static void expect(struct pair *pair, const float *product) {
    const struct hymn_value *v = &pair->conv.graph.values[pair->conv.output.value];
    const uint32_t channels = pair->conv.shape.parts[0];
    for (size_t i = 0; i < test_op_size(&pair->conv.graph, pair->value); i++) {
        uint32_t c = (uint32_t)(i % channels), x = (uint32_t)(i / channels % v->width);
        uint32_t row = (uint32_t)(i / channels / v->width), y = row % v->height;
        double sum = pair->bias[c];
        for (uint32_t tap = 0; tap < 9; tap++) {
            int64_t py = (int64_t)y + tap / 3 - 1, px = (int64_t)x + tap % 3 - 1;
            if (py >= 0 && px >= 0 && py < v->height && px < v->width) {
                size_t at = ((row - y + (size_t)py) * v->width + (size_t)px) * v->channels + c;
                sum +=
                    (double)pair->weights[tap * channels + c] * hymn_half_to_float(hymn_half_from_float(product[at]));
            }
        }
        pair->expected[i] = (float)activate(pair->activation, sum);
    }
}

static bool run(struct pair *pair, const struct hymn_vk_plan *plan) {
    const struct test_op_tensor outputs[] = {pair->conv.output, {pair->value, pair->result}};
    struct test_op_run op = {.context = context,
                             .plan = plan,
                             .graph = &pair->conv.graph,
                             .inputs = pair->conv.inputs,
                             .input_count = pair->conv.input_count,
                             .outputs = outputs,
                             .output_count = 2,
                             .repeat = 1};
    return test_op_run(&op, NULL);
}

// Of the product's second part, and where both are stored of all of it.
static void require_product(const struct pair *pair, const float *expected, bool whole) {
    const struct hymn_value *v = &pair->conv.graph.values[pair->conv.output.value];
    const uint32_t first = whole ? 0 : pair->conv.shape.parts[0], count = v->channels - first;
    const size_t pixels = test_op_size(&pair->conv.graph, pair->conv.output.value) / v->channels;
    float *wanted = calloc(pixels * count, sizeof *wanted), *got = calloc(pixels * count, sizeof *got);
    assert_true(wanted && got);
    for (size_t i = 0; i < pixels; i++) {
        memcpy(wanted + i * count, expected + i * v->channels + first, count * sizeof *wanted);
        memcpy(got + i * count, pair->conv.output.data + i * v->channels + first, count * sizeof *got);
    }
    assert_true(test_op_nmse(wanted, got, pixels * count) <= test_op_tolerance(HYMN_STORAGE_F16));
    free(wanted);
    free(got);
}

static uint64_t count_macs(const struct hymn_graph *graph) {
    uint64_t macs = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        macs += hymn_node_macs(graph, &graph->nodes[i]);
    }
    return macs;
}

// Runs the case with the tile, which must be valid, and compares. convolves: whether the product is to convolve by
// itself.
static void check(const struct test_conv_case *shape, const struct hymn_conv2d_tile *tile, bool convolves,
                  struct test_random *random) {
    if (test_share_leaves_out_of(convolves ? "conv2d_matrix_depthwise" : "another")) {
        return;
    }
    struct pair pair;
    build(&pair, shape, false, random);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.unrolled_ends = test_random_range(random, 0, 1);
    float *expected = test_conv_reference(&pair.conv);
    expect(&pair, expected);
    const uint64_t macs = count_macs(&pair.conv.graph);
    hymn_conv2d_matrix_force(tile);
    assert_true(hymn_conv2d_matrix_fits(&pair.conv.graph, pair.conv.node, &plan));
    bool ok = run(&pair, &plan);
    hymn_conv2d_matrix_force(NULL);
    assert_true(ok);
    assert_int_equal(pair.conv.graph.node_count, convolves ? 1 : 2);
    assert_int_equal(count_macs(&pair.conv.graph), macs); // whoever does them
    double nmse = test_op_nmse(pair.expected, pair.result, test_op_size(&pair.conv.graph, pair.value));
    if (!(nmse <= test_op_tolerance(HYMN_STORAGE_F16))) {
        test_conv_print(shape, "depthwise");
        print_error("  NMSE %g\n", nmse);
        fail();
    }
    require_product(&pair, expected, !convolves);
    free(expected);
    destroy(&pair);
}

static struct hymn_conv2d_tile make_tile(uint32_t width, uint32_t height, uint32_t rows, uint32_t buffers) {
    struct hymn_vk_matrix matrix = test_conv_matrix_plan(context).matrix;
    uint32_t depth = matrix.k / 8;
    return (struct hymn_conv2d_tile){.width = width * matrix.m,
                                     .height = height,
                                     .channels = 2 * matrix.n,
                                     .rows = rows,
                                     .columns = 2,
                                     .taps = 1,
                                     .depth = depth < 2 ? 2 : depth,
                                     .buffers = buffers,
                                     .splits = 1};
}

// Maps of less than a tile, of some, and of one by one pixel.
static struct test_conv_case make_case(struct test_random *random, uint32_t channels) {
    struct test_conv_case c = {.height = test_random_range(random, 1, 13),
                               .width = test_random_range(random, 1, 40),
                               .batch = test_random_range(random, 1, 3),
                               .term_count = 1,
                               .kernels = {1},
                               .channels = {test_random_range(random, 1, 70)},
                               .first = {8 * test_random_range(random, 0, 2)},
                               .sources = {HYMN_STORAGE_F16},
                               .parts = {channels * test_random_range(random, 1, 2), test_random_range(random, 1, 50)},
                               .part_count = 2,
                               .bias = true,
                               .output = HYMN_STORAGE_F16,
                               .extra = HYMN_STORAGE_F16};
    if (test_random_range(random, 0, 1)) {
        c.prologue = HYMN_PROLOGUE_NORM;
        c.mean = 3.0f;
    }
    return c;
}

static void skip_without_matrices(void) {
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    if (!hymn_variant_allowed(&plan, "conv2d_matrix_depthwise", NULL)) {
        print_message("no cooperative matrices of a shape that fits\n");
        skip();
    }
}

static void test_shapes(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_depthwise shapes");
    const struct hymn_conv2d_tile tiles[] = {make_tile(1, 4, 2, 1), make_tile(2, 3, 1, 2)};
    for (uint32_t round = 0; round < 8; round++) {
        const struct hymn_conv2d_tile *tile = &tiles[round % 2];
        struct test_conv_case c = make_case(&random, tile->channels);
        if (round < 6) { // of one pixel, of what a tile has beside its margin, and of one more
            c.width = round < 2 ? 1 : tile->width - 2 + round / 4;
            c.height = round < 2 ? 1 : tile->height - 2 + round / 4;
        }
        check(&c, tile, true, &random);
    }
}

// Another node needs what is convolved as it was.
static void test_other_reader(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_depthwise other reader");
    struct test_conv_case c = make_case(&random, 16);
    struct pair pair;
    build(&pair, &c, true, &random);
    assert_int_equal(pair.conv.graph.node_count, 3);
    destroy(&pair);
}

// Where a tile has no room for a margin, where the parts do not end with one, where the product has an activation.
static void test_left_alone(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_depthwise left alone");
    const struct hymn_conv2d_tile flat = make_tile(1, 2, 2, 1), high = make_tile(1, 4, 2, 1);
    struct test_conv_case c = make_case(&random, flat.channels);
    check(&c, &flat, false, &random);
    c = make_case(&random, high.channels);
    c.parts[0] += 8;
    check(&c, &high, false, &random);
    c = make_case(&random, high.channels);
    c.activation = test_random_range(&random, 1, 2);
    check(&c, &high, false, &random);
}

// Tuning compares the second part and what is convolved of the first, whoever does that, but not the first part, which
// is not stored where the product convolves.
static void test_trials(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_depthwise trials");
    const struct hymn_conv2d_tile flat = make_tile(1, 1, 1, 1), high = make_tile(1, 4, 2, 1);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.cpu = false; // or the kernel's special forms are left out
    struct test_conv_case c = make_case(&random, high.channels);
    struct pair pair;
    build(&pair, &c, false, &random);
    struct hymn_trial apart, whole;
    uint8_t *expected = test_trial_try(context, &pair.conv, &plan, &flat, 2, &apart);
    uint8_t *output = test_trial_try(context, &pair.conv, &plan, &high, 1, &whole);
    assert_true(hymn_trial_agrees(&whole, output, expected));
    uint64_t stride = pair.conv.graph.values[pair.conv.output.value].stride;
    uint64_t size = 2 * (uint64_t)c.batch * c.height * c.width * stride;
    const uint64_t places[] = {2 * c.parts[0] + 1, size + 1}; // of the second part, of what is convolved
    for (uint32_t i = 0; i < 2; i++) {
        output[places[i]] ^= 0x7C;
        assert_false(hymn_trial_agrees(&whole, output, expected));
        output[places[i]] ^= 0x7C;
    }
    output[1] ^= 0x7C; // of the first part
    assert_true(hymn_trial_agrees(&whole, output, expected));
    hymn_free(expected);
    hymn_free(output);
    hymn_trial_close(context->device, &apart);
    hymn_trial_close(context->device, &whole);
    destroy(&pair);
}

// Dispatches that the rule makes of a product of 512 channels, half of them convolved, on such a device.
static uint32_t count_by_rule(const struct hymn_vk_plan *plan, uint32_t size, uint32_t batch) {
    static const struct hymn_log quiet;
    struct test_random random = {7};
    struct test_conv_case c = make_case(&random, 16);
    c.height = c.width = size;
    c.batch = batch;
    c.channels[0] = 128, c.first[0] = 0;
    c.parts[0] = c.parts[1] = 256;
    struct pair pair;
    build(&pair, &c, false, &random);
    const struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&pair.conv.graph, pair.conv.node, plan);
    assert_true(hymn_conv2d_matrix_valid(&pair.conv.graph, pair.conv.node, plan, &tile));
    assert_int_equal(hymn_ops_prepare(&pair.conv.graph, plan, &quiet), HYMN_STATUS_OK);
    const uint32_t count = pair.conv.graph.node_count;
    destroy(&pair);
    return count;
}

// One dispatch where there are few tiles, on GPUs with matrices of whatever shape and with little shared memory too;
// two where there are many, and where the kernel was found wrong.
static void test_rule(void **state) {
    (void)state;
    static const struct hymn_vk_matrix shapes[] = {{16, 16, 16, 0}, {8, 8, 16, 0}, {32, 8, 16, 0}};
    for (uint32_t i = 0; i < 6; i++) {
        struct hymn_vk_plan plan = context->device->plan;
        plan.needs_met |= HYMN_NEEDS_STORAGE_16BIT | HYMN_NEEDS_FLOAT16 | HYMN_NEEDS_COOPERATIVE_MATRIX |
                          HYMN_NEEDS_HALF_SUMS | HYMN_NEEDS_BUFFERS;
        plan.cpu = plan.weights_f32 = false;
        plan.matrix = shapes[i / 2];
        plan.subgroup_size = 32;
        plan.max_invocations = 1024;
        plan.max_shared_bytes = i % 2 ? 32768 : 49152;
        plan.target_lanes = 131072;                                   // of discrete GPUs
        assert_int_equal(count_by_rule(&plan, 16, 1), i < 5 ? 1 : 2); // the widest, which have no room in so little
        assert_int_equal(count_by_rule(&plan, 64, 8), 2);
        hymn_vk_plan_demote(&plan, hymn_shader_find("conv2d_matrix_depthwise"), true);
        assert_int_equal(count_by_rule(&plan, 16, 1), 2);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_other_reader), cmocka_unit_test(test_shapes),
                                       cmocka_unit_test(test_left_alone), cmocka_unit_test(test_trials),
                                       cmocka_unit_test(test_rule)};
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_depthwise", &context, tests, sizeof tests / sizeof *tests, NULL});
}
