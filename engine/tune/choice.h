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

// Times the first and a rival anew, in turns: ms[0] and ms[rival].
typedef enum hymn_status hymn_choice_time(void *user, uint32_t rival, double *ms);

// Times may be of different moments, at which the device's clock was another. Leaves times only of the first and of a
// rival that was faster side by side, the fastest ones asked first and only a few of them; else of the first alone. A
// status of `time` other than OK ends it.
enum hymn_status hymn_choice_confirm(double *ms, uint32_t count, hymn_choice_time *time, void *user);

#endif
