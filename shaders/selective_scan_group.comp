// SPDX-License-Identifier: MIT
//
// The selective scan of selective_scan.comp (formulas, tensors, bindings and MODE as there) for GPUs, with enough lanes to
// fill one: GROUP lanes of a subgroup share TILE channels, each with EACH of the N states of every one of them in
// registers. What a lane reads of shared memory at a step, EACH of B and of C and two numbers a channel, serves EACH *
// TILE states, for shared memory is what limits the scan where each lane has one channel. The lanes of a group add up
// their channels' y by shuffles, GROUP / TILE steps at a time, so that each ends with one of them, and neighbours store
// pairs of channels.
// A workgroup walks the sequence in blocks of BLOCK steps, as a pipeline with one barrier a block. While block j is
// scanned and stored, delta and delta u of j + 1 are made, j + 2 goes to shared memory, j + 3 is being loaded, and j + 4
// is located. Steps behind the end have delta = 0, which leaves the states alone. All of it is f32.
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: GROUP, a power of two, at most 16 and the size of a
//   subgroup   5: MODE   6: BLOCK, a multiple of 2 GROUP / TILE   7: TILE, a power of two, at most GROUP; with 1 at most
//   half the subgroup is a group
// One workgroup = WIDTH = lanes / GROUP * TILE channels (a multiple of 2). Workgroups: x: channels; y: batch * 4
// directions; z: chunks.
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
layout(constant_id = 7) const uint TILE = 4;

const uint LANES = gl_WorkGroupSize.x;
const uint WIDTH = LANES / GROUP * TILE;
const uint PAIRS = WIDTH / 2;
const uint EACH = (STATES + GROUP - 1) / GROUP;
const uint FOLD = GROUP / TILE;                    // steps whose y a group adds up at a time
const uint MADE = LANES / PAIRS;                   // steps whose delta is made at a time: 2 FOLD
const uint OWN = BLOCK / MADE;                     // steps of a block whose delta a lane makes
const uint PARTNER = TILE > 1 ? 1 : GROUP;         // to the lane with the other channel of a pair
const uint ROW = (RANK + 2 * STATES + 3) / 4;      // of a step, in units of 4 floats
const uint LOADS = (BLOCK * ROW + LANES - 1) / LANES; // of a lane and block
const uint DT_END = (RANK + 3) / 4 * 4;            // in shared memory dt, B and C begin at multiples of 4 floats
const uint B_END = DT_END + (GROUP * EACH + 3) / 4 * 4;
const uint PITCH = (2 * B_END - DT_END) / 4;       // of a step in shared memory, in units of 4 floats
const bool ALIGNED = RANK % 4 == 0 && STATES % 4 == 0;
const bool FULL = RANK % 4 + STATES % 4 + (GROUP * EACH - STATES) == 0; // rows fill all of their pitch

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { vec2 source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 2) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { vec2 result_floats[]; };
layout(set = 0, binding = 4) buffer States { float states[]; };
layout(set = 0, binding = 5) writeonly buffer Sums { float sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

shared vec4 rows[3 * BLOCK * PITCH];     // [block % 3][step]: dt, B, C
shared vec4 deltas[2 * BLOCK * PAIRS];   // [block % 2][step][pair]: delta, delta u of both channels
shared vec2 skips[2 * BLOCK * PAIRS];    // [block % 2][step][pair]: Ds u
shared vec2 dt_weights[DT_END * PAIRS];  // [r][pair]
shared uint pixels[8 * BLOCK];           // [block % 8][step]: of the image, behind the end that of the last step

uint first, end; // the workgroup's steps
uint direction, image, plane;

// Of delta's lanes: a pair of channels, every MADE-th step.
uint made_pair, made_step;
vec2 bias, skip;

// Of the scan's lanes.
uint part, group; // lane of the group; the group's first channel is TILE * group
float a[TILE * EACH], h[TILE * EACH], delta_sum[TILE]; // [channel][state]

vec4 loaded[LOADS];
uvec2 u_words[OWN]; // as in memory: to convert them is to wait for them
float y[MAX_GROUP]; // of the steps and channels of a fold: [step][channel]

// Where step l of the direction is.
uint pixel_of(uint l) {
    uint length = p.image_width * p.image_height, at = direction >= 2 ? length - 1 - l : l;
    if ((direction & 1) != 0) {
        uint x = hymn_divide(at, p.height_reciprocal);
        at = (at - x * p.image_height) * p.image_width + x;
    }
    return at;
}

void locate(uint block) {
    uint step = gl_LocalInvocationID.x;
    if (step < BLOCK) {
        do {
            pixels[block % 8 * BLOCK + step] = pixel_of(min(first + block * BLOCK + step, end - 1));
            step += LANES;
        } while (step < BLOCK);
    }
}

// Of an image's tensor: the block has been located, and a barrier has come since.
uint pixel_at(uint block, uint step) {
    return pixels[block % 8 * BLOCK + step] + image * p.image_width * p.image_height;
}

void load_rows(uint block) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LANES;
        if (BLOCK * ROW % LANES == 0 || at < BLOCK * ROW) {
            loaded[i] = projected[pixel_at(block, at / ROW) * p.proj_stride + direction * p.proj_row + at % ROW];
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
    uint pair = min(gl_WorkGroupID.x * PAIRS + made_pair, p.width / 2 - 1);
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        uint at = (pixel_at(block, made_step + i * MADE) * p.source_stride + p.source_first) * 4 + pair;
        u_words[i] = HALF ? uvec2(source_halves[at], 0) : floatBitsToUint(source_floats[at]);
    }
}

