// SPDX-License-Identifier: MIT
//
// From a model to a lowered program: what sessions and summaries share. Knows no Vulkan call.
#ifndef HYMN_SESSION_NETWORK_H
#define HYMN_SESSION_NETWORK_H

#include "ops/ops.h"

// The size and type a model is compiled for.
struct hymn_network_shape {
    uint32_t height, width;               // as asked for
    uint32_t padded_height, padded_width; // the next multiples of 2^(S-1)
    uint32_t batch;
    enum hymn_storage storage;
};

// Fills in defaults (0: the model's size, batch 1) and checks the ranges. INVALID_ARGUMENT.
enum hymn_status hymn_network_shape_make(const struct hymn_model *model, uint32_t height, uint32_t width,
                                         uint32_t batch, enum hymn_precision precision, const struct hymn_log *log,
                                         struct hymn_network_shape *out_shape);

// The two halves of hymn_network_build, between which methods are chosen; software devices get another graph than GPUs.
// The graph is freed with hymn_graph_free in any case. OUT_OF_MEMORY, BAD_MODEL, INTERNAL.
enum hymn_status hymn_network_make(const struct hymn_model *model, const struct hymn_network_shape *shape,
                                   const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                   struct hymn_graph *out_graph);
enum hymn_status hymn_network_place(const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                    struct hymn_graph *graph);
// Builds, optimizes, and plans the memory of a model's graph. On failure the graph is empty; in any case it is freed
// with hymn_graph_free. OUT_OF_MEMORY, INTERNAL; BAD_MODEL: a tensor is not finite any more; UNSUPPORTED: a tensor of 4
// GiB and more (names it).
enum hymn_status hymn_network_build(const struct hymn_model *model, const struct hymn_network_shape *shape,
                                    const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                    struct hymn_graph *out_graph);

// Sum of hymn_node_macs.
uint64_t hymn_network_macs(const struct hymn_graph *graph);

#endif
