// SPDX-License-Identifier: MIT
//
// Sessions on devices that are slow, that are lost, or whose memory is too small: faults are injected where the driver
// would report them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_log.h"
#include "vk/divide.h"
#include "vk/memory.h"

static struct hymn_context *context, *usual; // usual: while a test has another in its place
static struct hymn_vk_snapshot as_opened;    // of the context's device
static enum hymn_tier tier_as_opened;
static struct golden golden;
static PFN_vkQueueSubmit real_submit;
static PFN_vkWaitForFences real_wait;
static uint32_t submissions, most_buffers, submit_fails_at; // 1: the next one; 0: never
static VkResult submit_failure = VK_ERROR_DEVICE_LOST;

static VKAPI_ATTR VkResult VKAPI_CALL counting_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos,
                                                      VkFence fence) {
    submissions++;
    most_buffers = infos->commandBufferCount > most_buffers ? infos->commandBufferCount : most_buffers;
    if (submissions == submit_fails_at) {
        return submit_failure;
    }
    return real_submit(queue, count, infos, fence);
}

// A device that is lost in truth is done with everything; so is this one when it says so.
static VKAPI_ATTR VkResult VKAPI_CALL lost_wait(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
                                                uint64_t timeout) {
    real_wait(device, count, fences, all, timeout);
    return VK_ERROR_DEVICE_LOST;
}

static void lose_while_waiting(struct hymn_context *of) {
    real_wait = of->device->table.vkWaitForFences;
    of->device->table.vkWaitForFences = lost_wait;
}

static void count_submissions(struct hymn_context *of, uint32_t fails_at) {
    if (of->device->table.vkQueueSubmit != counting_submit) {
        real_submit = of->device->table.vkQueueSubmit;
        of->device->table.vkQueueSubmit = counting_submit;
    }
    submissions = most_buffers = 0;
    submit_fails_at = fails_at;
}

// The same device as if its memory were behind a bus: what the host writes and reads is staged. NULL: as of
// test_context_open.
static struct hymn_context *open_behind_a_bus(void) {
    struct hymn_context *opened = test_context_open_with(HYMN_TRANSFER_AUTO);
    if (opened) {
        opened->device->snapshot.unified_memory = opened->device->plan.skip_staging = false;
    }
    return opened;
}

static struct hymn_session *open_session(struct hymn_context *on, enum hymn_precision precision, enum hymn_tier tier) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = golden.height,
        .width = golden.width,
        .batch = golden.batch,
        .precision = precision,
        .tier = tier,
        .tuning_ms = HYMN_TUNING_NONE}; // sessions are compared with each other: the same ways of each operator
    assert_int_equal(hymn_session_create(on, golden.model, &params, &session), HYMN_STATUS_OK);
    return session;
}

static enum hymn_status run(struct hymn_session *session, float *logits) {
    struct hymn_output outputs[8] = {{0}};
    memset(logits, 0xFF, golden.output_count * sizeof *logits);
    for (uint32_t i = 0; i < golden.batch; i++) {
        outputs[i].logits = logits + i * (golden.output_count / golden.batch);
    }
    struct hymn_run_params params = {.tensor = golden.input, .outputs = outputs};
    return hymn_session_run(session, &params);
}

static float *new_logits(void) {
    float *logits = malloc(golden.output_count * sizeof *logits);
    assert_non_null(logits);
    return logits;
}

// ------------------------------------------------------------------------------------------------------ submissions

static uint32_t sliced_steps(const struct hymn_session *session) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < session->program.count; i++) {
        count += session->program.steps[i].slices > 1;
    }
    return count;
}

// Runs cut into a few submissions, and into hundreds with dispatches cut into slices: the bits stay the same.
static void divided_runs_give_the_same_bits(void **state) {
    (void)state;
    const uint32_t parts[] = {200, 10, 200}; // for each tier; few, as making pipelines takes software devices long
    const enum hymn_tier tiers[] = {HYMN_TIER_BASE, HYMN_TIER_AUTO, HYMN_TIER_MATRIX};
    float *whole = new_logits(), *divided = new_logits();
    for (int i = 0; i < 3; i++) {
        enum hymn_precision precision = i == 0 ? HYMN_PRECISION_FP32 : HYMN_PRECISION_FP16;
        context->device->slowness = 1.0; // whatever a busy machine has taught it
        test_context_shrink_tiles(context, tiers[i], 0);
        struct hymn_session *session = open_session(context, precision, tiers[i]);
        count_submissions(context, 0);
        assert_int_equal(run(session, whole), HYMN_STATUS_OK);
        assert_int_equal(submissions, 1);
        assert_int_equal(most_buffers, 3);
        context->device->slowness = 1.0;
        assert_int_equal(sliced_steps(session), 0);
        context->device->submission_seconds = session->seconds / parts[i];
        hymn_session_destroy(&session);
        session = open_session(context, precision, tiers[i]);
        count_submissions(context, 0);
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_true(submissions >= (i == 1 ? 5 : session->program.count / 2)); // not all can be cut so finely
        assert_true(i == 1 || sliced_steps(session) > 0);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        hymn_session_destroy(&session);
        context->device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
    }
    hymn_conv2d_matrix_force(NULL);
    free(whole);
    free(divided);
}

