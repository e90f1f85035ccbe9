// SPDX-License-Identifier: MIT
//
// Tiles of the convolution on matrix units that are worth timing.
#include <string.h>

#include "ops/conv2d_tile.h"

struct tile_list {
    const struct hymn_graph *graph;
    const struct hymn_node *node;
    const struct hymn_vk_plan *plan;
    struct hymn_method *methods;
    uint32_t count, most;
    struct hymn_conv2d_problem problem;
};

static void add_tile(struct tile_list *list, const struct hymn_conv2d_tile *tile) {
    uint32_t rows = tile->width * tile->height / tile->rows, columns = tile->channels / tile->columns;
    const struct hymn_conv2d_problem *problem = &list->problem;
    // Sums of a subgroup that are worth its loads and that its registers hold, with all the rest.
    bool sums = tile->buffers == 0 || (rows * columns >= 256 && rows * columns <= 4096);
    bool sensible = sums && hymn_conv2d_has_registers(problem, list->plan, tile);
    sensible =
        sensible && hymn_conv2d_resizes(problem, tile) == problem->resized; // or a time would be that of something else
    bool listed = false;
    for (uint32_t i = 0; i < list->count; i++) {
        listed = listed || memcmp(&list->methods[i], tile, sizeof *tile) == 0;
    }
    if (!listed && list->count < list->most && sensible &&
        hymn_conv2d_matrix_valid(list->graph, list->node, list->plan, tile)) {
        memcpy(&list->methods[list->count++], tile, sizeof *tile);
    }
}

static void vary_steps(struct tile_list *list, const struct hymn_conv2d_problem *problem,
                       const struct hymn_conv2d_tile *from) {
    static const uint32_t steps[][2] = {{1, 8}, {3, 8}, {1, 4}, {3, 4},  {9, 4},
                                        {9, 2}, {3, 2}, {1, 2}, {1, 16}, {1, 32}};
    for (uint32_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct hymn_conv2d_tile tile = *from;
        tile.taps = steps[i][0];
        tile.depth = steps[i][1];
        if ((problem->wide || tile.taps == 1) && (tile.taps != from->taps || tile.depth != from->depth)) {
            add_tile(list, &tile);
        }
    }
}

static void vary_sizes(struct tile_list *list, const struct hymn_conv2d_problem *problem,
                       const struct hymn_conv2d_tile *from) {
    for (uint32_t larger = 0; larger < 2; larger++) {
        struct hymn_conv2d_tile tile = *from;
        hymn_conv2d_set_pixels(problem, larger ? 2 * from->width * from->height : from->width * from->height / 2,
                               list->plan->matrix.m, &tile);
        add_tile(list, &tile);
        tile.rows = larger ? 2 * from->rows : from->rows > 1 ? from->rows / 2 : 1;
        add_tile(list, &tile);
        tile = *from;
        tile.channels = larger ? 2 * from->channels : from->channels / 2;
        if (tile.channels < 2 * problem->channels) {
            add_tile(list, &tile);
        }
    }
}

static void vary_subgroups(struct tile_list *list, const struct hymn_conv2d_tile *from) {
    static const uint32_t subgroups[][2] = {{2, 1}, {4, 1}, {8, 1}, {1, 2}, {2, 2}, {4, 2}, {2, 4}};
    for (uint32_t i = 0; i < sizeof subgroups / sizeof *subgroups; i++) {
        struct hymn_conv2d_tile tile = *from;
        tile.rows = subgroups[i][0];
        tile.columns = subgroups[i][1];
        uint32_t now = tile.rows * tile.columns, before = from->rows * from->columns;
        if ((tile.rows != from->rows || tile.columns != from->columns) && now <= 2 * before && before <= 2 * now) {
            add_tile(list, &tile);
        }
    }
}

// One buffer for pixels or two, where each step is a stage and there are several.
static void vary_buffers(struct tile_list *list, const struct hymn_conv2d_problem *problem,
                         const struct hymn_conv2d_tile *from) {
    struct hymn_conv2d_tile tile = *from;
    tile.buffers = 3 - from->buffers;
    if (!problem->wide && !problem->thin && hymn_conv2d_stages(problem, tile.depth) > 1) {
        add_tile(list, &tile);
    }
}

