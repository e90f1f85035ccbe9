// SPDX-License-Identifier: MIT
//
// What a device can do at most, measured with the engine's own means: a copy within its memory, a matrix product
// or, on matrix units, a convolution where that is faster, and dispatches that wait for each other.
#ifndef HYMN_TUNE_CEILING_H
#define HYMN_TUNE_CEILING_H

#include "graph/graph.h"
#include "vk/device.h"
#include "vk/program.h"

// For products of what `storage` holds, by what the plan allows. Takes a fraction of a second, and the memory of what
// is copied and multiplied while it does. UNSUPPORTED: no timestamps. OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST.
enum hymn_status hymn_ceiling_measure(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      enum hymn_storage storage, struct hymn_ceilings *out_ceilings);
// The step of such a copy by a shader: `bytes` of the activations to the bytes behind them. Fills a zeroed step.
void hymn_ceiling_copy(uint64_t bytes, struct hymn_vk_step *step);

#endif
