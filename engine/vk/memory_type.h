// SPDX-License-Identifier: MIT
//
// Which memory serves which buffer, as pure functions of a device's memory types.
#ifndef HYMN_VK_MEMORY_TYPE_H
#define HYMN_VK_MEMORY_TYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "vk/vulkan.h"

enum hymn_vk_usage {
    HYMN_VK_USAGE_DEVICE = 0,   // fastest for shaders; mapped only if the plan says skip_staging
    HYMN_VK_USAGE_UPLOAD = 1,   // mapped, written by the host in order and never read by it
    HYMN_VK_USAGE_READBACK = 2, // mapped, read by the host; cached
    HYMN_VK_USAGE_DIRECT = 3    // the device's own, mapped, coherent: written by the host in order, across the bus if
                                // there is one, and read by shaders; the host never reads it, for it is not cached
};

enum { HYMN_VK_NO_TYPE = 32, HYMN_VK_NO_HEAP = 16 }; // VK_MAX_MEMORY_TYPES, VK_MAX_MEMORY_HEAPS

struct hymn_vk_memory_choice {
    uint32_t type; // the best with room, or HYMN_VK_NO_TYPE
    uint32_t heap; // the largest that could serve the usage; HYMN_VK_NO_HEAP: none has a type for it
};

// unified, integrated: the plan's skip_staging and integrated: whether shaders may as well read what the host sees, and
// whether a bus lies between otherwise. allowed: bit i: type i may be used. room: free bytes of each heap. Behind a bus
// a usage that has device-local types does not fall back to others when those are full: the reason for its slowness
// would be hard to find.
struct hymn_vk_memory_choice hymn_vk_memory_choose(const VkPhysicalDeviceMemoryProperties *memory, bool unified,
                                                   bool integrated, enum hymn_vk_usage usage, uint32_t allowed,
                                                   uint64_t bytes, const uint64_t room[VK_MAX_MEMORY_HEAPS]);

// Whether the host sees all of the device's own memory, so that nothing need be copied where no bus lies between; true
// too where nothing is device-local.
bool hymn_vk_memory_is_unified(const VkPhysicalDeviceMemoryProperties *memory);
// The size of the largest heap that serves HYMN_VK_USAGE_DEVICE: of an integrated device it may be the host's, beside a
// small part that is set aside for the device.
uint64_t hymn_vk_memory_bytes(const VkPhysicalDeviceMemoryProperties *memory, bool integrated);

// Whether the host reads memory of this type without its cache, a word at a time, where it has other that is cached:
// a copy there is faster, but for a few bytes.
bool hymn_vk_memory_reads_slowly(const VkPhysicalDeviceMemoryProperties *memory, uint32_t type);

// The size of the largest heap that has memory for HYMN_VK_USAGE_DIRECT; 0: none. All of the device's memory (resizable
// BAR), or a window, classically of 256 MiB, in which the driver keeps things too.
uint64_t hymn_vk_memory_visible_bytes(const VkPhysicalDeviceMemoryProperties *memory);

// The range to flush or to invalidate for [offset, offset + bytes) of an allocation: whole atoms, or up to the end.
VkMappedMemoryRange hymn_vk_memory_range(VkDeviceMemory memory, uint64_t allocated, uint64_t atom, uint64_t offset,
                                         uint64_t bytes);

#endif
