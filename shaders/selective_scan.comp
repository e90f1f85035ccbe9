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
// With SHUFFLE defined, for software devices, where a load is a loop over lanes even if all want the same address: each
// lane loads another part of a row, and shuffles from constant lanes spread it.
//   binding 0: u   1: proj   2: weights, per direction rows of `width` floats: bias, Ds, A (N), W_dt transposed (R)
//   3: y   4: states [4, batch, chunks, N, width] f32   5: sums of delta [4, batch, chunks, width] f32
//   constants 0, 1: common/grid.glsl   2: N   3: R   4: HOLD, W_dt in registers instead of read at every step
//   5: MODE   6: LANES that share a row's load (SHUFFLE), at most those of a subgroup
// Workgroups: x: channels; y: batch * 4 directions; z: chunks.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef SHUFFLE
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "common/exp.glsl"
#include "common/grid.glsl"
#include "common/load.glsl"
#include "params.h"

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const bool HOLD = true;
layout(constant_id = 5) const uint MODE = 0;
layout(constant_id = 6) const uint LANES = 8;

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
layout(set = 0, binding = 4) buffer States { vec2 states[]; };
layout(set = 0, binding = 5) writeonly buffer Sums { vec2 sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

// Of the lane's two channels.
vec2 bias, skip, a[STATES], h[STATES], dt_weights[HELD_RANK];
float row[4 * (ROW_END - ROW_FIRST)];

vec2 exp2_of(vec2 x) {
    return SOFTWARE ? hymn_exp2_polynomial(x) : exp2(x);
}

vec2 softplus(vec2 v) {
    return max(v, vec2(0.0)) + hymn_log1p(exp2_of(-1.44269504088896341 * abs(v)));
}

// at: of the direction's first row of weights, in pairs of channels.
void load_parameters(uint at, uint pairs) {
    bias = weights[at];
    skip = weights[at + pairs];
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        a[n] = weights[at + (2 + n) * pairs];
    }
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
        // Four at a time: their loads overlap, and no compiler can carry them out of the walk and into registers.
        [[dont_unroll]] for (uint r = 0; r + 4 <= RANK; r += 4) {
            vec4 dt = projected[row_at + r / 4];
            uint at = weights_at + (2 + STATES + r) * pairs;
            [[unroll]] for (uint i = 0; i < 4; i++) {
                v = fma(weights[at + i * pairs], vec2(dt[i]), v);
            }
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

vec2 load_source(uint at) {
    return HALF ? unpackHalf2x16(source_halves[at]) : source_floats[at];
}

void store_result(uint at, vec2 y) {
    if (HALF) {
        result_halves[at] = HYMN_PACK_HALVES(clamp(y / HYMN_SCAN_UNIT, vec2(-65504.0), vec2(65504.0)));
    } else {
        result_floats[at] = y;
    }
}

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
    uint length = p.image_width * p.image_height, first = chunk * p.chunk_length;
    uint steps = min(p.chunk_length, length - first);

    // Where the sequence goes: `left` steps to the end of a column (or never), then on to the next one.
    bool columns = (direction & 1) != 0, reversed = direction >= 2;
    uint at = reversed ? length - 1 - first : first;
    int step = 1, turn = 0;
    uint left = 0xFFFFFFFF;
    if (columns) {
        uint x = at / p.image_height, y = at - x * p.image_height;
        at = y * p.image_width + x;
        step = int(p.image_width), turn = 1 - int(length);
        left = reversed ? y + 1 : p.image_height - y;
    }
    step = reversed ? -step : step;
    turn = reversed ? -turn : turn;

    uint weights_at = direction * (2 + STATES + RANK) * pairs + pair;
    load_parameters(weights_at, pairs);
    uint plane = direction * p.batch + image, part = plane * p.chunks + chunk;
    uint states_at = part * STATES * pairs + pair;
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        h[n] = MODE == 2 ? states[states_at + n * pairs] : vec2(0.0);
    }
    vec2 delta_sum = vec2(0.0);
    do {
        uint pixel = image * length + at, row_at = pixel * p.proj_stride + direction * p.proj_row;
        load_row(row_at);
        vec2 u = load_source((pixel * p.source_stride + p.source_first) * 4 + pair);
        vec2 delta = project_delta(row_at, weights_at, pairs);
        vec2 y = advance(delta, u);
        delta_sum += delta;
        if (MODE != 1 && real) {
            store_result((plane * length + at) * pairs + pair, y);
        }
        at = uint(int(at) + step);
        left--;
        if (left == 0) {
            at = uint(int(at) + turn);
            left = p.image_height;
        }
        steps--;
    } while (steps > 0);
    if (MODE == 1 && real) {
        sums[part * pairs + pair] = delta_sum;
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            states[states_at + n * pairs] = h[n];
        }
    }
}