vec2 softplus(vec2 v) {
    return hymn_add_log1p(max(v, vec2(0.0)), exp2(-1.44269504088896341 * abs(v)));
}

void make_deltas(uint block) {
    vec2 v[OWN];
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        v[i] = bias;
    }
    uint row = (block % 3 * BLOCK + made_step) * PITCH, to = (block % 2 * BLOCK + made_step) * PAIRS + made_pair;
    [[unroll]] for (uint r = 0; r < DT_END; r += 4) {
        vec2 w[4];
        [[unroll]] for (uint k = 0; k < 4; k++) {
            w[k] = dt_weights[(r + k) * PAIRS + made_pair];
        }
        [[unroll]] for (uint i = 0; i < OWN; i++) {
            vec4 dt = rows[row + i * MADE * PITCH + r / 4];
            v[i] = fma(w[3], vec2(dt.w), fma(w[2], vec2(dt.z), fma(w[1], vec2(dt.y), fma(w[0], vec2(dt.x), v[i]))));
        }
    }
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        vec2 delta = softplus(v[i]); // not within a condition: a branch would keep the steps apart
        delta = first + block * BLOCK + made_step + i * MADE < end ? delta : vec2(0.0);
        vec2 u = HALF ? unpackHalf2x16(u_words[i].x) : uintBitsToFloat(u_words[i]), du = delta * u;
        deltas[to + i * MADE * PAIRS] = vec4(delta.x, du.x, delta.y, du.y);
        if (MODE != 1) {
            skips[to + i * MADE * PAIRS] = skip * u;
        }
    }
}

// A part of a row's B or C, from float `from` on. A macro, for functions cannot return what constants size.
#define HYMN_LOAD_PART(to, row, from)                                                                                  \
    if (EACH % 4 == 0) {                                                                                               \
        [[unroll]] for (uint n = 0; n < EACH / 4; n++) {                                                               \
            vec4 x = rows[(row) + (from) / 4 + n];                                                                     \
            to[4 * n] = x.x, to[4 * n + 1] = x.y, to[4 * n + 2] = x.z, to[4 * n + 3] = x.w;                            \
        }                                                                                                              \
    } else {                                                                                                           \
        [[unroll]] for (uint n = 0; n < EACH; n++) {                                                                   \
            to[n] = rows[(row) + ((from) + n) / 4][((from) + n) % 4];                                                  \
        }                                                                                                              \
    }

