// SPDX-License-Identifier: MIT
//
// 3x3 convolutions from few channels to few on matrix units (VK_KHR_cooperative_matrix):
//   out[pixel][o] = act(sum over taps, k of in[pixel + tap][k] * w[o][tap][k]
//                       + sum over k of in1[pixel][k] * w1[o][k] + bias[o] + residual)
//   in, in1, residual, out: [rows, width] pixels of cells (eight channels), f16; zero outside
// The weights stay, rows of pixels pass: a subgroup keeps the weights of its output channels, all of k, as matrices,
// those of the kernel's first KEPT columns in registers and the others in shared memory, and walks down M pixels side
// by side or more. A row of pixels is loaded once, with a margin of a pixel on either side, two rows ahead of its use,
// and serves the three rows of outputs that read it, whose sums are kept meanwhile. Subgroups do not wait for each
// other. in1, of kernel 1, may be absent; its pixels are loaded a row ahead.
//
// Specialization: 0 local size; 1 storage, unused; 4 KERNEL1: 1, 0 without in1; 6 residual: 0 none, 1 same size; 7
//   activation (enum hymn_activation): a clamp at the most; 8..10 M, N, K of the device's matrices; 11, 12 TILE_WIDTH,
//   TILE_HEIGHT: pixels of a workgroup; 13 CHANNELS; 14, 15 ROWS, COLUMNS: subgroups side by side, and that share
//   channels; 17 DEPTH: cells of k; 21 POINT: cells of in1 in use, in whole K.
// A subgroup has whole cells of a row of outputs for each of its lanes.
// Bindings: common/conv2d.glsl, without stats. Weights: [3 * x + y of the tap][CHANNELS][8 * DEPTH k] f16, then of in1
//   [stage of DEPTH cells][CHANNELS][8 * DEPTH k].
// A residual is added in f16. Sums in f32, from the bias on.
// POOL: the largest of each 2x2 of the outputs leave too. Binding 6: [pixel][cell] f16, half as wide and high.
//   TILE_HEIGHT is even, the cells of a pixel in a subgroup are a power of two, half the subgroup at most.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#define HYMN_HALF_ARITHMETIC
// Loads stay a row or two ahead of their use: NVIDIA's compiler moves them next to that otherwise.
#define HYMN_CONV2D_PINNED volatile
#include "common/load.glsl"
#ifdef POOL
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LOCAL = 128;
layout(constant_id = 1) const uint STORAGE = 0;
layout(constant_id = 2) const uint PROLOGUE = 0;
layout(constant_id = 4) const uint KERNEL1 = 0;
layout(constant_id = 6) const uint RESIDUAL = 0;
layout(constant_id = 7) const uint ACTIVATION = 0;
layout(constant_id = 8) const uint M = 16;
layout(constant_id = 9) const uint N = 16;
layout(constant_id = 10) const uint K = 16;
layout(constant_id = 11) const uint TILE_WIDTH = 64;
layout(constant_id = 12) const uint TILE_HEIGHT = 32;
layout(constant_id = 13) const uint CHANNELS = 32;
layout(constant_id = 14) const uint ROWS = 4;
layout(constant_id = 15) const uint COLUMNS = 1;
layout(constant_id = 17) const uint DEPTH = 4;
layout(constant_id = 21) const uint POINT = 0;
#define IS_HALF(bit) ((STORAGE >> bit & 1u) != 0u)
#include "common/conv2d.glsl"

#ifdef POOL
layout(set = 0, binding = 6) writeonly restrict buffer Pooled {
    uvec4 pooled[];
};
#endif

