// SPDX-License-Identifier: MIT
#include "session/session.h"

#include <assert.h>
#include <string.h>

#include "ops/head.h"
#include "ops/picture.h"
#include "selftest/selftest.h"
#include "tune/tune.h"
#include "vk/divide.h"
#include "vk/pipeline.h"

#define DEFAULT_TUNING_MS 1000.0

static enum hymn_status no_memory(const struct hymn_session *session) {
    return hymn_fail(&session->log, HYMN_STATUS_OUT_OF_MEMORY, "session: out of memory");
}

static enum hymn_status check_params(const struct hymn_context *context, const struct hymn_model *model,
                                     const struct hymn_session_params *params, const struct hymn_log *log) {
    if (!context || !model) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "hymn_session_create: a handle is NULL");
    }
    if ((uint32_t)params->tier > HYMN_TIER_MATRIX) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "tier %d is none of auto, base, wide, half, matrix",
                         (int)params->tier);
    }
    if (params->runs_in_flight > HYMN_SESSION_MAX_SLOTS) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "runs_in_flight is %u; at most %d are possible",
                         params->runs_in_flight, HYMN_SESSION_MAX_SLOTS);
    }
    if (params->streams > HYMN_VK_MAX_QUEUES) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "streams is %u; at most %d are possible", params->streams,
                         HYMN_VK_MAX_QUEUES);
    }
    return HYMN_STATUS_OK;
}

// Every tensor must fit one storage-buffer binding; the largest one that does not is named.
static enum hymn_status check_bindings(const struct hymn_session *session, const struct hymn_graph *graph) {
    const struct hymn_value *worst = NULL;
    for (uint32_t i = 0; i < graph->value_count; i++) {
        const struct hymn_value *value = &graph->values[i];
        if (value->bytes > session->plan.max_binding_bytes && (!worst || value->bytes > worst->bytes)) {
            worst = value;
        }
    }
    if (worst) {
        return hymn_fail(
            &session->log, HYMN_STATUS_UNSUPPORTED,
            "%s (%u x %u x %u, batch %u) takes %llu bytes; %s binds at most %llu: use a smaller size, tiles "
            "or a smaller batch",
            worst->name, worst->height, worst->width, worst->channels, graph->batch, (unsigned long long)worst->bytes,
            session->device->info.name, (unsigned long long)session->plan.max_binding_bytes);
    }
    return HYMN_STATUS_OK;
}

static void describe(struct hymn_session *session, const struct hymn_network_shape *shape,
                     const struct hymn_graph *graph, const struct hymn_lower *lower) {
    struct hymn_session_info *info = &session->info;
    info->precision = shape->storage == HYMN_STORAGE_F16 ? HYMN_PRECISION_FP16 : HYMN_PRECISION_FP32;
    info->operators = graph->node_count;
    info->dispatches = lower->program.count;
    info->macs = hymn_network_macs(graph);
    info->weight_bytes = lower->weight_bytes;
    info->activation_bytes = graph->activation_bytes + lower->counter_bytes;
    info->activation_bytes_unaliased = graph->activation_bytes_unaliased + lower->counter_bytes;
}

void hymn_session_take_ends(struct hymn_session *session, const struct hymn_network_shape *shape,
                            const struct hymn_graph *graph, const struct hymn_vk_program *program) {
    session->info.height = shape->height;
    session->info.width = shape->width;
    session->info.batch = shape->batch;
    session->input = graph->values[graph->input];
    session->output = graph->values[graph->output];
    session->has_first = program->count > 0 && hymn_picture_joined(&session->plan, &program->steps[0], &session->input);
    if (session->has_first) {
        session->first = program->steps[0];
    }
    const struct hymn_vk_step *last = program->count > 0 ? &program->steps[program->count - 1] : NULL;
    session->has_head = last && hymn_head_has_mask(last);
    session->has_joined = session->has_head && program->count > 1 && hymn_head_joined(&session->plan, last - 1, last);
    if (session->has_head) {
        session->head = *last;
    }
    if (session->has_joined) {
        session->joined = *(last - 1);
    }
}

