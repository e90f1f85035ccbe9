// SPDX-License-Identifier: MIT
//
// Sessions on devices whose memory or bindings are too small for them, or whose memory is of another kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "session/session.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_log.h"
#include "support/test_session.h"
#include "vk/memory.h"

static struct hymn_context *context, *usual; // usual: while a test has another in its place
static struct hymn_vk_snapshot as_opened;    // of the context's device
static enum hymn_tier tier_as_opened;
static struct golden golden;

// The same device as if its memory were behind a bus: what the host writes and reads is staged. NULL: as of
// test_context_open.
static struct hymn_context *open_behind_a_bus(void) {
    struct hymn_context *opened = test_context_open_with(HYMN_TRANSFER_AUTO);
    if (opened) {
        opened->device->snapshot.unified_memory = opened->device->plan.skip_staging = false;
    }
    return opened;
}

// --------------------------------------------------------------------------------------------------------- too little

static PFN_vkAllocateMemory real_allocate;
static PFN_vkMapMemory real_map;
static uint64_t peak;  // the most that was allocated of the context's device
static uint64_t limit; // beyond which the driver fails in another way than for want of the device's memory

static VKAPI_ATTR VkResult VKAPI_CALL watching_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                                        const VkAllocationCallbacks *callbacks,
                                                        VkDeviceMemory *memory) {
    uint64_t bytes = context->device->memory_bytes + info->allocationSize;
    peak = bytes > peak ? bytes : peak;
    return real_allocate(device, info, callbacks, memory);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                                       const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    return context->device->memory_bytes + info->allocationSize > limit
               ? VK_ERROR_OUT_OF_HOST_MEMORY
               : real_allocate(device, info, callbacks, memory);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_map(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                                                  VkDeviceSize size, VkMemoryMapFlags flags, void **data) {
    return context->device->memory_bytes > limit ? VK_ERROR_MEMORY_MAP_FAILED
                                                 : real_map(device, memory, offset, size, flags, data);
}

// The least cap under which a session of this size and batch can be made, with or without room for its runs. Where
// weights are staged, it holds their staging too, which is gone afterwards.
static uint64_t least_cap(uint32_t height, uint32_t width, uint32_t batch, bool room) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = height,
                                         .width = width,
                                         .batch = batch,
                                         .min_height = room, // a smaller one would do
                                         .tuning_ms = HYMN_TUNING_NONE};
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
    const uint64_t three = least_cap(64, 64, 3, true), small = least_cap(33, 32, 1, true);
    assert_true(before < small && small < least_cap(64, 64, 1, true) && three < least_cap(64, 64, 6, true));
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
    const uint64_t roomy = least_cap(64, 64, 3, true);
    assert_true(least_cap(64, 64, 3, false) < roomy);
    hymn_vk_memory_cap(context->device, roomy - 1);
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_get_info(session)->batch, 3);
    expect_runs(session, false);
    hymn_session_destroy(&session);
}

// Whatever the driver says in place of giving room for runs: a smaller session may have it.
static void any_failure_to_get_room_is_a_lack_of_it(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    const uint64_t three = least_cap(64, 64, 3, true);
    const struct hymn_session_params params = {
        .height = 64, .width = 64, .batch = 3, .min_batch = 1, .tuning_ms = HYMN_TUNING_NONE};
    real_allocate = device->table.vkAllocateMemory;
    real_map = device->table.vkMapMemory;
    for (int maps = 0; maps < 2; maps++) {
        struct hymn_session *session = NULL;
        limit = three - 1;
        device->table.vkAllocateMemory = maps ? real_allocate : failing_allocate;
        device->table.vkMapMemory = maps ? failing_map : real_map;
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        assert_int_equal(hymn_session_get_info(session)->batch, 2);
        limit = UINT64_MAX;
        expect_runs(session, true);
        hymn_session_destroy(&session);
    }
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
    float *logits = test_session_logits(&golden);
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
    assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_log(&log, "of device memory are needed");
    assert_int_equal(others.errors, 0);
    hymn_vk_memory_cap(device, 0);
    assert_int_equal(test_session_run(session, &golden, logits), HYMN_STATUS_OK);
    assert_ptr_equal(device->log.user, &others); // its own again
    hymn_session_destroy(&session);
    device->log = own;
    free(logits);
}

static enum hymn_status run_large(struct hymn_session *session, uint32_t side, struct test_log *log) {
    const struct hymn_log own = session->log;
    uint8_t *pixels = calloc((size_t)side * side, 3), *mask = malloc((size_t)side * side);
    assert_true(pixels && mask);
    const struct hymn_image image = {.pixels = pixels, .height = side, .width = side};
    const struct hymn_output output = {.mask = mask};
    session->log = test_log_start(log);
    enum hymn_status status =
        hymn_session_run(session, &(struct hymn_run_params){.images = &image, .outputs = &output, .count = 1});
    session->log = own;
    free(pixels);
    free(mask);
    return status;
}

