// SPDX-License-Identifier: MIT
//
// The work of `hymn eval` behind its options: pictures with their true masks through the pipeline into one set of
// figures.
#ifndef HYMN_APP_EVALUATE_H
#define HYMN_APP_EVALUATE_H

#include "inputs.h"
#include "metrics.h"
#include "pipeline.h"

struct evaluate_params {
    const struct input_list *inputs;
    char *const *masks; // [inputs->count]: the true mask's path
    struct pipeline_params pipeline;
};

// Means over pictures: dice_mean, iou_mean, hd95. From all pixels together: the others.
struct evaluation {
    double dice_mean, iou_mean, dice_pooled, iou_pooled, accuracy, sensitivity, specificity, hd95;
};

struct evaluation_result {
    size_t images; // that were judged
    // Of each class, the background left out: one where the model has one class, else classes - 1.
    uint32_t class_count;
    struct evaluation classes[64];
    struct evaluation mean; // over those classes
};

enum exit_code evaluate_run(const struct evaluate_params *params, struct evaluation_result *out_result);

#endif
