// SPDX-License-Identifier: MIT
//
// The fused convolution against plain C in double precision: every combination of terms, prologue, epilogue and storage
// on random shapes, on the device's own variants and on the base ones. --bench times layers of the networks instead.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_main.h"
#include "support/test_conv.h"
#include "support/test_share.h"
#include "vk/pipeline.h"

static struct hymn_context *context;

// Compiling a pipeline takes a software device seconds, running one of these cases next to nothing: many shapes share
// few combinations of storage.
enum storage_mode { ALL_F32, ALL_F16, MIXED, STORAGE_MODES };

// The plan of the device; that of the base tier; one for shaders of four storage buffers.
enum variants { OWN, BASE, FEW };

static void check(const struct test_conv_case *shape, enum variants variants, struct test_random *random) {
    struct test_random own = test_random_fixed(test_random_u64(random)); // the next case is the same without this one
    if (test_share_leaves_out()) {
        return;
    }
    struct test_conv b;
    test_conv_build(&b, shape, &own);
    float *expected = test_conv_reference(&b);
    struct hymn_vk_plan plan = context->device->plan;
    if (variants != OWN) {
        hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
        plan.target_lanes = 64u << test_random_range(&own, 0, 1) * 11; // a small device and a large one
    }
    if (variants == FEW) {
        plan.needs_met &= ~(uint32_t)HYMN_NEEDS_BUFFERS;
    }
    if (test_random_range(&own, 0, 3) == 0) {
        plan.max_groups_x = test_random_range(&own, 1, 5); // tiles in layers of the dispatch
    }
    plan.weights_f32 = shape->sources[1] == HYMN_STORAGE_F32; // both kinds of weights, on any device
    if (plan.cpu) { // matrices are emulated there, and take seconds to compile: they have a test of their own
        plan.needs_met &= ~(uint32_t)HYMN_NEEDS_COOPERATIVE_MATRIX;
    }
    size_t count = test_op_size(&b.graph, b.output.value);
    double nmse = test_conv_run(&b, context, &plan, 0, NULL) ? test_op_nmse(expected, b.output.data, count) : INFINITY;
    bool half_weights = shape->sources[0] == HYMN_STORAGE_F16 && !plan.weights_f32;
    double tolerance = test_op_tolerance(half_weights ? HYMN_STORAGE_F16 : shape->output);
    if (!(nmse <= tolerance)) {
        test_conv_print(shape, variants == OWN ? "own" : variants == BASE ? "base" : "few buffers");
        print_error("  NMSE %g, at most %g\n", nmse, tolerance);
        fail();
    }
    free(expected);
    test_conv_destroy(&b);
}

static void set_storage(struct test_conv_case *c, enum storage_mode mode) {
    enum hymn_storage all = mode == ALL_F32 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
    c->sources[0] = c->sources[1] = c->sources[2] = c->output = c->extra = all;
    if (mode == MIXED) {
        c->sources[1] = c->output = HYMN_STORAGE_F32;
    }
}

static struct test_conv_case random_case(struct test_random *random, uint32_t term_count, const uint32_t kernels[3],
                                         enum storage_mode mode) {
    struct test_conv_case c = {.height = test_random_range(random, 1, 12),
                               .width = test_random_range(random, 1, 21),
                               .batch = test_random_range(random, 1, 3),
                               .term_count = term_count,
                               .part_count = 1,
                               .activation = (enum hymn_activation)test_random_range(random, 0, 1),
                               .bias = test_random_range(random, 0, 3) > 0};
    for (uint32_t i = 0; i < term_count; i++) {
        c.kernels[i] = kernels[i];
        c.channels[i] = test_random_range(random, 1, 40);
        c.first[i] = 8 * test_random_range(random, 0, 2);
    }
    c.parts[0] = test_random_range(random, 1, 40);
    if (c.parts[0] < 8) { // ReLU may leave next to nothing of few channels to compare with
        c.activation = HYMN_ACTIVATION_NONE;
    }
    c.residual = test_random_range(random, 0, 2);
    if (c.residual == 2) {
        c.height *= 2;
        c.width *= 2;
    }
    set_storage(&c, mode);
    return c;
}