struct hymn_vk_program hymn_session_network(const struct hymn_session *session) {
    struct hymn_vk_program network = session->program;
    network.steps += session->has_first;
    network.count -= (uint32_t)session->has_first + session->has_head + session->has_joined;
    return network;
}

// The steps' names belong to the graph, which goes after the lowering: copies stay.
static enum hymn_status keep_program(struct hymn_session *session, const struct hymn_network_shape *shape,
                                     struct hymn_lower *lower) {
    session->program = lower->program;
    lower->program = (struct hymn_vk_program){0};
    for (uint32_t i = 0; i < session->program.count; i++) {
        struct hymn_vk_step *step = &session->program.steps[i];
        step->name = hymn_arena_printf(&session->names, "%s", step->name);
        if (!step->name) {
            return no_memory(session);
        }
    }
    hymn_session_take_ends(session, shape, lower->graph, &session->program);
    return HYMN_STATUS_OK;
}

static enum hymn_status upload_weights(struct hymn_session *session, const struct hymn_lower *lower) {
    if (!lower->weight_bytes) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status =
        hymn_vk_buffer_create(session->device, HYMN_VK_USAGE_DEVICE, lower->weight_bytes, "weights", &session->weights);
    return status == HYMN_STATUS_OK
               ? hymn_vk_buffer_write(session->device, &session->weights, lower->blocks, lower->block_count)
               : status;
}

double hymn_session_slowness(const struct hymn_session *session) {
    return session->device->slowness * session->info.streams;
}

static void divide(struct hymn_session *session) {
    struct hymn_vk_device *device = session->device;
    const double slowness = hymn_session_slowness(session);
    session->slowness = device->slowness;
    struct hymn_vk_program network = hymn_session_network(session);
    session->seconds =
        hymn_vk_program_divide(&network, &session->plan, slowness, device->submission_seconds) / slowness;
}

static enum hymn_status build_and_lower(struct hymn_session *session, const struct hymn_model *model,
                                        const struct hymn_network_shape *shape, struct hymn_graph *graph,
                                        struct hymn_lower *lower) {
    double spent_ms = 0.0;
    enum hymn_status status = hymn_network_make(model, shape, &session->plan, &session->log, graph);
    if (status == HYMN_STATUS_OK) {
        hymn_ops_settle(graph, &session->plan);
        status = hymn_tune_graph(session->device, &session->plan, graph, session->tuning_ms, &spent_ms);
        session->tuning_ms -= spent_ms;
        session->info.tuning_ms += spent_ms;
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_network_place(&session->plan, &session->log, graph);
    }
    *lower = (struct hymn_lower){.graph = graph, .plan = &session->plan, .log = &session->log};
    if (status == HYMN_STATUS_OK) {
        status = check_bindings(session, graph);
    }
    return status == HYMN_STATUS_OK ? hymn_ops_lower(lower) : status;
}

// A network's steps, and behind them those of every kind of input and output that the model can have, so that no run
// has to make or to check any. Names are the network's; hymn_vk_program_free in any case.
static enum hymn_status add_every_kind(const struct hymn_session *session, const struct hymn_vk_program *network,
                                       struct hymn_vk_program *all) {
    enum hymn_status status = hymn_vk_program_append(all, network) ? HYMN_STATUS_OK : no_memory(session);
    return status == HYMN_STATUS_OK ? hymn_io_every_kind(session, all) : status;
}

static enum hymn_status check_shaders(struct hymn_session *session, const struct hymn_network_shape *shape,
                                      const struct hymn_graph *graph, const struct hymn_vk_program *program,
                                      bool *out_demoted) {
    struct hymn_vk_program all = {0};
    hymn_session_take_ends(session, shape, graph, program);
    enum hymn_status status = add_every_kind(session, program, &all);
    if (status == HYMN_STATUS_OK) {
        status = hymn_selftest_check(session->device, &session->plan, &all, out_demoted);
    }
    hymn_vk_program_free(&all);
    return status;
}

