// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors, bindings and MODE as there) for GPUs, with enough lanes to
// fill one: GROUP lanes of a subgroup share a channel, each with EACH of its N states in registers, and add up y by
// shuffles, GROUP steps at a time, so that each ends with the y of one of them.
// A workgroup walks the sequence in blocks of BLOCK steps, as a pipeline with one barrier a block. While block j is
// scanned, j - 1 is stored, delta and delta u of j + 1 are made, j + 2 goes to shared memory, j + 3 is being loaded.
// Steps behind the end have delta = 0, which leaves the states alone. All of it is f32.
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: GROUP, a power of two, at most 16 and the size of a
//   subgroup
//   5: MODE   6: BLOCK, a multiple of GROUP
// One workgroup = WIDTH = lanes / GROUP channels (a multiple of 2). Workgroups: x: channels; y: batch * 4 directions;
// z: chunks.
#version 450
#define MAX_GROUP 16
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const uint GROUP = 4;
layout(constant_id = 5) const uint MODE = 0;
layout(constant_id = 6) const uint BLOCK = 16;

const uint LANES = gl_WorkGroupSize.x;
const uint WIDTH = LANES / GROUP;
const uint EACH = (STATES + GROUP - 1) / GROUP;
const uint OWN = BLOCK / GROUP;                    // steps of a block whose delta a lane makes
const uint ROW = (RANK + 2 * STATES + 3) / 4;      // of a step, in units of 4 floats
const uint LOADS = (BLOCK * ROW + LANES - 1) / LANES; // of a lane and block
const uint DT_END = (RANK + 3) / 4 * 4;            // in shared memory dt, B and C begin at multiples of 4 floats
const uint B_END = DT_END + (GROUP * EACH + 3) / 4 * 4;
const uint PITCH = (2 * B_END - DT_END) / 4;       // of a step in shared memory, in units of 4 floats
const bool ALIGNED = RANK % 4 == 0 && STATES % 4 == 0;

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { float source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 2) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { vec2 result_floats[]; };
layout(set = 0, binding = 4) buffer States { float states[]; };
layout(set = 0, binding = 5) writeonly buffer Sums { float sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

shared vec4 rows[3 * BLOCK * PITCH];       // [block % 3][step]: dt, B, C
shared vec2 deltas[2 * BLOCK * WIDTH];     // [block % 2][step][channel]: delta, delta u
shared float results[3 * BLOCK * WIDTH];   // [block % 3][step][channel]: Ds u, then y

uint first, end; // the workgroup's steps
uint direction, image, plane;

// Of delta's lanes: one channel, every GROUP-th step.
uint made_channel, made_step;
float bias, skip, dt_weights[RANK];

// Of the scan's lanes.
uint part, channel; // lane of the group; channel of the workgroup
float a[EACH], h[EACH], delta_sum;

// Where step l of the direction is.
uint pixel_of(uint l) {
    uint length = p.image_width * p.image_height, at = direction >= 2 ? length - 1 - l : l;
    if ((direction & 1) != 0) {
        uint x = hymn_divide(at, p.height_reciprocal);
        at = (at - x * p.image_height) * p.image_width + x;
    }
    return at;
}

vec4 loaded[LOADS];
float u[OWN];

void load_rows(uint block) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LANES, step = at / ROW;
        uint pixel = pixel_of(min(first + block * BLOCK + step, end - 1)) + image * p.image_width * p.image_height;
        if (BLOCK * ROW % LANES == 0 || at < BLOCK * ROW) {
            loaded[i] = projected[pixel * p.proj_stride + direction * p.proj_row + at % ROW];
        }
    }
}

void store_row_value(uint to, uint index, float value) {
    if (index >= RANK + STATES) {
        index += B_END - RANK - STATES;
    } else if (index >= RANK) {
        index += DT_END - RANK;
    }
    rows[to + index / 4][index % 4] = value;
}

