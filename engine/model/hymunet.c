// SPDX-License-Identifier: MIT
#include "model/hymunet.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

// Everything that emits returns a value's index and passes HYMN_NONE through, so that failures are checked once, at the
// end.
struct builder {
    const struct hymn_model *model;
    const struct hymn_config *config;
    struct hymn_graph *graph;
    char prefix[96]; // of tensor and node names: "encoder.2.blocks.0"
    bool failed;
    char broken[192]; // the first tensor that is not what it was when the model was made, if there is one
};

static void set_prefix(struct builder *b, const char *format, ...) HYMN_PRINTF(2, 3);

static void set_prefix(struct builder *b, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(b->prefix, sizeof b->prefix, format, arguments);
    va_end(arguments);
}

// The tensor "<prefix>.<suffix>" as floats; NULL after a failure.
static float *load(struct builder *b, const char *suffix) {
    char name[192];
    snprintf(name, sizeof name, "%s%s%s", b->prefix, b->prefix[0] ? "." : "", suffix);
    float *values;
    if (hymn_model_load(b->model, &b->graph->arena, name, &values) == HYMN_STATUS_BAD_MODEL && !b->broken[0]) {
        snprintf(b->broken, sizeof b->broken, "%s", name);
    }
    b->failed |= !values;
    return values;
}

// A node "<prefix>.<suffix>" with one input and its output value; NULL after a failure. The output's size is given
// relative to the input: shape 0 the same, -1 half, 1 double.
static struct hymn_node *emit(struct builder *b, enum hymn_kind kind, const char *suffix, struct hymn_source input,
                              uint32_t channels, int scale) {
    char name[192];
    snprintf(name, sizeof name, "%s%s%s", b->prefix, b->prefix[0] && suffix[0] ? "." : "", suffix);
    struct hymn_node *node = input.value == HYMN_NONE ? NULL : hymn_graph_add_node(b->graph, kind, name);
    if (!node) {
        b->failed = true;
        return NULL;
    }
    uint32_t height = b->graph->values[input.value].height, width = b->graph->values[input.value].width;
    node->terms[0].source = input;
    node->term_count = 1;
    node->output = hymn_graph_add_value(b->graph, node->name, scale < 0 ? height / 2 : height << scale,
                                        scale < 0 ? width / 2 : width << scale, channels, b->graph->storage);
    b->failed |= node->output == HYMN_NONE;
    return node->output == HYMN_NONE ? NULL : node;
}

static struct hymn_source whole(const struct builder *b, uint32_t value) {
    uint32_t channels = value == HYMN_NONE ? 0 : b->graph->values[value].channels;
    return (struct hymn_source){value, 0, channels};
}

static uint32_t output_of(const struct hymn_node *node) {
    return node ? node->output : HYMN_NONE;
}

static struct hymn_node *emit_conv(struct builder *b, const char *suffix, const char *weights, struct hymn_source input,
                                   uint32_t channels, uint32_t kernel) {
    float *loaded = load(b, weights);
    struct hymn_node *node = loaded ? emit(b, HYMN_KIND_CONV2D, suffix, input, channels, 0) : NULL;
    if (node) {
        node->terms[0].kernel = kernel;
        node->terms[0].weights = loaded;
        node->out_channels = node->parts[0] = channels;
        node->part_count = 1;
    }
    return node;
}

// PyTorch's [out][in][3][3] to the graph's [out][9][in].
static void taps_first(struct builder *b, struct hymn_node *node) {
    uint32_t rows = node->out_channels, columns = node->terms[0].source.channels;
    const float *from = node->terms[0].weights;
    float *to = hymn_arena_alloc(&b->graph->arena, (uint64_t)rows * columns * 9, sizeof *to);
    b->failed |= !to;
    for (uint64_t row = 0; to && row < rows; row++) {
        for (uint64_t column = 0; column < columns; column++) {
            for (uint64_t tap = 0; tap < 9; tap++) {
                to[(row * 9 + tap) * columns + column] = from[(row * columns + column) * 9 + tap];
            }
        }
    }
    node->terms[0].weights = to ? to : from;
}

static uint32_t emit_batch_norm(struct builder *b, const char *suffix, uint32_t input) {
    char name[64];
    const float *tensors[4];
    const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", suffix, parts[i]);
        tensors[i] = load(b, name);
    }
    struct hymn_source source = whole(b, input);
    struct hymn_node *node = emit(b, HYMN_KIND_BATCH_NORM, suffix, source, source.channels, 0);
    if (node) {
        node->gamma = tensors[0];
        node->beta = tensors[1];
        node->mean = tensors[2];
        node->variance = tensors[3];
    }
    return output_of(node);
}

static uint32_t emit_binary(struct builder *b, enum hymn_kind kind, const char *suffix, uint32_t left, uint32_t right,
                            uint32_t channels) {
    struct hymn_node *node = emit(b, kind, suffix, whole(b, left), channels, 0);
    if (node) {
        node->terms[1].source = whole(b, right);
        node->term_count = 2;
    }
    return output_of(node);
}