// A device that is found slower than thought: the next run is divided, with the same result.
static void runs_adapt_to_a_slow_device(void **state) {
    (void)state;
    float *whole = new_logits(), *divided = new_logits();
    double slowness = context->device->slowness = 1.0;
    struct hymn_session *session = open_session(context, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    count_submissions(context, 0);
    assert_int_equal(run(session, whole), HYMN_STATUS_OK);
    assert_int_equal(submissions, 1);
    context->device->slowness = slowness * 4.0 * HYMN_VK_SUBMISSION_SECONDS / (session->seconds * slowness);
    count_submissions(context, 0);
    assert_int_equal(run(session, divided), HYMN_STATUS_OK);
    assert_true(submissions >= 4);
    assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
    if (context->device->plan.timestamps) { // it was fast after all, which that run has shown
        assert_true(context->device->slowness < slowness * 4.0 * HYMN_VK_SUBMISSION_SECONDS / session->seconds);
    }
    count_submissions(context, 0);
    for (uint32_t i = 1; i <= 2; i++) {
        context->device->slowness = slowness;
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_int_equal(submissions, i);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
    }
    hymn_session_destroy(&session);
    free(whole);
    free(divided);
}

static uint64_t submit_run(struct hymn_session *session, float *logits) {
    struct hymn_output output = {.logits = logits};
    struct hymn_run_params params = {.tensor = golden.input, .outputs = &output, .count = 1};
    uint64_t ticket = 0;
    assert_int_equal(hymn_session_submit(session, &params, &ticket), HYMN_STATUS_OK);
    return ticket;
}

// Without timestamps the host's clock corrects the estimate, where it knows when a run began and ended.
static void runs_are_timed_by_the_host_without_timestamps(void **state) {
    (void)state;
    struct hymn_context *opened = test_context_open_with(HYMN_TRANSFER_AUTO);
    assert_non_null(opened);
    struct hymn_vk_device *device = opened->device;
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = golden.height,
                                         .width = golden.width,
                                         .batch = golden.batch,
                                         .runs_in_flight = 2,
                                         .tuning_ms = HYMN_TUNING_NONE};
    float *logits[] = {new_logits(), new_logits()};
    device->snapshot.timestamp_bits = 0;
    device->plan.timestamps = false;
    assert_int_equal(hymn_session_create(opened, golden.model, &params, &session), HYMN_STATUS_OK);
    device->slowness = 1e-5;
    device->submission_seconds = 1e-6; // all runs are long
    const uint64_t first = submit_run(session, logits[0]), second = submit_run(session, logits[1]);
    assert_int_equal(hymn_session_wait(session, first), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_wait(session, second), HYMN_STATUS_OK);
    assert_true(device->slowness == 1e-5); // of two at a time
    const uint64_t late = submit_run(session, logits[0]);
    while (!hymn_vk_done(device, session->slots[0].fence)) {
    }
    assert_int_equal(hymn_session_wait(session, late), HYMN_STATUS_OK);
    assert_true(device->slowness == 1e-5);                           // of one that ended sometime
    for (uint32_t i = 0; i < 100 && device->slowness == 1e-5; i++) { // unless it has ended by then
        assert_int_equal(hymn_session_wait(session, submit_run(session, logits[0])), HYMN_STATUS_OK);
    }
    assert_true(device->slowness > 1.25e-5);
    assert_true(session->gpu_ms < 0.0);
    hymn_session_destroy(&session);
    assert_int_equal(test_context_close(&opened), 0);
    free(logits[0]);
    free(logits[1]);
}

static PFN_vkBeginCommandBuffer real_begin;
static uint32_t begin_fails_at; // 1: the next one

static VKAPI_ATTR VkResult VKAPI_CALL failing_begin(VkCommandBuffer buffer, const VkCommandBufferBeginInfo *info) {
    return begin_fails_at > 0 && --begin_fails_at == 0 ? VK_ERROR_OUT_OF_HOST_MEMORY : real_begin(buffer, info);
}

