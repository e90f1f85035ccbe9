// SPDX-License-Identifier: MIT
//
// Softmax of one pixel's classes, which lie in `logits`, vec4s, from `at` on; p.channels of them. Include behind their
// declarations.
#ifndef HYMN_PROBABILITY_GLSL
#define HYMN_PROBABILITY_GLSL

#include "common/activation.glsl"

// exp(v - most) of four classes, those beyond the last one zero.
vec4 hymn_weigh(vec4 v, float most, uint first) {
    bvec4 real = lessThan(uvec4(first) + uvec4(0, 1, 2, 3), uvec4(p.channels));
    return mix(vec4(0.0), exp2(HYMN_LOG2_E * max(v - most, vec4(-80.0))), real);
}

// The largest logit; what weights are to be multiplied by.
void hymn_softmax(uint at, out float most, out float scale) {
    most = logits[at].x;
    uint c = 0;
    do {
        vec4 v = logits[at + c / 4];
        bvec4 real = lessThan(uvec4(c) + uvec4(0, 1, 2, 3), uvec4(p.channels));
        v = max(mix(vec4(most), v, real), vec4(most));
        most = max(max(v.x, v.y), max(v.z, v.w));
        c += 4;
    } while (c < p.channels);
    float sum = 0.0;
    c = 0;
    do {
        sum += dot(hymn_weigh(logits[at + c / 4], most, c), vec4(1.0));
        c += 4;
    } while (c < p.channels);
    scale = 1.0 / sum;
}

#endif
