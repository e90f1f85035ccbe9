// SPDX-License-Identifier: MIT
//
// The context that tests run on: the device of HYMN_DEVICE (default: the best), at most the tier of HYMN_TIER, inputs
// transferred as HYMN_TRANSFER says (auto, off, on), under the validation layers when HYMN_VALIDATION=1.
#ifndef HYMN_TESTS_TEST_CONTEXT_H
#define HYMN_TESTS_TEST_CONTEXT_H

#include <stdbool.h>

#include <hymn/hymn.h>

// Of HYMN_TIER.
enum hymn_tier test_context_tier(void);
// Of HYMN_TRANSFER.
enum hymn_transfer test_context_transfer(void);
// NULL (with a message) when there is none.
struct hymn_context *test_context_open(void);
// Whatever HYMN_TRANSFER says.
struct hymn_context *test_context_open_with(enum hymn_transfer transfer);
// With so many queues for computing open, or as many as the device has.
struct hymn_context *test_context_open_queues(uint32_t queues);
// 0, or -1 when validation had anything to say.
int test_context_close(struct hymn_context **context);

// Software devices emulate matrices, and Mesa's compiler takes minutes for the tiles that GPUs get: it splits blocks,
// which are as long as the unrolled code, at each lane of each load. Has sessions of that tier made with the smallest
// tile of two by two subgroups there, with stages of `depth` cells (0: of one matrix), and elsewhere with their own.
// Whether it is so; ended by hymn_conv2d_matrix_force(NULL).
bool test_context_shrink_tiles(const struct hymn_context *context, enum hymn_tier tier, uint32_t depth);

#endif
