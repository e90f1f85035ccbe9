// SPDX-License-Identifier: MIT
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

#include "base/half.h"

#define ALIGNMENT 256u

const struct hymn_op hymn_ops[HYMN_KIND_TABLE_SIZE] = {
    [HYMN_KIND_CONV2D] = {"conv2d", hymn_conv2d_prepare, hymn_conv2d_lower, hymn_conv2d_list_methods},
    [HYMN_KIND_MAX_POOL] = {"max_pool", NULL, hymn_max_pool_lower, NULL},
    [HYMN_KIND_RESIZE] = {"resize", NULL, hymn_resize_lower, NULL},
    [HYMN_KIND_RESIZE_TAPS] = {"resize_taps", NULL, hymn_resize_taps_lower, NULL},
    [HYMN_KIND_DEPTHWISE] = {"depthwise", NULL, hymn_depthwise_lower, NULL},
    [HYMN_KIND_NORM_STATS] = {"norm_stats", NULL, hymn_norm_stats_lower, NULL},
    [HYMN_KIND_SELECTIVE_SCAN] = {"selective_scan", hymn_selective_scan_prepare, hymn_selective_scan_lower,
                                  hymn_selective_scan_list_methods},
    [HYMN_KIND_MERGE] = {"merge", NULL, hymn_merge_lower, NULL},
    [HYMN_KIND_GATE] = {"gate", NULL, hymn_gate_lower, NULL},
    [HYMN_KIND_HEAD] = {"head", NULL, hymn_head_lower, NULL},
};

void hymn_ops_settle(struct hymn_graph *graph, const struct hymn_vk_plan *plan) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i].kind == HYMN_KIND_SELECTIVE_SCAN) {
            hymn_selective_scan_settle(graph, &graph->nodes[i], plan);
        }
    }
}

enum hymn_status hymn_ops_prepare(struct hymn_graph *graph, const struct hymn_vk_plan *plan,
                                  const struct hymn_log *log) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        const struct hymn_op *op = node->kind == HYMN_KIND_DEAD ? NULL : &hymn_ops[node->kind]; // by one before it
        enum hymn_status status = op && op->prepare ? op->prepare(graph, node, plan, log) : HYMN_STATUS_OK;
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    hymn_graph_drop_dead(graph);
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_ops_lower(struct hymn_lower *lower) {
    for (uint32_t i = 0; i < lower->graph->node_count; i++) {
        const struct hymn_node *node = &lower->graph->nodes[i];
        enum hymn_status status = hymn_ops[node->kind].lower(lower, node);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    return HYMN_STATUS_OK;
}

void hymn_lower_free(struct hymn_lower *lower) {
    hymn_vk_program_free(&lower->program);
    hymn_arena_free(&lower->arena);
    hymn_free(lower->blocks);
    lower->blocks = NULL;
    lower->block_count = lower->block_capacity = 0;
}

void *hymn_lower_weights(struct hymn_lower *lower, uint64_t bytes, struct hymn_vk_binding *out_binding) {
    if (lower->block_count == lower->block_capacity) {
        uint32_t capacity = lower->block_capacity ? lower->block_capacity * 2 : 64;
        struct hymn_vk_write *grown = hymn_realloc(lower->blocks, capacity, sizeof *grown);
        if (!grown) {
            lower->status = hymn_fail(lower->log, HYMN_STATUS_OUT_OF_MEMORY, "packing weights: out of memory");
            return NULL;
        }
        lower->blocks = grown;
        lower->block_capacity = capacity;
    }
    bytes = (bytes + 15) / 16 * 16; // whole vec4s
    void *data = hymn_arena_alloc(&lower->arena, bytes, 1);
    if (!data) {
        lower->status = hymn_fail(lower->log, HYMN_STATUS_OUT_OF_MEMORY, "packing weights: out of memory");
        return NULL;
    }
    lower->blocks[lower->block_count++] = (struct hymn_vk_write){lower->weight_bytes, data, bytes};
    *out_binding = (struct hymn_vk_binding){HYMN_VK_ROLE_WEIGHTS, lower->weight_bytes, bytes};
    lower->weight_bytes += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return data;
}

struct hymn_vk_binding hymn_lower_counters(struct hymn_lower *lower, uint32_t count) {
    const uint64_t bytes = (uint64_t)count * sizeof(uint32_t), first = lower->counter_bytes;
    lower->counter_bytes += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return (struct hymn_vk_binding){HYMN_VK_ROLE_COUNTERS, first, bytes};
}

void hymn_pack_weights(void *destination, const float *values, uint64_t count, bool half) {
    if (!half) {
        memcpy(destination, values, count * sizeof *values);
        return;
    }
    uint16_t *to = destination;
    float clamped[64];
    for (uint64_t done = 0; done < count;) {
        const uint64_t left = count - done, some = left < 64 ? left : 64;
        for (uint64_t i = 0; i < some; i++) {
            const float value = values[done + i];
            clamped[i] = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
        }
        hymn_halves_from_floats(clamped, some, to + done);
        done += some;
    }
}

static const struct hymn_shader *find_variant(const char *shader, const char *suffix) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", shader, suffix ? suffix : "");
    return hymn_shader_find(name);
}

bool hymn_variant_allowed(const struct hymn_vk_plan *plan, const char *shader, const char *suffix) {
    return hymn_vk_plan_allows(plan, find_variant(shader, suffix));
}

struct hymn_vk_step *hymn_lower_dispatch(struct hymn_lower *lower, const struct hymn_node *node, const char *shader,
                                         const char *suffix) {
    const struct hymn_shader *found = find_variant(shader, suffix);
    if (!found) {
        lower->status = hymn_fail(lower->log, HYMN_STATUS_INTERNAL, "%s: no shader named %s%s", node->name, shader,
                                  suffix ? suffix : "");
        return NULL;
    }
    struct hymn_vk_step *step = hymn_vk_program_add(&lower->program);
    if (!step) {
        lower->status = hymn_fail(lower->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name);
        return NULL;
    }
    step->name = node->name;
    step->shader = found;
    return step;
}

struct hymn_vk_binding hymn_lower_value(const struct hymn_lower *lower, uint32_t value) {
    const struct hymn_value *found = &lower->graph->values[value];
    return (struct hymn_vk_binding){hymn_vk_role_of_piece(found->piece), found->offset, found->bytes};
}

void hymn_lower_bind(struct hymn_vk_step *step, struct hymn_vk_binding binding, bool written) {
    step->write_mask |= (uint32_t)written << step->binding_count;
    step->bindings[step->binding_count++] = binding;
}
