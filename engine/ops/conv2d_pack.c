// SPDX-License-Identifier: MIT
#include "ops/conv2d.h"

#include <string.h>

#include "base/half.h"

#define CELL 8u

static uint32_t term_cells(const struct hymn_term *term) {
    return hymn_round_up(term->source.channels, CELL) / CELL;
}

uint32_t hymn_conv2d_steps(const struct hymn_node *node) {
    uint32_t steps = 0;
    for (uint32_t i = 0; i < node->term_count; i++) {
        steps += node->terms[i].kernel * node->terms[i].kernel * term_cells(&node->terms[i]);
    }
    return steps;
}

uint32_t hymn_conv2d_padded_steps(const struct hymn_conv2d_layout *layout) {
    return hymn_round_up(hymn_conv2d_steps(layout->node), layout->step_multiple);
}

// The row of the weights that computes an output channel, or HYMN_NONE for the padding after a part.
static uint32_t channel_row(const struct hymn_node *node, uint32_t channel) {
    uint32_t row = 0;
    for (uint32_t part = 0; part < node->part_count; part++) {
        uint32_t first = hymn_node_part_first(node, part);
        if (channel >= first && channel - first < node->parts[part]) {
            return row + channel - first;
        }
        row += node->parts[part];
    }
    return HYMN_NONE;
}

// The eight weights of one output channel in one step; zeros beyond the term's channels.
static void gather(const struct hymn_term *term, uint32_t row, uint32_t tap, uint32_t cell, float out[8]) {
    uint32_t channels = term->source.channels, taps = term->kernel * term->kernel;
    const float *from = term->weights + ((uint64_t)row * taps + tap) * channels + cell * CELL;
    for (uint32_t k = 0; k < CELL; k++) {
        out[k] = cell * CELL + k < channels ? from[k] : 0.0f;
    }
}

// Tap and cell of the step-th step of a term.
static void term_step(const struct hymn_conv2d_layout *layout, const struct hymn_term *term, uint32_t step,
                      uint32_t *out_tap, uint32_t *out_cell) {
    uint32_t cells = term_cells(term);
    if (layout->rows_of_taps && term->kernel == 3) {
        *out_tap = step / (3 * cells) * 3 + step % 3;
        *out_cell = step / 3 % cells;
    } else {
        *out_tap = step / cells;
        *out_cell = step % cells;
    }
}

// One step of one tile: 8 * 8 * tile_cells values.
static void pack_step(const struct hymn_conv2d_layout *layout, const struct hymn_term *term, uint32_t step,
                      uint32_t tile, uint8_t *to, float *values) {
    uint32_t width = layout->tile_cells * CELL, tap, cell;
    term_step(layout, term, step, &tap, &cell);
    memset(values, 0, (size_t)width * CELL * sizeof *values);
    for (uint32_t channel = 0; channel < width; channel++) {
        uint32_t row = channel_row(layout->node, tile * width + channel);
        float eight[8];
        if (row == HYMN_NONE) {
            continue;
        }
        gather(term, row, tap, cell, eight);
        for (uint32_t k = 0; k < CELL; k++) {
            values[layout->lanes ? channel * CELL + k : k * width + channel] = eight[k];
        }
    }
    hymn_pack_weights(to, values, (uint64_t)width * CELL, layout->half);
}

static void pack_tiles(const struct hymn_conv2d_layout *layout, uint8_t *to, uint64_t step_bytes, float *values) {
    const struct hymn_node *node = layout->node;
    uint32_t padding = hymn_conv2d_padded_steps(layout) - hymn_conv2d_steps(node);
    for (uint32_t tile = 0; tile < layout->tiles; tile++) {
        for (uint32_t i = 0; i < node->term_count; i++) {
            const struct hymn_term *term = &node->terms[layout->order[i]];
            uint32_t steps = term->kernel * term->kernel * term_cells(term);
            for (uint32_t step = 0; step < steps; step++, to += step_bytes) {
                pack_step(layout, term, step, tile, to, values);
            }
        }
        to += padding * step_bytes;
    }
}