static void test_terms(void **state) {
    (void)state;
    static const uint32_t kernels[][3] = {{3},       {1},    {2},       {3, 3},    {3, 1}, {1, 3},    {3, 1, 1},
                                          {3, 3, 1}, {1, 1}, {1, 1, 1}, {3, 3, 3}, {2, 1}, {3, 2, 1}, {1, 3, 3}};
    struct test_random random = test_random_start("op_conv2d terms");
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        uint32_t count = kernels[i][1] == 0 ? 1 : kernels[i][2] == 0 ? 2 : 3;
        for (int mode = 0; mode < STORAGE_MODES; mode++) {
            for (uint32_t round = 0; round < 2; round++) {
                struct test_conv_case c = random_case(&random, count, kernels[i], (enum storage_mode)mode);
                check(&c, OWN, &random);
            }
        }
        struct test_conv_case c = random_case(&random, count, kernels[i], (enum storage_mode)(i % STORAGE_MODES));
        check(&c, BASE, &random);
    }
}

static void test_silu(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d silu");
    for (uint32_t round = 0; round < 6; round++) {
        struct test_conv_case c = random_case(&random, 1, (const uint32_t[3]){1 + round % 2 * 2}, ALL_F32);
        c.activation = HYMN_ACTIVATION_SILU;
        check(&c, round == 4 ? BASE : OWN, &random);
    }
}

static void test_prologues(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d prologues");
    for (uint32_t round = 0; round < 18; round++) {
        uint32_t kernel = 1 + round % 2;
        struct test_conv_case c =
            random_case(&random, 1, (const uint32_t[3]){kernel}, (enum storage_mode)(round / 2 % STORAGE_MODES));
        c.prologue = HYMN_PROLOGUE_NORM;
        check(&c, round >= 14 ? BASE : OWN, &random);
    }
}

static void test_parts(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d parts");
    for (uint32_t round = 0; round < 10; round++) {
        struct test_conv_case c =
            random_case(&random, 1, (const uint32_t[3]){1}, (enum storage_mode)(round % STORAGE_MODES));
        c.part_count = test_random_range(&random, 2, 4);
        for (uint32_t i = 0; i < c.part_count; i++) {
            c.parts[i] = test_random_range(&random, 1, 35);
        }
        c.residual = 0;
        check(&c, round >= 8 ? BASE : OWN, &random);
    }
}

// Where shaders have four storage buffers there are no more sources than one, which may have statistics or a residual;
// several terms follow each other. test_op_run counts the bindings.
static void test_few_buffers(void **state) {
    (void)state;
    static const uint32_t kernels[][3] = {{3, 2, 1}, {1, 3}, {1}, {2}, {1}};
    struct test_random random = test_random_start("op_conv2d few buffers");
    for (uint32_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        uint32_t count = kernels[i][1] == 0 ? 1 : kernels[i][2] == 0 ? 2 : 3;
        struct test_conv_case c = random_case(&random, count, kernels[i], (enum storage_mode)(i % STORAGE_MODES));
        if (i >= 2) {
            c.prologue = i < 4 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
            c.residual = 0;
        }
        if (i == 4) {
            c.part_count = 2;
            c.parts[1] = test_random_range(&random, 1, 35);
        }
        check(&c, FEW, &random);
    }
}

// Sums that leave the range of binary16 saturate.
static void test_saturation(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d saturation");
    struct test_conv_case c = {.height = 3,
                               .width = 5,
                               .batch = 1,
                               .term_count = 1,
                               .kernels = {1},
                               .channels = {8},
                               .parts = {9},
                               .part_count = 1,
                               .output = HYMN_STORAGE_F16,
                               .bias = true};
    struct test_conv b;
    test_conv_build(&b, &c, &random);
    for (uint32_t i = 0; i < 9; i++) {
        b.bias[i] = i % 2 ? 1e6f : -1e6f;
    }
    assert_true(test_conv_run(&b, context, NULL, 0, NULL));
    for (size_t i = 0; i < test_op_size(&b.graph, b.output.value); i++) {
        assert_true(b.output.data[i] == (i % 9 % 2 ? 65504.0f : -65504.0f));
    }
    test_conv_destroy(&b);
}

static void test_repeatable(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d repeatable");
    struct test_conv_case c = random_case(&random, 3, (const uint32_t[3]){3, 1, 1}, ALL_F16);
    struct test_conv b;
    test_conv_build(&b, &c, &random);
    size_t bytes = test_op_size(&b.graph, b.output.value) * sizeof(float);
    assert_true(test_conv_run(&b, context, NULL, 0, NULL));
    float *first = malloc(bytes);
    assert_non_null(first);
    memcpy(first, b.output.data, bytes);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(test_conv_run(&b, context, NULL, 0, NULL));
        assert_memory_equal(first, b.output.data, bytes);
    }
    free(first);
    test_conv_destroy(&b);
}

// ---------------------------------------------------------------------------------------------------------------
// timing

