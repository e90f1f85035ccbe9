// SPDX-License-Identifier: MIT
//
// Push constants, read by C and GLSL alike: members are 32-bit scalars only, so that both lay them out the same.
#ifndef HYMN_PARAMS_H
#define HYMN_PARAMS_H

#ifdef __STDC__
#include <assert.h>
#include <stdint.h>
typedef uint32_t hymn_uint;
typedef int32_t hymn_int;
#define HYMN_PARAMS_CHECK(name) static_assert(sizeof(struct name) <= 128, #name " exceeds the push constants");
#else
#define hymn_uint uint
#define hymn_int int
#define HYMN_PARAMS_CHECK(name)
#endif

// ---- conv2d ----

// Sizes in pixels and cells (eight channels of one pixel); `rows` are those of all images of the batch.
struct hymn_conv2d_params {
    hymn_uint width, height, rows;       // of the output; rows = batch * height
    hymn_uint strips, tiles;             // lanes: strips of pixels per row. Tiles of pixels in the whole dispatch
    hymn_uint cells0, stride0, first0;   // of each source: cells to read, cells per pixel, the first of them
    hymn_uint cells1, stride1, first1;
    hymn_uint cells2, stride2, first2;
    hymn_uint wide_terms, point_terms;   // lanes: how many sources are read 3x3 and how many 1x1
    hymn_uint scale;                     // lanes: 2 for kernel 2, else 1
    hymn_uint out_stride;                // cells per pixel
    hymn_uint residual, residual_stride, residual_first; // residual: 0 none, 1 same size, 2 half size and resized
    hymn_uint gate_stride, gate_first;
    hymn_uint bias_at, gamma_at;         // in the weights, in units of 16 bytes; beta follows gamma
    float least;                         // 0 with ReLU, else the lowest float
};
HYMN_PARAMS_CHECK(hymn_conv2d_params)

// ---- depthwise, max_pool, resize, gate, norm_stats, merge ----

// ---- selective_scan ----

// ---- image pre- and post-processing ----

#endif
