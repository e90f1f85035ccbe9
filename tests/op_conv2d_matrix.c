// SPDX-License-Identifier: MIT
//
// The convolution on matrix units against plain C in double precision, on devices that have them: every tile layout,
// terms, prologue, epilogue and several workgroups a tile. --bench times tiles of the layers of HyM-UNet-base instead.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d.h"
#include "ops/conv2d_matrix.h"
#include "support/op_main.h"
#include "support/conv_layers.h"
#include "support/test_conv.h"
#include "support/test_share.h"

static struct hymn_context *context;

// How many steps the node is lowered to; the last of them has the shader of that name.
static uint32_t lowered_steps(struct test_conv *b, const struct hymn_vk_plan *plan, const char *last) {
    static const struct hymn_log quiet;
    struct hymn_lower lower = {.graph = &b->graph, .plan = plan, .log = &quiet};
    assert_int_equal(hymn_graph_plan_memory(&b->graph, true, &quiet), HYMN_STATUS_OK);
    enum hymn_status status = hymn_ops_lower(&lower);
    uint32_t count = status == HYMN_STATUS_OK ? lower.program.count : 0;
    if (count > 0) {
        assert_string_equal(lower.program.steps[count - 1].shader->name, last);
    }
    hymn_lower_free(&lower);
    return count;
}

// The kernel that a case gets. Of those whose sums may leave as f16, every third has them leave as f32 all the same,
// but not with a resized residual, of which there are few.
static const char *plan_sums(const struct test_conv_case *shape, const struct hymn_conv2d_tile *tile,
                             struct hymn_vk_plan *plan) {
    static uint32_t plain;
    bool thin = shape->term_count == 1 && shape->kernels[0] == 3 && shape->channels[0] <= 3 && !shape->residual &&
                tile->taps == 1 && tile->depth == 4 && tile->buffers == 1 && 32 % plan->matrix.k == 0;
    if (tile->buffers == 0) {
        return tile->taps == 9 ? "conv2d_matrix_rows" : "conv2d_matrix_stream";
    }
    if (tile->splits > 1) {
        return "conv2d_matrix_split";
    }
    bool halves = shape->output == HYMN_STORAGE_F16 && (!shape->residual || shape->extra == HYMN_STORAGE_F16);
    if (!halves || shape->activation == HYMN_ACTIVATION_SILU) {
        return "conv2d_matrix";
    }
    if (shape->residual < 2 && plain++ % 3 == 2) {
        plan->needs_met &= ~(uint32_t)HYMN_NEEDS_HALF_SUMS;
    }
    return !(plan->needs_met & HYMN_NEEDS_HALF_SUMS) ? "conv2d_matrix"
           : thin                                    ? "conv2d_matrix_thin"
                                                     : "conv2d_matrix_packed";
}

// Runs the case with the tile, which must be valid, and compares.
static void check(const struct test_conv_case *shape, const struct hymn_conv2d_tile *tile, struct test_random *random) {
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    const char *kernel = plan_sums(shape, tile, &plan);
    if (test_share_leaves_out_of(kernel)) {
        return;
    }
    struct test_conv b;
    test_conv_build(&b, shape, random);
    plan.unrolled_ends = test_random_range(random, 0, 1);
    if (tile->splits == 1 && test_random_range(random, 0, 1)) {
        plan.max_groups_x = test_random_range(random, 1, 5); // tiles in layers of the dispatch
    }
    float *expected = test_conv_reference(&b);
    hymn_conv2d_matrix_force(tile);
    assert_true(hymn_conv2d_matrix_fits(&b.graph, b.node, &plan));
    size_t count = test_op_size(&b.graph, b.output.value);
    // Twice: the second run finds the counters as the first one left them.
    double nmse = test_conv_run(&b, context, &plan, 1, NULL) ? test_op_nmse(expected, b.output.data, count) : INFINITY;
    assert_int_equal(lowered_steps(&b, &plan, kernel), 1);
    hymn_conv2d_matrix_force(NULL);
    if (!(nmse <= test_op_tolerance(HYMN_STORAGE_F16))) {
        test_conv_print(shape, "matrix");
        print_error("  NMSE %g\n", nmse);
        fail();
    }
    free(expected);
    test_conv_destroy(&b);
}

