// SPDX-License-Identifier: MIT
//
// Convolution and GEMM on matrix units (VK_KHR_cooperative_matrix), an implicit GEMM of pixels by output channels:
//   out[pixel][o] = act(sum over terms, taps, k of in(term)[pixel + tap][k] * w[o][term][tap][k] + bias[o] + residual)
//   in: [rows, width] pixels of cells (eight channels), f16; zero outside; out: f16 or f32
// With NORM the one term, of kernel 1 or 2, is normalised: in = (x - mean) * rstd over the channels (of all four taps) that
// an output pixel reads, and the product is made of x as it stands:
//   out[pixel][o] = act(rstd * (sum over taps, k of x[pixel + tap][k] * w[o][tap][k] - mean * sum of w[o]) + ...)
//   w: [tile of CHANNELS][stage][tap][CHANNELS][8 * DEPTH k] f16, zero where a stage reaches beyond its term's cells.
// One workgroup = TILE_WIDTH x TILE_HEIGHT pixels of one image by CHANNELS output channels, its subgroups in ROWS x
// COLUMNS parts of that. A stage is DEPTH cells of k of one term: its pixels, with a margin of one where the kernel is
// 3, are copied to shared memory once for all nine taps (kernel 2: a stage for each tap). A step is TAPS taps of a
// stage, which go down the columns of a kernel of 3: their weights go to one of two halves of shared memory while the
// other half is multiplied, or, where each step is a stage, to the place of the last step's. Where the tiles are too
// few to fill the device, SPLITS workgroups share one (with SPLIT defined), each doing some of its stages: their sums
// go to memory, and the one that finishes last adds them up in the order of the stages.
// The norm's moments are summed up from the stages in shared memory while those are multiplied, each column of tiles for
// itself: sums of x - s and (x - s)^2 in f32, s being the pixel's first channel. As s is one of the n numbers,
// (s - mean)^2 <= (n - 1) * variance: however large the mean, the variance loses no more digits than n has. What the mean
// costs the difference above are those digits that f32 has and f16 has not.
// Specialization: 0 local size; 1 storage: bit set = f16, bits 3 residual, 5 output; 2 prologue (enum
//   hymn_prologue); 3..5 kernels of the terms, 0 = absent; 6 residual: 0 none, 1 same size, 2 half size and resized;
//   7 activation (enum hymn_activation); 8..10 M, N, K of the device's matrices; 11, 12 TILE_WIDTH (a multiple of M),
//   TILE_HEIGHT; 13 CHANNELS; 14, 15 ROWS, COLUMNS; 16 TAPS: 1, 3 or 9; 17 DEPTH; 18 BUFFERS for pixels: 1 or 2; 19
//   UNROLLED: no loop among those over the sums is left to the compiler; 20 ONE: there is a single stage; 21 SPLITS
//   (SPLIT).
// Bindings: common/conv2d.glsl, but no stats; with SPLIT 6 sums [tile][split][pixel][CHANNELS, and with NORM a cell of
//   moments] f32; 7 counters [tile], zero before and after.
// PACKED 1: bias and norm are applied to the matrices of sums, which go to shared memory as f16, with half of the traffic
// and none of it for biases; for f16 outputs and residuals, and activations that are no more than a clamp. A residual is
// added to what the sum is in f16, as by frameworks whose convolutions leave f16; so one beyond that saturates before.
// MASK: PACKED, and what would leave stays in shared memory: the head of one class makes a logit of each pixel's cells
// there, and masks of those as head.comp does, the same bits. COLUMNS is 1 and there is one column of tiles, so that a
// subgroup has all channels of its pixels. Bindings: 1 masks: bytes in rows of words; 6 the head's weights
// [cell][8] f32, then its bias.
// POOL: PACKED, with no resized residual, and the largest of each 2x2 of the outputs leave too. A subgroup has whole pairs
// of rows of pixels, all of which leave at a time. Binding 6: [pixel][cell] f16, half as wide and high as the output.
// RESIZED: PACKED, and of the two terms, both of kernel 3, the second is resized here: common/conv2d_matrix_resized.glsl.
// THIN: PACKED, and the one term, of kernel 3, has three channels at most, all taps of which are one stage of k:
// common/conv2d_matrix_thin.glsl. TAPS is 1, DEPTH 4; weights: [tile of CHANNELS][CHANNELS][3 * tap + channel] f16.
// PICTURES: THIN, and its source is made there of 8-bit pictures. Specialization: 21 PIXEL_CHANNELS, 22 IN_CHANNELS.
// Bindings: 2 the pictures; 6 the source, [pixel][cell] f16.
// DEPTHWISE: PACKED, with one term of kernel 1. The first p.convolved tiles of channels do not leave, but what a 3x3
// convolution in depth makes of them, activated: neighbouring tiles of pixels share a margin of two rows or columns, and
// a tile is in shared memory as a whole, as f16. The other tiles of channels are as with PACKED alone, and need fewer
// workgroups. Specialization: 21 the activation (enum hymn_activation). Bindings: 6 the result, [pixel][cell] f16;
// 7 weights as of depthwise.comp, f16.
// Sums in f32: by the device within a matrix product, then in the order of the stages, within and across the splits.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#ifdef PACKED
#define HYMN_HALF_ARITHMETIC
#endif
#include "common/divide.glsl"
#include "common/load.glsl"
#ifdef MASK
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/label.glsl"
#endif
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LOCAL = 256;
layout(constant_id = 1) const uint STORAGE = 0;
layout(constant_id = 2) const uint PROLOGUE = 0;
layout(constant_id = 3) const uint KERNEL0 = 1;
layout(constant_id = 4) const uint KERNEL1 = 0;
layout(constant_id = 5) const uint KERNEL2 = 0;
layout(constant_id = 6) const uint RESIDUAL = 0;
layout(constant_id = 7) const uint ACTIVATION = 0;
layout(constant_id = 8) const uint M = 16;
layout(constant_id = 9) const uint N = 16;
layout(constant_id = 10) const uint K = 16;
layout(constant_id = 11) const uint TILE_WIDTH = 16;
layout(constant_id = 12) const uint TILE_HEIGHT = 8;
layout(constant_id = 13) const uint CHANNELS = 64;
layout(constant_id = 14) const uint ROWS = 4;
layout(constant_id = 15) const uint COLUMNS = 2;
layout(constant_id = 16) const uint TAPS = 3;
layout(constant_id = 17) const uint DEPTH = 4;
layout(constant_id = 18) const uint BUFFERS = 1;
layout(constant_id = 19) const bool UNROLLED = false;
layout(constant_id = 20) const bool ONE = false;
#ifdef PICTURES
layout(constant_id = 21) const uint PIXEL_CHANNELS = 3;
layout(constant_id = 22) const uint IN_CHANNELS = 3;
#endif
#ifdef DEPTHWISE
layout(constant_id = 21) const uint DEPTHWISE_ACTIVATION = 2;
#endif
#ifndef PACKED
#define PACKED 0
#endif
#ifdef SPLIT
layout(constant_id = 21) const uint SPLITS = 2;
#else
const uint SPLITS = 1;
#endif
#define IS_HALF(bit) ((STORAGE >> bit & 1u) != 0u)
#include "common/conv2d.glsl"

