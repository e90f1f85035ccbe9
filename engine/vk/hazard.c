// SPDX-License-Identifier: MIT
#include "vk/hazard.h"

#include <assert.h>
#include <string.h>

static bool conflict(const struct hymn_vk_access *a, const struct hymn_vk_access *b) {
    return a->buffer == b->buffer && (a->write || b->write) && a->begin < b->end && b->begin < a->end;
}

bool hymn_vk_hazards_check(const struct hymn_vk_hazards *hazards, const struct hymn_vk_access *accesses, uint32_t count,
                           bool *out_written) {
    bool needed = hazards->count + count > HYMN_VK_MAX_ACCESSES;
    *out_written = false;
    for (uint32_t i = 0; i < hazards->count; i++) {
        *out_written = *out_written || hazards->accesses[i].write;
        for (uint32_t j = 0; j < count && !needed; j++) {
            needed = conflict(&hazards->accesses[i], &accesses[j]);
        }
    }
    return needed;
}

// Extends a range by what overlaps it or lies next to it.
static bool merge(struct hymn_vk_range *range, const struct hymn_vk_access *access) {
    if (range->buffer != access->buffer || access->begin > range->end || range->begin > access->end) {
        return false;
    }
    range->begin = access->begin < range->begin ? access->begin : range->begin;
    range->end = access->end > range->end ? access->end : range->end;
    return true;
}

uint32_t hymn_vk_hazards_written(const struct hymn_vk_hazards *hazards,
                                 struct hymn_vk_range out_ranges[HYMN_VK_MAX_RANGES]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < hazards->count && count <= HYMN_VK_MAX_RANGES; i++) {
        const struct hymn_vk_access *access = &hazards->accesses[i];
        bool merged = !access->write;
        for (uint32_t j = 0; j < count && !merged; j++) {
            merged = merge(&out_ranges[j], access);
        }
        if (merged) {
            continue;
        }
        if (count < HYMN_VK_MAX_RANGES) {
            out_ranges[count] = (struct hymn_vk_range){access->buffer, access->begin, access->end};
        }
        count++;
    }
    return count;
}

void hymn_vk_hazards_add(struct hymn_vk_hazards *hazards, const struct hymn_vk_access *accesses, uint32_t count) {
    assert(hazards->count + count <= HYMN_VK_MAX_ACCESSES);
    memcpy(&hazards->accesses[hazards->count], accesses, count * sizeof *accesses);
    hazards->count += count;
}

void hymn_vk_hazards_clear(struct hymn_vk_hazards *hazards) {
    hazards->count = 0;
}