// A tile of 2 x 2 subgroups, each of one or more matrices.
static struct hymn_conv2d_tile make_tile(bool wide, uint32_t splits) {
    struct hymn_vk_matrix matrix = test_conv_matrix_plan(context).matrix;
    uint32_t depth = matrix.k / 8;
    return (struct hymn_conv2d_tile){.width = matrix.m,
                                     .height = 2,
                                     .channels = 2 * matrix.n,
                                     .rows = 2,
                                     .columns = 2,
                                     .taps = wide ? 3 : 1,
                                     .depth = depth < 2 ? 2 : depth,
                                     .buffers = 1,
                                     .splits = splits};
}

static bool lacks_matrices(void) {
    return !(context->device->plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX);
}

static void skip_without_matrices(void) {
    if (lacks_matrices()) {
        print_message("no cooperative matrices of a shape that fits\n");
        skip();
    }
}

static void test_terms(void **state) {
    (void)state;
    skip_without_matrices();
    static const uint32_t kernels[][3] = {{3}, {1}, {2}, {3, 3}, {3, 1}, {3, 1, 1}, {1, 1, 1}, {2, 3, 1}};
    struct test_random random = test_random_start("op_conv2d_matrix terms");
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        bool wide = kernels[i][0] == 3 || kernels[i][1] == 3;
        struct hymn_conv2d_tile tile = make_tile(wide, 1);
        for (uint32_t round = 0; round < 4; round++) {
            struct test_conv_case c = test_conv_random_case(&random, kernels[i]);
            check(&c, &tile, &random);
        }
    }
}

static void test_layouts(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix layouts");
    struct hymn_vk_matrix m = test_conv_matrix_plan(context).matrix;
    uint32_t depth = m.k > 32 ? m.k / 8 : 4;
    const struct hymn_conv2d_tile tiles[] = {
        {m.m, 4, 2 * m.n, 4, 1, 1, depth, 1, 1},
        {m.m, 4, 4 * m.n, 2, 2, 3, depth, 1, 1},
        {2 * m.m, 2, 2 * m.n, 2, 1, 3, depth, 2, 1},
        {m.m, 2, m.n, 2, 1, 9, depth, 1, 1},
    };
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, 1});
        check(&c, &tiles[i], &random);
    }
    struct hymn_conv2d_tile flat = {4 * m.m, 1, 2 * m.n, 2, 2, 1, depth, 2, 1};
    struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1});
    check(&c, &flat, &random);
    // Wide, with an odd number of matrices side by side.
    struct hymn_conv2d_tile wide = {2 * m.m, 1, 6 * m.n, 1, 2, 1, depth, 1, 1};
    c.parts[0] = 6 * m.n;
    check(&c, &wide, &random);
}

static void test_epilogues(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix epilogues");
    for (uint32_t round = 0; round < 5; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, 1});
        c.residual = round < 4 ? 1 + round % 2 : 0;
        c.height *= 2;
        c.width *= 2;
        c.output = round == 2 || round == 3 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
        c.activation = round >= 3 ? HYMN_ACTIVATION_SILU : HYMN_ACTIVATION_RELU;
        struct hymn_conv2d_tile tile = make_tile(true, 1);
        check(&c, &tile, &random);
    }
}

// Residuals of half the size, in blocks of 2x2 where whole pairs of rows of pixels leave at a time: all that a subgroup
// has, or a part of them.
static void test_resized_residuals(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix resized residuals");
    struct hymn_vk_matrix m = test_conv_matrix_plan(context).matrix;
    uint32_t depth = m.k < 16 ? 2 : m.k / 8;
    const struct hymn_conv2d_tile tiles[] = {
        {m.m, 4, 2 * m.n, 2, 1, 3, depth, 1, 1},
        {2 * m.m, 4, m.n, 2, 1, 3, depth, 1, 1},
        {m.m, 8, 4 * m.n, 1, 2, 1, depth, 1, 1},
    };
    for (uint32_t round = 0; round < 3; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3});
        c.residual = 2;
        c.height *= 2;
        c.width *= 2;
        c.activation = test_random_range(&random, 0, 1) ? HYMN_ACTIVATION_NONE : HYMN_ACTIVATION_RELU;
        check(&c, &tiles[round], &random);
    }
}

