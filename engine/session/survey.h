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
};

// Appends the steps of the network and of every kind of input and output, as the operators' rules have them. Their
// names are in `names`. On failure what was appended before it stays. UNSUPPORTED, OUT_OF_MEMORY, INTERNAL.
enum hymn_status hymn_survey_add(const struct hymn_survey_params *params, const struct hymn_log *log,
                                 struct hymn_arena *names, struct hymn_vk_program *program);
// Likewise the steps of what tuning may choose in place of the rules, and of what it measures a device by: those whose
// pipelines no step of the program from its first'th on has. Of the matrix kernel's tiles only the hardest ones for a
// compiler (hymn_conv2d_matrix_covers), in the places of others from the own'th step on, which were added here before.
enum hymn_status hymn_survey_add_tuning(const struct hymn_survey_params *params, uint32_t first, uint32_t own,
                                        const struct hymn_log *log, struct hymn_arena *names,
                                        struct hymn_vk_program *program);

#endif
