// SPDX-License-Identifier: MIT
//
// Verdicts: found once for a device, its driver and a shader, kept in the store.
#include "selftest/verdict.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "vk/pipeline.h"
#include "vk/store.h"

// To be raised when the cases or the states change, so that they are run again.
#define SELFTEST_VERSION 11u
#define QUICK_RUNS 5u
#define MOST_ATTEMPTS 2u
#define LONGEST_CHECK 120u // seconds; longer than hymn_vk_store_lock waits for one
// Seconds for which a shader is left alone that did not come back from MOST_ATTEMPTS checks, twice as many after each
// further one, or that could not be run: somebody may have ended the process, or the machine been to blame.
#define REST 86400u
#define MOST_DOUBLINGS 5u

enum state {
    STATE_GOOD = 1,
    STATE_WRONG = 2,
    STATE_TRYING = 3,   // a check has begun, or may
    STATE_TOGETHER = 4, // its pipelines are being made with others': if that does not end, any may be to blame
    STATE_REFUSED = 5   // it could not be run
};

struct verdict {
    uint32_t state;
    uint32_t attempts; // that have begun, of STATE_TRYING
    uint64_t when;     // in seconds of time()
};

// What a verdict is about. No padding: hashed as bytes.
struct subject {
    uint64_t shader;
    uint32_t version, subgroup_size;
    struct hymn_vk_matrix matrix;
};
static_assert(sizeof(struct subject) == 32, "subject has padding");

static uint64_t key_of(const struct hymn_vk_plan *plan, const struct hymn_shader *shader) {
    struct subject subject = {
        .shader = shader->hash,
        .version = SELFTEST_VERSION,
        .subgroup_size = plan->subgroup_size,
    };
    if (shader->needs & HYMN_NEEDS_COOPERATIVE_MATRIX) {
        subject.matrix = plan->matrix;
    }
    return hymn_vk_store_key("verdict", &subject, sizeof subject);
}

// A store that is full or out of memory costs the check the next time, and nothing else.
static void put(struct hymn_vk_device *device, uint64_t key, enum state state, uint32_t attempts) {
    struct verdict verdict = {state, attempts, (uint64_t)time(NULL)};
    hymn_vk_store_put(device, key, &verdict, sizeof verdict);
}

static void conclude(struct hymn_vk_device *device, const struct hymn_shader *shader, bool wrong) {
    ptrdiff_t index = shader - hymn_shaders;
    hymn_vk_plan_demote(&device->plan, shader, wrong);
    if (index >= 0 && index < HYMN_VK_MAX_SHADERS) {
        device->checked[index / 32] |= 1u << index % 32;
    }
}

void hymn_selftest_conclude(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                            const struct hymn_shader *shader, const struct hymn_selftest_outcome *outcome) {
    const bool unproven = outcome->cases == 0, wrong = unproven || outcome->reason != NULL;
    put(device, key_of(plan, shader), outcome->refused ? STATE_REFUSED : wrong ? STATE_WRONG : STATE_GOOD, 0);
    conclude(device, shader, wrong);
    if (unproven) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING, "%s is not used on %s: no case of the self-test uses it there",
                       shader->name, device->info.name);
    } else if (wrong) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING,
                       "%s is not used on %s: %s (case \"%s\", normalised mean squared error %.1e)", shader->name,
                       device->info.name, outcome->reason, outcome->where, outcome->reference_error);
    } else {
        hymn_log_write(&device->log, HYMN_LOG_DEBUG, "%s is right: %u runs of %u cases, error %.1e", shader->name,
                       outcome->runs, outcome->cases, outcome->reference_error);
    }
}

void hymn_selftest_begin(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                         const struct hymn_shader *shader, uint32_t attempts) {
    put(device, key_of(plan, shader), STATE_TRYING, attempts);
    hymn_vk_store_flush(device);
}

static bool is_checked(const struct hymn_vk_device *device, const struct hymn_shader *shader) {
    ptrdiff_t index = shader - hymn_shaders;
    return index < 0 || index >= HYMN_VK_MAX_SHADERS || (device->checked[index / 32] >> index % 32 & 1);
}

