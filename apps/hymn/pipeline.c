// SPDX-License-Identifier: MIT
#include "pipeline_internal.h"

#include <stdlib.h>
#include <string.h>

#include "interrupt.h"

static const uint64_t default_memory = (uint64_t)2 << 30;

static atomic_bool stopped;

void pipeline_stop(void) {
    atomic_store(&stopped, true);
}

bool pipeline_stopping(void) {
    return interrupt_seen() || atomic_load(&stopped);
}

// --------------------------------------------------------------------------------------------------------------- items

static void free_item(struct pipeline *pipeline, struct pipeline_item *item) {
    if (pipeline->params->release != NULL) {
        pipeline->params->release(pipeline->params->user, item);
    }
    image_free(&item->image);
    free(item->mask);
    free(item->probabilities);
    queue_release(&pipeline->decoded, item->reserved);
    free(item);
}

static void note_failure(struct pipeline *pipeline, size_t index) {
    atomic_fetch_add(&pipeline->failed, 1);
    if (pipeline->params->failed != NULL) {
        pipeline->params->failed(pipeline->params->user, index);
    }
    console_progress_step(true);
}

static void drop_item(struct pipeline *pipeline, struct pipeline_item *item) {
    note_failure(pipeline, item->index);
    free_item(pipeline, item);
}

// Reserves what the item will take until it is freed, and what decoding takes.
static bool admit(void *user, uint32_t width, uint32_t height, uint32_t beside, struct cause *cause) {
    struct pipeline_item *item = user;
    const struct pipeline_params *params = item->pipeline->params;
    const uint64_t pixels = (uint64_t)width * height;
    const uint64_t probabilities = params->probabilities ? sizeof(float) * params->classes : 0;
    item->decoding = pixels * beside;
    item->reserved = pixels * (params->pixel_bytes + 1 + probabilities) + item->decoding; // 1: the mask
    queue_reserve(&item->pipeline->decoded, item->reserved);
    item->stopped = pipeline_stopping();
    return !item->stopped || cause_set(cause, "stopped");
}

// Who waits for this picture gets those before it.
static bool go_on(void *user) {
    struct pipeline_item *item = user;
    queue_hurry(&item->pipeline->decoded);
    item->stopped = pipeline_stopping();
    return !item->stopped;
}

bool pipeline_read(struct pipeline_item *item, const char *path) {
    const struct image_caller caller = {.admit = admit, .go_on = go_on, .user = item};
    struct cause cause;
    const bool good = image_read(path, IMAGE_PICTURE, &caller, &item->image, &cause);
    queue_release(&item->pipeline->decoded, item->decoding);
    item->reserved -= item->decoding;
    if (!good && !item->stopped) {
        console_error(item->name, "%s", cause.text);
    }
    return good;
}

struct hymn_image pipeline_view(const struct image *image) {
    return (struct hymn_image){.pixels = image->pixels,
                               .height = image->height,
                               .width = image->width,
                               .format = image->channels == 1 ? HYMN_PIXEL_GREY8 : HYMN_PIXEL_RGB8};
}

void pipeline_report(struct pipeline *pipeline, const char *name, enum hymn_status status) {
    console_status(name, status);
    if (status == HYMN_STATUS_DEVICE_LOST) {
        pipeline->lost = true;
        pipeline_stop();
    }
}

bool pipeline_make_room(struct pipeline *pipeline, struct pipeline_item *item) {
    const size_t pixels = (size_t)item->image.width * item->image.height;
    const size_t values = pixels * pipeline->params->classes;
    item->mask = malloc(pixels);
    item->probabilities = pipeline->params->probabilities ? malloc(values * sizeof(float)) : NULL;
    if (item->mask == NULL || (pipeline->params->probabilities && item->probabilities == NULL)) {
        console_error(item->name, "out of memory for the results of %u x %u pixels", item->image.width,
                      item->image.height);
        return false;
    }
    return true;
}

// ------------------------------------------------------------------------------------------------ decoding and writing

static struct pipeline_item *load_next(struct pipeline *pipeline) {
    while (!pipeline_stopping()) {
        const size_t index = atomic_fetch_add(&pipeline->next, 1);
        if (index >= pipeline->params->count) {
            return NULL;
        }
        struct pipeline_item *item = calloc(1, sizeof(*item));
        if (item == NULL) {
            console_error(NULL, "out of memory");
            note_failure(pipeline, index);
            continue;
        }
        item->index = index;
        item->pipeline = pipeline;
        if (pipeline->params->load(pipeline->params->user, item)) {
            return item;
        }
        if (item->stopped) {
            free_item(pipeline, item);
        } else {
            drop_item(pipeline, item);
        }
    }
    return NULL;
}

static void decode_entry(void *argument) {
    struct pipeline *pipeline = argument;
    struct pipeline_item *item;
    while ((item = load_next(pipeline)) != NULL) {
        if (!queue_push(&pipeline->decoded, item)) {
            free_item(pipeline, item);
            break;
        }
    }
    if (atomic_fetch_sub(&pipeline->decoders, 1) == 1) {
        queue_close(&pipeline->decoded);
    }
}

