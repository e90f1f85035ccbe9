// SPDX-License-Identifier: MIT
//
// Pipelines, recorded programs, submissions and timers, against the same programs in plain C. Synchronization
// validation watches the barriers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "support/test_random.h"
#include "support/test_vk.h"
#include "vk/command.h"
#include "vk/pipeline.h"
#include "vk/timer.h"

enum { LOCAL_SIZE = 64, REGION = 256, REGION_BYTES = REGION * 4, REGIONS = 24 };

// A device with one buffer for each role that the tests use, of REGIONS regions each, and the same in plain C.
struct bench {
    struct test_vk vk;
    struct hymn_vk_buffer activations, readback;
    struct hymn_vk_program program;
    struct hymn_vk_command command;
    VkFence fence;
    uint32_t expected[2][REGIONS][REGION]; // activations, readback
};

static const enum hymn_vk_role roles[2] = {HYMN_VK_ROLE_ACTIVATIONS, HYMN_VK_ROLE_READBACK};

static struct hymn_vk_record_params record_params(struct bench *bench) {
    struct hymn_vk_record_params params = {
        .name = "test", .steps = bench->program.steps, .count = bench->program.count, .timestamps = true};
    params.buffers[HYMN_VK_ROLE_ACTIVATIONS] = &bench->activations;
    params.buffers[HYMN_VK_ROLE_READBACK] = &bench->readback;
    return params;
}

static struct bench *bench_open(struct test_random *random) {
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    test_vk_open(&bench->vk, "");
    struct hymn_vk_device *device = bench->vk.device;
    struct hymn_vk_buffer *buffers[2] = {&bench->activations, &bench->readback};
    for (int i = 0; i < 2; i++) {
        enum hymn_vk_usage usage = i == 0 ? HYMN_VK_USAGE_DEVICE : HYMN_VK_USAGE_READBACK;
        assert_int_equal(hymn_vk_buffer_create(device, usage, REGIONS * REGION_BYTES, "test", buffers[i]),
                         HYMN_STATUS_OK);
        uint32_t *values = &bench->expected[i][0][0];
        for (uint32_t j = 0; j < REGIONS * REGION; j++) {
            values[j] = (uint32_t)test_random_u64(random);
        }
        struct hymn_vk_write write = {0, values, REGIONS * REGION_BYTES};
        assert_int_equal(hymn_vk_buffer_write(device, buffers[i], &write, 1), HYMN_STATUS_OK);
    }
    assert_int_equal(hymn_vk_fence_create(device, &bench->fence), HYMN_STATUS_OK);
    return bench;
}

static void bench_close(struct bench *bench) {
    struct hymn_vk_device *device = bench->vk.device;
    hymn_vk_command_destroy(device, &bench->command);
    hymn_vk_fence_destroy(device, &bench->fence);
    hymn_vk_buffer_destroy(device, &bench->activations);
    hymn_vk_buffer_destroy(device, &bench->readback);
    hymn_vk_program_free(&bench->program);
    test_vk_close(&bench->vk);
    free(bench);
}

static struct hymn_vk_binding region(enum hymn_vk_role role, uint32_t index) {
    return (struct hymn_vk_binding){role, (uint64_t)index * REGION_BYTES, REGION_BYTES};
}

// to = from * multiplier + addend (+ to).
static struct hymn_vk_step *add_chain(struct bench *bench, struct hymn_vk_binding from, struct hymn_vk_binding to,
                                      uint32_t multiplier, uint32_t addend, bool accumulate) {
    struct hymn_vk_step *step = hymn_vk_program_add(&bench->program);
    assert_non_null(step);
    uint32_t push[3] = {REGION, addend, accumulate};
    step->name = "chain";
    step->shader = test_vk_shader("chain");
    step->constants[0] = LOCAL_SIZE;
    step->constants[1] = multiplier;
    step->constant_count = 2;
    step->bindings[0] = from;
    step->bindings[1] = to;
    step->binding_count = 2;
    step->write_mask = 2;
    step->groups[0] = REGION / LOCAL_SIZE;
    hymn_vk_step_push(step, push, sizeof push);
    return step;
}

