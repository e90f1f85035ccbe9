// SPDX-License-Identifier: MIT
//
// 3x3 convolutions from few channels to few on matrix units (VK_KHR_cooperative_matrix):
//   out[pixel][o] = act(sum over taps, k of in[pixel + tap][k] * w[o][tap][k]
//                       + sum over k of in1[pixel][k] * w1[o][k] + bias[o] + residual)
//   in, in1, residual, out: [rows, width] pixels of cells (eight channels), f16; zero outside
// The weights stay, rows of pixels pass: a subgroup keeps the weights of its output channels, all of k, as matrices,
// those of the kernel's first KEPT columns in registers and the others in shared memory, and walks down M pixels side
// by side or more. A row of pixels is loaded once, with a margin of a pixel on either side, ahead of its use, and
// serves the three rows of outputs that read it, whose sums are kept meanwhile. A subgroup that has all channels waits
// for no other; those of a team, COLUMNS of them, have the same pixels and some channels each, and share the rows.
// in1, of kernel 1, may be absent; its pixels are loaded a row ahead, and a team keeps its weights in registers. A
// residual of half the size is a product too, of each pixel's shares in the pixels of two of its rows, which are in
// shared memory.
//
// Specialization: 0 local size; 1 storage, unused; 4 KERNEL1: 1, 0 without in1; 6 residual: 0 none, 1 same size, 2 half
//   size and resized; 7 activation (enum hymn_activation): a clamp at the most; 8..10 M, N, K of the device's matrices;
//   11, 12 TILE_WIDTH, TILE_HEIGHT: pixels of a workgroup; 13 CHANNELS; 14, 15 ROWS, COLUMNS: teams side by side, and
//   their subgroups; 17 DEPTH: cells of k; 21 POINT: cells of in1 in use, in whole K. With a residual of half the size
//   the height is even, and COLUMNS is 1.
// A subgroup has whole cells of a row of outputs for each of its lanes.
// Bindings: common/conv2d.glsl, without stats. Weights: [3 * x + y of the tap][CHANNELS][8 * DEPTH k] f16, then of in1
//   [stage of DEPTH cells][CHANNELS][8 * DEPTH k].
// Sums in f32, from the bias on; a residual of the same size is added in f16.
// POOL: the largest of each 2x2 of the outputs leave too. Binding 6: [pixel][cell] f16, half as wide and high.
//   TILE_HEIGHT is even, the cells of a pixel in a subgroup are a power of two, half the subgroup at most.
// MASK: what would leave goes on to masks by a head of one class, as conv2d_matrix.comp has it, two rows at a time.
//   COLUMNS is 1. Bindings: 1 masks, 6 the head's weights, as there.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#define HYMN_HALF_ARITHMETIC
// Loads stay a row ahead of their use: NVIDIA's compiler moves them next to that otherwise.
#define HYMN_CONV2D_PINNED volatile
#include "common/load.glsl"
#include "common/subgroup.glsl"
#if defined(POOL) || defined(MASK)
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#ifdef MASK
#include "common/label.glsl"
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
#ifdef MASK
layout(set = 0, binding = 1) writeonly restrict buffer Masks {
    uint masks[];
};
layout(set = 0, binding = 6) readonly restrict buffer Head {
    uvec4 head[];
};
#endif

