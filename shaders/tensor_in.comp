// SPDX-License-Identifier: MIT
//
// A float tensor into the network's layout, its edges repeated into the padding.
//   tensor: [CHANNELS, height, width] f32   input: [batch, padded_height, padded_width, 1 cell]; of `images` images from
//   `index` on, whose tensors begin image_floats apart
// One lane = one pixel of the network's input.
//   binding 0: tensor   1: input
//   constants 0, 1: common/grid.glsl   2: CHANNELS (1 to 8)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint CHANNELS = 3;

layout(set = 0, binding = 0) readonly buffer Tensor { float tensor[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_tensor_params p; };

void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.rows_reciprocal), y = row - image * p.padded_height;
    if (x >= p.padded_width || image >= p.images) {
        return;
    }
    uint at = image * p.image_floats + min(y, p.height - 1) * p.width + min(x, p.width - 1);
    hymn_cell cell = hymn_cell_zero();
    [[unroll]] for (uint i = 0; i < CHANNELS; i++) {
        float value = tensor[at + i * p.height * p.width];
        if (i < 4) {
            cell.lo[i] = value;
        } else {
            cell.hi[i - 4] = value;
        }
    }
    HYMN_STORE_CELL(result, (p.index * p.padded_height + row) * p.padded_width + x, HALF, cell)
}