static void write_entry(void *argument) {
    struct pipeline *pipeline = argument;
    struct pipeline_item *item;
    while ((item = queue_pop(&pipeline->computed, 0)) != NULL) {
        if (pipeline->params->finish(pipeline->params->user, item)) {
            atomic_fetch_add(&pipeline->finished, 1);
            console_progress_step(false);
            free_item(pipeline, item);
        } else {
            drop_item(pipeline, item);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- the device

static void pass_on(struct pipeline *pipeline, struct pipeline_item *item) {
    if (!queue_push(&pipeline->computed, item)) {
        free_item(pipeline, item);
    }
}

// Waits for the oldest run and passes its items on.
static void land(struct pipeline *pipeline) {
    struct flight *flight = &pipeline->flights[pipeline->first_flight];
    const enum hymn_status status = hymn_session_wait(pipeline->params->session, flight->ticket);
    for (uint32_t i = 0; i < flight->count; i++) {
        if (status == HYMN_STATUS_OK) {
            pass_on(pipeline, flight->items[i]);
        } else {
            pipeline_report(pipeline, flight->items[i]->name, status);
            drop_item(pipeline, flight->items[i]);
        }
    }
    pipeline->first_flight = (pipeline->first_flight + 1) % pipeline->most_flights;
    pipeline->flight_count--;
}

static void land_all(struct pipeline *pipeline) {
    while (pipeline->flight_count > 0) {
        land(pipeline);
    }
}

// Starts a run of items that stay with the flight; on failure they stay the caller's.
static enum hymn_status take_off(struct pipeline *pipeline, struct pipeline_item **items, uint32_t count) {
    if (pipeline->flight_count == pipeline->most_flights) {
        land(pipeline);
    }
    for (uint32_t i = 0; i < count; i++) {
        pipeline->images[i] = pipeline_view(&items[i]->image);
        pipeline->outputs[i] = (struct hymn_output){.probabilities = items[i]->probabilities, .mask = items[i]->mask};
    }
    const uint32_t next = pipeline->first_flight + pipeline->flight_count;
    struct flight *flight = &pipeline->flights[next % pipeline->most_flights];
    const struct hymn_run_params run = {.images = pipeline->images,
                                        .outputs = pipeline->outputs,
                                        .threshold = pipeline->params->threshold,
                                        .count = count};
    const enum hymn_status status = hymn_session_submit(pipeline->params->session, &run, &flight->ticket);
    if (status == HYMN_STATUS_OK) {
        flight->count = count;
        memcpy(flight->items, items, count * sizeof(struct pipeline_item *));
        pipeline->flight_count++;
    }
    return status;
}

// Starts a run. Where there is no memory for it, the runs in flight give theirs back; where a batch is refused, its
// pictures are tried one by one, so that only the culprit fails.
static void submit(struct pipeline *pipeline, struct pipeline_item **items, uint32_t count) {
    enum hymn_status status = take_off(pipeline, items, count);
    if (common_memory_is_out(status) && pipeline->flight_count > 0) {
        console_forget();
        land_all(pipeline);
        status = take_off(pipeline, items, count);
    }
    if (status == HYMN_STATUS_OK) {
        return;
    }
    if (count == 1 || status == HYMN_STATUS_DEVICE_LOST) {
        for (uint32_t i = 0; i < count; i++) {
            pipeline_report(pipeline, items[i]->name, status);
            drop_item(pipeline, items[i]);
        }
        return;
    }
    console_forget();
    for (uint32_t i = 0; i < count; i++) {
        submit(pipeline, &items[i], 1);
    }
}

static bool needs_tiles(const struct pipeline *pipeline, const struct pipeline_item *item) {
    const struct hymn_session_info *info = hymn_session_get_info(pipeline->params->session);
    return pipeline->params->tile && (item->image.height > info->height || item->image.width > info->width);
}

static void compute_tiles(struct pipeline *pipeline, struct pipeline_item *item) {
    switch (pipeline_run_tiles(pipeline, item)) {
    case TILES_DONE:
        pass_on(pipeline, item);
        break;
    case TILES_FAILED:
        drop_item(pipeline, item);
        break;
    case TILES_STOPPED:
        free_item(pipeline, item);
        break;
    }
}

static void compute_rest(struct pipeline *pipeline, struct pipeline_item **batch, uint32_t gathered) {
    if (gathered > 0 && !pipeline_stopping()) {
        submit(pipeline, batch, gathered);
    } else {
        for (uint32_t i = 0; i < gathered; i++) {
            free_item(pipeline, batch[i]);
        }
    }
    land_all(pipeline);
}

static uint64_t sum_reserved(struct pipeline_item *const *items, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += items[i]->reserved;
    }
    return sum;
}

static uint64_t reserved_in_flight(const struct pipeline *pipeline) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < pipeline->flight_count; i++) {
        const struct flight *flight = &pipeline->flights[(pipeline->first_flight + i) % pipeline->most_flights];
        sum += sum_reserved(flight->items, flight->count);
    }
    return sum;
}

