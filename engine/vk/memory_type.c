// SPDX-License-Identifier: MIT
#include "vk/memory_type.h"

// More than what is not device-local can have, and less than what is has for HYMN_VK_USAGE_DEVICE.
#define LOCAL_POINTS 8u

// How well a memory type serves a usage; 0: not at all.
static uint32_t score(bool unified, enum hymn_vk_usage usage, VkMemoryPropertyFlags flags) {
    // Memory that only some queues may touch, that exists on demand, or that bypasses caches.
    const VkMemoryPropertyFlags special = VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_PROTECTED_BIT |
                                          VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD |
                                          VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD;
    bool local = flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, visible = flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    bool coherent = flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, cached = flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if ((flags & special) || (usage != HYMN_VK_USAGE_DEVICE && !visible)) {
        return 0;
    }
    switch (usage) {
    case HYMN_VK_USAGE_DIRECT:
        return local && coherent ? 1 + !cached : 0;
    case HYMN_VK_USAGE_UPLOAD:
        return 1 + 4 * (local == unified) + 2 * coherent + !cached;
    case HYMN_VK_USAGE_READBACK:
        return 1 + 4 * cached + 2 * coherent + (local == unified);
    case HYMN_VK_USAGE_DEVICE:
        break;
    }
    return 1 + LOCAL_POINTS * local + 4 * (visible == unified) + 2 * (unified && coherent) + !cached;
}

struct hymn_vk_memory_choice hymn_vk_memory_choose(const VkPhysicalDeviceMemoryProperties *memory, bool unified,
                                                   bool integrated, enum hymn_vk_usage usage, uint32_t allowed,
                                                   uint64_t bytes, const uint64_t room[VK_MAX_MEMORY_HEAPS]) {
    struct hymn_vk_memory_choice choice = {HYMN_VK_NO_TYPE, HYMN_VK_NO_HEAP};
    uint32_t points[VK_MAX_MEMORY_TYPES], least = 1, most = 0;
    uint64_t largest = 0;
    const uint32_t count =
        memory->memoryTypeCount < VK_MAX_MEMORY_TYPES ? memory->memoryTypeCount : VK_MAX_MEMORY_TYPES;
    for (uint32_t i = 0; i < count; i++) {
        points[i] = allowed >> i & 1 ? score(unified, usage, memory->memoryTypes[i].propertyFlags) : 0;
        least = points[i] > LOCAL_POINTS && !integrated ? LOCAL_POINTS + 1 : least;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t heap = memory->memoryTypes[i].heapIndex;
        if (points[i] >= least && memory->memoryHeaps[heap].size > largest) {
            choice.heap = heap;
            largest = memory->memoryHeaps[heap].size;
        }
        if (points[i] >= least && points[i] > most && room[heap] >= bytes) {
            choice.type = i;
            most = points[i];
        }
    }
    return choice;
}

uint64_t hymn_vk_memory_bytes(const VkPhysicalDeviceMemoryProperties *memory, bool integrated) {
    static const uint64_t room[VK_MAX_MEMORY_HEAPS];
    uint32_t heap = hymn_vk_memory_choose(memory, false, integrated, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 0, room).heap;
    return heap == HYMN_VK_NO_HEAP ? 0 : memory->memoryHeaps[heap].size;
}

bool hymn_vk_memory_is_unified(const VkPhysicalDeviceMemoryProperties *memory) {
    bool all_visible = memory->memoryHeapCount > 0;
    for (uint32_t heap = 0; heap < memory->memoryHeapCount; heap++) {
        bool local = memory->memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT, visible = false;
        for (uint32_t type = 0; type < memory->memoryTypeCount; type++) {
            visible = visible || (memory->memoryTypes[type].heapIndex == heap &&
                                  memory->memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
        }
        all_visible = all_visible && (visible || !local);
    }
    return all_visible;
}

bool hymn_vk_memory_reads_slowly(const VkPhysicalDeviceMemoryProperties *memory, uint32_t type) {
    bool other = false;
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
        other = other || (score(false, HYMN_VK_USAGE_READBACK, memory->memoryTypes[i].propertyFlags) &&
                          memory->memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    }
    return other && !(memory->memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
}

uint64_t hymn_vk_memory_visible_bytes(const VkPhysicalDeviceMemoryProperties *memory) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < memory->memoryTypeCount && i < VK_MAX_MEMORY_TYPES; i++) {
        const VkMemoryType *type = &memory->memoryTypes[i];
        uint64_t size = memory->memoryHeaps[type->heapIndex].size;
        bytes = score(false, HYMN_VK_USAGE_DIRECT, type->propertyFlags) && size > bytes ? size : bytes;
    }
    return bytes;
}

VkMappedMemoryRange hymn_vk_memory_range(VkDeviceMemory memory, uint64_t allocated, uint64_t atom, uint64_t offset,
                                         uint64_t bytes) {
    atom = atom > 0 ? atom : 1;
    uint64_t begin = offset / atom * atom, end = (offset + bytes + atom - 1) / atom * atom;
    return (VkMappedMemoryRange){
        .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
        .memory = memory,
        .offset = begin,
        .size = end >= allocated ? VK_WHOLE_SIZE : end - begin,
    };
}
