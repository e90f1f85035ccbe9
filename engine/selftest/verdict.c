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

// The attempts-th time. Where none of the quick cases uses the shader, the others may. prepared: the pipelines of the
// quick ones have been made.
static enum hymn_status run_check(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                  const struct hymn_shader *shader, uint32_t attempts, bool prepared,
                                  struct hymn_selftest_rooms *rooms) {
    hymn_selftest_begin(device, plan, shader, attempts);
    struct hymn_selftest_options options = {.quick = true, .prepared = prepared, .runs = QUICK_RUNS};
    struct hymn_selftest_outcome outcome;
    enum hymn_status status = hymn_selftest_shader(device, plan, shader, &options, rooms, &outcome);
    if (status == HYMN_STATUS_OK && outcome.cases == 0) {
        options.quick = options.prepared = false;
        status = hymn_selftest_shader(device, plan, shader, &options, rooms, &outcome);
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

// By running it, unless another process just has.
static enum hymn_status find_verdict(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                     const struct hymn_shader *shader, bool prepared,
                                     struct hymn_selftest_rooms *rooms) {
    struct verdict verdict;
    enum hymn_status status = HYMN_STATUS_OK;
    const enum marks marks = hymn_vk_store_lock(device) ? MARKS_JUDGED_ALONE : MARKS_JUDGED;
    if (!recall(device, plan, shader, marks, &verdict)) {
        status = run_check(device, plan, shader, verdict.attempts + 1, prepared, rooms);
    }
    hymn_vk_store_unlock(device);
    return status;
}

struct list {
    const struct hymn_shader *shaders[HYMN_VK_MAX_SHADERS];
    uint32_t count;
};

static bool is_listed(const struct list *list, const struct hymn_shader *shader) {
    bool found = false;
    for (uint32_t i = 0; i < list->count && !found; i++) {
        found = list->shaders[i] == shader;
    }
    return found;
}

// Each once, and base variants and copies (NULL) not at all.
static void add_to_list(struct list *list, const struct hymn_shader *shader) {
    const bool told = shader && !hymn_shader_is_base(shader);
    if (told && !is_listed(list, shader) && list->count < HYMN_VK_MAX_SHADERS) {
        list->shaders[list->count++] = shader;
    }
}

// Of a list's shaders those that will be checked for the first time. One whose check has begun before, or whose
// pipelines were being made with others', is not among them: it may take the process with it, and must be alone then.
static void list_new(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, const struct list *list,
                     struct list *out_new) {
    struct verdict verdict;
    out_new->count = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct hymn_shader *shader = list->shaders[i];
        if (!is_checked(device, shader) && !recall(device, plan, shader, MARKS_LEFT, &verdict) &&
            verdict.attempts == 0 && verdict.state != STATE_TOGETHER) {
            add_to_list(out_new, shader);
        }
    }
}

static void mark_all(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, const struct list *list,
                     enum state state) {
    for (uint32_t i = 0; i < list->count; i++) {
        put(device, key_of(plan, list->shaders[i]), state, 0);
    }
    hymn_vk_store_flush(device);
}

// Makes the pipelines of all shaders' first checks at once, and those of the program that they are checked for: they
// are made on several threads, and each check by itself has few. A process that dies meanwhile leaves a mark at all of
// the shaders, which counts against none: the next one checks them one after the other.
static enum hymn_status make_pipelines(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_vk_program *program, const struct list *list) {
    const struct hymn_selftest_options options = {.quick = true, .runs = QUICK_RUNS};
    struct hymn_vk_program all = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < list->count && status == HYMN_STATUS_OK; i++) {
        status = hymn_selftest_collect(device, plan, list->shaders[i], &options, &all);
    }
    if (status == HYMN_STATUS_OK && !hymn_vk_program_append(&all, program)) {
        status = hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    }
    if (status == HYMN_STATUS_OK) {
        mark_all(device, plan, list, STATE_TOGETHER);
        status = hymn_vk_pipelines_prepare(device, all.steps, all.count);
        if (status != HYMN_STATUS_DEVICE_LOST) {
            mark_all(device, plan, list, STATE_TRYING);
        }
        hymn_vk_pipelines_store(device);
    }
    hymn_vk_program_free(&all);
    // What else cannot be made is found again, and blamed, in the check of its shader.
    return status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY ? status : HYMN_STATUS_OK;
}

// out_first: those whose pipelines have been made.
static enum hymn_status prepare_checks(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_vk_program *program, const struct list *list,
                                       struct list *out_first) {
    enum hymn_status status = HYMN_STATUS_OK;
    list_new(device, plan, list, out_first);
    if (out_first->count >= 2) {
        hymn_vk_store_lock(device); // another process may have been at them
        list_new(device, plan, list, out_first);
        status = out_first->count >= 2 ? make_pipelines(device, plan, program, out_first) : HYMN_STATUS_OK;
        hymn_vk_store_unlock(device);
    }
    out_first->count = out_first->count >= 2 ? out_first->count : 0;
    return status;
}

enum hymn_status hymn_selftest_check(struct hymn_vk_device *device, struct hymn_vk_plan *plan,
                                     const struct hymn_vk_program *program, bool *out_demoted) {
    *out_demoted = false;
    if (device->trust_variants) {
        return HYMN_STATUS_OK;
    }
    struct list list = {.count = 0};
    for (uint32_t i = 0; i < program->count; i++) {
        add_to_list(&list, program->steps[i].shader);
    }
    struct list prepared;
    struct hymn_selftest_rooms rooms = {0};
    enum hymn_status status = prepare_checks(device, plan, program, &list, &prepared);
    for (uint32_t i = 0; i < list.count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_shader *shader = list.shaders[i];
        struct verdict verdict;
        const bool known = is_checked(device, shader) || recall(device, plan, shader, MARKS_LEFT, &verdict);
        // One that goes with what has been demoted is used by no case any more, and by no program either: what is left
        // of that is asked for again.
        if (!known && !*out_demoted) {
            status = find_verdict(device, plan, shader, is_listed(&prepared, shader), &rooms);
        }
        if (!hymn_vk_plan_allows(&device->plan, shader) && hymn_vk_plan_allows(plan, shader)) {
            hymn_vk_plan_demote(plan, shader, true);
            *out_demoted = true;
        }
    }
    hymn_selftest_rooms_free(device, &rooms);
    hymn_vk_store_flush(device);
    return status;
}