// In seconds; negative: the clock has been set back since, as it is at each start of a board without one.
static int64_t age_of(const struct verdict *verdict) {
    return (int64_t)((uint64_t)time(NULL) - verdict->when);
}

// Whether a mark is of the last of too many checks that did not come back, and not of long ago, as far as the clock
// tells. alone: nobody else is checking now, so it is of somebody who died. Where files cannot be locked time alone
// tells.
static bool is_gone(const struct verdict *verdict, bool alone) {
    const int64_t age = age_of(verdict);
    const uint32_t further = verdict->attempts > MOST_ATTEMPTS ? verdict->attempts - MOST_ATTEMPTS : 0;
    const int64_t rest = (int64_t)REST << (further < MOST_DOUBLINGS ? further : MOST_DOUBLINGS);
    return verdict->state == STATE_TRYING && verdict->attempts >= MOST_ATTEMPTS && age < rest &&
           (alone || age > LONGEST_CHECK);
}

// Whether the check came to an end, and need not be run again yet.
static bool is_final(const struct verdict *verdict) {
    const int64_t age = age_of(verdict);
    return verdict->state == STATE_GOOD || verdict->state == STATE_WRONG ||
           (verdict->state == STATE_REFUSED && age >= 0 && age < REST);
}

// Of marks: whether those of checks that did not come back are judged, and by whom.
enum marks { MARKS_LEFT, MARKS_JUDGED, MARKS_JUDGED_ALONE };

// From the store; false when the check is to be run. *out_verdict: what is in the store, or zeros.
static bool recall(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, const struct hymn_shader *shader,
                   enum marks marks, struct verdict *out_verdict) {
    struct verdict *verdict = out_verdict;
    *verdict = (struct verdict){0};
    hymn_vk_store_get(device, key_of(plan, shader), verdict, sizeof *verdict);
    const bool gone = marks != MARKS_LEFT && is_gone(verdict, marks == MARKS_JUDGED_ALONE);
    if (!gone && !is_final(verdict)) {
        return false;
    }
    conclude(device, shader, verdict->state != STATE_GOOD);
    if (gone) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING,
                       "%s: not used for now, %u checks of it did not come back; `hymn selftest` tries it again",
                       shader->name, verdict->attempts);
    } else {
        hymn_log_write(&device->log, HYMN_LOG_DEBUG, "%s: found %s by an earlier check", shader->name,
                       verdict->state == STATE_GOOD ? "right" : "wrong");
    }
    return true;
}

// The attempts-th time. Where none of the quick cases uses the shader, the others may.
static enum hymn_status run_check(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                  const struct hymn_shader *shader, uint32_t attempts) {
    hymn_selftest_begin(device, plan, shader, attempts);
    struct hymn_selftest_options options = {.quick = true, .runs = QUICK_RUNS};
    struct hymn_selftest_outcome outcome;
    enum hymn_status status = hymn_selftest_shader(device, plan, shader, &options, &outcome);
    if (status == HYMN_STATUS_OK && outcome.cases == 0) {
        options.quick = false;
        status = hymn_selftest_shader(device, plan, shader, &options, &outcome);
    }
    if (status == HYMN_STATUS_OK) {
        hymn_selftest_conclude(device, plan, shader, &outcome);
    } else if (status != HYMN_STATUS_DEVICE_LOST) {
        put(device, key_of(plan, shader), STATE_TRYING, attempts - 1); // no fault of the shader
    }
    hymn_vk_store_flush(device);
    hymn_vk_pipelines_store(device);
    return status;
}

// From the store, or by running it.
static enum hymn_status find_verdict(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                     const struct hymn_shader *shader) {
    struct verdict verdict;
    enum hymn_status status = HYMN_STATUS_OK;
    if (recall(device, plan, shader, MARKS_LEFT, &verdict)) {
        return status;
    }
    const enum marks marks = hymn_vk_store_lock(device) ? MARKS_JUDGED_ALONE : MARKS_JUDGED;
    if (!recall(device, plan, shader, marks, &verdict)) {
        status = run_check(device, plan, shader, verdict.attempts + 1);
    }
    hymn_vk_store_unlock(device);
    return status;
}

