// SPDX-License-Identifier: MIT
#include "selftest/reference.h"

#include <math.h>

#include "base/thread.h"
#include "shaders/params.h"

// Multiplications that are worth a thread's start, some tenths of a millisecond, and what a scan's exponential costs.
#define THREAD_WORK 200000u
#define SCAN_WORK 8u

struct run {
    const struct hymn_graph *graph;
    double *const *values; // per value: [planes, batch, height, width, stride]
};

static const struct hymn_value *value_of(const struct run *run, uint32_t index) {
    return &run->graph->values[index];
}

// Channel `c` of `source` at a pixel; zero outside the image.
static double at(const struct run *run, struct hymn_source source, uint32_t image, int64_t y, int64_t x, uint32_t c) {
    const struct hymn_value *v = value_of(run, source.value);
    if (y < 0 || x < 0 || y >= v->height || x >= v->width) {
        return 0.0;
    }
    uint64_t pixel = ((uint64_t)image * v->height + (uint64_t)y) * v->width + (uint64_t)x;
    return run->values[source.value][pixel * v->stride + source.first + c];
}

static void put(const struct run *run, uint32_t value, uint32_t image, uint32_t y, uint32_t x, uint32_t c, double to) {
    const struct hymn_value *v = value_of(run, value);
    run->values[value][(((uint64_t)image * v->height + y) * v->width + x) * v->stride + c] = to;
}

// What one of the numbers in it stands for: the scan's planes in f16 are in larger units (shaders/params.h).
static double unit_of(const struct hymn_value *v) {
    return v->planes == 4 && v->storage == HYMN_STORAGE_F16 ? HYMN_SCAN_UNIT : 1.0;
}

static double sigmoid(double v) {
    return 1.0 / (1.0 + exp(-v));
}

static double activate(enum hymn_activation activation, double v) {
    switch (activation) {
    case HYMN_ACTIVATION_RELU:
        return v > 0.0 ? v : 0.0;
    case HYMN_ACTIVATION_SILU:
        return v * sigmoid(v);
    case HYMN_ACTIVATION_NONE:
        break;
    }
    return v;
}

// Bilinear, x2, half-pixel centres, edges clamped.
static double resized(const struct run *run, struct hymn_source source, uint32_t image, uint32_t y, uint32_t x,
                      uint32_t c) {
    const struct hymn_value *v = value_of(run, source.value);
    double fy = fmax((y + 0.5) / 2.0 - 0.5, 0.0), fx = fmax((x + 0.5) / 2.0 - 0.5, 0.0);
    int64_t y0 = (int64_t)fy, x0 = (int64_t)fx;
    int64_t y1 = y0 + 1 < v->height ? y0 + 1 : y0, x1 = x0 + 1 < v->width ? x0 + 1 : x0;
    double wy = fy - (double)y0, wx = fx - (double)x0;
    double top = at(run, source, image, y0, x0, c) * (1.0 - wx) + at(run, source, image, y0, x1, c) * wx;
    double bottom = at(run, source, image, y1, x0, c) * (1.0 - wx) + at(run, source, image, y1, x1, c) * wx;
    return top * (1.0 - wy) + bottom * wy;
}

static void tap_position(uint32_t kernel, uint32_t tap, uint32_t y, uint32_t x, int64_t *out_y, int64_t *out_x) {
    if (kernel == 3) {
        *out_y = (int64_t)y + tap / 3 - 1;
        *out_x = (int64_t)x + tap % 3 - 1;
    } else if (kernel == 2) {
        *out_y = (int64_t)2 * y + tap % 2;
        *out_x = (int64_t)2 * x + tap / 2;
    } else {
        *out_y = y;
        *out_x = x;
    }
}

