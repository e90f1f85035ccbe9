// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors and bindings 0 to 3 as there) in one dispatch, for
// sequences too few to fill a GPU: a workgroup has all of the sequences of WIDTH channels of one direction and image, cut
// into CHUNKS chunks of p.chunk_length steps. One lane = one channel of one chunk, its N states in registers:
//   1. each chunk from a zero state; end state and sum of delta to shared memory
//   2. as in selective_scan_carry.comp, PART states of each channel at a time, a lane each: the states that chunks begin with
//   3. each chunk again from there; writes y
// Where they fit, the deltas of step 1 are kept for step 3 (KEPT steps a lane). Chunks behind the sequence's end are empty.
// All of it is f32.
//   constants 0, 1: common/grid.glsl; lanes = WIDTH * CHUNKS   2: N   3: R   4: WIDTH, even   5: PART   6: KEPT: 0 or at
//   least p.chunk_length
// Workgroups: x: channels; y: batch * 4 directions.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

#define AHEAD 4 // chunks whose ends are loaded at a time

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const uint WIDTH = 16;
layout(constant_id = 5) const uint PART = 16;
layout(constant_id = 6) const uint KEPT = 0;

const uint LANES = gl_WorkGroupSize.x;
const uint CHUNKS = LANES / WIDTH;
const uint DT_LOADS = (RANK + 3) / 4;
const uint BC_FIRST = RANK / 4; // of a row, in units of 4 floats
const uint BC_LOADS = (RANK + 2 * STATES + 3) / 4 - BC_FIRST;
const uint B_AT = RANK - 4 * BC_FIRST;

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { float source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 2) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { float result_floats[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

shared float ends[PART * LANES]; // [state][chunk][channel]: end states, then those to begin with
shared float sums[LANES];        // [chunk][channel]: of delta
shared float kept[KEPT > 0 ? KEPT * LANES : 1];

uint length, image, direction;
uint lane, channel, chunk; // channel: of all, of a sequence that is there
float bias, skip, a[STATES], h[STATES], dt_weights[RANK];

float load_source(uint pixel) {
    uint from = (pixel * p.source_stride + p.source_first) * 8 + channel;
    if (HALF) {
        vec2 both = unpackHalf2x16(source_halves[from / 2]);
        return (from & 1) != 0 ? both.y : both.x;
    }
    return source_floats[from];
}

// softplus(W_dt dt + bias).
float make_delta(uint row) {
    float v = bias;
    [[unroll]] for (uint i = 0; i < DT_LOADS; i++) {
        vec4 dt = projected[row + i];
        [[unroll]] for (uint k = 0; k < 4; k++) {
            if (4 * i + k < RANK) {
                v = fma(dt_weights[min(4 * i + k, RANK - 1)], dt[k], v);
            }
        }
    }
    return hymn_softplus(v);
}

// One step; returns y.
float advance(uint row, float delta, float u) {
    float bc[4 * BC_LOADS];
    [[unroll]] for (uint i = 0; i < BC_LOADS; i++) {
        vec4 x = projected[row + BC_FIRST + i];
        bc[4 * i] = x.x, bc[4 * i + 1] = x.y, bc[4 * i + 2] = x.z, bc[4 * i + 3] = x.w;
    }
    float du = delta * u, y = skip * u;
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = fma(exp2(delta * a[n]), h[n], du * bc[B_AT + n]);
        y = fma(h[n], bc[B_AT + STATES + n], y);
    }
    return y;
}

// Two neighbouring lanes have the halves of a word.
void store_result(uint pixel, bool real, float y) {
    uint to = ((direction * p.batch + image) * length + pixel) * p.width + channel;
    if (HALF) {
        float other = subgroupShuffleXor(y, 1);
        if (real && (channel & 1) == 0) {
            vec2 both = clamp(vec2(y, other) / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0));
            result_halves[to / 2] = HYMN_PACK_HALVES(both);
        }
    } else if (real) {
        result_floats[to] = y;
    }
}