const bool TWO = KERNEL1 != 0;
const uint KEPT = 2;
// Shared memory is in units of 16 bytes. One more than a row needs spreads the rows over the banks.
const uint ROW = DEPTH + 1, POINT_ROW = POINT + 1;
const uint SUBGROUP = LOCAL / (ROWS * COLUMNS), TEAM = SUBGROUP * COLUMNS;
const bool ALONE = COLUMNS == 1;
const uint BLOCKS = TILE_WIDTH / M / ROWS; // of M pixels side by side
const uint BLOCK_COLUMNS = CHANNELS / N / COLUMNS, BLOCK_K = DEPTH * 8 / K, POINT_K = POINT * 8 / K;
const uint OWN = BLOCKS * M, SPAN = OWN + 2; // pixels of a subgroup, without and with a margin
const uint LOADS = (SPAN * DEPTH + TEAM - 1) / TEAM, POINT_LOADS = (OWN * POINT + TEAM - 1) / TEAM;
const uint CELLS = CHANNELS / 8 / COLUMNS, END_PITCH = CELLS + 1, END_LOADS = OWN * CELLS / SUBGROUP;
#ifdef MASK
const uint END_ROWS = 2, HEAD_ROW = CHANNELS / 4 + 1; // of outputs; the head's weights and bias
#else
const uint END_ROWS = 1, HEAD_ROW = 0;
#endif
// Of a team: a row of pixels, or two in turns where subgroups share them, one of in1, each subgroup's rows of outputs.
const uint POINT_AT = (ALONE ? 1 : 2) * SPAN * ROW;
const uint END_AT = POINT_AT + (TWO ? OWN * POINT_ROW : 0), END_SHARE = END_ROWS * OWN * END_PITCH;
// A residual of half the size: pixels of a row of it, and as many as products read; matrices of them.
const bool HALVED = RESIDUAL == 2;
const uint LOW_PIXELS = OWN / 2 + 2, LOW_K = (M / 2 + 2 + K - 1) / K, LOW_THERE = (OWN - M) / 2 + LOW_K * K;
const uint LOW_PITCH = CELLS + 1, LOW_ROW = LOW_THERE * LOW_PITCH, LOW_AT = END_AT + COLUMNS * END_SHARE;
const uint LOW_LOADS = HALVED ? (LOW_PIXELS * CELLS + SUBGROUP - 1) / SUBGROUP : 1;
const uint SHARE = LOW_AT + (HALVED ? 2 * LOW_ROW : 0);
// All weights of the first source come by way of shared memory; those that go to registers are where teams have their
// pixels later, all at a time or, of teams, two taps.
const uint TAP_WEIGHTS = CHANNELS * ROW, PASS_TAPS = ALONE ? KEPT * 3 : 2, SHARES = ROWS * SHARE;
const uint WEIGHTS_AT = SHARES > PASS_TAPS * TAP_WEIGHTS ? SHARES : PASS_TAPS * TAP_WEIGHTS;
const uint POINT_STAGES = (POINT + DEPTH - 1) / DEPTH, TAPS = 9 + (ALONE ? POINT_STAGES : 0); // as if the stages were taps
const uint BIAS_AT = WEIGHTS_AT + (TAPS - KEPT * 3) * TAP_WEIGHTS, HEAD_AT = BIAS_AT + CHANNELS / 4;
const uint TAP_UNITS = CHANNELS * DEPTH, WEIGHTS = TAPS * TAP_UNITS, WEIGHT_LOADS = (WEIGHTS + LOCAL - 1) / LOCAL;
shared uvec4 memory[HEAD_AT + HEAD_ROW];

#define SUMS coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#define LEAVING coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> kept[KEPT * 3 * BLOCK_K * BLOCK_COLUMNS];
coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> point_kept[TWO && !ALONE ? POINT_K * BLOCK_COLUMNS : 1];
// Of the row of outputs that a row of pixels is the first of, of that which it is in the middle of, and of that which it
// is the last of. NVIDIA's compiler has them in registers only where they are arrays of their own.
SUMS begun[BLOCKS * BLOCK_COLUMNS], going[BLOCKS * BLOCK_COLUMNS], done[BLOCKS * BLOCK_COLUMNS];
uvec4 pixel_next[LOADS], point_next[TWO ? POINT_LOADS : 1], residual_next[END_LOADS], low_next[LOW_LOADS];
// Shares of a pixel in those of half the size, of the row that it is in and of the one beside.
coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> in_row[LOW_K], beside_row[LOW_K];
// Where a lane loads, stores and whether, of the image's first row or the first row of outputs.
uint load_from[LOADS], load_to[LOADS], load_kept[LOADS]; // to: of a row of pixels in shared memory; kept: a mask
uint point_from[TWO ? POINT_LOADS : 1], residual_from[RESIDUAL == 1 ? END_LOADS : 1], end_to[END_LOADS];
bool end_there[END_LOADS];
uint image, first_x, first_y, rows;   // rows: of outputs
uint column, lane, memory_at, end_at; // lane: of the team
#ifdef POOL
uvec4 upper[END_LOADS]; // outputs of the row above
#endif

void team_barrier() {
    if (ALONE) {
        hymn_subgroup_barrier();
    } else {
        barrier();
    }
}

