// SPDX-License-Identifier: MIT
#include "tune/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/thread.h"
#include "tune/choice.h"
#include "tune/trial.h"
#include "vk/pipeline.h"
#include "vk/slowness.h"
#include "vk/store.h"

// To be raised when what is listed or how it is timed changes, so that it is timed again.
#define TUNE_VERSION 20
// At first each node gets its operator's own choice and the most likely others: nodes together, so that all threads
// have pipelines to make.
#define SHORT_TRIALS 5u
#define MAX_BATCH 32u
#define TRIALS_PER_THREAD 3u
#define MAX_WORDS 128
#define ROUNDS 6u
// Trials between two of the same: their code takes the place of its code near the units that run it, some 100 KB. Fewer
// where they take so long, in milliseconds, that it does not matter where code comes from.
#define OTHERS 10u
#define OTHERS_MS 2.0
// A GPU that was idle while pipelines were made runs at a fraction of its clock; a shorter pause is of less harm.
#define BUSY_SECONDS 0.05
#define BUSY_AGAIN_SECONDS 0.005
// Past the deadline, of the budget: for one run of each trial of the node at hand.
#define OVERTIME 0.25
// What another way than the operator's own costs, in runs: its own, and two for the comparison of results.
#define RUNS_OF_A_RIVAL 3.0
// How much more time there must be than a node had that could not be finished in it.
#define MORE_TIME 2.0f

struct tuner {
    struct hymn_vk_device *device;
    struct hymn_vk_plan *plan;
    const struct hymn_graph *graph;
    VkFence fence;
    struct hymn_vk_buffer activations; // of all trials, one after the other
    double deadline, overtime;
    double end;                // of the node at hand: the deadline, or later, until when trials without a time get one
    double run_seconds;        // of the last trial that was run
    struct progress *progress; // of each node
};

enum { NOT_TIMED = 0, TIMED_SHORTLY = 1, TIMED = 2 };

struct progress {
    uint64_t key;
    uint32_t level;
};

// In the store.
struct found {
    struct hymn_method method;
    uint32_t level;
    float seconds; // 0: the level is complete; else all that there was for it, which was not enough
};

// A node, and its trials.
struct work {
    struct hymn_node *node;
    uint64_t key;
    struct hymn_trial *trials; // HYMN_TUNE_MOST_METHODS
    uint32_t count;
    bool cut;       // there was no time for some trials
    bool partial;   // nor for some of the first pass
    double seconds; // that there was
};

// What a trial may not fail by.
static bool is_fatal(enum hymn_status status) {
    return status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY;
}

// The words of a method: see where its operator lists them.
static const char *words_of(const struct hymn_method *method, char words[MAX_WORDS]) {
    size_t length = 0;
    words[0] = 0;
    for (uint32_t i = 0; i < sizeof method->words / sizeof *method->words; i++) {
        length += (size_t)snprintf(words + length, MAX_WORDS - length, " %u", method->words[i]);
    }
    return words;
}

static void log_recalled(const struct hymn_vk_device *device, const struct hymn_node *node) {
    char words[MAX_WORDS];
    if (node->tuned) {
        hymn_log_write(&device->log, HYMN_LOG_DEBUG, "%s: timed before:%s", node->name, words_of(&node->method, words));
    }
}

// ------------------------------------------------------------------------------------------------------------ problems

struct problem {
    uint64_t shaders;
    uint32_t version, kind, batch, subgroup, lanes, shared_bytes;
    struct hymn_vk_matrix matrix;
    uint32_t height, width, stride, storage, out_channels, parts;
    uint32_t kernels[3], channels[3], strides[3], storages[3];
    uint32_t prologue, activation, residual, states, rank;
    uint32_t low_stride, pools;
    uint32_t thin, convolves; // whether a variant is there of which tiles are others than without
};

static uint64_t shader_hash(void) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        hash = (hash ^ hymn_shaders[i].hash) * 0x100000001B3u;
    }
    return hash;
}

