// SPDX-License-Identifier: MIT
#include "session/survey.h"

#include "ops/conv2d_matrix.h"
#include "ops/picture.h"
#include "session/session.h"
#include "tune/ceiling.h"
#include "tune/tune.h"

#define COPY_BYTES (1u << 20) // any will do

// At `at`, or at the end, with its name copied.
static enum hymn_status put_step(const struct hymn_vk_step *from, uint32_t at, const struct hymn_log *log,
                                 struct hymn_arena *names, struct hymn_vk_program *program) {
    char *name = hymn_arena_printf(names, "%s", from->name);
    struct hymn_vk_step *step = at < program->count ? &program->steps[at] : hymn_vk_program_add(program);
    if (!name || !step) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "survey: out of memory");
    }
    *step = *from;
    step->name = name;
    return HYMN_STATUS_OK;
}

// Copies a lowered program's steps, with their names.
static enum hymn_status append(const struct hymn_vk_program *from, const struct hymn_log *log, struct hymn_arena *names,
                               struct hymn_vk_program *program) {
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < from->count && status == HYMN_STATUS_OK; i++) {
        status = put_step(&from->steps[i], program->count, log, names, program);
    }
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
    hymn_session_copy_model(session, params->model);
    hymn_session_take_ends(session, shape, graph, network);
    session->head.name = session->joined.name = session->first.name = "end"; // the network's own goes with the graph
    enum hymn_status status = hymn_io_every_kind(session, program);
    hymn_free(session);
    return status;
}

static enum hymn_status add_session(const struct hymn_survey_params *params, const struct hymn_network_shape *shape,
                                    const struct hymn_graph *graph, const struct hymn_log *log,
                                    struct hymn_arena *names, struct hymn_vk_program *program) {
    struct hymn_lower lower = {.graph = graph, .plan = params->plan, .log = log, .blank = true};
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
        status = add_session(params, &shape, &graph, log, names, program);
    }
    hymn_graph_free(&graph);
    return status;
}

// -------------------------------------------------------------------------------------------------------------- tuning

struct tuning {
    const struct hymn_vk_plan *plan;
    struct hymn_graph *graph;
    const struct hymn_log *log;
    struct hymn_arena *names;
    struct hymn_vk_program *program;
    uint32_t first, own; // see survey.h
};

// Unless a step has its pipeline already, or one that covers it; in the place of what it covers itself.
static enum hymn_status add_step(const struct tuning *tuning, const struct hymn_vk_step *step) {
    struct hymn_vk_program *program = tuning->program;
    uint32_t at = program->count;
    for (uint32_t i = tuning->first; i < program->count; i++) {
        const struct hymn_vk_step *other = &program->steps[i];
        if (hymn_vk_step_same_pipeline(other, step) || hymn_conv2d_matrix_covers(other, step)) {
            return HYMN_STATUS_OK;
        }
        at = i >= tuning->own && hymn_conv2d_matrix_covers(step, other) ? i : at;
    }
    return put_step(step, at, tuning->log, tuning->names, program);
}

// What a session makes of the step for pictures, of three channels as any.
static enum hymn_status add_pictures(const struct tuning *tuning, const struct hymn_vk_step *step) {
    struct hymn_vk_program joined = {0};
    const float mean[3] = {0.0f}, std[3] = {1.0f, 1.0f, 1.0f};
    const struct hymn_value *input = &tuning->graph->values[tuning->graph->input];
    const struct hymn_image_steps steps = {.program = &joined,
                                           .plan = tuning->plan,
                                           .log = tuning->log,
                                           .input = input,
                                           .count = 1,
                                           .height = input->height,
                                           .width = input->width,
                                           .in_channels = input->channels,
                                           .mean = mean,
                                           .std = std};
    enum hymn_status status = HYMN_STATUS_OK;
    if (hymn_picture_joined(tuning->plan, step, input)) {
        status = hymn_picture_join(&steps, step, HYMN_PIXEL_RGB8, (struct hymn_vk_binding){HYMN_VK_ROLE_IMAGE, 0, 0});
    }
    if (joined.count > 0 && status == HYMN_STATUS_OK) {
        status = add_step(tuning, &joined.steps[0]);
    }
    hymn_vk_program_free(&joined);
    return status;
}

