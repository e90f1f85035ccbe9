// SPDX-License-Identifier: MIT
//
// The network's head: logits = W x + b of each pixel, or, with MASK, the mask of the network's size that they stand for.
//   x: [batch, padded_height, padded_width, stride cells], of which CELLS from `first` on are read
//   w: [CLASSES][CELLS][8] f32, then [CLASSES] f32, both of whole vec4s; channels beyond the true ones are zero
//   MASK 0: out: [batch, padded_height, padded_width, 8] f32, channels beyond CLASSES zero. CLASSES <= 8
//   MASK 1: out: one byte a pixel of `images` images from `index` on, 255 where the only class's probability >= threshold,
//   else 0; rows are padded to words, and masks begin image_words apart. The same bits as image_mask.comp makes of the
//   logits: common/label.glsl.
// One lane = one pixel, or four pixels side by side with MASK.
//   binding 0: x   1: w   2: out
//   constants 0, 1: common/grid.glsl   2: CLASSES   3: CELLS
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "common/label.glsl"
#include "params.h"

layout(constant_id = 2) const uint CLASSES = 1;
layout(constant_id = 3) const uint CELLS = 1;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) readonly buffer Weights { vec4 weights[]; };
#if MASK
layout(set = 0, binding = 2) writeonly buffer Result { uint result[]; };
#else
layout(set = 0, binding = 2) writeonly buffer Result { vec4 result[]; };
#endif
layout(push_constant) uniform Params { hymn_head_params p; };

vec4 add_cell(vec4 sum, hymn_cell v, uint at) {
    return hymn_add_to_logit(sum, v, weights[at], weights[at + 1]);
}

float add_up(vec4 sum, uint i) {
    return hymn_logit(sum, weights[2 * CLASSES * CELLS + i / 4][i % 4]);
}

#if MASK
// The bytes of the pixels (at + i), i from 0 to 3, or of the pixel (at + last) in place of those beyond.
uint label(uint at, uint last) {
    uvec4 pixels = (uvec4(at) + min(uvec4(0, 1, 2, 3), uvec4(last))) * p.stride + p.first;
    vec4 sums[4] = {vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0)};
    [[unroll]] for (uint i = 0; i < 4; i++) {
        uint cell = 0;
        do { // a pixel's cells together: lanes are four pixels apart, and the cache may not keep all that they touch
            hymn_cell v;
            HYMN_LOAD_CELL(v, source, pixels[i] + cell, HALF)
            sums[i] = add_cell(sums[i], v, 2 * cell);
            cell++;
        } while (cell < CELLS);
    }
    vec4 v = vec4(add_up(sums[0], 0), add_up(sums[1], 0), add_up(sums[2], 0), add_up(sums[3], 0));
    return hymn_label(v, p.threshold, last);
}

void main() {
    uint x = 4 * gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.rows_reciprocal), y = row - image * p.height;
    if (x >= p.width || image >= p.images) {
        return;
    }
    uint at = ((p.index + image) * p.padded_height + y) * p.padded_width + x;
    result[image * p.image_words + y * ((p.width + 3) / 4) + x / 4] = label(at, p.width - 1 - x);
}
#else
void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row();
    if (x >= p.width || row >= p.images * p.height) {
        return;
    }
    uint pixel = row * p.width + x;
    float logits[8] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    vec4 sums[8];
    [[unroll]] for (uint i = 0; i < 8; i++) {
        sums[i] = vec4(0.0);
    }
    uint cell = 0;
    do {
        hymn_cell v;
        HYMN_LOAD_CELL(v, source, pixel * p.stride + p.first + cell, HALF)
        [[unroll]] for (uint i = 0; i < 8; i++) {
            if (i < CLASSES) {
                sums[i] = add_cell(sums[i], v, 2 * (i * CELLS + cell));
            }
        }
        cell++;
    } while (cell < CELLS);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        if (i < CLASSES) {
            logits[i] = add_up(sums[i], i);
        }
    }
    result[2 * pixel] = vec4(logits[0], logits[1], logits[2], logits[3]);
    result[2 * pixel + 1] = vec4(logits[4], logits[5], logits[6], logits[7]);
}
#endif
