// SPDX-License-Identifier: MIT
#include "ops/conv2d.h"
#include "ops/grid.h"
#include "shaders/params.h"

#include <string.h>

// Pixels of a lane of shaders/depthwise.comp: the more, the more of them each load serves, where the lanes that are
// left still fill part of the device (one in ENOUGH: measured on an H100). Loads cost a software device most.
#define LONG_STRIP 4u
#define SHORT_STRIP 2u
#define ENOUGH 4u

static uint32_t choose_strip(const struct hymn_depthwise_params *params, const struct hymn_vk_plan *plan) {
    uint64_t lanes = (uint64_t)params->rows * hymn_divide_up(params->width, LONG_STRIP) * params->cells;
    return plan->cpu || ENOUGH * lanes >= plan->target_lanes ? LONG_STRIP : SHORT_STRIP;
}

// A cell's eight numbers, as far as they are there, as one unit of 16 bytes or two: units `apart` bytes apart.
static void pack_cell(uint8_t *to, size_t apart, const float *from, uint32_t valid, bool half) {
    float eight[8] = {0};
    memcpy(eight, from, valid * sizeof *eight);
    if (half) {
        hymn_pack_weights(to, eight, 8, true);
    } else {
        hymn_pack_weights(to, eight, 4, false);
        hymn_pack_weights(to + apart, eight + 4, 4, false);
    }
}

// Units of 16 bytes [unit][cell]: two for the bias, then one or two for each tap.
bool hymn_depthwise_pack(struct hymn_lower *lower, const float *weights, const float *bias, uint32_t channels,
                         bool half, struct hymn_vk_binding *out_binding) {
    const uint32_t cells = hymn_divide_up(channels, 8), tap_units = half ? 1 : 2;
    const size_t apart = (size_t)cells * 16;
    uint8_t *packed = hymn_lower_weights(lower, (2 + 9 * tap_units) * apart, out_binding);
    for (uint32_t cell = 0; packed && cell < cells; cell++) {
        const uint32_t first = 8 * cell, valid = channels - first < 8 ? channels - first : 8;
        uint8_t *to = packed + (size_t)cell * 16;
        if (bias) {
            pack_cell(to, apart, bias + first, valid, false);
        }
        for (uint32_t tap = 0; tap < 9; tap++) {
            pack_cell(to + (2 + tap * tap_units) * apart, apart, weights + (size_t)tap * channels + first, valid, half);
        }
    }
    return packed != NULL;
}

enum hymn_status hymn_depthwise_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_value *source = &lower->graph->values[node->terms[0].source.value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    bool half = source->storage == HYMN_STORAGE_F16;
    struct hymn_depthwise_params params = {
        .width = output->width,
        .height = output->height,
        .rows = lower->graph->batch * output->height,
        .cells = hymn_value_cells(output),
        .source_stride = hymn_value_cells(source),
        .source_first = node->terms[0].source.first / 8,
    };
    const uint32_t strip = choose_strip(&params, lower->plan);
    params.strips = hymn_divide_up(params.width, strip);
    params.cells_reciprocal = 1.0f / (float)params.cells;
    params.height_reciprocal = 1.0f / (float)params.height;
    struct hymn_vk_binding weights;
    if (!hymn_depthwise_pack(lower, node->terms[0].weights, node->bias, node->terms[0].source.channels, half,
                             &weights)) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "depthwise", hymn_storage_suffix(source->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    hymn_vk_step_push(step, &params, sizeof params);
    enum hymn_status status =
        hymn_grid_set(step, lower->plan, lower->log, (uint64_t)params.strips * params.cells, params.rows);
    hymn_step_constant(step, strip);
    hymn_step_constant(step, half);
    hymn_step_constant(step, node->activation);
    step->bytes = 2 * output->bytes + weights.bytes;
    step->flops = (uint64_t)output->width * output->height * lower->graph->batch * output->channels * 18;
    return status;
}
