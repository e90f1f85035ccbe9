// SPDX-License-Identifier: MIT
//
// The self-test: all is right on this device; a shader that is wrong is found, demoted and remembered, and sessions are
// right without it.
#define _POSIX_C_SOURCE 200809L // mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "selftest/run.h"
#include "selftest/verdict.h"
#include "session/session.h"
#include "support/test_share.h"
#include "support/test_victim.h"
#include "vk/cache.h"

static bool is_checked(const struct hymn_context *context) {
    ptrdiff_t index = victim - hymn_shaders;
    return context->device->checked[index / 32] >> index % 32 & 1;
}

// ------------------------------------------------------------------------------------------------------------- tests

struct progress {
    uint32_t calls, count;
};

static void on_progress(void *user, uint32_t done, uint32_t count) {
    struct progress *progress = user;
    assert_int_equal(done, progress->calls++);
    progress->count = count;
}

// Everything is right, but for what has been broken.
static void check_selftest(struct hymn_context *context, const struct hymn_shader *broken) {
    struct hymn_selftest *selftest = NULL;
    struct progress progress = {0};
    const bool whole = test_share() == 1;
    const char *const name = broken ? broken->name : "gate";
    struct hymn_selftest_params params = {.runs = 2,
                                          .progress = on_progress,
                                          .user = &progress,
                                          .names = whole ? NULL : &name,
                                          .name_count = whole ? 0 : 1};
    selftest = (struct hymn_selftest *)context; // anything
    assert_int_equal(hymn_selftest_create(NULL, &params, &selftest), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(selftest);
    assert_int_equal(progress.calls, 0);
    assert_int_equal(hymn_selftest_create(context, &params, &selftest), HYMN_STATUS_OK);
    assert_true(progress.count > 0 && progress.calls == progress.count + 1);
    uint32_t base = 0, failed = 0;
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) {
        const struct hymn_selftest_result *result = hymn_selftest_get(selftest, i);
        const struct hymn_shader *shader = hymn_shader_find(result->variant);
        assert_non_null(shader);
        assert_int_equal(result->base, hymn_shader_is_base(shader));
        if (result->verdict == HYMN_SELFTEST_UNAVAILABLE) {
            assert_true(!result->base && result->cases == 0);
            continue;
        }
        if (shader == broken) {
            assert_int_equal(result->verdict, HYMN_SELFTEST_FAILED);
            assert_string_equal(result->reason, "wrong");
            assert_true(result->reference_error > 1e-3 && result->base_error > 1e-3); // infinite, in fact
            failed++;
            continue;
        }
        if (result->verdict != HYMN_SELFTEST_PASSED) {
            fail_msg("%s: %s, against base %g, against C %g, %u of %u runs differ", result->variant, result->reason,
                     result->base_error, result->reference_error, result->differing, result->runs);
        }
        assert_true(result->cases > 0 && result->runs == 2 * result->cases && result->differing == 0);
        assert_true(result->reference_error >= 0.0 && result->reference_error <= 1e-6);
        assert_true(result->base_error >= 0.0 && result->base_error <= 1e-6);
        base += result->base;
    }
    // All that has an operator; the others are of pre- and post-processing.
    for (uint32_t i = 0; i < hymn_shader_count && whole; i++) {
        static const char *const others[] = {"copy", "head_mask", "image_", "tensor_"};
        bool expected = hymn_shader_is_base(&hymn_shaders[i]);
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            expected = expected && strncmp(hymn_shaders[i].name, others[k], strlen(others[k])) != 0;
        }
        base -= expected;
    }
    assert_true(!whole || base == 0);
    assert_int_equal(failed, broken != NULL);
    assert_null(hymn_selftest_get(selftest, hymn_selftest_count(selftest)));
    hymn_selftest_destroy(&selftest);
    assert_null(selftest);
}

