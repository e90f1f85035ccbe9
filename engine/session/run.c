// SPDX-License-Identifier: MIT
#include "session/session.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "ops/image.h"
#include "tune/ceiling.h"
#include "vk/slowness.h"
#include "vk/timer.h"

// -------------------------------------------------------------------------------------------------------- arguments

static enum hymn_status check_image(const struct hymn_session *session, const struct hymn_image *image, uint32_t i) {
    uint32_t pixel = hymn_image_pixel_channels(image->format);
    if (!image->pixels || !image->height || !image->width || !pixel) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "image %u: pixels %s, %u x %u, format %d is not an image", i, image->pixels ? "given" : "NULL",
                         image->height, image->width, (int)image->format);
    }
    if (image->height > 65535 || image->width > 65535) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "image %u: %u x %u; sides up to 65535 are possible", i, image->height, image->width);
    }
    if (image->row_bytes && image->row_bytes < (size_t)image->width * pixel) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT, "image %u: %zu bytes a row do not hold %u pixels",
                         i, image->row_bytes, image->width);
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status check_run(const struct hymn_session *session, const struct hymn_run_params *params,
                                  uint32_t *out_count) {
    if (!params || !params->outputs || !params->images == !params->tensor) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "a run needs outputs, and either images or a tensor");
    }
    *out_count = params->count ? params->count : session->info.batch;
    if (*out_count > session->info.batch) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT, "a run of %u images in a session of batch %u",
                         *out_count, session->info.batch);
    }
    if (!isfinite(params->threshold)) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT, "the threshold is not a finite number");
    }
    if (params->images && session->in_channels != 3 && session->in_channels != 1) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "the model has %u input channels: it takes tensors, not images", session->in_channels);
    }
    for (uint32_t i = 0; params->images && i < *out_count; i++) {
        enum hymn_status status = check_image(session, &params->images[i], i);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    return HYMN_STATUS_OK;
}

static struct hymn_io_image describe_image(const struct hymn_session *session, const struct hymn_run_params *params,
                                           uint32_t i) {
    const struct hymn_output *output = &params->outputs[i];
    struct hymn_io_image image = {
        .height = session->info.height,
        .width = session->info.width,
        .tensor = params->tensor,
        .logits = output->logits,
        .probabilities = output->probabilities,
        .mask = output->mask,
    };
    if (params->images) {
        image.height = params->images[i].height;
        image.width = params->images[i].width;
        image.format = params->images[i].format;
    }
    return image;
}

// ----------------------------------------------------------------------------------------------------------- submit

static struct hymn_slot *free_slot(struct hymn_session *session) {
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        if (!session->slots[i].ticket) {
            return &session->slots[i];
        }
    }
    return NULL;
}

static void copy_pixels(uint8_t *to, const struct hymn_image *image) {
    size_t row = (size_t)image->width * hymn_image_pixel_channels(image->format);
    if (!image->row_bytes || image->row_bytes == row) {
        memcpy(to, image->pixels, row * image->height);
        return;
    }
    for (uint32_t y = 0; y < image->height; y++) {
        memcpy(to + y * row, image->pixels + y * image->row_bytes, row);
    }
}

static void copy_inputs(const struct hymn_session *session, struct hymn_slot *slot,
                        const struct hymn_run_params *params) {
    size_t tensor = (size_t)session->in_channels * session->info.height * session->info.width;
    for (uint32_t i = 0; i < slot->count; i++) {
        uint8_t *to = slot->upload.mapped + slot->places[i].upload;
        if (params->images) {
            copy_pixels(to, &params->images[i]);
        } else {
            memcpy(to, params->tensor + i * tensor, tensor * sizeof *params->tensor);
        }
    }
}

