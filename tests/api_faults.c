// SPDX-License-Identifier: MIT
//
// Sessions on devices that are slow, that are lost, or whose memory is too small: faults are injected where the driver
// would report them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "vk/divide.h"
#include "vk/memory.h"

static struct hymn_context *context;
static struct golden golden;
static PFN_vkQueueSubmit real_submit;
static uint32_t submissions, most_buffers, submit_fails_at; // 1: the next one; 0: never

static VKAPI_ATTR VkResult VKAPI_CALL counting_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos,
                                                      VkFence fence) {
    submissions++;
    most_buffers = infos->commandBufferCount > most_buffers ? infos->commandBufferCount : most_buffers;
    if (submissions == submit_fails_at) {
        return VK_ERROR_DEVICE_LOST;
    }
    return real_submit(queue, count, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL lost_wait(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
                                                uint64_t timeout) {
    (void)device;
    (void)count;
    (void)fences;
    (void)all;
    (void)timeout;
    return VK_ERROR_DEVICE_LOST;
}

static void count_submissions(struct hymn_context *of, uint32_t fails_at) {
    if (of->device->table.vkQueueSubmit != counting_submit) {
        real_submit = of->device->table.vkQueueSubmit;
        of->device->table.vkQueueSubmit = counting_submit;
    }
    submissions = most_buffers = 0;
    submit_fails_at = fails_at;
}

static struct hymn_session *open_session(struct hymn_context *on, enum hymn_precision precision, enum hymn_tier tier) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = golden.height, .width = golden.width, .batch = golden.batch, .precision = precision, .tier = tier};
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

// A limit so small that every dispatch is cut into as many slices as it can be, each in a submission of its own; and
// one at which some are. The bits stay the same.
static void divided_runs_give_the_same_bits(void **state) {
    (void)state;
    const double limits[] = {1e-7, 1e-4};
    float *whole = new_logits(), *divided = new_logits();
    for (int i = 0; i < 6; i++) {
        enum hymn_precision precision = i % 2 ? HYMN_PRECISION_FP32 : HYMN_PRECISION_FP16;
        enum hymn_tier tier = i / 2 == 0 ? HYMN_TIER_BASE : i / 2 == 1 ? HYMN_TIER_AUTO : HYMN_TIER_MATRIX;
        struct hymn_session *session = open_session(context, precision, tier);
        count_submissions(context, 0);
        assert_int_equal(run(session, whole), HYMN_STATUS_OK);
        assert_int_equal(submissions, 1);
        assert_int_equal(most_buffers, 3);
        hymn_session_destroy(&session);
        context->device->submission_seconds = limits[i % 2];
        session = open_session(context, precision, tier);
        count_submissions(context, 0);
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_true(submissions > (i % 2 ? 1 : session->program.count));
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        assert_int_equal(run(session, divided), HYMN_STATUS_OK);
        assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
        hymn_session_destroy(&session);
        context->device->submission_seconds = HYMN_VK_SUBMISSION_SECONDS;
    }
    free(whole);
    free(divided);
}

// A device that is found slower than thought: the next run is divided, with the same result.
static void runs_adapt_to_a_slow_device(void **state) {
    (void)state;
    float *whole = new_logits(), *divided = new_logits();
    struct hymn_session *session = open_session(context, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    double slowness = context->device->slowness;
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
    context->device->slowness = slowness;
    count_submissions(context, 0);
    assert_int_equal(run(session, divided), HYMN_STATUS_OK);
    assert_int_equal(run(session, divided), HYMN_STATUS_OK);
    assert_int_equal(submissions, 2);
    assert_memory_equal(whole, divided, golden.output_count * sizeof *whole);
    hymn_session_destroy(&session);
    free(whole);
    free(divided);
}

// ---------------------------------------------------------------------------------------------------------- lost
// device

// Everything on the context says so from then on; another one is untouched, and a new one works.
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
    struct hymn_context *fresh = test_context_open();
    assert_non_null(fresh);
    other = open_session(fresh, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(run(other, logits), HYMN_STATUS_OK);
    assert_true(golden_nmse(logits, golden.output, golden.output_count) <= 1e-9);
    hymn_session_destroy(&other);
    assert_int_equal(test_context_close(&fresh), 0);
}

static void lost_device_is_a_status(void **state) {
    (void)state;
    float *logits = new_logits();
    for (int where = 0; where < 3; where++) {
        struct hymn_context *lost = test_context_open();
        assert_non_null(lost);
        lost->device->submission_seconds = where == 1 ? 1e-7 : HYMN_VK_SUBMISSION_SECONDS;
        struct hymn_session *session = open_session(lost, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(run(session, logits), HYMN_STATUS_OK);
        PFN_vkWaitForFences real_wait = lost->device->table.vkWaitForFences;
        if (where < 2) { // at once, and in the midst of many submissions
            count_submissions(lost, where == 0 ? 1 : 5);
        } else {
            lost->device->table.vkWaitForFences = lost_wait;
        }
        assert_int_equal(run(session, logits), HYMN_STATUS_DEVICE_LOST);
        lost->device->table.vkWaitForFences = real_wait;
        lost->device->table.vkQueueSubmit = where < 2 ? real_submit : lost->device->table.vkQueueSubmit;
        lost->device->table.vkQueueWaitIdle(lost->device->queue); // it was not lost in truth
        expect_lost(lost, session, logits);
        hymn_session_destroy(&session);
        assert_int_equal(test_context_close(&lost), 0);
    }
    free(logits);
}

// The self-test's own run can meet it too: no verdict is made of it.
static void device_lost_in_the_self_test(void **state) {
    (void)state;
    struct hymn_context *lost = test_context_open();
    struct hymn_session *session = NULL;
    assert_non_null(lost);
    lost->device->table.vkWaitForFences = lost_wait;
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

// What a session of this batch and size takes of device memory, before it has run.
static uint64_t bytes_of(uint32_t size, uint32_t batch) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = size, .width = size, .batch = batch};
    uint64_t before = context->device->memory_bytes;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    uint64_t bytes = context->device->memory_bytes - before;
    hymn_session_destroy(&session);
    return bytes;
}

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
    hymn_session_destroy(&session);
}

static void smaller_sessions_where_allowed(void **state) {
    (void)state;
    const uint64_t before = context->device->memory_bytes;
    const uint64_t three = bytes_of(64, 3), small = bytes_of(33, 1);
    assert_true(small < bytes_of(64, 1) && three < bytes_of(64, 6));
    hymn_vk_memory_cap(context->device, before + three);
    struct hymn_session_params params = {.height = 64, .width = 64, .batch = 12};
    expect_session(&params, 0, 0, 0);
    params.min_batch = 4;
    expect_session(&params, 0, 0, 0); // 12, 6, 4
    params.min_batch = 1;
    expect_session(&params, 64, 64, 3);
    params.batch = 3;
    expect_session(&params, 64, 64, 3);
    hymn_vk_memory_cap(context->device, before + small);
    params.batch = 5;
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

// A tensor beyond the largest binding: named, or a smaller batch.
static void small_bindings_are_refused_or_fitted(void **state) {
    (void)state;
    uint64_t range = context->device->snapshot.max_storage_buffer_range;
    context->device->snapshot.max_storage_buffer_range = (uint64_t)1 << 27;
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = 512, .width = 512, .batch = 256};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_UNSUPPORTED);
    assert_null(session);
    params.min_batch = 2;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_true(hymn_session_get_info(session)->batch < 256 && hymn_session_get_info(session)->batch >= 2);
    hymn_session_destroy(&session);
    context->device->snapshot.max_storage_buffer_range = range;
}

static int open_context(void **state) {
    (void)state;
    golden_load("five_stages", &golden);
    context = test_context_open();
    return context ? 0 : -1;
}

static int close_context(void **state) {
    (void)state;
    golden_free(&golden);
    return test_context_close(&context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divided_runs_give_the_same_bits), cmocka_unit_test(runs_adapt_to_a_slow_device),
        cmocka_unit_test(lost_device_is_a_status),         cmocka_unit_test(device_lost_in_the_self_test),
        cmocka_unit_test(smaller_sessions_where_allowed),  cmocka_unit_test(small_bindings_are_refused_or_fitted),
    };
    return cmocka_run_group_tests_name("api_faults", tests, open_context, close_context);
}
