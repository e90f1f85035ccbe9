// SPDX-License-Identifier: MIT
//
// Tiles of shaders/conv2d_matrix.comp, for the tests and for tuning.
#ifndef HYMN_OPS_CONV2D_MATRIX_H
#define HYMN_OPS_CONV2D_MATRIX_H

#include "graph/graph.h"
#include "vk/plan.h"
#include "vk/program.h"

// What the kernel is specialized for: see the shader.
struct hymn_conv2d_tile {
    uint32_t width, height; // pixels of a workgroup
    uint32_t channels;      // output channels of a workgroup
    uint32_t rows, columns; // its subgroups
    uint32_t taps, depth;   // of a step; cells of a stage
    uint32_t buffers, splits;
    // With no buffers for pixels and one tap these stay in registers, and weights pass
    // (shaders/conv2d_matrix_stream.comp): height and splits are 1, depth is all of k, channels those of a pass,
    // columns the workgroups that share the passes. With no buffers and nine taps weights stay, and rows of pixels pass
    // (shaders/conv2d_matrix_rows.comp): depth is all of k of the first source, channels are all, columns the subgroups
    // that share pixels.
};

static inline bool hymn_conv2d_streams(const struct hymn_conv2d_tile *tile) {
    return tile->buffers == 0 && tile->taps == 1;
}

static inline bool hymn_conv2d_walks(const struct hymn_conv2d_tile *tile) {
    return tile->buffers == 0 && tile->taps == 9;
}

// A good tile by rule, without measuring.
struct hymn_conv2d_tile hymn_conv2d_matrix_choose(const struct hymn_graph *graph, const struct hymn_node *node,
                                                  const struct hymn_vk_plan *plan);
// Whether the kernel can be made with it for this node on this device.
bool hymn_conv2d_matrix_valid(const struct hymn_graph *graph, const struct hymn_node *node,
                              const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile);
// Tests: every node gets this tile (kept by reference) where it is valid, and other kernels where not; NULL: its own.
// Thread-safety: none.
void hymn_conv2d_matrix_force(const struct hymn_conv2d_tile *tile);

// The variant that goes on from what a step of this kernel computes to masks by a head of one class that reads `cells`
// cells of it; NULL where none does: where the plan has none, the step is of another variant or its first kernel is not
// 3, a workgroup has no pixel's channels all, or rows of pixels are not whole words.
const struct hymn_shader *hymn_conv2d_matrix_find_mask(const struct hymn_vk_plan *plan, const struct hymn_vk_step *step,
                                                       uint32_t cells);

// The variant that makes the source of such a step by itself, of pictures, where the step has all taps of few channels
// in one stage; NULL where none does.
const struct hymn_shader *hymn_conv2d_matrix_find_pictures(const struct hymn_vk_plan *plan,
                                                           const struct hymn_vk_step *step);

// Whether a compiler that has registers enough for step `a` has them for `b`: both are of this kernel and do the same
// with tiles of other sizes, both or neither keep rows of pixels for three taps, a lane has as many sums in both, and
// no less of everything else in `a`. How sums leave is not compared: by then most registers are free.
bool hymn_conv2d_matrix_covers(const struct hymn_vk_step *a, const struct hymn_vk_step *b);

#endif
