// SPDX-License-Identifier: MIT
//
// Dispatches whose lanes form rows (shaders/common/grid.glsl).
#ifndef HYMN_OPS_GRID_H
#define HYMN_OPS_GRID_H

#include "ops/ops.h"

// hymn_divide of grid.glsl is exact below this.
#define HYMN_GRID_MAX_LANES (1u << 21)

// Sets the step's first two constants (shaders/common/grid.glsl) and its workgroups: `lanes` in x, `rows` folded into y
// and z. UNSUPPORTED (names the step) for HYMN_GRID_MAX_LANES lanes or rows and more.
enum hymn_status hymn_grid_set(struct hymn_vk_step *step, const struct hymn_vk_plan *plan, const struct hymn_log *log,
                               uint64_t lanes, uint64_t rows);
// The same with workgroups of the size that rows of `like` lanes have: a step whose rows are of another length with
// each image has one pipeline for all.
enum hymn_status hymn_grid_set_like(struct hymn_vk_step *step, const struct hymn_vk_plan *plan,
                                    const struct hymn_log *log, uint64_t like, uint64_t lanes, uint64_t rows);
// Folds workgroups of which a dimension has too many, into *out_first and *out_folds of it: as few more than `total` as
// there are folds, which are enough for a long step to be divided (vk/divide.h). most: of a dimension.
void hymn_grid_fold(uint32_t total, uint32_t most, uint32_t *out_first, uint32_t *out_folds);
void hymn_step_constant(struct hymn_vk_step *step, uint32_t value);

// ".f16" or ".f32".
const char *hymn_storage_suffix(enum hymn_storage storage);
// Of a value, in cells of eight channels.
static inline uint32_t hymn_value_cells(const struct hymn_value *value) {
    return value->stride / 8;
}

#endif