// Tuning's trials check what was never checked one shader after the other. Those that the rules choose are checked
// before, for which their pipelines are made together.
static enum hymn_status check_before_tuning(struct hymn_session *session, const struct hymn_model *model,
                                            const struct hymn_network_shape *shape) {
    bool again = session->tuning_ms > 0.0 && !session->plan.cpu && !session->device->trust_variants;
    enum hymn_status status = HYMN_STATUS_OK;
    while (again && status == HYMN_STATUS_OK) {
        struct hymn_graph graph = {0};
        struct hymn_lower lower = {.graph = &graph, .plan = &session->plan, .log = &session->log, .blank = true};
        again = false;
        status = hymn_network_make(model, shape, &session->plan, &session->log, &graph);
        if (status == HYMN_STATUS_OK) {
            hymn_ops_settle(&graph, &session->plan);
        }
        const bool timed = status == HYMN_STATUS_OK && !hymn_tune_is_known(session->device, &session->plan, &graph);
        status = timed ? hymn_network_place(&session->plan, &session->log, &graph) : status;
        if (timed && status == HYMN_STATUS_OK) {
            status = hymn_ops_lower(&lower);
        }
        if (timed && status == HYMN_STATUS_OK) {
            status = check_shaders(session, shape, &graph, &lower.program, &again);
        }
        hymn_lower_free(&lower);
        hymn_graph_free(&graph);
    }
    return status;
}

// Lowers until every shader of the program is known to be right on this device.
static enum hymn_status lower_checked(struct hymn_session *session, const struct hymn_model *model,
                                      const struct hymn_network_shape *shape, struct hymn_graph *graph,
                                      struct hymn_lower *lower) {
    for (;;) {
        bool demoted = false;
        enum hymn_status status = build_and_lower(session, model, shape, graph, lower);
        if (status == HYMN_STATUS_OK) {
            status = check_shaders(session, shape, graph, &lower->program, &demoted);
        }
        if (status != HYMN_STATUS_OK || !demoted) {
            return status;
        }
        hymn_lower_free(lower);
        hymn_graph_free(graph);
    }
}

static_assert((int)HYMN_GRAPH_MAX_PIECES == (int)HYMN_VK_MAX_PIECES, "the activations' pieces have roles");

static void destroy_stream(struct hymn_session *session, struct hymn_stream *stream) {
    for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES; i++) {
        hymn_vk_buffer_destroy(session->device, &stream->activations[i]);
    }
    hymn_vk_buffer_destroy(session->device, &stream->counters);
}

// On failure there is nothing to destroy.
static enum hymn_status make_stream(struct hymn_session *session, const struct hymn_lower *lower,
                                    struct hymn_stream *stream) {
    const struct hymn_graph *graph = lower->graph;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES && status == HYMN_STATUS_OK; i++) {
        if (graph->pieces[i] > 0) {
            status = hymn_vk_buffer_create(session->device, HYMN_VK_USAGE_DEVICE, graph->pieces[i], "activations",
                                           &stream->activations[i]);
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_create_zeroed(session->device, lower->counter_bytes, "counters", &stream->counters);
    }
    if (status != HYMN_STATUS_OK) {
        destroy_stream(session, stream);
    }
    return status;
}

// Of what a session can be made without: whatever fails but the device is a lack of memory.
static enum hymn_status shortage(enum hymn_status status) {
    const bool told = status == HYMN_STATUS_OK || status == HYMN_STATUS_DEVICE_LOST;
    return told ? status : HYMN_STATUS_OUT_OF_DEVICE_MEMORY;
}

// What so many runs will need by themselves, held while further streams take what else there is: as much as one
// allocation can have of each kind of memory. OUT_OF_DEVICE_MEMORY if there is not, and something to destroy then too;
// DEVICE_LOST.
static enum hymn_status hold_room(struct hymn_session *session, uint32_t runs, struct hymn_vk_buffer room[2]) {
    static const enum hymn_vk_usage usages[2] = {HYMN_VK_USAGE_DEVICE, HYMN_VK_USAGE_READBACK};
    const uint64_t most = session->device->snapshot.max_allocation_bytes;
    uint64_t bytes[2];
    hymn_io_bytes(session, &bytes[0], &bytes[1]);
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < 2 && status == HYMN_STATUS_OK; i++) {
        bytes[i] *= runs;
        bytes[i] = most > 0 && bytes[i] > most ? most : bytes[i];
        if (bytes[i] > room[i].bytes) {
            hymn_vk_buffer_destroy(session->device, &room[i]);
            status = hymn_vk_buffer_create(session->device, usages[i], bytes[i], "images and results", &room[i]);
        }
    }
    return shortage(status);
}

