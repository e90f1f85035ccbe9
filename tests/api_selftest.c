// SPDX-License-Identifier: MIT
//
// The self-test: all is right on this device; a shader that is wrong is found, demoted and remembered, and sessions are
// right without it.
#define _POSIX_C_SOURCE 200809L // mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "selftest/verdict.h"
#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_folder.h"
#include "support/test_share.h"
#include "support/test_vk.h"
#include "vk/cache.h"

static const char *program;
static char folder[128];
static struct golden golden;
static const struct hymn_shader *victim; // the first variant that sessions use on this device; NULL: none
static bool several;                     // and not the only one

static struct hymn_context *open_context(struct test_log *log, const char *cache_dir, bool trust) {
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

static void close_context(struct hymn_context **context) {
    assert_int_equal(hymn_context_validation_messages(*context), 0);
    hymn_context_destroy(context);
}

// Makes the victim compute nothing.
static void break_victim(struct hymn_context *context) {
    context->device->replaced = victim;
    context->device->replacement = test_vk_shader("nothing");
}

static struct hymn_session *open_session(struct hymn_context *context) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = golden.height, .width = golden.width, .batch = golden.batch};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    return session;
}

static bool uses_victim(const struct hymn_session *session) {
    bool found = false;
    for (uint32_t i = 0; i < session->program.count; i++) {
        found = found || session->program.steps[i].shader == victim;
    }
    return found;
}

static double session_error(struct hymn_session *session) {
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
static void expect_session(struct hymn_context *context, bool right, bool with_victim) {
    struct hymn_session *session = open_session(context);
    double nmse = session_error(session);
    assert_int_equal(nmse <= 1e-5, right);
    assert_int_equal(uses_victim(session), with_victim);
    hymn_session_destroy(&session);
}

static bool is_checked(const struct hymn_context *context) {
    ptrdiff_t index = victim - hymn_shaders;
    return context->device->checked[index / 32] >> index % 32 & 1;
}

static void skip_without_variants(void) {
    if (!victim) {
        print_message("no session uses a variant on this device\n");
        skip();
    }
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
    assert_int_equal(log.warnings, 1);
    assert_log(&log, victim->name);
    assert_log(&log, "is not used on");
    expect_session(context, true, false); // told once
    assert_int_equal(log.warnings, 1);
    close_context(&context);

    context = open_context(&log, folder, false); // whole again, but nobody looks
    expect_session(context, true, false);
    assert_int_equal(log.warnings, 0);
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
    assert_int_equal(log.warnings, victim != NULL);
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
    assert_int_equal(log.warnings, 1);
    assert_log(&log, "no case of the self-test uses it there");
    hymn_vk_program_free(&steps);
    expect_session(context, true, false);
    close_context(&context);
}

// The one file of a kind in the folder, but for its lock.
static bool find_file(const char *kind, char *out_path, size_t capacity) {
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

static void facts_path(char *out_path, size_t capacity) {
    assert_true(find_file("facts-", out_path, capacity));
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
        assert_int_equal(log.warnings, attempts == 2);
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
        assert_int_equal(log.warnings, !cases[i].tried);
        close_context(&context);
    }
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
        assert_int_equal(log.warnings, 1);
        assert_log(&log, wrong ? ": wrong (" : ": cannot be run (");
        close_context(&context);
        for (uint32_t days = 0; days <= 2; days += 2) {
            age_marks((uint64_t)days * DAY);
            context = open_context(&log, folder, false);
            expect_session(context, true, days > 0 && !wrong);
            assert_int_equal(log.warnings, 0);
            close_context(&context);
        }
        facts_path(path, sizeof path);
        assert_int_equal(remove(path), 0);
    }
}

// What a child does at the end of its first check, while the mark of it is on disk still.
enum role {
    ROLE_CHECKS = 'c', // goes on
    ROLE_DIES = 'd',
    ROLE_DIES_COMPILING = 'p', // before that, when the first pipelines are made
    ROLE_DIES_TUNING = 't',    // likewise, on what is taken to be a GPU, where sessions tune
    ROLE_EXITS = 'e',          // goes on, and ends as soon as it has a session
    ROLE_HOLDS = 'h',          // tells its parent, and goes on when it is told to
    ROLE_COMES = 'o'           // goes on; tells its parent when it has read the facts
};

// Whose scans are of two variants at that size, one by the length of the longest.
#define TUNED "five_stages"
static const struct hymn_session_params tuned_size = {.height = 512, .width = 512};

struct child {
    enum role role;
    bool checked;
    uint32_t warnings;
};

// A child's standard output and input are pipes to its parent.
static void tell_parent(void) {
    if (write(STDOUT_FILENO, "x", 1) != 1) {
        _exit(1);
    }
}

