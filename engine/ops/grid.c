// SPDX-License-Identifier: MIT
#include "ops/grid.h"

#define MAX_GROUPS 65535u
#define LOCAL_SIZE 64u
// Workgroups of a fold, about: steps are divided along their folds where they have any.
#define FOLD 1024u

// Rows shorter than a workgroup would leave lanes idle, and a software device executes idle lanes.
static uint32_t local_size(uint64_t lanes) {
    uint32_t size = LOCAL_SIZE;
    while (size > 8 && lanes <= size / 2) {
        size /= 2;
    }
    return size;
}

enum hymn_status hymn_grid_set(struct hymn_vk_step *step, const struct hymn_vk_plan *plan, const struct hymn_log *log,
                               uint64_t lanes, uint64_t rows) {
    return hymn_grid_set_like(step, plan, log, lanes, lanes, rows);
}

enum hymn_status hymn_grid_set_like(struct hymn_vk_step *step, const struct hymn_vk_plan *plan,
                                    const struct hymn_log *log, uint64_t like, uint64_t lanes, uint64_t rows) {
    // Short rows share a pipeline on a processor, where making one takes longer than running it.
    uint32_t local = plan->cpu && like <= 64 ? 16 : local_size(like);
    if (lanes >= HYMN_GRID_MAX_LANES || rows >= HYMN_GRID_MAX_LANES || local > plan->max_invocations) {
        return hymn_fail(log, HYMN_STATUS_UNSUPPORTED, "%s: %llu lanes in %llu rows are more than one dispatch does",
                         step->name, (unsigned long long)lanes, (unsigned long long)rows);
    }
    hymn_step_constant(step, local);
    hymn_step_constant(step, plan->cpu);
    step->groups[0] = (uint32_t)((lanes + local - 1) / local);
    hymn_grid_fold((uint32_t)rows, MAX_GROUPS, &step->groups[1], &step->groups[2]);
    return HYMN_STATUS_OK;
}

void hymn_grid_fold(uint32_t total, uint32_t most, uint32_t *out_first, uint32_t *out_folds) {
    uint32_t folds = 1;
    if (total > most) {
        uint32_t least = hymn_divide_up(total, MAX_GROUPS), fold = FOLD > least ? FOLD : least;
        folds = hymn_divide_up(total, fold < most ? fold : most);
    }
    *out_first = hymn_divide_up(total, folds);
    *out_folds = folds;
}

void hymn_step_constant(struct hymn_vk_step *step, uint32_t value) {
    step->constants[step->constant_count++] = value;
}

const char *hymn_storage_suffix(enum hymn_storage storage) {
    return storage == HYMN_STORAGE_F16 ? ".f16" : ".f32";
}
