// SPDX-License-Identifier: MIT
#include "tune/choice.h"

#include <stdlib.h>
#include <string.h>

// A way must be this much faster than the operator's own choice.
#define GAIN 0.98
// How many may prove no faster than that before it is kept.
#define MOST_RIVALS 4u

static bool is_faster(const double *ms, uint32_t rival, uint32_t than) {
    return ms[rival] >= 0.0 && ms[rival] < (than == 0 ? GAIN : 1.0) * ms[than];
}

uint32_t hymn_choice_fastest(const double *ms, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        best = is_faster(ms, i, best) ? i : best;
    }
    return best;
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double hymn_choice_median(double *ms, uint32_t count) {
    qsort(ms, count, sizeof *ms, compare);
    return ms[count / 2];
}

double hymn_choice_add(struct hymn_choice_samples *samples, double ms) {
    const uint32_t run = samples->runs++, count = run < HYMN_CHOICE_SAMPLES ? run : HYMN_CHOICE_SAMPLES;
    double sorted[HYMN_CHOICE_SAMPLES];
    if (run == 0) {
        return ms;
    }
    samples->ms[(run - 1) % HYMN_CHOICE_SAMPLES] = ms;
    memcpy(sorted, samples->ms, count * sizeof *sorted);
    return hymn_choice_median(sorted, count);
}

enum hymn_status hymn_choice_confirm(double *ms, uint32_t count, hymn_choice_time *time, void *user) {
    uint32_t winner = 0, rival;
    for (uint32_t i = 0; i < MOST_RIVALS && winner == 0 && (rival = hymn_choice_fastest(ms, count)) != 0; i++) {
        enum hymn_status status = time(user, rival, ms);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
        if (is_faster(ms, rival, 0)) {
            winner = rival;
        } else {
            ms[rival] = -1.0;
        }
    }
    for (uint32_t i = 1; i < count; i++) {
        ms[i] = i == winner ? ms[i] : -1.0;
    }
    return HYMN_STATUS_OK;
}
