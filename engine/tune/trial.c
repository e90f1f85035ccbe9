// SPDX-License-Identifier: MIT
#include "tune/trial.h"

#include <string.h>

#include "vk/pipeline.h"
#include "vk/timer.h"

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

static bool take_node(struct hymn_trial *trial, const struct hymn_graph *from, const struct hymn_node *node,
                      uint32_t *map) {
    struct hymn_node *taken = hymn_graph_add_node(&trial->graph, node->kind, node->name);
    if (!taken) {
        return false;
    }
    const char *name = taken->name;
    *taken = *node;
    taken->name = name;
    taken->tuned = true;
    taken->method = trial->method;
    bool ok = true;
    for (uint32_t i = 0; i < node->term_count; i++) {
        ok = ok && take_value(trial, from, map, &taken->terms[i].source.value);
    }
    return ok && take_value(trial, from, map, &taken->residual.value) &&
           take_value(trial, from, map, &taken->gate.value) && take_value(trial, from, map, &taken->stats) &&
           take_value(trial, from, map, &taken->output);
}

enum hymn_status hymn_trial_open(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                 const struct hymn_graph *graph, const struct hymn_node *node,
                                 const struct hymn_method *method, struct hymn_trial *trial) {
    memset(trial, 0, sizeof *trial);
    trial->method = *method;
    trial->ms = -1.0;
    hymn_graph_init(&trial->graph, graph->batch, graph->storage);
    trial->lower = (struct hymn_lower){.graph = &trial->graph, .plan = plan, .log = &device->log};
    uint32_t *map = hymn_alloc(graph->value_count, sizeof *map);
    if (!map) {
        return no_memory(device);
    }
    memset(map, 0xFF, graph->value_count * sizeof *map);
    bool taken = take_node(trial, graph, node, map);
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

static enum hymn_status upload_weights(struct hymn_vk_device *device, struct hymn_trial *trial) {
    enum hymn_status status = HYMN_STATUS_OK;
    if (trial->lower.weight_bytes > 0) {
        status = hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, trial->lower.weight_bytes, "tuning's weights",
                                       &trial->weights);
    }
    for (uint32_t i = 0; i < trial->lower.block_count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_weight_block *block = &trial->lower.blocks[i];
        struct hymn_vk_write write = {block->offset, block->data, block->bytes};
        status = hymn_vk_buffer_write(device, &trial->weights, &write, 1);
    }
    return status;
}

enum hymn_status hymn_trial_ready(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                  struct hymn_trial *trial) {
    for (uint32_t i = 0; i < HYMN_TRIAL_TIMES * trial->lower.program.count; i++) {
        struct hymn_vk_step *step = hymn_vk_program_add(&trial->repeated);
        if (!step) {
            return no_memory(device);
        }
        *step = trial->lower.program.steps[i % trial->lower.program.count];
    }
    struct hymn_vk_record_params record = {
        .name = "tuning",
        .steps = trial->repeated.steps,
        .count = trial->repeated.count,
        .buffers = {[HYMN_VK_ROLE_ACTIVATIONS] = activations, [HYMN_VK_ROLE_WEIGHTS] = &trial->weights},
        .timestamps = true,
    };
    enum hymn_status status = upload_weights(device, trial);
    return status == HYMN_STATUS_OK ? hymn_vk_command_record(device, &record, &trial->command) : status;
}

enum hymn_status hymn_trial_run(struct hymn_vk_device *device, struct hymn_trial *trial, VkFence fence) {
    enum hymn_status status = hymn_vk_submit(device, (const struct hymn_vk_command *[]){&trial->command}, 1, fence);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_wait(device, fence);
    }
    if (status == HYMN_STATUS_OK) {
        double ms = hymn_vk_timer_span(device, &trial->command, &trial->command) / HYMN_TRIAL_TIMES;
        trial->ms = trial->ms < 0.0 || ms < trial->ms ? ms : trial->ms;
    }
    return status;
}

void hymn_trial_close(struct hymn_vk_device *device, struct hymn_trial *trial) {
    hymn_vk_command_destroy(device, &trial->command);
    hymn_vk_buffer_destroy(device, &trial->weights);
    hymn_vk_program_free(&trial->repeated);
    hymn_lower_free(&trial->lower);
    hymn_graph_free(&trial->graph);
}
