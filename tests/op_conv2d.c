// SPDX-License-Identifier: MIT
//
// The fused convolution against plain C in double precision: every combination of terms, prologue, epilogue and storage
// on random shapes, on the device's own variants and on the base ones. --bench times layers of the networks instead.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "support/test_context.h"
#include "support/test_op.h"
#include "vk/pipeline.h"

static struct hymn_context *context;

struct conv_case {
    uint32_t height, width, batch;
    uint32_t term_count, kernels[3], channels[3], first[3];
    uint32_t parts[4], part_count;
    enum hymn_activation activation;
    enum hymn_prologue prologue;
    uint32_t residual;                           // 0 none, 1 same size, 2 half size
    enum hymn_storage sources[3], output, extra; // extra: residual and gate
    bool bias;
};

struct built {
    struct conv_case shape;
    struct hymn_graph graph;
    struct hymn_node *node;
    uint32_t out_channels;
    struct test_op_tensor inputs[6], output;     // sources, residual, gate, stats
    uint32_t input_count, residual, gate, stats; // places in inputs; HYMN_NONE
    float *weights[3], *bias, *gamma, *beta;
    double *expected;
};

// ---------------------------------------------------------------------------------------------------------- plain C

static double source_at(const struct built *b, uint32_t input, uint32_t image, int64_t y, int64_t x, uint32_t channel) {
    const struct hymn_value *value = &b->graph.values[b->inputs[input].value];
    if (y < 0 || x < 0 || y >= (int64_t)value->height || x >= (int64_t)value->width) {
        return 0.0;
    }
    size_t pixel = ((size_t)image * value->height + (size_t)y) * value->width + (size_t)x;
    return b->inputs[input].data[pixel * value->channels + channel];
}

static double silu(double v) {
    return v / (1.0 + exp(-v));
}

static double prologue(const struct built *b, uint32_t image, uint32_t y, uint32_t x, uint32_t channel, double value) {
    if (b->shape.prologue == HYMN_PROLOGUE_NONE) {
        return value;
    }
    value -= source_at(b, b->stats, image, y, x, 0);
    value *= source_at(b, b->stats, image, y, x, 1);
    if (b->shape.prologue == HYMN_PROLOGUE_NORM_GATE) {
        uint32_t first = b->node->gate.first;
        value = value * b->gamma[channel] + b->beta[channel];
        value *= silu(source_at(b, b->gate, image, y, x, first + channel));
    }
    return value;
}

static double term_sum(const struct built *b, uint32_t term, uint32_t image, uint32_t y, uint32_t x, uint32_t row) {
    uint32_t kernel = b->shape.kernels[term], channels = b->shape.channels[term];
    double sum = 0.0;
    for (uint32_t tap = 0; tap < kernel * kernel; tap++) {
        int64_t sy = kernel == 2 ? 2 * (int64_t)y + tap % 2 : (int64_t)y + tap / kernel - (kernel == 3);
        int64_t sx = kernel == 2 ? 2 * (int64_t)x + tap / 2 : (int64_t)x + tap % kernel - (kernel == 3);
        for (uint32_t c = 0; c < channels; c++) {
            double value = source_at(b, term, image, sy, sx, b->shape.first[term] + c);
            value = prologue(b, image, y, x, c, value);
            sum += value * b->weights[term][((size_t)row * kernel * kernel + tap) * channels + c];
        }
    }
    return sum;
}

// Sample of the half-size residual at position (y + 0.5) / 2 - 0.5, edges clamped.
static double resized(const struct built *b, uint32_t image, uint32_t y, uint32_t x, uint32_t channel) {
    int64_t height = b->shape.height / 2, width = b->shape.width / 2;
    double sy = (y + 0.5) / 2 - 0.5, sx = (x + 0.5) / 2 - 0.5;
    int64_t y0 = (int64_t)floor(sy), x0 = (int64_t)floor(sx);
    double sum = 0.0;
    for (int64_t i = 0; i < 4; i++) {
        int64_t cy = y0 + i / 2, cx = x0 + i % 2;
        double weight = (1.0 - fabs(sy - (double)cy)) * (1.0 - fabs(sx - (double)cx));
        cy = cy < 0 ? 0 : cy >= height ? height - 1 : cy;
        cx = cx < 0 ? 0 : cx >= width ? width - 1 : cx;
        sum += weight * source_at(b, b->residual, image, cy, cx, channel);
    }
    return sum;
}

