// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static double mebibytes(uint64_t bytes) {
    return (double)bytes / (1 << 20);
}

// Giga per second from a count and milliseconds; 0 where there was no time to measure.
static double giga_rate(uint64_t count, double ms) {
    return ms > 0 ? (double)count / ms / 1e6 : 0;
}

static double part_of(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

// ---------------------------------------------------------------------------------------------------------------
// tables

static void format_gpu(const struct bench_spread *gpu, char *out_text, size_t capacity) {
    if (gpu->p50 < 0) {
        snprintf(out_text, capacity, "-|-|-");
    } else {
        snprintf(out_text, capacity, "%.2f|%.2f|%.2f", gpu->p50, gpu->p90, gpu->p99);
    }
}

static void format_error(const struct bench_result *result, char *out_text, size_t capacity) {
    if (result->max_abs_error < 0) {
        snprintf(out_text, capacity, "-");
    } else {
        snprintf(out_text, capacity, "%.2g of %.3g", result->max_abs_error, result->max_abs);
    }
}

void bench_print(const struct bench_setup *setups, const struct bench_result *results, size_t count) {
    const struct hymn_device_info *device = &results[0].device;
    struct table table;
    console_print("model    %s", setups[0].model_path);
    console_print("device   %s (%s, Vulkan %s)", device->name, common_device_type_name(device->type),
                  device->api_version);
    console_print("driver   %s", device->driver);
    printf("storage  %s; tier %s; %s; times in milliseconds\n\n", common_precision_name(results[0].session.precision),
           hymn_tier_string(results[0].session.tier),
           setups[0].tensor ? "float tensors to logits" : "8-bit pictures to masks");
    table_begin(&table, "size|batch|runs|GPU p50|p90|p99|wall p50|p90|p99|images/s|cold|warm|ready|device MiB|"
                        "host MiB|largest error");
    for (size_t i = 0; i < count; i++) {
        const struct bench_result *r = &results[i];
        char gpu[64], error[64];
        format_gpu(&r->gpu, gpu, sizeof(gpu));
        format_error(r, error, sizeof(error));
        table_cells(&table, "%ux%u|%u|%u|%s|%.2f|%.2f|%.2f|%.2f|%.0f|%.0f|%.0f|%.1f|%.1f|%s", setups[i].height,
                    setups[i].width, r->session.batch, r->samples, gpu, r->wall.p50, r->wall.p90, r->wall.p99,
                    r->images_per_second, bench_start_total(&r->cold), bench_start_total(&r->warm),
                    bench_start_ready(&r->warm), mebibytes(bench_device_bytes(r)), mebibytes(r->session.host_bytes),
                    error);
    }
    table_end(&table);
    for (size_t i = 0; i < count; i++) {
        const struct hymn_session_info *s = &results[i].session;
        printf("\n%ux%u batch %u: device memory %.1f MiB weights + %.1f MiB activations (%.1f without sharing) + %.1f "
               "MiB transfers; %u dispatches; %.2f GMAC\n",
               setups[i].height, setups[i].width, s->batch, mebibytes(s->weight_bytes), mebibytes(s->activation_bytes),
               mebibytes(s->activation_bytes_unaliased), mebibytes(s->io_bytes), s->dispatches, (double)s->macs / 1e9);
        printf("images/s: with %u runs in flight on %u queue%s, whose activations take %.1f MiB\n",
               results[i].in_flight, results[i].streams, results[i].streams == 1 ? "" : "s",
               mebibytes(results[i].streams_activation_bytes));
    }
}

struct shader_sum {
    const char *name;
    uint32_t dispatches;
    double ms, least_ms;
    uint64_t bytes, flops;
};

static int compare_sums(const void *a, const void *b) {
    const double one = ((const struct shader_sum *)a)->ms, other = ((const struct shader_sum *)b)->ms;
    return (one < other) - (one > other);
}

// Sums per shader, the most expensive first; returns their number.
static size_t sum_shaders(const struct bench_result *result, struct shader_sum *sums) {
    size_t count = 0;
    for (uint32_t i = 0; i < result->operator_count; i++) {
        const struct bench_operator *operation = &result->operators[i];
        size_t k = 0;
        while (k < count && strcmp(sums[k].name, operation->shader) != 0) {
            k++;
        }
        if (k == count) {
            sums[count++] = (struct shader_sum){.name = operation->shader};
        }
        sums[k].dispatches++;
        sums[k].ms += operation->gpu_ms;
        sums[k].least_ms += bench_least_ms(result, operation);
        sums[k].bytes += operation->bytes;
        sums[k].flops += operation->flops;
    }
    if (count > 1) {
        qsort(sums, count, sizeof(*sums), compare_sums);
    }
    return count;
}

static void print_shaders(const struct bench_result *result, double total) {
    struct shader_sum *sums = calloc((size_t)result->operator_count + 1, sizeof(*sums));
    struct table table;
    if (sums == NULL) {
        console_error(NULL, "out of memory for a table");
        return;
    }
    const size_t count = sum_shaders(result, sums);
    table_begin(&table, "<shader|dispatches|ms|share|GB/s|GFLOP/s|of ceiling");
    for (size_t i = 0; i < count; i++) {
        table_cells(&table, "%s|%u|%.3f|%.1f %%|%.1f|%.1f|%.1f %%", sums[i].name, sums[i].dispatches, sums[i].ms,
                    100 * part_of(sums[i].ms, total), giga_rate(sums[i].bytes, sums[i].ms),
                    giga_rate(sums[i].flops, sums[i].ms), 100 * part_of(sums[i].least_ms, sums[i].ms));
    }
    printf("\n");
    table_end(&table);
    free(sums);
}

// The kernels alone beside a whole run, and what they are measured by.
static void print_sum(const struct bench_setup *setup, const struct bench_result *result, double total) {
    printf("\noperators at %ux%u, batch %u: %.3f ms in all", setup->height, setup->width, result->session.batch, total);
    if (result->gpu.p50 > 0) {
        printf("; a run without their timestamps takes %.3f ms of GPU time (p50)", result->gpu.p50);
    }
    printf("\nceiling: %.1f GB/s, copied within the device's memory; %.1f GFLOP/s, a large product or convolution\n",
           result->ceilings.gbps, result->ceilings.gflops);
    printf("least: %.2f us for a dispatch that waits for another; %u of them: %.3f ms", result->ceilings.dispatch_us,
           result->operator_count, 1e-3 * result->ceilings.dispatch_us * result->operator_count);
    if (result->ceilings.chain_ms > 0) {
        printf(", or %.3f ms where each copies as many bytes as its operator moves at the least",
               result->ceilings.chain_ms);
    }
    printf("\n");
}

void bench_print_profile(const struct bench_setup *setup, const struct bench_result *result) {
    struct table table;
    const double total = bench_operators_ms(result);
    print_sum(setup, result, total);
    table_begin(&table, "<operator|<shader|ms|share|GB/s|GFLOP/s|of ceiling");
    for (uint32_t i = 0; i < result->operator_count; i++) {
        const struct bench_operator *operation = &result->operators[i];
        const double ms = operation->gpu_ms;
        table_cells(&table, "%s|%s|%.3f|%.1f %%|%.1f|%.1f|%.1f %%", operation->name, operation->shader, ms,
                    100 * part_of(ms, total), giga_rate(operation->bytes, ms), giga_rate(operation->flops, ms),
                    100 * part_of(bench_least_ms(result, operation), ms));
    }
    table_end(&table);
    print_shaders(result, total);
}

// -----------------------------------------------------------------------------------------------------------------
// JSON

static void set_integer(json_t *object, const char *key, uint64_t value) {
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *spread_json(const struct bench_spread *spread) {
    if (spread->p50 < 0) {
        return json_null();
    }
    json_t *object = json_object();
    json_object_set_new(object, "p50", report_real(spread->p50));
    json_object_set_new(object, "p90", report_real(spread->p90));
    json_object_set_new(object, "p99", report_real(spread->p99));
    return object;
}

// Of what is negative where it is not known.
static json_t *error_json(double value) {
    return value < 0 ? json_null() : report_real(value);
}

static json_t *operators_json(const struct bench_result *result) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < result->operator_count; i++) {
        const struct bench_operator *operation = &result->operators[i];
        json_t *object = json_object();
        json_object_set_new(object, "name", report_text(operation->name));
        json_object_set_new(object, "shader", report_text(operation->shader));
        json_object_set_new(object, "gpu_ms", report_real(operation->gpu_ms));
        set_integer(object, "bytes", operation->bytes);
        set_integer(object, "flops", operation->flops);
        json_object_set_new(object, "share_of_ceiling",
                            report_real(part_of(bench_least_ms(result, operation), operation->gpu_ms)));
        json_array_append_new(array, object);
    }
    return array;
}