// Memory that runs out while a network is divided anew: what is recorded of it by then is never submitted.
static void networks_half_recorded_are_recorded_again(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    float *whole = new_logits(), *divided = new_logits();
    device->slowness = 1.0;
    struct hymn_session *session = open_session(context, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(run(session, whole), HYMN_STATUS_OK);
    real_begin = device->table.vkBeginCommandBuffer;
    device->table.vkBeginCommandBuffer = failing_begin;
    for (begin_fails_at = 1; begin_fails_at <= 3; begin_fails_at++) {
        const uint32_t at = begin_fails_at;
        device->slowness = (4.0 + at) * HYMN_VK_SUBMISSION_SECONDS / session->seconds;
        assert_int_equal(run(session, divided), HYMN_STATUS_OUT_OF_MEMORY);
        assert_int_equal(begin_fails_at, 0);
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        begin_fails_at = at;
    }
    device->table.vkBeginCommandBuffer = real_begin;
    hymn_session_destroy(&session);
    free(whole);
    free(divided);
}

static PFN_vkDeviceWaitIdle real_wait_idle;
static uint32_t waits, waits_idle, idle_fails; // idle_fails: how many of the next of these fail

// Gives up at once, as drivers may, the first two times.
static VKAPI_ATTR VkResult VKAPI_CALL failing_wait(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
                                                   uint64_t timeout) {
    waits++;
    return waits == 1   ? VK_TIMEOUT
           : waits == 2 ? VK_ERROR_OUT_OF_HOST_MEMORY
                        : real_wait(device, count, fences, all, timeout);
}

static VKAPI_ATTR VkResult VKAPI_CALL counting_wait_idle(VkDevice device) {
    waits_idle++;
    if (idle_fails > 0) {
        idle_fails--;
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    return real_wait_idle(device);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_queue_wait_idle(VkQueue queue) {
    (void)queue;
    return VK_ERROR_OUT_OF_HOST_MEMORY;
}

// Nothing of the run is pending when the status is there: the next one may use its buffers, or they may go.
static void waits_that_fail_leave_nothing_pending(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    float *first = new_logits(), *second = new_logits();
    struct hymn_session *session = open_session(context, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(run(session, first), HYMN_STATUS_OK);
    real_wait = device->table.vkWaitForFences;
    real_wait_idle = device->table.vkDeviceWaitIdle;
    device->table.vkWaitForFences = failing_wait;
    device->table.vkDeviceWaitIdle = counting_wait_idle;
    waits = waits_idle = 0;
    assert_int_equal(run(session, second), HYMN_STATUS_OUT_OF_MEMORY);
    assert_int_equal(waits, 2);
    assert_int_equal(waits_idle, 1);
    assert_int_equal(run(session, second), HYMN_STATUS_OK);
    assert_int_equal(waits_idle, 1);
    assert_memory_equal(first, second, golden.output_count * sizeof *first);
    device->table.vkWaitForFences = real_wait;
    device->table.vkDeviceWaitIdle = real_wait_idle;
    hymn_session_destroy(&session);
    free(first);
    free(second);
}

// Runs that fail in their midst, with and without an input that goes ahead. Where the device can tell when what was
// submitted is done, the next run is as any; where it cannot, it counts as lost, and what may be in use goes only after
// another wait.
static void runs_that_fail_midway_leave_nothing_pending(void **state) {
    (void)state;
    float *first = new_logits(), *second = new_logits();
    for (int ahead = 0; ahead < 2; ahead++) {
        struct hymn_context *opened = test_context_open_with(ahead ? HYMN_TRANSFER_ON : HYMN_TRANSFER_OFF);
        assert_non_null(opened);
        struct hymn_vk_device *device = opened->device;
        const uint32_t drained = 1 + (uint32_t)ahead; // queues that are waited for
        PFN_vkQueueWaitIdle real_queue_wait_idle = device->table.vkQueueWaitIdle;
        device->submission_seconds = 1e-5;
        struct hymn_session *session = open_session(opened, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(run(session, first), HYMN_STATUS_OK);
        real_wait_idle = device->table.vkDeviceWaitIdle;
        device->table.vkDeviceWaitIdle = counting_wait_idle;
        device->table.vkQueueWaitIdle = failing_queue_wait_idle;
        submit_failure = VK_ERROR_OUT_OF_HOST_MEMORY;
        for (uint32_t fails = 0; fails <= drained; fails += drained) {
            count_submissions(opened, 3);
            waits_idle = 0;
            idle_fails = fails;
            assert_int_equal(run(session, second), HYMN_STATUS_OUT_OF_MEMORY);
            assert_int_equal(waits_idle, drained);
            assert_int_equal(run(session, second), fails ? HYMN_STATUS_DEVICE_LOST : HYMN_STATUS_OK);
            assert_true(fails || memcmp(first, second, golden.output_count * sizeof *first) == 0);
        }
        waits_idle = 0;
        hymn_session_destroy(&session);
        assert_true(waits_idle > 0);
        device->table.vkQueueSubmit = real_submit;
        device->table.vkQueueWaitIdle = real_queue_wait_idle;
        device->table.vkDeviceWaitIdle = real_wait_idle;
        assert_int_equal(test_context_close(&opened), 0);
    }
    free(first);
    free(second);
}

// -------------------------------------------------------------------------------------------------------- lost device

// Everything on the context says so from then on.
static void expect_lost(struct hymn_context *lost, struct hymn_session *session, float *logits) {
    struct hymn_session *other = NULL;
    uint64_t ticket = 7;
    struct hymn_output output = {.logits = logits};
    struct hymn_run_params params = {.tensor = golden.input, .outputs = &output, .count = 1};
    assert_int_equal(run(session, logits), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_session_submit(session, &params, &ticket), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(ticket, 0);
    assert_int_equal(hymn_session_create(lost, golden.model, NULL, &other), HYMN_STATUS_DEVICE_LOST);
    assert_null(other);
}

// Another context works, beside a lost one too.
static void expect_new_one(float *logits) {
    struct hymn_context *fresh = test_context_open_with(HYMN_TRANSFER_AUTO);
    assert_non_null(fresh);
    struct hymn_session *other = open_session(fresh, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(run(other, logits), HYMN_STATUS_OK);
    assert_true(golden_nmse(logits, golden.output, golden.output_count) <= 1e-9);
    hymn_session_destroy(&other);
    assert_int_equal(test_context_close(&fresh), 0);
}

static void lost_device_is_a_status(void **state) {
    (void)state;
    float *logits = new_logits();
    for (int where = 0; where < 3; where++) {
        struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_AUTO);
        assert_non_null(lost);
        lost->device->submission_seconds = where == 1 ? 1e-5 : HYMN_VK_SUBMISSION_SECONDS;
        struct hymn_session *session = open_session(lost, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(run(session, logits), HYMN_STATUS_OK);
        if (where < 2) { // at once, and in the midst of many submissions
            count_submissions(lost, where == 0 ? 1 : 5);
        } else {
            lose_while_waiting(lost);
        }
        assert_int_equal(run(session, logits), HYMN_STATUS_DEVICE_LOST);
        if (where < 2) {
            lost->device->table.vkQueueSubmit = real_submit;
        }
        lost->device->table.vkQueueWaitIdle(lost->device->queues[0]); // it was not lost in truth
        expect_lost(lost, session, logits);
        if (where == 2) {
            expect_new_one(logits);
        }
        hymn_session_destroy(&session);
        assert_int_equal(test_context_close(&lost), 0);
    }
    free(logits);
}

// Long runs that lose a device may have taken longer than a driver lets them: the next context divides more finely.
static void losses_of_long_runs_are_of_slow_devices(void **state) {
    (void)state;
    float *logits = new_logits();
    for (int i = 0; i < 3; i++) { // a short run, a long one, and a long one that is lost when it is submitted
        struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_AUTO);
        assert_non_null(lost);
        struct hymn_session *session = open_session(lost, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        const double slowness = (i == 0 ? 0.05 : 0.3) / session->seconds;
        lost->device->slowness = slowness;
        if (i < 2) {
            lose_while_waiting(lost);
        } else {
            count_submissions(lost, 1);
        }
        for (int time = 0; time < 2; time++) { // once is enough
            assert_int_equal(run(session, logits), HYMN_STATUS_DEVICE_LOST);
            assert_true(lost->device->slowness == (i == 0 ? slowness : fmin(4.0 * slowness, 1e6)));
        }
        if (i == 2) {
            lost->device->table.vkQueueSubmit = real_submit;
        }
        hymn_session_destroy(&session);
        assert_int_equal(test_context_close(&lost), 0);
    }
    free(logits);
}

// The self-test's own run can meet it too: no verdict is made of it.
static void device_lost_in_the_self_test(void **state) {
    (void)state;
    struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_AUTO);
    struct hymn_session *session = NULL;
    assert_non_null(lost);
    lose_while_waiting(lost);
    struct hymn_selftest *selftest = NULL;
    assert_int_equal(hymn_selftest_create(lost, NULL, &selftest), HYMN_STATUS_DEVICE_LOST);
    assert_null(selftest);
    assert_int_equal(hymn_session_create(lost, golden.model, NULL, &session), HYMN_STATUS_DEVICE_LOST);
    for (size_t i = 0; i < sizeof lost->device->checked / sizeof *lost->device->checked; i++) {
        assert_int_equal(lost->device->checked[i], 0);
    }
    assert_int_equal(test_context_close(&lost), 0);
}

// --------------------------------------------------------------------------------------------------------- too little

static PFN_vkAllocateMemory real_allocate;
static uint64_t peak; // the most that was allocated of the context's device

static VKAPI_ATTR VkResult VKAPI_CALL watching_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                                        const VkAllocationCallbacks *callbacks,
                                                        VkDeviceMemory *memory) {
    uint64_t bytes = context->device->memory_bytes + info->allocationSize;
    peak = bytes > peak ? bytes : peak;
    return real_allocate(device, info, callbacks, memory);
}

// The least cap under which a session of this size and batch can be made. Where weights are staged, it holds their
// staging too, which is gone afterwards.
static uint64_t least_cap(uint32_t height, uint32_t width, uint32_t batch) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = height, .width = width, .batch = batch, .tuning_ms = HYMN_TUNING_NONE};
    real_allocate = context->device->table.vkAllocateMemory;
    context->device->table.vkAllocateMemory = watching_allocate;
    for (int i = 0; i < 2; i++) { // in the first, shaders may be tested
        peak = 0;
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        assert_true(peak >= context->device->memory_bytes);
        hymn_session_destroy(&session);
    }
    context->device->table.vkAllocateMemory = real_allocate;
    return peak;
}

static void submit_all(struct hymn_session *session, const struct hymn_run_params *params) {
    uint64_t tickets[HYMN_SESSION_MAX_SLOTS];
    const uint32_t count = hymn_session_get_info(session)->runs_in_flight;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(hymn_session_submit(session, params, &tickets[i]), HYMN_STATUS_OK);
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(hymn_session_wait(session, tickets[i]), HYMN_STATUS_OK);
    }
}

// As many as may be in flight, of images of the session's size; all: of tensors too, with all outputs, not masks alone.
static void expect_runs(struct hymn_session *session, bool all) {
    enum { MOST_BATCH = 12 };
    const struct hymn_session_info *info = hymn_session_get_info(session);
    const size_t area = (size_t)info->height * info->width, floats = area * session->num_classes;
    uint8_t *pixels = calloc(area, 3), *mask = malloc(area);
    float *logits = malloc(2 * floats * sizeof *logits);
    float *tensor = calloc(info->batch * area * session->in_channels, sizeof *tensor);
    struct hymn_image images[MOST_BATCH];
    struct hymn_output outputs[MOST_BATCH];
    assert_true(pixels && mask && logits && tensor && info->batch <= MOST_BATCH);
    for (uint32_t i = 0; i < info->batch; i++) {
        images[i] = (struct hymn_image){.pixels = pixels, .height = info->height, .width = info->width};
        outputs[i] = (struct hymn_output){all ? logits : NULL, all ? logits + floats : NULL, mask};
    }
    submit_all(session, &(struct hymn_run_params){.images = images, .outputs = outputs});
    if (all) {
        submit_all(session, &(struct hymn_run_params){.tensor = tensor, .outputs = outputs});
    }
    free(pixels);
    free(mask);
    free(logits);
    free(tensor);
}

// Of such a size, and with memory for all outputs of its runs; batch 0: none.
static void expect_session(const struct hymn_session_params *params, uint32_t height, uint32_t width, uint32_t batch) {
    struct hymn_session *session = NULL;
    enum hymn_status status = hymn_session_create(context, golden.model, params, &session);
    if (batch == 0) {
        assert_int_equal(status, HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        assert_null(session);
        return;
    }
    assert_int_equal(status, HYMN_STATUS_OK);
    const struct hymn_session_info *info = hymn_session_get_info(session);
    assert_int_equal(info->height, height);
    assert_int_equal(info->width, width);
    assert_int_equal(info->batch, batch);
    assert_int_equal(session->log.level, HYMN_LOG_WARNING); // its own log, not the one of the tries
    assert_ptr_equal(session->log.callback, context->device->log.callback);
    expect_runs(session, true);
    hymn_session_destroy(&session);
}

static void smaller_sessions_where_allowed(void **state) {
    (void)state;
    const uint64_t before = context->device->memory_bytes;
    const uint64_t three = least_cap(64, 64, 3), small = least_cap(33, 32, 1);
    assert_true(before < small && small < least_cap(64, 64, 1) && three < least_cap(64, 64, 6));
    hymn_vk_memory_cap(context->device, three);
    struct hymn_session_params params = {.height = 64, .width = 64, .batch = 24, .tuning_ms = HYMN_TUNING_NONE};
    expect_session(&params, 0, 0, 0);
    params.min_batch = 10;
    expect_session(&params, 0, 0, 0); // 24, 12, 10
    params.min_batch = 1;
    expect_session(&params, 64, 64, 3);
    params.batch = params.min_batch = 3;
    expect_session(&params, 64, 64, 3);
    hymn_vk_memory_cap(context->device, three - 1);
    params.min_batch = 1;
    expect_session(&params, 64, 64, 2); // the network of three would fit
    hymn_vk_memory_cap(context->device, small);
    params.batch = 5;
    params.min_batch = 1;
    expect_session(&params, 0, 0, 0); // not even one
    params.min_height = 33;
    params.min_width = 20;
    expect_session(&params, 33, 32, 1);
    params.min_height = params.min_width = 64;
    expect_session(&params, 0, 0, 0);
    hymn_vk_memory_cap(context->device, 0);
    expect_session(&params, 64, 64, 5);
    assert_int_equal(context->device->memory_bytes, before);
}

// Where no smaller one is allowed, memory for all that a run may ask for need not be there.
static void sessions_of_one_size_need_no_room(void **state) {
    (void)state;
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = 64, .width = 64, .batch = 3, .tuning_ms = HYMN_TUNING_NONE};
    hymn_vk_memory_cap(context->device, least_cap(64, 64, 3) - 1);
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_get_info(session)->batch, 3);
    expect_runs(session, false);
    hymn_session_destroy(&session);
}

// As on a discrete GPU, on any.
static void smaller_sessions_behind_a_bus(void **state) {
    assert_false(context->device->plan.skip_staging);
    smaller_sessions_where_allowed(state);
}

// What is missing is told to the session's log, whatever the context's is, when a session is made and when it runs.
static void sessions_tell_their_own_log(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    struct test_log log, others;
    const struct hymn_log own = device->log, sink = test_log_start(&log);
    float *logits = new_logits();
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.log = sink,
                                         .height = golden.height,
                                         .width = golden.width,
                                         .batch = golden.batch,
                                         .tuning_ms = HYMN_TUNING_NONE};
    device->log = test_log_start(&others);
    hymn_vk_memory_cap(device, device->memory_bytes + 1);
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_log(&log, "of device memory are needed");
    assert_int_equal(others.errors, 0);
    hymn_vk_memory_cap(device, 0);
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    hymn_vk_memory_cap(device, device->memory_bytes + 1);
    test_log_start(&log);
    assert_int_equal(run(session, logits), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_log(&log, "of device memory are needed");
    assert_int_equal(others.errors, 0);
    hymn_vk_memory_cap(device, 0);
    assert_int_equal(run(session, logits), HYMN_STATUS_OK);
    assert_ptr_equal(device->log.user, &others); // its own again
    hymn_session_destroy(&session);
    device->log = own;
    free(logits);
}

// Sessions of all sizes that are tried have one time for tuning, which the first may take whole.
static void sizes_that_are_tried_share_the_tuning(void **state) {
    (void)state;
    struct test_log log;
    context->device->snapshot.type = HYMN_DEVICE_TYPE_DISCRETE_GPU; // processors are not tuned
    context->device->trust_variants = true;                         // what is computed does not matter
    context->device->tier = HYMN_TIER_WIDE;                         // emulated matrices take minutes to compile
    hymn_vk_memory_cap(context->device, least_cap(64, 64, 3));
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .log = test_log_start(&log), .height = 64, .width = 64, .batch = 12, .min_batch = 1, .tuning_ms = 1};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_get_info(session)->batch, 3);
    if (session->plan.timestamps) {
        assert_true(hymn_session_get_info(session)->tuning_ms >= 1.0);
        const char *rest = strstr(log.text, "trying 64x64, batch 6"); // without pipelines and memory for trials
        assert_true(rest && !strstr(rest, "tuning: ") && !strstr(rest, "pipelines made") && !strstr(rest, "own rule"));
    }
    hymn_session_destroy(&session);
}

