// SPDX-License-Identifier: MIT
//
// 2x2 max pool, stride 2: out[b,y,x,c] = max of x[b,2y+{0,1},2x+{0,1},c]
//   x: [batch, 2H, 2W, source_stride cells], a slice of `cells` cells from source_first on; out: [batch, H, W, cells]
// One lane = one cell of one output pixel. The source has even sides, so its rows need no image index.
//   binding 0: x   1: out
//   constants 0, 1: common/grid.glsl
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "params.h"

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_resample_params p; };

// Floats as signed integers of the same order, and back: comparing integers needs no conversion of halves and no rule for
// NaN, which llvmpipe's compiler would spell out lane by lane.
ivec4 ordered(ivec4 bits) {
    return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

ivec4 largest(uvec4 a, uvec4 b, uvec4 c, uvec4 d) {
    return ordered(max(max(ordered(ivec4(a)), ordered(ivec4(b))), max(ordered(ivec4(c)), ordered(ivec4(d)))));
}

void main() {
    uint x = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - x * p.cells;
    uint row = hymn_row();
    if (x >= p.width || row >= p.rows) {
        return;
    }
    const uint parts = HALF ? 1 : 2; // of a cell, 16 bytes each
    uint above = (4 * row * p.width + 2 * x) * p.source_stride + p.source_first + cell;
    uint below = above + 2 * p.width * p.source_stride;
    [[unroll]] for (uint i = 0; i < parts; i++) {
        uvec4 a = source[above * parts + i], b = source[(above + p.source_stride) * parts + i];
        uvec4 c = source[below * parts + i], d = source[(below + p.source_stride) * parts + i];
        uvec4 most = uvec4(largest(a, b, c, d));
        if (HALF) { // the high halves so far, the low ones' bits deciding between equals
            uvec4 low = uvec4(largest(a << 16, b << 16, c << 16, d << 16));
            most = (most & 0xFFFF0000u) | (low >> 16);
        }
        result[((row * p.width + x) * p.cells + cell) * parts + i] = most;
    }
}