#ifdef MASK
layout(set = 0, binding = 1) writeonly restrict buffer Masks {
    uint masks[];
};
layout(set = 0, binding = 6) readonly restrict buffer Head {
    uvec4 head[];
};
#endif
#ifdef POOL
layout(set = 0, binding = 6) writeonly restrict buffer Pooled {
    uvec4 pooled[];
};
#endif
#ifdef DEPTHWISE
layout(set = 0, binding = 6) writeonly restrict buffer Convolved {
    uvec4 convolved[];
};
layout(set = 0, binding = 7) readonly restrict buffer DepthwiseWeights {
    uvec4 depthwise_weights[];
};
#endif
#ifdef PICTURES
layout(set = 0, binding = 2) readonly restrict buffer Pictures {
    uint pixels[];
};
layout(set = 0, binding = 6) writeonly restrict buffer Input {
    uvec4 inputs[];
};
#include "common/normalise.glsl"
#endif
#ifdef SPLIT
layout(set = 0, binding = 6) coherent restrict buffer Partial {
    vec4 partial[];
};
layout(set = 0, binding = 7) coherent restrict buffer Counters {
    uint counters[];
};
#endif

const bool NORM = PROLOGUE == 1;
const uint PIXELS = TILE_WIDTH * TILE_HEIGHT;
const uint HALO_WIDTH = TILE_WIDTH + 2;
const uint HALO_PIXELS = HALO_WIDTH * (TILE_HEIGHT + 2);
#ifdef THIN // the margin is no part of a stage
const bool WIDE = false, POINT = true;
#else
const bool WIDE = KERNEL0 == 3 || KERNEL1 == 3 || KERNEL2 == 3;  // some term has a margin
const bool POINT = KERNEL0 < 3 || KERNEL1 == 1 || KERNEL1 == 2 || KERNEL2 == 1 || KERNEL2 == 2; // some has none
#endif
const uint STAGE_PIXELS = WIDE ? HALO_PIXELS : PIXELS;
// Shared memory is in units of 16 bytes. One more than a row needs spreads the rows over the banks.
const uint ROW = DEPTH + 1;
const uint STEP_WEIGHTS = TAPS * CHANNELS;
const uint WEIGHTS_AT = BUFFERS * STAGE_PIXELS * ROW;
#ifdef RESIZED
// Pixels at half size, whose rows need no spreading, lie where the next step's weights would, if there is room.
const uint LOW_PIXELS = (TILE_WIDTH / 2 + 2) * (TILE_HEIGHT / 2 + 2);
const bool LOW_APART = LOW_PIXELS * DEPTH > STEP_WEIGHTS * ROW;
#else
const uint LOW_PIXELS = 0;
const bool LOW_APART = true;
#endif
// Steps' weights that there is room for: one where steps are stages of one buffer, before which a barrier comes anyway.
#ifdef RESIZED
const uint WEIGHT_BUFFERS = 2;
#else
const uint WEIGHT_BUFFERS = BUFFERS == 2 ? 2 : WIDE ? (TAPS == 9 ? 1 : 2) : 1;
#endif
const uint LOW_AT = WEIGHTS_AT + WEIGHT_BUFFERS * STEP_WEIGHTS * ROW;
const uint LOOP_SHARED = LOW_AT + (LOW_APART ? LOW_PIXELS * DEPTH : 0);
const uint BLOCK_ROWS = PIXELS / M / ROWS, BLOCK_COLUMNS = CHANNELS / N / COLUMNS; // matrices of a subgroup
const uint BLOCK_CELLS = CHANNELS / COLUMNS / 8;
const uint ACROSS = TILE_WIDTH / M; // matrices of pixels side by side
const bool BY_COLUMNS = TAPS % 3 == 0 && BLOCK_ROWS % ACROSS == 0; // of the kernel: a subgroup has whole rows of pixels
// At the end the sums of each subgroup go to shared memory, in f32: of all of its pixels at a time or of as many as fit,
// M at least; with NORM half of their channels, so that there is room for the moments. PACKED: as f16. Behind it all a
// row of biases, and with NORM one of the sums of weights.
const uint END_ODD = BLOCK_COLUMNS % 2 + BLOCK_CELLS % 2;
const uint END_PARTS = NORM ? (END_ODD + PACKED == 0 ? 2 : 1) : 1;
const uint END_COLUMNS = BLOCK_COLUMNS / END_PARTS, END_CELLS = BLOCK_CELLS / END_PARTS;
const uint END_UNITS = 2 - PACKED; // of a cell
const uint END_PITCH = END_UNITS * END_CELLS + 1, END_STRIPE = ROWS * COLUMNS * M * END_PITCH; // one more for the banks
// Lanes that share a pixel's cells of a stage: as many as there are, of as many cells each.
const uint LANES_THERE = LOCAL / PIXELS >= 8 ? 8 : LOCAL / PIXELS >= 4 ? 4 : LOCAL / PIXELS >= 2 ? 2 : 1;
const uint CELLS_SHARED = DEPTH % 8 == 0 ? 8 : DEPTH % 4 == 0 ? 4 : DEPTH % 2 == 0 ? 2 : 1;
const uint PARTS = LANES_THERE < CELLS_SHARED ? LANES_THERE : CELLS_SHARED;
const uint NORM_ITEMS = PIXELS * PARTS, NORM_OWN = (NORM_ITEMS + LOCAL - 1) / LOCAL;
// [part][pixel], and packed each pixel's 1 / deviation and -mean / deviation.
const uint NORM_SHARED = NORM ? NORM_ITEMS + PACKED * (PIXELS / 2) : 0;
#ifdef DEPTHWISE // all of a tile
const uint WHOLE_PITCH = CHANNELS / 8 + 1, WHOLE = PIXELS * WHOLE_PITCH;
#else
const uint WHOLE = 0;
#endif
// Matrices at a time: all that there are, half or a quarter of them, or one.
const uint HALF_ROWS = BLOCK_ROWS % 2 == 0 ? BLOCK_ROWS / 2 : 1, QUARTER_ROWS = BLOCK_ROWS % 4 == 0 ? BLOCK_ROWS / 4 : 1;
const uint END_THERE = LOOP_SHARED > WHOLE + NORM_SHARED ? LOOP_SHARED : WHOLE + NORM_SHARED;
const uint END_ROOM = END_THERE > NORM_SHARED ? (END_THERE - NORM_SHARED) / END_STRIPE : 0;
const uint END_ROWS = BLOCK_ROWS <= END_ROOM     ? BLOCK_ROWS
                      : HALF_ROWS <= END_ROOM    ? HALF_ROWS
                      : QUARTER_ROWS <= END_ROOM ? QUARTER_ROWS
                                                 : 1;