uint64_t hymn_tune_key(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node) {
    const struct hymn_value *output = &graph->values[node->output];
    struct problem problem;
    memset(&problem, 0, sizeof problem); // its padding is hashed too
    problem.shaders = shader_hash();
    problem.version = TUNE_VERSION;
    problem.kind = node->kind;
    problem.batch = graph->batch;
    problem.subgroup = plan->subgroup_size;
    problem.lanes = plan->max_invocations;
    problem.shared_bytes = plan->max_shared_bytes;
    problem.matrix = plan->needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX ? plan->matrix : (struct hymn_vk_matrix){0};
    problem.height = output->height;
    problem.width = output->width;
    problem.stride = output->stride;
    problem.storage = output->storage;
    problem.out_channels = node->out_channels;
    problem.parts = node->part_count;
    for (uint32_t i = 0; i < node->term_count; i++) {
        const struct hymn_term *term = &node->terms[i];
        problem.kernels[i] = term->kernel;
        problem.channels[i] = term->source.channels;
        problem.strides[i] = graph->values[term->source.value].stride;
        problem.storages[i] = graph->values[term->source.value].storage;
    }
    problem.prologue = node->prologue;
    problem.activation = node->activation;
    problem.residual = node->residual.value == HYMN_NONE ? 0 : node->residual_resize ? 2 : 1;
    problem.low_stride = node->low.value == HYMN_NONE ? 0 : graph->values[node->low.value].stride;
    problem.pools = node->pool != HYMN_NONE;
    problem.thin = hymn_variant_allowed(plan, "conv2d_matrix_thin", NULL);
    problem.convolves = node->depthwise != HYMN_NONE && hymn_variant_allowed(plan, "conv2d_matrix_depthwise", NULL);
    problem.states = node->d_state;
    problem.rank = node->dt_rank;
    return hymn_vk_store_key("method", &problem, sizeof problem);
}

static uint32_t list(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node,
                     const struct hymn_method *from, struct hymn_method *methods, uint32_t most) {
    const struct hymn_op *op = &hymn_ops[node->kind];
    return op->list_methods ? op->list_methods(graph, node, plan, from, methods, most) : 0;
}

static bool has_choice(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node) {
    struct hymn_method methods[2];
    return list(plan, graph, node, NULL, methods, 2) > 1;
}

// -------------------------------------------------------------------------------------------------------------- trials

