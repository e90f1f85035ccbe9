// SPDX-License-Identifier: MIT
#include "ops/head.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "ops/grid.h"
#include "shaders/params.h"

enum { CONSTANT_CLASSES = 2, CONSTANT_CELLS = 3 }; // behind those of hymn_grid_set

static_assert(HYMN_HEAD_MAX_ROWS < HYMN_GRID_MAX_LANES, "the graph has heads that cannot be dispatched");

// [classes][cells][8], then [classes], both of whole vec4s: shaders/head.comp.
static bool pack(struct hymn_lower *lower, const struct hymn_node *node, uint32_t cells,
                 struct hymn_vk_binding *out_binding) {
    uint32_t classes = node->out_channels, channels = node->terms[0].source.channels, width = 8 * cells;
    uint64_t floats = (uint64_t)classes * width + hymn_round_up(classes, 4);
    float *weights = hymn_lower_weights(lower, floats * sizeof *weights, out_binding);
    for (uint32_t i = 0; weights && i < classes; i++) {
        memcpy(weights + (uint64_t)i * width, node->terms[0].weights + (uint64_t)i * channels,
               channels * sizeof *weights);
    }
    if (weights && node->bias) {
        memcpy(weights + (uint64_t)classes * width, node->bias, classes * sizeof *weights);
    }
    return weights;
}

enum hymn_status hymn_head_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_source *x = &node->terms[0].source;
    const struct hymn_value *source = &lower->graph->values[x->value];
    const struct hymn_value *output = &lower->graph->values[node->output];
    uint32_t cells = hymn_round_up(x->channels, 8) / 8, batch = lower->graph->batch;
    struct hymn_vk_binding weights;
    if (!pack(lower, node, cells, &weights)) {
        return lower->status;
    }
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "head", hymn_storage_suffix(source->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, x->value), false);
    hymn_lower_bind(step, weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    step->bytes = source->bytes / hymn_value_cells(source) * cells + output->bytes;
    step->flops = 2 * hymn_node_macs(lower->graph, node);
    struct hymn_head_params params = {
        .width = output->width,
        .height = output->height,
        .padded_width = output->width,
        .padded_height = output->height,
        .stride = hymn_value_cells(source),
        .first = x->first / 8,
        .images = batch,
        .rows_reciprocal = 1.0f / (float)output->height,
    };
    hymn_vk_step_push(step, &params, sizeof params);
    enum hymn_status status =
        hymn_grid_set(step, lower->plan, lower->log, output->width, (uint64_t)batch * output->height);
    hymn_step_constant(step, node->out_channels);
    hymn_step_constant(step, cells);
    return status;
}

// The variant that makes masks of what the head's step reads; NULL where it is no head's.
static const struct hymn_shader *find_mask(const struct hymn_vk_step *head) {
    static const char *const names[][2] = {{"head.f16", "head_mask.f16"}, {"head.f32", "head_mask.f32"}};
    for (size_t i = 0; i < sizeof names / sizeof *names && head->shader; i++) {
        if (strcmp(head->shader->name, names[i][0]) == 0) {
            return hymn_shader_find(names[i][1]);
        }
    }
    return NULL;
}

bool hymn_head_has_mask(const struct hymn_vk_step *step) {
    return find_mask(step) && step->constants[CONSTANT_CLASSES] == 1;
}

// Gives `out` the bytes of all masks; returns those from one to the next.
static uint64_t place_masks(const struct hymn_image_steps *steps, struct hymn_vk_binding *out) {
    uint64_t bytes = hymn_image_mask_bytes(steps->height, steps->width);
    uint64_t apart = (bytes + HYMN_IMAGE_ALIGNMENT - 1) / HYMN_IMAGE_ALIGNMENT * HYMN_IMAGE_ALIGNMENT;
    out->bytes = (steps->count - 1) * apart + bytes;
    return apart;
}

