// SPDX-License-Identifier: MIT
//
// The four directions of a selective scan put together, and the statistics of the layer norm that follows:
//   out = sum over k of planes[k];  stats = {mean, 1 / sqrt(variance + 1e-5)} of the f32 sum's C channels
//   planes: [4, batch, H, W, cells]   out: [batch, H, W, cells]   stats: [batch, H, W, 2] f32
// SHARE lanes = one pixel; moments in f32 by common/moments.glsl.
//   binding 0: planes   1: out   2: stats
//   constants 0, 1: common/grid.glsl   2: SHARE
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint SHARE = 1;

layout(set = 0, binding = 0) readonly buffer Planes { uvec4 planes[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(set = 0, binding = 2) writeonly buffer Stats { vec2 stats[]; };
layout(push_constant) uniform Params { hymn_stats_params p; };

#include "common/moments.glsl"

void main() {
    uint x = gl_GlobalInvocationID.x / SHARE, row = hymn_row();
    bool inside = x < p.width && row < p.rows;
    uint pixel = row * p.width + x, plane = p.rows * p.width * p.cells;
    hymn_moments sum = hymn_moments(0.0, 0.0, 0.0);
    if (inside) {
        for (uint cell = gl_LocalInvocationID.x % SHARE; cell < p.cells; cell += SHARE) {
            uint at = pixel * p.cells + cell;
            hymn_cell a, b, c, d;
            HYMN_LOAD_CELL(a, planes, at, HALF)
            HYMN_LOAD_CELL(b, planes, at + plane, HALF)
            HYMN_LOAD_CELL(c, planes, at + 2 * plane, HALF)
            HYMN_LOAD_CELL(d, planes, at + 3 * plane, HALF)
            hymn_cell value = hymn_cell((a.lo + b.lo) + (c.lo + d.lo), (a.hi + b.hi) + (c.hi + d.hi));
            HYMN_STORE_CELL(result, at, HALF, value)
            sum = hymn_moments_merge(sum, hymn_moments_of(value, p.channels - 8 * cell));
        }
    }
    sum = hymn_moments_reduce(sum);
    if (inside && gl_LocalInvocationID.x % SHARE == 0) {
        stats[pixel] = hymn_moments_stats(sum, HALF ? HYMN_SCAN_UNIT : 1.0);
    }
}
