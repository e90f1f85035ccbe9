// SPDX-License-Identifier: MIT
//
// Which of a device's queue families do what, as a pure function of what the driver tells about them.
#ifndef HYMN_VK_QUEUES_H
#define HYMN_VK_QUEUES_H

#include <stdbool.h>
#include <stdint.h>

#include "vk/vulkan.h"

#define HYMN_VK_NO_FAMILY UINT32_MAX

// Most queues of the family that computes that are opened: as many as a session has runs in flight.
enum { HYMN_VK_MAX_QUEUES = 8 };

struct hymn_vk_queues {
    uint32_t
        compute; // the first family with compute, those without graphics preferred: a host that draws does not wait
    uint32_t compute_count; // its queues, HYMN_VK_MAX_QUEUES at most: runs on different ones may overlap
    uint32_t transfer;      // the first family that copies and does nothing else (upload.h)
};

// Either family may be HYMN_VK_NO_FAMILY; compute_count is 0 then. Families without queues are not there. A family that
// can do more than copy (compute, graphics, video) is none for copies: it may share its engine with what it is to
// overlap with, or be a video unit that copies slowly. minImageTransferGranularity is about images only and is not
// looked at.
struct hymn_vk_queues hymn_vk_queues_choose(const VkQueueFamilyProperties *families, uint32_t count);

#endif
