// SPDX-License-Identifier: MIT
//
// Pictures straight into the network's first convolution, where that is able to normalise them by itself: see also
// ops/image.h, whose hymn_image_input makes what the convolution reads otherwise.
#ifndef HYMN_OPS_PICTURE_H
#define HYMN_OPS_PICTURE_H

#include "ops/image.h"
#include "vk/plan.h"

// The shader by which the network's first step makes its input itself; NULL: there is none, or it is no such step.
const struct hymn_shader *hymn_picture_joined(const struct hymn_vk_plan *plan, const struct hymn_vk_step *first,
                                              const struct hymn_value *input);
// Appends a step in place of `first` and of hymn_image_input, for 8-bit pixels of the session's size, of one format, of
// all images of the batch (steps->count). Pixels as there. OUT_OF_MEMORY, INTERNAL.
enum hymn_status hymn_picture_join(const struct hymn_image_steps *steps, const struct hymn_vk_step *first,
                                   enum hymn_pixel_format format, struct hymn_vk_binding pixels);

#endif
