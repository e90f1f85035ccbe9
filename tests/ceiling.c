// SPDX-License-Identifier: MIT
//
// The chain of copies that stands beside a run. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "support/test_random.h"
#include "tune/ceiling.h"

enum { UNIT = 8192, MOST = 200 };

static const struct hymn_vk_plan plan = {.max_binding_bytes = 128 << 20, .max_groups_x = 65535};

static bool overlap(const struct hymn_vk_binding *a, const struct hymn_vk_binding *b) {
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static void check_binding(const struct hymn_vk_binding *binding, uint64_t bytes, uint64_t all) {
    assert_int_equal(binding->role, HYMN_VK_ROLE_ACTIVATIONS);
    assert_int_equal(binding->bytes, bytes);
    assert_int_equal(binding->offset % UNIT, 0);
    assert_true(binding->offset + binding->bytes <= all);
}

// Half of the bytes, in whole workgroups, from what the step before has written to what nothing of it reads.
static uint64_t check_chain(const struct hymn_ceiling_run *run, struct hymn_vk_step *steps) {
    const uint64_t all = hymn_ceiling_chain(&plan, run, steps);
    assert_true(all >= run->bytes);
    for (uint32_t i = 0; i < run->count; i++) {
        const struct hymn_vk_step *step = &steps[i];
        const uint64_t groups = (run->timings[i].bytes + 2 * UNIT - 1) / (2 * UNIT);
        assert_int_equal(step->kind, HYMN_VK_STEP_DISPATCH);
        assert_non_null(step->shader);
        assert_int_equal(step->groups[0], groups > 0 ? groups : 1);
        assert_true(step->groups[1] == 1 && step->groups[2] == 1);
        assert_true(step->binding_count == 2 && step->write_mask == 2);
        check_binding(&step->bindings[0], (uint64_t)step->groups[0] * UNIT, all);
        check_binding(&step->bindings[1], (uint64_t)step->groups[0] * UNIT, all);
        assert_int_equal(step->bytes, 2 * step->bindings[0].bytes);
        assert_false(overlap(&step->bindings[0], &step->bindings[1]));
        assert_true(i == 0 || overlap(&step->bindings[0], &steps[i - 1].bindings[1]));
    }
    return all;
}

static void each_copy_waits_for_the_one_before(void **state) {
    (void)state;
    struct test_random random = test_random_start("each_copy_waits_for_the_one_before");
    struct hymn_timing timings[MOST];
    struct hymn_vk_step steps[MOST];
    for (int round = 0; round < 2000; round++) {
        struct hymn_ceiling_run run = {timings, test_random_range(&random, 1, MOST), 0};
        const uint32_t most = 1u << test_random_range(&random, 0, 28); // of a copy, 128 MiB
        uint64_t largest = 0;
        for (uint32_t i = 0; i < run.count; i++) {
            timings[i] = (struct hymn_timing){.bytes = test_random_range(&random, 0, most)};
            largest = timings[i].bytes > largest ? timings[i].bytes : largest;
        }
        run.bytes = largest * test_random_range(&random, 0, 16) / 4 + test_random_range(&random, 0, 3 * UNIT);
        const uint64_t all = check_chain(&run, steps);
        assert_true(all < run.bytes + UNIT || all < largest / 2 * 3 + 4 * UNIT);
    }
}

// In one chain as much memory is written as the run has.
static void the_copies_go_round(void **state) {
    (void)state;
    enum { UNITS = 50 };
    static const struct hymn_timing timings[MOST];
    struct hymn_vk_step steps[MOST];
    const struct hymn_ceiling_run run = {timings, MOST, (uint64_t)UNITS * UNIT - 5};
    assert_int_equal(check_chain(&run, steps), UNITS * UNIT);
    for (uint32_t i = 0; i < MOST; i++) {
        assert_int_equal(steps[i].bindings[1].offset / UNIT, (i + 1) % UNITS);
    }
}

static void what_one_dispatch_cannot_copy_makes_no_chain(void **state) {
    (void)state;
    struct hymn_timing timings[2] = {{.bytes = 5}, {.bytes = 2 * plan.max_binding_bytes}};
    struct hymn_vk_step steps[2];
    const struct hymn_ceiling_run run = {timings, 2, 1 << 20};
    assert_int_equal(check_chain(&run, steps), 3 * plan.max_binding_bytes);
    timings[1].bytes++;
    assert_int_equal(hymn_ceiling_chain(&plan, &run, steps), 0);
    struct hymn_vk_plan narrow = plan;
    narrow.max_groups_x = 100;
    timings[1].bytes = 2 * 100 * UNIT;
    assert_true(hymn_ceiling_chain(&narrow, &run, steps) > 0);
    timings[1].bytes++;
    assert_int_equal(hymn_ceiling_chain(&narrow, &run, steps), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_copy_waits_for_the_one_before),
        cmocka_unit_test(the_copies_go_round),
        cmocka_unit_test(what_one_dispatch_cannot_copy_makes_no_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
