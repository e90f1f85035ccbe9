// SPDX-License-Identifier: MIT
//
// Second half of an image's way into the network: what image_columns.comp made is resized vertically by the same filter,
// scaled to 0..1, normalised to (v - mean) / std, and its edges are repeated into the network's padding.
//   columns: [images, image rows, tile_width, KEPT] f32   input: [batch, padded_height, padded_width, 1 cell]
// One lane = one pixel of the network's input. A grey value (KEPT 1) goes to all IN_CHANNELS. Sums as there.
//   binding 0: columns   1: input
//   constants 0, 1: common/grid.glsl   2: KEPT (1, 4)   3: IN_CHANNELS (1, 3)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "common/ratio.glsl"
#include "params.h"

layout(constant_id = 2) const uint KEPT = 4;
layout(constant_id = 3) const uint IN_CHANNELS = 3;

layout(set = 0, binding = 0) readonly buffer Columns1 { float columns1[]; };
layout(set = 0, binding = 0) readonly buffer Columns4 { vec4 columns4[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_image_rows_params p; };

void main() {
    uint x = p.tile_first + gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.padded_height_reciprocal), y = row - image * p.padded_height;
    if (x >= p.tile_end || image >= p.images) {
        return;
    }
    hymn_triangle t = hymn_triangle_at(min(y, p.out_height - 1), p.height, p.out_height);
    uint column = image * p.height * p.tile_width + min(x, p.out_width - 1) - p.tile_first;
    vec4 total = vec4(0.0), sum = vec4(0.0); // weighted values, weights
    int tap = t.first;
    do {
        [[unroll]] for (int i = 0; i < 2; i++) {
            uint at = min(uint(tap + i), p.height - 1) * p.tile_width + column;
            float weight = hymn_triangle_weight(t, tap + i);
            vec3 value = KEPT == 4 ? columns4[at].rgb : vec3(columns1[at]);
            sum = fma(vec4(weight), vec4(value, 1.0), sum);
        }
        tap += 2;
        if ((tap - t.first) % 64 == 0) {
            total += sum;
            sum = vec4(0.0);
        }
    } while (tap < t.end);
    total += sum;
    vec3 value = (total.xyz / (total.w * 255.0) - vec3(p.mean0, p.mean1, p.mean2)) / vec3(p.std0, p.std1, p.std2);
    hymn_cell cell = hymn_cell(vec4(value.x, IN_CHANNELS == 3 ? value.yz : vec2(0.0), 0.0), vec4(0.0));
    HYMN_STORE_CELL(result, p.input_first + row * p.padded_width + x, HALF, cell)
}