static void vary_splits(struct tile_list *list, const struct hymn_conv2d_problem *problem,
                        const struct hymn_conv2d_tile *from) {
    uint32_t groups = hymn_conv2d_groups(problem, from),
             target = list->plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
    struct hymn_conv2d_tile tile = *from;
    for (tile.splits = 1; tile.splits <= 8; tile.splits *= 2) {
        if (tile.splits != from->splits && (tile.splits == 1 || groups * tile.splits <= 4 * target)) {
            add_tile(list, &tile);
        }
    }
}

// Those with a margin, for the convolution in depth behind a product.
static void add_convolving(struct tile_list *list, const struct hymn_conv2d_problem *problem) {
    static const uint32_t known[][7] = {{16, 8, 64, 4, 2, 8, 1}, {16, 8, 64, 2, 2, 8, 1},  {16, 16, 64, 4, 2, 4, 1},
                                        {32, 8, 64, 4, 2, 4, 1}, {16, 8, 128, 4, 2, 4, 1}, {16, 8, 64, 4, 2, 4, 2}};
    // width, height, channels, rows, columns, depth, buffers
    for (uint32_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint32_t *from = known[i];
        const struct hymn_conv2d_tile tile = {from[0], from[1], from[2], from[3], from[4], 1, from[5], from[6], 1};
        const uint32_t target = list->plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
        if (hymn_conv2d_convolves(problem, &tile) && hymn_conv2d_groups(problem, &tile) <= 2 * target) {
            add_tile(list, &tile);
        }
    }
}

// Those whose pixels stay, where there are about as many as the device has room for.
static void add_streaming(struct tile_list *list, const struct hymn_conv2d_problem *problem) {
    for (uint32_t columns = 1; columns <= 4; columns *= 2) {
        const struct hymn_conv2d_tile tile = hymn_conv2d_stream_tile(problem, list->plan, columns);
        const uint32_t target = list->plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
        const uint32_t groups = hymn_divide_up(problem->width, tile.width) * tile.columns;
        if (8 * groups >= target && (tile.columns == 1 || groups <= 4 * target)) {
            add_tile(list, &tile);
        }
    }
}

// Those whose weights stay, by the rows of pixels that they walk down, likewise.
static void add_walking(struct tile_list *list, const struct hymn_conv2d_problem *problem) {
    const uint32_t target = list->plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
    for (uint32_t height = 64; height >= 16; height /= 2) {
        struct hymn_conv2d_tile tile = hymn_conv2d_rows_tile(problem, list->plan, height);
        if (4 * hymn_conv2d_groups(problem, &tile) >= 3 * target) {
            add_tile(list, &tile);
        }
    }
}

