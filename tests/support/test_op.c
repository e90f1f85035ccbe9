// SPDX-License-Identifier: MIT
#include "support/test_op.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/thread.h"
#include "ops/ops.h"
#include "vk/command.h"
#include "vk/pipeline.h"
#include "vk/timer.h"

#define GUARD_BYTES 65536u // behind all values

static size_t pixels_of(const struct hymn_graph *graph, const struct hymn_value *value) {
    return (size_t)value->planes * graph->batch * value->height * value->width;
}

size_t test_op_size(const struct hymn_graph *graph, uint32_t value) {
    return pixels_of(graph, &graph->values[value]) * graph->values[value].channels;
}

static float rounded(float value, enum hymn_storage storage) {
    return storage == HYMN_STORAGE_F16 ? hymn_half_to_float(hymn_half_from_float(value)) : value;
}

float *test_op_random(const struct hymn_graph *graph, uint32_t value, struct test_random *random, float low,
                      float high) {
    size_t count = test_op_size(graph, value);
    float *data = malloc(count * sizeof *data);
    for (size_t i = 0; data && i < count; i++) {
        data[i] = rounded(test_random_float(random, low, high), graph->values[value].storage);
    }
    return data;
}

static size_t bytes_of(const struct hymn_graph *graph, const struct hymn_value *value) {
    return pixels_of(graph, value) * value->stride * (value->storage == HYMN_STORAGE_F16 ? 2 : 4);
}

// NaN in either storage: always the same in values, and ever another between and behind them, where an operator that
// only moves numbers would else write what is there.
static void poison(const struct hymn_graph *graph, uint8_t *arena, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += 2) {
        const uint16_t half = (uint16_t)(0xFF81 + i / 2 % 127); // two are a float that is NaN too
        memcpy(arena + i, &half, sizeof half);
    }
    for (uint32_t i = 0; i < graph->value_count; i++) {
        const struct hymn_value *value = &graph->values[i];
        if (value->bytes > 0) {
            memset(arena + value->offset, 0xFF, bytes_of(graph, value));
        }
    }
}

static void encode(const struct hymn_graph *graph, const struct test_op_tensor *tensor, uint8_t *arena) {
    const struct hymn_value *value = &graph->values[tensor->value];
    size_t pixels = value->bytes == 0 ? 0 : pixels_of(graph, value); // 0: nothing reads it as the nodes were prepared
    uint8_t *base = arena + value->offset;
    for (size_t i = 0; i < pixels * value->stride; i++) {
        size_t channel = i % value->stride;
        float number = channel < value->channels ? tensor->data[i / value->stride * value->channels + channel] : 0.0f;
        if (value->storage == HYMN_STORAGE_F16) {
            ((uint16_t *)(void *)base)[i] = hymn_half_from_float(number);
        } else {
            ((float *)(void *)base)[i] = number;
        }
    }
}

// False when a padded channel is not zero.
static bool decode(const struct hymn_graph *graph, const struct test_op_tensor *tensor, const uint8_t *arena) {
    const struct hymn_value *value = &graph->values[tensor->value];
    size_t pixels = pixels_of(graph, value);
    const uint8_t *base = arena + value->offset;
    for (size_t i = 0; i < pixels * value->stride; i++) {
        size_t channel = i % value->stride;
        float number = value->storage == HYMN_STORAGE_F16
                           ? hymn_half_to_float(((const uint16_t *)(const void *)base)[i])
                           : ((const float *)(const void *)base)[i];
        if (channel < value->channels) {
            tensor->data[i / value->stride * value->channels + channel] = number;
        } else if (number != 0.0f) {
            fprintf(stderr, "%s: channel %zu of pixel %zu is %g, not 0\n", value->name, channel, i / value->stride,
                    (double)number);
            return false;
        }
    }
    return true;
}

// The device's side of a run.
struct device_run {
    struct hymn_vk_device *device;
    struct hymn_vk_buffer activations, weights, counters;
    struct hymn_vk_command command;
    VkFence fence;
};