// Whether anything is still being computed that this slot's upload could overlap with.
static bool others_in_flight(struct hymn_session *session, const struct hymn_slot *slot) {
    bool found = false;
    for (uint32_t i = 0; i < session->info.runs_in_flight && !found; i++) {
        const struct hymn_slot *other = &session->slots[i];
        found = other != slot && other->ticket && !hymn_vk_done(session->device, other->fence);
    }
    return found;
}

// Estimated, with slowness 1.
static double run_seconds(const struct hymn_session *session, const struct hymn_slot *slot) {
    return session->seconds + slot->seconds;
}

// What a status of submitting or of waiting tells of the device.
static enum hymn_status learn_from(struct hymn_session *session, const struct hymn_slot *slot,
                                   enum hymn_status status) {
    if (status == HYMN_STATUS_DEVICE_LOST) {
        hymn_vk_slowness_lost(session->device, run_seconds(session, slot));
    }
    return status;
}

// Of slots whose runs have not been waited for: when a run has ended is known by then at the latest.
static void note_start(struct hymn_session *session, struct hymn_slot *slot) {
    slot->alone = true;
    slot->submitted = hymn_time_now();
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        struct hymn_slot *other = &session->slots[i];
        if (other != slot && other->ticket) {
            slot->alone = other->alone = false;
        }
    }
}

static enum hymn_status launch(struct hymn_session *session, struct hymn_slot *slot) {
    bool busy = session->device->transfer_queue && others_in_flight(session, slot);
    slot->apart = !session->timings && hymn_vk_upload_apart(session->device, slot->copy_bytes, busy);
    enum hymn_status status = hymn_io_record_input(session, slot, slot->apart);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const struct hymn_vk_command *const commands[] = {slot->apart ? &slot->behind : &slot->before, &slot->network,
                                                      &slot->after};
    note_start(session, slot);
    status = hymn_vk_submit_to(session->device, slot->stream->queue, slot->apart ? &slot->copy : NULL, commands, 3,
                               slot->fence);
    return learn_from(session, slot, status);
}

