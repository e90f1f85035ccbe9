// SPDX-License-Identifier: MIT
#include "tune/ceiling.h"

#include <string.h>

#include "base/half.h"
#include "base/thread.h"
#include "tune/trial.h"
#include "vk/divide.h"
#include "vk/pipeline.h"
#include "vk/timer.h"

#define MEBIBYTE (1ull << 20)
// Of each half of the copy: beyond the caches of large GPUs, little enough for processors.
#define COPY_BYTES (256 * MEBIBYTE)
#define CPU_COPY_BYTES (32 * MEBIBYTE)
#define LEAST_COPY_BYTES (4 * MEBIBYTE)
#define COPY_LANES 128u
#define COPY_STRIPS 4u
#define COPY_GROUP_BYTES (16 * COPY_LANES * COPY_STRIPS) // of a workgroup
// Seconds for each of the two kinds of copy and of the two chains, for the methods of the product, and for one run of a
// product.
#define COPY_SECONDS 0.15
#define METHOD_SECONDS 0.4
#define RUN_SECONDS 0.1
#define MOST_RUNS 10u
#define MOST_METHODS 24u
// Dispatches of the chain that does next to nothing.
#define CHAIN 256u

static enum hymn_status no_memory(const struct hymn_vk_device *device) {
    return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "ceilings: out of memory");
}

// What a smaller problem may still succeed with.
static bool too_large(enum hymn_status status) {
    return status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_UNSUPPORTED;
}

// With numbers: pages that were never written, and zeros, may be cheaper to read than what operators read.
static enum hymn_status create_filled(struct hymn_vk_device *device, const void *numbers, uint64_t bytes,
                                      const char *what, struct hymn_vk_buffer *out_buffer) {
    enum hymn_status status = hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, bytes, what, out_buffer);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_repeat(device, out_buffer, 0, bytes, numbers, MEBIBYTE);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_vk_buffer_destroy(device, out_buffer);
    }
    return status;
}

