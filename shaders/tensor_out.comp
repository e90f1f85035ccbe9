// SPDX-License-Identifier: MIT
//
// The network's output, cropped and in planes: as it stands, or as probabilities.
//   output: [batch, padded_height, padded_width, stride] f32, of `images` images from `index` on; stride a multiple of 8
//   planes: [classes, height, width] f32 of each, image_floats apart
//   MODE 0: logits   1: 1 / (1 + exp(-v))   2: softmax over the classes, the largest subtracted first
// One lane = one pixel; its classes are read up to three times.
//   binding 0: output   1: planes
//   constants 0, 1: common/grid.glsl   2: MODE
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "params.h"

layout(constant_id = 2) const uint MODE = 0;

layout(set = 0, binding = 0) readonly buffer Logits { vec4 logits[]; };
layout(set = 0, binding = 1) writeonly buffer Planes { float planes[]; };
layout(push_constant) uniform Params { hymn_tensor_params p; };

#include "common/probability.glsl"

void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row();
    uint image = hymn_divide(row, p.rows_reciprocal), y = row - image * p.height;
    if (x >= p.width || image >= p.images) {
        return;
    }
    uint at = (((p.index + image) * p.padded_height + y) * p.padded_width + x) * (p.stride / 4);
    float most = 0.0, scale = 1.0;
    if (MODE == 2) {
        hymn_softmax(at, most, scale);
    }
    uint c = 0;
    do {
        vec4 v = logits[at + c / 4];
        if (MODE == 1) {
            v = hymn_sigmoid(v);
        } else if (MODE == 2) {
            v = hymn_weigh(v, most, c) * scale;
        }
        [[unroll]] for (uint i = 0; i < 4; i++) {
            if (c + i < p.channels) {
                planes[image * p.image_floats + ((c + i) * p.height + y) * p.width + x] = v[i];
            }
        }
        c += 4;
    } while (c < p.channels);
}