// LN's statistics over the channels of one pixel, or of a 2x2 cell.
static void statistics(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                       double *out_mean, double *out_rstd) {
    const struct hymn_term *term = &node->terms[0];
    const struct hymn_value *v = value_of(run, term->source.value);
    uint32_t taps = term->kernel * term->kernel;
    double mean = 0.0, variance = 0.0, count = (double)taps * term->source.channels;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < taps * term->source.channels; i++) {
            int64_t py, px;
            tap_position(term->kernel, i / term->source.channels, y, x, &py, &px);
            double sum = 0.0;
            for (uint32_t plane = 0; plane < v->planes; plane++) {
                sum += at(run, term->source, plane * run->graph->batch + image, py, px, i % term->source.channels);
            }
            mean += pass == 0 ? sum / count : 0.0;
            variance += pass == 1 ? (sum - mean) * (sum - mean) / count : 0.0;
        }
    }
    *out_mean = mean;
    *out_rstd = 1.0 / sqrt(variance + 1e-5 / (unit_of(v) * unit_of(v)));
}

// What a prologue normalises by: the statistics that it is given, or those that are found here.
static void norm_of(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                    double out_norm[2]) {
    if (node->prologue != HYMN_PROLOGUE_NONE && node->stats == HYMN_NONE) {
        statistics(run, node, image, y, x, &out_norm[0], &out_norm[1]);
    } else if (node->prologue != HYMN_PROLOGUE_NONE) {
        struct hymn_source stats = {node->stats, 0, 2};
        out_norm[0] = at(run, stats, image, y, x, 0);
        out_norm[1] = at(run, stats, image, y, x, 1);
    }
}

// A channel of what a term of a convolution reads at a pixel: the second one may be resized on the way.
static double term_at(const struct run *run, const struct hymn_node *node, uint32_t t, uint32_t image, int64_t y,
                      int64_t x, uint32_t c) {
    const struct hymn_value *output = value_of(run, node->output);
    if (!node->resizes || t != 1) {
        return at(run, node->terms[t].source, image, y, x, c);
    }
    bool outside = y < 0 || x < 0 || y >= output->height || x >= output->width;
    return outside ? 0.0 : resized(run, node->terms[t].source, image, (uint32_t)y, (uint32_t)x, c);
}

// Rows of a convolution at a pixel that are summed up side by side, and channels that are gathered for them at a time.
enum { ROWS = 32, CHANNELS = 64 };

// Adds some channels of a tap, from `first` on, to the sums of `rows` rows: values[c] for each, weights a row apart.
static void add_channels(const float *weights, uint64_t row_length, const double *values, uint32_t channels,
                         uint32_t rows, double *sums) {
    for (uint32_t c = 0; c < channels; c++) {
        for (uint32_t row = 0; row < rows; row++) {
            sums[row] += weights[row * row_length + c] * values[c];
        }
    }
}

// Of `rows` rows from `first` on, at a pixel: each adds up its bias, then its terms, their taps, their channels.
static void conv_sums(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                      uint32_t first, uint32_t rows, double *sums) {
    double norm[2] = {0.0, 1.0}, values[CHANNELS];
    norm_of(run, node, image, y, x, norm);
    for (uint32_t row = 0; row < rows; row++) {
        sums[row] = node->bias ? node->bias[first + row] : 0.0;
    }
    for (uint32_t t = 0; t < node->term_count; t++) {
        const struct hymn_term *term = &node->terms[t];
        const uint32_t taps = term->kernel * term->kernel, channels = term->source.channels;
        for (uint32_t tap = 0; tap < taps; tap++) {
            int64_t py, px;
            tap_position(term->kernel, tap, y, x, &py, &px);
            for (uint32_t from = 0; from < channels; from += CHANNELS) {
                const uint32_t count = channels - from < CHANNELS ? channels - from : CHANNELS;
                for (uint32_t c = 0; c < count; c++) {
                    values[c] = (term_at(run, node, t, image, py, px, from + c) - norm[0]) * norm[1];
                }
                add_channels(term->weights + ((uint64_t)first * taps + tap) * channels + from,
                             (uint64_t)taps * channels, values, count, rows, sums);
            }
        }
    }
}