// The fastest of several runs; *ms is 0 before.
static enum hymn_status time_runs(struct hymn_vk_device *device, const struct hymn_vk_command *command, VkFence fence,
                                  double *ms) {
    enum hymn_status status = HYMN_STATUS_OK;
    double end = hymn_time_now() + COPY_SECONDS;
    for (uint32_t i = 0; status == HYMN_STATUS_OK && i < MOST_RUNS && (i < 2 || hymn_time_now() < end); i++) {
        status = hymn_vk_submit(device, (const struct hymn_vk_command *[]){command}, 1, fence);
        if (status == HYMN_STATUS_OK) {
            status = hymn_vk_wait(device, fence);
        }
        double span = status == HYMN_STATUS_OK ? hymn_vk_timer_span(device, command, command) : 0.0;
        if (span > 0.0 && (*ms <= 0.0 || span < *ms)) {
            *ms = span;
        }
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------------------- copy

static void describe_copy(struct hymn_vk_step *step, uint64_t bytes) {
    step->kind = HYMN_VK_STEP_COPY;
    step->name = "copy";
    step->bindings[0] = (struct hymn_vk_binding){HYMN_VK_ROLE_ACTIVATIONS, 0, bytes};
    step->bindings[1] = (struct hymn_vk_binding){HYMN_VK_ROLE_ACTIVATIONS, bytes, bytes};
    step->binding_count = 2;
    step->write_mask = 2;
}

void hymn_ceiling_copy(uint64_t bytes, struct hymn_vk_step *step) {
    describe_copy(step, bytes);
    step->kind = HYMN_VK_STEP_DISPATCH;
    step->shader = hymn_shader_find("copy");
    step->constants[0] = COPY_LANES;
    step->constants[1] = COPY_STRIPS;
    step->constant_count = 2;
    step->groups[0] = (uint32_t)(bytes / COPY_GROUP_BYTES);
}

static enum hymn_status time_copy(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer, bool shader,
                                  struct hymn_vk_command *command, VkFence fence, double *gbps) {
    struct hymn_vk_step step = {.groups = {1, 1, 1}};
    if (shader) {
        hymn_ceiling_copy(buffer->bytes / 2, &step);
    } else {
        describe_copy(&step, buffer->bytes / 2);
    }
    const struct hymn_vk_record_params record = {
        .name = "copy",
        .steps = &step,
        .count = 1,
        .buffers = {[HYMN_VK_ROLE_ACTIVATIONS] = buffer},
        .timestamps = true,
    };
    enum hymn_status status = shader ? hymn_vk_pipelines_prepare(device, &step, 1) : HYMN_STATUS_OK;
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_command_record(device, &record, command);
    }
    double ms = 0.0;
    if (status == HYMN_STATUS_OK) {
        status = time_runs(device, command, fence, &ms);
    }
    if (ms > 0.0 && (double)buffer->bytes / ms * 1e-6 > *gbps) {
        *gbps = (double)buffer->bytes / ms * 1e-6; // half of the bytes are read, half are written
    }
    return status;
}

// The faster of the driver's own copy and a shader's.
static enum hymn_status measure_copy(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                     const void *numbers, VkFence fence, double *gbps) {
    uint64_t bytes = plan->cpu ? CPU_COPY_BYTES : COPY_BYTES;
    struct hymn_vk_buffer buffer = {0};
    struct hymn_vk_command command = {0};
    while (bytes > LEAST_COPY_BYTES && bytes > plan->max_binding_bytes) {
        bytes /= 2;
    }
    enum hymn_status status = create_filled(device, numbers, 2 * bytes, "a copy", &buffer);
    while (too_large(status) && bytes > LEAST_COPY_BYTES) {
        bytes /= 2;
        status = create_filled(device, numbers, 2 * bytes, "a copy", &buffer);
    }
    for (int shader = 0; shader < 2 && status == HYMN_STATUS_OK; shader++) {
        status = time_copy(device, &buffer, shader != 0, &command, fence, gbps);
    }
    hymn_vk_command_destroy(device, &command);
    hymn_vk_buffer_destroy(device, &buffer);
    return status;
}

// -------------------------------------------------------------------------------------------------------------- chains

static uint64_t copied_bytes(const struct hymn_timing *timing) {
    uint64_t groups = timing->bytes / (2 * COPY_GROUP_BYTES) + (timing->bytes % (2 * COPY_GROUP_BYTES) != 0);
    return (groups > 0 ? groups : 1) * COPY_GROUP_BYTES;
}

uint64_t hymn_ceiling_chain(const struct hymn_vk_plan *plan, const struct hymn_ceiling_run *run,
                            struct hymn_vk_step *steps) {
    uint64_t largest = 0, target = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        uint64_t bytes = copied_bytes(&run->timings[i]);
        largest = bytes > largest ? bytes : largest;
    }
    if (largest > plan->max_binding_bytes || largest / COPY_GROUP_BYTES > plan->max_groups_x) {
        return 0;
    }
    uint64_t all = (run->bytes + COPY_GROUP_BYTES - 1) / COPY_GROUP_BYTES * COPY_GROUP_BYTES;
    all = all > 3 * largest ? all : 3 * largest; // a source that ends there leaves room for its target at the beginning
    for (uint32_t i = 0; i < run->count; i++) {
        uint64_t bytes = copied_bytes(&run->timings[i]);
        uint64_t source = target + bytes <= all ? target : all - bytes; // ends within what was written last, or behind
        target = source + 2 * bytes <= all ? source + bytes : 0;
        steps[i] = (struct hymn_vk_step){.groups = {1, 1, 1}, .bytes = 2 * bytes};
        hymn_ceiling_copy(bytes, &steps[i]);
        steps[i].bindings[0].offset = source;
        steps[i].bindings[1].offset = target;
    }
    return all;
}

