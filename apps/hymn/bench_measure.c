// SPDX-License-Identifier: MIT
#define _XOPEN_SOURCE 700

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/thread.h"
#include "bench_data.h"
#include "files.h"
#include "interrupt.h"
#include "stats.h"

enum { MAX_SAMPLES = 1 << 20, PROFILED_RUNS = 10, CACHE_PATH = 512 };

struct bench {
    struct bench_setup *setup; // its batch becomes what fits into the device's memory
    struct bench_data data;
    struct hymn_context *context;
    struct hymn_session *session;
    struct bench_result *result;
    char cache[CACHE_PATH]; // folder for the pipeline cache; of this measurement only, unless setup->cache
};

static double milliseconds(double since) {
    return (hymn_time_now() - since) * 1000;
}

static enum exit_code check(const struct bench *bench, enum hymn_status status) {
    if (status != HYMN_STATUS_OK) {
        console_status(bench->setup->model_path, status);
        return CODE_ENGINE;
    }
    return interrupt_seen() ? CODE_INTERRUPTED : CODE_OK;
}

// -------------------------------------------------------------------------------------------------------------
// starting

// A new folder, unless one is given, where the driver keeps its own caches too: otherwise a "cold" start is warm from
// the second time on.
static bool make_cache(struct bench *bench) {
    const char *base = getenv("TMPDIR"), *given = bench->setup->cache;
    const int length = given != NULL ? snprintf(bench->cache, sizeof(bench->cache), "%s", given)
                                     : snprintf(bench->cache, sizeof(bench->cache), "%s/hymn-bench-XXXXXX",
                                                base != NULL && base[0] != '\0' ? base : "/tmp");
    struct cause cause;
    bool made = false;
    if (length < 0 || (size_t)length >= sizeof(bench->cache)) {
        cause_set(&cause, "name of the folder for caches is too long");
    } else if (given != NULL) {
        made = folder_make(given, &cause);
    } else {
        made = mkdtemp(bench->cache) != NULL || cause_system(&cause, "folder cannot be made");
    }
    if (!made) {
        console_error(bench->cache, "%s", cause.text);
        bench->cache[0] = '\0';
        return false;
    }
    setenv("MESA_SHADER_CACHE_DIR", bench->cache, 1);
    setenv("__GL_SHADER_DISK_CACHE_PATH", bench->cache, 1);
    setenv("AMD_SHADER_DISK_CACHE_PATH", bench->cache, 1);
    return true;
}

static struct hymn_session_params session_params(const struct bench_setup *setup) {
    return (struct hymn_session_params){.height = setup->height,
                                        .width = setup->width,
                                        .batch = setup->batch,
                                        .min_batch = 1,
                                        .precision = setup->common->precision,
                                        .tuning_ms = HYMN_TUNING_NONE};
}

// Chooses among the ways of each operator, for the measurements that follow.
static enum exit_code tune(struct bench *bench) {
    struct hymn_session_params params = session_params(bench->setup);
    params.tuning_ms = common_tuning_ms(bench->setup->tuning);
    if (params.tuning_ms == HYMN_TUNING_NONE) {
        return CODE_OK;
    }
    enum exit_code code = common_open_device(bench->setup->common, bench->cache, 1, &bench->context);
    if (code == CODE_OK) {
        code = common_open_session(bench->context, bench->setup->model, bench->setup->model_path, &params,
                                   &bench->session);
    }
    if (code == CODE_OK) {
        bench->result->tuning_ms = hymn_session_get_info(bench->session)->tuning_ms;
        code = common_close(&bench->session, &bench->context, code); // writes the cache
    }
    return code;
}

// From nothing to the first result.
static enum exit_code start(struct bench *bench, struct bench_start *out_start) {
    struct hymn_session_params params = session_params(bench->setup);
    struct hymn_model *model = NULL;
    double since = hymn_time_now();
    enum exit_code code = common_open_device(bench->setup->common, bench->cache, 1, &bench->context);
    out_start->context_ms = milliseconds(since);
    since = hymn_time_now();
    if (code == CODE_OK) {
        code = common_open_model(bench->setup->model_path, &model);
    }
    out_start->model_ms = milliseconds(since);
    since = hymn_time_now();
    if (code == CODE_OK) {
        code = common_open_session(bench->context, model, bench->setup->model_path, &params, &bench->session);
    }
    out_start->session_ms = milliseconds(since);
    since = hymn_time_now();
    if (code == CODE_OK) {
        code = check(bench, hymn_session_run(bench->session, &bench->data.runs[0]));
    }
    out_start->run_ms = milliseconds(since);
    hymn_model_destroy(&model);
    return code;
}