// Room for the matrix, then the bias, which is filled in here, and with `sums` as many numbers again. NULL: out of
// memory.
static uint8_t *pack_around(struct hymn_lower *lower, const struct hymn_node *node, uint64_t matrix_bytes,
                            uint32_t out_channels, bool sums, struct hymn_conv2d_params *params,
                            struct hymn_vk_binding *out_binding) {
    uint64_t bias_bytes = (uint64_t)out_channels * sizeof(float);
    uint64_t bytes = matrix_bytes + (sums ? 2 : 1) * bias_bytes;
    uint8_t *to = hymn_lower_weights(lower, bytes, out_binding);
    if (!to) {
        return NULL;
    }
    float *bias = (float *)(void *)(to + matrix_bytes);
    for (uint32_t channel = 0; node->bias && channel < out_channels; channel++) {
        uint32_t row = channel_row(node, channel);
        bias[channel] = row == HYMN_NONE ? 0.0f : node->bias[row];
    }
    params->bias_at = (uint32_t)(matrix_bytes / 16);
    params->weight_sums_at = (uint32_t)((matrix_bytes + bias_bytes) / 16);
    return to;
}

enum hymn_status hymn_conv2d_pack(struct hymn_lower *lower, const struct hymn_conv2d_layout *layout,
                                  struct hymn_conv2d_params *params, struct hymn_vk_binding *out_binding) {
    uint32_t width = layout->tile_cells * CELL;
    uint64_t step_bytes = (uint64_t)width * CELL * (layout->half ? 2 : 4);
    uint64_t matrix_bytes = step_bytes * hymn_conv2d_padded_steps(layout) * layout->tiles;
    uint8_t *to = pack_around(lower, layout->node, matrix_bytes, layout->tiles * width, false, params, out_binding);
    float *values = hymn_alloc((size_t)width * CELL, sizeof *values);
    if (!to || !values) {
        hymn_free(values);
        return hymn_fail(lower->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", layout->node->name);
    }
    if (!lower->blank) {
        pack_tiles(layout, to, step_bytes, values);
    }
    hymn_free(values);
    return HYMN_STATUS_OK;
}

// One tap of one stage of one tile: [channel][8 * depth k].
static void pack_stage(const struct hymn_node *node, const struct hymn_term *term, uint32_t tap, uint32_t first_cell,
                       uint32_t first_channel, uint32_t channels, uint32_t depth, uint16_t *to) {
    uint32_t all = term->source.channels, first = first_cell * CELL, taps = term->kernel * term->kernel;
    uint32_t count = all - first < depth * CELL ? all - first : depth * CELL;
    for (uint32_t channel = 0; channel < channels; channel++) {
        uint32_t row = channel_row(node, first_channel + channel);
        if (row != HYMN_NONE) {
            const float *from = term->weights + ((uint64_t)row * taps + tap) * all + first;
            hymn_pack_weights(to + (size_t)channel * depth * CELL, from, count, true);
        }
    }
}

// Stages of a term of kernel 2 go tap by tap; otherwise a stage has all of its taps, which go down the kernel's
// columns.
static uint16_t *pack_term(const struct hymn_node *node, const struct hymn_term *term, uint32_t first_channel,
                           uint32_t channels, uint32_t depth, uint16_t *to) {
    uint32_t taps = term->kernel * term->kernel, cells = term_cells(term);
    uint32_t chunks = (cells + depth - 1) / depth, outer = term->kernel == 2 ? taps : 1, inner = taps / outer;
    for (uint32_t i = 0; i < outer; i++) {
        for (uint32_t chunk = 0; chunk < chunks; chunk++) {
            for (uint32_t j = 0; j < inner; j++, to += (size_t)channels * depth * CELL) {
                uint32_t tap = term->kernel == 3 ? j % 3 * 3 + j / 3 : i + j;
                pack_stage(node, term, tap, chunk * depth, first_channel, channels, depth, to);
            }
        }
    }
    return to;
}

// The sum of an output channel's weights as they are packed, rounded to binary16: what the kernel multiplies the mean
// by.
static float weight_sum(const struct hymn_term *term, uint32_t row) {
    const uint64_t count = (uint64_t)term->kernel * term->kernel * term->source.channels;
    const float *weights = term->weights + row * count;
    double sum = 0.0;
    for (uint64_t done = 0; done < count; done += 64) {
        const uint64_t some = count - done < 64 ? count - done : 64;
        uint16_t halves[64];
        float rounded[64];
        hymn_pack_weights(halves, weights + done, some, true);
        hymn_halves_to_floats(halves, some, rounded);
        for (uint64_t i = 0; i < some; i++) {
            sum += rounded[i];
        }
    }
    return (float)sum;
}

enum hymn_status hymn_conv2d_pack_matrix(struct hymn_lower *lower, const struct hymn_node *node, uint32_t channels,
                                         uint32_t depth, struct hymn_conv2d_params *params,
                                         struct hymn_vk_binding *out_binding) {
    uint32_t tiles = (params->out_stride * CELL + channels - 1) / channels;
    uint64_t tile_bytes = 0;
    for (uint32_t i = 0; i < node->term_count; i++) {
        const struct hymn_term *term = &node->terms[i];
        uint64_t chunks = (term_cells(term) + depth - 1) / depth;
        tile_bytes += term->kernel * term->kernel * chunks * channels * depth * 16;
    }
    params->tile_weights = (uint32_t)(tile_bytes / 16);
    bool norm = node->prologue == HYMN_PROLOGUE_NORM;
    uint8_t *to = pack_around(lower, node, tile_bytes * tiles, tiles * channels, norm, params, out_binding);
    if (!to || lower->blank) {
        return to ? HYMN_STATUS_OK : HYMN_STATUS_OUT_OF_MEMORY;
    }
    float *sums = (float *)(void *)(to + (size_t)params->weight_sums_at * 16);
    for (uint32_t channel = 0; norm && channel < tiles * channels; channel++) {
        uint32_t row = channel_row(node, channel);
        sums[channel] = row == HYMN_NONE ? 0.0f : weight_sum(&node->terms[0], row);
    }
    uint16_t *halves = (uint16_t *)(void *)to;
    for (uint32_t tile = 0; tile < tiles; tile++) {
        for (uint32_t i = 0; i < node->term_count; i++) {
            halves = pack_term(node, &node->terms[i], tile * channels, channels, depth, halves);
        }
    }
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_conv2d_pack_thin(struct hymn_lower *lower, const struct hymn_node *node, uint32_t channels,
                                       uint32_t depth, struct hymn_conv2d_params *params,
                                       struct hymn_vk_binding *out_binding) {
    const struct hymn_term *term = &node->terms[0];
    const uint32_t tiles = (params->out_stride * CELL + channels - 1) / channels, k = depth * CELL;
    const uint32_t thin = term->source.channels, taps = term->kernel * term->kernel;
    params->tile_weights = channels * depth;
    uint8_t *to =
        pack_around(lower, node, (uint64_t)tiles * channels * k * 2, tiles * channels, false, params, out_binding);
    if (!to || lower->blank) {
        return to ? HYMN_STATUS_OK : HYMN_STATUS_OUT_OF_MEMORY;
    }
    for (uint32_t channel = 0; channel < tiles * channels; channel++) {
        uint32_t row = channel_row(node, channel);
        for (uint32_t tap = 0; row != HYMN_NONE && tap < taps; tap++) {
            const float *from = term->weights + ((uint64_t)row * taps + tap) * thin;
            hymn_pack_weights(to + ((uint64_t)channel * k + (uint64_t)tap * HYMN_CONV2D_THIN) * 2, from, thin, true);
        }
    }
    return HYMN_STATUS_OK;
}

// G w Gt of eight k of one output channel: [position][8 k]. w: [tap][8 k].
static void winograd_weights(const float w[9][8], float out[16][8]) {
    static const float g[4][3] = {{1.0f, 0.0f, 0.0f}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0.0f, 0.0f, 1.0f}};
    for (uint32_t k = 0; k < CELL; k++) {
        for (uint32_t position = 0; position < 16; position++) {
            double sum = 0.0;
            for (uint32_t tap = 0; tap < 9; tap++) {
                sum += (double)g[position / 4][tap / 3] * g[position % 4][tap % 3] * w[tap][k];
            }
            out[position][k] = (float)sum;
        }
    }
}

// Steps of a term: of one cell of k with kernel 3, of four with kernel 1.
static uint32_t winograd_steps(const struct hymn_term *term) {
    return term->kernel == 3 ? term_cells(term) : (term_cells(term) + 3) / 4;
}

// One output channel of one step: [16 positions][8 k].
static void pack_winograd_channel(const struct hymn_term *term, uint32_t row, uint32_t step, float out[16][8]) {
    float taps[9][8];
    if (term->kernel == 3) {
        for (uint32_t tap = 0; tap < 9; tap++) {
            gather(term, row, tap, step, taps[tap]);
        }
        winograd_weights((const float(*)[8])taps, out);
        return;
    }
    // The middle positions of a dimension compute another cell than the outer ones.
    for (uint32_t position = 0; position < 16; position++) {
        uint32_t y = position / 4, x = position % 4, cell = 4 * step + 2 * (y == 1 || y == 2) + (x == 1 || x == 2);
        if (cell < term_cells(term)) {
            gather(term, row, 0, cell, out[position]);
        } else {
            memset(out[position], 0, sizeof out[position]);
        }
    }
}

// One step of one tile: [16 positions][across][8 k][8 channels].
static void pack_winograd_step(const struct hymn_node *node, const struct hymn_term *term, uint32_t step,
                               uint32_t first_channel, uint32_t across, float *values) {
    memset(values, 0, (size_t)16 * across * CELL * CELL * sizeof *values);
    for (uint32_t channel = 0; channel < across * CELL; channel++) {
        uint32_t row = channel_row(node, first_channel + channel);
        float positions[16][8];
        if (row == HYMN_NONE) {
            continue;
        }
        pack_winograd_channel(term, row, step, positions);
        for (uint32_t i = 0; i < 16 * CELL; i++) {
            uint32_t position = i / CELL, k = i % CELL;
            values[((position * across + channel / CELL) * CELL + k) * CELL + channel % CELL] = positions[position][k];
        }
    }
}

enum hymn_status hymn_conv2d_pack_winograd(struct hymn_lower *lower, const struct hymn_node *node, uint32_t across,
                                           bool half, struct hymn_conv2d_params *params,
                                           struct hymn_vk_binding *out_binding) {
    uint32_t tiles = (params->out_stride + across - 1) / across, count = 16 * across * CELL * CELL, steps = 0;
    for (uint32_t i = 0; i < node->term_count; i++) {
        steps += winograd_steps(&node->terms[i]);
    }
    uint64_t step_bytes = (uint64_t)count * (half ? 2 : 4);
    uint8_t *to =
        pack_around(lower, node, step_bytes * steps * tiles, tiles * across * CELL, false, params, out_binding);
    float *values = hymn_alloc(count, sizeof *values);
    if (!to || !values) {
        hymn_free(values);
        return hymn_fail(lower->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name);
    }
    for (uint32_t tile = 0; tile < tiles && !lower->blank; tile++) {
        for (uint32_t i = 0; i < node->term_count; i++) {
            for (uint32_t step = 0; step < winograd_steps(&node->terms[i]); step++, to += step_bytes) {
                pack_winograd_step(node, &node->terms[i], step, tile * across * CELL, across, values);
                hymn_pack_weights(to, values, count, half);
            }
        }
    }
    hymn_free(values);
    return HYMN_STATUS_OK;
}
