// SPDX-License-Identifier: MIT
//
// The passes that turn the builder's plain operators into the kinds of the operator table. Each is a rewrite of one
// pattern; their order in hymn_graph_optimize matters and is explained there.
#include "graph/graph.h"

#include <math.h>
#include <string.h>

// ------------------------------------------------------------------------------------------------------- navigation

static struct hymn_node *producer(struct hymn_graph *graph, uint32_t value) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        if (node->kind != HYMN_KIND_DEAD && node->output == value) {
            return node;
        }
    }
    return NULL;
}

// How many inputs of living nodes read `value`.
static uint32_t use_count(const struct hymn_graph *graph, uint32_t value) {
    uint32_t count = value == graph->output;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        count += hymn_node_reads(&graph->nodes[i], value);
    }
    return count;
}

// The convolution behind `source` if nothing else reads it, the source is all of its output, and nothing has been
// added to it yet; or NULL.
static struct hymn_node *plain_conv(struct hymn_graph *graph, const struct hymn_source *source) {
    struct hymn_node *node = producer(graph, source->value);
    bool plain = node && node->kind == HYMN_KIND_CONV2D && node->activation == HYMN_ACTIVATION_NONE &&
                 node->residual.value == HYMN_NONE && node->part_count == 1 && source->first == 0 &&
                 source->channels == node->out_channels && use_count(graph, source->value) == 1;
    return plain ? node : NULL;
}

static uint64_t term_columns(const struct hymn_term *term) {
    return (uint64_t)term->kernel * term->kernel * term->source.channels;
}

// -------------------------------------------------------------------------------------------------------- weights

// A writable copy of a node's bias (zeros where it has none); NULL when out of memory.
static float *copy_bias(struct hymn_graph *graph, const struct hymn_node *node) {
    float *bias = hymn_arena_alloc(&graph->arena, node->out_channels, sizeof *bias);
    if (bias && node->bias) {
        memcpy(bias, node->bias, node->out_channels * sizeof *bias);
    }
    return bias;
}

// Columns [first, first + count) of each of `rows_taps` blocks of `width` columns.
static float *copy_columns(struct hymn_graph *graph, const float *weights, uint64_t rows_taps, uint32_t width,
                           uint32_t first, uint32_t count) {
    float *part = hymn_arena_alloc(&graph->arena, rows_taps * count, sizeof *part);
    for (uint64_t i = 0; part && i < rows_taps; i++) {
        memcpy(part + i * count, weights + i * width + first, count * sizeof *part);
    }
    return part;
}

// --------------------------------------------------------------------------------------------------------- patterns
// Each returns false when out of memory only.

// BN(conv(x)) = conv'(x): rows scaled by gamma / sqrt(var + eps), bias beta - mean * scale.
static bool fold_batch_norm(struct hymn_graph *graph, struct hymn_node *node) {
    struct hymn_node *conv = plain_conv(graph, &node->terms[0].source);
    if (!conv) {
        return true;
    }
    float *bias = copy_bias(graph, conv);
    if (!bias) {
        return false;
    }
    for (uint32_t t = 0; t < conv->term_count; t++) {
        uint64_t columns = term_columns(&conv->terms[t]);
        float *weights = hymn_arena_alloc(&graph->arena, conv->out_channels * columns, sizeof *weights);
        if (!weights) {
            return false;
        }
        for (uint32_t row = 0; row < conv->out_channels; row++) {
            double scale = node->gamma[row] / sqrt((double)node->variance[row] + 1e-5);
            for (uint64_t i = row * columns; i < (row + 1) * columns; i++) {
                weights[i] = (float)(conv->terms[t].weights[i] * scale);
            }
        }
        conv->terms[t].weights = weights;
    }
    for (uint32_t row = 0; row < conv->out_channels; row++) {
        double scale = node->gamma[row] / sqrt((double)node->variance[row] + 1e-5);
        bias[row] = (float)((bias[row] - (double)node->mean[row]) * scale + node->beta[row]);
    }
    conv->bias = bias;
    conv->output = node->output;
    node->kind = HYMN_KIND_DEAD;
    return true;
}

