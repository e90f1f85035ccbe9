// SPDX-License-Identifier: MIT
#ifndef HYMN_SELFTEST_VERDICT_H
#define HYMN_SELFTEST_VERDICT_H

#include "selftest/selftest.h"

// Remembers what was found about a shader: in the device, whose plan it is demoted in or taken back into, and in the
// store. What no case has proven is as what was found wrong.
void hymn_selftest_conclude(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                            const struct hymn_shader *shader, const struct hymn_selftest_outcome *outcome);

// Marks the check of a shader as begun, the attempts-th time, on disk too: a driver may take the process with it.
void hymn_selftest_begin(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                         const struct hymn_shader *shader, uint32_t attempts);

#endif