double bench_start_ready(const struct bench_start *start) {
    return start->context_ms + start->model_ms + start->session_ms;
}

double bench_start_total(const struct bench_start *start) {
    return bench_start_ready(start) + start->run_ms;
}

// ---------------------------------------------------------------------------------------------------------------
// timing

static bool enough(const struct bench_setup *setup, uint32_t done, double since) {
    if (setup->runs > 0) {
        return done >= setup->runs;
    }
    return done >= 3 && (done >= MAX_SAMPLES || hymn_time_now() - since >= setup->seconds);
}

static struct bench_spread spread_of(double *values, size_t count) {
    struct bench_spread spread;
    spread.p50 = stats_percentile(values, count, 50);
    spread.p90 = stats_percentile(values, count, 90);
    spread.p99 = stats_percentile(values, count, 99);
    return spread;
}

struct samples {
    double *wall, *gpu;
    size_t capacity;
    uint32_t count;
};

static bool samples_add(struct samples *samples, double wall, double gpu) {
    if (samples->count == samples->capacity) {
        const size_t capacity = samples->capacity > 0 ? samples->capacity * 2 : 256;
        double *more_wall = realloc(samples->wall, capacity * sizeof(double));
        samples->wall = more_wall != NULL ? more_wall : samples->wall;
        double *more_gpu = realloc(samples->gpu, capacity * sizeof(double));
        samples->gpu = more_gpu != NULL ? more_gpu : samples->gpu;
        if (more_wall == NULL || more_gpu == NULL) {
            return false;
        }
        samples->capacity = capacity;
    }
    samples->wall[samples->count] = wall;
    samples->gpu[samples->count++] = gpu;
    return true;
}

// One run at a time.
static enum exit_code measure_latency(struct bench *bench) {
    struct samples samples = {0};
    enum exit_code code = CODE_OK;
    for (uint32_t i = 0; i < bench->setup->warmup && code == CODE_OK; i++) {
        code = check(bench, hymn_session_run(bench->session, &bench->data.runs[0]));
    }
    const double began = hymn_time_now();
    while (code == CODE_OK && !enough(bench->setup, samples.count, began)) {
        const double since = hymn_time_now();
        const enum hymn_status status = hymn_session_run(bench->session, &bench->data.runs[0]);
        const double wall = milliseconds(since);
        code = check(bench, status);
        if (code == CODE_OK && !samples_add(&samples, wall, hymn_session_gpu_ms(bench->session))) {
            code = check(bench, HYMN_STATUS_OUT_OF_MEMORY);
        }
    }
    bench->result->samples = samples.count;
    bench->result->wall = spread_of(samples.wall, samples.count);
    bench->result->gpu = spread_of(samples.gpu, samples.count);
    free(samples.wall);
    free(samples.gpu);
    return code;
}

static enum exit_code run_in_flight(struct bench *bench, uint32_t total) {
    const uint32_t most = bench->result->in_flight;
    uint64_t tickets[COMMON_MAX_FLIGHTS] = {0};
    uint32_t submitted = 0, landed = 0;
    enum exit_code code = CODE_OK;
    while (landed < total && code == CODE_OK) {
        if (submitted < total && submitted - landed < most) {
            const uint32_t slot = submitted % most;
            code = check(bench, hymn_session_submit(bench->session, &bench->data.runs[slot], &tickets[slot]));
            submitted++;
        } else {
            code = check(bench, hymn_session_wait(bench->session, tickets[landed % most]));
            landed++;
        }
    }
    return code;
}

// All runs have the same input: those in flight write what a run alone does, to the bit.
static enum exit_code compare_flights(const struct bench *bench, uint32_t batch) {
    if (bench_data_same(&bench->data, bench->setup, bench->result->in_flight, batch)) {
        return CODE_OK;
    }
    console_error(bench->setup->model_path, "%u x %u, batch %u: runs in flight give other results than one alone",
                  bench->setup->height, bench->setup->width, batch);
    return CODE_ENGINE;
}

