// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "pipeline_internal.h"
#include "tile.h"

// Runs of tiles in order; several in flight, so that cutting and blending overlap with the device.
struct tiling {
    struct pipeline *pipeline;
    struct pipeline_item *item;
    struct tile_axis rows, columns;
    struct tile_blend blend;
    uint32_t height, width; // of a tile
    uint8_t *pixels;        // [batch, height, width, channels]: copied by submit
    float *values;          // [most_flights, batch, classes, height, width]
    uint64_t tickets[COMMON_MAX_FLIGHTS];
    uint32_t counts[COMMON_MAX_FLIGHTS];
    uint32_t submitted, landed; // runs
};

static float *slot_values(const struct tiling *tiling, uint32_t slot, uint32_t tile) {
    const struct pipeline_params *params = tiling->pipeline->params;
    const size_t size = (size_t)params->classes * tiling->height * tiling->width;
    return tiling->values + ((size_t)slot * params->batch + tile) * size;
}

static bool init(struct tiling *tiling) {
    const struct pipeline_params *params = tiling->pipeline->params;
    const struct hymn_session_info *info = hymn_session_get_info(params->session);
    const struct image *image = &tiling->item->image;
    tiling->height = info->height;
    tiling->width = info->width;
    const size_t area = (size_t)tiling->height * tiling->width;
    tiling->pixels = malloc(params->batch * area * image->channels);
    tiling->values = malloc(tiling->pipeline->most_flights * params->batch * area * params->classes * sizeof(float));
    return tiling->pixels != NULL && tiling->values != NULL &&
           tile_axis_init(&tiling->rows, image->height, tiling->height, params->overlap) &&
           tile_axis_init(&tiling->columns, image->width, tiling->width, params->overlap) &&
           tile_blend_init(&tiling->blend, &tiling->rows, &tiling->columns, params->classes, params->threshold,
                           tiling->item->mask, tiling->item->probabilities);
}

static void destroy(struct tiling *tiling) {
    tile_blend_free(&tiling->blend);
    tile_axis_free(&tiling->rows);
    tile_axis_free(&tiling->columns);
    free(tiling->pixels);
    free(tiling->values);
}

static enum hymn_status submit(struct tiling *tiling, uint32_t first, uint32_t count) {
    struct pipeline *pipeline = tiling->pipeline;
    const uint32_t slot = tiling->submitted % pipeline->most_flights;
    const struct image *image = &tiling->item->image;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = (first + i) / tiling->columns.count, column = (first + i) % tiling->columns.count;
        const size_t bytes = (size_t)tiling->height * tiling->width * image->channels;
        struct image tile = {tiling->width, tiling->height, image->channels, tiling->pixels + i * bytes};
        tile_extract(image, tiling->rows.starts[row], tiling->columns.starts[column], tiling->height, tiling->width,
                     tile.pixels);
        pipeline->images[i] = pipeline_view(&tile);
        pipeline->outputs[i] = (struct hymn_output){.probabilities = slot_values(tiling, slot, i)};
    }
    const struct hymn_run_params run = {.images = pipeline->images,
                                        .outputs = pipeline->outputs,
                                        .threshold = pipeline->params->threshold,
                                        .count = count};
    const enum hymn_status status = hymn_session_submit(pipeline->params->session, &run, &tiling->tickets[slot]);
    if (status == HYMN_STATUS_OK) {
        tiling->counts[slot] = count;
        tiling->submitted++;
    }
    return status;
}

static enum hymn_status land(struct tiling *tiling) {
    const uint32_t slot = tiling->landed++ % tiling->pipeline->most_flights;
    const enum hymn_status status = hymn_session_wait(tiling->pipeline->params->session, tiling->tickets[slot]);
    for (uint32_t i = 0; status == HYMN_STATUS_OK && i < tiling->counts[slot]; i++) {
        tile_blend_add(&tiling->blend, slot_values(tiling, slot, i));
    }
    return status;
}

static enum hymn_status land_all(struct tiling *tiling) {
    enum hymn_status status = HYMN_STATUS_OK;
    while (tiling->landed < tiling->submitted) {
        const enum hymn_status landed = land(tiling);
        status = status == HYMN_STATUS_OK ? landed : status;
    }
    return status;
}

static enum hymn_status submit_or_wait(struct tiling *tiling, uint32_t first, uint32_t count) {
    enum hymn_status status = submit(tiling, first, count);
    if (common_memory_is_out(status) && tiling->landed < tiling->submitted) {
        console_forget();
        status = land_all(tiling);
        status = status == HYMN_STATUS_OK ? submit(tiling, first, count) : status;
    }
    return status;
}

enum tiles_result pipeline_run_tiles(struct pipeline *pipeline, struct pipeline_item *item) {
    struct tiling tiling = {.pipeline = pipeline, .item = item};
    if (!init(&tiling)) {
        destroy(&tiling);
        console_error(item->name, "out of memory for the tiles of %u x %u pixels", item->image.width,
                      item->image.height);
        return TILES_FAILED;
    }
    const uint32_t total = tiling.rows.count * tiling.columns.count;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t first = 0; first < total && status == HYMN_STATUS_OK && !pipeline_stopping();) {
        const uint32_t left = total - first;
        const uint32_t count = left < pipeline->params->batch ? left : pipeline->params->batch;
        if (tiling.submitted - tiling.landed == pipeline->most_flights) {
            status = land(&tiling);
        }
        status = status == HYMN_STATUS_OK ? submit_or_wait(&tiling, first, count) : status;
        first += count;
    }
    const enum hymn_status landed = land_all(&tiling);
    status = status == HYMN_STATUS_OK ? landed : status;
    if (status != HYMN_STATUS_OK) {
        pipeline_report(pipeline, item->name, status);
    }
    const bool complete = tiling.blend.next == total;
    destroy(&tiling);
    return status != HYMN_STATUS_OK ? TILES_FAILED : complete ? TILES_DONE : TILES_STOPPED;
}
