// SPDX-License-Identifier: MIT
//
// The first convolution of a decoder on matrix units, which resizes the features below by itself, against both
// operators in double precision, on devices that have matrices. --bench times both ways instead.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d.h"
#include "ops/conv2d_matrix.h"
#include "selftest/reference.h"
#include "support/op_main.h"
#include "support/test_conv.h"
#include "support/test_share.h"

static struct hymn_context *context;

struct shape {
    uint32_t height, width, batch; // of the output, even
    uint32_t low, skip, out;       // channels
    bool relu;
};

enum { LOW = 0, SKIP, UP, OUT, VALUES };

// skip and resize(low), convolved.
struct decoder {
    struct shape shape;
    struct hymn_graph graph;
    float *weights[2], *bias;
    struct test_op_tensor tensors[VALUES];
    double *expected[VALUES]; // of all values, with padding
};

static float *random_array(struct test_random *random, size_t count, float limit) {
    float *data = malloc(count * sizeof *data);
    assert_non_null(data);
    test_random_fill(random, data, count, -limit, limit);
    return data;
}

static void add_values(struct decoder *d) {
    const struct shape *s = &d->shape;
    const uint32_t halves[VALUES] = {[LOW] = 2, [SKIP] = 1, [UP] = 1, [OUT] = 1};
    // More channels before the parts that are read, so that a wrong place shows.
    const uint32_t channels[VALUES] = {[LOW] = 8 + s->low, [SKIP] = 16 + s->skip, [UP] = s->low, [OUT] = s->out};
    for (uint32_t i = 0; i < VALUES; i++) {
        uint32_t value = hymn_graph_add_value(&d->graph, "value", s->height / halves[i], s->width / halves[i],
                                              channels[i], HYMN_STORAGE_F16);
        assert_int_equal(value, i);
    }
    d->graph.output = OUT;
}

static struct hymn_node *add_node(struct decoder *d, enum hymn_kind kind, uint32_t output) {
    struct hymn_node *node = hymn_graph_add_node(&d->graph, kind, hymn_kind_name(kind));
    assert_non_null(node);
    node->output = output;
    return node;
}

static void add_nodes(struct decoder *d) {
    const struct shape *s = &d->shape;
    struct hymn_node *node = add_node(d, HYMN_KIND_RESIZE, UP);
    node->terms[0].source = (struct hymn_source){LOW, 8, s->low};
    node->term_count = 1;
    node = add_node(d, HYMN_KIND_CONV2D, OUT);
    node->terms[0] = (struct hymn_term){{SKIP, 16, s->skip}, 3, d->weights[1]};
    node->terms[1] = (struct hymn_term){{UP, 0, s->low}, 3, d->weights[0]};
    node->term_count = 2;
    node->out_channels = node->parts[0] = s->out;
    node->part_count = 1;
    node->bias = d->bias;
    node->activation = s->relu ? HYMN_ACTIVATION_RELU : HYMN_ACTIVATION_NONE;
}

static size_t padded_size(const struct decoder *d, uint32_t value) {
    const struct hymn_value *v = &d->graph.values[value];
    return (size_t)d->graph.batch * v->height * v->width * v->stride;
}

// What both operators make of the inputs in double precision, nothing rounded on the way.
static void expect(struct decoder *d) {
    for (uint32_t i = 0; i < VALUES; i++) {
        const struct hymn_value *v = &d->graph.values[i];
        d->expected[i] = calloc(padded_size(d, i), sizeof(double));
        assert_non_null(d->expected[i]);
        for (size_t k = 0; i <= SKIP && k < padded_size(d, i); k++) {
            size_t channel = k % v->stride;
            d->expected[i][k] =
                channel < v->channels ? (double)d->tensors[i].data[k / v->stride * v->channels + channel] : 0.0;
        }
    }
    hymn_reference_run(&d->graph, d->expected);
}

static void build(struct decoder *d, const struct shape *shape, struct test_random *random) {
    static const struct hymn_log quiet;
    memset(d, 0, sizeof *d);
    d->shape = *shape;
    hymn_graph_init(&d->graph, shape->batch, HYMN_STORAGE_F16);
    add_values(d);
    const float limit = 1.0f / sqrtf(9.0f * (float)(shape->low + shape->skip));
    d->weights[0] = random_array(random, (size_t)9 * shape->out * shape->low, limit);
    d->weights[1] = random_array(random, (size_t)9 * shape->out * shape->skip, limit);
    d->bias = random_array(random, shape->out, 1.0f);
    for (uint32_t i = 0; i < VALUES; i++) {
        d->tensors[i] = (struct test_op_tensor){i, test_op_random(&d->graph, i, random, -1.0f, 1.0f)};
        assert_non_null(d->tensors[i].data);
    }
    add_nodes(d);
    assert_int_equal(hymn_graph_optimize(&d->graph, &quiet), HYMN_STATUS_OK); // finds what the terms are made of
}

