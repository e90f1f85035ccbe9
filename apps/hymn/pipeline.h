// SPDX-License-Identifier: MIT
//
// Many pictures through one session: threads that decode, the calling thread that keeps runs in flight on the device,
// threads that write, and bounded queues between, so that all three work at once.
#ifndef HYMN_APP_PIPELINE_H
#define HYMN_APP_PIPELINE_H

#include <hymn/hymn.h>

#include "console.h"
#include "image.h"

struct pipeline_item {
    size_t index;         // 0 .. count - 1
    const char *name;     // for messages; set by load
    struct image image;   // set by load
    uint8_t *mask;        // [height, width] at the picture's size
    float *probabilities; // [classes, height, width], or NULL where they were not asked for
    void *user;           // set by load, freed by release
    struct pipeline *pipeline;
    uint64_t reserved, decoding; // bytes of the pipeline's memory, and how many of them only decoding takes
    bool stopped;                // the picture was given up, and is none that failed
};

struct pipeline_params {
    struct hymn_session *session;
    uint32_t classes, batch;
    float threshold; // of one-class masks, above 0
    bool probabilities;
    bool tile;      // cut pictures larger than the session's size into tiles
    double overlap; // of tiles, 0..0.9
    uint32_t jobs;  // threads that decode, and as many that write
    // Of a pixel, at most: the picture, and what load and finish make of it beside mask and probabilities.
    uint32_t pixel_bytes;
    uint64_t memory; // for pictures and what is made of them, in bytes; one may take more by itself. 0: 2 GiB
    size_t count;    // pictures
    // Fills the item's image by pipeline_read; false after having reported why not. On several threads.
    bool (*load)(void *user, struct pipeline_item *item);
    // Takes the results; false after having reported a failure. On several threads, in no particular order.
    bool (*finish)(void *user, struct pipeline_item *item);
    // Frees item->user; may be NULL. Called once for every loaded item, finished or not.
    void (*release)(void *user, struct pipeline_item *item);
    // Called when an item came to nothing (not read, not run, not written), behind the report; may be NULL.
    void (*failed)(void *user, size_t index);
    void *user;
};

// Runs all pictures. A picture that fails is reported and the rest go on; CODE_INPUT is returned in the end.
// CODE_ENGINE: the device is lost, or threads could not be made. CODE_INTERRUPTED: interrupt_seen;
// what was on the device or behind it has been finished.
// *out_done: the number of pictures that were finished or failed; less than all of them after a stop.
enum exit_code pipeline_run(const struct pipeline_params *params, size_t *out_done);

// For load: reads item->image from a file, or standard input for "-", once the pipeline has memory for it. item->name
// is set. False after a report, or without one where the pipeline stops.
bool pipeline_read(struct pipeline_item *item, const char *path);

// Starts no further pictures, after a failure that each of them would meet (a full disk). From any thread.
void pipeline_stop(void);

#endif