// Runs in flight of a session of so many streams. Before it has them all, runs_in_flight is what it has with one.
static uint32_t runs_with(const struct hymn_session *session, uint32_t streams) {
    return streams > session->info.runs_in_flight ? streams : session->info.runs_in_flight;
}

// Of streams beyond the first, of all of the device's memory: others want some of it too, and where a run takes so much
// there is little to gain.
#define STREAMS_SHARE 4u

// Another stream, if there is memory for it beside the room for the runs that there are with it. OUT_OF_DEVICE_MEMORY,
// quietly, if not; DEVICE_LOST.
static enum hymn_status make_further_stream(struct hymn_session *session, const struct hymn_lower *lower,
                                            uint32_t index, struct hymn_vk_buffer room[2]) {
    struct hymn_vk_device *device = session->device;
    const struct hymn_log log = device->log;
    if (index * lower->graph->activation_bytes > device->snapshot.device_heap_bytes / STREAMS_SHARE) {
        return HYMN_STATUS_OUT_OF_DEVICE_MEMORY;
    }
    device->log = hymn_log_soften(&log);
    enum hymn_status status = hold_room(session, runs_with(session, index + 1), room);
    if (status == HYMN_STATUS_OK) {
        status = shortage(make_stream(session, lower, &session->streams[index]));
    }
    device->log = log;
    return status;
}

// The first one must be, and room for runs where a smaller session would have it; of the others as many as there is
// memory for.
static enum hymn_status make_streams(struct hymn_session *session, const struct hymn_lower *lower) {
    const uint32_t wanted = session->info.streams;
    struct hymn_vk_buffer room[2] = {{0}};
    enum hymn_status status = make_stream(session, lower, &session->streams[0]);
    if (status == HYMN_STATUS_OK && session->may_shrink) {
        status = hold_room(session, session->info.runs_in_flight, room);
    }
    uint32_t made = status == HYMN_STATUS_OK;
    while (status == HYMN_STATUS_OK && made < wanted) {
        status = make_further_stream(session, lower, made, room);
        made += status == HYMN_STATUS_OK;
    }
    if (made > 0 && status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY) {
        hymn_log_write(&session->log, HYMN_LOG_INFO, "%u of %u streams: there is no memory for more", made, wanted);
        status = HYMN_STATUS_OK;
    }
    hymn_vk_buffer_destroy(session->device, &room[0]);
    hymn_vk_buffer_destroy(session->device, &room[1]);
    for (uint32_t i = 0; i < made; i++) {
        session->streams[i].queue = session->device->queues[i];
    }
    session->info.streams = made;
    session->info.runs_in_flight = runs_with(session, made);
    session->info.activation_bytes *= made;
    session->info.activation_bytes_unaliased *= made;
    return status;
}

void hymn_session_bind(const struct hymn_session *session, const struct hymn_slot *slot,
                       struct hymn_vk_record_params *params) {
    for (uint32_t i = 0; i < HYMN_GRAPH_MAX_PIECES; i++) {
        const struct hymn_vk_buffer *piece = &slot->stream->activations[i];
        params->buffers[hymn_vk_role_of_piece(i)] = piece->handle ? piece : NULL;
    }
    const struct hymn_vk_buffer *counters = &slot->stream->counters;
    params->buffers[HYMN_VK_ROLE_COUNTERS] = counters->handle ? counters : NULL;
    params->buffers[HYMN_VK_ROLE_WEIGHTS] = session->weights.handle ? &session->weights : NULL;
}

