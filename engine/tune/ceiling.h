// SPDX-License-Identifier: MIT
//
// What a device can do at most, measured with the engine's own means: a copy within its memory, a matrix product
// or, on matrix units, a convolution where that is faster, and chains of dispatches that wait for each other.
#ifndef HYMN_TUNE_CEILING_H
#define HYMN_TUNE_CEILING_H

#include "graph/graph.h"
#include "vk/device.h"
#include "vk/program.h"

// A run that a chain of copies stands beside.
struct hymn_ceiling_run {
    const struct hymn_timing *timings;
    uint32_t count; // 0: none is known
    uint64_t bytes; // of its activations and weights
};

// For products of what `storage` holds, by what the plan allows. Takes a second or two, and the memory of what is
// copied and multiplied while it does. chain_ms is 0 without a run, and where its chain is too large for the device.
// UNSUPPORTED: no timestamps. OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST.
enum hymn_status hymn_ceiling_measure(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      enum hymn_storage storage, const struct hymn_ceiling_run *run,
                                      struct hymn_ceilings *out_ceilings);
// The step of such a copy by a shader: `bytes` of the activations to the bytes behind them. Fills a zeroed step.
void hymn_ceiling_copy(uint64_t bytes, struct hymn_vk_step *step);
// The steps of a chain of them, run->count: each copies half of the bytes of a dispatch of the run, in whole
// workgroups. It reads what the step before it has written, some of it at least, and writes to what is behind, or to
// the beginning where there is no room left. Returns the bytes of activations that they take: the run's, or three times
// the largest copy. 0: a copy is more than the plan lets one dispatch do.
uint64_t hymn_ceiling_chain(const struct hymn_vk_plan *plan, const struct hymn_ceiling_run *run,
                            struct hymn_vk_step *steps);

#endif
