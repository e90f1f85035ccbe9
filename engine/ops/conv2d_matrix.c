// SPDX-License-Identifier: MIT
//
// The convolution on matrix units: its dispatch, and what others want to know of that.
#include "ops/conv2d_matrix.h"

#include <string.h>

#include "ops/conv2d_tile.h"
#include "ops/grid.h"

#define CELL 8u

// ------------------------------------------------------------------------------------------------------------ lowering

bool hymn_conv2d_matrix_fits(const struct hymn_graph *graph, const struct hymn_node *node,
                             const struct hymn_vk_plan *plan) {
    bool half = hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX, NULL) && !plan->weights_f32;
    for (uint32_t i = 0; half && i < node->term_count; i++) {
        half = graph->values[node->terms[i].source.value].storage == HYMN_STORAGE_F16;
    }
    struct hymn_conv2d_tile tile;
    return half && (tile = hymn_conv2d_tile_of(graph, node, plan), hymn_conv2d_matrix_valid(graph, node, plan, &tile));
}

// The kernel finds a norm's statistics by itself: no node does. Sums of the workgroups that share a tile:
// [tile][split][pixel][channel, and with a norm a cell of moments].
enum hymn_status hymn_conv2d_prepare_matrix(struct hymn_graph *graph, struct hymn_node *node,
                                            const struct hymn_vk_plan *plan, const struct hymn_log *log) {
    struct hymn_conv2d_tile tile = hymn_conv2d_tile_of(graph, node, plan);
    struct hymn_conv2d_problem problem = hymn_conv2d_describe(graph, node, plan);
    if (!node->resizes && hymn_conv2d_resizes(&problem, &tile)) {
        hymn_graph_take_resize(graph, node);
    }
    if (node->pooled == HYMN_NONE && hymn_conv2d_pools(&problem, &tile, plan)) {
        hymn_graph_take_pool(graph, node);
    }
    if (node->convolved == HYMN_NONE && hymn_conv2d_convolves(&problem, &tile)) {
        hymn_graph_take_depthwise(graph, node);
    }
    if (problem.norm) {
        uint32_t stats = node->stats;
        node->stats = HYMN_NONE;
        hymn_graph_release(graph, stats);
    }
    if (tile.splits == 1) {
        return HYMN_STATUS_OK;
    }
    // The value is of one image whatever the batch.
    uint32_t tiles = hymn_divide_up(hymn_conv2d_groups(&problem, &tile), graph->batch);
    node->scratch[0] = hymn_graph_add_value(graph, node->name, tiles * tile.splits, tile.width * tile.height,
                                            tile.channels + (problem.norm ? CELL : 0), HYMN_STORAGE_F32);
    return node->scratch[0] == HYMN_NONE ? hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name)
                                         : HYMN_STATUS_OK;
}

// Where workgroups share a tile: what each leaves, and how many have.
static void bind_splits(struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_conv2d_tile *tile,
                        uint32_t groups, struct hymn_vk_step *step) {
    if (tile->splits <= 1) {
        return;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->scratch[0]), true);
    hymn_lower_bind(step, hymn_lower_counters(lower, groups), true);
}

// Tiles of channels that are not convolved in depth need no margin, and so fewer tiles of pixels.
static void set_convolved(const struct hymn_node *node, const struct hymn_conv2d_tile *tile,
                          struct hymn_conv2d_params *params) {
    struct hymn_conv2d_depthwise_params to;
    memcpy(&to, params, sizeof to);
    to.convolved = node->parts[0] / tile->channels;
    to.plain_across_reciprocal = 1.0f / (float)params->tiles_across;
    to.plain_down_reciprocal = 1.0f / (float)params->tiles_down;
    to.tiles_across = hymn_conv2d_overlapping(params->width, tile->width);
    to.tiles_down = hymn_conv2d_overlapping(params->height, tile->height);
    memcpy(params, &to, sizeof to);
}

// What the convolution in depth behind it writes and reads.
static bool bind_convolved(struct hymn_lower *lower, const struct hymn_node *node, struct hymn_vk_step *step) {
    struct hymn_vk_binding weights;
    if (!hymn_depthwise_pack(lower, node->depthwise_weights, node->depthwise_bias, node->parts[0], true, &weights)) {
        return false;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->convolved), true);
    hymn_lower_bind(step, weights, false);
    hymn_step_constant(step, node->depthwise_activation);
    step->bytes += weights.bytes; // the first part leaves here, as large, and not as it was
    return true;
}

