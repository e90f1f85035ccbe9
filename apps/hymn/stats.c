// SPDX-License-Identifier: MIT
#include "stats.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
    const double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

double stats_percentile(double *values, size_t count, double percent) {
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(*values), compare);
    const double rank = percent / 100 * (double)(count - 1);
    const size_t below = (size_t)rank < count - 1 ? (size_t)rank : count - 1;
    const size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (rank - (double)below);
}
