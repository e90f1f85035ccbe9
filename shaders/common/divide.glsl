// SPDX-License-Identifier: MIT
//
// Division of small numbers, by multiplication with a reciprocal that the host makes.
#ifndef HYMN_DIVIDE_GLSL
#define HYMN_DIVIDE_GLSL

#define HYMN_DIVIDE_END (1u << 21)

// floor(n / d) with reciprocal = 1 / float(d) correctly rounded; exact for n < HYMN_DIVIDE_END. Integer division is a loop
// over lanes on software devices and some twenty instructions elsewhere.
uint hymn_divide(uint n, float reciprocal) {
    return uint((float(n) + 0.5) * reciprocal);
}

#endif
