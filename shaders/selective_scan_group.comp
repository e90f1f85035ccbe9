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
//   alternate: 2, or 1 where a group is all of a subgroup
// One workgroup = WIDTH = (lanes - HELPERS) / GROUP * TILE channels (a multiple of 2). Workgroups: x: channels;
// y: batch * 4 directions; z: chunks.
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
layout(constant_id = 8) const uint ROUNDS = 2;
layout(constant_id = 9) const uint HELPERS = 0;
layout(constant_id = 10) const uint WOVEN = 2;

const uint LANES = gl_WorkGroupSize.x;
const uint SCANNERS = LANES - HELPERS;
const uint MAKERS = HELPERS > 0 ? HELPERS : LANES; // lanes that do all but the scan
const uint WIDTH = SCANNERS / GROUP * TILE;
const uint PAIRS = WIDTH / 2;
const uint EACH = (STATES + GROUP - 1) / GROUP;
const uint MADE = MAKERS / PAIRS;                  // steps whose delta is made at a time
const uint OWN = BLOCK / MADE;                     // steps of a block whose delta a lane makes
const uint PAIRED = 2 * GROUP / TILE;              // steps after which each lane of the scan has a pair's y of one step
const uint FOLD = TILE > 1 ? PAIRED : GROUP;       // steps whose y a group adds up at a time
const uint ENDING = TILE > 1 ? 2 : 1;              // numbers that each lane ends with
const uint UNROLLED = BLOCK / PAIRED % ROUNDS == 0 ? ROUNDS * PAIRED : PAIRED; // steps
const uint TILE_PAIRS = TILE > 1 ? TILE / 2 : 1;
// Of a step: sixteen lanes store their results at a time, of PAIRED steps, each of which has banks of its own so.
const uint RESULTS = PAIRS + (PAIRED < 16 ? 16 / PAIRED : 1);
const uint ROW = (RANK + 2 * STATES + 3) / 4;      // of a step, in units of 4 floats
const uint LOADS = (BLOCK * ROW + MAKERS - 1) / MAKERS; // of a lane and block
const uint DT_END = (RANK + 3) / 4 * 4;            // in shared memory dt, B and C begin at multiples of 4 floats
const uint B_END = DT_END + (GROUP * EACH + 3) / 4 * 4;
const uint PITCH = (2 * B_END - DT_END) / 4;       // of a step in shared memory, in units of 4 floats
const uint LOCATED = 16 * BLOCK;                   // steps
const float UNIT = HALF ? 1.0 / HYMN_SCAN_UNIT : 1.0; // of y
const bool ALIGNED = RANK % 4 + STATES % 4 == 0; // not by &&, which glslang computes where it is first used
const bool HALVES = EACH % 4 == 2; // of four floats are what a lane reads of B and C
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
shared vec2 half_rows[HALVES ? 6 * BLOCK * PITCH : 1]; // the same, to be read in halves
shared vec4 deltas[TILE > 1 ? 2 * BLOCK * PAIRS : 1];       // [block % 2][step][pair]: delta, delta u of both channels
shared vec2 single_deltas[TILE > 1 ? 1 : 4 * BLOCK * PAIRS]; // likewise [block % 2][step][channel]
shared vec2 results[2 * BLOCK * RESULTS]; // likewise [block % 2][step][pair]: Ds u UNIT; with helpers, then y UNIT
shared vec2 dt_weights[DT_END * PAIRS];  // [r][pair]
shared uint pixels[LOCATED];             // [block % 16][step]: of the image, behind the end that of the last step

uint first, end; // the workgroup's steps
uint direction;

// Of the lanes that make delta: a pair of channels, every MADE-th step.
uint maker, made_pair, made_step, u_from;
vec2 bias, skip; // skip: in units of y

// Of the scan's lanes.
uint part, group; // lane of the group; the group's first channel is TILE * group
uint own_pair, own_step; // whose y it ends with: a pair of the workgroup's, every PAIRED-th step
float a[TILE * EACH], h[TILE * EACH], delta_sum[TILE]; // [channel][state]

