// SPDX-License-Identifier: MIT
//
// The convolutions whose lanes share memory between barriers, one small problem for each way in which they do, against
// plain C in double precision. Few pipelines: for the validation layers' check of shared memory for races, with which a
// software device compiles one for ten seconds. conv2d_matrix is not among these, as the check knows no barrier of
// subgroups; what the convolutions compute is for their own tests.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_winograd.h"
#include "support/op_main.h"
#include "support/test_conv.h"

static struct hymn_context *context;

// As on a GPU of the smallest class without matrix units, which many or few lanes keep busy.
static struct hymn_vk_plan gpu_plan(uint32_t target_lanes) {
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
    plan.cpu = plan.weights_f32 = false;
    plan.needs_met |= HYMN_NEEDS_WIDE; // Winograd's kernel is of that tier
    plan.target_lanes = target_lanes;
    return plan;
}

// Runs a convolution, with a share by Winograd's kernel, and compares. The tiles lie over all edges, and the steps are
// no multiple of a chunk.
static void check(uint32_t target_lanes, uint32_t term_count, const struct hymn_conv2d_winograd *share) {
    struct test_random random = test_random_start("op_conv2d_races");
    const struct test_conv_case shape = {.height = 6,
                                         .width = 11,
                                         .batch = 2,
                                         .term_count = term_count,
                                         .kernels = {3, term_count > 1},
                                         .channels = {19, 10},
                                         .parts = {29},
                                         .part_count = 1,
                                         .activation = HYMN_ACTIVATION_RELU,
                                         .bias = true,
                                         .sources = {HYMN_STORAGE_F16, HYMN_STORAGE_F16},
                                         .output = HYMN_STORAGE_F16,
                                         .extra = HYMN_STORAGE_F16};
    struct hymn_vk_plan plan = gpu_plan(target_lanes);
    struct test_conv b;
    test_conv_build(&b, &shape, &random);
    float *expected = test_conv_reference(&b);
    if (share) {
        assert_true(hymn_conv2d_winograd_valid(&b.graph, b.node, &plan, share));
        hymn_conv2d_winograd_force(share);
    }
    size_t count = test_op_size(&b.graph, b.output.value);
    double nmse = test_conv_run(&b, context, &plan, 0, NULL) ? test_op_nmse(expected, b.output.data, count) : INFINITY;
    hymn_conv2d_winograd_force(NULL);
    free(expected);
    test_conv_destroy(&b);
    assert_true(nmse <= test_op_tolerance(HYMN_STORAGE_F16));
}

static void tiles_of_one_team(void **state) {
    (void)state;
    check(64, 1, NULL);
}

static void tiles_of_several_teams(void **state) {
    (void)state;
    check(131072, 2, NULL);
}

static void winograd_by_one_cell(void **state) {
    (void)state;
    check(64, 2, &(struct hymn_conv2d_winograd){64, 1});
}

static void winograd_by_four_cells(void **state) {
    (void)state;
    check(64, 1, &(struct hymn_conv2d_winograd){128, 4});
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_of_one_team),
        cmocka_unit_test(tiles_of_several_teams),
        cmocka_unit_test(winograd_by_one_cell),
        cmocka_unit_test(winograd_by_four_cells),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_races", &context, tests, sizeof tests / sizeof *tests, NULL});
}
