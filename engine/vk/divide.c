// SPDX-License-Identifier: MIT
#include "vk/divide.h"

#include <math.h>

// Beyond this many slices a dispatch's workgroups are the problem, not their number.
#define MOST_SLICES 4096u
// What starting a step costs whatever it does.
#define STEP_SECONDS 5e-6
// Estimates this far off are let be.
#define TOO_SLOW 1.25
#define TOO_FAST 0.25

static double seconds_of(const struct hymn_vk_plan *plan, const struct hymn_vk_step *step) {
    return STEP_SECONDS + (double)step->bytes / plan->bytes_per_second + (double)step->flops / plan->flops_per_second;
}

// Workgroups that count each other share a place in x and y: a slice has all of them, for what is behind it may never
// be submitted.
static bool counts(const struct hymn_vk_step *step) {
    bool found = false;
    for (uint32_t i = 0; i < step->binding_count; i++) {
        found = found || step->bindings[i].role == HYMN_VK_ROLE_COUNTERS;
    }
    return found;
}

uint32_t hymn_vk_step_axis(const struct hymn_vk_step *step) {
    return step->groups[2] > 1 && !counts(step) ? 2 : 0;
}

void hymn_vk_step_slice(const struct hymn_vk_step *step, uint32_t index, uint32_t *out_first, uint32_t *out_count) {
    uint64_t groups = step->groups[hymn_vk_step_axis(step)];
    uint64_t first = groups * index / step->slices, end = groups * (index + 1) / step->slices;
    *out_first = (uint32_t)first;
    *out_count = (uint32_t)(end - first);
}

double hymn_vk_program_divide(struct hymn_vk_program *program, const struct hymn_vk_plan *plan, double slowness,
                              double limit) {
    double total = 0.0;
    for (uint32_t i = 0; i < program->count; i++) {
        struct hymn_vk_step *step = &program->steps[i];
        double seconds = seconds_of(plan, step) * slowness, slices = ceil(seconds / limit);
        uint32_t most = step->groups[hymn_vk_step_axis(step)];
        most = step->kind != HYMN_VK_STEP_DISPATCH ? 1 : most < MOST_SLICES ? most : MOST_SLICES;
        step->slices = slices < (double)most ? (uint32_t)slices : most;
        step->slices = step->slices > 0 ? step->slices : 1;
        step->seconds = seconds;
        total += seconds;
    }
    return total;
}

double hymn_vk_slowness(double slowness, double estimate, double measured, double limit) {
    if (!(estimate > 0.0) || !(measured > 0.0) || (measured <= limit && estimate * slowness <= limit)) {
        return slowness;
    }
    double found = measured / estimate;
    return found > TOO_SLOW * slowness || found < TOO_FAST * slowness ? found : slowness;
}
