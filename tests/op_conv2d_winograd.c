// SPDX-License-Identifier: MIT
//
// Winograd's 3x3 convolution against plain C in double precision: every way in which it is divided among workgroups, on
// terms, storage, epilogues and sizes, and what it refuses. --bench times layers of the networks beside the direct
// kernel instead.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_winograd.h"
#include "support/op_main.h"
#include "support/test_conv.h"
#include "support/test_share.h"

#define MOST_METHODS 24

static struct hymn_context *context;

// As on a GPU without matrix units: software devices would take their own kernel and keep weights in 32 bits.
static struct hymn_vk_plan gpu_plan(bool base) {
    struct hymn_vk_plan plan = context->device->plan;
    if (base) {
        hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
        plan.needs_met |= HYMN_NEEDS_WIDE; // no more than that tier has is enough
    }
    plan.cpu = plan.weights_f32 = false;
    plan.needs_met &= ~(uint32_t)HYMN_NEEDS_COOPERATIVE_MATRIX;
    return plan;
}

static uint32_t list(const struct test_conv *b, const struct hymn_vk_plan *plan, struct hymn_method *methods) {
    return hymn_ops[HYMN_KIND_CONV2D].list_methods(&b->graph, b->node, plan, NULL, methods, MOST_METHODS);
}

static const char *shader_of(struct test_conv *b, const struct hymn_vk_plan *plan) {
    struct hymn_lower lower = {.graph = &b->graph, .plan = plan, .log = &context->device->log};
    assert_int_equal(hymn_ops_prepare(&b->graph, plan, lower.log), HYMN_STATUS_OK);
    assert_int_equal(hymn_graph_plan_memory(&b->graph, false, lower.log), HYMN_STATUS_OK);
    assert_int_equal(hymn_ops_lower(&lower), HYMN_STATUS_OK);
    assert_int_equal(lower.program.count, 1);
    const char *name = lower.program.steps[0].shader->name;
    hymn_lower_free(&lower);
    return name;
}

// Runs the case with a share, NULL: with one of the methods that are listed for it, at random; and compares.
static void check(const struct test_conv_case *shape, const struct hymn_vk_plan *plan, struct test_random *random,
                  const struct hymn_conv2d_winograd *share) {
    struct test_random own = test_random_fixed(test_random_u64(random)); // the next case is the same without this one
    if (test_share_leaves_out()) {
        return;
    }
    struct test_conv b;
    test_conv_build(&b, shape, &own);
    float *expected = test_conv_reference(&b);
    struct hymn_method methods[MOST_METHODS];
    uint32_t count = list(&b, plan, methods);
    assert_true(count > 1);
    b.node->tuned = true;
    b.node->method = methods[test_random_range(&own, 1, count - 1)];
    if (share) {
        b.node->method = (struct hymn_method){{share->lanes, share->across}};
    }
    assert_string_equal(shader_of(&b, plan), "conv2d_winograd");
    size_t size = test_op_size(&b.graph, b.output.value);
    double nmse = test_conv_run(&b, context, plan, 0, NULL) ? test_op_nmse(expected, b.output.data, size) : INFINITY;
    bool half = shape->sources[0] == HYMN_STORAGE_F16 && !plan->weights_f32;
    double tolerance = test_op_tolerance(half ? HYMN_STORAGE_F16 : shape->output);
    if (!(nmse <= tolerance)) {
        test_conv_print(shape, "winograd");
        print_error("  %u lanes, %u across: NMSE %g, at most %g\n", b.node->method.words[0], b.node->method.words[1],
                    nmse, tolerance);
        fail();
    }
    free(expected);
    test_conv_destroy(&b);
}

// Enough outputs that no few small ones, in which large products cancel, make up the norm.
static struct test_conv_case make_case(struct test_random *random, const uint32_t kernels[3], uint32_t mode) {
    enum hymn_storage all = mode == 0 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
    struct test_conv_case c = {.height = test_random_range(random, 3, 13),
                               .width = test_random_range(random, 3, 21),
                               .batch = test_random_range(random, 1, 3),
                               .part_count = 1,
                               .parts = {test_random_range(random, 4, 17)},
                               .activation = (enum hymn_activation)test_random_range(random, 0, 1),
                               .residual = test_random_range(random, 0, 2),
                               .bias = test_random_range(random, 0, 3) > 0,
                               .output = all,
                               .extra = all};
    for (uint32_t i = 0; i < 3 && kernels[i]; i++) {
        c.term_count++;
        c.kernels[i] = kernels[i];
        c.channels[i] = test_random_range(random, 1, 40);
        c.first[i] = 8 * test_random_range(random, 0, 2);
        c.sources[i] = all;
    }
    if (mode == 2) {
        c.sources[1] = c.output = HYMN_STORAGE_F32;
    }
    if (c.residual == 2) {
        c.height *= 2;
        c.width *= 2;
    }
    return c;
}