static void add_copy(struct bench *bench, struct hymn_vk_binding from, struct hymn_vk_binding to) {
    struct hymn_vk_step *step = hymn_vk_program_add(&bench->program);
    assert_non_null(step);
    step->kind = HYMN_VK_STEP_COPY;
    step->name = "copy";
    step->bindings[0] = from;
    step->bindings[1] = to;
    step->binding_count = 2;
}

static uint32_t *place(struct bench *bench, const struct hymn_vk_binding *binding) {
    return bench->expected[binding->role == HYMN_VK_ROLE_READBACK][binding->offset / REGION_BYTES];
}

// The program in plain C.
static void run_expected(struct bench *bench) {
    for (uint32_t s = 0; s < bench->program.count; s++) {
        const struct hymn_vk_step *step = &bench->program.steps[s];
        const uint32_t *from = place(bench, &step->bindings[0]);
        uint32_t *to = place(bench, &step->bindings[1]), push[3] = {0};
        memcpy(push, step->push, sizeof push);
        for (uint32_t i = 0; i < REGION; i++) {
            to[i] = step->kind == HYMN_VK_STEP_COPY ? from[i]
                                                    : (push[2] ? to[i] : 0) + from[i] * step->constants[1] + push[1];
        }
    }
}

static void record(struct bench *bench, bool step_timestamps) {
    struct hymn_vk_record_params params = record_params(bench);
    params.step_timestamps = step_timestamps;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, params.steps, params.count), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_command_record(bench->vk.device, &params, &bench->command), HYMN_STATUS_OK);
}

static void submit_and_wait(struct bench *bench, uint32_t times) {
    const struct hymn_vk_command *commands[24];
    for (uint32_t i = 0; i < times; i++) {
        commands[i] = &bench->command;
        run_expected(bench);
    }
    assert_int_equal(hymn_vk_submit(bench->vk.device, commands, times, bench->fence), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_wait(bench->vk.device, bench->fence), HYMN_STATUS_OK);
    assert_true(hymn_vk_done(bench->vk.device, bench->fence));
}

static void check_contents(struct bench *bench) {
    uint32_t *read = malloc(REGIONS * REGION_BYTES);
    assert_non_null(read);
    struct hymn_vk_device *device = bench->vk.device;
    assert_int_equal(hymn_vk_buffer_read(device, &bench->activations, 0, read, REGIONS * REGION_BYTES), HYMN_STATUS_OK);
    assert_memory_equal(read, bench->expected[0], REGIONS * REGION_BYTES);
    // As a session reads back: what the commands themselves have made visible.
    assert_int_equal(hymn_vk_buffer_invalidate(device, &bench->readback, 0, REGIONS * REGION_BYTES), HYMN_STATUS_OK);
    assert_memory_equal(bench->readback.mapped, bench->expected[1], REGIONS * REGION_BYTES);
    free(read);
}

static struct hymn_vk_binding random_region(struct test_random *random) {
    return region(roles[test_random_range(random, 0, 3) == 0], test_random_range(random, 0, REGIONS - 1));
}

// Random steps among a few regions: reads after writes, writes after reads, writes after writes, copies.
static void add_random_steps(struct bench *bench, struct test_random *random, uint32_t count) {
    while (bench->program.count < count) {
        struct hymn_vk_binding from = random_region(random), to = random_region(random);
        if (from.role == to.role && from.offset == to.offset) {
            continue;
        }
        if (test_random_range(random, 0, 4) == 0) {
            add_copy(bench, from, to);
        } else {
            add_chain(bench, from, to, test_random_range(random, 1, 4) * 2 + 1, (uint32_t)test_random_u64(random),
                      test_random_range(random, 0, 1));
        }
    }
}

static void long_chains_keep_their_order(void **state) {
    (void)state;
    struct test_random random = test_random_start("long_chains_keep_their_order");
    for (int round = 0; round < 5; round++) {
        struct bench *bench = bench_open(&random);
        add_random_steps(bench, &random, 100);
        record(bench, false);
        assert_int_equal(bench->command.step_count, 100);
        assert_true(bench->command.barrier_count > 0 && bench->command.barrier_count < 100);
        submit_and_wait(bench, 1);
        submit_and_wait(bench, 3); // the same commands three times in one submission
        check_contents(bench);
        bench_close(bench);
    }
}