// Sums that leave by halves or quarters of a subgroup's pixels, as there is no room for more: f32, of several
// workgroups that share a tile, and with moments beside them.
static void test_parts_that_leave(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix parts that leave");
    struct hymn_vk_matrix m = test_conv_matrix_plan(context).matrix;
    uint32_t depth = m.k < 16 ? 2 : m.k / 8;
    for (uint32_t round = 0; round < 5; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1});
        struct hymn_conv2d_tile tile = {m.m, 8, 2 * m.n, 1, 2, 1, depth, 1, round == 1 ? 2 : 1};
        c.channels[0] = 4 * 8 * depth;
        c.height = 2 * test_random_range(&random, 1, 9);
        c.width *= 2;
        c.output = round == 0 || round == 3 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
        c.prologue = round == 2 || round == 3 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        c.activation = c.prologue ? HYMN_ACTIVATION_NONE : c.activation;
        c.residual = round == 4 ? 2 : c.prologue ? 0 : 1;
        check(&c, &tile, &random);
    }
}

static void test_prologues(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix prologues");
    for (uint32_t round = 0; round < 4; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1 + round % 2});
        c.prologue = HYMN_PROLOGUE_NORM;
        c.activation =
            HYMN_ACTIVATION_NONE; // of two channels' norms, which are 1 or -1, ReLU may leave next to nothing
        if (round == 2) {         // as many as statistics have, and positive like them, but padded
            c.first[0] = 0;
            c.channels[0] = 2;
            c.mean = 3.0f;
        }
        c.part_count = 1 + round % 2 * 3;
        for (uint32_t i = 0; i < c.part_count; i++) {
            c.parts[i] = test_random_range(&random, 1, 35);
        }
        struct hymn_conv2d_tile tile = make_tile(false, 1);
        check(&c, &tile, &random);
    }
}

// All of k in one stage, for which the kernel is another: each step a turn, or a single one.
static void test_single_stage(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix single stage");
    for (uint32_t round = 0; round < 12; round++) {
        bool wide = round % 3 == 0;
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){wide ? 3 : 1});
        struct hymn_conv2d_tile tile = make_tile(wide, 1);
        tile.taps = wide ? (const uint32_t[]){1, 3, 9}[round / 3 % 3] : 1;
        if (round > 5) { // a subgroup has half of a row of pixels
            tile.width *= 2, tile.height = 1;
        }
        c.channels[0] = test_random_range(&random, 1, 8 * tile.depth);
        c.prologue = round % 3 == 1 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        c.residual = round % 2;
        c.output = round % 4 < 3 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
        check(&c, &tile, &random);
    }
}

// Sources of up to three channels, whose taps are one stage of k; of four, whose are not. By rule too, on a GPU.
static void test_thin(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix thin");
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    struct hymn_vk_matrix m = plan.matrix;
    const struct hymn_conv2d_tile tiles[] = {
        {m.m, 4, 2 * m.n, 2, 2, 1, 4, 1, 1},
        {2 * m.m, 1, m.n, 1, 1, 1, 4, 1, 1},
    };
    for (uint32_t round = 0; round < 8 && 32 % m.k == 0; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3});
        c.channels[0] = 1 + round % 4;
        c.bias = round % 5 != 0;
        check(&c, &tiles[round / 4], &random);
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        plan.cpu = false;
        const bool halves = plan.needs_met & HYMN_NEEDS_HALF_SUMS;
        const struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        const char *other = hymn_conv2d_walks(&tile) ? "conv2d_matrix_rows" : "conv2d_matrix_packed";
        const char *kernel = !halves ? "conv2d_matrix" : round % 4 < 3 ? "conv2d_matrix_thin" : other;
        assert_int_equal(lowered_steps(&b, &plan, kernel), 1);
        test_conv_destroy(&b);
    }
}

