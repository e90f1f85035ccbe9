// SPDX-License-Identifier: MIT
//
// The network's output -> masks of the network's size: what tensor_out.comp and image_output.comp give for them, in one
// step, as nothing is interpolated.
//   output: [batch, padded_height, padded_width, stride] f32, of `images` images from `index` on; stride a multiple of 8
//   MODE 1: out: one byte a pixel, 255 where the only class's probability >= threshold, else 0
//   MODE 2: out: one byte a pixel, the class of the largest probability, the lower one of equals
//   Rows of masks are padded to words, and masks begin image_words apart.
// One lane = four pixels side by side.
//   binding 0: output   1: out
//   constants 0, 1: common/grid.glsl   2: MODE
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "common/label.glsl"
#include "params.h"

layout(constant_id = 2) const uint MODE = 1;

layout(set = 0, binding = 0) readonly buffer Logits { vec4 logits[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uint result[]; };
layout(push_constant) uniform Params { hymn_image_mask_params p; };

#include "common/probability.glsl"

uint largest(uint at) {
    float most, scale, best = -1.0;
    uint label = 0, c = 0;
    hymn_softmax(at, most, scale);
    do {
        vec4 v = hymn_weigh(logits[at + c / 4], most, c) * scale;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            bool more = c + i < p.channels && v[i] > best;
            best = more ? v[i] : best;
            label = more ? c + i : label;
        }
        c += 4;
    } while (c < p.channels);
    return label;
}

void main() {
    uint x = 4 * gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.rows_reciprocal), y = row - image * p.height;
    if (x >= p.width || image >= p.images) {
        return;
    }
    uint at = ((p.index + image) * p.padded_height + y) * p.padded_width, end = p.width - 1, word = 0;
    uint size = p.stride / 4;
    if (MODE == 1) {
        vec4 v = vec4(logits[(at + x) * size].x, logits[(at + min(x + 1, end)) * size].x,
                      logits[(at + min(x + 2, end)) * size].x, logits[(at + min(x + 3, end)) * size].x);
        word = hymn_label(v, p.threshold, end - x);
    } else {
        uint i = 0;
        do {
            word |= largest((at + min(x + i, end)) * size) << (8 * i) & (x + i <= end ? 0xFFFFFFFFu : 0);
            i++;
        } while (i < 4);
    }
    result[image * p.image_words + y * ((p.width + 3) / 4) + x / 4] = word;
}