void store_rows(uint block) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LANES, step = at / ROW, index = at % ROW;
        uint to = (block % 3 * BLOCK + step) * PITCH;
        if (BLOCK * ROW % LANES == 0 || at < BLOCK * ROW) {
            if (ALIGNED) {
                bool is_c = index >= (RANK + STATES) / 4;
                rows[to + index + (is_c ? (B_END - RANK - STATES) / 4 : 0)] = loaded[i];
            } else {
                [[unroll]] for (uint k = 0; k < 4; k++) {
                    if (4 * index + k < RANK + 2 * STATES) {
                        store_row_value(to, 4 * index + k, loaded[i][k]);
                    }
                }
            }
        }
    }
}

void load_u(uint block) {
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint pixel = pixel_of(min(first + block * BLOCK + made_step + i * GROUP, end - 1));
        uint at = ((pixel + image * p.image_width * p.image_height) * p.source_stride + p.source_first) * 8 +
                  made_channel;
        if (HALF) {
            vec2 both = unpackHalf2x16(source_halves[at / 2]);
            u[i] = (at & 1) != 0 ? both.y : both.x;
        } else {
            u[i] = source_floats[at];
        }
    }
}

void make_deltas(uint block) {
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint step = made_step + i * GROUP, row = (block % 3 * BLOCK + step) * PITCH;
        float v = bias;
        [[unroll]] for (uint r = 0; r < RANK; r += 4) {
            vec4 dt = rows[row + r / 4];
            [[unroll]] for (uint k = 0; k < 4; k++) {
                if (r + k < RANK) {
                    v = fma(dt_weights[min(r + k, RANK - 1)], dt[k], v);
                }
            }
        }
        float delta = first + block * BLOCK + step < end ? hymn_softplus(v) : 0.0;
        uint lane = gl_LocalInvocationID.x % WIDTH;
        deltas[(block % 2 * BLOCK + step) * WIDTH + lane] = vec2(delta, delta * u[i]);
        results[(block % 3 * BLOCK + step) * WIDTH + lane] = skip * u[i];
    }
}

// y of one step, from this lane's states.
float advance(uint step_at, uint row) {
    vec2 d = deltas[step_at + channel];
    float y = 0.0;
    if (EACH % 4 == 0) {
        [[unroll]] for (uint n = 0; n < EACH / 4; n++) {
            vec4 b = rows[row + DT_END / 4 + part * (EACH / 4) + n], c = rows[row + B_END / 4 + part * (EACH / 4) + n];
            [[unroll]] for (uint k = 0; k < 4; k++) {
                h[4 * n + k] = fma(exp2(d.x * a[4 * n + k]), h[4 * n + k], d.y * b[k]);
                y = fma(h[4 * n + k], c[k], y);
            }
        }
    } else {
        [[unroll]] for (uint n = 0; n < EACH; n++) {
            uint at = part * EACH + n;
            float b = rows[row + (DT_END + at) / 4][at % 4], c = rows[row + (B_END + at) / 4][at % 4];
            h[n] = fma(exp2(d.x * a[n]), h[n], d.y * b);
            y = fma(h[n], c, y);
        }
    }
    delta_sum += d.x;
    return y;
}

// One step of the sum over a group: each lane keeps half of the steps and sends the other half's to its partner. Written
// out, for compilers keep an array in registers only if they unroll every loop over it.
#define HYMN_FOLD(reach)                                                                                               \
    if (GROUP > reach) {                                                                                               \
        bool upper = (part & reach) != 0;                                                                              \
        [[unroll]] for (uint i = 0; i < reach; i++) {                                                                  \
            float kept = upper ? y[i + reach] : y[i], sent = upper ? y[i] : y[i + reach];                              \
            y[i] = kept + subgroupShuffleXor(sent, reach);                                                             \
        }                                                                                                              \
    }

void scan(uint block) {
    uint deltas_at = block % 2 * BLOCK * WIDTH, row = block % 3 * BLOCK * PITCH;
    uint to = (block % 3 * BLOCK + part) * WIDTH + channel;
    for (uint first_step = 0; first_step < BLOCK; first_step += GROUP) {
        float y[MAX_GROUP];
        [[unroll]] for (uint i = 0; i < MAX_GROUP; i++) {
            if (i < GROUP) {
                y[i] = advance(deltas_at + (first_step + i) * WIDTH, row + (first_step + i) * PITCH);
            }
        }
        if (MODE != 1) {
            HYMN_FOLD(8)
            HYMN_FOLD(4)
            HYMN_FOLD(2)
            HYMN_FOLD(1)
            results[to + first_step * WIDTH] += y[0];
        }
    }
}

