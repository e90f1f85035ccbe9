// SPDX-License-Identifier: MIT
//
// The head's logit of one class, and masks from logits of one class: the same bits wherever they are made, as the same
// numbers are added in the same order (f32, four sums side by side, cell after cell). Include after load.glsl.
#ifndef HYMN_LABEL_GLSL
#define HYMN_LABEL_GLSL

#include "common/activation.glsl"

// The next cell of a pixel, and the class's weights for it.
vec4 hymn_add_to_logit(vec4 sum, hymn_cell v, vec4 lo, vec4 hi) {
    return fma(v.hi, hi, fma(v.lo, lo, sum));
}

float hymn_logit(vec4 sum, float bias) {
    return (sum.x + sum.y) + (sum.z + sum.w) + bias;
}

// Of four pixels side by side a byte each, 255 where the probability is >= threshold, else 0; 0 of those behind `last`.
uint hymn_label(vec4 logits, float threshold, uint last) {
    vec4 v = hymn_sigmoid(logits);
    v = mix(vec4(-1.0), v, greaterThan(v, vec4(-1.0))); // not a number: no probability at all
    uvec4 bytes = mix(uvec4(0), uvec4(0xFFu, 0xFF00u, 0xFF0000u, 0xFF000000u), greaterThanEqual(v, vec4(threshold)));
    bytes = mix(uvec4(0), bytes, lessThanEqual(uvec4(0, 1, 2, 3), uvec4(last)));
    return bytes.x | bytes.y | bytes.z | bytes.w;
}

#endif
