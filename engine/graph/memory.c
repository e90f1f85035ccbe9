// SPDX-License-Identifier: MIT
//
// One arena for all activations: values whose lifetimes do not meet share memory. Greedy by size: the largest value
// first, each at the lowest offset where nothing that is alive at the same time lies. As devices limit an allocation,
// the arena may be cut into pieces: no value crosses from one into the next.
//
// Time is counted in waves of neighbouring nodes that do not need each other and run at once: if one of them wrote
// where another's last input lies, it would have to wait for it.
#include "graph/graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 256u

struct lifetime {
    uint64_t bytes;
    uint32_t value;
    uint32_t first, last; // waves, both inclusive
    bool used;
};

static void touch(struct lifetime *lives, uint32_t value, uint32_t wave) {
    if (value == HYMN_NONE) {
        return;
    }
    struct lifetime *life = &lives[value];
    if (!life->used) {
        life->used = true;
        life->first = wave;
    }
    life->last = wave;
}

enum { MOST_TOUCHED = 11 };

// Values that a node touches; the first *out_written of them are written.
static uint32_t list_touched(const struct hymn_node *node, uint32_t out_values[MOST_TOUCHED], uint32_t *out_written) {
    uint32_t count = 0;
    out_values[count++] = node->output;
    for (uint32_t i = 0; i < 3; i++) {
        out_values[count++] = node->scratch[i];
    }
    out_values[count++] = node->pooled;
    out_values[count++] = node->convolved;
    *out_written = count;
    for (uint32_t i = 0; i < node->term_count; i++) {
        out_values[count++] = node->terms[i].source.value;
    }
    out_values[count++] = node->residual.value;
    out_values[count++] = node->stats;
    return count;
}

// Whether two nodes touch the same value and at least one of them writes it.
static bool conflict(const struct hymn_node *a, const struct hymn_node *b) {
    uint32_t values[2][MOST_TOUCHED], written[2];
    uint32_t counts[2] = {list_touched(a, values[0], &written[0]), list_touched(b, values[1], &written[1])};
    for (uint32_t i = 0; i < counts[0]; i++) {
        for (uint32_t j = 0; j < counts[1]; j++) {
            if (values[0][i] == values[1][j] && values[0][i] != HYMN_NONE && (i < written[0] || j < written[1])) {
                return true;
            }
        }
    }
    return false;
}

static void measure_lifetimes(const struct hymn_graph *graph, struct lifetime *lives) {
    for (uint32_t i = 0; i < graph->value_count; i++) {
        lives[i].value = i;
    }
    uint32_t wave = 0, wave_first = 0; // its first node
    touch(lives, graph->input, wave);
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        uint32_t values[MOST_TOUCHED], written;
        uint32_t count = list_touched(node, values, &written);
        for (uint32_t j = wave_first; j < i; j++) {
            if (conflict(&graph->nodes[j], node)) {
                wave_first = i;
                wave++;
                break;
            }
        }
        for (uint32_t j = 0; j < count; j++) {
            touch(lives, values[j], wave);
        }
    }
    touch(lives, graph->output, wave + 1);
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

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// The lowest offset from this one on at which a value does not cross from one piece into the next.
static uint64_t within_piece(const struct hymn_graph *graph, uint64_t offset, uint64_t bytes) {
    uint64_t piece = graph->piece_bytes;
    return piece > 0 && offset / piece != (offset + bytes - 1) / piece ? (offset / piece + 1) * piece : offset;
}

// The lowest offset at which `life` fits between the values placed before it that are alive with it.
static uint64_t find_room(const struct hymn_graph *graph, const struct lifetime *lives, uint32_t placed,
                          const struct lifetime *life) {
    uint64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        offset = within_piece(graph, offset, life->bytes);
        for (uint32_t i = 0; i < placed; i++) {
            const struct lifetime *other = &lives[i];
            const struct hymn_value *value = &graph->values[other->value];
            uint64_t start = value->piece * graph->piece_bytes + value->offset, end = start + other->bytes;
            bool together = life->first <= other->last && other->first <= life->last;
            if (together && offset < end && start < offset + life->bytes) {
                offset = end;
                moved = true;
            }
        }
    }
    return offset;
}

static enum hymn_status place(struct hymn_graph *graph, const struct lifetime *life, uint64_t offset,
                              const struct hymn_log *log) {
    struct hymn_value *value = &graph->values[life->value];
    uint64_t piece = graph->piece_bytes > 0 ? offset / graph->piece_bytes : 0;
    if (piece >= HYMN_GRAPH_MAX_PIECES) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_DEVICE_MEMORY,
                         "activations: more than %d pieces of device memory are needed, of %" PRIu64
                         " bytes, the most that the device allocates at a time",
                         HYMN_GRAPH_MAX_PIECES, graph->piece_bytes);
    }
    value->piece = (uint32_t)piece;
    value->offset = offset - piece * graph->piece_bytes;
    uint64_t end = value->offset + life->bytes;
    graph->pieces[piece] = max_u64(graph->pieces[piece], end);
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_graph_plan_memory(struct hymn_graph *graph, bool alias, const struct hymn_log *log) {
    struct lifetime *lives = hymn_alloc(graph->value_count, sizeof *lives);
    if (!lives) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "memory plan: out of memory");
    }
    measure_lifetimes(graph, lives);
    measure_bytes(graph, lives);
    qsort(lives, graph->value_count, sizeof *lives, larger_first);
    memset(graph->pieces, 0, sizeof graph->pieces);
    // What the largest value takes is for those to refuse who bind and allocate it: they know of more limits.
    graph->piece_bytes = graph->piece_bytes > 0 ? max_u64(graph->piece_bytes, lives[0].bytes) : 0;
    enum hymn_status status = HYMN_STATUS_OK;
    uint64_t end = 0;
    for (uint32_t i = 0; i < graph->value_count && lives[i].bytes && status == HYMN_STATUS_OK; i++) {
        uint64_t offset = alias ? find_room(graph, lives, i, &lives[i]) : within_piece(graph, end, lives[i].bytes);
        end = offset + lives[i].bytes;
        status = place(graph, &lives[i], offset, log);
    }
    hymn_free(lives);
    graph->activation_bytes = 0;
    for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES; i++) {
        graph->activation_bytes += graph->pieces[i];
    }
    return status;
}
