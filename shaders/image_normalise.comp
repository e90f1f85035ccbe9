// SPDX-License-Identifier: MIT
//
// An image of the network's size into the network, in one step: what image_columns.comp and image_rows.comp give for it,
// whose filter then has one tap of weight 1. Scaled to 0..1, normalised to (v - mean) / std, edges repeated into the
// padding.
//   pixels: [images, height, width, CHANNELS] 8-bit, dense; the images lie image_bytes apart
//   input: [batch, padded_height, padded_width, 1 cell], of the images from pixel input_first on
// One lane = one pixel of the network's input. A grey value goes to all IN_CHANNELS, colour to one as its luma (BT.601).
//   binding 0: pixels   1: input
//   constants 0, 1: common/grid.glsl   2: CHANNELS (1, 3, 4)   3: IN_CHANNELS (1, 3)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint CHANNELS = 3;
layout(constant_id = 3) const uint IN_CHANNELS = 3;

layout(set = 0, binding = 0) readonly buffer Pixels { uint pixels[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_image_normalise_params p; };

void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.padded_height_reciprocal), y = row - image * p.padded_height;
    if (x >= p.padded_width || image >= p.images) {
        return;
    }
    uint byte_at = image * p.image_bytes + (min(y, p.height - 1) * p.width + min(x, p.width - 1)) * CHANNELS;
    uint shift = 8 * (byte_at % 4), word = pixels[byte_at / 4] >> shift;
    if (CHANNELS == 3) { // begins at any byte
        word |= (pixels[min(byte_at / 4 + 1, p.last_word)] << 1) << (31 - shift);
    }
    vec3 value = vec3(uvec3(word, word >> 8, word >> 16) & 0xFFu);
    if (CHANNELS == 1) {
        value = value.xxx;
    } else if (IN_CHANNELS == 1) {
        value = vec3(dot(value, vec3(0.299, 0.587, 0.114)));
    }
    value = (value / p.most - vec3(p.mean0, p.mean1, p.mean2)) / vec3(p.std0, p.std1, p.std2);
    hymn_cell cell = hymn_cell(vec4(value.x, IN_CHANNELS == 3 ? value.yz : vec2(0.0), 0.0), vec4(0.0));
    HYMN_STORE_CELL(result, p.input_first + row * p.padded_width + x, HALF, cell)
}
