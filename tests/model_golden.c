// SPDX-License-Identifier: MIT
//
// Whole networks on the device at hand against float64 outputs of the PyTorch network: every variation of the
// architecture, both precisions, every tier that the device has. Arguments: the cases to run, instead of all.
// With HYMN_TEST_SHARE (support/test_share.h) three, and without what takes long to compile beside them.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hymn/hymn.h>

#include "ops/conv2d_matrix.h"
#include "ops/conv2d_winograd.h"
#include "session/context.h"
#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_share.h"

#define MAX_NMSE_FP32 1e-9
#define MAX_NMSE_FP16 1e-5

static char names[GOLDEN_MAX_CASES][64];
static struct hymn_context *context;
static bool tiers[HYMN_TIER_MATRIX + 1];

static bool uses_matrices(const struct hymn_session *session) {
    bool found = false;
    for (uint32_t i = 0; i < session->program.count; i++) {
        const struct hymn_shader *shader = session->program.steps[i].shader;
        found = found || (shader && shader->needs & HYMN_NEEDS_COOPERATIVE_MATRIX);
    }
    return found;
}

static struct hymn_session *open_session(const struct golden *golden, enum hymn_precision precision,
                                         enum hymn_tier tier) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = golden->height,
        .width = golden->width,
        .batch = golden->batch,
        .precision = precision,
        .tier = tier,
    };
    const bool emulated = test_context_shrink_tiles(context, tier, 0);
    assert_int_equal(hymn_session_create(context, golden->model, &params, &session), HYMN_STATUS_OK);
    if (emulated && precision == HYMN_PRECISION_FP16) {
        assert_true(uses_matrices(session));
    }
    return session;
}

// Every value is poisoned before the run, so that one that is not written shows.
static void run_tensor(struct hymn_session *session, const struct golden *golden, float *logits) {
    struct hymn_output outputs[8] = {{0}};
    assert_true(golden->batch <= 8);
    memset(logits, 0xff, golden->output_count * sizeof *logits);
    for (uint32_t i = 0; i < golden->batch; i++) {
        outputs[i].logits = logits + i * (golden->output_count / golden->batch);
    }
    struct hymn_run_params run = {.tensor = golden->input, .outputs = outputs};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
}

static const enum hymn_precision precisions[] = {HYMN_PRECISION_FP32, HYMN_PRECISION_FP16};
static const double limits[] = {MAX_NMSE_FP32, MAX_NMSE_FP16};

static void check_case(const char *name, enum hymn_tier tier) {
    struct golden golden;
    golden_load(name, &golden);
    float *logits = malloc(golden.output_count * sizeof *logits);
    assert_non_null(logits);
    double nmse[2];
    for (int i = 0; i < 2; i++) {
        struct hymn_session *session = open_session(&golden, precisions[i], tier);
        run_tensor(session, &golden, logits);
        nmse[i] = golden_nmse(logits, golden.output, golden.output_count);
        hymn_session_destroy(&session);
    }
    printf("%-20s %-6s NMSE fp32 %.1e, fp16 %.1e\n", name, hymn_tier_string(tier), nmse[0], nmse[1]);
    free(logits);
    golden_free(&golden);
    assert_true(nmse[0] <= limits[0]);
    assert_true(nmse[1] <= limits[1]);
}

static void golden_case(void **state) {
    for (enum hymn_tier tier = HYMN_TIER_BASE; tier <= HYMN_TIER_MATRIX; tier++) {
        if (tiers[tier]) {
            check_case(*state, tier);
        }
    }
}

static void same_input_gives_same_bits(void **state) {
    (void)state;
    struct golden golden;
    golden_load("five_stages", &golden);
    size_t bytes = golden.output_count * sizeof(float);
    float *first = malloc(bytes), *again = malloc(bytes);
    assert_non_null(first);
    assert_non_null(again);
    for (int precision = HYMN_PRECISION_FP16; precision <= HYMN_PRECISION_FP32; precision++) {
        struct hymn_session *session = open_session(&golden, precision, HYMN_TIER_AUTO);
        run_tensor(session, &golden, first);
        for (int i = 0; i < 20; i++) {
            run_tensor(session, &golden, again);
            assert_memory_equal(first, again, bytes);
        }
        hymn_session_destroy(&session);
    }
    free(first);
    free(again);
    golden_free(&golden);
}

static bool bindings_fit(const struct hymn_vk_program *program) {
    bool fit = true;
    for (uint32_t i = 0; i < program->count; i++) {
        fit = fit && program->steps[i].binding_count <= 4;
    }
    return fit;
}

