// SPDX-License-Identifier: MIT
//
// What surrounds the network in a run: the layout of a slot's buffers and the commands that bring images in and results
// out. Recorded again only when a run's images differ in size or kind from those of the slot's last run.
#include <string.h>

#include "ops/head.h"
#include "ops/picture.h"
#include "session/session.h"
#include "vk/divide.h"
#include "vk/pipeline.h"

// Sizes of a slot's buffers for one run.
struct layout {
    uint64_t upload, readback;
    uint64_t scratch, activated; // offsets in the image buffer, behind the copy of the upload
    uint64_t scratch_bytes, activated_bytes;
    uint64_t image; // bytes of the image buffer
    bool direct;    // shaders read the upload where it is
};

static uint64_t aligned(uint64_t bytes) {
    return (bytes + HYMN_IMAGE_ALIGNMENT - 1) / HYMN_IMAGE_ALIGNMENT * HYMN_IMAGE_ALIGNMENT;
}

static struct hymn_image_steps steps_for(const struct hymn_session *session, struct hymn_vk_program *program,
                                         uint32_t index, uint32_t count) {
    return (struct hymn_image_steps){
        .program = program,
        .plan = &session->plan,
        .log = &session->log,
        .input = &session->input,
        .output = &session->output,
        .index = index,
        .count = count,
        .height = session->info.height,
        .width = session->info.width,
        .in_channels = session->in_channels,
        .num_classes = session->num_classes,
        .mean = session->mean,
        .std = session->std,
    };
}

