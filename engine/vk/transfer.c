// SPDX-License-Identifier: MIT
//
// One-time transfers between the host and a buffer that it cannot see, or not read as fast as it might.
#include <string.h>

#include "vk/command.h"
#include "vk/memory.h"

#define STAGING_BYTES ((uint64_t)16 << 20)

// A staging buffer and the commands of one piece at a time.
struct transfer {
    struct hymn_vk_device *device;
    struct hymn_vk_buffer staging;
    VkCommandBuffer commands;
    VkFence fence;
};

static void transfer_close(struct transfer *transfer) {
    struct hymn_vk_device *device = transfer->device;
    if (transfer->commands) {
        device->table.vkFreeCommandBuffers(device->handle, device->transfer_pool, 1, &transfer->commands);
    }
    hymn_vk_fence_destroy(device, &transfer->fence);
    hymn_vk_buffer_destroy(device, &transfer->staging);
}

static enum hymn_status transfer_open(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                      struct transfer *transfer) {
    memset(transfer, 0, sizeof *transfer);
    transfer->device = device;
    uint64_t size = bytes < STAGING_BYTES ? bytes : STAGING_BYTES;
    enum hymn_status status = HYMN_STATUS_OK;
    if (size > 0) {
        status = hymn_vk_buffer_create(device, usage, size, "staging", &transfer->staging);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_fence_create(device, &transfer->fence);
    }
    if (status == HYMN_STATUS_OK) {
        VkCommandBufferAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
            .commandPool = device->transfer_pool,
            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
            .commandBufferCount = 1,
        };
        VkResult result = device->table.vkAllocateCommandBuffers(device->handle, &info, &transfer->commands);
        if (result != VK_SUCCESS) {
            transfer->commands = NULL;
        }
        status = hymn_vk_result(device, result, "vkAllocateCommandBuffers");
    }
    if (status != HYMN_STATUS_OK) {
        transfer_close(transfer);
    }
    return status;
}

static enum hymn_status transfer_begin(struct transfer *transfer) {
    struct hymn_vk_device *device = transfer->device;
    VkResult result = device->table.vkResetCommandPool(device->handle, device->transfer_pool, 0);
    if (result == VK_SUCCESS) {
        VkCommandBufferBeginInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
        };
        result = device->table.vkBeginCommandBuffer(transfer->commands, &info);
    }
    if (result == VK_SUCCESS) {
        VkMemoryBarrier before = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
            .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
            .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        };
        device->table.vkCmdPipelineBarrier(transfer->commands,
                                           VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                                           VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &before, 0, NULL, 0, NULL);
    }
    return hymn_vk_result(device, result, "vkBeginCommandBuffer");
}

// Runs what was recorded and waits for it; the host then sees what was written.
static enum hymn_status transfer_finish(struct transfer *transfer) {
    struct hymn_vk_device *device = transfer->device;
    VkMemoryBarrier after = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    device->table.vkCmdPipelineBarrier(transfer->commands,
                                       VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                                       VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &after, 0, NULL, 0, NULL);
    VkResult result = device->table.vkEndCommandBuffer(transfer->commands);
    enum hymn_status status = hymn_vk_result(device, result, "vkEndCommandBuffer");
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_submit_buffers(device, &transfer->commands, 1, transfer->fence);
    }
    return status == HYMN_STATUS_OK ? hymn_vk_wait(device, transfer->fence) : status;
}

// Where in the list of writes a piece begins.
struct position {
    uint32_t index;
    uint64_t done; // of writes[index]
};

// Fills the staging buffer from the position on and records the copies out of it.
static void stage_piece(struct transfer *transfer, const struct hymn_vk_buffer *buffer,
                        const struct hymn_vk_write *writes, uint32_t count, struct position *position) {
    uint64_t filled = 0;
    while (position->index < count && filled < transfer->staging.bytes) {
        const struct hymn_vk_write *write = &writes[position->index];
        uint64_t room = transfer->staging.bytes - filled, left = write->bytes - position->done;
        uint64_t bytes = left < room ? left : room;
        if (bytes > 0) {
            memcpy(transfer->staging.mapped + filled, (const uint8_t *)write->data + position->done, bytes);
            VkBufferCopy region = {filled, write->offset + position->done, bytes};
            transfer->device->table.vkCmdCopyBuffer(transfer->commands, transfer->staging.handle, buffer->handle, 1,
                                                    &region);
        }
        filled += bytes;
        position->done += bytes;
        if (position->done == write->bytes) {
            position->index++;
            position->done = 0;
        }
    }
}

static enum hymn_status write_staged(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                     const struct hymn_vk_write *writes, uint32_t count, uint64_t total) {
    struct transfer transfer;
    enum hymn_status status = transfer_open(device, HYMN_VK_USAGE_UPLOAD, total, &transfer);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct position position = {0};
    while (position.index < count && status == HYMN_STATUS_OK) {
        status = transfer_begin(&transfer);
        if (status == HYMN_STATUS_OK) {
            stage_piece(&transfer, buffer, writes, count, &position);
            status = hymn_vk_buffer_flush(device, &transfer.staging, 0, transfer.staging.bytes);
        }
        if (status == HYMN_STATUS_OK) {
            status = transfer_finish(&transfer);
        }
    }
    transfer_close(&transfer);
    return status;
}

