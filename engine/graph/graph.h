// SPDX-License-Identifier: MIT
//
// The network as a list of nodes in execution order over activation tensors ("values"). A builder (model/hymunet.c)
// emits plain operators; the passes fold and fuse them until only the kinds with a row in the operator table are left.
// Knows no Vulkan.
#ifndef HYMN_GRAPH_GRAPH_H
#define HYMN_GRAPH_GRAPH_H

#include "base/alloc.h"
#include "base/log.h"

#define HYMN_NONE UINT32_MAX

enum hymn_storage { HYMN_STORAGE_F32 = 0, HYMN_STORAGE_F16 = 1 };

// An activation tensor: [planes, batch, height, width, stride] of `storage`; channels beyond `channels` (of a value or
// of a part of it: see hymn_source) are zero. stride is a multiple of 8.
struct hymn_value {
    const char *name;
    uint32_t height, width, channels, stride;
    uint32_t planes; // 1; 4 for the directions of a selective scan
    enum hymn_storage storage;
    uint64_t bytes; // of all planes and the whole batch
    // Set by the memory plan: the piece of the activations' memory and where in it, a multiple of 256.
    uint32_t piece;
    uint64_t offset;
};

// Part of a value: `channels` channels from `first` (a multiple of 8) on.
struct hymn_source {
    uint32_t value; // index, or HYMN_NONE
    uint32_t first, channels;
};

enum hymn_kind {
    // Left after the passes: one row of the operator table each.
    HYMN_KIND_CONV2D = 0, // fused convolution or GEMM, see below
    HYMN_KIND_MAX_POOL,   // 2x2, stride 2. terms[0]
    HYMN_KIND_RESIZE,     // bilinear, exactly x2, half-pixel centres, edges clamped. terms[0]
    // What is left of a RESIZE and the convolution of kernel 3 behind it, when the products have been made before: the
    // nine maps of terms[0] are what each tap (row-major) makes of the source, each padded to a multiple of 8 channels.
    // out = sum over taps of the tap's map, resized, at the pixel that the tap reads, zero outside.
    HYMN_KIND_RESIZE_TAPS,
    HYMN_KIND_DEPTHWISE,      // 3x3, stride 1, zero padding, + bias, activation. terms[0]
    HYMN_KIND_NORM_STATS,     // terms[0] -> output [pixel]{mean, 1/sqrt(var + 1e-5)}; kernel 2: over each 2x2 cell
    HYMN_KIND_SELECTIVE_SCAN, // terms[0] = u, terms[1] = [dt|B|C] of four directions -> output with 4 planes
    HYMN_KIND_MERGE,          // LN(sum of the 4 planes of terms[0]) * SiLU(terms[1])
    HYMN_KIND_GATE,           // terms[0] = e, terms[1] = g at half size -> e * sigmoid(resize(g)) + e
    HYMN_KIND_HEAD, // 1x1 convolution of terms[0] to at most HYMN_HEAD_MAX_CLASSES channels of f32, the logits
    HYMN_KIND_TABLE_SIZE,
    // Gone after the passes.
    HYMN_KIND_BATCH_NORM = HYMN_KIND_TABLE_SIZE,
    HYMN_KIND_ACTIVATION,
    HYMN_KIND_ADD,        // terms[0] + terms[1]
    HYMN_KIND_CONCAT,     // terms[0], terms[1] on channels
    HYMN_KIND_LAYER_NORM, // terms[0]; kernel 2: over 2x2 cells, as the patch merging that follows reads them
    HYMN_KIND_DEAD        // removed by a pass
};

enum { HYMN_HEAD_MAX_CLASSES = 8, HYMN_HEAD_MAX_ROWS = (1 << 21) - 1 }; // rows: of all images

enum hymn_activation { HYMN_ACTIVATION_NONE = 0, HYMN_ACTIVATION_RELU = 1, HYMN_ACTIVATION_SILU = 2 };

