// SPDX-License-Identifier: MIT
//
// Internal to the convolution: Winograd's F(2x2, 3x3) for GPUs without matrix units (shaders/conv2d_winograd.comp).
#ifndef HYMN_OPS_CONV2D_WINOGRAD_H
#define HYMN_OPS_CONV2D_WINOGRAD_H

#include "ops/ops.h"

// A workgroup's share, and with the other words 0 a method of the convolution: that of the matrix kernel ends in a
// number of splits, and the direct kernels' is all zeros.
struct hymn_conv2d_winograd {
    uint32_t lanes;  // a multiple of 64; an eighth of it is the tiles of 2x2 pixels
    uint32_t across; // cells of output channels: 1, 2 or 4
};

// Whether the kernel can do the node so on this device.
bool hymn_conv2d_winograd_valid(const struct hymn_graph *graph, const struct hymn_node *node,
                                const struct hymn_vk_plan *plan, const struct hymn_conv2d_winograd *share);
// Whether it is to, and can: the node is tuned to it, or tests force it.
bool hymn_conv2d_winograd_fits(const struct hymn_graph *graph, const struct hymn_node *node,
                               const struct hymn_vk_plan *plan);
enum hymn_status hymn_conv2d_lower_winograd(struct hymn_lower *lower, const struct hymn_node *node);

// The most that are worth timing for one convolution.
enum { HYMN_CONV2D_WINOGRAD_SHARES = 6 };

// Appends the shares worth timing, of each number of lanes the largest first, to `count` methods, at most `most`
// in all; returns how many there are then.
uint32_t hymn_conv2d_winograd_list(const struct hymn_graph *graph, const struct hymn_node *node,
                                   const struct hymn_vk_plan *plan, struct hymn_method *methods, uint32_t count,
                                   uint32_t most);

// For tests: the share of every convolution that the kernel can do; NULL: as tuned. Not thread-safe.
void hymn_conv2d_winograd_force(const struct hymn_conv2d_winograd *share);

#endif
