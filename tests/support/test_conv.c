// SPDX-License-Identifier: MIT
#include "support/test_conv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------------- plain C

static double source_at(const struct test_conv *b, uint32_t input, uint32_t image, int64_t y, int64_t x,
                        uint32_t channel) {
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

static double prologue(const struct test_conv *b, uint32_t image, uint32_t y, uint32_t x, double value) {
    if (b->shape.prologue == HYMN_PROLOGUE_NONE) {
        return value;
    }
    return (value - source_at(b, b->stats, image, y, x, 0)) * source_at(b, b->stats, image, y, x, 1);
}

static double term_sum(const struct test_conv *b, uint32_t term, uint32_t image, uint32_t y, uint32_t x, uint32_t row) {
    uint32_t kernel = b->shape.kernels[term], channels = b->shape.channels[term];
    double sum = 0.0;
    for (uint32_t tap = 0; tap < kernel * kernel; tap++) {
        int64_t sy = kernel == 2 ? 2 * (int64_t)y + tap % 2 : (int64_t)y + tap / kernel - (kernel == 3);
        int64_t sx = kernel == 2 ? 2 * (int64_t)x + tap / 2 : (int64_t)x + tap % kernel - (kernel == 3);
        for (uint32_t c = 0; c < channels; c++) {
            double value = source_at(b, term, image, sy, sx, b->shape.first[term] + c);
            value = prologue(b, image, y, x, value);
            sum += value * b->weights[term][((size_t)row * kernel * kernel + tap) * channels + c];
        }
    }
    return sum;
}

// Sample of the half-size residual at position (y + 0.5) / 2 - 0.5, edges clamped.
static double resized(const struct test_conv *b, uint32_t image, uint32_t y, uint32_t x, uint32_t channel) {
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

static double expected_at(const struct test_conv *b, uint32_t image, uint32_t y, uint32_t x, uint32_t row,
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

static uint32_t add_input(struct test_conv *b, struct test_random *random, uint32_t height, uint32_t width,
                          uint32_t channels, enum hymn_storage storage, float low, float high) {
    uint32_t value = hymn_graph_add_value(&b->graph, "input", height, width, channels, storage);
    assert_int_not_equal(value, HYMN_NONE);
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

static void add_terms(struct test_conv *b, struct test_random *random) {
    const struct test_conv_case *shape = &b->shape;
    for (uint32_t i = 0; i < shape->term_count; i++) {
        uint32_t scale = shape->kernels[i] == 2 ? 2 : 1, taps = shape->kernels[i] * shape->kernels[i];
        // More channels before and behind the part that is read, so that a wrong place shows.
        uint32_t behind = shape->channels[i] % 8 == 0 && shape->first[i] ? 8 : 0;
        add_input(b, random, scale * shape->height, scale * shape->width, shape->first[i] + shape->channels[i] + behind,
                  shape->sources[i], shape->mean - 1.0f, shape->mean + 1.0f);
        float limit = 1.0f / sqrtf((float)(taps * shape->channels[i]));
        b->weights[i] = random_array(random, (size_t)b->out_channels * taps * shape->channels[i], -limit, limit);
    }
}

// Of what the only term reads: kernels may find them by themselves.
static void set_statistics(struct test_conv *b) {
    const struct test_conv_case *shape = &b->shape;
    uint32_t kernel = shape->kernels[0], channels = shape->channels[0], count = kernel * kernel * channels;
    float *to = b->inputs[b->stats].data;
    for (uint32_t i = 0; i < shape->batch * shape->height * shape->width; i++, to += 2) {
        uint32_t image = i / shape->width / shape->height, y = i / shape->width % shape->height, x = i % shape->width;
        double mean = 0.0, squares = 0.0;
        for (uint32_t k = 0; k < 2 * count; k++) {
            uint32_t tap = k % count / channels;
            double value = source_at(b, 0, image, (int64_t)kernel * y + tap / kernel,
                                     (int64_t)kernel * x + tap % kernel, shape->first[0] + k % channels);
            mean += k < count ? value / count : 0.0;
            squares += k < count ? 0.0 : (value - mean) * (value - mean);
        }
        to[0] = (float)mean;
        to[1] = (float)(1.0 / sqrt(squares / count + 1e-5));
    }
}

static void set_node(struct test_conv *b, uint32_t output) {
    struct hymn_node *node = b->node = hymn_graph_add_node(&b->graph, HYMN_KIND_CONV2D, "conv");
    assert_non_null(node);
    const struct test_conv_case *shape = &b->shape;
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
}

static uint32_t padded_channels(const struct test_conv_case *shape) {
    uint32_t channels = 0;
    for (uint32_t i = 0; i < shape->part_count; i++) {
        channels = hymn_round_up(channels, 8) + shape->parts[i];
    }
    return channels;
}

void test_conv_build(struct test_conv *b, const struct test_conv_case *shape, struct test_random *random) {
    memset(b, 0, sizeof *b);
    b->shape = *shape;
    b->residual = b->stats = HYMN_NONE;
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
        b->graph.values[b->inputs[b->stats].value].stride = 2; // pairs without padding
        set_statistics(b);
    }
    uint32_t output =
        hymn_graph_add_value(&b->graph, "output", shape->height, shape->width, padded_channels(shape), shape->output);
    assert_int_not_equal(output, HYMN_NONE);
    b->graph.output = output;
    b->output = (struct test_op_tensor){output, calloc(test_op_size(&b->graph, output), sizeof(float))};
    assert_non_null(b->output.data);
    set_node(b, output);
}

void test_conv_destroy(struct test_conv *b) {
    for (uint32_t i = 0; i < b->input_count; i++) {
        free(b->inputs[i].data);
    }
    for (uint32_t i = 0; i < 3; i++) {
        free(b->weights[i]);
    }
    free(b->bias);
    free(b->output.data);
    hymn_graph_free(&b->graph);
}

bool test_conv_run(struct test_conv *b, struct hymn_context *context, const struct hymn_vk_plan *plan, uint32_t repeat,
                   double *out_ms) {
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

struct test_conv_case test_conv_random_case(struct test_random *random, const uint32_t kernels[3]) {
    struct test_conv_case c = {.height = test_random_range(random, 1, 12),
                               .width = test_random_range(random, 1, 37),
                               .batch = test_random_range(random, 1, 3),
                               .part_count = 1,
                               .activation = HYMN_ACTIVATION_RELU,
                               .bias = true,
                               .output = HYMN_STORAGE_F16,
                               .extra = HYMN_STORAGE_F16};
    for (uint32_t i = 0; i < 3 && kernels[i]; i++) {
        c.term_count++;
        c.kernels[i] = kernels[i];
        c.channels[i] = test_random_range(random, 1, 72);
        c.first[i] = 8 * test_random_range(random, 0, 2);
        c.sources[i] = HYMN_STORAGE_F16;
    }
    c.parts[0] = test_random_range(random, 1, 70);
    if (c.parts[0] < 8) { // ReLU may leave next to nothing of few channels to compare with
        c.activation = HYMN_ACTIVATION_NONE;
    }
    return c;
}

struct hymn_vk_plan test_conv_matrix_plan(const struct hymn_context *context) {
    struct hymn_vk_plan plan = context->device->plan;
    plan.weights_f32 = false;
    return plan;
}

// ------------------------------------------------------------------------------------------------------- comparison

void test_conv_print(const struct test_conv_case *c, const char *plan) {
    print_error("%s: %ux%u batch %u, out %u+%u+%u+%u (%u parts), act %d, prologue %d, residual %u, bias %d, out f%d, "
                "extra f%d\n",
                plan, c->height, c->width, c->batch, c->parts[0], c->parts[1], c->parts[2], c->parts[3], c->part_count,
                (int)c->activation, (int)c->prologue, c->residual, c->bias, c->output ? 16 : 32, c->extra ? 16 : 32);
    for (uint32_t i = 0; i < c->term_count; i++) {
        print_error("  term %u: kernel %u, channels %u+%u, f%d\n", i, c->kernels[i], c->first[i], c->channels[i],
                    c->sources[i] ? 16 : 32);
    }
}

float *test_conv_reference(const struct test_conv *b) {
    const struct test_conv_case *shape = &b->shape;
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
