// SPDX-License-Identifier: MIT
//
// Sessions of a golden case's model, and its input through them, for tests that compare one with another.
#ifndef HYMN_TESTS_TEST_SESSION_H
#define HYMN_TESTS_TEST_SESSION_H

#include "support/golden.h"

// All of these end the test (cmocka) where no session can be made or memory runs out.

// Of the case's size and batch; untuned, so that it computes each operator as any other does.
struct hymn_session *test_session_open(struct hymn_context *context, const struct golden *golden,
                                       enum hymn_precision precision, enum hymn_tier tier);
// Room for the case's output; free it with free.
float *test_session_logits(const struct golden *golden);
// Fills `logits` ([batch, classes, height, width]) with NaN first.
enum hymn_status test_session_run(struct hymn_session *session, const struct golden *golden, float *logits);

#endif
