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

// log(1 + t) for t in [0, 1], relatively accurate down to 0: 2 artanh(s) with s = t / (2 + t), minimax (4.5e-9).
vec2 hymn_log1p(vec2 t) {
    vec2 s = t / (2.0 + t), z = s * s;
    vec2 p = fma(z, vec2(0.14006011188030243), vec2(0.14000900089740753));
    p = fma(p, z, vec2(0.2001076340675354));
    p = fma(p, z, vec2(0.3333320915699005));
    return 2.0 * fma(s * z, p, s);
}

#endif