// What is too long for one submission goes in several, and what is short many buffers at a time: each step once, though
// none is idempotent.
static void long_runs_are_several_submissions(void **state) {
    (void)state;
    struct test_random random = test_random_start("long_runs_are_several_submissions");
    for (int i = 0; i < 2; i++) {
        struct bench *bench = bench_open(&random);
        add_random_steps(bench, &random, 20);
        for (uint32_t k = 0; i == 0 && k < bench->program.count; k++) {
            bench->program.steps[k].seconds = 0.6 * bench->vk.device->submission_seconds;
        }
        record(bench, false);
        assert_int_equal(bench->command.buffer_count, i == 0 ? 20 : 1);
        submit_and_wait(bench, 1);
        submit_and_wait(bench, 24); // more than one submission takes
        check_contents(bench);
        bench_close(bench);
    }
}

// Each step needs the one before: 99 barriers. Steps that share nothing: none.
static void barriers_only_where_needed(void **state) {
    (void)state;
    struct test_random random = test_random_start("barriers_only_where_needed");
    struct bench *bench = bench_open(&random);
    for (uint32_t i = 0; i < 100; i++) {
        add_chain(bench, region(HYMN_VK_ROLE_ACTIVATIONS, i % 2), region(HYMN_VK_ROLE_ACTIVATIONS, 1 - i % 2), 3, i,
                  false);
    }
    record(bench, false);
    assert_int_equal(bench->command.barrier_count, 99);
    submit_and_wait(bench, 1);
    check_contents(bench);
    bench->program.count = 0;
    for (uint32_t i = 1; i < REGIONS; i++) { // all read the first, each writes another
        add_chain(bench, region(HYMN_VK_ROLE_ACTIVATIONS, 0), region(HYMN_VK_ROLE_ACTIVATIONS, i), 5, i, true);
    }
    record(bench, false);
    assert_int_equal(bench->command.barrier_count, 0);
    submit_and_wait(bench, 1);
    check_contents(bench);
    bench_close(bench);
}

// The reverse: with a write that the program does not own up to, validation speaks, and its messages are counted.
static void validation_sees_a_missing_barrier(void **state) {
    (void)state;
    struct test_random random = test_random_start("validation_sees_a_missing_barrier");
    struct bench *bench = bench_open(&random);
    if (bench->vk.validated) {
        struct hymn_vk_binding a = region(HYMN_VK_ROLE_ACTIVATIONS, 0), b = region(HYMN_VK_ROLE_ACTIVATIONS, 1);
        add_chain(bench, a, b, 1, 1, false)->write_mask = 0;
        add_chain(bench, b, a, 1, 1, false)->write_mask = 0;
        record(bench, false);
        assert_true(bench->vk.device->instance->validation_messages > 0);
        assert_log(&bench->vk.log, "validation: ");
        assert_true(test_log_has(&bench->vk.log, "hazard") || test_log_has(&bench->vk.log, "HAZARD"));
        bench->vk.device->instance->validation_messages = 0;
        test_log_start(&bench->vk.log);
    }
    bool validated = bench->vk.validated;
    bench_close(bench);
    if (!validated) {
        skip();
    }
}

// Whether the layers are told to look into running shaders too, by the setting of current ones.
static bool is_assisted(const struct bench *bench) {
    const char *enabled = getenv("VK_KHRONOS_VALIDATION_GPUAV_ENABLE");
    return bench->vk.validated && enabled && strcmp(enabled, "1") == 0;
}

// Runs the program, which is wrong: validation must say all of `wanted`, up to NULL. Closes the bench.
static void expect_messages(struct bench *bench, const char *const *wanted) {
    record(bench, false);
    submit_and_wait(bench, 1);
    assert_true(bench->vk.device->instance->validation_messages > 0);
    for (; *wanted; wanted++) {
        assert_log(&bench->vk.log, *wanted);
    }
    bench->vk.device->instance->validation_messages = 0;
    test_log_start(&bench->vk.log);
    bench_close(bench);
}