static double expected_at(const struct built *b, uint32_t image, uint32_t y, uint32_t x, uint32_t row,
                          uint32_t channel) {
    double sum = b->shape.bias ? b->bias[row] : 0.0;
    for (uint32_t term = 0; term < b->shape.term_count; term++) {
        sum += term_sum(b, term, image, y, x, row);
    }
    uint32_t from = b->node->residual.first + channel;
    if (b->shape.residual == 1) {
        sum += source_at(b, b->residual, image, y, x, from);
    } else if (b->shape.residual == 2) {
        sum += resized(b, image, y, x, from);
    }
    return b->shape.activation == HYMN_ACTIVATION_RELU && sum < 0.0 ? 0.0
           : b->shape.activation == HYMN_ACTIVATION_SILU            ? silu(sum)
                                                                    : sum;
}

// ------------------------------------------------------------------------------------------------------------ building

static uint32_t add_input(struct built *b, struct test_random *random, uint32_t height, uint32_t width,
                          uint32_t channels, enum hymn_storage storage, float low, float high) {
    uint32_t value = hymn_graph_add_value(&b->graph, "input", height, width, channels, storage);
    assert_int_not_equal(value, HYMN_NONE);
    if (channels == 2 && low > 0.0f) { // statistics are pairs without padding
        b->graph.values[value].stride = 2;
    }
    b->inputs[b->input_count] = (struct test_op_tensor){value, test_op_random(&b->graph, value, random, low, high)};
    assert_non_null(b->inputs[b->input_count].data);
    return b->input_count++;
}

static float *random_array(struct test_random *random, size_t count, float low, float high) {
    float *data = malloc(count * sizeof *data);
    assert_non_null(data);
    test_random_fill(random, data, count, low, high);
    return data;
}

static void add_terms(struct built *b, struct test_random *random) {
    const struct conv_case *shape = &b->shape;
    for (uint32_t i = 0; i < shape->term_count; i++) {
        uint32_t scale = shape->kernels[i] == 2 ? 2 : 1, taps = shape->kernels[i] * shape->kernels[i];
        // More channels before and behind the part that is read, so that a wrong place shows.
        uint32_t behind = shape->channels[i] % 8 == 0 && shape->first[i] ? 8 : 0;
        add_input(b, random, scale * shape->height, scale * shape->width, shape->first[i] + shape->channels[i] + behind,
                  shape->sources[i], -1.0f, 1.0f);
        float limit = 1.0f / sqrtf((float)(taps * shape->channels[i]));
        b->weights[i] = random_array(random, (size_t)b->out_channels * taps * shape->channels[i], -limit, limit);
    }
}

static void set_node(struct built *b, uint32_t output) {
    struct hymn_node *node = b->node = hymn_graph_add_node(&b->graph, HYMN_KIND_CONV2D, "conv");
    assert_non_null(node);
    const struct conv_case *shape = &b->shape;
    node->term_count = shape->term_count;
    for (uint32_t i = 0; i < shape->term_count; i++) {
        node->terms[i] = (struct hymn_term){
            {b->inputs[i].value, shape->first[i], shape->channels[i]}, shape->kernels[i], b->weights[i]};
    }
    node->output = output;
    node->out_channels = b->out_channels;
    memcpy(node->parts, shape->parts, sizeof node->parts);
    node->part_count = shape->part_count;
    node->bias = shape->bias ? b->bias : NULL;
    node->activation = shape->activation;
    node->prologue = shape->prologue;
    if (b->residual != HYMN_NONE) {
        node->residual = (struct hymn_source){b->inputs[b->residual].value, 8, b->out_channels};
        node->residual_resize = shape->residual == 2;
    }
    if (b->stats != HYMN_NONE) {
        node->stats = b->inputs[b->stats].value;
    }
    if (b->gate != HYMN_NONE) {
        node->gate = (struct hymn_source){b->inputs[b->gate].value, 8, shape->channels[0]};
        node->gamma = b->gamma;
        node->beta = b->beta;
    }
}