static void run_conv(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x) {
    uint32_t row = 0;
    double sums[ROWS];
    for (uint32_t part = 0; part < node->part_count; part++) {
        for (uint32_t i = 0; i < node->parts[part]; i++, row++) {
            if (row % ROWS == 0) {
                const uint32_t left = node->out_channels - row;
                conv_sums(run, node, image, y, x, row, left < ROWS ? left : ROWS, sums);
            }
            double sum = sums[row % ROWS];
            if (node->residual.value != HYMN_NONE) {
                sum += node->residual_resize ? resized(run, node->residual, image, y, x, row)
                                             : at(run, node->residual, image, y, x, row);
            }
            uint32_t channel = hymn_node_part_first(node, part) + i;
            put(run, node->output, image, y, x, channel, activate(node->activation, sum));
        }
    }
}

static double plane_sum(const struct run *run, struct hymn_source source, uint32_t image, uint32_t y, uint32_t x,
                        uint32_t c) {
    double sum = 0.0;
    for (uint32_t plane = 0; plane < 4; plane++) {
        sum += at(run, source, plane * run->graph->batch + image, y, x, c);
    }
    return sum;
}

static void run_norm(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x) {
    double mean, rstd;
    statistics(run, node, image, y, x, &mean, &rstd);
    uint32_t channels = node->terms[0].source.channels, kernel = node->terms[0].kernel;
    if (node->kind == HYMN_KIND_NORM_STATS) {
        put(run, node->output, image, y, x, 0, mean);
        put(run, node->output, image, y, x, 1, rstd);
    }
    for (uint32_t i = 0; i < kernel * kernel * channels && node->kind != HYMN_KIND_NORM_STATS; i++) {
        int64_t py, px;
        tap_position(kernel, i / channels, y, x, &py, &px);
        bool merge = node->kind == HYMN_KIND_MERGE;
        double v = merge ? plane_sum(run, node->terms[0].source, image, y, x, i)
                         : at(run, node->terms[0].source, image, py, px, i % channels);
        v = (v - mean) * rstd * node->gamma[i] + node->beta[i];
        if (merge) {
            v *= activate(HYMN_ACTIVATION_SILU, at(run, node->terms[1].source, image, y, x, i));
        }
        put(run, node->output, image, y, x, i, v);
    }
}

// Without the activation.
static double depthwise(const struct run *run, const float *weights, const float *bias, struct hymn_source source,
                        uint32_t image, uint32_t y, uint32_t x, uint32_t c) {
    double sum = bias[c];
    for (uint32_t tap = 0; tap < 9; tap++) {
        int64_t py, px;
        tap_position(3, tap, y, x, &py, &px);
        sum += weights[tap * source.channels + c] * at(run, source, image, py, px, c);
    }
    return sum;
}

static double max_pool(const struct run *run, struct hymn_source source, uint32_t image, uint32_t y, uint32_t x,
                       uint32_t c) {
    double most = -INFINITY;
    for (uint32_t tap = 0; tap < 4; tap++) {
        most = fmax(most, at(run, source, image, (int64_t)2 * y + tap / 2, (int64_t)2 * x + tap % 2, c));
    }
    return most;
}

static double concat(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                     uint32_t c) {
    uint32_t first = node->terms[0].source.channels;
    return c < first ? at(run, node->terms[0].source, image, y, x, c)
                     : at(run, node->terms[1].source, image, y, x, c - first);
}

static double gate(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                   uint32_t c) {
    struct hymn_source e = node->terms[0].source, g = node->terms[1].source;
    bool half = value_of(run, g.value)->height != value_of(run, node->output)->height;
    double weight = sigmoid(half ? resized(run, g, image, y, x, c) : at(run, g, image, y, x, c));
    return at(run, e, image, y, x, c) * (weight + 1.0);
}

