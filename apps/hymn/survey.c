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
enum { FEW_BUFFERS = 4 }; // of a shader: as few as Vulkan 1.1 allows

// ---- plans

// Unless a plan that is there already comes to the same.
static void add_plan(struct survey_plan *plans, uint32_t *count, const char *name, bool own, bool tuned,
                     const struct hymn_vk_plan *made) {
    bool known = *count == SURVEY_MAX_PLANS;
    for (uint32_t i = 0; i < *count; i++) {
        known = known || memcmp(&plans[i].plan, made, sizeof(*made)) == 0;
    }
    if (!known) {
        struct survey_plan *plan = &plans[(*count)++];
        *plan = (struct survey_plan){.own = own, .tuned = tuned};
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
            add_plan(plans, count, name, true, false, &plan);
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
            add_plan(out_plans, &count, hymn_tier_string(tiers[i]), true, true, &plan);
        }
    }
    if (usable) {
        add_matrices(snapshot, out_plans, &count);
        struct hymn_vk_snapshot other = *snapshot;
        other.type = cpu ? HYMN_DEVICE_TYPE_INTEGRATED_GPU : HYMN_DEVICE_TYPE_CPU;
        hymn_vk_plan_make(&other, cpu ? HYMN_TIER_HALF : HYMN_TIER_AUTO, &plan);
        add_plan(out_plans, &count, "other", false, true, &plan);
        other = *snapshot;
        other.max_storage_buffers = FEW_BUFFERS;
        hymn_vk_plan_make(&other, HYMN_TIER_AUTO, &plan);
        add_plan(out_plans, &count, "few", false, false, &plan);
    }
    return count;
}

// ---- the steps of all cases

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

// Those from the first'th on are of this case.
static void set_cases(struct survey *survey, uint32_t first, struct survey_case of) {
    const uint32_t count = survey->program.count;
    struct survey_case *cases = realloc(survey->cases, (count + 1) * sizeof(*cases));
    if (cases == NULL) {
        survey->program.count = first;
        fail_status(survey, models[of.model].name, HYMN_STATUS_OUT_OF_MEMORY);
        return;
    }
    survey->cases = cases;
    for (uint32_t i = first; i < count; i++) {
        cases[i] = of;
    }
}

// What is run with one batch; the steps go to the end of the program.
static void add_rules(struct survey *survey, struct survey_case of, const struct hymn_survey_params *params,
                      json_t *cases) {
    const uint32_t first = survey->program.count;
    const struct hymn_log log = console_log();
    const enum hymn_status status = hymn_survey_add(params, &log, &survey->names, &survey->program);
    if (status != HYMN_STATUS_OK) {
        fail_status(survey, models[of.model].name, status);
    }
    set_cases(survey, first, of);
    json_t *object = json_object();
    json_object_set_new(object, "model", report_text(models[of.model].name));
    json_object_set_new(object, "precision", report_text(common_precision_name(params->precision)));
    json_object_set_new(object, "batch", json_integer(params->batch));
    json_object_set_new(object, "plan", report_text(survey->plans[of.plan].name));
    json_object_set_new(object, "shaders", count_shaders(survey->program.steps + first, survey->program.count - first));
    json_array_append_new(cases, object);
}

// What may be run instead of the steps from the first'th on, with any batch.
static void add_tuning(struct survey *survey, struct survey_case of, struct hymn_survey_params *params,
                       uint32_t batch_count, uint32_t first) {
    const uint32_t own = survey->program.count;
    const struct hymn_log log = console_log();
    for (uint32_t i = 0; i < batch_count; i++) {
        params->batch = batches[i];
        const enum hymn_status status =
            hymn_survey_add_tuning(params, first, own, &log, &survey->names, &survey->program);
        if (status != HYMN_STATUS_OK) {
            fail_status(survey, models[of.model].name, status);
        }
    }
    set_cases(survey, own, of);
}