static void skip_unassisted(struct bench *bench) {
    bench_close(bench);
    print_message("no GPU-assisted validation: VK_KHRONOS_VALIDATION_GPUAV_ENABLE is not 1, or there is no layer\n");
    skip();
}

// A read and a write beyond the bindings, though within the buffers, so that they do no harm.
static void assisted_validation_sees_accesses_out_of_bounds(void **state) {
    (void)state;
    struct test_random random = test_random_start("assisted_validation_sees_accesses_out_of_bounds");
    for (uint32_t bound = 0; bound < 2; bound++) {
        struct bench *bench = bench_open(&random);
        if (!is_assisted(bench)) {
            skip_unassisted(bench);
            return;
        }
        add_chain(bench, region(HYMN_VK_ROLE_ACTIVATIONS, 0), region(HYMN_VK_ROLE_ACTIVATIONS, 1), 1, 1, false)
            ->bindings[bound]
            .bytes = REGION_BYTES / 2;
        const char *where = bound == 0 ? "binding = 0" : "binding = 1";
        expect_messages(bench, (const char *const[]){"validation: ", "storageBuffers-06936", where, NULL});
    }
}

// Lanes that read what others of their workgroup write, with no barrier between.
static void assisted_validation_sees_races(void **state) {
    (void)state;
    struct test_random random = test_random_start("assisted_validation_sees_races");
    struct bench *bench = bench_open(&random);
    const char *races = getenv("VK_KHRONOS_VALIDATION_GPUAV_SHARED_MEMORY_DATA_RACE");
    if (!is_assisted(bench) || (races && strcmp(races, "0") == 0)) {
        skip_unassisted(bench);
        return;
    }
    struct hymn_vk_step *step =
        add_chain(bench, region(HYMN_VK_ROLE_ACTIVATIONS, 0), region(HYMN_VK_ROLE_ACTIVATIONS, 1), 1, 0, false);
    step->name = "race";
    step->shader = test_vk_shader("race");
    step->constant_count = 1;
    step->push_bytes = 0;
    expect_messages(bench, (const char *const[]){"validation: ", "SharedMemoryDataRace", NULL});
}

// Programs of another shape in the same object: what it holds is reused where it suffices.
static void commands_are_recorded_again(void **state) {
    (void)state;
    struct test_random random = test_random_start("commands_are_recorded_again");
    struct bench *bench = bench_open(&random);
    uint32_t counts[] = {20, 20, 7, 20, 33, 0, 5};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        bench->program.count = 0;
        add_random_steps(bench, &random, counts[i]);
        record(bench, i % 2);
        submit_and_wait(bench, 2);
        check_contents(bench);
    }
    VkDescriptorPool pool = bench->command.descriptor_pool;
    VkDescriptorSet set = bench->command.sets[0];
    VkCommandBuffer buffer = bench->command.buffers[0];
    for (uint32_t i = 0; i < 10; i++) { // the same shape with other regions and numbers: no allocation
        bench->program.count = 0;
        for (uint32_t j = 0; j < 5; j++) {
            add_chain(bench, region(HYMN_VK_ROLE_ACTIVATIONS, i), region(HYMN_VK_ROLE_READBACK, i + j), 3, j, true);
        }
        struct hymn_vk_record_params params = record_params(bench);
        assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, params.steps, params.count), HYMN_STATUS_OK);
        hymn_alloc_fail_after(i == 0 ? -1 : 0);
        assert_int_equal(hymn_vk_command_record(bench->vk.device, &params, &bench->command), HYMN_STATUS_OK);
        hymn_alloc_fail_after(-1);
        set = i == 0 ? bench->command.sets[0] : set;
        assert_ptr_equal(bench->command.sets[0], set);
        submit_and_wait(bench, 1);
        check_contents(bench);
    }
    assert_ptr_equal(bench->command.descriptor_pool, pool);
    assert_ptr_equal(bench->command.buffers[0], buffer);
    bench_close(bench);
}