static void wrong_variant_is_demoted_and_remembered(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    struct hymn_context *context = open_context(&log, folder, true);
    break_victim(context);
    expect_session(context, false, true); // trusted: the breakage is real
    assert_false(is_checked(context));
    close_context(&context);

    context = open_context(&log, folder, false);
    break_victim(context);
    expect_session(context, true, false);
    assert_true(is_checked(context));
    assert_warnings(&log, 1);
    assert_log(&log, victim->name);
    assert_log(&log, "is not used on");
    expect_session(context, true, false); // told once
    assert_warnings(&log, 1);
    close_context(&context);

    context = open_context(&log, folder, false); // whole again, but nobody looks
    expect_session(context, true, false);
    assert_warnings(&log, 0);
    assert_log(&log, "found wrong by an earlier check");
    struct hymn_selftest *selftest = NULL; // who asks is told, and it is taken back
    const char *const name = victim->name;
    struct hymn_selftest_params only = {.runs = 2, .names = &name, .name_count = 1};
    assert_int_equal(hymn_selftest_create(context, &only, &selftest), HYMN_STATUS_OK);
    assert_true(hymn_selftest_count(selftest) > 0);
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) { // it, and whose names are longer
        const struct hymn_selftest_result *result = hymn_selftest_get(selftest, i);
        assert_non_null(strstr(result->variant, name));
        assert_int_not_equal(result->verdict, HYMN_SELFTEST_FAILED);
    }
    hymn_selftest_destroy(&selftest);
    assert_int_equal(log.warnings + log.errors, 0);
    expect_session(context, true, true);
    close_context(&context);
    context = open_context(&log, folder, false);
    expect_session(context, true, true);
    assert_log(&log, "found right by an earlier check");
    close_context(&context);
}

static void names_are_those_of_variants(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context *context = open_context(&log, "", false);
    struct hymn_selftest *selftest = NULL;
    const char *const names[] = {"gate", "conv3d", NULL};
    struct hymn_selftest_params params = {.runs = 1, .names = names, .name_count = 2};
    assert_int_equal(hymn_selftest_create(context, &params, &selftest), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(selftest);
    assert_log(&log, "no variant's name contains 'conv3d'");
    params.name_count = 3;
    assert_int_equal(hymn_selftest_create(context, &params, &selftest), HYMN_STATUS_INVALID_ARGUMENT);
    params.names = &names[2], params.name_count = 1;
    assert_int_equal(hymn_selftest_create(context, &params, &selftest), HYMN_STATUS_INVALID_ARGUMENT);
    params.names = names, params.name_count = 0; // none at all
    assert_int_equal(hymn_selftest_create(context, &params, &selftest), HYMN_STATUS_OK);
    assert_int_equal(hymn_selftest_count(selftest), 0);
    hymn_selftest_destroy(&selftest);
    close_context(&context);
}

static void whole_selftest_tells_what_is_wrong(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context *context = open_context(&log, "", false);
    if (victim) {
        break_victim(context);
    }
    check_selftest(context, victim);
    assert_warnings(&log, victim != NULL);
    expect_session(context, true, false);
    close_context(&context);
}

// A shader that no case uses on a device is not used there by sessions either: nothing has shown that it is right.
static void what_no_case_uses_is_not_used(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    struct hymn_context *context = open_context(&log, "", false);
    struct hymn_vk_plan plan = context->device->plan;
    hymn_vk_plan_demote(&plan, victim, true);
    struct hymn_vk_program steps = {0};
    struct hymn_vk_step *step = hymn_vk_program_add(&steps);
    assert_non_null(step);
    step->shader = victim;
    bool demoted = true;
    assert_true(hymn_vk_plan_allows(&context->device->plan, victim));
    assert_int_equal(hymn_selftest_check(context->device, &plan, &steps, &demoted), HYMN_STATUS_OK);
    assert_false(demoted); // the plan did without it already
    assert_false(hymn_vk_plan_allows(&context->device->plan, victim));
    assert_warnings(&log, 1);
    assert_log(&log, "no case of the self-test uses it there");
    hymn_vk_program_free(&steps);
    expect_session(context, true, false);
    close_context(&context);
}

static void damaged_verdicts_are_found_anew(void **state) {
    (void)state;
    skip_without_variants();
    const long places[] = {16, 80}; // the vendor: somebody else's file; the first entry: damage
    struct test_log log;
    for (int i = 0; i < 2; i++) {
        struct hymn_context *context = open_context(&log, folder, false);
        break_victim(context);
        expect_session(context, true, false);
        close_context(&context);
        char path[512];
        facts_path(path, sizeof path);
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, places[i], SEEK_SET), 0);
        int byte = fgetc(file);
        assert_int_equal(fseek(file, places[i], SEEK_SET), 0);
        assert_int_equal(fputc(byte ^ 0x10, file), byte ^ 0x10);
        assert_int_equal(fclose(file), 0);
        context = open_context(&log, folder, false);
        assert_log(&log, i ? "damaged; ignored" : "of another device or driver; ignored");
        expect_session(context, true, true); // checked again, and right
        close_context(&context);
        assert_int_equal(remove(path), 0);
    }
}

