// SPDX-License-Identifier: MIT
//
// Convolution and GEMM through shared memory, for GPUs and for the smallest device class:
//   out[pixel][o] = act(sum over terms, taps, k of in(term)[pixel + tap][k] * w[o][term][tap][k] + bias[o] + residual)
//   in, out: [rows, width] pixels of cells (eight channels), f32 or f16; zero outside. A step is one cell of k of one tap;
//   w: [tile][step][k 8][across * 8 channels], the steps padded with zeros to a multiple of a chunk.
// One workgroup = a tile of PIXELS * team / across pixels by `across` cells of channels; a lane sums PIXELS pixels of one
// cell in registers. A chunk of steps at a time is copied to shared memory while the next ones are on their way. Where
// there are too few tiles to fill the device, local / team teams of lanes share a tile, each summing its part of every
// chunk.
// Specialization: 0 local size; 1 storage: bit set = f16, bits 0..2 sources, 3 residual, 5 output, 6 weights;
//   2 prologue (enum hymn_prologue); 3..5 kernels of the terms, 0 = absent; 6 across; 7 residual: 0 none, 1 same size,
//   2 half size and resized; 8 activation (enum hymn_activation); 9 team: lanes that cover the tile, divides local;
//   10 chunk: steps; 8 * chunk is a multiple of the teams.
// Bindings: common/conv2d.glsl.
// Sums in f32, in the order of the steps within a team, then of the teams.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/load.glsl"
#include "params.h"

#define PIXELS 4

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint local = 128;
layout(constant_id = 1) const uint storage = 0;
layout(constant_id = 2) const uint PROLOGUE = 0;
layout(constant_id = 3) const uint kernel0 = 1;
layout(constant_id = 4) const uint kernel1 = 0;
layout(constant_id = 5) const uint kernel2 = 0;
layout(constant_id = 6) const uint across = 8;
layout(constant_id = 7) const uint RESIDUAL = 0;
layout(constant_id = 8) const uint ACTIVATION = 0;
layout(constant_id = 9) const uint team = 128;
layout(constant_id = 10) const uint chunk_steps = 2;
#define IS_HALF(bit) ((storage >> bit & 1u) != 0u)
#include "common/conv2d.glsl"

const uint teams = local / team;
const uint tile_pixels = PIXELS * (team / across);
const uint input_cells = tile_pixels * chunk_steps; // of a chunk, one a pixel and step
const uint weight_cells = across * 8 * chunk_steps; // of a chunk, one per k and cell of channels
const uint input_loads = (input_cells + local - 1) / local;
const uint weight_loads = (weight_cells + local - 1) / local;

shared float inputs[chunk_steps * 8 * tile_pixels];       // [step][k][pixel]
shared vec4 channels[chunk_steps * 8 * across * 2];       // [step][k][channel]
shared vec4 partial[teams > 1 ? PIXELS * 2 * team : 1]; // one team's sums
int source_row[input_loads], source_x[input_loads]; // of the pixels that this lane copies; row -1: outside
hymn_cell input_next[input_loads], weight_next[weight_loads];

void locate_inputs(uint first_pixel) {
    [[unroll]] for (uint i = 0; i < input_loads; i++) {
        uint pixel = first_pixel + (gl_LocalInvocationID.x + i * local) % tile_pixels;
        uint row = pixel / p.width;
        source_row[i] = row < p.rows ? int(row) : -1;
        source_x[i] = int(pixel - row * p.width);
    }
}

// The pixel that tap `tap` of a kernel reads for the output pixel (row, x), or -1 for none.
int tap_pixel(uint kernel, int tap, int row, int x) {
    int width = int(p.width), height = int(p.height);
    if (kernel == 1u) {
        return row * width + x;
    }
    if (kernel == 2u) {
        return (2 * row + (tap & 1)) * 2 * width + 2 * x + (tap >> 1); // rows first
    }
    int dy = tap / 3 - 1, dx = tap - tap / 3 * 3 - 1;
    int y = row % height + dy;
    bool inside = y >= 0 && y < height && x + dx >= 0 && x + dx < width;
    return inside ? (row + dy) * width + x + dx : -1;
}