static uint32_t padded_channels(const struct conv_case *shape) {
    uint32_t channels = 0;
    for (uint32_t i = 0; i < shape->part_count; i++) {
        channels = hymn_round_up(channels, 8) + shape->parts[i];
    }
    return channels;
}

static void build(struct built *b, const struct conv_case *shape, struct test_random *random) {
    memset(b, 0, sizeof *b);
    b->shape = *shape;
    b->residual = b->gate = b->stats = HYMN_NONE;
    hymn_graph_init(&b->graph, shape->batch, HYMN_STORAGE_F32);
    for (uint32_t i = 0; i < shape->part_count; i++) {
        b->out_channels += shape->parts[i];
    }
    add_terms(b, random);
    b->bias = random_array(random, b->out_channels, -1.0f, 1.0f);
    uint32_t divisor = shape->residual == 2 ? 2 : 1;
    if (shape->residual) {
        b->residual = add_input(b, random, shape->height / divisor, shape->width / divisor, 8 + b->out_channels,
                                shape->extra, -1.0f, 1.0f);
    }
    if (shape->prologue != HYMN_PROLOGUE_NONE) {
        b->stats = add_input(b, random, shape->height, shape->width, 2, HYMN_STORAGE_F32, 0.5f, 1.5f);
    }
    if (shape->prologue == HYMN_PROLOGUE_NORM_GATE) {
        b->gate = add_input(b, random, shape->height, shape->width, 8 + shape->channels[0], shape->extra, -4.0f, 4.0f);
        b->gamma = random_array(random, shape->channels[0], 0.5f, 1.5f);
        b->beta = random_array(random, shape->channels[0], -1.0f, 1.0f);
    }
    uint32_t output =
        hymn_graph_add_value(&b->graph, "output", shape->height, shape->width, padded_channels(shape), shape->output);
    assert_int_not_equal(output, HYMN_NONE);
    b->graph.output = output;
    b->output = (struct test_op_tensor){output, calloc(test_op_size(&b->graph, output), sizeof(float))};
    assert_non_null(b->output.data);
    set_node(b, output);
}

static void destroy(struct built *b) {
    for (uint32_t i = 0; i < b->input_count; i++) {
        free(b->inputs[i].data);
    }
    for (uint32_t i = 0; i < 3; i++) {
        free(b->weights[i]);
    }
    free(b->bias);
    free(b->gamma);
    free(b->beta);
    free(b->output.data);
    hymn_graph_free(&b->graph);
}

static bool run(struct built *b, const struct hymn_vk_plan *plan, uint32_t repeat, double *out_ms) {
    struct test_op_run op = {.context = context,
                             .plan = plan,
                             .graph = &b->graph,
                             .inputs = b->inputs,
                             .input_count = b->input_count,
                             .outputs = &b->output,
                             .output_count = 1,
                             .repeat = repeat};
    return test_op_run(&op, out_ms);
}

// -------------------------------------------------------------------------------------------------------- correctness

static void print_case(const struct conv_case *c, const char *plan) {
    print_error("%s: %ux%u batch %u, out %u+%u+%u+%u (%u parts), act %d, prologue %d, residual %u, bias %d, out f%d, "
                "extra f%d\n",
                plan, c->height, c->width, c->batch, c->parts[0], c->parts[1], c->parts[2], c->parts[3], c->part_count,
                (int)c->activation, (int)c->prologue, c->residual, c->bias, c->output ? 16 : 32, c->extra ? 16 : 32);
    for (uint32_t i = 0; i < c->term_count; i++) {
        print_error("  term %u: kernel %u, channels %u+%u, f%d\n", i, c->kernels[i], c->first[i], c->channels[i],
                    c->sources[i] ? 16 : 32);
    }
}

