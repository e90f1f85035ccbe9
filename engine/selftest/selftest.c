// SPDX-License-Identifier: MIT
//
// The whole self-test: every shader of the network's operators.
#include "selftest/selftest.h"

#include <string.h>

#include "base/alloc.h"
#include "selftest/verdict.h"
#include "session/context.h"
#include "vk/pipeline.h"
#include "vk/store.h"

#define DEFAULT_RUNS 100u
#define TOGETHER 16u // shaders whose pipelines are made at once: enough for all threads, and progress is seen

struct hymn_selftest {
    struct hymn_selftest_result *results;
    uint32_t count;
};

static struct hymn_selftest_result describe(const struct hymn_shader *shader,
                                            const struct hymn_selftest_outcome *outcome) {
    return (struct hymn_selftest_result){
        .variant = shader->name,
        .operation = outcome->kind ? outcome->kind : "",
        .base = hymn_shader_is_base(shader),
        .verdict = outcome->cases == 0 ? HYMN_SELFTEST_UNAVAILABLE
                   : outcome->reason   ? HYMN_SELFTEST_FAILED
                                       : HYMN_SELFTEST_PASSED,
        .cases = outcome->cases,
        .runs = outcome->runs,
        .differing = outcome->differing,
        .base_error = outcome->cases ? outcome->base_error : -1.0,
        .reference_error = outcome->cases ? outcome->reference_error : -1.0,
        .reason = outcome->reason ? outcome->reason : "",
    };
}

static void report(const struct hymn_selftest_params *params, uint32_t done) {
    if (params->progress) {
        params->progress(params->user, done, hymn_shader_count);
    }
}

static bool is_wanted(const struct hymn_selftest_params *params, const struct hymn_shader *shader) {
    bool wanted = !params->names;
    for (uint32_t i = 0; i < params->name_count && !wanted; i++) {
        wanted = strstr(shader->name, params->names[i]) != NULL;
    }
    return wanted;
}

static enum hymn_status check_names(const struct hymn_log *log, const struct hymn_selftest_params *params) {
    for (uint32_t i = 0; params->names && i < params->name_count; i++) {
        const struct hymn_selftest_params one = {.names = &params->names[i], .name_count = 1};
        bool found = false;
        for (uint32_t k = 0; k < hymn_shader_count && params->names[i] && !found; k++) {
            found = is_wanted(&one, &hymn_shaders[k]);
        }
        if (!found) {
            return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "self-test: no variant's name contains '%s'",
                             params->names[i] ? params->names[i] : "(NULL)");
        }
    }
    return HYMN_STATUS_OK;
}

// A self-test while it runs.
struct test {
    struct hymn_vk_device *device;
    const struct hymn_selftest_params *params;
    struct hymn_vk_plan plan;
    struct hymn_selftest_options options;
    struct hymn_selftest_rooms rooms;
};

static bool is_run(const struct test *test, const struct hymn_shader *shader) {
    return is_wanted(test->params, shader) && hymn_vk_plan_allows(&test->plan, shader);
}

// The pipelines of a few shaders. What cannot be made is found again, and blamed, in the test of its shader.
static enum hymn_status make_pipelines(struct test *test, const struct hymn_shader *shaders, uint32_t count) {
    struct hymn_vk_program program = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        if (is_run(test, &shaders[i])) {
            status = hymn_selftest_collect(test->device, &test->plan, &shaders[i], &test->options, &program);
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_pipelines_prepare(test->device, program.steps, program.count);
    }
    hymn_vk_program_free(&program);
    return status == HYMN_STATUS_DEVICE_LOST || status == HYMN_STATUS_OUT_OF_MEMORY ? status : HYMN_STATUS_OK;
}

static enum hymn_status run_shader(struct test *test, const struct hymn_shader *shader,
                                   struct hymn_selftest *selftest) {
    struct hymn_selftest_outcome outcome = {0};
    enum hymn_status status = HYMN_STATUS_OK;
    if (is_run(test, shader)) {
        status = hymn_selftest_shader(test->device, &test->plan, shader, &test->options, &test->rooms, &outcome);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    // Base variants without a case are those of pre- and post-processing, and the copy.
    if (is_wanted(test->params, shader) && (outcome.cases > 0 || !hymn_shader_is_base(shader))) {
        selftest->results[selftest->count++] = describe(shader, &outcome);
    }
    if (outcome.cases > 0 && !hymn_shader_is_base(shader)) {
        hymn_selftest_conclude(test->device, &test->plan, shader, &outcome);
    }
    return status;
}

static enum hymn_status run_all(struct hymn_vk_device *device, const struct hymn_selftest_params *params,
                                struct hymn_selftest *selftest) {
    struct test test = {
        .device = device,
        .params = params,
        .options = {.against_base = true, .prepared = true, .runs = params->runs ? params->runs : DEFAULT_RUNS},
    };
    // The most that the context allows, matrix units of software devices included, and what was found wrong before.
    hymn_vk_plan_make(&device->snapshot, hymn_vk_tier_limit(device->tier, HYMN_TIER_MATRIX), &test.plan);
    enum hymn_status status = HYMN_STATUS_OK;
    report(params, 0);
    for (uint32_t i = 0; i < hymn_shader_count && status == HYMN_STATUS_OK; i++) {
        if (i % TOGETHER == 0) {
            const uint32_t left = hymn_shader_count - i;
            status = make_pipelines(&test, &hymn_shaders[i], left < TOGETHER ? left : TOGETHER);
        }
        if (status == HYMN_STATUS_OK) {
            status = run_shader(&test, &hymn_shaders[i], selftest);
        }
        if (status == HYMN_STATUS_OK) {
            report(params, i + 1);
        }
    }
    hymn_selftest_rooms_free(device, &test.rooms);
    hymn_vk_store_flush(device);
    hymn_vk_pipelines_store(device);
    return status;
}

enum hymn_status hymn_selftest_create(struct hymn_context *context, const struct hymn_selftest_params *params,
                                      struct hymn_selftest **out_selftest) {
    static const struct hymn_selftest_params defaults;
    const struct hymn_selftest_params *given = params ? params : &defaults;
    if (out_selftest) {
        *out_selftest = NULL;
    }
    if (!context || !out_selftest) {
        return hymn_fail(context ? &context->device->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_selftest_create: context or out_selftest is NULL");
    }
    enum hymn_status status = check_names(&context->device->log, given);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_selftest *selftest = hymn_alloc(1, sizeof *selftest);
    if (selftest) {
        selftest->results = hymn_alloc(hymn_shader_count, sizeof *selftest->results);
    }
    status = selftest && selftest->results
                 ? run_all(context->device, given, selftest)
                 : hymn_fail(&context->device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    if (status != HYMN_STATUS_OK) {
        hymn_selftest_destroy(&selftest);
        return status;
    }
    *out_selftest = selftest;
    return HYMN_STATUS_OK;
}

void hymn_selftest_destroy(struct hymn_selftest **selftest) {
    if (selftest && *selftest) {
        hymn_free((*selftest)->results);
        hymn_free(*selftest);
        *selftest = NULL;
    }
}

uint32_t hymn_selftest_count(const struct hymn_selftest *selftest) {
    return selftest ? selftest->count : 0;
}

const struct hymn_selftest_result *hymn_selftest_get(const struct hymn_selftest *selftest, uint32_t index) {
    return selftest && index < selftest->count ? &selftest->results[index] : NULL;
}
