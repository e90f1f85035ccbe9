// SPDX-License-Identifier: MIT
//
// The self-test of several processes with one cache: they share verdicts, wait for each other's checks, and take
// nothing away for good where one of them is ended in the middle of a check.
#define _POSIX_C_SOURCE 200809L // mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_victim.h"

static const char *program;

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
// Others are as open_session has them.
static const struct hymn_session_params by_rules = {.tuning_ms = HYMN_TUNING_NONE};

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
    const bool tunes = role == ROLE_DIES_TUNING;
    golden_load(tunes ? TUNED : "small_input", &golden);
    enum hymn_status status = hymn_context_create(&params, &context);
    if (role == ROLE_COMES) {
        tell_parent();
    }
    if (status == HYMN_STATUS_OK && tunes) {
        take_for_gpu(context);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_session_create(context, golden.model, tunes ? &tuned_size : &by_rules, &session);
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
    assert_warnings(&log, 0);
    expect_session(context, true, true);
    assert_log(&log, "found right by an earlier check");
    assert_warnings(&log, 0);
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

int main(int count, char **arguments) {
    if (count == 3) {
        return run_child(arguments[1], (enum role)arguments[2][0]);
    }
    program = arguments[0];
    const struct CMUnitTest tests[] = {
        SELFTEST(processes_share_verdicts),
        SELFTEST(interrupted_starts_demote_nothing),
        SELFTEST(compiled_pipelines_outlive_their_process),
        SELFTEST(checks_of_others_are_waited_for),
        SELFTEST(first_checks_are_made_together),
    };
    return cmocka_run_group_tests_name("api_selftest_processes", tests, find_victim, free_golden);
}
