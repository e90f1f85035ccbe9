// SPDX-License-Identifier: MIT
//
// A graph in plain C and double precision: what the shaders are compared with, by the self-test and by the tests.
#ifndef HYMN_SELFTEST_REFERENCE_H
#define HYMN_SELFTEST_REFERENCE_H

#include "graph/graph.h"

// Executes every node, plain or optimized, in order. values: for each value of the graph that a node reads or writes,
// [planes, batch, height, width, stride]; inputs and paddings are filled, the rest is written. Large nodes on several
// threads.
void hymn_reference_run(const struct hymn_graph *graph, double *const *values);

#endif
