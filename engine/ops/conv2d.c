// SPDX-License-Identifier: MIT
#include "ops/conv2d.h"

#include <float.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "ops/conv2d_winograd.h"
#include "ops/grid.h"

#define CELL 8u
#define LANES_STRIP 8u  // pixels of a lane of conv2d_lanes.comp
#define LANES_CELLS 2u  // and cells of output channels
#define TILED_PIXELS 4u // pixels of a lane of conv2d_tiled.comp
#define GROUPS_Y 65535u // of a dispatch, on the smallest device class
#define DESKTOP_LANES 256u

static const struct hymn_value *value_of(const struct hymn_lower *lower, uint32_t value) {
    return &lower->graph->values[value];
}

static bool is_half(const struct hymn_lower *lower, uint32_t value) {
    return value != HYMN_NONE && value_of(lower, value)->storage == HYMN_STORAGE_F16;
}

static bool half_weights(const struct hymn_lower *lower, const struct hymn_node *node) {
    return is_half(lower, node->terms[0].source.value) && !lower->plan->weights_f32;
}

// ---------------------------------------------------------------------------------------------------------- one
// dispatch

static void set_source(struct hymn_conv2d_params *params, uint32_t slot, uint32_t cells, uint32_t stride,
                       uint32_t first) {
    hymn_uint *to[3] = {&params->cells0, &params->cells1, &params->cells2};
    to[slot][0] = cells;
    to[slot][1] = stride;
    to[slot][2] = first;
}

static void fill_residual(const struct hymn_lower *lower, const struct hymn_node *node,
                          struct hymn_conv2d_dispatch *dispatch) {
    if (node->residual.value == HYMN_NONE) {
        return;
    }
    struct hymn_conv2d_params *params = &dispatch->params;
    params->residual = node->residual_resize ? 2 : 1;
    params->residual_stride = value_of(lower, node->residual.value)->stride / CELL;
    params->residual_first = node->residual.first / CELL;
    dispatch->storage |= is_half(lower, node->residual.value) ? HYMN_CONV2D_HALF_RESIDUAL : 0;
}

// The storage bits of what the node does not read. They are set as the first source's is, because pipelines differ in
// them: so a network needs few.
static uint32_t unread_storage(const struct hymn_node *node, const struct hymn_conv2d_dispatch *dispatch) {
    uint32_t bits = node->residual.value == HYMN_NONE ? HYMN_CONV2D_HALF_RESIDUAL : 0;
    for (uint32_t slot = 0; slot < 3; slot++) {
        bits |= dispatch->slots[slot] == HYMN_NONE ? (uint32_t)HYMN_CONV2D_HALF_SOURCE << slot : 0;
    }
    return bits;
}

void hymn_conv2d_fill(const struct hymn_lower *lower, const struct hymn_node *node,
                      struct hymn_conv2d_dispatch *dispatch) {
    const struct hymn_value *output = value_of(lower, node->output);
    struct hymn_conv2d_params *params = &dispatch->params;
    params->width = output->width;
    params->height = output->height;
    params->rows = lower->graph->batch * output->height;
    params->scale = node->terms[0].kernel == 2 ? 2 : 1;
    params->out_stride = output->stride / CELL;
    params->least = node->activation == HYMN_ACTIVATION_RELU ? 0.0f : -FLT_MAX;
    for (uint32_t slot = 0; slot < 3; slot++) {
        if (dispatch->slots[slot] == HYMN_NONE) {
            continue;
        }
        const struct hymn_source *source = &node->terms[dispatch->slots[slot]].source;
        set_source(params, slot, hymn_round_up(source->channels, CELL) / CELL,
                   value_of(lower, source->value)->stride / CELL, source->first / CELL);
        dispatch->storage |= is_half(lower, source->value) ? (uint32_t)HYMN_CONV2D_HALF_SOURCE << slot : 0;
    }
    if (is_half(lower, node->terms[0].source.value)) {
        dispatch->storage |= unread_storage(node, dispatch);
    }
    dispatch->storage |= output->storage == HYMN_STORAGE_F16 ? HYMN_CONV2D_HALF_OUTPUT : 0;
    dispatch->storage |= half_weights(lower, node) ? HYMN_CONV2D_HALF_WEIGHTS : 0;
    fill_residual(lower, node, dispatch);
}

