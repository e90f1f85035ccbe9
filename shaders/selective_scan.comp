// SPDX-License-Identifier: MIT
//
// Selective scan of a feature map in four directions (S6 of Mamba, arXiv 2312.00752; SS2D of VMamba, arXiv 2401.10166).
// Direction k visits the L = H W pixels in the order l = h W + w (k = 0), w H + h (k = 1), or these reversed (2, 3); with
// row = proj[b, pixel(l), k] = [dt (R) | B (N) | C (N)]:
//   delta = softplus(W_dt dt + bias)                              softplus(v) = max(v, 0) + log(1 + exp(-|v|))
//   h[n]  = exp(delta A[n]) h[n] + delta u B[n],   y[k, b, pixel(l)] = sum over n of h[n] C[n] + Ds u
//   u: [batch, H, W, source_stride cells], a slice from source_first on   proj: [batch, H, W, proj_stride] f32, direction
//   k's row from 4 k proj_row on   y: [4, batch, H, W, cells], in f16 in units of HYMN_SCAN_UNIT
// One lane = two neighbouring channels (a word of f16) of one direction of one image and one chunk of the sequence, their
// states in registers; all lanes of a workgroup walk the same pixels, so rows are uniform loads. MODE 0: the whole
// sequence from a zero state. Long sequences on wide devices take three passes: MODE 1, each chunk but the last from a
// zero state, leaves its end state and the sum of delta; selective_scan_carry turns those into the states that chunks
// begin with; MODE 2, each chunk from its state, writes y. delta, A and h are f32; A is stored times log2(e), so that exp
// is exp2.
// With JOINT defined, two passes do: a workgroup has SPAN consecutive chunks (a workgroup's share of channels each), and
// its lanes share out the states to combine what these leave, each from a zero state. MODE 1 leaves in a chunk's place
// the state and the sum of delta that those before it in the workgroup come to, and in the place of the first the
// workgroup's; MODE 2 combines the workgroups before its own, in order, as selective_scan_carry combines chunks (SPAN 1:
// the same sums to the bit), and goes on from there to its chunks' states.
// With FEW defined, for devices whose shaders have four storage buffers, there is MODE 0 alone.
// With SHUFFLE defined, for software devices, where a load is a loop over lanes even if all want the same address: each
// lane loads another part of a row, and shuffles from constant lanes spread it.
//   binding 0: u   1: proj   2: weights, per direction rows of `width` floats: bias, Ds, A (N), W_dt transposed (R)
//   3: y   4: states [4, batch, chunks, N, width] f32   5: sums of delta [4, batch, chunks, width] f32
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: HOLD, W_dt in registers instead of read at every step
//   5: MODE   6: LANES that share a row's load (SHUFFLE), at most those of a subgroup; SPAN (JOINT): more than 1 in
//   MODE 1; the workgroup's size is a multiple of it   7: ROUND (JOINT): states of each chunk that MODE 1 has in shared
//   memory at a time, for that limits how many workgroups run at once; at most N   8: STAGED (JOINT): each lane loads
//   another part of the next step's row, which goes to shared memory during a step, so that none waits for device
//   memory and no more registers are taken; a chunk's lanes are a subgroup then
// Workgroups: x: channels; y: batch * 4 directions; z: chunks, or with JOINT spans of them.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#if defined(SHUFFLE) || defined(JOINT)
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const bool HOLD = true;
#ifdef FEW
const uint MODE = 0;
#else
layout(constant_id = 5) const uint MODE = 0;
#endif
#ifdef JOINT
layout(constant_id = 6) const uint SPAN = 4;
layout(constant_id = 7) const uint ROUND = 8;
layout(constant_id = 8) const bool STAGED = false;
#else
layout(constant_id = 6) const uint LANES = 8;
#endif

const uint ROW_FIRST = HOLD ? 0 : RANK / 4; // what is kept of a row, in units of 4 floats
const uint ROW_END = (RANK + 2 * STATES + 3) / 4;
const uint B_FIRST = RANK - 4 * ROW_FIRST;
const uint HELD_RANK = HOLD ? RANK : 1;

