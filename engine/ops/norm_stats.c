// SPDX-License-Identifier: MIT
#include "ops/moments.h"

enum hymn_status hymn_norm_stats_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_source *from = &node->terms[0].source;
    const struct hymn_value *source = &lower->graph->values[from->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_stats_params params = {
        .width = output->width,
        .rows = lower->graph->batch * output->height,
        .cells = (from->channels + 7) / 8,
        .channels = from->channels,
        .source_stride = hymn_value_cells(source),
        .source_first = from->first / 8,
    };
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "norm_stats", hymn_storage_suffix(source->storage));
    if (!step) {
        return lower->status;
    }
    uint32_t kernel = node->terms[0].kernel == 2 ? 2 : 1, share = hymn_moments_share(lower->plan, params.cells);
    hymn_lower_bind(step, hymn_lower_value(lower, from->value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    hymn_vk_step_push(step, &params, sizeof params);
    enum hymn_status status = hymn_grid_set(step, lower->plan, lower->log, (uint64_t)params.width * share, params.rows);
    hymn_step_constant(step, share);
    hymn_step_constant(step, kernel);
    step->bytes = source->bytes / source->stride * 8 * params.cells + output->bytes;
    return status;
}
