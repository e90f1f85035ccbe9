// SPDX-License-Identifier: MIT
//
// 3x3 convolutions for GPUs without matrix units, as Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015): 16 products for the four outputs of a tile where the sum over the taps has 36.
//   V = Bt d B of the 4x4 inputs d around a tile; U = G w Gt of the weights, made when they are packed;
//   M[position][tile][o] = sum over terms and k of V[position][tile][k] * U[position][k][o]; Y = At M A;
//   out[pixel][o] = act(Y + bias[o] + residual)
//   in, out: [rows, width] pixels of cells (eight channels), f32 or f16; zero outside.
//   U: [tile of channels][step][position][cell of `across`][k 8][channel 8]. A step is a cell of k of a term of kernel 3,
//   or four cells of one of kernel 1, whose products the 16 positions share: in a dimension the outputs y0 and y1 of a
//   tile are m0 + m1 + m2 and m1 - m2 - m3, so x0 and x1 of one cell go to positions 0 and 3 as x0 and -x1, and those of
//   another to 1 and 2 as (x0 + x1) / 2 and (x0 - x1) / 2.
// One workgroup = TILES tiles of 2x2 pixels, one after the other in the images' rows of tiles, by `across` cells of
// channels. In a step each lane first transforms one k of one tile, whose 16 inputs it has loaded during the step before,
// into shared memory; then it sums one position of PART tiles of one cell of channels in registers. In the end the sums
// pass through shared memory, one cell of channels after the other.
// Specialization: 0 local size, a multiple of 64: 8 lanes a tile; 1 storage: bit set = f16, bits 0..2 sources, 3 residual,
//   5 output, 6 weights; 2..4 kernels of the terms: 3 or 1, 0 = absent; 5 across: 1, 2 or 4; 6 residual: 0 none, 1 same
//   size, 2 half size and resized; 7 activation (enum hymn_activation).
// Bindings: common/conv2d.glsl.
// Transforms and sums in f32, in the order of the steps.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/load.glsl"
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint local = 128;
layout(constant_id = 1) const uint storage = 0;
layout(constant_id = 2) const uint kernel0 = 3;
layout(constant_id = 3) const uint kernel1 = 0;
layout(constant_id = 4) const uint kernel2 = 0;
layout(constant_id = 5) const uint across = 4;
layout(constant_id = 6) const uint RESIDUAL = 0;
layout(constant_id = 7) const uint ACTIVATION = 0;
#define PROLOGUE 0u
#define IS_HALF(bit) ((storage >> bit & 1u) != 0u)
#include "common/conv2d.glsl"

// The sources again, by 32-bit words: a lane reads one channel of a pixel.
layout(set = 0, binding = 2) readonly restrict buffer Words0 {
    uint words0[];
};
layout(set = 0, binding = 3) readonly restrict buffer Words1 {
    uint words1[];
};
layout(set = 0, binding = 4) readonly restrict buffer Words2 {
    uint words2[];
};

const uint TILES = local / 8;
const uint PART = 2 * across;
const uint K_STRIDE = 16 * TILES + 4; // beyond a power of two: lanes of different k write to different banks

// V: [k][position][tile], padded; then M of one cell of channels: [position][tile][channel].
shared float values[8 * K_STRIDE];
// One k of the inputs of the step to come: 4x4 around the tile, row by row; or of four cells those of the tile itself.
float patch_next[16];
hymn_cell sums[PART];

// Where this lane's tile lies: image row and pixel of its upper left output; row_end 0: nowhere.
struct hymn_tile {
    int row, x;            // of the image's row of rows, of the row
    int row_first, row_end; // of its image
};

hymn_tile locate(uint tile) {
    uint row = tile / p.tiles_across, image = row / p.tiles_down;
    int first = int(image * p.height);
    bool live = tile < p.tiles;
    return hymn_tile(first + 2 * int(row - image * p.tiles_down), 2 * int(tile - row * p.tiles_across), first,
                     live ? first + int(p.height) : 0);
}

float select_half(uint word, uint k) {
    vec2 pair = unpackHalf2x16(word);
    return (k & 1u) == 0u ? pair.x : pair.y;
}