// As many runs again, several in flight: where they can be computed at the same time, on queues opened for that.
static enum exit_code measure_throughput(struct bench *bench) {
    struct bench_result *result = bench->result;
    struct hymn_session_params params = session_params(bench->setup);
    enum exit_code code = CODE_OK;
    params.streams = result->device.compute_queues > 1 ? bench->setup->streams : 1;
    if (params.streams > 1) {
        code = common_close(&bench->session, &bench->context, code);
        if (code == CODE_OK) {
            code = common_open_device(bench->setup->common, bench->cache, params.streams, &bench->context);
        }
        if (code == CODE_OK) {
            code = common_open_session(bench->context, bench->setup->model, bench->setup->model_path, &params,
                                       &bench->session);
        }
    }
    if (code != CODE_OK) {
        return code;
    }
    const struct hymn_session_info *info = hymn_session_get_info(bench->session);
    result->in_flight = info->runs_in_flight;
    result->streams = info->streams;
    result->streams_activation_bytes = info->activation_bytes;
    const uint32_t total = result->samples > result->in_flight ? result->samples : result->in_flight + 1;
    code =
        params.streams > 1 ? run_in_flight(bench, result->in_flight) : CODE_OK; // each slot records its commands once
    const double since = hymn_time_now();
    if (code == CODE_OK) {
        code = run_in_flight(bench, total);
    }
    result->images_per_second = (double)total * info->batch / (hymn_time_now() - since);
    return code == CODE_OK ? compare_flights(bench, info->batch) : code;
}

// -------------------------------------------------------------------------------------------------------------
// accuracy

static void compare(const float *values, const float *reference, size_t count, struct bench_result *result) {
    double error = 0, power = 0;
    result->max_abs_error = result->max_abs = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = (double)values[i] - reference[i];
        error += difference * difference;
        power += (double)reference[i] * reference[i];
        if (!(fabs(difference) <= result->max_abs_error)) { // so that a NaN is kept
            result->max_abs_error = fabs(difference);
        }
        result->max_abs = fmax(result->max_abs, fabs((double)reference[i]));
    }
    result->nmse = power > 0 ? error / power : error;
}

// Of a step of the comparison: fp32 takes twice the memory of what was measured, and tensors as large to bind.
static bool is_out_of_reach(enum hymn_status status) {
    return status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_OUT_OF_MEMORY ||
           status == HYMN_STATUS_UNSUPPORTED;
}

static void warn_not_compared(const struct bench *bench, enum hymn_status status) {
    char said[512];
    console_peek(said, sizeof(said));
    console_forget();
    console_warning(bench->setup->model_path, "%u x %u, batch %u: not compared with fp32: %s", bench->setup->height,
                    bench->setup->width, bench->setup->batch, said[0] != '\0' ? said : hymn_status_string(status));
}

// The session's logits against those of the fp32 base variants; not known where these cannot be had. Leaves no session.
static enum exit_code measure_error(struct bench *bench) {
    struct hymn_session_params params = session_params(bench->setup);
    params.precision = HYMN_PRECISION_FP32;
    params.tier = HYMN_TIER_BASE;
    params.min_batch = 0;
    params.runs_in_flight = 1;
    float *values = bench->data.logits[0], *reference = bench->data.logits[1];
    enum hymn_status status = bench_data_logits(&bench->data, bench->setup, bench->session, values);
    hymn_session_destroy(&bench->session);
    if (status == HYMN_STATUS_OK && !interrupt_seen()) {
        status = hymn_session_create(bench->context, bench->setup->model, &params, &bench->session);
    }
    if (status == HYMN_STATUS_OK && !interrupt_seen()) {
        status = bench_data_logits(&bench->data, bench->setup, bench->session, reference);
    }
    hymn_session_destroy(&bench->session);
    if (is_out_of_reach(status)) {
        warn_not_compared(bench, status);
        return check(bench, HYMN_STATUS_OK);
    }
    const enum exit_code code = check(bench, status);
    if (code == CODE_OK) {
        compare(values, reference, bench->data.logit_count, bench->result);
    }
    return code;
}

// --------------------------------------------------------------------------------------------------------------
// profile

static enum exit_code add_timings(struct bench *bench) {
    struct bench_result *result = bench->result;
    const struct hymn_timing *timings = NULL;
    uint32_t count = 0;
    const enum exit_code code = check(bench, hymn_session_timings(bench->session, &timings, &count));
    if (code != CODE_OK) {
        return code;
    }
    if (result->operators == NULL) {
        result->operators = calloc(count + 1, sizeof(*result->operators));
        result->operator_count = count;
    }
    if (result->operators == NULL) {
        return check(bench, HYMN_STATUS_OUT_OF_MEMORY);
    }
    for (uint32_t i = 0; i < count && i < result->operator_count; i++) {
        struct bench_operator *operation = &result->operators[i];
        snprintf(operation->name, sizeof(operation->name), "%s", timings[i].name);
        snprintf(operation->shader, sizeof(operation->shader), "%s", timings[i].shader);
        operation->bytes = timings[i].bytes;
        operation->flops = timings[i].flops;
        operation->gpu_ms += timings[i].gpu_ms;
    }
    return CODE_OK;
}

