// SPDX-License-Identifier: MIT
//
// Inputs that go ahead of their runs (vk/upload.h), on any device: with HYMN_TRANSFER_ON its one queue plays both parts
// where it has no other. The same bits as without; faults at every call of it are injected where the driver would
// report them. And inputs that the host writes into the device's own memory, as if that were behind a bus.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_random.h"
#include "vk/divide.h"

enum { SIZE = 64, BATCH = 2, RUNS = 9, MOST_SIDE = 150 };

static struct hymn_context *plain, *ahead; // HYMN_TRANSFER_OFF and _ON
static struct golden golden;

// What a stream of runs takes in and gives back.
struct job {
    struct hymn_image images[BATCH];
    struct hymn_output outputs[BATCH];
    float *tensor; // instead of the images, where not NULL
    uint32_t count;
    uint64_t ticket;
};

// ------------------------------------------------------------------------------------------------------- the driver

static struct VolkDeviceTable real;
static uint32_t submissions, waits, last_wait, signals; // counts; last_wait: number of the last submission that waits
static uint32_t submit_fails_at;                        // 1: the next one; 0: never
static VkResult submit_result, fence_status;

static VKAPI_ATTR VkResult VKAPI_CALL watched_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos,
                                                     VkFence fence) {
    submissions++;
    if (submissions == submit_fails_at) {
        return submit_result;
    }
    assert_int_equal(count, 1);
    waits += infos->waitSemaphoreCount;
    last_wait = infos->waitSemaphoreCount ? submissions : last_wait;
    signals += infos->signalSemaphoreCount;
    return real.vkQueueSubmit(queue, count, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL told_fence_status(VkDevice device, VkFence fence) {
    (void)device;
    (void)fence;
    return fence_status;
}

static void watch(struct hymn_context *context, uint32_t fails_at, VkResult result) {
    if (context->device->table.vkQueueSubmit != watched_submit) {
        real = context->device->table;
        context->device->table.vkQueueSubmit = watched_submit;
    }
    submissions = waits = last_wait = signals = 0;
    submit_fails_at = fails_at;
    submit_result = result;
}

static void unwatch(struct hymn_context *context) {
    context->device->table = real;
}

// ------------------------------------------------------------------------------------------------------------- runs

static struct hymn_session *open_session(struct hymn_context *context, uint32_t in_flight, bool timings) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = SIZE,
                                         .width = SIZE,
                                         .batch = BATCH,
                                         .precision = HYMN_PRECISION_FP32,
                                         .runs_in_flight = in_flight,
                                         .timings = timings,
                                         .tuning_ms = HYMN_TUNING_NONE}; // the same shaders, thus the same bits
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    return session;
}

// Sessions that are made from now on need many submissions a run.
static void divide_runs(struct hymn_context *context) {
    context->device->slowness = 1.0; // whatever a busy machine has taught it
    struct hymn_session *session = open_session(context, 1, false);
    context->device->submission_seconds = session->seconds / 10;
    hymn_session_destroy(&session);
}

static void divide_no_runs(struct hymn_context *context) {
    context->device->slowness = 1.0;
    context->device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
}

static void *filled(size_t bytes) {
    void *memory = malloc(bytes);
    assert_non_null(memory);
    memset(memory, 0xA5, bytes);
    return memory;
}

// Pictures of up to MOST_SIDE x MOST_SIDE, or a tensor.
static void make_job(struct test_random *random, uint32_t height, uint32_t width, bool tensor, struct job *job) {
    *job = (struct job){.count = BATCH};
    if (tensor) {
        size_t count = (size_t)BATCH * golden.channels * SIZE * SIZE;
        job->tensor = filled(count * sizeof *job->tensor);
        for (size_t i = 0; i < count; i++) {
            job->tensor[i] = (float)test_random_range(random, 0, 1000) * 0.002f - 1.0f;
        }
        height = width = SIZE;
    }
    size_t area = (size_t)height * width;
    for (int i = 0; i < BATCH; i++) {
        uint8_t *pixels = filled(area * 3);
        for (size_t p = 0; p < area * 3; p++) {
            pixels[p] = (uint8_t)test_random_range(random, 0, 255);
        }
        job->images[i] = (struct hymn_image){.pixels = pixels, .height = height, .width = width};
        job->outputs[i] =
            (struct hymn_output){filled(SIZE * SIZE * sizeof(float)), filled(area * sizeof(float)), filled(area)};
    }
}

