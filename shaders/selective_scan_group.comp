// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors, bindings and MODE as there) for GPUs, with enough lanes to
// fill one: GROUP lanes of a subgroup share TILE channels, each with EACH of the N states of every one of them in
// registers. What a lane reads of shared memory at a step, EACH of B and of C and two numbers a channel, serves EACH *
// TILE states, for shared memory is what limits the scan where each lane has one channel. The lanes of a group add up
// their channels' y by shuffles, FOLD steps at a time, so that each ends with a pair of channels of one step, which it
// stores; with one channel a group, two groups exchange theirs.
// What is not recurrence (rows, delta, and then the results too) is done by HELPERS lanes of their own, whose waits the
// scan's lanes do not share, or, with 0, where a workgroup has no room for them, by the same lanes.
// A workgroup walks the sequence in blocks of BLOCK steps, as a pipeline with one barrier a block. While block j is
// scanned (and stored), delta and delta u of j + 1 are made, j + 2 goes to shared memory, j + 3 is being loaded, and four
// from j + 4 on are located every fourth time. Helpers load j + 2 themselves before they make delta, as it is their time
// that passes, and store the results of j - 1. Steps behind the end have delta = 0 where the states that they come to
// are left. All of it is f32; where storage is f16 softplus is to 1e-5 (common/exp.glsl). Instructions are what limits it
// where there are many sequences, so addresses are counted up or made once, and loops over steps unrolled.
// The lanes of two groups alternate: NVIDIA's shared memory answers loads of 64 or 128 bits in half of the time where all
// lanes n and n ^ 1 want the same, or all n and n ^ 2 (forums.developer.nvidia.com/t/77228). So neighbours want the same B
// and C, and the next but one the same delta.
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: GROUP, a power of two, at most 16 and the size of a
//   subgroup   5: MODE   6: BLOCK, a multiple of PAIRED and MADE   7: TILE, a power of two, at most GROUP; with 1 at
//   most half the subgroup is a group   8: ROUNDS: of PAIRED steps, that are unrolled, if a block has a multiple of so
//   many   9: HELPERS, the last subgroups of a workgroup: a multiple of PAIRS   10: WOVEN: groups whose lanes
//   alternate: 2, or 1 where a group is all of a subgroup   11: HALF_ROWS: the projection is f16
// What is not recurrence: common/scan_make.glsl, or, with MATRIX defined, common/scan_make_matrix.glsl.
// One workgroup = WIDTH = (lanes - HELPERS) / GROUP * TILE channels (a multiple of 2). Workgroups: x: channels;
// y: batch * 4 directions; z: chunks.
#version 450
#define MAX_GROUP 16
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#ifdef MATRIX
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#endif
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const uint GROUP = 4;
layout(constant_id = 5) const uint MODE = 0;
layout(constant_id = 6) const uint BLOCK = 16;
layout(constant_id = 7) const uint TILE = 4;
layout(constant_id = 8) const uint ROUNDS = 2;
layout(constant_id = 9) const uint HELPERS = 0;
layout(constant_id = 10) const uint WOVEN = 2;
layout(constant_id = 11) const bool HALF_ROWS = false;

