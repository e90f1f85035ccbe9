// SPDX-License-Identifier: MIT
//
// What a shader declares, found in its SPIR-V.
#ifndef HYMN_TESTS_TEST_SPIRV_H
#define HYMN_TESTS_TEST_SPIRV_H

#include "vk/shader.h"

// Bytes of all variables of a workgroup, with these specialization constants, and the shader's own values for those
// from `count` on. Ends the test (cmocka) at what it does not know.
uint64_t test_spirv_shared_bytes(const struct hymn_shader *shader, const uint32_t *constants, uint32_t count);

#endif