struct layer {
    const char *name;
    uint32_t size, term_count, kernels[3], channels[3], out, residual;
    enum hymn_prologue prologue;
};

static const struct layer layers[] = {
    {"encoder 3x3", 256, 1, {3}, {3}, 16, 0, 0},
    {"encoder 3x3", 256, 1, {3}, {16}, 16, 0, 0},
    {"encoder 3x3", 128, 1, {3}, {32}, 32, 0, 0},
    {"encoder 3x3", 64, 1, {3}, {64}, 64, 0, 0},
    {"encoder 3x3", 32, 1, {3}, {128}, 128, 0, 0},
    {"encoder 3x3", 16, 1, {3}, {256}, 256, 0, 0},
    {"3x3 + shortcut", 128, 2, {3, 1}, {32, 16}, 32, 0, 0},
    {"decoder 3x3, two sources", 256, 2, {3, 3}, {16, 32}, 16, 0, 0},
    {"decoder 3x3, two sources", 128, 2, {3, 3}, {32, 64}, 32, 0, 0},
    {"decoder 3x3, two sources", 64, 2, {3, 3}, {64, 128}, 64, 0, 0},
    {"decoder 3x3, two sources", 32, 2, {3, 3}, {128, 256}, 128, 0, 0},
    {"3x3 + shortcut + resized", 256, 2, {3, 1}, {16, 16}, 16, 2, 0},
    {"gate and shortcut 1x1", 128, 1, {1}, {32}, 32, 0, 0},
    {"input projection", 64, 1, {1}, {64}, 256, 0, HYMN_PROLOGUE_NORM},
    {"output projection", 64, 1, {1}, {128}, 64, 1, 0},
    {"patch merging", 32, 1, {2}, {64}, 128, 0, HYMN_PROLOGUE_NORM},
    {"input projection", 32, 1, {1}, {128}, 512, 0, HYMN_PROLOGUE_NORM},
    {"input projection", 16, 1, {1}, {256}, 1024, 0, HYMN_PROLOGUE_NORM},
    {"head", 256, 1, {1}, {16}, 1, 0, 0},
};

static int bench(int argc, char **argv) {
    (void)argc;
    const bool base = strcmp(argv[0], "--bench-base") == 0;
    struct test_random random = test_random_fixed(1);
    struct hymn_vk_plan plan = context->device->plan;
    if (base) {
        hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
    }
    for (int storage = 0; storage < 2; storage++) {
        double total_ms = 0.0;
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            const struct layer *l = &layers[i];
            struct test_conv_case c = {.height = l->size,
                                       .width = l->size,
                                       .batch = 1,
                                       .term_count = l->term_count,
                                       .parts = {l->out},
                                       .part_count = 1,
                                       .activation = HYMN_ACTIVATION_RELU,
                                       .prologue = l->prologue,
                                       .residual = l->residual,
                                       .bias = true,
                                       .output = (enum hymn_storage)storage,
                                       .extra = (enum hymn_storage)storage};
            for (uint32_t t = 0; t < l->term_count; t++) {
                c.kernels[t] = l->kernels[t];
                c.channels[t] = l->channels[t];
                c.sources[t] = (enum hymn_storage)storage;
            }
            struct test_conv b;
            test_conv_build(&b, &c, &random);
            double ms = 0.0;
            if (!test_conv_run(&b, context, &plan, 20, &ms)) {
                return 1;
            }
            double flops = 2.0 * (double)hymn_node_macs(&b.graph, b.node);
            printf("%-26s %3u x %3u, %3u+%u -> %4u %s: %8.3f ms %8.1f GFLOP/s\n", l->name, l->size, l->size,
                   l->channels[0], l->channels[1], l->out, storage ? "f16" : "f32", ms, flops / ms * 1e-6);
            total_ms += ms;
            test_conv_destroy(&b);
        }
        printf("all of them, %s: %.2f ms\n", storage ? "f16" : "f32", total_ms);
    }
    double pipelines_ms = 0.0;
    uint32_t pipelines = hymn_vk_pipelines_count(context->device, &pipelines_ms);
    printf("%u pipelines made in %.1f ms\n", pipelines, pipelines_ms);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms),       cmocka_unit_test(test_silu),  cmocka_unit_test(test_prologues),
        cmocka_unit_test(test_few_buffers), cmocka_unit_test(test_parts), cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_repeatable),
    };
    return op_main(argc, argv, &(struct op_program){"op_conv2d", &context, tests, sizeof tests / sizeof *tests, bench});
}
