// SPDX-License-Identifier: MIT
//
// Sessions through the public API: images and tensors, batches, runs in flight, arguments, failures, timings.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "ops/conv2d_matrix.h"
#include "session/context.h"
#include "support/golden.h"
#include "support/test_context.h"
#include "support/test_random.h"
#include "vk/memory.h"
#include "vk/pipeline.h"

static struct hymn_context *context;
static bool emulated; // matrices, for which there are small tiles then

static uint8_t *random_image(struct test_random *random, struct hymn_image *out_image, uint32_t height,
                             uint32_t width) {
    uint8_t *pixels = malloc((size_t)height * width * 3);
    assert_non_null(pixels);
    for (size_t i = 0; i < (size_t)height * width * 3; i++) {
        pixels[i] = (uint8_t)test_random_range(random, 0, 255);
    }
    *out_image = (struct hymn_image){.pixels = pixels, .height = height, .width = width};
    return pixels;
}

static struct hymn_session *open_session(const struct golden *golden, uint32_t size, uint32_t batch, bool timings) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = size,
        .width = size,
        .batch = batch,
        .precision = HYMN_PRECISION_FP32,
        .timings = timings,
        .tuning_ms = HYMN_TUNING_NONE}; // sessions are compared with each other: the same ways of each operator
    assert_int_equal(hymn_session_create(context, golden->model, &params, &session), HYMN_STATUS_OK);
    return session;
}

// An image of the session's own size is only normalised: the same as the tensor of its normalised pixels.
static void image_equals_normalised_tensor(void **state) {
    (void)state;
    struct test_random random = test_random_start("image_equals_normalised_tensor");
    struct golden golden;
    golden_load("plain", &golden);
    const struct hymn_model_info *info = hymn_model_get_info(golden.model);
    enum { SIZE = 40 };
    struct hymn_image image;
    uint8_t *pixels = random_image(&random, &image, SIZE, SIZE);
    float *tensor = malloc(3 * SIZE * SIZE * sizeof *tensor);
    float *from_image = malloc(SIZE * SIZE * sizeof(float)), *from_tensor = malloc(SIZE * SIZE * sizeof(float));
    assert_true(tensor && from_image && from_tensor);
    for (int i = 0; i < 3 * SIZE * SIZE; i++) {
        int c = i / (SIZE * SIZE), p = i % (SIZE * SIZE);
        tensor[i] = (pixels[p * 3 + c] / 255.0f - info->mean[c]) / info->std[c];
    }
    struct hymn_session *session = open_session(&golden, SIZE, 1, false);
    struct hymn_output output = {.logits = from_image};
    struct hymn_run_params run = {.images = &image, .outputs = &output};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    output.logits = from_tensor;
    run = (struct hymn_run_params){.tensor = tensor, .outputs = &output};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    assert_true(golden_nmse(from_image, from_tensor, SIZE * SIZE) < 1e-10);
    hymn_session_destroy(&session);
    free(pixels);
    free(tensor);
    free(from_image);
    free(from_tensor);
    golden_free(&golden);
}