// Tiles that were the best of some layer on an H100, those of few layers first, then from small to large: those of
// which there are enough to fill the device, but not far too many, unless they are large.
static void add_known(struct tile_list *list, const struct hymn_conv2d_problem *problem) {
    static const uint32_t point[][7] = {
        {64, 160, 2, 2, 1, 4, 1}, {128, 160, 4, 2, 1, 4, 1}, // x_proj of base's first Mamba stage
        {32, 32, 2, 2, 1, 16, 2}, {32, 32, 2, 1, 1, 16, 2},  {64, 32, 4, 1, 1, 16, 1},  {32, 64, 2, 2, 1, 8, 2},
        {64, 64, 4, 2, 1, 8, 2},  {64, 64, 2, 2, 1, 8, 2},   {128, 64, 4, 1, 1, 4, 2},  {64, 128, 2, 2, 1, 8, 1},
        {64, 128, 4, 2, 1, 4, 1}, {128, 128, 2, 2, 1, 4, 1}, {128, 128, 4, 2, 1, 4, 1}, {128, 128, 2, 2, 1, 2, 1},
        {64, 128, 2, 4, 1, 8, 1}, {128, 128, 2, 2, 1, 4, 2}, {64, 128, 2, 2, 1, 4, 2},  {64, 32, 2, 2, 1, 16, 1}};
    static const uint32_t wide[][7] = {{64, 32, 4, 2, 1, 16, 1}, {64, 32, 4, 1, 1, 16, 1},  {64, 64, 2, 2, 1, 8, 1},
                                       {128, 64, 4, 2, 3, 4, 1}, {128, 64, 2, 2, 1, 8, 1},  {256, 32, 4, 1, 3, 4, 1},
                                       {256, 32, 4, 1, 9, 2, 1}, {128, 128, 2, 2, 3, 2, 1}, {128, 128, 2, 2, 1, 4, 1},
                                       {128, 32, 4, 1, 3, 2, 1}, {256, 64, 2, 2, 3, 2, 1},  {256, 64, 4, 1, 3, 2, 1}};
    static const uint32_t thin[][7] = {{128, 32, 4, 1, 1, 4, 1},
                                       {256, 32, 4, 1, 1, 4, 1},
                                       {256, 32, 8, 1, 1, 4, 1},
                                       {512, 32, 8, 1, 1, 4, 1},
                                       {256, 64, 4, 1, 1, 4, 1}};
    // pixels, channels, rows, columns, taps, depth, buffers
    const struct hymn_vk_plan *plan = list->plan;
    uint32_t target = plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
    uint32_t count = problem->wide   ? sizeof wide / sizeof *wide
                     : problem->thin ? sizeof thin / sizeof *thin
                                     : sizeof point / sizeof *point;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *from = problem->wide ? wide[i] : problem->thin ? thin[i] : point[i];
        struct hymn_conv2d_tile tile = {.channels = from[1],
                                        .rows = from[2],
                                        .columns = from[3],
                                        .taps = from[4],
                                        .depth = from[5],
                                        .buffers = from[6],
                                        .splits = 1};
        hymn_conv2d_set_pixels(problem, from[0], plan->matrix.m, &tile);
        uint32_t groups = hymn_conv2d_groups(problem, &tile);
        bool few = 4 * groups < target || tile.channels >= 2 * problem->channels;
        bool deep = tile.depth > 2 && tile.depth / 2 >= hymn_conv2d_most_cells(problem);
        // Such wide tiles are for layers that have just as many channels.
        bool part = tile.channels > 128 && tile.channels != problem->channels;
        if (!few && !deep && !part && (groups <= 2 * target || from[0] * from[1] > HYMN_CONV2D_SMALL_TILE)) {
            add_tile(list, &tile);
        }
    }
}

uint32_t hymn_conv2d_matrix_list(const struct hymn_graph *graph, const struct hymn_node *node,
                                 const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                 struct hymn_method *out_methods, uint32_t most) {
    if (!hymn_conv2d_matrix_fits(graph, node, plan)) {
        return 0;
    }
    struct hymn_conv2d_problem problem = hymn_conv2d_describe(graph, node, plan);
    struct hymn_conv2d_tile tile;
    struct tile_list list = {graph, node, plan, out_methods, 0, most, problem};
    if (from) {
        memcpy(&tile, from, sizeof tile);
    } else {
        tile = hymn_conv2d_tile_of(graph, node, plan);
        memcpy(&list.methods[list.count++], &tile, sizeof tile);
    }
    const bool apart = tile.buffers == 0, convolves = !apart && hymn_conv2d_convolves(&problem, &tile);
    if (!convolves && !apart) {
        vary_buffers(&list, &problem, &tile);
    }
    if (!from) {
        add_known(&list,
                  &problem); // first those of the other kind than the rule's, which few trials must not leave out
        add_convolving(&list, &problem);
        add_streaming(&list, &problem);
        add_walking(&list, &problem);
    }
    if (convolves || apart) {
        return list.count; // others of that kind are all listed
    }
    vary_steps(&list, &problem, &tile);
    vary_sizes(&list, &problem, &tile);
    vary_subgroups(&list, &tile);
    if (hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_split", NULL)) {
        vary_splits(&list, &problem, &tile);
    }
    return list.count;
}
