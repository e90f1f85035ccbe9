// SPDX-License-Identifier: MIT
//
// Measurements of `hymn bench`: one model at one size and batch.
#ifndef HYMN_APP_BENCH_H
#define HYMN_APP_BENCH_H

#include "common.h"
#include "report.h"

struct bench_setup {
    const struct common *common;
    const struct hymn_model *model;
    const char *model_path; // for messages
    const char *cache;      // folder for what is compiled and chosen; NULL: a new one that is removed at the end
    uint32_t height, width, batch;
    uint32_t streams;       // of the runs whose images per second are counted
    uint32_t runs, warmup;  // runs 0: as many as fit into `seconds`, at least 3
    double seconds, tuning; // tuning: seconds that operators may be timed for before the measurement
    bool tensor;            // float tensors to logits; otherwise 8-bit pictures of the network's size to masks
    bool check;             // compare with the fp32 base variants
    bool profile;           // per-operator times, and the ceilings they are compared with
};

struct bench_spread {
    double p50, p90, p99; // milliseconds; negative where the device has no timestamps
};

struct bench_operator {
    char name[160], shader[80];
    double gpu_ms; // mean over the profiled runs
    uint64_t bytes, flops;
};

struct bench_start {
    double context_ms, model_ms, session_ms, run_ms; // open the device, read the model, make the session, first result
};

struct bench_result {
    struct hymn_device_info device;
    struct hymn_session_info session;
    struct bench_spread gpu, wall;
    uint32_t samples; // runs behind each of the two
    double images_per_second;
    uint32_t in_flight, streams; // of the runs behind that: as many streams as the device has queues and memory for
    uint64_t streams_activation_bytes; // of all of these streams; session.activation_bytes are those of one
    struct bench_start cold, warm;
    double tuning_ms;                    // spent between these two
    uint64_t process_bytes;              // the process's largest resident size so far
    double max_abs_error, nmse, max_abs; // of the logits; max_abs: the largest logit. Negative: not known
    struct bench_operator *operators;    // from malloc
    uint32_t operator_count;
    struct hymn_ceilings ceilings; // zero: not measured
};

// Reports its failures. On success the caller frees the result with bench_result_free.
enum exit_code bench_measure(const struct bench_setup *setup, struct bench_result *out_result);
void bench_result_free(struct bench_result *result);

// Until a run can begin, and until the first result.
double bench_start_ready(const struct bench_start *start);
double bench_start_total(const struct bench_start *start);
uint64_t bench_device_bytes(const struct bench_result *result);
// The operators' times together.
double bench_operators_ms(const struct bench_result *result);
// The least time that the ceilings leave an operator, in milliseconds; 0: unknown.
double bench_least_ms(const struct bench_result *result, const struct bench_operator *operation);

// Reports. count results of the same model; height x width and batch as asked for.
void bench_print(const struct bench_setup *setups, const struct bench_result *results, size_t count);
void bench_print_profile(const struct bench_setup *setup, const struct bench_result *result);
// An array of objects, or without `several`, where one result was asked for, the object.
json_t *bench_json(const struct bench_setup *setups, const struct bench_result *results, size_t count, bool several);
// Chrome's trace event format: chrome://tracing, Perfetto.
json_t *bench_trace(const struct bench_setup *setups, const struct bench_result *results, size_t count);

#endif