static bool upload_weights(struct device_run *run, const struct hymn_lower *lower) {
    if (lower->weight_bytes == 0) {
        return true;
    }
    bool ok = hymn_vk_buffer_create(run->device, HYMN_VK_USAGE_DEVICE, lower->weight_bytes, "weights", &run->weights) ==
              HYMN_STATUS_OK;
    return ok && hymn_vk_buffer_write(run->device, &run->weights, lower->blocks, lower->block_count) == HYMN_STATUS_OK;
}

static bool holds(struct device_run *run, const struct hymn_vk_buffer *buffer, uint64_t offset, const void *expected,
                  uint64_t bytes) {
    void *got = malloc(bytes);
    bool same = got && hymn_vk_buffer_read(run->device, buffer, offset, got, bytes) == HYMN_STATUS_OK &&
                memcmp(got, expected, bytes) == 0;
    free(got);
    return same;
}

// Runs that are computed at the same time share the weights, and the next run finds the counters as this one leaves
// them.
static bool left_as_found(struct device_run *run, const struct hymn_lower *lower) {
    bool same = true;
    for (uint32_t i = 0; i < lower->block_count; i++) {
        const struct hymn_vk_write *block = &lower->blocks[i];
        same = same && holds(run, &run->weights, block->offset, block->data, block->bytes);
    }
    uint32_t *zeros = calloc(1, lower->counter_bytes + 1);
    same = same && zeros && (lower->counter_bytes == 0 || holds(run, &run->counters, 0, zeros, lower->counter_bytes));
    free(zeros);
    if (!same) {
        fprintf(stderr, "the weights or the counters are not as they were before the run\n");
    }
    return same;
}

static int compare_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// A GPU that waits for the next submission most of the time lowers its clock: time many runs in one.
#define TIMED_COPIES 20

static bool run_once(struct device_run *run) {
    return hymn_vk_submit(run->device, (const struct hymn_vk_command *[]){&run->command}, 1, run->fence) ==
               HYMN_STATUS_OK &&
           hymn_vk_wait(run->device, run->fence) == HYMN_STATUS_OK;
}

// A GPU that has been idle runs at a fraction of its clock: busy it before measuring.
static bool warm_up(struct device_run *run) {
    double start = hymn_time_now();
    bool ok = run_once(run);
    while (ok && !run->device->plan.cpu && hymn_time_now() - start < 0.1) {
        ok = run_once(run);
    }
    return ok;
}

// The program's steps, one time after the other.
static struct hymn_vk_step *copy_steps(const struct hymn_lower *lower, uint32_t times_each) {
    size_t count = lower->program.count;
    struct hymn_vk_step *steps = malloc(times_each * count * sizeof *steps);
    for (uint32_t i = 0; steps && i < times_each; i++) {
        memcpy(steps + i * count, lower->program.steps, count * sizeof *steps);
    }
    return steps;
}

static bool submit(struct device_run *run, const struct hymn_lower *lower, uint32_t repeat, double *out_ms) {
    uint32_t times_each = repeat > 0 && !run->device->plan.cpu ? TIMED_COPIES : 1, count = lower->program.count;
    struct hymn_vk_step *steps = copy_steps(lower, times_each);
    if (!steps) {
        return false;
    }
    struct hymn_vk_record_params record = {.name = "operator",
                                           .steps = steps,
                                           .count = count * times_each,
                                           .buffers = {[HYMN_VK_ROLE_ACTIVATIONS] = &run->activations,
                                                       [HYMN_VK_ROLE_WEIGHTS] = &run->weights,
                                                       [HYMN_VK_ROLE_COUNTERS] = &run->counters},
                                           .timestamps = true};
    bool ok = hymn_vk_pipelines_prepare(run->device, record.steps, record.count) == HYMN_STATUS_OK &&
              hymn_vk_command_record(run->device, &record, &run->command) == HYMN_STATUS_OK &&
              hymn_vk_fence_create(run->device, &run->fence) == HYMN_STATUS_OK;
    double times[64] = {0};
    repeat = repeat < 63 ? repeat : 63;
    ok = ok && (repeat > 0 ? warm_up(run) : run_once(run));
    for (uint32_t i = 0; ok && i < repeat; i++) {
        double start = hymn_time_now();
        ok = run_once(run);
        times[i] = 1e3 * (hymn_time_now() - start);
        double span = hymn_vk_timer_span(run->device, &run->command, &run->command);
        times[i] = run->device->plan.cpu || span < 0.0 ? times[i] : span;
    }
    if (out_ms) {
        qsort(times, repeat, sizeof *times, compare_double);
        *out_ms = times[repeat / 2] / times_each;
    }
    free(steps);
    return ok;
}