static bool within(const struct hymn_vk_buffer *buffer, uint64_t offset, uint64_t bytes) {
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

enum hymn_status hymn_vk_buffer_write(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer,
                                      const struct hymn_vk_write *writes, uint32_t count) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!within(buffer, writes[i].offset, writes[i].bytes)) {
            return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "a write beyond the end of a buffer");
        }
        total += writes[i].bytes;
    }
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK || total == 0) {
        return status;
    }
    if (!buffer->mapped) {
        return write_staged(device, buffer, writes, count, total);
    }
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        memcpy(buffer->mapped + writes[i].offset, writes[i].data, writes[i].bytes);
        status = hymn_vk_buffer_flush(device, buffer, writes[i].offset, writes[i].bytes);
    }
    return status;
}

// From one period at the beginning of the range on, twice as many with each copy.
static void multiply(struct transfer *transfer, const struct hymn_vk_buffer *buffer, uint64_t offset, uint64_t bytes,
                     uint64_t period) {
    const struct VolkDeviceTable *table = &transfer->device->table;
    const VkMemoryBarrier written = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    };
    uint64_t filled = bytes < period ? bytes : period;
    VkBufferCopy region = {0, offset, filled};
    table->vkCmdCopyBuffer(transfer->commands, transfer->staging.handle, buffer->handle, 1, &region);
    for (; filled < bytes; filled += region.size) {
        region = (VkBufferCopy){offset, offset + filled, bytes - filled < filled ? bytes - filled : filled};
        table->vkCmdPipelineBarrier(transfer->commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT,
                                    0, 1, &written, 0, NULL, 0, NULL);
        table->vkCmdCopyBuffer(transfer->commands, buffer->handle, buffer->handle, 1, &region);
    }
}

static enum hymn_status repeat_staged(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                      uint64_t offset, uint64_t bytes, const void *data, uint64_t period) {
    struct transfer transfer;
    enum hymn_status status = transfer_open(device, HYMN_VK_USAGE_UPLOAD, period, &transfer);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    memcpy(transfer.staging.mapped, data, period);
    status = hymn_vk_buffer_flush(device, &transfer.staging, 0, period);
    if (status == HYMN_STATUS_OK) {
        status = transfer_begin(&transfer);
    }
    if (status == HYMN_STATUS_OK) {
        multiply(&transfer, buffer, offset, bytes, period);
        status = transfer_finish(&transfer);
    }
    transfer_close(&transfer);
    return status;
}

enum hymn_status hymn_vk_buffer_repeat(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer, uint64_t offset,
                                       uint64_t bytes, const void *data, uint64_t period) {
    if (!within(buffer, offset, bytes) || period == 0 || period > STAGING_BYTES) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "a write beyond the end of a buffer");
    }
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK || bytes == 0) {
        return status;
    }
    if (!buffer->mapped) {
        return repeat_staged(device, buffer, offset, bytes, data, period);
    }
    for (uint64_t at = 0; at < bytes; at += period) {
        memcpy(buffer->mapped + offset + at, data, bytes - at < period ? bytes - at : period);
    }
    return hymn_vk_buffer_flush(device, buffer, offset, bytes);
}

enum hymn_status hymn_vk_buffer_create_zeroed(struct hymn_vk_device *device, uint64_t bytes, const char *what,
                                              struct hymn_vk_buffer *out_buffer) {
    static const uint32_t zeros[64];
    memset(out_buffer, 0, sizeof *out_buffer);
    if (bytes == 0) {
        return HYMN_STATUS_OK;
    }
    enum hymn_status status = hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, bytes, what, out_buffer);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_repeat(device, out_buffer, 0, bytes, zeros, sizeof zeros);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_vk_buffer_destroy(device, out_buffer);
    }
    return status;
}

// Memory that the host sees, once what the device wrote there has been made visible to it.
static enum hymn_status read_mapped(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer, uint64_t offset,
                                    void *data, uint64_t bytes) {
    struct transfer transfer;
    enum hymn_status status = transfer_open(device, HYMN_VK_USAGE_READBACK, 0, &transfer);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    status = transfer_begin(&transfer);
    if (status == HYMN_STATUS_OK) {
        status = transfer_finish(&transfer);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_buffer_invalidate(device, buffer, offset, bytes);
    }
    if (status == HYMN_STATUS_OK) {
        memcpy(data, buffer->mapped + offset, bytes);
    }
    transfer_close(&transfer);
    return status;
}

static enum hymn_status read_staged(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer, uint64_t offset,
                                    uint8_t *data, uint64_t bytes) {
    struct transfer transfer;
    enum hymn_status status = transfer_open(device, HYMN_VK_USAGE_READBACK, bytes, &transfer);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    for (uint64_t done = 0; done < bytes && status == HYMN_STATUS_OK;) {
        uint64_t piece = bytes - done < transfer.staging.bytes ? bytes - done : transfer.staging.bytes;
        status = transfer_begin(&transfer);
        if (status == HYMN_STATUS_OK) {
            VkBufferCopy region = {offset + done, 0, piece};
            device->table.vkCmdCopyBuffer(transfer.commands, buffer->handle, transfer.staging.handle, 1, &region);
            status = transfer_finish(&transfer);
        }
        if (status == HYMN_STATUS_OK) {
            status = hymn_vk_buffer_invalidate(device, &transfer.staging, 0, piece);
        }
        if (status == HYMN_STATUS_OK) {
            memcpy(data + done, transfer.staging.mapped, piece);
        }
        done += piece;
    }
    transfer_close(&transfer);
    return status;
}

enum hymn_status hymn_vk_buffer_read(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                     uint64_t offset, void *data, uint64_t bytes) {
    if (!within(buffer, offset, bytes)) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "a read beyond the end of a buffer");
    }
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK || bytes == 0) {
        return status;
    }
    return buffer->mapped && !buffer->reads_slowly ? read_mapped(device, buffer, offset, data, bytes)
                                                   : read_staged(device, buffer, offset, data, bytes);
}