static enum hymn_status add_method(const struct tuning *tuning, struct hymn_node node,
                                   const struct hymn_method *method) {
    struct hymn_lower lower = {.graph = tuning->graph, .plan = tuning->plan, .log = tuning->log, .blank = true};
    const struct hymn_op *op = &hymn_ops[node.kind];
    node.tuned = true;
    node.method = *method;
    enum hymn_status status =
        op->prepare ? op->prepare(tuning->graph, &node, tuning->plan, tuning->log) : HYMN_STATUS_OK;
    if (status == HYMN_STATUS_OK) {
        status = op->lower(&lower, &node);
    }
    for (uint32_t i = 0; i < lower.program.count && status == HYMN_STATUS_OK; i++) {
        status = add_step(tuning, &lower.program.steps[i]);
        if (status == HYMN_STATUS_OK) {
            status = add_pictures(tuning, &lower.program.steps[i]);
        }
    }
    hymn_lower_free(&lower);
    return status;
}

static enum hymn_status add_node(const struct tuning *tuning, const struct hymn_node *node) {
    struct hymn_method methods[HYMN_TUNE_MOST_METHODS];
    const struct hymn_op *op = &hymn_ops[node->kind];
    enum hymn_status status = HYMN_STATUS_OK;
    uint32_t count = op->list_methods
                         ? op->list_methods(tuning->graph, node, tuning->plan, NULL, methods, HYMN_TUNE_MOST_METHODS)
                         : 0;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        status = add_method(tuning, *node, &methods[i]);
    }
    return status;
}

// The nodes whose problems are not among the first *count of keys, at whose end theirs go.
static enum hymn_status add_nodes(const struct tuning *tuning, uint64_t *keys, uint32_t *count) {
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < tuning->graph->node_count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_node *node = &tuning->graph->nodes[i];
        const uint64_t key = hymn_tune_key(tuning->plan, tuning->graph, node);
        bool again = false;
        for (uint32_t k = 0; k < *count; k++) {
            again = again || keys[k] == key;
        }
        if (!again) {
            keys[(*count)++] = key;
            status = add_node(tuning, node);
        }
    }
    return status;
}

enum hymn_status hymn_survey_add_tuning(const struct hymn_survey_params *params, uint32_t first, uint32_t own,
                                        const struct hymn_log *log, struct hymn_arena *names,
                                        struct hymn_vk_program *program) {
    struct hymn_network_shape shape;
    struct hymn_graph graph = {0};
    const struct tuning tuning = {params->plan, &graph, log, names, program, first, own};
    struct hymn_vk_step copy = {.groups = {1, 1, 1}};
    hymn_ceiling_copy(COPY_BYTES, &copy);
    enum hymn_status status = add_step(&tuning, &copy);
    if (status != HYMN_STATUS_OK || params->plan->cpu) {
        return status; // software devices are not tuned
    }
    status = hymn_network_shape_make(params->model, 0, 0, params->batch, params->precision, log, &shape);
    if (status == HYMN_STATUS_OK) {
        status = hymn_network_make(params->model, &shape, params->plan, log, &graph);
    }
    uint64_t *keys = status == HYMN_STATUS_OK ? hymn_alloc((size_t)2 * graph.node_count, sizeof *keys) : NULL;
    uint32_t count = 0;
    if (!keys && status == HYMN_STATUS_OK) {
        status = hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "survey: out of memory");
    }
    // With rows of scans in f32, as on larger devices of this kind, which these sequences do not fill, and as settled
    // here.
    for (uint32_t settled = 0; settled < 2 && status == HYMN_STATUS_OK; settled++) {
        if (settled > 0) {
            hymn_ops_settle(&graph, params->plan);
        }
        status = add_nodes(&tuning, keys, &count);
    }
    hymn_free(keys);
    hymn_graph_free(&graph);
    return status;
}
