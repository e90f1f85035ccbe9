// SPDX-License-Identifier: MIT
//
// 1x1 convolutions and linear layers on matrix units (VK_KHR_cooperative_matrix) of which many output channels are made
// of few input channels:
//   out[pixel][o] = act(sum over k of in[pixel][k] * w[o][k] + bias[o] + residual)
//   in, residual, out: [pixels] of cells (eight channels), f16
// The pixels stay, the weights pass: each subgroup of a workgroup keeps its share of TILE_WIDTH pixels, all of k, as
// matrices in registers, and CHANNELS output channels at a time are multiplied, whose weights have come to one of two
// places in shared memory meanwhile. So pixels are loaded, and normalised, once for all channels, where
// conv2d_matrix.comp does so for each tile of channels. gl_NumWorkGroups.y workgroups share a tile's passes.
// With a norm, in = (x - mean) * rstd over the channels of a pixel, rounded to f16. Moments: sums of x - s and
// (x - s)^2 in f32, s being the pixel's first channel, as in conv2d_matrix.comp.
//
// Specialization: 0 local size; 1 storage, unused; 2 prologue (enum hymn_prologue); 6 residual: 0 none, 1 same size;
//   7 activation (enum hymn_activation): a clamp at the most; 8..10 M, N, K of the device's matrices; 11 TILE_WIDTH;
//   13 CHANNELS; 14 ROWS: subgroups; 17 DEPTH: cells of k; 21 BIASES of a workgroup's channels, in units of 16 bytes.
// Bindings: common/conv2d.glsl, without stats. Weights: [pass][CHANNELS][8 * DEPTH k] f16.
// A residual is added in f16. Sums in f32, from the bias on.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define HYMN_HALF_ARITHMETIC
#include "common/load.glsl"
#include "common/subgroup.glsl"
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LOCAL = 128;
layout(constant_id = 1) const uint STORAGE = 0;
layout(constant_id = 2) const uint PROLOGUE = 0;
layout(constant_id = 6) const uint RESIDUAL = 0;
layout(constant_id = 7) const uint ACTIVATION = 0;
layout(constant_id = 8) const uint M = 16;
layout(constant_id = 9) const uint N = 16;
layout(constant_id = 10) const uint K = 16;
layout(constant_id = 11) const uint TILE_WIDTH = 128;
layout(constant_id = 13) const uint CHANNELS = 32;
layout(constant_id = 14) const uint ROWS = 4;
layout(constant_id = 17) const uint DEPTH = 16;
layout(constant_id = 21) const uint BIASES = 128;
#define IS_HALF(bit) ((STORAGE >> bit & 1u) != 0u)
#include "common/conv2d.glsl"

const bool NORM = PROLOGUE == 1;
// Shared memory is in units of 16 bytes. One more than a row needs spreads the rows over the banks.
const uint ROW = DEPTH + 1;
const uint SUBGROUP = LOCAL / ROWS;
const uint BLOCK_ROWS = TILE_WIDTH / M / ROWS, BLOCK_COLUMNS = CHANNELS / N, BLOCK_K = DEPTH * 8 / K;
const uint OWN = BLOCK_ROWS * M; // pixels of a subgroup
const uint WEIGHTS = CHANNELS * DEPTH, WEIGHT_LOADS = (WEIGHTS + LOCAL - 1) / LOCAL;
const uint PIXEL_LOADS = (M * DEPTH + SUBGROUP - 1) / SUBGROUP; // of M pixels
const uint PARTS = SUBGROUP > M ? SUBGROUP / M : 1;             // lanes that share a pixel's moments, with NORM
const uint CELLS = CHANNELS / 8, END_LOADS = (OWN * CELLS + SUBGROUP - 1) / SUBGROUP;
// First M pixels of each subgroup on their way to registers; then, in the same place, two passes' weights and what
// leaves.
const uint FIRST = ROWS * M * ROW, END_PITCH = CELLS + 1;
const uint END_AT = 2 * CHANNELS * ROW, END = END_AT + ROWS * OWN * END_PITCH;
const uint SCALE_AT = FIRST > END ? FIRST : END, SHIFT_AT = SCALE_AT + (NORM ? ROWS * M / 4 : 0);
const uint BIAS_AT = SHIFT_AT + (NORM ? ROWS * M / 4 : 0);
shared uvec4 memory[BIAS_AT + BIASES];

coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[BLOCK_ROWS * BLOCK_K];
coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[BLOCK_ROWS * BLOCK_COLUMNS];
uvec4 weight_next[WEIGHT_LOADS], pixel_next[BLOCK_ROWS * PIXEL_LOADS];

// Of all, one of the subgroup's.
uint pixel_of(uint own) {
    uint tile = gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x;
    return tile * TILE_WIDTH + gl_SubgroupID * OWN + own;
}

void load_pixels() {
    [[unroll]] for (uint row = 0; row < BLOCK_ROWS; row++) {
        [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
            uint e = min(gl_SubgroupInvocationID + i * SUBGROUP, M * DEPTH - 1);
            uint pixel = min(pixel_of(row * M + e / DEPTH), p.width - 1);
            pixel_next[row * PIXEL_LOADS + i] = source0[pixel * p.stride0 + p.first0 + e % DEPTH];
        }
    }
}

void load_weights(uint pass) {
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        weight_next[i] = weights[pass * WEIGHTS + min(gl_LocalInvocationID.x + i * LOCAL, WEIGHTS - 1)];
    }
}

void share_weights(uint weights_at) {
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LOCAL;
        if (WEIGHTS % LOCAL == 0 || at < WEIGHTS) {
            memory[weights_at + at / DEPTH * ROW + at % DEPTH] = weight_next[i];
        }
    }
}

// Of all passes of this workgroup.
void share_biases(uint pass) {
    uint i = gl_LocalInvocationID.x;
    if (i < BIASES) {
        do {
            memory[BIAS_AT + i] = weights[p.bias_at + min(pass * (CHANNELS / 4) + i, 2 * p.out_stride - 1)];
            i += LOCAL;
        } while (i < BIASES);
    }
}

// Leaves 1 / deviation and -mean / deviation of each of the M pixels that are in shared memory from `at` on.
void find_norms(uint at) {
    uint part = gl_SubgroupInvocationID / M, pixel = gl_SubgroupInvocationID % M, from = at + pixel * ROW;
    float s = unpackHalf2x16(memory[from].x).x;
    vec2 sum = vec2(0.0);
    uint at_cell = from + part * (DEPTH / PARTS), end = at_cell + DEPTH / PARTS;
    // clang-format off
    [[dont_unroll]] do {
        hymn_cell x = hymn_cell_unpack(memory[at_cell]);
        x.lo -= s;
        x.hi -= s;
        sum += vec2(dot(x.lo, vec4(1.0)) + dot(x.hi, vec4(1.0)), dot(x.lo, x.lo) + dot(x.hi, x.hi));
        at_cell++;
    } while (at_cell < end);
    // clang-format on
    [[unroll]] for (uint reach = M; reach < SUBGROUP; reach *= 2) {
        sum += subgroupShuffleXor(sum, reach);
    }
    float count = float(DEPTH * 8), mean = sum.x / count;
    float scale = inversesqrt(max(sum.y / count - mean * mean, 0.0) + HYMN_NORM_EPSILON);
    if (part == 0) {
        uint to = gl_SubgroupID * M + pixel;
        memory[SCALE_AT + to / 4][to % 4] = floatBitsToUint(scale);
        memory[SHIFT_AT + to / 4][to % 4] = floatBitsToUint(-(s + mean) * scale);
    }
}

// Loops are left as such: code that runs once is fetched once.
void normalise(uint memory_at) {
    uint e = gl_SubgroupInvocationID; // there are M * DEPTH cells, and no more lanes
    // clang-format off
    [[dont_unroll]] do {
        uint at = gl_SubgroupID * M + e / DEPTH, cell_at = memory_at + e / DEPTH * ROW + e % DEPTH;
        float scale = uintBitsToFloat(memory[SCALE_AT + at / 4][at % 4]);
        float shift = uintBitsToFloat(memory[SHIFT_AT + at / 4][at % 4]);
        hymn_cell x = hymn_cell_unpack(memory[cell_at]);
        memory[cell_at] = hymn_cell_pack(hymn_cell(x.lo * scale + shift, x.hi * scale + shift));
        e += SUBGROUP;
    } while (e < M * DEPTH);
    // clang-format on
}

