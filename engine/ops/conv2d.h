// SPDX-License-Identifier: MIT
//
// Internal to the convolution: what its kernels (shaders/conv2d_lanes.comp, conv2d_tiled.comp, conv2d_matrix.comp,
// conv2d_winograd.comp) share at lowering.
#ifndef HYMN_OPS_CONV2D_H
#define HYMN_OPS_CONV2D_H

#include "ops/ops.h"
#include "shaders/params.h"

// Bits of the kernels' storage constant.
enum {
    HYMN_CONV2D_HALF_SOURCE = 1 << 0, // and 1 << 1, 1 << 2: the sources in the order of the bindings
    HYMN_CONV2D_HALF_RESIDUAL = 1 << 3,
    HYMN_CONV2D_HALF_OUTPUT = 1 << 5,
    HYMN_CONV2D_HALF_WEIGHTS = 1 << 6
};

// One dispatch, with the sources in the order of their bindings: slots[i] is a term, or HYMN_NONE.
struct hymn_conv2d_dispatch {
    uint32_t slots[3];
    uint32_t storage;
    struct hymn_conv2d_params params;
    struct hymn_vk_binding weights;
};

// Fills storage and what every kernel needs of params: sizes, sources, residual.
void hymn_conv2d_fill(const struct hymn_lower *lower, const struct hymn_node *node,
                      struct hymn_conv2d_dispatch *dispatch);
// Without a vertical neighbour the rows need no end: one row leaves no tile partly empty.
void hymn_conv2d_join_rows(const struct hymn_node *node, struct hymn_conv2d_params *params);
// Bindings, push constants and costs of a step whose groups and constants are set.
void hymn_conv2d_finish(const struct hymn_lower *lower, const struct hymn_node *node,
                        const struct hymn_conv2d_dispatch *dispatch, struct hymn_vk_step *step);

// Output channels that one workgroup computes, as cells (eight channels), and the steps of k before them: a step is one
// cell of one tap of one term.
struct hymn_conv2d_layout {
    const struct hymn_node *node;
    uint32_t order[3];   // terms in the order of their steps
    bool lanes;          // [tile][step][channel][8 k], else [tile][step][8 k][channel]
    bool rows_of_taps;   // lanes: kernel 3's steps go row by row: [row][cell][3 taps], else [tap][cell]
    uint32_t tile_cells; // cells of output channels in a tile
    uint32_t tiles;
    uint32_t step_multiple; // a tile's steps are padded to it with zeros
    bool half;
};

// Steps of one tile, unpadded and padded.
uint32_t hymn_conv2d_steps(const struct hymn_node *node);
uint32_t hymn_conv2d_padded_steps(const struct hymn_conv2d_layout *layout);

// Packs weights and bias into a new weight block; fills the bias's place in params. OUT_OF_MEMORY.
enum hymn_status hymn_conv2d_pack(struct hymn_lower *lower, const struct hymn_conv2d_layout *layout,
                                  struct hymn_conv2d_params *params, struct hymn_vk_binding *out_binding);

// The same for conv2d_matrix.comp: [tile of channels][stage][tap][channel][8 * depth k] f16; fills tile_weights too.
// With NORM the sums of each output channel's weights follow the bias.
// channels: of a tile, a multiple of 8; depth: cells of a stage.
enum hymn_status hymn_conv2d_pack_matrix(struct hymn_lower *lower, const struct hymn_node *node, uint32_t channels,
                                         uint32_t depth, struct hymn_conv2d_params *params,
                                         struct hymn_vk_binding *out_binding);
// The same where all taps of at most HYMN_CONV2D_THIN channels are one stage: [tile of channels][channel][8 * depth k],
// k being HYMN_CONV2D_THIN * tap + channel.
enum { HYMN_CONV2D_THIN = 3 };
enum hymn_status hymn_conv2d_pack_thin(struct hymn_lower *lower, const struct hymn_node *node, uint32_t channels,
                                       uint32_t depth, struct hymn_conv2d_params *params,
                                       struct hymn_vk_binding *out_binding);
// The same for conv2d_winograd.comp: [tile of channels][step][position][cell of `across`][8 k][8 channels] of
// G w Gt, f16 with `half`, else f32.
enum hymn_status hymn_conv2d_pack_winograd(struct hymn_lower *lower, const struct hymn_node *node, uint32_t across,
                                           bool half, struct hymn_conv2d_params *params,
                                           struct hymn_vk_binding *out_binding);

// depthwise.c.
bool hymn_depthwise_pack(struct hymn_lower *lower, const float *weights, const float *bias, uint32_t channels,
                         bool half, struct hymn_vk_binding *out_binding);

// conv2d_matrix.c. Scratch of the node, and no statistics, before memory is planned.
enum hymn_status hymn_conv2d_prepare_matrix(struct hymn_graph *graph, struct hymn_node *node,
                                            const struct hymn_vk_plan *plan, const struct hymn_log *log);
// Whether the matrix kernel can do the node on this device.
bool hymn_conv2d_matrix_fits(const struct hymn_graph *graph, const struct hymn_node *node,
                             const struct hymn_vk_plan *plan);
enum hymn_status hymn_conv2d_lower_matrix(struct hymn_lower *lower, const struct hymn_node *node);
// conv2d_tile_list.c. As hymn_op.list_methods.
uint32_t hymn_conv2d_matrix_list(const struct hymn_graph *graph, const struct hymn_node *node,
                                 const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                 struct hymn_method *out_methods, uint32_t most);

#endif