static void free_job(struct job *job) {
    for (int i = 0; i < BATCH; i++) {
        free((void *)job->images[i].pixels);
        free(job->outputs[i].logits);
        free(job->outputs[i].probabilities);
        free(job->outputs[i].mask);
    }
    free(job->tensor);
}

static enum hymn_status submit(struct hymn_session *session, struct job *job) {
    struct hymn_run_params params = {.images = job->tensor ? NULL : job->images,
                                     .tensor = job->tensor,
                                     .outputs = job->outputs,
                                     .count = job->count};
    return hymn_session_submit(session, &params, &job->ticket);
}

static enum hymn_status run(struct hymn_session *session, struct job *job) {
    enum hymn_status status = submit(session, job);
    return status == HYMN_STATUS_OK ? hymn_session_wait(session, job->ticket) : status;
}

static void copy_results(const struct job *job, struct job *out_copy) {
    *out_copy = *job;
    out_copy->tensor = NULL;
    for (int i = 0; i < BATCH; i++) {
        size_t area = (size_t)job->images[i].height * job->images[i].width;
        out_copy->images[i].pixels = NULL;
        out_copy->outputs[i] =
            (struct hymn_output){filled(SIZE * SIZE * sizeof(float)), filled(area * sizeof(float)), filled(area)};
        memcpy(out_copy->outputs[i].logits, job->outputs[i].logits, SIZE * SIZE * sizeof(float));
        memcpy(out_copy->outputs[i].probabilities, job->outputs[i].probabilities, area * sizeof(float));
        memcpy(out_copy->outputs[i].mask, job->outputs[i].mask, area);
    }
}

static void forget_results(struct job *job) {
    for (int i = 0; i < BATCH; i++) {
        size_t area = (size_t)job->images[i].height * job->images[i].width;
        memset(job->outputs[i].logits, 0xA5, SIZE * SIZE * sizeof(float));
        memset(job->outputs[i].probabilities, 0xA5, area * sizeof(float));
        memset(job->outputs[i].mask, 0xA5, area);
    }
}

static void expect_results(const struct job *job, const struct job *expected) {
    for (uint32_t i = 0; i < job->count; i++) {
        size_t area = (size_t)job->images[i].height * job->images[i].width;
        assert_memory_equal(job->outputs[i].logits, expected->outputs[i].logits, SIZE * SIZE * sizeof(float));
        assert_memory_equal(job->outputs[i].probabilities, expected->outputs[i].probabilities, area * sizeof(float));
        assert_memory_equal(job->outputs[i].mask, expected->outputs[i].mask, area);
    }
}

// Jobs with the results that the plain way gives, one run at a time; forgotten in the jobs themselves.
static void make_jobs(struct test_random *random, struct job *jobs, struct job *expected, uint32_t count) {
    struct hymn_session *session = open_session(plain, 1, false);
    for (uint32_t i = 0; i < count; i++) {
        bool same = i > 0 && i % 3 == 0; // as the one two before: recorded for it already
        uint32_t height = test_random_range(random, 1, MOST_SIDE), width = test_random_range(random, 1, MOST_SIDE);
        make_job(random, same ? jobs[i - 2].images[0].height : height, same ? jobs[i - 2].images[0].width : width,
                 i % 4 == 1, &jobs[i]);
        assert_int_equal(run(session, &jobs[i]), HYMN_STATUS_OK);
        assert_false(session->slots[0].apart);
        copy_results(&jobs[i], &expected[i]);
        forget_results(&jobs[i]);
    }
    hymn_session_destroy(&session);
}

static void free_jobs(struct job *jobs, struct job *expected, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        free_job(&jobs[i]);
        free_job(&expected[i]);
    }
}

static const struct hymn_slot *slot_of(const struct hymn_session *session, const struct job *job) {
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        if (session->slots[i].ticket == job->ticket) {
            return &session->slots[i];
        }
    }
    fail_msg("no run with ticket %llu", (unsigned long long)job->ticket);
    return NULL;
}

