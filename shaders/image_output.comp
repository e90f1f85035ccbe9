// SPDX-License-Identifier: MIT
//
// Probabilities at the network's size -> the image's size: bilinear, half-pixel centres, edges clamped, not antialiased;
// written as they are or as a mask.
//   activated: [classes, height, width] f32
//   MODE 0: out: [class_count, out rows, out_width] f32 of the classes from class_first on
//   MODE 1: out: one byte a pixel, 255 where the only class's probability >= threshold, else 0
//   MODE 2: out: one byte a pixel, the class of the largest probability, the lower one of equals
//   Of several images, activated begin activated_elements apart, outs out_image_elements; they follow each other in z.
//   Rows of masks are padded to words. Written are rows row_first..row_end-1, the first one at element out_offset.
// One lane = four pixels side by side in ROWS rows, all of which lie between the same two source rows (workgroup y; where
// more rows do, workgroup z counts on): what is read and interpolated horizontally serves all of them.
//   binding 0: activated   1: out
//   constants 0, 1: common/grid.glsl   2: MODE
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/ratio.glsl"
#include "params.h"

#define ROWS 8

layout(constant_id = 2) const uint MODE = 0;

layout(set = 0, binding = 0) readonly buffer Activated { float activated[]; };
layout(set = 0, binding = 1) writeonly buffer ResultFloats { float result_floats[]; };
layout(set = 0, binding = 1) writeonly buffer ResultWords { uint result_words[]; };
layout(push_constant) uniform Params { hymn_image_output_params p; };

uint out_offset;
uvec4 left, right;
vec4 across, down[ROWS];
uint rows;

// The first output row at or below the middle of source row j: the least y with height (2y + 1) >= (2j + 1) out_height.
uint first_row(uint j) {
    uint above = (2 * j + 1) * p.out_height;
    if (j == 0 || above <= p.height) {
        return 0;
    }
    float fraction;
    uint y = hymn_ratio(above - p.height, 2 * p.height, fraction);
    return min(fraction > 0.0 ? y + 1 : y, p.out_height);
}

void find_columns(uint x) {
    [[unroll]] for (uint i = 0; i < 4; i++) {
        uint at = p.width * (2 * min(x + i, p.out_width - 1) + 1);
        float fraction = 0.0;
        uint column = 0;
        if (at > p.out_width) {
            column = hymn_ratio(at - p.out_width, 2 * p.out_width, fraction);
        }
        left[i] = column;
        right[i] = min(column + 1, p.width - 1);
        across[i] = fraction;
    }
}

// Four pixels of source row `at` (its first element), between their columns.
vec4 mix_row(uint at) {
    vec4 l = vec4(activated[at + left.x], activated[at + left.y], activated[at + left.z], activated[at + left.w]);
    vec4 r = vec4(activated[at + right.x], activated[at + right.y], activated[at + right.z], activated[at + right.w]);
    return mix(l, r, across);
}

void write_floats(uint c, uint x, uint y, vec4 value) {
    uint at = out_offset + (c * p.out_height + y - p.row_first) * p.out_width + x;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        if (x + i < p.out_width) {
            result_floats[at + i] = value[i];
        }
    }
}

void write_mask(uint x, uint y, uvec4 value) {
    bvec4 real = lessThan(uvec4(x) + uvec4(0, 1, 2, 3), uvec4(p.out_width));
    value = mix(uvec4(0), value, real);
    uint word = value.x | (value.y << 8) | (value.z << 16) | (value.w << 24);
    result_words[out_offset + (y - p.row_first) * ((p.out_width + 3) / 4) + x / 4] = word;
}

void main() {
    uint x = 4 * gl_GlobalInvocationID.x, j = p.source_first + gl_WorkGroupID.y;
    uint begin = max(first_row(j), p.row_first), end = p.row_end;
    if (j + 1 < p.height) {
        end = min(first_row(j + 1), end);
    }
    uint image = hymn_divide(gl_WorkGroupID.z, p.layers_reciprocal);
    begin += ROWS * (gl_WorkGroupID.z - image * p.layers);
    out_offset = p.out_offset + image * p.out_image_elements;
    if (x >= p.out_width || begin >= end) {
        return;
    }
    find_columns(x);
    vec4 best[ROWS];
    uvec4 label[ROWS];
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        // Signed: negative above the first source row's middle, where the edge is clamped.
        int rest = int(p.height * (2 * (begin + i) + 1) - (2 * j + 1) * p.out_height);
        down[i] = vec4(max(float(rest), 0.0) / float(2 * p.out_height));
        best[i] = vec4(-1.0);
        label[i] = uvec4(0);
    }
    uint c = 0;
    do {
        uint at = image * p.activated_elements + ((p.class_first + c) * p.height + j) * p.width;
        vec4 upper = mix_row(at), lower = mix_row(j + 1 < p.height ? at + p.width : at);
        [[unroll]] for (uint i = 0; i < ROWS; i++) {
            vec4 value = mix(upper, lower, down[i]);
            if (MODE == 0) {
                if (begin + i < end) {
                    write_floats(c, x, begin + i, value);
                }
            } else {
                bvec4 more = greaterThan(value, best[i]);
                best[i] = mix(best[i], value, more);
                label[i] = mix(label[i], uvec4(c), more);
            }
        }
        c++;
    } while (c < p.class_count);
    if (MODE != 0) {
        [[unroll]] for (uint i = 0; i < ROWS; i++) {
            if (begin + i < end) {
                if (MODE == 1) {
                    label[i] = mix(uvec4(0), uvec4(255), greaterThanEqual(best[i], vec4(p.threshold)));
                }
                write_mask(x, begin + i, label[i]);
            }
        }
    }
}
