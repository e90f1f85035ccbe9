// SPDX-License-Identifier: MIT
#include "selftest/cases.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "selftest/reference.h"

const float hymn_selftest_mean[3] = {0.5f, 0.25f, 0.125f}, hymn_selftest_std[3] = {0.25f, 0.5f, 0.375f};

struct conv_term {
    uint32_t kernel, channels;
};

struct selftest_case {
    const char *name;
    enum hymn_kind kind;
    bool quick;
    uint32_t height, width, batch; // of the output
    uint32_t channels;             // of the output, or of what is normalised
    struct conv_term terms[3];
    uint32_t first_part; // CONV2D: channels of the first of two parts; 0: one part
    enum hymn_prologue prologue;
    enum hymn_activation activation;
    uint32_t residual; // 1 same size, 2 half size
    uint32_t states, rank;
    bool half_rows;            // of the scan's projection, where storage is f16
    float mean;                // of a convolution's sources
    float bias;                // of odd channels, and its opposite of the others, beside what is random
    struct hymn_method method; // of kernels that no rule takes for so little; zero: the rule's
    bool resized;              // the second of two terms
    bool pooled;               // the output, by kernels that do so by themselves
    bool convolved;            // in depth, the first part, likewise
    uint32_t pictures; // channels of those that the source is made of, by kernels that do so by themselves; or 0
    uint32_t padding;  // rows and columns by which they are smaller
    bool masked;       // by a head of one class behind it, by kernels that go on to masks
    const char *only;  // the shader that the case is for, of either storage; NULL: all that come to use in it
};