const bool TWO = KERNEL1 != 0;
const uint KEPT = 2;
// Shared memory is in units of 16 bytes. One more than a row needs spreads the rows over the banks.
const uint ROW = DEPTH + 1, POINT_ROW = POINT + 1;
const uint SUBGROUP = LOCAL / (ROWS * COLUMNS);
const uint BLOCKS = TILE_WIDTH / M / ROWS; // of M pixels side by side
const uint BLOCK_COLUMNS = CHANNELS / N / COLUMNS, BLOCK_K = DEPTH * 8 / K, POINT_K = POINT * 8 / K;
const uint OWN = BLOCKS * M, SPAN = OWN + 2; // pixels of a subgroup, without and with a margin
const uint LOADS = (SPAN * DEPTH + SUBGROUP - 1) / SUBGROUP, POINT_LOADS = (OWN * POINT + SUBGROUP - 1) / SUBGROUP;
const uint CELLS = CHANNELS / 8 / COLUMNS, END_PITCH = CELLS + 1, END_LOADS = OWN * CELLS / SUBGROUP;
// Of a subgroup: a row of pixels, one of in1, one of outputs.
const uint POINT_AT = SPAN * ROW, END_AT = POINT_AT + (TWO ? OWN * POINT_ROW : 0), SHARE = END_AT + OWN * END_PITCH;
// All weights come by way of shared memory; those that go to registers are where subgroups have their pixels later.
const uint COLUMN_WEIGHTS = 3 * CHANNELS * ROW, PASSING = KEPT * COLUMN_WEIGHTS, SHARES = ROWS * COLUMNS * SHARE;
const uint WEIGHTS_AT = SHARES > PASSING ? SHARES : PASSING;
const uint POINT_STAGES = (POINT + DEPTH - 1) / DEPTH;
const uint BIAS_AT = WEIGHTS_AT + (3 - KEPT) * COLUMN_WEIGHTS + POINT_STAGES * CHANNELS * ROW;
const uint WEIGHTS = (9 + POINT_STAGES) * CHANNELS * DEPTH, WEIGHT_LOADS = (WEIGHTS + LOCAL - 1) / LOCAL;
shared uvec4 memory[BIAS_AT + CHANNELS / 4];

#define SUMS coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#define LEAVING coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> kept[KEPT * 3 * BLOCK_K * BLOCK_COLUMNS];
// Of three rows of outputs and three of pixels, in turns. NVIDIA's compiler has them in registers only where they are
// arrays of their own.
SUMS sums0[BLOCKS * BLOCK_COLUMNS], sums1[BLOCKS * BLOCK_COLUMNS], sums2[BLOCKS * BLOCK_COLUMNS];
uvec4 next0[LOADS], next1[LOADS], next2[LOADS];
uvec4 point_next[TWO ? POINT_LOADS : 1], residual_next[END_LOADS];
uint load_from[LOADS], load_to[LOADS], load_kept[LOADS]; // of the image's first row; a unit of shared memory; a mask
uint image, first_x, first_y, rows;                      // rows: of outputs
uint column, memory_at;
#ifdef POOL
uvec4 upper[END_LOADS]; // outputs of the row above
#endif

// Of shared memory alone: what is stored to buffers meanwhile is nobody's business here.
void subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
}

void place(uint tile) {
    uint down = tile / p.tiles_across;
    image = down / p.tiles_down;
    column = gl_SubgroupID % COLUMNS;
    first_x = (tile - down * p.tiles_across) * TILE_WIDTH + gl_SubgroupID / COLUMNS * OWN;
    first_y = (down - image * p.tiles_down) * TILE_HEIGHT;
    rows = min(TILE_HEIGHT, p.height - first_y);
    memory_at = gl_SubgroupID * SHARE;
    // Lanes beyond the last cell do as the last one.
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint e = min(gl_SubgroupInvocationID + i * SUBGROUP, SPAN * DEPTH - 1), cell = e % DEPTH;
        int x = int(first_x + e / DEPTH) - 1;
        uint inside = uint(clamp(x, 0, int(p.width) - 1));
        load_kept[i] = inside == uint(x) && cell < p.cells0 ? 0xFFFFFFFFu : 0u;
        load_from[i] = (image * p.height * p.width + inside) * p.stride0 + p.first0 + min(cell, p.cells0 - 1);
        load_to[i] = memory_at + e / DEPTH * ROW + cell;
    }
}

