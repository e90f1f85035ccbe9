// SPDX-License-Identifier: MIT
//
// Runs that may be computed at the same time (hymn_session_params::streams), on any device: one with a single queue
// for computing is made to look as if it had several, all of which are that one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_random.h"
#include "vk/memory.h"

enum { SIZE = 32, BATCH = 2, RUNS = 20, MOST_SIDE = 80 };

static struct hymn_context *context;
static struct golden golden;

// ------------------------------------------------------------------------------------------------------- the driver

static struct VolkDeviceTable real;
static VkQueue real_queues[HYMN_VK_MAX_QUEUES];
static uint32_t real_count;
static int names[HYMN_VK_MAX_QUEUES];               // their addresses stand for queues
static uint32_t submissions, last_queue, idle_mask; // last_queue: that of the last submission
static uint32_t submit_fails_at;                    // 1: the next one; 0: never

// HYMN_VK_MAX_QUEUES: one that copies.
static uint32_t index_of(VkQueue queue) {
    uint32_t i = 0;
    while (i < HYMN_VK_MAX_QUEUES && queue != (VkQueue)(void *)&names[i]) {
        i++;
    }
    return i;
}

static VkQueue real_of(VkQueue queue) {
    uint32_t index = index_of(queue);
    return index < HYMN_VK_MAX_QUEUES ? real_queues[index % real_count] : queue;
}

static VKAPI_ATTR VkResult VKAPI_CALL watched_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos,
                                                     VkFence fence) {
    if (index_of(queue) == HYMN_VK_MAX_QUEUES) {
        return real.vkQueueSubmit(queue, count, infos, fence);
    }
    last_queue = index_of(queue);
    return ++submissions == submit_fails_at ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                            : real.vkQueueSubmit(real_of(queue), count, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL watched_wait(VkQueue queue) {
    idle_mask |= index_of(queue) < HYMN_VK_MAX_QUEUES ? 1u << index_of(queue) : 0;
    return real.vkQueueWaitIdle(real_of(queue));
}

// Sessions that are made from now on find so many queues.
static void pretend_queues(uint32_t count) {
    struct hymn_vk_device *device = context->device;
    real = device->table;
    real_count = device->queue_count;
    memcpy(real_queues, device->queues, sizeof real_queues);
    for (uint32_t i = 0; i < HYMN_VK_MAX_QUEUES; i++) {
        device->queues[i] = (VkQueue)(void *)&names[i];
    }
    device->queue_count = count;
    device->table.vkQueueSubmit = watched_submit;
    device->table.vkQueueWaitIdle = watched_wait;
    submissions = last_queue = submit_fails_at = idle_mask = 0;
}

// Sessions made in between must have been destroyed.
static void pretend_nothing(void) {
    context->device->table = real;
    context->device->queue_count = real_count;
    memcpy(context->device->queues, real_queues, sizeof real_queues);
}

static bool pretending(void) {
    return context->device->table.vkQueueSubmit == watched_submit;
}

// Whatever a test that failed has left.
static int heal(void **state) {
    (void)state;
    if (pretending()) {
        pretend_nothing();
    }
    hymn_vk_memory_cap(context->device, 0);
    return 0;
}

// ------------------------------------------------------------------------------------------------------------- runs

static struct hymn_session_params params_of(uint32_t streams, uint32_t in_flight) {
    return (struct hymn_session_params){.height = SIZE,
                                        .width = SIZE,
                                        .batch = BATCH,
                                        .precision = HYMN_PRECISION_FP32,
                                        .runs_in_flight = in_flight,
                                        .streams = streams,
                                        .tuning_ms = HYMN_TUNING_NONE}; // the same shaders, thus the same bits
}

static struct hymn_session *open_session(uint32_t streams, uint32_t in_flight) {
    struct hymn_session_params params = params_of(streams, in_flight);
    struct hymn_session *session = NULL;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    return session;
}

struct job {
    struct hymn_image images[BATCH];
    struct hymn_output outputs[BATCH];
    uint8_t *expected[BATCH]; // probabilities, then the mask
    uint32_t count;
    uint64_t ticket;
};

static size_t area_of(const struct hymn_image *image) {
    return (size_t)image->height * image->width;
}

static void forget_results(struct job *job) {
    for (uint32_t i = 0; i < BATCH; i++) {
        memset(job->outputs[i].probabilities, 0xA5, area_of(&job->images[i]) * sizeof(float));
        memset(job->outputs[i].mask, 0xA5, area_of(&job->images[i]));
    }
}

static void expect_results(const struct job *job) {
    for (uint32_t i = 0; i < job->count; i++) {
        size_t area = area_of(&job->images[i]);
        assert_memory_equal(job->outputs[i].probabilities, job->expected[i], area * sizeof(float));
        assert_memory_equal(job->outputs[i].mask, job->expected[i] + area * sizeof(float), area);
    }
}

static enum hymn_status submit(struct hymn_session *session, struct job *job) {
    struct hymn_run_params run = {.images = job->images, .outputs = job->outputs, .count = job->count};
    return hymn_session_submit(session, &run, &job->ticket);
}

// Every other one with pictures of the network's size; with the results of runs one after the other.
static void make_jobs(struct test_random *random, struct job *jobs, uint32_t count) {
    struct hymn_session *session = open_session(1, 1);
    for (uint32_t j = 0; j < count; j++) {
        struct job *job = &jobs[j];
        *job = (struct job){.count = test_random_range(random, 1, BATCH)};
        for (uint32_t i = 0; i < BATCH; i++) {
            uint32_t height = j % 2 ? SIZE : test_random_range(random, 1, MOST_SIDE);
            uint32_t width = j % 2 ? SIZE : test_random_range(random, 1, MOST_SIDE);
            size_t area = (size_t)height * width;
            uint8_t *pixels = malloc(area * 3);
            job->outputs[i] = (struct hymn_output){.probabilities = malloc(area * sizeof(float)), .mask = malloc(area)};
            job->expected[i] = malloc(area * (sizeof(float) + 1));
            assert_true(pixels && job->outputs[i].probabilities && job->outputs[i].mask && job->expected[i]);
            for (size_t p = 0; p < area * 3; p++) {
                pixels[p] = (uint8_t)test_random_range(random, 0, 255);
            }
            job->images[i] = (struct hymn_image){.pixels = pixels, .height = height, .width = width};
        }
        forget_results(job);
        assert_int_equal(submit(session, job), HYMN_STATUS_OK);
        assert_int_equal(hymn_session_wait(session, job->ticket), HYMN_STATUS_OK);
        for (uint32_t i = 0; i < BATCH; i++) {
            size_t area = area_of(&job->images[i]);
            memcpy(job->expected[i], job->outputs[i].probabilities, area * sizeof(float));
            memcpy(job->expected[i] + area * sizeof(float), job->outputs[i].mask, area);
        }
        forget_results(job);
    }
    hymn_session_destroy(&session);
}

static void free_jobs(struct job *jobs, uint32_t count) {
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            free((void *)jobs[j].images[i].pixels);
            free(jobs[j].outputs[i].probabilities);
            free(jobs[j].outputs[i].mask);
            free(jobs[j].expected[i]);
        }
    }
}