static float *reference(const struct built *b) {
    const struct conv_case *shape = &b->shape;
    uint32_t channels = padded_channels(shape);
    float *expected = calloc(test_op_size(&b->graph, b->output.value), sizeof *expected);
    assert_non_null(expected);
    size_t pixel = 0;
    for (uint32_t image = 0; image < shape->batch; image++) {
        for (uint32_t y = 0; y < shape->height; y++) {
            for (uint32_t x = 0; x < shape->width; x++, pixel++) {
                for (uint32_t part = 0, row = 0; part < shape->part_count; part++) {
                    uint32_t channel = hymn_node_part_first(b->node, part);
                    for (uint32_t i = 0; i < shape->parts[part]; i++, row++, channel++) {
                        expected[pixel * channels + channel] = (float)expected_at(b, image, y, x, row, channel);
                    }
                }
            }
        }
    }
    return expected;
}

// Compiling a pipeline takes a software device seconds, running one of these cases next to nothing: many shapes share
// few combinations of storage.
enum storage_mode { ALL_F32, ALL_F16, MIXED, STORAGE_MODES };

static void check(const struct conv_case *shape, bool base, struct test_random *random) {
    struct built b;
    build(&b, shape, random);
    float *expected = reference(&b);
    struct hymn_vk_plan plan = context->device->plan;
    if (base) {
        hymn_vk_plan_make(&context->device->snapshot, true, &plan);
        plan.target_lanes = 64u << test_random_range(random, 0, 1) * 11; // a small device and a large one
    }
    plan.weights_f32 = shape->sources[1] == HYMN_STORAGE_F32; // both kinds of weights, on any device
    size_t count = test_op_size(&b.graph, b.output.value);
    double nmse = run(&b, &plan, 0, NULL) ? test_op_nmse(expected, b.output.data, count) : INFINITY;
    bool half_weights = shape->sources[0] == HYMN_STORAGE_F16 && !plan.weights_f32;
    double tolerance = test_op_tolerance(half_weights ? HYMN_STORAGE_F16 : shape->output);
    if (!(nmse <= tolerance)) {
        print_case(shape, base ? "base" : "own");
        print_error("  NMSE %g, at most %g\n", nmse, tolerance);
        fail();
    }
    free(expected);
    destroy(&b);
}

static void set_storage(struct conv_case *c, enum storage_mode mode) {
    enum hymn_storage all = mode == ALL_F32 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
    c->sources[0] = c->sources[1] = c->sources[2] = c->output = c->extra = all;
    if (mode == MIXED) {
        c->sources[1] = c->output = HYMN_STORAGE_F32;
    }
}

static struct conv_case random_case(struct test_random *random, uint32_t term_count, const uint32_t kernels[3],
                                    enum storage_mode mode) {
    struct conv_case c = {.height = test_random_range(random, 1, 12),
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
            for (uint32_t round = 0; round < 3; round++) {
                struct conv_case c = random_case(&random, count, kernels[i], (enum storage_mode)mode);
                check(&c, false, &random);
            }
        }
        struct conv_case c = random_case(&random, count, kernels[i], (enum storage_mode)(i % STORAGE_MODES));
        check(&c, true, &random);
    }
}

static void test_silu(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d silu");
    for (uint32_t round = 0; round < 6; round++) {
        struct conv_case c = random_case(&random, 1, (const uint32_t[3]){1 + round % 2 * 2}, ALL_F32);
        c.activation = HYMN_ACTIVATION_SILU;
        check(&c, round == 4, &random);
    }
}

static void test_prologues(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d prologues");
    for (uint32_t round = 0; round < 18; round++) {
        uint32_t kernel = 1 + round % 2;
        struct conv_case c =
            random_case(&random, 1, (const uint32_t[3]){kernel}, (enum storage_mode)(round / 2 % STORAGE_MODES));
        c.prologue = kernel == 1 && round % 4 == 0 ? HYMN_PROLOGUE_NORM_GATE : HYMN_PROLOGUE_NORM;
        check(&c, round >= 14, &random);
    }
}

static void test_parts(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d parts");
    for (uint32_t round = 0; round < 10; round++) {
        struct conv_case c =
            random_case(&random, 1, (const uint32_t[3]){1}, (enum storage_mode)(round % STORAGE_MODES));
        c.part_count = test_random_range(&random, 2, 4);
        for (uint32_t i = 0; i < c.part_count; i++) {
            c.parts[i] = test_random_range(&random, 1, 35);
        }
        c.residual = 0;
        check(&c, round >= 8, &random);
    }
}