// Adds `bytes` at the end of a buffer and returns where.
static uint64_t reserve(uint64_t *end, uint64_t bytes) {
    uint64_t at = *end;
    *end += aligned(bytes);
    return at;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static bool same_request(const struct hymn_io_image *a, const struct hymn_io_image *b) {
    return a->height == b->height && a->width == b->width && a->format == b->format && a->tensor == b->tensor &&
           a->logits == b->logits && a->probabilities == b->probabilities && a->mask == b->mask;
}

// How many images from `first` on go through the same steps together.
static uint32_t group_size(const struct hymn_session *session, const struct hymn_io_image *images, uint32_t count,
                           uint32_t first) {
    const struct hymn_io_image *image = &images[first];
    struct hymn_image_steps steps = steps_for(session, NULL, first, 1);
    uint32_t most = hymn_image_most_together(&steps, image->tensor, image->format, image->height, image->width);
    uint32_t size = 1;
    while (size < most && first + size < count && same_request(image, &images[first + size])) {
        size++;
    }
    return size;
}

// Places one result of each image of a group, one after the other; the members of the places are `stride` bytes apart.
static void place(uint64_t *end, uint32_t count, uint64_t bytes, uint64_t *out_first, size_t stride) {
    for (uint32_t i = 0; i < count; i++) {
        *(uint64_t *)((uint8_t *)out_first + i * stride) = reserve(end, bytes);
    }
}

static void lay_out_group(const struct hymn_session *session, const struct hymn_io_image *image, uint32_t count,
                          struct hymn_io_place *places, struct layout *layout) {
    struct hymn_image_steps steps = steps_for(session, NULL, 0, count);
    uint64_t input = image->tensor ? hymn_image_tensor_bytes(&steps)
                                   : hymn_image_pixel_bytes(image->format, image->height, image->width);
    uint64_t scratch =
        image->tensor ? 0 : hymn_image_input_scratch_bytes(&steps, image->format, image->height, image->width);
    memset(places, 0, count * sizeof *places);
    place(&layout->upload, count, input, &places->upload, sizeof *places);
    layout->scratch_bytes = larger(layout->scratch_bytes, scratch);
    if (image->logits) {
        place(&layout->readback, count, hymn_image_logits_bytes(&steps), &places->logits, sizeof *places);
    }
    if (image->probabilities) {
        place(&layout->readback, count, hymn_image_probability_bytes(&steps, image->height, image->width),
              &places->probabilities, sizeof *places);
    }
    if (image->mask) {
        place(&layout->readback, count, hymn_image_mask_bytes(image->height, image->width), &places->mask,
              sizeof *places);
    }
    bool resized = !hymn_image_is_of_session_size(&steps, image->height, image->width);
    if (resized && (image->probabilities || image->mask)) {
        layout->activated_bytes = larger(layout->activated_bytes, count * aligned(hymn_image_logits_bytes(&steps)));
    }
}

static struct layout lay_out(const struct hymn_session *session, const struct hymn_io_image *images, uint32_t count,
                             struct hymn_io_place *places) {
    struct layout layout = {0};
    for (uint32_t i = 0, size; i < count; i += size) {
        size = group_size(session, images, count, i);
        lay_out_group(session, &images[i], size, &places[i], &layout);
    }
    return layout;
}

static void lay_out_image(struct layout *layout, bool direct) {
    layout->direct = direct;
    layout->image = direct ? 0 : layout->upload;
    layout->scratch = reserve(&layout->image, layout->scratch_bytes);
    layout->activated = reserve(&layout->image, layout->activated_bytes);
}

// --------------------------------------------------------------------------------------------------------- programs

static enum hymn_status add_copy(const struct hymn_session *session, struct hymn_vk_program *program, uint64_t bytes) {
    struct hymn_vk_step *step = hymn_vk_program_add(program);
    if (!step) {
        return hymn_fail(&session->log, HYMN_STATUS_OUT_OF_MEMORY, "run: out of memory");
    }
    step->kind = HYMN_VK_STEP_COPY;
    step->name = "input.copy";
    step->bindings[0] = (struct hymn_vk_binding){HYMN_VK_ROLE_UPLOAD, 0, bytes};
    step->bindings[1] = (struct hymn_vk_binding){HYMN_VK_ROLE_IMAGE, 0, bytes};
    step->binding_count = 2;
    step->write_mask = 2;
    step->bytes = 2 * bytes;
    return HYMN_STATUS_OK;
}

static enum hymn_status add_step(const struct hymn_session *session, const struct hymn_vk_step *from,
                                 struct hymn_vk_program *program) {
    struct hymn_vk_step *step = hymn_vk_program_add(program);
    if (!step) {
        return hymn_fail(&session->log, HYMN_STATUS_OUT_OF_MEMORY, "run: out of memory");
    }
    *step = *from;
    return HYMN_STATUS_OK;
}

// Whether pictures go into the network's first convolution as they are: those of the whole batch, in one step.
static bool joins_pictures(const struct hymn_session *session, const struct hymn_io_image *images, uint32_t count) {
    struct hymn_image_steps steps = steps_for(session, NULL, 0, count);
    return session->has_first && count == session->info.batch && !images[0].tensor &&
           hymn_image_goes_as_it_is(&steps, images[0].format, images[0].height, images[0].width) &&
           group_size(session, images, count, 0) == count;
}

static enum hymn_status build_before(const struct hymn_session *session, const struct hymn_io_image *images,
                                     const struct hymn_io_place *places, uint32_t count, const struct layout *layout,
                                     struct hymn_vk_program *program) {
    const bool join = joins_pictures(session, images, count);
    enum hymn_status status = layout->direct ? HYMN_STATUS_OK : add_copy(session, program, layout->upload);
    for (uint32_t i = 0, size; i < count && status == HYMN_STATUS_OK; i += size) {
        size = group_size(session, images, count, i);
        const struct hymn_io_image *image = &images[i];
        struct hymn_image_steps steps = steps_for(session, program, i, size);
        struct hymn_vk_binding from = {
            .role = layout->direct ? HYMN_VK_ROLE_UPLOAD : HYMN_VK_ROLE_IMAGE,
            .offset = places[i].upload,
            .bytes = image->tensor ? hymn_image_tensor_bytes(&steps)
                                   : hymn_image_pixel_bytes(image->format, image->height, image->width),
        };
        struct hymn_vk_binding scratch = {HYMN_VK_ROLE_IMAGE, layout->scratch, layout->scratch_bytes};
        status = image->tensor ? hymn_image_tensor_input(&steps, from)
                 : join        ? hymn_picture_join(&steps, &session->first, image->format, from)
                               : hymn_image_input(&steps, image->format, image->height, image->width, from, scratch);
    }
    return status == HYMN_STATUS_OK && session->has_first && !join ? add_step(session, &session->first, program)
                                                                   : status;
}

// Whether masks of the network's size are all that the images ask for.
static bool only_masks(const struct hymn_session *session, const struct hymn_io_image *images, uint32_t count) {
    struct hymn_image_steps steps = steps_for(session, NULL, 0, 1);
    bool only = true;
    for (uint32_t i = 0; i < count && only; i++) {
        const struct hymn_io_image *image = &images[i];
        only = image->mask && !image->logits && !image->probabilities &&
               hymn_image_is_of_session_size(&steps, image->height, image->width);
    }
    return only;
}

// What masks are made of: of what the network's head reads, where there is one, and of what the convolution before it
// reads, where that is there too; else of the logits, as everything else.
struct mask_source {
    const struct hymn_vk_step *joined, *head;
};

static enum hymn_status add_mask(const struct hymn_image_steps *steps, const struct mask_source *from, float threshold,
                                 struct hymn_vk_binding to) {
    return from->joined ? hymn_head_join(steps, from->joined, from->head, threshold, to)
           : from->head ? hymn_head_mask(steps, from->head, threshold, to)
                        : hymn_image_mask_directly(steps, threshold, to);
}

static enum hymn_status build_outputs(const struct hymn_image_steps *steps, const struct hymn_io_image *image,
                                      const struct hymn_io_place *place, const struct layout *layout, float threshold,
                                      const struct mask_source *masks) {
    enum hymn_status status = HYMN_STATUS_OK;
    struct hymn_vk_binding activated = {HYMN_VK_ROLE_IMAGE, layout->activated, layout->activated_bytes};
    if (image->logits) {
        struct hymn_vk_binding to = {HYMN_VK_ROLE_READBACK, place->logits, hymn_image_logits_bytes(steps)};
        status = hymn_image_logits(steps, to);
    }
    bool resized = !hymn_image_is_of_session_size(steps, image->height, image->width);
    if (resized && (image->probabilities || image->mask) && status == HYMN_STATUS_OK) {
        status = hymn_image_activate(steps, activated);
    }
    if (image->probabilities && status == HYMN_STATUS_OK) {
        struct hymn_vk_binding to = {HYMN_VK_ROLE_READBACK, place->probabilities,
                                     hymn_image_probability_bytes(steps, image->height, image->width)};
        status = resized ? hymn_image_probabilities(steps, activated, image->height, image->width, to)
                         : hymn_image_probabilities_directly(steps, to);
    }
    if (image->mask && status == HYMN_STATUS_OK) {
        struct hymn_vk_binding to = {HYMN_VK_ROLE_READBACK, place->mask,
                                     hymn_image_mask_bytes(image->height, image->width)};
        status = resized ? hymn_image_mask(steps, activated, threshold, image->height, image->width, to)
                         : add_mask(steps, masks, threshold, to);
    }
    return status;
}

static enum hymn_status build_after(const struct hymn_session *session, const struct hymn_io_image *images,
                                    const struct hymn_io_place *places, uint32_t count, const struct layout *layout,
                                    float threshold, struct hymn_vk_program *program) {
    bool only = session->has_head && only_masks(session, images, count);
    // One step for all: with several, the convolution would have to run for each.
    bool join = only && session->has_joined && group_size(session, images, count, 0) == count;
    const struct mask_source masks = {join ? &session->joined : NULL, only ? &session->head : NULL};
    enum hymn_status status =
        session->has_joined && !join ? add_step(session, &session->joined, program) : HYMN_STATUS_OK;
    if (session->has_head && !only && status == HYMN_STATUS_OK) {
        status = add_step(session, &session->head, program);
    }
    for (uint32_t i = 0, size; i < count && status == HYMN_STATUS_OK; i += size) {
        size = group_size(session, images, count, i);
        struct hymn_image_steps steps = steps_for(session, program, i, size);
        status = build_outputs(&steps, &images[i], &places[i], layout, threshold, &masks);
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------------- buffers

static enum hymn_status grow(struct hymn_session *session, enum hymn_vk_usage usage, uint64_t bytes, const char *what,
                             struct hymn_vk_buffer *buffer) {
    if (bytes <= buffer->bytes) {
        return HYMN_STATUS_OK;
    }
    session->info.io_bytes -= buffer->allocated;
    hymn_vk_buffer_destroy(session->device, buffer);
    enum hymn_status status = hymn_vk_buffer_create_shared(session->device, usage, bytes, what, buffer);
    session->info.io_bytes += buffer->allocated;
    return status;
}

static enum hymn_status grow_upload(struct hymn_session *session, struct hymn_slot *slot, uint64_t bytes) {
    if (bytes <= slot->upload.bytes) {
        return HYMN_STATUS_OK;
    }
    session->info.io_bytes -= slot->upload.allocated;
    hymn_vk_buffer_destroy(session->device, &slot->upload);
    enum hymn_status status =
        hymn_vk_buffer_create_input(session->device, bytes, "images to upload", &slot->upload, &slot->direct);
    session->info.io_bytes += slot->upload.allocated;
    return status;
}

// Where the upload is decides what the image buffer holds.
static enum hymn_status grow_each(struct hymn_session *session, struct hymn_slot *slot, struct layout *layout) {
    enum hymn_status status = grow_upload(session, slot, layout->upload);
    lay_out_image(layout, slot->direct);
    if (status == HYMN_STATUS_OK) {
        status = grow(session, HYMN_VK_USAGE_DEVICE, layout->image, "images", &slot->image);
    }
    if (status == HYMN_STATUS_OK) {
        status = grow(session, HYMN_VK_USAGE_READBACK, layout->readback, "results", &slot->readback);
    }
    return status;
}

// Frees the buffers of all slots without a run: each keeps what its largest run took.
static void shrink_free_slots(struct hymn_session *session) {
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        struct hymn_slot *slot = &session->slots[i];
        struct hymn_vk_buffer *const buffers[] = {&slot->upload, &slot->image, &slot->readback};
        for (uint32_t k = 0; k < 3 && !slot->ticket; k++) {
            session->info.io_bytes -= buffers[k]->allocated;
            hymn_vk_buffer_destroy(session->device, buffers[k]);
            slot->recorded = 0;
            slot->before_recorded = slot->behind_recorded = false;
        }
    }
}

// Whether buffers may be had once others are gone: one alone may be more than the device allocates in one piece.
static bool may_fit(const struct hymn_session *session, const struct layout *layout, enum hymn_status status) {
    const uint64_t most = session->device->snapshot.max_allocation_bytes;
    const uint64_t largest = larger(layout->upload, larger(layout->image, layout->readback));
    return (status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_OUT_OF_MEMORY) &&
           (most == 0 || largest <= most);
}

static enum hymn_status grow_all(struct hymn_session *session, struct hymn_slot *slot, struct layout *layout) {
    const struct hymn_log log = session->device->log;
    session->device->log = hymn_log_soften(&log);
    enum hymn_status status = grow_each(session, slot, layout);
    session->device->log = log;
    if (may_fit(session, layout, status)) {
        shrink_free_slots(session);
    }
    return status == HYMN_STATUS_OK ? status : grow_each(session, slot, layout); // which tells why, if it fails again
}

static const struct hymn_vk_buffer *used(const struct hymn_vk_buffer *buffer) {
    return buffer->handle ? buffer : NULL;
}

// The steps of the program from `first` on.
static enum hymn_status record(struct hymn_session *session, struct hymn_slot *slot, const char *name,
                               const struct hymn_vk_program *program, uint32_t first, struct hymn_vk_command *command) {
    struct hymn_vk_record_params params = {
        .name = name,
        .steps = program->steps ? program->steps + first : NULL, // NULL: nothing was ever asked for
        .count = program->count - first,
        .buffers =
            {
                [HYMN_VK_ROLE_UPLOAD] = used(&slot->upload),
                [HYMN_VK_ROLE_IMAGE] = used(&slot->image),
                [HYMN_VK_ROLE_READBACK] = used(&slot->readback),
            },
        .timestamps = true,
        .step_timestamps = session->timings,
    };
    hymn_session_bind(session, slot, &params);
    enum hymn_status status = hymn_vk_pipelines_prepare(session->device, params.steps, params.count);
    return status == HYMN_STATUS_OK ? hymn_vk_command_record(session->device, &params, command) : status;
}

static void divide(const struct hymn_session *session, struct hymn_slot *slot) {
    double slowness = hymn_session_slowness(session), limit = session->device->submission_seconds;
    slot->seconds = hymn_vk_program_divide(&slot->before_program, &session->plan, slowness, limit) / slowness +
                    hymn_vk_program_divide(&slot->after_program, &session->plan, slowness, limit) / slowness;
    slot->copy_seconds = slot->copy_bytes > 0 ? slot->before_program.steps[0].seconds / slowness : 0.0;
}

enum hymn_status hymn_io_record_input(struct hymn_session *session, struct hymn_slot *slot, bool apart) {
    bool *recorded = apart ? &slot->behind_recorded : &slot->before_recorded;
    enum hymn_status status = HYMN_STATUS_OK;
    if (*recorded) {
        return status;
    }
    if (apart) {
        status = hymn_vk_upload_record(session->device, &slot->upload, &slot->image, slot->copy_bytes, &slot->copy);
    }
    if (status == HYMN_STATUS_OK) {
        status =
            record(session, slot, "input", &slot->before_program, apart ? 1 : 0, apart ? &slot->behind : &slot->before);
    }
    *recorded = status == HYMN_STATUS_OK;
    return status;
}

static bool recorded_for(const struct hymn_slot *slot, const struct hymn_io_image *images, uint32_t count,
                         float threshold) {
    bool same = slot->recorded == count && slot->threshold == threshold;
    for (uint32_t i = 0; i < count && same; i++) {
        same = same_request(&slot->images[i], &images[i]);
    }
    return same;
}

enum hymn_status hymn_io_prepare(struct hymn_session *session, struct hymn_slot *slot,
                                 const struct hymn_io_image *images, uint32_t count, float threshold) {
    if (recorded_for(slot, images, count, threshold)) {
        return HYMN_STATUS_OK;
    }
    slot->recorded = 0;
    slot->before_recorded = slot->behind_recorded = false;
    struct layout layout = lay_out(session, images, count, slot->places);
    enum hymn_status status = grow_all(session, slot, &layout);
    slot->before_program.count = slot->after_program.count = 0;
    if (status == HYMN_STATUS_OK) {
        status = build_before(session, images, slot->places, count, &layout, &slot->before_program);
    }
    if (status == HYMN_STATUS_OK) {
        status = build_after(session, images, slot->places, count, &layout, threshold, &slot->after_program);
    }
    if (status == HYMN_STATUS_OK) {
        slot->copy_bytes = layout.direct ? 0 : layout.upload;
        divide(session, slot);
        status = record(session, slot, "output", &slot->after_program, 0, &slot->after);
    }
    if (status == HYMN_STATUS_OK) {
        memcpy(slot->images, images, count * sizeof *images);
        slot->recorded = count;
        slot->threshold = threshold;
    }
    session->info.host_bytes = hymn_session_host_bytes(session);
    return status;
}

void hymn_io_bytes(const struct hymn_session *session, uint64_t *out_device, uint64_t *out_host) {
    const struct hymn_io_image tensor = {
        .height = session->info.height,
        .width = session->info.width,
        .tensor = true, // has a float where an image has a byte
        .logits = true,
        .probabilities = true,
        .mask = true,
    };
    struct hymn_io_place place;
    const struct layout layout = lay_out(session, &tensor, 1, &place);
    *out_device = session->plan.skip_staging ? 0 : layout.upload * session->info.batch;
    *out_host = (layout.upload + layout.readback) * session->info.batch;
}

enum hymn_status hymn_io_every_kind(const struct hymn_session *session, struct hymn_vk_program *program) {
    const bool takes_images = session->in_channels == 3 || session->in_channels == 1;
    enum hymn_status status = HYMN_STATUS_OK;
    for (int kind = takes_images ? 0 : 6; kind < 8 && status == HYMN_STATUS_OK; kind++) {
        struct hymn_io_image image = {
            .height = session->info.height + (kind >= 3 && kind < 6), // of the network's size, and not
            .width = session->info.width,
            .format = (enum hymn_pixel_format)(kind % 3),
            .tensor = kind >= 6,
            .logits = kind < 7,
            .probabilities = kind < 7,
            .mask = true,
        };
        struct hymn_io_place place;
        struct layout layout = lay_out(session, &image, 1, &place);
        lay_out_image(&layout, session->plan.skip_staging);
        status = build_before(session, &image, &place, 1, &layout, program);
        if (status == HYMN_STATUS_OK) {
            status = build_after(session, &image, &place, 1, &layout, 0.5f, program);
        }
        if (session->has_first && kind < 3 && session->info.batch != 1 && status == HYMN_STATUS_OK) { // of all images
            struct hymn_image_steps steps = steps_for(session, program, 0, 1);
            struct hymn_vk_binding from = {HYMN_VK_ROLE_IMAGE, 0, 0};
            status = hymn_picture_join(&steps, &session->first, image.format, from);
        }
        if (session->has_joined && kind == 7 && status == HYMN_STATUS_OK) { // for images of several kinds
            struct hymn_image_steps steps = steps_for(session, program, 0, 1);
            struct hymn_vk_binding to = {HYMN_VK_ROLE_READBACK, place.mask,
                                         hymn_image_mask_bytes(image.height, image.width)};
            status = hymn_head_mask(&steps, &session->head, 0.5f, to);
        }
    }
    return status;
}