vec4 loaded[LOADS];
uint load_step[LOADS], load_from[LOADS], load_to[LOADS]; // what is loaded: step of a block, and where
uvec2 u_words[OWN]; // as in memory: to convert them is to wait for them
uint result_from;
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

// The block has been located, and a barrier has come since.
void load_rows(uint block) {
    uint located = block * BLOCK % LOCATED;
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        if (BLOCK * ROW % MAKERS == 0 || maker + i * MAKERS < BLOCK * ROW) {
            loaded[i] = projected[pixels[located + load_step[i]] * p.proj_stride + load_from[i]];
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
    if (HALVES) {
        half_rows[2 * to + index / 2][index % 2] = value;
    }
}

// slot: where the block's rows are in shared memory, as below.
void store_rows(uint slot) {
    uint to = slot * (BLOCK * PITCH);
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = maker + i * MAKERS;
        if (BLOCK * ROW % MAKERS == 0 || at < BLOCK * ROW) {
            if (ALIGNED) {
                rows[to + load_to[i]] = loaded[i];
                if (HALVES) {
                    half_rows[2 * (to + load_to[i])] = loaded[i].xy;
                    half_rows[2 * (to + load_to[i]) + 1] = loaded[i].zw;
                }
            } else {
                [[unroll]] for (uint k = 0; k < 4; k++) {
                    if (4 * (at % ROW) + k < RANK + 2 * STATES) {
                        store_row_value(to + load_to[i], 4 * (at % ROW) + k, loaded[i][k]);
                    }
                }
            }
        }
    }
}

uvec2 load_words(uint at) {
    return HALF ? uvec2(source_halves[at], 0) : floatBitsToUint(source_floats[at]);
}

vec2 of_words(uvec2 words) {
    return HALF ? unpackHalf2x16(words.x) : uintBitsToFloat(words);
}

void load_u(uint block) {
    uint located = block * BLOCK % LOCATED + made_step;
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        u_words[i] = load_words(pixels[located + i * MADE] * (4 * p.source_stride) + u_from);
    }
}

vec2 softplus(vec2 v) {
    vec2 above = max(v, vec2(0.0)), t = exp2(-1.44269504088896341 * abs(v));
    return HALF ? hymn_add_log1p_short(above, t) : hymn_add_log1p(above, t);
}

void make_deltas(uint block, uint slot) {
    vec2 v[OWN];
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        v[i] = bias;
    }
    uint row = (slot * BLOCK + made_step) * PITCH, to = block % 2 * (BLOCK * PAIRS) + maker;
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
        if (MODE == 1) {
            delta = first + block * BLOCK + made_step + i * MADE < end ? delta : vec2(0.0);
        }
        vec2 u = of_words(u_words[i]), du = delta * u;
        if (TILE > 1) {
            deltas[to + i * MADE * PAIRS] = vec4(delta.x, du.x, delta.y, du.y);
        } else {
            single_deltas[2 * (to + i * MADE * PAIRS)] = vec2(delta.x, du.x);
            single_deltas[2 * (to + i * MADE * PAIRS) + 1] = vec2(delta.y, du.y);
        }
        if (MODE != 1) {
            results[(block % 2 * BLOCK + made_step + i * MADE) * RESULTS + made_pair] = skip * u;
        }
    }
}

// A lane's part of a row's B or C, from float `first` on. A macro, as functions cannot return what constants size.
#define HYMN_LOAD_PART(to, row, first)                                                                                 \
    if (HALVES) {                                                                                                      \
        [[unroll]] for (uint n = 0; n < EACH / 2; n++) {                                                               \
            vec2 x = half_rows[2 * (row) + part * (EACH / 2) + ((first) / 2 + n)];                                     \
            to[2 * n] = x.x, to[2 * n + 1] = x.y;                                                                      \
        }                                                                                                              \
    } else if (EACH % 4 == 0) {                                                                                        \
        [[unroll]] for (uint n = 0; n < EACH / 4; n++) {                                                               \
            vec4 x = rows[(row) + part * (EACH / 4) + ((first) / 4 + n)];                                              \
            to[4 * n] = x.x, to[4 * n + 1] = x.y, to[4 * n + 2] = x.z, to[4 * n + 3] = x.w;                            \
        }                                                                                                              \
    } else {                                                                                                           \
        [[unroll]] for (uint n = 0; n < EACH; n++) {                                                                   \
            uint i = (first) + part * EACH + n;                                                                        \
            to[n] = rows[(row) + i / 4][i % 4];                                                                        \
        }                                                                                                              \
    }