// As on the smallest legal device: shaders have four storage buffers, pre- and post-processing too.
static void four_storage_buffers_are_enough(void **state) {
    (void)state;
    const uint32_t own = context->device->snapshot.max_storage_buffers;
    static const struct {
        const char *name;
        enum hymn_tier tier;
    } cases[] = {{"small_input", HYMN_TIER_AUTO}, {"conv_only_concat", HYMN_TIER_BASE}};
    // SwiftShader, with subgroups of four, takes seconds for a pipeline.
    const int count = context->device->plan.cpu && context->device->plan.subgroup_size <= 4 ? 1 : 2;
    context->device->snapshot.max_storage_buffers = 4;
    for (int i = 0; i < count; i++) {
        struct hymn_vk_program ends = {0};
        struct golden golden;
        golden_load(cases[i].name, &golden);
        struct hymn_session *session = open_session(&golden, HYMN_PRECISION_FP16, cases[i].tier);
        assert_int_equal(hymn_io_every_kind(session, &ends), HYMN_STATUS_OK);
        bool fit = ends.count > 0 && bindings_fit(&ends) && bindings_fit(&session->program);
        hymn_vk_program_free(&ends);
        hymn_session_destroy(&session);
        golden_free(&golden);
        check_case(cases[i].name, cases[i].tier);
        assert_true(fit);
    }
    context->device->snapshot.max_storage_buffers = own;
}

// Every 3x3 convolution by Winograd's kernel, which otherwise only tuning chooses: other roundings, the same result.
static void winograd_is_as_exact(void **state) {
    (void)state;
    static const struct hymn_conv2d_winograd share = {64, 1};
    struct golden golden;
    golden_load("conv_only_concat", &golden);
    size_t bytes = golden.output_count * sizeof(float);
    float *own = malloc(bytes), *logits = malloc(bytes);
    assert_non_null(own);
    assert_non_null(logits);
    for (int i = 0; i < 2; i++) {
        struct hymn_session *session = open_session(&golden, precisions[i], HYMN_TIER_AUTO);
        run_tensor(session, &golden, own);
        hymn_session_destroy(&session);
        hymn_conv2d_winograd_force(&share);
        session = open_session(&golden, precisions[i], HYMN_TIER_AUTO);
        hymn_conv2d_winograd_force(NULL);
        run_tensor(session, &golden, logits);
        hymn_session_destroy(&session);
        double nmse = golden_nmse(logits, golden.output, golden.output_count);
        printf("winograd, %s: NMSE %.1e\n", i ? "fp16" : "fp32", nmse);
        assert_true(nmse <= limits[i]);
        assert_memory_not_equal(own, logits, bytes);
    }
    free(own);
    free(logits);
    golden_free(&golden);
}

// A session tells which tier it runs on; those that bring nothing over the one below them, with the shaders there are,
// need no run of their own.
static void find_tiers(void) {
    struct golden golden;
    golden_load("five_stages", &golden);
    uint32_t needs = 0;
    for (enum hymn_tier tier = HYMN_TIER_BASE; tier <= HYMN_TIER_MATRIX; tier++) {
        struct hymn_vk_plan plan;
        hymn_vk_plan_make(&context->device->snapshot, hymn_vk_tier_limit(context->device->tier, tier), &plan);
        uint32_t used = 0;
        for (uint32_t i = 0; i < hymn_shader_count; i++) {
            used |= hymn_vk_plan_allows(&plan, &hymn_shaders[i]) ? hymn_shaders[i].needs : 0;
        }
        struct hymn_session *session = open_session(&golden, HYMN_PRECISION_FP16, tier);
        bool reached = hymn_session_get_info(session)->tier == tier;
        assert_int_equal(hymn_session_get_info(session)->tier, plan.tier);
        hymn_session_destroy(&session);
        tiers[tier] = reached && (tier <= HYMN_TIER_WIDE || used != needs);
        needs = used;
    }
    golden_free(&golden);
}

static int open_context(void **state) {
    (void)state;
    context = test_context_open();
    if (context) {
        find_tiers();
    }
    return context ? 0 : -1;
}

static int close_context(void **state) {
    (void)state;
    return test_context_close(&context);
}

// Of a share: every operator, and both skips.
static bool is_of_few(const char *name) {
    return strcmp(name, "five_stages") == 0 || strcmp(name, "mamba_only") == 0 || strcmp(name, "conv_only_concat") == 0;
}

// Whether the arguments ask for a case.
static bool is_wanted(const char *name, int argument_count, char **arguments) {
    bool wanted = argument_count < 2 && (test_share() == 1 || is_of_few(name));
    for (int i = 1; i < argument_count; i++) {
        wanted = wanted || strcmp(arguments[i], name) == 0;
    }
    return wanted;
}

int main(int argument_count, char **arguments) {
    struct CMUnitTest tests[GOLDEN_MAX_CASES + 3];
    size_t all = golden_names(names), count = 0;
    for (size_t i = 0; i < all; i++) {
        if (is_wanted(names[i], argument_count, arguments)) {
            tests[count++] = (struct CMUnitTest){names[i], golden_case, NULL, NULL, names[i]};
        }
    }
    if (count == 0) {
        fprintf(stderr, "no golden cases\n");
        return 1;
    }
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(same_input_gives_same_bits);
    if (test_share() == 1) {
        tests[count++] = (struct CMUnitTest)cmocka_unit_test(four_storage_buffers_are_enough);
        tests[count++] = (struct CMUnitTest)cmocka_unit_test(winograd_is_as_exact);
    }
    return _cmocka_run_group_tests("model_golden", tests, count, open_context, close_context);
}