static void add_memory(json_t *object, const struct bench_result *result) {
    set_integer(object, "device_bytes", bench_device_bytes(result));
    set_integer(object, "weight_bytes", result->session.weight_bytes);
    set_integer(object, "activation_bytes", result->session.activation_bytes);
    set_integer(object, "io_bytes", result->session.io_bytes);
    set_integer(object, "host_bytes", result->session.host_bytes);
    set_integer(object, "process_bytes", result->process_bytes);
}

static json_t *result_json(const struct bench_setup *setup, const struct bench_result *result) {
    json_t *object = json_object(), *size = json_array();
    json_array_append_new(size, json_integer(setup->height));
    json_array_append_new(size, json_integer(setup->width));
    json_object_set_new(object, "model", report_text(setup->model_path));
    json_object_set_new(object, "device", report_text(result->device.name));
    json_object_set_new(object, "driver", report_text(result->device.driver));
    json_object_set_new(object, "api_version", report_text(result->device.api_version));
    json_object_set_new(object, "transfer_queue", json_boolean(result->device.transfer_queue));
    set_integer(object, "compute_queues", result->device.compute_queues);
    json_object_set_new(object, "precision", report_text(common_precision_name(result->session.precision)));
    json_object_set_new(object, "tier", report_text(hymn_tier_string(result->session.tier)));
    json_object_set_new(object, "size", size);
    set_integer(object, "batch", result->session.batch);
    json_object_set_new(object, "input", report_text(setup->tensor ? "tensor" : "image"));
    set_integer(object, "runs", result->samples);
    json_object_set_new(object, "gpu_ms", spread_json(&result->gpu));
    json_object_set_new(object, "operators_ms", setup->profile ? report_real(bench_operators_ms(result)) : json_null());
    json_object_set_new(object, "wall_ms", spread_json(&result->wall));
    json_object_set_new(object, "images_per_second", report_real(result->images_per_second));
    set_integer(object, "runs_in_flight", result->in_flight);
    set_integer(object, "streams", result->streams);
    set_integer(object, "streams_activation_bytes", result->streams_activation_bytes);
    json_object_set_new(object, "tuning_ms", report_real(result->tuning_ms));
    json_object_set_new(object, "cold_start_ms", report_real(bench_start_total(&result->cold)));
    json_object_set_new(object, "warm_start_ms", report_real(bench_start_total(&result->warm)));
    json_object_set_new(object, "cold_ready_ms", report_real(bench_start_ready(&result->cold)));
    json_object_set_new(object, "warm_ready_ms", report_real(bench_start_ready(&result->warm)));
    add_memory(object, result);
    json_object_set_new(object, "max_abs_error", error_json(result->max_abs_error));
    json_object_set_new(object, "max_abs_logit", error_json(result->max_abs));
    json_object_set_new(object, "nmse", error_json(result->nmse));
    if (setup->profile) {
        json_object_set_new(object, "ceiling_gbps", report_real(result->ceilings.gbps));
        json_object_set_new(object, "ceiling_gflops", report_real(result->ceilings.gflops));
        json_object_set_new(object, "dispatch_us", report_real(result->ceilings.dispatch_us));
        json_object_set_new(object, "chain_ms", report_real(result->ceilings.chain_ms));
        json_object_set_new(object, "operators", operators_json(result));
    }
    return object;
}

