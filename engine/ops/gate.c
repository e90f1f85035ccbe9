// SPDX-License-Identifier: MIT
#include "ops/resample.h"

enum hymn_status hymn_gate_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_source *e = &node->terms[0].source, *g = &node->terms[1].source;
    const struct hymn_value *source = &lower->graph->values[e->value];
    const struct hymn_value *gate = &lower->graph->values[g->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_resample_params params = hymn_resample_make(lower->graph, gate, hymn_value_cells(output));
    params.source_stride = hymn_value_cells(gate);
    params.source_first = g->first / 8;
    params.e_stride = hymn_value_cells(source);
    params.e_first = e->first / 8;
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "gate", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, g->value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, e->value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    step->bytes = output->bytes / 4 * 9;
    return hymn_resample_finish(lower, step, &params);
}