// A tensor beyond the largest binding: named, or a smaller batch.
static void small_bindings_are_refused_or_fitted(void **state) {
    (void)state;
    uint64_t range = context->device->snapshot.max_storage_buffer_range;
    context->device->snapshot.max_storage_buffer_range = (uint64_t)1 << 27;
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = 512, .width = 512, .batch = 256, .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_UNSUPPORTED);
    assert_null(session);
    params.min_batch = 2;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_true(hymn_session_get_info(session)->batch < 256 && hymn_session_get_info(session)->batch >= 2);
    hymn_session_destroy(&session);
    context->device->snapshot.max_storage_buffer_range = range;
}

// A tensor that 32-bit offsets do not reach is refused by its name before anything is computed from its size, whatever
// the device claims to bind.
static void offsets_beyond_32_bits_are_refused(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_log sink = test_log_start(&log);
    uint64_t range = context->device->snapshot.max_storage_buffer_range;
    context->device->snapshot.max_storage_buffer_range = UINT64_MAX;
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.log = sink, .height = 32768, .width = 32768, .batch = 1024};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_UNSUPPORTED);
    assert_log(&log, "which 32-bit offsets do not reach");
    params.batch = 1;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_UNSUPPORTED);
    struct hymn_summary *summary = NULL;
    struct hymn_summary_params what = {.height = 32768, .width = 32768, .batch = 1024};
    assert_int_equal(hymn_summary_create(golden.model, &what, &summary), HYMN_STATUS_UNSUPPORTED);
    assert_null(summary);
    context->device->snapshot.max_storage_buffer_range = range;
}