static void log_of_child(void *user, enum hymn_log_level level, const char *message) {
    struct child *child = user;
    char byte;
    if (level <= HYMN_LOG_WARNING) {
        fprintf(stderr, "child: %s\n", message);
        child->warnings++;
    }
    if ((child->role == ROLE_DIES_COMPILING || child->role == ROLE_DIES_TUNING) &&
        strstr(message, "pipelines made in")) {
        raise(SIGKILL);
    }
    if (child->checked || !strstr(message, " is right: ")) {
        return;
    }
    child->checked = true;
    if (child->role == ROLE_DIES) {
        raise(SIGKILL);
    } else if (child->role == ROLE_HOLDS) {
        tell_parent();
        if (read(STDIN_FILENO, &byte, 1) != 1) {
            _exit(1);
        }
    }
}

// Of no matrices, which software devices emulate for minutes.
static void take_for_gpu(struct hymn_context *context) {
    struct hymn_vk_device *device = context->device;
    device->snapshot.type = HYMN_DEVICE_TYPE_DISCRETE_GPU;
    device->tier = device->tier == HYMN_TIER_AUTO || device->tier == HYMN_TIER_MATRIX ? HYMN_TIER_HALF : device->tier;
}

// A process of its own that makes a session; nothing of its store is shared but the file.
static int run_child(const char *where, enum role role) {
    struct hymn_context *context = NULL;
    struct hymn_session *session = NULL;
    struct child child = {.role = role};
    struct hymn_context_params params = {
        .log = {.callback = log_of_child, .user = &child, .level = HYMN_LOG_DEBUG},
        .device = getenv("HYMN_DEVICE"),
        .cache_dir = where,
        .tier = test_context_tier(),
    };
    golden_load(role == ROLE_DIES_TUNING ? TUNED : "small_input", &golden);
    enum hymn_status status = hymn_context_create(&params, &context);
    if (role == ROLE_COMES) {
        tell_parent();
    }
    if (status == HYMN_STATUS_OK && role == ROLE_DIES_TUNING) {
        take_for_gpu(context);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_session_create(context, golden.model, role == ROLE_DIES_TUNING ? &tuned_size : NULL, &session);
    }
    if (role == ROLE_EXITS) {
        _exit(status == HYMN_STATUS_OK ? 0 : 1);
    }
    hymn_session_destroy(&session);
    hymn_context_destroy(&context);
    golden_free(&golden);
    return status == HYMN_STATUS_OK && child.warnings == 0 ? 0 : 1;
}

struct process {
    pid_t pid;
    int told, go; // the parent's ends of its pipes
};

static struct process start(enum role role) {
    int told[2], go[2];
    assert_true(pipe(told) == 0 && pipe(go) == 0);
    struct process process = {.told = told[0], .go = go[1]};
    assert_true(fcntl(process.told, F_SETFD, FD_CLOEXEC) == 0 && fcntl(process.go, F_SETFD, FD_CLOEXEC) == 0);
    process.pid = fork();
    assert_true(process.pid >= 0);
    if (process.pid == 0) {
        const char name[] = {(char)role, '\0'};
        dup2(told[1], STDOUT_FILENO);
        dup2(go[0], STDIN_FILENO);
        close(told[1]);
        close(go[0]);
        execl(program, program, folder, name, (char *)NULL);
        _exit(127);
    }
    close(told[1]);
    close(go[0]);
    return process;
}

static void await(const struct process *process) {
    char byte;
    assert_int_equal(read(process->told, &byte, 1), 1);
}

static int end(const struct process *process) {
    int status = -1;
    close(process->go);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    close(process->told);
    return status;
}

static void expect_good_end(const struct process *process) {
    int status = end(process);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void expect_death(enum role role) {
    struct process process = start(role);
    int status = end(&process);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void expect_verdicts(void) {
    struct test_log log;
    struct hymn_context *context = open_context(&log, folder, false);
    assert_int_equal(log.warnings, 0);
    expect_session(context, true, true);
    assert_log(&log, "found right by an earlier check");
    assert_int_equal(log.warnings, 0);
    close_context(&context);
}

static void processes_share_verdicts(void **state) {
    (void)state;
    skip_without_variants();
    struct process first = start(ROLE_CHECKS), second = start(ROLE_CHECKS);
    expect_good_end(&first);
    expect_good_end(&second);
    expect_verdicts();
}

enum { STATE_TRYING = 3, STATE_TOGETHER = 4 }; // of marks

// Marks of checks that have begun for the attempts-th time, in the file.
static uint32_t count_marks(uint32_t mark, uint32_t attempts) {
    struct { // of the file of facts
        uint64_t key;
        uint32_t bytes, state, attempts, when[2], rest[9];
    } entry;
    char path[512];
    uint32_t found = 0;
    facts_path(path, sizeof path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 72, SEEK_SET), 0); // its header
    while (fread(&entry, sizeof entry, 1, file) == 1) {
        found += entry.bytes == 16 && entry.state == mark && entry.attempts == attempts;
    }
    assert_int_equal(fclose(file), 0);
    return found;
}

// Somebody ends a first start, and the second one: of the shaders whose pipelines were made together none is to blame,
// and the one that was being checked is checked again.
static void interrupted_starts_demote_nothing(void **state) {
    (void)state;
    skip_without_variants();
    if (!several) {
        print_message("sessions use one variant only on this device\n");
        skip();
    }
    expect_death(ROLE_DIES_COMPILING);
    assert_true(count_marks(STATE_TOGETHER, 0) >= 2);
    assert_int_equal(count_marks(STATE_TRYING, 1), 0);
    expect_death(ROLE_DIES_COMPILING);
    assert_int_equal(count_marks(STATE_TRYING, 1), 1);
    struct process third = start(ROLE_CHECKS);
    expect_good_end(&third);
    expect_verdicts();
}

static uint32_t count_variants(const struct hymn_vk_step *steps, uint32_t step_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < step_count; i++) {
        bool first = steps[i].shader && !hymn_shader_is_base(steps[i].shader);
        for (uint32_t k = 0; k < i && first; k++) {
            first = steps[k].shader != steps[i].shader;
        }
        count += first;
    }
    return count;
}

