// SPDX-License-Identifier: MIT
//
// Bilinear resize to twice the size, half-pixel centres, edges clamped (torch: align_corners=False).
//   x: [batch, H, W, source_stride cells], a slice of `cells` cells from source_first on; out: [batch, 2H, 2W, cells]
// One lane = one cell of a block of 2x2 outputs: see common/double.glsl.
//   binding 0: x   1: out
//   constants 0, 1: common/grid.glsl
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_resample_params p; };

#define HYMN_DOUBLE_SOURCE source
#include "common/double.glsl"

void main() {
    uint k = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - k * p.cells;
    uint row = hymn_row();
    if (k >= p.width || row >= p.rows) {
        return;
    }
    uint image_row = hymn_divide(row, p.height_reciprocal) * p.height;
    hymn_block block =
        hymn_double(image_row, row - image_row, k, p.height, p.width, p.source_stride, p.source_first + cell);
    [[unroll]] for (uint o = 0; o < 4; o++) {
        uint at = ((2 * row + o / 2) * 2 * p.width + 2 * k + o % 2) * p.cells + cell;
        HYMN_STORE_CELL(result, at, HALF, block.cells[o])
    }
}
