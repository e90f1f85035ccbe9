// SPDX-License-Identifier: MIT
#include "selftest/run.h"

#include <string.h>

#include "base/half.h"
#include "ops/head.h"
#include "ops/picture.h"
#include "vk/pipeline.h"

#define ROOM_BYTES ((uint64_t)1 << 20) // of a buffer at least, as cases are much alike

static void encode(const struct hymn_selftest_run *run, uint32_t index) {
    const struct hymn_graph *graph = &run->problem->graph;
    const struct hymn_value *value = &graph->values[index];
    const double *from = run->problem->values[index];
    uint8_t *to = run->room->upload.mapped + value->offset;
    uint64_t count = value->bytes == 0 ? 0 : hymn_selftest_size(graph, index); // 0: nothing reads it, as prepared
    for (uint64_t i = 0; i < count; i++) {
        if (value->storage == HYMN_STORAGE_F16) {
            uint16_t half = hymn_half_from_float((float)from[i]);
            memcpy(to + 2 * i, &half, sizeof half);
        } else {
            float number = (float)from[i];
            memcpy(to + 4 * i, &number, sizeof number);
        }
    }
}

double hymn_selftest_number(const struct hymn_selftest_run *run, uint32_t value, uint64_t i) {
    const struct hymn_value *v = &run->problem->graph.values[value];
    const uint8_t *from = run->after + v->offset;
    if (v->storage == HYMN_STORAGE_F16) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        return hymn_half_to_float(half);
    }
    float number;
    memcpy(&number, from + 4 * i, sizeof number);
    return number;
}

// Masks by way of logits, and behind them those that the convolution goes on to by itself: the same bits. Only the
// convolution where it cannot.
static enum hymn_status add_masks(struct hymn_selftest_run *run) {
    struct hymn_vk_program *program = &run->lower.program;
    const struct hymn_graph *graph = &run->problem->graph;
    if (program->count != 2 || !hymn_head_joined(run->lower.plan, &program->steps[0], &program->steps[1])) {
        program->count = 1;
        return HYMN_STATUS_OK;
    }
    const struct hymn_value *logits = &graph->values[graph->nodes[1].output];
    const struct hymn_vk_step before = program->steps[0], head = program->steps[1];
    struct hymn_image_steps steps = {.program = program,
                                     .plan = run->lower.plan,
                                     .log = run->lower.log,
                                     .output = logits,
                                     .count = graph->batch,
                                     .height = logits->height,
                                     .width = logits->width,
                                     .num_classes = 1};
    struct hymn_vk_binding to = hymn_lower_value(&run->lower, run->problem->masks);
    const uint64_t half = to.bytes / 2;
    to.bytes = hymn_image_mask_bytes(steps.height, steps.width);
    enum hymn_status status = hymn_image_mask_directly(&steps, 0.5f, to);
    to.offset += half;
    return status == HYMN_STATUS_OK ? hymn_head_join(&steps, &before, &head, 0.5f, to) : status;
}

