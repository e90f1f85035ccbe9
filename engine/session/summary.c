// SPDX-License-Identifier: MIT
#include "session/network.h"

#include <string.h>

struct hymn_summary {
    struct hymn_graph graph;
    struct hymn_layer *layers;
    uint64_t macs;
};

// Values of the weights that a node multiplies with, after folding.
static uint64_t node_parameters(const struct hymn_node *node) {
    uint64_t channels = node->terms[0].source.channels;
    uint64_t count = node->bias ? (hymn_node_is_convolution(node) ? node->out_channels : channels) : 0;
    if (node->kind == HYMN_KIND_MERGE) {
        return 2 * channels;
    }
    if (node->kind == HYMN_KIND_DEPTHWISE) {
        return count + 9 * channels;
    }
    if (node->kind == HYMN_KIND_SELECTIVE_SCAN) {
        return 4 * channels * (node->dt_rank + 2 + node->d_state);
    }
    for (uint32_t i = 0; hymn_node_is_convolution(node) && i < node->term_count; i++) {
        const struct hymn_term *term = &node->terms[i];
        count += (uint64_t)term->kernel * term->kernel * term->source.channels * node->out_channels;
    }
    return hymn_node_is_convolution(node) ? count : 0;
}

static void describe_layers(struct hymn_summary *summary) {
    const struct hymn_graph *graph = &summary->graph;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct hymn_node *node = &graph->nodes[i];
        const struct hymn_value *output = &graph->values[node->output];
        summary->layers[i] = (struct hymn_layer){
            .name = node->name,
            .kind = hymn_kind_name(node->kind),
            .height = output->height,
            .width = output->width,
            .channels = hymn_node_is_convolution(node) ? node->out_channels : output->channels,
            .macs = hymn_node_macs(graph, node),
            .parameters = node_parameters(node),
            .offset = output->offset,
            .bytes = output->bytes,
        };
    }
}

enum hymn_status hymn_summary_create(const struct hymn_model *model, const struct hymn_summary_params *params,
                                     struct hymn_summary **out_summary) {
    static const struct hymn_summary_params defaults;
    const struct hymn_summary_params *given = params ? params : &defaults;
    if (out_summary) {
        *out_summary = NULL;
    }
    if (!model || !out_summary) {
        return hymn_fail(&given->log, HYMN_STATUS_INVALID_ARGUMENT, "hymn_summary_create: a handle is NULL");
    }
    // As on a desktop GPU with nothing optional: scratch memory depends on how finely scans are chunked.
    static const struct hymn_vk_snapshot snapshot = {.type = HYMN_DEVICE_TYPE_DISCRETE_GPU};
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&snapshot, HYMN_TIER_BASE, &plan);
    struct hymn_network_shape shape;
    enum hymn_status status = hymn_network_shape_make(model, given->height, given->width, given->batch,
                                                      given->precision, &given->log, &shape);
    struct hymn_summary *summary = NULL;
    if (status == HYMN_STATUS_OK) {
        summary = hymn_alloc(1, sizeof *summary);
        status = summary ? hymn_network_build(model, &shape, &plan, &given->log, &summary->graph)
                         : hymn_fail(&given->log, HYMN_STATUS_OUT_OF_MEMORY, "summary: out of memory");
    }
    if (status == HYMN_STATUS_OK) {
        summary->layers = hymn_alloc(summary->graph.node_count, sizeof *summary->layers);
        status = summary->layers ? HYMN_STATUS_OK
                                 : hymn_fail(&given->log, HYMN_STATUS_OUT_OF_MEMORY, "summary: out of memory");
    }
    if (status != HYMN_STATUS_OK) {
        hymn_summary_destroy(&summary);
        return status;
    }
    describe_layers(summary);
    summary->macs = hymn_network_macs(&summary->graph);
    *out_summary = summary;
    return HYMN_STATUS_OK;
}

void hymn_summary_destroy(struct hymn_summary **summary) {
    if (summary && *summary) {
        hymn_graph_free(&(*summary)->graph);
        hymn_free((*summary)->layers);
        hymn_free(*summary);
        *summary = NULL;
    }
}

uint32_t hymn_summary_layer_count(const struct hymn_summary *summary) {
    return summary ? summary->graph.node_count : 0;
}

const struct hymn_layer *hymn_summary_layer(const struct hymn_summary *summary, uint32_t index) {
    return summary && index < summary->graph.node_count ? &summary->layers[index] : NULL;
}

uint64_t hymn_summary_activation_bytes(const struct hymn_summary *summary) {
    return summary ? summary->graph.activation_bytes : 0;
}

uint64_t hymn_summary_macs(const struct hymn_summary *summary) {
    return summary ? summary->macs : 0;
}
