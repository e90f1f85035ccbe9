// SPDX-License-Identifier: MIT
#include "ops/grid.h"
#include "shaders/params.h"

#include <string.h>

// Pixels of a lane of shaders/depthwise.comp. Loads cost a software device most, so there each serves more pixels.
#define STRIP_GPU 2u
#define STRIP_CPU 4u

// Per cell: bias (8 floats), then 9 taps of 8.
static bool pack(struct hymn_lower *lower, const struct hymn_node *node, uint32_t cells, bool half,
                 struct hymn_vk_binding *out_binding) {
    uint32_t channels = node->terms[0].source.channels, tap_bytes = half ? 16 : 32;
    uint32_t cell_bytes = 32 + 9 * tap_bytes;
    uint8_t *packed = hymn_lower_weights(lower, (uint64_t)cells * cell_bytes, out_binding);
    for (uint32_t cell = 0; packed && cell < cells; cell++) {
        uint8_t *to = packed + (uint64_t)cell * cell_bytes;
        uint32_t valid = channels - 8 * cell < 8 ? channels - 8 * cell : 8;
        if (node->bias) {
            memcpy(to, node->bias + 8 * cell, valid * sizeof(float));
        }
        for (uint32_t tap = 0; tap < 9; tap++) {
            float eight[8] = {0};
            memcpy(eight, node->terms[0].weights + (uint64_t)tap * channels + 8 * cell, valid * sizeof(float));
            hymn_pack_weights(to + 32 + tap * tap_bytes, eight, 8, half);
        }
    }
    return packed != NULL;
}

enum hymn_status hymn_depthwise_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_value *source = &lower->graph->values[node->terms[0].source.value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    uint32_t strip = lower->plan->cpu ? STRIP_CPU : STRIP_GPU;
    bool half = source->storage == HYMN_STORAGE_F16;
    struct hymn_depthwise_params params = {
        .width = output->width,
        .height = output->height,
        .rows = lower->graph->batch * output->height,
        .cells = hymn_value_cells(output),
        .source_stride = hymn_value_cells(source),
        .source_first = node->terms[0].source.first / 8,
        .strips = (output->width + strip - 1) / strip,
    };
    params.cells_reciprocal = 1.0f / (float)params.cells;
    params.height_reciprocal = 1.0f / (float)params.height;
    struct hymn_vk_binding weights;
    if (!pack(lower, node, params.cells, half, &weights)) {
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
