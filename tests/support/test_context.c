// SPDX-License-Identifier: MIT
#include "support/test_context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "session/context.h"
#include "support/golden.h"
#include "support/test_leaks.h"

enum hymn_tier test_context_tier(void) {
    const char *name = getenv("HYMN_TIER");
    enum hymn_tier tier = HYMN_TIER_AUTO;
    while (name && *name && tier <= HYMN_TIER_MATRIX && strcmp(name, hymn_tier_string(tier)) != 0) {
        tier++;
    }
    return tier; // an unknown name becomes an invalid tier, which no context takes
}

enum hymn_transfer test_context_transfer(void) {
    static const char *const names[] = {"auto", "off", "on"};
    const char *name = getenv("HYMN_TRANSFER");
    int transfer = 0;
    while (name && *name && transfer < 3 && strcmp(name, names[transfer]) != 0) {
        transfer++;
    }
    return (enum hymn_transfer)transfer; // an unknown name: one that no context takes
}

struct hymn_context *test_context_open(void) {
    return test_context_open_with(test_context_transfer());
}

static struct hymn_context *open_context(enum hymn_transfer transfer, uint32_t queues) {
    const char *validation = getenv("HYMN_VALIDATION");
    struct hymn_context_params params = {
        .log = {.callback = golden_print_log, .level = HYMN_LOG_WARNING},
        .device = getenv("HYMN_DEVICE"),
        .cache_dir = "",
        .tier = test_context_tier(),
        .validation = validation && strcmp(validation, "1") == 0,
        .transfer = transfer,
        .compute_queues = queues,
    };
    struct hymn_context *context = NULL;
    enum hymn_status status = hymn_context_create(&params, &context);
    if (status != HYMN_STATUS_OK) {
        fprintf(stderr, "no context: %s\n", hymn_status_string(status));
        return NULL;
    }
    printf("device: %s, %s\n", hymn_context_device(context)->name, hymn_context_device(context)->driver);
    return context;
}

struct hymn_context *test_context_open_with(enum hymn_transfer transfer) {
    return open_context(transfer, 0);
}

struct hymn_context *test_context_open_queues(uint32_t queues) {
    return open_context(test_context_transfer(), queues);
}

int test_context_close(struct hymn_context **context) {
    uint32_t messages = *context ? hymn_context_validation_messages(*context) : 0;
    hymn_context_destroy(context);
    if (messages) {
        fprintf(stderr, "%u validation messages\n", messages);
    }
    return messages ? -1 : 0;
}

bool test_context_shrink_tiles(const struct hymn_context *context, enum hymn_tier tier, uint32_t depth) {
    static struct hymn_conv2d_tile tile;
    struct hymn_vk_plan plan;
    hymn_vk_plan_make(&context->device->snapshot, hymn_vk_tier_limit(context->device->tier, tier), &plan);
    const bool emulated = plan.cpu && plan.tier == HYMN_TIER_MATRIX;
    tile = (struct hymn_conv2d_tile){.width = plan.matrix.m,
                                     .height = 2,
                                     .channels = 2 * plan.matrix.n,
                                     .rows = 2,
                                     .columns = 2,
                                     .taps = 1,
                                     .depth = depth ? depth : plan.matrix.k / 8,
                                     .buffers = 1,
                                     .splits = 1};
    hymn_conv2d_matrix_force(emulated ? &tile : NULL);
    return emulated;
}
