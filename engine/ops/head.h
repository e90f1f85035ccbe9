// SPDX-License-Identifier: MIT
//
// Masks from what the network's head reads, without the logits in between: see also ops/image.h, whose
// hymn_image_mask_directly makes the same bits of the logits.
#ifndef HYMN_OPS_HEAD_H
#define HYMN_OPS_HEAD_H

#include "ops/image.h"
#include "vk/plan.h"

// Whether the step is a head's, and of one class: what the function below goes on from.
bool hymn_head_has_mask(const struct hymn_vk_step *step);
// Appends a step in place of the head's `head` and of hymn_image_mask_directly: masks of the session's size of
// steps->count images, one byte a pixel, 255 where the probability >= threshold, else 0. out: as there. UNSUPPORTED,
// OUT_OF_MEMORY, INTERNAL.
enum hymn_status hymn_head_mask(const struct hymn_image_steps *steps, const struct hymn_vk_step *head, float threshold,
                                struct hymn_vk_binding out);

// The shader by which the step before a head's makes the masks itself, without the tensor in between: a convolution's,
// where it has one for that. NULL: there is none.
const struct hymn_shader *hymn_head_joined(const struct hymn_vk_plan *plan, const struct hymn_vk_step *before,
                                           const struct hymn_vk_step *head);
// As hymn_head_mask, in place of both steps: the same bits.
enum hymn_status hymn_head_join(const struct hymn_image_steps *steps, const struct hymn_vk_step *before,
                                const struct hymn_vk_step *head, float threshold, struct hymn_vk_binding out);

#endif