// Everything of the dispatch but its weights.
static void fill_dispatch(const struct hymn_lower *lower, const struct hymn_node *node,
                          const struct hymn_conv2d_tile *tile, struct hymn_conv2d_dispatch *dispatch) {
    struct hymn_conv2d_params *params = &dispatch->params;
    *dispatch = (struct hymn_conv2d_dispatch){.slots = {HYMN_NONE, HYMN_NONE, HYMN_NONE}};
    for (uint32_t i = 0; i < node->term_count; i++) {
        dispatch->slots[i] = i;
    }
    hymn_conv2d_fill(lower, node, dispatch);
    if (node->convolved == HYMN_NONE) {
        hymn_conv2d_join_rows(node, params);
    }
    params->norm_channels = node->terms[0].source.channels;
    params->tiles_across = hymn_divide_up(params->width, tile->width);
    params->tiles_down = hymn_divide_up(params->height, tile->height);
    if (node->convolved != HYMN_NONE) {
        set_convolved(node, tile, params);
    }
    params->tiles = params->tiles_across * params->tiles_down * (params->rows / params->height);
    params->across_reciprocal = 1.0f / (float)params->tiles_across;
    params->down_reciprocal = 1.0f / (float)params->tiles_down;
}

static const char *shader_of(const struct hymn_conv2d_problem *problem, const struct hymn_node *node,
                             const struct hymn_conv2d_tile *tile, const struct hymn_vk_plan *plan) {
    if (hymn_conv2d_walks(tile)) {
        return node->pooled != HYMN_NONE ? HYMN_CONV2D_MATRIX "_rows_pool" : HYMN_CONV2D_MATRIX "_rows";
    }
    return hymn_conv2d_streams(tile)                ? HYMN_CONV2D_MATRIX "_stream"
           : tile->splits > 1                       ? HYMN_CONV2D_MATRIX "_split"
           : problem->thin                          ? HYMN_CONV2D_MATRIX "_thin"
           : node->resizes                          ? HYMN_CONV2D_MATRIX "_resized"
           : node->convolved != HYMN_NONE           ? HYMN_CONV2D_MATRIX "_depthwise"
           : node->pooled != HYMN_NONE              ? HYMN_CONV2D_MATRIX "_pool"
           : hymn_conv2d_packs(problem, tile, plan) ? HYMN_CONV2D_MATRIX "_packed"
                                                    : HYMN_CONV2D_MATRIX;
}

// What the shader is specialized for behind what all have.
static uint32_t last_constant(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                              const struct hymn_conv2d_tile *tile) {
    return hymn_conv2d_streams(tile) ? hymn_conv2d_stream_biases(problem->channels, tile)
           : hymn_conv2d_walks(tile) ? hymn_conv2d_rows_point(problem, plan->matrix.k)
                                     : tile->splits;
}

enum hymn_status hymn_conv2d_lower_matrix(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_vk_plan *plan = lower->plan;
    struct hymn_conv2d_tile tile = hymn_conv2d_tile_of(lower->graph, node, plan);
    struct hymn_conv2d_problem problem = hymn_conv2d_describe(lower->graph, node, plan);
    if ((node->resizes && !hymn_conv2d_resizes(&problem, &tile)) ||
        (node->pooled != HYMN_NONE && !hymn_conv2d_pools(&problem, &tile, plan)) ||
        (node->convolved != HYMN_NONE && !hymn_conv2d_convolves(&problem, &tile))) {
        return hymn_fail(lower->log, HYMN_STATUS_INTERNAL, "%s: prepared for another device", node->name);
    }
    struct hymn_conv2d_dispatch dispatch;
    struct hymn_conv2d_params *params = &dispatch.params;
    fill_dispatch(lower, node, &tile, &dispatch);
    enum hymn_status status =
        problem.thin ? hymn_conv2d_pack_thin(lower, node, tile.channels, tile.depth, params, &dispatch.weights)
                     : hymn_conv2d_pack_matrix(lower, node, tile.channels, tile.depth, params, &dispatch.weights);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, shader_of(&problem, node, &tile, plan), NULL);
    if (!step) {
        return lower->status;
    }
    const uint32_t one = hymn_conv2d_specializes(plan) && hymn_conv2d_stages(&problem, tile.depth) == 1;
    const bool streams = hymn_conv2d_streams(&tile);
    const uint32_t constants[] = {tile.rows * (streams ? 1 : tile.columns) * plan->subgroup_size,
                                  dispatch.storage,
                                  node->prologue,
                                  problem.kernels[0],
                                  problem.kernels[1],
                                  problem.kernels[2],
                                  params->residual,
                                  node->activation,
                                  plan->matrix.m,
                                  plan->matrix.n,
                                  plan->matrix.k,
                                  tile.width,
                                  tile.height,
                                  tile.channels,
                                  tile.rows,
                                  streams ? 1 : tile.columns,
                                  tile.taps,
                                  tile.depth,
                                  tile.buffers,
                                  plan->unrolled_ends,
                                  one,
                                  last_constant(&problem, plan, &tile)};
    memcpy(step->constants, constants, sizeof constants);
    step->constant_count = sizeof constants / sizeof *constants - (tile.splits == 1 && tile.buffers > 0);
    hymn_grid_fold(params->tiles, plan->max_groups_x, &step->groups[0], &step->groups[2]);
    step->groups[1] = streams ? tile.columns : hymn_divide_up(params->out_stride * CELL, tile.channels);
    step->groups[2] = tile.splits > 1 ? tile.splits : step->groups[2];
    hymn_conv2d_finish(lower, node, &dispatch, step);
    if (node->pooled != HYMN_NONE) {
        hymn_lower_bind(step, hymn_lower_value(lower, node->pooled), true);
        step->bytes += lower->graph->values[node->pooled].bytes;
    }
    if (node->convolved != HYMN_NONE && !bind_convolved(lower, node, step)) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    bind_splits(lower, node, &tile, params->tiles * step->groups[1], step);
    return HYMN_STATUS_OK;
}

