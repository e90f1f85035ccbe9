// SPDX-License-Identifier: MIT
#include "tune/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/thread.h"
#include "selftest/selftest.h"
#include "tune/trial.h"
#include "vk/pipeline.h"
#include "vk/store.h"

// To be raised when what is listed or how it is timed changes, so that it is timed again.
#define TUNE_VERSION 3u
#define MAX_TRIALS 32u
#define MAX_WORDS 128
#define ROUNDS 3u
// A GPU that was idle while pipelines were made runs at a fraction of its clock.
#define BUSY_SECONDS 0.05
// A method must be this much faster than the operator's own choice: noise is no reason to leave it.
#define GAIN 0.98

struct tuner {
    struct hymn_vk_device *device;
    struct hymn_vk_plan *plan;
    const struct hymn_graph *graph;
    VkFence fence;
    struct hymn_vk_buffer activations; // of all trials, one after the other
    double deadline;
};

// ------------------------------------------------------------------------------------------------------------ problems

struct problem {
    uint64_t shaders;
    uint32_t version, kind, batch, subgroup, lanes, shared_bytes;
    struct hymn_vk_matrix matrix;
    uint32_t height, width, stride, storage, out_channels, parts;
    uint32_t kernels[3], channels[3], strides[3], storages[3];
    uint32_t prologue, activation, residual, states, rank;
};

static uint64_t shader_hash(void) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        hash = (hash ^ hymn_shaders[i].hash) * 0x100000001B3u;
    }
    return hash;
}

// Nodes of one key are the same problem.
static uint64_t key_of(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node) {
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

// Opens the trials of those methods that can be made, whose shaders are right and that have not been tried yet.
static enum hymn_status open_trials(struct tuner *tuner, const struct hymn_node *node,
                                    const struct hymn_method *methods, uint32_t count, struct hymn_trial *trials,
                                    uint32_t *trial_count) {
    for (uint32_t i = 0; i < count && *trial_count < MAX_TRIALS; i++) {
        bool known = false;
        for (uint32_t k = 0; k < *trial_count; k++) {
            known = known || memcmp(&trials[k].method, &methods[i], sizeof *methods) == 0;
        }
        if (known) {
            continue;
        }
        struct hymn_trial *trial = &trials[*trial_count];
        bool demoted = false;
        enum hymn_status status = hymn_trial_open(tuner->device, tuner->plan, tuner->graph, node, &methods[i], trial);
        if (status == HYMN_STATUS_OK) {
            status = hymn_selftest_check(tuner->device, tuner->plan, &trial->lower.program, &demoted);
        }
        if (status == HYMN_STATUS_OK && !demoted) {
            ++*trial_count;
            continue;
        }
        hymn_trial_close(tuner->device, trial);
        if (status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY) {
            return status;
        }
    }
    return HYMN_STATUS_OK;
}

// Makes the pipelines of all trials at once: they are made on several threads.
static enum hymn_status make_pipelines(struct tuner *tuner, struct hymn_trial *trials, uint32_t count) {
    struct hymn_vk_program all = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_vk_program *program = &trials[i].lower.program;
        for (uint32_t k = 0; k < program->count && status == HYMN_STATUS_OK; k++) {
            struct hymn_vk_step *step = hymn_vk_program_add(&all);
            if (step) {
                *step = program->steps[k];
            } else {
                status = hymn_fail(&tuner->device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
            }
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_pipelines_prepare(tuner->device, all.steps, all.count);
    }
    hymn_vk_program_free(&all);
    return status;
}

static enum hymn_status reserve(struct tuner *tuner, uint64_t bytes) {
    if (tuner->activations.bytes >= bytes) {
        return HYMN_STATUS_OK;
    }
    hymn_vk_buffer_destroy(tuner->device, &tuner->activations);
    return hymn_vk_buffer_create(tuner->device, HYMN_VK_USAGE_DEVICE, bytes, "tuning", &tuner->activations);
}

// In rounds, for a device's clock changes.
static enum hymn_status time_trials(struct tuner *tuner, struct hymn_trial *trials, uint32_t count) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes = trials[i].graph.activation_bytes > bytes ? trials[i].graph.activation_bytes : bytes;
    }
    enum hymn_status status = reserve(tuner, bytes);
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        status = hymn_trial_ready(tuner->device, &tuner->activations, &trials[i]);
    }
    double start = hymn_time_now();
    while (count > 0 && status == HYMN_STATUS_OK && hymn_time_now() - start < BUSY_SECONDS) {
        status = hymn_trial_run(tuner->device, &trials[0], tuner->fence);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
            status = hymn_trial_run(tuner->device, &trials[i], tuner->fence);
        }
    }
    return status;
}

static const struct hymn_trial *fastest(const struct hymn_trial *trials, uint32_t count) {
    const struct hymn_trial *best = &trials[0];
    for (uint32_t i = 1; i < count; i++) {
        double limit = best == &trials[0] ? GAIN * best->ms : best->ms;
        best = trials[i].ms >= 0.0 && trials[i].ms < limit ? &trials[i] : best;
    }
    return best;
}

// Two passes: around the operator's own choice, then around the best of those.
static enum hymn_status try_methods(struct tuner *tuner, const struct hymn_node *node, struct hymn_trial *trials,
                                    uint32_t *count) {
    struct hymn_method methods[MAX_TRIALS], around;
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t before = *count;
        uint32_t listed = list(tuner->plan, tuner->graph, node, pass == 0 ? NULL : &around, methods, MAX_TRIALS);
        enum hymn_status status = open_trials(tuner, node, methods, listed, trials, count);
        if (status == HYMN_STATUS_OK && *count > before) {
            status = make_pipelines(tuner, trials + before, *count - before);
        }
        if (status == HYMN_STATUS_OK) {
            status = time_trials(tuner, trials + before, *count - before);
        }
        if (status != HYMN_STATUS_OK || *count == 0) {
            return status;
        }
        around = fastest(trials, *count)->method;
    }
    return HYMN_STATUS_OK;
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

