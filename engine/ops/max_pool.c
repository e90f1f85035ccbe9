// SPDX-License-Identifier: MIT
#include "ops/resample.h"

enum hymn_status hymn_max_pool_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_value *source = &lower->graph->values[node->terms[0].source.value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_resample_params params = hymn_resample_make(lower->graph, output, hymn_value_cells(output));
    params.source_stride = hymn_value_cells(source);
    params.source_first = node->terms[0].source.first / 8;
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "max_pool", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    step->bytes = 5 * output->bytes;
    return hymn_resample_finish(lower, step, &params);
}
