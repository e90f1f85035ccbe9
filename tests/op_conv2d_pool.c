// SPDX-License-Identifier: MIT
//
// Convolutions on matrix units that pool what they compute by themselves, on devices that have matrices: the output
// against double precision, and what is pooled against the output, bit for bit.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d.h"
#include "ops/conv2d_matrix.h"
#include "support/op_main.h"
#include "support/test_conv.h"
#include "support/test_share.h"
#include "support/test_trial.h"

static struct hymn_context *context;

// Adds the node that pools the convolution's output, and lets the graph find that it does.
static uint32_t add_pool(struct test_conv *b) {
    static const struct hymn_log quiet;
    const struct hymn_value output = b->graph.values[b->output.value];
    uint32_t pooled =
        hymn_graph_add_value(&b->graph, "pooled", output.height / 2, output.width / 2, output.channels, output.storage);
    assert_int_not_equal(pooled, HYMN_NONE);
    struct hymn_node *pool = hymn_graph_add_node(&b->graph, HYMN_KIND_MAX_POOL, "pool");
    assert_non_null(pool);
    pool->terms[0].source = (struct hymn_source){b->output.value, 0, output.channels};
    pool->term_count = 1;
    pool->output = pooled;
    b->graph.output = pooled;
    assert_int_equal(hymn_graph_optimize(&b->graph, &quiet), HYMN_STATUS_OK);
    b->node = b->graph.nodes;
    assert_int_equal(b->node->pool, pooled);
    return pooled;
}

static bool run(struct test_conv *b, const struct hymn_vk_plan *plan, uint32_t value, float *pooled) {
    const struct test_op_tensor outputs[] = {b->output, {value, pooled}};
    struct test_op_run op = {.context = context,
                             .plan = plan,
                             .graph = &b->graph,
                             .inputs = b->inputs,
                             .input_count = b->input_count,
                             .outputs = outputs,
                             .output_count = 2,
                             .repeat = 1};
    return test_op_run(&op, NULL);
}

static float output_at(const struct test_conv *b, uint32_t image, uint32_t y, uint32_t x, uint32_t channel) {
    const struct hymn_value *v = &b->graph.values[b->output.value];
    return b->output.data[((image * v->height + y) * v->width + x) * v->channels + channel];
}

static void require_pooled(const struct test_conv *b, uint32_t value, const float *pooled) {
    const struct hymn_value *v = &b->graph.values[value];
    for (size_t i = 0; i < test_op_size(&b->graph, value); i++) {
        uint32_t channel = (uint32_t)(i % v->channels), x = (uint32_t)(i / v->channels % v->width);
        uint32_t row = (uint32_t)(i / v->channels / v->width), y = row % v->height, image = row / v->height;
        float upper = fmaxf(output_at(b, image, 2 * y, 2 * x, channel), output_at(b, image, 2 * y, 2 * x + 1, channel));
        float lower =
            fmaxf(output_at(b, image, 2 * y + 1, 2 * x, channel), output_at(b, image, 2 * y + 1, 2 * x + 1, channel));
        assert_true(pooled[i] == fmaxf(upper, lower));
    }
}

// Runs the case with the tile, which must be valid, and compares. pools: whether the convolution is to pool by itself.
static void check(const struct test_conv_case *shape, const struct hymn_conv2d_tile *tile, bool pools,
                  struct test_random *random) {
    const char *kernel = hymn_conv2d_walks(tile) ? "conv2d_matrix_rows_pool" : "conv2d_matrix_pool";
    if (test_share_leaves_out_of(pools ? kernel : "another")) {
        return;
    }
    struct test_conv b;
    test_conv_build(&b, shape, random);
    uint32_t value = add_pool(&b);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.unrolled_ends = test_random_range(random, 0, 1);
    float *expected = test_conv_reference(&b), *pooled = calloc(test_op_size(&b.graph, value), sizeof *pooled);
    assert_non_null(pooled);
    hymn_conv2d_matrix_force(tile);
    assert_true(hymn_conv2d_matrix_fits(&b.graph, b.node, &plan));
    bool ok = run(&b, &plan, value, pooled);
    hymn_conv2d_matrix_force(NULL);
    assert_true(ok);
    assert_int_equal(b.graph.node_count, pools ? 1 : 2);
    double nmse = test_op_nmse(expected, b.output.data, test_op_size(&b.graph, b.output.value));
    if (!(nmse <= test_op_tolerance(HYMN_STORAGE_F16))) {
        test_conv_print(shape, "pool");
        print_error("  NMSE %g\n", nmse);
        fail();
    }
    require_pooled(&b, value, pooled);
    free(expected);
    free(pooled);
    test_conv_destroy(&b);
}

