// SPDX-License-Identifier: MIT
#include "support/test_trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "session/context.h"
#include "vk/pipeline.h"

uint8_t *test_trial_try(struct hymn_context *context, const struct test_conv *b, const struct hymn_vk_plan *plan,
                        const struct hymn_conv2d_tile *tile, uint32_t nodes, struct hymn_trial *trial) {
    struct hymn_vk_device *device = context->device;
    struct hymn_method method;
    struct hymn_vk_buffer activations = {0};
    VkFence fence = VK_NULL_HANDLE;
    uint8_t *output = NULL;
    memcpy(&method, tile, sizeof method);
    assert_int_equal(hymn_trial_open(device, plan, &b->graph, b->node, &method, trial), HYMN_STATUS_OK);
    assert_int_equal(trial->graph.node_count, nodes);
    const struct hymn_vk_program *program = &trial->lower.program;
    assert_int_equal(hymn_vk_pipelines_prepare(device, program->steps, program->count), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    assert_int_equal(
        hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, trial->graph.activation_bytes, "trial", &activations),
        HYMN_STATUS_OK);
    assert_int_equal(hymn_trial_ready(device, &activations, trial), HYMN_STATUS_OK);
    assert_int_equal(hymn_trial_output(device, &activations, trial, fence, &output), HYMN_STATUS_OK);
    hymn_vk_fence_destroy(device, &fence);
    hymn_vk_buffer_destroy(device, &activations);
    return output;
}
