// SPDX-License-Identifier: MIT
//
// For tests of what becomes of a shader that is wrong: the variant that is made so, contexts whose cache is a folder of
// the test, and sessions of a small network by the rules (tuning might choose other variants, and none that computes
// nothing). Include after cmocka.h.
#ifndef HYMN_TESTS_SUPPORT_TEST_VICTIM_H
#define HYMN_TESTS_SUPPORT_TEST_VICTIM_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_folder.h"
#include "support/test_vk.h"

static char folder[128];
static struct golden golden;
static const struct hymn_shader *victim; // the first variant that sessions use on this device; NULL: none
static bool several;                     // and not the only one

static inline struct hymn_context *open_context(struct test_log *log, const char *cache_dir, bool trust) {
    struct hymn_context *context = NULL;
    const char *validation = getenv("HYMN_VALIDATION");
    struct hymn_context_params params = {
        .log = test_log_start(log),
        .device = getenv("HYMN_DEVICE"),
        .cache_dir = cache_dir,
        .tier = test_context_tier(),
        .validation = validation && strcmp(validation, "1") == 0,
        .trust_variants = trust,
    };
    assert_int_equal(hymn_context_create(&params, &context), HYMN_STATUS_OK);
    return context;
}

static inline void close_context(struct hymn_context **context) {
    assert_int_equal(hymn_context_validation_messages(*context), 0);
    hymn_context_destroy(context);
}

// Makes the victim compute nothing.
static inline void break_victim(struct hymn_context *context) {
    context->device->replaced = victim;
    context->device->replacement = test_vk_shader("nothing");
}

static inline enum hymn_status create_session(struct hymn_context *context, struct hymn_session **out_session) {
    const struct hymn_session_params params = {
        .height = golden.height, .width = golden.width, .batch = golden.batch, .tuning_ms = HYMN_TUNING_NONE};
    return hymn_session_create(context, golden.model, &params, out_session);
}

static inline struct hymn_session *open_session(struct hymn_context *context) {
    struct hymn_session *session = NULL;
    assert_int_equal(create_session(context, &session), HYMN_STATUS_OK);
    return session;
}

static inline bool uses_victim(const struct hymn_session *session) {
    bool found = false;
    for (uint32_t i = 0; i < session->program.count; i++) {
        found = found || session->program.steps[i].shader == victim;
    }
    return found;
}

static inline double session_error(struct hymn_session *session) {
    float *logits = calloc(golden.output_count, sizeof *logits);
    struct hymn_output outputs[8] = {{0}};
    assert_true(logits && golden.batch <= 8);
    for (uint32_t i = 0; i < golden.batch; i++) {
        outputs[i].logits = logits + i * (golden.output_count / golden.batch);
    }
    struct hymn_run_params run = {.tensor = golden.input, .outputs = outputs};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    double nmse = golden_nmse(logits, golden.output, golden.output_count);
    free(logits);
    return nmse;
}

// Opens a session and runs it; what is checked of it is whether it is right and whether it uses the victim.
static inline void expect_session(struct hymn_context *context, bool right, bool with_victim) {
    struct hymn_session *session = open_session(context);
    double nmse = session_error(session);
    assert_int_equal(nmse <= 1e-5, right);
    assert_int_equal(uses_victim(session), with_victim);
    hymn_session_destroy(&session);
}

static inline void skip_without_variants(void) {
    if (!victim) {
        print_message("no session uses a variant on this device\n");
        skip();
    }
}

// The one file of a kind in the folder, but for its lock.
static inline bool find_file(const char *kind, char *out_path, size_t capacity) {
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    out_path[0] = '\0';
    for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        if (strncmp(entry->d_name, kind, strlen(kind)) == 0 && !strstr(entry->d_name, ".lock")) {
            assert_true((size_t)snprintf(out_path, capacity, "%s/%s", folder, entry->d_name) < capacity);
        }
    }
    closedir(entries);
    return out_path[0] != '\0';
}

static inline void facts_path(char *out_path, size_t capacity) {
    assert_true(find_file("facts-", out_path, capacity));
}

static inline int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hymn-selftest-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int tear_down(void **state) {
    (void)state;
    return test_folder_remove(folder);
}

// A variant of whatever tier; software devices, which take minutes for those on matrices, have one of tier half. So do
// processes that a test begins.
static inline int find_victim(void **state) {
    (void)state;
    struct test_log log;
    golden_load("small_input", &golden);
    struct hymn_context *context = open_context(&log, "", true);
    if (hymn_context_device(context)->type == HYMN_DEVICE_TYPE_CPU && !getenv("HYMN_TIER")) {
        close_context(&context);
        assert_int_equal(setenv("HYMN_TIER", "half", 1), 0);
        context = open_context(&log, "", true);
    }
    struct hymn_session *session = open_session(context);
    for (uint32_t i = 0; i < session->program.count; i++) {
        const struct hymn_shader *shader = session->program.steps[i].shader;
        const bool variant = shader && !hymn_shader_is_base(shader);
        several = several || (variant && victim && shader != victim);
        victim = variant && !victim ? shader : victim;
    }
    print_message("victim: %s\n", victim ? victim->name : "none");
    hymn_session_destroy(&session);
    close_context(&context);
    return 0;
}

static inline int free_golden(void **state) {
    (void)state;
    golden_free(&golden);
    return 0;
}

#define SELFTEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