const uint END_MOST = END_ROWS * END_STRIPE > WHOLE ? END_ROWS * END_STRIPE : WHOLE;
const uint NORM_AT = END_MOST, SCALE_AT = NORM_AT + NORM_ITEMS, SHIFT_AT = SCALE_AT + PIXELS / 4;
const uint END_SHARED = NORM_AT + NORM_SHARED;
const uint BIAS_AT = LOOP_SHARED > END_SHARED ? LOOP_SHARED : END_SHARED, BIAS_ROW = CHANNELS / 4;
const uint BIAS_LOADS = (BIAS_ROW + LOCAL - 1) / LOCAL;
const uint END_COUNT = END_ROWS * M * END_CELLS; // of a subgroup's cells at a time
const uint SUBGROUP = LOCAL / (ROWS * COLUMNS), END_STEPS = (END_COUNT + SUBGROUP - 1) / SUBGROUP; // a lane's cells
// PACKED: a residual of half the size is resized in blocks of 2x2, if what leaves at a time is whole pairs of rows of
// pixels.
const uint END_ODD_ROWS = END_ROWS % (2 * ACROSS) + (1 - PACKED);
const bool END_BLOCKS = RESIDUAL == 2 && END_ODD_ROWS == 0;
// Cells that are waited for together.
const uint END_AHEAD = RESIDUAL == 2 ? 2 : PACKED == 1 || RESIDUAL == 1 ? 4 : 1;
const uint AHEAD = UNROLLED || END_STEPS < END_AHEAD ? END_STEPS : END_AHEAD;
#ifdef RESIZED
const uint LOW_LOADS = (LOW_PIXELS * DEPTH + LOCAL - 1) / LOCAL;
const uint BLOCK_LOADS = (STAGE_PIXELS / 4 * DEPTH + LOCAL - 1) / LOCAL; // blocks of 2x2 pixels
const uint PIXEL_LOADS = 4 * BLOCK_LOADS;
#elif defined(THIN)
const uint PIXEL_LOADS = (HALO_PIXELS + LOCAL - 1) / LOCAL;
#else
const uint PIXEL_LOADS = (STAGE_PIXELS * DEPTH + LOCAL - 1) / LOCAL;
#endif
const uint POINT_LOADS = (PIXELS * DEPTH + LOCAL - 1) / LOCAL;
const uint WEIGHT_LOADS = (STEP_WEIGHTS * DEPTH + LOCAL - 1) / LOCAL;
// The image is one row of pixels.
const bool JOINED = KERNEL0 == 1 && KERNEL1 < 2 && KERNEL2 < 2 && RESIDUAL != 2 && TILE_HEIGHT == 1;
const bool MERGES = KERNEL0 == 2 || KERNEL1 == 2 || KERNEL2 == 2;
const bool ALIGNED = LOCAL % DEPTH == 0; // all that a lane copies is of one cell of a stage
const uint PARTIAL_CELLS = CHANNELS / 8 + (NORM ? 1 : 0), PART = PIXELS * PARTIAL_CELLS * 2; // what a split leaves

