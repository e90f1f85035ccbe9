// SPDX-License-Identifier: MIT
//
// A self-test's problem on a device: lowered for a plan, run any number of times, results read back.
#ifndef HYMN_SELFTEST_RUN_H
#define HYMN_SELFTEST_RUN_H

#include "ops/ops.h"
#include "selftest/cases.h"
#include "selftest/selftest.h"
#include "vk/command.h"

struct hymn_selftest_run {
    struct hymn_vk_device *device;
    struct hymn_selftest_problem *problem;
    struct hymn_lower lower;
    struct hymn_selftest_room *room;
    uint64_t bytes; // of the activations
    struct hymn_vk_buffer counters;
    uint8_t *after; // the activations as the last run left them
    struct hymn_vk_command command;
    VkFence fence;
};

// Lowers the problem for a plan (kept by reference, as the problem is). steps_only: it has no numbers, and is not for
// running. Freed with hymn_selftest_close in any case.
enum hymn_status hymn_selftest_open(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, bool steps_only,
                                    struct hymn_selftest_problem *problem, struct hymn_selftest_run *run);
// Whether the lowered program has a step with the shader.
bool hymn_selftest_uses(const struct hymn_selftest_run *run, const struct hymn_shader *shader);
// Makes pipelines, and the room larger where it has to be, and records. The room is the run's until it is closed.
enum hymn_status hymn_selftest_ready(struct hymn_selftest_run *run, struct hymn_selftest_room *room);
// Runs once, from fresh inputs and everything else NaN.
enum hymn_status hymn_selftest_execute(struct hymn_selftest_run *run);
void hymn_selftest_close(struct hymn_selftest_run *run);

// A number of an output after the last run; i: as in hymn_selftest_problem::values.
double hymn_selftest_number(const struct hymn_selftest_run *run, uint32_t value, uint64_t i);
// Whether the last run left the same bits in the outputs as `first` ([bytes], an earlier run's `after`).
bool hymn_selftest_same(const struct hymn_selftest_run *run, const uint8_t *first);
// Whether both of a problem's masks are the same, or the program makes none.
bool hymn_selftest_same_masks(const struct hymn_selftest_run *run);

#endif