// Outputs of binary16 saturate, whatever way they take there: with a residual, a norm, split sums or none of these.
static void test_saturation(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix saturation");
    for (uint32_t round = 0; round < 7; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1});
        c.channels[0] = 64;
        c.residual = round == 6 ? 2 : round % 3 == 1;
        c.height *= 2, c.width *= 2;
        c.prologue = round % 3 == 2 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        c.activation = HYMN_ACTIVATION_NONE;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        for (uint32_t o = 0; o < b.out_channels; o++) {
            b.bias[o] = o % 2 ? 1e5f : -1e5f; // which no sum of 64 products here makes up for
        }
        struct hymn_vk_plan plan = test_conv_matrix_plan(context);
        struct hymn_conv2d_tile tile = make_tile(false, round < 3 || round == 6 ? 1 : 2);
        tile.rows = round == 6 ? 1 : tile.rows; // for pairs of rows of pixels
        hymn_conv2d_matrix_force(&tile);
        assert_true(hymn_conv2d_matrix_fits(&b.graph, b.node, &plan));
        assert_true(test_conv_run(&b, context, &plan, 1, NULL));
        hymn_conv2d_matrix_force(NULL);
        size_t count = test_op_size(&b.graph, b.output.value);
        for (size_t i = 0; i < count; i++) {
            assert_true(b.output.data[i] == (i % b.out_channels % 2 ? 65504.0f : -65504.0f));
        }
        test_conv_destroy(&b);
    }
}

// A source that is normalised: its statistics are found by the kernel, whole or in parts, from pixels or from 2x2
// cells, however large the mean is against the deviations (here 50 and 170 times; of one channel it is all there is).
static void test_norms(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix norms");
    for (uint32_t round = 0; round < 16; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){round < 12 ? 1 + round % 2 : 1});
        c.prologue = HYMN_PROLOGUE_NORM;
        c.activation = HYMN_ACTIVATION_NONE;
        c.channels[0] = round < 12 ? c.channels[0] + 70 : 1;
        c.mean = (const float[]){0.0f, 30.0f, -100.0f, 500.0f}[round / 4];
        c.output = round % 4 < 3 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
        struct hymn_conv2d_tile tile = make_tile(false, round < 12 ? 1 + round % 3 : 1);
        tile.depth *= 1 + round / 2 % 2;
        tile.buffers += round / 3 % 2;
        tile.channels *= 1 + round / 6;   // which leave in halves where there are several matrices side by side
        tile.height *= 1 + round / 3 % 2; // and several above each other
        check(&c, &tile, &random);
    }
}

// The node of the statistics before the convolution's.
static struct hymn_node *add_statistics_node(struct test_conv *b) {
    struct hymn_node *stats = hymn_graph_add_node(&b->graph, HYMN_KIND_NORM_STATS, "stats");
    assert_non_null(stats);
    struct hymn_node conv = b->graph.nodes[0];
    stats->terms[0] = conv.terms[0];
    stats->term_count = 1;
    stats->output = conv.stats;
    b->graph.nodes[0] = *stats;
    b->graph.nodes[1] = conv;
    b->node = &b->graph.nodes[1];
    return b->graph.nodes;
}

// What finds the statistics itself needs no node for them, whatever the device, tuned or not; other kernels do.
static void test_no_statistics(void **state) {
    (void)state;
    static const struct hymn_log quiet;
    struct test_random random = test_random_start("op_conv2d_matrix statistics");
    for (uint32_t round = 0; round < 8; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1 + round % 2});
        c.prologue = HYMN_PROLOGUE_NORM;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = context->device->plan, other;
        plan.needs_met |= HYMN_NEEDS_COOPERATIVE_MATRIX;
        plan.needs_met &= ~(uint32_t)HYMN_NEEDS_HALF_SUMS;
        plan.needs_met |= round % 4 < 2 ? 0 : HYMN_NEEDS_HALF_SUMS;
        plan.cpu = plan.weights_f32 = false;
        plan.matrix = (struct hymn_vk_matrix){16, 16, 16, 0};
        plan.target_lanes = 64;
        other = plan;
        hymn_vk_plan_demote(&other, hymn_shader_find("conv2d_matrix"), true);
        uint32_t stats = b.node->stats;
        const struct hymn_node *nodes = add_statistics_node(&b);
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        b.node->tuned = round >= 4;
        memcpy(&b.node->method, &tile, sizeof tile);

        assert_int_equal(hymn_ops_prepare(&b.graph, &other, &quiet), HYMN_STATUS_OK);
        assert_true(b.graph.node_count == 2 && nodes[0].output == stats && nodes[1].stats == stats);
        assert_int_equal(lowered_steps(&b, &other, "conv2d_tiled"), 2);

        assert_int_equal(hymn_ops_prepare(&b.graph, &plan, &quiet), HYMN_STATUS_OK);
        assert_true(b.graph.node_count == 1 && nodes[0].kind == HYMN_KIND_CONV2D && nodes[0].stats == HYMN_NONE);
        assert_int_equal(lowered_steps(&b, &plan, round % 4 < 2 ? "conv2d_matrix" : "conv2d_matrix_packed"), 1);
        assert_true(b.graph.values[stats].bytes == 0);
        assert_int_equal(lowered_steps(&b, &other, ""), 0); // not what it was prepared for
        test_conv_destroy(&b);
    }
}