// Tickets are waited for in order, as late as the session allows.
static void stream(struct hymn_session *session, struct job *jobs, uint32_t count, bool apart) {
    uint32_t in_flight = session->info.runs_in_flight;
    for (uint32_t i = 0; i < count + in_flight; i++) {
        if (i >= in_flight && i - in_flight < count) {
            assert_int_equal(hymn_session_wait(session, jobs[i - in_flight].ticket), HYMN_STATUS_OK);
        }
        if (i < count) {
            assert_int_equal(submit(session, &jobs[i]), HYMN_STATUS_OK);
            assert_int_equal(slot_of(session, &jobs[i])->apart, apart);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ tests

static void inputs_that_go_ahead_give_the_same_bits(void **state) {
    (void)state;
    struct test_random random = test_random_start("inputs_that_go_ahead_give_the_same_bits");
    struct job jobs[RUNS], expected[RUNS];
    make_jobs(&random, jobs, expected, RUNS);
    assert_true(ahead->device->transfer_queue && hymn_context_device(ahead)->transfer_queue);
    assert_true(!plain->device->transfer_queue && !hymn_context_device(plain)->transfer_queue);
    for (uint32_t in_flight = 1; in_flight <= 3; in_flight++) {
        struct hymn_session *session = open_session(ahead, in_flight, false);
        watch(ahead, 0, VK_SUCCESS);
        stream(session, jobs, RUNS, true);
        assert_true(submissions >= 2 * RUNS); // more on a device so slow that runs are divided
        assert_true(waits == RUNS && signals == RUNS);
        for (uint32_t i = 0; i < RUNS; i++) {
            expect_results(&jobs[i], &expected[i]);
            forget_results(&jobs[i]);
        }
        assert_int_equal(hymn_session_gpu_ms(session) > 0.0, ahead->device->plan.timestamps);
        unwatch(ahead);
        hymn_session_destroy(&session);
    }
    free_jobs(jobs, expected, RUNS);
}

// Two sessions of one context whose runs alternate, and a run that only half fills its batch.
static void sessions_share_the_queues(void **state) {
    (void)state;
    struct test_random random = test_random_start("sessions_share_the_queues");
    struct job jobs[RUNS], expected[RUNS];
    make_jobs(&random, jobs, expected, RUNS);
    struct hymn_session *sessions[2] = {open_session(ahead, 2, false), open_session(ahead, 2, false)};
    jobs[4].count = 1;
    for (uint32_t i = 0; i < RUNS + 3; i++) {
        if (i >= 3) {
            assert_int_equal(hymn_session_wait(sessions[(i - 3) % 2], jobs[i - 3].ticket), HYMN_STATUS_OK);
            expect_results(&jobs[i - 3], &expected[i - 3]);
        }
        if (i < RUNS) {
            assert_int_equal(submit(sessions[i % 2], &jobs[i]), HYMN_STATUS_OK);
        }
    }
    hymn_session_destroy(&sessions[0]);
    hymn_session_destroy(&sessions[1]);
    free_jobs(jobs, expected, RUNS);
}

// HYMN_TRANSFER_AUTO: a single run stays as it was; the input of one that follows another goes ahead while that is not
// done, if it is large and the steps are not timed. One slot takes turns between both.
static void only_runs_that_follow_others_go_ahead(void **state) {
    (void)state;
    struct test_random random = test_random_start("only_runs_that_follow_others_go_ahead");
    struct job large[2], small, expected[3];
    struct hymn_session *session = open_session(plain, 1, false);
    make_job(&random, 300, 302, false, &large[0]); // 2 x 271,800 bytes
    make_job(&random, 300, 302, false, &large[1]);
    make_job(&random, 90, 90, false, &small);
    struct job *jobs[3] = {&large[0], &large[1], &small};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(session, jobs[i]), HYMN_STATUS_OK);
        copy_results(jobs[i], &expected[i]);
    }
    hymn_session_destroy(&session);
    ahead->device->transfer = HYMN_TRANSFER_AUTO;
    for (int timings = 0; timings < 2; timings++) {
        session = open_session(ahead, 2, timings);
        watch(ahead, 0, VK_SUCCESS);
        ahead->device->table.vkGetFenceStatus = told_fence_status;
        for (uint32_t i = 0; i < 12; i++) {
            struct job *first = &large[0], *second = i % 3 == 1 ? &small : &large[1];
            fence_status = i % 2 ? VK_SUCCESS : VK_NOT_READY; // of the first, when the second is submitted
            bool apart = !timings && i % 3 != 1 && fence_status == VK_NOT_READY;
            forget_results(first);
            forget_results(second);
            signals = waits = 0;
            assert_int_equal(submit(session, first), HYMN_STATUS_OK);
            assert_true(signals == 0 && waits == 0);
            assert_false(slot_of(session, first)->apart);
            assert_int_equal(submit(session, second), HYMN_STATUS_OK);
            assert_true(signals == apart && waits == apart);
            assert_int_equal(slot_of(session, second)->apart, apart);
            assert_int_equal(hymn_session_wait(session, (i < 6 ? first : second)->ticket), HYMN_STATUS_OK);
            assert_int_equal(hymn_session_wait(session, (i < 6 ? second : first)->ticket), HYMN_STATUS_OK);
            expect_results(first, &expected[0]);
            expect_results(second, &expected[second == &small ? 2 : 1]);
            if (i == 8) { // the slots change their parts
                assert_int_equal(submit(session, first), HYMN_STATUS_OK);
                assert_int_equal(submit(session, second), HYMN_STATUS_OK);
                assert_int_equal(hymn_session_wait(session, first->ticket), HYMN_STATUS_OK);
                assert_int_equal(submit(session, first), HYMN_STATUS_OK);
                assert_int_equal(hymn_session_wait(session, second->ticket), HYMN_STATUS_OK);
                assert_int_equal(hymn_session_wait(session, first->ticket), HYMN_STATUS_OK);
                expect_results(first, &expected[0]);
            }
        }
        unwatch(ahead);
        hymn_session_destroy(&session);
    }
    ahead->device->transfer = HYMN_TRANSFER_ON;
    for (int i = 0; i < 3; i++) {
        free_job(jobs[i]);
        free_job(&expected[i]);
    }
}

// The device as one behind a bus, into whose memory the host writes up to `bytes` of a run's input.
static void put_behind_bus(struct hymn_context *context, uint64_t bytes) {
    struct hymn_vk_device *device = context->device;
    device->snapshot.unified_memory = device->plan.skip_staging = false; // sessions make plans of their own
    device->direct_bytes = bytes;
}

static void put_back(struct hymn_context *context, const struct hymn_vk_device *before) {
    context->device->snapshot.unified_memory = before->snapshot.unified_memory;
    context->device->plan.skip_staging = before->plan.skip_staging;
    context->device->direct_bytes = before->direct_bytes;
}

// Where `upload` has grown too large for that, it is staged.
static bool expect_way(const struct hymn_session *session, const struct hymn_slot *slot, uint64_t most) {
    bool direct = slot->upload.bytes <= most && session->device->snapshot.visible_bytes > 0;
    bool copies = slot->before_program.steps[0].kind == HYMN_VK_STEP_COPY;
    assert_true(slot->direct == direct && copies == !direct && (slot->copy_bytes > 0) == !direct);
    return direct;
}

// Slots change from one way to the other as their inputs grow.
static void inputs_written_directly_give_the_same_bits(void **state) {
    (void)state;
    struct test_random random = test_random_start("inputs_written_directly_give_the_same_bits");
    const struct hymn_vk_device before = *plain->device;
    const uint64_t most = 100000; // a tensor takes 98,304 bytes
    struct job jobs[RUNS], expected[RUNS];
    make_jobs(&random, jobs, expected, RUNS);
    put_behind_bus(plain, most);
    uint32_t ways[2] = {0, 0};
    for (uint32_t in_flight = 1; in_flight <= 3; in_flight++) {
        struct hymn_session *session = open_session(plain, in_flight, in_flight == 2);
        for (uint32_t i = 0; i < RUNS + in_flight; i++) {
            if (i >= in_flight) {
                assert_int_equal(hymn_session_wait(session, jobs[i - in_flight].ticket), HYMN_STATUS_OK);
                expect_results(&jobs[i - in_flight], &expected[i - in_flight]);
                forget_results(&jobs[i - in_flight]);
            }
            if (i < RUNS) {
                assert_int_equal(submit(session, &jobs[i]), HYMN_STATUS_OK);
                ways[expect_way(session, slot_of(session, &jobs[i]), most)]++;
            }
        }
        hymn_session_destroy(&session);
    }
    put_back(plain, &before);
    assert_true(ways[1] > 0 || before.snapshot.visible_bytes == 0);
    free_jobs(jobs, expected, RUNS);
}

// Though there is a queue that would copy: nothing goes ahead. What lies in the device's memory is not the host's.
static void inputs_written_directly_are_not_copied(void **state) {
    (void)state;
    struct test_random random = test_random_start("inputs_written_directly_are_not_copied");
    const struct hymn_vk_device before = *ahead->device;
    struct job jobs[2], expected[2];
    make_jobs(&random, jobs, expected, 2);
    ahead->device->transfer = HYMN_TRANSFER_AUTO;
    put_behind_bus(ahead, UINT64_MAX);
    struct hymn_session *session = open_session(ahead, 2, false);
    watch(ahead, 0, VK_SUCCESS);
    ahead->device->table.vkGetFenceStatus = told_fence_status;
    fence_status = VK_NOT_READY;
    stream(session, jobs, 2, false);
    assert_true(waits == 0 && signals == 0);
    expect_results(&jobs[0], &expected[0]);
    expect_results(&jobs[1], &expected[1]);
    uint64_t bytes[2] = {0, 0}; // of the device, of the host
    for (int i = 0; i < 2; i++) {
        const struct hymn_slot *slot = &session->slots[i];
        bool direct = expect_way(session, slot, UINT64_MAX);
        bytes[0] += slot->upload.allocated + slot->image.allocated + slot->readback.allocated;
        bytes[1] += slot->readback.allocated + (direct ? 0 : slot->upload.allocated);
    }
    const struct hymn_session_info *info = hymn_session_get_info(session);
    assert_true(info->io_bytes == bytes[0] && info->host_bytes > bytes[1]);
    uint64_t steps = session->program.capacity, rest = sizeof *session;
    for (int i = 0; i < 2; i++) {
        const struct hymn_slot *slot = &session->slots[i];
        steps += slot->before_program.capacity + slot->after_program.capacity;
        rest += BATCH * (sizeof *slot->outputs + sizeof *slot->images + sizeof *slot->places);
    }
    assert_int_equal(info->host_bytes, bytes[1] + rest + steps * sizeof *session->program.steps);
    unwatch(ahead);
    hymn_session_destroy(&session);
    put_back(ahead, &before);
    ahead->device->transfer = HYMN_TRANSFER_ON;
    free_jobs(jobs, expected, 2);
}

// Only the first of many submissions waits for the input; the later ones come after it.
static void divided_runs_wait_once(void **state) {
    (void)state;
    struct test_random random = test_random_start("divided_runs_wait_once");
    struct job jobs[3], expected[3];
    make_jobs(&random, jobs, expected, 3);
    divide_runs(ahead);
    struct hymn_session *session = open_session(ahead, 2, false);
    watch(ahead, 0, VK_SUCCESS);
    assert_int_equal(run(session, &jobs[0]), HYMN_STATUS_OK);
    assert_true(submissions > 5);
    assert_true(signals == 1 && waits == 1 && last_wait == 2);
    stream(session, jobs, 3, true);
    for (int i = 0; i < 3; i++) {
        expect_results(&jobs[i], &expected[i]);
    }
    unwatch(ahead);
    hymn_session_destroy(&session);
    divide_no_runs(ahead);
    free_jobs(jobs, expected, 3);
}

// A submission that the driver refuses, be it the input's, the run's first or a later one: the run fails, the one
// before it is whole, and so is the next.
static void refused_submissions_leave_a_usable_session(void **state) {
    (void)state;
    struct test_random random = test_random_start("refused_submissions_leave_a_usable_session");
    struct job jobs[2], expected[2];
    make_jobs(&random, jobs, expected, 2);
    for (uint32_t at = 1; at <= 4; at++) {
        if (at == 3) {
            divide_runs(ahead);
        }
        struct hymn_session *session = open_session(ahead, 2, false);
        for (int other = 0; other < 2; other++) { // alone, and with another run in flight
            watch(ahead, 0, VK_SUCCESS);
            if (other) {
                assert_int_equal(submit(session, &jobs[0]), HYMN_STATUS_OK);
            }
            watch(ahead, at, at % 2 ? VK_ERROR_OUT_OF_HOST_MEMORY : VK_ERROR_OUT_OF_DEVICE_MEMORY);
            uint64_t before = session->last_ticket;
            assert_int_equal(submit(session, &jobs[1]),
                             at % 2 ? HYMN_STATUS_OUT_OF_MEMORY : HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
            assert_true(jobs[1].ticket == 0 && session->last_ticket == before);
            watch(ahead, 0, VK_SUCCESS);
            for (int again = 0; again < 2; again++) {
                assert_int_equal(run(session, &jobs[1]), HYMN_STATUS_OK);
                expect_results(&jobs[1], &expected[1]);
                forget_results(&jobs[1]);
            }
            if (other) {
                assert_int_equal(hymn_session_wait(session, jobs[0].ticket), HYMN_STATUS_OK);
                expect_results(&jobs[0], &expected[0]);
                forget_results(&jobs[0]);
            }
            unwatch(ahead);
        }
        hymn_session_destroy(&session);
    }
    divide_no_runs(ahead);
    free_jobs(jobs, expected, 2);
}

static VKAPI_ATTR VkResult VKAPI_CALL no_semaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
                                                   const VkAllocationCallbacks *allocator, VkSemaphore *semaphore) {
    (void)device, (void)info, (void)allocator, (void)semaphore;
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

static VKAPI_ATTR VkResult VKAPI_CALL no_pool(VkDevice device, const VkCommandPoolCreateInfo *info,
                                              const VkAllocationCallbacks *allocator, VkCommandPool *pool) {
    (void)device, (void)info, (void)allocator, (void)pool;
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

static uint32_t calls, call_fails_at; // of the next three, together

static VKAPI_ATTR VkResult VKAPI_CALL failing_allocate(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                                       VkCommandBuffer *buffers) {
    return ++calls == call_fails_at ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                    : real.vkAllocateCommandBuffers(device, info, buffers);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_begin(VkCommandBuffer buffer, const VkCommandBufferBeginInfo *info) {
    return ++calls == call_fails_at ? VK_ERROR_OUT_OF_DEVICE_MEMORY : real.vkBeginCommandBuffer(buffer, info);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_end(VkCommandBuffer buffer) {
    VkResult result = real.vkEndCommandBuffer(buffer);
    return ++calls == call_fails_at ? VK_ERROR_OUT_OF_DEVICE_MEMORY : result;
}

// Every call that makes or records something for a run fails once; the next run makes up for it.
static void what_cannot_be_made_is_made_later(void **state) {
    (void)state;
    struct test_random random = test_random_start("what_cannot_be_made_is_made_later");
    struct job job, expected;
    make_jobs(&random, &job, &expected, 1);
    bool failed = true;
    uint32_t step = 0;
    for (; failed && step < 100; step++) {
        struct hymn_session *session = open_session(ahead, 1, false);
        struct VolkDeviceTable *table = &ahead->device->table;
        watch(ahead, 0, VK_SUCCESS);
        calls = 0;
        call_fails_at = step >= 2 ? step - 1 : 0;
        if (step == 0) {
            table->vkCreateSemaphore = no_semaphore;
        } else if (step == 1) {
            table->vkCreateCommandPool = no_pool;
        } else {
            table->vkAllocateCommandBuffers = failing_allocate;
            table->vkBeginCommandBuffer = failing_begin;
            table->vkEndCommandBuffer = failing_end;
        }
        enum hymn_status status = run(session, &job);
        failed = status != HYMN_STATUS_OK;
        assert_true(!failed || status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        unwatch(ahead);
        assert_int_equal(run(session, &job), HYMN_STATUS_OK);
        expect_results(&job, &expected);
        forget_results(&job);
        hymn_session_destroy(&session);
    }
    assert_int_equal(step, 2 + 9 + 1); // what follows, what comes before and the copy: three calls each
    free_jobs(&job, &expected, 1);
}

// Lost at the input's submission, and at the run's while another is in flight: a status, and what is left can be
// destroyed. (Few contexts: software devices take long for the pipelines of each.)
static void lost_device_is_a_status(void **state) {
    (void)state;
    struct test_random random = test_random_start("lost_device_is_a_status");
    struct job jobs[2], expected[2];
    make_jobs(&random, jobs, expected, 2);
    for (uint32_t where = 0; where < 2; where++) {
        struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_ON);
        assert_non_null(lost);
        struct hymn_session *session = open_session(lost, 2, false);
        assert_int_equal(run(session, &jobs[0]), HYMN_STATUS_OK);
        if (where == 1) {
            assert_int_equal(submit(session, &jobs[0]), HYMN_STATUS_OK);
        }
        watch(lost, 1 + where, VK_ERROR_DEVICE_LOST);
        assert_int_equal(run(session, &jobs[1]), HYMN_STATUS_DEVICE_LOST);
        assert_int_equal(submit(session, &jobs[1]), HYMN_STATUS_DEVICE_LOST);
        if (where == 1) {
            assert_int_equal(hymn_session_wait(session, jobs[0].ticket), HYMN_STATUS_DEVICE_LOST);
        }
        unwatch(lost);
        lost->device->table.vkQueueWaitIdle(lost->device->queues[0]); // it was not lost in truth
        lost->device->table.vkQueueWaitIdle(lost->device->transfer_queue);
        hymn_session_destroy(&session);
        assert_int_equal(test_context_close(&lost), 0);
    }
    free_jobs(jobs, expected, 2);
}

// With everything in flight, and the next one begins at once.
static void sessions_end_with_runs_in_flight(void **state) {
    (void)state;
    struct test_random random = test_random_start("sessions_end_with_runs_in_flight");
    struct job jobs[3], expected[3];
    make_jobs(&random, jobs, expected, 3);
    for (int again = 0; again < 2; again++) {
        struct hymn_session *session = open_session(ahead, 3, false);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(submit(session, &jobs[i]), HYMN_STATUS_OK);
        }
        hymn_session_destroy(&session);
    }
    free_jobs(jobs, expected, 3);
}

static void unknown_ways_are_refused(void **state) {
    (void)state;
    struct hymn_context_params params = {.transfer = (enum hymn_transfer)3};
    struct hymn_context *context = plain;
    assert_int_equal(hymn_context_create(&params, &context), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(context);
}

static int open_contexts(void **state) {
    (void)state;
    golden_load("one_stage_conv", &golden);
    plain = test_context_open_with(HYMN_TRANSFER_OFF);
    ahead = test_context_open_with(HYMN_TRANSFER_ON);
    return plain && ahead ? 0 : -1;
}

static int close_contexts(void **state) {
    (void)state;
    golden_free(&golden);
    int first = test_context_close(&plain), second = test_context_close(&ahead);
    return first || second ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_that_go_ahead_give_the_same_bits),
        cmocka_unit_test(sessions_share_the_queues),
        cmocka_unit_test(only_runs_that_follow_others_go_ahead),
        cmocka_unit_test(inputs_written_directly_give_the_same_bits),
        cmocka_unit_test(inputs_written_directly_are_not_copied),
        cmocka_unit_test(divided_runs_wait_once),
        cmocka_unit_test(refused_submissions_leave_a_usable_session),
        cmocka_unit_test(what_cannot_be_made_is_made_later),
        cmocka_unit_test(lost_device_is_a_status),
        cmocka_unit_test(sessions_end_with_runs_in_flight),
        cmocka_unit_test(unknown_ways_are_refused),
    };
    return cmocka_run_group_tests_name("api_transfer", tests, open_contexts, close_contexts);
}