// conv(concat(a, b)) = conv_a(a) + conv_b(b): two terms, and the concatenation is never made.
static bool split_concat(struct hymn_graph *graph, struct hymn_node *node) {
    const struct hymn_term whole = node->terms[0];
    const struct hymn_node *concat = producer(graph, whole.source.value);
    if (!concat || concat->kind != HYMN_KIND_CONCAT || node->term_count != 1) {
        return true;
    }
    uint64_t rows_taps = (uint64_t)node->out_channels * whole.kernel * whole.kernel;
    uint32_t first = 0;
    for (uint32_t t = 0; t < 2; t++) {
        struct hymn_source source = concat->terms[t].source;
        float *weights = copy_columns(graph, whole.weights, rows_taps, whole.source.channels, first, source.channels);
        if (!weights) {
            return false;
        }
        node->terms[t] = (struct hymn_term){.source = source, .kernel = whole.kernel, .weights = weights};
        first += source.channels;
    }
    node->term_count = 2;
    return true;
}

// conv(x) + conv(y) = one convolution with the terms of both; conv(x) + y = a convolution with a residual.
static bool fuse_add(struct hymn_graph *graph, struct hymn_node *node) {
    struct hymn_node *conv = plain_conv(graph, &node->terms[0].source);
    if (!conv) {
        return true;
    }
    struct hymn_node *other = plain_conv(graph, &node->terms[1].source);
    if (other && other != conv && other->prologue == HYMN_PROLOGUE_NONE && conv->prologue == HYMN_PROLOGUE_NONE &&
        conv->term_count + other->term_count <= 3) {
        float *bias = copy_bias(graph, conv);
        if (!bias) {
            return false;
        }
        for (uint32_t i = 0; other->bias && i < conv->out_channels; i++) {
            bias[i] += other->bias[i];
        }
        conv->bias = bias;
        memcpy(conv->terms + conv->term_count, other->terms, other->term_count * sizeof *conv->terms);
        conv->term_count += other->term_count;
        other->kind = HYMN_KIND_DEAD;
    } else {
        conv->residual = node->terms[1].source;
    }
    conv->output = node->output;
    node->kind = HYMN_KIND_DEAD;
    return true;
}

static bool fuse_activation(struct hymn_graph *graph, struct hymn_node *node) {
    struct hymn_node *conv = producer(graph, node->terms[0].source.value);
    if (conv && conv->kind == HYMN_KIND_CONV2D && conv->activation == HYMN_ACTIVATION_NONE &&
        use_count(graph, conv->output) == 1) {
        conv->activation = node->activation;
        conv->output = node->output;
        node->kind = HYMN_KIND_DEAD;
    }
    return true;
}

// The resize whose output term `t` of a convolution reads, where the term has that kernel; or NULL.
static struct hymn_node *resized_term(struct hymn_graph *graph, const struct hymn_node *conv, uint32_t t,
                                      uint32_t kernel) {
    struct hymn_node *resize = producer(graph, conv->terms[t].source.value);
    return conv->terms[t].kernel == kernel && resize && resize->kind == HYMN_KIND_RESIZE ? resize : NULL;
}

// Moves a node behind a later one, unless one up to there reads what it computes.
static void move_behind(struct hymn_node *node, struct hymn_node *later) {
    for (struct hymn_node *other = node + 1; other <= later; other++) {
        if (hymn_node_reads(other, node->output)) {
            return;
        }
    }
    struct hymn_node moved = *node;
    memmove(node, node + 1, (size_t)(later - node) * sizeof moved);
    *later = moved;
}

// sigmoid gate of conv1x1(resize(d)) = gate of resize(conv1x1(d)): the convolution runs on a quarter of the pixels. As
// the two do not need each other then, and the gate needs the convolution first, the resize comes behind: on a device
// that runs them beside each other, what is left of it takes less than what would be left of the convolution.
static bool lower_gate(struct hymn_graph *graph, struct hymn_node *node) {
    struct hymn_node *conv = plain_conv(graph, &node->terms[1].source);
    struct hymn_node *resize = conv && conv->term_count == 1 ? resized_term(graph, conv, 0, 1) : NULL;
    if (resize) {
        struct hymn_value *output = &graph->values[conv->output];
        output->height /= 2;
        output->width /= 2;
        conv->terms[0].source = resize->terms[0].source;
        move_behind(resize, conv);
    }
    return true;
}

// A new node at position `at`; the nodes from there on move up by one.
static struct hymn_node *insert_node(struct hymn_graph *graph, uint32_t at, enum hymn_kind kind, const char *name) {
    if (!hymn_graph_add_node(graph, kind, name)) {
        return NULL;
    }
    struct hymn_node made = graph->nodes[graph->node_count - 1];
    memmove(graph->nodes + at + 1, graph->nodes + at, (graph->node_count - 1 - at) * sizeof made);
    graph->nodes[at] = made;
    return &graph->nodes[at];
}

