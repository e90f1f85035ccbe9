// SPDX-License-Identifier: MIT
//
// One arena for all activations: values whose lifetimes do not meet share memory. Greedy by size: the largest value
// first, each at the lowest offset where nothing that is alive at the same time lies.
#include "graph/graph.h"

#include <stdlib.h>

#define ALIGNMENT 256u

struct lifetime {
    uint64_t bytes;
    uint32_t value;
    uint32_t first, last; // node positions, both inclusive
    bool used;
};

static void touch(struct lifetime *lives, uint32_t value, uint32_t position) {
    if (value == HYMN_NONE) {
        return;
    }
    struct lifetime *life = &lives[value];
    if (!life->used) {
        life->used = true;
        life->first = position;
    }
    life->last = position;
}

static void measure_lifetimes(const struct hymn_graph *graph, struct lifetime *lives) {
    for (uint32_t i = 0; i < graph->value_count; i++) {
        lives[i].value = i;
    }
    touch(lives, graph->input, 0);
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        for (uint32_t j = 0; j < node->term_count; j++) {
            touch(lives, node->terms[j].source.value, i);
        }
        for (uint32_t j = 0; j < 3; j++) {
            touch(lives, node->scratch[j], i);
        }
        touch(lives, node->residual.value, i);
        touch(lives, node->gate.value, i);
        touch(lives, node->stats, i);
        touch(lives, node->output, i);
    }
    touch(lives, graph->output, graph->node_count);
}

static void measure_bytes(struct hymn_graph *graph, struct lifetime *lives) {
    graph->activation_bytes_unaliased = 0;
    for (uint32_t i = 0; i < graph->value_count; i++) {
        struct hymn_value *value = &graph->values[i];
        uint64_t element = value->storage == HYMN_STORAGE_F16 ? 2 : 4;
        uint64_t pixels = (uint64_t)graph->batch * value->height * value->width;
        value->bytes = lives[i].used ? value->planes * pixels * value->stride * element : 0;
        lives[i].bytes = (value->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        graph->activation_bytes_unaliased += lives[i].bytes;
    }
}

static int larger_first(const void *left, const void *right) {
    const struct lifetime *a = left, *b = right;
    if (a->bytes != b->bytes) {
        return a->bytes > b->bytes ? -1 : 1;
    }
    return a->value < b->value ? -1 : 1;
}

// The lowest offset at which `life` fits between the values placed before it that are alive with it.
static uint64_t find_room(const struct hymn_graph *graph, const struct lifetime *lives, uint32_t placed,
                          const struct lifetime *life) {
    uint64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < placed; i++) {
            const struct lifetime *other = &lives[i];
            uint64_t start = graph->values[other->value].offset, end = start + other->bytes;
            bool together = life->first <= other->last && other->first <= life->last;
            if (together && offset < end && start < offset + life->bytes) {
                offset = end;
                moved = true;
            }
        }
    }
    return offset;
}

enum hymn_status hymn_graph_plan_memory(struct hymn_graph *graph, bool alias, const struct hymn_log *log) {
    struct lifetime *lives = hymn_alloc(graph->value_count, sizeof *lives);
    if (!lives) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "memory plan: out of memory");
    }
    measure_lifetimes(graph, lives);
    measure_bytes(graph, lives);
    qsort(lives, graph->value_count, sizeof *lives, larger_first);
    graph->activation_bytes = 0;
    for (uint32_t i = 0; i < graph->value_count && lives[i].bytes; i++) {
        uint64_t offset = alias ? find_room(graph, lives, i, &lives[i]) : graph->activation_bytes;
        graph->values[lives[i].value].offset = offset;
        if (graph->activation_bytes < offset + lives[i].bytes) {
            graph->activation_bytes = offset + lives[i].bytes;
        }
    }
    hymn_free(lives);
    return HYMN_STATUS_OK;
}