// Ends the test where the device has no such variant.
static struct hymn_vk_plan plan_with(const char *variant) {
    skip_without_matrices();
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    if (!hymn_variant_allowed(&plan, variant, NULL)) {
        print_message("no %s: sums in f16 or shuffles\n", variant);
        skip();
    }
    return plan;
}

// Pixels that stay while weights pass: whole and partial tiles, one or two matrices of pixels a subgroup, one or
// several passes, by one workgroup or divided among them.
static void test_stream(void **state) {
    (void)state;
    const struct hymn_vk_plan plan = plan_with("conv2d_matrix_stream");
    const struct hymn_vk_matrix m = plan.matrix;
    struct test_random random = test_random_start("op_conv2d_matrix stream");
    for (uint32_t round = 0; round < 8; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1});
        const uint32_t step = m.k > 16 ? m.k : 16;
        c.channels[0] = step * (1 + round % 3 / 2);
        c.residual = round % 2;
        c.bias = round % 5 != 0;
        c.prologue = round / 2 % 2 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        c.mean = round % 4 == 3 ? 200.0f : 0.0f;
        c.part_count = 2 - round % 2; // a residual has its own numbers where padding is between parts
        c.parts[1] = c.part_count > 1 ? test_random_range(&random, 1, 30) : 0;
        const uint32_t passes = round / 4 ? test_random_range(&random, 1, 3) : 1;
        struct hymn_conv2d_tile tile = {
            2 * m.m * (1 + round / 4), 1, m.n > 8 ? m.n : 16, 2, passes, 1, c.channels[0] / 8, 0, 1};
        c.parts[0] = tile.channels * passes + test_random_range(&random, 1, 20);
        check(&c, &tile, &random);
    }
}

// A tile by which weights stay while `height` rows of pixels pass; step: of k.
static struct hymn_conv2d_tile rows_tile(uint32_t width, uint32_t height, uint32_t rows, uint32_t columns,
                                         uint32_t channels, uint32_t step) {
    return (struct hymn_conv2d_tile){width, height, channels, rows, columns, 9, step / 8, 0, 1};
}

// Weights that stay while rows of pixels pass: one or two teams side by side, of one subgroup or two that share their
// pixels, maps of part of a tile and of several, with a second source, a residual or neither; of one subgroup with a
// residual of half the size.
static void test_rows(void **state) {
    (void)state;
    const struct hymn_vk_plan plan = plan_with("conv2d_matrix_rows");
    const struct hymn_vk_matrix m = plan.matrix;
    struct test_random random = test_random_start("op_conv2d_matrix rows");
    // Little of everything, as software devices take long to compile it.
    const uint32_t step = m.k, cells = (m.n > 8 ? m.n : 8) / 8;                           // of a subgroup's channels
    const uint32_t least = hymn_round_up(hymn_divide_up(plan.subgroup_size, cells), m.m); // pixels of it
    for (uint32_t round = 0; round < 6; round++) {
        const uint32_t columns = 1 + (round / 2 == 1), rows = 1 + round % 3 / 2, point = round % 2;
        const uint32_t height = round < 4 ? 1 + round : 2 * (round - 3);
        struct hymn_conv2d_tile tile = rows_tile(least * rows, height, rows, columns, 8 * cells * columns, step);
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, point ? 1 : 0});
        c.channels[0] = test_random_range(&random, 1, step);
        c.channels[1] = point ? test_random_range(&random, 1, 2 * step) : 0;
        c.parts[0] = test_random_range(&random, 1, tile.channels);
        c.part_count = 1;
        c.parts[1] = 0;
        c.residual = round < 4 ? round / 2 != point : 2;
        if (round >= 4) {
            c.height += c.height % 2, c.width += c.width % 2;
        }
        c.bias = round % 5 != 0;
        c.activation = round % 3 && c.parts[0] >= 8 ? HYMN_ACTIVATION_RELU : HYMN_ACTIVATION_NONE;
        check(&c, &tile, &random);
    }
}