// Opens the trials of those methods that can be made and that have not been tried yet: none without the first, which is
// the operator's own choice and what the others are compared with.
static enum hymn_status open_trials(struct tuner *tuner, const struct hymn_node *node,
                                    const struct hymn_method *methods, uint32_t count, struct hymn_trial *trials,
                                    uint32_t *trial_count) {
    for (uint32_t i = 0; i < count && *trial_count < HYMN_TUNE_MOST_METHODS; i++) {
        bool known = false;
        for (uint32_t k = 0; k < *trial_count; k++) {
            known = known || memcmp(&trials[k].method, &methods[i], sizeof *methods) == 0;
        }
        if (known) {
            continue;
        }
        struct hymn_trial *trial = &trials[*trial_count];
        enum hymn_status status =
            hymn_trial_open_checked(tuner->device, tuner->plan, tuner->graph, node, &methods[i], trial);
        if (status == HYMN_STATUS_OK) {
            ++*trial_count;
        } else if (is_fatal(status)) {
            return status;
        } else if (*trial_count == 0) {
            break;
        }
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status add_steps(struct tuner *tuner, const struct work *work, uint32_t first,
                                  struct hymn_vk_program *all) {
    for (uint32_t i = first; i < work->count; i++) {
        if (!hymn_vk_program_append(all, &work->trials[i].lower.program)) {
            return hymn_fail(&tuner->device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
        }
    }
    return HYMN_STATUS_OK;
}

// Makes the pipelines of all trials from the first'th of each work on at once: they are made on several threads. Those
// that cannot be made cost their trials' results (is_made).
static enum hymn_status make_pipelines(struct tuner *tuner, const struct work *works, uint32_t count, uint32_t first) {
    struct hymn_vk_program all = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        status = add_steps(tuner, &works[i], first, &all);
    }
    if (status == HYMN_STATUS_OK && all.count > 0) {
        status = hymn_vk_pipelines_prepare(tuner->device, all.steps, all.count);
    }
    hymn_vk_program_free(&all);
    return is_fatal(status) ? status : HYMN_STATUS_OK;
}

static bool is_made(struct hymn_vk_device *device, const struct hymn_trial *trial) {
    for (uint32_t k = 0; k < trial->lower.program.count; k++) {
        const struct hymn_vk_step *step = &trial->lower.program.steps[k];
        if (step->kind == HYMN_VK_STEP_DISPATCH && !hymn_vk_pipeline_find(device, step)) {
            return false;
        }
    }
    return true;
}

// Whether the trial can be run: its pipelines are there, and its activations fit into one piece.
static bool is_possible(struct hymn_vk_device *device, const struct hymn_trial *trial) {
    const uint64_t most = device->plan.max_piece_bytes;
    return is_made(device, trial) && (most == 0 || trial->graph.activation_bytes <= most);
}

// What a failure leaves of a trial: no time, and no more than that where the failure is the trial's own.
static enum hymn_status give_up(struct hymn_trial *trial, enum hymn_status status) {
    if (status != HYMN_STATUS_OK) {
        hymn_trial_forget(trial);
    }
    return is_fatal(status) ? status : HYMN_STATUS_OK;
}

static enum hymn_status reserve(struct tuner *tuner, uint64_t bytes) {
    if (tuner->activations.bytes >= bytes) {
        return HYMN_STATUS_OK;
    }
    hymn_vk_buffer_destroy(tuner->device, &tuner->activations);
    return hymn_vk_buffer_create(tuner->device, HYMN_VK_USAGE_DEVICE, bytes, "tuning", &tuner->activations);
}

// Runs a trial that has not failed yet.
static enum hymn_status run_trial(struct tuner *tuner, struct hymn_trial *trial, bool *possible) {
    if (!*possible) {
        return HYMN_STATUS_OK;
    }
    const double start = hymn_time_now();
    enum hymn_status status = hymn_trial_run(tuner->device, trial, tuner->fence);
    tuner->run_seconds = hymn_time_now() - start;
    *possible = status == HYMN_STATUS_OK;
    return give_up(trial, status);
}

// Of a node's trials: those that can be run, and whose turn it is among others.
struct turns {
    bool possible[HYMN_TUNE_MOST_METHODS];
    uint32_t next;
};

// Records anew those of the first `count` trials that have been run: the activations may be elsewhere by now.
static enum hymn_status record_trials(struct tuner *tuner, struct work *work, uint32_t count, struct turns *turns) {
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        if (work->trials[i].ms >= 0.0) {
            status = hymn_trial_record(tuner->device, &tuner->activations, &work->trials[i]);
            turns->possible[i] = status == HYMN_STATUS_OK;
            status = give_up(&work->trials[i], status);
        }
    }
    return status;
}

// Runs at most so many of the first `count` trials, but neither the operator's own choice nor the rival.
static enum hymn_status run_others(struct tuner *tuner, struct work *work, uint32_t count, uint32_t rival,
                                   uint32_t most, struct turns *turns) {
    enum hymn_status status = HYMN_STATUS_OK;
    double spent = HYMN_TRIAL_TIMES * fmax(work->trials[0].ms, 0.0);
    for (uint32_t i = 0; i < most && spent < OTHERS_MS && status == HYMN_STATUS_OK && hymn_time_now() < tuner->deadline;
         i++) {
        turns->next = (turns->next + 1) % count;
        struct hymn_trial *other = &work->trials[turns->next];
        if (turns->next != 0 && turns->next != rival && turns->possible[turns->next]) {
            status = run_trial(tuner, other, &turns->possible[turns->next]);
            spent += HYMN_TRIAL_TIMES * fmax(other->ms, 0.0);
        }
    }
    return status;
}

static enum hymn_status ready_trials(struct tuner *tuner, struct work *work, uint32_t first, struct turns *turns) {
    uint64_t bytes = 0;
    for (uint32_t i = first; i < work->count; i++) {
        turns->possible[i] = is_possible(tuner->device, &work->trials[i]);
        uint64_t own = turns->possible[i] ? work->trials[i].graph.activation_bytes : 0;
        bytes = own > bytes ? own : bytes;
    }
    enum hymn_status status = reserve(tuner, bytes);
    for (uint32_t i = first; i < work->count && status == HYMN_STATUS_OK; i++) {
        if (turns->possible[i]) {
            status = hymn_trial_ready(tuner->device, &tuner->activations, &work->trials[i]);
            turns->possible[i] = status == HYMN_STATUS_OK;
            status = give_up(&work->trials[i], status);
        }
    }
    return status == HYMN_STATUS_OK ? record_trials(tuner, work, first, turns) : status;
}

static bool has_time(const struct tuner *tuner, double runs, double end) {
    return hymn_time_now() + runs * tuner->run_seconds < end;
}

// Whether there is time for a run of the i'th trial: what another takes beside it is about what the last one took. The
// operator's own choice, with which all are compared, is run once in any case.
static bool is_due(const struct tuner *tuner, const struct work *work, uint32_t i) {
    const bool timed = work->trials[i].ms >= 0.0;
    return (i == 0 && !timed) || has_time(tuner, RUNS_OF_A_RIVAL, timed ? tuner->deadline : tuner->end);
}

static void start_node(struct tuner *tuner, struct work *work) {
    const double now = hymn_time_now();
    tuner->run_seconds = 0.0;
    tuner->end = fmax(tuner->deadline, now + tuner->overtime);
    work->seconds = tuner->end - now;
}

// So that the clock is up when the first'th trial and those behind it are timed.
static enum hymn_status warm_up(struct tuner *tuner, struct work *work, uint32_t first, double busy,
                                struct turns *turns) {
    struct hymn_trial *trial = &work->trials[first];
    enum hymn_status status = HYMN_STATUS_OK;
    const double start = hymn_time_now();
    while (turns->possible[first] && status == HYMN_STATUS_OK && hymn_time_now() - start < busy &&
           is_due(tuner, work, first)) {
        status = run_trial(tuner, trial, &turns->possible[first]);
    }
    if (first == 0 && trial->ms > 0.0) {
        hymn_trial_learn(tuner->device, trial);
    }
    if (turns->possible[first] && status == HYMN_STATUS_OK && is_due(tuner, work, first)) {
        hymn_trial_forget(trial); // with nothing in between
    }
    return status;
}

// Those from the first'th on, in rounds, for a device's clock changes; busy: seconds before them. Where these are few,
// some of those before them have turns too, so that all find their code as far away.
static enum hymn_status time_trials(struct tuner *tuner, struct work *work, uint32_t first, double busy) {
    struct turns turns = {0};
    const uint32_t count = work->count - first, others = first > 0 && count <= OTHERS ? OTHERS + 1 - count : 0;
    if (count == 0) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = ready_trials(tuner, work, first, &turns);
    if (first == 0) {
        start_node(tuner, work);
    }
    status = status == HYMN_STATUS_OK ? warm_up(tuner, work, first, busy, &turns) : status;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = first; i < work->count && status == HYMN_STATUS_OK; i++) {
            status = is_due(tuner, work, i) ? run_trial(tuner, &work->trials[i], &turns.possible[i]) : status;
        }
        status = status == HYMN_STATUS_OK ? run_others(tuner, work, first, first, others, &turns) : status;
    }
    for (uint32_t i = first; i < work->count; i++) {
        work->cut = work->cut || (turns.possible[i] && work->trials[i].ms < 0.0);
    }
    work->partial = work->partial || (first == 0 && work->cut);
    return status;
}

