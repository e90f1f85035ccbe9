// SPDX-License-Identifier: MIT
//
// Compiles where glslang knows cooperative matrices.
#version 450
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
layout(local_size_x = 32) in;
layout(binding = 0) buffer Data {
    float16_t values[];
};
void main() {
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a;
    coopMatLoad(a, values, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
    coopMatStore(a, values, 256, 16, gl_CooperativeMatrixLayoutRowMajor);
}
