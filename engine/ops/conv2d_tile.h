// SPDX-License-Identifier: MIT
//
// What the files of the convolution on matrix units share: the problem that a node is to it, and what a tile means for
// that. conv2d_tile.c, conv2d_stream.c and conv2d_rows.c choose tiles by rule, conv2d_tile_list.c lists those worth
// timing, conv2d_matrix.c dispatches them.
#ifndef HYMN_OPS_CONV2D_TILE_H
#define HYMN_OPS_CONV2D_TILE_H

#include "ops/conv2d.h"
#include "ops/conv2d_matrix.h"

#define HYMN_CONV2D_MATRIX "conv2d_matrix" // the shader; its variants' names go on from that

enum {
    HYMN_CONV2D_LANES_PER_GROUP = 512, // a workgroup keeps a device busy with target_lanes / so many others
    HYMN_CONV2D_SMALL_TILE = 4096,     // outputs of a tile that is small enough to have two buffers, by the rule
};

struct hymn_conv2d_problem {
    uint32_t width, height, rows; // of the output
    uint32_t channels;            // with padding
    bool wide, joined;            // some kernel is 3; no kernel needs rows
    bool norm, whole;             // what it reads is normalised; its channels fill their cells
    bool plain;                   // f16, the residual too, and no activation that is more than a clamp
    bool half_residual;           // a residual of half the size
    bool resized, pooled;         // what the kernel is to resize or to pool by itself, if the tile lets it
    uint32_t convolved;           // the first channels that it is to convolve in depth by itself, likewise; 0: none
    uint32_t map_width, map_height, images; // where that is so
    bool thin;                              // the one source, of kernel 3: all taps are one stage
    uint32_t kernels[3], cells[3];
};

struct hymn_conv2d_problem hymn_conv2d_describe(const struct hymn_graph *graph, const struct hymn_node *node,
                                                const struct hymn_vk_plan *plan);
// Whether the kernel's special forms are worth their compilation.
bool hymn_conv2d_specializes(const struct hymn_vk_plan *plan);
// The tile that the node gets: that of the tests, of its method, or by the rule.
struct hymn_conv2d_tile hymn_conv2d_tile_of(const struct hymn_graph *graph, const struct hymn_node *node,
                                            const struct hymn_vk_plan *plan);

// Stages of so many cells that all of k has; the most cells of a source; workgroups, if each has one tile.
uint32_t hymn_conv2d_stages(const struct hymn_conv2d_problem *problem, uint32_t depth);
uint32_t hymn_conv2d_most_cells(const struct hymn_conv2d_problem *problem);
uint32_t hymn_conv2d_groups(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile);
// Width and height of a tile of so many pixels; m: of the device's matrices.
void hymn_conv2d_set_pixels(const struct hymn_conv2d_problem *problem, uint32_t pixels, uint32_t m,
                            struct hymn_conv2d_tile *tile);

// Of tiles whose pixels stay (conv2d_stream.c): whether one can be for the problem; registers of a lane, without what
// the products themselves take, and whether there are as many; units of 16 bytes of a workgroup's biases; one that is
// worth timing, of so many columns; the rule's one, where it has one.
bool hymn_conv2d_stream_fits(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                             const struct hymn_conv2d_tile *tile);
uint32_t hymn_conv2d_stream_registers(const struct hymn_conv2d_tile *tile, uint32_t m, uint32_t k, uint32_t subgroup);
bool hymn_conv2d_stream_has_registers(const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile);
uint32_t hymn_conv2d_stream_biases(uint32_t channels, const struct hymn_conv2d_tile *tile);
struct hymn_conv2d_tile hymn_conv2d_stream_tile(const struct hymn_conv2d_problem *problem,
                                                const struct hymn_vk_plan *plan, uint32_t columns);
bool hymn_conv2d_choose_stream(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                               uint32_t target, struct hymn_conv2d_tile *out_tile);

// Likewise of tiles whose weights stay (conv2d_rows.c), which are to be so many pixels high; and the cells of k of the
// second source, in whole matrices of `k`.
bool hymn_conv2d_rows_fits(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                           const struct hymn_conv2d_tile *tile);
uint32_t hymn_conv2d_rows_registers(const struct hymn_conv2d_tile *tile, uint32_t n, uint32_t k, uint32_t subgroup);
bool hymn_conv2d_rows_has_registers(const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile);
uint32_t hymn_conv2d_rows_point(const struct hymn_conv2d_problem *problem, uint32_t k);
struct hymn_conv2d_tile hymn_conv2d_rows_tile(const struct hymn_conv2d_problem *problem,
                                              const struct hymn_vk_plan *plan, uint32_t height);
bool hymn_conv2d_choose_rows(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                             uint32_t target, struct hymn_conv2d_tile *out_tile);

// Whether the variant is to be used that resizes, finishes sums as matrices, or pools by itself.
bool hymn_conv2d_resizes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile);
bool hymn_conv2d_packs(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                       const struct hymn_vk_plan *plan);
bool hymn_conv2d_pools(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                       const struct hymn_vk_plan *plan);
// Likewise that convolves in depth: the tile has a margin that its neighbours have too, and so rows.
bool hymn_conv2d_convolves(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile);
// Tiles of so many pixels side by side that cover a map where each shares two of them with the next.
uint32_t hymn_conv2d_overlapping(uint32_t size, uint32_t tile);

// Registers of a lane, without what the products themselves take, and of them those of the rows of pixels that are kept
// for the three taps of a column; whether there are as many. m, k: of the device's matrices.
uint32_t hymn_conv2d_registers(const uint32_t kernels[3], bool norm, bool resized, bool thin,
                               const struct hymn_conv2d_tile *tile, uint32_t lanes);
uint32_t hymn_conv2d_row_registers(const struct hymn_conv2d_tile *tile, uint32_t m, uint32_t k, uint32_t subgroup);
// Of a lane for a matrix of pixels or of weights (n for m), which subgroups of 64 lanes (RDNA 3) have twice.
uint32_t hymn_conv2d_pixel_registers(uint32_t m, uint32_t k, uint32_t subgroup);
bool hymn_conv2d_has_registers(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                               const struct hymn_conv2d_tile *tile);

#endif
