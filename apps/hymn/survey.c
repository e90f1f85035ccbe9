// SPDX-License-Identifier: MIT
#include "survey.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/blank.h"
#include "report.h"
#include "session/survey.h"
#include "vk/pipeline.h"
#include "vk/statistics.h"

// The sizes of apps/train's presets that are shipped or measured.
#define CONFIG(dims, depths)                                                                                           \
    "{\"architecture\":\"hymunet\",\"version\":1,\"dims\":[" dims "],\"depths\":[" depths "],\"conv_stages\":2,"       \
    "\"decoder_depths\":[1,1,1,1],\"in_channels\":3,\"num_classes\":1,\"d_state\":16,\"ssm_ratio\":2.0,"               \
    "\"dt_rank\":\"auto\",\"skip\":\"mgf\",\"input_size\":[256,256]}"

static const struct {
    const char *name, *config;
} models[] = {
    {"tiny", CONFIG("16,32,64,128,256", "1,1,1,1,1")},
    {"base", CONFIG("32,64,128,256,512", "2,2,2,2,2")},
};
static const uint32_t batches[] = {1, 8};
static const enum hymn_precision precisions[] = {HYMN_PRECISION_FP16, HYMN_PRECISION_FP32};

enum { MODELS = 2, QUICK_MODELS = 1, BATCHES = 2, QUICK_BATCHES = 1, PRECISIONS = 2, SHOWN_OPERATORS = 4 };

// ---- plans

// Unless a plan that is there already comes to the same.
static void add_plan(struct survey_plan *plans, uint32_t *count, const char *name, bool own,
                     const struct hymn_vk_plan *made) {
    bool known = *count == SURVEY_MAX_PLANS;
    for (uint32_t i = 0; i < *count; i++) {
        known = known || memcmp(&plans[i].plan, made, sizeof(*made)) == 0;
    }
    if (!known) {
        struct survey_plan *plan = &plans[(*count)++];
        *plan = (struct survey_plan){.own = own};
        plan->plan = *made;
        snprintf(plan->name, sizeof(plan->name), "%s", name);
    }
}

static void add_matrices(const struct hymn_vk_snapshot *snapshot, struct survey_plan *plans, uint32_t *count) {
    for (uint32_t i = 0; i < snapshot->matrix_count; i++) {
        const struct hymn_vk_matrix *matrix = &snapshot->matrices[i];
        struct hymn_vk_snapshot only = *snapshot;
        struct hymn_vk_plan plan;
        char name[40];
        only.matrices[0] = *matrix;
        only.matrix_count = 1;
        hymn_vk_plan_make(&only, HYMN_TIER_MATRIX, &plan);
        snprintf(name, sizeof(name), "matrix-%" PRIu32 "x%" PRIu32 "x%" PRIu32, matrix->m, matrix->n, matrix->k);
        if (plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX) {
            add_plan(plans, count, name, true, &plan);
        }
    }
}

uint32_t survey_plans(const struct hymn_vk_snapshot *snapshot, struct survey_plan out_plans[SURVEY_MAX_PLANS]) {
    static const enum hymn_tier tiers[] = {HYMN_TIER_MATRIX, HYMN_TIER_HALF, HYMN_TIER_WIDE, HYMN_TIER_BASE};
    uint32_t count = 0;
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(snapshot, HYMN_TIER_AUTO, &plan);
    const bool usable = plan.usable, cpu = plan.cpu;
    for (uint32_t i = 0; usable && i < sizeof(tiers) / sizeof(tiers[0]); i++) {
        hymn_vk_plan_make(snapshot, tiers[i], &plan);
        if (plan.tier == tiers[i]) { // else the device has nothing of this tier
            add_plan(out_plans, &count, hymn_tier_string(tiers[i]), true, &plan);
        }
    }
    if (usable) {
        add_matrices(snapshot, out_plans, &count);
        struct hymn_vk_snapshot other = *snapshot;
        other.type = cpu ? HYMN_DEVICE_TYPE_INTEGRATED_GPU : HYMN_DEVICE_TYPE_CPU;
        hymn_vk_plan_make(&other, cpu ? HYMN_TIER_HALF : HYMN_TIER_AUTO, &plan);
        add_plan(out_plans, &count, "other", false, &plan);
    }
    return count;
}

// ---- the steps of all cases

struct survey {
    struct hymn_vk_device *device;
    struct survey_plan plans[SURVEY_MAX_PLANS];
    uint32_t plan_count;
    struct hymn_arena names;
    struct hymn_vk_program program;
    // [program.count]: the case of each step
    struct {
        uint8_t plan, model, precision;
    } * cases;
    bool quick;
    enum exit_code code;
};

static void fail_status(struct survey *survey, const char *what, enum hymn_status status) {
    console_status(what, status);
    survey->code = CODE_ENGINE;
}

