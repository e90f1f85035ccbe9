// SPDX-License-Identifier: MIT
//
// Every pipeline that the sizes in use need of a device, made and asked for its statistics: the bulk of
// `hymn devices --report`. Works on devices that compile and never run.
#ifndef HYMN_APP_SURVEY_H
#define HYMN_APP_SURVEY_H

#include <jansson.h>

#include "base/alloc.h"
#include "common.h"
#include "vk/device.h"
#include "vk/plan.h"
#include "vk/program.h"

enum { SURVEY_MAX_PLANS = 40 };

// One way to choose among the shaders.
struct survey_plan {
    char name[40];
    bool own;   // a choice that the device itself may come to
    bool tuned; // what tuning may choose by it is listed too
    struct hymn_vk_plan plan;
};

// Fills the plans that a device of this snapshot can run: each of its tiers from the highest, "matrix-MxNxK" for each
// shape of cooperative matrices that tier matrix does not choose by itself, "other", what is meant for software
// devices, or on these what is meant for GPUs, and "few", for devices with fewer storage buffers. Returns how many; 0:
// the device is not usable. Pure.
uint32_t survey_plans(const struct hymn_vk_snapshot *snapshot, struct survey_plan out_plans[SURVEY_MAX_PLANS]);

// Of a step: numbers of survey->plans and of the tables in survey.c.
struct survey_case {
    uint8_t plan, model, precision;
};

// The steps of all cases, one after the other.
struct survey {
    struct survey_plan plans[SURVEY_MAX_PLANS];
    uint32_t plan_count;
    struct hymn_arena names;
    struct hymn_vk_program program;
    struct survey_case *cases; // [program.count]
    bool quick;
    enum exit_code code;
};

// Lists what a device of this snapshot is asked to compile: what each plan runs for each model, precision and batch,
// and what tuning may choose instead. quick: only the smallest model at batch 1, and no plan that is not the device's
// own. Appends a description of each case to `cases`. Without a device. Failures are told, then code is not CODE_OK.
// Freed with survey_free in any case.
void survey_list(const struct hymn_vk_snapshot *snapshot, bool quick, json_t *cases, struct survey *survey);
void survey_free(struct survey *survey);

// Adds "cases", "pipelines", which are made, and "pipelines_ms" to `object`. The device should be one of
// hymn_vk_device_create_inspected. Reports pipelines that cannot be made, then the result is CODE_ENGINE; `object` is
// as complete as it can be.
enum exit_code survey_device(struct hymn_vk_device *device, bool quick, json_t *object);

#endif