// Of the image, of pixels. step: 0 is the row above the first, behind the last one it is that.
uint row_of(uint step) {
    return uint(clamp(int(first_y + step) - 1, 0, int(p.height) - 1));
}

#define LOAD_ROW(to, step)                                                                                             \
    [[unroll]] for (uint i = 0; i < LOADS; i++) {                                                                      \
        to[i] = source0[load_from[i] + row_of(step) * p.width * p.stride0];                                            \
    }

#define SHARE_ROW(from, step)                                                                                          \
    [[unroll]] for (uint i = 0; i < LOADS; i++) {                                                                      \
        if ((i + 1) * SUBGROUP <= SPAN * DEPTH || gl_SubgroupInvocationID + i * SUBGROUP < SPAN * DEPTH) {             \
            memory[load_to[i]] = from[i] & (first_y + step == row_of(step) + 1 ? load_kept[i] : 0);                    \
        }                                                                                                              \
    }

#ifndef FEW
void load_point(uint step) {
    uint first = (image * p.height + row_of(step)) * p.width;
    [[unroll]] for (uint i = 0; i < POINT_LOADS; i++) {
        uint e = min(gl_SubgroupInvocationID + i * SUBGROUP, OWN * POINT - 1);
        uint x = min(first_x + e / POINT, p.width - 1);
        point_next[i] = source1[(first + x) * p.stride1 + p.first1 + min(e % POINT, p.cells1 - 1)];
    }
}
#endif

void share_point() {
    [[unroll]] for (uint i = 0; i < POINT_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP;
        if (OWN * POINT % SUBGROUP == 0 || e < OWN * POINT) {
            memory[memory_at + POINT_AT + e / POINT * POINT_ROW + e % POINT] =
                point_next[i] & (e % POINT < p.cells1 ? 0xFFFFFFFFu : 0u);
        }
    }
}

void load_residual(uint y) {
    uint first = (image * p.height + first_y + y) * p.width;
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP, x = min(first_x + e / CELLS, p.width - 1);
        residual_next[i] = hymn_conv2d_residual_halves(first + x, min(column * CELLS + e % CELLS, p.out_stride - 1));
    }
}

void share_weights() {
    uvec4 next[WEIGHT_LOADS];
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        next[i] = weights[min(gl_LocalInvocationID.x + i * LOCAL, WEIGHTS - 1)];
    }
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        uint e = gl_LocalInvocationID.x + i * LOCAL, to = e / DEPTH * ROW + e % DEPTH;
        if (WEIGHTS % LOCAL == 0 || e < WEIGHTS) {
            memory[to + (to >= PASSING ? WEIGHTS_AT - PASSING : 0)] = next[i];
        }
    }
    uint i = gl_LocalInvocationID.x; // there are more lanes than that
    if (i < CHANNELS / 4) {
        memory[BIAS_AT + i] = weights[p.bias_at + min(i, 2 * p.out_stride - 1)];
    }
}

// Of the tap's or the stage's matrix of weights [channel][k] in shared memory, which begins at `from`.
uint weight_at(uint from, uint k, uint j) {
    return from + (column * BLOCK_COLUMNS + j) * N * ROW + k * (K / 8);
}

void keep_weights() {
    [[unroll]] for (uint tap = 0; tap < KEPT * 3; tap++) {
        [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                coopMatLoad(kept[(tap * BLOCK_K + k) * BLOCK_COLUMNS + j], memory,
                            weight_at(tap * CHANNELS * ROW, k, j), ROW, gl_CooperativeMatrixLayoutColumnMajor);
            }
        }
    }
}

