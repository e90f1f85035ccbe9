// SPDX-License-Identifier: MIT
//
// Sessions on devices that are slow, or that are lost: faults are injected where the driver would report them.
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
#include "support/test_session.h"
#include "vk/divide.h"

static struct hymn_context *context;
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
    float *whole = test_session_logits(&golden), *divided = test_session_logits(&golden);
    for (int i = 0; i < 3; i++) {
        enum hymn_precision precision = i == 0 ? HYMN_PRECISION_FP32 : HYMN_PRECISION_FP16;
        context->device->slowness = 1.0; // whatever a busy machine has taught it
        test_context_shrink_tiles(context, tiers[i], 0);
        struct hymn_session *session = test_session_open(context, &golden, precision, tiers[i]);
        count_submissions(context, 0);
        assert_int_equal(test_session_run(session, &golden, whole), HYMN_STATUS_OK);
        assert_int_equal(submissions, 1);
        assert_int_equal(most_buffers, 3);
        context->device->slowness = 1.0;
        assert_int_equal(sliced_steps(session), 0);
        context->device->submission_seconds = session->seconds / parts[i];
        hymn_session_destroy(&session);
        session = test_session_open(context, &golden, precision, tiers[i]);
        count_submissions(context, 0);
        assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OK);
        assert_true(submissions >= (i == 1 ? 5 : session->program.count / 2)); // not all can be cut so finely
        assert_true(i == 1 || sliced_steps(session) > 0);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OK);
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
    float *whole = test_session_logits(&golden), *divided = test_session_logits(&golden);
    double slowness = context->device->slowness = 1.0;
    struct hymn_session *session = test_session_open(context, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    count_submissions(context, 0);
    assert_int_equal(test_session_run(session, &golden, whole), HYMN_STATUS_OK);
    assert_int_equal(submissions, 1);
    context->device->slowness = slowness * 4.0 * HYMN_VK_SUBMISSION_SECONDS / (session->seconds * slowness);
    count_submissions(context, 0);
    assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OK);
    assert_true(submissions >= 4);
    assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
    if (context->device->plan.timestamps) { // it was fast after all, which that run has shown
        assert_true(context->device->slowness < slowness * 4.0 * HYMN_VK_SUBMISSION_SECONDS / session->seconds);
    }
    count_submissions(context, 0);
    for (uint32_t i = 1; i <= 2; i++) {
        context->device->slowness = slowness;
        assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OK);
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
    float *logits[] = {test_session_logits(&golden), test_session_logits(&golden)};
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
    float *whole = test_session_logits(&golden), *divided = test_session_logits(&golden);
    device->slowness = 1.0;
    struct hymn_session *session = test_session_open(context, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(test_session_run(session, &golden, whole), HYMN_STATUS_OK);
    real_begin = device->table.vkBeginCommandBuffer;
    device->table.vkBeginCommandBuffer = failing_begin;
    for (begin_fails_at = 1; begin_fails_at <= 3; begin_fails_at++) {
        const uint32_t at = begin_fails_at;
        device->slowness = (4.0 + at) * HYMN_VK_SUBMISSION_SECONDS / session->seconds;
        assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OUT_OF_MEMORY);
        assert_int_equal(begin_fails_at, 0);
        assert_int_equal(test_session_run(session, &golden, divided), HYMN_STATUS_OK);
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
    float *first = test_session_logits(&golden), *second = test_session_logits(&golden);
    struct hymn_session *session = test_session_open(context, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(test_session_run(session, &golden, first), HYMN_STATUS_OK);
    real_wait = device->table.vkWaitForFences;
    real_wait_idle = device->table.vkDeviceWaitIdle;
    device->table.vkWaitForFences = failing_wait;
    device->table.vkDeviceWaitIdle = counting_wait_idle;
    waits = waits_idle = 0;
    assert_int_equal(test_session_run(session, &golden, second), HYMN_STATUS_OUT_OF_MEMORY);
    assert_int_equal(waits, 2);
    assert_int_equal(waits_idle, 1);
    assert_int_equal(test_session_run(session, &golden, second), HYMN_STATUS_OK);
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
    float *first = test_session_logits(&golden), *second = test_session_logits(&golden);
    for (int ahead = 0; ahead < 2; ahead++) {
        struct hymn_context *opened = test_context_open_with(ahead ? HYMN_TRANSFER_ON : HYMN_TRANSFER_OFF);
        assert_non_null(opened);
        struct hymn_vk_device *device = opened->device;
        const uint32_t drained = 1 + (uint32_t)ahead; // queues that are waited for
        PFN_vkQueueWaitIdle real_queue_wait_idle = device->table.vkQueueWaitIdle;
        device->submission_seconds = 1e-5;
        struct hymn_session *session = test_session_open(opened, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(test_session_run(session, &golden, first), HYMN_STATUS_OK);
        real_wait_idle = device->table.vkDeviceWaitIdle;
        device->table.vkDeviceWaitIdle = counting_wait_idle;
        device->table.vkQueueWaitIdle = failing_queue_wait_idle;
        submit_failure = VK_ERROR_OUT_OF_HOST_MEMORY;
        for (uint32_t fails = 0; fails <= drained; fails += drained) {
            count_submissions(opened, 3);
            waits_idle = 0;
            idle_fails = fails;
            assert_int_equal(test_session_run(session, &golden, second), HYMN_STATUS_OUT_OF_MEMORY);
            assert_int_equal(waits_idle, drained);
            assert_int_equal(test_session_run(session, &golden, second),
                             fails ? HYMN_STATUS_DEVICE_LOST : HYMN_STATUS_OK);
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
    assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_session_submit(session, &params, &ticket), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(ticket, 0);
    assert_int_equal(hymn_session_create(lost, golden.model, NULL, &other), HYMN_STATUS_DEVICE_LOST);
    assert_null(other);
}

// Another context works, beside a lost one too.
static void expect_new_one(float *logits) {
    struct hymn_context *fresh = test_context_open_with(HYMN_TRANSFER_AUTO);
    assert_non_null(fresh);
    struct hymn_session *other = test_session_open(fresh, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(test_session_run(other, &golden, logits), HYMN_STATUS_OK);
    assert_true(golden_nmse(logits, golden.output, golden.output_count) <= 1e-9);
    hymn_session_destroy(&other);
    assert_int_equal(test_context_close(&fresh), 0);
}

static void lost_device_is_a_status(void **state) {
    (void)state;
    float *logits = test_session_logits(&golden);
    for (int where = 0; where < 3; where++) {
        struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_AUTO);
        assert_non_null(lost);
        lost->device->submission_seconds = where == 1 ? 1e-5 : HYMN_VK_SUBMISSION_SECONDS;
        struct hymn_session *session = test_session_open(lost, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_OK);
        if (where < 2) { // at once, and in the midst of many submissions
            count_submissions(lost, where == 0 ? 1 : 5);
        } else {
            lose_while_waiting(lost);
        }
        assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_DEVICE_LOST);
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
    float *logits = test_session_logits(&golden);
    for (int i = 0; i < 3; i++) { // a short run, a long one, and a long one that is lost when it is submitted
        struct hymn_context *lost = test_context_open_with(HYMN_TRANSFER_AUTO);
        assert_non_null(lost);
        struct hymn_session *session = test_session_open(lost, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        const double slowness = (i == 0 ? 0.05 : 0.3) / session->seconds;
        lost->device->slowness = slowness;
        if (i < 2) {
            lose_while_waiting(lost);
        } else {
            count_submissions(lost, 1);
        }
        for (int time = 0; time < 2; time++) { // once is enough
            assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_DEVICE_LOST);
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

static int open_context(void **state) {
    (void)state;
    golden_load("five_stages", &golden);
    context = test_context_open_with(HYMN_TRANSFER_AUTO);
    return context ? 0 : -1;
}

// Whatever a test that failed has left of its faults: the next one begins without.
static int heal(void **state) {
    (void)state;
    context->device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
    submit_fails_at = 0;
    submit_failure = VK_ERROR_DEVICE_LOST;
    return 0;
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
    };
    return cmocka_run_group_tests_name("api_faults", tests, open_context, close_context);
}
