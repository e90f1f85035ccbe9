// SPDX-License-Identifier: MIT
#include "ops/picture.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "ops/grid.h"
#include "ops/ops.h"
#include "shaders/params.h"

enum { BINDING_SOURCE = 2 };

const struct hymn_shader *hymn_picture_joined(const struct hymn_vk_plan *plan, const struct hymn_vk_step *first,
                                              const struct hymn_value *input) {
    const struct hymn_vk_binding *read = &first->bindings[BINDING_SOURCE];
    bool channels = input->channels == 3 || input->channels == 1; // of what images are made into
    bool same = channels && first->binding_count > BINDING_SOURCE &&
                read->role == hymn_vk_role_of_piece(input->piece) && read->offset == input->offset;
    return same ? hymn_conv2d_matrix_find_pictures(plan, first) : NULL;
}

static_assert(sizeof(struct hymn_conv2d_picture_params) == sizeof(struct hymn_conv2d_params) &&
                  offsetof(struct hymn_conv2d_picture_params, picture_width) ==
                      offsetof(struct hymn_conv2d_params, cells1) &&
                  offsetof(struct hymn_conv2d_picture_params, tiles_down) ==
                      offsetof(struct hymn_conv2d_params, tiles_down) &&
                  offsetof(struct hymn_conv2d_picture_params, bias_at) == offsetof(struct hymn_conv2d_params, bias_at),
              "pictures take the places of what the matrix kernel does not read");

enum hymn_status hymn_picture_join(const struct hymn_image_steps *steps, const struct hymn_vk_step *first,
                                   enum hymn_pixel_format format, struct hymn_vk_binding pixels) {
    const struct hymn_shader *shader = hymn_picture_joined(steps->plan, first, steps->input);
    struct hymn_vk_step *step = shader ? hymn_vk_program_add(steps->program) : NULL;
    if (!step) {
        return hymn_fail(steps->log, shader ? HYMN_STATUS_OUT_OF_MEMORY : HYMN_STATUS_INTERNAL, "%s: %s", first->name,
                         shader ? "out of memory" : "no shader for pictures");
    }
    *step = *first;
    step->shader = shader;
    step->slices = 0;
    step->seconds = 0.0;
    uint64_t apart;
    pixels.bytes = hymn_image_pixels_together(steps, format, steps->height, steps->width, &apart);
    float mean[3], std[3];
    hymn_image_norm(steps, mean, std);
    struct hymn_conv2d_picture_params params;
    memcpy(&params, first->push, sizeof params);
    params.picture_width = steps->width;
    params.picture_height = steps->height;
    params.image_bytes = (uint32_t)apart;
    params.last_word = (uint32_t)(pixels.bytes / 4 - 1);
    params.mean0 = mean[0], params.mean1 = mean[1], params.mean2 = mean[2];
    params.std0 = std[0], params.std1 = std[1], params.std2 = std[2];
    params.most = 255.0f;
    hymn_vk_step_push(step, &params, sizeof params);
    hymn_step_constant(step, hymn_image_pixel_channels(format));
    hymn_step_constant(step, steps->in_channels);
    step->bytes += pixels.bytes;
    hymn_lower_bind(step, step->bindings[BINDING_SOURCE], true); // what was read is written now
    step->bindings[BINDING_SOURCE] = pixels;
    return HYMN_STATUS_OK;
}
