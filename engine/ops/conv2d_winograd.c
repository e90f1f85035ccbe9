// SPDX-License-Identifier: MIT
#include "ops/conv2d_winograd.h"

#include <string.h>

#include "ops/conv2d.h"
#include "ops/grid.h"

#define CELL 8u
#define SHADER "conv2d_winograd"

static const struct hymn_conv2d_winograd *forced_share;

void hymn_conv2d_winograd_force(const struct hymn_conv2d_winograd *share) {
    forced_share = share;
}

static uint32_t shared_bytes(const struct hymn_conv2d_winograd *share) {
    return CELL * (16 * (share->lanes / CELL) + 4) * (uint32_t)sizeof(float);
}

bool hymn_conv2d_winograd_valid(const struct hymn_graph *graph, const struct hymn_node *node,
                                const struct hymn_vk_plan *plan, const struct hymn_conv2d_winograd *share) {
    bool wide = false, ok = node->prologue == HYMN_PROLOGUE_NONE;
    for (uint32_t i = 0; i < node->term_count; i++) {
        wide = wide || node->terms[i].kernel == 3;
        ok = ok && node->terms[i].kernel != 2;
    }
    uint32_t cells = graph->values[node->output].stride / CELL;
    bool sizes = share->lanes >= 64 && share->lanes % 64 == 0 && share->lanes <= plan->max_invocations &&
                 (share->across == 1 || share->across == 2 || share->across == 4) && share->across < 2 * cells &&
                 shared_bytes(share) <= plan->max_shared_bytes;
    return ok && wide && sizes && hymn_variant_allowed(plan, SHADER, NULL);
}

// False: the node is not to be computed so.
static bool share_of(const struct hymn_node *node, struct hymn_conv2d_winograd *out_share) {
    const uint32_t *words = node->method.words;
    if (forced_share) {
        *out_share = *forced_share;
        return true;
    }
    *out_share = (struct hymn_conv2d_winograd){words[0], words[1]};
    bool rest = false;
    for (uint32_t i = 2; i < sizeof node->method.words / sizeof *words; i++) {
        rest = rest || words[i] != 0;
    }
    return node->tuned && words[0] != 0 && !rest;
}

bool hymn_conv2d_winograd_fits(const struct hymn_graph *graph, const struct hymn_node *node,
                               const struct hymn_vk_plan *plan) {
    struct hymn_conv2d_winograd share;
    return share_of(node, &share) && hymn_conv2d_winograd_valid(graph, node, plan, &share);
}

uint32_t hymn_conv2d_winograd_list(const struct hymn_graph *graph, const struct hymn_node *node,
                                   const struct hymn_vk_plan *plan, struct hymn_method *methods, uint32_t count,
                                   uint32_t most) {
    uint32_t cells = graph->values[node->output].stride / CELL;
    uint32_t most_across = cells > 2 ? 4 : cells;
    for (uint32_t lanes = 64; lanes <= 256; lanes *= 2) {
        for (uint32_t across = most_across; across > 0 && across >= most_across / 2; across /= 2) {
            struct hymn_conv2d_winograd share = {lanes, across};
            // Where subgroups have 128 lanes (Adreno), a workgroup of so many has half the registers for each.
            bool registers = lanes < 128 || plan->subgroup_size < 128 || across < 4;
            if (count < most && registers && hymn_conv2d_winograd_valid(graph, node, plan, &share)) {
                methods[count++] = (struct hymn_method){{lanes, across}};
            }
        }
    }
    return count;
}

enum hymn_status hymn_conv2d_lower_winograd(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_vk_plan *plan = lower->plan;
    struct hymn_conv2d_winograd share;
    share_of(node, &share);
    struct hymn_conv2d_dispatch dispatch = {.slots = {HYMN_NONE, HYMN_NONE, HYMN_NONE}};
    struct hymn_conv2d_params *params = &dispatch.params;
    uint32_t kernels[3] = {0};
    for (uint32_t i = 0; i < node->term_count; i++) {
        dispatch.slots[i] = i;
        kernels[i] = node->terms[i].kernel;
    }
    hymn_conv2d_fill(lower, node, &dispatch);
    params->tiles_across = hymn_divide_up(params->width, 2);
    params->tiles_down = hymn_divide_up(params->height, 2);
    params->tiles = params->tiles_across * params->tiles_down * (params->rows / params->height);
    bool half = dispatch.storage & HYMN_CONV2D_HALF_WEIGHTS;
    enum hymn_status status = hymn_conv2d_pack_winograd(lower, node, share.across, half, params, &dispatch.weights);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, SHADER, NULL);
    if (!step) {
        return lower->status;
    }
    const uint32_t constants[] = {share.lanes, dispatch.storage, kernels[0],       kernels[1],
                                  kernels[2],  share.across,     params->residual, node->activation};
    memcpy(step->constants, constants, sizeof constants);
    step->constant_count = sizeof constants / sizeof *constants;
    uint32_t groups = hymn_divide_up(params->tiles, share.lanes / CELL);
    hymn_grid_fold(groups, plan->max_groups_x, &step->groups[0], &step->groups[2]);
    step->groups[1] = hymn_divide_up(params->out_stride, share.across);
    hymn_conv2d_finish(lower, node, &dispatch, step);
    return HYMN_STATUS_OK;
}