static uint32_t emit_relu(struct builder *b, const char *suffix, uint32_t input) {
    struct hymn_source source = whole(b, input);
    struct hymn_node *node = emit(b, HYMN_KIND_ACTIVATION, suffix, source, source.channels, 0);
    if (node) {
        node->activation = HYMN_ACTIVATION_RELU;
    }
    return output_of(node);
}

static uint32_t emit_conv3x3_bn(struct builder *b, const char *conv, const char *bn, uint32_t input,
                                uint32_t channels) {
    char weights[64];
    snprintf(weights, sizeof weights, "%s.weight", conv);
    struct hymn_node *node = emit_conv(b, conv, weights, whole(b, input), channels, 3);
    if (node) {
        taps_first(b, node);
    }
    return emit_batch_norm(b, bn, output_of(node));
}

static uint32_t emit_residual_block(struct builder *b, uint32_t x, uint32_t channels) {
    uint32_t y = emit_relu(b, "relu1", emit_conv3x3_bn(b, "conv1", "bn1", x, channels));
    uint32_t s = x;
    if (whole(b, x).channels != channels) {
        s = output_of(emit_conv(b, "shortcut.0", "shortcut.0.weight", whole(b, x), channels, 1));
        s = emit_batch_norm(b, "shortcut.1", s);
    }
    y = emit_conv3x3_bn(b, "conv2", "bn2", y, channels);
    return emit_relu(b, "relu2", emit_binary(b, HYMN_KIND_ADD, "add", y, s, channels));
}

static struct hymn_node *emit_layer_norm(struct builder *b, const char *suffix, uint32_t x, uint32_t kernel) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", suffix);
    float *gamma = load(b, name);
    snprintf(name, sizeof name, "%s.bias", suffix);
    float *beta = load(b, name);
    struct hymn_source source = whole(b, x);
    struct hymn_node *node =
        emit(b, HYMN_KIND_LAYER_NORM, suffix, source, source.channels * kernel * kernel, kernel == 2 ? -1 : 0);
    if (node) {
        node->terms[0].kernel = kernel;
        node->gamma = gamma;
        node->beta = beta;
    }
    return node;
}

// Marks a GEMM's output as `count` parts of `rows` rows, each padded to a multiple of 8 channels.
static void split_parts(struct builder *b, struct hymn_node *node, uint32_t count, uint32_t rows) {
    for (uint32_t i = 0; i < count; i++) {
        node->parts[i] = rows;
    }
    node->part_count = count;
    struct hymn_value *output = &b->graph->values[node->output];
    output->stride = output->channels = count * hymn_round_up(rows, 8);
}

static uint32_t emit_scan(struct builder *b, struct hymn_source u, uint32_t projected, uint32_t rank) {
    float *a = load(b, "ss2d.A_logs");
    float *d = load(b, "ss2d.Ds");
    float *weights = load(b, "ss2d.dt_projs_weight");
    float *bias = load(b, "ss2d.dt_projs_bias");
    struct hymn_node *node = emit(b, HYMN_KIND_SELECTIVE_SCAN, "ss2d.scan", u, u.channels, 0);
    if (!node || b->failed) {
        return HYMN_NONE;
    }
    for (uint64_t i = 0; i < (uint64_t)4 * u.channels * b->config->d_state; i++) {
        a[i] = -fminf(expf(a[i]), 1e38f); // finite, as a step of 0 times it must be 0
    }
    node->terms[1].source = whole(b, projected);
    node->term_count = 2;
    node->d_state = b->config->d_state;
    node->dt_rank = rank;
    node->a = a;
    node->d = d;
    node->dt_weights = weights;
    node->dt_bias = bias;
    b->graph->values[node->output].planes = 4;
    return node->output;
}

static uint32_t emit_vss_block(struct builder *b, uint32_t x, uint32_t stage) {
    uint32_t channels = b->config->dims[stage], inner = hymn_config_inner(b->config, stage);
    uint32_t rank = hymn_config_rank(b->config, stage), group = rank + 2 * b->config->d_state;
    uint32_t normed = output_of(emit_layer_norm(b, "norm", x, 1));
    struct hymn_node *node = emit_conv(b, "ss2d.in_proj", "ss2d.in_proj.weight", whole(b, normed), 2 * inner, 1);
    if (!node) {
        return HYMN_NONE;
    }
    split_parts(b, node, 2, inner);
    struct hymn_source u = {node->output, 0, inner};
    struct hymn_source z = {node->output, hymn_round_up(inner, 8), inner};

    float *weights = load(b, "ss2d.conv2d.weight"), *bias = load(b, "ss2d.conv2d.bias");
    float *taps = hymn_arena_alloc(&b->graph->arena, (uint64_t)9 * inner, sizeof *taps);
    node = emit(b, HYMN_KIND_DEPTHWISE, "ss2d.conv2d", u, inner, 0);
    if (!node || !weights || !taps) {
        b->failed = true;
        return HYMN_NONE;
    }
    for (uint32_t i = 0; i < 9 * inner; i++) {
        taps[(i % 9) * inner + i / 9] = weights[i];
    }
    node->terms[0].kernel = 3;
    node->terms[0].weights = taps;
    node->bias = bias;
    node->activation = HYMN_ACTIVATION_SILU;
    u = whole(b, node->output);

    node = emit_conv(b, "ss2d.x_proj", "ss2d.x_proj_weight", u, 4 * group, 1);
    if (!node) {
        return HYMN_NONE;
    }
    split_parts(b, node, 4, group);
    b->graph->values[node->output].storage = HYMN_STORAGE_F32;
    uint32_t y = emit_scan(b, u, node->output, rank);

    float *gamma = load(b, "ss2d.out_norm.weight"), *beta = load(b, "ss2d.out_norm.bias");
    node = emit(b, HYMN_KIND_MERGE, "ss2d.out_norm", whole(b, y), inner, 0);
    if (!node) {
        return HYMN_NONE;
    }
    node->terms[1].source = z;
    node->term_count = 2;
    node->gamma = gamma;
    node->beta = beta;
    struct hymn_source gated = whole(b, node->output);
    uint32_t projected = output_of(emit_conv(b, "ss2d.out_proj", "ss2d.out_proj.weight", gated, channels, 1));
    return emit_binary(b, HYMN_KIND_ADD, "add", projected, x, channels);
}