// Adds `rows` rows (weights [rows][columns], no bias) to a 1x1 convolution as another part of its output.
static bool append_part(struct hymn_graph *graph, struct hymn_node *conv, const float *more, uint32_t rows) {
    uint32_t old_rows = conv->out_channels;
    uint64_t columns = conv->terms[0].source.channels;
    float *weights = hymn_arena_alloc(&graph->arena, (old_rows + rows) * columns, sizeof *weights);
    float *bias = hymn_arena_alloc(&graph->arena, old_rows + rows, sizeof *bias);
    if (!weights || !bias) {
        return false;
    }
    memcpy(weights, conv->terms[0].weights, old_rows * columns * sizeof *weights);
    memcpy(weights + old_rows * columns, more, rows * columns * sizeof *weights);
    if (conv->bias) {
        memcpy(bias, conv->bias, old_rows * sizeof *bias);
    }
    conv->terms[0].weights = weights;
    conv->bias = bias;
    conv->parts[conv->part_count++] = rows;
    conv->out_channels = old_rows + rows;
    struct hymn_value *output = &graph->values[conv->output];
    output->stride = hymn_node_part_first(conv, conv->part_count);
    output->channels = output->stride;
    return true;
}

// A product of the same source before the end-th node that has room for another part, as the gate's at low resolution;
// or NULL.
static struct hymn_node *sibling_product(struct hymn_graph *graph, const struct hymn_source *source, uint32_t end) {
    for (uint32_t i = 0; i < end; i++) {
        struct hymn_node *node = &graph->nodes[i];
        const struct hymn_source *other = &node->terms[0].source;
        if (node->kind == HYMN_KIND_CONV2D && node->term_count == 1 && node->terms[0].kernel == 1 &&
            node->part_count < sizeof node->parts / sizeof *node->parts && node->activation == HYMN_ACTIVATION_NONE &&
            node->residual.value == HYMN_NONE && other->value == source->value && other->first == source->first &&
            other->channels == source->channels) {
            return node;
        }
    }
    return NULL;
}

// Adds `rows` rows of a product of `source` before the node at *index: to a product of it that there is already, or in
// a new one, named after the node. Returns where the product goes; value HYMN_NONE when out of memory.
static struct hymn_source add_product(struct hymn_graph *graph, uint32_t *index, struct hymn_source source,
                                      const float *weights, uint32_t rows, const char *name) {
    struct hymn_node *product = sibling_product(graph, &source, *index);
    struct hymn_source made = {HYMN_NONE, 0, rows};
    if (product) {
        made.first = hymn_node_part_first(product, product->part_count);
        made.value = append_part(graph, product, weights, rows) ? product->output : HYMN_NONE;
        return made;
    }
    const struct hymn_value low = graph->values[source.value];
    uint32_t output =
        hymn_graph_add_value(graph, graph->nodes[*index].name, low.height, low.width, rows, graph->storage);
    product = output == HYMN_NONE ? NULL : insert_node(graph, *index, HYMN_KIND_CONV2D, graph->nodes[*index].name);
    if (!product) {
        return made;
    }
    ++*index;
    product->name = hymn_arena_printf(&graph->arena, "%s.%s", product->name, name);
    product->terms[0] = (struct hymn_term){source, 1, weights};
    product->term_count = product->part_count = 1;
    product->out_channels = product->parts[0] = rows;
    product->output = output;
    made.value = product->name ? output : HYMN_NONE;
    return made;
}

// relu(conv3x3(y) + conv1x1(e) + conv1x1(resize(d))) = relu(conv3x3(y) + conv1x1(e) + resize(conv1x1(d))). Where the
// skip has a gate, whose convolution reads the same d, the two become parts of one GEMM.
static bool lower_shortcut(struct hymn_graph *graph, uint32_t index) {
    const struct hymn_node *node = &graph->nodes[index];
    uint32_t t = node->term_count - 1;
    const struct hymn_node *resize = t > 0 ? resized_term(graph, node, t, 1) : NULL;
    if (!resize || node->residual.value != HYMN_NONE) {
        return true;
    }
    struct hymn_source residual =
        add_product(graph, &index, resize->terms[0].source, node->terms[t].weights, node->out_channels, "shortcut");
    graph->nodes[index].residual = residual;
    graph->nodes[index].residual_resize = true;
    graph->nodes[index].term_count--;
    return residual.value != HYMN_NONE;
}