// ------------------------------------------------------------------------------------------------------------ surveys

// Of the constants above.
enum {
    AT_LANES = 0,
    AT_PROLOGUE = 2,
    AT_KERNELS = 3,
    AT_M = 8,
    AT_N = 9,
    AT_K = 10,
    AT_WIDTH = 11,
    AT_UNROLLED = 19,
    AT_ONE = 20
};

static struct hymn_conv2d_tile tile_of_step(const struct hymn_vk_step *step) {
    struct hymn_conv2d_tile tile = {0};
    memcpy(&tile, step->constants + AT_WIDTH, (AT_UNROLLED - AT_WIDTH) * sizeof *step->constants);
    return tile;
}

static uint32_t rows_of_step(const struct hymn_vk_step *step) {
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    return hymn_conv2d_row_registers(&tile, step->constants[AT_M], step->constants[AT_K],
                                     step->constants[AT_LANES] / (tile.rows * tile.columns));
}

static bool is_thin_step(const struct hymn_vk_step *step) {
    return strcmp(step->shader->name, HYMN_CONV2D_MATRIX "_thin") == 0 ||
           strcmp(step->shader->name, HYMN_CONV2D_MATRIX "_pictures") == 0;
}

static uint32_t registers_of_step(const struct hymn_vk_step *step) {
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    const uint32_t *constants = step->constants;
    if (hymn_conv2d_walks(&tile)) {
        return hymn_conv2d_rows_registers(&tile, constants[AT_N], constants[AT_K],
                                          constants[AT_LANES] / (tile.rows * tile.columns));
    }
    if (hymn_conv2d_streams(&tile)) {
        return hymn_conv2d_stream_registers(&tile, constants[AT_M], constants[AT_K], constants[AT_LANES] / tile.rows);
    }
    return rows_of_step(step) + hymn_conv2d_registers(constants + AT_KERNELS,
                                                      constants[AT_PROLOGUE] == HYMN_PROLOGUE_NORM,
                                                      strcmp(step->shader->name, HYMN_CONV2D_MATRIX "_resized") == 0,
                                                      is_thin_step(step), &tile, constants[AT_LANES]);
}

static uint32_t sums_of_step(const struct hymn_vk_step *step) {
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    return tile.width * tile.height * tile.channels / step->constants[AT_LANES];
}

const struct hymn_shader *hymn_conv2d_matrix_find_mask(const struct hymn_vk_plan *plan, const struct hymn_vk_step *step,
                                                       uint32_t cells) {
    static const char *const names[][2] = {{HYMN_CONV2D_MATRIX "_packed", HYMN_CONV2D_MATRIX "_mask"},
                                           {HYMN_CONV2D_MATRIX "_rows", HYMN_CONV2D_MATRIX "_rows_mask"}};
    const struct hymn_shader *shader = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && step->shader; i++) {
        shader = strcmp(step->shader->name, names[i][0]) == 0 ? hymn_shader_find(names[i][1]) : shader;
    }
    if (!shader || !hymn_vk_plan_allows(plan, shader)) {
        return NULL;
    }
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    struct hymn_conv2d_params params;
    memcpy(&params, step->push, sizeof params);
    bool whole = tile.columns == 1 && step->groups[1] == 1 && params.out_stride == cells;
    return whole && step->constants[AT_KERNELS] == 3 && tile.width % 4 == 0 ? shader : NULL;
}

const struct hymn_shader *hymn_conv2d_matrix_find_pictures(const struct hymn_vk_plan *plan,
                                                           const struct hymn_vk_step *step) {
    const struct hymn_shader *shader = hymn_shader_find(HYMN_CONV2D_MATRIX "_pictures");
    return step->shader && strcmp(step->shader->name, HYMN_CONV2D_MATRIX "_thin") == 0 &&
                   hymn_vk_plan_allows(plan, shader)
               ? shader
               : NULL;
}

bool hymn_conv2d_matrix_covers(const struct hymn_vk_step *a, const struct hymn_vk_step *b) {
    return a->shader != NULL && a->shader == b->shader &&
           strncmp(a->shader->name, HYMN_CONV2D_MATRIX, strlen(HYMN_CONV2D_MATRIX)) == 0 &&
           memcmp(a->constants + 1, b->constants + 1, (AT_WIDTH - 1) * sizeof *a->constants) == 0 &&
           a->constants[AT_ONE] <= b->constants[AT_ONE] && sums_of_step(a) == sums_of_step(b) &&
           (rows_of_step(a) > 0) == (rows_of_step(b) > 0) && registers_of_step(a) >= registers_of_step(b);
}