static void times_of(const struct work *work, double ms[HYMN_TUNE_MOST_METHODS]) {
    for (uint32_t i = 0; i < work->count; i++) {
        ms[i] = work->trials[i].ms;
    }
}

static uint32_t fastest(const struct work *work) {
    double ms[HYMN_TUNE_MOST_METHODS];
    times_of(work, ms);
    return hymn_choice_fastest(ms, work->count);
}

static void close_work(struct tuner *tuner, struct work *work) {
    for (uint32_t i = 0; i < work->count; i++) {
        hymn_trial_close(tuner->device, &work->trials[i]);
    }
    hymn_free(work->trials);
    *work = (struct work){0};
}

// Opens the trials of the methods that the operator lists, at most `most` of them, around another or its own choice.
static enum hymn_status open_listed(struct tuner *tuner, struct work *work, const struct hymn_method *around,
                                    uint32_t most) {
    struct hymn_method methods[HYMN_TUNE_MOST_METHODS];
    struct hymn_node untuned = *work->node;
    untuned.tuned = false;
    work->trials = work->trials ? work->trials : hymn_alloc(HYMN_TUNE_MOST_METHODS, sizeof *work->trials);
    if (!work->trials) {
        return hymn_fail(&tuner->device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
    }
    uint32_t listed = list(tuner->plan, tuner->graph, &untuned, around, methods, most);
    return open_trials(tuner, &untuned, methods, listed, work->trials, &work->count);
}

// Whether a trial's results are those of the operator's own choice: the self-test has not seen its very sizes.
static enum hymn_status check_results(struct tuner *tuner, struct hymn_trial *own, struct hymn_trial *other,
                                      bool *out_right) {
    uint8_t *expected = NULL, *output = NULL;
    *out_right = own == other;
    if (own == other) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = hymn_trial_output(tuner->device, &tuner->activations, own, tuner->fence, &expected);
    if (status == HYMN_STATUS_OK) {
        status = hymn_trial_output(tuner->device, &tuner->activations, other, tuner->fence, &output);
    }
    *out_right = status == HYMN_STATUS_OK && hymn_trial_agrees(other, output, expected);
    hymn_free(expected);
    hymn_free(output);
    return status;
}

struct rivals {
    struct tuner *tuner;
    struct work *work;
    struct turns turns;
};

// hymn_choice_time. Where there is no time for it, the times stay those of before.
static enum hymn_status time_again(void *user, uint32_t rival, double *ms) {
    struct rivals *rivals = user;
    struct work *work = rivals->work;
    const uint32_t pair[] = {0, rival};
    if (!has_time(rivals->tuner, 1.0 + RUNS_OF_A_RIVAL, rivals->tuner->end)) {
        return HYMN_STATUS_OK;
    }
    hymn_trial_forget(&work->trials[0]);
    hymn_trial_forget(&work->trials[rival]);
    enum hymn_status status = HYMN_STATUS_OK;
    double start = hymn_time_now();
    do {
        for (uint32_t i = 0; i < 2 * ROUNDS && status == HYMN_STATUS_OK; i++) {
            uint32_t own = pair[i % 2];
            if (work->trials[own].ms >= 0.0 && !has_time(rivals->tuner, RUNS_OF_A_RIVAL, rivals->tuner->deadline)) {
                continue;
            }
            status = run_trial(rivals->tuner, &work->trials[own], &rivals->turns.possible[own]);
            status = status == HYMN_STATUS_OK
                         ? run_others(rivals->tuner, work, work->count, rival, OTHERS, &rivals->turns)
                         : status;
        }
    } while (status == HYMN_STATUS_OK && hymn_time_now() - start < BUSY_AGAIN_SECONDS &&
             hymn_time_now() < rivals->tuner->deadline);
    ms[0] = work->trials[0].ms;
    ms[rival] = work->trials[rival].ms;
    return status;
}

// The two passes' trials side by side, as far as they may be chosen.
static enum hymn_status confirm(struct tuner *tuner, struct work *work) {
    double ms[HYMN_TUNE_MOST_METHODS];
    struct rivals rivals = {.tuner = tuner, .work = work};
    enum hymn_status status = record_trials(tuner, work, work->count, &rivals.turns);
    times_of(work, ms);
    status = status == HYMN_STATUS_OK ? hymn_choice_confirm(ms, work->count, time_again, &rivals) : status;
    for (uint32_t i = 0; i < work->count; i++) {
        work->trials[i].ms = ms[i];
    }
    return status;
}

// A node that was cut again had at least twice as much time: it is not tried again for ever.
static void remember(struct tuner *tuner, const struct work *work, const struct hymn_method *method, uint32_t level) {
    struct found before, found = {*method, level, 0.0f};
    if (work->cut) {
        found.seconds = (float)work->seconds;
        if (hymn_vk_store_get(tuner->device, work->key, &before, sizeof before) && before.level == level) {
            found.seconds = fmaxf(found.seconds, MORE_TIME * before.seconds);
        }
    }
    hymn_vk_store_put(tuner->device, work->key, &found, sizeof found);
}

// Of a status of running trials: a method that hangs a driver must not do it at every start, whichever of them it was.
static enum hymn_status note_loss(struct tuner *tuner, struct work *work, enum hymn_status status) {
    if (status == HYMN_STATUS_DEVICE_LOST && work->count > 0) {
        work->cut = false;
        remember(tuner, work, &work->trials[0].method, TIMED);
        hymn_vk_slowness_lost(tuner->device, work->trials[0].estimate);
    }
    return status;
}

// Gives the node the fastest method of its trials and remembers it. Where there was no time for some of the first pass,
// what was found before stays.
static enum hymn_status choose(struct tuner *tuner, struct work *work, uint32_t level) {
    struct hymn_trial *trials = work->trials;
    struct hymn_node *node = work->node;
    if (work->count == 0 || trials[0].ms <= 0.0) {
        return HYMN_STATUS_OK;
    }
    if (work->partial && node->tuned) {
        remember(tuner, work, &node->method, level);
        return HYMN_STATUS_OK;
    }
    struct hymn_trial *best = &trials[fastest(work)];
    bool right = false;
    enum hymn_status status = check_results(tuner, &trials[0], best, &right);
    if (status != HYMN_STATUS_OK) {
        return status; // nothing is known of the results: to be timed again another time
    }
    if (!right) {
        hymn_log_write(&tuner->device->log, HYMN_LOG_WARNING,
                       "%s: the fastest way to compute it gives other results on %s, and is not used", node->name,
                       tuner->device->info.name);
    }
    best = right ? best : &trials[0];
    char words[MAX_WORDS];
    node->tuned = true;
    node->method = best->method;
    remember(tuner, work, &node->method, level);
    hymn_log_write(&tuner->device->log, HYMN_LOG_DEBUG, "%s: %.4f ms by its own rule, %.4f ms at best of %u:%s",
                   node->name, trials[0].ms, best->ms, work->count, words_of(&node->method, words));
    return status;
}

// All that is listed, in two passes: around the operator's own choice, then around the best of those.
static enum hymn_status tune_node(struct tuner *tuner, struct hymn_node *node, uint64_t key) {
    struct work work = {.node = node, .key = key};
    struct hymn_method around;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t pass = 0; pass < 2 && status == HYMN_STATUS_OK; pass++) {
        uint32_t before = work.count;
        status = open_listed(tuner, &work, pass == 0 ? NULL : &around, HYMN_TUNE_MOST_METHODS);
        if (status == HYMN_STATUS_OK) {
            status = make_pipelines(tuner, &work, 1, before);
        }
        if (status == HYMN_STATUS_OK) {
            status = note_loss(tuner, &work, time_trials(tuner, &work, before, BUSY_SECONDS));
        }
        if (work.count == 0 || work.trials[0].ms <= 0.0) {
            break;
        }
        if (pass == 0 && hymn_time_now() >= tuner->deadline) {
            work.cut = true;
            break;
        }
        around = work.trials[fastest(&work)].method;
    }
    status = status == HYMN_STATUS_OK ? note_loss(tuner, &work, confirm(tuner, &work)) : status;
    status = status == HYMN_STATUS_OK ? note_loss(tuner, &work, choose(tuner, &work, TIMED)) : status;
    close_work(tuner, &work);
    return is_fatal(status) ? status : HYMN_STATUS_OK;
}

