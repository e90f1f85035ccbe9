// SPDX-License-Identifier: MIT
//
// Chooses by timing among the ways in which operators can compute a graph's nodes (hymn_op.list_methods), and keeps
// what was found in the device's store, for this device, driver, shaders and problem.
#ifndef HYMN_TUNE_TUNE_H
#define HYMN_TUNE_TUNE_H

#include "graph/graph.h"
#include "vk/device.h"

// Methods of a node that are timed at most.
#define HYMN_TUNE_MOST_METHODS 36u

// graph: optimized, not prepared. Gives each node the fastest method known: from the store, or, while less than
// `budget_ms` have passed, by timing: first a few for every node, several nodes at a time, the most work first; then
// all that are listed, node by node. The rest keep their operators' own rules. What is under way is finished: pipelines
// that are being made, and the trial that is being run. A node that is being timed gets one run of each trial at least,
// but, beyond a quarter of the budget more, of the operator's own choice alone; it is tried again when there is twice
// the time.
// A trial that fails costs its result, no more, and one that loses the device the node's: it keeps the operator's own
// choice from then on. Shaders are used only after their self-test (plan: the session's).
// Software devices are left alone. out_spent_ms: what timing took. DEVICE_LOST, OUT_OF_MEMORY.
enum hymn_status hymn_tune_graph(struct hymn_vk_device *device, struct hymn_vk_plan *plan, struct hymn_graph *graph,
                                 double budget_ms, double *out_spent_ms);

// Whether that would time nothing, whatever the budget: each node's method is in the store, after all were timed, or
// there is no choice.
bool hymn_tune_is_known(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, const struct hymn_graph *graph);

// Nodes of one key are the same problem to this plan.
uint64_t hymn_tune_key(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node);

#endif
