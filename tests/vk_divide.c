// SPDX-License-Identifier: MIT
//
// How programs are cut so that no submission holds too much work. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "support/test_random.h"
#include "vk/divide.h"

static struct hymn_vk_plan plan_with(double bytes_per_second, double flops_per_second) {
    return (struct hymn_vk_plan){.bytes_per_second = bytes_per_second, .flops_per_second = flops_per_second};
}

static void add(struct hymn_vk_program *program, uint64_t bytes, uint64_t flops, uint32_t x, uint32_t y, uint32_t z) {
    struct hymn_vk_step *step = hymn_vk_program_add(program);
    assert_non_null(step);
    step->bytes = bytes;
    step->flops = flops;
    step->groups[0] = x;
    step->groups[1] = y;
    step->groups[2] = z;
}

static void work_is_estimated_from_bytes_and_operations(void **state) {
    (void)state;
    struct hymn_vk_plan plan = plan_with(1e9, 1e10);
    struct hymn_vk_program program = {0};
    add(&program, 1000000000, 0, 100, 1, 1);
    add(&program, 0, 5000000000, 100, 1, 1);
    add(&program, 0, 0, 100, 1, 1);
    double total = hymn_vk_program_divide(&program, &plan, 1.0, 10.0);
    assert_true(fabs(program.steps[0].seconds - 1.0) < 1e-3);
    assert_true(fabs(program.steps[1].seconds - 0.5) < 1e-3);
    assert_true(program.steps[2].seconds > 0.0 && program.steps[2].seconds < 1e-4);
    assert_true(fabs(total - 1.5) < 1e-3);
    assert_true(fabs(hymn_vk_program_divide(&program, &plan, 3.0, 10.0) - 3.0 * total) < 1e-6);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(program.steps[i].slices, 1);
    }
    hymn_vk_program_free(&program);
}

static void long_dispatches_are_cut_along_layers_or_columns(void **state) {
    (void)state;
    struct hymn_vk_plan plan = plan_with(1e9, 1e9);
    struct hymn_vk_program program = {0};
    add(&program, 4900000000, 0, 64, 7, 100); // 4.9 s
    add(&program, 4900000000, 0, 64, 7, 1);
    add(&program, 4900000000, 0, 3, 7, 1); // too few to be cut as finely as it should
    add(&program, 4900000000, 0, 1, 7, 1); // not at all
    add(&program, 499000000, 0, 64, 7, 1);
    program.steps[3].kind = HYMN_VK_STEP_COPY;
    hymn_vk_program_divide(&program, &plan, 1.0, 0.5);
    const uint32_t slices[] = {10, 10, 3, 1, 1}, axes[] = {2, 0, 0, 0, 0};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(program.steps[i].slices, slices[i]);
        assert_int_equal(hymn_vk_step_axis(&program.steps[i]), axes[i]);
    }
    // Workgroups that count each other are in one slice: what is behind it may never be submitted.
    program.steps[0].bindings[program.steps[0].binding_count++].role = HYMN_VK_ROLE_COUNTERS;
    hymn_vk_program_divide(&program, &plan, 1.0, 0.5);
    assert_int_equal(program.steps[0].slices, 10);
    assert_int_equal(hymn_vk_step_axis(&program.steps[0]), 0);
    program.steps[0].binding_count--;
    hymn_vk_program_divide(&program, &plan, 1e12, 0.5); // absurd: as many as there are workgroups
    assert_int_equal(program.steps[0].slices, 100);
    assert_int_equal(program.steps[1].slices, 64);
    assert_int_equal(program.steps[3].slices, 1);
    hymn_vk_program_divide(&program, &plan, 1e-12, 0.5); // and back
    assert_int_equal(program.steps[0].slices, 1);
    hymn_vk_program_free(&program);
}

static void slices_cover_every_workgroup_once(void **state) {
    (void)state;
    struct test_random random = test_random_start("slices_cover_every_workgroup_once");
    for (int i = 0; i < 2000; i++) {
        struct hymn_vk_step step = {.groups = {test_random_range(&random, 1, 0x7FFFFFFF), 1, 1}};
        bool layers = i % 2;
        step.groups[2] = layers ? test_random_range(&random, 2, 65535) : 1;
        uint32_t groups = layers ? step.groups[2] : step.groups[0], next = 0;
        step.slices = test_random_range(&random, 1, groups < 300 ? groups : 300);
        for (uint32_t slice = 0; slice < step.slices; slice++) {
            uint32_t first, count;
            hymn_vk_step_slice(&step, slice, &first, &count);
            assert_int_equal(first, next);
            assert_true(count > 0 && count <= groups / step.slices + 1);
            next = first + count;
        }
        assert_int_equal(next, groups);
    }
}

static void slowness_follows_what_is_measured(void **state) {
    (void)state;
    // Right within a quarter, or unknown: as it is.
    assert_true(hymn_vk_slowness(1.0, 2.0, 2.2, 0.5) == 1.0);
    assert_true(hymn_vk_slowness(1.0, 2.0, 0.7, 0.5) == 1.0);
    assert_true(hymn_vk_slowness(1.0, 2.0, -1.0, 0.5) == 1.0);
    assert_true(hymn_vk_slowness(1.0, 0.0, 2.0, 0.5) == 1.0);
    // Slower: at once. Much faster: too.
    assert_true(hymn_vk_slowness(1.0, 2.0, 8.0, 0.5) == 4.0);
    assert_true(hymn_vk_slowness(4.0, 2.0, 1.0, 0.5) == 0.5);
    // Thought to be short, and long.
    assert_true(hymn_vk_slowness(1.0, 0.125, 0.75, 0.5) == 6.0);
    // Short runs are not divided whatever it is.
    assert_true(hymn_vk_slowness(1.0, 0.001, 0.1, 0.5) == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_estimated_from_bytes_and_operations),
        cmocka_unit_test(long_dispatches_are_cut_along_layers_or_columns),
        cmocka_unit_test(slices_cover_every_workgroup_once),
        cmocka_unit_test(slowness_follows_what_is_measured),
    };
    return cmocka_run_group_tests_name("vk_divide", tests, NULL, NULL);
}