// Whether shaders have four storage buffers, or are to make do with so many: then a convolution has one term and reads
// statistics or a residual. Several terms are one convolution after the other, each adding to the sums of the one
// before.
static bool has_few_buffers(const struct hymn_vk_plan *plan) {
    return !hymn_variant_allowed(plan, "conv2d_tiled", NULL);
}

static void bind_few(const struct hymn_lower *lower, const struct hymn_node *node,
                     const struct hymn_conv2d_dispatch *dispatch, struct hymn_vk_step *step) {
    uint32_t other = node->stats != HYMN_NONE ? node->stats : node->residual.value;
    hymn_lower_bind(step, dispatch->weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, other != HYMN_NONE ? hymn_lower_value(lower, other) : dispatch->weights, false);
}

// Binds everything; what the kernel does not read is bound to the weights, as each binding needs a buffer.
static void bind(const struct hymn_lower *lower, const struct hymn_node *node,
                 const struct hymn_conv2d_dispatch *dispatch, struct hymn_vk_step *step) {
    hymn_lower_bind(step, dispatch->weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    for (uint32_t slot = 0; slot < 3; slot++) {
        struct hymn_vk_binding binding = dispatch->weights;
        if (dispatch->slots[slot] != HYMN_NONE) {
            binding = hymn_lower_value(lower, node->terms[dispatch->slots[slot]].source.value);
        } else if (slot == 1 && node->stats != HYMN_NONE) {
            binding = hymn_lower_value(lower, node->stats);
        }
        hymn_lower_bind(step, binding, false);
    }
    bool residual = node->residual.value != HYMN_NONE;
    hymn_lower_bind(step, residual ? hymn_lower_value(lower, node->residual.value) : dispatch->weights, false);
}

static void set_constants(struct hymn_vk_step *step, const uint32_t *constants, uint32_t count) {
    memcpy(step->constants, constants, count * sizeof *constants);
    step->constant_count = count;
}

void hymn_conv2d_join_rows(const struct hymn_node *node, struct hymn_conv2d_params *params) {
    bool joined = params->residual != 2;
    for (uint32_t i = 0; i < node->term_count; i++) {
        joined = joined && node->terms[i].kernel == 1;
    }
    if (joined) {
        params->width *= params->rows;
        params->rows = params->height = 1;
    }
}

void hymn_conv2d_finish(const struct hymn_lower *lower, const struct hymn_node *node,
                        const struct hymn_conv2d_dispatch *dispatch, struct hymn_vk_step *step) {
    hymn_vk_step_push(step, &dispatch->params, sizeof dispatch->params);
    if (has_few_buffers(lower->plan)) {
        bind_few(lower, node, dispatch, step);
    } else {
        bind(lower, node, dispatch, step);
    }
    step->flops = 2 * hymn_node_macs(lower->graph, node);
    for (uint32_t i = 0; i < step->binding_count; i++) {
        bool dummy = i > 0 && step->bindings[i].role == HYMN_VK_ROLE_WEIGHTS;
        step->bytes += dummy ? 0 : step->bindings[i].bytes;
    }
}

static void set_groups(const struct hymn_lower *lower, uint32_t tiles, uint32_t channel_tiles,
                       struct hymn_vk_step *step) {
    hymn_grid_fold(tiles, lower->plan->max_groups_x, &step->groups[0], &step->groups[2]);
    step->groups[1] = channel_tiles;
}

// ----------------------------------------------------------------------------------------------------
// conv2d_lanes.comp

// Whether the kernel can do the node: terms of kernel 3, then of kernel 1; or one of kernel 2. Fills the slots.
static bool lanes_slots(const struct hymn_node *node, struct hymn_conv2d_dispatch *dispatch,
                        struct hymn_conv2d_layout *layout) {
    uint32_t wide = 0, points = 0, twos = 0;
    for (uint32_t i = 0; i < node->term_count; i++) {
        wide += node->terms[i].kernel == 3;
        points += node->terms[i].kernel == 1;
        twos += node->terms[i].kernel == 2;
    }
    if (twos > 0 && node->term_count > 1) {
        return false;
    }
    uint32_t next = 0;
    for (uint32_t kernel = 3; kernel > 0; kernel--) { // terms of kernel 3 first
        for (uint32_t i = 0; i < node->term_count; i++) {
            if (node->terms[i].kernel == kernel) {
                dispatch->slots[next] = layout->order[next] = i;
                next++;
            }
        }
    }
    dispatch->params.wide_terms = wide;
    dispatch->params.point_terms = points + twos;
    return true;
}

static const char *lanes_shader(uint32_t wide_terms) {
    return wide_terms > 0 ? "conv2d_lanes_wide" : "conv2d_lanes_point";
}

static const char *lanes_suffix(const struct hymn_vk_plan *plan) {
    return plan->subgroup_size < 8 ? ".4" : ".8";
}

static enum hymn_status lower_lanes(struct hymn_lower *lower, const struct hymn_node *node,
                                    struct hymn_conv2d_dispatch *dispatch, struct hymn_conv2d_layout *layout) {
    const struct hymn_vk_plan *plan = lower->plan;
    struct hymn_conv2d_params *params = &dispatch->params;
    hymn_conv2d_fill(lower, node, dispatch);
    hymn_conv2d_join_rows(node, params);
    uint32_t local = plan->subgroup_size < 32 ? plan->subgroup_size : 32;
    params->tiles_across = (params->width + LANES_STRIP - 1) / LANES_STRIP;
    params->tiles = (uint32_t)(((uint64_t)params->tiles_across * params->rows + local - 1) / local);
    layout->lanes = layout->rows_of_taps = true;
    layout->tile_cells = LANES_CELLS;
    layout->tiles = (params->out_stride + LANES_CELLS - 1) / LANES_CELLS;
    layout->step_multiple = 1;
    enum hymn_status status = hymn_conv2d_pack(lower, layout, params, &dispatch->weights);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, lanes_shader(params->wide_terms), lanes_suffix(plan));
    if (!step) {
        return lower->status;
    }
    // With kernel 3, layers of one and of two sources share a pipeline, as drivers take time to make one: the loads of
    // the source that is not there cost some 3 % of the time.
    uint32_t sources = params->wide_terms > 0 && node->term_count < 3 ? 2 : node->term_count == 1 ? 1 : 3;
    params->modes = (dispatch->storage & HYMN_CONV2D_HALF_OUTPUT ? 0 : 1u) | (node->prologue ? 2u : 0);
    const uint32_t constants[] = {local, dispatch->storage & ~(uint32_t)HYMN_CONV2D_HALF_OUTPUT, sources,
                                  node->activation == HYMN_ACTIVATION_SILU,
                                  params->wide_terms > 0 || params->residual == 2};
    set_constants(step, constants, 5);
    set_groups(lower, params->tiles, layout->tiles, step);
    hymn_conv2d_finish(lower, node, dispatch, step);
    return HYMN_STATUS_OK;
}