static enum hymn_status time_chain(struct hymn_vk_device *device, const struct hymn_vk_program *chain,
                                   const struct hymn_vk_buffer *buffer, VkFence fence, double *ms) {
    struct hymn_vk_command command = {0};
    const struct hymn_vk_record_params record = {
        .name = "a chain",
        .steps = chain->steps,
        .count = chain->count,
        .buffers = {[HYMN_VK_ROLE_ACTIVATIONS] = buffer},
        .timestamps = true,
    };
    enum hymn_status status = hymn_vk_pipelines_prepare(device, chain->steps, 1);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_command_record(device, &record, &command);
    }
    if (status == HYMN_STATUS_OK) {
        status = time_runs(device, &command, fence, ms);
    }
    hymn_vk_command_destroy(device, &command);
    return status;
}

static enum hymn_status measure_chain(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      const struct hymn_ceiling_run *run, const void *numbers, VkFence fence,
                                      double *ms) {
    struct hymn_vk_buffer buffer = {0};
    struct hymn_vk_program chain = {hymn_alloc(run->count, sizeof *chain.steps), run->count, run->count};
    if (!chain.steps) {
        return no_memory(device);
    }
    uint64_t bytes = hymn_ceiling_chain(plan, run, chain.steps);
    enum hymn_status status = HYMN_STATUS_UNSUPPORTED;
    if (bytes > 0) {
        hymn_vk_program_divide(&chain, plan, device->slowness, device->submission_seconds);
        status = create_filled(device, numbers, bytes, "a chain", &buffer);
    }
    if (status == HYMN_STATUS_OK) {
        status = time_chain(device, &chain, &buffer, fence, ms);
    }
    hymn_vk_buffer_destroy(device, &buffer);
    hymn_vk_program_free(&chain);
    return status;
}

static enum hymn_status measure_chains(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_ceiling_run *run, const void *numbers, VkFence fence,
                                       struct hymn_ceilings *found) {
    static const struct hymn_timing nothing[CHAIN];
    const struct hymn_ceiling_run idle = {nothing, CHAIN, 0};
    double ms = 0.0;
    enum hymn_status status = measure_chain(device, plan, &idle, numbers, fence, &ms);
    found->dispatch_us = ms * 1e3 / CHAIN;
    if (status == HYMN_STATUS_OK && run->count > 0) {
        status = measure_chain(device, plan, run, numbers, fence, &found->chain_ms);
        status = too_large(status) ? HYMN_STATUS_OK : status;
    }
    return status;
}

// ------------------------------------------------------------------------------------------------------------- product

// side * side pixels by channels x channels, a product or a convolution of that kernel.
struct size {
    uint32_t side, channels, kernel;
};

static const struct size sizes[] = {{8, 64, 1},   {16, 128, 1},   {32, 256, 1},
                                    {64, 512, 1}, {128, 1024, 1}, {128, 2048, 1}};
static const struct size convolution = {256, 256, 3}; // has fewer weights

struct product {
    struct hymn_vk_device *device;
    struct hymn_vk_plan plan;
    struct hymn_graph graph;
    struct hymn_vk_buffer activations;
    float *weights;
    void *numbers; // a mebibyte of random activations
    VkFence fence;
    double gflops;
};

static float next_number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 23) - 1.0f;
}

static bool fill_numbers(struct product *product, enum hymn_storage storage, uint32_t most_channels) {
    size_t weights = (size_t)most_channels * most_channels;
    uint32_t state = 1;
    product->weights = hymn_alloc(weights, sizeof *product->weights);
    product->numbers = hymn_alloc(MEBIBYTE, 1);
    if (!product->weights || !product->numbers) {
        return false;
    }
    for (size_t i = 0; i < weights; i++) {
        product->weights[i] = next_number(&state);
    }
    for (size_t i = 0; i < MEBIBYTE / (storage == HYMN_STORAGE_F16 ? 2 : 4); i++) {
        if (storage == HYMN_STORAGE_F16) {
            ((uint16_t *)product->numbers)[i] = hymn_half_from_float(next_number(&state));
        } else {
            ((float *)product->numbers)[i] = next_number(&state);
        }
    }
    return true;
}

