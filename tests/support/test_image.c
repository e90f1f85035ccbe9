// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "support/test_image.h"
#include "vk/command.h"
#include "vk/pipeline.h"

struct test_image_case test_image_random_case(struct test_random *random) {
    struct test_image_case c = {
        .height = test_random_range(random, 1, 90),
        .width = test_random_range(random, 1, 90),
        .format = (enum hymn_pixel_format)test_random_range(random, 0, 2),
        .session_height = test_random_range(random, 1, 40),
        .session_width = test_random_range(random, 1, 40),
        .batch = test_random_range(random, 1, 3),
        .channels = test_random_range(random, 0, 1) ? 3 : 1,
        .classes = test_random_range(random, 0, 1) ? 1 : test_random_range(random, 2, 20),
        .storage = (enum hymn_storage)test_random_range(random, 0, 1),
        .small_bindings = test_random_range(random, 0, 1),
    };
    c.index = test_random_range(random, 0, c.batch - 1);
    c.padded_height = c.session_height + test_random_range(random, 0, 9);
    c.padded_width = c.session_width + test_random_range(random, 0, 9);
    return c;
}

void test_image_buffer(struct test_image *f, enum hymn_vk_role role, uint64_t bytes) {
    f->sizes[role] = (bytes + 255) / 256 * 256;
    f->bytes[role] = malloc(f->sizes[role]);
    assert_non_null(f->bytes[role]);
    memset(f->bytes[role], 0xFF, f->sizes[role]);
}

static struct hymn_value make_value(const struct test_image_case *c, uint32_t channels, enum hymn_storage storage) {
    struct hymn_value value = {
        .height = c->padded_height,
        .width = c->padded_width,
        .channels = channels,
        .stride = hymn_round_up(channels, 8),
        .planes = 1,
        .storage = storage,
    };
    value.bytes = (uint64_t)c->batch * value.height * value.width * value.stride * (storage ? 2 : 4);
    return value;
}

void test_image_begin(struct test_image *f, struct hymn_context *context, const struct test_image_case *c,
                      struct test_random *random) {
    memset(f, 0, sizeof *f);
    f->context = context;
    f->c = *c;
    f->plan = context->device->plan;
    if (c->small_bindings) {
        f->plan.max_binding_bytes = 1024;
    }
    f->input = make_value(c, c->channels, c->storage);
    f->output = make_value(c, c->classes, HYMN_STORAGE_F32);
    f->output.offset = (f->input.bytes + 255) / 256 * 256;
    test_random_fill(random, f->mean, 8, 0.2f, 0.6f);
    test_random_fill(random, f->std, 8, 0.1f, 0.4f);
    f->steps = (struct hymn_image_steps){
        .program = &f->program,
        .plan = &f->plan,
        .log = &context->device->log,
        .input = &f->input,
        .output = &f->output,
        .index = c->index,
        .count = 1,
        .height = c->session_height,
        .width = c->session_width,
        .in_channels = c->channels,
        .num_classes = c->classes,
        .mean = f->mean,
        .std = f->std,
    };
    test_image_buffer(f, HYMN_VK_ROLE_ACTIVATIONS, f->output.offset + f->output.bytes);
}

void test_image_end(struct test_image *f) {
    hymn_vk_program_free(&f->program);
    for (uint32_t i = 0; i < HYMN_VK_ROLE_COUNT; i++) {
        free(f->bytes[i]);
    }
}

static void submit(struct hymn_vk_device *device, const struct hymn_vk_record_params *record, uint32_t repeat,
                   double *out_ms) {
    struct hymn_vk_command command = {0};
    VkFence fence = VK_NULL_HANDLE;
    assert_int_equal(hymn_vk_pipelines_prepare(device, record->steps, record->count), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_command_record(device, record, &command), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    for (uint32_t i = 0; i <= repeat; i++) {
        double start = hymn_time_now();
        assert_int_equal(hymn_vk_submit(device, (const struct hymn_vk_command *[]){&command}, 1, fence),
                         HYMN_STATUS_OK);
        assert_int_equal(hymn_vk_wait(device, fence), HYMN_STATUS_OK);
        double ms = 1e3 * (hymn_time_now() - start);
        if (out_ms && (i == 1 || (i > 1 && ms < *out_ms))) {
            *out_ms = ms;
        }
    }
    hymn_vk_command_destroy(device, &command);
    hymn_vk_fence_destroy(device, &fence);
}

void test_image_run(struct test_image *f, uint32_t repeat, double *out_ms) {
    struct hymn_vk_device *device = f->context->device;
    struct hymn_vk_buffer buffers[HYMN_VK_ROLE_COUNT] = {0};
    struct hymn_vk_record_params record = {.name = "image", .steps = f->program.steps, .count = f->program.count};
    for (uint32_t i = 0; i < HYMN_VK_ROLE_COUNT; i++) {
        if (f->sizes[i]) {
            struct hymn_vk_write write = {0, f->bytes[i], f->sizes[i]};
            assert_int_equal(hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, f->sizes[i], "test", &buffers[i]),
                             HYMN_STATUS_OK);
            assert_int_equal(hymn_vk_buffer_write(device, &buffers[i], &write, 1), HYMN_STATUS_OK);
            record.buffers[i] = &buffers[i];
        }
    }
    submit(device, &record, repeat, out_ms);
    for (uint32_t i = 0; i < HYMN_VK_ROLE_COUNT; i++) {
        if (f->sizes[i]) {
            assert_int_equal(hymn_vk_buffer_read(device, &buffers[i], 0, f->bytes[i], f->sizes[i]), HYMN_STATUS_OK);
            hymn_vk_buffer_destroy(device, &buffers[i]);
        }
    }
}