// A 3x3 convolution's weights [rows][9][columns] as those of a product, [9][padded rows][columns], the others zero.
static float *taps_apart(struct hymn_graph *graph, const struct hymn_term *term, uint32_t rows) {
    uint64_t columns = term->source.channels, padded = hymn_round_up(rows, 8);
    float *weights = hymn_arena_alloc(&graph->arena, 9 * padded * columns, sizeof *weights);
    for (uint64_t row = 0; weights && row < rows; row++) {
        for (uint64_t tap = 0; tap < 9; tap++) {
            memcpy(weights + (tap * padded + row) * columns, term->weights + (row * 9 + tap) * columns,
                   columns * sizeof *weights);
        }
    }
    return weights;
}

// conv3x3(e) + conv3x3(resize(d)) = conv3x3(e) + the sum over taps of resize(conv1x1(d)), each shifted by its tap: a
// quarter of the multiply-adds of d's. The nine products become parts of one GEMM, beside the gate's.
static bool lower_taps(struct hymn_graph *graph, uint32_t index) {
    const struct hymn_node *node = &graph->nodes[index];
    const struct hymn_node *resize = node->term_count == 2 ? resized_term(graph, node, 1, 3) : NULL;
    if (!resize || node->terms[0].kernel != 3 || node->residual.value != HYMN_NONE || node->part_count != 1 ||
        node->terms[1].source.channels < graph->taps_from) {
        return true;
    }
    const uint32_t channels = node->out_channels, padded = hymn_round_up(channels, 8);
    float *weights = taps_apart(graph, &node->terms[1], channels);
    if (!weights) {
        return false;
    }
    struct hymn_source taps = add_product(graph, &index, resize->terms[0].source, weights, 9 * padded, "taps");
    const struct hymn_value whole = graph->values[graph->nodes[index].output];
    uint32_t output =
        hymn_graph_add_value(graph, graph->nodes[index].name, whole.height, whole.width, channels, graph->storage);
    if (taps.value == HYMN_NONE || output == HYMN_NONE) {
        return false;
    }
    struct hymn_node *sum = insert_node(graph, index, HYMN_KIND_RESIZE_TAPS, graph->nodes[index].name);
    if (!sum) {
        return false;
    }
    index++;
    sum->name = hymn_arena_printf(&graph->arena, "%s.up", sum->name);
    sum->terms[0].source = taps;
    sum->term_count = 1;
    sum->output = output;
    graph->nodes[index].residual = (struct hymn_source){output, 0, channels};
    graph->nodes[index].term_count = 1;
    return sum->name != NULL;
}

// The only reader of `value`, if it is a convolution whose one term it is; or NULL.
static struct hymn_node *sole_reader(struct hymn_graph *graph, uint32_t value) {
    for (uint32_t i = 0; i < graph->node_count && use_count(graph, value) == 1; i++) {
        struct hymn_node *node = &graph->nodes[i];
        if (node->kind == HYMN_KIND_CONV2D && node->term_count == 1 && node->terms[0].source.value == value) {
            return node;
        }
    }
    return NULL;
}

static uint32_t add_stats(struct hymn_graph *graph, const struct hymn_node *node, uint32_t like) {
    uint32_t height = graph->values[like].height, width = graph->values[like].width;
    uint32_t stats = hymn_graph_add_value(graph, node->name, height, width, 2, HYMN_STORAGE_F32);
    if (stats != HYMN_NONE) {
        graph->values[stats].stride = 2;
    }
    return stats;
}

// W LN(x) + b = (W gamma) xhat + (b + W beta): LN leaves statistics for the convolution's prologue.
static bool fuse_layer_norm(struct hymn_graph *graph, struct hymn_node *node) {
    struct hymn_node *conv = sole_reader(graph, node->output);
    if (!conv || conv->terms[0].kernel != 1) {
        return true;
    }
    uint32_t columns = conv->terms[0].source.channels;
    float *bias = copy_bias(graph, conv);
    float *weights = hymn_arena_alloc(&graph->arena, (uint64_t)conv->out_channels * columns, sizeof *weights);
    uint32_t stats = add_stats(graph, node, node->output);
    if (!bias || !weights || stats == HYMN_NONE) {
        return false;
    }
    for (uint32_t row = 0; row < conv->out_channels; row++) {
        const float *from = conv->terms[0].weights + (uint64_t)row * columns;
        double sum = bias[row];
        for (uint32_t i = 0; i < columns; i++) {
            weights[(uint64_t)row * columns + i] = from[i] * node->gamma[i];
            sum += (double)from[i] * node->beta[i];
        }
        bias[row] = (float)sum;
    }
    conv->bias = bias;
    conv->terms[0] = (struct hymn_term){node->terms[0].source, node->terms[0].kernel, weights};
    conv->prologue = HYMN_PROLOGUE_NORM;
    conv->stats = stats;
    node->kind = HYMN_KIND_NORM_STATS;
    node->output = stats;
    return true;
}

