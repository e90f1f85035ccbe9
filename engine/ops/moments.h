// SPDX-License-Identifier: MIT
//
// What norm_stats and merge have in common: a pixel's channels are summed up by one lane or several.
#ifndef HYMN_OPS_MOMENTS_H
#define HYMN_OPS_MOMENTS_H

#include "ops/grid.h"
#include "shaders/params.h"

// Lanes that share a pixel. Sharing needs barriers, which cost a software device more than they bring.
static inline uint32_t hymn_moments_share(const struct hymn_vk_plan *plan, uint32_t cells) {
    uint32_t share = 1;
    while (!plan->cpu && share < cells && share < 32) {
        share *= 2;
    }
    return share;
}

#endif
