// SPDX-License-Identifier: MIT
//
// Tiles of shaders/conv2d_matrix_rows.comp, whose weights stay while rows of pixels pass.
#include "ops/conv2d_tile.h"

#define CELL 8u
#define KEPT 2u // the shader's
#define PASS_TAPS 2u
#define SUBGROUPS 4u
// By the rule: channels at most, of the source and of the output, those of one subgroup, and of one that shares them;
// rows of pixels that a workgroup walks down.
#define MOST_CHANNELS 64u
#define MOST_ALONE 32u
#define SHARED_CHANNELS 16u
#define MATRICES_SHARED 2u // of pixels, side by side, then
#define LONG_WALK 64u
#define SHORT_WALK 32u
#define SHARED_WALK 16u
// Of tiles worth timing: with 156 NVK has up to 255 in use, with 224 RDNA 3 spills (tests/vendors).
#define MOST_REGISTERS 216u

uint32_t hymn_conv2d_rows_point(const struct hymn_conv2d_problem *problem, uint32_t k) {
    return hymn_round_up(problem->cells[1], k / CELL);
}

// As the shader has it, whether it goes on to masks or not.
static uint32_t shared_bytes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                             const struct hymn_vk_matrix *matrix) {
    const uint32_t m = matrix->m, k = matrix->k;
    const bool alone = tile->columns == 1;
    const uint32_t row = tile->depth + 1, own = tile->width / tile->rows, point = hymn_conv2d_rows_point(problem, k);
    const uint32_t end = own * (tile->channels / CELL / tile->columns + 1);
    const uint32_t low = 2 * ((own - m) / 2 + hymn_round_up(m / 2 + 2, k)) * (end / own);
    const uint32_t share = (alone ? 1 : 2) * (own + 2) * row + (point > 0 ? own * (point + 1) : 0) +
                           (alone ? 2 : tile->columns) * end + (problem->half_residual ? low : 0);
    const uint32_t tap = tile->channels * row, pass = (alone ? 3 * KEPT : PASS_TAPS) * tap;
    const uint32_t kept = 9 - 3 * KEPT + (alone ? hymn_divide_up(point, tile->depth) : 0);
    const uint32_t head = alone ? tile->channels / 4 + 1 : 0;
    return 16 * ((tile->rows * share > pass ? tile->rows * share : pass) + kept * tap + tile->channels / 4 + head);
}

// Lanes share what a subgroup has of a row of outputs evenly.
static bool shares_evenly(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                          const struct hymn_conv2d_tile *tile) {
    uint32_t cells = tile->channels / CELL / tile->columns, subgroup = plan->subgroup_size;
    bool pools = problem->pooled && (cells & (cells - 1)) == 0 && 2 * cells <= subgroup && tile->height % 2 == 0;
    return tile->width / tile->rows * cells % subgroup == 0 && (!problem->pooled || pools);
}

bool hymn_conv2d_rows_fits(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                           const struct hymn_conv2d_tile *tile) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    const bool convolution = problem->plain && problem->kernels[0] == 3 && problem->kernels[1] <= 1 &&
                             problem->kernels[2] == 0 && !problem->thin && !problem->norm &&
                             (!problem->half_residual || (tile->height % 2 == 0 && tile->columns == 1));
    if (!convolution || !hymn_conv2d_specializes(plan) || tile->rows == 0 || tile->columns == 0 || tile->width == 0 ||
        tile->height == 0 || tile->depth == 0 || !hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_rows", NULL) ||
        (problem->pooled && !hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_rows_pool", NULL))) {
        return false;
    }
    const uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size;
    return tile->splits == 1 && tile->depth >= problem->cells[0] && tile->depth * CELL % matrix->k == 0 &&
           tile->width % (matrix->m * tile->rows) == 0 && tile->channels >= problem->channels &&
           tile->channels % (matrix->n * tile->columns) == 0 && tile->channels / tile->columns % CELL == 0 &&
           shares_evenly(problem, plan, tile) && tile->channels / 4 + 1 < lanes && lanes <= plan->max_invocations &&
           shared_bytes(problem, tile, matrix) <= plan->max_shared_bytes;
}

uint32_t hymn_conv2d_rows_registers(const struct hymn_conv2d_tile *tile, uint32_t n, uint32_t k, uint32_t subgroup) {
    uint32_t own = tile->width / tile->rows, channels = tile->channels / tile->columns;
    uint32_t weights = KEPT * 3 * (tile->depth * CELL / k) * (channels / n);
    return weights * hymn_conv2d_pixel_registers(n, k, subgroup) + 3 * own * channels / subgroup +
           4 * hymn_divide_up((own + 2) * tile->depth, tile->columns * subgroup);
}

bool hymn_conv2d_rows_has_registers(const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile) {
    return hymn_conv2d_rows_registers(tile, plan->matrix.n, plan->matrix.k, plan->subgroup_size) <= MOST_REGISTERS;
}

struct hymn_conv2d_tile hymn_conv2d_rows_tile(const struct hymn_conv2d_problem *problem,
                                              const struct hymn_vk_plan *plan, uint32_t height) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    const uint32_t depth = hymn_round_up(problem->cells[0], matrix->k / CELL);
    struct hymn_conv2d_tile tile = {
        SUBGROUPS * matrix->m, height, hymn_round_up(problem->channels, matrix->n), SUBGROUPS, 1, 9, depth, 0, 1};
    if (problem->channels > MOST_ALONE || problem->cells[0] * CELL > MOST_ALONE) {
        const uint32_t each = hymn_round_up(SHARED_CHANNELS, matrix->n);
        tile.channels = hymn_round_up(problem->channels, each);
        tile.columns = tile.channels / each;
        tile.rows = tile.columns < SUBGROUPS ? SUBGROUPS / tile.columns : 1;
        tile.width = MATRICES_SHARED * matrix->m * tile.rows;
    }
    return tile;
}

bool hymn_conv2d_choose_rows(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                             uint32_t target, struct hymn_conv2d_tile *out_tile) {
    struct hymn_conv2d_tile tile = hymn_conv2d_rows_tile(problem, plan, LONG_WALK);
    const uint32_t shortest = tile.columns > 1 ? SHARED_WALK : SHORT_WALK;
    while (tile.height > shortest && hymn_conv2d_groups(problem, &tile) < 2 * target) {
        tile.height /= 2;
    }
    if (plan->cpu || problem->channels > MOST_CHANNELS || problem->cells[0] * CELL > MOST_CHANNELS ||
        hymn_conv2d_groups(problem, &tile) < target || !hymn_conv2d_rows_fits(problem, plan, &tile) ||
        !hymn_conv2d_rows_has_registers(plan, &tile)) {
        return false;
    }
    *out_tile = tile;
    return true;
}
