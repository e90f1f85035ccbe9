// SPDX-License-Identifier: MIT
//
// Tiles of shaders/conv2d_matrix_stream.comp, whose pixels stay while the weights of their channels pass.
#include "ops/conv2d_tile.h"

#define CELL 8u
// Of the tiles in use: more pixels a subgroup, or channels a pass, and compilers run out of registers.
#define SUBGROUPS 4u
#define MATRICES_EACH 2u
#define CHANNELS 32u
// By the rule: channels from which on keeping the pixels is worth it, in passes of so many; passes of a workgroup.
#define LEAST_PASSES 5u
#define LEAST_OF_RANGE 4u
#define MOST_COLUMNS 2u  // workgroups that share a tile's passes: each loads and normalises its pixels
#define LEAST_OF_FOUR 8u // passes of each of four of them
#define MOST_REGISTERS 210u

static uint32_t passes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    return hymn_divide_up(problem->channels, tile->channels);
}

uint32_t hymn_conv2d_stream_biases(uint32_t channels, const struct hymn_conv2d_tile *tile) {
    uint32_t count = hymn_divide_up(channels, tile->channels);
    return hymn_divide_up(count, tile->columns) * (tile->channels / 4);
}

static uint32_t shared_bytes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                             uint32_t m) {
    uint32_t row = tile->depth + 1, first = tile->rows * m * row;
    uint32_t loop = 2 * tile->channels * row + tile->width * (tile->channels / CELL + 1);
    return 16 * ((first > loop ? first : loop) + (problem->norm ? tile->rows * m / 2 : 0) +
                 hymn_conv2d_stream_biases(problem->channels, tile));
}

bool hymn_conv2d_stream_fits(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                             const struct hymn_conv2d_tile *tile) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    const bool product = problem->plain && problem->joined && problem->kernels[0] == 1 && problem->kernels[1] == 0;
    if (!product || !hymn_conv2d_specializes(plan) || tile->rows == 0 || tile->columns == 0 || tile->width == 0 ||
        tile->channels == 0 || !hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_stream", NULL)) {
        return false;
    }
    // Lanes that share a pixel's moments; what is beyond the last channel must not count among them.
    const uint32_t parts = plan->subgroup_size / matrix->m;
    const bool norm = !problem->norm || (problem->whole && parts > 0 && tile->depth % parts == 0);
    return norm && tile->height == 1 && tile->taps == 1 && tile->splits == 1 && tile->depth == problem->cells[0] &&
           tile->depth * CELL % matrix->k == 0 && tile->width % (matrix->m * tile->rows) == 0 &&
           tile->channels % matrix->n == 0 && tile->channels % CELL == 0 && tile->columns <= passes(problem, tile) &&
           tile->rows * plan->subgroup_size <= plan->max_invocations &&
           shared_bytes(problem, tile, matrix->m) <= plan->max_shared_bytes;
}

uint32_t hymn_conv2d_stream_registers(const struct hymn_conv2d_tile *tile, uint32_t m, uint32_t k, uint32_t subgroup) {
    uint32_t each = hymn_conv2d_pixel_registers(m, k, subgroup), own = tile->width / tile->rows;
    return own / m * (tile->depth * CELL / k) * each + own * tile->channels / subgroup +
           4 * hymn_divide_up(tile->channels * tile->depth, tile->rows * subgroup) +
           4 * hymn_divide_up(own * tile->channels / CELL, subgroup);
}

bool hymn_conv2d_stream_has_registers(const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile) {
    return hymn_conv2d_stream_registers(tile, plan->matrix.m, plan->matrix.k, plan->subgroup_size) <= MOST_REGISTERS;
}

struct hymn_conv2d_tile hymn_conv2d_stream_tile(const struct hymn_conv2d_problem *problem,
                                                const struct hymn_vk_plan *plan, uint32_t columns) {
    return (struct hymn_conv2d_tile){.width = MATRICES_EACH * SUBGROUPS * plan->matrix.m,
                                     .height = 1,
                                     .channels = CHANNELS,
                                     .rows = SUBGROUPS,
                                     .columns = columns,
                                     .taps = 1,
                                     .depth = problem->cells[0],
                                     .splits = 1};
}

// Measured on an H200 at batch 8 and 32: two workgroups a multiprocessor do, each with all channels or a range of them;
// four that share a tile where two are no more than that, 35 and 28 to 30 and 25 us.
bool hymn_conv2d_choose_stream(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                               uint32_t target, struct hymn_conv2d_tile *out_tile) {
    struct hymn_conv2d_tile tile = hymn_conv2d_stream_tile(problem, plan, 1);
    const uint32_t tiles = hymn_divide_up(problem->width, tile.width), count = passes(problem, &tile);
    while (3 * tiles * tile.columns < target && 2 * tile.columns * LEAST_OF_RANGE <= count &&
           2 * tile.columns <= MOST_COLUMNS) {
        tile.columns *= 2;
    }
    const uint32_t share = 3 * tiles * tile.columns;
    if (tile.columns == MOST_COLUMNS && share >= target && share < 2 * target &&
        2 * MOST_COLUMNS * LEAST_OF_FOUR <= count) {
        tile.columns *= 2;
    }
    if (plan->cpu || count < LEAST_PASSES || 3 * tiles * tile.columns < target ||
        !hymn_conv2d_stream_fits(problem, plan, &tile) || !hymn_conv2d_stream_has_registers(plan, &tile)) {
        return false;
    }
    *out_tile = tile;
    return true;
}