enum hymn_prologue {
    HYMN_PROLOGUE_NONE = 0,
    HYMN_PROLOGUE_NORM = 1 // x -> (x - mean) * rstd; the affine part is folded into weights and bias
};

// One input of a node; of a convolution, one summand.
struct hymn_term {
    struct hymn_source source;
    uint32_t kernel; // 1; 3 ("same", zero padding); 2: stride 2, taps in the order (row, col) (0,0) (1,0) (0,1) (1,1)
    const float *weights; // CONV2D, HEAD: [out_channels][taps][source.channels], taps row-major for kernel 3
};

// One of the ways in which an operator can compute a node. What the words mean is the operator's own.
struct hymn_method {
    uint32_t words[9];
};

struct hymn_node {
    enum hymn_kind kind;
    const char *name;
    struct hymn_term terms[3];
    uint32_t term_count;
    uint32_t output;     // value
    uint32_t scratch[3]; // values that live during this node only; HYMN_NONE
    bool tuned;          // to be computed by `method`, else by the operator's own rule
    struct hymn_method method;

    // CONV2D: out = activation(sum over terms + bias + residual). DEPTHWISE: weights [9][C] in terms[0]. HEAD:
    // out_channels, one part, bias.
    uint32_t out_channels;
    // Where several matrices stand beside each other in one GEMM ([u|z], [gate|shortcut], four directions), each part
    // but the last is padded to a multiple of 8 in the output; part_count = 1 and parts[0] = out_channels otherwise.
    // Weights have sum(parts) rows = out_channels; row r of part p goes to channel hymn_node_part_first(p) + r.
    uint32_t parts[4], part_count;
    const float *bias; // [out_channels] or NULL
    enum hymn_activation activation;
    struct hymn_source residual; // value HYMN_NONE: none
    bool residual_resize;        // residual has half the output's size and is resized bilinearly
    enum hymn_prologue prologue; // of terms[0], the only term
    // Value [height, width, 2 channels] f32 that the prologue reads; HYMN_NONE where the operator has come to find the
    // statistics by itself.
    uint32_t stats;
    // CONV2D of two terms, both of kernel 3: what the second is the RESIZE of, which nothing else reads; value
    // HYMN_NONE: of nothing. resizes: the operator has come to resize it by itself (hymn_graph_take_resize), as the
    // term's source.
    struct hymn_source low;
    bool resizes;
    // CONV2D: the value that is the MAX_POOL of all of the output, and the same where this node has come to write it by
    // itself (hymn_graph_take_pool); or HYMN_NONE.
    uint32_t pool, pooled;
    // CONV2D of two parts: the value that is the DEPTHWISE of the first part of its output, which nothing else reads,
    // and the same where this node has come to write it by itself (hymn_graph_take_depthwise) and that part no more; or
    // HYMN_NONE. The weights [9][C], bias and activation are the depthwise node's.
    uint32_t depthwise, convolved;
    const float *depthwise_weights, *depthwise_bias;
    enum hymn_activation depthwise_activation;
    const float *gamma, *beta;    // [channels]: MERGE's; of the norms before the passes
    const float *mean, *variance; // BATCH_NORM's

    // SELECTIVE_SCAN: D = terms[0].source.channels
    uint32_t d_state, dt_rank;
    const float *dt_weights, *dt_bias; // [4][D][dt_rank], [4][D]
    const float *a, *d;                // [4][D][d_state] = -exp(A_logs); [4][D]
};

// With 64 channels it makes no difference on an H200 (f16), where, by bytes and operations, fewer lose; software
// devices, which compute more slowly and load no less, gain with 64 (a tenth of such a stage) and not with 32.
enum { HYMN_GRAPH_MAX_PIECES = 8, HYMN_GRAPH_TAPS_FROM = 128, HYMN_GRAPH_TAPS_FROM_SOFTWARE = 64 };