#ifdef POOL
uvec4 larger_halves(uvec4 a, uvec4 b) {
    return uvec4(packFloat2x16(max(unpackFloat2x16(a.x), unpackFloat2x16(b.x))),
                 packFloat2x16(max(unpackFloat2x16(a.y), unpackFloat2x16(b.y))),
                 packFloat2x16(max(unpackFloat2x16(a.z), unpackFloat2x16(b.z))),
                 packFloat2x16(max(unpackFloat2x16(a.w), unpackFloat2x16(b.w))));
}

// Stores behind each second row, of which first_y is none. The neighbour's cell is CELLS lanes away.
void put_pooled(uint i, uint y, uint x, uint cell, uvec4 halves, bool there) {
    uvec4 both = larger_halves(upper[i], halves);
    both = larger_halves(both, subgroupShuffleXor(both, CELLS));
    if (there && (y & 1) != 0 && (x & 1) == 0) {
        uint pixel = (image * (p.height / 2) + (first_y + y) / 2) * (p.width / 2) + x / 2;
        pooled[pixel * p.out_stride + cell] = both;
    }
    upper[i] = halves;
}
#endif

// Row y of the outputs, whose sums are in shared memory.
void write_row(uint y) {
    uint first = (image * p.height + first_y + y) * p.width;
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP;
        uint x = first_x + e / CELLS, cell = column * CELLS + e % CELLS;
        uint at = memory_at + END_AT + e / CELLS * END_PITCH + e % CELLS;
        uvec4 halves = memory[at];
        halves = RESIDUAL != 0 ? hymn_cell_add(halves, residual_next[i]) : halves;
        halves = hymn_cell_clamp(halves, hymn_conv2d_least());
        bool there = x < p.width && cell < p.out_stride;
        if (there) {
            result[(first + x) * p.out_stride + cell] = halves;
        }
#ifdef POOL
        put_pooled(i, y, x, cell, halves, there);
#endif
    }
}

// A row of outputs begins with the biases, and is left in shared memory at its end.
#define BEGIN(sums)                                                                                                    \
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {                                                              \
        [[unroll]] for (uint b = 0; b < BLOCKS; b++) {                                                                 \
            coopMatLoad(sums[b * BLOCK_COLUMNS + j], memory, BIAS_AT + (column * BLOCK_COLUMNS + j) * (N / 4), 0,      \
                        gl_CooperativeMatrixLayoutRowMajor); /* all rows the same */                                   \
        }                                                                                                              \
    }

#define LEAVE(sums)                                                                                                    \
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {                                                              \
        [[unroll]] for (uint b = 0; b < BLOCKS; b++) {                                                                 \
            LEAVING leaving = LEAVING(sums[b * BLOCK_COLUMNS + j]);                                                    \
            coopMatStore(leaving, memory, memory_at + END_AT + b * M * END_PITCH + j * (N / 8), END_PITCH,             \
                         gl_CooperativeMatrixLayoutRowMajor);                                                          \
        }                                                                                                              \
    }