// Of nine maps, each of which a tap makes of what is resized, those that the taps of an output pixel are of.
static double resized_taps(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                           uint32_t c) {
    const struct hymn_value *output = value_of(run, node->output);
    double sum = 0.0;
    for (uint32_t tap = 0; tap < 9; tap++) {
        int64_t at_y = (int64_t)y + tap / 3 - 1, at_x = (int64_t)x + tap % 3 - 1;
        if (at_y >= 0 && at_x >= 0 && at_y < output->height && at_x < output->width) {
            sum += resized(run, node->terms[0].source, image, (uint32_t)at_y, (uint32_t)at_x,
                           tap * hymn_round_up(output->channels, 8) + c);
        }
    }
    return sum;
}

static double elementwise(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x,
                          uint32_t c) {
    struct hymn_source first = node->terms[0].source;
    double v = c < first.channels ? at(run, first, image, y, x, c) : NAN; // beyond: CONCAT's second half
    switch (node->kind) {
    case HYMN_KIND_BATCH_NORM:
        return (v - node->mean[c]) / sqrt(node->variance[c] + 1e-5) * node->gamma[c] + node->beta[c];
    case HYMN_KIND_ACTIVATION:
        return activate(node->activation, v);
    case HYMN_KIND_ADD:
        return v + at(run, node->terms[1].source, image, y, x, c);
    case HYMN_KIND_CONCAT:
        return concat(run, node, image, y, x, c);
    case HYMN_KIND_MAX_POOL:
        return max_pool(run, first, image, y, x, c);
    case HYMN_KIND_RESIZE:
        return resized(run, first, image, y, x, c);
    case HYMN_KIND_RESIZE_TAPS:
        return resized_taps(run, node, image, y, x, c);
    case HYMN_KIND_GATE:
        return gate(run, node, image, y, x, c);
    case HYMN_KIND_DEPTHWISE:
        return activate(node->activation, depthwise(run, node->terms[0].weights, node->bias, first, image, y, x, c));
    default:
        return NAN;
    }
}

// One channel of one direction: Mamba's recurrence (Gu & Dao, arXiv 2312.00752, eq. 2 with zero-order hold for A).
static void scan_channel(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t k, uint32_t c) {
    const struct hymn_value *v = value_of(run, node->output);
    uint32_t n = node->d_state, r = node->dt_rank, channels = node->terms[0].source.channels;
    struct hymn_source group = {node->terms[1].source.value, k * hymn_round_up(r + 2 * n, 8), r + 2 * n};
    uint64_t row = (uint64_t)k * channels + c, length = (uint64_t)v->height * v->width;
    double state[64] = {0};
    for (uint64_t l = 0; l < length; l++) {
        uint64_t i = k >= 2 ? length - 1 - l : l;
        uint32_t y = (uint32_t)(k % 2 ? i % v->height : i / v->width);
        uint32_t x = (uint32_t)(k % 2 ? i / v->height : i % v->width);
        double u = at(run, node->terms[0].source, image, y, x, c), delta = node->dt_bias[row], out = node->d[row] * u;
        for (uint32_t j = 0; j < r; j++) {
            delta += node->dt_weights[row * r + j] * at(run, group, image, y, x, j);
        }
        delta = delta > 20.0 ? delta : log1p(exp(delta));
        for (uint32_t j = 0; j < n; j++) {
            state[j] = exp(delta * node->a[row * n + j]) * state[j] + delta * u * at(run, group, image, y, x, r + j);
            out += state[j] * at(run, group, image, y, x, r + n + j);
        }
        put(run, node->output, k * run->graph->batch + image, y, x, c, out / unit_of(v));
    }
}

// Of a convolution that pools its output by itself.
static void run_pool(const struct run *run, const struct hymn_node *node, uint32_t image) {
    const struct hymn_value *pooled = value_of(run, node->pooled);
    const struct hymn_source output = {node->output, 0, pooled->channels};
    for (uint64_t i = 0; i < (uint64_t)pooled->height * pooled->width * pooled->channels; i++) {
        uint32_t c = (uint32_t)(i % pooled->channels), x = (uint32_t)(i / pooled->channels % pooled->width);
        uint32_t y = (uint32_t)(i / pooled->channels / pooled->width);
        put(run, node->pooled, image, y, x, c, max_pool(run, output, image, y, x, c));
    }
}

