// SPDX-License-Identifier: MIT
//
// Which steps of a program must wait for which: tracks the bytes that were touched since the last barrier. Knows no
// Vulkan call.
#ifndef HYMN_VK_HAZARD_H
#define HYMN_VK_HAZARD_H

#include <stdbool.h>
#include <stdint.h>

enum { HYMN_VK_MAX_ACCESSES = 256, HYMN_VK_MAX_RANGES = 8 };

struct hymn_vk_access {
    uint32_t buffer; // any number that stands for one buffer
    uint64_t begin, end;
    bool write;
};

struct hymn_vk_range {
    uint32_t buffer;
    uint64_t begin, end;
};

// Zero count: nothing touched yet.
struct hymn_vk_hazards {
    struct hymn_vk_access accesses[HYMN_VK_MAX_ACCESSES];
    uint32_t count;
};

// True when a step with these accesses must be separated by a barrier from those since the last one: the same bytes are
// touched and at least one of the two writes. *out_written: some access since the last barrier was a write, which the
// barrier has to make visible; otherwise it only has to order. A barrier orders everything before it, so the caller
// that is told true emits it and calls hymn_vk_hazards_clear. Also true when there is no room to remember the accesses.
bool hymn_vk_hazards_check(const struct hymn_vk_hazards *hazards, const struct hymn_vk_access *accesses, uint32_t count,
                           bool *out_written);
// What was written since the last barrier, which one has to make visible: ranges that hold all of it, and nothing but
// it. More than HYMN_VK_MAX_RANGES: too many to tell.
uint32_t hymn_vk_hazards_written(const struct hymn_vk_hazards *hazards,
                                 struct hymn_vk_range out_ranges[HYMN_VK_MAX_RANGES]);
void hymn_vk_hazards_add(struct hymn_vk_hazards *hazards, const struct hymn_vk_access *accesses, uint32_t count);
void hymn_vk_hazards_clear(struct hymn_vk_hazards *hazards);

#endif
