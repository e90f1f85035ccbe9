// SPDX-License-Identifier: MIT
//
// 2x2 max pool, stride 2: out[b,y,x,c] = max of x[b,2y+{0,1},2x+{0,1},c]
//   x: [batch, 2H, 2W, source_stride cells], a slice of `cells` cells from source_first on; out: [batch, H, W, cells]
// One lane = one cell of one output pixel. The source has even sides, so its rows need no image index.
//   binding 0: x   1: out
//   constants 0: workgroup size
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(local_size_x_id = 0) in;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_resample_params p; };

void main() {
    uint x = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - x * p.cells;
    uint row = hymn_row();
    if (x >= p.width || row >= p.rows) {
        return;
    }
    uint above = (4 * row * p.width + 2 * x) * p.source_stride + p.source_first + cell;
    uint below = above + 2 * p.width * p.source_stride;
    hymn_cell a, b, c, d;
    HYMN_LOAD_CELL(a, source, above, HALF)
    HYMN_LOAD_CELL(b, source, above + p.source_stride, HALF)
    HYMN_LOAD_CELL(c, source, below, HALF)
    HYMN_LOAD_CELL(d, source, below + p.source_stride, HALF)
    hymn_cell most = hymn_cell(max(max(a.lo, b.lo), max(c.lo, d.lo)), max(max(a.hi, b.hi), max(c.hi, d.hi)));
    HYMN_STORE_CELL(result, (row * p.width + x) * p.cells + cell, HALF, most)
}