const uint LANES = gl_WorkGroupSize.x;
const uint SCANNERS = LANES - HELPERS;
const uint MAKERS = HELPERS > 0 ? HELPERS : LANES; // lanes that do all but the scan
const uint WIDTH = SCANNERS / GROUP * TILE;
const uint PAIRS = WIDTH / 2;
const uint EACH = (STATES + GROUP - 1) / GROUP;
const uint PAIRED = 2 * GROUP / TILE;              // steps after which each lane of the scan has a pair's y of one step
const uint FOLD = TILE > 1 ? PAIRED : GROUP;       // steps whose y a group adds up at a time
const uint ENDING = TILE > 1 ? 2 : 1;              // numbers that each lane ends with
const uint UNROLLED = BLOCK / PAIRED % ROUNDS == 0 ? ROUNDS * PAIRED : PAIRED; // steps
const uint TILE_PAIRS = TILE > 1 ? TILE / 2 : 1;
// Of a step: sixteen lanes store their results at a time, of PAIRED steps, each of which has banks of its own so.
const uint RESULTS = PAIRS + (PAIRED < 16 ? 16 / PAIRED : 1);
#ifdef MATRIX
const uint DT_END = 0;                             // dt is kept apart
const uint LOCATED = 8 * BLOCK;                    // steps whose pixels are kept
#else
const uint DT_END = (RANK + 3) / 4 * 4;            // in shared memory dt, B and C begin at multiples of 4 floats
const uint LOCATED = 16 * BLOCK;                   // steps whose pixels are kept
#endif
const uint B_END = DT_END + (GROUP * EACH + 3) / 4 * 4;
const uint PITCH = (2 * B_END - DT_END) / 4;       // of a step in shared memory, in units of 4 floats
const float UNIT = HALF ? 1.0 / HYMN_SCAN_UNIT : 1.0; // of y
const bool HALVES = EACH % 4 == 2; // of four floats are what a lane reads of B and C

layout(set = 0, binding = 2) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 4) buffer States { float states[]; };
layout(set = 0, binding = 5) writeonly buffer Sums { float sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

shared vec4 rows[3 * BLOCK * PITCH];     // [block % 3][step]: dt, B, C
shared vec2 half_rows[HALVES ? 6 * BLOCK * PITCH : 1]; // the same, to be read in halves
shared uint pixels[LOCATED];             // of each step, behind the end that of the last one

uint first, end; // the workgroup's steps
uint direction;
uint maker; // of MAKERS

// Of the scan's lanes.
uint part, group; // lane of the group; the group's first channel is TILE * group
uint own_pair, own_step; // whose y it ends with: a pair of the workgroup's, every PAIRED-th step
float a[TILE * EACH], h[TILE * EACH], delta_sum[TILE]; // [channel][state]
float y[2 * MAX_GROUP]; // of the steps and channels of a fold: [step][channel]

// Where step l of the direction is.
uint pixel_of(uint l) {
    uint length = p.image_width * p.image_height, at = direction >= 2 ? length - 1 - l : l;
    if ((direction & 1) != 0) {
        uint x = hymn_divide(at, p.height_reciprocal);
        at = (at - x * p.image_height) * p.image_width + x;
    }
    return at;
}

// By MAKERS, from the block's first step on.
void locate(uint block, uint count) {
    uint step = maker;
    if (step < count * BLOCK) {
        do {
            uint at = block * BLOCK + step;
            pixels[at % LOCATED] = pixel_of(min(first + at, end - 1));
            step += MAKERS;
        } while (step < count * BLOCK);
    }
}

vec2 softplus(vec2 v) {
    vec2 above = max(v, vec2(0.0)), t = exp2(-1.44269504088896341 * abs(v));
    return HALF ? hymn_add_log1p_short(above, t) : hymn_add_log1p(above, t);
}

#ifdef MATRIX
#include "common/scan_make_matrix.glsl"
#else
#include "common/scan_make.glsl"
#endif

// A lane's part of a row's B or C, from float `first` on. Where parts are of whole vec4 the row's place has the part's in
// it, so that all else is constant, and part of the load itself. A macro, as functions cannot return what constants size.
#define HYMN_LOAD_PART(to, row, first)                                                                                 \
    if (HALVES) {                                                                                                      \
        [[unroll]] for (uint n = 0; n < EACH / 2; n++) {                                                               \
            vec2 x = half_rows[2 * (row) + part * (EACH / 2) + ((first) / 2 + n)];                                     \
            to[2 * n] = x.x, to[2 * n + 1] = x.y;                                                                      \
        }                                                                                                              \
    } else if (EACH % 4 == 0) {                                                                                        \
        [[unroll]] for (uint n = 0; n < EACH / 4; n++) {                                                               \
            vec4 x = rows[(row) + ((first) / 4 + n)];                                                                  \
            to[4 * n] = x.x, to[4 * n + 1] = x.y, to[4 * n + 2] = x.z, to[4 * n + 3] = x.w;                            \
        }                                                                                                              \
    } else {                                                                                                           \
        [[unroll]] for (uint n = 0; n < EACH; n++) {                                                                   \
            uint i = (first) + part * EACH + n;                                                                        \
            to[n] = rows[(row) + i / 4][i % 4];                                                                        \
        }                                                                                                              \
    }

// One step of the group's channels, whose deltas have been taken; their y (from this lane's states) to y[to] and on.
// row: of the step, as above.
void advance(uint row, uint to) {
    float b[EACH], c[EACH];
    HYMN_LOAD_PART(b, row, DT_END)
    if (MODE != 1) {
        HYMN_LOAD_PART(c, row, B_END)
    }
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        vec2 d = now[k];
        float sum = 0.0;
        [[unroll]] for (uint n = 0; n < EACH; n++) {
            uint i = k * EACH + n;
            h[i] = fma(exp2(d.x * a[i]), h[i], d.y * b[n]);
            if (MODE != 1) {
                sum = n == 0 ? h[i] * c[n] : fma(h[i], c[n], sum);
            }
        }
        if (MODE == 1) {
            delta_sum[k] += d.x;
        } else {
            y[to + k] = sum;
        }
    }
}