// A batch of images of different sizes, alone and together, one after the other and in flight at once.
static void batches_and_runs_in_flight_agree(void **state) {
    (void)state;
    struct test_random random = test_random_start("batches_and_runs_in_flight_agree");
    struct golden golden;
    golden_load("plain", &golden);
    enum { COUNT = 6 };
    struct hymn_image images[COUNT];
    struct hymn_output alone[COUNT], together[COUNT];
    uint8_t *pixels[COUNT];
    for (int i = 0; i < COUNT; i++) {
        uint32_t height = test_random_range(&random, 1, 150), width = test_random_range(&random, 1, 150);
        pixels[i] = random_image(&random, &images[i], height, width);
        size_t area = (size_t)height * width;
        alone[i] = (struct hymn_output){NULL, malloc(area * sizeof(float)), malloc(area)};
        together[i] = (struct hymn_output){NULL, malloc(area * sizeof(float)), malloc(area)};
        memset(alone[i].mask, 7, area);
        memset(together[i].mask, 8, area);
    }
    struct hymn_session *one = open_session(&golden, 48, 1, false), *two = open_session(&golden, 48, 2, false);
    for (int i = 0; i < COUNT; i++) {
        struct hymn_run_params run = {.images = &images[i], .outputs = &alone[i]};
        assert_int_equal(hymn_session_run(one, &run), HYMN_STATUS_OK);
    }
    uint64_t tickets[COUNT / 2];
    for (int i = 0; i < COUNT / 2; i++) {
        struct hymn_run_params run = {.images = &images[2 * i], .outputs = &together[2 * i]};
        assert_int_equal(hymn_session_submit(two, &run, &tickets[i]), HYMN_STATUS_OK);
        if (i == 1) {
            uint64_t extra;
            assert_int_equal(hymn_session_submit(two, &run, &extra), HYMN_STATUS_BUSY);
        }
        if (i >= 1) {
            assert_int_equal(hymn_session_wait(two, tickets[i - 1]), HYMN_STATUS_OK);
        }
    }
    assert_int_equal(hymn_session_wait(two, tickets[COUNT / 2 - 1]), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_wait(two, tickets[0]), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(hymn_session_wait(two, 0), HYMN_STATUS_INVALID_ARGUMENT); // what a free slot holds
    for (int i = 0; i < COUNT; i++) {
        size_t area = (size_t)images[i].height * images[i].width;
        assert_memory_equal(alone[i].probabilities, together[i].probabilities, area * sizeof(float));
        for (size_t p = 0; p < area; p++) {
            assert_true(alone[i].probabilities[p] >= 0.0f && alone[i].probabilities[p] <= 1.0f);
            assert_int_equal(alone[i].mask[p], alone[i].probabilities[p] >= 0.5f ? 255 : 0);
            assert_int_equal(alone[i].mask[p], together[i].mask[p]);
        }
        free(pixels[i]);
        free(alone[i].probabilities);
        free(alone[i].mask);
        free(together[i].probabilities);
        free(together[i].mask);
    }
    hymn_session_destroy(&one);
    hymn_session_destroy(&two);
    golden_free(&golden);
}

// A run needs a place among the runs in flight as a submit does.
static void a_run_beside_all_that_may_be_is_busy(void **state) {
    (void)state;
    struct golden golden;
    golden_load("plain", &golden);
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = 16, .width = 16, .runs_in_flight = 1, .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    uint8_t pixels[48] = {0}, mask[16];
    struct hymn_output output = {.mask = mask};
    struct hymn_image image = {.pixels = pixels, .height = 4, .width = 4};
    struct hymn_run_params run = {.images = &image, .outputs = &output};
    uint64_t ticket;
    assert_int_equal(hymn_session_submit(session, &run, &ticket), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_BUSY);
    assert_int_equal(hymn_session_wait(session, ticket), HYMN_STATUS_OK);
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    hymn_session_destroy(&session);
    golden_free(&golden);
}

// No result need be asked for, not even in a session's first run. Of several classes no mask is made in the network's
// last steps, so that nothing follows the network then.
static void runs_may_ask_for_nothing(void **state) {
    (void)state;
    struct golden golden;
    golden_load("classes_3", &golden);
    struct hymn_session *session = open_session(&golden, golden.height, 1, true);
    const size_t count = golden.output_count / golden.batch;
    struct hymn_output output = {.mask = NULL};
    struct hymn_run_params run = {.tensor = golden.input, .outputs = &output};
    const struct hymn_timing *timings = NULL;
    uint32_t without = 0, with = 0;
    assert_int_equal(golden.height, golden.width);
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    enum hymn_status timed = hymn_session_timings(session, &timings, &without);
    output.logits = malloc(count * sizeof(float));
    assert_non_null(output.logits);
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    assert_true(golden_nmse(output.logits, golden.output, count) < 1e-9);
    if (timed == HYMN_STATUS_OK) {
        assert_int_equal(hymn_session_timings(session, &timings, &with), HYMN_STATUS_OK);
        assert_int_equal(with, without + 1);
    }
    free(output.logits);
    hymn_session_destroy(&session);
    golden_free(&golden);
}

static void multi_class_masks_are_argmax(void **state) {
    (void)state;
    struct golden golden;
    golden_load("classes_3", &golden);
    size_t area = (size_t)golden.height * golden.width;
    struct hymn_output outputs[8] = {{0}};
    for (uint32_t i = 0; i < golden.batch; i++) {
        outputs[i].probabilities = malloc(area * golden.classes * sizeof(float));
        outputs[i].mask = malloc(area);
    }
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {
        .height = golden.height, .width = golden.width, .batch = golden.batch, .precision = HYMN_PRECISION_FP32};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    struct hymn_run_params run = {.tensor = golden.input, .outputs = outputs};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < golden.batch; i++) {
        for (size_t p = 0; p < area; p++) {
            const float *at = outputs[i].probabilities + p, *logits = golden.output + i * golden.classes * area + p;
            uint32_t best = 0;
            double sum = 0.0, norm = 0.0;
            for (uint32_t c = 0; c < golden.classes; c++) {
                best = at[c * area] > at[best * area] ? c : best;
                sum += at[c * area];
                norm += exp((double)logits[c * area]);
            }
            assert_int_equal(outputs[i].mask[p], best);
            assert_true(fabs(sum - 1.0) < 1e-5);
            assert_true(fabs(at[0] - exp((double)logits[0]) / norm) < 1e-3);
        }
        free(outputs[i].probabilities);
        free(outputs[i].mask);
    }
    hymn_session_destroy(&session);
    golden_free(&golden);
}