// The words of a method: see where its operator lists them.
static const char *words_of(const struct hymn_method *method, char words[MAX_WORDS]) {
    size_t length = 0;
    words[0] = 0;
    for (uint32_t i = 0; i < sizeof method->words / sizeof *method->words; i++) {
        length += (size_t)snprintf(words + length, MAX_WORDS - length, " %u", method->words[i]);
    }
    return words;
}

// Finds the node's method and remembers it.
static enum hymn_status tune_node(struct tuner *tuner, struct hymn_node *node, uint64_t key) {
    struct hymn_trial *trials = hymn_alloc(MAX_TRIALS, sizeof *trials);
    if (!trials) {
        return hymn_fail(&tuner->device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
    }
    uint32_t count = 0;
    enum hymn_status status = try_methods(tuner, node, trials, &count);
    if (status == HYMN_STATUS_OK && count > 0 && trials[0].ms > 0.0) {
        struct hymn_trial *best = &trials[fastest(trials, count) - trials];
        bool right = false;
        char words[MAX_WORDS];
        status = check_results(tuner, &trials[0], best, &right);
        if (status == HYMN_STATUS_OK && !right) {
            hymn_log_write(&tuner->device->log, HYMN_LOG_WARNING,
                           "%s: the fastest way to compute it gives other results on %s, and is not used", node->name,
                           tuner->device->info.name);
        }
        best = right ? best : &trials[0];
        node->tuned = true;
        node->method = best->method;
        hymn_vk_store_put(tuner->device, key, &node->method, sizeof node->method);
        hymn_log_write(&tuner->device->log, HYMN_LOG_DEBUG, "%s: %.4f ms by its own rule, %.4f ms at best of %u:%s",
                       node->name, trials[0].ms, best->ms, count, words_of(&node->method, words));
    }
    for (uint32_t i = 0; i < count; i++) {
        hymn_trial_close(tuner->device, &trials[i]);
    }
    hymn_free(trials);
    bool ours = status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY;
    return ours ? status : HYMN_STATUS_OK;
}

// --------------------------------------------------------------------------------------------------------------- graph

static double work_of(const struct hymn_graph *graph, const struct hymn_node *node) {
    const struct hymn_value *output = &graph->values[node->output];
    double pixels = (double)graph->batch * output->height * output->width;
    // A selective scan's step costs many times a multiply-add of a matrix unit.
    return node->kind == HYMN_KIND_SELECTIVE_SCAN ? 200.0 * pixels * output->channels * node->d_state
                                                  : (double)hymn_node_macs(graph, node);
}

static bool recall(struct hymn_vk_device *device, struct hymn_node *node, uint64_t key) {
    node->tuned = hymn_vk_store_get(device, key, &node->method, sizeof node->method);
    return node->tuned;
}

// The node with the most work among those that have a choice and are not tuned; NULL: none is left.
static struct hymn_node *next_node(const struct tuner *tuner, struct hymn_graph *graph, const bool *tried) {
    struct hymn_node *next = NULL;
    double most = -1.0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        double work = work_of(graph, node);
        if (!node->tuned && !tried[i] && work > most && has_choice(tuner->plan, graph, node)) {
            next = node;
            most = work;
        }
    }
    return next;
}

static enum hymn_status tune_rest(struct tuner *tuner, struct hymn_graph *graph, bool *tried) {
    enum hymn_status status = HYMN_STATUS_OK;
    while (status == HYMN_STATUS_OK && hymn_time_now() < tuner->deadline) {
        struct hymn_node *node = next_node(tuner, graph, tried);
        if (!node) {
            break;
        }
        tried[node - graph->nodes] = true;
        uint64_t key = key_of(tuner->plan, graph, node);
        if (!recall(tuner->device, node, key)) { // another node may have had the same problem
            status = tune_node(tuner, node, key);
        }
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        if (!node->tuned && has_choice(tuner->plan, graph, node)) {
            recall(tuner->device, node, key_of(tuner->plan, graph, node));
        }
    }
    return status;
}

enum hymn_status hymn_tune_graph(struct hymn_vk_device *device, struct hymn_vk_plan *plan, struct hymn_graph *graph,
                                 double budget_ms, double *out_spent_ms) {
    double start = hymn_time_now();
    *out_spent_ms = 0.0;
    if (plan->cpu || !plan->timestamps) {
        return HYMN_STATUS_OK;
    }
    struct tuner tuner = {.device = device, .plan = plan, .graph = graph, .deadline = start + 1e-3 * budget_ms};
    bool *tried = hymn_alloc(graph->node_count, sizeof *tried), unknown = false;
    if (!tried) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        if (has_choice(plan, graph, node)) {
            unknown = !recall(device, node, key_of(plan, graph, node)) || unknown;
        }
    }
    enum hymn_status status = HYMN_STATUS_OK;
    if (unknown && budget_ms > 0.0) {
        struct hymn_log own_log = device->log;
        device->log = hymn_log_soften(&own_log); // a trial that fails is no failure
        status = hymn_vk_fence_create(device, &tuner.fence);
        if (status == HYMN_STATUS_OK) {
            status = tune_rest(&tuner, graph, tried);
        }
        hymn_vk_fence_destroy(device, &tuner.fence);
        hymn_vk_buffer_destroy(device, &tuner.activations);
        hymn_vk_store_flush(device);
        device->log = own_log;
        *out_spent_ms = 1e3 * (hymn_time_now() - start);
    }
    hymn_free(tried);
    return status;
}