// All that the rules choose, though operators are timed before.
static void first_checks_are_made_together(void **state) {
    (void)state;
    skip_without_variants();
    struct test_log log;
    struct hymn_context *context = open_context(&log, "", true);
    struct hymn_session_params params = tuned_size;
    struct hymn_session *session = NULL;
    struct golden tuned;
    golden_load(TUNED, &tuned);
    take_for_gpu(context);
    params.tuning_ms = HYMN_TUNING_NONE;
    assert_int_equal(hymn_session_create(context, tuned.model, &params, &session), HYMN_STATUS_OK);
    const uint32_t variants = count_variants(session->program.steps, session->program.count);
    hymn_session_destroy(&session);
    golden_free(&tuned);
    close_context(&context);
    expect_death(ROLE_DIES_TUNING);
    assert_int_equal(count_marks(STATE_TOGETHER, 0), variants > 1 ? variants : 0); // alone, it has no others
}

// Processes that never come to destroy anything keep what they have compiled.
static void compiled_pipelines_outlive_their_process(void **state) {
    (void)state;
    char path[512];
    struct process process = start(ROLE_EXITS);
    expect_good_end(&process);
    assert_true(find_file("pipelines-", path, sizeof path));
    assert_int_equal(remove(path), 0);
    if (victim) {
        facts_path(path, sizeof path);
        assert_int_equal(remove(path), 0);
        expect_death(ROLE_DIES);
        assert_int_equal(find_file("pipelines-", path, sizeof path), several);
    }
}

// The mark of a check that is going on is not that of a process that died, but for who did.
static void checks_of_others_are_waited_for(void **state) {
    (void)state;
    skip_without_variants();
    expect_death(ROLE_DIES);
    assert_int_equal(count_marks(STATE_TRYING, 1), 1);
    struct process holder = start(ROLE_HOLDS);
    await(&holder);
    assert_int_equal(count_marks(STATE_TRYING, 2), 1);
    struct process comers[2];
    for (int i = 0; i < 2; i++) {
        comers[i] = start(ROLE_COMES);
        await(&comers[i]);
    }
    const struct timespec a_while = {.tv_nsec = 500000000}; // for them to come to the check
    nanosleep(&a_while, NULL);
    assert_int_equal(write(holder.go, "x", 1), 1);
    expect_good_end(&holder);
    expect_good_end(&comers[0]);
    expect_good_end(&comers[1]);
    expect_verdicts();
}

// -------------------------------------------------------------------------------------------------------------- frame

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hymn-selftest-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return test_folder_remove(folder);
}

static int find_victim(void **state) {
    (void)state;
    struct test_log log;
    golden_load("small_input", &golden);
    struct hymn_context *context = open_context(&log, "", true);
    struct hymn_session *session = open_session(context);
    for (uint32_t i = 0; i < session->program.count; i++) {
        const struct hymn_shader *shader = session->program.steps[i].shader;
        const bool variant = shader && !hymn_shader_is_base(shader);
        several = several || (variant && victim && shader != victim);
        victim = variant && !victim ? shader : victim;
    }
    hymn_session_destroy(&session);
    close_context(&context);
    return 0;
}

static int free_golden(void **state) {
    (void)state;
    golden_free(&golden);
    return 0;
}

#define SELFTEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int count, char **arguments) {
    if (count == 3) {
        return run_child(arguments[1], (enum role)arguments[2][0]);
    }
    program = arguments[0];
    const struct CMUnitTest tests[] = {
        SELFTEST(wrong_variant_is_demoted_and_remembered), SELFTEST(names_are_those_of_variants),
        SELFTEST(whole_selftest_tells_what_is_wrong),      SELFTEST(what_no_case_uses_is_not_used),
        SELFTEST(damaged_verdicts_are_found_anew),         SELFTEST(checks_that_never_end_demote),
        SELFTEST(marks_are_judged_by_time_without_a_lock), SELFTEST(marks_are_not_for_good),
        SELFTEST(verdicts_on_what_cannot_be_run_expire),   SELFTEST(processes_share_verdicts),
        SELFTEST(interrupted_starts_demote_nothing),       SELFTEST(compiled_pipelines_outlive_their_process),
        SELFTEST(checks_of_others_are_waited_for),         SELFTEST(first_checks_are_made_together),
    };
    return cmocka_run_group_tests_name("api_selftest", tests, find_victim, free_golden);
}