// --------------------------------------------------------------------------------------------------------------- graph

static double work_of(const struct hymn_graph *graph, const struct hymn_node *node) {
    const struct hymn_value *output = &graph->values[node->output];
    double pixels = (double)graph->batch * output->height * output->width;
    // A selective scan's step costs many times a multiply-add of a matrix unit.
    return node->kind == HYMN_KIND_SELECTIVE_SCAN ? 200.0 * pixels * output->channels * node->d_state
                                                  : (double)hymn_node_macs(graph, node);
}

// From the store, where another node may have had the same problem. Returns whether the node has got to the level, or
// as far as there is time for.
static bool recall(const struct tuner *tuner, struct hymn_node *node, struct progress *progress, uint32_t level) {
    struct found found;
    if (hymn_vk_store_get(tuner->device, progress->key, &found, sizeof found)) {
        const bool again =
            found.seconds > 0.0f && tuner->deadline - hymn_time_now() > (double)(MORE_TIME * found.seconds);
        const uint32_t known = again ? found.level - 1 : found.level;
        node->tuned = true;
        node->method = found.method;
        progress->level = known > progress->level ? known : progress->level;
    }
    return progress->level >= level;
}

// The node with the most work among those below the level; NULL: none is left.
static struct hymn_node *next_node(const struct tuner *tuner, struct hymn_graph *graph, uint32_t level) {
    struct hymn_node *next = NULL;
    double most = -1.0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        double work = work_of(graph, &graph->nodes[i]);
        if (tuner->progress[i].level < level && work > most) {
            next = &graph->nodes[i];
            most = work;
        }
    }
    return next;
}