static void arguments_are_checked(void **state) {
    (void)state;
    struct golden golden;
    golden_load("plain", &golden);
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.runs_in_flight = 9};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(session);
    params = (struct hymn_session_params){.height = 40000};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_INVALID_ARGUMENT);
    params = (struct hymn_session_params){.precision = 17};
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(hymn_session_create(NULL, golden.model, NULL, &session), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(hymn_session_create(context, NULL, NULL, &session), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(hymn_session_create(context, golden.model, NULL, NULL), HYMN_STATUS_INVALID_ARGUMENT);
    session = open_session(&golden, 16, 1, false);
    uint8_t pixels[48] = {0}, mask[16];
    struct hymn_output output = {.mask = mask};
    struct hymn_image image = {.pixels = pixels, .height = 4, .width = 4};
    float tensor[3 * 256] = {0};
    struct hymn_run_params good = {.images = &image, .outputs = &output};
    assert_int_equal(hymn_session_run(session, &good), HYMN_STATUS_OK);
    struct hymn_run_params bad[] = {
        {.outputs = &output},
        {.images = &image},
        {.images = &image, .tensor = tensor, .outputs = &output},
        {.images = &image, .outputs = &output, .count = 2},
        {.images = &image, .outputs = &output, .threshold = NAN},
        {.images = &image, .outputs = &output, .threshold = -INFINITY},
        {.images = &(struct hymn_image){.height = 4, .width = 4}, .outputs = &output},
        {.images = &(struct hymn_image){.pixels = pixels, .width = 4}, .outputs = &output},
        {.images = &(struct hymn_image){.pixels = pixels, .height = 1, .width = 65536}, .outputs = &output},
        {.images = &(struct hymn_image){.pixels = pixels, .height = 65536, .width = 1}, .outputs = &output},
        {.images = &(struct hymn_image){.pixels = pixels, .height = 4, .width = 4, .row_bytes = 11},
         .outputs = &output},
        {.images = &(struct hymn_image){.pixels = pixels, .height = 4, .width = 4, .format = 9}, .outputs = &output},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(hymn_session_run(session, &bad[i]), HYMN_STATUS_INVALID_ARGUMENT);
    }
    assert_int_equal(hymn_session_run(session, NULL), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(hymn_session_wait(session, 12345), HYMN_STATUS_INVALID_ARGUMENT);
    uint64_t ticket = 7;
    assert_int_equal(hymn_session_submit(NULL, &good, &ticket), HYMN_STATUS_INVALID_ARGUMENT);
    assert_int_equal(ticket, 0);
    assert_int_equal(hymn_session_submit(session, &good, NULL), HYMN_STATUS_INVALID_ARGUMENT);
    const struct hymn_timing *timings = (const struct hymn_timing *)session; // anything
    uint32_t count = 7;
    assert_int_equal(hymn_session_timings(NULL, &timings, &count), HYMN_STATUS_INVALID_ARGUMENT);
    assert_true(!timings && count == 0);
    struct hymn_ceilings ceilings = {.gbps = 1.0};
    assert_int_equal(hymn_session_measure_ceilings(NULL, &ceilings), HYMN_STATUS_INVALID_ARGUMENT);
    assert_true(ceilings.gbps == 0.0);
    struct hymn_summary *summary = (struct hymn_summary *)session;
    assert_int_equal(hymn_summary_create(NULL, NULL, &summary), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(summary);
    assert_int_equal(hymn_session_run(session, &good), HYMN_STATUS_OK);
    hymn_session_destroy(&session);
    assert_null(session);
    hymn_session_destroy(&session);
    golden_free(&golden);
}

static void timings_name_every_dispatch(void **state) {
    (void)state;
    struct golden golden;
    golden_load("five_stages", &golden);
    struct hymn_session *session = open_session(&golden, 64, 1, true);
    uint8_t pixels[48] = {0}, mask[16];
    struct hymn_output output = {.mask = mask};
    struct hymn_image image = {.pixels = pixels, .height = 4, .width = 4};
    struct hymn_run_params run = {.images = &image, .outputs = &output};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    const struct hymn_timing *timings;
    uint32_t count;
    enum hymn_status status = hymn_session_timings(session, &timings, &count);
    if (status != HYMN_STATUS_UNSUPPORTED) { // a device without timestamps
        assert_int_equal(status, HYMN_STATUS_OK);
        assert_true(count > hymn_session_get_info(session)->dispatches);
        double sum = 0.0;
        for (uint32_t i = 0; i < count; i++) {
            assert_non_null(timings[i].name);
            assert_non_null(timings[i].shader);
            assert_true(timings[i].gpu_ms >= 0.0);
            sum += timings[i].gpu_ms;
        }
        assert_true(sum <= hymn_session_gpu_ms(session) * 1.01 + 0.01);
    }
    hymn_session_destroy(&session);
    golden_free(&golden);
}

// Neighbours of one size that ask for the same go through the same steps; others do not. The results are those of the
// images alone.
static void equal_images_of_a_batch_agree(void **state) {
    (void)state;
    struct test_random random = test_random_start("equal_images_of_a_batch_agree");
    struct golden golden;
    golden_load("plain", &golden);
    enum { COUNT = 8, SIZE = 40 };
    static const uint32_t heights[COUNT] = {33, 33, 33, SIZE, 50, SIZE, SIZE, SIZE};
    static const uint32_t widths[COUNT] = {61, 61, 61, SIZE, 61, SIZE, SIZE, SIZE};
    struct hymn_image images[COUNT];
    struct hymn_output alone[COUNT], together[COUNT];
    uint8_t *pixels[COUNT];
    for (int i = 0; i < COUNT; i++) {
        pixels[i] = random_image(&random, &images[i], heights[i], widths[i]);
        size_t area = (size_t)heights[i] * widths[i];
        bool logits = i < 6;
        alone[i] = (struct hymn_output){logits ? malloc(SIZE * SIZE * sizeof(float)) : NULL,
                                        malloc(area * sizeof(float)), malloc(area)};
        together[i] = (struct hymn_output){logits ? malloc(SIZE * SIZE * sizeof(float)) : NULL,
                                           malloc(area * sizeof(float)), malloc(area)};
    }
    struct hymn_session *one = open_session(&golden, SIZE, 1, false), *all = open_session(&golden, SIZE, COUNT, true);
    for (int i = 0; i < COUNT; i++) {
        struct hymn_run_params run = {.images = &images[i], .outputs = &alone[i]};
        assert_int_equal(hymn_session_run(one, &run), HYMN_STATUS_OK);
    }
    struct hymn_run_params run = {.images = images, .outputs = together};
    assert_int_equal(hymn_session_run(all, &run), HYMN_STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        size_t area = (size_t)heights[i] * widths[i];
        if (alone[i].logits) {
            assert_true(golden_nmse(together[i].logits, alone[i].logits, SIZE * SIZE) < 1e-10);
        }
        assert_true(golden_nmse(together[i].probabilities, alone[i].probabilities, area) < 1e-10);
        assert_memory_equal(together[i].mask, alone[i].mask, area);
    }
    const struct hymn_timing *timings;
    uint32_t count, columns = 0, normalises = 0;
    if (hymn_session_timings(all, &timings, &count) == HYMN_STATUS_OK) {
        for (uint32_t i = 0; i < count; i++) {
            columns += strcmp(timings[i].name, "image.columns") == 0;
            normalises += strcmp(timings[i].name, "image.normalise") == 0;
        }
        assert_int_equal(columns, 2);    // three, the one of another size
        assert_int_equal(normalises, 3); // one of the network's size, the last with logits, two without
    }
    for (int i = 0; i < COUNT; i++) {
        free(pixels[i]);
        free(alone[i].logits);
        free(alone[i].probabilities);
        free(alone[i].mask);
        free(together[i].logits);
        free(together[i].probabilities);
        free(together[i].mask);
    }
    hymn_session_destroy(&one);
    hymn_session_destroy(&all);
    golden_free(&golden);
}

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

// How many steps of the last run were of a shader whose name begins so; -1: the device has no timestamps.
static int count_steps(struct hymn_session *session, const char *shader) {
    const struct hymn_timing *timings;
    uint32_t count;
    int found = 0;
    if (hymn_session_timings(session, &timings, &count) != HYMN_STATUS_OK) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        found += strncmp(timings[i].shader, shader, strlen(shader)) == 0;
    }
    return found;
}

// Whether masks are made with or without logits, they are the same.
static void masks_alone_are_those_with_logits(void **state) {
    (void)state;
    enum { COUNT = 3, HEIGHT = 40, WIDTH = 37, AREA = HEIGHT * WIDTH }; // not of whole cells: padded
    struct test_random random = test_random_start("masks_alone_are_those_with_logits");
    struct golden golden;
    golden_load("plain", &golden);
    assert_int_equal(hymn_model_get_info(golden.model)->num_classes, 1);
    struct hymn_image images[COUNT];
    uint8_t *pixels[COUNT];
    for (int i = 0; i < COUNT; i++) {
        pixels[i] = random_image(&random, &images[i], HEIGHT, WIDTH);
    }
    static float probabilities[AREA], sorted[AREA];
    static uint8_t masks[2][COUNT][AREA];
    for (int precision = HYMN_PRECISION_FP16; precision <= HYMN_PRECISION_FP32; precision++) {
        struct hymn_session_params params = {
            .height = HEIGHT, .width = WIDTH, .batch = COUNT, .timings = true, .tuning_ms = HYMN_TUNING_NONE};
        params.precision = (enum hymn_precision)precision;
        struct hymn_session *session = NULL;
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        struct hymn_output outputs[COUNT] = {{.probabilities = probabilities}};
        struct hymn_run_params run = {.images = images, .outputs = outputs};
        assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
        memcpy(sorted, probabilities, sizeof sorted);
        qsort(sorted, AREA, sizeof *sorted, by_value);
        run.threshold = sorted[AREA / 2];
        for (int alone = 0; alone < 2; alone++) {
            for (int i = 0; i < COUNT; i++) {
                outputs[i] = (struct hymn_output){.mask = masks[alone][i]};
            }
            outputs[0].probabilities = alone ? NULL : probabilities;
            assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
            int with = count_steps(session, "head."), without = count_steps(session, "head_mask");
            int joined = count_steps(session, "conv2d_matrix_mask"); // on matrix units, in place of both
            assert_true(with < 0 || (with == !alone && without + joined == alone));
        }
        assert_memory_equal(masks[0], masks[1], sizeof masks[0]);
        for (int i = 0; i < AREA; i++) {
            assert_int_equal(masks[1][0][i], probabilities[i] >= run.threshold ? 255 : 0);
        }
        hymn_session_destroy(&session);
    }
    for (int i = 0; i < COUNT; i++) {
        free(pixels[i]);
    }
    golden_free(&golden);
}

// All are measured in either precision, they are numbers that a device can reach, and the session works on. The chain
// stands beside a run whose timings are known.
static void ceilings_are_measured(void **state) {
    (void)state;
    struct golden golden;
    golden_load("one_stage_conv", &golden);
    uint8_t pixels[48] = {0}, mask[16];
    struct hymn_output output = {.mask = mask};
    const struct hymn_image image = {.pixels = pixels, .height = 4, .width = 4};
    const struct hymn_run_params run = {.images = &image, .outputs = &output};
    for (int precision = HYMN_PRECISION_FP16; precision <= HYMN_PRECISION_FP32; precision++) {
        const bool timed = precision == HYMN_PRECISION_FP16;
        struct hymn_session_params params = {
            .height = 32, .width = 32, .precision = (enum hymn_precision)precision, .timings = timed};
        struct hymn_session *session = NULL;
        struct hymn_ceilings ceilings = {1.0, 1.0, 1.0, 1.0};
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
        uint64_t before = context->device->memory_bytes;
        enum hymn_status status = hymn_session_measure_ceilings(session, &ceilings);
        assert_int_equal(context->device->memory_bytes, before);
        if (context->device->plan.timestamps) {
            assert_int_equal(status, HYMN_STATUS_OK);
            assert_true(ceilings.gbps > 0.01 && ceilings.gbps < 1e5);
            assert_true(ceilings.gflops > 0.01 && ceilings.gflops < 1e7);
            assert_true(ceilings.dispatch_us > 1e-3 && ceilings.dispatch_us < 1e5);
            assert_true(timed ? ceilings.chain_ms > 1e-5 && ceilings.chain_ms < 1e5 : ceilings.chain_ms == 0.0);
        } else {
            assert_int_equal(status, HYMN_STATUS_UNSUPPORTED);
            assert_memory_equal(&ceilings, &(struct hymn_ceilings){0}, sizeof ceilings);
        }
        hymn_vk_memory_cap(context->device, before + 1); // no room for any problem
        status = hymn_session_measure_ceilings(session, &ceilings);
        assert_true(status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_UNSUPPORTED);
        assert_memory_equal(&ceilings, &(struct hymn_ceilings){0}, sizeof ceilings);
        hymn_vk_memory_cap(context->device, 0);
        assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
        hymn_session_destroy(&session);
    }
    assert_int_equal(hymn_session_measure_ceilings(NULL, NULL), HYMN_STATUS_INVALID_ARGUMENT);
    golden_free(&golden);
}

// In little memory smaller problems are measured, and no chain, which has one size.
static void ceilings_fit_into_little_memory(void **state) {
    (void)state;
    const uint64_t room = 64 << 20;
    struct golden golden;
    golden_load("one_stage_conv", &golden);
    struct hymn_session *session = open_session(&golden, 1024, 1, true);
    assert_true(hymn_session_get_info(session)->activation_bytes > room); // of one stream
    uint8_t pixels[48] = {0}, mask[16];
    struct hymn_output output = {.mask = mask};
    const struct hymn_image image = {.pixels = pixels, .height = 4, .width = 4};
    const struct hymn_run_params run = {.images = &image, .outputs = &output};
    assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
    struct hymn_ceilings ceilings;
    const uint64_t before = context->device->memory_bytes;
    hymn_vk_memory_cap(context->device, before + room);
    enum hymn_status status = hymn_session_measure_ceilings(session, &ceilings);
    hymn_vk_memory_cap(context->device, 0);
    assert_int_equal(context->device->memory_bytes, before);
    if (context->device->plan.timestamps) {
        assert_int_equal(status, HYMN_STATUS_OK);
        assert_true(ceilings.gbps > 0.0 && ceilings.gflops > 0.0 && ceilings.dispatch_us > 0.0);
    }
    assert_true(ceilings.chain_ms == 0.0);
    hymn_session_destroy(&session);
    golden_free(&golden);
}

// Without enough device memory for the plan: a status, and the context works on.
static void device_memory_can_run_out(void **state) {
    (void)state;
    struct golden golden;
    golden_load("five_stages", &golden);
    uint64_t before = context->device->memory_bytes;
    for (uint64_t cap = 1; cap < 64 << 20; cap *= 16) {
        const struct hymn_session_params params = {.tuning_ms = HYMN_TUNING_NONE}; // a second each on GPUs
        struct hymn_session *session = NULL;
        hymn_vk_memory_cap(context->device, before + cap);
        enum hymn_status status = hymn_session_create(context, golden.model, &params, &session);
        assert_true(status == HYMN_STATUS_OK || status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        assert_true(cap > 1 || status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        hymn_session_destroy(&session);
        assert_int_equal(context->device->memory_bytes, before);
    }
    hymn_vk_memory_cap(context->device, 0);
    struct hymn_session *session = open_session(&golden, 64, 1, false);
    hymn_session_destroy(&session);
    golden_free(&golden);
}

// Each of the host allocations of a session's life fails once: a clean status, no leak (the sanitizers look), and the
// next try works.
// One of each `step` of them, until none is left; returns about how many make a session or its run fail: the others
// could be done without.
static int64_t fail_each_allocation(const struct golden *golden, const struct hymn_session_params *params,
                                    int64_t step) {
    struct hymn_output outputs[8] = {{.logits = malloc(golden->output_count * sizeof(float))}};
    const struct hymn_run_params run = {.tensor = golden->input, .outputs = outputs};
    int64_t failures = 0;
    bool failed = true;
    for (int64_t n = 0; n < 100000 && failed; n += step) {
        struct hymn_session *session = NULL;
        hymn_alloc_fail_after(n);
        enum hymn_status status = hymn_session_create(context, golden->model, params, &session);
        if (status == HYMN_STATUS_OK) {
            status = hymn_session_run(session, &run);
        }
        failed = hymn_alloc_fail_after(-1);
        hymn_session_destroy(&session);
        assert_true(status == HYMN_STATUS_OK || (failed && status == HYMN_STATUS_OUT_OF_MEMORY));
        failures += status != HYMN_STATUS_OK ? step : 0;
    }
    assert_false(failed);
    free(outputs[0].logits);
    return failures;
}

static void host_memory_can_run_out(void **state) {
    (void)state;
    struct golden golden;
    golden_load("one_stage_mamba", &golden);
    // Of tuning no more than its beginning: on GPUs each try would take its second.
    const struct hymn_session_params params = {.height = golden.height, .width = golden.width, .tuning_ms = 1};
    assert_true(fail_each_allocation(&golden, &params, 1) > 10); // it did fail where it should
    // As on a GPU, where sessions tune.
    struct hymn_vk_device *device = context->device;
    const enum hymn_device_type type = device->snapshot.type;
    const enum hymn_tier tier = device->tier;
    device->snapshot.type = HYMN_DEVICE_TYPE_DISCRETE_GPU;
    device->tier = tier == HYMN_TIER_BASE ? tier : HYMN_TIER_WIDE; // emulated matrices take minutes to compile
    const int64_t failures = fail_each_allocation(&golden, &params, 7);
    device->snapshot.type = type;
    device->tier = tier;
    golden_free(&golden);
    assert_true(failures > 10);
}

struct worker {
    struct hymn_context *context;
    const struct golden *golden;
    double nmse;
};

static void run_worker(void *argument) {
    struct worker *worker = argument;
    const struct golden *golden = worker->golden;
    float *logits = malloc(golden->output_count * sizeof *logits);
    struct hymn_session_params params = {
        .height = golden->height, .width = golden->width, .precision = HYMN_PRECISION_FP32};
    struct hymn_output output = {.logits = logits};
    struct hymn_run_params run = {.tensor = golden->input, .outputs = &output};
    worker->nmse = INFINITY;
    struct hymn_session *session = NULL;
    if (logits && hymn_session_create(worker->context, golden->model, &params, &session) == HYMN_STATUS_OK) {
        worker->nmse = 0.0;
        for (int i = 0; i < 5; i++) {
            double nmse = hymn_session_run(session, &run) == HYMN_STATUS_OK
                              ? golden_nmse(logits, golden->output, golden->output_count)
                              : INFINITY;
            worker->nmse = nmse > worker->nmse ? nmse : worker->nmse;
        }
    }
    hymn_session_destroy(&session);
    free(logits);
}

static void two_contexts_work_on_two_threads(void **state) {
    (void)state;
    struct golden golden;
    golden_load("plain", &golden);
    struct worker workers[2] = {{context, &golden, 0.0}, {test_context_open(), &golden, 0.0}};
    assert_non_null(workers[1].context);
    hymn_thread threads[2];
    for (int i = 0; i < 2; i++) {
        assert_true(hymn_thread_start(&threads[i], run_worker, &workers[i]));
    }
    for (int i = 0; i < 2; i++) {
        hymn_thread_join(threads[i]);
        assert_true(workers[i].nmse < 1e-9);
    }
    assert_int_equal(test_context_close(&workers[1].context), 0);
    golden_free(&golden);
}

// Whether a whole batch goes into the first convolution as it is, or fewer by way of the network's input, or as
// tensors: the same logits. On matrix units it is one step for the batch, and again when others have been run in
// between.
static void whole_batches_are_as_others(void **state) {
    (void)state;
    enum { SIZE = 40, AREA = SIZE * SIZE };
    struct test_random random = test_random_start("whole_batches_are_as_others");
    struct golden golden;
    golden_load("plain", &golden);
    const struct hymn_model_info *info = hymn_model_get_info(golden.model);
    struct hymn_image images[2];
    uint8_t *pixels[2] = {random_image(&random, &images[0], SIZE, SIZE), random_image(&random, &images[1], SIZE, SIZE)};
    static float tensors[2 * 3 * AREA], logits[2][AREA], others[2][AREA];
    for (int i = 0; i < 2 * 3 * AREA; i++) {
        int c = i % (3 * AREA) / AREA, p = i % AREA;
        tensors[i] = (pixels[i / (3 * AREA)][p * 3 + c] / 255.0f - info->mean[c]) / info->std[c];
    }
    struct hymn_session_params params = {
        .height = SIZE, .width = SIZE, .batch = 2, .timings = true, .tuning_ms = HYMN_TUNING_NONE};
    struct hymn_session *session = NULL;
    assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
    struct hymn_output outputs[] = {{.logits = logits[0]}, {.logits = logits[1]}}, other[] = {{0}, {0}};
    const struct hymn_run_params whole = {.images = images, .outputs = outputs};
    for (int kind = 0; kind < 3; kind++) { // of the other run: the first image, the second one, tensors
        assert_int_equal(hymn_session_run(session, &whole), HYMN_STATUS_OK);
        int thin = count_steps(session, "conv2d_matrix_pictures"), made = count_steps(session, "image_normalise");
        assert_true(made < 0 || made + thin == 1);
        assert_true(made < 0 || !emulated || thin == 1);
        other[0].logits = others[0], other[1].logits = others[1];
        struct hymn_run_params run = {.images = &images[kind % 2], .count = 1, .outputs = other};
        if (kind == 2) {
            run = (struct hymn_run_params){.tensor = tensors, .outputs = other};
        }
        assert_int_equal(hymn_session_run(session, &run), HYMN_STATUS_OK);
        assert_int_equal(count_steps(session, "conv2d_matrix_pictures"), made < 0 ? -1 : 0);
        assert_true(thin < 1 || count_steps(session, "conv2d_matrix_thin") == 1);
        for (int i = 0; i < (kind == 2 ? 2 : 1); i++) {
            assert_true(golden_nmse(others[i], logits[kind == 2 ? i : kind], AREA) < 1e-6);
        }
    }
    hymn_session_destroy(&session);
    free(pixels[0]);
    free(pixels[1]);
    golden_free(&golden);
}

// Of images of any size, with any results.
static void run_sizes(struct hymn_session *session) {
    static const uint32_t sizes[][2] = {{30, 40}, {70, 100}, {5, 1000}, {20000, 3}, {65535, 1}, {256, 256}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t area = (size_t)sizes[i][0] * sizes[i][1];
        const struct hymn_session_info *info = hymn_session_get_info(session);
        uint8_t *pixels = calloc(area, 4), *mask = malloc(area);
        float *probabilities = malloc(area * sizeof *probabilities);
        float *logits = malloc((size_t)info->height * info->width * sizeof *logits);
        assert_true(pixels && mask && probabilities && logits);
        for (uint32_t kind = 0; kind < 5; kind++) {
            const struct hymn_image image = {.pixels = pixels,
                                             .height = sizes[i][0],
                                             .width = sizes[i][1],
                                             .format = (enum hymn_pixel_format)(kind % 3)};
            const struct hymn_output output = {.logits = kind < 3 ? logits : NULL,
                                               .probabilities = kind < 4 ? probabilities : NULL,
                                               .mask = kind != 3 ? mask : NULL};
            assert_int_equal(hymn_session_run(session, &(struct hymn_run_params){.images = &image, .outputs = &output}),
                             HYMN_STATUS_OK);
        }
        free(pixels);
        free(mask);
        free(probabilities);
        free(logits);
    }
}

// Whatever images a run has, their pipelines were made with the session. On a GPU workgroups are of other sizes.
static void runs_make_no_pipelines(void **state) {
    (void)state;
    const enum hymn_device_type own = context->device->snapshot.type;
    struct golden golden;
    golden_load("one_stage_conv", &golden);
    assert_int_equal(hymn_model_get_info(golden.model)->num_classes, 1);
    for (int i = 0; i < 3; i++) {
        struct hymn_session_params params = {.height = i < 2 ? 256 : 40,
                                             .width = i < 2 ? 256 : 24,
                                             .tier = HYMN_TIER_BASE,
                                             .tuning_ms = HYMN_TUNING_NONE};
        struct hymn_session *session = NULL;
        context->device->snapshot.type = i == 0 ? own : HYMN_DEVICE_TYPE_INTEGRATED_GPU;
        assert_int_equal(hymn_session_create(context, golden.model, &params, &session), HYMN_STATUS_OK);
        const uint32_t before = hymn_vk_pipelines_count(context->device, NULL);
        run_sizes(session);
        const uint32_t after = hymn_vk_pipelines_count(context->device, NULL);
        hymn_session_destroy(&session);
        context->device->snapshot.type = own;
        assert_int_equal(after, before);
    }
    golden_free(&golden);
}

static int open_context(void **state) {
    (void)state;
    context = test_context_open();
    if (context) {
        emulated =
            test_context_shrink_tiles(context, HYMN_TIER_AUTO, 4); // by which there is a kernel for few channels too
    }
    return context ? 0 : -1;
}

static int close_context(void **state) {
    (void)state;
    hymn_conv2d_matrix_force(NULL);
    return test_context_close(&context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_equals_normalised_tensor),   cmocka_unit_test(batches_and_runs_in_flight_agree),
        cmocka_unit_test(multi_class_masks_are_argmax),     cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(timings_name_every_dispatch),      cmocka_unit_test(ceilings_are_measured),
        cmocka_unit_test(ceilings_fit_into_little_memory),  cmocka_unit_test(equal_images_of_a_batch_agree),
        cmocka_unit_test(device_memory_can_run_out),        cmocka_unit_test(host_memory_can_run_out),
        cmocka_unit_test(two_contexts_work_on_two_threads), cmocka_unit_test(masks_alone_are_those_with_logits),
        cmocka_unit_test(whole_batches_are_as_others),      cmocka_unit_test(a_run_beside_all_that_may_be_is_busy),
        cmocka_unit_test(runs_make_no_pipelines),           cmocka_unit_test(runs_may_ask_for_nothing),
    };
    return cmocka_run_group_tests_name("api_session", tests, open_context, close_context);
}