void place(uint tile) {
    uint down = tile / p.tiles_across;
    image = down / p.tiles_down;
    column = gl_SubgroupID % COLUMNS;
    lane = column * SUBGROUP + gl_SubgroupInvocationID;
    first_x = (tile - down * p.tiles_across) * TILE_WIDTH + gl_SubgroupID / COLUMNS * OWN;
    first_y = (down - image * p.tiles_down) * TILE_HEIGHT;
    rows = min(TILE_HEIGHT, p.height - first_y);
    memory_at = gl_SubgroupID / COLUMNS * SHARE;
    end_at = memory_at + END_AT + column * END_SHARE;
    uint first = image * p.height * p.width;
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP, x = first_x + e / CELLS, cell = column * CELLS + e % CELLS;
        uint pixel = first + first_y * p.width + min(x, p.width - 1);
        end_there[i] = x < p.width && cell < p.out_stride;
        end_to[i] = pixel * p.out_stride + cell;
        if (RESIDUAL == 1) {
            residual_from[i] = pixel * p.residual_stride + p.residual_first + min(cell, p.out_stride - 1);
        }
    }
    [[unroll]] for (uint i = 0; i < (TWO ? POINT_LOADS : 0); i++) {
        uint e = min(lane + i * TEAM, OWN * POINT - 1), x = min(first_x + e / POINT, p.width - 1);
        point_from[i] = (first + x) * p.stride1 + p.first1 + min(e % POINT, p.cells1 - 1);
    }
    // Lanes beyond the last cell do as the last one.
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint e = min(lane + i * TEAM, SPAN * DEPTH - 1), cell = e % DEPTH;
        int x = int(first_x + e / DEPTH) - 1;
        uint inside = uint(clamp(x, 0, int(p.width) - 1));
        load_kept[i] = inside == uint(x) && cell < p.cells0 ? 0xFFFFFFFFu : 0u;
        load_from[i] = (image * p.height * p.width + inside) * p.stride0 + p.first0 + min(cell, p.cells0 - 1);
        load_to[i] = e / DEPTH * ROW + cell;
    }
}

// Where a team has the row of pixels of a step.
uint pixels_at(uint step) {
    return memory_at + (ALONE ? 0 : (step & 1) * (SPAN * ROW));
}

// Of the image, of pixels. step: 0 is the row above the first, behind the last one it is that.
uint row_of(uint step) {
    return uint(clamp(int(first_y + step) - 1, 0, int(p.height) - 1));
}

void load_row(uint step) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        pixel_next[i] = source0[load_from[i] + row_of(step) * p.width * p.stride0];
    }
}

void share_row(uint step) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        if ((i + 1) * TEAM <= SPAN * DEPTH || lane + i * TEAM < SPAN * DEPTH) {
            memory[pixels_at(step) + load_to[i]] = pixel_next[i] & (first_y + step == row_of(step) + 1 ? load_kept[i] : 0);
        }
    }
}

void load_point(uint step) {
    [[unroll]] for (uint i = 0; i < POINT_LOADS; i++) {
        point_next[i] = source1[point_from[i] + row_of(step) * p.width * p.stride1];
    }
}

void share_point() {
    [[unroll]] for (uint i = 0; i < POINT_LOADS; i++) {
        uint e = lane + i * TEAM;
        if (OWN * POINT % TEAM == 0 || e < OWN * POINT) {
            memory[memory_at + POINT_AT + e / POINT * POINT_ROW + e % POINT] =
                point_next[i] & (e % POINT < p.cells1 ? 0xFFFFFFFFu : 0u);
        }
    }
}

void load_residual(uint y) {
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        residual_next[i] = residual[residual_from[i] + y * p.width * p.residual_stride];
    }
}

// A residual of half the size has its rows in two places in turns. Rows are numbered from 1, so that there is one before
// the first. This is the one that a step's finished row of outputs is in: at even steps the upper of the two that are,
// whose other row is the one before, at odd steps the lower, whose other is the one behind.
uint low_of(uint step) {
    return first_y / 2 + step / 2;
}

uint low_at(uint low) {
    return memory_at + LOW_AT + (low & 1) * LOW_ROW;
}

// Edges are clamped, also of channels, which nothing reads.
void load_low(uint low) {
    uint first = (image * (p.height / 2) + min(max(low, 1) - 1, p.height / 2 - 1)) * (p.width / 2);
    [[unroll]] for (uint i = 0; i < LOW_LOADS; i++) {
        uint e = min(gl_SubgroupInvocationID + i * SUBGROUP, LOW_PIXELS * CELLS - 1);
        uint x = min(max(first_x / 2 + e / CELLS, 1) - 1, p.width / 2 - 1);
        low_next[i] = hymn_conv2d_residual_halves(first + x, min(e % CELLS, p.out_stride - 1));
    }
}