static struct test_conv_case make_case(struct test_random *random) {
    struct test_conv_case c = {.height = 2 * test_random_range(random, 1, 7),
                               .width = 2 * test_random_range(random, 1, 20),
                               .batch = test_random_range(random, 1, 3),
                               .term_count = test_random_range(random, 1, 2),
                               .kernels = {3, 1},
                               .parts = {test_random_range(random, 8, 50)},
                               .part_count = 1,
                               .activation = HYMN_ACTIVATION_RELU,
                               .residual = test_random_range(random, 0, 1),
                               .bias = true,
                               .output = HYMN_STORAGE_F16,
                               .extra = HYMN_STORAGE_F16};
    for (uint32_t i = 0; i < c.term_count; i++) {
        c.channels[i] = test_random_range(random, 1, 50);
        c.first[i] = 8 * test_random_range(random, 0, 2);
        c.sources[i] = HYMN_STORAGE_F16;
    }
    return c;
}

static struct hymn_conv2d_tile make_tile(uint32_t width, uint32_t height, uint32_t rows) {
    struct hymn_vk_matrix matrix = test_conv_matrix_plan(context).matrix;
    uint32_t depth = matrix.k / 8;
    return (struct hymn_conv2d_tile){.width = width * matrix.m,
                                     .height = height,
                                     .channels = 2 * matrix.n,
                                     .rows = rows,
                                     .columns = 2,
                                     .taps = 3,
                                     .depth = depth < 2 ? 2 : depth,
                                     .buffers = 1,
                                     .splits = 1};
}

static void skip_without_matrices(void) {
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    if (!hymn_variant_allowed(&plan, "conv2d_matrix_pool", NULL)) {
        print_message("no cooperative matrices of a shape that fits\n");
        skip();
    }
}

static void test_shapes(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_pool shapes");
    const struct hymn_conv2d_tile tiles[] = {make_tile(1, 4, 2), make_tile(2, 2, 1)};
    for (uint32_t round = 0; round < 12; round++) {
        struct test_conv_case c = make_case(&random);
        check(&c, &tiles[round % 2], true, &random);
    }
}

// Where weights stay while rows of pixels pass, of which each subgroup has pairs, with all channels of its pixels or
// half of them.
static void test_rows(void **state) {
    (void)state;
    skip_without_matrices();
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    const struct hymn_vk_matrix m = plan.matrix;
    const uint32_t channels = m.n > 8 ? m.n : 8;
    const uint32_t own = hymn_round_up(hymn_divide_up(plan.subgroup_size, channels / 8), m.m);
    if (!hymn_variant_allowed(&plan, "conv2d_matrix_rows_pool", NULL)) {
        print_message("no shuffles\n");
        skip();
    }
    struct test_random random = test_random_start("op_conv2d_pool rows");
    for (uint32_t columns = 1; columns <= 2; columns++) {
        const uint32_t rows = 3 - columns;
        struct hymn_conv2d_tile tile = {rows * own, 4, columns * channels, rows, columns, 9, m.k / 8, 0, 1};
        struct test_conv_case c = make_case(&random);
        c.channels[0] = test_random_range(&random, 1, m.k);
        c.parts[0] = tile.channels;
        check(&c, &tile, true, &random);
    }
}

// Where a subgroup has a single row of pixels, where a residual is resized and where sums leave as f32.
static void test_left_alone(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_pool left alone");
    const struct hymn_conv2d_tile single = make_tile(1, 2, 2), pairs = make_tile(1, 4, 2);
    struct test_conv_case c = make_case(&random);
    check(&c, &single, false, &random);
    c = make_case(&random);
    c.residual = 2;
    check(&c, &pairs, false, &random);
    c = make_case(&random);
    c.activation = HYMN_ACTIVATION_SILU;
    check(&c, &pairs, false, &random);
}

// Tuning compares what is pooled too, whoever does that.
static void test_trials(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_pool trials");
    const struct hymn_conv2d_tile single = make_tile(1, 2, 2), pairs = make_tile(1, 4, 2);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.cpu = false; // or the kernel's special forms are left out
    struct test_conv_case c = make_case(&random);
    struct test_conv b;
    test_conv_build(&b, &c, &random);
    add_pool(&b);
    struct hymn_trial apart, whole;
    uint8_t *expected = test_trial_try(context, &b, &plan, &single, 2, &apart),
            *output = test_trial_try(context, &b, &plan, &pairs, 1, &whole);
    assert_true(hymn_trial_agrees(&whole, output, expected));
    uint64_t size = 2 * (uint64_t)b.graph.batch * c.height * c.width * b.graph.values[b.output.value].stride;
    output[size + 1] ^= 0x7C; // the first of what is pooled
    assert_false(hymn_trial_agrees(&whole, output, expected));
    hymn_free(expected);
    hymn_free(output);
    hymn_trial_close(context->device, &apart);
    hymn_trial_close(context->device, &whole);
    test_conv_destroy(&b);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_left_alone), cmocka_unit_test(test_trials)};
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_pool", &context, tests, sizeof tests / sizeof *tests, NULL});
}