// No shader is bound to more storage buffers than the plan says that the device has.
static bool bindings_fit(const struct hymn_vk_plan *plan, const struct hymn_vk_program *program) {
    uint32_t most = plan->needs_met & HYMN_NEEDS_BUFFERS ? HYMN_VK_MAX_BINDINGS : 4;
    bool fit = true;
    for (uint32_t i = 0; i < program->count; i++) {
        fit = fit && program->steps[i].binding_count <= most;
    }
    return fit;
}

static bool is_input(const struct test_op_run *run, uint32_t value) {
    bool input = false;
    for (uint32_t k = 0; k < run->input_count; k++) {
        input = input || run->inputs[k].value == value;
    }
    return input;
}

static bool shares_bytes(const struct hymn_vk_binding *binding, const struct hymn_value *value) {
    return binding->role == HYMN_VK_ROLE_ACTIVATIONS && binding->offset < value->offset + value->bytes &&
           value->offset < binding->offset + binding->bytes;
}

// Barriers go by the bindings that are told to be written: some step's is each output, and no input is.
static bool writes_are_told(const struct test_op_run *run, const struct hymn_vk_program *program) {
    bool told = true;
    for (uint32_t i = 0; i < run->graph->value_count; i++) {
        const struct hymn_value *value = &run->graph->values[i];
        bool written = false, output = false;
        for (uint32_t s = 0; s < program->count; s++) {
            for (uint32_t k = 0; k < program->steps[s].binding_count; k++) {
                written = written || (program->steps[s].write_mask >> k & 1 &&
                                      shares_bytes(&program->steps[s].bindings[k], value));
            }
        }
        for (uint32_t k = 0; k < run->output_count; k++) {
            output = output || run->outputs[k].value == i;
        }
        if (value->bytes > 0 && (output ? !written : written && is_input(run, i))) {
            fprintf(stderr, "value %u of the graph is %s\n", i,
                    written ? "an input, and bound to be written" : "an output, and not bound to be written");
            told = false;
        }
    }
    return told;
}

// Drivers drop writes beyond a binding's end, and read zeros there. So that such an access is seen, bindings go on to
// the end of their buffer, unless validation looks at each and at what is between steps that share bytes.
static void widen_bindings(struct hymn_vk_program *program, enum hymn_vk_role role, uint64_t end) {
    for (uint32_t i = 0; i < program->count; i++) {
        for (uint32_t k = 0; k < program->steps[i].binding_count; k++) {
            struct hymn_vk_binding *binding = &program->steps[i].bindings[k];
            binding->bytes = binding->role == role ? end - binding->offset : binding->bytes;
        }
    }
}