// One step of the sum over a group: each lane keeps half of the values and sends the other half to its partner. Written
// out, for compilers keep an array in registers only if they unroll every loop over it.
#define HYMN_FOLD(reach)                                                                                               \
    if (GROUP > reach) {                                                                                               \
        bool upper = (part & reach) != 0;                                                                              \
        [[unroll]] for (uint i = 0; i < reach * ENDING; i++) {                                                         \
            float low = y[i], high = y[i + reach * ENDING];                                                            \
            y[i] = (upper ? high : low) + subgroupShuffleXor(upper ? low : high, WOVEN * reach);                       \
        }                                                                                                              \
    }

// FOLD steps; leaves the lane's ENDING sums in y. at: of their deltas.
void fold_steps(uint row, uint at) {
    [[unroll]] for (uint i = 0; i < MAX_GROUP; i++) {
        if (i < FOLD) {
            take_deltas(at, i);
            advance(row + i * PITCH, i * TILE);
        }
    }
    if (MODE != 1) {
        HYMN_FOLD(8)
        HYMN_FOLD(4)
        HYMN_FOLD(2)
        HYMN_FOLD(1)
    }
}

// PAIRED steps; returns y of the lane's own of them.
vec2 scan_steps(uint row, uint at) {
    fold_steps(row, at);
    vec2 both = vec2(y[0], y[1]);
    if (TILE == 1) {
        fold_steps(row + FOLD * PITCH, at + deltas_after(FOLD));
        if (MODE != 1) {
            bool odd = (group & 1) != 0;
            float other = subgroupShuffleXor(odd ? both.x : y[0], 1); // the other of two woven groups
            both = odd ? vec2(other, y[0]) : vec2(both.x, other);
        }
    }
    return both;
}

// slot: of the block's rows.
void scan(uint block, uint slot) {
    uint row = slot * (BLOCK * PITCH) + (EACH % 4 == 0 ? part * (EACH / 4) : 0), at = deltas_from(block);
    uint to = (block % 2 * BLOCK + own_step) * RESULTS + own_pair;
    for (uint step = 0; step < BLOCK; step += UNROLLED) {
        vec2 both[UNROLLED / PAIRED]; // a store would keep what is before and behind it apart
        [[unroll]] for (uint i = 0; i < UNROLLED / PAIRED; i++) {
            both[i] = scan_steps(row + i * PAIRED * PITCH, at + deltas_after(i * PAIRED));
        }
        [[unroll]] for (uint i = 0; i < UNROLLED / PAIRED; i++) {
            if (MODE != 1) {
                leave_result(block, own_step + step + i * PAIRED, to + i * PAIRED * RESULTS, both[i]);
            }
        }
        row += UNROLLED * PITCH, at += deltas_after(UNROLLED), to += UNROLLED * RESULTS;
    }
}