// The logits' convolution, if it is a plain product of a pixel for few classes: memory is all that it needs, and what
// follows may go on from its source.
static void find_head(struct hymn_graph *graph) {
    struct hymn_node *node = producer(graph, graph->output);
    if (node && node->kind == HYMN_KIND_CONV2D && node->term_count == 1 && node->terms[0].kernel == 1 &&
        node->out_channels <= HYMN_HEAD_MAX_CLASSES && node->part_count == 1 &&
        node->activation == HYMN_ACTIVATION_NONE && node->prologue == HYMN_PROLOGUE_NONE &&
        node->residual.value == HYMN_NONE && graph->batch * graph->values[graph->output].height <= HYMN_HEAD_MAX_ROWS &&
        graph->values[graph->output].storage == HYMN_STORAGE_F32 && use_count(graph, graph->output) == 1) {
        node->kind = HYMN_KIND_HEAD;
    }
}

// ------------------------------------------------------------------------------------------------------------ order

static bool lower_shortcut_of(struct hymn_graph *graph, struct hymn_node *node) {
    return lower_shortcut(graph, (uint32_t)(node - graph->nodes));
}

static bool lower_taps_of(struct hymn_graph *graph, struct hymn_node *node) {
    return lower_taps(graph, (uint32_t)(node - graph->nodes));
}

// Applies a pattern to every node of a kind.
static bool rewrite(struct hymn_graph *graph, enum hymn_kind kind,
                    bool (*pattern)(struct hymn_graph *graph, struct hymn_node *node)) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        uint32_t count = graph->node_count;
        if (graph->nodes[i].kind == kind && !pattern(graph, &graph->nodes[i])) {
            return false;
        }
        i += graph->node_count - count; // nodes inserted before this one
    }
    return true;
}

void hymn_graph_release(struct hymn_graph *graph, uint32_t value) {
    struct hymn_node *node = producer(graph, value);
    if (node && use_count(graph, value) == 0) {
        node->kind = HYMN_KIND_DEAD;
    }
}

// The node of that kind all of whose output is the source, or NULL.
static struct hymn_node *maker(struct hymn_graph *graph, const struct hymn_source *source, enum hymn_kind kind) {
    struct hymn_node *found = producer(graph, source->value);
    bool whole = found && source->first == 0 && source->channels == graph->values[source->value].channels;
    return whole && found->kind == kind ? found : NULL;
}

// Fills in what is resized for a decoder's first convolution.
static void find_resizes(struct hymn_graph *graph) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct hymn_node *node = &graph->nodes[i];
        bool wide = node->kind == HYMN_KIND_CONV2D && node->term_count == 2 && node->terms[0].kernel == 3 &&
                    node->terms[1].kernel == 3 && node->residual.value == HYMN_NONE;
        const struct hymn_node *resize = wide ? maker(graph, &node->terms[1].source, HYMN_KIND_RESIZE) : NULL;
        if (resize && use_count(graph, resize->output) == 1) {
            node->low = resize->terms[0].source;
        }
    }
}

// Fills in what is pooled of a convolution's output.
static void find_pools(struct hymn_graph *graph) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *pool = &graph->nodes[i];
        struct hymn_node *conv =
            pool->kind == HYMN_KIND_MAX_POOL ? maker(graph, &pool->terms[0].source, HYMN_KIND_CONV2D) : NULL;
        if (conv) {
            conv->pool = pool->output;
        }
    }
}

// How many nodes read channels of `value` before the end-th.
static uint32_t readers_before(const struct hymn_graph *graph, uint32_t value, uint32_t end) {
    uint32_t count = value == graph->output;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        bool reads = node->residual.value == value && node->residual.first < end;
        for (uint32_t t = 0; t < node->term_count; t++) {
            reads = reads || (node->terms[t].source.value == value && node->terms[t].source.first < end);
        }
        count += reads && node->kind != HYMN_KIND_DEAD;
    }
    return count;
}

