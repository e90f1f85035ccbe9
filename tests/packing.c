// SPDX-License-Identifier: MIT
//
// Weights as they are packed: rounded to binary16, saturated.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/half.h"
#include "ops/ops.h"
#include "support/test_random.h"

enum { MOST = 200 }; // more than what is packed at a time, and no multiple of it

static void halves_are_rounded_one_by_one(void **state) {
    (void)state;
    struct test_random random = test_random_start("halves_are_rounded_one_by_one");
    float values[MOST];
    uint16_t halves[MOST + 1];
    test_random_fill(&random, values, MOST, -3.0f, 3.0f);
    for (uint32_t count = 0; count <= MOST; count++) {
        memset(halves, 0xFF, sizeof halves);
        hymn_pack_weights(halves, values, count, true);
        for (uint32_t i = 0; i <= MOST; i++) {
            assert_int_equal(halves[i], i < count ? hymn_half_from_float(values[i]) : 0xFFFF);
        }
    }
}

static void what_overflows_is_saturated(void **state) {
    (void)state;
    const float values[] = {65504.0f, 65536.0f, 1e30f, -65504.0f, -65536.0f, -1e30f, 65519.0f, 0x1p-24f};
    const uint16_t expected[] = {0x7BFF, 0x7BFF, 0x7BFF, 0xFBFF, 0xFBFF, 0xFBFF, 0x7BFF, 0x0001};
    uint16_t halves[8];
    hymn_pack_weights(halves, values, 8, true);
    assert_memory_equal(halves, expected, sizeof expected);
}

static void floats_stay_as_they_are(void **state) {
    (void)state;
    const float values[] = {1e30f, -0.0f, 0x1p-140f};
    float packed[4] = {0.0f, 0.0f, 0.0f, 7.0f};
    hymn_pack_weights(packed, values, 3, false);
    assert_memory_equal(packed, values, sizeof values);
    assert_true(packed[3] == 7.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_rounded_one_by_one),
        cmocka_unit_test(what_overflows_is_saturated),
        cmocka_unit_test(floats_stay_as_they_are),
    };
    return cmocka_run_group_tests_name("packing", tests, NULL, NULL);
}
