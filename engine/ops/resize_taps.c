// SPDX-License-Identifier: MIT
#include "ops/resample.h"

enum hymn_status hymn_resize_taps_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_source *from = &node->terms[0].source;
    const struct hymn_value *source = &lower->graph->values[from->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_resample_params params = hymn_resample_make(lower->graph, source, hymn_value_cells(output));
    params.source_stride = hymn_value_cells(source);
    params.source_first = from->first / 8;
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "resize_taps", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, from->value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    step->bytes = output->bytes / 4 * 13; // nine maps of a quarter of the pixels
    return hymn_resample_finish(lower, step, &params);
}