json_t *bench_json(const struct bench_setup *setups, const struct bench_result *results, size_t count, bool several) {
    if (!several) {
        return result_json(&setups[0], &results[0]);
    }
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, result_json(&setups[i], &results[i]));
    }
    return array;
}

// ----------------------------------------------------------------------------------------------------------------
// trace

enum { LANE_COLD, LANE_WARM, LANE_DEVICE };

// A complete event; times in microseconds, as the format wants them.
static json_t *event(json_t *events, const char *name, size_t process, int lane, double start_ms, double duration_ms) {
    json_t *object = json_object();
    json_object_set_new(object, "name", report_text(name));
    json_object_set_new(object, "ph", report_text("X"));
    json_object_set_new(object, "ts", report_real(start_ms * 1000));
    json_object_set_new(object, "dur", report_real(duration_ms * 1000));
    json_object_set_new(object, "pid", json_integer((json_int_t)process));
    json_object_set_new(object, "tid", json_integer(lane));
    json_array_append_new(events, object);
    return object;
}

static void name_lane(json_t *events, const char *kind, size_t process, int lane, const char *name) {
    json_t *object = json_object(), *arguments = json_object();
    json_object_set_new(arguments, "name", report_text(name));
    json_object_set_new(object, "name", report_text(kind));
    json_object_set_new(object, "ph", report_text("M"));
    json_object_set_new(object, "pid", json_integer((json_int_t)process));
    json_object_set_new(object, "tid", json_integer(lane));
    json_object_set_new(object, "args", arguments);
    json_array_append_new(events, object);
}

