// SPDX-License-Identifier: MIT
//
// Devices for tests of the Vulkan layer: the one of HYMN_DEVICE (default: the best), under the validation layer, with
// its synchronization checks, wherever it is installed. Include after cmocka.h.
#ifndef HYMN_TESTS_SUPPORT_TEST_VK_H
#define HYMN_TESTS_SUPPORT_TEST_VK_H

#include <stdlib.h>

#include "support/test_leaks.h"
#include "support/test_log.h"
#include "vk/device.h"
#include "vk/shader.h"

// tests/shaders, made by the build.
extern const struct hymn_shader hymn_test_shaders[];
extern const uint32_t hymn_test_shader_count;

static inline const struct hymn_shader *test_vk_shader(const char *name) {
    for (uint32_t i = 0; i < hymn_test_shader_count; i++) {
        if (strcmp(hymn_test_shaders[i].name, name) == 0) {
            return &hymn_test_shaders[i];
        }
    }
    fail_msg("no test shader %s", name);
    return NULL;
}

struct test_vk {
    struct test_log log;
    struct hymn_vk_device *device;
    bool validated;
};

// The status of making a device that logs to vk->log.
static inline enum hymn_status test_vk_try(struct test_vk *vk, const char *wanted, const char *cache_dir,
                                           bool validation) {
    struct hymn_context_params params = {
        .log = test_log_start(&vk->log), .device = wanted, .cache_dir = cache_dir, .validation = validation};
    vk->validated = validation;
    return hymn_vk_device_create(&params, &vk->device);
}

static inline void test_vk_open(struct test_vk *vk, const char *cache_dir) {
    enum hymn_status status = test_vk_try(vk, getenv("HYMN_DEVICE"), cache_dir, true);
    if (status == HYMN_STATUS_UNSUPPORTED && test_log_has(&vk->log, "VK_LAYER_KHRONOS_validation")) {
        static bool told;
        if (!told) {
            print_message("no validation layer: running without\n");
            told = true;
        }
        status = test_vk_try(vk, getenv("HYMN_DEVICE"), cache_dir, false);
    }
    if (status != HYMN_STATUS_OK) {
        fail_msg("no device: %s", vk->log.text);
    }
}

// Fails the test when validation had anything to say.
static inline void test_vk_close(struct test_vk *vk) {
    uint32_t messages = vk->device->instance->validation_messages;
    hymn_vk_device_destroy(&vk->device);
    assert_null(vk->device);
    if (messages || test_log_has(&vk->log, "validation:")) {
        fail_msg("validation: %s", vk->log.text);
    }
}

#endif