static void all_bindings_and_shared_buffers(void **state) {
    (void)state;
    struct test_random random = test_random_start("all_bindings_and_shared_buffers");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_step *step = hymn_vk_program_add(&bench->program);
    assert_non_null(step);
    step->name = "sum";
    step->shader = test_vk_shader("sum");
    step->constants[0] = LOCAL_SIZE;
    step->constant_count = 1;
    for (uint32_t i = 0; i < 8; i++) { // two roles over one buffer
        step->bindings[i] = region(i % 2 ? HYMN_VK_ROLE_IMAGE : HYMN_VK_ROLE_ACTIVATIONS, i);
    }
    step->binding_count = 8;
    step->write_mask = 1 << 7;
    step->groups[0] = REGION / LOCAL_SIZE;
    struct hymn_vk_step *second = hymn_vk_program_add(&bench->program); // reads what the first wrote, by the other role
    assert_non_null(second);
    *second = bench->program.steps[0];
    second->bindings[0] = region(HYMN_VK_ROLE_ACTIVATIONS, 7);
    second->bindings[7] = region(HYMN_VK_ROLE_READBACK, 0);
    struct hymn_vk_record_params params = record_params(bench);
    params.buffers[HYMN_VK_ROLE_IMAGE] = &bench->activations;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, params.steps, 2), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_command_record(bench->vk.device, &params, &bench->command), HYMN_STATUS_OK);
    assert_int_equal(bench->command.barrier_count, 1);
    const struct hymn_vk_command *command = &bench->command;
    assert_int_equal(hymn_vk_submit(bench->vk.device, &command, 1, bench->fence), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_wait(bench->vk.device, bench->fence), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < REGION; i++) {
        uint32_t rest = 0; // regions 1 to 6
        for (uint32_t j = 1; j < 7; j++) {
            rest += bench->expected[0][j][i];
        }
        bench->expected[1][0][i] = bench->expected[0][0][i] + rest + rest;
        bench->expected[0][7][i] = bench->expected[0][0][i] + rest;
    }
    check_contents(bench);
    bench_close(bench);
}

static void timers_measure_steps(void **state) {
    (void)state;
    struct test_random random = test_random_start("timers_measure_steps");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    bool timestamps = device->plan.timestamps;
    add_random_steps(bench, &random, 30);
    record(bench, true);
    assert_int_equal(bench->command.query_count, timestamps ? 62 : 0);
    submit_and_wait(bench, 1);
    double span = hymn_vk_timer_span(device, &bench->command, &bench->command), sum = 0, ms[30];
    if (timestamps) {
        assert_int_equal(hymn_vk_timer_steps(device, &bench->command, ms), HYMN_STATUS_OK);
        for (int i = 0; i < 30; i++) {
            assert_true(ms[i] >= 0 && ms[i] < 60e3);
            sum += ms[i];
        }
        assert_true(span > 0 && span < 60e3);
        assert_true(sum <= span * 1.0001);
        assert_int_equal(bench->command.barrier_count, 29);
        print_message("%.3f ms in 30 steps, %.3f ms in all\n", sum, span);
    } else {
        assert_true(span < 0);
        assert_int_equal(hymn_vk_timer_steps(device, &bench->command, ms), HYMN_STATUS_UNSUPPORTED);
    }
    record(bench, false);
    assert_int_equal(hymn_vk_timer_steps(device, &bench->command, ms), HYMN_STATUS_UNSUPPORTED);
    struct hymn_vk_record_params params = record_params(bench);
    params.timestamps = false;
    assert_int_equal(hymn_vk_command_record(device, &params, &bench->command), HYMN_STATUS_OK);
    submit_and_wait(bench, 1);
    assert_true(hymn_vk_timer_span(device, &bench->command, &bench->command) < 0);
    check_contents(bench);
    bench_close(bench);
}

// Counters of few bits wrap around between the two timestamps.
static void timers_mask_what_is_not_valid(void **state) {
    (void)state;
    struct test_random random = test_random_start("timers_mask_what_is_not_valid");
    struct bench *bench = bench_open(&random);
    bool timestamps = bench->vk.device->plan.timestamps;
    if (timestamps) {
        record(bench, false);
        submit_and_wait(bench, 1);
        double whole = hymn_vk_timer_span(bench->vk.device, &bench->command, &bench->command);
        bench->vk.device->snapshot.timestamp_bits = 8;
        double masked = hymn_vk_timer_span(bench->vk.device, &bench->command, &bench->command);
        assert_true(whole >= 0 && masked >= 0);
        assert_true(masked <= 255 * (double)bench->vk.device->snapshot.timestamp_period * 1e-6);
    }
    bench_close(bench);
    if (!timestamps) {
        skip();
    }
}

