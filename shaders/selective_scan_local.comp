// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors and bindings 0 to 3 as there) in one dispatch, for
// sequences too few to fill a GPU: a workgroup has all of the sequences of WIDTH channels of one direction and image, cut
// into CHUNKS chunks of p.chunk_length steps. One lane = one channel of one chunk, its N states in registers:
//   1. each chunk from a zero state; end state and sum of delta to shared memory
//   2. as in selective_scan_carry.comp, PART states of each channel at a time, a lane each: the states that chunks begin with
//   3. each chunk again from there; writes y
// Where they fit, the deltas of step 1 are kept for step 3 (KEPT steps a lane). Chunks behind the sequence's end are
// empty. With STAGED each lane loads another part of the next step's row, which goes to shared memory during a step, so
// that none waits for device memory and no more registers are taken. All of it is f32.
//   constants 0, 1: common/grid.glsl; lanes = WIDTH * CHUNKS   2: N   3: R   4: WIDTH, even   5: PART   6: KEPT: 0 or at
//   least p.chunk_length   7: STAGED; a chunk's lanes are of one subgroup then, and PART is a multiple of 4
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
layout(constant_id = 7) const bool STAGED = false;

const uint LANES = gl_WorkGroupSize.x;
const uint CHUNKS = LANES / WIDTH;
const uint DT_END = (RANK + 3) / 4; // of a row, in units of 4 floats
const uint BC_FIRST = RANK / 4;
const uint B_END = (RANK + STATES + 3) / 4;
const uint C_END = (RANK + 2 * STATES + 3) / 4;
const uint B_AT = RANK - 4 * BC_FIRST;
const uint LOADS = (C_END + WIDTH - 1) / WIDTH; // of a lane and step
const uint PITCH = C_END / 2 * 2 + 1;           // odd: chunks' rows are in different banks
const uint WORDS = HALF ? 4 : 8; // of a cell
const uint STAGE = 2 * PITCH * CHUNKS;
const uint POOL = PART / 4 * LANES > STAGE ? PART / 4 * LANES : STAGE;

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { uint source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 2) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { float result_floats[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

shared float ends[STAGED ? 1 : PART * LANES]; // [state][chunk][channel]: end states, then those to begin with
shared vec4 pool[STAGED ? POOL : 1]; // in turn rows, [chunk][step % 2], and in place of ends [state / 4][chunk][channel]
shared float sums[LANES];            // [chunk][channel]: of delta
shared float kept[KEPT > 0 ? KEPT * LANES : 1];

uint length, direction;
uint lane, channel, chunk; // channel: of all, of a sequence that is there
uint steps;                // of the chunk
uint row_from, u_from, result_from; // of the image: row, and in words of halves or floats the channel's
float bias, skip, a[STATES], h[STATES], dt_weights[RANK];

uint row; // of the step, in pool or projected

// Where the walk is: STAGED, at the next step, u and a share of whose row are loaded; else at the step itself.
hymn_walk place;
uint u_word; // as in memory: to convert it is to wait for it
vec4 loaded[LOADS];

// What is between two places of a row.
void load_step(uint from, uint to) {
    uint at = place.at * p.proj_stride + row_from;
    if (STAGED) {
        [[unroll]] for (uint i = 0; i < LOADS; i++) {
            if (i * WIDTH < to - from) {
                loaded[i] = projected[at + min(from + i * WIDTH + lane % WIDTH, to - 1)];
            }
        }
    } else {
        row = at;
    }
    uint u_at = place.at * (p.source_stride * WORDS) + u_from;
    u_word = HALF ? source_halves[u_at] : source_floats[u_at];
}

float convert_u(uint word) {
    return HALF ? unpackHalf2x16(word >> (channel & 1) * 16).x : uintBitsToFloat(word);
}

// What was loaded becomes the row.
void stage(uint from, uint to) {
    if (STAGED) {
        row = (4 * chunk + 1) * PITCH - row; // the other of the chunk's two
        [[unroll]] for (uint i = 0; i < LOADS; i++) {
            uint at = from + i * WIDTH + lane % WIDTH;
            if (i * WIDTH < to - from && at < to) {
                pool[row + at] = loaded[i];
            }
        }
        subgroupBarrier();
    }
}

// Of one of PART states.
float load_end(uint state, uint at) {
    if (STAGED) {
        return pool[state / 4 * LANES + at][state % 4];
    }
    return ends[state * LANES + at];
}

void store_end(uint state, uint at, float end) {
    if (STAGED) {
        pool[state / 4 * LANES + at][state % 4] = end;
    } else {
        ends[state * LANES + at] = end;
    }
}

void begin_walk(uint first, uint from, uint to) {
    place = hymn_walk_from(direction, min(first, length - 1));
    row = 2 * chunk * PITCH;
    if (STAGED) {
        load_step(from, to);
        stage(from, to);
    }
}

// Loads, and goes on unless the step is the last; returns u as it is in memory.
uint step_on(bool more, uint from, uint to) {
    uint word = u_word;
    if (!STAGED) {
        load_step(from, to);
        word = u_word;
    }
    if (more) {
        hymn_walk_on(place);
    }
    if (STAGED) {
        load_step(from, to);
    }
    return word;
}

vec4 row_part(uint i) {
    return STAGED ? pool[row + i] : projected[row + i];
}

// softplus(W_dt dt + bias).
float make_delta() {
    float v = bias;
    [[unroll]] for (uint i = 0; i < DT_END; i++) {
        vec4 dt = row_part(i);
        [[unroll]] for (uint k = 0; k < 4; k++) {
            if (4 * i + k < RANK) {
                v = fma(dt_weights[min(4 * i + k, RANK - 1)], dt[k], v);
            }
        }
    }
    return hymn_softplus(v);
}

// One step, whose row's parts end at `to`; returns y, where they do.
float advance(float delta, float u, uint to) {
    float bc[4 * (C_END - BC_FIRST)];
    [[unroll]] for (uint i = 0; i < C_END - BC_FIRST; i++) {
        vec4 x = BC_FIRST + i < to ? row_part(BC_FIRST + i) : vec4(0.0);
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
    uint to = pixel * (p.width / 8 * WORDS) + result_from;
    if (HALF) {
        float other = subgroupShuffleXor(y, 1);
        if (real && (channel & 1) == 0) {
            vec2 both = clamp(vec2(y, other) / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0));
            result_halves[to] = HYMN_PACK_HALVES(both);
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

// PART of the lane's states from `first` on.
void leave_ends(uint first) {
    [[unroll]] for (uint n = 0; n < PART; n += STAGED ? 4 : 1) {
        if (STAGED) {
            pool[n / 4 * LANES + lane] = vec4(h[min(first + n, STATES - 1)], h[min(first + n + 1, STATES - 1)],
                                              h[min(first + n + 2, STATES - 1)], h[min(first + n + 3, STATES - 1)]);
        } else if (first + n < STATES) {
            ends[n * LANES + lane] = h[min(first + n, STATES - 1)];
        }
    }
}

void take_ends(uint first) {
    [[unroll]] for (uint n = 0; n < PART; n++) {
        if (first + n < STATES) {
            h[min(first + n, STATES - 1)] = STAGED ? pool[n / 4 * LANES + lane][n % 4] : ends[n * LANES + lane];
        }
    }
}

// The sums of delta are in shared memory.
void carry(uint weights_at) {
    [[unroll]] for (uint first = 0; first < STATES; first += PART) {
        leave_ends(first);
        barrier();
        uint item = lane;
        if (item < PART * WIDTH) { // loops leave at their end: see CONTRIBUTING
            do {
                uint place = item / WIDTH, state = first + place, own = item % WIDTH;
                uint owner = min(gl_WorkGroupID.x * WIDTH + own, p.width - 1);
                if (state < STATES) {
                    float rate = weights[weights_at + (2 + state) * p.width + owner], carried = 0.0;
                    uint j = 0;
                    do {
                        float end[AHEAD], decay[AHEAD];
                        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
                            uint k = min(j + i, CHUNKS - 1) * WIDTH;
                            end[i] = load_end(place, k + own);
                            decay[i] = exp2(rate * sums[k + own]);
                        }
                        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
                            if (j + i < CHUNKS) {
                                store_end(place, (j + i) * WIDTH + own, carried);
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
        take_ends(first);
        barrier();
    }
}

// Returns the sum of delta.
float walk_ends(uint first) {
    float sum = 0.0;
    uint i = 0, turns = STAGED ? p.chunk_length : steps; // lanes that share rows stay together
    begin_walk(first, 0, B_END);
    if (turns > 0) {
        do {
            uint word = step_on(!STAGED || i + 1 < steps, 0, B_END);
            float delta = make_delta();
            if (STAGED) {
                delta = i < steps ? delta : 0.0;
            }
            if (KEPT > 0) {
                kept[i * LANES + lane] = delta;
            }
            advance(delta, convert_u(word), B_END);
            sum += delta;
            stage(0, B_END);
            i++;
        } while (i < turns);
    }
    return sum;
}

// Lanes that shuffle stay together: what comes of steps behind the end, whose delta may be anything, is not stored.
void walk_results(uint first, bool real) {
    const uint from = KEPT > 0 ? BC_FIRST : 0;
    uint i = 0;
    begin_walk(first, from, C_END);
    do {
        uint at = place.at, word = step_on(i + 1 < steps, from, C_END);
        float delta = KEPT > 0 ? kept[i * LANES + lane] : make_delta();
        float y = advance(delta, convert_u(word), C_END);
        store_result(at, real && i < steps, y);
        stage(from, C_END);
        i++;
    } while (i < p.chunk_length);
}

void main() {
    // Lanes in the order of their subgroups: neighbours can shuffle, whatever the order of invocations.
    lane = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    length = p.image_width * p.image_height;
    direction = gl_WorkGroupID.y & 3, chunk = lane / WIDTH;
    uint wanted = gl_WorkGroupID.x * WIDTH + lane % WIDTH, image = gl_WorkGroupID.y >> 2;
    channel = min(wanted, p.width - 2 + (wanted & 1));
    uint word = HALF ? channel / 2 : channel;
    row_from = image * length * p.proj_stride + direction * p.proj_row;
    u_from = (image * length * p.source_stride + p.source_first) * WORDS + word;
    result_from = (direction * p.batch + image) * length * (p.width / 8 * WORDS) + word;
    uint weights_at = direction * (2 + STATES + RANK) * p.width;
    load_weights(weights_at);
    uint first = min(chunk * p.chunk_length, length);
    steps = min(p.chunk_length, length - first);

    sums[lane] = walk_ends(first);
    if (STAGED) {
        barrier(); // what was rows becomes states
    }
    carry(weights_at);
    walk_results(first, wanted < p.width);
}
