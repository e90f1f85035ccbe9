// SPDX-License-Identifier: MIT
#include "tune/trial.h"

#include <string.h>

#include "base/half.h"
#include "selftest/selftest.h"
#include "tune/choice.h"
#include "vk/divide.h"
#include "vk/pipeline.h"
#include "vk/slowness.h"
#include "vk/timer.h"

// Outputs are of gigabytes in large batches.
#define MOST_COMPARED ((uint64_t)16 << 20)

static enum hymn_status no_memory(const struct hymn_vk_device *device) {
    return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "tuning: out of memory");
}

// Copies a value that the node uses to the trial's graph, unless it is there already; the new index replaces the old.
static bool take_value(struct hymn_trial *trial, const struct hymn_graph *from, uint32_t *map, uint32_t *value) {
    if (*value == HYMN_NONE) {
        return true;
    }
    if (map[*value] == HYMN_NONE) {
        const struct hymn_value *old = &from->values[*value];
        uint32_t added =
            hymn_graph_add_value(&trial->graph, old->name, old->height, old->width, old->channels, old->storage);
        if (added == HYMN_NONE) {
            return false;
        }
        trial->graph.values[added] = *old;
        map[*value] = added;
    }
    *value = map[*value];
    return true;
}

static bool take_node(struct hymn_trial *trial, const struct hymn_graph *from, const struct hymn_node *node, bool tuned,
                      uint32_t *map) {
    struct hymn_node *taken = hymn_graph_add_node(&trial->graph, node->kind, node->name);
    if (!taken) {
        return false;
    }
    const char *name = taken->name;
    *taken = *node;
    taken->name = name;
    taken->tuned = tuned;
    taken->method = tuned ? trial->method : (struct hymn_method){{0}};
    bool ok = true;
    for (uint32_t i = 0; i < node->term_count; i++) {
        ok = ok && take_value(trial, from, map, &taken->terms[i].source.value);
    }
    ok = ok && take_value(trial, from, map, &taken->low.value) && take_value(trial, from, map, &taken->pool) &&
         take_value(trial, from, map, &taken->depthwise);
    return ok && take_value(trial, from, map, &taken->residual.value) && take_value(trial, from, map, &taken->stats) &&
           take_value(trial, from, map, &taken->output);
}

// What the one behind it makes, which some of the node's methods make by themselves; or HYMN_NONE.
static uint32_t taken_over(const struct hymn_node *node) {
    return node->pool != HYMN_NONE ? node->pool : node->depthwise;
}

// With the one behind it that some of its methods have no need of.
static bool take_nodes(struct hymn_trial *trial, const struct hymn_graph *from, const struct hymn_node *node,
                       uint32_t *map) {
    bool ok = take_node(trial, from, node, true, map);
    const uint32_t behind = taken_over(node);
    for (uint32_t i = 0; i < from->node_count && behind != HYMN_NONE; i++) {
        ok = ok && (from->nodes[i].output != behind || take_node(trial, from, &from->nodes[i], false, map));
    }
    return ok;
}

enum hymn_status hymn_trial_open(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                 const struct hymn_graph *graph, const struct hymn_node *node,
                                 const struct hymn_method *method, struct hymn_trial *trial) {
    memset(trial, 0, sizeof *trial);
    trial->method = *method;
    trial->most_compared = MOST_COMPARED;
    hymn_trial_forget(trial);
    hymn_graph_init(&trial->graph, graph->batch, graph->storage);
    trial->lower = (struct hymn_lower){.graph = &trial->graph, .plan = plan, .log = &device->log};
    uint32_t *map = hymn_alloc(graph->value_count, sizeof *map);
    if (!map) {
        return no_memory(device);
    }
    memset(map, 0xFF, graph->value_count * sizeof *map);
    bool taken = take_nodes(trial, graph, node, map);
    hymn_free(map);
    if (!taken) {
        return no_memory(device);
    }
    enum hymn_status status = hymn_ops_prepare(&trial->graph, plan, &device->log);
    if (status == HYMN_STATUS_OK) {
        status = hymn_graph_plan_memory(&trial->graph, false, &device->log);
    }
    return status == HYMN_STATUS_OK ? hymn_ops_lower(&trial->lower) : status;
}