static const struct selftest_case cases[] = {
    {.name = "3x3",
     .quick = true,
     .height = 13,
     .width = 18,
     .batch = 2,
     .channels = 40,
     .terms = {{3, 24}},
     .activation = HYMN_ACTIVATION_RELU},
    {.name = "two 3x3, 1x1, residual",
     .height = 12,
     .width = 18,
     .batch = 1,
     .channels = 24,
     .terms = {{3, 16}, {3, 8}, {1, 24}},
     .activation = HYMN_ACTIVATION_RELU,
     .residual = 1},
    {.name = "1x1, norm, large mean, two parts",
     .quick = true,
     .height = 9,
     .width = 14,
     .batch = 2,
     .channels = 56,
     .first_part = 20,
     .terms = {{1, 1030}}, // deep enough for several workgroups a tile
     .prologue = HYMN_PROLOGUE_NORM,
     .mean = 30.0f},
    {.name = "1x1, residual",
     .quick = true,
     .height = 7,
     .width = 10,
     .batch = 1,
     .channels = 16,
     .terms = {{1, 40}},
     .residual = 1},
    {.name = "1x1, beyond binary16",
     .quick = true,
     .height = 7,
     .width = 10,
     .batch = 1,
     .channels = 16,
     .terms = {{1, 40}},
     .bias = 1e5f},
    {.name = "2x2, norm",
     .height = 6,
     .width = 11,
     .batch = 1,
     .channels = 32,
     .terms = {{2, 16}},
     .prologue = HYMN_PROLOGUE_NORM},
    {.name = "1x1, resized residual, SiLU",
     .height = 12,
     .width = 18,
     .batch = 1,
     .channels = 16,
     .terms = {{1, 24}},
     .activation = HYMN_ACTIVATION_SILU,
     .residual = 2},
    {.name = "1x1, resized residual",
     .quick = true,
     .height = 12,
     .width = 18,
     .batch = 1,
     .channels = 16,
     .terms = {{1, 24}},
     .residual = 2},
    {.name = "two 3x3, the second resized",
     .quick = true,
     .height = 12,
     .width = 18,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 16}, {3, 40}},
     .activation = HYMN_ACTIVATION_RELU,
     .resized = true},
    {.name = "3x3, residual, pooled",
     .quick = true,
     .height = 12,
     .width = 18,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 16}},
     .activation = HYMN_ACTIVATION_RELU,
     .residual = 1,
     .method = {{16, 4, 16, 2, 1, 3, 2, 1, 1}},
     .pooled = true,
     .only = "conv2d_matrix_pool"},
    {.name = "1x1, norm, the first part convolved in depth",
     .quick = true,
     .height = 19,
     .width = 21,
     .batch = 2,
     .channels = 64 + 24,
     .first_part = 64,
     .terms = {{1, 72}},
     .prologue = HYMN_PROLOGUE_NORM,
     .convolved = true},
    {.name = "1x1, norm, pixels stay",
     .quick = true,
     .height = 11,
     .width = 25,
     .batch = 2,
     .channels = 88,
     .terms = {{1, 64}},
     .prologue = HYMN_PROLOGUE_NORM,
     .method = {{128, 1, 32, 4, 2, 1, 8, 0, 1}}, // struct hymn_conv2d_tile
     .only = "conv2d_matrix_stream"},
    {.name = "3x3, 1x1, residual, weights stay",
     .quick = true,
     .height = 11,
     .width = 41,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 24}, {1, 40}},
     .activation = HYMN_ACTIVATION_RELU,
     .residual = 1,
     .method = {{32, 6, 32, 2, 1, 9, 4, 0, 1}},
     .only = "conv2d_matrix_rows"},
    {.name = "3x3, pooled, weights stay",
     .quick = true,
     .height = 10,
     .width = 38,
     .batch = 2,
     .channels = 32,
     .terms = {{3, 32}},
     .activation = HYMN_ACTIVATION_RELU,
     .pooled = true,
     .method = {{32, 6, 32, 2, 1, 9, 4, 0, 1}},
     .only = "conv2d_matrix_rows_pool"},
    {.name = "3x3, masks",
     .quick = true,
     .height = 12,
     .width = 18,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 16}},
     .residual = 2,
     .masked = true,
     .only = "conv2d_matrix_mask"},
    {.name = "3x3, masks, weights stay",
     .quick = true,
     .height = 10,
     .width = 38,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 24}, {1, 24}},
     .residual = 2,
     .method = {{32, 6, 32, 2, 1, 9, 4, 0, 1}},
     .masked = true,
     .only = "conv2d_matrix_rows_mask"},
    {.name = "3x3, 1x1, weights stay, of subgroups that share pixels",
     .quick = true,
     .height = 11,
     .width = 41,
     .batch = 2,
     .channels = 40,
     .terms = {{3, 40}, {1, 24}},
     .residual = 1,
     .method = {{32, 6, 48, 1, 3, 9, 6, 0, 1}},
     .only = "conv2d_matrix_rows"},
    {.name = "3x3, thin",
     .quick = true,
     .height = 13,
     .width = 18,
     .batch = 2,
     .channels = 40,
     .terms = {{3, 3}},
     .activation = HYMN_ACTIVATION_RELU},
    {.name = "3x3, thin, pictures",
     .quick = true,
     .height = 13,
     .width = 18,
     .batch = 2,
     .channels = 40,
     .terms = {{3, 3}},
     .activation = HYMN_ACTIVATION_RELU,
     .pictures = 3,
     .only = "conv2d_matrix_pictures"},
    {.name = "3x3, thin, smaller pictures, luma",
     .quick = true,
     .height = 12,
     .width = 20,
     .batch = 2,
     .channels = 24,
     .terms = {{3, 1}},
     .pictures = 4,
     .padding = 3,
     .only = "conv2d_matrix_pictures"},
    {.name = "3x3, deep",
     .quick = true,
     .height = 5,
     .width = 6,
     .batch = 1,
     .channels = 48,
     .terms = {{3, 160}},
     .activation = HYMN_ACTIVATION_RELU},
    {.name = "3x3, 1x1, Winograd",
     .quick = true,
     .height = 9,
     .width = 14,
     .batch = 2,
     .channels = 40,
     .terms = {{3, 24}, {1, 8}},
     .activation = HYMN_ACTIVATION_RELU,
     .residual = 1,
     .method = {{64, 1}}}, // lanes, cells across
    {.name = "scan",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 9,
     .width = 7,
     .batch = 2,
     .channels = 24,
     .states = 8,
     .rank = 3},
    {.name = "scan, f16 rows",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 9,
     .width = 11,
     .batch = 2,
     .channels = 72,
     .states = 16,
     .rank = 32,
     .half_rows = true},
    {.name = "scan, f16 rows, fewer sequences",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 5,
     .width = 7,
     .batch = 2,
     .channels = 512,
     .states = 16,
     .rank = 32,
     .half_rows = true},
    {.name = "scan, f16 rows, fewer than lanes that load them",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 9,
     .width = 11,
     .batch = 2,
     .channels = 72,
     .states = 16,
     .rank = 24,
     .half_rows = true,
     .method = {{0, 4, 16, 0, 128, 0, 1, 64, 1}}, // struct hymn_scan_method
     .only = "selective_scan_group_matrix"},
    {.name = "scan, long",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 16,
     .width = 20,
     .batch = 1,
     .channels = 16,
     .states = 16,
     .rank = 1},
    {.name = "scan, chunks of a workgroup in two passes",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 9,
     .width = 7,
     .batch = 2,
     .channels = 24,
     .states = 8,
     .rank = 3,
     .method = {{8, 0, 0, 0, 0, 2, 0, 0, 0}}, // struct hymn_scan_method
     .only = "selective_scan_joint"},
    {.name = "scan, many states",
     .kind = HYMN_KIND_SELECTIVE_SCAN,
     .quick = true,
     .height = 13,
     .width = 16,
     .batch = 1,
     .channels = 16,
     .states = 18,
     .rank = 5},
    {.name = "depthwise",
     .kind = HYMN_KIND_DEPTHWISE,
     .quick = true,
     .height = 10,
     .width = 13,
     .batch = 2,
     .channels = 24,
     .activation = HYMN_ACTIVATION_SILU},
    {.name = "max pool",
     .kind = HYMN_KIND_MAX_POOL,
     .quick = true,
     .height = 6,
     .width = 9,
     .batch = 2,
     .channels = 20},
    {.name = "resize", .kind = HYMN_KIND_RESIZE, .quick = true, .height = 12, .width = 18, .batch = 2, .channels = 20},
    {.name = "resize of taps",
     .kind = HYMN_KIND_RESIZE_TAPS,
     .quick = true,
     .height = 12,
     .width = 18,
     .batch = 2,
     .channels = 24},
    {.name = "gate", .kind = HYMN_KIND_GATE, .quick = true, .height = 12, .width = 18, .batch = 2, .channels = 20},
    {.name = "norm",
     .kind = HYMN_KIND_NORM_STATS,
     .quick = true,
     .height = 9,
     .width = 7,
     .batch = 2,
     .channels = 50,
     .terms = {{1, 50}}},
    {.name = "norm of 2x2",
     .kind = HYMN_KIND_NORM_STATS,
     .height = 5,
     .width = 7,
     .batch = 1,
     .channels = 20,
     .terms = {{2, 20}}},
    {.name = "head",
     .kind = HYMN_KIND_HEAD,
     .quick = true,
     .height = 9,
     .width = 14,
     .batch = 2,
     .channels = 3,
     .terms = {{1, 20}}},
    {.name = "merge", .kind = HYMN_KIND_MERGE, .quick = true, .height = 9, .width = 7, .batch = 2, .channels = 300},
};

