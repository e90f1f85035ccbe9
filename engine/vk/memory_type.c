// SPDX-License-Identifier: MIT
#include "vk/memory_type.h"

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
    return 1 + 8 * local + 4 * (visible == unified) + 2 * (unified && coherent) + !cached;
}

struct hymn_vk_memory_choice hymn_vk_memory_choose(const VkPhysicalDeviceMemoryProperties *memory, bool unified,
                                                   enum hymn_vk_usage usage, uint32_t allowed, uint64_t bytes,
                                                   const uint64_t room[VK_MAX_MEMORY_HEAPS]) {
    struct hymn_vk_memory_choice choice = {HYMN_VK_NO_TYPE, HYMN_VK_NO_TYPE};
    uint32_t best = 0, fitting = 0;
    for (uint32_t i = 0; i < memory->memoryTypeCount && i < VK_MAX_MEMORY_TYPES; i++) {
        const VkMemoryType *type = &memory->memoryTypes[i];
        uint32_t points = allowed >> i & 1 ? score(unified, usage, type->propertyFlags) : 0;
        if (points > best) {
            choice.best = i;
            best = points;
        }
        if (points > fitting && room[type->heapIndex] >= bytes) {
            choice.type = i;
            fitting = points;
        }
    }
    if (usage == HYMN_VK_USAGE_DEVICE && best >= 8 && fitting < 8) {
        choice.type = HYMN_VK_NO_TYPE;
    }
    return choice;
}

bool hymn_vk_memory_is_unified(const VkPhysicalDeviceMemoryProperties *memory, uint64_t *out_bytes) {
    uint64_t local_bytes = 0, largest = 0;
    bool all_visible = true;
    for (uint32_t heap = 0; heap < memory->memoryHeapCount; heap++) {
        uint64_t size = memory->memoryHeaps[heap].size;
        bool local = memory->memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT, visible = false;
        for (uint32_t type = 0; type < memory->memoryTypeCount; type++) {
            visible = visible || (memory->memoryTypes[type].heapIndex == heap &&
                                  memory->memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
        }
        local_bytes = local && size > local_bytes ? size : local_bytes;
        largest = size > largest ? size : largest;
        all_visible = all_visible && (visible || !local);
    }
    *out_bytes = local_bytes > 0 ? local_bytes : largest;
    return all_visible && largest > 0;
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
