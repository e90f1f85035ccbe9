// SPDX-License-Identifier: MIT
//
// Convolution and GEMM for software devices:
//   out[pixel][o] = act(sum over terms, taps, k of in(term)[pixel + tap][k] * w[o][term][tap][k] + bias[o] + residual)
//   in, out: [rows, width] pixels of cells (eight channels), f32 or f16; zero outside; w: [tile][step][CHANNELS] cells of
//   eight k. A step is one cell of k: of one tap, or with WIDE of the three taps of a kernel row.
// One workgroup = one subgroup. A lane owns a strip of STRIP pixels side by side times CHANNELS output channels, all in
// registers. Why so: on llvmpipe a load with a lane-varying address is a scalar loop over the lanes, and so is one with
// the same address in every lane once it stands in a loop, whereas a shuffle from a constant lane is one instruction. The
// lanes therefore load a different channel's weights each, and every value loaded is used for STRIP * CHANNELS / LANES or
// more products. A loop leaves at its end: leaving at its beginning would run the body once more with no lane active.
// Everything a layer may differ in is a push constant, so that a network needs few pipelines.
// Defines: WIDE 1: 3x3 terms, then 1x1 terms; 0: 1x1 terms, or one 2x2 term of stride 2. LANES: of a subgroup, 4 or 8.
// Specialization: 0 local size (= subgroup size); 1 storage: bit set = f16, bits 0..2 sources, 3 residual,
//   6 weights; 2 how many sources may be read; 3 SiLU; 4 whether the residual may be of half the size.
// Bindings: 0 weights, then bias f32; 1 output; 2..4 sources (with a prologue 3 is the stats [pixel]{mean, rstd} f32);
//   5 residual.
// Sums in f32: eight products at a time, in the order of the steps.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/load.glsl"
#include "params.h"

#define STRIP 8
#define CHANNELS 16
#define PART 2 // pixels of a cell of channels that are finished at a time
#define PARTS (STRIP * CHANNELS / 8 / PART)
#define EDGE WIDE // pixels read on either side of a strip

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint storage = 0;
layout(constant_id = 2) const uint sources = 3;
layout(constant_id = 3) const uint silu = 0;
layout(constant_id = 4) const uint resizes = 1;
layout(push_constant) uniform Push {
    hymn_conv2d_params p;
};
layout(set = 0, binding = 0) readonly restrict buffer Weights {
    uvec4 weights[];
};
layout(set = 0, binding = 1) writeonly restrict buffer Output {
    uvec4 result[];
};
layout(set = 0, binding = 2) readonly restrict buffer Source0 {
    uvec4 source0[];
};
layout(set = 0, binding = 3) readonly restrict buffer Source1 {
    uvec4 source1[];
};
layout(set = 0, binding = 3) readonly restrict buffer Stats {
    vec2 stats[];
};
layout(set = 0, binding = 4) readonly restrict buffer Source2 {
    uvec4 source2[];
};
layout(set = 0, binding = 5) readonly restrict buffer Residual {
    uvec4 residual[];
};
#define IS_HALF(bit) ((storage >> bit & 1u) != 0u)

// The strip of input pixels of one step; the sums, [cell of channels][pixel][8], and a part of them; the place in the
// weights, in cells.
hymn_cell strip[STRIP + 2 * EDGE];
float sums[STRIP * CHANNELS], part[PART * 8];
int weight_at;

// strip[i] = valid ? the cell at `at` of `words` : 0. The choice is made before unpacking, on fewer words.
#define FETCH(i, words, bit, at, valid)                                                                                \
    {                                                                                                                  \
        int from = (valid) ? (at) : 0;                                                                                 \
        if (IS_HALF(bit)) {                                                                                            \
            uvec4 cell = words[from];                                                                                  \
            strip[i] = hymn_cell_unpack((valid) ? cell : uvec4(0));                                                    \
        } else {                                                                                                       \
            uvec4 lo = words[2 * from], hi = words[2 * from + 1];                                                      \
            strip[i] = hymn_cell(uintBitsToFloat((valid) ? lo : uvec4(0)), uintBitsToFloat((valid) ? hi : uvec4(0)));  \
        }                                                                                                              \
    }