uint32_t hymn_selftest_case_count(void) {
    return sizeof cases / sizeof *cases;
}

const char *hymn_selftest_case_name(uint32_t index) {
    return cases[index].name;
}

enum hymn_kind hymn_selftest_case_kind(uint32_t index) {
    return cases[index].kind;
}

const char *hymn_selftest_case_only(uint32_t index) {
    return cases[index].only;
}

bool hymn_selftest_case_quick(uint32_t index) {
    return cases[index].quick;
}

uint64_t hymn_selftest_size(const struct hymn_graph *graph, uint32_t value) {
    const struct hymn_value *v = &graph->values[value];
    return (uint64_t)v->planes * graph->batch * v->height * v->width * v->stride;
}

// ------------------------------------------------------------------------------------------------------------ building

struct builder {
    struct hymn_selftest_problem *problem;
    const struct selftest_case *from;
    enum hymn_storage storage;
    bool numbers; // otherwise shapes alone, and weights of zero
    struct hymn_node *node;
    uint64_t random;
    bool failed;
};

// SplitMix64 (Steele et al., OOPSLA 2014), from `low` to `high`.
static float next(struct builder *b, float low, float high) {
    uint64_t z = b->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return low + (high - low) * ((float)((z ^ z >> 31) >> 40) * 0x1p-24f);
}

