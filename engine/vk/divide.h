// SPDX-License-Identifier: MIT
//
// How long a program's steps will take, and which dispatches must be cut into slices so that none keeps the device busy
// for too long: desktop systems reset a GPU that does not answer for some two seconds. Pure.
#ifndef HYMN_VK_DIVIDE_H
#define HYMN_VK_DIVIDE_H

#include "vk/plan.h"
#include "vk/program.h"

// Seconds of work that one submission should hold at most.
#define HYMN_VK_SUBMISSION_SECONDS 0.5

// Fills every step's seconds and slices, and returns the sum of the seconds. slowness: how much longer the device takes
// than its plan says (1: as long). A dispatch is cut along z, or along x where there is one layer, or where workgroups
// count each other across z (HYMN_VK_ROLE_COUNTERS), so that a slice has all of those. Shaders may use
// gl_NumWorkGroups.x and .y only to number the layers of z (that count: .y only), and .z not at all, as it then counts
// a slice.
double hymn_vk_program_divide(struct hymn_vk_program *program, const struct hymn_vk_plan *plan, double slowness,
                              double limit);
// The dimension that a step is cut along: 0 or 2.
uint32_t hymn_vk_step_axis(const struct hymn_vk_step *step);
// Slice `index` of a step: its first workgroup along the axis, and how many.
void hymn_vk_step_slice(const struct hymn_vk_step *step, uint32_t index, uint32_t *out_first, uint32_t *out_count);

// The slowness to go on with, after a run whose estimate, with slowness 1, was `estimate` seconds took `measured`.
// Unchanged while `slowness` is about right (a run that is not divided at all tells too little to matter).
double hymn_vk_slowness(double slowness, double estimate, double measured, double limit);

#endif
