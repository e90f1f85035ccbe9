// SPDX-License-Identifier: MIT
#include "vk/memory.h"

#include <inttypes.h>
#include <string.h>

void hymn_vk_memory_cap(struct hymn_vk_device *device, uint64_t bytes) {
    device->memory_cap = bytes;
}

struct heap_room {
    uint64_t free, size;
};

// What the device has left in a heap: by the driver's budget where it tells, else by our own count.
static struct heap_room heap_room(const struct hymn_vk_device *device, uint32_t heap) {
    struct heap_room room = {0, device->memory.memoryHeaps[heap].size};
    uint64_t used = device->heap_bytes[heap], limit = room.size;
    if (device->memory_budget) {
        VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
        VkPhysicalDeviceMemoryProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                        .pNext = &budget};
        device->instance->table.vkGetPhysicalDeviceMemoryProperties2(device->physical, &properties);
        if (budget.heapBudget[heap] > 0) {
            limit = budget.heapBudget[heap] < limit ? budget.heapBudget[heap] : limit;
            used = budget.heapUsage[heap] > used ? budget.heapUsage[heap] : used;
        }
    }
    room.free = used < limit ? limit - used : 0;
    if (device->memory_cap > 0) {
        uint64_t below = device->memory_bytes < device->memory_cap ? device->memory_cap - device->memory_bytes : 0;
        room.free = below < room.free ? below : room.free;
    }
    return room;
}

static enum hymn_status no_room(const struct hymn_vk_device *device, const char *what, uint64_t bytes, uint32_t heap) {
    const double mib = 1024.0 * 1024.0;
    struct heap_room room = heap_room(device, heap);
    return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_DEVICE_MEMORY,
                     "%s: %.1f MiB of device memory are needed; of %s's %.1f MiB, %.1f MiB are free, and %.1f MiB are "
                     "in use here",
                     what, (double)bytes / mib, device->info.name, (double)room.size / mib, (double)room.free / mib,
                     (double)device->heap_bytes[heap] / mib);
}

// The best type with room for `bytes`.
static enum hymn_status choose_type(const struct hymn_vk_device *device, enum hymn_vk_usage usage, uint32_t allowed,
                                    uint64_t bytes, const char *what, uint32_t *out_type) {
    uint64_t room[VK_MAX_MEMORY_HEAPS] = {0};
    for (uint32_t i = 0; i < device->memory.memoryHeapCount; i++) {
        room[i] = heap_room(device, i).free;
    }
    struct hymn_vk_memory_choice choice = hymn_vk_memory_choose(&device->memory, device->plan.skip_staging,
                                                                device->plan.integrated, usage, allowed, bytes, room);
    *out_type = choice.type;
    if (choice.heap == HYMN_VK_NO_HEAP) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: %s has no memory type for it", what,
                         device->info.name);
    }
    return choice.type == HYMN_VK_NO_TYPE ? no_room(device, what, bytes, choice.heap) : HYMN_STATUS_OK;
}

static enum hymn_status allocate(struct hymn_vk_device *device, enum hymn_vk_usage usage, const char *what,
                                 struct hymn_vk_buffer *buffer) {
    VkMemoryRequirements requirements;
    device->table.vkGetBufferMemoryRequirements(device->handle, buffer->handle, &requirements);
    uint32_t type = 0;
    enum hymn_status status = choose_type(device, usage, requirements.memoryTypeBits, requirements.size, what, &type);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = requirements.size,
        .memoryTypeIndex = type,
    };
    const VkMemoryType *memory_type = &device->memory.memoryTypes[type];
    VkResult result = device->table.vkAllocateMemory(device->handle, &info, NULL, &buffer->memory);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY) {
        buffer->memory = VK_NULL_HANDLE;
        return no_room(device, what, requirements.size, memory_type->heapIndex);
    }
    if (result != VK_SUCCESS) {
        buffer->memory = VK_NULL_HANDLE;
        return hymn_vk_result(device, result, "vkAllocateMemory");
    }
    buffer->allocated = requirements.size;
    buffer->heap = memory_type->heapIndex;
    buffer->coherent = memory_type->propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    buffer->reads_slowly = hymn_vk_memory_reads_slowly(&device->memory, type);
    device->heap_bytes[buffer->heap] += buffer->allocated;
    device->memory_bytes += buffer->allocated;
    bool map = (memory_type->propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) &&
               (usage != HYMN_VK_USAGE_DEVICE || device->plan.skip_staging);
    if (map) {
        void *mapped = NULL;
        result = device->table.vkMapMemory(device->handle, buffer->memory, 0, VK_WHOLE_SIZE, 0, &mapped);
        buffer->mapped = result == VK_SUCCESS ? mapped : NULL;
        return hymn_vk_result(device, result, "vkMapMemory");
    }
    return HYMN_STATUS_OK;
}

