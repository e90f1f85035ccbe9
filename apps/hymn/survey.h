// SPDX-License-Identifier: MIT
//
// Every pipeline that the sizes in use need of a device, made and asked for its statistics: the bulk of
// `hymn devices --report`. Works on devices that compile and never run.
#ifndef HYMN_APP_SURVEY_H
#define HYMN_APP_SURVEY_H

#include <jansson.h>

#include "common.h"
#include "vk/device.h"
#include "vk/plan.h"

enum { SURVEY_MAX_PLANS = 40 };

// One way to choose among the shaders.
struct survey_plan {
    char name[40];
    bool own; // a choice that the device itself may come to
    struct hymn_vk_plan plan;
};

// Fills the plans that a device of this snapshot can run: each of its tiers from the highest, "matrix-MxNxK" for each
// shape of cooperative matrices that tier matrix does not choose by itself, and "other", what is meant for software
// devices, or on these what is meant for GPUs. Returns how many; 0: the device is not usable. Pure.
uint32_t survey_plans(const struct hymn_vk_snapshot *snapshot, struct survey_plan out_plans[SURVEY_MAX_PLANS]);

// Adds "cases" (what each plan runs for each model, precision and batch), "pipelines" and "pipelines_ms" to `object`.
// quick: only the smallest model at batch 1, and no plan that is not the device's own. The device should be one of
// hymn_vk_device_create_inspected. Reports pipelines that cannot be made, then the result is CODE_ENGINE; `object` is
// as complete as it can be.
enum exit_code survey_device(struct hymn_vk_device *device, bool quick, json_t *object);

#endif