void store_results(uint block) {
    uint stride = p.width / 2, pair = gl_WorkGroupID.x * (WIDTH / 2);
    for (uint at = gl_LocalInvocationID.x; at < BLOCK * WIDTH / 2; at += LANES) {
        uint step = at / (WIDTH / 2), within = at % (WIDTH / 2), l = first + block * BLOCK + step;
        uint from = (block % 3 * BLOCK + step) * WIDTH + 2 * within;
        vec2 y = vec2(results[from], results[from + 1]);
        if (l < end && pair + within < stride) {
            uint to = (plane + pixel_of(l)) * stride + pair + within;
            if (HALF) {
                result_halves[to] = HYMN_PACK_HALVES(clamp(y / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0)));
            } else {
                result_floats[to] = y;
            }
        }
    }
}

// weights_at: of the direction.
void load_weights(uint weights_at, uint states_at) {
    uint scanned = min(gl_WorkGroupID.x * WIDTH + channel, p.width - 1);
    [[unroll]] for (uint n = 0; n < EACH; n++) {
        uint state = part * EACH + n;
        bool real = state < STATES;
        a[n] = real ? weights[weights_at + (2 + state) * p.width + scanned] : 0.0;
        h[n] = MODE == 2 && real ? states[(states_at * STATES + state) * p.width + scanned] : 0.0;
    }
    bias = weights[weights_at + made_channel];
    skip = weights[weights_at + p.width + made_channel];
    [[unroll]] for (uint r = 0; r < RANK; r++) {
        dt_weights[r] = weights[weights_at + (2 + STATES + r) * p.width + made_channel];
    }
}

void main() {
    uint lane = gl_LocalInvocationID.x, length = p.image_width * p.image_height, chunk = gl_WorkGroupID.z;
    direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2;
    plane = (direction * p.batch + image) * length;
    first = chunk * p.chunk_length, end = min(first + p.chunk_length, length);
    made_channel = min(gl_WorkGroupID.x * WIDTH + lane % WIDTH, p.width - 1), made_step = lane / WIDTH;
    // A group is of one subgroup, whatever the order of invocations in it.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    part = walker % GROUP, channel = walker / GROUP;
    uint states_at = (direction * p.batch + image) * p.chunks + chunk;
    load_weights(direction * (2 + STATES + RANK) * p.width, states_at);
    delta_sum = 0.0;
    for (uint i = lane; i < 3 * BLOCK * PITCH; i += LANES) {
        rows[i] = vec4(0.0); // what no row fills stays so
    }

    uint blocks = (end - first + BLOCK - 1) / BLOCK;
    load_rows(0);
    barrier();
    for (uint turn = 0; turn < blocks + 3; turn++) { // block j = turn - 2
        if (MODE != 1 && turn >= 3) {
            store_results(turn - 3);
        }
        if (turn < blocks) {
            store_rows(turn);
        }
        if (turn + 1 < blocks) {
            load_rows(turn + 1);
        }
        if (turn >= 1 && turn <= blocks) {
            make_deltas(turn - 1);
        }
        if (turn < blocks) {
            load_u(turn);
        }
        if (turn >= 2 && turn < blocks + 2) {
            scan(turn - 2);
        }
        barrier();
    }
    uint scanned = gl_WorkGroupID.x * WIDTH + channel;
    if (MODE == 1 && scanned < p.width) {
        [[unroll]] for (uint n = 0; n < EACH; n++) {
            uint state = part * EACH + n;
            if (state < STATES) {
                states[(states_at * STATES + state) * p.width + scanned] = h[n];
            }
        }
        if (part == 0) {
            sums[states_at * p.width + scanned] = delta_sum;
        }
    }
}