// Graph, lowering, buffers and weights: everything but the slots.
static enum hymn_status compile(struct hymn_session *session, const struct hymn_model *model,
                                const struct hymn_network_shape *shape) {
    struct hymn_graph graph = {0};
    struct hymn_lower lower = {0};
    enum hymn_status status = check_before_tuning(session, model, shape);
    if (status == HYMN_STATUS_OK) {
        status = lower_checked(session, model, shape, &graph, &lower);
    }
    if (status == HYMN_STATUS_OK) {
        describe(session, shape, &graph, &lower);
        status = keep_program(session, shape, &lower);
        divide(session);
    }
    if (status == HYMN_STATUS_OK) {
        status = upload_weights(session, &lower);
    }
    if (status == HYMN_STATUS_OK) {
        status = make_streams(session, &lower);
    }
    hymn_lower_free(&lower);
    hymn_graph_free(&graph);
    return status;
}

uint64_t hymn_session_host_bytes(const struct hymn_session *session) {
    uint64_t steps = session->program.capacity, bytes = sizeof *session;
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        const struct hymn_slot *slot = &session->slots[i];
        uint64_t image = sizeof *slot->outputs + sizeof *slot->images + sizeof *slot->places;
        steps += slot->before_program.capacity + slot->after_program.capacity;
        bool across = slot->direct && !session->plan.skip_staging; // the device's memory, behind the bus
        bytes += session->info.batch * image + slot->readback.allocated + (across ? 0 : slot->upload.allocated);
    }
    return bytes + steps * sizeof *session->program.steps;
}

static enum hymn_status record_network(struct hymn_session *session, struct hymn_slot *slot) {
    struct hymn_vk_program network = hymn_session_network(session);
    struct hymn_vk_record_params record = {
        .name = "network",
        .steps = network.steps,
        .count = network.count,
        .timestamps = true,
        .step_timestamps = session->timings,
    };
    hymn_session_bind(session, slot, &record);
    slot->slowness = 0.0; // of a recording that failed: to be made again before anything is submitted
    enum hymn_status status = hymn_vk_command_record(session->device, &record, &slot->network);
    if (status == HYMN_STATUS_OK) {
        slot->slowness = session->slowness;
    }
    return status;
}

enum hymn_status hymn_slot_adapt(struct hymn_session *session, struct hymn_slot *slot) {
    enum hymn_status status = HYMN_STATUS_OK;
    if (session->slowness != session->device->slowness) {
        divide(session);
        status = hymn_vk_pipelines_prepare(session->device, session->program.steps, session->program.count);
    }
    if (status != HYMN_STATUS_OK || slot->slowness == session->slowness) {
        return status;
    }
    slot->recorded = 0; // what surrounds the network is divided anew too
    return record_network(session, slot);
}

static enum hymn_status make_slot(struct hymn_session *session, uint32_t index) {
    struct hymn_slot *slot = &session->slots[index];
    uint32_t batch = session->info.batch;
    slot->stream = &session->streams[index % session->info.streams];
    slot->outputs = hymn_alloc(batch, sizeof *slot->outputs);
    slot->images = hymn_alloc(batch, sizeof *slot->images);
    slot->places = hymn_alloc(batch, sizeof *slot->places);
    if (!slot->outputs || !slot->images || !slot->places) {
        return no_memory(session);
    }
    enum hymn_status status = hymn_vk_fence_create(session->device, &slot->fence);
    return status == HYMN_STATUS_OK ? record_network(session, slot) : status;
}

void hymn_session_copy_model(struct hymn_session *session, const struct hymn_model *model) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    session->in_channels = info->in_channels;
    session->num_classes = info->num_classes;
    session->threshold = info->threshold;
    memcpy(session->mean, info->mean, sizeof session->mean);
    memcpy(session->std, info->std, sizeof session->std);
}

// In one batch: several threads make them.
static enum hymn_status make_pipelines(struct hymn_session *session) {
    struct hymn_vk_program all = {0};
    enum hymn_status status = add_every_kind(session, &session->program, &all);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_pipelines_prepare(session->device, all.steps, all.count);
    }
    hymn_vk_program_free(&all);
    return status;
}