// Fills in what is convolved in depth of the first part of a product's output.
static void find_depthwise(struct hymn_graph *graph) {
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *depthwise = &graph->nodes[i];
        const struct hymn_source *source = &depthwise->terms[0].source;
        struct hymn_node *conv = depthwise->kind == HYMN_KIND_DEPTHWISE ? producer(graph, source->value) : NULL;
        if (conv && conv->kind == HYMN_KIND_CONV2D && conv->part_count == 2 && source->first == 0 &&
            source->channels == conv->parts[0] && conv->parts[0] % 8 == 0 &&
            readers_before(graph, source->value, conv->parts[0]) == 1) {
            conv->depthwise = depthwise->output;
            conv->depthwise_weights = depthwise->terms[0].weights;
            conv->depthwise_bias = depthwise->bias;
            conv->depthwise_activation = depthwise->activation;
        }
    }
}

void hymn_graph_take_resize(struct hymn_graph *graph, struct hymn_node *node) {
    uint32_t resized = node->terms[1].source.value;
    node->resizes = true;
    node->terms[1].source = node->low;
    hymn_graph_release(graph, resized);
}

// The node that makes the value is dead where another of the graph's does now.
static void retire(struct hymn_graph *graph, uint32_t value) {
    struct hymn_node *before = producer(graph, value);
    for (uint32_t i = 0; before && i < graph->node_count; i++) { // none of these is a copy
        const struct hymn_node *node = &graph->nodes[i];
        before->kind = node->pooled == value || node->convolved == value ? HYMN_KIND_DEAD : before->kind;
    }
}

void hymn_graph_take_pool(struct hymn_graph *graph, struct hymn_node *node) {
    node->pooled = node->pool;
    retire(graph, node->pool);
}

void hymn_graph_take_depthwise(struct hymn_graph *graph, struct hymn_node *node) {
    node->convolved = node->depthwise;
    retire(graph, node->depthwise);
}

void hymn_graph_drop_dead(struct hymn_graph *graph) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i].kind != HYMN_KIND_DEAD) {
            graph->nodes[kept++] = graph->nodes[i];
        }
    }
    graph->node_count = kept;
}

// Drops dead nodes and those whose outputs nothing reads.
static void sweep(struct hymn_graph *graph) {
    for (uint32_t i = graph->node_count; i-- > 0;) {
        struct hymn_node *node = &graph->nodes[i];
        bool read = node->kind != HYMN_KIND_DEAD && use_count(graph, node->output) > 0;
        if (!read) {
            node->kind = HYMN_KIND_DEAD;
        }
    }
    hymn_graph_drop_dead(graph);
}

enum hymn_status hymn_graph_optimize(struct hymn_graph *graph, const struct hymn_log *log) {
    // BN first, as it hides that a convolution's output is a plain sum. Concatenations before additions, so that a
    // shortcut's halves are terms of their own; activations after additions; resizes last, when each convolution has
    // found its final terms, those of kernel 3 first, so that a shortcut's product finds theirs before it.
    bool ok = rewrite(graph, HYMN_KIND_BATCH_NORM, fold_batch_norm) && rewrite(graph, HYMN_KIND_CONV2D, split_concat) &&
              rewrite(graph, HYMN_KIND_ADD, fuse_add) && rewrite(graph, HYMN_KIND_ACTIVATION, fuse_activation) &&
              rewrite(graph, HYMN_KIND_GATE, lower_gate) && rewrite(graph, HYMN_KIND_CONV2D, lower_taps_of) &&
              rewrite(graph, HYMN_KIND_CONV2D, lower_shortcut_of) &&
              rewrite(graph, HYMN_KIND_LAYER_NORM, fuse_layer_norm);
    if (!ok) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "graph passes: out of memory");
    }
    find_head(graph);
    sweep(graph);
    find_resizes(graph);
    find_pools(graph);
    find_depthwise(graph);
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        if (node->kind >= HYMN_KIND_TABLE_SIZE) {
            return hymn_fail(log, HYMN_STATUS_INTERNAL, "%s: the %s was not fused", node->name,
                             hymn_kind_name(node->kind));
        }
    }
    return HYMN_STATUS_OK;
}
