// SPDX-License-Identifier: MIT
//
// An image of the network's size into the network, in one step: what image_columns.comp and image_rows.comp give for it,
// whose filter then has one tap of weight 1. Scaled and normalised (common/normalise.glsl), edges repeated into the
// padding.
//   pixels: [images, height, width, PIXEL_CHANNELS] 8-bit, dense; the images lie image_bytes apart
//   input: [batch, padded_height, padded_width, 1 cell], of the images from pixel input_first on
// One lane = one pixel of the network's input.
//   binding 0: pixels   1: input
//   constants 0, 1: common/grid.glsl   2: PIXEL_CHANNELS (1, 3, 4)   3: IN_CHANNELS (1, 3)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint PIXEL_CHANNELS = 3;
layout(constant_id = 3) const uint IN_CHANNELS = 3;

layout(set = 0, binding = 0) readonly buffer Pixels { uint pixels[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_image_normalise_params p; };

#include "common/normalise.glsl"

void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.padded_height_reciprocal), y = row - image * p.padded_height;
    if (x >= p.padded_width || image >= p.images) {
        return;
    }
    uint byte_at = image * p.image_bytes + (min(y, p.height - 1) * p.width + min(x, p.width - 1)) * PIXEL_CHANNELS;
    hymn_cell cell = hymn_cell(hymn_normalised(hymn_pixel_word(byte_at)), vec4(0.0));
    HYMN_STORE_CELL(result, p.input_first + row * p.padded_width + x, HALF, cell)
}