// One step of the group's channels, their y (from this lane's states) to y[to] and on. row: of the step; at: of its
// deltas.
void advance(uint row, uint at, uint to) {
    float b[EACH], c[EACH];
    HYMN_LOAD_PART(b, row, DT_END)
    if (MODE != 1) {
        HYMN_LOAD_PART(c, row, B_END)
    }
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        vec2 d;
        if (TILE == 1) {
            d = single_deltas[2 * at + group % 2];
        } else {
            vec4 both = deltas[at + k / 2];
            d = k % 2 == 0 ? both.xy : both.zw;
        }
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

// FOLD steps; leaves the lane's ENDING sums in y.
void fold_steps(uint row, uint at) {
    [[unroll]] for (uint i = 0; i < MAX_GROUP; i++) {
        if (i < FOLD) {
            advance(row + i * PITCH, at + i * PAIRS, i * TILE);
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
        fold_steps(row + FOLD * PITCH, at + FOLD * PAIRS);
        if (MODE != 1) {
            bool odd = (group & 1) != 0;
            float other = subgroupShuffleXor(odd ? both.x : y[0], 1); // the other of two woven groups
            both = odd ? vec2(other, y[0]) : vec2(both.x, other);
        }
    }
    return both;
}

void store_result(uint to, vec2 both) {
    if (HALF) {
        result_halves[to] = HYMN_PACK_HALVES(clamp(both, vec2(-65504.0), vec2(65504.0)));
    } else {
        result_floats[to] = both;
    }
}

// How many of a block's steps from `step` on are before the end, for a pair of the workgroup's; 0 behind the last pair.
uint steps_left(uint block, uint pair, uint step) {
    uint left = end - first - block * BLOCK;
    return left > step && gl_WorkGroupID.x * PAIRS + pair < p.width / 2 ? left - step : 0;
}

void scan(uint block, uint slot) {
    uint left = steps_left(block, own_pair, own_step), stride = p.width / 2;
    uint row = slot * (BLOCK * PITCH);
    uint at = block % 2 * (BLOCK * PAIRS) + (TILE > 1 ? group * TILE_PAIRS : group / 2);
    uint own_at = (block % 2 * BLOCK + own_step) * RESULTS + own_pair;
    uint located = block * BLOCK % LOCATED + own_step;
    for (uint step = 0; step < BLOCK; step += UNROLLED) {
        vec2 both[UNROLLED / PAIRED]; // a store would keep what is before and behind it apart
        [[unroll]] for (uint i = 0; i < UNROLLED / PAIRED; i++) {
            both[i] = scan_steps(row + i * PAIRED * PITCH, at + i * PAIRED * PAIRS);
        }
        [[unroll]] for (uint i = 0; i < UNROLLED / PAIRED; i++) {
            if (MODE != 1) { // loads are not for the condition to wait for
                both[i] = fma(both[i], vec2(UNIT), results[own_at + i * PAIRED * RESULTS]);
                if (HELPERS > 0) {
                    results[own_at + i * PAIRED * RESULTS] = both[i];
                } else {
                    uint to = pixels[located + i * PAIRED] * stride + result_from;
                    if (step + i * PAIRED < left) {
                        store_result(to, both[i]);
                    }
                }
            }
        }
        row += UNROLLED * PITCH, at += UNROLLED * PAIRS, own_at += UNROLLED * RESULTS, located += UNROLLED;
    }
}

// By helpers.
void store_results(uint block) {
    uint left = steps_left(block, made_pair, made_step), stride = p.width / 2;
    uint from = (block % 2 * BLOCK + made_step) * RESULTS + made_pair, located = block * BLOCK % LOCATED + made_step;
    vec2 both[OWN];
    uint to[OWN];
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        both[i] = results[from + i * MADE * RESULTS];
        to[i] = pixels[located + i * MADE] * stride + result_from;
    }
    if (left > BLOCK - MADE) { // one branch for nearly all blocks
        [[unroll]] for (uint i = 0; i < OWN; i++) {
            store_result(to[i], both[i]);
        }
    } else {
        [[unroll]] for (uint i = 0; i < OWN; i++) {
            if (i * MADE < left) {
                store_result(to[i], both[i]);
            }
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
    skip = UNIT * vec2(weights[weights_at + p.width + made], weights[weights_at + p.width + made + 1]);
    uint i = maker;
    if (i < DT_END * PAIRS) {
        do {
            uint r = i / PAIRS, at = weights_at + (2 + STATES + r) * p.width;
            uint channel = min(gl_WorkGroupID.x * WIDTH + 2 * (i % PAIRS), p.width - 2);
            dt_weights[i] = r < RANK ? vec2(weights[at + channel], weights[at + channel + 1]) : vec2(0.0);
            i += MAKERS;
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

// What the lane loads, makes and stores.
void place_lane(uint plane, uint image) {
    uint length = p.image_width * p.image_height;
    // A group is of one subgroup, as is what helps, whatever the order of invocations in it.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    maker = HELPERS > 0 ? walker - SCANNERS : gl_LocalInvocationID.x;
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = maker + i * MAKERS, index = at % ROW;
        bool is_c = index >= (RANK + STATES) / 4;
        load_step[i] = at / ROW;
        load_from[i] = image * length * p.proj_stride + direction * p.proj_row + index;
        load_to[i] = at / ROW * PITCH + (ALIGNED ? index + (is_c ? (B_END - RANK - STATES) / 4 : 0) : 0);
    }
    made_pair = maker % PAIRS, made_step = maker / PAIRS;
    u_from = (image * length * p.source_stride + p.source_first) * 4 +
             min(gl_WorkGroupID.x * PAIRS + made_pair, p.width / 2 - 1);
    part = walker / WOVEN % GROUP, group = walker / (WOVEN * GROUP) * WOVEN + walker % WOVEN;
    own_pair = TILE > 1 ? group * TILE_PAIRS + part % TILE_PAIRS : group / 2;
    own_step = TILE > 1 ? part / TILE_PAIRS : part + group % 2 * GROUP;
    result_from = plane * length * (p.width / 2) + gl_WorkGroupID.x * PAIRS + (HELPERS > 0 ? made_pair : own_pair);
}

// What goes on beside the scan of block turn - 2, by the lanes that do that too: what a turn loads, the next one uses.
void make_in_between(uint turn, uint blocks, uint stored, uint made) {
    if (turn < blocks) {
        store_rows(stored);
    }
    if (turn % 4 == 0) {
        locate(turn + 2, 4);
    }
    if (turn + 1 < blocks) {
        load_rows(turn + 1);
    }
    if (turn >= 1 && turn <= blocks) {
        make_deltas(turn - 1, made);
    }
    if (turn < blocks) {
        load_u(turn);
    }
}

// The same by helpers: nothing is kept from turn to turn, as compilers would copy it, and so wait for it. What is behind
// the last block is located as the last step, and so may be loaded and made too; in the first turns, when there are no
// rows yet, what is made is never read.
void help(uint turn, uint stored, uint made) {
    load_u(max(turn, 1) - 1);
    load_rows(turn);
    if (turn % 4 == 0) {
        locate(turn + 2, 4);
    }
    if (MODE != 1 && turn >= 3) {
        store_results(turn - 3); // before the same lane leaves what belongs to block turn - 1 in the same places
    }
    make_deltas(max(turn, 1) - 1, made);
    store_rows(stored);
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
    if (!FULL) {
        for (uint i = gl_LocalInvocationID.x; i < 3 * BLOCK * PITCH; i += LANES) {
            rows[i] = vec4(0.0); // what no row fills stays so
            if (HALVES) {
                half_rows[2 * i] = half_rows[2 * i + 1] = vec2(0.0);
            }
        }
    }

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
            if (HELPERS == 0) {
                make_in_between(turn, blocks, stored, made);
            }
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
