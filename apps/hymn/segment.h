// SPDX-License-Identifier: MIT
//
// The work of `hymn segment` behind its options: a list of pictures through the pipeline into files and JSON lines.
#ifndef HYMN_APP_SEGMENT_H
#define HYMN_APP_SEGMENT_H

#include "inputs.h"
#include "pipeline.h"

enum segment_probabilities { SEGMENT_NO_PROBABILITIES, SEGMENT_PROBABILITIES_PNG, SEGMENT_PROBABILITIES_NPY };

struct segment_params {
    const struct input_list *inputs; // with unique stems
    const struct hymn_model *model;
    const char *folder;
    bool overlay;
    enum segment_probabilities probabilities;
    struct pipeline_params
        pipeline; // what segment_run does not fill in: session, classes, batch, threshold, tiles, jobs
};

// What is put behind a stem to name the outputs.
struct segment_suffixes {
    char text[72][32];
    const char *list[72]; // NULL-terminated
};
// Of model, overlay and probabilities alone: before there is a session.
void segment_list_suffixes(const struct segment_params *params, struct segment_suffixes *out_suffixes);

// JSON lines come in the order of the inputs, as soon as all before them are done.
enum exit_code segment_run(const struct segment_params *params);

// Area and bounding box of what a mask marks. found: [256], by the value of the mask.
struct segment_region {
    uint64_t area;
    uint32_t x0, y0, x1, y1; // x1, y1: one past the last
};
void segment_measure(const uint8_t *mask, uint32_t height, uint32_t width, struct segment_region *out_regions);

#endif