static void add_cases(struct survey *survey, struct survey_case of, const struct hymn_model *model, json_t *cases) {
    const uint32_t batch_count = survey->quick ? QUICK_BATCHES : BATCHES, first = survey->program.count;
    struct hymn_survey_params params = {
        .model = model, .plan = &survey->plans[of.plan].plan, .precision = precisions[of.precision]};
    for (uint32_t i = 0; i < batch_count; i++) {
        params.batch = batches[i];
        add_rules(survey, of, &params, cases);
    }
    if (survey->plans[of.plan].tuned) {
        add_tuning(survey, of, &params, batch_count, first);
    }
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
    for (uint8_t plan = 0; model != NULL && plan < survey->plan_count; plan++) {
        if (survey->quick && !survey->plans[plan].own) {
            continue;
        }
        for (uint8_t precision = 0; precision < PRECISIONS; precision++) {
            add_cases(survey, (struct survey_case){plan, index, precision}, model, cases);
        }
    }
    hymn_model_destroy(&model);
    hymn_free(data);
}

void survey_list(const struct hymn_vk_snapshot *snapshot, bool quick, json_t *cases, struct survey *survey) {
    *survey = (struct survey){.quick = quick, .code = CODE_OK};
    survey->plan_count = survey_plans(snapshot, survey->plans);
    for (uint8_t index = 0; index < (quick ? QUICK_MODELS : MODELS); index++) {
        add_model(survey, index, cases);
    }
}

void survey_free(struct survey *survey) {
    hymn_vk_program_free(&survey->program);
    hymn_arena_free(&survey->names);
    free(survey->cases);
    survey->cases = NULL;
}

// ---- pipelines

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
        if (!hymn_vk_step_same_pipeline(step, &survey->program.steps[at])) {
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

static json_t *describe_pipeline(struct hymn_vk_device *device, struct survey *survey, uint32_t at) {
    const struct hymn_vk_step *step = &survey->program.steps[at];
    json_t *object = json_object(), *constants = json_array();
    char hash[20];
    double milliseconds;
    const VkResult result = hymn_vk_pipeline_result(device, step, &milliseconds);
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
        const enum hymn_status status = hymn_vk_statistics_read(device, step, &statistics);
        if (status != HYMN_STATUS_OK) {
            fail_status(survey, step->shader->name, status);
        }
        describe_statistics(&statistics, object);
    }
    return object;
}

static bool seen_before(const struct hymn_vk_program *program, uint32_t at) {
    for (uint32_t i = 0; i < at; i++) {
        if (hymn_vk_step_same_pipeline(&program->steps[i], &program->steps[at])) {
            return true;
        }
    }
    return false;
}

enum exit_code survey_device(struct hymn_vk_device *device, bool quick, json_t *object) {
    struct survey *survey = malloc(sizeof(*survey));
    if (survey == NULL) {
        console_status(NULL, HYMN_STATUS_OUT_OF_MEMORY);
        return CODE_ENGINE;
    }
    json_t *cases = json_array(), *pipelines = json_array();
    survey_list(&device->snapshot, quick, cases, survey);
    const struct hymn_vk_program *program = &survey->program;
    const enum hymn_status status = hymn_vk_pipelines_prepare(device, program->steps, program->count);
    if (status != HYMN_STATUS_OK) {
        fail_status(survey, device->info.name, status);
    }
    double milliseconds = 0.0;
    hymn_vk_pipelines_count(device, &milliseconds);
    for (uint32_t i = 0; i < program->count; i++) {
        if (program->steps[i].kind == HYMN_VK_STEP_DISPATCH && !seen_before(program, i)) {
            json_array_append_new(pipelines, describe_pipeline(device, survey, i));
        }
    }
    json_object_set_new(object, "pipelines_ms", report_real(milliseconds));
    json_object_set_new(object, "cases", cases);
    json_object_set_new(object, "pipelines", pipelines);
    const enum exit_code code = survey->code;
    survey_free(survey);
    free(survey);
    return code;
}