// Runs that may be computed at the same time, if there is memory for that.
static uint32_t wanted_streams(const struct hymn_session *session, const struct hymn_session_params *params) {
    uint32_t streams = params->streams > 0 && !params->timings ? params->streams : 1;
    streams = streams < session->device->queue_count ? streams : session->device->queue_count;
    bool fewer = params->runs_in_flight > 0 && params->runs_in_flight < streams;
    return fewer ? params->runs_in_flight : streams;
}

static enum hymn_status make_session(struct hymn_session *session, const struct hymn_model *model,
                                     const struct hymn_session_params *params) {
    struct hymn_network_shape shape;
    enum hymn_status status = hymn_network_shape_make(model, params->height, params->width, params->batch,
                                                      params->precision, &session->log, &shape);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_check(session->device);
    }
    if (status == HYMN_STATUS_OK) {
        status = compile(session, model, &shape);
    }
    if (status == HYMN_STATUS_OK) {
        status = make_pipelines(session);
    }
    for (uint32_t i = 0; i < session->info.runs_in_flight && status == HYMN_STATUS_OK; i++) {
        status = make_slot(session, i);
    }
    return status;
}

// Milliseconds of tuning, which all sizes that are tried share.
struct tuning {
    double left, spent;
};

// Makes a session of exactly the size and batch that are asked for. may_shrink: a smaller one would do.
static enum hymn_status create_exactly(struct hymn_context *context, const struct hymn_model *model,
                                       const struct hymn_session_params *params, bool may_shrink,
                                       const struct hymn_log *log, struct tuning *tuning,
                                       struct hymn_session **out_session) {
    struct hymn_session *session = hymn_alloc(1, sizeof *session);
    if (!session) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "session: out of memory");
    }
    session->log = *log;
    session->device = context->device;
    session->timings = params->timings;
    session->may_shrink = may_shrink;
    session->gpu_ms = -1.0;
    session->tuning_ms = tuning->left;
    session->info.tuning_ms = tuning->spent;
    session->info.streams = wanted_streams(session, params);
    session->info.runs_in_flight = params->runs_in_flight > 0 ? params->runs_in_flight : 2;
    hymn_vk_plan_make(&session->device->snapshot, hymn_vk_tier_limit(session->device->tier, params->tier),
                      &session->plan);
    memcpy(session->plan.demoted, session->device->plan.demoted, sizeof session->plan.demoted);
    session->info.tier = session->plan.tier;
    hymn_session_copy_model(session, model);
    enum hymn_status status = make_session(session, model, params);
    hymn_vk_pipelines_store(session->device);
    *tuning = (struct tuning){session->tuning_ms, session->info.tuning_ms};
    if (status != HYMN_STATUS_OK) {
        hymn_session_destroy(&session);
        return status;
    }
    session->info.host_bytes = hymn_session_host_bytes(session);
    *out_session = session;
    return HYMN_STATUS_OK;
}

// Half of a number, but no less than `least`.
static bool halve(uint32_t *number, uint32_t least) {
    uint32_t before = *number, half = (before + 1) / 2;
    *number = least == 0 || least >= before ? before : half > least ? half : least;
    return *number < before;
}

// The next smaller session that the caller allows; false: none. The size and the batch are those in use.
static bool shrink(const struct hymn_session_params *given, struct hymn_session_params *params) {
    if (halve(&params->batch, given->min_batch)) {
        return true;
    }
    bool lower = halve(&params->height, given->min_height);
    return halve(&params->width, given->min_width) || lower;
}