static bool in_batch(const struct work *works, uint32_t count, uint64_t key) {
    for (uint32_t i = 0; i < count; i++) {
        if (works[i].key == key) {
            return true;
        }
    }
    return false;
}

// Opens the first trials of as many nodes as keep all threads busy.
static enum hymn_status open_batch(struct tuner *tuner, struct hymn_graph *graph, struct work *works,
                                   uint32_t *out_count) {
    enum hymn_status status = HYMN_STATUS_OK;
    uint32_t trials = 0, enough = TRIALS_PER_THREAD * hymn_thread_cpu_count();
    struct hymn_node *node;
    while (status == HYMN_STATUS_OK && trials < enough && *out_count < MAX_BATCH &&
           (node = next_node(tuner, graph, TIMED_SHORTLY))) {
        struct progress *progress = &tuner->progress[node - graph->nodes];
        if (!recall(tuner, node, progress, TIMED_SHORTLY) && !in_batch(works, *out_count, progress->key)) {
            struct work *work = &works[(*out_count)++];
            *work = (struct work){.node = node, .key = progress->key};
            status = open_listed(tuner, work, NULL, SHORT_TRIALS);
            trials += work->count;
        }
        progress->level = progress->level > TIMED_SHORTLY ? progress->level : TIMED_SHORTLY;
    }
    return status;
}