#ifdef MASK
const uint HEAD_AT = BIAS_AT + BIAS_ROW, HEAD_ROW = BIAS_ROW + 1; // [cell][8] f32, then the bias
const uint HEAD_LOADS = (HEAD_ROW + LOCAL - 1) / LOCAL;
uvec4 head_next[HEAD_LOADS];
#else
const uint HEAD_ROW = 0;
#endif
#ifdef DEPTHWISE
const uint DEPTHWISE_AT = BIAS_AT + (NORM ? 2 : 1) * BIAS_ROW, DEPTHWISE_ROW = 11 * (CHANNELS / 8); // [unit][cell]
const uint DEPTHWISE_LOADS = (DEPTHWISE_ROW + LOCAL - 1) / LOCAL;
uvec4 depthwise_next[DEPTHWISE_LOADS];
#else
const uint DEPTHWISE_ROW = 0;
#endif

shared uvec4 memory[BIAS_AT + (NORM ? 2 : 1) * BIAS_ROW + HEAD_ROW + DEPTHWISE_ROW];
shared bool last;

// What this lane copies. Loads depend on no condition: a compiler would wait for their results at once, to choose between
// those and zero, and not after the products of the stage before.
int wide_pixel[PIXEL_LOADS];    // -1 outside, where shared memory gets zeros
uint point_pixel[POINT_LOADS];  // outside some pixel, of which nothing is stored; kept unless there is a margin too
uint merged_pixel[POINT_LOADS]; // of kernel 2's first tap
// NORM: of the pixels and parts of them whose moments this lane sums up.
float shift[NORM_OWN];
vec2 moments[NORM_OWN];
uvec4 pixel_next[PIXEL_LOADS], weight_next[WEIGHT_LOADS], bias_next[(NORM ? 2 : 1) * BIAS_LOADS];
coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[BLOCK_ROWS * BLOCK_COLUMNS];

