// SPDX-License-Identifier: MIT
//
// How workgroups are folded of which a dimension has too many.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ops/grid.h"
#include "support/test_random.h"

static void fold(uint32_t total, uint32_t most, uint32_t *first, uint32_t *folds) {
    *first = *folds = 0;
    hymn_grid_fold(total, most, first, folds);
    assert_in_range(*first, 1, most);
    assert_in_range((uint64_t)*first * *folds, total, (uint64_t)total + *folds - 1); // hardly more than there are
}

static void what_fits_is_not_folded(void **state) {
    (void)state;
    const uint32_t totals[] = {1, 2, 1024, 65534, 65535};
    uint32_t first, folds;
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        fold(totals[i], 65535, &first, &folds);
        assert_int_equal(first, totals[i]);
        assert_int_equal(folds, 1);
    }
    fold(1u << 20, 0x7FFFFFFF, &first, &folds);
    assert_int_equal(folds, 1);
}

// A step that is too long is divided along its folds: there must be some, and all alike.
static void folds_can_be_divided(void **state) {
    (void)state;
    uint32_t first, folds;
    fold(65536, 65535, &first, &folds); // a 3x3 convolution at 2048x2048 by strips of eight pixels
    assert_int_equal((uint64_t)first * folds, 65536);
    assert_true(folds >= 64);
    struct test_random random = test_random_start("folds_can_be_divided");
    for (int i = 0; i < 100000; i++) {
        const uint32_t most = test_random_range(&random, 0, 1) ? 65535 : test_random_range(&random, 1024, 65535);
        const uint32_t total = test_random_range(&random, most + 1, 1u << 25);
        fold(total, most, &first, &folds);
        assert_in_range(folds, 2, 65535);
        assert_true(total < 65536 || folds >= 64);
    }
    for (int i = 0; i < 1000; i++) { // of devices that there are not
        const uint32_t most = test_random_range(&random, 1, 5);
        fold(test_random_range(&random, 1, 1000), most, &first, &folds);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_not_folded),
        cmocka_unit_test(folds_can_be_divided),
    };
    return cmocka_run_group_tests_name("grid", tests, NULL, NULL);
}