enum hymn_status hymn_head_mask(const struct hymn_image_steps *steps, const struct hymn_vk_step *head, float threshold,
                                struct hymn_vk_binding out) {
    const struct hymn_shader *shader = find_mask(head);
    struct hymn_vk_step *step = shader ? hymn_vk_program_add(steps->program) : NULL;
    if (!step) {
        return hymn_fail(steps->log, shader ? HYMN_STATUS_OUT_OF_MEMORY : HYMN_STATUS_INTERNAL, "%s: %s", head->name,
                         shader ? "out of memory" : "no shader for masks");
    }
    uint64_t apart = place_masks(steps, &out);
    step->name = head->name;
    step->shader = shader;
    hymn_lower_bind(step, head->bindings[0], false);
    hymn_lower_bind(step, head->bindings[1], false);
    hymn_lower_bind(step, out, true);
    struct hymn_head_params params;
    memcpy(&params, head->push, sizeof params);
    params.width = steps->width;
    params.height = steps->height;
    params.index = steps->index;
    params.images = steps->count;
    params.image_words = (uint32_t)(apart / 4);
    params.threshold = threshold;
    params.rows_reciprocal = 1.0f / (float)steps->height;
    hymn_vk_step_push(step, &params, sizeof params);
    uint64_t pixels = (uint64_t)steps->count * steps->height * steps->width;
    uint64_t pixel_bytes = head->shader == hymn_shader_find("head.f16") ? 16 : 32;
    step->bytes = pixels * head->constants[CONSTANT_CELLS] * pixel_bytes + out.bytes;
    step->flops = pixels * head->constants[CONSTANT_CELLS] * 16;
    enum hymn_status status =
        hymn_grid_set(step, steps->plan, steps->log, (steps->width + 3) / 4, (uint64_t)steps->count * steps->height);
    hymn_step_constant(step, head->constants[CONSTANT_CLASSES]);
    hymn_step_constant(step, head->constants[CONSTANT_CELLS]);
    return status;
}

const struct hymn_shader *hymn_head_joined(const struct hymn_vk_plan *plan, const struct hymn_vk_step *before,
                                           const struct hymn_vk_step *head) {
    struct hymn_head_params params;
    if (!hymn_head_has_mask(head)) {
        return NULL;
    }
    memcpy(&params, head->push, sizeof params);
    const struct hymn_vk_binding *made = &before->bindings[1], *read = &head->bindings[0];
    bool same = before->binding_count > 1 && made->role == read->role && made->offset == read->offset &&
                params.first == 0 && params.stride == head->constants[CONSTANT_CELLS];
    return same ? hymn_conv2d_matrix_find_mask(plan, before, head->constants[CONSTANT_CELLS]) : NULL;
}

static_assert(sizeof(struct hymn_conv2d_mask_params) >= sizeof(struct hymn_conv2d_params) &&
                  offsetof(struct hymn_conv2d_mask_params, cells2) == offsetof(struct hymn_conv2d_params, cells2) &&
                  offsetof(struct hymn_conv2d_mask_params, tiles_down) ==
                      offsetof(struct hymn_conv2d_params, tiles_down) &&
                  offsetof(struct hymn_conv2d_mask_params, bias_at) == offsetof(struct hymn_conv2d_params, bias_at),
              "masks take the places of what the matrix kernel does not read");

enum hymn_status hymn_head_join(const struct hymn_image_steps *steps, const struct hymn_vk_step *before,
                                const struct hymn_vk_step *head, float threshold, struct hymn_vk_binding out) {
    const struct hymn_shader *shader = hymn_head_joined(steps->plan, before, head);
    struct hymn_vk_step *step = shader ? hymn_vk_program_add(steps->program) : NULL;
    if (!step) {
        return hymn_fail(steps->log, shader ? HYMN_STATUS_OUT_OF_MEMORY : HYMN_STATUS_INTERNAL, "%s: %s", head->name,
                         shader ? "out of memory" : "no shader for masks");
    }
    *step = *before;
    step->shader = shader;
    step->slices = 0;
    step->seconds = 0.0;
    uint64_t apart = place_masks(steps, &out);
    struct hymn_conv2d_mask_params params = {0};
    memcpy(&params, before->push, sizeof(struct hymn_conv2d_params));
    params.mask_width = steps->width;
    params.mask_height = steps->height;
    params.index = steps->index;
    params.images = steps->count;
    params.image_words = (uint32_t)(apart / 4);
    params.threshold = threshold;
    hymn_vk_step_push(step, &params, sizeof params);
    step->bytes += out.bytes - before->bindings[1].bytes;
    step->flops += head->flops;
    step->bindings[1] = out;
    hymn_lower_bind(step, head->bindings[1], false);
    return HYMN_STATUS_OK;
}