static enum hymn_status create_largest(struct hymn_context *context, const struct hymn_model *model,
                                       const struct hymn_session_params *given, const struct hymn_log *log,
                                       struct hymn_session **out_session) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    struct hymn_session_params params = *given, next;
    const double given_ms = given->tuning_ms ? given->tuning_ms : DEFAULT_TUNING_MS;
    struct tuning tuning = {.left = given->tuning_ms == HYMN_TUNING_NONE ? 0.0 : given_ms};
    const struct hymn_log device_log = context->device->log;
    params.height = params.height ? params.height : info->input_height;
    params.width = params.width ? params.width : info->input_width;
    params.batch = params.batch ? params.batch : 1;
    for (;;) {
        next = params;
        bool more = shrink(given, &next);
        // While a smaller session may still be tried, why one could not be made is a detail.
        const struct hymn_log soft = hymn_log_soften(log), *used = more ? &soft : log;
        context->device->log = *used;
        enum hymn_status status = create_exactly(context, model, &params, more, used, &tuning, out_session);
        context->device->log = device_log;
        bool too_large = status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_UNSUPPORTED;
        if (status == HYMN_STATUS_OK) {
            (*out_session)->log = *log;
        }
        if (!too_large || !more) {
            return status;
        }
        hymn_log_write(log, HYMN_LOG_WARNING, "%ux%u, batch %u is too much for %s: trying %ux%u, batch %u",
                       params.height, params.width, params.batch, context->device->info.name, next.height, next.width,
                       next.batch);
        params = next;
    }
}

enum hymn_status hymn_session_create(struct hymn_context *context, const struct hymn_model *model,
                                     const struct hymn_session_params *params, struct hymn_session **out_session) {
    static const struct hymn_session_params defaults;
    const struct hymn_session_params *given = params ? params : &defaults;
    const struct hymn_log *log = given->log.callback || !context ? &given->log : &context->device->log;
    if (!out_session) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "hymn_session_create: out_session is NULL");
    }
    *out_session = NULL;
    enum hymn_status status = check_params(context, model, given, log);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_log own = *log; // the device's own may be replaced for a while
    status = create_largest(context, model, given, &own, out_session);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const struct hymn_session_info *info = &(*out_session)->info;
    hymn_log_write(&own, HYMN_LOG_INFO,
                   "%ux%u, batch %u, %s, tier %s: %u dispatches, %.1f MB of activations, %.1f MB of weights",
                   info->height, info->width, info->batch, info->precision == HYMN_PRECISION_FP16 ? "fp16" : "fp32",
                   hymn_tier_string(info->tier), info->dispatches, (double)info->activation_bytes * 1e-6,
                   (double)info->weight_bytes * 1e-6);
    return HYMN_STATUS_OK;
}

void hymn_slot_destroy(struct hymn_session *session, struct hymn_slot *slot) {
    if (slot->ticket) {
        hymn_vk_wait(session->device, slot->fence); // a lost device does not wait
    }
    if (atomic_load(&session->device->lost)) {
        hymn_vk_drain(session->device, VK_NULL_HANDLE); // it may count as lost because it was not idle
    }
    hymn_vk_upload_destroy(session->device, &slot->copy);
    hymn_vk_command_destroy(session->device, &slot->before);
    hymn_vk_command_destroy(session->device, &slot->behind);
    hymn_vk_command_destroy(session->device, &slot->network);
    hymn_vk_command_destroy(session->device, &slot->after);
    hymn_vk_buffer_destroy(session->device, &slot->upload);
    hymn_vk_buffer_destroy(session->device, &slot->image);
    hymn_vk_buffer_destroy(session->device, &slot->readback);
    hymn_vk_fence_destroy(session->device, &slot->fence);
    hymn_vk_program_free(&slot->before_program);
    hymn_vk_program_free(&slot->after_program);
    hymn_free(slot->outputs);
    hymn_free(slot->images);
    hymn_free(slot->places);
}

void hymn_session_destroy(struct hymn_session **session) {
    if (!session || !*session) {
        return;
    }
    struct hymn_session *s = *session;
    for (uint32_t i = 0; i < HYMN_SESSION_MAX_SLOTS; i++) {
        hymn_slot_destroy(s, &s->slots[i]);
    }
    hymn_vk_buffer_destroy(s->device, &s->weights);
    for (uint32_t i = 0; i < HYMN_VK_MAX_QUEUES; i++) {
        destroy_stream(s, &s->streams[i]);
    }
    hymn_vk_program_free(&s->program);
    hymn_arena_free(&s->names);
    hymn_free(s->timing_entries);
    hymn_free(s->timing_ms);
    hymn_free(s);
    *session = NULL;
}

const struct hymn_session_info *hymn_session_get_info(const struct hymn_session *session) {
    return session ? &session->info : NULL;
}