// Where the work of a workgroup stands.
struct place {
    uint term, stage, cell; // stage: of all; cell: the stage's first in its term
    uint tap;               // the step's first, or of kernel 2 the stage's
    uint weights;           // the step's first, in units of 16 bytes
};

// The first pixel of the workgroup's tile and the image row it is in.
ivec3 tile_origin() {
    uint tile = gl_WorkGroupID.x + (SPLITS == 1 ? gl_WorkGroupID.z * gl_NumWorkGroups.x : 0);
    if (JOINED) {
        return ivec3(tile * TILE_WIDTH, 0, 0);
    }
    uint across = p.tiles_across, tiles_down = p.tiles_down, margin = 0, down, image;
    float across_reciprocal = p.across_reciprocal, down_reciprocal = p.down_reciprocal;
#ifdef DEPTHWISE
    if (gl_WorkGroupID.y < p.convolved) {
        margin = 2; // that a tile shares with the next
    } else {
        across = (p.width + TILE_WIDTH - 1) / TILE_WIDTH, tiles_down = (p.height + TILE_HEIGHT - 1) / TILE_HEIGHT;
        across_reciprocal = p.plain_across_reciprocal, down_reciprocal = p.plain_down_reciprocal;
    }
#endif
    if (tile < HYMN_DIVIDE_END) {
        down = hymn_divide(tile, across_reciprocal), image = hymn_divide(down, down_reciprocal);
    } else {
        down = tile / across, image = down / tiles_down;
    }
    uint x = tile - down * across, y = down - image * tiles_down;
    return ivec3(x * (TILE_WIDTH - margin), y * (TILE_HEIGHT - margin), image);
}

// Of a pixel of an image's output: -1 outside, else 0. By signs, as && takes a branch and vectors of bool registers.
int outside(ivec3 at) {
    int x = at.x | (int(p.width) - 1 - at.x), y = JOINED ? 0 : at.y | (int(p.height) - 1 - at.y);
    return (x | y) >> 31;
}

int pixel_at(ivec3 at) {
    return JOINED ? at.x : (at.z * int(p.height) + at.y) * int(p.width) + at.x;
}

// The i-th cell that this lane copies of a stage's pixels or of a step's weights: the pixel or the tap's channel, and
// where it goes in shared memory.
uint copied_row(uint i) {
    return ALIGNED ? gl_LocalInvocationID.x / DEPTH + i * (LOCAL / DEPTH) : (gl_LocalInvocationID.x + i * LOCAL) / DEPTH;
}

uint copied_cell(uint i) {
    return ALIGNED ? gl_LocalInvocationID.x % DEPTH : (gl_LocalInvocationID.x + i * LOCAL) % DEPTH;
}

uint copied_to(uint i) {
    uint first = gl_LocalInvocationID.x / DEPTH * ROW + gl_LocalInvocationID.x % DEPTH;
    return ALIGNED ? first + i * (LOCAL / DEPTH * ROW) : copied_row(i) * ROW + copied_cell(i);
}

#ifdef RESIZED
#include "common/conv2d_matrix_resized.glsl"
#endif
#ifdef THIN
#include "common/conv2d_matrix_thin.glsl"
#endif
#ifdef DEPTHWISE
#include "common/conv2d_matrix_depthwise.glsl"
#endif

// Of the i-th cell that this lane copies of a stage without a margin.
ivec3 point_at(ivec3 origin, uint i) {
    int pixel = int(copied_row(i)), y = pixel / int(TILE_WIDTH);
    return origin + ivec3(pixel - y * int(TILE_WIDTH), y, 0);
}

uint point_of(ivec3 origin, uint i) {
    ivec3 at = point_at(origin, i);
    return WIDE && !MERGES ? uint(max(pixel_at(at) | outside(at), 0)) : point_pixel[i];
}