layout(set = 0, binding = 0) readonly buffer SourceHalves { uint source_halves[]; };
layout(set = 0, binding = 0) readonly buffer SourceFloats { vec2 source_floats[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 1) readonly buffer ProjectedFloats { float projected_floats[]; };
layout(set = 0, binding = 2) readonly buffer Weights { vec2 weights[]; };
layout(set = 0, binding = 3) writeonly buffer ResultHalves { uint result_halves[]; };
layout(set = 0, binding = 3) writeonly buffer ResultFloats { vec2 result_floats[]; };
#ifndef FEW
layout(set = 0, binding = 4) buffer States { vec2 states[]; };
layout(set = 0, binding = 5) buffer Sums { vec2 sums[]; };
#endif
layout(push_constant) uniform Params { hymn_scan_params p; };

#include "common/scan.glsl"

// Of the lane's two channels.
vec2 bias, skip, a[STATES], h[STATES], dt_weights[HELD_RANK];
float row[4 * (ROW_END - ROW_FIRST)];

vec2 exp2_of(vec2 x) {
    return SOFTWARE ? hymn_exp2_polynomial(x) : exp2(x);
}

vec2 softplus(vec2 v) {
    return hymn_add_log1p(max(v, vec2(0.0)), exp2_of(-1.44269504088896341 * abs(v)));
}

// at: of the direction's first row of weights, in pairs of channels.
void load_a(uint at, uint pairs) {
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        a[n] = weights[at + (2 + n) * pairs];
    }
}

void load_parameters(uint at, uint pairs) {
    bias = weights[at];
    skip = weights[at + pairs];
    if (HOLD) {
        [[unroll]] for (uint r = 0; r < RANK; r++) {
            dt_weights[r] = weights[at + (2 + STATES + r) * pairs];
        }
    }
}

// at: in units of 4 floats.
void load_row(uint at) {
#ifdef SHUFFLE
    vec4 part;
    uint lane = gl_SubgroupInvocationID % LANES;
#endif
    [[unroll]] for (uint i = 0; i < ROW_END - ROW_FIRST; i++) {
#ifdef SHUFFLE
        if (i % LANES == 0) {
            part = projected[at + min(ROW_FIRST + i + lane, ROW_END - 1)];
        }
        vec4 x = subgroupShuffle(part, i % LANES);
#else
        vec4 x = projected[at + ROW_FIRST + i];
#endif
        row[4 * i] = x.x, row[4 * i + 1] = x.y, row[4 * i + 2] = x.z, row[4 * i + 3] = x.w;
    }
}

// softplus(W_dt dt + bias).
vec2 project_delta(uint row_at, uint weights_at, uint pairs) {
    vec2 v = bias;
    if (HOLD) {
        [[unroll]] for (uint r = 0; r < RANK; r++) {
            v = fma(dt_weights[r], vec2(row[r]), v);
        }
    } else {
        // Four at a time: their loads overlap, and no compiler can carry them out of the walk and into registers. A loop
        // that leaves at its end: its turns count among those that an invocation has (common/grid.glsl), and
        // choose_chunk_length of scan_choice.c reckons with RANK / 4 a step.
        if (RANK >= 4) {
            uint r = 0;
            [[dont_unroll]] do {
                vec4 dt = projected[row_at + r / 4];
                uint at = weights_at + (2 + STATES + r) * pairs;
                [[unroll]] for (uint i = 0; i < 4; i++) {
                    v = fma(weights[at + i * pairs], vec2(dt[i]), v);
                }
                r += 4;
            } while (r + 4 <= RANK);
        }
        [[unroll]] for (uint r = RANK / 4 * 4; r < RANK; r++) {
            v = fma(weights[weights_at + (2 + STATES + r) * pairs], vec2(projected_floats[4 * row_at + r]), v);
        }
    }
    return softplus(v);
}

// One step; returns y.
vec2 advance(vec2 delta, vec2 u) {
    vec2 du = delta * u, y = skip * u;
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = fma(exp2_of(delta * a[n]), h[n], du * row[B_FIRST + n]);
        y = fma(h[n], vec2(row[B_FIRST + STATES + n]), y);
    }
    return y;
}

// As it is in memory: to convert it is to wait for it.
uvec2 load_source(uint at) {
    return HALF ? uvec2(source_halves[at], 0) : floatBitsToUint(source_floats[at]);
}

vec2 convert_source(uvec2 words) {
    return HALF ? unpackHalf2x16(words.x) : uintBitsToFloat(words);
}

void store_result(uint at, vec2 y) {
    if (HALF) {
        result_halves[at] = HYMN_PACK_HALVES(clamp(y / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0)));
    } else {
        result_floats[at] = y;
    }
}