// Whether the activations are as they were but for what the nodes write: values that are no inputs.
static bool only_written(const struct test_op_run *run, const uint8_t *before, const uint8_t *after, uint64_t bytes) {
    const struct hymn_graph *graph = run->graph;
    uint8_t *mask = calloc(bytes, 1);
    bool only = mask != NULL;
    for (uint32_t i = 0; only && i < graph->value_count; i++) {
        const struct hymn_value *value = &graph->values[i];
        if (value->bytes > 0 && !is_input(run, i)) {
            memset(mask + value->offset, 1, bytes_of(graph, value));
        }
    }
    for (uint64_t i = 0; only && i < bytes; i++) {
        only = mask[i] || before[i] == after[i];
        if (!only) {
            fprintf(stderr, "byte %llu of the activations is no output, and was written\n", (unsigned long long)i);
        }
    }
    free(mask);
    return only;
}

static bool run_lowered(const struct test_op_run *run, struct hymn_lower *lower, const uint8_t *before, uint8_t *arena,
                        uint64_t bytes, double *out_ms) {
    struct device_run device = {.device = run->context->device};
    struct hymn_vk_write write = {0, before, bytes};
    if (!run->context->device->instance->validation) {
        widen_bindings(&lower->program, HYMN_VK_ROLE_ACTIVATIONS, bytes);
    }
    bool ok = hymn_vk_buffer_create(device.device, HYMN_VK_USAGE_DEVICE, bytes, "activations", &device.activations) ==
                  HYMN_STATUS_OK &&
              hymn_vk_buffer_write(device.device, &device.activations, &write, 1) == HYMN_STATUS_OK &&
              upload_weights(&device, lower) &&
              hymn_vk_buffer_create_zeroed(device.device, lower->counter_bytes, "counters", &device.counters) ==
                  HYMN_STATUS_OK &&
              submit(&device, lower, run->repeat, out_ms) && left_as_found(&device, lower) &&
              hymn_vk_buffer_read(device.device, &device.activations, 0, arena, bytes) == HYMN_STATUS_OK;
    hymn_vk_command_destroy(device.device, &device.command);
    hymn_vk_fence_destroy(device.device, &device.fence);
    hymn_vk_buffer_destroy(device.device, &device.activations);
    hymn_vk_buffer_destroy(device.device, &device.weights);
    hymn_vk_buffer_destroy(device.device, &device.counters);
    ok = ok && only_written(run, before, arena, bytes);
    for (uint32_t i = 0; ok && i < run->output_count; i++) {
        ok = decode(run->graph, &run->outputs[i], arena);
    }
    return ok;
}

bool test_op_run(const struct test_op_run *run, double *out_ms) {
    struct hymn_graph *graph = run->graph;
    const struct hymn_vk_plan *plan = run->plan ? run->plan : &run->context->device->plan;
    const struct hymn_log *log = &run->context->device->log;
    if (hymn_ops_prepare(graph, plan, log) != HYMN_STATUS_OK ||
        hymn_graph_plan_memory(graph, false, log) != HYMN_STATUS_OK) {
        return false;
    }
    uint64_t bytes = (graph->activation_bytes + 255) / 256 * 256 + GUARD_BYTES;
    uint8_t *before = malloc(bytes), *after = malloc(bytes);
    bool ok = before && after;
    if (ok) {
        poison(graph, before, bytes);
    }
    for (uint32_t i = 0; ok && i < run->input_count; i++) {
        encode(graph, &run->inputs[i], before);
    }
    struct hymn_lower lower = {.graph = graph, .plan = plan, .log = log};
    ok = ok && hymn_ops_lower(&lower) == HYMN_STATUS_OK && bindings_fit(plan, &lower.program) &&
         writes_are_told(run, &lower.program) && run_lowered(run, &lower, before, after, bytes, out_ms);
    hymn_lower_free(&lower);
    free(before);
    free(after);
    return ok;
}

double test_op_nmse(const float *reference, const float *got, size_t count) {
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)got[i] - reference[i];
        error += difference * difference;
        power += (double)reference[i] * reference[i];
    }
    return error == 0.0 ? 0.0 : error / power;
}

double test_op_tolerance(enum hymn_storage storage) {
    return storage == HYMN_STORAGE_F16 ? 1e-6 : 1e-10;
}