// Of one that convolves the first part of its output in depth by itself.
static void run_convolved(const struct run *run, const struct hymn_node *node, uint32_t image) {
    const struct hymn_value *convolved = value_of(run, node->convolved);
    const struct hymn_source part = {node->output, 0, node->parts[0]};
    for (uint64_t i = 0; i < (uint64_t)convolved->height * convolved->width * convolved->channels; i++) {
        uint32_t c = (uint32_t)(i % convolved->channels), x = (uint32_t)(i / convolved->channels % convolved->width);
        uint32_t y = (uint32_t)(i / convolved->channels / convolved->width);
        double sum = depthwise(run, node->depthwise_weights, node->depthwise_bias, part, image, y, x, c);
        put(run, node->convolved, image, y, x, c, activate(node->depthwise_activation, sum));
    }
}

static void run_pixel(const struct run *run, const struct hymn_node *node, uint32_t image, uint32_t y, uint32_t x) {
    if (hymn_node_is_convolution(node)) {
        run_conv(run, node, image, y, x);
    } else if (node->kind == HYMN_KIND_NORM_STATS || node->kind == HYMN_KIND_MERGE ||
               node->kind == HYMN_KIND_LAYER_NORM) {
        run_norm(run, node, image, y, x);
    } else {
        for (uint32_t c = 0; c < value_of(run, node->output)->channels; c++) {
            put(run, node->output, image, y, x, c, elementwise(run, node, image, y, x, c));
        }
    }
}

// A node's rows of pixels or, of a scan, channels of a direction: none needs what another writes.
struct rows {
    const struct run *run;
    const struct hymn_node *node;
    uint32_t image;
};

static void run_row(void *argument, uint32_t i) {
    const struct rows *rows = argument;
    const struct hymn_value *output = value_of(rows->run, rows->node->output);
    if (rows->node->kind == HYMN_KIND_SELECTIVE_SCAN) {
        scan_channel(rows->run, rows->node, rows->image, i / output->channels, i % output->channels);
        return;
    }
    for (uint32_t x = 0; x < output->width; x++) {
        run_pixel(rows->run, rows->node, rows->image, i, x);
    }
}

// Of an image, about, in multiplications; of what is soon done 0.
static uint64_t work_of(const struct hymn_graph *graph, const struct hymn_node *node) {
    const struct hymn_value *output = &graph->values[node->output];
    if (node->kind == HYMN_KIND_SELECTIVE_SCAN) {
        const uint64_t step = node->dt_rank + (uint64_t)SCAN_WORK * node->d_state;
        return 4 * step * output->height * output->width * output->channels;
    }
    return hymn_node_is_convolution(node) ? hymn_node_macs(graph, node) / graph->batch : 0;
}

static void run_node(const struct run *run, const struct hymn_node *node, uint32_t image) {
    const struct hymn_value *output = value_of(run, node->output);
    struct rows rows = {run, node, image};
    const uint64_t shares = work_of(run->graph, node) / THREAD_WORK;
    const uint32_t threads = shares < 2 ? 0 : shares < HYMN_THREAD_MOST ? (uint32_t)shares : HYMN_THREAD_MOST;
    const uint32_t count = node->kind == HYMN_KIND_SELECTIVE_SCAN ? 4 * output->channels : output->height;
    hymn_thread_each(threads, count, run_row, &rows);
    if (node->pooled != HYMN_NONE) {
        run_pool(run, node, image);
    }
    if (node->convolved != HYMN_NONE) {
        run_convolved(run, node, image);
    }
}

void hymn_reference_run(const struct hymn_graph *graph, double *const *values) {
    struct run run = {graph, values};
    for (uint32_t i = 0; i < graph->node_count; i++) {
        for (uint32_t image = 0; image < graph->batch; image++) {
            run_node(&run, &graph->nodes[i], image);
        }
    }
}
