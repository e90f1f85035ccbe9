// SPDX-License-Identifier: MIT
//
// What is left of a 3x3 convolution of a map resized bilinearly to twice the size (half-pixel centres, edges clamped),
// when each tap's product has been made of the map as it was:
//   out[y][x] = sum over taps (ky, kx) of resize(taps[ky][kx])[y + ky - 1][x + kx - 1], zero outside
//   taps: [batch, H, W, source_stride cells], the nine maps of `cells` cells beside each other from source_first on
//   out: [batch, 2H, 2W, cells]
// One lane = one cell of a block of 2x2 outputs. With s the source rows j - 1, j, j + 1 of a block's taps of one column,
//   row 2j     = 3/4 s0[j-1] + 1/4 s0[j] (nothing where j = 0)   + 1/4 s1[j-1] + 3/4 s1[j] + 3/4 s2[j] + 1/4 s2[j+1]
//   row 2j + 1 = 1/4 s0[j-1] + 3/4 s0[j] + 3/4 s1[j] + 1/4 s1[j+1] + 1/4 s2[j] + 3/4 s2[j+1] (the last two not where j is
// the last), columns alike: of 9 x 3 x 3 numbers 7 x 7 count. Sums in f32.
//   binding 0: taps   1: out
//   constants 0, 1: common/grid.glsl
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(set = 0, binding = 0) readonly buffer Taps { uvec4 taps[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_resample_params p; };

// Shares of tap `tap` at source row (or column) `from` of -1, 0, 1, in the block's first and second row (or column);
// edges: 0 where the first one's first tap, and the second one's last, are outside, else 1.
vec2 shares(int tap, int from, vec2 edges) {
    return tap == 0   ? from < 0 ? vec2(0.75 * edges.x, 0.25) : vec2(0.25 * edges.x, 0.75)
           : tap == 1 ? from < 0 ? vec2(0.25, 0.0) : from == 0 ? vec2(0.75) : vec2(0.0, 0.25)
           : from == 0 ? vec2(0.75, 0.25 * edges.y)
                       : vec2(0.25, 0.75 * edges.y);
}

void add(inout hymn_cell sum, float share, hymn_cell cell) {
    sum.lo = fma(vec4(share), cell.lo, sum.lo);
    sum.hi = fma(vec4(share), cell.hi, sum.hi);
}

void main() {
    uint k = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - k * p.cells;
    uint row = hymn_row();
    if (k >= p.width || row >= p.rows) {
        return;
    }
    uint image_row = hymn_divide(row, p.height_reciprocal) * p.height, j = row - image_row;
    vec2 down = vec2(j > 0 ? 1.0 : 0.0, j + 1 < p.height ? 1.0 : 0.0);
    vec2 across = vec2(k > 0 ? 1.0 : 0.0, k + 1 < p.width ? 1.0 : 0.0);
    hymn_cell sums[4];
    sums[0] = sums[1] = sums[2] = sums[3] = hymn_cell_zero();
    int i = 0; // left as a loop: code that runs once is fetched once
    // clang-format off
    [[dont_unroll]] do {
        int ky = (i + 1) / 3, y = i - 1 - 2 * ky; // (0, -1), (0, 0), (1, -1) to (1, 1), (2, 0), (2, 1)
        uint row_at = (image_row + uint(clamp(int(j) + y, 0, int(p.height) - 1))) * p.width;
        uint at = p.source_first + uint(3 * ky) * p.cells + cell;
        hymn_cell left = hymn_cell_zero(), right = hymn_cell_zero();
        [[unroll]] for (int x = -1; x <= 1; x++) {
            uint pixel_at = (row_at + uint(clamp(int(k) + x, 0, int(p.width) - 1))) * p.source_stride + at;
            [[unroll]] for (int kx = 0; kx < 3; kx++) {
                if (abs(kx - 1 - x) <= 1) {
                    hymn_cell tap;
                    HYMN_LOAD_CELL(tap, taps, pixel_at + uint(kx) * p.cells, HALF)
                    vec2 share = shares(kx, x, across);
                    add(left, share.x, tap);
                    add(right, share.y, tap);
                }
            }
        }
        vec2 share = shares(ky, y, down);
        add(sums[0], share.x, left);
        add(sums[1], share.x, right);
        add(sums[2], share.y, left);
        add(sums[3], share.y, right);
        i++;
    } while (i < 7);
    // clang-format on
    [[unroll]] for (uint o = 0; o < 4; o++) {
        uint at = ((2 * row + o / 2) * 2 * p.width + 2 * k + o % 2) * p.cells + cell;
        HYMN_STORE_CELL(result, at, HALF, sums[o])
    }
}
