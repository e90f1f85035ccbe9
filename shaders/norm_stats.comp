// SPDX-License-Identifier: MIT
//
// Statistics for a layer norm: per pixel, stats = {mean, 1 / sqrt(variance + 1e-5)} over
//   KERNEL 1: the pixel's C channels      x: [batch, H, W, source_stride cells], a slice from source_first on
//   KERNEL 2: the 4C values of a 2x2 cell x: [batch, 2H, 2W, ...]
//   stats: [batch, H, W, 2] f32
// SHARE lanes = one output pixel; moments in f32 by common/moments.glsl.
//   binding 0: x   1: stats
//   constants 0, 1: common/grid.glsl   2: SHARE   3: KERNEL
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint SHARE = 1;
layout(constant_id = 3) const uint KERNEL = 1;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) writeonly buffer Stats { vec2 stats[]; };
layout(push_constant) uniform Params { hymn_stats_params p; };

#include "common/moments.glsl"

// Moments of this lane's share of the source pixel.
hymn_moments pixel_moments(hymn_moments sum, uint pixel) {
    uint first = gl_LocalInvocationID.x % SHARE, cell = first;
    do { // as many turns in all lanes: see CONTRIBUTING
        if (cell < p.cells) {
            hymn_cell value;
            HYMN_LOAD_CELL(value, source, pixel * p.source_stride + p.source_first + cell, HALF)
            sum = hymn_moments_merge(sum, hymn_moments_of(value, p.channels - 8 * cell));
        }
        cell += SHARE;
    } while (cell - first < p.cells);
    return sum;
}

void main() {
    uint x = gl_GlobalInvocationID.x / SHARE, row = hymn_row();
    bool inside = x < p.width && row < p.rows;
    hymn_moments sum = hymn_moments(0.0, 0.0, 0.0);
    if (inside) {
        if (KERNEL == 1) {
            sum = pixel_moments(sum, row * p.width + x);
        } else {
            uint above = 4 * row * p.width + 2 * x, below = above + 2 * p.width;
            sum = pixel_moments(sum, above);
            sum = pixel_moments(sum, above + 1);
            sum = pixel_moments(sum, below);
            sum = pixel_moments(sum, below + 1);
        }
    }
    sum = hymn_moments_reduce(sum);
    if (inside && gl_LocalInvocationID.x % SHARE == 0) {
        stats[row * p.width + x] = hymn_moments_stats(sum, 1.0);
    }
}
