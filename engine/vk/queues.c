// SPDX-License-Identifier: MIT
#include "vk/queues.h"

// What a family for copies may have besides: neither is about another engine.
#define HARMLESS (VK_QUEUE_SPARSE_BINDING_BIT | VK_QUEUE_PROTECTED_BIT)

struct hymn_vk_queues hymn_vk_queues_choose(const VkQueueFamilyProperties *families, uint32_t count) {
    struct hymn_vk_queues queues = {.compute = HYMN_VK_NO_FAMILY, .transfer = HYMN_VK_NO_FAMILY};
    for (uint32_t i = 0; i < count; i++) {
        VkQueueFlags flags = families[i].queueFlags;
        if (families[i].queueCount == 0) {
            continue;
        }
        if (flags & VK_QUEUE_COMPUTE_BIT) {
            bool better = queues.compute != HYMN_VK_NO_FAMILY && !(flags & VK_QUEUE_GRAPHICS_BIT) &&
                          (families[queues.compute].queueFlags & VK_QUEUE_GRAPHICS_BIT);
            queues.compute = queues.compute == HYMN_VK_NO_FAMILY || better ? i : queues.compute;
        } else if ((flags & ~(VkQueueFlags)HARMLESS) == VK_QUEUE_TRANSFER_BIT && queues.transfer == HYMN_VK_NO_FAMILY) {
            queues.transfer = i;
        }
    }
    if (queues.compute != HYMN_VK_NO_FAMILY) {
        uint32_t there = families[queues.compute].queueCount;
        queues.compute_count = there < HYMN_VK_MAX_QUEUES ? there : HYMN_VK_MAX_QUEUES;
    }
    return queues;
}
