// SPDX-License-Identifier: MIT
//
// The builder, the passes and the memory plan against the golden outputs, executed in plain C without a device. With
// HYMN_TEST_SHARE (support/test_share.h) one of so many at each stage, and the first one.
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
#include "support/test_log.h"
#include "support/test_share.h"

static const struct hymn_log print_log = {.callback = golden_print_log, .level = HYMN_LOG_WARNING};

enum stage {
    STAGE_PLAIN,     // as built
    STAGE_OPTIMIZED, // folded and fused
    STAGE_TAPS,      // the same, resizes behind the products of 3x3 convolutions however few channels they have
    STAGE_PLANNED,   // in one aliased arena
    STAGE_PIECES     // in an aliased arena of several pieces
};

// Cuts the arena into the smallest pieces that the largest value fits into.
static void plan_pieces(struct hymn_graph *graph) {
    graph->piece_bytes = 256;
    uint64_t whole = graph->activation_bytes, all = 0;
    assert_int_equal(hymn_graph_plan_memory(graph, true, &print_log), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < graph->value_count; i++) {
        const struct hymn_value *value = &graph->values[i];
        assert_true(value->piece < HYMN_GRAPH_MAX_PIECES && value->offset % 256 == 0);
        assert_true(value->bytes == 0 || value->offset + value->bytes <= graph->pieces[value->piece]);
    }
    for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES; i++) {
        assert_true(graph->pieces[i] <= graph->piece_bytes);
        all += graph->pieces[i];
    }
    assert_true(graph->pieces[1] > 0);
    assert_int_equal(all, graph->activation_bytes);
    assert_true(all <= 2 * whole);
}

static uint32_t count_kind(const struct hymn_graph *graph, enum hymn_kind kind) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        count += graph->nodes[i].kind == kind;
    }
    return count;
}

// So many stages of the decoder sum taps, and the others of `stages` resize before they multiply.
static void check_taps(const struct hymn_graph *graph, uint32_t sums, uint32_t stages) {
    assert_int_equal(count_kind(graph, HYMN_KIND_RESIZE_TAPS), sums);
    assert_int_equal(count_kind(graph, HYMN_KIND_RESIZE), stages - 1 - sums);
}