static void pipelines_are_made_once(void **state) {
    (void)state;
    struct test_random random = test_random_start("pipelines_are_made_once");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    struct hymn_vk_binding a = region(HYMN_VK_ROLE_ACTIVATIONS, 0), b = region(HYMN_VK_ROLE_ACTIVATIONS, 1);
    for (uint32_t i = 0; i < 150; i++) {
        add_chain(bench, a, b, i / 2, 0, false);
    }
    add_copy(bench, a, b);
    assert_null(hymn_vk_pipeline_find(device, &bench->program.steps[0]));
    assert_int_equal(hymn_vk_pipelines_prepare(device, bench->program.steps, 151), HYMN_STATUS_OK);
    double milliseconds = -1;
    assert_int_equal(hymn_vk_pipelines_count(device, &milliseconds), 75);
    assert_true(milliseconds > 0);
    for (uint32_t i = 0; i < 150; i++) {
        const struct hymn_vk_pipeline *pipeline = hymn_vk_pipeline_find(device, &bench->program.steps[i]);
        assert_non_null(pipeline);
        assert_ptr_equal(pipeline, hymn_vk_pipeline_find(device, &bench->program.steps[i ^ 1]));
        assert_true(i < 2 || pipeline != hymn_vk_pipeline_find(device, &bench->program.steps[i - 2]));
    }
    assert_int_equal(hymn_vk_pipelines_prepare(device, bench->program.steps, 151), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_pipelines_count(device, NULL), 75);
    bench_close(bench);
}

static _Thread_local bool is_callers;
static atomic_uint made, made_by_caller;
static PFN_vkCreateComputePipelines real_create;

static VKAPI_ATTR VkResult VKAPI_CALL watched_create(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                     const VkComputePipelineCreateInfo *infos,
                                                     const VkAllocationCallbacks *allocator, VkPipeline *pipelines) {
    atomic_fetch_add(&made, count);
    atomic_fetch_add(&made_by_caller, is_callers ? count : 0);
    return real_create(device, cache, count, infos, allocator, pipelines);
}

