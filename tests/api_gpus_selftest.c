// SPDX-License-Identifier: MIT
//
// The cases of the self-test: what they make use of, on devices that are not there.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "selftest/selftest.h"
#include "session/context.h"
#include "support/test_context.h"
#include "vk/shader.h"

// What the quick self-test of a session has cases for on GPUs that this test need not run on: all that a device like
// those may use, as what no case uses is not used.
static void every_variant_has_a_case_on_gpus(void **state) {
    (void)state;
    static const struct {
        struct hymn_vk_matrix matrix;
        uint32_t subgroup, shared, invocations;
    } gpus[] = {
        {{16, 16, 16, 0}, 32, 49152, 1024}, // NVIDIA
        {{16, 16, 16, 0}, 64, 65536, 1024}, // AMD, RDNA 3
        {{16, 16, 16, 0}, 32, 32768, 1024},
        {{8, 16, 16, 0}, 32, 65536, 1024}, // Intel
        {{0}, 64, 65536, 1024},            // without matrix units: AMD, RDNA 2
        {{0}, 128, 32768, 1024},           // Qualcomm
        {{0}, 32, 32768, 1024},            // Apple
    };
    const uint32_t matrix_needs = HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_HALF_SUMS;
    struct hymn_context *context = test_context_open();
    assert_non_null(context);
    const struct hymn_selftest_options options = {.quick = true, .runs = 1};
    uint32_t missing = 0;
    for (uint32_t i = 0; i < sizeof gpus / sizeof *gpus; i++) {
        struct hymn_vk_plan plan = context->device->plan;
        const bool matrices = gpus[i].matrix.m > 0;
        plan.needs_met = ((1u << HYMN_NEEDS_BITS) - 1) & ~(matrices ? 0 : matrix_needs);
        plan.tier = matrices ? HYMN_TIER_MATRIX : HYMN_TIER_HALF;
        plan.cpu = plan.weights_f32 = false;
        plan.matrix = gpus[i].matrix;
        plan.subgroup_size = gpus[i].subgroup;
        plan.max_shared_bytes = gpus[i].shared;
        plan.max_invocations = gpus[i].invocations;
        plan.target_lanes = 131072;
        for (uint32_t k = 0; k < hymn_shader_count; k++) {
            const struct hymn_shader *shader = &hymn_shaders[k];
            struct hymn_vk_program steps = {0};
            // Those of software devices alone.
            const bool other = strncmp(shader->name, "conv2d_lanes", strlen("conv2d_lanes")) == 0 ||
                               strncmp(shader->name, "selective_scan_shuffle", strlen("selective_scan_shuffle")) == 0;
            const bool allowed = hymn_vk_plan_allows(&plan, shader);
            assert_true(allowed || (!matrices && shader->needs & matrix_needs));
            if (allowed && !hymn_shader_is_base(shader) && !other) {
                assert_int_equal(hymn_selftest_collect(context->device, &plan, shader, &options, &steps),
                                 HYMN_STATUS_OK);
                if (steps.count == 0) {
                    print_error("no case of %s: matrices of %ux%ux%u, %u lanes, %u bytes\n", shader->name,
                                plan.matrix.m, plan.matrix.n, plan.matrix.k, plan.subgroup_size, plan.max_shared_bytes);
                    missing++;
                }
            }
            hymn_vk_program_free(&steps);
        }
    }
    assert_int_equal(missing, 0);
    assert_int_equal(test_context_close(&context), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_variant_has_a_case_on_gpus)};
    return cmocka_run_group_tests_name("api_gpus_selftest", tests, NULL, NULL);
}