static bool lanes_fit(const struct hymn_vk_plan *plan, uint32_t wide_terms) {
    return plan->cpu && plan->subgroup_size >= 4 &&
           hymn_variant_allowed(plan, lanes_shader(wide_terms), lanes_suffix(plan));
}

// ----------------------------------------------------------------------------------------------------
// conv2d_tiled.comp

struct tile {
    uint32_t team, teams; // lanes that cover the tile, and how many such teams share it
    uint32_t across;      // cells of output channels
    uint32_t chunk;       // steps that are shared at a time
};

static uint32_t tile_pixels(const struct tile *tile) {
    return TILED_PIXELS * (tile->team / tile->across);
}

static uint32_t shared_bytes(const struct tile *tile) {
    uint32_t floats = tile->chunk * CELL * (tile_pixels(tile) + tile->across * CELL);
    floats += tile->teams > 1 ? TILED_PIXELS * CELL * tile->team : 4;
    return floats * (uint32_t)sizeof(float);
}

// Many tiles: large ones. Few: small ones, each shared by several teams, so that all of the device has work.
static struct tile choose_tile(const struct hymn_vk_plan *plan, uint64_t pixels, uint32_t out_cells) {
    struct tile tile = {.team = 64, .teams = 1, .across = 1};
    uint64_t lanes = pixels * out_cells / TILED_PIXELS, target = plan->target_lanes;
    uint32_t most = plan->max_invocations < DESKTOP_LANES ? plan->max_invocations : DESKTOP_LANES;
    while (tile.across < 8 && tile.across < out_cells) {
        tile.across *= 2;
    }
    // tests/vendors watches over this: a lane copies at most four cells of pixels at a time, 4 * chunk / (across *
    // teams), or Apple's compiler runs out of registers; where subgroups have 128 lanes (Adreno), a workgroup of so
    // many lanes has half the registers for each.
    tile.chunk = tile.across < 2 ? 1 : 2;
    if (lanes >= target && plan->subgroup_size < 128) {
        tile.team = 128;
    } else if (16 * lanes <= target) {
        tile.team = 32;
    }
    while (tile.teams < 8 && lanes * tile.teams < target && 2 * tile.team * tile.teams <= most) {
        tile.teams *= 2;
    }
    while (shared_bytes(&tile) > plan->max_shared_bytes && tile.team > tile.across) {
        tile.team /= 2;
    }
    // The fewer products between two barriers, the more of the loads' latency shows.
    while (tile.chunk < 2 * tile.teams && 2 * tile.chunk <= tile.across * tile.teams) {
        tile.chunk *= 2;
        if (shared_bytes(&tile) > plan->max_shared_bytes) {
            tile.chunk /= 2;
            break;
        }
    }
    return tile;
}

