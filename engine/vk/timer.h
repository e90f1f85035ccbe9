// SPDX-License-Identifier: MIT
//
// GPU times of a recorded program's last finished submission. Commands that may be pending at the same time need
// recordings of their own (one per run in flight), or the later one overwrites the earlier one's times.
#ifndef HYMN_VK_TIMER_H
#define HYMN_VK_TIMER_H

#include "vk/command.h"

// Milliseconds from the first command of `first` to the last one of `last` (which may be the same). Negative without
// timestamps.
double hymn_vk_timer_span(struct hymn_vk_device *device, const struct hymn_vk_command *first,
                          const struct hymn_vk_command *last);
// out_ms: [command->step_count]. UNSUPPORTED when it was recorded without step_timestamps.
enum hymn_status hymn_vk_timer_steps(struct hymn_vk_device *device, const struct hymn_vk_command *command,
                                     double *out_ms);

#endif