static bool build(struct product *product, enum hymn_storage storage, const struct size *size) {
    struct hymn_graph *graph = &product->graph;
    hymn_graph_free(graph);
    hymn_graph_init(graph, 1, storage);
    graph->input = hymn_graph_add_value(graph, "product.in", size->side, size->side, size->channels, storage);
    graph->output = hymn_graph_add_value(graph, "product.out", size->side, size->side, size->channels, storage);
    struct hymn_node *node = hymn_graph_add_node(graph, HYMN_KIND_CONV2D, "product");
    if (graph->input == HYMN_NONE || graph->output == HYMN_NONE || !node) {
        return false;
    }
    node->terms[0] = (struct hymn_term){{graph->input, 0, size->channels}, size->kernel, product->weights};
    node->term_count = node->part_count = 1;
    node->out_channels = node->parts[0] = size->channels;
    node->output = graph->output;
    return true;
}

static enum hymn_status fill_activations(struct product *product, uint64_t bytes) {
    if (product->activations.bytes >= bytes) {
        return hymn_vk_buffer_repeat(product->device, &product->activations, 0, bytes, product->numbers, MEBIBYTE);
    }
    hymn_vk_buffer_destroy(product->device, &product->activations);
    return create_filled(product->device, product->numbers, bytes, "a product", &product->activations);
}

// One way of computing the product: the fastest of a few runs.
static enum hymn_status time_method(struct product *product, const struct hymn_method *method, uint32_t runs) {
    struct hymn_vk_device *device = product->device;
    const struct hymn_node *node = &product->graph.nodes[0];
    struct hymn_trial trial;
    enum hymn_status status = hymn_trial_open_checked(device, &product->plan, &product->graph, node, method, &trial);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    status = hymn_vk_pipelines_prepare(device, trial.lower.program.steps, trial.lower.program.count);
    status = status == HYMN_STATUS_OK ? fill_activations(product, trial.graph.activation_bytes) : status;
    status = status == HYMN_STATUS_OK ? hymn_trial_ready(device, &product->activations, &trial) : status;
    double end = hymn_time_now() + RUN_SECONDS; // the first run may include the making of code
    for (uint32_t i = 0; i < runs && status == HYMN_STATUS_OK && (i < 2 || hymn_time_now() < end); i++) {
        status = hymn_trial_run(device, &trial, product->fence);
    }
    double gflop = 2e-9 * (double)hymn_node_macs(&product->graph, node);
    if (status == HYMN_STATUS_OK && trial.best_ms > 0.0 && gflop / trial.best_ms * 1e3 > product->gflops) {
        product->gflops = gflop / trial.best_ms * 1e3;
    }
    hymn_trial_close(device, &trial);
    return status;
}

// The operator's own choice, and the other ways while there is time.
static enum hymn_status time_methods(struct product *product, bool all) {
    struct hymn_method methods[MOST_METHODS] = {{{0}}};
    struct hymn_vk_plan *plan = &product->plan;
    const struct hymn_op *op = &hymn_ops[HYMN_KIND_CONV2D];
    uint32_t count = op->list_methods(&product->graph, &product->graph.nodes[0], plan, NULL, methods, MOST_METHODS);
    if (count == 0) {
        plan->needs_met &= ~(uint32_t)HYMN_NEEDS_COOPERATIVE_MATRIX; // there is one way, which is not told how
        return time_method(product, &methods[0], 2);
    }
    double end = hymn_time_now() + METHOD_SECONDS;
    enum hymn_status status = time_method(product, &methods[0], 3);
    for (uint32_t i = 1; all && i < count && status == HYMN_STATUS_OK && hymn_time_now() < end; i++) {
        status = time_method(product, &methods[i], 3);
        status = status == HYMN_STATUS_UNSUPPORTED ? HYMN_STATUS_OK : status; // a way whose shader is wrong here
    }
    return status;
}