// SwiftShader, with subgroups of four, takes five seconds for a pipeline: there every third case.
static bool is_left_out(uint32_t i) {
    return i % 3 && context->device->plan.cpu && context->device->plan.subgroup_size <= 4;
}

static void test_terms(void **state) {
    (void)state;
    static const uint32_t kernels[][3] = {{3}, {3, 3}, {3, 1}, {1, 3}, {3, 1, 1}, {3, 3, 1}, {3, 3, 3}};
    struct test_random random = test_random_start("op_conv2d_winograd terms");
    for (uint32_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        for (uint32_t turn = 0; turn < 2; turn++) { // a software device takes seconds for a pipeline
            uint32_t mode = turn == 0 ? 0 : 2 - i % 2;
            if (is_left_out(i + turn)) {
                continue;
            }
            struct hymn_vk_plan plan = gpu_plan((i / 2 + turn) % 2);
            plan.weights_f32 = mode == 1 && i % 4 == 1; // halves with weights in 32 bits
            struct test_conv_case c = make_case(&random, kernels[i], mode);
            check(&c, &plan, &random, NULL);
        }
    }
}

// Compiling takes a software device seconds: these share two pipelines.
static void test_sizes(void **state) {
    (void)state;
    static const uint32_t sizes[][2] = {{1, 1}, {1, 2},  {2, 1},  {1, 17},  {17, 1},
                                        {3, 3}, {2, 33}, {31, 2}, {40, 41}, {8, 64}};
    static const struct hymn_conv2d_winograd shares[] = {{64, 1}, {128, 1}};
    struct test_random random = test_random_start("op_conv2d_winograd sizes");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            struct hymn_vk_plan plan = gpu_plan(true);
            struct test_conv_case c = make_case(&random, (const uint32_t[3]){3}, k);
            c.residual = 0;
            c.activation = HYMN_ACTIVATION_RELU;
            c.height = sizes[i][0];
            c.width = sizes[i][1];
            c.parts[0] = test_random_range(&random, 60, 90);
            check(&c, &plan, &random, &shares[k]);
        }
    }
}

static void test_shares(void **state) {
    (void)state;
    static const struct hymn_conv2d_winograd shares[] = {{64, 4}, {128, 4}, {256, 2}, {192, 1}};
    struct test_random random = test_random_start("op_conv2d_winograd shares");
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct hymn_vk_plan plan = gpu_plan(i == 0);
        struct test_conv_case c = make_case(&random, (const uint32_t[3]){3}, 1);
        c.parts[0] = test_random_range(&random, 33, 80);
        if (shares[i].lanes <= plan.max_invocations && !is_left_out((uint32_t)i + 1)) {
            check(&c, &plan, &random, &shares[i]);
        }
    }
}

static void test_epilogues(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_winograd epilogues");
    for (uint32_t round = 0; round < 6; round++) {
        struct test_conv_case c = make_case(&random, (const uint32_t[3]){3, round % 2}, round % 2);
        c.activation = (enum hymn_activation)(round % 3);
        c.residual = round / 2;
        c.height += c.residual == 2 ? c.height % 2 : 0;
        c.width += c.residual == 2 ? c.width % 2 : 0;
        struct hymn_vk_plan plan = gpu_plan(round % 2);
        if (!is_left_out(round + round / 2)) {
            check(&c, &plan, &random, NULL);
        }
    }
}

static void test_parts(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_winograd parts");
    for (uint32_t round = 0; round < 2; round++) {
        struct test_conv_case c = make_case(&random, (const uint32_t[3]){3}, round % 2);
        c.part_count = test_random_range(&random, 2, 4);
        for (uint32_t i = 0; i < c.part_count; i++) {
            c.parts[i] = test_random_range(&random, 1, 35);
        }
        c.residual = 0;
        struct hymn_vk_plan plan = gpu_plan(false);
        check(&c, &plan, &random, NULL);
    }
}