// The convolution by pictures, or where it cannot behind what makes its source of them.
static enum hymn_status add_pictures(struct hymn_selftest_run *run) {
    struct hymn_vk_program *program = &run->lower.program, made = {0};
    const struct hymn_selftest_problem *problem = run->problem;
    const struct hymn_graph *graph = &problem->graph;
    const struct hymn_value *source = &graph->values[graph->nodes[0].terms[0].source.value];
    struct hymn_image_steps steps = {.program = &made,
                                     .plan = run->lower.plan,
                                     .log = run->lower.log,
                                     .input = source,
                                     .output = source,
                                     .count = graph->batch,
                                     .height = problem->picture_height,
                                     .width = problem->picture_width,
                                     .in_channels = source->channels,
                                     .mean = hymn_selftest_mean,
                                     .std = hymn_selftest_std};
    const struct hymn_vk_binding from = hymn_lower_value(&run->lower, problem->pictures), none = {0};
    const bool joined = program->count == 1 && hymn_picture_joined(run->lower.plan, &program->steps[0], source);
    enum hymn_status status =
        joined ? hymn_picture_join(&steps, &program->steps[0], problem->picture_format, from)
               : hymn_image_input(&steps, problem->picture_format, steps.height, steps.width, from, none);
    if (!joined && status == HYMN_STATUS_OK && !hymn_vk_program_append(&made, program)) {
        status = hymn_fail(run->lower.log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    }
    hymn_vk_program_free(program);
    *program = made;
    return status;
}

bool hymn_selftest_same_masks(const struct hymn_selftest_run *run) {
    if (run->problem->masks == HYMN_NONE || run->lower.program.count == 1) {
        return true;
    }
    const struct hymn_value *value = &run->problem->graph.values[run->problem->masks];
    const uint8_t *masks = run->after + value->offset;
    // Not all as they were before, which is 255.
    return memchr(masks, 0, value->bytes / 2) && memcmp(masks, masks + value->bytes / 2, value->bytes / 2) == 0;
}

enum hymn_status hymn_selftest_open(struct hymn_vk_device *device, const struct hymn_vk_plan *plan, bool steps_only,
                                    struct hymn_selftest_problem *problem, struct hymn_selftest_run *run) {
    memset(run, 0, sizeof *run);
    run->device = device;
    run->problem = problem;
    run->lower = (struct hymn_lower){.graph = &problem->graph, .plan = plan, .log = &device->log, .blank = steps_only};
    enum hymn_status status = hymn_ops_prepare(&problem->graph, plan, &device->log);
    const uint32_t taken[] = {problem->graph.nodes[0].pooled, problem->graph.nodes[0].convolved};
    for (uint32_t i = 0; i < 2; i++) {
        if (taken[i] != HYMN_NONE) {
            problem->written[taken[i]] = true;
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_graph_plan_memory(&problem->graph, false, &device->log);
    }
    status = status == HYMN_STATUS_OK ? hymn_ops_lower(&run->lower) : status;
    if (status == HYMN_STATUS_OK && problem->pictures != HYMN_NONE) {
        status = add_pictures(run);
    }
    return status == HYMN_STATUS_OK && problem->masks != HYMN_NONE ? add_masks(run) : status;
}

bool hymn_selftest_uses(const struct hymn_selftest_run *run, const struct hymn_shader *shader) {
    for (uint32_t i = 0; i < run->lower.program.count; i++) {
        // What makes masks of what the convolution has made is not to blame for that.
        bool behind = run->problem->masks != HYMN_NONE && i > 0 && i + 1 < run->lower.program.count;
        if (run->lower.program.steps[i].shader == shader && !behind) {
            return true;
        }
    }
    return false;
}

static enum hymn_status fill_upload(const struct hymn_selftest_run *run) {
    const struct hymn_graph *graph = &run->problem->graph;
    const struct hymn_lower *lower = &run->lower;
    const struct hymn_vk_buffer *upload = &run->room->upload;
    memset(upload->mapped, 0xFF, run->bytes); // NaN in either storage
    for (uint32_t i = 0; i < graph->value_count && i < HYMN_SELFTEST_MAX_VALUES; i++) {
        if (run->problem->values[i] && !run->problem->written[i]) {
            encode(run, i);
        }
    }
    for (uint32_t i = 0; i < lower->block_count; i++) {
        const struct hymn_vk_write *block = &lower->blocks[i];
        memcpy(upload->mapped + run->bytes + block->offset, block->data, block->bytes);
    }
    return hymn_vk_buffer_flush(run->device, upload, 0, run->bytes + lower->weight_bytes);
}

static enum hymn_status enlarge(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                const char *what, struct hymn_vk_buffer *buffer) {
    if (bytes <= buffer->bytes) {
        return HYMN_STATUS_OK;
    }
    uint64_t size = ROOM_BYTES;
    while (size < bytes) {
        size *= 2;
    }
    hymn_vk_buffer_destroy(device, buffer);
    return hymn_vk_buffer_create(device, usage, size, what, buffer);
}

static enum hymn_status make_buffers(struct hymn_selftest_run *run) {
    struct hymn_vk_device *device = run->device;
    struct hymn_selftest_room *room = run->room;
    const uint64_t weight_bytes = run->lower.weight_bytes;
    enum hymn_status status =
        enlarge(device, HYMN_VK_USAGE_UPLOAD, run->bytes + weight_bytes, "self-test's input", &room->upload);
    if (status == HYMN_STATUS_OK) {
        status = enlarge(device, HYMN_VK_USAGE_DEVICE, run->bytes, "self-test", &room->activations);
    }
    if (status == HYMN_STATUS_OK) {
        status = enlarge(device, HYMN_VK_USAGE_DEVICE, weight_bytes, "self-test's weights", &room->weights);
    }
    if (status == HYMN_STATUS_OK) {
        status = enlarge(device, HYMN_VK_USAGE_READBACK, run->bytes, "self-test's output", &room->readback);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_create_zeroed(device, run->lower.counter_bytes, "self-test's counters", &run->counters);
    }
    return status;
}

static void add_copy(struct hymn_vk_step *steps, uint32_t *count, struct hymn_vk_binding from,
                     struct hymn_vk_binding to) {
    if (to.bytes > 0) {
        steps[(*count)++] = (struct hymn_vk_step){.kind = HYMN_VK_STEP_COPY,
                                                  .name = "self-test's copy",
                                                  .bindings = {from, to},
                                                  .binding_count = 2,
                                                  .write_mask = 1u << 1};
    }
}

// The program between copies of what it uses, so that a run is one submission.
static enum hymn_status record(struct hymn_selftest_run *run) {
    const struct hymn_vk_program *program = &run->lower.program;
    struct hymn_vk_step *steps = hymn_alloc(program->count + 3, sizeof *steps);
    if (!steps) {
        return hymn_fail(&run->device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    }
    const struct hymn_vk_binding activations = {HYMN_VK_ROLE_ACTIVATIONS, 0, run->bytes};
    const struct hymn_vk_binding weights = {HYMN_VK_ROLE_WEIGHTS, 0, run->lower.weight_bytes};
    const struct hymn_vk_binding inputs = {HYMN_VK_ROLE_UPLOAD, 0, activations.bytes};
    const struct hymn_vk_binding packed = {HYMN_VK_ROLE_UPLOAD, run->bytes, weights.bytes};
    const struct hymn_vk_binding outputs = {HYMN_VK_ROLE_READBACK, 0, activations.bytes};
    uint32_t count = 0;
    add_copy(steps, &count, inputs, activations);
    add_copy(steps, &count, packed, weights);
    memcpy(steps + count, program->steps, program->count * sizeof *steps);
    count += program->count;
    add_copy(steps, &count, activations, outputs);
    const struct hymn_vk_record_params params = {
        .name = "self-test",
        .steps = steps,
        .count = count,
        .buffers = {[HYMN_VK_ROLE_UPLOAD] = &run->room->upload,
                    [HYMN_VK_ROLE_ACTIVATIONS] = &run->room->activations,
                    [HYMN_VK_ROLE_READBACK] = &run->room->readback,
                    [HYMN_VK_ROLE_WEIGHTS] = &run->room->weights,
                    [HYMN_VK_ROLE_COUNTERS] = &run->counters},
    };
    const enum hymn_status status = hymn_vk_command_record(run->device, &params, &run->command);
    hymn_free(steps);
    return status;
}

enum hymn_status hymn_selftest_ready(struct hymn_selftest_run *run, struct hymn_selftest_room *room) {
    struct hymn_vk_device *device = run->device;
    run->room = room;
    run->bytes = (run->problem->graph.activation_bytes + 255) / 256 * 256;
    run->after = hymn_alloc(run->bytes, 1);
    enum hymn_status status =
        run->after ? hymn_vk_pipelines_prepare(device, run->lower.program.steps, run->lower.program.count)
                   : hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    if (status == HYMN_STATUS_OK) {
        status = make_buffers(run);
    }
    if (status == HYMN_STATUS_OK) {
        status = fill_upload(run);
    }
    if (status == HYMN_STATUS_OK) {
        status = record(run);
    }
    return status == HYMN_STATUS_OK ? hymn_vk_fence_create(device, &run->fence) : status;
}

enum hymn_status hymn_selftest_execute(struct hymn_selftest_run *run) {
    enum hymn_status status =
        hymn_vk_submit(run->device, (const struct hymn_vk_command *[]){&run->command}, 1, run->fence);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_wait(run->device, run->fence);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_invalidate(run->device, &run->room->readback, 0, run->bytes);
    }
    if (status == HYMN_STATUS_OK) {
        memcpy(run->after, run->room->readback.mapped, run->bytes);
    }
    return status;
}

bool hymn_selftest_same(const struct hymn_selftest_run *run, const uint8_t *first) {
    const struct hymn_graph *graph = &run->problem->graph;
    bool same = true;
    for (uint32_t i = 0; i < HYMN_SELFTEST_MAX_VALUES; i++) {
        if (run->problem->written[i] || i == run->problem->masks) {
            const struct hymn_value *value = &graph->values[i];
            same = same && memcmp(run->after + value->offset, first + value->offset, value->bytes) == 0;
        }
    }
    return same;
}

void hymn_selftest_close(struct hymn_selftest_run *run) {
    hymn_vk_command_destroy(run->device, &run->command);
    hymn_vk_fence_destroy(run->device, &run->fence);
    hymn_vk_buffer_destroy(run->device, &run->counters);
    hymn_lower_free(&run->lower);
    hymn_free(run->after);
}

static void empty_room(struct hymn_vk_device *device, struct hymn_selftest_room *room) {
    hymn_vk_buffer_destroy(device, &room->upload);
    hymn_vk_buffer_destroy(device, &room->activations);
    hymn_vk_buffer_destroy(device, &room->weights);
    hymn_vk_buffer_destroy(device, &room->readback);
}

void hymn_selftest_rooms_free(struct hymn_vk_device *device, struct hymn_selftest_rooms *rooms) {
    empty_room(device, &rooms->own);
    empty_room(device, &rooms->base);
}