// The steps of a chunk; returns the sum of delta.
vec2 walk(uint plane, uint image, uint direction, uint chunk, uint weights_at, uint pairs, uint pair, bool stores) {
    uint length = p.image_width * p.image_height, first = chunk * p.chunk_length;
    uint steps = min(p.chunk_length, length - first);

    hymn_walk place = hymn_walk_from(direction, first);
    uint row_from = image * length * p.proj_stride + direction * p.proj_row;
    uint u_from = (image * length * p.source_stride + p.source_first) * 4 + pair;
    uint result_from = plane * length * pairs + pair;
    vec2 delta_sum = vec2(0.0);
    do {
        uint row_at = place.at * p.proj_stride + row_from;
        load_row(row_at);
        vec2 u = convert_source(load_source(place.at * (p.source_stride * 4) + u_from));
        vec2 delta = project_delta(row_at, weights_at, pairs);
        vec2 y = advance(delta, u);
        delta_sum += delta;
        if (stores) {
            store_result(place.at * pairs + result_from, y);
        }
        hymn_walk_on(place);
        steps--;
    } while (steps > 0);
    return delta_sum;
}

#ifdef JOINT
const uint WIDTH = gl_WorkGroupSize.x / SPAN;       // lanes of a chunk
const uint EACH = (STATES + SPAN - 1) / SPAN;       // states that a lane combines
const uint AHEAD = EACH > 4 ? 2 : EACH > 2 ? 4 : 8; // of what is loaded at a time
const uint SHARE = (ROUND + SPAN - 1) / SPAN;       // in MODE 1, of a round's
const uint ROUNDS = (STATES + ROUND - 1) / ROUND;

// As span_shared_bytes of scan_choice.c counts it. With SPAN 1 each lane combines what it needs itself.
const uint LAST_ENDS = SPAN > 1 ? STATES * WIDTH : 1;
shared vec2 ends[MODE == 2 ? LAST_ENDS : SPAN * ROUND * WIDTH]; // MODE 1: [slot][n][lane]; MODE 2: [n][lane]
shared vec2 end_sums[MODE == 2 ? 1 : SPAN * WIDTH];             // MODE 1: [slot][lane]

const uint NEEDED = MODE == 1 ? (RANK + STATES + 3) / 4 - ROW_FIRST : ROW_END - ROW_FIRST; // of a row
const uint LOADS = (NEEDED + WIDTH - 1) / WIDTH;                                           // of a lane

shared vec4 staged[STAGED ? 2 * SPAN * NEEDED : 1]; // [slot][step % 2]: rows
vec4 loaded[LOADS];

void load_share(uint lane, uint row_at) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        loaded[i] = projected[row_at + ROW_FIRST + min(lane + i * WIDTH, NEEDED - 1)];
    }
}

void stage(uint lane, uint to) {
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        if (lane + i * WIDTH < NEEDED) {
            staged[to + lane + i * WIDTH] = loaded[i];
        }
    }
    subgroupBarrier();
}

// As walk, of all lanes of the workgroup, which take as many turns, also those whose chunk has fewer steps, or none: a
// subgroup's barrier is one of the whole workgroup on lavapipe.
vec2 walk_staged(uint slot, uint lane, uint plane, uint image, uint direction, uint chunk, uint steps, uint turns,
                 uint weights_at, uint pairs, uint pair, bool real) {
    uint length = p.image_width * p.image_height, first = chunk * p.chunk_length;
    uint from = slot * 2 * NEEDED, to = from + NEEDED, i = 0;

    hymn_walk place = hymn_walk_from(direction, first);
    uint row_from = image * length * p.proj_stride + direction * p.proj_row;
    uint u_from = (image * length * p.source_stride + p.source_first) * 4 + pair;
    uint result_from = plane * length * pairs + pair, row_at = place.at * p.proj_stride + row_from;
    vec2 delta_sum = vec2(0.0);
    load_share(lane, row_at);
    uvec2 words = load_source(place.at * (p.source_stride * 4) + u_from);
    stage(lane, from);
    do {
        uint result_at = place.at * pairs + result_from, own_row_at = row_at;
        vec2 u = convert_source(words);
        if (i + 1 < steps) {
            hymn_walk_on(place);
        }
        row_at = place.at * p.proj_stride + row_from;
        load_share(lane, row_at);
        words = load_source(place.at * (p.source_stride * 4) + u_from);
        [[unroll]] for (uint i = 0; i < NEEDED; i++) {
            vec4 x = staged[from + i];
            row[4 * i] = x.x, row[4 * i + 1] = x.y, row[4 * i + 2] = x.z, row[4 * i + 3] = x.w;
        }
        vec2 delta = project_delta(own_row_at, weights_at, pairs);
        if (MODE == 1) {
            delta = i < steps ? delta : vec2(0.0);
        }
        vec2 y = advance(delta, u);
        delta_sum += delta;
        if (MODE == 2 && real && i < steps) {
            store_result(result_at, y);
        }
        stage(lane, to);
        uint other = from;
        from = to, to = other;
        i++;
    } while (i < turns);
    return delta_sum;
}