// To registers, as matrices, by way of shared memory.
void keep_pixels() {
    uint memory_at = gl_SubgroupID * M * ROW;
    [[unroll]] for (uint row = 0; row < BLOCK_ROWS; row++) {
        [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
            uint e = gl_SubgroupInvocationID + i * SUBGROUP;
            if (M * DEPTH % SUBGROUP == 0 || e < M * DEPTH) {
                memory[memory_at + e / DEPTH * ROW + e % DEPTH] = pixel_next[row * PIXEL_LOADS + i];
            }
        }
        hymn_subgroup_barrier();
        if (NORM) {
            find_norms(memory_at);
            hymn_subgroup_barrier();
            normalise(memory_at);
            hymn_subgroup_barrier();
        }
        [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {
            coopMatLoad(a[row * BLOCK_K + k], memory, memory_at + k * (K / 8), ROW, gl_CooperativeMatrixLayoutRowMajor);
        }
        hymn_subgroup_barrier();
    }
}

void multiply(uint weights_at, uint bias_at) {
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            coopMatLoad(sums[i * BLOCK_COLUMNS + j], memory, bias_at + j * (N / 4), 0,
                        gl_CooperativeMatrixLayoutRowMajor); // all rows the same
        }
    }
    [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {
        [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
            coopMatLoad(b, memory, weights_at + j * N * ROW + k * (K / 8), ROW, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
                sums[i * BLOCK_COLUMNS + j] = coopMatMulAdd(a[i * BLOCK_K + k], b, sums[i * BLOCK_COLUMNS + j]);
            }
        }
    }
}

// Cells of channels leave together, by way of the subgroup's own shared memory.
void write_sums(uint end_at, uint pass) {
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> leaving =
                coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(sums[i * BLOCK_COLUMNS + j]);
            coopMatStore(leaving, memory, end_at + i * M * END_PITCH + j * (N / 8), END_PITCH,
                         gl_CooperativeMatrixLayoutRowMajor);
        }
    }
    hymn_subgroup_barrier();
    uvec4 residual_next[END_LOADS];
    if (RESIDUAL != 0) {
        [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
            uint e = gl_SubgroupInvocationID + i * SUBGROUP, cell = pass * CELLS + e % CELLS;
            residual_next[i] =
                hymn_conv2d_residual_halves(min(pixel_of(e / CELLS), p.width - 1), min(cell, p.out_stride - 1));
        }
    }
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP, pixel = pixel_of(e / CELLS), cell = pass * CELLS + e % CELLS;
        bool there = OWN * CELLS % SUBGROUP == 0 || e < OWN * CELLS;
        if (there && pixel < p.width && cell < p.out_stride) {
            uvec4 halves = memory[end_at + e / CELLS * END_PITCH + e % CELLS];
            halves = RESIDUAL != 0 ? hymn_cell_add(halves, residual_next[i]) : halves;
            hymn_conv2d_end_packed(pixel, cell, halves);
        }
    }
}

void main() {
    uint passes = (p.out_stride + CELLS - 1) / CELLS;
    uint pass = passes * gl_WorkGroupID.y / gl_NumWorkGroups.y;
    uint end = passes * (gl_WorkGroupID.y + 1) / gl_NumWorkGroups.y;
    if (pixel_of(0) - gl_SubgroupID * OWN >= p.width) {
        return; // the last layer of the dispatch has no tile for each of its workgroups
    }
    load_pixels();
    load_weights(pass);
    share_biases(pass);
    keep_pixels();
    barrier();
    uint weights_at = 0, bias_at = BIAS_AT, end_at = END_AT + gl_SubgroupID * OWN * END_PITCH;
    share_weights(weights_at);
    while (true) {
        barrier();
        if (pass + 1 < end) {
            load_weights(pass + 1);
        }
        multiply(weights_at, bias_at);
        write_sums(end_at, pass);
        pass++;
        if (pass >= end) {
            break;
        }
        weights_at = CHANNELS * ROW - weights_at;
        bias_at += CHANNELS / 4;
        share_weights(weights_at);
    }
}
