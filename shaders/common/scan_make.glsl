// SPDX-License-Identifier: MIT
//
// What of selective_scan_group.comp is not recurrence: rows of the projection and u are loaded, delta is made, results are
// stored. Of that shader, included behind its constants and what its lanes share. By helpers, or, where there are none, by
// the lanes that scan: each for a pair of channels and every MADE-th step.
#ifndef HYMN_SCAN_MAKE_GLSL
#define HYMN_SCAN_MAKE_GLSL

const uint MADE = MAKERS / PAIRS;                       // steps whose delta is made at a time
const uint OWN = BLOCK / MADE;                          // steps of a block whose delta a lane makes
const uint ROW = (RANK + 2 * STATES + 3) / 4;           // of a step, in units of 4 floats
const uint LOADS = (BLOCK * ROW + MAKERS - 1) / MAKERS; // of a lane and block
const bool ALIGNED = RANK % 4 + STATES % 4 == 0; // not by &&, which glslang computes where it is first used
const bool FULL = RANK % 4 + STATES % 4 + (GROUP * EACH - STATES) == 0; // rows fill all of their pitch

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { vec2 source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 1) readonly buffer ProjectedHalves { uvec2 projected_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { vec2 result_floats[]; };

shared vec4 deltas[TILE > 1 ? 2 * BLOCK * PAIRS : 1];       // [block % 2][step][pair]: delta, delta u of both channels
shared vec2 single_deltas[TILE > 1 ? 1 : 4 * BLOCK * PAIRS]; // likewise [block % 2][step][channel]
// Likewise [block % 2][step][pair]: Ds u UNIT; with helpers, then y UNIT.
shared vec2 results[2 * BLOCK * RESULTS];
shared vec2 dt_weights[DT_END * PAIRS];                      // [r][pair]

uint made_pair, made_step, u_from, result_from;
vec2 bias, skip;                                         // skip: in units of y
uvec2 u_words[OWN];                                      // as in memory: to convert them is to wait for them
uvec4 loaded[LOADS];                                     // likewise
uint load_step[LOADS], load_from[LOADS], load_to[LOADS]; // what is loaded: step of a block, and where
vec2 now[TILE];                                          // delta and delta u of the step that is scanned

// first_row: of the image and direction, in units of four numbers; first_u: of the image, in pairs; first_result: of
// the sequence, likewise.
void place_maker(uint first_row, uint first_u, uint first_result) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = maker + i * MAKERS, index = at % ROW;
        bool is_c = index >= (RANK + STATES) / 4;
        load_step[i] = at / ROW;
        load_from[i] = first_row + index;
        load_to[i] = at / ROW * PITCH + (ALIGNED ? index + (is_c ? (B_END - RANK - STATES) / 4 : 0) : 0);
    }
    made_pair = maker % PAIRS, made_step = maker / PAIRS;
    u_from = first_u + min(gl_WorkGroupID.x * PAIRS + made_pair, p.width / 2 - 1);
    result_from = first_result + gl_WorkGroupID.x * PAIRS + (HELPERS > 0 ? made_pair : own_pair);
}

// weights_at: of the direction.
void load_made_weights(uint weights_at) {
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

// What no row fills stays zero. By all lanes.
void clear_rows() {
    if (!FULL) {
        for (uint i = gl_LocalInvocationID.x; i < 3 * BLOCK * PITCH; i += LANES) {
            rows[i] = vec4(0.0);
            if (HALVES) {
                half_rows[2 * i] = half_rows[2 * i + 1] = vec2(0.0);
            }
        }
    }
}

// The block has been located, and a barrier has come since.
void load_rows(uint block) {
    uint located = block * BLOCK % LOCATED;
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        if (BLOCK * ROW % MAKERS == 0 || maker + i * MAKERS < BLOCK * ROW) {
            uint from = pixels[located + load_step[i]] * p.proj_stride + load_from[i];
            loaded[i] = HALF_ROWS ? uvec4(projected_halves[from], 0, 0) : floatBitsToUint(projected[from]);
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

// slot: where the block's rows are in shared memory.
void store_rows(uint slot) {
    uint to = slot * (BLOCK * PITCH);
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint at = maker + i * MAKERS;
        if (BLOCK * ROW % MAKERS == 0 || at < BLOCK * ROW) {
            vec4 row = HALF_ROWS ? vec4(unpackHalf2x16(loaded[i].x), unpackHalf2x16(loaded[i].y))
                                 : uintBitsToFloat(loaded[i]);
            if (ALIGNED) {
                rows[to + load_to[i]] = row;
                if (HALVES) {
                    half_rows[2 * (to + load_to[i])] = row.xy;
                    half_rows[2 * (to + load_to[i]) + 1] = row.zw;
                }
            } else {
                [[unroll]] for (uint k = 0; k < 4; k++) {
                    if (4 * (at % ROW) + k < RANK + 2 * STATES) {
                        store_row_value(to + load_to[i], 4 * (at % ROW) + k, row[k]);
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

// slot: likewise.
void make_deltas(uint block, uint slot) {
    vec2 v[OWN];
    [[unroll]] for (uint i = 0; i < OWN; i++) {
        v[i] = bias;
    }
    uint row = (slot * BLOCK + made_step) * PITCH;
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
    uint to = block % 2 * (BLOCK * PAIRS) + made_step * PAIRS + made_pair;
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
    if (left > (OWN - 1) * MADE) { // one branch for nearly all blocks
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

// Where the deltas of the lane's channels are, from the block's first step on, and so many steps further.
uint deltas_from(uint block) {
    return TILE > 1 ? block % 2 * (BLOCK * PAIRS) + group * TILE_PAIRS : block % 2 * (BLOCK * WIDTH) + group;
}

uint deltas_after(uint steps) {
    return steps * (TILE > 1 ? PAIRS : WIDTH);
}

// Of the i-th step from there.
void take_deltas(uint at, uint i) {
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        if (TILE == 1) {
            now[k] = single_deltas[at + i * WIDTH];
        } else {
            vec4 both = deltas[at + i * PAIRS + k / 2];
            now[k] = k % 2 == 0 ? both.xy : both.zw;
        }
    }
}

// y of the lane's own pair, of a step of the block; at: its place among the results.
void leave_result(uint block, uint step, uint at, vec2 both) {
    both = fma(both, vec2(UNIT), results[at]);
    if (HELPERS > 0) {
        results[at] = both;
    } else {
        uint to = pixels[block * BLOCK % LOCATED + step] * (p.width / 2) + result_from; // not for what follows to wait for
        if (steps_left(block, own_pair, step) > 0) {
            store_result(to, both);
        }
    }
}

#endif