// shared: between the families of both queues, where there are two.
static enum hymn_status create(struct hymn_vk_device *device, enum hymn_vk_usage usage, bool shared, uint64_t bytes,
                               const char *what, struct hymn_vk_buffer *out_buffer) {
    memset(out_buffer, 0, sizeof *out_buffer);
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    uint64_t largest = device->snapshot.max_allocation_bytes;
    if (largest > 0 && bytes > largest) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_DEVICE_MEMORY,
                         "%s: %" PRIu64 " bytes of device memory are needed; %s allocates at most %" PRIu64
                         " in one piece",
                         what, bytes, device->info.name, largest);
    }
    uint32_t type = 0; // before the buffer is made: its own size may be beyond what the driver can express
    status = choose_type(device, usage, UINT32_MAX, bytes, what, &type);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const uint32_t families[2] = {device->queue_family, device->transfer_family};
    shared = shared && device->transfer_queue && families[0] != families[1];
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = bytes,
        .usage =
            VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .sharingMode = shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = shared ? 2 : 0,
        .pQueueFamilyIndices = families,
    };
    struct hymn_vk_buffer buffer = {.bytes = bytes};
    VkResult result = device->table.vkCreateBuffer(device->handle, &info, NULL, &buffer.handle);
    if (result != VK_SUCCESS) {
        return hymn_vk_result(device, result, "vkCreateBuffer");
    }
    status = allocate(device, usage, what, &buffer);
    if (status == HYMN_STATUS_OK) {
        result = device->table.vkBindBufferMemory(device->handle, buffer.handle, buffer.memory, 0);
        status = hymn_vk_result(device, result, "vkBindBufferMemory");
    }
    if (status != HYMN_STATUS_OK) {
        hymn_vk_buffer_destroy(device, &buffer);
        return status;
    }
    hymn_vk_name(device, VK_OBJECT_TYPE_BUFFER, (uint64_t)buffer.handle, what);
    *out_buffer = buffer;
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_vk_buffer_create(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                       const char *what, struct hymn_vk_buffer *out_buffer) {
    return create(device, usage, false, bytes, what, out_buffer);
}

enum hymn_status hymn_vk_buffer_create_shared(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                              const char *what, struct hymn_vk_buffer *out_buffer) {
    return create(device, usage, true, bytes, what, out_buffer);
}

enum hymn_status hymn_vk_buffer_create_input(struct hymn_vk_device *device, uint64_t bytes, const char *what,
                                             struct hymn_vk_buffer *out_buffer, bool *out_direct) {
    *out_direct = device->plan.skip_staging;
    if (bytes <= device->direct_bytes && !device->plan.skip_staging) {
        struct hymn_log log = device->log;
        device->log = hymn_log_soften(&log); // it can do without
        enum hymn_status status = create(device, HYMN_VK_USAGE_DIRECT, false, bytes, what, out_buffer);
        device->log = log;
        *out_direct = status == HYMN_STATUS_OK;
        if (*out_direct) {
            return status;
        }
    }
    return create(device, HYMN_VK_USAGE_UPLOAD, true, bytes, what, out_buffer);
}

void hymn_vk_buffer_destroy(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer) {
    if (buffer->handle) {
        device->table.vkDestroyBuffer(device->handle, buffer->handle, NULL);
    }
    if (buffer->memory) {
        device->table.vkFreeMemory(device->handle, buffer->memory, NULL); // unmaps it
        device->heap_bytes[buffer->heap] -= buffer->allocated;
        device->memory_bytes -= buffer->allocated;
    }
    memset(buffer, 0, sizeof *buffer);
}

static VkMappedMemoryRange mapped_range(const struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                        uint64_t offset, uint64_t bytes) {
    return hymn_vk_memory_range(buffer->memory, buffer->allocated, device->snapshot.non_coherent_atom, offset, bytes);
}

enum hymn_status hymn_vk_buffer_flush(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                      uint64_t offset, uint64_t bytes) {
    if (buffer->coherent || bytes == 0) {
        return HYMN_STATUS_OK;
    }
    VkMappedMemoryRange range = mapped_range(device, buffer, offset, bytes);
    VkResult result = device->table.vkFlushMappedMemoryRanges(device->handle, 1, &range);
    return hymn_vk_result(device, result, "vkFlushMappedMemoryRanges");
}

enum hymn_status hymn_vk_buffer_invalidate(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                           uint64_t offset, uint64_t bytes) {
    if (buffer->coherent || bytes == 0) {
        return HYMN_STATUS_OK;
    }
    VkMappedMemoryRange range = mapped_range(device, buffer, offset, bytes);
    VkResult result = device->table.vkInvalidateMappedMemoryRanges(device->handle, 1, &range);
    return hymn_vk_result(device, result, "vkInvalidateMappedMemoryRanges");
}