// Adds in1's part to the row of outputs that a row of pixels is in the middle of.
#define ADD_POINT(sums)                                                                                                \
    [[unroll]] for (uint k = 0; k < POINT_K; k++) {                                                                    \
        [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {                                                          \
            uint stage = k / BLOCK_K;                                                                                  \
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> v;                                               \
            coopMatLoad(v, memory,                                                                                     \
                        weight_at(WEIGHTS_AT + (3 - KEPT) * COLUMN_WEIGHTS + stage * CHANNELS * ROW, k % BLOCK_K, j),  \
                        ROW, gl_CooperativeMatrixLayoutColumnMajor);                                                   \
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {                                                             \
                coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;                                           \
                coopMatLoad(a, memory, memory_at + POINT_AT + b * M * POINT_ROW + k * (K / 8), POINT_ROW,              \
                            gl_CooperativeMatrixLayoutRowMajor);                                                       \
                sums[b * BLOCK_COLUMNS + j] = coopMatMulAdd(a, v, sums[b * BLOCK_COLUMNS + j]);                        \
            }                                                                                                          \
        }                                                                                                              \
    }

// What a row of pixels is multiplied with: the upper taps for the sums that begin with it, and so on. Not in a
// function: see row 99 of CONTRIBUTING's appendix.
#define MULTIPLY(begun, going, done)                                                                                   \
    [[unroll]] for (uint x = 0; x < 3; x++) {                                                                          \
        [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {                                                                \
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[BLOCKS];                                       \
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {                                                             \
                coopMatLoad(a[b], memory, memory_at + (b * M + x) * ROW + k * (K / 8), ROW,                            \
                            gl_CooperativeMatrixLayoutRowMajor);                                                       \
            }                                                                                                          \
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {                                                      \
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> v[3];                                        \
                [[unroll]] for (uint y = 0; y < 3; y++) {                                                              \
                    if (x < KEPT) {                                                                                    \
                        v[y] = kept[((3 * x + y) * BLOCK_K + k) * BLOCK_COLUMNS + j];                                  \
                    } else {                                                                                           \
                        coopMatLoad(v[y], memory, weight_at(WEIGHTS_AT + (3 * (x - KEPT) + y) * CHANNELS * ROW, k, j), \
                                    ROW, gl_CooperativeMatrixLayoutColumnMajor);                                       \
                    }                                                                                                  \
                }                                                                                                      \
                [[unroll]] for (uint b = 0; b < BLOCKS; b++) {                                                         \
                    uint i = b * BLOCK_COLUMNS + j;                                                                    \
                    begun[i] = coopMatMulAdd(a[b], v[0], begun[i]);                                                    \
                    going[i] = coopMatMulAdd(a[b], v[1], going[i]);                                                    \
                    done[i] = coopMatMulAdd(a[b], v[2], done[i]);                                                      \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

// A row of pixels, and the row of outputs that is done with it.
#define WALK(begun, going, done, here, ahead)                                                                          \
    BEGIN(begun)                                                                                                       \
    SHARE_ROW(here, step)                                                                                              \
    if (TWO) {                                                                                                         \
        share_point();                                                                                                 \
    }                                                                                                                  \
    subgroup_barrier();                                                                                                \
    LOAD_ROW(ahead, step + 2)                                                                                          \
    if (TWO) {                                                                                                         \
        load_point(step + 1);                                                                                          \
    }                                                                                                                  \
    if (RESIDUAL != 0) {                                                                                               \
        load_residual(min(max(step, 2) - 2, rows - 1));                                                                \
    }                                                                                                                  \
    MULTIPLY(begun, going, done)                                                                                       \
    if (TWO) {                                                                                                         \
        ADD_POINT(going)                                                                                               \
    }                                                                                                                  \
    LEAVE(done)                                                                                                        \
    subgroup_barrier();                                                                                                \
    if (step >= 2) {                                                                                                   \
        write_row(step - 2);                                                                                           \
    }                                                                                                                  \
    step++;                                                                                                            \
    if (step >= rows + 2) {                                                                                            \
        break;                                                                                                         \
    }

void main() {
    uint tile = gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x;
    if (tile >= p.tiles) {
        return; // the last layer of the dispatch has no tile for each of its workgroups
    }
    place(tile);
    LOAD_ROW(next0, 0)
    LOAD_ROW(next1, 1)
    if (TWO) {
        load_point(0);
    }
    share_weights();
    barrier();
    keep_weights();
    barrier();
    [[unroll]] for (uint i = 0; i < BLOCKS * BLOCK_COLUMNS; i++) {
        sums0[i] = SUMS(0.0);
        sums1[i] = SUMS(0.0);
        sums2[i] = SUMS(0.0);
    }
    uint step = 0;
    while (true) {
        WALK(sums0, sums2, sums1, next0, next2)
        WALK(sums1, sums0, sums2, next1, next0)
        WALK(sums2, sums1, sums0, next2, next1)
    }
}
