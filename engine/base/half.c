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
    float value;
    hymn_halves_to_floats(&half, 1, &value);
    return value;
}

// Without branches, so that compilers make vector code of it. A normal number's exponent and fraction are three bits
// further right in a float and the exponent 112 too small, which a product mends, and which keeps infinity and NaN as
// such, as the addition before it has made their exponent the largest. A subnormal's fraction becomes that of a float
// in [0.5, 1), from which 0.5 is taken. After Maratyszcza's FP16 library.
void hymn_halves_to_floats(const uint16_t *halves, size_t count, float *out_values) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)halves[i] << 16, twice = bits << 1;
        uint32_t normal = to_bits(from_bits((twice >> 4) + 0x70000000u) * 0x1p-112f);
        uint32_t subnormal = to_bits(from_bits(twice >> 17 | 0x3F000000u) - 0.5f);
        uint32_t mask = 0u - (uint32_t)(twice < 0x08000000u);
        out_values[i] = from_bits((bits & 0x80000000u) | (subnormal & mask) | (normal & ~mask));
    }
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
