// SPDX-License-Identifier: MIT
//
// Eight consecutive channels of one pixel, a "cell": what every operator loads and stores at once. Tensors are NHWC with
// channels padded to a multiple of 8, so a tensor is an array of cells whatever its storage is:
//   f32: two uvec4, each the bits of four floats;  f16: one uvec4 of packed halves, channel 0 in the low 16 bits of x.
// Buffers are therefore declared as `uvec4 words[]`, and no 16-bit feature is needed. half_storage should be a constant or
// a specialization constant; the branch then costs nothing.
#ifndef HYMN_LOAD_GLSL
#define HYMN_LOAD_GLSL

struct hymn_cell {
    vec4 lo, hi; // channels 0..3, 4..7
};

hymn_cell hymn_cell_zero() {
    return hymn_cell(vec4(0.0), vec4(0.0));
}

// Comparing, clamping or taking the larger of values straight from here makes llvmpipe's compiler compare halves one by
// one (LLVM narrows the comparison): let arithmetic come first.
hymn_cell hymn_cell_unpack(uvec4 words) {
    return hymn_cell(vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y)),
                     vec4(unpackHalf2x16(words.z), unpackHalf2x16(words.w)));
}

// packHalf2x16 of values within +-65504 by an addition that rounds (after Maratyszcza's FP16 library): software devices
// that lack the conversion compile the built-in function into a hundred instructions. The word's two halves at once.
uint hymn_pack_halves(vec2 values) {
    vec2 size = abs(values);
    uvec2 exponent = max(floatBitsToUint(size) & 0x7F800000u, uvec2(0x38800000u)); // at least that of 2^-14
    uvec2 bits = floatBitsToUint(uintBitsToFloat(exponent + 0x07800000u) + 4.0 * size);
    uvec2 halves = (((bits >> 13) & 0x7C00u) + (bits & 0xFFFu)) | ((floatBitsToUint(values) >> 16) & 0x8000u);
    return halves.x | (halves.y << 16);
}

// Define as hymn_pack_halves (or a choice by specialization constant) before including this file.
#ifndef HYMN_PACK_HALVES
#define HYMN_PACK_HALVES packHalf2x16
#endif

#ifdef HYMN_HALF_ARITHMETIC // define where the variant needs float16
// At least `least` and at most the largest binary16, two at a time.
uint hymn_clamp_halves(f16vec2 values, float16_t least) {
    return packFloat2x16(clamp(values, f16vec2(least), f16vec2(65504.0)));
}

uint hymn_add_halves(uint a, uint b) {
    return packFloat2x16(unpackFloat2x16(a) + unpackFloat2x16(b));
}

uvec4 hymn_cell_add(uvec4 a, uvec4 b) {
    return uvec4(hymn_add_halves(a.x, b.x), hymn_add_halves(a.y, b.y), hymn_add_halves(a.z, b.z),
                 hymn_add_halves(a.w, b.w));
}

uint hymn_max_halves(uint a, uint b) {
    return packFloat2x16(max(unpackFloat2x16(a), unpackFloat2x16(b)));
}

uvec4 hymn_cell_max(uvec4 a, uvec4 b) {
    return uvec4(hymn_max_halves(a.x, b.x), hymn_max_halves(a.y, b.y), hymn_max_halves(a.z, b.z),
                 hymn_max_halves(a.w, b.w));
}

// a + (b - a) / 4, rounded once where fma is: a quarter of b is exact down to b = 2^-12.
uint hymn_quarter_way(uint a, uint b) {
    return packFloat2x16(fma(unpackFloat2x16(a), f16vec2(0.75), f16vec2(0.25) * unpackFloat2x16(b)));
}

uvec4 hymn_quarter_way(uvec4 a, uvec4 b) {
    return uvec4(hymn_quarter_way(a.x, b.x), hymn_quarter_way(a.y, b.y), hymn_quarter_way(a.z, b.z),
                 hymn_quarter_way(a.w, b.w));
}

uvec4 hymn_cell_clamp(uvec4 words, float16_t least) {
    return uvec4(hymn_clamp_halves(unpackFloat2x16(words.x), least), hymn_clamp_halves(unpackFloat2x16(words.y), least),
                 hymn_clamp_halves(unpackFloat2x16(words.z), least), hymn_clamp_halves(unpackFloat2x16(words.w), least));
}
#endif

// Saturates at the largest binary16 instead of overflowing to infinity.
uvec4 hymn_cell_pack(hymn_cell cell) {
    vec4 lo = clamp(cell.lo, vec4(-65504.0), vec4(65504.0));
    vec4 hi = clamp(cell.hi, vec4(-65504.0), vec4(65504.0));
    return uvec4(HYMN_PACK_HALVES(lo.xy), HYMN_PACK_HALVES(lo.zw), HYMN_PACK_HALVES(hi.xy), HYMN_PACK_HALVES(hi.zw));
}

// cell = the cell-th cell of the buffer member `words`.
#define HYMN_LOAD_CELL(cell, words, at, half_storage)                                                                  \
    if (half_storage) {                                                                                                \
        cell = hymn_cell_unpack(words[at]);                                                                            \
    } else {                                                                                                           \
        cell = hymn_cell(uintBitsToFloat(words[2 * (at)]), uintBitsToFloat(words[2 * (at) + 1]));                      \
    }

#define HYMN_STORE_CELL(words, at, half_storage, cell)                                                                 \
    if (half_storage) {                                                                                                \
        words[at] = hymn_cell_pack(cell);                                                                              \
    } else {                                                                                                           \
        words[2 * (at)] = floatBitsToUint((cell).lo);                                                                  \
        words[2 * (at) + 1] = floatBitsToUint((cell).hi);                                                              \
    }

#endif
