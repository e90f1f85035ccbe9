// SPDX-License-Identifier: MIT
#include "session/network.h"

#include "model/hymunet.h"

#define MAX_SIDE 32768u
#define MAX_BATCH 1024u

enum hymn_status hymn_network_shape_make(const struct hymn_model *model, uint32_t height, uint32_t width,
                                         uint32_t batch, enum hymn_precision precision, const struct hymn_log *log,
                                         struct hymn_network_shape *out_shape) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    *out_shape = (struct hymn_network_shape){0};
    height = height ? height : info->input_height;
    width = width ? width : info->input_width;
    batch = batch ? batch : 1;
    if (height > MAX_SIDE || width > MAX_SIDE || batch > MAX_BATCH) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT,
                         "%u x %u, batch %u: heights and widths up to %u and batches up to %u are possible", height,
                         width, batch, MAX_SIDE, MAX_BATCH);
    }
    if (precision != HYMN_PRECISION_AUTO && precision != HYMN_PRECISION_FP16 && precision != HYMN_PRECISION_FP32) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "precision %d is none of auto, fp16, fp32", (int)precision);
    }
    *out_shape = (struct hymn_network_shape){
        .height = height,
        .width = width,
        .padded_height = hymn_round_up(height, info->size_multiple),
        .padded_width = hymn_round_up(width, info->size_multiple),
        .batch = batch,
        .storage = precision == HYMN_PRECISION_FP32 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16,
    };
    return HYMN_STATUS_OK;
}

// Kernels index units of four bytes and more with 32 bits, and count pixels with 31: so much a tensor may have.
static enum hymn_status check_value(const struct hymn_graph *graph, uint32_t index, const struct hymn_log *log) {
    const struct hymn_value *v = &graph->values[index];
    uint64_t pixels = (uint64_t)v->planes * graph->batch * v->height * v->width; // below 2^43
    uint64_t bytes = pixels * v->stride * (v->storage == HYMN_STORAGE_F16 ? 2 : 4);
    if (pixels <= INT32_MAX && bytes <= UINT32_MAX) {
        return HYMN_STATUS_OK;
    }
    return hymn_fail(log, HYMN_STATUS_UNSUPPORTED,
                     "%s (%u x %u x %u, batch %u) takes %llu bytes, which 32-bit offsets do not reach: use a smaller "
                     "size, tiles or a smaller batch",
                     v->name, v->height, v->width, v->channels, graph->batch, (unsigned long long)bytes);
}

static enum hymn_status check_offsets(const struct hymn_graph *graph, const struct hymn_log *log) {
    enum hymn_status status = check_value(graph, graph->input, log);
    for (uint32_t i = 0; i < graph->node_count && status == HYMN_STATUS_OK; i++) {
        status = check_value(graph, graph->nodes[i].output, log);
    }
    return status;
}

enum hymn_status hymn_network_make(const struct hymn_model *model, const struct hymn_network_shape *shape,
                                   const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                   struct hymn_graph *out_graph) {
    hymn_graph_init(out_graph, shape->batch, shape->storage);
    if (plan->cpu) {
        out_graph->taps_from = HYMN_GRAPH_TAPS_FROM_SOFTWARE;
    }
    enum hymn_status status = hymn_hymunet_build(model, shape->padded_height, shape->padded_width, log, out_graph);
    if (status == HYMN_STATUS_OK) {
        status = hymn_graph_optimize(out_graph, log);
    }
    return status == HYMN_STATUS_OK ? check_offsets(out_graph, log) : status;
}

enum hymn_status hymn_network_place(const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                    struct hymn_graph *graph) {
    hymn_ops_settle(graph, plan); // by the methods that have been chosen since
    enum hymn_status status = hymn_ops_prepare(graph, plan, log);
    graph->piece_bytes = plan->max_piece_bytes;
    return status == HYMN_STATUS_OK ? hymn_graph_plan_memory(graph, true, log) : status;
}

enum hymn_status hymn_network_build(const struct hymn_model *model, const struct hymn_network_shape *shape,
                                    const struct hymn_vk_plan *plan, const struct hymn_log *log,
                                    struct hymn_graph *out_graph) {
    enum hymn_status status = hymn_network_make(model, shape, plan, log, out_graph);
    if (status == HYMN_STATUS_OK) {
        status = hymn_network_place(plan, log, out_graph);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_graph_free(out_graph);
    }
    return status;
}

uint64_t hymn_network_macs(const struct hymn_graph *graph) {
    uint64_t macs = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        macs += hymn_node_macs(graph, &graph->nodes[i]);
    }
    return macs;
}