void share_low(uint low) {
    [[unroll]] for (uint i = 0; i < LOW_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP;
        if (LOW_PIXELS * CELLS % SUBGROUP == 0 || e < LOW_PIXELS * CELLS) {
            memory[low_at(low) + e / CELLS * LOW_PITCH + e % CELLS] = low_next[i];
        }
    }
}

// Of pixel `x` in the k-th of half the size, of which the first is the one before the first pixel's.
float low_share(uint x, uint k) {
    return k == x / 2 + 1 ? 0.75 : k == x / 2 + 2 * (x % 2) ? 0.25 : 0.0;
}

// Makes the matrices of shares, by way of the place of rows, and what is read of that behind their pixels zero.
void begin_low() {
    const uint across = LOW_K * K / 8;
    uint to = memory_at + LOW_AT;
    for (uint e = gl_SubgroupInvocationID; e < M * across; e += SUBGROUP) {
        uvec4 eight = uvec4(0);
        [[unroll]] for (uint i = 0; i < 4; i++) {
            uint x = e / across, k = e % across * 8 + 2 * i;
            eight[i] = packHalf2x16(vec2(low_share(x, k), low_share(x, k + 1)));
        }
        memory[to + e] = eight;
    }
    hymn_subgroup_barrier();
    [[unroll]] for (uint k = 0; k < LOW_K; k++) {
        coopMatLoad(in_row[k], memory, to + k * (K / 8), across, gl_CooperativeMatrixLayoutRowMajor);
        beside_row[k] = in_row[k] * float16_t(0.25);
        in_row[k] = in_row[k] * float16_t(0.75);
    }
    hymn_subgroup_barrier();
    for (uint e = gl_SubgroupInvocationID; e < 2 * LOW_ROW; e += SUBGROUP) {
        memory[to + e] = uvec4(0);
    }
    hymn_subgroup_barrier();
}

uvec4 weight_next[WEIGHT_LOADS];

void load_weights() {
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        weight_next[i] = weights[min(gl_LocalInvocationID.x + i * LOCAL, WEIGHTS - 1)];
    }
}

// Of the taps from `first` on, `count` of them.
void share_taps(uint first, uint count, uint to) {
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        uint e = gl_LocalInvocationID.x + i * LOCAL - first * TAP_UNITS; // huge where it is of a tap before
        bool some = (i + 1) * LOCAL > first * TAP_UNITS && i * LOCAL < (first + count) * TAP_UNITS;
        if (some && e < count * TAP_UNITS) {
            memory[to + e / DEPTH * ROW + e % DEPTH] = weight_next[i];
        }
    }
}

void share_biases() {
    uint i = gl_LocalInvocationID.x; // there are more lanes than that
    if (i < CHANNELS / 4) {
        memory[BIAS_AT + i] = weights[p.bias_at + min(i, 2 * p.out_stride - 1)];
    }
#ifdef MASK
    if (i <= 2 * p.out_stride) {
        memory[HEAD_AT + i] = head[i];
    }
#endif
}

// Of the tap's or the stage's matrix of weights [channel][k] in shared memory, which begins at `from`.
uint weight_at(uint from, uint k, uint j) {
    return from + (column * BLOCK_COLUMNS + j) * N * ROW + k * (K / 8);
}

