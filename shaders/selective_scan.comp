// SPDX-License-Identifier: MIT
//
// Selective scan of a feature map in four directions (S6 of Mamba, arXiv 2312.00752; SS2D of VMamba, arXiv 2401.10166).
// Direction k visits the L = H W pixels in the order l = h W + w (k = 0), w H + h (k = 1), or these reversed (2, 3); with
// row = proj[b, pixel(l), k] = [dt (R) | B (N) | C (N)]:
//   delta = softplus(W_dt dt + bias)                              softplus(v) = max(v, 0) + log(1 + exp(-|v|))
//   h[n]  = exp(delta A[n]) h[n] + delta u B[n],   y[k, b, pixel(l)] = sum over n of h[n] C[n] + Ds u
//   u: [batch, H, W, source_stride cells], a slice from source_first on   proj: [batch, H, W, proj_stride] f32, direction
//   k's row from 4 k proj_row on   y: [4, batch, H, W, cells]
// One lane = PER_LANE neighbouring channels of one direction of one image and one chunk of the sequence, their states in
// registers; all lanes of a workgroup walk the same pixels, so rows are uniform loads. MODE 0: the whole sequence from a
// zero state. Long sequences on wide devices take three passes: MODE 1, each chunk but the last from a zero state, leaves
// its end state and the sum of delta; selective_scan_carry turns those into the states chunks begin with; MODE 2, each
// chunk from its state, writes y. delta, A and h are f32, and A is stored times log2(e), so that exp is exp2.
//   binding 0: u   1: proj   2: weights, per direction rows of `width` floats: bias, Ds, A (N), W_dt transposed (R)
//   3: y   4: states [4, batch, chunks, N, width] f32   5: sums of delta [4, batch, chunks, width] f32
//   constants 0: workgroup size   1: PER_LANE (2, 4, 8)   2: N   3: R   4: HOLD, W_dt in registers (R small) instead of
//   read at every step   5: MODE   6: POLYNOMIAL, exp2 by polynomial (software devices)
// Workgroups: x: channels; y: batch * 4 directions; z: chunks.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/exp.glsl"
#include "common/load.glsl"
#include "params.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint PER_LANE = 2;
layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;
layout(constant_id = 4) const bool HOLD = true;
layout(constant_id = 5) const uint MODE = 0;
layout(constant_id = 6) const bool POLYNOMIAL = false;

const uint ROW_FIRST = HOLD ? 0 : RANK / 4;                      // in units of 4 floats: what is kept of a row
const uint ROW_END = (RANK + 2 * STATES + 3) / 4;
const uint ROW_SKIP = 4 * ROW_FIRST;
const uint HELD_RANK = HOLD ? RANK : 1;

layout(set = 0, binding = 0) readonly buffer Source1 { uint source1[]; };
layout(set = 0, binding = 0) readonly buffer Source2 { uvec2 source2[]; };
layout(set = 0, binding = 0) readonly buffer Source4 { uvec4 source4[]; };
layout(set = 0, binding = 1) readonly buffer Projected { vec4 projected[]; };
layout(set = 0, binding = 1) readonly buffer ProjectedFloats { float projected_floats[]; };
layout(set = 0, binding = 2) readonly buffer Weights2 { vec2 weights2[]; };
layout(set = 0, binding = 2) readonly buffer Weights4 { vec4 weights4[]; };
layout(set = 0, binding = 3) writeonly buffer Result1 { uint result1[]; };
layout(set = 0, binding = 3) writeonly buffer Result2 { uvec2 result2[]; };
layout(set = 0, binding = 3) writeonly buffer Result4 { uvec4 result4[]; };
layout(set = 0, binding = 4) buffer States { float states[]; };
layout(set = 0, binding = 5) writeonly buffer Sums { float sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

float a[PER_LANE * STATES], h[PER_LANE * STATES], dt_weights[PER_LANE * HELD_RANK];
float bias[PER_LANE], skip[PER_LANE], delta_sum[PER_LANE];
float row[4 * (ROW_END - ROW_FIRST)];

struct channels {
    float v[8]; // PER_LANE of them
};

// PER_LANE floats of the weights from element `at` on.
channels load_weights(uint at) {
    channels c;
    if (PER_LANE == 2) {
        vec2 x = weights2[at / 2];
        c.v[0] = x.x, c.v[1] = x.y;
    } else {
        vec4 x = weights4[at / 4];
        c.v[0] = x.x, c.v[1] = x.y, c.v[2] = x.z, c.v[3] = x.w;
        if (PER_LANE == 8) {
            x = weights4[at / 4 + 1];
            c.v[4] = x.x, c.v[5] = x.y, c.v[6] = x.z, c.v[7] = x.w;
        }
    }
    return c;
}

// PER_LANE channels of the source from channel `at` (of the whole tensor) on.
channels load_source(uint at) {
    const uint words = HALF ? PER_LANE / 2 : PER_LANE;
    channels c;
    uint w[8];
    if (words == 1) {
        w[0] = source1[at / 2];
    } else if (words == 2) {
        uvec2 x = source2[HALF ? at / 4 : at / 2];
        w[0] = x.x, w[1] = x.y;
    } else {
        uvec4 x = source4[HALF ? at / 8 : at / 4];
        w[0] = x.x, w[1] = x.y, w[2] = x.z, w[3] = x.w;
        if (words == 8) {
            x = source4[at / 4 + 1];
            w[4] = x.x, w[5] = x.y, w[6] = x.z, w[7] = x.w;
        }
    }
    [[unroll]] for (uint i = 0; i < words; i++) {
        if (HALF) {
            vec2 x = unpackHalf2x16(w[i]);
            c.v[2 * i] = x.x, c.v[2 * i + 1] = x.y;
        } else {
            c.v[i] = uintBitsToFloat(w[i]);
        }
    }
    return c;
}

void store_result(uint at, channels c) {
    const uint words = HALF ? PER_LANE / 2 : PER_LANE;
    uint w[8];
    [[unroll]] for (uint i = 0; i < words; i++) {
        w[i] = HALF ? packHalf2x16(clamp(vec2(c.v[2 * i], c.v[2 * i + 1]), vec2(-65504.0), vec2(65504.0)))
                    : floatBitsToUint(c.v[i]);
    }
    if (words == 1) {
        result1[at / 2] = w[0];
    } else if (words == 2) {
        result2[HALF ? at / 4 : at / 2] = uvec2(w[0], w[1]);
    } else {
        result4[HALF ? at / 8 : at / 4] = uvec4(w[0], w[1], w[2], w[3]);
        if (words == 8) {
            result4[at / 4 + 1] = uvec4(w[4], w[5], w[6], w[7]);
        }
    }
}

float exp2_of(float x) {
    return POLYNOMIAL ? hymn_exp2_polynomial(x) : exp2(x);
}

float softplus(float v) {
    return max(v, 0.0) + hymn_log1p(exp2_of(-1.44269504088896341 * abs(v)));
}

void load_parameters(uint direction, uint channel) {
    uint at = direction * (2 + STATES + RANK) * p.width + channel;
    channels c = load_weights(at), d = load_weights(at + p.width);
    [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
        bias[i] = c.v[i], skip[i] = d.v[i];
    }
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        c = load_weights(at + (2 + n) * p.width);
        [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
            a[i * STATES + n] = c.v[i];
        }
    }
    if (HOLD) {
        [[unroll]] for (uint r = 0; r < RANK; r++) {
            c = load_weights(at + (2 + STATES + r) * p.width);
            [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
                dt_weights[i * RANK + r] = c.v[i];
            }
        }
    }
}