// Buffers of slots without a run go where that may help a run that lacks memory, and what is left is told.
static void idle_slots_give_what_helps(void **state) {
    (void)state;
    enum { SIDE = 512 };
    struct hymn_vk_device *device = context->device;
    struct hymn_session *session = NULL;
    struct test_log log;
    const struct hymn_session_params params = {.height = 64, .width = 64, .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    assert_int_equal(session->info.host_bytes, hymn_session_host_bytes(session));
    expect_runs(session, true);
    const struct hymn_slot *idle = &session->slots[1];
    const uint64_t kept = idle->readback.allocated, used = device->memory_bytes;
    assert_true(kept > 0 && kept < SIDE * SIDE);
    real_map = device->table.vkMapMemory;
    for (int cause = 0; cause < 3; cause++) {
        device->snapshot.max_allocation_bytes = cause == 0 ? SIDE * SIDE : as_opened.max_allocation_bytes;
        device->table.vkMapMemory = cause == 1 ? failing_map : real_map;
        limit = used;
        hymn_vk_memory_cap(device, cause == 2 ? used + 1 : 0);
        assert_int_equal(run_large(session, SIDE, &log),
                         cause == 1 ? HYMN_STATUS_INTERNAL : HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        assert_int_equal(log.errors, 1);
        assert_int_equal(idle->readback.allocated, cause < 2 ? kept : 0);
        assert_int_equal(session->info.host_bytes, hymn_session_host_bytes(session));
    }
    hymn_vk_memory_cap(device, 0);
    assert_int_equal(run_large(session, SIDE, &log), HYMN_STATUS_OK);
    hymn_session_destroy(&session);
}

// A run that could not be prepared has left its layout in its slot: the one before it is prepared anew.
static void a_run_that_failed_leaves_nothing_behind(void **state) {
    (void)state;
    enum { SMALL = 64, LARGE = 512 };
    struct hymn_vk_device *device = context->device;
    struct hymn_session *session = NULL;
    const struct hymn_session_params params = {
        .height = SMALL, .width = SMALL, .runs_in_flight = 1, .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    uint8_t *pixels = malloc(3 * LARGE * LARGE), *mask = malloc(LARGE * LARGE), kept[SMALL * SMALL];
    float *probabilities = malloc(sizeof *probabilities * session->num_classes * LARGE * LARGE);
    assert_true(pixels && mask && probabilities);
    for (uint32_t i = 0; i < 3 * LARGE * LARGE; i++) {
        pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    const struct hymn_output output = {.probabilities = probabilities, .mask = mask};
    for (int round = 0; round < 3; round++) { // small, large, small
        const uint32_t side = round == 1 ? LARGE : SMALL;
        const struct hymn_image image = {.pixels = pixels, .height = side, .width = side};
        const struct hymn_run_params run = {.images = &image, .outputs = &output, .count = 1};
        device->snapshot.max_allocation_bytes = round == 1 ? LARGE * LARGE : as_opened.max_allocation_bytes;
        memset(mask, 0x55, SMALL * SMALL);
        assert_int_equal(hymn_session_run(session, &run),
                         round == 1 ? HYMN_STATUS_OUT_OF_DEVICE_MEMORY : HYMN_STATUS_OK);
        if (round == 0) {
            memcpy(kept, mask, sizeof kept);
            assert_true(memchr(kept, 0, sizeof kept) && memchr(kept, 255, sizeof kept));
        }
    }
    assert_memory_equal(mask, kept, sizeof kept);
    free(pixels);
    free(mask);
    free(probabilities);
    hymn_session_destroy(&session);
}

// Sessions of all sizes that are tried have one time for tuning, which the first may take whole.
static void sizes_that_are_tried_share_the_tuning(void **state) {
    (void)state;
    struct test_log log;
    context->device->snapshot.type = HYMN_DEVICE_TYPE_DISCRETE_GPU; // processors are not tuned
    context->device->trust_variants = true;                         // what is computed does not matter
    context->device->tier = HYMN_TIER_WIDE;                         // emulated matrices take minutes to compile
    hymn_vk_memory_cap(context->device, least_cap(64, 64, 3, true));
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
    float *own = test_session_logits(&golden), *other = test_session_logits(&golden);
    struct hymn_session *session = test_session_open(context, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
    assert_int_equal(test_session_run(session, &golden, own), HYMN_STATUS_OK);
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
        session = test_session_open(fresh, &golden, HYMN_PRECISION_FP32, HYMN_TIER_AUTO);
        assert_int_equal(test_session_run(session, &golden, other), HYMN_STATUS_OK);
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

// Whatever a test that failed has left: the next one begins without.
static int heal(void **state) {
    (void)state;
    struct hymn_vk_device *device = context->device;
    hymn_vk_memory_cap(device, 0);
    device->snapshot = as_opened;
    device->trust_variants = false;
    device->tier = tier_as_opened;
    if (device->table.vkAllocateMemory == watching_allocate || device->table.vkAllocateMemory == failing_allocate) {
        device->table.vkAllocateMemory = real_allocate;
    }
    if (device->table.vkMapMemory == failing_map) {
        device->table.vkMapMemory = real_map;
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
        cmocka_unit_test_teardown(smaller_sessions_where_allowed, heal),
        cmocka_unit_test_teardown(sessions_of_one_size_need_no_room, heal),
        cmocka_unit_test_teardown(any_failure_to_get_room_is_a_lack_of_it, heal),
        cmocka_unit_test_setup_teardown(smaller_sessions_behind_a_bus, use_one_behind_a_bus, use_the_usual),
        cmocka_unit_test_teardown(sessions_tell_their_own_log, heal),
        cmocka_unit_test_teardown(idle_slots_give_what_helps, heal),
        cmocka_unit_test_teardown(a_run_that_failed_leaves_nothing_behind, heal),
        cmocka_unit_test_teardown(sizes_that_are_tried_share_the_tuning, heal),
        cmocka_unit_test_teardown(small_bindings_are_refused_or_fitted, heal),
        cmocka_unit_test_teardown(offsets_beyond_32_bits_are_refused, heal),
        cmocka_unit_test_teardown(every_kind_of_memory_gives_the_same_bits, heal),
        cmocka_unit_test_teardown(activations_in_pieces_give_the_same_bits, heal),
    };
    return cmocka_run_group_tests_name("api_memory", tests, open_context, close_context);
}