// The lane's place: slot, of the workgroup's chunks; lane, of the chunk's. part: the slot's chunk of all planes.
// The workgroup's chunks from zero states, h and delta_sum, come together; `count` of its chunks exist.
void leave_ends(uint slot, uint lane, uint part, uint count, uint weights_at, uint pairs, uint pair, bool real,
                vec2 delta_sum) {
    uint size = STATES * pairs, first_at = (part - slot) * size + pair;
    vec2 own_a[ROUNDS * SHARE];
    [[unroll]] for (uint i = 0; i < ROUNDS * SHARE; i++) {
        uint n = i / SHARE * ROUND + slot * SHARE + i % SHARE;
        own_a[i] = weights[weights_at + (2 + min(n, STATES - 1)) * pairs];
    }
    end_sums[slot * WIDTH + lane] = delta_sum;
    [[unroll]] for (uint base = 0; base < STATES; base += ROUND) {
        if (base > 0) {
            barrier();
        }
        [[unroll]] for (uint i = 0; i < ROUND; i++) {
            ends[(slot * ROUND + i) * WIDTH + lane] = h[min(base + i, STATES - 1)];
        }
        barrier();
        [[unroll]] for (uint i = 0; i < SHARE; i++) {
            uint m = slot * SHARE + i, n = base + m;
            if (m < ROUND && n < STATES && real) {
                vec2 end[SPAN], decay[SPAN], carried = vec2(0.0);
                [[unroll]] for (uint s = 0; s < SPAN; s++) {
                    end[s] = ends[(s * ROUND + m) * WIDTH + lane];
                    decay[s] = exp2(own_a[base / ROUND * SHARE + i] * end_sums[s * WIDTH + lane]);
                }
                [[unroll]] for (uint s = 0; s < SPAN; s++) {
                    if (s > 0 && s < count) {
                        states[first_at + s * size + n * pairs] = carried;
                    }
                    carried = fma(decay[s], carried, end[s]);
                }
                states[first_at + n * pairs] = carried;
            }
        }
    }
    vec2 sum = vec2(0.0);
    uint before = slot == 0 ? SPAN : slot;
    [[unroll]] for (uint s = 0; s < SPAN; s++) {
        vec2 next = sum + end_sums[s * WIDTH + lane];
        sum = s < before ? next : sum;
    }
    if (slot < count && real) {
        sums[part * pairs + pair] = sum;
    }
}

// a, and h: what the chunk begins with. first: the plane's first chunk; spans: workgroups before this one.
void find_states(uint slot, uint lane, uint first, uint part, uint spans, uint weights_at, uint pairs, uint pair) {
    vec2 own_a[EACH], carried[EACH];
    [[unroll]] for (uint i = 0; i < EACH; i++) {
        own_a[i] = weights[weights_at + (2 + min(slot * EACH + i, STATES - 1)) * pairs];
        carried[i] = vec2(0.0);
    }
    // All of a round's loads, and of the chunk's own, come before the first use: what is not to be is selected later,
    // for a branch around a load is one more wait.
    vec2 own_sum = sums[part * pairs + pair];
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = SPAN > 1 ? states[(part * STATES + n) * pairs + pair] : vec2(0.0);
    }
    if (spans > 0) { // loops leave at their end: see CONTRIBUTING
        uint j = 0;
        do {
            vec2 end[AHEAD * EACH], sum[AHEAD];
            [[unroll]] for (uint k = 0; k < AHEAD; k++) {
                uint from = first + min(j + k, spans - 1) * SPAN;
                sum[k] = sums[from * pairs + pair];
                [[unroll]] for (uint i = 0; i < EACH; i++) {
                    uint n = min(slot * EACH + i, STATES - 1);
                    end[k * EACH + i] = states[(from * STATES + n) * pairs + pair];
                }
            }
            [[unroll]] for (uint k = 0; k < AHEAD; k++) {
                [[unroll]] for (uint i = 0; i < EACH; i++) {
                    vec2 next = fma(exp2(own_a[i] * sum[k]), carried[i], end[k * EACH + i]);
                    carried[i] = j + k < spans ? next : carried[i];
                }
            }
            j += AHEAD;
        } while (j < spans);
    }
    if (SPAN > 1) {
        [[unroll]] for (uint i = 0; i < EACH; i++) {
            if (slot * EACH + i < STATES) {
                ends[(slot * EACH + i) * WIDTH + lane] = carried[i];
            }
        }
        load_a(weights_at, pairs);
        barrier();
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            vec2 begin = ends[n * WIDTH + lane], next = fma(exp2(a[n] * own_sum), begin, h[n]);
            h[n] = slot > 0 ? next : begin;
        }
    } else {
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            h[n] = carried[min(n, EACH - 1)];
            a[n] = own_a[min(n, EACH - 1)];
        }
    }
}