static enum hymn_status tune_batch(struct tuner *tuner, struct hymn_graph *graph) {
    struct work works[MAX_BATCH] = {{0}};
    uint32_t count = 0;
    enum hymn_status status = open_batch(tuner, graph, works, &count);
    if (status == HYMN_STATUS_OK) {
        status = make_pipelines(tuner, works, count, 0);
    }
    for (uint32_t i = 0; i < count && !is_fatal(status) && (i == 0 || hymn_time_now() < tuner->deadline); i++) {
        double busy = i == 0 ? BUSY_SECONDS : BUSY_AGAIN_SECONDS;
        status = time_trials(tuner, &works[i], 0, busy);
        status = status == HYMN_STATUS_OK ? choose(tuner, &works[i], TIMED_SHORTLY) : status;
        status = note_loss(tuner, &works[i], status);
        close_work(tuner, &works[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        close_work(tuner, &works[i]);
    }
    return is_fatal(status) ? status : HYMN_STATUS_OK;
}

// First a few ways for every node, then all for those with the most work.
static enum hymn_status tune_rest(struct tuner *tuner, struct hymn_graph *graph) {
    enum hymn_status status = HYMN_STATUS_OK;
    while (status == HYMN_STATUS_OK && hymn_time_now() < tuner->deadline && next_node(tuner, graph, TIMED_SHORTLY)) {
        status = tune_batch(tuner, graph);
    }
    struct hymn_node *node;
    while (status == HYMN_STATUS_OK && hymn_time_now() < tuner->deadline && (node = next_node(tuner, graph, TIMED))) {
        struct progress *progress = &tuner->progress[node - graph->nodes];
        if (!recall(tuner, node, progress, TIMED)) {
            status = tune_node(tuner, node, progress->key);
        }
        progress->level = TIMED;
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (tuner->progress[i].key != 0) { // it has a choice
            recall(tuner, &graph->nodes[i], &tuner->progress[i], TIMED);
        }
    }
    return status;
}

bool hymn_tune_is_known(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                        const struct hymn_graph *graph) {
    bool known = true;
    for (uint32_t i = 0; i < graph->node_count && known && !plan->cpu && plan->timestamps; i++) {
        struct found found;
        known = !has_choice(plan, graph, &graph->nodes[i]) ||
                (hymn_vk_store_get(device, hymn_tune_key(plan, graph, &graph->nodes[i]), &found, sizeof found) &&
                 found.level >= TIMED && found.seconds <= 0.0f);
    }
    return known;
}

enum hymn_status hymn_tune_graph(struct hymn_vk_device *device, struct hymn_vk_plan *plan, struct hymn_graph *graph,
                                 double budget_ms, double *out_spent_ms) {
    double start = hymn_time_now();
    *out_spent_ms = 0.0;
    if (plan->cpu || !plan->timestamps) {
        return HYMN_STATUS_OK;
    }
    struct tuner tuner = {.device = device,
                          .plan = plan,
                          .graph = graph,
                          .deadline = start + 1e-3 * budget_ms,
                          .overtime = 1e-3 * OVERTIME * budget_ms};
    bool unknown = false;
    tuner.progress = hymn_alloc(graph->node_count, sizeof *tuner.progress);
    if (!tuner.progress) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        tuner.progress[i].level = TIMED;
        if (has_choice(plan, graph, node)) {
            tuner.progress[i] = (struct progress){hymn_tune_key(plan, graph, node), NOT_TIMED};
            unknown = !recall(&tuner, node, &tuner.progress[i], TIMED) || unknown;
            log_recalled(device, node);
        }
    }
    enum hymn_status status = HYMN_STATUS_OK;
    if (unknown && budget_ms > 0.0) {
        struct hymn_log own_log = device->log;
        device->log = hymn_log_soften(&own_log); // a trial that fails is no failure
        status = hymn_vk_fence_create(device, &tuner.fence);
        if (status == HYMN_STATUS_OK) {
            status = tune_rest(&tuner, graph);
        }
        hymn_vk_fence_destroy(device, &tuner.fence);
        hymn_vk_buffer_destroy(device, &tuner.activations);
        hymn_vk_store_flush(device);
        device->log = own_log;
        *out_spent_ms = 1e3 * (hymn_time_now() - start);
    }
    hymn_free(tuner.progress);
    return status;
}
