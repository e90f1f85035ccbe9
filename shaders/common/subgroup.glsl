// SPDX-License-Identifier: MIT
//
// Subgroups whose lanes wait for each other alone. Include behind the extensions KHR_memory_scope_semantics and
// KHR_shader_subgroup_basic.
#ifndef HYMN_SUBGROUP_GLSL
#define HYMN_SUBGROUP_GLSL

// Of shared memory alone: what is stored to buffers meanwhile is nobody's business here.
void hymn_subgroup_barrier() {
    controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, gl_SemanticsAcquireRelease);
}

#endif
