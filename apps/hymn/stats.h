// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_STATS_H
#define HYMN_APP_STATS_H

#include <stddef.h>

// The `percent` percentile (0..100) with linear interpolation between the two nearest ranks, as NumPy's default. Sorts
// values[0..count). 0 for an empty list.
double stats_percentile(double *values, size_t count, double percent);

#endif
