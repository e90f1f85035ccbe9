// SPDX-License-Identifier: MIT
//
// Depthwise 3x3 convolution, zero padding, stride 1:
//   out[b,y,x,c] = activation(bias[c] + sum over i,j in 0..2 of w[3i+j,c] * x[b,y+i-1,x+j-1,c])
//   x: [batch, H, W, source_stride cells], a slice of `cells` cells from source_first on; out: [batch, H, W, cells]
// One lane = one cell (8 channels) of STRIP pixels beside each other, RUN rows below each other: an input is loaded once
// for up to three outputs, weights once for all. Accumulates in f32, taps in row-major order.
//   binding 0: x   1: weights, per cell: bias as 8 floats, then 9 taps of 8 (f32, or f16 when HALF_WEIGHTS)   2: out
//   constants 0: workgroup size   1: STRIP   2: RUN   3: HALF_WEIGHTS   4: activation (enum hymn_activation)
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/activation.glsl"
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint STRIP = 4;
layout(constant_id = 2) const uint RUN = 1;
layout(constant_id = 3) const bool HALF_WEIGHTS = false;
layout(constant_id = 4) const uint ACTIVATION = 0;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 2) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_depthwise_params p; };

hymn_cell taps[9];
hymn_cell bias;

void load_weights(uint cell) {
    uint at = cell * (HALF_WEIGHTS ? 11 : 20);
    bias = hymn_cell(uintBitsToFloat(weights[at]), uintBitsToFloat(weights[at + 1]));
    [[unroll]] for (uint t = 0; t < 9; t++) {
        if (HALF_WEIGHTS) {
            taps[t] = hymn_cell_unpack(weights[at + 2 + t]);
        } else {
            taps[t] = hymn_cell(uintBitsToFloat(weights[at + 2 + 2 * t]), uintBitsToFloat(weights[at + 3 + 2 * t]));
        }
    }
}

void main() {
    uint strip = hymn_divide(gl_GlobalInvocationID.x, p.cells_reciprocal);
    uint cell = gl_GlobalInvocationID.x - strip * p.cells;
    uint run = hymn_row();
    if (strip >= p.strips || run >= p.runs) {
        return;
    }
    load_weights(cell);
    uint image = hymn_divide(run, p.image_runs_reciprocal);
    uint first_row = (run - image * p.image_runs) * RUN;
    uint first_x = strip * STRIP;
    [[dont_unroll]] for (uint r = 0; r < RUN; r++) {
        uint y = first_row + r;
        if (y >= p.height) {
            break;
        }
        hymn_cell sums[STRIP];
        [[unroll]] for (uint o = 0; o < STRIP; o++) {
            sums[o] = bias;
        }
        [[unroll]] for (uint i = 0; i < 3; i++) {
            uint from_y = y + i - 1; // wraps above the image, and is then out of it as well
            uint row_at = (image * p.height + from_y) * p.width;
            [[unroll]] for (uint j = 0; j < STRIP + 2; j++) {
                uint from_x = first_x + j - 1;
                if (from_x < p.width && from_y < p.height) {
                    hymn_cell value;
                    HYMN_LOAD_CELL(value, source, (row_at + from_x) * p.source_stride + p.source_first + cell, HALF)
                    [[unroll]] for (uint o = 0; o < STRIP; o++) {
                        if (j >= o && j - o < 3) {
                            sums[o].lo = fma(taps[3 * i + j - o].lo, value.lo, sums[o].lo);
                            sums[o].hi = fma(taps[3 * i + j - o].hi, value.hi, sums[o].hi);
                        }
                    }
                }
            }
        }
        [[unroll]] for (uint o = 0; o < STRIP; o++) {
            if (first_x + o < p.width) {
                hymn_cell value = hymn_cell(hymn_activate(sums[o].lo, ACTIVATION), hymn_activate(sums[o].hi, ACTIVATION));
                uint at = ((image * p.height + y) * p.width + first_x + o) * p.cells + cell;
                HYMN_STORE_CELL(result, at, HALF, value)
            }
        }
    }
}