static void destroy(struct decoder *d) {
    for (uint32_t i = 0; i < VALUES; i++) {
        free(d->tensors[i].data);
        free(d->expected[i]);
    }
    free(d->weights[0]);
    free(d->weights[1]);
    free(d->bias);
    hymn_graph_free(&d->graph);
}

static bool run(struct decoder *d, const struct hymn_vk_plan *plan, uint32_t repeat, double *out_ms) {
    struct test_op_run op = {.context = context,
                             .plan = plan,
                             .graph = &d->graph,
                             .inputs = d->tensors,
                             .input_count = 2,
                             .outputs = &d->tensors[OUT],
                             .output_count = 1,
                             .repeat = repeat};
    return test_op_run(&op, out_ms);
}

static void require_right(const struct decoder *d) {
    const struct hymn_value *v = &d->graph.values[OUT];
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < test_op_size(&d->graph, OUT); i++) {
        double expected = d->expected[OUT][i / v->channels * v->stride + i % v->channels];
        double difference = (double)d->tensors[OUT].data[i] - expected;
        error += difference * difference;
        power += expected * expected;
    }
    if (!(error <= test_op_tolerance(HYMN_STORAGE_F16) * power)) {
        const struct shape *s = &d->shape;
        print_error("%ux%u, batch %u, %u + %u to %u channels: NMSE %g\n", s->height, s->width, s->batch, s->skip,
                    s->low, s->out, error / power);
        fail();
    }
}

static const struct hymn_node *last_node(const struct decoder *d) {
    return &d->graph.nodes[d->graph.node_count - 1];
}

// Runs a decoder with the tile, which must be valid; the convolution is all that is left of it.
static void check(const struct shape *shape, const struct hymn_conv2d_tile *tile, struct test_random *random) {
    if (test_share_leaves_out_of("conv2d_matrix_resized")) {
        return;
    }
    struct decoder d;
    build(&d, shape, random);
    expect(&d);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.unrolled_ends = test_random_range(random, 0, 1);
    hymn_conv2d_matrix_force(tile);
    assert_true(hymn_conv2d_matrix_fits(&d.graph, last_node(&d), &plan));
    bool ok = run(&d, &plan, 1, NULL);
    hymn_conv2d_matrix_force(NULL);
    assert_true(ok);
    assert_int_equal(d.graph.node_count, 1);
    assert_true(last_node(&d)->resizes);
    require_right(&d);
    destroy(&d);
}

static void skip_without_matrices(void) {
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    if (!hymn_variant_allowed(&plan, "conv2d_matrix_resized", NULL)) {
        print_message("no cooperative matrices of a shape that fits\n");
        skip();
    }
}

static struct shape random_shape(struct test_random *random) {
    return (struct shape){.height = 2 * test_random_range(random, 1, 9),
                          .width = 2 * test_random_range(random, 1, 20),
                          .batch = test_random_range(random, 1, 3),
                          .low = test_random_range(random, 1, 50),
                          .skip = test_random_range(random, 1, 50),
                          .out = test_random_range(random, 8, 50),
                          .relu = test_random_range(random, 0, 1)};
}

static struct hymn_conv2d_tile make_tile(uint32_t height, uint32_t taps, uint32_t buffers) {
    struct hymn_vk_matrix matrix = test_conv_matrix_plan(context).matrix;
    uint32_t depth = matrix.k / 8;
    return (struct hymn_conv2d_tile){.width = matrix.m,
                                     .height = height,
                                     .channels = 2 * matrix.n,
                                     .rows = 2,
                                     .columns = 2,
                                     .taps = taps,
                                     .depth = depth < 2 ? 2 : depth,
                                     .buffers = buffers,
                                     .splits = 1};
}

static void test_shapes(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_resized shapes");
    struct hymn_conv2d_tile tiles[] = {make_tile(2, 3, 1), make_tile(4, 9, 2), make_tile(4, 1, 1), make_tile(4, 1, 2)};
    for (uint32_t i = 2; i < 4; i++) { // fewer weights than pixels of half size, which lie behind them then
        tiles[i].channels = test_conv_matrix_plan(context).matrix.n;
        tiles[i].columns = 1;
    }
    for (uint32_t round = 0; round < 20; round++) {
        struct shape shape = random_shape(&random);
        check(&shape, &tiles[round % 4], &random);
    }
}

// Where a single stage is all of a term, and of both.
static void test_few_channels(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_resized few channels");
    struct hymn_conv2d_tile tile = make_tile(2, 1, 1);
    for (uint32_t round = 0; round < 4; round++) {
        struct shape shape = random_shape(&random);
        shape.low = test_random_range(&random, 1, 8 * tile.depth);
        shape.skip = test_random_range(&random, 1, 8 * tile.depth);
        check(&shape, &tile, &random);
    }
}