// Adds the products of strip[shift...] and the next CHANNELS cells of weights.
#define ACCUMULATE(shift)                                                                                              \
    [[unroll]] for (int block = 0; block < CHANNELS; block += LANES) {                                                 \
        hymn_cell w;                                                                                                   \
        int from = weight_at + block + lane;                                                                           \
        HYMN_LOAD_CELL(w, weights, from, IS_HALF(6))                                                                   \
        [[unroll]] for (int c = 0; c < LANES; c++) {                                                                   \
            vec4 lo = subgroupShuffle(w.lo, uint(c)), hi = subgroupShuffle(w.hi, uint(c));                             \
            [[unroll]] for (int i = 0; i < STRIP; i++) {                                                               \
                int to = ((block + c) / 8 * STRIP + i) * 8 + (block + c) % 8;                                          \
                sums[to] += dot(strip[i + shift].lo, lo) + dot(strip[i + shift].hi, hi);                               \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    weight_at += CHANNELS;

// The terms of kernel 3, then those of kernel 1, of sources 0, 1 and 2: a step is a cell of one kernel row. One loop for
// both, so that the products stand in the code only once.
#if WIDE
void wide_terms(int row, int x0, bool live, int lane) {
    int width = int(p.width), height = int(p.height);
    int y = row - row / height * height;
    int cells = int(p.cells0), stride = int(p.stride0), first = int(p.first0);
    int wide = int(p.wide_terms), terms = wide + int(p.point_terms);
    int slot = 0, reach = 1, cell = 0, tap_row = -1;
    for (;;) {
        bool inside = live && y + tap_row >= 0 && y + tap_row < height;
        int left = x0 - reach;
        int base = ((row + tap_row) * width + left) * stride + first + cell;
        [[unroll]] for (int i = 0; i < STRIP + 2; i++) {
            bool valid = inside && left + i >= 0 && left + i < width;
            int at = base + i * stride;
            if (slot == 0) {
                FETCH(i, source0, 0, at, valid)
            } else if (sources < 3 || slot == 1) {
                FETCH(i, source1, 1, at, valid)
            } else {
                FETCH(i, source2, 2, at, valid)
            }
        }
        for (int tap = -reach;;) { // not unrolled, as drivers take time for code: the strip moves by a pixel instead
            ACCUMULATE(0)
            [[unroll]] for (int i = 0; i < STRIP + 1; i++) {
                strip[i] = strip[i + 1];
            }
            tap++;
            if (tap > reach) {
                break;
            }
        }
        cell++;
        if (cell == cells) {
            cell = 0;
            tap_row++;
        }
        if (tap_row > reach) {
            slot++;
            reach = slot < wide ? 1 : 0;
            tap_row = -reach;
            cells = int(slot == 1 ? p.cells1 : p.cells2);
            stride = int(slot == 1 ? p.stride1 : p.stride2);
            first = int(slot == 1 ? p.first1 : p.first2);
        }
        if (slot == terms) {
            break;
        }
    }
}
#endif

// The terms of kernel 1, of sources 0, 1 and 2; or source 0's of kernel 2.
#if !WIDE
vec2 strip_stats[STRIP];

void normalize() {
    [[unroll]] for (int i = 0; i < STRIP; i++) {
        strip[i].lo = (strip[i].lo - strip_stats[i].x) * strip_stats[i].y;
        strip[i].hi = (strip[i].hi - strip_stats[i].x) * strip_stats[i].y;
    }
}

// What leaves the source as it is where there are no stats.
void load_stats(int row, int x0, bool live) {
    bool normalised = (p.modes & 2u) != 0u;
    [[unroll]] for (int i = 0; i < STRIP; i++) {
        int pixel = normalised && live && x0 + i < int(p.width) ? row * int(p.width) + x0 + i : 0;
        strip_stats[i] = normalised ? stats[pixel] : vec2(0.0, 1.0);
    }
}

void point_terms(int row, int x0, bool live, int lane) {
    int width = int(p.width), scale = int(p.scale);
    int slot = 0;
    int cells = int(p.cells0), stride = int(p.stride0), first = int(p.first0);
    int cell = 0, tap = 0, terms = int(p.point_terms);
    for (;;) {
        int base = ((row * scale + (tap & 1)) * width + x0) * scale + (tap >> 1);
        [[unroll]] for (int i = 0; i < STRIP; i++) {
            bool valid = live && x0 + i < width;
            int at = (base + i * scale) * stride + first + cell;
            if (sources == 1 || slot == 0) {
                FETCH(i, source0, 0, at, valid)
            } else if (slot == 1) {
                FETCH(i, source1, 1, at, valid)
            } else {
                FETCH(i, source2, 2, at, valid)
            }
        }
        if (sources == 1) {
            normalize();
        }
        ACCUMULATE(0)
        cell++;
        if (cell == cells) {
            cell = 0;
            tap++;
        }
        if (tap == scale * scale) {
            tap = 0;
            terms--;
            slot++;
            bool second = slot == 1;
            cells = int(second ? p.cells1 : p.cells2);
            stride = int(second ? p.stride1 : p.stride2);
            first = int(second ? p.first1 : p.first2);
        }
        if (terms == 0) {
            break;
        }
    }
}
#endif

// Adds the residual of the same size to the part.
void add_same(int row, int x, bool live, int channel_cell) {
    int cell = int(p.residual_first) + min(channel_cell, int(p.out_stride) - 1);
    [[unroll]] for (int i = 0; i < PART; i++) {
        int pixel = live && x + i < int(p.width) ? row * int(p.width) + x + i : 0;
        hymn_cell r;
        int at = pixel * int(p.residual_stride) + cell;
        HYMN_LOAD_CELL(r, residual, at, IS_HALF(3))
        [[unroll]] for (int k = 0; k < 4; k++) {
            part[i * 8 + k] += r.lo[k];
            part[i * 8 + 4 + k] += r.hi[k];
        }
    }
}

// Likewise the residual of half the size, resized: weights 1/4 and 3/4 of the two nearest rows and columns, edges
// clamped.
void add_resized(int row, int x, bool live, int channel_cell) {
    int height = int(p.height), half_width = int(p.width) / 2, half_height = height / 2;
    int image = row / height, y = row - image * height;
    int y0 = (y - 1) >> 1;
    float down = (y & 1) == 0 ? 0.75 : 0.25;
    int upper = live ? (image * half_height + max(y0, 0)) * half_width : 0;
    int lower = live ? (image * half_height + min(y0 + 1, half_height - 1)) * half_width : 0;
    int cell = int(p.residual_first) + min(channel_cell, int(p.out_stride) - 1);
    hymn_cell column[PART / 2 + 2];
    [[unroll]] for (int i = 0; i < PART / 2 + 2; i++) {
        int from = clamp(x / 2 - 1 + i, 0, half_width - 1);
        hymn_cell a, b;
        int at = (upper + from) * int(p.residual_stride) + cell;
        HYMN_LOAD_CELL(a, residual, at, IS_HALF(3))
        at = (lower + from) * int(p.residual_stride) + cell;
        HYMN_LOAD_CELL(b, residual, at, IS_HALF(3))
        column[i] = hymn_cell(mix(a.lo, b.lo, down), mix(a.hi, b.hi, down));
    }
    [[unroll]] for (int i = 0; i < PART; i++) {
        int left = (i + 1) / 2;
        float right = (i & 1) == 0 ? 0.75 : 0.25;
        vec4 lo = mix(column[left].lo, column[left + 1].lo, right);
        vec4 hi = mix(column[left].hi, column[left + 1].hi, right);
        [[unroll]] for (int k = 0; k < 4; k++) {
            part[i * 8 + k] += lo[k];
            part[i * 8 + 4 + k] += hi[k];
        }
    }
}

vec4 activate(vec4 v) {
    return silu != 0u ? v / (1.0 + exp(-v)) : max(v, vec4(p.least));
}

// Stores the part: a word of four for each pixel, or one after the other two.
void store(int row, int x, bool live, int channel_cell) {
    int at = int(p.bias_at) + 2 * channel_cell;
    vec4 bias_lo = uintBitsToFloat(weights[at]), bias_hi = uintBitsToFloat(weights[at + 1]);
    hymn_cell cells[PART];
    [[unroll]] for (int i = 0; i < PART; i++) {
        vec4 lo, hi;
        [[unroll]] for (int k = 0; k < 4; k++) {
            lo[k] = part[i * 8 + k];
            hi[k] = part[i * 8 + 4 + k];
        }
        cells[i] = hymn_cell(activate(lo + bias_lo), activate(hi + bias_hi));
    }
    bool whole = (p.modes & 1u) != 0u;
    int words = whole ? 2 : 1;
    for (int word = 0;;) {
        [[unroll]] for (int i = 0; i < PART; i++) {
            if (live && x + i < int(p.width) && channel_cell < int(p.out_stride)) {
                int to = (row * int(p.width) + x + i) * int(p.out_stride) + channel_cell;
                uvec4 bits = floatBitsToUint(word == 0 ? cells[i].lo : cells[i].hi);
                result[to * words + word] = whole ? bits : hymn_cell_pack(cells[i]);
            }
        }
        word++;
        if (word == words) {
            break;
        }
    }
}

// Adds the residual, activates and stores: a loop over parts of the sums, as the drivers' compilers would else take as
// long for this as for all of the products.
void finish(int row, int x0, bool live, int channel_cell) {
    for (int index = 0;;) {
        [[unroll]] for (int i = 0; i < PART * 8; i++) {
            part[i] = sums[i];
            [[unroll]] for (int k = 1; k < PARTS; k++) {
                part[i] = index == k ? sums[k * PART * 8 + i] : part[i];
            }
        }
        int x = x0 + index % (STRIP / PART) * PART, cell = channel_cell + index / (STRIP / PART);
        if (p.residual == 1) {
            add_same(row, x, live, cell);
        }
        if (resizes != 0u && p.residual == 2) {
            add_resized(row, x, live, cell);
        }
        store(row, x, live, cell);
        index++;
        if (index == PARTS) {
            break;
        }
    }
}

void main() {
    int lane = int(gl_SubgroupInvocationID) & (LANES - 1);
    int tile = int(gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x);
    int strip_index = tile * int(gl_WorkGroupSize.x) + int(gl_LocalInvocationID.x);
    int row = strip_index / int(p.tiles_across);
    int x0 = (strip_index - row * int(p.tiles_across)) * STRIP;
    bool live = row < int(p.rows);
    int channel_cell = int(gl_WorkGroupID.y) * (CHANNELS / 8);

    // Cells of terms that are not there are 0.
#if WIDE
    int second = p.wide_terms > 1 ? 9 : 1, third = p.wide_terms > 2 ? 9 : 1;
    int tile_cells = 9 * int(p.cells0) + second * int(p.cells1) + third * int(p.cells2);
#else
    int tile_cells = int(p.scale * p.scale * p.cells0 + p.cells1 + p.cells2);
#endif
    weight_at = int(gl_WorkGroupID.y) * tile_cells * CHANNELS;
    [[unroll]] for (int i = 0; i < STRIP * CHANNELS; i++) {
        sums[i] = 0.0;
    }
#if WIDE
    wide_terms(row, x0, live, lane);
#else
    if (sources == 1) {
        load_stats(row, x0, live);
    }
    point_terms(row, x0, live, lane);
#endif
    finish(row, x0, live, channel_cell);
}