static enum hymn_status lower_tiled(struct hymn_lower *lower, const struct hymn_node *node,
                                    struct hymn_conv2d_dispatch *dispatch, struct hymn_conv2d_layout *layout) {
    struct hymn_conv2d_params *params = &dispatch->params;
    uint32_t kernels[3] = {0};
    for (uint32_t i = 0; i < node->term_count; i++) {
        dispatch->slots[i] = layout->order[i] = i;
        kernels[i] = node->terms[i].kernel;
    }
    hymn_conv2d_fill(lower, node, dispatch);
    uint64_t pixels = (uint64_t)params->rows * params->width;
    struct tile tile = choose_tile(lower->plan, pixels, params->out_stride);
    params->tiles = (uint32_t)((pixels + tile_pixels(&tile) - 1) / tile_pixels(&tile));
    layout->tile_cells = tile.across;
    layout->tiles = (params->out_stride + tile.across - 1) / tile.across;
    layout->step_multiple = tile.chunk;
    enum hymn_status status = hymn_conv2d_pack(lower, layout, params, &dispatch->weights);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_vk_step *step =
        hymn_lower_dispatch(lower, node, has_few_buffers(lower->plan) ? "conv2d_tiled_few" : "conv2d_tiled", NULL);
    if (!step) {
        return lower->status;
    }
    const uint32_t constants[] = {
        tile.team * tile.teams, dispatch->storage, node->prologue, kernels[0], kernels[1], kernels[2], tile.across,
        params->residual,       node->activation,  tile.team,      tile.chunk};
    set_constants(step, constants, 11);
    set_groups(lower, params->tiles, layout->tiles, step);
    hymn_conv2d_finish(lower, node, dispatch, step);
    return HYMN_STATUS_OK;
}

// One term after the other. The sums on the way are f32.
static enum hymn_status lower_terms(struct hymn_lower *lower, const struct hymn_node *node) {
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < node->term_count && status == HYMN_STATUS_OK; i++) {
        struct hymn_node part = *node;
        part.terms[0] = node->terms[i];
        part.term_count = 1;
        if (i > 0) {
            part.residual = (struct hymn_source){.value = node->scratch[i - 1], .channels = node->out_channels};
            part.residual_resize = false;
        }
        if (i + 1 < node->term_count) {
            part.output = node->scratch[i];
            part.bias = NULL;
            part.activation = HYMN_ACTIVATION_NONE;
        }
        struct hymn_conv2d_dispatch dispatch = {.slots = {HYMN_NONE, HYMN_NONE, HYMN_NONE}};
        struct hymn_conv2d_layout layout = {.node = &part, .half = half_weights(lower, &part)};
        status = lower_tiled(lower, &part, &dispatch, &layout);
    }
    return status;
}

static enum hymn_status prepare_terms(struct hymn_graph *graph, struct hymn_node *node, const struct hymn_log *log) {
    const struct hymn_value output = graph->values[node->output];
    for (uint32_t i = 0; i + 1 < node->term_count; i++) {
        node->scratch[i] =
            hymn_graph_add_value(graph, node->name, output.height, output.width, output.channels, HYMN_STORAGE_F32);
        if (node->scratch[i] == HYMN_NONE) {
            return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name);
        }
    }
    return HYMN_STATUS_OK;
}