static float rounded(float value, enum hymn_storage storage) {
    return storage == HYMN_STORAGE_F16 ? hymn_half_to_float(hymn_half_from_float(value)) : value;
}

static uint32_t add_value(struct builder *b, uint32_t height, uint32_t width, uint32_t channels, uint32_t planes,
                          enum hymn_storage storage) {
    struct hymn_selftest_problem *problem = b->problem;
    uint32_t value = hymn_graph_add_value(&problem->graph, "selftest", height, width, channels, storage);
    if (value >= HYMN_SELFTEST_MAX_VALUES) {
        b->failed = true;
        return 0;
    }
    struct hymn_value *v = &problem->graph.values[value];
    v->planes = planes;
    v->stride = channels == 2 ? 2 : v->stride; // statistics are pairs
    if (b->numbers) {
        problem->values[value] = hymn_arena_alloc(&problem->numbers, hymn_selftest_size(&problem->graph, value), 8);
        b->failed = b->failed || !problem->values[value];
    }
    return value;
}

static uint32_t add_input(struct builder *b, uint32_t height, uint32_t width, uint32_t channels, uint32_t planes,
                          enum hymn_storage storage, float low, float high) {
    uint32_t value = add_value(b, height, width, channels, planes, storage);
    const struct hymn_value *v = b->failed || !b->numbers ? NULL : &b->problem->graph.values[value];
    for (uint64_t i = 0; v && i < hymn_selftest_size(&b->problem->graph, value); i++) {
        bool padding = i % v->stride >= channels;
        b->problem->values[value][i] = padding ? 0.0 : rounded(next(b, low, high), storage);
    }
    return value;
}

static uint32_t add_output(struct builder *b, uint32_t channels, uint32_t planes, enum hymn_storage storage) {
    uint32_t value = add_value(b, b->from->height, b->from->width, channels, planes, storage);
    b->problem->written[value] = true;
    return value;
}

static float *add_array(struct builder *b, uint64_t count, float low, float high) {
    float *array = hymn_arena_alloc(&b->problem->graph.arena, count, sizeof *array);
    for (uint64_t i = 0; array && b->numbers && i < count; i++) {
        array[i] = next(b, low, high);
    }
    b->failed = b->failed || !array;
    return array;
}

// A number of a picture's pixel as the network reads it: of its only channel, where it has one, the luma (BT.601).
static float normalised(const struct builder *b, const uint32_t bytes[4], uint32_t channel) {
    const float luma = (float)bytes[0] * 0.299f + (float)bytes[1] * 0.587f + (float)bytes[2] * 0.114f;
    const float value = b->from->terms[0].channels == 1 ? luma : (float)bytes[channel];
    return rounded((value / 255.0f - hymn_selftest_mean[channel]) / hymn_selftest_std[channel], b->storage);
}

