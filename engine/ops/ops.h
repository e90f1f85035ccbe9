// SPDX-License-Identifier: MIT
//
// Operators: each turns one node of an optimized graph into dispatches and packed weights. Pure: no Vulkan calls, so
// lowering is tested without a device. Adding one is a .c file, a .comp, a line of variants.txt, a row of the table in
// ops.c and a test.
#ifndef HYMN_OPS_OPS_H
#define HYMN_OPS_OPS_H

#include "graph/graph.h"
#include "vk/plan.h"
#include "vk/program.h"

// What a lowering may use.
struct hymn_lower {
    const struct hymn_graph *graph;
    const struct hymn_vk_plan *plan;
    const struct hymn_log *log;
    bool blank;              // only the steps are wanted: large weights are left zero
    enum hymn_status status; // why a helper below returned NULL
    struct hymn_vk_program program;
    struct hymn_arena arena;      // packed weights, until they are uploaded
    struct hymn_vk_write *blocks; // of them, for the buffer of role WEIGHTS
    uint32_t block_count, block_capacity;
    uint64_t weight_bytes;
    uint64_t
        counter_bytes; // of the buffer of role COUNTERS, which runs that are computed at the same time do not share
};

struct hymn_op {
    const char *name;
    // Before memory is planned: adds the node's scratch values, and has other nodes' work done by this one or not at
    // all (hymn_graph_release, hymn_graph_take_resize, hymn_graph_take_pool). May be NULL.
    enum hymn_status (*prepare)(struct hymn_graph *graph, struct hymn_node *node, const struct hymn_vk_plan *plan,
                                const struct hymn_log *log);
    enum hymn_status (*lower)(struct hymn_lower *lower, const struct hymn_node *node);
    // Lists ways to compute the node that are worth timing, at most `most`, and returns how many. from NULL: beginning
    // with the operator's own choice, then what is the most likely to be better; else those that differ from `from` in
    // little, itself not among them. Before prepare. NULL or 0: there is one way.
    uint32_t (*list_methods)(const struct hymn_graph *graph, const struct hymn_node *node,
                             const struct hymn_vk_plan *plan, const struct hymn_method *from,
                             struct hymn_method *out_methods, uint32_t most);
};

extern const struct hymn_op hymn_ops[HYMN_KIND_TABLE_SIZE];

// Storage of values that depends on what a device computes them with: to be called after hymn_graph_optimize, before
// methods are chosen, and again before hymn_ops_prepare, as it depends on them and on what the plan allows.
void hymn_ops_settle(struct hymn_graph *graph, const struct hymn_vk_plan *plan);
// Scratch of every node, and without nodes that others have no need of on this device (to be called after
// hymn_graph_optimize, before hymn_graph_plan_memory, and lowered by the same plan).
enum hymn_status hymn_ops_prepare(struct hymn_graph *graph, const struct hymn_vk_plan *plan,
                                  const struct hymn_log *log);
// Lowers every node in order. `lower` must be zero but for graph, plan, log and blank; freed by hymn_lower_free in any
// case.
enum hymn_status hymn_ops_lower(struct hymn_lower *lower);
void hymn_lower_free(struct hymn_lower *lower);

// ---------------------------------------------------------------------------------------- helpers for operator files

// Reserves zeroed room for packed weights and fills *out_binding. NULL when out of memory.
void *hymn_lower_weights(struct hymn_lower *lower, uint64_t bytes, struct hymn_vk_binding *out_binding);
// Reserves words that are zero before the step, which leaves them so.
struct hymn_vk_binding hymn_lower_counters(struct hymn_lower *lower, uint32_t count);
// Packs `count` floats as the weight storage wants it: f32, or f16 pairs (count even) when `half`. Values beyond the
// range of binary16 saturate.
void hymn_pack_weights(void *destination, const float *values, uint64_t count, bool half);
// Adds a dispatch of the named shader; NULL (logged) when out of memory or when no such shader is in the table.
// The suffix of the storage in use is appended: "conv2d_direct" + ".f16" or ".f32" (NULL suffix: as it stands).
struct hymn_vk_step *hymn_lower_dispatch(struct hymn_lower *lower, const struct hymn_node *node, const char *shader,
                                         const char *suffix);
// Whether a program for this plan may use a variant that not every device can run: what every operator asks before it
// chooses one, so that tiers and the verdicts of the self-test act here and nowhere else. Names as above.
bool hymn_variant_allowed(const struct hymn_vk_plan *plan, const char *shader, const char *suffix);
// Binds the whole of a value (all planes and images).
struct hymn_vk_binding hymn_lower_value(const struct hymn_lower *lower, uint32_t value);
// Appends a binding to the step; written: the shader writes it.
void hymn_lower_bind(struct hymn_vk_step *step, struct hymn_vk_binding binding, bool written);

// One file each.
enum hymn_status hymn_conv2d_prepare(struct hymn_graph *graph, struct hymn_node *node, const struct hymn_vk_plan *plan,
                                     const struct hymn_log *log);
enum hymn_status hymn_conv2d_lower(struct hymn_lower *lower, const struct hymn_node *node);
uint32_t hymn_conv2d_list_methods(const struct hymn_graph *graph, const struct hymn_node *node,
                                  const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                  struct hymn_method *out_methods, uint32_t most);
enum hymn_status hymn_depthwise_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_max_pool_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_resize_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_resize_taps_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_gate_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_head_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_norm_stats_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_merge_lower(struct hymn_lower *lower, const struct hymn_node *node);
enum hymn_status hymn_selective_scan_prepare(struct hymn_graph *graph, struct hymn_node *node,
                                             const struct hymn_vk_plan *plan, const struct hymn_log *log);
void hymn_selective_scan_settle(struct hymn_graph *graph, const struct hymn_node *node,
                                const struct hymn_vk_plan *plan);
enum hymn_status hymn_selective_scan_lower(struct hymn_lower *lower, const struct hymn_node *node);
uint32_t hymn_selective_scan_list_methods(const struct hymn_graph *graph, const struct hymn_node *node,
                                          const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                          struct hymn_method *out_methods, uint32_t most);

// Pre- and post-processing are not nodes: a session adds them around the network for the images of a run. See
// ops/image.h.

#endif
