// SPDX-License-Identifier: MIT
//
// What max_pool, resize and gate have in common: one lane per cell and pixel of the lower resolution.
#ifndef HYMN_OPS_RESAMPLE_H
#define HYMN_OPS_RESAMPLE_H

#include "ops/grid.h"
#include "shaders/params.h"

// Parameters for `cells` cells a pixel at the size of `low`; the strides are the caller's.
static inline struct hymn_resample_params hymn_resample_make(const struct hymn_graph *graph,
                                                             const struct hymn_value *low, uint32_t cells) {
    return (struct hymn_resample_params){
        .width = low->width,
        .height = low->height,
        .rows = graph->batch * low->height,
        .cells = cells,
        .cells_reciprocal = 1.0f / (float)cells,
        .height_reciprocal = 1.0f / (float)low->height,
    };
}

static inline enum hymn_status hymn_resample_finish(struct hymn_lower *lower, struct hymn_vk_step *step,
                                                    const struct hymn_resample_params *params) {
    hymn_vk_step_push(step, params, sizeof *params);
    return hymn_grid_set(step, lower->plan, lower->log, (uint64_t)params->width * params->cells, params->rows);
}

#endif