enum hymn_status hymn_trial_open_checked(struct hymn_vk_device *device, struct hymn_vk_plan *plan,
                                         const struct hymn_graph *graph, const struct hymn_node *node,
                                         const struct hymn_method *method, struct hymn_trial *trial) {
    bool demoted;
    enum hymn_status status;
    do {
        demoted = false;
        status = hymn_trial_open(device, plan, graph, node, method, trial);
        if (status == HYMN_STATUS_OK) {
            status = hymn_selftest_check(device, plan, &trial->lower.program, &demoted);
        }
        if (status != HYMN_STATUS_OK || demoted) {
            hymn_trial_close(device, trial);
        }
    } while (status == HYMN_STATUS_OK && demoted);
    return status;
}

static enum hymn_status upload_weights(struct hymn_vk_device *device, struct hymn_trial *trial) {
    enum hymn_status status = HYMN_STATUS_OK;
    if (trial->lower.weight_bytes > 0) {
        status = hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, trial->lower.weight_bytes, "tuning's weights",
                                       &trial->weights);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_write(device, &trial->weights, trial->lower.blocks, trial->lower.block_count);
    }
    if (status == HYMN_STATUS_OK) {
        status =
            hymn_vk_buffer_create_zeroed(device, trial->lower.counter_bytes, "tuning's counters", &trial->counters);
    }
    return status;
}

enum hymn_status hymn_trial_record(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                   struct hymn_trial *trial) {
    struct hymn_vk_record_params params = {
        .name = "tuning",
        .steps = trial->repeated.steps,
        .count = trial->repeated.count,
        .buffers = {[HYMN_VK_ROLE_ACTIVATIONS] = activations,
                    [HYMN_VK_ROLE_WEIGHTS] = &trial->weights,
                    [HYMN_VK_ROLE_COUNTERS] = &trial->counters},
        .step_timestamps = true,
    };
    return hymn_vk_command_record(device, &params, &trial->command);
}

enum hymn_status hymn_trial_ready(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                  struct hymn_trial *trial) {
    for (uint32_t i = 0; i < HYMN_TRIAL_TIMES; i++) {
        if (!hymn_vk_program_append(&trial->repeated, &trial->lower.program)) {
            return no_memory(device);
        }
    }
    trial->estimate =
        hymn_vk_program_divide(&trial->repeated, &device->plan, device->slowness, device->submission_seconds) /
        device->slowness;
    trial->step_ms = hymn_alloc((HYMN_TRIAL_TIMES + 1) * trial->lower.program.count, sizeof *trial->step_ms);
    if (!trial->step_ms) {
        return no_memory(device);
    }
    enum hymn_status status = upload_weights(device, trial);
    return status == HYMN_STATUS_OK ? hymn_trial_record(device, activations, trial) : status;
}

void hymn_trial_learn(struct hymn_vk_device *device, const struct hymn_trial *trial) {
    const double measured = 1e-3 * hymn_vk_timer_span(device, &trial->command, &trial->command);
    if (measured > trial->estimate * device->slowness) {
        hymn_vk_slowness_measure(device, trial->estimate, measured);
    }
}

void hymn_trial_forget(struct hymn_trial *trial) {
    trial->ms = trial->best_ms = -1.0;
    trial->samples = (struct hymn_choice_samples){0};
}