struct hymn_graph {
    struct hymn_arena arena; // nodes' names and folded weights
    struct hymn_value *values;
    struct hymn_node *nodes;
    uint32_t value_count, value_capacity, node_count, node_capacity;
    uint32_t input, output; // values: [Hp, Wp, in_channels] and logits [Hp, Wp, num_classes] f32
    uint32_t batch;
    enum hymn_storage storage; // of activations that have no reason to be 32-bit
    // Channels from which on what is resized for a 3x3 convolution is multiplied before; at first HYMN_GRAPH_TAPS_FROM.
    uint32_t taps_from;
    // The activations' memory, after the plan: pieces of at most piece_bytes (set before, and raised to what the
    // largest value takes; 0: one piece, however large).
    uint64_t piece_bytes, pieces[HYMN_GRAPH_MAX_PIECES];
    uint64_t activation_bytes; // of all pieces
    uint64_t activation_bytes_unaliased;
};

static inline uint32_t hymn_divide_up(uint32_t a, uint32_t b) {
    return (a + b - 1) / b;
}

static inline uint32_t hymn_round_up(uint32_t value, uint32_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// First output channel of part `part`.
static inline uint32_t hymn_node_part_first(const struct hymn_node *node, uint32_t part) {
    uint32_t first = 0;
    for (uint32_t i = 0; i < part; i++) {
        first += hymn_round_up(node->parts[i], 8);
    }
    return first;
}

void hymn_graph_init(struct hymn_graph *graph, uint32_t batch, enum hymn_storage storage);
void hymn_graph_free(struct hymn_graph *graph);

// Adds a value and returns its index, or HYMN_NONE when out of memory. name is not copied.
uint32_t hymn_graph_add_value(struct hymn_graph *graph, const char *name, uint32_t height, uint32_t width,
                              uint32_t channels, enum hymn_storage storage);
// Adds a node (name copied), its fields zeroed but for the ids, which are HYMN_NONE. NULL when out of memory; valid
// until the next one is added.
struct hymn_node *hymn_graph_add_node(struct hymn_graph *graph, enum hymn_kind kind, const char *name);

// Whether a node's weights are a convolution's, [out_channels][taps][channels] in each term.
static inline bool hymn_node_is_convolution(const struct hymn_node *node) {
    return node->kind == HYMN_KIND_CONV2D || node->kind == HYMN_KIND_HEAD;
}

// How many inputs of a node are `value`; none of a dead one's.
uint32_t hymn_node_reads(const struct hymn_node *node, uint32_t value);
// Multiply-adds per run of one node: convolutions and GEMMs only.
uint64_t hymn_node_macs(const struct hymn_graph *graph, const struct hymn_node *node);
const char *hymn_kind_name(enum hymn_kind kind);

// passes.c: folds and fuses until only table kinds are left. OUT_OF_MEMORY, INTERNAL.
enum hymn_status hymn_graph_optimize(struct hymn_graph *graph, const struct hymn_log *log);

// A node no longer reads `value`: marks the node that computes it, and nothing else, as dead if no other reads it.
void hymn_graph_release(struct hymn_graph *graph, uint32_t value);
// A convolution that has `low` resizes it by itself from here on, and the node that did is dead. The node may be a copy
// of one of the graph's, for which that goes on.
void hymn_graph_take_resize(struct hymn_graph *graph, struct hymn_node *node);
// A convolution that has `pool` writes it from here on, and the node that did is dead. The node as above.
void hymn_graph_take_pool(struct hymn_graph *graph, struct hymn_node *node);
// A convolution that has `depthwise` writes it from here on, and the node that did is dead. The node as above.
void hymn_graph_take_depthwise(struct hymn_graph *graph, struct hymn_node *node);
// Drops dead nodes; the others keep their order.
void hymn_graph_drop_dead(struct hymn_graph *graph);

// memory.c: gives every value a place such that values alive at the same time do not overlap. `alias` false: no
// sharing at all (tests). OUT_OF_DEVICE_MEMORY: more than HYMN_GRAPH_MAX_PIECES would be needed.
enum hymn_status hymn_graph_plan_memory(struct hymn_graph *graph, bool alias, const struct hymn_log *log);

#endif