void locate(ivec3 origin) {
#ifdef RESIZED
    locate_blocks(origin);
#elif defined(THIN)
    locate_thin(origin);
#else
    if (WIDE) {
        [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
            int pixel = int(copied_row(i)), y = pixel / int(HALO_WIDTH);
            ivec3 at = origin + ivec3(pixel - y * int(HALO_WIDTH) - 1, y - 1, 0);
            wide_pixel[i] = pixel_at(at) | outside(at);
        }
    }
    if (POINT && (!WIDE || MERGES)) {
        [[unroll]] for (uint i = 0; i < POINT_LOADS; i++) {
            ivec3 at = point_at(origin, i);
            int beyond = outside(at);
            point_pixel[i] = uint(max(pixel_at(at) | beyond, 0));
            if (MERGES) {
                int row = at.z * int(p.height) + at.y;
                merged_pixel[i] = uint(max((row * 4 * int(p.width) + 2 * at.x) | beyond, 0));
            }
        }
    }
#endif
}

#include "common/conv2d_matrix_norm.glsl"

uint kernel_of(uint term) {
    return term == 0 ? KERNEL0 : term == 1 ? KERNEL1 : KERNEL2;
}

bool is_wide(uint term) {
    return !POINT || WIDE && kernel_of(term) == 3;
}

uint cells_of(uint term) {
#ifdef THIN
    return p.cells0;
#else
    return term == 0 ? p.cells0 : term == 1 ? p.cells1 : p.cells2;
#endif
}

uint stages_of(uint term) {
    uint kernel = kernel_of(term);
    return kernel == 0 ? 0 : (cells_of(term) + DEPTH - 1) / DEPTH * (kernel == 2 ? 4 : 1);
}

// The first step of a stage.
place stage_place(uint stage) {
    place at = place(0, stage, 0, 0, 0);
    [[unroll]] for (uint term = 0; term < 3; term++) {
        uint stages = stages_of(term), taps = kernel_of(term) == 3 ? 9 : 1;
        if (at.term == term && stage >= stages && term < 2) {
            at.term = term + 1;
            stage -= stages;
            at.weights += stages * taps;
        } else if (at.term == term) {
            at.weights += stage * taps;
        }
    }
    at.cell = stage;
    if (kernel_of(at.term) == 2) {
        uint chunks = stages_of(at.term) / 4;
        at.tap = stage / chunks;
        at.cell -= at.tap * chunks;
    }
    at.cell *= DEPTH;
    at.weights *= CHANNELS * DEPTH;
    return at;
}

// To the next step: weights lie in the order of the steps.
void advance(inout place at) {
    bool wide = is_wide(at.term);
    at.weights += (wide ? TAPS : 1) * (CHANNELS * DEPTH);
    if (wide) {
        at.tap += TAPS;
        if (at.tap < 9) {
            return;
        }
        at.tap = 0;
    }
    at.stage++;
    at.cell += DEPTH;
    if (at.cell >= cells_of(at.term)) {
        at.cell = 0;
        if (MERGES && kernel_of(at.term) == 2 && at.tap < 3) {
            at.tap++;
        } else {
            at.tap = 0;
            at.term++;
        }
    }
}

