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

uint16_t hymn_half_from_float(float value) {
    uint16_t half;
    hymn_halves_from_floats(&value, 1, &half);
    return half;
}

// Without branches too. A magnitude that overflows a half becomes infinity, and else four times as large; it is added
// to a power of two whose last bit is the half's, so that the addition rounds, to nearest even. The sum's fraction and
// the end of its exponent are the half's bits. Assigned to floats, as some processors have more digits in between.
// After Maratyszcza's FP16 library, but for NaN, which keeps its payload's upper bits, made quiet.
void hymn_halves_from_floats(const float *values, size_t count, uint16_t *out_halves) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = to_bits(values[i]), magnitude = bits & 0x7FFFFFFFu, exponent = magnitude & 0x7F800000u;
        uint32_t unit = (exponent < 0x38800000u ? 0x38800000u : exponent) + 0x07800000u; // of 2^-14 at least
        float large = from_bits(magnitude) * 0x1p+112f, sum = from_bits(unit) + large * 0x1p-110f;
        uint32_t number = (to_bits(sum) >> 13 & 0x7C00u) + (to_bits(sum) & 0x0FFFu);
        uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
        uint32_t mask = 0u - (uint32_t)(magnitude > 0x7F800000u);
        out_halves[i] = (uint16_t)((bits >> 16 & 0x8000u) | (nan & mask) | (number & ~mask));
    }
}

float hymn_bfloat_to_float(uint16_t bfloat) {
    return from_bits((uint32_t)bfloat << 16);
}
