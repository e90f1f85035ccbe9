// SPDX-License-Identifier: MIT
//
// One of tuning's trials of a convolution and of what some of its methods do by themselves.
#ifndef HYMN_TESTS_TEST_TRIAL_H
#define HYMN_TESTS_TEST_TRIAL_H

#include "ops/conv2d_matrix.h"
#include "support/test_conv.h"
#include "tune/trial.h"

// What the tile makes of the node and of what is behind it, as tuning compares it; free it with hymn_free, and close
// the trial. nodes: that are left. Ends the test (cmocka) where anything fails.
uint8_t *test_trial_try(struct hymn_context *context, const struct test_conv *b, const struct hymn_vk_plan *plan,
                        const struct hymn_conv2d_tile *tile, uint32_t nodes, struct hymn_trial *trial);

#endif