// How often each shader is dispatched.
static json_t *count_shaders(const struct hymn_vk_step *steps, uint32_t count) {
    json_t *object = json_object();
    for (uint32_t i = 0; i < count; i++) {
        if (steps[i].kind == HYMN_VK_STEP_DISPATCH) {
            const json_t *before = json_object_get(object, steps[i].shader->name);
            json_object_set_new(object, steps[i].shader->name, json_integer(json_integer_value(before) + 1));
        }
    }
    return object;
}

// One plan, model, precision and batch; the steps go to the end of the program.
static json_t *add_case(struct survey *survey, const struct hymn_model *model, uint8_t plan, uint8_t index,
                        uint8_t precision, uint32_t batch) {
    const uint32_t first = survey->program.count;
    struct hymn_survey_params params = {
        .model = model, .plan = &survey->plans[plan].plan, .precision = precisions[precision], .batch = batch};
    const struct hymn_log log = console_log();
    enum hymn_status status = hymn_survey_add(&params, &log, &survey->names, &survey->program);
    const uint32_t dispatched = survey->program.count - first;
    // Software devices are not tuned, and what tuning chooses among is the same for every batch.
    params.tuned = survey->plans[plan].own && !params.plan->cpu && batch == batches[0];
    if (status == HYMN_STATUS_OK && params.tuned) {
        status = hymn_survey_add(&params, &log, &survey->names, &survey->program);
    }
    if (status != HYMN_STATUS_OK) {
        fail_status(survey, models[index].name, status);
    }
    const uint32_t count = survey->program.count;
    void *cases = realloc(survey->cases, (count + 1) * sizeof(*survey->cases));
    if (cases == NULL) {
        survey->program.count = first;
        fail_status(survey, models[index].name, HYMN_STATUS_OUT_OF_MEMORY);
        return json_null();
    }
    survey->cases = cases;
    for (uint32_t i = first; i < count; i++) {
        survey->cases[i].plan = plan;
        survey->cases[i].model = index;
        survey->cases[i].precision = precision;
    }
    json_t *object = json_object();
    json_object_set_new(object, "model", report_text(models[index].name));
    json_object_set_new(object, "precision", report_text(common_precision_name(precisions[precision])));
    json_object_set_new(object, "batch", json_integer(batch));
    json_object_set_new(object, "plan", report_text(survey->plans[plan].name));
    json_object_set_new(object, "shaders", count_shaders(survey->program.steps + first, dispatched));
    return object;
}

static void add_model(struct survey *survey, uint8_t index, json_t *cases) {
    const struct hymn_log log = console_log();
    void *data = NULL;
    size_t size = 0;
    struct hymn_model *model = NULL;
    enum hymn_status status = hymn_model_blank(models[index].config, models[index].name, &log, &data, &size);
    if (status == HYMN_STATUS_OK) {
        status = hymn_model_create(
            &(struct hymn_model_params){.log = log, .data = data, .size = size, .name = models[index].name}, &model);
    }
    if (status != HYMN_STATUS_OK) {
        fail_status(survey, models[index].name, status);
    }
    const uint32_t batch_count = survey->quick ? QUICK_BATCHES : BATCHES;
    for (uint8_t plan = 0; model != NULL && plan < survey->plan_count; plan++) {
        if (survey->quick && !survey->plans[plan].own) {
            continue;
        }
        for (uint8_t precision = 0; precision < PRECISIONS; precision++) {
            for (uint32_t batch = 0; batch < batch_count; batch++) {
                json_array_append_new(cases, add_case(survey, model, plan, index, precision, batches[batch]));
            }
        }
    }
    hymn_model_destroy(&model);
    hymn_free(data);
}

// ---- pipelines

static bool same_pipeline(const struct hymn_vk_step *a, const struct hymn_vk_step *b) {
    return a->shader == b->shader && a->constant_count == b->constant_count && a->binding_count == b->binding_count &&
           a->push_bytes == b->push_bytes &&
           memcmp(a->constants, b->constants, a->constant_count * sizeof(*a->constants)) == 0;
}

// Appends the text unless it is in the array.
static void add_once(json_t *array, const char *text, size_t most) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (strcmp(json_string_value(json_array_get(array, i)), text) == 0) {
            return;
        }
    }
    if (json_array_size(array) < most) {
        json_array_append_new(array, report_text(text));
    }
}

// Who uses the pipeline of step `at`; `own`: whether the device itself may come to it.
static void describe_uses(const struct survey *survey, uint32_t at, json_t *object) {
    json_t *plans = json_array(), *uses = json_array(), *operators = json_array();
    bool own = false;
    for (uint32_t i = at; i < survey->program.count; i++) {
        const struct hymn_vk_step *step = &survey->program.steps[i];
        if (step->kind != HYMN_VK_STEP_DISPATCH || !same_pipeline(step, &survey->program.steps[at])) {
            continue;
        }
        char use[40];
        const struct survey_plan *plan = &survey->plans[survey->cases[i].plan];
        snprintf(use, sizeof(use), "%s %s", models[survey->cases[i].model].name,
                 common_precision_name(precisions[survey->cases[i].precision]));
        own = own || plan->own;
        add_once(plans, plan->name, SURVEY_MAX_PLANS);
        add_once(uses, use, MODELS * PRECISIONS);
        add_once(operators, step->name, SHOWN_OPERATORS);
    }
    json_object_set_new(object, "own", json_boolean(own));
    json_object_set_new(object, "plans", plans);
    json_object_set_new(object, "models", uses);
    json_object_set_new(object, "operators", operators);
}