static uint32_t emit_encoder(struct builder *b, uint32_t x, uint32_t stage) {
    const struct hymn_config *config = b->config;
    uint32_t channels = config->dims[stage];
    set_prefix(b, "encoder.%u", stage);
    if (stage < config->conv_stages) {
        if (stage > 0) {
            x = output_of(emit(b, HYMN_KIND_MAX_POOL, "down", whole(b, x), config->dims[stage - 1], -1));
        }
    } else if (stage > 0) {
        uint32_t cells = output_of(emit_layer_norm(b, "down.norm", x, 2));
        x = output_of(emit_conv(b, "down.reduction", "down.reduction.weight", whole(b, cells), channels, 1));
    } else {
        struct hymn_node *node = emit_conv(b, "down.proj", "down.proj.weight", whole(b, x), channels, 1);
        float *bias = load(b, "down.proj.bias");
        if (node) {
            node->bias = bias;
        }
        x = output_of(node);
    }
    for (uint32_t i = 0; i < config->depths[stage]; i++) {
        set_prefix(b, "encoder.%u.blocks.%u", stage, i);
        x = stage < config->conv_stages ? emit_residual_block(b, x, channels) : emit_vss_block(b, x, stage);
    }
    return x;
}

static uint32_t emit_decoder(struct builder *b, uint32_t d, uint32_t e, uint32_t stage) {
    const struct hymn_config *config = b->config;
    uint32_t channels = config->dims[stage], below = config->dims[stage + 1];
    set_prefix(b, "decoder.%u", stage);
    uint32_t up = output_of(emit(b, HYMN_KIND_RESIZE, "up", whole(b, d), below, 1));
    if (config->skip == HYMN_SKIP_MGF) {
        uint32_t g = output_of(emit_conv(b, "skip.gate", "skip.gate.weight", whole(b, up), channels, 1));
        g = emit_batch_norm(b, "skip.bn", g);
        e = emit_binary(b, HYMN_KIND_GATE, "skip", e, g, channels);
    }
    uint32_t x = emit_binary(b, HYMN_KIND_CONCAT, "concat", e, up, channels + below);
    for (uint32_t i = 0; i < config->decoder_depths[stage]; i++) {
        set_prefix(b, "decoder.%u.blocks.%u", stage, i);
        x = emit_residual_block(b, x, channels);
    }
    return x;
}

enum hymn_status hymn_hymunet_build(const struct hymn_model *model, uint32_t height, uint32_t width,
                                    const struct hymn_log *log, struct hymn_graph *graph) {
    const struct hymn_config *config = hymn_model_config(model);
    struct builder b = {.model = model, .config = config, .graph = graph};
    uint32_t skips[HYMN_CONFIG_MAX_STAGES];
    uint32_t x = graph->input =
        hymn_graph_add_value(graph, "input", height, width, config->in_channels, graph->storage);
    for (uint32_t i = 0; i < config->stages; i++) {
        x = skips[i] = emit_encoder(&b, x, i);
    }
    for (uint32_t i = config->stages - 1; i-- > 0;) {
        x = emit_decoder(&b, x, skips[i], i);
    }
    set_prefix(&b, "%s", "");
    struct hymn_node *head = emit_conv(&b, "head", "head.weight", whole(&b, x), config->num_classes, 1);
    float *bias = load(&b, "head.bias");
    if (b.broken[0]) {
        return hymn_fail(log, HYMN_STATUS_BAD_MODEL, "%s: %s holds NaN or infinity by now: the model has been changed",
                         hymn_model_name(model), b.broken);
    }
    if (b.failed || !head) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", hymn_model_name(model));
    }
    head->bias = bias;
    graph->output = head->output;
    graph->values[head->output].storage = HYMN_STORAGE_F32;
    return HYMN_STATUS_OK;
}