// Larger and larger products, until one would take too long or too much memory. The first is for devices that emulate
// matrix units.
static enum hymn_status measure_product(struct product *product, enum hymn_storage storage) {
    const uint32_t last = sizeof sizes / sizeof *sizes - 1;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i <= last; i++) {
        if (!build(product, storage, &sizes[i])) {
            return no_memory(product->device);
        }
        double gflop = 2e-9 * (double)hymn_node_macs(&product->graph, &product->graph.nodes[0]);
        if (i > 0 && HYMN_TRIAL_TIMES * gflop > RUN_SECONDS * product->gflops) {
            break;
        }
        status = time_methods(product, i == last);
        if (status != HYMN_STATUS_OK) {
            return i > 0 && too_large(status) ? HYMN_STATUS_OK : status;
        }
    }
    return status;
}

// On matrix units a workgroup that has a pixel's taps in shared memory loads less for each multiplication than one of a
// product, and so may be faster by half.
static enum hymn_status measure_convolution(struct product *product, enum hymn_storage storage) {
    if (product->plan.cpu || !(product->plan.needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX)) {
        return HYMN_STATUS_OK;
    }
    if (!build(product, storage, &convolution)) {
        return no_memory(product->device);
    }
    double gflop = 2e-9 * (double)hymn_node_macs(&product->graph, &product->graph.nodes[0]);
    if (HYMN_TRIAL_TIMES * gflop > RUN_SECONDS * product->gflops) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = time_methods(product, true);
    return too_large(status) ? HYMN_STATUS_OK : status;
}

static enum hymn_status measure_all(struct product *product, enum hymn_storage storage,
                                    const struct hymn_ceiling_run *run, struct hymn_ceilings *found) {
    struct hymn_vk_device *device = product->device;
    uint32_t most = sizes[sizeof sizes / sizeof *sizes - 1].channels;
    bool filled = fill_numbers(product, storage, most);
    enum hymn_status status = filled ? hymn_vk_fence_create(device, &product->fence) : no_memory(device);
    if (status == HYMN_STATUS_OK) {
        status = measure_copy(device, &product->plan, product->numbers, product->fence, &found->gbps);
    }
    if (status == HYMN_STATUS_OK) {
        status = measure_product(product, storage);
    }
    if (status == HYMN_STATUS_OK) {
        status = measure_convolution(product, storage);
        found->gflops = product->gflops;
    }
    hymn_vk_buffer_destroy(device, &product->activations);
    if (status == HYMN_STATUS_OK) { // last: an idle device may be slow at first
        status = measure_chains(device, &product->plan, run, product->numbers, product->fence, found);
    }
    hymn_vk_fence_destroy(device, &product->fence);
    hymn_graph_free(&product->graph);
    hymn_free(product->weights);
    hymn_free(product->numbers);
    return status;
}

enum hymn_status hymn_ceiling_measure(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      enum hymn_storage storage, const struct hymn_ceiling_run *run,
                                      struct hymn_ceilings *out_ceilings) {
    *out_ceilings = (struct hymn_ceilings){0};
    enum hymn_status status = hymn_vk_device_check(device);
    if (status == HYMN_STATUS_OK && !plan->timestamps) {
        status = hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "ceilings: the device has no timestamps");
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct product product = {.device = device, .plan = *plan};
    struct hymn_log own_log = device->log;
    device->log = hymn_log_soften(&own_log); // where a large problem fails, a smaller one is measured
    hymn_graph_init(&product.graph, 1, storage);
    struct hymn_ceilings found = {0};
    status = measure_all(&product, storage, run, &found);
    device->log = own_log;
    if (status != HYMN_STATUS_OK) {
        return hymn_fail(&device->log, status, "the device's ceilings could not be measured: %s",
                         hymn_status_string(status));
    }
    *out_ceilings = found;
    return HYMN_STATUS_OK;
}