#define TAKE(n, words, bit)                                                                                            \
    {                                                                                                                  \
        uint tap = step / p.cells##n, k = step - tap * p.cells##n;                                                     \
        int pixel = tap_pixel(kernel##n, int(tap), source_row[i], source_x[i]);                                        \
        if (pixel >= 0) {                                                                                              \
            uint from = uint(pixel) * p.stride##n + p.first##n + k;                                                    \
            HYMN_LOAD_CELL(cell, words, from, IS_HALF(bit))                                                            \
            if (PROLOGUE != 0u && n == 0) {                                                                            \
                cell = hymn_prologue(cell, stats[source_row[i] * int(p.width) + source_x[i]]);                         \
            }                                                                                                          \
        }                                                                                                              \
    }

// Starts the loads of a chunk: its first step, and where its weights are.
void load_chunk(uint first_step, uint weight_at) {
    uint steps0 = kernel0 * kernel0 * p.cells0;
    uint steps1 = steps0 + (kernel1 != 0u ? kernel1 * kernel1 * p.cells1 : 0u);
    uint steps2 = steps1 + (kernel2 != 0u ? kernel2 * kernel2 * p.cells2 : 0u);
    [[unroll]] for (uint i = 0; i < input_loads; i++) {
        uint step = first_step + (gl_LocalInvocationID.x + i * local) / tile_pixels;
        hymn_cell cell = hymn_cell_zero();
        if (source_row[i] >= 0) {
            if (step < steps0) {
                TAKE(0, source0, 0)
            }
#ifndef FEW
            else if (kernel1 != 0u && step < steps1) {
                step -= steps0;
                TAKE(1, source1, 1)
            } else if (kernel2 != 0u && step < steps2) {
                step -= steps1;
                TAKE(2, source2, 2)
            }
#endif
        }
        input_next[i] = cell;
    }
    [[unroll]] for (uint i = 0; i < weight_loads; i++) {
        uint at = weight_at + min(gl_LocalInvocationID.x + i * local, weight_cells - 1);
        HYMN_LOAD_CELL(weight_next[i], weights, at, IS_HALF(6))
    }
}

void share_chunk() {
    [[unroll]] for (uint i = 0; i < input_loads; i++) {
        uint at = gl_LocalInvocationID.x + i * local;
        if (at < input_cells) {
            uint to = at / tile_pixels * 8 * tile_pixels + at % tile_pixels;
            [[unroll]] for (uint k = 0; k < 4; k++) {
                inputs[to + k * tile_pixels] = input_next[i].lo[k];
                inputs[to + (k + 4) * tile_pixels] = input_next[i].hi[k];
            }
        }
    }
    [[unroll]] for (uint i = 0; i < weight_loads; i++) {
        uint at = gl_LocalInvocationID.x + i * local;
        if (at < weight_cells) {
            channels[2 * at] = weight_next[i].lo;
            channels[2 * at + 1] = weight_next[i].hi;
        }
    }
}

// Adds the other teams' sums to the first's, one after the other.
void join_teams(uint member, uint rank, inout hymn_cell sums[PIXELS]) {
    for (uint other = 1; other < teams; other++) {
        barrier();
        if (rank == other) {
            [[unroll]] for (uint i = 0; i < PIXELS; i++) {
                partial[2 * i * team + member] = sums[i].lo;
                partial[(2 * i + 1) * team + member] = sums[i].hi;
            }
        }
        barrier();
        if (rank == 0) {
            [[unroll]] for (uint i = 0; i < PIXELS; i++) {
                sums[i].lo += partial[2 * i * team + member];
                sums[i].hi += partial[(2 * i + 1) * team + member];
            }
        }
    }
}

void main() {
    uint tile = gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x;
    uint first_pixel = tile * tile_pixels;
    uint member = gl_LocalInvocationID.x % team, rank = gl_LocalInvocationID.x / team;
    uint lane_cell = member % across, lane_pixel = member / across * PIXELS;
    uint steps = kernel0 * kernel0 * p.cells0 + kernel1 * kernel1 * p.cells1 + kernel2 * kernel2 * p.cells2;
    uint chunks = (steps + chunk_steps - 1) / chunk_steps;
    uint weight_at = gl_WorkGroupID.y * chunks * weight_cells;

    locate_inputs(first_pixel);
    load_chunk(0, weight_at);
    hymn_cell sums[PIXELS];
    [[unroll]] for (uint i = 0; i < PIXELS; i++) {
        sums[i] = hymn_cell_zero();
    }
    for (uint chunk = 0; chunk < chunks; chunk++) {
        barrier();
        share_chunk();
        barrier();
        if (chunk + 1 < chunks) {
            load_chunk((chunk + 1) * chunk_steps, weight_at + (chunk + 1) * weight_cells);
        }
        [[unroll]] for (uint part = 0; part < chunk_steps * 8 / teams; part++) {
            uint k = rank * (chunk_steps * 8 / teams) + part;
            vec4 lo = channels[(k * across + lane_cell) * 2], hi = channels[(k * across + lane_cell) * 2 + 1];
            [[unroll]] for (uint i = 0; i < PIXELS; i++) {
                float x = inputs[k * tile_pixels + lane_pixel + i];
                sums[i].lo += x * lo;
                sums[i].hi += x * hi;
            }
        }
    }
    join_teams(member, rank, sums);

    uint cell = gl_WorkGroupID.y * across + lane_cell;
    [[unroll]] for (uint i = 0; i < PIXELS; i++) {
        uint pixel = first_pixel + lane_pixel + i;
        if (rank == 0 && pixel < p.rows * p.width && cell < p.out_stride) {
            hymn_conv2d_finish(pixel, cell, sums[i]);
        }
    }
}
