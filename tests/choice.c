// SPDX-License-Identifier: MIT
//
// Which way is used, by its times: noise, and times of another clock, must not decide.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tune/choice.h"

enum { MOST = 8 };

// What times are side by side, in the order in which rivals are asked.
struct side {
    uint32_t rival;
    double own, other;
    enum hymn_status status;
};

struct sides {
    const struct side *sides;
    uint32_t count, asked;
};

static enum hymn_status time_sides(void *user, uint32_t rival, double *ms) {
    struct sides *sides = user;
    assert_true(sides->asked < sides->count);
    const struct side *side = &sides->sides[sides->asked++];
    assert_int_equal(rival, side->rival);
    ms[0] = side->own;
    ms[rival] = side->other;
    return side->status;
}

// The times are copied; returns what is fastest then. All of the sides are to be asked for.
static uint32_t confirmed(const double *times, uint32_t count, const struct side *sides, uint32_t side_count,
                          double *ms) {
    struct sides asked = {sides, side_count, 0};
    for (uint32_t i = 0; i < count; i++) {
        ms[i] = times[i];
    }
    assert_int_equal(hymn_choice_confirm(ms, count, time_sides, &asked), HYMN_STATUS_OK);
    assert_int_equal(asked.asked, side_count);
    return hymn_choice_fastest(ms, count);
}

static void fastest_is_faster_than_noise(void **state) {
    (void)state;
    assert_int_equal(hymn_choice_fastest((const double[]){1.0}, 1), 0);
    assert_int_equal(hymn_choice_fastest((const double[]){1.0, 0.99, -1.0}, 3), 0);
    assert_int_equal(hymn_choice_fastest((const double[]){1.0, 0.97, -1.0, 0.96, 0.965}, 5), 3);
    assert_int_equal(hymn_choice_fastest((const double[]){-1.0, 0.5}, 2), 0); // nothing to compare with
    assert_int_equal(hymn_choice_fastest(NULL, 0), 0);
}

static void the_first_faster_one_wins(void **state) {
    (void)state;
    double ms[MOST];
    // The clock has fallen: the second's time is not to be compared with the new ones.
    const double times[] = {1.0, 0.8, 0.85};
    const struct side sides[] = {{1, 1.5, 1.2, HYMN_STATUS_OK}};
    assert_int_equal(confirmed(times, 3, sides, 1, ms), 1);
    assert_true(ms[0] == 1.5 && ms[1] == 1.2 && ms[2] < 0.0);
}

static void losers_are_out(void **state) {
    (void)state;
    double ms[MOST];
    // The first rival is no faster side by side, and its time, of a higher clock, is the lowest all the same.
    const double times[] = {1.0, 0.7, 0.8};
    const struct side sides[] = {{1, 1.0, 0.99, HYMN_STATUS_OK}, {2, 1.5, 1.4, HYMN_STATUS_OK}};
    assert_int_equal(confirmed(times, 3, sides, 2, ms), 2);
    assert_true(ms[1] < 0.0 && ms[2] == 1.4);
}

static void the_own_choice_is_kept(void **state) {
    (void)state;
    double ms[MOST];
    const double slower[] = {1.0, 1.1, 0.99};
    assert_int_equal(confirmed(slower, 3, NULL, 0, ms), 0);
    const double times[] = {1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
    const struct side sides[] = {{1, 1.0, 1.1, HYMN_STATUS_OK},
                                 {2, 1.0, -1.0, HYMN_STATUS_OK}, // which failed
                                 {3, 1.0, 1.0, HYMN_STATUS_OK},
                                 {4, 1.0, 0.99, HYMN_STATUS_OK}}; // and enough
    assert_int_equal(confirmed(times, 7, sides, 4, ms), 0);
    for (int i = 1; i < 7; i++) {
        assert_true(ms[i] < 0.0);
    }
    const struct side failed[] = {{1, -1.0, 0.5, HYMN_STATUS_OK}};
    assert_int_equal(confirmed(times, 2, failed, 1, ms), 0);
    assert_true(ms[0] < 0.0 && ms[1] < 0.0);
}

static void failures_end_it(void **state) {
    (void)state;
    double ms[] = {1.0, 0.5, 0.6};
    const struct side sides[] = {{1, 1.0, 0.5, HYMN_STATUS_DEVICE_LOST}};
    struct sides asked = {sides, 1, 0};
    assert_int_equal(hymn_choice_confirm(ms, 3, time_sides, &asked), HYMN_STATUS_DEVICE_LOST);
}

static void median_is_in_the_middle(void **state) {
    (void)state;
    double ms[] = {3.0, 1.0, 9.0, 2.0, 4.0};
    assert_true(hymn_choice_median(ms, 1) == 3.0);
    assert_true(hymn_choice_median(ms, 2) == 3.0); // the upper one
    assert_true(hymn_choice_median(ms, 5) == 3.0);
    assert_true(ms[4] == 9.0 && hymn_choice_median(ms, 3) == 2.0);
}

static void the_latest_runs_but_the_first_count(void **state) {
    (void)state;
    struct hymn_choice_samples samples = {{0}, 0};
    assert_true(hymn_choice_add(&samples, 9.0) == 9.0);
    assert_true(hymn_choice_add(&samples, 2.0) == 2.0);
    assert_true(hymn_choice_add(&samples, 4.0) == 4.0); // the upper one
    assert_true(hymn_choice_add(&samples, 3.0) == 3.0);
    for (uint32_t i = 0; i < HYMN_CHOICE_SAMPLES / 2; i++) {
        hymn_choice_add(&samples, 5.0);
    }
    assert_true(hymn_choice_add(&samples, 5.0) == 5.0);
    for (uint32_t i = 0; i < HYMN_CHOICE_SAMPLES; i++) {
        hymn_choice_add(&samples, 7.0);
    }
    for (uint32_t i = 0; i < HYMN_CHOICE_SAMPLES; i++) {
        assert_true(samples.ms[i] == 7.0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fastest_is_faster_than_noise),
        cmocka_unit_test(the_first_faster_one_wins),
        cmocka_unit_test(losers_are_out),
        cmocka_unit_test(the_own_choice_is_kept),
        cmocka_unit_test(failures_end_it),
        cmocka_unit_test(median_is_in_the_middle),
        cmocka_unit_test(the_latest_runs_but_the_first_count),
    };
    return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