void main() {
    // A chunk has a subgroup, where the sizes are equal: then its rows are uniform loads.
    uint walker = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    uint slot = WIDTH == gl_SubgroupSize ? gl_SubgroupID : walker / WIDTH, lane = walker % WIDTH;
    uint pairs = p.width / 2, pair = gl_WorkGroupID.x * WIDTH + lane;
    bool real = pair < pairs;
    pair = real ? pair : 0; // all lanes take part in barriers
    uint direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2;
    uint plane = direction * p.batch + image, first = plane * p.chunks, first_chunk = gl_WorkGroupID.z * SPAN;
    uint count = min(SPAN, p.chunks - first_chunk), chunk = first_chunk + min(slot, count - 1);
    uint weights_at = direction * (2 + STATES + RANK) * pairs + pair;
    uint turns = min(p.chunk_length, p.image_width * p.image_height - first_chunk * p.chunk_length);
    // The last chunk may be shorter, and nothing needs its end.
    uint steps = min(p.chunk_length, p.image_width * p.image_height - chunk * p.chunk_length);
    steps = slot < count && (MODE == 2 || first_chunk + slot + 1 < p.chunks) ? steps : 0;
    if (MODE == 2) {
        find_states(slot, lane, first, first + chunk, gl_WorkGroupID.z, weights_at, pairs, pair);
        load_parameters(weights_at, pairs); // these take registers that were of use before
        if (STAGED) {
            walk_staged(slot, lane, plane, image, direction, chunk, steps, turns, weights_at, pairs, pair, real);
        } else if (steps > 0 && real) {
            walk(plane, image, direction, chunk, weights_at, pairs, pair, true);
        }
    } else {
        vec2 delta_sum = vec2(0.0);
        load_a(weights_at, pairs);
        load_parameters(weights_at, pairs);
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            h[n] = vec2(0.0);
        }
        if (STAGED) {
            delta_sum =
                walk_staged(slot, lane, plane, image, direction, chunk, steps, turns, weights_at, pairs, pair, real);
        } else if (steps > 0) {
            delta_sum = walk(plane, image, direction, chunk, weights_at, pairs, pair, false);
        }
        leave_ends(slot, lane, first + first_chunk + slot, count, weights_at, pairs, pair, real, delta_sum);
    }
}
#else
void main() {
    uint pairs = p.width / 2, pair = gl_GlobalInvocationID.x;
    bool real = pair < pairs;
#ifdef SHUFFLE
    pair = real ? pair : 0; // all lanes take part in shuffles
#else
    if (!real) {
        return;
    }
#endif
    uint direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2, chunk = gl_WorkGroupID.z;
    uint weights_at = direction * (2 + STATES + RANK) * pairs + pair;
    load_a(weights_at, pairs);
    load_parameters(weights_at, pairs);
    uint plane = direction * p.batch + image, part = plane * p.chunks + chunk;
#ifdef FEW
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = vec2(0.0);
    }
    walk(plane, image, direction, chunk, weights_at, pairs, pair, true);
#else
    uint states_at = part * STATES * pairs + pair;
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = MODE == 2 ? states[states_at + n * pairs] : vec2(0.0);
    }
    vec2 delta_sum = walk(plane, image, direction, chunk, weights_at, pairs, pair, MODE != 1 && real);
    if (MODE == 1 && real) {
        sums[part * pairs + pair] = delta_sum;
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            states[states_at + n * pairs] = h[n];
        }
    }
#endif
}
#endif