// at: in units of 4 floats.
void load_row(uint at) {
    [[unroll]] for (uint i = 0; i < ROW_END - ROW_FIRST; i++) {
        vec4 x = projected[at + ROW_FIRST + i];
        row[4 * i] = x.x, row[4 * i + 1] = x.y, row[4 * i + 2] = x.z, row[4 * i + 3] = x.w;
    }
}

// W_dt dt + bias.
channels project_delta(uint row_at, uint direction, uint channel) {
    channels v;
    [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
        v.v[i] = bias[i];
    }
    if (HOLD) {
        [[unroll]] for (uint r = 0; r < RANK; r++) {
            [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
                v.v[i] = fma(dt_weights[i * RANK + r], row[r], v.v[i]);
            }
        }
    } else {
        uint at = (direction * (2 + STATES + RANK) + 2 + STATES) * p.width + channel;
        [[dont_unroll]] for (uint r = 0; r < RANK; r++) {
            channels w = load_weights(at + r * p.width);
            float dt = projected_floats[4 * row_at + r];
            [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
                v.v[i] = fma(w.v[i], dt, v.v[i]);
            }
        }
    }
    return v;
}

// One step of the lane's i-th channel.
float advance(uint i, float delta, float u) {
    float du = delta * u, y = skip[i] * u;
    [[unroll]] for (uint n = 0; n < STATES; n++) {
        uint s = i * STATES + n;
        h[s] = fma(exp2_of(delta * a[s]), h[s], du * row[RANK - ROW_SKIP + n]);
        y = fma(h[s], row[RANK - ROW_SKIP + STATES + n], y);
    }
    return y;
}

// at: of the first channel's first state.
void begin_states(uint at) {
    [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
        delta_sum[i] = 0.0;
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            h[i * STATES + n] = 0.0;
            if (MODE == 2) {
                h[i * STATES + n] = states[at + n * p.width + i];
            }
        }
    }
}

void end_states(uint at, uint sum_at) {
    [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
        sums[sum_at + i] = delta_sum[i];
        [[unroll]] for (uint n = 0; n < STATES; n++) {
            states[at + n * p.width + i] = h[i * STATES + n];
        }
    }
}

void main() {
    uint channel = gl_GlobalInvocationID.x * PER_LANE;
    if (channel >= p.width) {
        return;
    }
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

    load_parameters(direction, channel);
    uint state_at = (direction * p.batch + image) * p.chunks + chunk;
    uint carried_at = state_at * STATES * p.width + channel;
    begin_states(carried_at);
    for (uint l = 0; l < steps; l++) {
        uint pixel = image * length + at;
        uint row_at = pixel * p.proj_stride + direction * p.proj_row;
        load_row(row_at);
        channels u = load_source((pixel * p.source_stride + p.source_first) * 8 + channel);
        channels delta = project_delta(row_at, direction, channel), y;
        [[unroll]] for (uint i = 0; i < PER_LANE; i++) {
            float d = softplus(delta.v[i]);
            y.v[i] = advance(i, d, u.v[i]);
            if (MODE == 1) {
                delta_sum[i] += d;
            }
        }
        if (MODE != 1) {
            store_result(((direction * p.batch + image) * length + at) * p.width + channel, y);
        }
        at = uint(int(at) + step);
        left--;
        if (left == 0) {
            at = uint(int(at) + turn);
            left = p.image_height;
        }
    }
    if (MODE == 1) {
        end_states(carried_at, state_at * p.width + channel);
    }
}