// The pictures that the source is made of, byte by byte in pairs that are halves: with bytes up to 123 none of these is
// no number. What is beyond a picture repeats its edge.
static void add_pictures(struct builder *b) {
    struct hymn_selftest_problem *problem = b->problem;
    const uint32_t height = b->from->height, width = b->from->width, channels = b->from->pictures;
    const uint32_t source = b->node->terms[0].source.value;
    problem->picture_height = height - b->from->padding;
    problem->picture_width = width - b->from->padding;
    problem->picture_format = channels == 4 ? HYMN_PIXEL_RGBA8 : HYMN_PIXEL_RGB8;
    const uint32_t bytes = hymn_round_up(problem->picture_height * problem->picture_width * channels, 256);
    const uint32_t pictures = add_value(b, 1, bytes / 16, 8, 1, HYMN_STORAGE_F16);
    const bool made = b->numbers && !b->failed;
    for (uint32_t i = 0; i < problem->graph.batch * bytes && made; i += 2) {
        const uint32_t two[2] = {(uint32_t)next(b, 0.0f, 123.9f), (uint32_t)next(b, 0.0f, 123.9f)};
        problem->values[pictures][i / 2] = hymn_half_to_float((uint16_t)(two[0] | two[1] << 8));
    }
    for (uint32_t i = 0; i < problem->graph.batch * height * width && made; i++) {
        uint32_t y = i / width % height, x = i % width, pixel[4] = {0};
        y = y < problem->picture_height ? y : problem->picture_height - 1;
        x = x < problem->picture_width ? x : problem->picture_width - 1;
        for (uint32_t c = 0; c < channels; c++) {
            const uint32_t at = i / (height * width) * bytes + (y * problem->picture_width + x) * channels + c;
            pixel[c] = hymn_half_from_float((float)problem->values[pictures][at / 2]) >> at % 2 * 8 & 0xFF;
        }
        for (uint32_t c = 0; c < b->from->terms[0].channels; c++) {
            problem->values[source][(uint64_t)8 * i + c] = normalised(b, pixel, c);
        }
    }
    problem->pictures = b->node->scratch[2] = pictures;
    problem->written[source] = true;
}

static void build_terms(struct builder *b) {
    const struct selftest_case *from = b->from;
    for (uint32_t i = 0; i < 3 && from->terms[i].kernel; i++) {
        const struct conv_term *term = &from->terms[i];
        uint32_t scale = term->kernel == 2 ? 2 : 1, taps = term->kernel * term->kernel;
        uint32_t first = from->pictures ? 0 : 8;
        uint32_t value = add_input(b, scale * from->height, scale * from->width, first + term->channels, 1, b->storage,
                                   from->mean - 1.0f, from->mean + 1.0f);
        float limit = 1.0f / sqrtf((float)(taps * term->channels));
        b->node->terms[i] = (struct hymn_term){
            .source = {value, first, term->channels},
            .kernel = term->kernel,
            .weights = add_array(b, (uint64_t)from->channels * taps * term->channels, -limit, limit),
        };
        b->node->term_count = i + 1;
    }
}

// Those of what the node reads, as a kernel may find them by itself.
static void add_statistics(struct builder *b) {
    struct hymn_selftest_problem *problem = b->problem;
    uint32_t value = add_value(b, b->from->height, b->from->width, 2, 1, HYMN_STORAGE_F32);
    struct hymn_node norm = *b->node;
    norm.kind = HYMN_KIND_NORM_STATS;
    norm.output = value;
    struct hymn_graph graph = problem->graph;
    graph.nodes = &norm;
    const bool made = b->numbers && !b->failed;
    if (made) {
        hymn_reference_run(&graph, problem->values);
    }
    for (uint64_t i = 0; made && i < hymn_selftest_size(&graph, value); i++) {
        problem->values[value][i] = (float)problem->values[value][i];
    }
    b->node->stats = value;
}

// What the second term is resized of; the term itself becomes what comes of that, as other kernels read it.
static void add_low(struct builder *b) {
    struct hymn_selftest_problem *problem = b->problem;
    struct hymn_term *term = &b->node->terms[1];
    uint32_t channels = term->source.channels;
    uint32_t low = add_input(b, b->from->height / 2, b->from->width / 2, 8 + channels, 1, b->storage, -1.0f, 1.0f);
    term->source =
        (struct hymn_source){add_value(b, b->from->height, b->from->width, channels, 1, b->storage), 0, channels};
    b->node->low = (struct hymn_source){low, 8, channels};
    struct hymn_node resize = *b->node;
    resize.kind = HYMN_KIND_RESIZE;
    resize.terms[0].source = b->node->low;
    resize.term_count = 1;
    resize.output = term->source.value;
    struct hymn_graph graph = problem->graph;
    graph.nodes = &resize;
    const bool made = b->numbers && !b->failed;
    if (made) {
        hymn_reference_run(&graph, problem->values);
    }
    for (uint64_t i = 0; made && i < hymn_selftest_size(&graph, resize.output); i++) {
        problem->values[resize.output][i] = rounded((float)problem->values[resize.output][i], b->storage);
    }
}

