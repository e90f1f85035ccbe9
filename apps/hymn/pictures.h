// SPDX-License-Identifier: MIT
//
// What the commands that take pictures of any size share: their options, and a session for them.
#ifndef HYMN_APP_PICTURES_H
#define HYMN_APP_PICTURES_H

#include "common.h"
#include "pipeline.h"

struct pictures {
    const char *model; // its file
    struct size size;  // of the network's input; 0 x 0: the model's
    bool tile;
    double overlap, threshold, tuning;
    uint32_t batch, streams, jobs;
};

// Rows of an option table.
#define PICTURES_OPTIONS(pictures)                                                                                     \
    PICTURES_SIZE_OPTION(&(pictures)->size), PICTURES_TILE_OPTION(&(pictures)->tile),                                  \
        PICTURES_OVERLAP_OPTION(&(pictures)->overlap), PICTURES_THRESHOLD_OPTION(&(pictures)->threshold),              \
        PICTURES_BATCH_OPTION(&(pictures)->batch), COMMON_STREAMS_OPTION(&(pictures)->streams),                        \
        COMMON_TUNING_OPTION(&(pictures)->tuning), PICTURES_JOBS_OPTION(&(pictures)->jobs)
#define PICTURES_SIZE_OPTION(target)                                                                                   \
    {                                                                                                                  \
        "size", 's', OPTION_SIZE, "SIZE", "network input, N or HEIGHTxWIDTH (default: the model's)", (target), 1,      \
            COMMON_MAX_SIZE, NULL                                                                                      \
    }
#define PICTURES_TILE_OPTION(target)                                                                                   \
    {                                                                                                                  \
        "tile", 't', OPTION_FLAG, NULL,                                                                                \
            "cut pictures larger than the network input into\noverlapping tiles instead of shrinking them", (target),  \
            0, 0, NULL                                                                                                 \
    }
#define PICTURES_OVERLAP_OPTION(target)                                                                                \
    {                                                                                                                  \
        "overlap", 0, OPTION_REAL, "PART", "least part of a tile shared with its neighbour,\n0 to 0.9 (default 0.25)", \
            (target), 0, 0.9, NULL                                                                                     \
    }
#define PICTURES_THRESHOLD_OPTION(target)                                                                              \
    {                                                                                                                  \
        "threshold", 0, OPTION_REAL, "P",                                                                              \
            "probability from which a pixel is inside, one class\nonly (default: the model's)", (target), 0.000001, 1, \
            NULL                                                                                                       \
    }
#define PICTURES_BATCH_OPTION(target)                                                                                  \
    { "batch", 'b', OPTION_NUMBER, "N", "pictures or tiles per run (default 1)", (target), 1, COMMON_MAX_BATCH, NULL }
#define PICTURES_JOBS_OPTION(target)                                                                                   \
    {                                                                                                                  \
        "jobs", 'j', OPTION_NUMBER, "N",                                                                               \
            "threads that decode, and as many for the results\n(default: one per two cores)", (target), 1,             \
            COMMON_MAX_JOBS, NULL                                                                                      \
    }

struct pictures pictures_defaults(void);

// Device and session for `count` pictures, and what the options tell of their pipeline: all but count, memory, what it
// calls, and what that needs. As common_open_device and common_open_session; common_close takes both in any case.
enum exit_code pictures_open(const struct pictures *pictures, const struct common *common,
                             const struct hymn_model *model, size_t count, struct hymn_context **out_context,
                             struct hymn_session **out_session, struct pipeline_params *out_pipeline);

#endif