// A process that ended in the middle of a check leaves its mark; after the second one the shader is not tried again
// for a while.
static void checks_that_never_end_demote(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    for (uint32_t attempts = 1; attempts <= 2; attempts++) {
        struct hymn_context *context = open_context(&log, "", false);
        hymn_selftest_begin(context->device, &context->device->plan, victim, attempts);
        expect_session(context, true, attempts == 1);
        assert_warnings(&log, attempts == 2);
        if (attempts == 2) {
            assert_log(&log, "not used for now, 2 checks of it did not come back");
        }
        close_context(&context);
    }
}

// The time of every mark in the file, in seconds, is set back.
static void age_marks(uint64_t seconds) {
    enum { HEADER = 72, CHECKSUM = 64, ENTRY = 64, WHEN = 20, MOST = HEADER + 64 * ENTRY };
    char path[512];
    uint8_t bytes[MOST];
    facts_path(path, sizeof path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    assert_true(size > HEADER && size < sizeof bytes);
    for (size_t at = HEADER; at + ENTRY <= size; at += ENTRY) {
        uint32_t length;
        uint64_t when;
        memcpy(&length, bytes + at + 8, sizeof length);
        memcpy(&when, bytes + at + WHEN, sizeof when);
        when -= length == 16 ? seconds : 0;
        memcpy(bytes + at + WHEN, &when, sizeof when);
    }
    const uint64_t sum = hymn_vk_hash(HYMN_VK_HASH_START, bytes + HEADER, size - HEADER);
    memcpy(bytes + CHECKSUM, &sum, sizeof sum);
    rewind(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

// Where files cannot be locked, a mark may be of somebody who is checking now: only an old one tells of who died.
static void marks_are_judged_by_time_without_a_lock(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    struct hymn_context *context = open_context(&log, folder, false);
    hymn_selftest_begin(context->device, &context->device->plan, victim, 2);
    close_context(&context);
    char path[512];
    facts_path(path, sizeof path - 8);
    strcat(path, ".lock");
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); // nothing can be locked there
    for (int old = 1; old >= 0; old--) {
        age_marks(old ? 300 : 0);
        context = open_context(&log, folder, false);
        const bool judged = old == 1;
        if (judged) {
            expect_session(context, true, false);
            assert_log(&log, "2 checks of it did not come back");
            hymn_selftest_begin(context->device, &context->device->plan, victim, 2); // a new one
        } else {
            expect_session(context, true, true);
        }
        assert_log(&log, "cannot be locked");
        close_context(&context);
    }
    assert_int_equal(rmdir(path), 0);
}

enum { DAY = 86400 };

// Whoever ended a process in the middle of a check, and may have done so twice, has not taken the shader away for good.
// A mark from the future, of before the clock was set back, is as of now.
static void marks_are_not_for_good(void **state) {
    (void)state;
    skip_without_variants();
    const struct {
        uint32_t attempts; // what is left of the last one,
        int days;          // and how long that was ago
        bool tried;
    } cases[] = {{2, 0, false},  {2, 2, true},      {4, 3, false},   {4, 5, true},
                 {2, -9, false}, {1000, 31, false}, {1000, 33, true}};
    struct test_log log;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hymn_context *context = open_context(&log, folder, false);
        hymn_selftest_begin(context->device, &context->device->plan, victim, cases[i].attempts);
        close_context(&context);
        age_marks((uint64_t)cases[i].days * DAY);
        context = open_context(&log, folder, false);
        expect_session(context, true, cases[i].tried);
        assert_warnings(&log, !cases[i].tried);
        close_context(&context);
    }
}

// Of an earlier run's bits and the last one's: the outputs alone count, whole. All else of the activations is NaN
// before.
static void runs_that_differ_are_told_apart(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context *context = open_context(&log, "", false);
    struct hymn_vk_plan plan;
    struct hymn_selftest_problem problem;
    struct hymn_selftest_run run;
    struct hymn_selftest_rooms rooms = {0};
    hymn_vk_plan_make(&context->device->snapshot, HYMN_TIER_BASE, &plan);
    assert_true(hymn_selftest_build(0, HYMN_STORAGE_F32, true, &problem));
    assert_int_equal(hymn_selftest_open(context->device, &plan, false, &problem, &run), HYMN_STATUS_OK);
    assert_int_equal(hymn_selftest_ready(&run, &rooms.own), HYMN_STATUS_OK);
    const struct hymn_value *output = &problem.graph.values[problem.graph.nodes[0].output];
    for (uint64_t i = 0; i < output->bytes; i++) {
        assert_int_equal(rooms.own.upload.mapped[output->offset + i], 0xFF);
    }
    uint8_t *first = malloc(run.bytes);
    assert_non_null(first);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(hymn_selftest_execute(&run), HYMN_STATUS_OK);
        if (round == 0) {
            memcpy(first, run.after, run.bytes);
        }
        assert_true(hymn_selftest_same(&run, first));
    }
    const uint64_t places[] = {output->offset, output->offset + output->bytes - 1};
    for (int i = 0; i < 2; i++) {
        first[places[i]] ^= 1;
        assert_false(hymn_selftest_same(&run, first));
        first[places[i]] ^= 1;
    }
    assert_true(hymn_selftest_same(&run, first));
    free(first);
    hymn_selftest_close(&run);
    hymn_selftest_problem_free(&problem);
    hymn_selftest_rooms_free(context->device, &rooms);
    close_context(&context);
}

