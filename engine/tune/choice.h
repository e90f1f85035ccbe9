// SPDX-License-Identifier: MIT
//
// Which of several ways to compute something is to be used, by their times: milliseconds, negative where there are
// none. The first is the operator's own choice, which noise is no reason to leave. Knows of no device.
#ifndef HYMN_TUNE_CHOICE_H
#define HYMN_TUNE_CHOICE_H

#include <stdint.h>

#include <hymn/hymn.h>

// The fastest, if it is faster than the first by more than noise; else 0.
uint32_t hymn_choice_fastest(const double *ms, uint32_t count);

// The median of at least one number; of an even count the upper one. Sorts them.
double hymn_choice_median(double *ms, uint32_t count);

#define HYMN_CHOICE_SAMPLES 15u

// Times of one way's runs. Zero-initialise it.
struct hymn_choice_samples {
    double ms[HYMN_CHOICE_SAMPLES]; // of the latest, in any order
    uint32_t runs;
};

// Adds a run's time. Returns what the way takes by now: the median of the latest runs but the very first, which waits
// for the tables of its pages too, and counts where it is the only one.
double hymn_choice_add(struct hymn_choice_samples *samples, double ms);

// Times the first and a rival anew, in turns: ms[0] and ms[rival].
typedef enum hymn_status hymn_choice_time(void *user, uint32_t rival, double *ms);

// Times may be of different moments, at which the device's clock was another. Leaves times only of the first and of a
// rival that was faster side by side, the fastest ones asked first and only a few of them; else of the first alone. A
// status of `time` other than OK ends it.
enum hymn_status hymn_choice_confirm(double *ms, uint32_t count, hymn_choice_time *time, void *user);

#endif
