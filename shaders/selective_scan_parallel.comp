// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors and bindings 0..3 as there), parallel along the sequence:
// the whole of it in one pass, every exponential once. A step is the map h -> a h + b with a = exp(delta A) and
// b = delta u B, and maps compose, so a prefix scan (Blelloch, 1990) finds all states:
//   1. one lane = STEPS / 4 steps: delta of eight channels from the projected row; it, u, B and C go to shared memory
//   2. one lane = STEPS consecutive steps, a "segment", of two channels; a subgroup's lanes hold neighbouring segments.
//      For two states at a time: h and the product of a within the segment from a zero state; the segments' maps are
//      scanned by shuffles; every step's h follows from what came in. y adds up in registers.
//   3. as 1: y of eight channels, stored as a cell.
// The first segment of a block of STEPS * SEGMENTS steps begins with the last one's state in the block before. All of it
// is f32. Steps behind the end of the sequence have delta = 0, which leaves the state alone.
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: STEPS, 4 or a multiple   5: SEGMENTS, a power of two, at most
//   the size of a subgroup
// One workgroup = 4 * SEGMENTS lanes: eight channels. Workgroups: x: cells of channels; y: batch * 4 directions.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/exp.glsl"
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const uint STEPS = 8;
layout(constant_id = 5) const uint SEGMENTS = 16;