// The caller's thread may be one of 128 KiB of stack, which is too little for some drivers' compilers.
static void pipelines_need_no_stack_of_the_caller(void **state) {
    (void)state;
    struct test_random random = test_random_start("pipelines_need_no_stack_of_the_caller");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    struct hymn_vk_binding a = region(HYMN_VK_ROLE_ACTIVATIONS, 0), b = region(HYMN_VK_ROLE_ACTIVATIONS, 1);
    for (uint32_t i = 0; i < 8; i++) {
        add_chain(bench, a, b, i, 0, false);
    }
    is_callers = true;
    real_create = device->table.vkCreateComputePipelines;
    device->table.vkCreateComputePipelines = watched_create;
    assert_int_equal(hymn_vk_pipelines_prepare(device, bench->program.steps, 1), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_pipelines_prepare(device, bench->program.steps, 8), HYMN_STATUS_OK);
    device->table.vkCreateComputePipelines = real_create;
    assert_int_equal(made, 8);
    assert_int_equal(made_by_caller, 0);
    bench_close(bench);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_create(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                     const VkComputePipelineCreateInfo *infos,
                                                     const VkAllocationCallbacks *allocator, VkPipeline *pipelines) {
    (void)device, (void)cache, (void)count, (void)infos, (void)allocator, (void)pipelines;
    return VK_ERROR_OUT_OF_HOST_MEMORY;
}

// Another time there may be memory for them.
static void pipelines_that_failed_are_tried_again(void **state) {
    (void)state;
    struct test_random random = test_random_start("pipelines_that_failed_are_tried_again");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    add_random_steps(bench, &random, 10);
    real_create = device->table.vkCreateComputePipelines;
    device->table.vkCreateComputePipelines = failing_create;
    assert_int_equal(hymn_vk_pipelines_prepare(device, bench->program.steps, 10), HYMN_STATUS_OUT_OF_MEMORY);
    assert_int_equal(hymn_vk_pipelines_count(device, NULL), 0);
    device->table.vkCreateComputePipelines = real_create;
    record(bench, false);
    submit_and_wait(bench, 1);
    check_contents(bench);
    bench_close(bench);
}

static void unusable_shaders_are_named(void **state) {
    (void)state;
    struct test_random random = test_random_start("unusable_shaders_are_named");
    struct bench *bench = bench_open(&random);
    struct hymn_shader demanding = *test_vk_shader("chain");
    demanding.name = "demanding";
    demanding.needs = HYMN_NEEDS_FLOAT16;
    bench->vk.device->plan.needs_met = 0;
    struct hymn_vk_binding a = region(HYMN_VK_ROLE_ACTIVATIONS, 0), b = region(HYMN_VK_ROLE_ACTIVATIONS, 1);
    struct hymn_vk_step *step = add_chain(bench, a, b, 1, 0, false);
    step->name = "encoder.0";
    step->shader = &demanding;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, step, 1), HYMN_STATUS_UNSUPPORTED);
    assert_log(&bench->vk.log, "encoder.0: demanding needs fp16 arithmetic, which ");
    // It costs no other step its pipeline, and says that it has none.
    struct hymn_vk_step both[] = {*step, *step};
    both[1].shader = test_vk_shader("chain");
    double milliseconds;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, both, 2), HYMN_STATUS_UNSUPPORTED);
    assert_null(hymn_vk_pipeline_find(bench->vk.device, &both[0]));
    assert_non_null(hymn_vk_pipeline_find(bench->vk.device, &both[1]));
    assert_int_equal(hymn_vk_pipeline_result(bench->vk.device, &both[0], &milliseconds), VK_NOT_READY);
    assert_int_equal(hymn_vk_pipeline_result(bench->vk.device, &both[1], &milliseconds), VK_SUCCESS);
    demanding.needs = HYMN_NEEDS_BUFFERS;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, step, 1), HYMN_STATUS_UNSUPPORTED);
    assert_log(&bench->vk.log, "encoder.0: demanding needs eight storage buffers, which ");
    demanding.needs = 0;
    bench->vk.device->snapshot.max_storage_buffers = step->binding_count - 1;
    assert_int_equal(hymn_vk_pipelines_prepare(bench->vk.device, step, 1), HYMN_STATUS_UNSUPPORTED);
    assert_log(&bench->vk.log, "encoder.0: demanding has 2 storage buffers, and shaders of ");
    bench_close(bench);
}

static void expect_refusal(struct bench *bench, const struct hymn_vk_step *step, enum hymn_status status,
                           const char *message) {
    struct hymn_vk_record_params params = record_params(bench);
    params.steps = step;
    params.count = 1;
    bench->vk.device->log = test_log_start(&bench->vk.log);
    assert_int_equal(hymn_vk_command_record(bench->vk.device, &params, &bench->command), status);
    assert_log(&bench->vk.log, "broken: ");
    assert_log(&bench->vk.log, message);
}

static void impossible_steps_are_refused(void **state) {
    (void)state;
    struct test_random random = test_random_start("impossible_steps_are_refused");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    struct hymn_vk_binding a = region(HYMN_VK_ROLE_ACTIVATIONS, 0), b = region(HYMN_VK_ROLE_ACTIVATIONS, 1);
    struct hymn_vk_step good = *add_chain(bench, a, b, 1, 0, false), step;
    good.name = "broken";
    expect_refusal(bench, &good, HYMN_STATUS_INTERNAL, "its pipeline has not been made");
    assert_int_equal(hymn_vk_pipelines_prepare(device, &good, 1), HYMN_STATUS_OK);
    device->snapshot.max_workgroup_count[1] = 1000;
    step = good;
    step.groups[1] = 1001;
    expect_refusal(bench, &step, HYMN_STATUS_UNSUPPORTED, "1001 workgroups in y");
    step.groups[1] = 0;
    expect_refusal(bench, &step, HYMN_STATUS_UNSUPPORTED, "0 workgroups in y");
    step = good;
    step.bindings[1].bytes = REGIONS * REGION_BYTES;
    expect_refusal(bench, &step, HYMN_STATUS_INTERNAL, "binding 1 (24576 bytes at 1024) is not within its buffer");
    step.bindings[1] = region(HYMN_VK_ROLE_WEIGHTS, 0);
    expect_refusal(bench, &step, HYMN_STATUS_INTERNAL, "binding 1");
    step = good;
    step.bindings[0].bytes = 6;
    expect_refusal(bench, &step, HYMN_STATUS_INTERNAL, "binding 0 is not aligned");
    device->snapshot.max_storage_buffer_range = 512;
    expect_refusal(bench, &good, HYMN_STATUS_UNSUPPORTED, "binding 0 takes 1024 bytes");
    step = (struct hymn_vk_step){.kind = HYMN_VK_STEP_COPY, .name = "broken", .binding_count = 2};
    step.bindings[0] = a;
    step.bindings[1] = (struct hymn_vk_binding){HYMN_VK_ROLE_ACTIVATIONS, 2048, 2048};
    expect_refusal(bench, &step, HYMN_STATUS_INTERNAL, "copies more than its source");
    bench_close(bench);
}

