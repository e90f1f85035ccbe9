// SPDX-License-Identifier: MIT
#include "vk/upload.h"

#include <string.h>

#include "vk/command.h"

bool hymn_vk_upload_apart(const struct hymn_vk_device *device, uint64_t bytes, bool busy) {
    if (!device->transfer_queue || bytes == 0) {
        return false;
    }
    return device->transfer == HYMN_TRANSFER_ON || (busy && bytes >= HYMN_VK_UPLOAD_BYTES);
}

static enum hymn_status ensure_pool(struct hymn_vk_device *device, struct hymn_vk_upload *upload) {
    if (upload->pool) {
        VkResult result = device->table.vkResetCommandPool(device->handle, upload->pool, 0);
        return hymn_vk_result(device, result, "vkResetCommandPool");
    }
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .queueFamilyIndex = device->transfer_family,
    };
    VkResult result = device->table.vkCreateCommandPool(device->handle, &info, NULL, &upload->pool);
    if (result != VK_SUCCESS) {
        upload->pool = VK_NULL_HANDLE;
    }
    return hymn_vk_result(device, result, "vkCreateCommandPool");
}

static enum hymn_status ensure_commands(struct hymn_vk_device *device, struct hymn_vk_upload *upload) {
    if (upload->commands) {
        return HYMN_STATUS_OK;
    }
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = upload->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkResult result = device->table.vkAllocateCommandBuffers(device->handle, &info, &upload->commands);
    if (result != VK_SUCCESS) {
        upload->commands = NULL;
        return hymn_vk_result(device, result, "vkAllocateCommandBuffers");
    }
    hymn_vk_name(device, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)upload->commands, "upload");
    return HYMN_STATUS_OK;
}

// No barriers: the submission makes visible what the host wrote, the semaphore what the copy wrote.
enum hymn_status hymn_vk_upload_record(struct hymn_vk_device *device, const struct hymn_vk_buffer *from,
                                       const struct hymn_vk_buffer *to, uint64_t bytes, struct hymn_vk_upload *upload) {
    enum hymn_status status = hymn_vk_device_check(device);
    if (status == HYMN_STATUS_OK) {
        status = ensure_pool(device, upload);
    }
    if (status == HYMN_STATUS_OK) {
        status = ensure_commands(device, upload);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkResult result = device->table.vkBeginCommandBuffer(upload->commands, &info);
    if (result != VK_SUCCESS) {
        return hymn_vk_result(device, result, "vkBeginCommandBuffer");
    }
    VkBufferCopy region = {0, 0, bytes};
    device->table.vkCmdCopyBuffer(upload->commands, from->handle, to->handle, 1, &region);
    result = device->table.vkEndCommandBuffer(upload->commands);
    return hymn_vk_result(device, result, "vkEndCommandBuffer");
}

enum hymn_status hymn_vk_upload_start(struct hymn_vk_device *device, struct hymn_vk_upload *upload) {
    if (!upload->arrived) {
        VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
        VkResult result = device->table.vkCreateSemaphore(device->handle, &semaphore, NULL, &upload->arrived);
        if (result != VK_SUCCESS) {
            upload->arrived = VK_NULL_HANDLE;
            return hymn_vk_result(device, result, "vkCreateSemaphore");
        }
    }
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = 1,
        .pCommandBuffers = &upload->commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &upload->arrived,
    };
    VkResult result = device->table.vkQueueSubmit(device->transfer_queue, 1, &info, VK_NULL_HANDLE);
    return hymn_vk_result(device, result, "vkQueueSubmit");
}

void hymn_vk_upload_abandon(struct hymn_vk_device *device, struct hymn_vk_upload *upload) {
    if (hymn_vk_drain(device, device->transfer_queue)) {
        device->table.vkDestroySemaphore(device->handle, upload->arrived, NULL); // a signal cannot be taken back
        upload->arrived = VK_NULL_HANDLE;
    }
}

void hymn_vk_upload_destroy(struct hymn_vk_device *device, struct hymn_vk_upload *upload) {
    device->table.vkDestroySemaphore(device->handle, upload->arrived, NULL);
    device->table.vkDestroyCommandPool(device->handle, upload->pool, NULL);
    memset(upload, 0, sizeof *upload);
}