static enum hymn_status keep_times(struct hymn_vk_device *device, struct hymn_trial *trial) {
    uint32_t count = trial->lower.program.count;
    double *best = trial->step_ms + HYMN_TRIAL_TIMES * count, first = 0.0, sum = 0.0;
    if (trial->command.query_count == 0) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = hymn_vk_timer_steps(device, &trial->command, trial->step_ms);
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        for (uint32_t time = 1; time < HYMN_TRIAL_TIMES; time++) {
            double ms = trial->step_ms[time * count + i];
            best[i] = (time == 1 && trial->samples.runs == 0) || ms < best[i] ? ms : best[i];
        }
        first += trial->step_ms[i];
        sum += best[i];
    }
    if (status == HYMN_STATUS_OK) {
        trial->best_ms = sum;
        trial->ms = hymn_choice_add(&trial->samples, first);
    }
    return status;
}

enum hymn_status hymn_trial_run(struct hymn_vk_device *device, struct hymn_trial *trial, VkFence fence) {
    enum hymn_status status = hymn_vk_submit(device, (const struct hymn_vk_command *[]){&trial->command}, 1, fence);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_wait(device, fence);
    }
    return status == HYMN_STATUS_OK ? keep_times(device, trial) : status;
}

// ------------------------------------------------------------------------------------------------------------- results

// Normalised mean squared errors between two orders of the same sums, with room.
#define TOLERANCE_F32 1e-9
#define TOLERANCE_F16 1e-5
// A pattern of so many numbers, again and again: an even one, for whole words of halves, and no multiple of rows.
#define PATTERN 65522u

static float pattern_number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 23) - 1.0f;
}

// Returns its bytes.
static uint32_t make_pattern(uint8_t *to, enum hymn_storage storage, uint32_t seed) {
    uint32_t size = storage == HYMN_STORAGE_F16 ? 2 : 4, state = seed;
    for (uint32_t i = 0; i < PATTERN; i++) {
        float number = pattern_number(&state);
        uint16_t half = hymn_half_from_float(number);
        memcpy(to + i * size, size == 2 ? (const void *)&half : &number, size);
    }
    return PATTERN * size;
}

// Whether a node reads the value and none writes it.
static bool is_input(const struct hymn_graph *graph, uint32_t value) {
    bool read = false, written = false;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        read = read || hymn_node_reads(node, value) > 0;
        written = written || node->output == value || node->pooled == value || node->convolved == value;
    }
    return read && !written;
}

// The node's output, and what is made of it by the node itself or by the one behind it.
static uint32_t list_outputs(const struct hymn_trial *trial, const struct hymn_value *out_values[2]) {
    const struct hymn_node *node = &trial->graph.nodes[0];
    const uint32_t behind = taken_over(node);
    out_values[0] = &trial->graph.values[node->output];
    out_values[1] = behind == HYMN_NONE ? NULL : &trial->graph.values[behind];
    return behind == HYMN_NONE ? 1 : 2;
}

// What is compared of a value: one range, or two of whole pixels.
struct range {
    uint64_t offset, bytes;
};

static uint32_t list_ranges(const struct hymn_trial *trial, const struct hymn_value *value,
                            struct range out_ranges[2]) {
    const uint64_t pixel = (uint64_t)value->stride * (value->storage == HYMN_STORAGE_F16 ? 2 : 4);
    const uint64_t most = trial->most_compared / pixel * pixel;
    out_ranges[0] = (struct range){0, value->bytes <= 2 * most ? value->bytes : most};
    out_ranges[1] = (struct range){value->bytes - most, most};
    return value->bytes <= 2 * most ? 1 : 2;
}

static uint64_t compared_bytes(const struct hymn_trial *trial, const struct hymn_value *value) {
    struct range ranges[2];
    return list_ranges(trial, value, ranges) == 1 ? ranges[0].bytes : ranges[0].bytes + ranges[1].bytes;
}

