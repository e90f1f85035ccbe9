// SPDX-License-Identifier: MIT
#include "vk/command.h"

// Of one submission.
#define MOST_BUFFERS 16u

enum hymn_status hymn_vk_fence_create(struct hymn_vk_device *device, VkFence *out_fence) {
    VkFenceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkResult result = device->table.vkCreateFence(device->handle, &info, NULL, out_fence);
    if (result != VK_SUCCESS) {
        *out_fence = VK_NULL_HANDLE;
    }
    return hymn_vk_result(device, result, "vkCreateFence");
}

void hymn_vk_fence_destroy(struct hymn_vk_device *device, VkFence *fence) {
    device->table.vkDestroyFence(device->handle, *fence, NULL);
    *fence = VK_NULL_HANDLE;
}

static enum hymn_status begin(struct hymn_vk_device *device, VkFence fence) {
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkResult result = device->table.vkResetFences(device->handle, 1, &fence);
    return hymn_vk_result(device, result, "vkResetFences");
}

bool hymn_vk_drain(struct hymn_vk_device *device, VkQueue queue) {
    const bool idle = (queue && device->table.vkQueueWaitIdle(queue) == VK_SUCCESS) ||
                      device->table.vkDeviceWaitIdle(device->handle) == VK_SUCCESS;
    if (!idle) {
        atomic_store(&device->lost, true);
    }
    return idle;
}

// wait: a semaphore, or VK_NULL_HANDLE. What is submitted to the queue later waits for it too.
static enum hymn_status submit(struct hymn_vk_device *device, VkQueue queue, VkSemaphore wait,
                               const VkCommandBuffer *buffers, uint32_t count, VkFence fence) {
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT; // timestamps among them
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .waitSemaphoreCount = wait ? 1 : 0,
        .pWaitSemaphores = &wait,
        .pWaitDstStageMask = &stages,
        .commandBufferCount = count,
        .pCommandBuffers = buffers,
    };
    VkResult result = device->table.vkQueueSubmit(queue, 1, &info, fence);
    return hymn_vk_result(device, result, "vkQueueSubmit");
}

enum hymn_status hymn_vk_submit_buffers(struct hymn_vk_device *device, const VkCommandBuffer *buffers, uint32_t count,
                                        VkFence fence) {
    enum hymn_status status = begin(device, fence);
    return status == HYMN_STATUS_OK ? submit(device, device->queues[0], VK_NULL_HANDLE, buffers, count, fence) : status;
}

// A run on its way to the queue: command buffers that go into one submission, and what that waits for.
struct group {
    VkQueue queue;
    VkCommandBuffer buffers[MOST_BUFFERS];
    uint32_t count;
    double seconds;
    VkSemaphore wait; // of the first submission
    bool pending;     // a submission has been made
};

static enum hymn_status send(struct hymn_vk_device *device, struct group *group, VkFence fence) {
    enum hymn_status status = submit(device, group->queue, group->wait, group->buffers, group->count, fence);
    if (status == HYMN_STATUS_OK) {
        group->wait = VK_NULL_HANDLE;
        group->pending = true;
    }
    group->count = 0;
    group->seconds = 0.0;
    return status;
}

static enum hymn_status send_all(struct hymn_vk_device *device, const struct hymn_vk_command *const *commands,
                                 uint32_t count, VkFence fence, struct group *group) {
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < commands[i]->buffer_count; j++) {
            double seconds = group->seconds + commands[i]->seconds[j];
            if (group->count > 0 && (group->count == MOST_BUFFERS || seconds > device->submission_seconds)) {
                status = send(device, group, VK_NULL_HANDLE);
                if (status != HYMN_STATUS_OK) {
                    return status;
                }
            }
            group->buffers[group->count++] = commands[i]->buffers[j];
            group->seconds += commands[i]->seconds[j];
        }
    }
    return send(device, group, fence);
}

enum hymn_status hymn_vk_submit_to(struct hymn_vk_device *device, VkQueue queue, struct hymn_vk_upload *upload,
                                   const struct hymn_vk_command *const *commands, uint32_t count, VkFence fence) {
    struct group group = {.queue = queue};
    enum hymn_status status = begin(device, fence);
    bool ahead = false;
    if (status == HYMN_STATUS_OK && upload) {
        status = hymn_vk_upload_start(device, upload);
        ahead = status == HYMN_STATUS_OK;
        group.wait = ahead ? upload->arrived : VK_NULL_HANDLE;
    }
    if (status == HYMN_STATUS_OK) {
        status = send_all(device, commands, count, fence, &group);
    }
    if (status != HYMN_STATUS_OK && group.pending) {
        hymn_vk_drain(device, queue);
    }
    if (status != HYMN_STATUS_OK && ahead) {
        hymn_vk_upload_abandon(device, upload);
    }
    return status;
}

enum hymn_status hymn_vk_submit(struct hymn_vk_device *device, const struct hymn_vk_command *const *commands,
                                uint32_t count, VkFence fence) {
    return hymn_vk_submit_to(device, device->queues[0], NULL, commands, count, fence);
}

enum hymn_status hymn_vk_wait(struct hymn_vk_device *device, VkFence fence) {
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkResult result;
    do {
        result = device->table.vkWaitForFences(device->handle, 1, &fence, VK_TRUE, UINT64_MAX);
    } while (result == VK_TIMEOUT);
    status = hymn_vk_result(device, result, "vkWaitForFences");
    if (status != HYMN_STATUS_OK && status != HYMN_STATUS_DEVICE_LOST) {
        hymn_vk_drain(device, VK_NULL_HANDLE);
    }
    return status;
}

bool hymn_vk_done(struct hymn_vk_device *device, VkFence fence) {
    VkResult result = device->table.vkGetFenceStatus(device->handle, fence);
    if (result == VK_ERROR_DEVICE_LOST) {
        atomic_store(&device->lost, true);
    }
    return result != VK_NOT_READY;
}