// To registers, as matrices.
void keep_weights() {
    load_weights();
    share_taps(KEPT * 3, TAPS - KEPT * 3, WEIGHTS_AT);
    share_biases();
    [[unroll]] for (uint pass = 0; pass < KEPT * 3 / PASS_TAPS; pass++) {
        uint first = pass * PASS_TAPS;
        share_taps(first, PASS_TAPS, 0);
        barrier();
        [[unroll]] for (uint tap = 0; tap < PASS_TAPS; tap++) {
            [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {
                [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                    coopMatLoad(kept[((first + tap) * BLOCK_K + k) * BLOCK_COLUMNS + j], memory,
                                weight_at(tap * TAP_WEIGHTS, k, j), ROW, gl_CooperativeMatrixLayoutColumnMajor);
                }
            }
        }
        barrier();
    }
    [[unroll]] for (uint i = 0; i < (TWO && !ALONE ? POINT_K * BLOCK_COLUMNS : 0); i++) {
        uint k = i / BLOCK_COLUMNS, row = (9 + k / BLOCK_K) * CHANNELS + (column * BLOCK_COLUMNS + i % BLOCK_COLUMNS) * N;
        coopMatLoad(point_kept[i], weights, row * DEPTH + k % BLOCK_K * (K / 8), DEPTH,
                    gl_CooperativeMatrixLayoutColumnMajor);
    }
}

#ifdef POOL
// Stores behind each second row, of which first_y is none. The neighbour's cell is CELLS lanes away.
void put_pooled(uint i, uint y, uint x, uint cell, uvec4 halves, bool there) {
    uvec4 both = hymn_cell_max(upper[i], halves);
    both = hymn_cell_max(both, subgroupShuffleXor(both, CELLS));
    if (there && (y & 1) != 0 && (x & 1) == 0) {
        uint pixel = (image * (p.height / 2) + (first_y + y) / 2) * (p.width / 2) + x / 2;
        pooled[pixel * p.out_stride + cell] = both;
    }
    upper[i] = halves;
}
#endif

#ifdef MASK
// Of row y of the outputs and the one above, y being the second of two or the last: a lane has a pixel, and of each four
// side by side the first one stores.
void put_masks(uint y) {
    [[unroll]] for (uint i = 0; i < (2 * OWN + SUBGROUP - 1) / SUBGROUP; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP, from = end_at + min(e, 2 * OWN - 1) * END_PITCH;
        vec4 sum = vec4(0.0);
        uint at = HEAD_AT;
        // clang-format off
        [[dont_unroll]] do {
            hymn_cell v = hymn_cell_unpack(memory[from]);
            sum = hymn_add_to_logit(sum, v, uintBitsToFloat(memory[at]), uintBitsToFloat(memory[at + 1]));
            from++;
            at += 2;
        } while (at < HEAD_AT + 2 * p.out_stride);
        // clang-format on
        float logit = hymn_logit(sum, uintBitsToFloat(memory[HEAD_AT + 2 * p.out_stride].x));
        vec4 logits = vec4(logit, subgroupShuffleXor(logit, 1), subgroupShuffleXor(logit, 2), subgroupShuffleXor(logit, 3));
        uint row = (y & ~1u) + e / OWN, x = first_x + e % OWN;
        uint index = image - p.index; // beyond p.images where it is before the first
        bool stores = e % 4 == 0 && e < 2 * OWN && row <= y;
        if (stores && x < p.mask_width && first_y + row < p.mask_height && index < p.images) {
            uint to = index * p.image_words + (first_y + row) * ((p.mask_width + 3) / 4) + x / 4;
            masks[to] = hymn_label(logits, p.threshold, p.mask_width - 1 - x);
        }
    }
}
#endif

// Row y of the outputs, whose sums are in shared memory.
void write_row(uint y) {
    [[unroll]] for (uint i = 0; i < END_LOADS; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP;
        uint x = first_x + e / CELLS, cell = column * CELLS + e % CELLS;
        uint at = end_at + (y % END_ROWS * OWN + e / CELLS) * END_PITCH + e % CELLS;
        uvec4 halves = memory[at];
        halves = RESIDUAL == 1 ? hymn_cell_add(halves, residual_next[i]) : halves;
        halves = hymn_cell_clamp(halves, hymn_conv2d_least());
        bool there = end_there[i];
#ifdef MASK
        memory[at] = halves;
#else
        if (there) {
            result[end_to[i] + y * p.width * p.out_stride] = halves;
        }
#endif
#ifdef POOL
        put_pooled(i, y, x, cell, halves, there);
#endif
    }
#ifdef MASK
    if ((y & 1) != 0 || y + 1 == rows) {
        hymn_subgroup_barrier();
        put_masks(y);
    }
#endif
}

// Multiplies a row of pixels with the upper taps for the sums that begin with it, and so on. With its first products each
// row of outputs becomes the next one; one that begins does so with the biases.
void multiply(uint step) {
    [[unroll]] for (uint x = 0; x < 3; x++) {
        [[unroll]] for (uint k = 0; k < BLOCK_K; k++) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[BLOCKS];
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                coopMatLoad(a[b], memory, pixels_at(step) + (b * M + x) * ROW + k * (K / 8), ROW,
                            gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> v[3];
                [[unroll]] for (uint y = 0; y < 3; y++) {
                    if (x < KEPT) {
                        v[y] = kept[((3 * x + y) * BLOCK_K + k) * BLOCK_COLUMNS + j];
                    } else {
                        coopMatLoad(v[y], memory, weight_at(WEIGHTS_AT + (3 * (x - KEPT) + y) * TAP_WEIGHTS, k, j), ROW,
                                    gl_CooperativeMatrixLayoutColumnMajor);
                    }
                }
                SUMS bias;
                if (x == 0 && k == 0) {
                    coopMatLoad(bias, memory, BIAS_AT + (column * BLOCK_COLUMNS + j) * (N / 4), 0,
                                gl_CooperativeMatrixLayoutRowMajor); // all rows the same
                }
                [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                    uint i = b * BLOCK_COLUMNS + j;
                    if (x == 0 && k == 0) {
                        done[i] = coopMatMulAdd(a[b], v[2], going[i]);
                        going[i] = coopMatMulAdd(a[b], v[1], begun[i]);
                        begun[i] = coopMatMulAdd(a[b], v[0], bias);
                    } else {
                        begun[i] = coopMatMulAdd(a[b], v[0], begun[i]);
                        going[i] = coopMatMulAdd(a[b], v[1], going[i]);
                        done[i] = coopMatMulAdd(a[b], v[2], done[i]);
                    }
                }
            }
        }
    }
}