// More tiles than a dispatch may have workgroups in x: they go on along z.
static void test_layers(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_winograd layers");
    for (uint32_t round = 0; round < 2; round++) {
        struct test_conv_case c = make_case(&random, (const uint32_t[3]){3, 1}, round % 2);
        c.height = 24;
        c.width = 38;
        c.residual = round;
        struct hymn_vk_plan plan = gpu_plan(false);
        plan.max_groups_x = test_random_range(&random, 1, 5);
        check(&c, &plan, &random, NULL);
    }
}

static void test_repeatable(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_winograd repeatable");
    struct test_conv_case c = make_case(&random, (const uint32_t[3]){3, 3, 1}, 1);
    struct hymn_vk_plan plan = gpu_plan(false);
    struct test_conv b;
    test_conv_build(&b, &c, &random);
    struct hymn_conv2d_winograd share = {64, 1};
    hymn_conv2d_winograd_force(&share);
    assert_string_equal(shader_of(&b, &plan), "conv2d_winograd");
    size_t bytes = test_op_size(&b.graph, b.output.value) * sizeof(float);
    float *first = malloc(bytes);
    assert_non_null(first);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(test_conv_run(&b, context, &plan, 0, NULL));
        if (i == 0) {
            memcpy(first, b.output.data, bytes);
        }
        assert_memory_equal(first, b.output.data, bytes);
    }
    hymn_conv2d_winograd_force(NULL);
    free(first);
    test_conv_destroy(&b);
}

// Convolutions that the kernel cannot do have no other method, and a method that does not fit is left for the direct
// kernel.
static void test_refused(void **state) {
    (void)state;
    static const uint32_t kernels[][3] = {{1}, {2}, {1, 1, 1}, {3, 2}};
    struct test_random random = test_random_start("op_conv2d_winograd refused");
    struct hymn_vk_plan plan = gpu_plan(true);
    struct hymn_method methods[MOST_METHODS];
    struct test_conv b;
    for (size_t i = 0; i <= sizeof kernels / sizeof *kernels; i++) {
        struct test_conv_case c = make_case(&random, i < 4 ? kernels[i] : kernels[0], 0);
        c.prologue = i == 4 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        test_conv_build(&b, &c, &random);
        assert_int_equal(list(&b, &plan, methods), 0);
        test_conv_destroy(&b);
    }
    struct test_conv_case c = make_case(&random, (const uint32_t[3]){3}, 0);
    c.parts[0] = 9; // two cells
    test_conv_build(&b, &c, &random);
    static const struct hymn_conv2d_winograd wrong[] = {{256, 1}, {96, 1}, {0, 1}, {64, 0}, {64, 3}, {64, 4}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(hymn_conv2d_winograd_valid(&b.graph, b.node, &plan, &wrong[i]));
        b.node->tuned = true;
        b.node->method = (struct hymn_method){{wrong[i].lanes, wrong[i].across}};
        assert_string_equal(shader_of(&b, &plan), "conv2d_tiled");
    }
    b.node->method = (struct hymn_method){{64, 2}};
    assert_string_equal(shader_of(&b, &plan), "conv2d_winograd");
    b.node->method = (struct hymn_method){{64, 2, [8] = 1}}; // a tile of the matrix kernel
    assert_string_equal(shader_of(&b, &plan), "conv2d_tiled");
    test_conv_destroy(&b);
}

// The direct kernel comes first, and on matrix units there is no other choice than their tiles.
static void test_listed(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_winograd listed");
    struct test_conv_case c = make_case(&random, (const uint32_t[3]){3}, 1);
    c.parts[0] = 64;
    struct test_conv b;
    test_conv_build(&b, &c, &random);
    struct hymn_vk_plan plan = gpu_plan(true);
    struct hymn_method methods[MOST_METHODS], again[MOST_METHODS];
    uint32_t count = list(&b, &plan, methods);
    assert_int_equal(count, 5); // 64 and 128 lanes by 4 and 2 cells
    b.node->tuned = true;
    for (uint32_t i = 0; i < count; i++) {
        b.node->method = methods[i];
        assert_string_equal(shader_of(&b, &plan), i ? "conv2d_winograd" : "conv2d_tiled");
    }
    b.node->tuned = false;
    assert_int_equal(hymn_ops[HYMN_KIND_CONV2D].list_methods(&b.graph, b.node, &plan, NULL, again, 3), 3);
    assert_int_equal(hymn_ops[HYMN_KIND_CONV2D].list_methods(&b.graph, b.node, &plan, &methods[2], again, 3), 0);
    plan.needs_met |= HYMN_NEEDS_COOPERATIVE_MATRIX;
    plan.matrix = (struct hymn_vk_matrix){16, 16, 16, 0};
    plan.subgroup_size = 32;
    plan.max_invocations = 256;
    plan.max_shared_bytes = 32768;
    count = list(&b, &plan, methods);
    assert_true(count > 1);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(methods[i].words[8] > 0);
    }
    // There too a method that was found is kept to.
    b.node->tuned = true;
    b.node->method = (struct hymn_method){{0}};
    assert_string_equal(shader_of(&b, &plan), "conv2d_tiled");
    b.node->method = (struct hymn_method){{64, 2}};
    assert_string_equal(shader_of(&b, &plan), "conv2d_winograd");
    test_conv_destroy(&b);
}