static enum hymn_status submit(struct hymn_session *session, struct hymn_slot *slot,
                               const struct hymn_run_params *params, uint32_t count) {
    struct hymn_io_image *images = hymn_alloc(count, sizeof *images);
    if (!images) {
        return hymn_fail(&session->log, HYMN_STATUS_OUT_OF_MEMORY, "run: out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        images[i] = describe_image(session, params, i);
    }
    float threshold = params->threshold != 0.0f ? params->threshold : session->threshold;
    enum hymn_status status = hymn_slot_adapt(session, slot);
    if (status == HYMN_STATUS_OK) {
        status = hymn_io_prepare(session, slot, images, count, threshold);
    }
    hymn_free(images);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    slot->count = count;
    memcpy(slot->outputs, params->outputs, count * sizeof *slot->outputs);
    copy_inputs(session, slot, params);
    status = hymn_vk_buffer_flush(session->device, &slot->upload, 0, slot->upload.bytes);
    return status == HYMN_STATUS_OK ? launch(session, slot) : status;
}

static enum hymn_status submit_checked(struct hymn_session *session, const struct hymn_run_params *params,
                                       uint64_t *out_ticket) {
    uint32_t count = 0;
    enum hymn_status status = hymn_vk_device_check(session->device);
    if (status == HYMN_STATUS_OK) {
        status = check_run(session, params, &count);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_slot *slot = free_slot(session);
    if (!slot) {
        return hymn_fail(&session->log, HYMN_STATUS_BUSY, "%u runs are in flight already: wait for one first",
                         session->info.runs_in_flight);
    }
    status = submit(session, slot, params, count);
    if (status == HYMN_STATUS_OK) {
        *out_ticket = slot->ticket = ++session->last_ticket;
    }
    return status;
}

// What the device says during a call on a session is for the session's log. Returns the device's own, to be put back.
static struct hymn_log lend_log(struct hymn_session *session) {
    struct hymn_log own = session->device->log;
    session->device->log = session->log;
    return own;
}

enum hymn_status hymn_session_submit(struct hymn_session *session, const struct hymn_run_params *params,
                                     uint64_t *out_ticket) {
    if (out_ticket) {
        *out_ticket = 0;
    }
    if (!session || !out_ticket) {
        return hymn_fail(session ? &session->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_session_submit: session or out_ticket is NULL");
    }
    const struct hymn_log own = lend_log(session);
    enum hymn_status status = submit_checked(session, params, out_ticket);
    session->device->log = own;
    return status;
}

// ------------------------------------------------------------------------------------------------------------- wait

static void copy_outputs(const struct hymn_session *session, const struct hymn_slot *slot) {
    for (uint32_t i = 0; i < slot->count; i++) {
        const struct hymn_output *output = &slot->outputs[i];
        const struct hymn_io_place *place = &slot->places[i];
        uint32_t height = slot->images[i].height, width = slot->images[i].width;
        size_t area = (size_t)height * width;
        size_t network = (size_t)session->info.height * session->info.width;
        const uint8_t *from = slot->readback.mapped;
        if (output->logits) {
            memcpy(output->logits, from + place->logits, network * session->num_classes * sizeof *output->logits);
        }
        if (output->probabilities) {
            memcpy(output->probabilities, from + place->probabilities,
                   area * session->num_classes * sizeof *output->probabilities);
        }
        for (size_t y = 0; output->mask && y < height; y++) {
            memcpy(output->mask + y * width, from + place->mask + y * hymn_image_mask_row_bytes(width), width);
        }
    }
}

static enum hymn_status collect_steps(struct hymn_session *session, const struct hymn_vk_command *command,
                                      const struct hymn_vk_program *program) {
    if (session->timing_count + program->count > session->timing_capacity) {
        uint32_t capacity = session->timing_count + program->count + 32;
        struct hymn_timing *entries = hymn_realloc(session->timing_entries, capacity, sizeof *entries);
        session->timing_entries = entries ? entries : session->timing_entries;
        double *ms = hymn_realloc(session->timing_ms, capacity, sizeof *ms);
        session->timing_ms = ms ? ms : session->timing_ms;
        if (!entries || !ms) {
            return hymn_fail(&session->log, HYMN_STATUS_OUT_OF_MEMORY, "timings: out of memory");
        }
        session->timing_capacity = capacity;
    }
    enum hymn_status status = hymn_vk_timer_steps(session->device, command, session->timing_ms + session->timing_count);
    for (uint32_t i = 0; i < program->count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_vk_step *step = &program->steps[i];
        session->timing_entries[session->timing_count] = (struct hymn_timing){
            .name = step->name,
            .shader = step->kind == HYMN_VK_STEP_DISPATCH ? step->shader->name : "copy",
            .gpu_ms = session->timing_ms[session->timing_count],
            .bytes = step->bytes,
            .flops = step->flops,
        };
        session->timing_count++;
    }
    return status;
}

// host: seconds of the run as the host knows them; negative: it does not.
static enum hymn_status collect_timings(struct hymn_session *session, const struct hymn_slot *slot, double host) {
    double seconds = run_seconds(session, slot);
    session->gpu_ms = hymn_vk_timer_span(session->device, slot->apart ? &slot->behind : &slot->before, &slot->after);
    if (session->gpu_ms < 0.0) {
        hymn_vk_slowness_measure(session->device, seconds, host);
    } else {
        // Runs on other streams have had their share of the device.
        const double share = slot->alone ? 1.0 : 1.0 / session->info.streams;
        seconds -= slot->apart ? slot->copy_seconds : 0.0;
        hymn_vk_slowness_measure(session->device, seconds, share * session->gpu_ms * 1e-3);
    }
    session->timing_count = 0;
    if (!session->timings || !session->plan.timestamps) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = collect_steps(session, &slot->before, &slot->before_program);
    if (status == HYMN_STATUS_OK) {
        struct hymn_vk_program network = hymn_session_network(session);
        status = collect_steps(session, &slot->network, &network);
    }
    if (status == HYMN_STATUS_OK) {
        status = collect_steps(session, &slot->after, &slot->after_program);
    }
    return status;
}

static enum hymn_status wait_for(struct hymn_session *session, uint64_t ticket) {
    struct hymn_slot *slot = NULL;
    for (uint32_t i = 0; i < session->info.runs_in_flight && ticket; i++) {
        slot = session->slots[i].ticket == ticket ? &session->slots[i] : slot;
    }
    if (!slot) {
        return hymn_fail(&session->log, HYMN_STATUS_INVALID_ARGUMENT, "no run with ticket %llu is in flight",
                         (unsigned long long)ticket);
    }
    // Of a run that has ended before, the host cannot tell when.
    const bool timed = !session->device->plan.timestamps && slot->alone && !hymn_vk_done(session->device, slot->fence);
    enum hymn_status status = learn_from(session, slot, hymn_vk_wait(session->device, slot->fence));
    const double host = timed ? hymn_time_now() - slot->submitted : -1.0;
    slot->ticket = 0;
    if (status == HYMN_STATUS_OK && slot->readback.handle) {
        status = hymn_vk_buffer_invalidate(session->device, &slot->readback, 0, slot->readback.bytes);
    }
    if (status == HYMN_STATUS_OK) {
        copy_outputs(session, slot);
        status = collect_timings(session, slot, host);
    }
    return status;
}

enum hymn_status hymn_session_wait(struct hymn_session *session, uint64_t ticket) {
    if (!session) {
        return HYMN_STATUS_INVALID_ARGUMENT;
    }
    const struct hymn_log own = lend_log(session);
    enum hymn_status status = wait_for(session, ticket);
    session->device->log = own;
    return status;
}

enum hymn_status hymn_session_run(struct hymn_session *session, const struct hymn_run_params *params) {
    uint64_t ticket;
    enum hymn_status status = hymn_session_submit(session, params, &ticket);
    return status == HYMN_STATUS_OK ? hymn_session_wait(session, ticket) : status;
}

// ---------------------------------------------------------------------------------------------------------- timings

enum hymn_status hymn_session_timings(struct hymn_session *session, const struct hymn_timing **out_timings,
                                      uint32_t *out_count) {
    if (out_timings) {
        *out_timings = NULL;
    }
    if (out_count) {
        *out_count = 0;
    }
    if (!session || !out_timings || !out_count) {
        return hymn_fail(session ? &session->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_session_timings: session, out_timings or out_count is NULL");
    }
    if (!session->timings || !session->plan.timestamps) {
        return hymn_fail(&session->log, HYMN_STATUS_UNSUPPORTED, "%s",
                         session->timings ? "the device has no timestamps" : "the session was made without timings");
    }
    *out_timings = session->timing_entries;
    *out_count = session->timing_count;
    return HYMN_STATUS_OK;
}

double hymn_session_gpu_ms(const struct hymn_session *session) {
    return session ? session->gpu_ms : -1.0;
}

enum hymn_status hymn_session_measure_ceilings(struct hymn_session *session, struct hymn_ceilings *out_ceilings) {
    if (out_ceilings) {
        *out_ceilings = (struct hymn_ceilings){0};
    }
    if (!session || !out_ceilings) {
        return hymn_fail(session ? &session->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_session_measure_ceilings: session or out_ceilings is NULL");
    }
    const bool half = session->info.precision == HYMN_PRECISION_FP16;
    const struct hymn_ceiling_run run = {
        .timings = session->timing_entries,
        .count = session->timing_count,
        .bytes = session->info.activation_bytes / session->info.streams + session->info.weight_bytes,
    };
    const struct hymn_log own = lend_log(session);
    enum hymn_status status = hymn_ceiling_measure(session->device, &session->plan,
                                                   half ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32, &run, out_ceilings);
    session->device->log = own;
    return status;
}
