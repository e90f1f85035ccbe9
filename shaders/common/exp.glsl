// SPDX-License-Identifier: MIT
//
// The selective scan's transcendental functions, in 32 bits.
#ifndef HYMN_EXP_GLSL
#define HYMN_EXP_GLSL

// 2^x for x <= 0 without the hardware's function: 2^x = 2^n * 2^f, n the nearest integer, and for 2^f on [-1/2, 1/2] a
// polynomial (minimax in relative error: 9.2e-8) that is exact at 0: the error then vanishes with x, so that
// decays close to 1 keep their long memory.
vec2 hymn_exp2_polynomial(vec2 x) {
    x = max(x, vec2(-64.0)); // 5e-20: small enough, and products with it do not become denormal
    vec2 n = roundEven(x), f = x - n;
    vec2 p = fma(f, vec2(0.0013264728477224708), vec2(0.009671513922512531));
    p = fma(p, f, vec2(0.05550733581185341));
    p = fma(p, f, vec2(0.24022242426872253));
    p = fma(p, f, vec2(0.6931470036506653));
    p = fma(p, f, vec2(1.0));
    return intBitsToFloat(floatBitsToInt(p) + (ivec2(n) << 23));
}

// more + log(1 + t) for t in [0, 1], the logarithm relatively accurate down to 0: t times a polynomial that is 1 there
// (minimax in relative error: 3.3e-8; 1.5e-7 with all rounding, less than by 2 artanh(t / (2 + t)), and without a
// reciprocal).
vec2 hymn_add_log1p(vec2 more, vec2 t) {
    vec2 p = fma(t, vec2(0.005364810582250357), vec2(-0.030065741389989853));
    p = fma(p, t, vec2(0.07920445501804352));
    p = fma(p, t, vec2(-0.13753797113895416));
    p = fma(p, t, vec2(0.1915365308523178));
    p = fma(p, t, vec2(-0.24857163429260254));
    p = fma(p, t, vec2(0.3332132399082184));
    p = fma(p, t, vec2(-0.49999648332595825));
    p = fma(p, t, vec2(1.0));
    return fma(t, p, more);
}

// The same to 9.6e-6, a fiftieth of what binary16 rounds by.
vec2 hymn_add_log1p_short(vec2 more, vec2 t) {
    vec2 p = fma(t, vec2(-0.024734532460570335), vec2(0.10359261929988861));
    p = fma(p, t, vec2(-0.21240419149398804));
    p = fma(p, t, vec2(0.3262260854244232));
    p = fma(p, t, vec2(-0.49953946471214294));
    p = fma(p, t, vec2(1.0));
    return fma(t, p, more);
}

#endif