// Gathers pictures until a batch is full or none are to be had, and keeps the device busy with them.
static void compute(struct pipeline *pipeline, struct pipeline_item **batch) {
    uint32_t gathered = 0;
    for (;;) {
        const uint64_t held = sum_reserved(batch, gathered) + reserved_in_flight(pipeline);
        struct pipeline_item *item = queue_pop(&pipeline->decoded, held);
        if (item == NULL && held == 0) {
            return;
        }
        if (item == NULL) {
            compute_rest(pipeline, batch, gathered);
            gathered = 0;
        } else if (pipeline_stopping()) {
            free_item(pipeline, item);
        } else if (!pipeline_make_room(pipeline, item)) {
            drop_item(pipeline, item);
        } else if (needs_tiles(pipeline, item)) {
            land_all(pipeline);
            compute_tiles(pipeline, item);
        } else {
            batch[gathered++] = item;
        }
        if (gathered == pipeline->params->batch) {
            submit(pipeline, batch, gathered);
            gathered = 0;
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- whole

static bool init(struct pipeline *pipeline, const struct pipeline_params *params) {
    pipeline->params = params;
    pipeline->most_flights = hymn_session_get_info(params->session)->runs_in_flight;
    const size_t capacity = params->jobs + pipeline->most_flights * (size_t)params->batch;
    bool good = queue_init(&pipeline->decoded, capacity, params->memory > 0 ? params->memory : default_memory);
    good = queue_init(&pipeline->computed, capacity, 0) && good;
    pipeline->images = calloc(params->batch, sizeof(*pipeline->images));
    pipeline->outputs = calloc(params->batch, sizeof(*pipeline->outputs));
    good = good && pipeline->images != NULL && pipeline->outputs != NULL;
    for (uint32_t i = 0; i < pipeline->most_flights; i++) {
        pipeline->flights[i].items = calloc(params->batch, sizeof(struct pipeline_item *));
        good = good && pipeline->flights[i].items != NULL;
    }
    return good;
}

static void destroy(struct pipeline *pipeline) {
    for (uint32_t i = 0; i < pipeline->most_flights; i++) {
        free(pipeline->flights[i].items);
    }
    free(pipeline->images);
    free(pipeline->outputs);
    queue_destroy(&pipeline->computed);
    queue_destroy(&pipeline->decoded);
}

static uint32_t start_threads(hymn_thread *threads, uint32_t count, void (*entry)(void *), struct pipeline *pipeline) {
    uint32_t started = 0;
    while (started < count && hymn_thread_start(&threads[started], entry, pipeline)) {
        started++;
    }
    return started;
}

static void join_threads(hymn_thread *threads, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        hymn_thread_join(threads[i]);
    }
}

// Runs with as many threads as could be made. False if there is not one of each kind.
static bool run_threads(struct pipeline *pipeline, hymn_thread *threads, struct pipeline_item **batch) {
    const uint32_t jobs = pipeline->params->jobs;
    hymn_thread *decoders = threads, *writers = threads + jobs;
    const uint32_t writing = start_threads(writers, jobs, write_entry, pipeline);
    atomic_store(&pipeline->decoders, jobs);
    const uint32_t decoding = writing > 0 ? start_threads(decoders, jobs, decode_entry, pipeline) : 0;
    const uint32_t missing = jobs - decoding;
    if (atomic_fetch_sub(&pipeline->decoders, missing) == missing) {
        queue_close(&pipeline->decoded); // none was made, or all are through already
    }
    compute(pipeline, batch);
    join_threads(decoders, decoding);
    queue_close(&pipeline->computed);
    join_threads(writers, writing);
    return decoding > 0;
}

enum exit_code pipeline_run(const struct pipeline_params *params, size_t *out_done) {
    struct pipeline pipeline = {0};
    atomic_store(&stopped, false);
    const bool ready = init(&pipeline, params);
    hymn_thread *threads = calloc(2 * (size_t)params->jobs, sizeof(*threads));
    struct pipeline_item **batch = calloc(params->batch, sizeof(struct pipeline_item *));
    enum exit_code code = CODE_OK;
    if (!ready || threads == NULL || batch == NULL) {
        console_error(NULL, "out of memory");
        code = CODE_ENGINE;
    } else {
        console_progress_begin(params->count);
        if (!run_threads(&pipeline, threads, batch)) {
            console_error(NULL, "no thread could be started");
            code = CODE_ENGINE;
        }
        console_progress_end();
    }
    free(threads);
    free(batch);
    destroy(&pipeline);
    const size_t failed = atomic_load(&pipeline.failed);
    *out_done = atomic_load(&pipeline.finished) + failed;
    if (interrupt_seen()) {
        return CODE_INTERRUPTED;
    }
    if (code == CODE_OK && pipeline.lost) {
        code = CODE_ENGINE;
    }
    return code == CODE_OK && failed > 0 ? CODE_INPUT : code;
}
