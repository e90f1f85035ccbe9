// SPDX-License-Identifier: MIT
#include "session/survey.h"

#include "ops/conv2d_winograd.h"
#include "session/session.h"

// Copies a lowered program's steps, with their names.
static enum hymn_status append(const struct hymn_vk_program *from, const struct hymn_log *log, struct hymn_arena *names,
                               struct hymn_vk_program *program) {
    for (uint32_t i = 0; i < from->count; i++) {
        char *name = hymn_arena_printf(names, "%s", from->steps[i].name);
        struct hymn_vk_step *step = name ? hymn_vk_program_add(program) : NULL;
        if (!step) {
            return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "survey: out of memory");
        }
        *step = from->steps[i];
        step->name = name;
    }
    return HYMN_STATUS_OK;
}

// Convolutions by Winograd's kernel, which only tuning chooses: of each number of lanes the share that takes the most
// registers.
static enum hymn_status add_winograd(const struct hymn_survey_params *params, const struct hymn_graph *graph,
                                     const struct hymn_log *log, struct hymn_arena *names,
                                     struct hymn_vk_program *program) {
    enum hymn_status status = HYMN_STATUS_OK;
    struct hymn_lower lower = {.graph = graph, .plan = params->plan, .log = log};
    for (uint32_t i = 0; i < graph->node_count && status == HYMN_STATUS_OK; i++) {
        struct hymn_method methods[HYMN_CONV2D_WINOGRAD_SHARES];
        struct hymn_node node = graph->nodes[i];
        bool convolution = node.kind == HYMN_KIND_CONV2D;
        uint32_t count =
            convolution ? hymn_conv2d_winograd_list(graph, &node, params->plan, methods, 0, HYMN_CONV2D_WINOGRAD_SHARES)
                        : 0;
        for (uint32_t k = 0; k < count && status == HYMN_STATUS_OK; k++) {
            node.tuned = k == 0 || methods[k].words[0] != methods[k - 1].words[0];
            node.method = methods[k];
            status = node.tuned ? hymn_conv2d_lower(&lower, &node) : HYMN_STATUS_OK;
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = append(&lower.program, log, names, program);
    }
    hymn_lower_free(&lower);
    return status;
}

static enum hymn_status add_ends(const struct hymn_survey_params *params, const struct hymn_network_shape *shape,
                                 const struct hymn_graph *graph, const struct hymn_vk_program *network,
                                 const struct hymn_log *log, struct hymn_vk_program *program) {
    struct hymn_session *session = hymn_alloc(1, sizeof *session);
    if (!session) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "survey: out of memory");
    }
    session->log = *log;
    session->plan = *params->plan;
    session->info.height = shape->height;
    session->info.width = shape->width;
    session->input = graph->values[graph->input];
    session->output = graph->values[graph->output];
    hymn_session_copy_model(session, params->model);
    hymn_session_take_head(session, network);
    session->head.name = "head"; // the network's own goes with the graph
    enum hymn_status status = hymn_io_every_kind(session, program);
    hymn_free(session);
    return status;
}

static enum hymn_status add_session(const struct hymn_survey_params *params, const struct hymn_network_shape *shape,
                                    const struct hymn_graph *graph, const struct hymn_log *log,
                                    struct hymn_arena *names, struct hymn_vk_program *program) {
    struct hymn_lower lower = {.graph = graph, .plan = params->plan, .log = log};
    enum hymn_status status = hymn_ops_lower(&lower);
    if (status == HYMN_STATUS_OK) {
        status = append(&lower.program, log, names, program);
    }
    if (status == HYMN_STATUS_OK) {
        status = add_ends(params, shape, graph, &lower.program, log, program);
    }
    hymn_lower_free(&lower);
    return status;
}

enum hymn_status hymn_survey_add(const struct hymn_survey_params *params, const struct hymn_log *log,
                                 struct hymn_arena *names, struct hymn_vk_program *program) {
    struct hymn_network_shape shape;
    struct hymn_graph graph = {0};
    enum hymn_status status =
        hymn_network_shape_make(params->model, 0, 0, params->batch, params->precision, log, &shape);
    if (status == HYMN_STATUS_OK) {
        status = hymn_network_build(params->model, &shape, params->plan, log, &graph);
    }
    if (status == HYMN_STATUS_OK) {
        status = params->tuned ? add_winograd(params, &graph, log, names, program)
                               : add_session(params, &shape, &graph, log, names, program);
    }
    hymn_graph_free(&graph);
    return status;
}
