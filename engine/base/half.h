// SPDX-License-Identifier: MIT
#ifndef HYMN_BASE_HALF_H
#define HYMN_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

// IEEE binary16 and bfloat16. To half: round to nearest even; beyond 65504 becomes infinity, NaN stays NaN.
float hymn_half_to_float(uint16_t half);
void hymn_halves_to_floats(const uint16_t *halves, size_t count, float *out_values);
uint16_t hymn_half_from_float(float value);
void hymn_halves_from_floats(const float *values, size_t count, uint16_t *out_halves);
float hymn_bfloat_to_float(uint16_t bfloat);

#endif