static PFN_vkCreateFence real_create_fence;
static bool fence_has_failed;

// The first one, which is of the first variant's check.
static VKAPI_ATTR VkResult VKAPI_CALL failing_create_fence(VkDevice device, const VkFenceCreateInfo *info,
                                                           const VkAllocationCallbacks *callbacks, VkFence *fence) {
    const bool fails = !fence_has_failed;
    fence_has_failed = true;
    return fails ? VK_ERROR_UNKNOWN : real_create_fence(device, info, callbacks, fence);
}

// What could not be run may be able to another day, whatever was to blame. Wrong numbers stay wrong.
static void verdicts_on_what_cannot_be_run_expire(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    char path[512];
    for (int wrong = 0; wrong < 2; wrong++) {
        struct hymn_context *context = open_context(&log, folder, false);
        if (wrong) {
            break_victim(context);
        } else {
            fence_has_failed = false;
            real_create_fence = context->device->table.vkCreateFence;
            context->device->table.vkCreateFence = failing_create_fence;
        }
        expect_session(context, true, false);
        assert_warnings(&log, 1);
        assert_log(&log, wrong ? ": wrong (" : ": cannot be run (");
        close_context(&context);
        for (uint32_t days = 0; days <= 2; days += 2) {
            age_marks((uint64_t)days * DAY);
            context = open_context(&log, folder, false);
            expect_session(context, true, days > 0 && !wrong);
            assert_warnings(&log, 0);
            close_context(&context);
        }
        facts_path(path, sizeof path);
        assert_int_equal(remove(path), 0);
    }
}

// However often: the check did end, and another process may have had the memory.
static void lack_of_memory_is_no_fault_of_a_shader(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    for (int round = 0; round < 4; round++) {
        struct hymn_context *context = open_context(&log, folder, false);
        struct hymn_session *session = NULL;
        if (round < 3) {
            hymn_vk_memory_cap(context->device, context->device->memory_bytes + 1);
            assert_int_equal(create_session(context, &session), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
            assert_log(&log, "self-test's input");
        } else {
            expect_session(context, true, true);
        }
        assert_warnings(&log, 0);
        close_context(&context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SELFTEST(wrong_variant_is_demoted_and_remembered), SELFTEST(names_are_those_of_variants),
        SELFTEST(whole_selftest_tells_what_is_wrong),      SELFTEST(what_no_case_uses_is_not_used),
        SELFTEST(damaged_verdicts_are_found_anew),         SELFTEST(checks_that_never_end_demote),
        SELFTEST(marks_are_judged_by_time_without_a_lock), SELFTEST(marks_are_not_for_good),
        SELFTEST(verdicts_on_what_cannot_be_run_expire),   SELFTEST(runs_that_differ_are_told_apart),
        SELFTEST(lack_of_memory_is_no_fault_of_a_shader),
    };
    return cmocka_run_group_tests_name("api_selftest", tests, find_victim, free_golden);
}
