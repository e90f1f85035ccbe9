// SPDX-License-Identifier: MIT
#include "vk/command.h"

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

enum hymn_status hymn_vk_submit(struct hymn_vk_device *device, const VkCommandBuffer *buffers, uint32_t count,
                                VkFence fence) {
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkResult result = device->table.vkResetFences(device->handle, 1, &fence);
    if (result != VK_SUCCESS) {
        return hymn_vk_result(device, result, "vkResetFences");
    }
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = count, .pCommandBuffers = buffers};
    result = device->table.vkQueueSubmit(device->queue, 1, &info, fence);
    return hymn_vk_result(device, result, "vkQueueSubmit");
}

enum hymn_status hymn_vk_wait(struct hymn_vk_device *device, VkFence fence) {
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkResult result = device->table.vkWaitForFences(device->handle, 1, &fence, VK_TRUE, UINT64_MAX);
    return hymn_vk_result(device, result, "vkWaitForFences");
}

bool hymn_vk_done(struct hymn_vk_device *device, VkFence fence) {
    VkResult result = device->table.vkGetFenceStatus(device->handle, fence);
    if (result == VK_ERROR_DEVICE_LOST) {
        atomic_store(&device->lost, true);
    }
    return result != VK_NOT_READY;
}