// ---------------------------------------------------------------------------------------------------------------
// timing

struct layer {
    uint32_t size, kernels[3], channels[3], out, residual;
};

static const struct layer layers[] = {
    {256, {3}, {3}, 16, 0},           {256, {3}, {16}, 16, 1},          {128, {3, 1}, {32, 16}, 32, 0},
    {256, {3, 3}, {16, 32}, 16, 0},   {256, {3, 1}, {16, 16}, 16, 2},   {64, {3}, {64}, 64, 1},
    {32, {3}, {128}, 128, 1},         {16, {3}, {256}, 256, 1},         {256, {3}, {32}, 32, 1},
    {128, {3}, {64}, 64, 1},          {256, {3, 3}, {32, 64}, 32, 0},   {128, {3, 3}, {64, 128}, 64, 0},
    {64, {3, 3}, {128, 256}, 128, 0}, {32, {3, 3}, {256, 512}, 256, 0}, {64, {3, 1}, {128, 128}, 128, 2},
};

static double time_method(const struct test_conv_case *c, const struct hymn_vk_plan *plan,
                          const struct hymn_method *method) {
    struct test_random random = test_random_fixed(1);
    struct test_conv b;
    test_conv_build(&b, c, &random);
    b.node->tuned = true;
    b.node->method = *method;
    double ms = 0.0;
    bool ok = test_conv_run(&b, context, plan, 5, &ms);
    test_conv_destroy(&b);
    return ok ? ms : INFINITY;
}

// On a software device beside its own direct kernel.
static int bench(int argc, char **argv) {
    const uint32_t batch = op_number(argc, argv, 1, 1);
    struct test_random random = test_random_fixed(1);
    struct hymn_vk_plan plan = context->device->plan;
    plan.needs_met &= ~(uint32_t)HYMN_NEEDS_COOPERATIVE_MATRIX;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const struct layer *l = &layers[i];
        struct test_conv_case c = make_case(&random, l->kernels, 1);
        c.height = c.width = l->size;
        c.batch = batch;
        c.parts[0] = l->out;
        c.residual = l->residual;
        memcpy(c.channels, l->channels, sizeof c.channels);
        memset(c.first, 0, sizeof c.first);
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_method methods[MOST_METHODS];
        uint32_t count = list(&b, &plan, methods), best = 1;
        double direct = time_method(&c, &plan, &methods[0]), best_ms = INFINITY;
        for (uint32_t k = 1; k < count; k++) {
            double ms = time_method(&c, &plan, &methods[k]);
            best = ms < best_ms ? k : best;
            best_ms = ms < best_ms ? ms : best_ms;
        }
        printf("%3u x %3u, %3u+%3u -> %3u: direct %9.1f us, winograd %9.1f us (%3u lanes, %u across), x%.2f\n", l->size,
               l->size, l->channels[0], l->channels[1], l->out, direct * 1e3, best_ms * 1e3, methods[best].words[0],
               methods[best].words[1], direct / best_ms);
        fflush(stdout);
        test_conv_destroy(&b);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms),      cmocka_unit_test(test_sizes),   cmocka_unit_test(test_shares),
        cmocka_unit_test(test_epilogues),  cmocka_unit_test(test_parts),   cmocka_unit_test(test_layers),
        cmocka_unit_test(test_repeatable), cmocka_unit_test(test_refused), cmocka_unit_test(test_listed),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_winograd", &context, tests, sizeof tests / sizeof *tests, bench});
}
