// SPDX-License-Identifier: MIT
//
// The builder, the passes and the memory plan against the golden outputs, executed in plain C without a device.
#include "graph/graph.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/hymunet.h"
#include "session/network.h"
#include "support/golden.h"
#include "support/graph_reference.h"

static const struct hymn_log print_log = {.callback = golden_print_log, .level = HYMN_LOG_WARNING};

enum stage {
    STAGE_PLAIN,     // as built
    STAGE_OPTIMIZED, // folded and fused
    STAGE_PLANNED    // in one aliased arena
};

static double run_case(const struct golden *golden, enum stage stage) {
    struct hymn_graph graph;
    struct hymn_network_shape shape;
    assert_int_equal(hymn_network_shape_make(golden->model, golden->height, golden->width, golden->batch,
                                             HYMN_PRECISION_FP32, &print_log, &shape),
                     HYMN_STATUS_OK);
    hymn_graph_init(&graph, shape.batch, HYMN_STORAGE_F32);
    assert_int_equal(hymn_hymunet_build(golden->model, shape.padded_height, shape.padded_width, &print_log, &graph),
                     HYMN_STATUS_OK);
    if (stage != STAGE_PLAIN) {
        assert_int_equal(hymn_graph_optimize(&graph, &print_log), HYMN_STATUS_OK);
    }
    if (stage == STAGE_PLANNED) {
        assert_int_equal(hymn_graph_plan_memory(&graph, true, &print_log), HYMN_STATUS_OK);
        assert_true(graph.activation_bytes <= graph.activation_bytes_unaliased);
    }
    double *output = malloc(golden->output_count * sizeof *output);
    assert_non_null(output);
    assert_true(
        graph_reference_run(&graph, golden->input, golden->height, golden->width, stage == STAGE_PLANNED, output));
    double nmse = golden_nmse_double(output, golden->output, golden->output_count);
    free(output);
    hymn_graph_free(&graph);
    return nmse;
}

static void check_all(enum stage stage) {
    char names[GOLDEN_MAX_CASES][64];
    size_t count = golden_names(names);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        struct golden golden;
        golden_load(names[i], &golden);
        double nmse = run_case(&golden, stage);
        printf("%-20s NMSE %.2e\n", names[i], nmse);
        assert_true(nmse <= 1e-11);
        golden_free(&golden);
    }
}

static void plain_graphs_match_golden(void **state) {
    (void)state;
    check_all(STAGE_PLAIN);
}

static void optimized_graphs_match_golden(void **state) {
    (void)state;
    check_all(STAGE_OPTIMIZED);
}

static void planned_graphs_match_golden(void **state) {
    (void)state;
    check_all(STAGE_PLANNED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_graphs_match_golden),
        cmocka_unit_test(optimized_graphs_match_golden),
        cmocka_unit_test(planned_graphs_match_golden),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
