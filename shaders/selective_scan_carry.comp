// SPDX-License-Identifier: MIT
//
// Second pass of a selective scan in chunks (selective_scan.comp): the state that each chunk begins with, from the end
// states of the chunks, each run from a zero state. A product of exp(delta A) is exp(A * sum of delta), so
//   H[0] = 0,   H[j+1] = exp(A S[j]) H[j] + end[j]
//   states: [4, batch, chunks, N, width] f32: end[j] on entry (the last is not read), H[j] on return
//   sums: [4, batch, chunks, width] f32: S
// One lane = one state of one channel of one direction and image, all chunks in order, AHEAD of them loaded at a time so
// that their latencies overlap.
//   binding 0: weights (as in selective_scan.comp: A times log2(e))   1: states   2: sums
//   constants 0, 1: common/grid.glsl   2: N   3: R
// Workgroups: x: N * width; y: batch * 4 directions.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common/grid.glsl"
#include "params.h"

#define AHEAD 8

layout(constant_id = 2) const uint STATES = 16;
layout(constant_id = 3) const uint RANK = 4;

layout(set = 0, binding = 0) readonly buffer Weights { float weights[]; };
layout(set = 0, binding = 1) buffer States { float states[]; };
layout(set = 0, binding = 2) readonly buffer Sums { float sums[]; };
layout(push_constant) uniform Params { hymn_scan_params p; };

void main() {
    uint state = gl_GlobalInvocationID.x, size = STATES * p.width;
    if (state >= size) {
        return;
    }
    uint direction = gl_WorkGroupID.y & 3, image = gl_WorkGroupID.y >> 2;
    float a = weights[direction * (2 + STATES + RANK) * p.width + 2 * p.width + state];
    uint chunk = (direction * p.batch + image) * p.chunks;
    uint at = chunk * size + state, sum_at = chunk * p.width + state % p.width;
    float carried = 0.0;
    uint j = 0;
    do {
        float end[AHEAD], sum[AHEAD];
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            // The last chunk's end is not known, and not needed; there are two chunks at least. No branch around a load:
            // it would be one more wait.
            uint k = min(j + i, p.chunks - 2);
            end[i] = states[at + k * size];
            sum[i] = sums[sum_at + k * p.width];
        }
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            if (j + i < p.chunks) {
                states[at + (j + i) * size] = carried;
            }
            carried = fma(exp2(a * sum[i]), carried, end[i]);
        }
        j += AHEAD;
    } while (j < p.chunks);
}