static json_t *count_or_null(double value) {
    return value < 0 ? json_null() : json_integer((json_int_t)value);
}

static void describe_statistics(const struct hymn_vk_statistics *statistics, json_t *object) {
    json_t *own = json_object();
    for (uint32_t i = 0; i < statistics->count; i++) {
        json_object_set_new(own, statistics->items[i].name, report_real(statistics->items[i].value));
    }
    json_object_set_new(object, "subgroup_size", json_integer(statistics->subgroup_size));
    json_object_set_new(object, "registers", count_or_null(statistics->registers));
    json_object_set_new(object, "spills", count_or_null(statistics->spills));
    json_object_set_new(object, "scratch_bytes", count_or_null(statistics->scratch_bytes));
    json_object_set_new(object, "shared_bytes", count_or_null(statistics->shared_bytes));
    json_object_set_new(object, "instructions", count_or_null(statistics->instructions));
    json_object_set_new(object, "statistics", own);
}

static json_t *describe_pipeline(struct survey *survey, uint32_t at) {
    const struct hymn_vk_step *step = &survey->program.steps[at];
    json_t *object = json_object(), *constants = json_array();
    char hash[20];
    double milliseconds;
    const VkResult result = hymn_vk_pipeline_result(survey->device, step, &milliseconds);
    snprintf(hash, sizeof(hash), "%016" PRIx64, step->shader->hash);
    for (uint32_t i = 0; i < step->constant_count; i++) {
        json_array_append_new(constants, json_integer(step->constants[i]));
    }
    json_object_set_new(object, "shader", report_text(step->shader->name));
    json_object_set_new(object, "hash", report_text(hash));
    json_object_set_new(object, "constants", constants);
    describe_uses(survey, at, object);
    json_object_set_new(object, "built", json_boolean(result == VK_SUCCESS));
    json_object_set_new(object, "error",
                        result == VK_SUCCESS ? json_null() : report_text(hymn_vk_result_string(result)));
    json_object_set_new(object, "milliseconds", report_real(milliseconds));
    struct hymn_vk_statistics statistics;
    if (result == VK_SUCCESS) {
        const enum hymn_status status = hymn_vk_statistics_read(survey->device, step, &statistics);
        if (status != HYMN_STATUS_OK) {
            fail_status(survey, step->shader->name, status);
        }
        describe_statistics(&statistics, object);
    }
    return object;
}

static bool seen_before(const struct hymn_vk_program *program, uint32_t at) {
    for (uint32_t i = 0; i < at; i++) {
        if (program->steps[i].kind == HYMN_VK_STEP_DISPATCH && same_pipeline(&program->steps[i], &program->steps[at])) {
            return true;
        }
    }
    return false;
}

enum exit_code survey_device(struct hymn_vk_device *device, bool quick, json_t *object) {
    struct survey *survey = calloc(1, sizeof(*survey));
    if (survey == NULL) {
        console_status(NULL, HYMN_STATUS_OUT_OF_MEMORY);
        return CODE_ENGINE;
    }
    survey->device = device;
    survey->quick = quick;
    survey->code = CODE_OK;
    survey->plan_count = survey_plans(&device->snapshot, survey->plans);
    json_t *cases = json_array(), *pipelines = json_array();
    for (uint8_t index = 0; index < (quick ? QUICK_MODELS : MODELS); index++) {
        add_model(survey, index, cases);
    }
    const struct hymn_vk_program *program = &survey->program;
    const enum hymn_status status = hymn_vk_pipelines_prepare(device, program->steps, program->count);
    if (status != HYMN_STATUS_OK) {
        fail_status(survey, device->info.name, status);
    }
    double milliseconds = 0.0;
    hymn_vk_pipelines_count(device, &milliseconds);
    for (uint32_t i = 0; i < program->count; i++) {
        if (program->steps[i].kind == HYMN_VK_STEP_DISPATCH && !seen_before(program, i)) {
            json_array_append_new(pipelines, describe_pipeline(survey, i));
        }
    }
    json_object_set_new(object, "pipelines_ms", report_real(milliseconds));
    json_object_set_new(object, "cases", cases);
    json_object_set_new(object, "pipelines", pipelines);
    const enum exit_code code = survey->code;
    hymn_vk_program_free(&survey->program);
    hymn_arena_free(&survey->names);
    free(survey->cases);
    free(survey);
    return code;
}
