// SPDX-License-Identifier: MIT
#include "graph/graph.h"

#include <stdarg.h>
#include <string.h>

void hymn_graph_init(struct hymn_graph *graph, uint32_t batch, enum hymn_storage storage) {
    memset(graph, 0, sizeof *graph);
    graph->batch = batch;
    graph->storage = storage;
    graph->taps_from = HYMN_GRAPH_TAPS_FROM;
    graph->input = graph->output = HYMN_NONE;
}

void hymn_graph_free(struct hymn_graph *graph) {
    hymn_free(graph->values);
    hymn_free(graph->nodes);
    hymn_arena_free(&graph->arena);
    hymn_graph_init(graph, 0, HYMN_STORAGE_F32);
}

// Room for one more element; false when out of memory.
static bool reserve(void **block, uint32_t count, uint32_t *capacity, size_t size) {
    if (count < *capacity) {
        return true;
    }
    uint32_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = hymn_realloc(*block, wanted, size);
    if (!grown) {
        return false;
    }
    *block = grown;
    *capacity = wanted;
    return true;
}

uint32_t hymn_graph_add_value(struct hymn_graph *graph, const char *name, uint32_t height, uint32_t width,
                              uint32_t channels, enum hymn_storage storage) {
    void *values = graph->values;
    bool grown = reserve(&values, graph->value_count, &graph->value_capacity, sizeof *graph->values);
    graph->values = values;
    if (!grown) {
        return HYMN_NONE;
    }
    graph->values[graph->value_count] = (struct hymn_value){
        .name = name,
        .height = height,
        .width = width,
        .channels = channels,
        .stride = hymn_round_up(channels, 8),
        .planes = 1,
        .storage = storage,
    };
    return graph->value_count++;
}

struct hymn_node *hymn_graph_add_node(struct hymn_graph *graph, enum hymn_kind kind, const char *name) {
    void *nodes = graph->nodes;
    bool grown = reserve(&nodes, graph->node_count, &graph->node_capacity, sizeof *graph->nodes);
    graph->nodes = nodes;
    char *copy = grown ? hymn_arena_printf(&graph->arena, "%s", name) : NULL;
    if (!copy) {
        return NULL;
    }
    struct hymn_node *node = &graph->nodes[graph->node_count++];
    memset(node, 0, sizeof *node);
    node->kind = kind;
    node->name = copy;
    node->output = node->stats = node->residual.value = HYMN_NONE;
    node->low.value = node->pool = node->pooled = HYMN_NONE;
    node->depthwise = node->convolved = HYMN_NONE;
    for (uint32_t i = 0; i < 3; i++) {
        node->terms[i].source.value = node->scratch[i] = HYMN_NONE;
        node->terms[i].kernel = 1;
    }
    return node;
}

uint32_t hymn_node_reads(const struct hymn_node *node, uint32_t value) {
    uint32_t count = (node->residual.value == value) + (node->stats == value);
    for (uint32_t i = 0; i < node->term_count; i++) {
        count += node->terms[i].source.value == value;
    }
    return node->kind == HYMN_KIND_DEAD ? 0 : count;
}

uint64_t hymn_node_macs(const struct hymn_graph *graph, const struct hymn_node *node) {
    if (!hymn_node_is_convolution(node) && node->kind != HYMN_KIND_DEPTHWISE) {
        return 0;
    }
    const struct hymn_value *output = &graph->values[node->output];
    uint64_t per_pixel = 0;
    for (uint32_t i = 0; i < node->term_count; i++) {
        const struct hymn_term *term = &node->terms[i];
        per_pixel += (uint64_t)term->kernel * term->kernel * term->source.channels;
    }
    uint64_t rows = hymn_node_is_convolution(node) ? node->out_channels : 1;
    uint64_t in_depth = node->convolved == HYMN_NONE ? 0 : (uint64_t)9 * node->parts[0];
    return (uint64_t)graph->batch * output->height * output->width * (rows * per_pixel + in_depth);
}

const char *hymn_kind_name(enum hymn_kind kind) {
    static const char *const names[] = {
        [HYMN_KIND_CONV2D] = "conv2d",
        [HYMN_KIND_MAX_POOL] = "max_pool",
        [HYMN_KIND_RESIZE] = "resize",
        [HYMN_KIND_RESIZE_TAPS] = "resize_taps",
        [HYMN_KIND_DEPTHWISE] = "depthwise",
        [HYMN_KIND_NORM_STATS] = "norm_stats",
        [HYMN_KIND_SELECTIVE_SCAN] = "selective_scan",
        [HYMN_KIND_MERGE] = "merge",
        [HYMN_KIND_GATE] = "gate",
        [HYMN_KIND_HEAD] = "head",
        [HYMN_KIND_BATCH_NORM] = "batch_norm",
        [HYMN_KIND_ACTIVATION] = "activation",
        [HYMN_KIND_ADD] = "add",
        [HYMN_KIND_CONCAT] = "concat",
        [HYMN_KIND_LAYER_NORM] = "layer_norm",
        [HYMN_KIND_DEAD] = "dead",
    };
    return names[kind];
}
