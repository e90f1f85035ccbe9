// SPDX-License-Identifier: MIT
//
// How lanes find their place. A dispatch has at most 65535 workgroups in a dimension, so rows are folded into y and z.
// No loop of an invocation may run more than 65535 times in all: llvmpipe ends loops there without a word (its
// LP_MAX_TGSI_LOOP_ITERATIONS counts every loop of an invocation together).
// Constants 0 and 1, set by hymn_grid_set: workgroup size; SOFTWARE: the device is a processor. Include before load.glsl.
#ifndef HYMN_GRID_GLSL
#define HYMN_GRID_GLSL

#include "common/divide.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const bool SOFTWARE = false;

#define HYMN_PACK_HALVES(values) (SOFTWARE ? hymn_pack_halves(values) : packHalf2x16(values))

// May be past the last row: the caller compares.
uint hymn_row() {
    return gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y;
}

#endif