// One step of the group's channels, their y (from this lane's states) to y[to] and on.
void advance(uint block, uint step, uint to) {
    uint row = (block % 3 * BLOCK + step) * PITCH, at = (block % 2 * BLOCK + step) * PAIRS + TILE * group / 2;
    float b[EACH], c[EACH];
    HYMN_LOAD_PART(b, row, DT_END + part * EACH)
    if (MODE != 1) {
        HYMN_LOAD_PART(c, row, B_END + part * EACH)
    }
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        vec4 both = deltas[at + k / 2];
        vec2 d = TILE > 1 ? (k % 2 == 0 ? both.xy : both.zw) : (group % 2 == 0 ? both.xy : both.zw);
        float sum = 0.0;
        [[unroll]] for (uint n = 0; n < EACH; n++) {
            uint i = k * EACH + n;
            h[i] = fma(exp2(d.x * a[i]), h[i], d.y * b[n]);
            if (MODE != 1) {
                sum = fma(h[i], c[n], sum);
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
        [[unroll]] for (uint i = 0; i < reach; i++) {                                                                  \
            float kept = upper ? y[i + reach] : y[i], sent = upper ? y[i] : y[i + reach];                              \
            y[i] = kept + subgroupShuffleXor(sent, reach);                                                             \
        }                                                                                                              \
    }

// FOLD steps from `step` on; returns y of one of them and one channel, both by the lane's part.
float scan_steps(uint block, uint step) {
    [[unroll]] for (uint i = 0; i < MAX_GROUP; i++) {
        if (i < FOLD) {
            advance(block, step + i, i * TILE);
        }
    }
    if (MODE == 1) {
        return 0.0;
    }
    HYMN_FOLD(8)
    HYMN_FOLD(4)
    HYMN_FOLD(2)
    HYMN_FOLD(1)
    return y[0];
}

// y: of step `own` of the block and the next MADE / 2; a lane stores a pair of channels of one of them.
void store_results(uint block, uint own, float first_y, float second_y) {
    uint channel = TILE * group + part % TILE, pair = channel / 2, at = (block % 2 * BLOCK + own) * PAIRS + pair;
    bool odd = (channel & 1) != 0;
    first_y += skips[at][channel & 1];
    second_y += skips[at + FOLD * PAIRS][channel & 1];
    float other = subgroupShuffleXor(odd ? first_y : second_y, PARTNER);
    vec2 both = odd ? vec2(other, second_y) : vec2(first_y, other);
    uint step = own + (odd ? FOLD : 0), stride = p.width / 2;
    pair += gl_WorkGroupID.x * PAIRS;
    if (first + block * BLOCK + step < end && pair < stride) {
        uint to = (plane + pixels[block % 8 * BLOCK + step]) * stride + pair;
        if (HALF) {
            result_halves[to] = HYMN_PACK_HALVES(clamp(both / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0)));
        } else {
            result_floats[to] = both;
        }
    }
}

void scan(uint block) {
    for (uint step = 0; step < BLOCK; step += MADE) {
        float first_y = scan_steps(block, step), second_y = scan_steps(block, step + FOLD);
        if (MODE != 1) {
            store_results(block, step + part / TILE, first_y, second_y);
        }
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
    uint made = min(gl_WorkGroupID.x * WIDTH + 2 * made_pair, p.width - 2);
    bias = vec2(weights[weights_at + made], weights[weights_at + made + 1]);
    skip = vec2(weights[weights_at + p.width + made], weights[weights_at + p.width + made + 1]);
    uint i = gl_LocalInvocationID.x;
    if (i < DT_END * PAIRS) {
        do {
            uint r = i / PAIRS, at = weights_at + (2 + STATES + r) * p.width;
            uint channel = min(gl_WorkGroupID.x * WIDTH + 2 * (i % PAIRS), p.width - 2);
            dt_weights[i] = r < RANK ? vec2(weights[at + channel], weights[at + channel + 1]) : vec2(0.0);
            i += LANES;
        } while (i < DT_END * PAIRS);
    }
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

void main() {
    uint lane = gl_LocalInvocationID.x, length = p.image_width * p.image_height, chunk = gl_WorkGroupID.z;
    direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2;
    plane = (direction * p.batch + image) * length;
    first = chunk * p.chunk_length, end = min(first + p.chunk_length, length);
    made_pair = lane % PAIRS, made_step = lane / PAIRS;
    // A group is of one subgroup, whatever the order of invocations in it.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    part = walker % GROUP, group = walker / GROUP;
    uint states_at = (direction * p.batch + image) * p.chunks + chunk;
    locate(0);
    locate(1);
    load_weights(direction * (2 + STATES + RANK) * p.width, states_at);
    if (!FULL) {
        for (uint i = lane; i < 3 * BLOCK * PITCH; i += LANES) {
            rows[i] = vec4(0.0); // what no row fills stays so
        }
    }

    uint blocks = (end - first + BLOCK - 1) / BLOCK;
    barrier();
    load_rows(0);
    for (uint turn = 0; turn < blocks + 2; turn++) { // block j = turn - 2
        if (turn < blocks) {
            store_rows(turn);
        }
        if (turn + 2 < blocks) {
            locate(turn + 2);
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
        if (turn >= 2) {
            scan(turn - 2);
        }
        barrier();
    }
    if (MODE == 1) {
        leave_ends(states_at);
    }
}
