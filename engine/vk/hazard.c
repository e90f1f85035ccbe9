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

void hymn_vk_hazards_add(struct hymn_vk_hazards *hazards, const struct hymn_vk_access *accesses, uint32_t count) {
    assert(hazards->count + count <= HYMN_VK_MAX_ACCESSES);
    memcpy(&hazards->accesses[hazards->count], accesses, count * sizeof *accesses);
    hazards->count += count;
}

void hymn_vk_hazards_clear(struct hymn_vk_hazards *hazards) {
    hazards->count = 0;
}