static void lost_device_refuses_work(void **state) {
    (void)state;
    struct test_random random = test_random_start("lost_device_refuses_work");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    add_random_steps(bench, &random, 4);
    record(bench, false);
    hymn_vk_result(device, VK_ERROR_DEVICE_LOST, "a test");
    struct hymn_vk_record_params params = record_params(bench);
    const struct hymn_vk_command *command = &bench->command;
    assert_int_equal(hymn_vk_submit(device, &command, 1, bench->fence), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_wait(device, bench->fence), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_command_record(device, &params, &bench->command), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_pipelines_prepare(device, params.steps, params.count), HYMN_STATUS_DEVICE_LOST);
    bench_close(bench);
}

// Every single allocation fails once; what was half-made is made whole by the next attempt.
static void allocation_failures_leave_usable_objects(void **state) {
    (void)state;
    struct test_random random = test_random_start("allocation_failures_leave_usable_objects");
    struct bench *bench = bench_open(&random);
    struct hymn_vk_device *device = bench->vk.device;
    add_random_steps(bench, &random, 40);
    bool failed = true;
    uint32_t failures = 0;
    for (int64_t countdown = 0; failed && countdown < 1000; countdown++) {
        struct hymn_vk_record_params params = record_params(bench);
        hymn_alloc_fail_after(countdown);
        enum hymn_status status = hymn_vk_pipelines_prepare(device, params.steps, params.count);
        status = status == HYMN_STATUS_OK ? hymn_vk_command_record(device, &params, &bench->command) : status;
        failed = hymn_alloc_fail_after(-1);
        failures += status != HYMN_STATUS_OK;
        assert_true(status == HYMN_STATUS_OK || (failed && status == HYMN_STATUS_OUT_OF_MEMORY));
    }
    assert_true(failures > 2 && !failed);
    submit_and_wait(bench, 2);
    check_contents(bench);
    bench_close(bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_chains_keep_their_order),
        cmocka_unit_test(long_runs_are_several_submissions),
        cmocka_unit_test(barriers_only_where_needed),
        cmocka_unit_test(validation_sees_a_missing_barrier),
        cmocka_unit_test(commands_are_recorded_again),
        cmocka_unit_test(all_bindings_and_shared_buffers),
        cmocka_unit_test(timers_measure_steps),
        cmocka_unit_test(timers_mask_what_is_not_valid),
        cmocka_unit_test(pipelines_are_made_once),
        cmocka_unit_test(pipelines_need_no_stack_of_the_caller),
        cmocka_unit_test(pipelines_that_failed_are_tried_again),
        cmocka_unit_test(unusable_shaders_are_named),
        cmocka_unit_test(impossible_steps_are_refused),
        cmocka_unit_test(lost_device_refuses_work),
        cmocka_unit_test(allocation_failures_leave_usable_objects),
        cmocka_unit_test(assisted_validation_sees_accesses_out_of_bounds),
        cmocka_unit_test(assisted_validation_sees_races),
    };
    return cmocka_run_group_tests_name("vk_device_commands", tests, NULL, NULL);
}
