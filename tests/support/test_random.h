// SPDX-License-Identifier: MIT
//
// Random numbers for tests: the same on every platform, from a seed that is printed and can be given back through the
// environment variable HYMN_TEST_SEED.
#ifndef HYMN_TESTS_SUPPORT_TEST_RANDOM_H
#define HYMN_TESTS_SUPPORT_TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct test_random {
    uint64_t state;
};

// SplitMix64 (Steele, Lea, Flood 2014).
static inline uint64_t test_random_u64(struct test_random *random) {
    uint64_t z = (random->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// The generator of a given seed, for data that must not change from run to run.
static inline struct test_random test_random_fixed(uint64_t seed) {
    return (struct test_random){seed};
}

// The generator of HYMN_TEST_SEED, or of the clock; prints the seed with the test's name.
static inline struct test_random test_random_start(const char *test) {
    const char *given = getenv("HYMN_TEST_SEED");
    uint64_t seed = given && *given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u + (uint64_t)clock();
    fprintf(stderr, "%s: HYMN_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return test_random_fixed(seed);
}

// From low to high, both included.
static inline uint32_t test_random_range(struct test_random *random, uint32_t low, uint32_t high) {
    return low + (uint32_t)(test_random_u64(random) % ((uint64_t)high - low + 1));
}

// Uniform in [low, high).
static inline float test_random_float(struct test_random *random, float low, float high) {
    return low + (high - low) * (float)((double)(test_random_u64(random) >> 40) / 16777216.0);
}

// Mean 0, variance 1, from -6 to 6: the sum of twelve uniform numbers.
static inline float test_random_normal(struct test_random *random) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) {
        sum += test_random_float(random, 0.0f, 1.0f);
    }
    return sum;
}

static inline void test_random_fill(struct test_random *random, float *values, size_t count, float low, float high) {
    for (size_t i = 0; i < count; i++) {
        values[i] = test_random_float(random, low, high);
    }
}

#endif