// Adds in1's part to the row of outputs that a row of pixels is in the middle of.
void add_point() {
    [[unroll]] for (uint k = 0; k < POINT_K; k++) {
        [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> v;
            if (ALONE) {
                coopMatLoad(v, memory, weight_at(WEIGHTS_AT + (9 - KEPT * 3 + k / BLOCK_K) * TAP_WEIGHTS, k % BLOCK_K, j),
                            ROW, gl_CooperativeMatrixLayoutColumnMajor);
            } else {
                v = point_kept[k * BLOCK_COLUMNS + j];
            }
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
                coopMatLoad(a, memory, memory_at + POINT_AT + b * M * POINT_ROW + k * (K / 8), POINT_ROW,
                            gl_CooperativeMatrixLayoutRowMajor);
                going[b * BLOCK_COLUMNS + j] = coopMatMulAdd(a, v, going[b * BLOCK_COLUMNS + j]);
            }
        }
    }
}

// Adds a residual of half the size to the row of outputs that a row of pixels is the last of.
void add_low(uint step) {
    [[unroll]] for (uint k = 0; k < LOW_K; k++) {
        [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                uint from = (b * (M / 2) + k * K) * LOW_PITCH + j * (N / 8), i = b * BLOCK_COLUMNS + j;
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> v;
                coopMatLoad(v, memory, low_at(low_of(step)) + from, LOW_PITCH, gl_CooperativeMatrixLayoutRowMajor);
                done[i] = coopMatMulAdd(in_row[k], v, done[i]);
                coopMatLoad(v, memory, low_at(low_of(step) + 1) + from, LOW_PITCH, gl_CooperativeMatrixLayoutRowMajor);
                done[i] = coopMatMulAdd(beside_row[k], v, done[i]);
            }
        }
    }
}

// Leaves a row of outputs in shared memory.
void leave(uint step) {
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
        [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
            LEAVING leaving = LEAVING(done[b * BLOCK_COLUMNS + j]);
            coopMatStore(leaving, memory, end_at + (step % END_ROWS * OWN + b * M) * END_PITCH + j * (N / 8), END_PITCH,
                         gl_CooperativeMatrixLayoutRowMajor);
        }
    }
}

void main() {
    uint tile = gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x;
    if (tile >= p.tiles) {
        return; // the last layer of the dispatch has no tile for each of its workgroups
    }
    place(tile);
    load_row(0);
    if (TWO) {
        load_point(0);
    }
    if (HALVED) {
        load_low(low_of(0));
    }
    keep_weights();
    if (HALVED) {
        begin_low();
        share_low(low_of(0));
    }
    [[unroll]] for (uint i = 0; i < BLOCKS * BLOCK_COLUMNS; i++) {
        begun[i] = going[i] = SUMS(0.0);
    }
    uint step = 0; // a row of pixels, and the row of outputs that is done with it
    // clang-format off
    [[dont_unroll]] do {
        share_row(step);
        team_barrier();
        if (TWO) {
            share_point();
        }
        if (HALVED && step % 2 != 0) {
            share_low(low_of(step) + 1);
        }
        load_row(step + 1);
        if (TWO) {
            load_point(step + 1);
        }
        if (RESIDUAL == 1) {
            load_residual(min(max(step, 2) - 2, rows - 1));
        }
        if (HALVED && step % 2 == 0) {
            load_low(low_of(step) + 1);
        }
        multiply(step);
        if (TWO || HALVED) {
            team_barrier();
        }
        if (HALVED) {
            add_low(step);
        }
        if (TWO) {
            add_point();
        }
        leave(step);
        hymn_subgroup_barrier();
        if (step >= 2) {
            write_row(step - 2);
        }
        step++;
    } while (step < rows + 2);
    // clang-format on
}
