// SPDX-License-Identifier: MIT
//
// How lanes find their place. A dispatch has at most 65535 workgroups in a dimension, so rows are folded into y and z.
// No loop of an invocation may run more than 65535 times in all: llvmpipe ends loops there without a word (its
// LP_MAX_TGSI_LOOP_ITERATIONS counts every loop of an invocation together).
#ifndef HYMN_GRID_GLSL
#define HYMN_GRID_GLSL

// May be past the last row: the caller compares.
uint hymn_row() {
    return gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y;
}

// floor(n / d) with reciprocal = 1 / float(d) correctly rounded; exact for n < 2^21. Integer division is a loop over
// lanes on software devices and some twenty instructions elsewhere.
uint hymn_divide(uint n, float reciprocal) {
    return uint((float(n) + 0.5) * reciprocal);
}

#endif