static double run_case(const struct golden *golden, enum stage stage) {
    struct hymn_graph graph;
    struct hymn_network_shape shape;
    assert_int_equal(hymn_network_shape_make(golden->model, golden->height, golden->width, golden->batch,
                                             HYMN_PRECISION_FP32, &print_log, &shape),
                     HYMN_STATUS_OK);
    hymn_graph_init(&graph, shape.batch, HYMN_STORAGE_F32);
    assert_int_equal(hymn_hymunet_build(golden->model, shape.padded_height, shape.padded_width, &print_log, &graph),
                     HYMN_STATUS_OK);
    if (stage == STAGE_TAPS) {
        graph.taps_from = 1;
    }
    if (stage != STAGE_PLAIN) {
        assert_int_equal(hymn_graph_optimize(&graph, &print_log), HYMN_STATUS_OK);
    }
    if (stage >= STAGE_PLANNED) {
        assert_int_equal(hymn_graph_plan_memory(&graph, true, &print_log), HYMN_STATUS_OK);
        assert_true(graph.activation_bytes <= graph.activation_bytes_unaliased);
    }
    if (stage == STAGE_PIECES) {
        plan_pieces(&graph);
    }
    if (stage == STAGE_TAPS) {
        const uint32_t stages = hymn_model_config(golden->model)->stages;
        check_taps(&graph, stages - 1, stages);
    }
    double *output = malloc(golden->output_count * sizeof *output);
    assert_non_null(output);
    assert_true(
        graph_reference_run(&graph, golden->input, golden->height, golden->width, stage >= STAGE_PLANNED, output));
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
        if (test_share_leaves_out() && i > 0) {
            continue;
        }
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

static void graphs_of_taps_match_golden(void **state) {
    (void)state;
    check_all(STAGE_TAPS);
}

// So many maps of a golden network are multiplied before they are resized, by devices of that kind.
static void check_taps_of(const char *name, bool software, uint32_t sums) {
    const struct hymn_vk_plan plan = {.cpu = software};
    struct golden golden;
    struct hymn_graph graph;
    struct hymn_network_shape shape;
    golden_load(name, &golden);
    assert_int_equal(hymn_network_shape_make(golden.model, golden.height, golden.width, golden.batch,
                                             HYMN_PRECISION_FP32, &print_log, &shape),
                     HYMN_STATUS_OK);
    assert_int_equal(hymn_network_make(golden.model, &shape, &plan, &print_log, &graph), HYMN_STATUS_OK);
    check_taps(&graph, sums, hymn_model_config(golden.model)->stages);
    hymn_graph_free(&graph);
    golden_free(&golden);
}

// Without being told to, where there are channels enough: 130, or 68 for a software device.
static void many_channels_are_multiplied_first(void **state) {
    (void)state;
    check_taps_of("taps", false, 1);
    check_taps_of("taps", true, 1);
    check_taps_of("wide", false, 0);
    check_taps_of("wide", true, 1);
}

static void planned_graphs_match_golden(void **state) {
    (void)state;
    check_all(STAGE_PLANNED);
}

static void graphs_in_pieces_match_golden(void **state) {
    (void)state;
    check_all(STAGE_PIECES);
}

static void too_many_pieces_are_refused(void **state) {
    (void)state;
    const struct hymn_vk_plan plan = {0};
    struct golden golden;
    struct hymn_graph graph;
    struct hymn_network_shape shape;
    struct test_log log;
    struct hymn_log sink = test_log_start(&log);
    golden_load("five_stages", &golden);
    assert_int_equal(hymn_network_shape_make(golden.model, golden.height, golden.width, golden.batch,
                                             HYMN_PRECISION_FP32, &print_log, &shape),
                     HYMN_STATUS_OK);
    assert_int_equal(hymn_network_make(golden.model, &shape, &plan, &print_log, &graph), HYMN_STATUS_OK);
    assert_int_equal(hymn_graph_plan_memory(&graph, false, &print_log), HYMN_STATUS_OK);
    assert_int_equal(graph.pieces[0], graph.activation_bytes);
    graph.piece_bytes = 4096; // raised to what the largest value takes
    assert_int_equal(hymn_graph_plan_memory(&graph, false, &sink), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_log(&log, "more than 8 pieces of device memory are needed");
    hymn_graph_free(&graph);
    golden_free(&golden);
}

// As many values of one size as there may be pieces, each with one for itself, and one more.
static void pieces_are_used_up(void **state) {
    (void)state;
    for (uint32_t more = 0; more < 2; more++) {
        struct hymn_graph graph;
        struct test_log log;
        struct hymn_log sink = test_log_start(&log);
        hymn_graph_init(&graph, 1, HYMN_STORAGE_F32);
        for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES + more; i++) {
            const uint32_t value = hymn_graph_add_value(&graph, "value", 8, 8, 8, HYMN_STORAGE_F32);
            if (i == 0) {
                continue; // what the first node reads
            }
            struct hymn_node *node = hymn_graph_add_node(&graph, HYMN_KIND_RESIZE, "node");
            assert_non_null(node);
            node->terms[0].source = (struct hymn_source){value - 1, 0, 8};
            node->term_count = 1;
            node->output = value;
        }
        graph.piece_bytes = 4 * 8 * 8 * 8;
        const enum hymn_status status = hymn_graph_plan_memory(&graph, false, &sink);
        assert_int_equal(status, more ? HYMN_STATUS_OUT_OF_DEVICE_MEMORY : HYMN_STATUS_OK);
        for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES && !more; i++) {
            assert_int_equal(graph.pieces[i], graph.piece_bytes);
        }
        hymn_graph_free(&graph);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_graphs_match_golden),   cmocka_unit_test(optimized_graphs_match_golden),
        cmocka_unit_test(graphs_of_taps_match_golden), cmocka_unit_test(many_channels_are_multiplied_first),
        cmocka_unit_test(planned_graphs_match_golden), cmocka_unit_test(graphs_in_pieces_match_golden),
        cmocka_unit_test(too_many_pieces_are_refused), cmocka_unit_test(pieces_are_used_up),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