static void trace_start(json_t *events, size_t process, int lane, const struct bench_start *start) {
    event(events, "open the device", process, lane, 0, start->context_ms);
    event(events, "read the model", process, lane, start->context_ms, start->model_ms);
    event(events, "make the session", process, lane, start->context_ms + start->model_ms, start->session_ms);
    event(events, "first run", process, lane, bench_start_ready(start), start->run_ms);
}

static void trace_operators(json_t *events, size_t process, const struct bench_result *result) {
    double at = 0;
    for (uint32_t i = 0; i < result->operator_count; i++) {
        const struct bench_operator *operation = &result->operators[i];
        json_t *arguments = json_object();
        json_t *object = event(events, operation->name, process, LANE_DEVICE, at, operation->gpu_ms);
        json_object_set_new(object, "cat", report_text(operation->shader));
        json_object_set_new(arguments, "shader", report_text(operation->shader));
        json_object_set_new(arguments, "GB/s", report_real(giga_rate(operation->bytes, operation->gpu_ms)));
        json_object_set_new(arguments, "GFLOP/s", report_real(giga_rate(operation->flops, operation->gpu_ms)));
        json_object_set_new(object, "args", arguments);
        at += operation->gpu_ms;
    }
}

json_t *bench_trace(const struct bench_setup *setups, const struct bench_result *results, size_t count) {
    json_t *events = json_array(), *trace = json_object();
    for (size_t i = 0; i < count; i++) {
        char name[400];
        snprintf(name, sizeof(name), "%ux%u, batch %u, %s on %s", setups[i].height, setups[i].width,
                 results[i].session.batch, common_precision_name(results[i].session.precision), results[i].device.name);
        name_lane(events, "process_name", i, 0, name);
        name_lane(events, "thread_name", i, LANE_COLD, "cold start");
        name_lane(events, "thread_name", i, LANE_WARM, "warm start");
        name_lane(events, "thread_name", i, LANE_DEVICE, "device: one run");
        trace_start(events, i, LANE_COLD, &results[i].cold);
        trace_start(events, i, LANE_WARM, &results[i].warm);
        trace_operators(events, i, &results[i]);
    }
    json_object_set_new(trace, "traceEvents", events);
    json_object_set_new(trace, "displayTimeUnit", report_text("ms"));
    return trace;
}
