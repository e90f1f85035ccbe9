// SPDX-License-Identifier: MIT
//
// A part of the cases of long lists: with HYMN_TEST_SHARE=n in the environment one of n, on the average; which, the
// seed of random numbers says (test_random.h). For software devices that take too long to compile all of them, where
// another one runs them all. Where lists are of several variants of a shader, the first case of each is always of the
// run.
#ifndef HYMN_TESTS_SUPPORT_TEST_SHARE_H
#define HYMN_TESTS_SUPPORT_TEST_SHARE_H

#include <stdbool.h>
#include <string.h>

#include "support/test_random.h"

static inline uint32_t test_share(void) {
    const char *given = getenv("HYMN_TEST_SHARE");
    unsigned long share = given ? strtoul(given, NULL, 10) : 1;
    return share > 0 && share < 1000 ? (uint32_t)share : 1;
}

// Whether the next case is not of this run. Not every n-th is: lists have a rhythm of their own.
static inline bool test_share_leaves_out(void) {
    static uint64_t count;
    const char *seed = getenv("HYMN_TEST_SEED");
    struct test_random random = test_random_fixed((seed ? strtoull(seed, NULL, 0) : 0) + count++);
    return test_random_u64(&random) % test_share() != 0;
}

// Likewise, but never the first case of a variant; the name lives on. There are fewer variants than places.
static inline bool test_share_leaves_out_of(const char *variant) {
    static const char *begun[16];
    const bool leaves_out = test_share_leaves_out();
    size_t i = 0;
    while (i < sizeof begun / sizeof *begun && begun[i] && strcmp(begun[i], variant) != 0) {
        i++;
    }
    if (i < sizeof begun / sizeof *begun && !begun[i]) {
        begun[i] = variant;
        return false;
    }
    return leaves_out;
}

#endif
