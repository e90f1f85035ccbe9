// SPDX-License-Identifier: MIT
//
// The four directions of a selective scan put together, the layer norm that follows, and its gate:
//   s = sum over k of planes[k];  out = ((s - mean) / sqrt(variance + 1e-5) * gamma + beta) * SiLU(z)
//   planes: [4, batch, H, W, cells], f16 in HYMN_SCAN_UNIT (params.h)   out: [batch, H, W, cells]
//   z: [batch, H, W, source_stride cells], a slice from source_first on
//   gamma, beta: [cells] f32, one after the other, zero beyond the true channels, so that out is zero there
// SHARE lanes = one pixel; s and its moments in f32 (common/moments.glsl). A lane keeps its part of s in registers, or,
// where that is longer than KEPT cells (KEPT 0: always), adds the planes up once more for the output, from the cache.
//   binding 0: planes   1: z   2: gamma, beta   3: out
//   constants 0, 1: common/grid.glsl   2: SHARE   3: KEPT
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/activation.glsl"
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint SHARE = 1;
layout(constant_id = 3) const uint KEPT = 0;

layout(set = 0, binding = 0) readonly buffer Planes { uvec4 planes[]; };
layout(set = 0, binding = 1) readonly buffer Gate { uvec4 gate[]; };
layout(set = 0, binding = 2) readonly buffer Affine { vec4 affine[]; };
layout(set = 0, binding = 3) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_stats_params p; };

#include "common/moments.glsl"

hymn_cell sum_planes(uint at) {
    uint plane = p.rows * p.width * p.cells;
    hymn_cell a, b, c, d;
    HYMN_LOAD_CELL(a, planes, at, HALF)
    HYMN_LOAD_CELL(b, planes, at + plane, HALF)
    HYMN_LOAD_CELL(c, planes, at + 2 * plane, HALF)
    HYMN_LOAD_CELL(d, planes, at + 3 * plane, HALF)
    return hymn_cell((a.lo + b.lo) + (c.lo + d.lo), (a.hi + b.hi) + (c.hi + d.hi));
}

void finish(uint pixel, uint cell, vec2 stats, hymn_cell sum) {
    hymn_cell z;
    HYMN_LOAD_CELL(z, gate, pixel * p.source_stride + p.source_first + cell, HALF)
    uint beta = 2 * (p.cells + cell);
    vec4 lo = fma((sum.lo - stats.x) * stats.y, affine[2 * cell], affine[beta]);
    vec4 hi = fma((sum.hi - stats.x) * stats.y, affine[2 * cell + 1], affine[beta + 1]);
    HYMN_STORE_CELL(result, pixel * p.cells + cell, HALF, hymn_cell(lo * hymn_silu(z.lo), hi * hymn_silu(z.hi)))
}

void main() {
    uint x = gl_GlobalInvocationID.x / SHARE, row = hymn_row(), pixel = row * p.width + x;
    uint first = gl_LocalInvocationID.x % SHARE, end = x < p.width && row < p.rows ? p.cells : 0; // this lane's cells
    hymn_moments moments = hymn_moments(0.0, 0.0, 0.0);
    hymn_cell kept[KEPT > 0 ? KEPT : 1];
    if (KEPT == 0) {
        uint cell = first;
        do { // as many turns in all lanes: see CONTRIBUTING
            if (cell < end) {
                hymn_cell sum = sum_planes(pixel * p.cells + cell);
                moments = hymn_moments_merge(moments, hymn_moments_of(sum, p.channels - 8 * cell));
            }
            cell += SHARE;
        } while (cell - first < p.cells);
    }
    [[unroll]] for (uint i = 0; i < KEPT; i++) { // no branch around the loads, so that none waits for another
        uint cell = first + i * SHARE;
        kept[i] = sum_planes(cell < end ? pixel * p.cells + cell : 0);
    }
    [[unroll]] for (uint i = 0; i < KEPT; i++) {
        uint cell = first + i * SHARE;
        if (cell < end) {
            moments = hymn_moments_merge(moments, hymn_moments_of(kept[i], p.channels - 8 * cell));
        }
    }
    vec2 stats = hymn_moments_stats(hymn_moments_reduce(moments), HALF ? HYMN_SCAN_UNIT : 1.0);
    if (KEPT == 0 && first < end) {
        uint cell = first;
        do {
            finish(pixel, cell, stats, sum_planes(pixel * p.cells + cell));
            cell += SHARE;
        } while (cell < end);
    }
    [[unroll]] for (uint i = 0; i < KEPT; i++) {
        if (first + i * SHARE < end) {
            finish(pixel, first + i * SHARE, stats, kept[i]);
        }
    }
}