// weights_at: of the direction.
void load_weights(uint weights_at) {
    bias = weights[weights_at + channel];
    skip = weights[weights_at + p.width + channel];
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        a[n] = weights[weights_at + (2 + n) * p.width + channel];
        h[n] = 0.0;
    }
    [[unroll]] for (uint r = 0; r < RANK; r++) {
        dt_weights[r] = weights[weights_at + (2 + STATES + r) * p.width + channel];
    }
}

// The sums of delta are in shared memory.
void carry(uint weights_at) {
    [[unroll]] for (uint first = 0; first < STATES; first += PART) {
        [[unroll]] for (uint n = 0; n < PART; n++) {
            if (first + n < STATES) {
                ends[n * LANES + lane] = h[min(first + n, STATES - 1)];
            }
        }
        barrier();
        uint item = lane;
        if (item < PART * WIDTH) { // loops leave at their end: see CONTRIBUTING
            do {
                uint state = first + item / WIDTH, own = item % WIDTH, from = item / WIDTH * LANES + own;
                uint owner = min(gl_WorkGroupID.x * WIDTH + own, p.width - 1);
                if (state < STATES) {
                    float rate = weights[weights_at + (2 + state) * p.width + owner], carried = 0.0;
                    uint j = 0;
                    do {
                        float end[AHEAD], decay[AHEAD];
                        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
                            uint k = min(j + i, CHUNKS - 1) * WIDTH;
                            end[i] = ends[from + k];
                            decay[i] = exp2(rate * sums[k + own]);
                        }
                        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
                            if (j + i < CHUNKS) {
                                ends[from + (j + i) * WIDTH] = carried;
                                carried = fma(decay[i], carried, end[i]);
                            }
                        }
                        j += AHEAD;
                    } while (j < CHUNKS);
                }
                item += LANES;
            } while (item < PART * WIDTH);
        }
        barrier();
        [[unroll]] for (uint n = 0; n < PART; n++) {
            if (first + n < STATES) {
                h[min(first + n, STATES - 1)] = ends[n * LANES + lane];
            }
        }
        barrier();
    }
}

void main() {
    // Lanes in the order of their subgroups: neighbours can shuffle, whatever the order of invocations.
    lane = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    length = p.image_width * p.image_height;
    direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2, chunk = lane / WIDTH;
    uint wanted = gl_WorkGroupID.x * WIDTH + lane % WIDTH;
    channel = min(wanted, p.width - 2 + (wanted & 1));
    uint weights_at = direction * (2 + STATES + RANK) * p.width;
    load_weights(weights_at);
    uint first = min(chunk * p.chunk_length, length), steps = min(p.chunk_length, length - first);

    float sum = 0.0;
    hymn_walk place = hymn_walk_from(direction, min(first, length - 1));
    uint i = 0;
    if (steps > 0) {
        do {
            uint pixel = image * length + place.at, row = pixel * p.proj_stride + direction * p.proj_row;
            float delta = make_delta(row);
            if (KEPT > 0) {
                kept[i * LANES + lane] = delta;
            }
            advance(row, delta, load_source(pixel));
            sum += delta;
            hymn_walk_on(place);
            i++;
        } while (i < steps);
    }
    sums[lane] = sum;
    carry(weights_at);

    place = hymn_walk_from(direction, min(first, length - 1));
    i = 0;
    do {
        bool there = i < steps; // lanes that shuffle stay together
        uint pixel = image * length + place.at, row = pixel * p.proj_stride + direction * p.proj_row;
        float delta = KEPT == 0 ? make_delta(row) : there ? kept[i * LANES + lane] : 0.0;
        float y = advance(row, delta, load_source(pixel));
        store_result(place.at, there && wanted < p.width, y);
        if (i + 1 < steps) {
            hymn_walk_on(place);
        }
        i++;
    } while (i < p.chunk_length);
}