// The inputs random, everything else NaN.
static enum hymn_status fill_activations(struct hymn_vk_device *device, struct hymn_vk_buffer *activations,
                                         const struct hymn_trial *trial) {
    const struct hymn_graph *graph = &trial->graph;
    uint8_t *pattern = hymn_alloc(PATTERN, sizeof(float));
    if (!pattern) {
        return no_memory(device);
    }
    memset(pattern, 0xFF, PATTERN * sizeof(float)); // NaN in either storage
    enum hymn_status status = hymn_vk_buffer_repeat(device, activations, 0, (graph->activation_bytes + 3) / 4 * 4,
                                                    pattern, PATTERN * sizeof(float));
    for (uint32_t i = 0; i < graph->value_count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_value *value = &graph->values[i];
        if (is_input(graph, i)) {
            uint32_t period = make_pattern(pattern, value->storage, i + 1);
            status = hymn_vk_buffer_repeat(device, activations, value->offset, value->bytes, pattern, period);
        }
    }
    hymn_free(pattern);
    return status;
}

static enum hymn_status read_compared(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                      const struct hymn_trial *trial, const struct hymn_value *value, uint8_t *to) {
    struct range ranges[2];
    const uint32_t count = list_ranges(trial, value, ranges);
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; to += ranges[i++].bytes) {
        status = hymn_vk_buffer_read(device, activations, value->offset + ranges[i].offset, to, ranges[i].bytes);
    }
    return status;
}

enum hymn_status hymn_trial_output(struct hymn_vk_device *device, struct hymn_vk_buffer *activations,
                                   struct hymn_trial *trial, VkFence fence, uint8_t **out_output) {
    const struct hymn_value *outputs[2];
    const uint32_t count = list_outputs(trial, outputs);
    uint64_t at = 0;
    uint8_t *result =
        hymn_alloc(compared_bytes(trial, outputs[0]) + (count > 1 ? compared_bytes(trial, outputs[1]) : 0), 1);
    *out_output = NULL;
    if (!result) {
        return no_memory(device);
    }
    enum hymn_status status = fill_activations(device, activations, trial);
    if (status == HYMN_STATUS_OK) {
        status = hymn_trial_record(device, activations, trial);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_trial_run(device, trial, fence);
    }
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; at += compared_bytes(trial, outputs[i++])) {
        status = read_compared(device, activations, trial, outputs[i], result + at);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_free(result);
        return status;
    }
    *out_output = result;
    return status;
}

static double number_at(const uint8_t *bytes, uint64_t i, bool half) {
    uint16_t bits;
    float number;
    if (half) {
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        return hymn_half_to_float(bits);
    }
    memcpy(&number, bytes + 4 * i, sizeof number);
    return number;
}

bool hymn_trial_agrees(const struct hymn_trial *trial, const uint8_t *output, const uint8_t *expected) {
    const struct hymn_value *outputs[2];
    const uint32_t count = list_outputs(trial, outputs); // in the same storage
    const struct hymn_node *node = &trial->graph.nodes[0];
    // What is convolved in depth may never be stored.
    const uint32_t unstored = node->depthwise == HYMN_NONE ? 0 : node->parts[0];
    bool half = outputs[0]->storage == HYMN_STORAGE_F16;
    uint64_t own = compared_bytes(trial, outputs[0]) / (half ? 2 : 4);
    uint64_t bytes = compared_bytes(trial, outputs[0]) + (count > 1 ? compared_bytes(trial, outputs[1]) : 0);
    double error = 0.0, power = 0.0;
    for (uint64_t i = 0; i < bytes / (half ? 2 : 4); i++) {
        if (i < own && i % outputs[0]->stride < unstored) {
            continue;
        }
        double wanted = number_at(expected, i, half), difference = number_at(output, i, half) - wanted;
        error += difference * difference;
        power += wanted * wanted;
    }
    return error <= (half ? TOLERANCE_F16 : TOLERANCE_F32) * power; // false for NaN
}

void hymn_trial_close(struct hymn_vk_device *device, struct hymn_trial *trial) {
    hymn_vk_command_destroy(device, &trial->command);
    hymn_vk_buffer_destroy(device, &trial->weights);
    hymn_vk_buffer_destroy(device, &trial->counters);
    hymn_vk_program_free(&trial->repeated);
    hymn_free(trial->step_ms);
    hymn_lower_free(&trial->lower);
    hymn_graph_free(&trial->graph);
}