static enum exit_code measure_profile(struct bench *bench) {
    struct hymn_session_params params = session_params(bench->setup);
    params.timings = true;
    hymn_session_destroy(&bench->session);
    enum exit_code code =
        common_open_session(bench->context, bench->setup->model, bench->setup->model_path, &params, &bench->session);
    const uint32_t runs = bench->result->samples < PROFILED_RUNS ? bench->result->samples : PROFILED_RUNS;
    for (uint32_t i = 0; i <= runs && code == CODE_OK; i++) { // the first is not counted
        code = check(bench, hymn_session_run(bench->session, &bench->data.runs[0]));
        if (code == CODE_OK && i > 0) {
            code = add_timings(bench);
        }
    }
    for (uint32_t i = 0; i < bench->result->operator_count; i++) {
        bench->result->operators[i].gpu_ms /= runs;
    }
    return code == CODE_OK ? check(bench, hymn_session_measure_ceilings(bench->session, &bench->result->ceilings))
                           : code;
}

// ----------------------------------------------------------------------------------------------------------------
// whole

static uint64_t resident_bytes(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return 0;
    }
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

static enum exit_code measure(struct bench *bench) {
    struct bench_result *result = bench->result;
    enum exit_code code = start(bench, &result->cold);
    if (code == CODE_OK) {
        const uint32_t batch = hymn_session_get_info(bench->session)->batch;
        bench->data.logit_count = bench->data.logit_count / bench->setup->batch * batch;
        bench->setup->batch = batch;
        code = common_close(&bench->session, &bench->context, code); // writes the cache
    }
    if (code == CODE_OK) {
        code = tune(bench);
    }
    if (code == CODE_OK) {
        code = start(bench, &result->warm);
    }
    if (code != CODE_OK) {
        return code;
    }
    result->device = *hymn_context_device(bench->context);
    result->session = *hymn_session_get_info(bench->session);
    code = measure_latency(bench);
    bench_data_keep(&bench->data, bench->setup);
    if (code == CODE_OK) {
        code = measure_throughput(bench);
    }
    result->process_bytes = resident_bytes();
    if (code == CODE_OK && bench->setup->profile) {
        code = measure_profile(bench);
    }
    return code == CODE_OK && bench->setup->check ? measure_error(bench) : code;
}

enum exit_code bench_measure(const struct bench_setup *setup, struct bench_result *out_result) {
    struct bench_setup fitting = *setup;
    struct bench bench = {.setup = &fitting, .result = out_result};
    *out_result = (struct bench_result){.max_abs_error = -1, .nmse = -1, .max_abs = -1};
    if (!bench_data_init(&bench.data, setup)) {
        console_error(NULL, "out of memory for %u x %u, batch %u", setup->height, setup->width, setup->batch);
        return CODE_ENGINE;
    }
    enum exit_code code = make_cache(&bench) ? measure(&bench) : CODE_INPUT;
    code = common_close(&bench.session, &bench.context, code);
    if (setup->cache == NULL && bench.cache[0] != '\0') {
        folder_remove(bench.cache);
    }
    bench_data_free(&bench.data);
    if (code != CODE_OK) {
        bench_result_free(out_result);
    }
    return code;
}

void bench_result_free(struct bench_result *result) {
    free(result->operators);
    *result = (struct bench_result){0};
}

uint64_t bench_device_bytes(const struct bench_result *result) {
    return result->session.weight_bytes + result->session.activation_bytes + result->session.io_bytes;
}

double bench_operators_ms(const struct bench_result *result) {
    double total = 0;
    for (uint32_t i = 0; i < result->operator_count; i++) {
        total += result->operators[i].gpu_ms;
    }
    return total;
}

double bench_least_ms(const struct bench_result *result, const struct bench_operator *operation) {
    const struct hymn_ceilings *ceilings = &result->ceilings;
    if (!(ceilings->gbps > 0 && ceilings->gflops > 0)) {
        return 0;
    }
    return 1e-6 * fmax((double)operation->bytes / ceilings->gbps, (double)operation->flops / ceilings->gflops);
}
