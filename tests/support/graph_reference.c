// SPDX-License-Identifier: MIT
#include "support/graph_reference.h"

#include <stdlib.h>

#include "selftest/reference.h"

struct run {
    const struct hymn_graph *graph;
    double **values; // per value: [planes, batch, height, width, stride]
    double *arena;
};

static const struct hymn_value *value_of(const struct run *run, uint32_t index) {
    return &run->graph->values[index];
}

static uint64_t index_of(const struct run *run, uint32_t value, uint32_t image, uint32_t y, uint32_t x, uint32_t c) {
    const struct hymn_value *v = value_of(run, value);
    return (((uint64_t)image * v->height + y) * v->width + x) * v->stride + c;
}

static bool make_values(struct run *run, bool planned) {
    const struct hymn_graph *graph = run->graph;
    run->values = calloc(graph->value_count, sizeof *run->values);
    uint64_t bytes = graph->piece_bytes > 0 ? HYMN_GRAPH_MAX_PIECES * graph->piece_bytes : graph->activation_bytes;
    run->arena = planned ? calloc(bytes / 4 + 1, sizeof *run->arena) : NULL;
    bool ok = run->values && (!planned || run->arena);
    for (uint32_t i = 0; i < graph->value_count && ok; i++) {
        const struct hymn_value *v = &graph->values[i];
        uint64_t count = (uint64_t)v->planes * graph->batch * v->height * v->width * v->stride;
        uint64_t offset = v->piece * graph->piece_bytes + v->offset;
        run->values[i] = planned ? run->arena + offset / 4 : calloc(count + 1, sizeof **run->values);
        ok = run->values[i];
    }
    return ok;
}

static void free_values(struct run *run, bool planned) {
    for (uint32_t i = 0; i < run->graph->value_count && run->values && !planned; i++) {
        free(run->values[i]);
    }
    free(run->values);
    free(run->arena);
}

bool graph_reference_run(const struct hymn_graph *graph, const float *input, uint32_t height, uint32_t width,
                         bool planned, double *output) {
    struct run run = {.graph = graph};
    bool ok = make_values(&run, planned);
    const struct hymn_value *in = value_of(&run, graph->input), *out = value_of(&run, graph->output);
    for (uint64_t i = 0; ok && i < (uint64_t)graph->batch * in->height * in->width * in->channels; i++) {
        uint32_t c = (uint32_t)(i % in->channels), x = (uint32_t)(i / in->channels % in->width);
        uint32_t y = (uint32_t)(i / in->channels / in->width % in->height);
        uint32_t image = (uint32_t)(i / in->channels / in->width / in->height);
        uint32_t from_y = y < height ? y : height - 1, from_x = x < width ? x : width - 1;
        uint64_t from = (((uint64_t)image * in->channels + c) * height + from_y) * width + from_x;
        run.values[graph->input][index_of(&run, graph->input, image, y, x, c)] = input[from];
    }
    if (ok) {
        hymn_reference_run(graph, run.values);
    }
    for (uint64_t i = 0; ok && i < (uint64_t)graph->batch * out->channels * height * width; i++) {
        uint32_t x = (uint32_t)(i % width), y = (uint32_t)(i / width % height);
        uint32_t c = (uint32_t)(i / width / height % out->channels);
        uint32_t image = (uint32_t)(i / width / height / out->channels);
        output[i] = run.values[graph->output][index_of(&run, graph->output, image, y, x, c)];
    }
    free_values(&run, planned);
    return ok;
}
