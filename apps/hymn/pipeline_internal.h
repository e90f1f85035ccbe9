// SPDX-License-Identifier: MIT
//
// Between pipeline.c (threads, queues, whole pictures) and pipeline_tile.c (pictures in tiles).
#ifndef HYMN_APP_PIPELINE_INTERNAL_H
#define HYMN_APP_PIPELINE_INTERNAL_H

#include <stdatomic.h>

#include "common.h"
#include "pipeline.h"
#include "queue.h"

struct pipeline {
    const struct pipeline_params *params;
    struct queue decoded, computed;
    atomic_size_t next;   // picture to decode
    atomic_uint decoders; // threads that still decode
    atomic_size_t finished, failed;
    bool lost; // the device; read and written by the calling thread only

    struct flight {
        uint64_t ticket;
        uint32_t count;
        struct pipeline_item **items; // [batch]
    } flights[COMMON_MAX_FLIGHTS];    // most_flights of them are used: as many as the session has runs in flight
    uint32_t most_flights, first_flight, flight_count;
    struct hymn_image *images;   // [batch], for the next submit
    struct hymn_output *outputs; // [batch]
};

struct hymn_image pipeline_view(const struct image *image);
// Reports that the device could not do a picture, and remembers a lost one.
void pipeline_report(struct pipeline *pipeline, const char *name, enum hymn_status status);
// Allocates what the item's results need; false after a report.
bool pipeline_make_room(struct pipeline *pipeline, struct pipeline_item *item);

// Whether no further picture is to be begun: an interrupt, or pipeline_stop.
bool pipeline_stopping(void);

enum tiles_result { TILES_DONE, TILES_FAILED, TILES_STOPPED };

// Runs one picture in tiles, with no other run in flight, into item->mask and item->probabilities. TILES_FAILED: after
// a report. TILES_STOPPED: pipeline_stopping became true on the way.
enum tiles_result pipeline_run_tiles(struct pipeline *pipeline, struct pipeline_item *item);

#endif