// As many in flight as the session allows, waited for in order; the j'th run is on queue j % streams, which is seen
// where queues are pretended.
static void expect_stream(struct hymn_session *session, struct job *jobs, uint32_t count) {
    const uint32_t in_flight = session->info.runs_in_flight;
    for (uint32_t j = 0; j < count + in_flight; j++) {
        if (j >= in_flight) {
            struct job *job = &jobs[j - in_flight];
            assert_int_equal(hymn_session_wait(session, job->ticket), HYMN_STATUS_OK);
            expect_results(job);
            forget_results(job);
        }
        if (j < count) {
            assert_int_equal(submit(session, &jobs[j]), HYMN_STATUS_OK);
            assert_true(!pretending() || last_queue == j % in_flight % session->info.streams);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ tests

static void runs_of_any_streams_give_the_same_bits(void **state) {
    (void)state;
    struct test_random random = test_random_start("runs_of_any_streams_give_the_same_bits");
    static struct job jobs[RUNS];
    const uint32_t shapes[][2] = {{1, 2}, {2, 2}, {2, 3}, {3, 3}, {4, 8}, {8, 8}}; // streams, runs in flight
    make_jobs(&random, jobs, RUNS);
    pretend_queues(HYMN_VK_MAX_QUEUES);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct hymn_session *session = open_session(shapes[i][0], shapes[i][1]);
        assert_int_equal(session->info.streams, shapes[i][0]);
        assert_int_equal(session->info.runs_in_flight, shapes[i][1]);
        expect_stream(session, jobs, RUNS);
        hymn_session_destroy(&session);
    }
    pretend_nothing();
    free_jobs(jobs, RUNS);
}

// With whatever queues the device has.
static void the_devices_own_queues_give_the_same_bits(void **state) {
    (void)state;
    struct test_random random = test_random_start("the_devices_own_queues_give_the_same_bits");
    static struct job jobs[RUNS];
    make_jobs(&random, jobs, RUNS);
    assert_in_range(hymn_context_device(context)->compute_queues, 1, HYMN_VK_MAX_QUEUES);
    assert_int_equal(context->device->queue_count, hymn_context_device(context)->compute_queues);
    struct hymn_session *session = open_session(HYMN_VK_MAX_QUEUES, 0);
    assert_int_equal(session->info.streams, context->device->queue_count);
    for (int round = 0; round < 5; round++) {
        expect_stream(session, jobs, RUNS);
    }
    hymn_session_destroy(&session);
    free_jobs(jobs, RUNS);
}

// A network whose deep layers are computed by workgroups that share tiles, in the precision and by the kernels that the
// device has by itself: what runs share would show.
static void large_networks_give_the_same_bits(void **state) {
    (void)state;
    enum { SIDE = 64, INPUTS = 8, ROUNDS = 50 };
    if (context->device->queue_count == 1) {
        skip(); // no two runs are computed at the same time
    }
    struct test_random random = test_random_start("large_networks_give_the_same_bits");
    struct hymn_model *model = NULL;
    struct hymn_session *session = NULL;
    const struct hymn_model_params from = {.path = HYMN_SOURCE_DIR "/apps/demo/models/base.safetensors"};
    const struct hymn_session_params params = {
        .height = SIDE, .width = SIDE, .runs_in_flight = INPUTS, .streams = INPUTS, .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_model_create(&from, &model), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_create(context, model, &params, &session), HYMN_STATUS_OK);
    static float inputs[INPUTS][3 * SIDE * SIDE], logits[INPUTS][SIDE * SIDE], expected[INPUTS][SIDE * SIDE];
    struct hymn_output outputs[INPUTS];
    uint64_t tickets[INPUTS];
    for (uint32_t i = 0; i < INPUTS; i++) {
        test_random_fill(&random, inputs[i], 3 * SIDE * SIDE, -2.0f, 2.0f);
        outputs[i] = (struct hymn_output){.logits = expected[i]};
        assert_int_equal(
            hymn_session_run(session, &(struct hymn_run_params){.tensor = inputs[i], .outputs = &outputs[i]}),
            HYMN_STATUS_OK);
        outputs[i].logits = logits[i];
    }
    for (uint32_t run = 0; run < (ROUNDS + 1) * INPUTS; run++) {
        const uint32_t i = run % INPUTS;
        if (run >= INPUTS) {
            assert_int_equal(hymn_session_wait(session, tickets[i]), HYMN_STATUS_OK);
            assert_memory_equal(logits[i], expected[i], sizeof logits[i]);
            memset(logits[i], 0xA5, sizeof logits[i]);
        }
        if (run < ROUNDS * INPUTS) {
            const struct hymn_run_params again = {.tensor = inputs[i], .outputs = &outputs[i]};
            assert_int_equal(hymn_session_submit(session, &again, &tickets[i]), HYMN_STATUS_OK);
        }
    }
    hymn_session_destroy(&session);
    hymn_model_destroy(&model);
}

// As many as there are queues, and runs to put there; steps are timed one at a time.
static void streams_are_counted(void **state) {
    (void)state;
    const struct {
        uint32_t queues, streams, in_flight, out_streams, out_in_flight;
        bool timings;
    } cases[] = {
        {8, 0, 0, 1, 2, false}, {8, 1, 0, 1, 2, false}, {8, 2, 0, 2, 2, false}, {8, 3, 0, 3, 3, false},
        {8, 8, 0, 8, 8, false}, {8, 8, 3, 3, 3, false}, {8, 4, 1, 1, 1, false}, {8, 2, 5, 2, 5, false},
        {1, 8, 0, 1, 2, false}, {1, 4, 8, 1, 8, false}, {3, 8, 0, 3, 3, false}, {8, 4, 0, 1, 2, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hymn_session_params params = params_of(cases[i].streams, cases[i].in_flight);
        struct hymn_session *session = NULL;
        params.timings = cases[i].timings;
        pretend_queues(cases[i].queues);
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        assert_int_equal(hymn_session_get_info(session)->streams, cases[i].out_streams);
        assert_int_equal(hymn_session_get_info(session)->runs_in_flight, cases[i].out_in_flight);
        hymn_session_destroy(&session);
        pretend_nothing();
    }
    struct hymn_session_params params = params_of(HYMN_VK_MAX_QUEUES + 1, 0);
    struct hymn_session *session = NULL;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(session);
}

// Activations of its own for each stream, nothing else; where these have no room there are fewer streams.
static void streams_take_the_memory_there_is(void **state) {
    (void)state;
    struct test_random random = test_random_start("streams_take_the_memory_there_is");
    struct hymn_vk_device *device = context->device;
    static struct job jobs[RUNS];
    make_jobs(&random, jobs, RUNS);
    pretend_queues(HYMN_VK_MAX_QUEUES);
    struct hymn_session *session = open_session(1, 4);
    const uint64_t before = device->memory_bytes, one = session->info.activation_bytes;
    const uint64_t io_bytes = (uint64_t)1 << 20; // of runs, more than enough
    hymn_session_destroy(&session);
    const uint64_t empty = device->memory_bytes;
    for (uint32_t room = 1; room <= 4; room++) {
        hymn_vk_memory_cap(device, before + (room - 1) * one + one / 2);
        session = open_session(4, 4);
        hymn_vk_memory_cap(device, device->memory_bytes + io_bytes);
        const struct hymn_session_info *info = hymn_session_get_info(session);
        assert_int_equal(info->streams, room);
        assert_int_equal(info->activation_bytes, room * one);
        assert_true(info->activation_bytes_unaliased >= info->activation_bytes);
        for (uint32_t i = 0; i < 4; i++) {
            assert_true(session->slots[i].stream == &session->streams[i % room]);
            assert_int_equal(session->streams[i].activations[0].handle != VK_NULL_HANDLE, i < room);
        }
        for (uint32_t i = 1; i < room; i++) {
            assert_true(session->streams[i].activations[0].handle != session->streams[i - 1].activations[0].handle);
        }
        expect_stream(session, jobs, RUNS);
        hymn_session_destroy(&session);
        assert_int_equal(device->memory_bytes, empty);
    }
    hymn_vk_memory_cap(device, 0);
    const uint64_t heap = device->snapshot.device_heap_bytes;
    for (uint32_t further = 0; further < 4; further++) { // a quarter of the device is enough for so many
        device->snapshot.device_heap_bytes = 4 * (further * one + one / 2);
        session = open_session(4, 4);
        assert_int_equal(session->info.streams, further + 1);
        hymn_session_destroy(&session);
    }
    device->snapshot.device_heap_bytes = heap;
    pretend_nothing();
    free_jobs(jobs, RUNS);
}

// Of the device's memory.
struct sizes {
    uint64_t least, stream, run; // all that is in use with a session of one stream; a further one; a run, at most
};

static struct sizes measure(void) {
    struct hymn_session *session = open_session(1, 1);
    struct sizes sizes = {.least = context->device->memory_bytes, .stream = session->info.activation_bytes};
    uint64_t host;
    hymn_io_bytes(session, &sizes.run, &host);
    sizes.run += host;
    hymn_session_destroy(&session);
    return sizes;
}

static uint64_t driver_limit; // of the device's memory: beyond it the driver says that the host has none

static VKAPI_ATTR VkResult VKAPI_CALL failing_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                                       const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    return context->device->memory_bytes + info->allocationSize > driver_limit
               ? VK_ERROR_OUT_OF_HOST_MEMORY
               : real.vkAllocateMemory(device, info, callbacks, memory);
}

// A session does without streams that the driver fails to make, for whatever reason, and without room for them.
static void further_streams_may_fail(void **state) {
    (void)state;
    const struct sizes sizes = measure();
    pretend_queues(4);
    context->device->table.vkAllocateMemory = failing_allocate;
    for (uint32_t streams = 1; streams <= 2; streams++) {
        driver_limit = sizes.least + (streams > 1 ? 4 * sizes.run + sizes.stream + sizes.stream / 2 : sizes.run);
        struct hymn_session *session = open_session(4, 4);
        assert_int_equal(session->info.streams, streams);
        hymn_session_destroy(&session);
    }
    pretend_nothing();
}

// Where the number of runs goes by that of streams, room is wanted for the runs that come of it, not for those of all
// the streams that were asked for: these become fewer, the batch does not.
static void room_is_for_the_runs_that_there_are(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    const struct sizes sizes = measure();
    const uint64_t little = (sizes.stream < sizes.run ? sizes.stream : sizes.run) / 2;
    pretend_queues(HYMN_VK_MAX_QUEUES);
    for (uint32_t streams = 1; streams <= 3; streams++) {
        for (uint32_t min_batch = 0; min_batch <= 1; min_batch++) {
            const uint32_t runs = streams > 2 ? streams : 2;
            struct hymn_session *session = NULL;
            struct hymn_session_params params = params_of(HYMN_VK_MAX_QUEUES, 0);
            params.min_batch = min_batch;
            hymn_vk_memory_cap(device, sizes.least + (streams - 1) * sizes.stream + runs * sizes.run + little);
            assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
            hymn_vk_memory_cap(device, 0);
            assert_int_equal(session->info.batch, BATCH);
            assert_int_equal(session->info.streams, streams);
            assert_int_equal(session->info.runs_in_flight, runs);
            hymn_session_destroy(&session);
        }
    }
    pretend_nothing();
}

// A run that its queue does not take leaves a session that works; parts of it that were taken have ended.
static void refused_runs_leave_the_others(void **state) {
    (void)state;
    struct test_random random = test_random_start("refused_runs_leave_the_others");
    static struct job jobs[RUNS];
    make_jobs(&random, jobs, RUNS);
    const double limit = context->device->submission_seconds;
    struct hymn_session *session = open_session(1, 1);
    context->device->slowness = 1.0; // whatever a busy machine has taught it
    context->device->submission_seconds = session->seconds / 3;
    hymn_session_destroy(&session);
    pretend_queues(3);
    session = open_session(3, 3);
    for (uint32_t fails = 1; fails <= 2; fails++) { // the run's first submission, and the second one
        assert_int_equal(submit(session, &jobs[0]), HYMN_STATUS_OK);
        submissions = idle_mask = 0;
        submit_fails_at = fails;
        assert_int_equal(submit(session, &jobs[1]), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        assert_int_equal(idle_mask, fails > 1 ? 1u << 1 : 0);
        submit_fails_at = 0;
        assert_int_equal(submit(session, &jobs[1]), HYMN_STATUS_OK);
        assert_int_equal(last_queue, 1);
        for (uint32_t j = 0; j < 2; j++) {
            assert_int_equal(hymn_session_wait(session, jobs[j].ticket), HYMN_STATUS_OK);
            expect_results(&jobs[j]);
            forget_results(&jobs[j]);
        }
    }
    expect_stream(session, jobs, RUNS);
    hymn_session_destroy(&session);
    pretend_nothing();
    context->device->submission_seconds = limit;
    free_jobs(jobs, RUNS);
}

// A device that four streams share takes four times as long for what each submits, which is divided accordingly.
static void streams_divide_what_they_submit(void **state) {
    (void)state;
    double seconds[2], estimates[2];
    const double slowness = context->device->slowness;
    pretend_queues(4);
    context->device->slowness = 1.0;
    for (uint32_t i = 0; i < 2; i++) {
        struct hymn_session *session = open_session(i ? 4 : 1, 4);
        estimates[i] = session->seconds;
        seconds[i] = 0.0;
        for (uint32_t s = 0; s < session->program.count; s++) {
            seconds[i] += session->program.steps[s].seconds;
        }
        hymn_session_destroy(&session);
    }
    context->device->slowness = slowness;
    pretend_nothing();
    assert_true(seconds[0] > 0.0 && fabs(seconds[1] / seconds[0] - 4.0) < 1e-6);
    assert_true(fabs(estimates[1] / estimates[0] - 1.0) < 1e-6);
}

// What a run says of how slow the device is, however short it was.
static double slowness_by(struct hymn_session *session, struct job *job, double before) {
    struct hymn_vk_device *device = context->device;
    const double limit = device->submission_seconds;
    device->submission_seconds = 1e-12;
    assert_int_equal(hymn_session_wait(session, job->ticket), HYMN_STATUS_OK);
    device->submission_seconds = limit;
    const double found = device->slowness;
    device->slowness = before;
    return found * session->seconds / (1e-3 * hymn_session_gpu_ms(session));
}

// A run with others beside it has had its share of the device only.
static void runs_beside_others_tell_of_their_share(void **state) {
    (void)state;
    const double slowness = context->device->slowness, little = 1e-6;
    if (!context->device->plan.timestamps) {
        skip();
    }
    struct test_random random = test_random_start("runs_beside_others_tell_of_their_share");
    static struct job jobs[2];
    make_jobs(&random, jobs, 2);
    pretend_queues(4);
    context->device->slowness = little;
    struct hymn_session *session = open_session(4, 4);
    assert_int_equal(submit(session, &jobs[0]), HYMN_STATUS_OK);
    const double alone = slowness_by(session, &jobs[0], little); // of the run, but for what surrounds the network
    assert_int_equal(submit(session, &jobs[0]), HYMN_STATUS_OK);
    assert_int_equal(submit(session, &jobs[1]), HYMN_STATUS_OK);
    const double first = slowness_by(session, &jobs[0], little);
    slowness_by(session, &jobs[1], little);
    context->device->slowness = slowness;
    hymn_session_destroy(&session);
    pretend_nothing();
    free_jobs(jobs, 2);
    assert_true(alone > 0.0 && fabs(first / alone - 0.25) < 1e-3);
}

static void sessions_end_with_runs_in_flight(void **state) {
    (void)state;
    struct test_random random = test_random_start("sessions_end_with_runs_in_flight");
    static struct job jobs[8];
    make_jobs(&random, jobs, 8);
    const uint64_t before = context->device->memory_bytes;
    pretend_queues(4);
    for (int again = 0; again < 2; again++) {
        struct hymn_session *session = open_session(4, 8);
        for (uint32_t j = 0; j < 8; j++) {
            assert_int_equal(submit(session, &jobs[j]), HYMN_STATUS_OK);
        }
        hymn_session_destroy(&session);
        assert_int_equal(context->device->memory_bytes, before);
    }
    pretend_nothing();
    free_jobs(jobs, 8);
}

// One queue by default, and as many as are asked for where there are so many.
static void contexts_open_queues_as_asked(void **state) {
    (void)state;
    for (uint32_t asked = 0; asked <= 2; asked++) {
        struct hymn_context *other = test_context_open_queues(asked);
        assert_non_null(other);
        uint32_t there = hymn_context_device(other)->compute_queues, wanted = asked > 0 ? asked : 1;
        assert_int_equal(there, hymn_context_device(context)->compute_queues);
        assert_int_equal(other->device->queue_count, there < wanted ? there : wanted);
        assert_int_equal(test_context_close(&other), 0);
    }
    assert_null(test_context_open_queues(HYMN_VK_MAX_QUEUES + 1));
}

static int open_context(void **state) {
    (void)state;
    golden_load("one_stage_mamba", &golden);
    context = test_context_open_queues(HYMN_VK_MAX_QUEUES);
    return context ? 0 : -1;
}

static int close_context(void **state) {
    (void)state;
    golden_free(&golden);
    return test_context_close(&context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(runs_of_any_streams_give_the_same_bits, heal),
        cmocka_unit_test_teardown(the_devices_own_queues_give_the_same_bits, heal),
        cmocka_unit_test(large_networks_give_the_same_bits),
        cmocka_unit_test_teardown(streams_are_counted, heal),
        cmocka_unit_test(contexts_open_queues_as_asked),
        cmocka_unit_test_teardown(streams_take_the_memory_there_is, heal),
        cmocka_unit_test_teardown(further_streams_may_fail, heal),
        cmocka_unit_test_teardown(room_is_for_the_runs_that_there_are, heal),
        cmocka_unit_test_teardown(refused_runs_leave_the_others, heal),
        cmocka_unit_test_teardown(streams_divide_what_they_submit, heal),
        cmocka_unit_test_teardown(runs_beside_others_tell_of_their_share, heal),
        cmocka_unit_test_teardown(sessions_end_with_runs_in_flight, heal),
    };
    return cmocka_run_group_tests_name("api_streams", tests, open_context, close_context);
}
