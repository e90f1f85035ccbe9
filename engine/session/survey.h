// SPDX-License-Identifier: MIT
//
// What a session would run, without making it: for reports on devices that may only compile. Knows no Vulkan call.
#ifndef HYMN_SESSION_SURVEY_H
#define HYMN_SESSION_SURVEY_H

#include "session/network.h"

struct hymn_survey_params {
    const struct hymn_model *model;
    const struct hymn_vk_plan *plan;
    enum hymn_precision precision;
    uint32_t batch;
    bool tuned; // instead, the convolutions as only tuning chooses them
};

// Appends the steps of the network and of every kind of input and output. Their names are in `names`. On failure what
// was appended before it stays. UNSUPPORTED, OUT_OF_MEMORY, INTERNAL.
enum hymn_status hymn_survey_add(const struct hymn_survey_params *params, const struct hymn_log *log,
                                 struct hymn_arena *names, struct hymn_vk_program *program);

#endif
