// SPDX-License-Identifier: MIT
#ifndef HYMN_ACTIVATION_GLSL
#define HYMN_ACTIVATION_GLSL

#define HYMN_LOG2_E 1.44269504088896341

// 1 / (1 + exp(-x)). The clamp keeps exp2 finite: below -80 the result is less than 2e-35 either way. It comes after the
// product: see hymn_cell_unpack (load.glsl).
vec4 hymn_sigmoid(vec4 x) {
    return 1.0 / (1.0 + exp2(min(-HYMN_LOG2_E * x, vec4(115.5))));
}

vec4 hymn_silu(vec4 x) {
    return x * hymn_sigmoid(x);
}

// As enum hymn_activation.
vec4 hymn_activate(vec4 x, uint activation) {
    if (activation == 1) {
        return max(x, vec4(0.0));
    }
    if (activation == 2) {
        return hymn_silu(x);
    }
    return x;
}

#endif