// Halves of the largest numbers are no reason to overflow on the way.
static void test_large(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_resized large");
    struct hymn_conv2d_tile tile = make_tile(2, 3, 1);
    struct shape shape = random_shape(&random);
    struct decoder d;
    build(&d, &shape, &random);
    for (size_t i = 0; i < test_op_size(&d.graph, LOW); i++) {
        d.tensors[LOW].data[i] = d.tensors[LOW].data[i] < 0.0f ? -65504.0f : 65504.0f;
    }
    expect(&d);
    for (size_t i = 0; i < padded_size(&d, OUT); i++) {
        d.expected[OUT][i] = fmin(fmax(d.expected[OUT][i], -65504.0), 65504.0);
    }
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    hymn_conv2d_matrix_force(&tile);
    bool ok = run(&d, &plan, 1, NULL);
    hymn_conv2d_matrix_force(NULL);
    assert_true(ok && last_node(&d)->resizes);
    require_right(&d);
    destroy(&d);
}

// Other kernels leave the resize to its operator, as does this one for small maps. What tuning compares does the same.
static void test_left_alone(void **state) {
    (void)state;
    static const struct hymn_log quiet;
    struct test_random random = test_random_start("op_conv2d_resized left alone");
    for (uint32_t large = 0; large < 2; large++) {
        struct shape shape = {.height = 16, .width = 32, .batch = 4, .low = 64, .skip = 32, .out = 64};
        struct decoder d;
        build(&d, &shape, &random);
        struct hymn_vk_plan plan = test_conv_matrix_plan(context);
        plan.needs_met |= HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_HALF_SUMS;
        plan.matrix = (struct hymn_vk_matrix){16, 16, 16, 0};
        plan.cpu = false;
        plan.subgroup_size = 32;
        plan.max_invocations = 1024;
        plan.max_shared_bytes = 49152;
        plan.target_lanes = large ? 512 : 1u << 14;
        struct hymn_vk_plan other = plan;
        hymn_vk_plan_demote(&other, hymn_shader_find("conv2d_matrix_resized"), true);
        struct hymn_method methods[64];
        uint32_t count = hymn_conv2d_list_methods(&d.graph, last_node(&d), &plan, NULL, methods, 64);
        assert_true(count > 1);
        for (uint32_t i = 0; i < count; i++) {
            struct hymn_node node = *last_node(&d); // for which the graph's own goes on
            node.tuned = true;
            node.method = methods[i];
            assert_int_equal(hymn_conv2d_prepare(&d.graph, &node, &plan, &quiet), HYMN_STATUS_OK);
            assert_true(node.resizes == (large == 1));
        }
        if (large) { // layers of 64 channels: by halves where they resize
            assert_int_equal(hymn_conv2d_matrix_choose(&d.graph, last_node(&d), &plan).channels, 32);
            assert_int_equal(hymn_conv2d_matrix_choose(&d.graph, last_node(&d), &other).channels, 64);
        }
        assert_int_equal(hymn_ops_prepare(&d.graph, &other, &quiet), HYMN_STATUS_OK);
        assert_true(d.graph.node_count == 2 && !last_node(&d)->resizes);
        assert_int_equal(hymn_ops_prepare(&d.graph, &plan, &quiet), HYMN_STATUS_OK);
        assert_true(d.graph.node_count == 2 - large && last_node(&d)->resizes == (large == 1));
        destroy(&d);
    }
}

static double time_tile(const struct shape *shape, const struct hymn_vk_plan *plan,
                        const struct hymn_conv2d_tile *tile) {
    struct test_random random = test_random_fixed(1);
    struct decoder d;
    build(&d, shape, &random);
    hymn_conv2d_matrix_force(tile);
    double ms = 0.0;
    bool ok = run(&d, plan, 9, &ms);
    hymn_conv2d_matrix_force(NULL);
    destroy(&d);
    return ok ? ms : INFINITY;
}

static int bench(int argc, char **argv) {
    static const struct shape shapes[] = {{32, 32, 1, 512, 256, 256, true},
                                          {64, 64, 1, 256, 128, 128, true},
                                          {128, 128, 1, 128, 64, 64, true},
                                          {256, 256, 1, 64, 32, 32, true}};
    struct hymn_vk_plan plan = test_conv_matrix_plan(context), apart = plan;
    hymn_vk_plan_demote(&apart, hymn_shader_find("conv2d_matrix_resized"), true);
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        struct shape shape = shapes[i / 2];
        shape.batch = op_number(argc, argv, 1, 8);
        const struct hymn_vk_plan *by = i % 2 ? &plan : &apart;
        struct test_random random = test_random_fixed(1);
        struct decoder d;
        build(&d, &shape, &random);
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&d.graph, last_node(&d), by);
        destroy(&d);
        printf("%ux%u, batch %u, %s: %8.1f us\n", shape.height, shape.width, shape.batch,
               i % 2 ? "resized by the convolution" : "resized before            ", time_tile(&shape, by, &tile) * 1e3);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_few_channels),
                                       cmocka_unit_test(test_large), cmocka_unit_test(test_left_alone)};
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_resized", &context, tests, sizeof tests / sizeof *tests, bench});
}
