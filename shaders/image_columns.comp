// SPDX-License-Identifier: MIT
//
// First half of an image's way into the network: every row resized horizontally by the antialiased triangle filter
// (common/ratio.glsl), for some of the output columns and a band of rows.
//   pixels: [rows, width, CHANNELS] 8-bit, dense, from byte `byte_offset` on; several images lie image_bytes apart
//   columns: [images, image rows, tile_width, KEPT] f32 in units of 0..255: KEPT 4 = R G B 0; KEPT 1 = the grey value, or luma
//   (BT.601) of colour
// One lane = one output column of one row. It reads four pixels at a time, whole words shifted into place since rows
// begin at any byte. Sums in f32, in two stages: increments as regular as a triangle's all round the same way.
//   binding 0: pixels   1: columns
//   constants 0, 1: common/grid.glsl   2: CHANNELS (1, 3, 4)   3: KEPT
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/ratio.glsl"
#include "params.h"

layout(constant_id = 2) const uint CHANNELS = 3;
layout(constant_id = 3) const uint KEPT = 4;

layout(set = 0, binding = 0) readonly buffer Pixels { uint pixels[]; };
layout(set = 0, binding = 1) writeonly buffer Columns1 { float columns1[]; };
layout(set = 0, binding = 1) writeonly buffer Columns4 { vec4 columns4[]; };
layout(push_constant) uniform Params { hymn_image_columns_params p; };

// Byte i of the four pixels in `words`.
float byte_of(uint words[4], uint i) {
    return float(bitfieldExtract(words[i / 4], int(8 * (i % 4)), 8));
}

void main() {
    uint x = gl_GlobalInvocationID.x, row = hymn_row(), image = hymn_divide(row, p.rows_reciprocal);
    if (x >= p.tile_width || image >= p.images) {
        return;
    }
    row -= image * p.rows;
    hymn_triangle t = hymn_triangle_at(p.tile_first + x, p.width, p.out_width);
    uint byte_at = image * p.image_bytes + p.byte_offset + (row * p.width + uint(t.first)) * CHANNELS;
    uint word_at = byte_at / 4;
    int shift = int(8 * (byte_at % 4));
    vec4 total = vec4(0.0), sum = vec4(0.0); // weighted values, weights
    uint carry = pixels[min(word_at, p.last_word)];
    int tap = t.first;
    do {
        uint words[4];
        [[unroll]] for (uint i = 0; i < CHANNELS; i++) {
            uint next = pixels[min(word_at + i + 1, p.last_word)];
            words[i] = (carry >> shift) | ((next << 1) << (31 - shift));
            carry = next;
        }
        [[unroll]] for (uint i = 0; i < 4; i++) {
            float weight = hymn_triangle_weight(t, tap + int(i));
            sum.w += weight;
            sum.x = fma(weight, byte_of(words, i * CHANNELS), sum.x);
            if (CHANNELS > 1) {
                sum.y = fma(weight, byte_of(words, i * CHANNELS + 1), sum.y);
                sum.z = fma(weight, byte_of(words, i * CHANNELS + 2), sum.z);
            }
        }
        word_at += CHANNELS;
        tap += 4;
        if ((tap - t.first) % 64 == 0) {
            total += sum;
            sum = vec4(0.0);
        }
    } while (tap < t.end);
    total += sum;
    vec3 value = total.xyz / total.w;
    uint at = (image * p.rows + p.row_first + row) * p.tile_width + x; // of several images: all rows in one band
    if (KEPT == 4) {
        columns4[at] = vec4(value, 0.0);
    } else {
        columns1[at] = CHANNELS == 1 ? value.x : dot(value, vec3(0.299, 0.587, 0.114));
    }
}