const uint PAIRS = (STATES + 1) / 2; // of states; an odd last one is filled up with a state that stays 0
const uint OWN = STEPS / 4;          // steps of a block that a lane prepares
const uint BLOCK = STEPS * SEGMENTS;
const uint ROW = (RANK + 2 * STATES + 3) / 4; // of a step, in units of 4 floats
const uint PLANES = HALF ? 1 : 2;             // words of two channels of u

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 2) readonly buffer Weights { vec4 weights[]; };
layout(set = 0, binding = 2) readonly buffer WeightPairs { vec2 weight_pairs[]; };
layout(set = 0, binding = 3) writeonly buffer Result { uvec4 result[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

// Of a step within its segment and the segment: [step][segment], so that neighbouring lanes read neighbouring words.
shared vec2 shared_b[PAIRS * BLOCK], shared_c[PAIRS * BLOCK]; // [pair of states]
shared vec2 shared_delta[4 * BLOCK];                          // [pair of channels]; later y
shared uint shared_u[PLANES * 4 * BLOCK];                     // [plane][pair of channels]
shared vec4 shared_a[4 * PAIRS], carried[4 * PAIRS];          // [pair of channels][pair of states]: 2 x 2 values

vec4 softplus(vec4 v) {
    vec4 t = exp2(-1.44269504088896341 * abs(v));
    return max(v, vec4(0.0)) + vec4(hymn_log1p(t.xy), hymn_log1p(t.zw));
}

// Where step l of a direction is.
uint pixel_of(uint l, uint direction, uint length) {
    uint at = direction >= 2 ? length - 1 - l : l;
    if ((direction & 1) != 0) {
        uint x = at / p.image_height;
        at = (at - x * p.image_height) * p.image_width + x;
    }
    return at;
}

// Two channels of a step's u.
vec2 load_u(uint at) {
    return HALF ? unpackHalf2x16(shared_u[at])
                : uintBitsToFloat(uvec2(shared_u[at], shared_u[(PLANES - 1) * 4 * BLOCK + at]));
}

void store_u(uint slot, uint cell) {
    if (HALF) {
        uvec4 words = source[cell];
        [[unroll]] for (uint i = 0; i < 4; i++) {
            shared_u[i * BLOCK + slot] = words[i];
        }
    } else {
        uvec4 lo = source[2 * cell], hi = source[2 * cell + 1];
        [[unroll]] for (uint i = 0; i < 2; i++) {
            shared_u[i * BLOCK + slot] = lo[2 * i];
            shared_u[(i + 2) * BLOCK + slot] = hi[2 * i];
            shared_u[((PLANES - 1) * 4 + i) * BLOCK + slot] = lo[2 * i + 1];
            shared_u[((PLANES - 1) * 4 + i + 2) * BLOCK + slot] = hi[2 * i + 1];
        }
    }
}

// Part 1 for one step. weights_at: of the direction's and the cell's first row, in units of 4 floats.
void prepare(uint slot, uint row_at, uint weights_at, bool inside) {
    float row[4 * ROW];
    [[unroll]] for (uint i = 0; i < ROW; i++) {
        vec4 x = projected[row_at + i];
        row[4 * i] = x.x, row[4 * i + 1] = x.y, row[4 * i + 2] = x.z, row[4 * i + 3] = x.w;
    }
    vec4 lo = weights[weights_at], hi = weights[weights_at + 1];
    [[unroll]] for (uint r = 0; r < RANK; r++) {
        uint at = weights_at + (2 + STATES + r) * (p.width / 4);
        lo = fma(weights[at], vec4(row[r]), lo);
        hi = fma(weights[at + 1], vec4(row[r]), hi);
    }
    lo = inside ? softplus(lo) : vec4(0.0);
    hi = inside ? softplus(hi) : vec4(0.0);
    shared_delta[slot] = lo.xy;
    shared_delta[BLOCK + slot] = lo.zw;
    shared_delta[2 * BLOCK + slot] = hi.xy;
    shared_delta[3 * BLOCK + slot] = hi.zw;
    [[unroll]] for (uint n = 0; n < PAIRS; n++) {
        bool whole = 2 * n + 1 < STATES;
        uint next = whole ? 2 * n + 1 : 0;
        shared_b[n * BLOCK + slot] = vec2(row[RANK + 2 * n], whole ? row[RANK + next] : 0.0);
        shared_c[n * BLOCK + slot] = vec2(row[RANK + STATES + 2 * n], whole ? row[RANK + STATES + next] : 0.0);
    }
}

// Part 2. channels: the pair of channels; segment: the lane's.
void advance(uint channels, uint segment, vec2 skip) {
    vec2 delta[STEPS], du[STEPS], y[STEPS];
    uint lane = gl_SubgroupInvocationID, first = channels * BLOCK + segment;
    [[unroll]] for (uint i = 0; i < STEPS; i++) {
        vec2 u = load_u(first + i * SEGMENTS);
        delta[i] = shared_delta[first + i * SEGMENTS];
        du[i] = delta[i] * u;
        y[i] = skip * u;
    }
    [[dont_unroll]] for (uint n = 0; n < PAIRS; n++) {
        uint at = n * BLOCK + segment;
        vec4 a = shared_a[channels * PAIRS + n], h[STEPS], through[STEPS];
        vec4 state = segment == 0 ? carried[channels * PAIRS + n] : vec4(0.0), product = vec4(1.0);
        [[unroll]] for (uint i = 0; i < STEPS; i++) {
            vec2 b = shared_b[at + i * SEGMENTS];
            vec4 decay = exp2(delta[i].xyxy * a);
            state = fma(decay, state, du[i].xyxy * b.xxyy);
            product *= decay;
            h[i] = state;
            through[i] = product;
        }
        [[unroll]] for (uint reach = 1; reach < SEGMENTS; reach *= 2) {
            vec4 state_before = subgroupShuffle(state, lane - min(reach, lane));
            vec4 product_before = subgroupShuffle(product, lane - min(reach, lane));
            if (segment >= reach) {
                state = fma(product, state_before, state);
                product *= product_before;
            }
        }
        // The first segment's states are right as they are; it gets the last one's, for the next block.
        vec4 incoming = subgroupShuffle(state, segment == 0 ? lane + SEGMENTS - 1 : lane - 1);
        if (segment == 0) {
            carried[channels * PAIRS + n] = incoming;
            incoming = vec4(0.0);
        }
        [[unroll]] for (uint i = 0; i < STEPS; i++) {
            vec2 c = shared_c[at + i * SEGMENTS];
            vec4 all = fma(through[i], incoming, h[i]);
            y[i] = fma(all.xy, c.xx, fma(all.zw, c.yy, y[i]));
        }
    }
    [[unroll]] for (uint i = 0; i < STEPS; i++) {
        shared_delta[first + i * SEGMENTS] = y[i];
    }
}

void main() {
    uint direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2, cell = gl_WorkGroupID.x;
    uint lane = gl_LocalInvocationID.x, cells = p.width / 8, length = p.image_width * p.image_height;
    uint plane = (direction * p.batch + image) * length;
    uint weights_at = direction * (2 + STATES + RANK) * (p.width / 4) + 2 * cell;

    // Lanes of part 2 by subgroup, whatever the order of invocations in it.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    uint segment = walker % SEGMENTS, channels = walker / SEGMENTS;
    vec2 skip = weight_pairs[2 * weights_at + p.width / 2 + channels];
    for (uint i = lane; i < 4 * PAIRS; i += 4 * SEGMENTS) {
        uint n = 2 * (i % PAIRS), at = 2 * weights_at + (2 + n) * (p.width / 2) + i / PAIRS;
        shared_a[i] = vec4(weight_pairs[at], n + 1 < STATES ? weight_pairs[at + p.width / 2] : vec2(0.0));
        carried[i] = vec4(0.0);
    }

    uint first = 0;
    do {
        uint pixels[OWN];
        [[unroll]] for (uint i = 0; i < OWN; i++) {
            uint slot = lane + i * 4 * SEGMENTS, l = first + slot % SEGMENTS * STEPS + slot / SEGMENTS;
            bool inside = l < length;
            pixels[i] = inside ? pixel_of(l, direction, length) : 0xFFFFFFFF;
            uint pixel = image * length + (inside ? pixels[i] : 0);
            store_u(slot, pixel * p.source_stride + p.source_first + cell);
            prepare(slot, pixel * p.proj_stride + direction * p.proj_row, weights_at, inside);
        }
        barrier();
        advance(channels, segment, skip);
        barrier();
        [[unroll]] for (uint i = 0; i < OWN; i++) {
            uint slot = lane + i * 4 * SEGMENTS;
            hymn_cell y = hymn_cell(vec4(shared_delta[slot], shared_delta[BLOCK + slot]),
                                    vec4(shared_delta[2 * BLOCK + slot], shared_delta[3 * BLOCK + slot]));
            if (pixels[i] != 0xFFFFFFFF) {
                HYMN_STORE_CELL(result, (plane + pixels[i]) * cells + cell, HALF, y)
            }
        }
        first += BLOCK;
    } while (first < length);
}