// Cells beyond the term's are its last again, and their weights zero.
#define LOAD_PIXELS(n, words)                                                                                          \
    uint row = at.tap & 1, x = at.tap >> 1; /* of kernel 2 */                                                          \
    [[unroll]] for (uint i = 0; i < (KERNEL##n == 3 ? PIXEL_LOADS : POINT_LOADS); i++) {                               \
        uint cell = min(at.cell + copied_cell(i), p.cells##n - 1);                                                     \
        uint pixel = KERNEL##n == 3   ? uint(max(wide_pixel[i], 0))                                                    \
                     : KERNEL##n == 2 ? merged_pixel[i] + row * (2 * p.width) + x                                      \
                                      : point_of(origin, i);                                                           \
        pixel_next[i] = words[pixel * p.stride##n + (p.first##n + cell)];                                              \
    }

void load_pixels(place at, ivec3 origin) {
#ifdef RESIZED
    load_blocks(at);
#elif defined(THIN)
    load_thin(origin);
#else
    if (KERNEL1 == 0 && KERNEL2 == 0 || at.term == 0) {
        LOAD_PIXELS(0, source0)
    } else if (KERNEL1 != 0 && (KERNEL2 == 0 || at.term == 1)) {
        LOAD_PIXELS(1, source1)
    } else if (KERNEL2 != 0) {
        LOAD_PIXELS(2, source2)
    }
#endif
}

uint weights_of_step(place at) {
    return (is_wide(at.term) ? TAPS : 1) * CHANNELS * DEPTH;
}

void load_weights(place at) {
    uint base = gl_WorkGroupID.y * p.tile_weights + at.weights, end = weights_of_step(at) - 1;
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        weight_next[i] = weights[base + min(gl_LocalInvocationID.x + i * LOCAL, end)];
    }
}

void load_bias() {
    uint first = gl_WorkGroupID.y * BIAS_ROW, end = 2 * p.out_stride - 1;
    [[unroll]] for (uint i = 0; i < BIAS_LOADS; i++) {
        uint at = min(first + min(gl_LocalInvocationID.x + i * LOCAL, BIAS_ROW - 1), end);
        bias_next[i] = weights[p.bias_at + at];
        if (NORM) {
            bias_next[BIAS_LOADS + i] = weights[p.weight_sums_at + at];
        }
    }
#ifdef DEPTHWISE
    load_depthwise();
#endif
#ifdef MASK
    [[unroll]] for (uint i = 0; i < HEAD_LOADS; i++) {
        head_next[i] = head[min(gl_LocalInvocationID.x + i * LOCAL, 2 * p.out_stride)];
    }
#endif
}

void share_bias() {
    [[unroll]] for (uint i = 0; i < BIAS_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LOCAL;
        if (at < BIAS_ROW) {
            memory[BIAS_AT + at] = bias_next[i];
            if (NORM) {
                memory[BIAS_AT + BIAS_ROW + at] = bias_next[BIAS_LOADS + i];
            }
        }
    }
#ifdef DEPTHWISE
    share_depthwise();
#endif
#ifdef MASK
    [[unroll]] for (uint i = 0; i < HEAD_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LOCAL;
        if (at <= 2 * p.out_stride) {
            memory[HEAD_AT + at] = head_next[i];
        }
    }
#endif
}

void share_pixels(place at, uint buffer_at) {
#ifdef RESIZED
    share_blocks(at, buffer_at);
#elif defined(THIN)
    share_taps(buffer_at);
#else
    bool wide = is_wide(at.term);
    uint end = (wide ? STAGE_PIXELS : PIXELS) * DEPTH;
    [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
        if (gl_LocalInvocationID.x + i * LOCAL < end) {
            uint kept = WIDE && wide ? ~uint(wide_pixel[i] >> 31) : 0xFFFFFFFFu;
            memory[buffer_at + copied_to(i)] = pixel_next[i] & kept;
        }
    }
#endif
}

void share_weights(place at, uint buffer_at) {
    uint end = weights_of_step(at);
    [[unroll]] for (uint i = 0; i < WEIGHT_LOADS; i++) {
        if (gl_LocalInvocationID.x + i * LOCAL < end) {
            memory[buffer_at + copied_to(i)] = weight_next[i];
        }
    }
}

// One tap of the step that is in shared memory: its first pixel and its weights there.
void multiply(uint pixels_at, uint weights_at, uint pixels_across) {
    uint block_row = gl_SubgroupID / COLUMNS * BLOCK_ROWS, block_column = gl_SubgroupID % COLUMNS * BLOCK_COLUMNS;
    [[unroll]] for (uint k = 0; k < DEPTH * 8 / K; k++) {
        coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b[BLOCK_COLUMNS];
        [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
            coopMatLoad(b[j], memory, weights_at + (block_column + j) * N * ROW + k * (K / 8), ROW,
                        gl_CooperativeMatrixLayoutColumnMajor);
        }
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            uint first = (block_row + i) * M; // M pixels side by side
            uint pixel = first / TILE_WIDTH * pixels_across + first % TILE_WIDTH;
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
            coopMatLoad(a, memory, pixels_at + pixel * ROW + k * (K / 8), ROW, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                sums[i * BLOCK_COLUMNS + j] = coopMatMulAdd(a, b[j], sums[i * BLOCK_COLUMNS + j]);
            }
        }
    }
}

// Three taps, one above the other: pixels that are loaded serve all three.
void multiply_column(uint pixels_at, uint weights_at) {
    uint block_row = gl_SubgroupID / COLUMNS * BLOCK_ROWS, block_column = gl_SubgroupID % COLUMNS * BLOCK_COLUMNS;
    [[unroll]] for (uint k = 0; k < DEPTH * 8 / K; k++) {
        coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[BLOCK_ROWS + 2 * ACROSS];
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS + 2 * ACROSS; i++) {
            uint pixel = (block_row / ACROSS + i / ACROSS) * HALO_WIDTH + i % ACROSS * M;
            coopMatLoad(a[i], memory, pixels_at + pixel * ROW + k * (K / 8), ROW, gl_CooperativeMatrixLayoutRowMajor);
        }
        [[unroll]] for (uint y = 0; y < 3; y++) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b[BLOCK_COLUMNS];
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                uint from = weights_at + (y * CHANNELS + (block_column + j) * N) * ROW + k * (K / 8);
                coopMatLoad(b[j], memory, from, ROW, gl_CooperativeMatrixLayoutColumnMajor);
            }
            [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
                [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                    sums[i * BLOCK_COLUMNS + j] = coopMatMulAdd(a[i + y * ACROSS], b[j], sums[i * BLOCK_COLUMNS + j]);
                }
            }
        }
    }
}

