// SPDX-License-Identifier: MIT
#include "base/half.h"

#include <string.h>

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float hymn_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 0x1Fu, fraction = half & 0x3FFu;
    if (exponent == 0x1F) {
        return from_bits(sign | 0x7F800000u | fraction << 13);
    }
    if (exponent == 0) { // zero or subnormal: fraction * 2^-24, exact in a float
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

// `bits` shifted right by `shift` (1..31), rounded to nearest, ties to even.
static uint32_t shift_to_even(uint32_t bits, uint32_t shift) {
    uint32_t kept = bits >> shift, rest = bits & ((1u << shift) - 1), half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t hymn_half_from_float(float value) {
    uint32_t bits = to_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) { // NaN: keeps the payload's upper bits, made quiet
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    }
    if (magnitude >= 0x47800000u) { // 65536 and more
        return (uint16_t)(sign | 0x7C00u);
    }
    if (magnitude >= 0x38800000u) { // 2^-14 and more; a carry out of the fraction runs into the exponent, as it should
        return (uint16_t)(sign | shift_to_even(magnitude - 0x38000000u, 13));
    }
    if (magnitude < 0x33000000u) { // below 2^-25, half of the smallest subnormal
        return (uint16_t)sign;
    }
    uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
    return (uint16_t)(sign | shift_to_even(significand, 126 - (magnitude >> 23)));
}

float hymn_bfloat_to_float(uint16_t bfloat) {
    return from_bits((uint32_t)bfloat << 16);
}