static bool is_among(const struct hymn_shader *const *shaders, uint32_t count, const struct hymn_shader *shader) {
    bool found = false;
    for (uint32_t i = 0; i < count && !found; i++) {
        found = shaders[i] == shader;
    }
    return found;
}

// The shaders of a program that will be checked for the first time. One whose check has begun before, or whose
// pipelines were being made with others', is not among them: it may take the process with it, and must be alone then.
static uint32_t list_new(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                         const struct hymn_vk_program *program, const struct hymn_shader **out_shaders) {
    struct verdict verdict;
    uint32_t count = 0;
    for (uint32_t i = 0; i < program->count && count < HYMN_VK_MAX_SHADERS; i++) {
        const struct hymn_shader *shader = program->steps[i].shader;
        if (shader && !hymn_shader_is_base(shader) && !is_checked(device, shader) &&
            !is_among(out_shaders, count, shader) && !recall(device, plan, shader, MARKS_LEFT, &verdict) &&
            verdict.attempts == 0 && verdict.state != STATE_TOGETHER) {
            out_shaders[count++] = shader;
        }
    }
    return count;
}

static void mark_all(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                     const struct hymn_shader *const *shaders, uint32_t count, enum state state) {
    for (uint32_t i = 0; i < count; i++) {
        put(device, key_of(plan, shaders[i]), state, 0);
    }
    hymn_vk_store_flush(device);
}

// Makes the pipelines of all shaders' first checks at once: they are made on several threads, and each check by itself
// has few. A process that dies meanwhile leaves a mark at all of them, which counts against none: the next one checks
// them one after the other.
static enum hymn_status make_pipelines(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_shader *const *shaders, uint32_t count) {
    const struct hymn_selftest_options options = {.quick = true, .runs = QUICK_RUNS};
    struct hymn_vk_program all = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        status = hymn_selftest_collect(device, plan, shaders[i], &options, &all);
    }
    if (status == HYMN_STATUS_OK) {
        mark_all(device, plan, shaders, count, STATE_TOGETHER);
        status = hymn_vk_pipelines_prepare(device, all.steps, all.count);
        if (status != HYMN_STATUS_DEVICE_LOST) {
            mark_all(device, plan, shaders, count, STATE_TRYING);
        }
        hymn_vk_pipelines_store(device);
    }
    hymn_vk_program_free(&all);
    // What else cannot be made is found again, and blamed, in the check of its shader.
    return status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY ? status : HYMN_STATUS_OK;
}

static enum hymn_status prepare_checks(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_vk_program *program) {
    const struct hymn_shader *shaders[HYMN_VK_MAX_SHADERS];
    if (list_new(device, plan, program, shaders) < 2) {
        return HYMN_STATUS_OK;
    }
    hymn_vk_store_lock(device); // another process may have been at them
    uint32_t count = list_new(device, plan, program, shaders);
    enum hymn_status status = count < 2 ? HYMN_STATUS_OK : make_pipelines(device, plan, shaders, count);
    hymn_vk_store_unlock(device);
    return status;
}

enum hymn_status hymn_selftest_check(struct hymn_vk_device *device, struct hymn_vk_plan *plan,
                                     const struct hymn_vk_program *program, bool *out_demoted) {
    enum hymn_status status = HYMN_STATUS_OK;
    *out_demoted = false;
    if (device->trust_variants) {
        return status;
    }
    status = prepare_checks(device, plan, program);
    for (uint32_t i = 0; i < program->count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_shader *shader = program->steps[i].shader;
        if (!shader || hymn_shader_is_base(shader)) {
            continue;
        }
        if (!is_checked(device, shader)) {
            status = find_verdict(device, plan, shader);
        }
        if (!hymn_vk_plan_allows(&device->plan, shader) && hymn_vk_plan_allows(plan, shader)) {
            hymn_vk_plan_demote(plan, shader, true);
            *out_demoted = true;
        }
    }
    hymn_vk_store_flush(device);
    return status;
}
