// SPDX-License-Identifier: MIT
#include "ops/resample.h"

// maps: of half the size that are read for each of the output's.
static enum hymn_status lower_resize(struct hymn_lower *lower, const struct hymn_node *node, const char *shader,
                                     uint64_t maps) {
    const struct hymn_source *from = &node->terms[0].source;
    const struct hymn_value *source = &lower->graph->values[from->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_resample_params params = hymn_resample_make(lower->graph, source, hymn_value_cells(output));
    params.source_stride = hymn_value_cells(source);
    params.source_first = from->first / 8;
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, shader, hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, from->value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    step->bytes = output->bytes / 4 * (4 + maps);
    return hymn_resample_finish(lower, step, &params);
}

enum hymn_status hymn_resize_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    return lower_resize(lower, node, "resize", 1);
}

enum hymn_status hymn_resize_taps_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    return lower_resize(lower, node, "resize_taps", 9);
}
