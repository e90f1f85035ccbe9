// SPDX-License-Identifier: MIT
//
// The table of compiled shaders that the build makes from shaders/variants.txt.
#ifndef HYMN_VK_SHADER_H
#define HYMN_VK_SHADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a variant needs beyond the base device class (bits).
enum hymn_shader_needs {
    HYMN_NEEDS_STORAGE_16BIT = 1 << 0,
    HYMN_NEEDS_FLOAT16 = 1 << 1,
    HYMN_NEEDS_COOPERATIVE_MATRIX = 1 << 2,
    HYMN_NEEDS_SUBGROUP_SHUFFLE = 1 << 3,
    HYMN_NEEDS_WIDE = 1 << 4,      // more than 128 invocations or 16 KiB: its operator looks how many the plan allows
    HYMN_NEEDS_BUFFERS = 1 << 5,   // eight storage buffers: only the very smallest devices have four; of every tier
    HYMN_NEEDS_HALF_SUMS = 1 << 6, // cooperative matrices of sums in f16 too
    HYMN_NEEDS_BITS = 7            // how many these are
};

struct hymn_shader {
    const char *name;     // "conv2d_direct.f16": file name without .comp, then the variant's suffix
    const uint32_t *code; // SPIR-V
    size_t code_bytes;
    uint32_t needs; // hymn_shader_needs
    uint64_t hash;  // FNV-1a of the code
};

extern const struct hymn_shader hymn_shaders[];
extern const uint32_t hymn_shader_count;

// Whether it is one of those that others are judged by, and that are never taken out of use.
static inline bool hymn_shader_is_base(const struct hymn_shader *shader) {
    return !(shader->needs & ~(uint32_t)HYMN_NEEDS_BUFFERS);
}

// NULL when the table has no such name.
const struct hymn_shader *hymn_shader_find(const char *name);

#endif