// --------------------------------------------------------------------------------------------------------------
// lowering

static enum hymn_status check(const struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_value *output = value_of(lower, node->output);
    bool ok = node->term_count >= 1 && node->term_count <= 3 && output->stride / CELL <= GROUPS_Y &&
              (node->prologue == HYMN_PROLOGUE_NONE || (node->term_count == 1 && node->terms[0].kernel != 3));
    ok = ok && !(has_few_buffers(lower->plan) && node->prologue && node->residual.value != HYMN_NONE);
    for (uint32_t i = 0; ok && i < node->term_count; i++) {
        const struct hymn_value *source = value_of(lower, node->terms[i].source.value);
        uint32_t scale = node->terms[i].kernel == 2 ? 2 : 1, low = node->resizes && i == 1 ? 2 : 1;
        ok = node->terms[i].kernel >= 1 && node->terms[i].kernel <= 3 &&
             low * source->height == scale * output->height && low * source->width == scale * output->width;
    }
    return ok ? HYMN_STATUS_OK
              : hymn_fail(lower->log, HYMN_STATUS_INTERNAL, "%s: no kernel for this convolution", node->name);
}

// Whether the node is for the matrix kernel. A method of that one has a number of splits, which is not 0.
static bool takes_matrix(const struct hymn_graph *graph, const struct hymn_node *node,
                         const struct hymn_vk_plan *plan) {
    struct hymn_conv2d_tile tile;
    memcpy(&tile, &node->method, sizeof tile);
    return !hymn_conv2d_winograd_fits(graph, node, plan) && (!node->tuned || tile.splits > 0) &&
           hymn_conv2d_matrix_fits(graph, node, plan);
}

enum hymn_status hymn_conv2d_prepare(struct hymn_graph *graph, struct hymn_node *node, const struct hymn_vk_plan *plan,
                                     const struct hymn_log *log) {
    if (has_few_buffers(plan)) {
        return prepare_terms(graph, node, log);
    }
    return takes_matrix(graph, node, plan) ? hymn_conv2d_prepare_matrix(graph, node, plan, log) : HYMN_STATUS_OK;
}

enum hymn_status hymn_conv2d_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    enum hymn_status status = check(lower, node);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    if (hymn_conv2d_winograd_fits(lower->graph, node, lower->plan)) {
        return hymn_conv2d_lower_winograd(lower, node);
    }
    if (takes_matrix(lower->graph, node, lower->plan)) {
        return hymn_conv2d_lower_matrix(lower, node);
    }
    if (node->resizes || node->pooled != HYMN_NONE || node->convolved != HYMN_NONE ||
        (node->prologue != HYMN_PROLOGUE_NONE && node->stats == HYMN_NONE)) {
        return hymn_fail(lower->log, HYMN_STATUS_INTERNAL, "%s: prepared for another device", node->name);
    }
    if (has_few_buffers(lower->plan)) {
        return lower_terms(lower, node);
    }
    struct hymn_conv2d_dispatch dispatch = {.slots = {HYMN_NONE, HYMN_NONE, HYMN_NONE}};
    struct hymn_conv2d_layout layout = {.node = node, .half = half_weights(lower, node)};
    if (lanes_slots(node, &dispatch, &layout) && lanes_fit(lower->plan, dispatch.params.wide_terms)) {
        return lower_lanes(lower, node, &dispatch, &layout);
    }
    dispatch = (struct hymn_conv2d_dispatch){.slots = {HYMN_NONE, HYMN_NONE, HYMN_NONE}};
    return lower_tiled(lower, node, &dispatch, &layout);
}

// On matrix units their tiles; else the direct kernel, then Winograd's.
uint32_t hymn_conv2d_list_methods(const struct hymn_graph *graph, const struct hymn_node *node,
                                  const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                  struct hymn_method *out_methods, uint32_t most) {
    if (takes_matrix(graph, node, plan)) {
        return hymn_conv2d_matrix_list(graph, node, plan, from, out_methods, most);
    }
    if (from || most == 0) {
        return 0; // all were listed before
    }
    out_methods[0] = (struct hymn_method){{0}};
    uint32_t count = hymn_conv2d_winograd_list(graph, node, plan, out_methods, 1, most);
    return count > 1 ? count : 0;
}
