// SPDX-License-Identifier: MIT
//
// Pre- and post-processing: what surrounds the network for the images of a run. Not nodes of the graph: a session
// appends these steps to programs of its own, for neighbouring images of the same size together. Pure, like the
// operators' lowerings.
//
// All bindings that a caller passes are those of the first image: their offsets are multiples of 256, and they have at
// least the bytes that the size function beside says, which are a multiple of 4. The other images' follow, each
// HYMN_IMAGE_ALIGNMENT-aligned behind the one before. Steps read what earlier steps of the same program wrote, and
// images may share one scratch.
#ifndef HYMN_OPS_IMAGE_H
#define HYMN_OPS_IMAGE_H

#include "graph/graph.h"
#include "vk/plan.h"
#include "vk/program.h"

enum { HYMN_IMAGE_MAX_SIDE = 65535, HYMN_IMAGE_ALIGNMENT = 256 };

// Where steps go, and the network's two ends for the images `index`, `index + 1`, ... of the batch.
struct hymn_image_steps {
    struct hymn_vk_program *program;
    const struct hymn_vk_plan *plan;
    const struct hymn_log *log;
    const struct hymn_value *input;  // [batch, Hp, Wp, 8], offset set; in_channels <= 8
    const struct hymn_value *output; // [batch, Hp, Wp, stride] f32, offset set
    uint32_t index;                  // first image, of the batch
    uint32_t count;                  // images: 1, or what hymn_image_most_together allows
    uint32_t height, width;          // of the session, at most Hp x Wp: what is beyond is padding
    uint32_t in_channels, num_classes;
    const float *mean, *std; // [in_channels]
};

// How many images of a size one call of each function below can take; at least 1. tensor: they are float tensors, and
// format does not matter.
uint32_t hymn_image_most_together(const struct hymn_image_steps *steps, bool tensor, enum hymn_pixel_format format,
                                  uint32_t height, uint32_t width);

// Bytes of an image in the upload buffer: dense rows, no gap between them, rounded up to a multiple of 4.
uint64_t hymn_image_pixel_bytes(enum hymn_pixel_format format, uint32_t height, uint32_t width);
// 0: no such format.
uint32_t hymn_image_pixel_channels(enum hymn_pixel_format format);
// Of steps->count such images, HYMN_IMAGE_ALIGNMENT-aligned behind each other; out_apart: from one to the next.
uint64_t hymn_image_pixels_together(const struct hymn_image_steps *steps, enum hymn_pixel_format format,
                                    uint32_t height, uint32_t width, uint64_t *out_apart);
// Means and deviations of three channels; where the network has one, 0 and 1 for the others.
void hymn_image_norm(const struct hymn_image_steps *steps, float out_mean[3], float out_std[3]);
// Whether an image goes into the network as it is, not resized.
bool hymn_image_goes_as_it_is(const struct hymn_image_steps *steps, enum hymn_pixel_format format, uint32_t height,
                              uint32_t width);
// Bytes of scratch for steps->count images of this size; 0 for images of the session's size, which are not resized.
uint64_t hymn_image_input_scratch_bytes(const struct hymn_image_steps *steps, enum hymn_pixel_format format,
                                        uint32_t height, uint32_t width);
// 8-bit pixels [height, width] of any size up to 65535 x 65535 -> network input: antialiased triangle resize to the
// session's size (torch: interpolate(mode="bilinear", antialias=True, align_corners=False) on floats), / 255,
// (v - mean) / std, edges repeated into the padding, other channels zero. One step for images of the session's size
// (unless one is more than a binding holds), two for others that fit a binding and the scratch. in_channels: 3, or 1
// (luma of BT.601); others are INVALID_ARGUMENT. UNSUPPORTED: a session wider or higher than 32768. OUT_OF_MEMORY,
// INTERNAL.
enum hymn_status hymn_image_input(const struct hymn_image_steps *steps, enum hymn_pixel_format format, uint32_t height,
                                  uint32_t width, struct hymn_vk_binding pixels, struct hymn_vk_binding scratch);

// float [in_channels, height, width], already normalised, dense -> network input, edges repeated into the padding.
uint64_t hymn_image_tensor_bytes(const struct hymn_image_steps *steps);
enum hymn_status hymn_image_tensor_input(const struct hymn_image_steps *steps, struct hymn_vk_binding tensor);

// Network output -> float [num_classes, height, width], dense.
uint64_t hymn_image_logits_bytes(const struct hymn_image_steps *steps);
enum hymn_status hymn_image_logits(const struct hymn_image_steps *steps, struct hymn_vk_binding out);

// Network output -> float [num_classes, height, width] of probabilities (sigmoid of one class, softmax of several), as
// the two functions below read them. As many bytes as the logits.
enum hymn_status hymn_image_activate(const struct hymn_image_steps *steps, struct hymn_vk_binding out);

// Probabilities of the session's size -> float [num_classes, out_height, out_width], dense: bilinear, half-pixel
// centres, edges clamped, not antialiased.
uint64_t hymn_image_probability_bytes(const struct hymn_image_steps *steps, uint32_t out_height, uint32_t out_width);
enum hymn_status hymn_image_probabilities(const struct hymn_image_steps *steps, struct hymn_vk_binding activated,
                                          uint32_t out_height, uint32_t out_width, struct hymn_vk_binding out);

// The same resize, then one byte a pixel: one class: 255 where probability >= threshold, else 0; several: the class of
// the largest probability, the lower one of equals. Rows are padded to multiples of 4 bytes: out_height rows of
// hymn_image_mask_row_bytes(out_width).
uint32_t hymn_image_mask_row_bytes(uint32_t out_width);
uint64_t hymn_image_mask_bytes(uint32_t out_height, uint32_t out_width);
enum hymn_status hymn_image_mask(const struct hymn_image_steps *steps, struct hymn_vk_binding activated,
                                 float threshold, uint32_t out_height, uint32_t out_width, struct hymn_vk_binding out);

// Results of the session's size: the same bits as by activating and resizing, each in one step.
bool hymn_image_is_of_session_size(const struct hymn_image_steps *steps, uint32_t height, uint32_t width);
enum hymn_status hymn_image_probabilities_directly(const struct hymn_image_steps *steps, struct hymn_vk_binding out);
enum hymn_status hymn_image_mask_directly(const struct hymn_image_steps *steps, float threshold,
                                          struct hymn_vk_binding out);

#endif
