// SPDX-License-Identifier: MIT
//
// Executes a graph, plain or optimized, in double precision and plain C: the reference for the builder, the passes and
// the memory plan, and a slow but independent way to a network's output.
#ifndef HYMN_TESTS_GRAPH_REFERENCE_H
#define HYMN_TESTS_GRAPH_REFERENCE_H

#include "graph/graph.h"

// input: [batch, channels, h, w] with h, w at most the graph's input size (edge-padded below and to the right); output:
// [batch, classes, h, w]. planned: values live in one arena at the offsets of the memory plan (all storage must be
// f32), so that a wrong plan shows as a wrong result. False when out of memory.
bool graph_reference_run(const struct hymn_graph *graph, const float *input, uint32_t height, uint32_t width,
                         bool planned, double *output);

#endif
