// SPDX-License-Identifier: MIT
//
// Depthwise 3x3 convolution, zero padding, stride 1:
//   out[b,y,x,c] = activation(bias[c] + sum over i,j in 0..2 of w[3i+j,c] * x[b,y+i-1,x+j-1,c])
//   x: [batch, H, W, source_stride cells], a slice of `cells` cells from source_first on; out: [batch, H, W, cells]
// One lane = one cell (8 channels) of STRIP pixels side by side: an input is loaded once for up to three outputs, weights
// once for all. Accumulates in f32, taps in row-major order.
//   binding 0: x   1: weights, units of 16 bytes [unit][cell], so that neighbouring lanes read neighbours: the bias as 8
//   floats, then 9 taps of 8 (f32, or f16 when HALF_WEIGHTS)   2: out
//   constants 0, 1: common/grid.glsl   2: STRIP   3: HALF_WEIGHTS   4: activation (enum hymn_activation)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/activation.glsl"
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STRIP = 4;
layout(constant_id = 3) const bool HALF_WEIGHTS = false;
layout(constant_id = 4) const uint ACTIVATION = 0;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 2) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_depthwise_params p; };

// The load depends on no condition, so that none waits for another: outside the image it is of some pixel of it.
hymn_cell load_source(uint at, bool inside) {
    if (HALF) {
        return hymn_cell_unpack(mix(uvec4(0), source[at], bvec4(inside)));
    }
    return hymn_cell(uintBitsToFloat(mix(uvec4(0), source[2 * at], bvec4(inside))),
                     uintBitsToFloat(mix(uvec4(0), source[2 * at + 1], bvec4(inside))));
}

void main() {
    uint strip = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - strip * p.cells;
    uint row = hymn_row();
    if (strip >= p.strips || row >= p.rows) {
        return;
    }
    uint first_row = hymn_divide(row, p.height_reciprocal) * p.height; // of the image
    uint first_x = strip * STRIP;
    uint weights_at = cell;
    hymn_cell sums[STRIP];
    sums[0] = hymn_cell(uintBitsToFloat(weights[weights_at]), uintBitsToFloat(weights[weights_at + p.cells]));
    [[unroll]] for (uint o = 1; o < STRIP; o++) {
        sums[o] = sums[0];
    }
    weights_at += 2 * p.cells;
    [[unroll]] for (uint i = 0; i < 3; i++) {
        uint y = row - first_row + i - 1; // wraps above the image, and is then out of it as well
        uint row_at = (first_row + min(y, p.height - 1)) * p.width;
        hymn_cell taps[3];
        [[unroll]] for (uint t = 0; t < 3; t++) {
            taps[t] = HALF_WEIGHTS ? hymn_cell_unpack(weights[weights_at])
                                   : hymn_cell(uintBitsToFloat(weights[weights_at]),
                                               uintBitsToFloat(weights[weights_at + p.cells]));
            weights_at += HALF_WEIGHTS ? p.cells : 2 * p.cells;
        }
        [[unroll]] for (uint j = 0; j < STRIP + 2; j++) {
            uint x = first_x + j - 1;
            hymn_cell value = load_source((row_at + min(x, p.width - 1)) * p.source_stride + p.source_first + cell,
                                          x < p.width && y < p.height);
            [[unroll]] for (uint o = 0; o < STRIP; o++) {
                if (j >= o && j - o < 3) {
                    sums[o].lo = fma(taps[j - o].lo, value.lo, sums[o].lo);
                    sums[o].hi = fma(taps[j - o].hi, value.hi, sums[o].hi);
                }
            }
        }
    }
    [[unroll]] for (uint o = 0; o < STRIP; o++) {
        if (first_x + o < p.width) {
            hymn_cell value = hymn_cell(hymn_activate(sums[o].lo, ACTIVATION), hymn_activate(sums[o].hi, ACTIVATION));
            HYMN_STORE_CELL(result, (row * p.width + first_x + o) * p.cells + cell, HALF, value)
        }
    }
}