// weights_at: of the direction.
void load_weights(uint weights_at, uint states_at) {
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        uint channel = min(gl_WorkGroupID.x * WIDTH + TILE * group + k, p.width - 1);
        delta_sum[k] = 0.0;
        [[unroll]] for (uint n = 0; n < EACH; n++) {
            uint state = part * EACH + n;
            bool real = state < STATES;
            a[k * EACH + n] = real ? weights[weights_at + (2 + state) * p.width + channel] : 0.0;
            h[k * EACH + n] = MODE == 2 && real ? states[(states_at * STATES + state) * p.width + channel] : 0.0;
        }
    }
    load_made_weights(weights_at);
}

void leave_ends(uint states_at) {
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        uint channel = gl_WorkGroupID.x * WIDTH + TILE * group + k;
        if (channel < p.width) {
            [[unroll]] for (uint n = 0; n < EACH; n++) {
                uint state = part * EACH + n;
                if (state < STATES) {
                    states[(states_at * STATES + state) * p.width + channel] = h[k * EACH + n];
                }
            }
            if (part == 0) {
                sums[states_at * p.width + channel] = delta_sum[k];
            }
        }
    }
}

// What the lane loads, makes, scans and stores.
void place_lane(uint plane, uint image) {
    uint length = p.image_width * p.image_height;
    // A group is of one subgroup, as is what helps, whatever the order of invocations in it.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    maker = HELPERS > 0 ? walker - SCANNERS : gl_LocalInvocationID.x;
    part = walker / WOVEN % GROUP, group = walker / (WOVEN * GROUP) * WOVEN + walker % WOVEN;
    own_pair = TILE > 1 ? group * TILE_PAIRS + part % TILE_PAIRS : group / 2;
    own_step = TILE > 1 ? part / TILE_PAIRS : part + group % 2 * GROUP;
    place_maker(image * length * p.proj_stride + direction * p.proj_row,
                (image * length * p.source_stride + p.source_first) * 4, plane * length * (p.width / 2));
}

void main() {
    uint image = gl_WorkGroupID.y >> 2, chunk = gl_WorkGroupID.z;
    direction = gl_WorkGroupID.y & 3;
    uint plane = direction * p.batch + image, states_at = plane * p.chunks + chunk;
    first = chunk * p.chunk_length, end = min(first + p.chunk_length, p.image_width * p.image_height);
    place_lane(plane, image);
    // By the subgroup alone: compilers must see that the shuffles are in uniform control flow.
    bool helps = HELPERS > 0 && gl_SubgroupID * gl_SubgroupSize >= SCANNERS;
    if (HELPERS == 0 || helps) {
        locate(0, 2);
    }
    load_weights(direction * (2 + STATES + RANK) * p.width, states_at);
    clear_rows();

    uint blocks = (end - first + BLOCK - 1) / BLOCK, turns = blocks + (MODE != 1 && HELPERS > 0 ? 3 : 2);
    uint stored = 0, made = 2, scanned = 1; // slots of three blocks
    barrier();
    if (HELPERS == 0) {
        load_rows(0);
    }
    for (uint turn = 0; turn < turns; turn++) { // block j = turn - 2
        if (helps) {
            help(turn, stored, made);
        } else {
#ifndef MATRIX
            if (HELPERS == 0) {
                make_in_between(turn, blocks, stored, made);
            }
#endif
            if (turn >= 2 && turn < blocks + 2) {
                scan(turn - 2, scanned);
            }
        }
        uint oldest = scanned;
        scanned = made, made = stored, stored = oldest;
        barrier();
    }
    if (MODE == 1 && !helps) {
        leave_ends(states_at);
    }
}