static void add_head(struct builder *b) {
    struct hymn_graph *graph = &b->problem->graph;
    uint32_t read = b->node->output, channels = b->from->channels;
    uint32_t logits = add_value(b, b->from->height, b->from->width, 1, 1, HYMN_STORAGE_F32);
    uint32_t masks = hymn_graph_add_value(graph, "masks", b->from->height, b->from->width, 8, HYMN_STORAGE_F32);
    struct hymn_node *head = hymn_graph_add_node(graph, HYMN_KIND_HEAD, b->from->name);
    b->failed = b->failed || !head || masks == HYMN_NONE;
    if (!b->failed) {
        head->terms[0] = (struct hymn_term){{read, 0, channels}, 1, add_array(b, channels, -1.0f, 1.0f)};
        head->term_count = head->part_count = head->out_channels = head->parts[0] = 1;
        head->output = logits;
        head->scratch[0] = b->problem->masks = masks;
    }
}

static void build_conv(struct builder *b) {
    const struct selftest_case *from = b->from;
    struct hymn_node *node = b->node;
    uint32_t channels = from->channels, first = from->first_part;
    build_terms(b);
    if (from->resized) {
        add_low(b);
    }
    if (from->pictures) {
        add_pictures(b);
    }
    node->out_channels = channels;
    node->part_count = first ? 2 : 1;
    node->parts[0] = first ? first : channels;
    node->parts[1] = first ? channels - first : 0;
    float *bias = add_array(b, channels, -1.0f, 1.0f);
    for (uint32_t i = 0; bias && i < channels; i++) {
        bias[i] += i % 2 ? from->bias : -from->bias;
    }
    node->bias = bias;
    node->activation = from->activation;
    node->prologue = from->prologue;
    node->output = add_output(b, first ? hymn_round_up(first, 8) + channels - first : channels, 1,
                              node->kind == HYMN_KIND_HEAD ? HYMN_STORAGE_F32 : b->storage);
    if (from->residual) {
        uint32_t value = add_input(b, from->height / from->residual, from->width / from->residual, 8 + channels, 1,
                                   b->storage, -1.0f, 1.0f);
        node->residual = (struct hymn_source){value, 8, channels};
        node->residual_resize = from->residual == 2;
    }
    if (from->prologue != HYMN_PROLOGUE_NONE) {
        add_statistics(b);
    }
    if (from->pooled) {
        node->pool = add_value(b, from->height / 2, from->width / 2, channels, 1, b->storage);
    }
    if (from->convolved) {
        node->depthwise = add_value(b, from->height, from->width, first, 1, b->storage);
        node->depthwise_weights = add_array(b, 9 * first, -1.0f, 1.0f);
        node->depthwise_bias = add_array(b, first, -1.0f, 1.0f);
        node->depthwise_activation = HYMN_ACTIVATION_SILU;
    }
    if (from->masked) {
        add_head(b); // last, as the node may move
    }
}

static void build_scan(struct builder *b) {
    const struct selftest_case *from = b->from;
    struct hymn_node *node = b->node;
    uint32_t d = from->channels, row = hymn_round_up(from->rank + 2 * from->states, 8), rows = 4 * d;
    node->terms[0].source =
        (struct hymn_source){add_input(b, from->height, from->width, 8 + d, 1, b->storage, -2.0f, 2.0f), 8, d};
    node->terms[1].source =
        (struct hymn_source){add_input(b, from->height, from->width, 4 * row, 1,
                                       from->half_rows ? b->storage : HYMN_STORAGE_F32, -1.0f, 1.0f),
                             0, 4 * row};
    node->term_count = 2;
    node->output = add_output(b, d, 4, b->storage);
    node->d_state = from->states;
    node->dt_rank = from->rank;
    float limit = 3.0f / sqrtf((float)from->rank);
    node->dt_weights = add_array(b, (uint64_t)rows * from->rank, -limit, limit);
    node->dt_bias = add_array(b, rows, -7.0f, 2.0f);
    float *a = add_array(b, (uint64_t)rows * from->states, -5.0f, 3.0f);
    for (uint32_t i = 0; a && i < rows * from->states; i++) {
        a[i] = -expf(a[i]);
    }
    node->a = a;
    node->d = add_array(b, rows, -1.0f, 1.0f);
}