static void test_splits(void **state) {
    (void)state;
    skip_without_matrices();
    struct test_random random = test_random_start("op_conv2d_matrix splits");
    for (uint32_t round = 0; round < 4; round++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, 1});
        c.channels[0] = test_random_range(&random, 64, 120);
        c.residual = round % 2;
        struct hymn_conv2d_tile tile = make_tile(true, 2 + round / 2);
        check(&c, &tile, &random);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// timing

// Each run is of a graph of its own, as the splits' scratch is part of it.
static double time_tile(const struct test_conv_case *shape, const struct hymn_vk_plan *plan,
                        const struct hymn_conv2d_tile *tile) {
    struct test_random random = test_random_fixed(1);
    struct test_conv b;
    test_conv_build(&b, shape, &random);
    hymn_conv2d_matrix_force(tile);
    double ms = 0.0;
    bool ok = test_conv_run(&b, context, plan, 5, &ms);
    hymn_conv2d_matrix_force(NULL);
    test_conv_destroy(&b);
    return ok ? ms : INFINITY;
}

static int bench(int argc, char **argv) {
    const uint32_t batch = op_number(argc, argv, 1, 1), most = op_number(argc, argv, 2, 0);
    const char *only = argc > 3 ? argv[3] : NULL;
    struct test_random random = test_random_fixed(1);
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    double total = 0.0, total_best = 0.0;
    static struct hymn_conv2d_tile tiles[2048];
    for (size_t i = 0; i < test_conv_layer_count; i++) {
        const struct test_conv_layer *l = &test_conv_layers[i];
        if (only && strncmp(l->name, only, strlen(only)) != 0) {
            continue;
        }
        struct test_conv_case c = test_conv_layer_case(l, batch);
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan), best = tile;
        double ms = time_tile(&c, &plan, &tile), best_ms = ms;
        uint32_t listed = most ? test_conv_list_tiles(&b, &plan, tiles, 2048) : 0,
                 count = listed < most ? listed : most;
        for (uint32_t t = 0; t < count; t++) {
            const struct hymn_conv2d_tile *other = &tiles[(uint64_t)t * listed / count];
            double other_ms = time_tile(&c, &plan, other);
            best = other_ms < best_ms ? *other : best;
            best_ms = other_ms < best_ms ? other_ms : best_ms;
        }
        double flops = 2.0 * (double)hymn_node_macs(&b.graph, b.node);
        const struct hymn_conv2d_tile *shown[] = {&tile, &best};
        printf("%-24s %8.1f us %6.1f TFLOP/s", l->name, ms * 1e3, flops / ms * 1e-9);
        printf(" best of %3u of %4u %8.1f us %6.1f TFLOP/s ", count, listed, best_ms * 1e3, flops / best_ms * 1e-9);
        for (uint32_t k = 0; k < 2; k++) {
            const struct hymn_conv2d_tile *t = shown[k];
            printf(" | %ux%u %u, %ux%u, taps %u, depth %u, x%u, /%u", t->width, t->height, t->channels, t->rows,
                   t->columns, t->taps, t->depth, t->buffers, t->splits);
        }
        printf("\n");
        fflush(stdout);
        total += ms * l->count;
        total_best += best_ms * l->count;
        test_conv_destroy(&b);
    }
    printf("base, batch %u: %.3f ms, best %.3f ms\n", batch, total, total_best);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms),        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_epilogues),    cmocka_unit_test(test_resized_residuals),
        cmocka_unit_test(test_prologues),    cmocka_unit_test(test_norms),
        cmocka_unit_test(test_stream),       cmocka_unit_test(test_rows),
        cmocka_unit_test(test_splits),       cmocka_unit_test(test_no_statistics),
        cmocka_unit_test(test_single_stage), cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_thin),         cmocka_unit_test(test_parts_that_leave),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_matrix", &context, tests, sizeof tests / sizeof *tests, bench});
}