// Sums that leave the range of binary16 saturate.
static void test_saturation(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d saturation");
    struct conv_case c = {.height = 3,
                          .width = 5,
                          .batch = 1,
                          .term_count = 1,
                          .kernels = {1},
                          .channels = {8},
                          .parts = {9},
                          .part_count = 1,
                          .output = HYMN_STORAGE_F16,
                          .bias = true};
    struct built b;
    build(&b, &c, &random);
    for (uint32_t i = 0; i < 9; i++) {
        b.bias[i] = i % 2 ? 1e6f : -1e6f;
    }
    assert_true(run(&b, NULL, 0, NULL));
    for (size_t i = 0; i < test_op_size(&b.graph, b.output.value); i++) {
        assert_true(b.output.data[i] == (i % 9 % 2 ? 65504.0f : -65504.0f));
    }
    destroy(&b);
}

static void test_repeatable(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d repeatable");
    struct conv_case c = random_case(&random, 3, (const uint32_t[3]){3, 1, 1}, ALL_F16);
    struct built b;
    build(&b, &c, &random);
    size_t bytes = test_op_size(&b.graph, b.output.value) * sizeof(float);
    assert_true(run(&b, NULL, 0, NULL));
    float *first = malloc(bytes);
    assert_non_null(first);
    memcpy(first, b.output.data, bytes);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(run(&b, NULL, 0, NULL));
        assert_memory_equal(first, b.output.data, bytes);
    }
    free(first);
    destroy(&b);
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
    {"output projection", 64, 1, {1}, {128}, 64, 1, HYMN_PROLOGUE_NORM_GATE},
    {"patch merging", 32, 1, {2}, {64}, 128, 0, HYMN_PROLOGUE_NORM},
    {"input projection", 32, 1, {1}, {128}, 512, 0, HYMN_PROLOGUE_NORM},
    {"input projection", 16, 1, {1}, {256}, 1024, 0, HYMN_PROLOGUE_NORM},
    {"head", 256, 1, {1}, {16}, 1, 0, 0},
};

static int bench(bool base) {
    struct test_random random = test_random_fixed(1);
    struct hymn_vk_plan plan = context->device->plan;
    if (base) {
        hymn_vk_plan_make(&context->device->snapshot, true, &plan);
    }
    for (int storage = 0; storage < 2; storage++) {
        double total_ms = 0.0;
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            const struct layer *l = &layers[i];
            struct conv_case c = {.height = l->size,
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
            struct built b;
            build(&b, &c, &random);
            double ms = 0.0;
            if (!run(&b, &plan, 20, &ms)) {
                return 1;
            }
            double flops = 2.0 * (double)hymn_node_macs(&b.graph, b.node);
            printf("%-26s %3u x %3u, %3u+%u -> %4u %s: %8.3f ms %8.1f GFLOP/s\n", l->name, l->size, l->size,
                   l->channels[0], l->channels[1], l->out, storage ? "f16" : "f32", ms, flops / ms * 1e-6);
            total_ms += ms;
            destroy(&b);
        }
        printf("all of them, %s: %.2f ms\n", storage ? "f16" : "f32", total_ms);
    }
    double pipelines_ms = 0.0;
    uint32_t pipelines = hymn_vk_pipelines_count(context->device, &pipelines_ms);
    printf("%u pipelines made in %.1f ms\n", pipelines, pipelines_ms);
    return 0;
}

int main(int argc, char **argv) {
    context = test_context_open();
    if (!context) {
        return 1;
    }
    int failed;
    if (argc > 1 && strncmp(argv[1], "--bench", 7) == 0) {
        failed = bench(strcmp(argv[1], "--bench-base") == 0);
    } else {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_terms), cmocka_unit_test(test_silu),       cmocka_unit_test(test_prologues),
            cmocka_unit_test(test_parts), cmocka_unit_test(test_saturation), cmocka_unit_test(test_repeatable),
        };
        failed = cmocka_run_group_tests_name("op_conv2d", tests, NULL, NULL);
    }
    return test_context_close(&context) != 0 || failed;
}
