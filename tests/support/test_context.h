// SPDX-License-Identifier: MIT
//
// The context that tests run on: the device of HYMN_DEVICE (default: the best), at most the tier of HYMN_TIER, under
// the validation layers when HYMN_VALIDATION=1.
#ifndef HYMN_TESTS_TEST_CONTEXT_H
#define HYMN_TESTS_TEST_CONTEXT_H

#include <hymn/hymn.h>

// Of HYMN_TIER.
enum hymn_tier test_context_tier(void);
// NULL (with a message) when there is none.
struct hymn_context *test_context_open(void);
// 0, or -1 when validation had anything to say.
int test_context_close(struct hymn_context **context);

#endif