// Taps go down the columns of the kernel.
void multiply_step(place at, uint pixels_at, uint weights_at) {
    if (is_wide(at.term) && BY_COLUMNS) {
        [[unroll]] for (uint t = 0; t < TAPS; t += 3) {
            multiply_column(pixels_at + (at.tap + t) / 3 * ROW, weights_at + t * CHANNELS * ROW);
        }
    } else if (is_wide(at.term)) {
        [[unroll]] for (uint t = 0; t < TAPS; t++) {
            uint tap = at.tap + t, x = tap / 3, y = tap - 3 * x;
            multiply(pixels_at + (y * HALO_WIDTH + x) * ROW, weights_at + t * CHANNELS * ROW, HALO_WIDTH);
        }
    } else if (POINT) {
        multiply(pixels_at, weights_at, TILE_WIDTH);
        if (NORM) {
            add_moments(at, pixels_at);
        }
    }
}

// From a step on whose weights and pixels have been loaded.
void sum_up(place at, uint end_stage, ivec3 origin) {
    uint pixels_at = 0, weights_at = WEIGHTS_AT;
    share_weights(at, weights_at);
#ifdef RESIZED
    share_low(at, weights_at);
    barrier();
#elif defined(THIN)
    share_thin();
    barrier();
#endif
    share_pixels(at, pixels_at);
    share_bias();
    while (true) {
        barrier();
        place next = at;
        advance(next);
        bool more = ONE ? WIDE && at.tap + TAPS < 9 : next.stage < end_stage;
        bool stage = !ONE && more && next.stage != at.stage;
        if (more) {
            load_weights(next);
        }
        if (stage) {
            load_pixels(next, origin);
        }
        multiply_step(at, pixels_at, weights_at);
        if (!more) {
            break;
        }
        if (stage) {
#ifdef RESIZED
            share_low(next, weights_at); // where nothing has read since the last barrier
#endif
            if (BUFFERS == 1 || LOW_PIXELS > 0) {
                barrier();
            }
            if (BUFFERS == 2) {
                pixels_at = STAGE_PIXELS * ROW - pixels_at;
            }
            share_pixels(next, pixels_at);
        }
        if (WEIGHT_BUFFERS == 2 && (LOW_APART || !stage)) {
            weights_at = 2 * WEIGHTS_AT + STEP_WEIGHTS * ROW - weights_at;
        }
        share_weights(next, weights_at);
        at = next;
    }
}

#include "common/conv2d_matrix_end.glsl"

#ifdef SPLIT
#include "common/conv2d_matrix_split.glsl"
#endif

void main() {
    uint stages = stages_of(0) + stages_of(1) + stages_of(2);
    uint split = SPLITS == 1 ? 0 : gl_WorkGroupID.z;
    place at = SPLITS == 1 ? place(0, 0, 0, 0, 0) : stage_place(stages * split / SPLITS);
    load_weights(at);
    load_bias();
    ivec3 origin = tile_origin();
    if (JOINED ? uint(origin.x) >= p.width : origin.z * p.height >= p.rows) {
        return; // the last layer of the dispatch has no tile for each of its workgroups
    }
    locate(origin);
    load_pixels(at, origin);
    if (NORM) {
        start_moments(origin);
    }
    [[unroll]] for (uint i = 0; i < BLOCK_ROWS * BLOCK_COLUMNS; i++) {
        sums[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    }
    uint tile = gl_WorkGroupID.x * gl_NumWorkGroups.y + gl_WorkGroupID.y;
    sum_up(at, stages * (split + 1) / SPLITS, origin);
    uint partial_at = (tile * SPLITS + split) * PART;
    if (NORM) {
        join_moments(partial_at);
    }
    write_sums(origin, partial_at);
#ifdef SPLIT
    join_splits(origin, tile);
#endif
}
