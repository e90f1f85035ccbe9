// SPDX-License-Identifier: MIT
#include <string.h>

#include "ops/moments.h"

// Cells of the sum that a lane keeps in registers, of which phones have few. Software devices have hardly any, and
// their compilers are slow on unrolled code.
#define MOST_KEPT 4u

static enum hymn_status bind_affine(struct hymn_lower *lower, const struct hymn_node *node, uint32_t cells,
                                    struct hymn_vk_step *step) {
    struct hymn_vk_binding binding;
    float *gamma = hymn_lower_weights(lower, (uint64_t)cells * 16 * sizeof *gamma, &binding);
    if (!gamma) {
        return lower->status;
    }
    memcpy(gamma, node->gamma, node->terms[0].source.channels * sizeof *gamma);
    memcpy(gamma + (size_t)cells * 8, node->beta, node->terms[0].source.channels * sizeof *gamma);
    hymn_lower_bind(step, binding, false);
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_merge_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_source *z = &node->terms[1].source;
    const struct hymn_value *planes = &lower->graph->values[node->terms[0].source.value];
    const struct hymn_value *gate = &lower->graph->values[z->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_stats_params params = {
        .width = output->width,
        .rows = lower->graph->batch * output->height,
        .cells = hymn_value_cells(output),
        .channels = node->terms[0].source.channels,
        .source_stride = hymn_value_cells(gate),
        .source_first = z->first / 8,
    };
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "merge", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    uint32_t share = hymn_moments_share(lower->plan, params.cells), kept = (params.cells + share - 1) / share;
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, z->value), false);
    enum hymn_status status = bind_affine(lower, node, params.cells, step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set(step, lower->plan, lower->log, (uint64_t)params.width * share, params.rows);
    hymn_step_constant(step, share);
    hymn_step_constant(step, !lower->plan->cpu && kept <= MOST_KEPT ? kept : 0);
    step->bytes = planes->bytes + 2 * output->bytes + (uint64_t)params.cells * 64; // z has the output's size
    return status;
}