// ------------------------------------------------------------------------------------------------------------- memory

static PFN_vkFlushMappedMemoryRanges real_flush;
static PFN_vkInvalidateMappedMemoryRanges real_invalidate;
static uint32_t flushes, invalidates;

static VKAPI_ATTR VkResult VKAPI_CALL counting_flush(VkDevice device, uint32_t count,
                                                     const VkMappedMemoryRange *ranges) {
    flushes++;
    return real_flush(device, count, ranges);
}

static VKAPI_ATTR VkResult VKAPI_CALL counting_invalidate(VkDevice device, uint32_t count,
                                                          const VkMappedMemoryRange *ranges) {
    invalidates++;
    return real_invalidate(device, count, ranges);
}

// The same device as if its memory were of another kind: behind a bus (staged), and not coherent with the host. Both
// give the bits that the device's own gives.
static void every_kind_of_memory_gives_the_same_bits(void **state) {
    (void)state;
    float *own = new_logits(), *other = new_logits();
    struct hymn_session *session = open_session(context, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(run(session, own), HYMN_STATUS_OK);
    hymn_session_destroy(&session);
    for (int kind = 0; kind < 4; kind++) {
        bool coherent = kind & 1, unified = kind & 2;
        struct hymn_context *fresh = unified ? test_context_open_with(HYMN_TRANSFER_AUTO) : open_behind_a_bus();
        assert_non_null(fresh);
        struct hymn_vk_device *device = fresh->device;
        for (uint32_t i = 0; i < device->memory.memoryTypeCount && !coherent; i++) {
            device->memory.memoryTypes[i].propertyFlags &= ~(VkMemoryPropertyFlags)VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
        }
        real_flush = device->table.vkFlushMappedMemoryRanges;
        real_invalidate = device->table.vkInvalidateMappedMemoryRanges;
        device->table.vkFlushMappedMemoryRanges = counting_flush;
        device->table.vkInvalidateMappedMemoryRanges = counting_invalidate;
        flushes = invalidates = 0;
        session = open_session(fresh, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(run(session, other), HYMN_STATUS_OK);
        assert_memory_equal(own, other, golden.output_count * sizeof *own);
        assert_int_equal(session->plan.skip_staging, device->plan.skip_staging);
        const struct hymn_slot *slot = &session->slots[0]; // also behind a bus shaders may read what the host wrote
        assert_true(slot->direct ? session->plan.skip_staging || device->direct_bytes > 0
                                 : !session->plan.skip_staging);
        assert_int_equal(slot->before_program.steps[0].kind == HYMN_VK_STEP_COPY, !slot->direct);
        assert_int_equal(flushes > 0, !coherent);
        assert_int_equal(invalidates > 0, !coherent);
        hymn_session_destroy(&session);
        assert_int_equal(test_context_close(&fresh), 0);
    }
    free(own);
    free(other);
}

// A device that allocates little at a time has the activations in several pieces; the bits are the same.
static void activations_in_pieces_give_the_same_bits(void **state) {
    (void)state;
    struct hymn_session_params params = {.height = 192, .width = 192, .batch = 2, .tuning_ms = HYMN_TUNING_NONE};
    uint64_t most = context->device->snapshot.max_allocation_bytes, before = context->device->memory_bytes, whole = 0;
    float *logits[2] = {0}, *tensor = NULL;
    for (int i = 0; i < 2; i++) {
        struct hymn_session *session = NULL;
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        const struct hymn_session_info *info = hymn_session_get_info(session);
        size_t pixels = (size_t)info->height * info->width, count = 2 * pixels * session->num_classes;
        tensor = tensor ? tensor : malloc(2 * pixels * session->in_channels * sizeof *tensor);
        logits[i] = malloc(count * sizeof *logits[i]);
        assert_true(tensor && logits[i]);
        for (size_t k = 0; k < 2 * pixels * session->in_channels; k++) {
            tensor[k] = (float)(k * 7919 % 2003) / 1000.0f - 1.0f;
        }
        memset(logits[i], 0xFF, count * sizeof *logits[i]);
        struct hymn_output outputs[2] = {{.logits = logits[i]}, {.logits = logits[i] + count / 2}};
        struct hymn_run_params run = {.tensor = tensor, .outputs = outputs};
        assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
        assert_int_equal(session->streams[0].activations[1].handle != VK_NULL_HANDLE, i == 1);
        whole = i == 0 ? info->activation_bytes : whole;
        assert_true(info->activation_bytes <= 2 * whole);
        assert_true(i == 0 || memcmp(logits[0], logits[1], count * sizeof *logits[i]) == 0);
        hymn_session_destroy(&session);
        assert_int_equal(context->device->memory_bytes, before);
        context->device->snapshot.max_allocation_bytes = whole / 5 * 3 + ((uint64_t)1 << 20);
    }
    context->device->snapshot.max_allocation_bytes = most;
    free(logits[0]);
    free(logits[1]);
    free(tensor);
}

static int open_context(void **state) {
    (void)state;
    golden_load("five_stages", &golden);
    context = test_context_open_with(HYMN_TRANSFER_AUTO);
    if (context) {
        as_opened = context->device->snapshot;
        tier_as_opened = context->device->tier;
    }
    return context ? 0 : -1;
}

// Whatever a test that failed has left of its faults: the next one begins without.
static int heal(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    hymn_vk_memory_cap(device, 0);
    device->snapshot = as_opened;
    device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
    device->trust_variants = false;
    device->tier = tier_as_opened;
    submit_fails_at = 0;
    submit_failure = VK_ERROR_DEVICE_LOST;
    if (device->table.vkAllocateMemory == watching_allocate) {
        device->table.vkAllocateMemory = real_allocate;
    }
    return 0;
}

static int use_one_behind_a_bus(void **state) {
    (void)state;
    usual = context;
    context = open_behind_a_bus();
    return context ? 0 : -1;
}

static int use_the_usual(void **state) {
    (void)state;
    int result = test_context_close(&context);
    context = usual;
    return result;
}

static int close_context(void **state) {
    (void)state;
    golden_free(&golden);
    return test_context_close(&context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(divided_runs_give_the_same_bits, heal),
        cmocka_unit_test_teardown(runs_adapt_to_a_slow_device, heal),
        cmocka_unit_test_teardown(runs_are_timed_by_the_host_without_timestamps, heal),
        cmocka_unit_test_teardown(networks_half_recorded_are_recorded_again, heal),
        cmocka_unit_test_teardown(waits_that_fail_leave_nothing_pending, heal),
        cmocka_unit_test_teardown(runs_that_fail_midway_leave_nothing_pending, heal),
        cmocka_unit_test_teardown(lost_device_is_a_status, heal),
        cmocka_unit_test_teardown(losses_of_long_runs_are_of_slow_devices, heal),
        cmocka_unit_test_teardown(device_lost_in_the_self_test, heal),
        cmocka_unit_test_teardown(smaller_sessions_where_allowed, heal),
        cmocka_unit_test_teardown(sessions_of_one_size_need_no_room, heal),
        cmocka_unit_test_setup_teardown(smaller_sessions_behind_a_bus, use_one_behind_a_bus, use_the_usual),
        cmocka_unit_test_teardown(sessions_tell_their_own_log, heal),
        cmocka_unit_test_teardown(sizes_that_are_tried_share_the_tuning, heal),
        cmocka_unit_test_teardown(small_bindings_are_refused_or_fitted, heal),
        cmocka_unit_test_teardown(offsets_beyond_32_bits_are_refused, heal),
        cmocka_unit_test_teardown(every_kind_of_memory_gives_the_same_bits, heal),
        cmocka_unit_test_teardown(activations_in_pieces_give_the_same_bits, heal),
    };
    return cmocka_run_group_tests_name("api_faults", tests, open_context, close_context);
}