// The operators of one or two sources and no weights, but for the depthwise convolution's.
static void build_other(struct builder *b) {
    const struct selftest_case *from = b->from;
    struct hymn_node *node = b->node;
    uint32_t height = from->height, width = from->width, channels = from->channels;
    uint32_t kernel = from->terms[0].kernel ? from->terms[0].kernel : 1;
    bool merge = node->kind == HYMN_KIND_MERGE;
    const bool taps = node->kind == HYMN_KIND_RESIZE_TAPS, resizes = taps || node->kind == HYMN_KIND_RESIZE;
    height = node->kind == HYMN_KIND_MAX_POOL ? 2 * height : resizes ? height / 2 : height;
    width = node->kind == HYMN_KIND_MAX_POOL ? 2 * width : resizes ? width / 2 : width;
    uint32_t before = merge ? 0 : 8, read = taps ? 9 * channels : channels;
    node->terms[0].source = (struct hymn_source){
        add_input(b, kernel * height, kernel * width, before + read, merge ? 4 : 1, b->storage, -3.0f, 3.0f), before,
        read};
    node->terms[0].kernel = node->kind == HYMN_KIND_DEPTHWISE ? 3 : kernel;
    node->term_count = 1;
    if (node->kind == HYMN_KIND_GATE || merge) {
        uint32_t scale = merge ? 1 : 2;
        uint32_t value = add_input(b, height / scale, width / scale, 8 + channels, 1, b->storage, -9.0f, 9.0f);
        node->terms[1].source = (struct hymn_source){value, 8, channels};
        node->term_count = 2;
    }
    if (node->kind == HYMN_KIND_DEPTHWISE) {
        node->terms[0].weights = add_array(b, 9 * channels, -1.0f, 1.0f);
        node->bias = add_array(b, channels, -1.0f, 1.0f);
        node->activation = from->activation;
    }
    bool stats = node->kind == HYMN_KIND_NORM_STATS;
    node->output = add_output(b, stats ? 2 : channels, 1, stats ? HYMN_STORAGE_F32 : b->storage);
    if (merge) {
        node->gamma = add_array(b, channels, 0.5f, 1.5f);
        node->beta = add_array(b, channels, -1.0f, 1.0f);
    }
}

bool hymn_selftest_build(uint32_t index, enum hymn_storage storage, bool numbers,
                         struct hymn_selftest_problem *problem) {
    struct builder b = {
        .problem = problem, .from = &cases[index], .storage = storage, .numbers = numbers, .random = index + 1};
    memset(problem, 0, sizeof *problem);
    problem->masks = problem->pictures = HYMN_NONE;
    hymn_graph_init(&problem->graph, b.from->batch, storage);
    b.node = hymn_graph_add_node(&problem->graph, b.from->kind, b.from->name);
    if (!b.node) {
        return false;
    }
    b.node->method = b.from->method;
    const struct hymn_method rule = {{0}};
    b.node->tuned = memcmp(&b.node->method, &rule, sizeof rule) != 0;
    if (hymn_node_is_convolution(b.node)) {
        build_conv(&b);
    } else if (b.from->kind == HYMN_KIND_SELECTIVE_SCAN) {
        build_scan(&b);
    } else {
        build_other(&b);
    }
    return !b.failed;
}

void hymn_selftest_expect(struct hymn_selftest_problem *problem) {
    hymn_reference_run(&problem->graph, problem->values);
    const struct hymn_node *node = &problem->graph.nodes[0];
    const struct hymn_value *output = &problem->graph.values[node->output];
    if (node->kind == HYMN_KIND_CONV2D && output->storage == HYMN_STORAGE_F16) { // which saturates
        double *values = problem->values[node->output];
        for (uint64_t i = 0; i < hymn_selftest_size(&problem->graph, node->output); i++) {
            values[i] = fmin(fmax(values[i], -65504.0), 65504.0);
        }
    }
}

void hymn_selftest_problem_free(struct hymn_selftest_problem *problem) {
    hymn_graph_free(&problem->graph);
    hymn_arena_free(&problem->numbers);
}
