// SPDX-License-Identifier: MIT
//
// The context that tests run on: the device of HYMN_DEVICE (default: the best), at most the tier of HYMN_TIER, inputs
// transferred as HYMN_TRANSFER says (auto, off, on), under the validation layers when HYMN_VALIDATION=1.
#ifndef HYMN_TESTS_TEST_CONTEXT_H
#define HYMN_TESTS_TEST_CONTEXT_H

#include <hymn/hymn.h>

// Of HYMN_TIER.
enum hymn_tier test_context_tier(void);
// Of HYMN_TRANSFER.
enum hymn_transfer test_context_transfer(void);
// NULL (with a message) when there is none.
struct hymn_context *test_context_open(void);
// Whatever HYMN_TRANSFER says.
struct hymn_context *test_context_open_with(enum hymn_transfer transfer);
// 0, or -1 when validation had anything to say.
int test_context_close(struct hymn_context **context);

#endif