#define LOAD(n, i, words, bit)                                                                                         \
    {                                                                                                                  \
        const bool point = kernel##n == 1u;                                                                            \
        int down = point ? i / 2 % 2 : i / 4 - 1, right = point ? i % 2 : i % 4 - 1;                                   \
        int row = tile.row + down, x = tile.x + right;                                                                 \
        uint cell = point ? 4 * step + i / 4 : step;                                                                   \
        bool inside = row >= tile.row_first && row < tile.row_end && x >= 0 && x < int(p.width);                       \
        if (inside && cell < p.cells##n) {                                                                             \
            uint at = uint(row * int(p.width) + x) * p.stride##n + p.first##n + cell;                                  \
            if (IS_HALF(bit)) {                                                                                        \
                patch_next[i] = select_half(words[4 * at + (k >> 1)], k);                                              \
            } else {                                                                                                   \
                patch_next[i] = uintBitsToFloat(words[8 * at + k]);                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }

// Starts the loads of a step of a term.
void load_patch(hymn_tile tile, uint term, uint step, uint k) {
    [[unroll]] for (int i = 0; i < 16; i++) {
        patch_next[i] = 0.0;
        if (kernel1 == 0u || term == 0) {
            LOAD(0, i, words0, 0)
        } else if (kernel2 == 0u || term == 1) {
            LOAD(1, i, words1, 1)
        } else {
            LOAD(2, i, words2, 2)
        }
    }
}

// V of the 4x4 inputs.
void share_wide(uint tile, uint k) {
    float rows[16];
    [[unroll]] for (int x = 0; x < 4; x++) {
        float a = patch_next[x], b = patch_next[4 + x], c = patch_next[8 + x], d = patch_next[12 + x];
        rows[x] = a - c;
        rows[4 + x] = b + c;
        rows[8 + x] = c - b;
        rows[12 + x] = b - d;
    }
    [[unroll]] for (int y = 0; y < 4; y++) {
        float a = rows[4 * y], b = rows[4 * y + 1], c = rows[4 * y + 2], d = rows[4 * y + 3];
        uint to = k * K_STRIDE + 4 * y * TILES + tile;
        values[to] = a - c;
        values[to + TILES] = b + c;
        values[to + 2 * TILES] = c - b;
        values[to + 3 * TILES] = b - d;
    }
}

// One cell's 2x2 inputs; middle: into positions 1 and 2 of the dimension, else 0 and 3.
void share_point(uint to, int cell, bool middle_y, bool middle_x) {
    float a = patch_next[4 * cell], b = patch_next[4 * cell + 1], c = patch_next[4 * cell + 2],
          d = patch_next[4 * cell + 3];
    vec2 upper = middle_y ? 0.5 * (vec2(a, b) + vec2(c, d)) : vec2(a, b);
    vec2 lower = middle_y ? 0.5 * (vec2(a, b) - vec2(c, d)) : -vec2(c, d);
    uint top = (middle_y ? 4 : 0) * TILES + to, bottom = (middle_y ? 8 : 12) * TILES + to;
    uint left = (middle_x ? 1 : 0) * TILES, right = (middle_x ? 2 : 3) * TILES;
    values[top + left] = middle_x ? 0.5 * (upper.x + upper.y) : upper.x;
    values[top + right] = middle_x ? 0.5 * (upper.x - upper.y) : -upper.y;
    values[bottom + left] = middle_x ? 0.5 * (lower.x + lower.y) : lower.x;
    values[bottom + right] = middle_x ? 0.5 * (lower.x - lower.y) : -lower.y;
}

void share_patch(uint term, uint tile, uint k) {
    if ((term == 0 ? kernel0 : term == 1 ? kernel1 : kernel2) == 3u) {
        share_wide(tile, k);
    } else {
        [[unroll]] for (int cell = 0; cell < 4; cell++) {
            share_point(k * K_STRIDE + tile, cell, cell >= 2, cell % 2 == 1);
        }
    }
}

// Adds the products of a step.
void accumulate(uint weight_at, uint value_at) {
    [[unroll]] for (uint k = 0; k < 8; k++) {
        hymn_cell u;
        uint from = weight_at + k;
        HYMN_LOAD_CELL(u, weights, from, IS_HALF(6))
        [[unroll]] for (uint i = 0; i < PART; i++) {
            float v = values[k * K_STRIDE + value_at + i];
            sums[i].lo += v * u.lo;
            sums[i].hi += v * u.hi;
        }
    }
}

hymn_cell load_sum(uint position, uint tile) {
    uint at = (position * TILES + tile) * 8;
    return hymn_cell(vec4(values[at], values[at + 1], values[at + 2], values[at + 3]),
                     vec4(values[at + 4], values[at + 5], values[at + 6], values[at + 7]));
}

// Y of a tile's pixel (down, right): At is 1 1 1 0, 0 1 -1 -1.
hymn_cell output_of(uint tile, uint down, uint right) {
    hymn_cell y = hymn_cell_zero();
    [[unroll]] for (uint i = 0; i < 3; i++) {
        [[unroll]] for (uint j = 0; j < 3; j++) {
            hymn_cell m = load_sum((i + down) * 4 + j + right, tile);
            bool minus = (down == 1u && i > 0u) != (right == 1u && j > 0u);
            y.lo += minus ? -m.lo : m.lo;
            y.hi += minus ? -m.hi : m.hi;
        }
    }
    return y;
}

void main() {
    uint group = gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x, lane = gl_LocalInvocationID.x;
    uint first_tile = group * TILES, k = lane & 7u;
    hymn_tile tile = locate(first_tile + lane / 8);
    uint position = lane / (TILES / 2), rest = lane % (TILES / 2);
    uint lane_cell = rest % across, lane_tile = rest / across * PART;
    // Cells of terms that are not there are 0.
    uint steps0 = kernel0 == 1u ? (p.cells0 + 3) / 4 : p.cells0, steps1 = kernel1 == 1u ? (p.cells1 + 3) / 4 : p.cells1;
    uint steps = steps0 + steps1 + (kernel2 == 1u ? (p.cells2 + 3) / 4 : p.cells2);
    uint weight_at = ((gl_WorkGroupID.y * steps * 16 + position) * across + lane_cell) * 8;
    uint value_at = position * TILES + lane_tile;
    uint term = 0;

    [[unroll]] for (uint i = 0; i < PART; i++) {
        sums[i] = hymn_cell_zero();
    }
    load_patch(tile, 0, 0, k);
    uint step = 0;
    do {
        barrier();
        share_patch(term, lane / 8, k);
        barrier();
        step++;
        // Behind the last step the tile is nowhere: with a branch here AMD's compiler takes half as many registers again.
        tile.row_end = step < steps ? tile.row_end : 0;
        term = step < steps0 ? 0 : step < steps0 + steps1 ? 1 : 2;
        load_patch(tile, term, step - (term == 0 ? 0 : term == 1 ? steps0 : steps0 + steps1), k);
        accumulate(weight_at, value_at);
        weight_at += 16 * across * 8;
    } while (step < steps);
    // Two lanes a pixel of the tile, of which one finishes it.
    hymn_tile place = locate(first_tile + lane / 4);
    uint down = lane >> 1 & 1u, right = lane & 1u;
    for (uint turn = 0; turn < across; turn++) {
        barrier();
        if (lane_cell == turn) {
            [[unroll]] for (uint i = 0; i < PART; i++) {
                uint to = (value_at + i) * 8;
                [[unroll]] for (uint c = 0; c < 4; c++) {
                    values[to + c] = sums[i].lo[c];
                    values[to + 4 + c] = sums[i].hi[c];
                }
            }
        }
        barrier();
        int row = place.row + int(down), x = place.x + int(right);
        uint channel_cell = gl_WorkGroupID.y * across + turn;
        if (lane < 4 * TILES && row < place.row_end && x < int(p.width) && channel_cell < p.out_stride) {
            hymn_conv2d_finish(uint(row) * p.width + uint(x), channel_cell, output_of(lane / 4, down, right));
        }
    }
}
