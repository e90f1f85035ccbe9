// SPDX-License-Identifier: MIT
#include "ops/moments.h"

enum hymn_status hymn_merge_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_value *source = &lower->graph->values[node->terms[0].source.value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_stats_params params = {
        .width = output->width,
        .rows = lower->graph->batch * output->height,
        .cells = hymn_value_cells(output),
        .channels = node->terms[0].source.channels,
    };
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "merge", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    uint32_t share = hymn_moments_share(lower->plan, params.cells);
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    hymn_lower_bind(step, hymn_lower_value(lower, node->stats), true);
    hymn_vk_step_push(step, &params, sizeof params);
    enum hymn_status status = hymn_grid_set(step, lower->plan, lower->log, (uint64_t)params.width * share, params.rows);
    hymn_step_constant(step, share);
    step->bytes = source->bytes + output->bytes + lower->graph->values[node->stats].bytes;
    return status;
}
