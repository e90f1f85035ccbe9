// SPDX-License-Identifier: MIT
//
// The convolution on matrix units: which tiles the kernel is made for, and its dispatch.
#include "ops/conv2d_matrix.h"

#include <assert.h>
#include <string.h>

#include "ops/conv2d.h"

#define CELL 8u
#define SHADER "conv2d_matrix"
// Lanes of a workgroup of a tile that keeps a device busy together with target_lanes / LANES_PER_GROUP others.
#define LANES_PER_GROUP 512u
// By the rule: sums that a lane holds at most, products of a matrix that are unrolled, outputs of a tile that is small
// enough to have two buffers, workgroups that share a tile, and the least k of each.
#define SUMS_PER_LANE 128u
#define MAX_UNROLLED 8u
#define SMALL_TILE 4096u
#define LARGE_TILE 256u // pixels
#define THIN_DEPTH 4u   // cells of the one stage that all taps of a thin source are
#define MAX_SPLITS 8u
#define LEAST_SPLIT 512u
// Pixels for each workgroup that keeps the device busy, from which on a map is large.
#define LARGE_MAP 512u
// Of tiles worth timing: tests/vendors sees spills from 177 on, with 32 lanes and with 64, and with rows of pixels from
// 211 on.
#define MOST_REGISTERS 176u
#define MOST_WITH_ROWS 210u

static const struct hymn_conv2d_tile *forced_tile;

void hymn_conv2d_matrix_force(const struct hymn_conv2d_tile *tile) {
    forced_tile = tile;
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

// ------------------------------------------------------------------------------------------------------------ the node

struct problem {
    uint32_t width, height, rows; // of the output
    uint32_t channels;            // with padding
    bool wide, joined;            // some kernel is 3; no kernel needs rows
    bool norm;                    // what it reads is normalised
    bool plain;                   // f16, the residual too, and no activation that is more than a clamp
    bool resized, pooled;         // what the kernel is to resize or to pool by itself, if the tile lets it
    bool thin;                    // the one source, of kernel 3: all taps are one stage
    uint32_t kernels[3], cells[3];
};

// Whether the kernel's special forms are worth their compilation: not where matrices are emulated, for which Mesa takes
// minutes at the tiles of GPUs.
static bool specializes(const struct hymn_vk_plan *plan) {
    return !plan->cpu || forced_tile;
}

static bool is_half(const struct hymn_graph *graph, const struct hymn_source *source) {
    return source->value == HYMN_NONE || graph->values[source->value].storage == HYMN_STORAGE_F16;
}

// Whether it is a tile by which all taps of three channels are one stage.
static bool is_of_taps(const struct hymn_conv2d_tile *tile) {
    return tile->taps == 1 && tile->depth == THIN_DEPTH && tile->buffers == 1 && tile->splits <= 1;
}

static bool is_thin(const struct hymn_node *node, const struct hymn_vk_plan *plan) {
    const struct hymn_term *term = &node->terms[0];
    return (!forced_tile || is_of_taps(forced_tile)) && node->term_count == 1 && term->kernel == 3 &&
           term->source.channels <= HYMN_CONV2D_THIN && node->residual.value == HYMN_NONE && node->pool == HYMN_NONE &&
           THIN_DEPTH * CELL % plan->matrix.k == 0 && specializes(plan) &&
           hymn_variant_allowed(plan, SHADER "_thin", NULL);
}

static struct problem describe(const struct hymn_graph *graph, const struct hymn_node *node,
                               const struct hymn_vk_plan *plan) {
    const struct hymn_value *output = &graph->values[node->output];
    struct hymn_conv2d_params params = {.width = output->width,
                                        .height = output->height,
                                        .rows = graph->batch * output->height,
                                        .residual = node->residual_resize ? 2 : 0};
    hymn_conv2d_join_rows(node, &params);
    struct problem problem = {.width = params.width,
                              .height = params.height,
                              .rows = params.rows,
                              .channels = output->stride,
                              .joined = params.rows == 1,
                              .norm = node->prologue == HYMN_PROLOGUE_NORM,
                              .plain = output->storage == HYMN_STORAGE_F16 && is_half(graph, &node->residual) &&
                                       node->activation != HYMN_ACTIVATION_SILU};
    // Small maps are resized beside the gate's convolution, which costs nothing.
    bool large = (uint64_t)params.rows * params.width >= (uint64_t)plan->target_lanes / LANES_PER_GROUP * LARGE_MAP;
    problem.resized = problem.plain && node->low.value != HYMN_NONE && specializes(plan) && (large || forced_tile) &&
                      is_half(graph, &node->low) && hymn_variant_allowed(plan, SHADER "_resized", NULL);
    problem.pooled = problem.plain && node->pool != HYMN_NONE && !node->residual_resize && specializes(plan) &&
                     output->height % 2 == 0 && output->width % 2 == 0 &&
                     hymn_variant_allowed(plan, SHADER "_pool", NULL);
    for (uint32_t i = 0; i < node->term_count; i++) {
        problem.kernels[i] = node->terms[i].kernel;
        problem.cells[i] = hymn_divide_up(node->terms[i].source.channels, CELL);
        problem.wide = problem.wide || node->terms[i].kernel == 3;
    }
    problem.thin = problem.plain && is_thin(node, plan);
    if (problem.thin) {
        problem.wide = false;
        problem.cells[0] = THIN_DEPTH;
    }
    return problem;
}

static uint32_t stages(const struct problem *problem, uint32_t depth) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        count += hymn_divide_up(problem->cells[i], depth) * (problem->kernels[i] == 2 ? 4 : 1);
    }
    return count;
}

static uint32_t most_cells(const struct problem *problem) {
    uint32_t most = problem->cells[0] > problem->cells[1] ? problem->cells[0] : problem->cells[1];
    return most > problem->cells[2] ? most : problem->cells[2];
}

// ------------------------------------------------------------------------------------------------------------ the tile

// The kernel's PARTS: lanes that share the moments of a pixel.
static uint32_t norm_parts(const struct hymn_conv2d_tile *tile, uint32_t lanes) {
    uint32_t parts = 8;
    while (parts > 1 && (lanes / (tile->width * tile->height) < parts || tile->depth % parts != 0)) {
        parts /= 2;
    }
    return parts;
}

// Whether the variant is to be used that resizes by itself.
static bool resizes(const struct problem *problem, const struct hymn_conv2d_tile *tile) {
    return problem->resized && tile->splits <= 1 && tile->height % 2 == 0;
}

// Units of 16 bytes of the pixels at half size, which lie where the next step's weights would if there is room.
static uint32_t low_units(const struct problem *problem, const struct hymn_conv2d_tile *tile) {
    uint32_t low = (tile->width / 2 + 2) * (tile->height / 2 + 2) * tile->depth;
    return resizes(problem, tile) && low > tile->taps * tile->channels * (tile->depth + 1) ? low : 0;
}

// Whether the variant is to be used that finishes sums as matrices.
static bool packs(const struct problem *problem, const struct hymn_conv2d_tile *tile, const struct hymn_vk_plan *plan) {
    return problem->plain && tile->splits <= 1 && specializes(plan) &&
           hymn_variant_allowed(plan, SHADER "_packed", NULL);
}

// Units of 16 bytes of the sums on their way out; out_whole: all of them at a time.
static uint32_t end_units(const struct problem *problem, const struct hymn_conv2d_tile *tile,
                          const struct hymn_vk_plan *plan, uint32_t loop, bool packed, bool *out_whole) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size;
    uint32_t pixels = tile->width * tile->height;
    uint32_t columns = tile->channels / matrix->n / tile->columns, cells = tile->channels / tile->columns / CELL;
    uint32_t parts = problem->norm && !packed && columns % 2 == 0 && cells % 2 == 0 ? 2 : 1;
    uint32_t stripe = tile->rows * tile->columns * matrix->m * ((packed ? 1 : 2) * (cells / parts) + 1);
    uint32_t norm = problem->norm ? pixels * norm_parts(tile, lanes) + (packed ? pixels / 2 : 0) : 0;
    uint32_t whole = pixels / matrix->m / tile->rows * stripe + norm;
    *out_whole = whole <= loop;
    return *out_whole ? whole : stripe + norm;
}

// Of the loop over stages: its pixels, two steps' weights, and pixels at half size.
static uint32_t loop_units(const struct problem *problem, const struct hymn_conv2d_tile *tile) {
    uint32_t staged = problem->wide ? (tile->width + 2) * (tile->height + 2) : tile->width * tile->height;
    return (tile->buffers * staged + 2 * tile->taps * tile->channels) * (tile->depth + 1) + low_units(problem, tile);
}

// Enough for each variant that may be used, as whether workgroups share the tile is decided last.
static uint32_t shared_bytes(const struct problem *problem, const struct hymn_conv2d_tile *tile,
                             const struct hymn_vk_plan *plan) {
    uint32_t loop = loop_units(problem, tile), most = loop;
    bool whole;
    for (uint32_t packed = 0; packed < (problem->plain ? 2 : 1); packed++) {
        uint32_t end = end_units(problem, tile, plan, loop, packed != 0, &whole);
        most = end > most ? end : most;
    }
    bool masks =
        problem->plain && problem->wide && tile->columns == 1 && hymn_variant_allowed(plan, SHADER "_mask", NULL);
    uint32_t extra = masks ? tile->channels / 4 + 1 : 0;
    extra += problem->thin ? hymn_divide_up((tile->width + 2) * (tile->height + 2), 2) : 0;
    return 16 * (most + tile->channels / 4 * (problem->norm ? 2 : 1) + extra) + 16;
}

// Whether the variant is to be used that pools by itself: a subgroup has whole pairs of rows of pixels, all of which
// leave at a time.
static bool pools(const struct problem *problem, const struct hymn_conv2d_tile *tile, const struct hymn_vk_plan *plan) {
    bool whole;
    end_units(problem, tile, plan, loop_units(problem, tile), true, &whole);
    return problem->pooled && whole && tile->splits <= 1 && !problem->joined && !resizes(problem, tile) &&
           tile->width * tile->height / tile->rows % (2 * tile->width) == 0;
}

bool hymn_conv2d_matrix_valid(const struct hymn_graph *graph, const struct hymn_node *node,
                              const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile) {
    struct problem problem = describe(graph, node, plan);
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size, pixels = tile->width * tile->height;
    return lanes <= plan->max_invocations && shared_bytes(&problem, tile, plan) <= plan->max_shared_bytes &&
           tile->width % matrix->m == 0 && pixels % (matrix->m * tile->rows) == 0 &&
           tile->channels % (matrix->n * tile->columns) == 0 && tile->channels / tile->columns % CELL == 0 &&
           tile->depth * CELL % matrix->k == 0 && tile->splits <= stages(&problem, tile->depth) &&
           (problem.wide || tile->taps == 1) && (!problem.thin || is_of_taps(tile));
}

static uint32_t groups_of(const struct problem *problem, const struct hymn_conv2d_tile *tile) {
    return hymn_divide_up(problem->width, tile->width) * hymn_divide_up(problem->height, tile->height) *
           (problem->rows / problem->height) * hymn_divide_up(problem->channels, tile->channels);
}

// The most channels of a tile that leave a fifth of the tiles empty at most, or no more than the smallest tiles would.
static uint32_t choose_channels(const struct problem *problem, uint32_t n) {
    uint32_t least = n > 16 ? n : 16, channels = 128;
    uint32_t with_least = hymn_round_up(problem->channels, least), room = problem->channels * 5 / 4;
    uint32_t most = room > with_least ? room : with_least;
    while (channels > least && hymn_round_up(problem->channels, channels) > most) {
        channels /= 2;
    }
    return channels;
}

static void set_pixels(const struct problem *problem, uint32_t pixels, uint32_t m, struct hymn_conv2d_tile *tile) {
    tile->width = problem->joined ? pixels : m > 16 ? m : 16;
    tile->height = pixels / tile->width;
}

// Too few workgroups: smaller tiles. Those of a 3x3 kernel keep pixels, whose margin all load; those of a norm keep
// channels, as each column of tiles sums up the moments; and half of the workgroups do below 64 x 64, where each loads
// as much as it multiplies. Returns the pixels.
static uint32_t fill_device(const struct problem *problem, const struct hymn_vk_matrix *matrix, uint32_t target,
                            uint32_t pixels, struct hymn_conv2d_tile *tile) {
    const bool margin = problem->wide || problem->thin;
    uint32_t least_pixels = margin ? 64 : 32, least_channels = problem->norm ? 64 : 32;
    while (groups_of(problem, tile) < target && (pixels > 64 || tile->channels > 64)) {
        if (pixels > 64 && !(margin && tile->channels > 64)) {
            pixels /= 2;
        } else {
            tile->channels /= 2;
        }
        set_pixels(problem, pixels, matrix->m, tile);
    }
    target = margin ? target : target / 2;
    least_channels = least_channels > matrix->n ? least_channels : matrix->n;
    while (groups_of(problem, tile) < target && (tile->channels > least_channels || pixels > least_pixels)) {
        if (tile->channels > least_channels) {
            tile->channels /= 2;
        } else {
            pixels /= 2;
        }
        set_pixels(problem, pixels, matrix->m, tile);
    }
    return pixels;
}

// Few subgroups with many sums each, as each loads its pixels and weights from shared memory: 64 x 64 at most, as far
// as registers go.
static void set_subgroups(const struct hymn_vk_plan *plan, uint32_t pixels, struct hymn_conv2d_tile *tile) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    uint32_t sums = SUMS_PER_LANE * plan->subgroup_size;
    tile->columns = tile->channels >= 64 && tile->channels >= 2 * matrix->n ? 2 : 1;
    tile->rows = tile->channels >= 64 ? 2 : 4 / tile->columns;
    while (pixels * tile->channels > sums * tile->rows * tile->columns && tile->rows < 8) {
        tile->rows *= 2;
    }
    while (pixels / tile->rows < matrix->m) {
        tile->rows /= 2;
    }
    if (tile->rows * tile->columns < 4 && tile->columns == 1 && tile->channels >= 2 * matrix->n) {
        tile->columns = 2; // small tiles wait rather than compute: more lanes to load
    }
}

// The deepest stages that fit, as each ends in a wait, but not deeper than the sources are. Returns whether any fit.
static bool set_step(const struct problem *problem, const struct hymn_vk_plan *plan, struct hymn_conv2d_tile *tile) {
    static const uint32_t point[][2] = {{1, 16}, {1, 8}, {1, 4}, {1, 2}}; // taps, depth
    static const uint32_t wide[][2] = {{1, 16}, {1, 8}, {3, 4}, {3, 2}, {1, 4}};
    uint32_t k = plan->matrix.k, least = k > 2 * CELL ? k / CELL : 2, cells = most_cells(problem);
    uint32_t count = problem->wide ? sizeof wide / sizeof *wide : sizeof point / sizeof *point;
    for (uint32_t i = 0; i < count; i++) {
        tile->taps = problem->wide ? wide[i][0] : point[i][0];
        tile->depth = problem->wide ? wide[i][1] : point[i][1];
        bool deep = tile->depth > least && (tile->depth / 2 >= cells || tile->depth * CELL > MAX_UNROLLED * k);
        // Large tiles are for the rows of pixels that three taps share.
        deep = deep || (problem->thin && tile->depth != THIN_DEPTH);
        deep =
            deep || (problem->wide && tile->width * tile->height >= LARGE_TILE && tile->taps == 1 && tile->depth > 4);
        if (tile->depth >= least && !deep && shared_bytes(problem, tile, plan) <= plan->max_shared_bytes) {
            return true;
        }
    }
    return false;
}

// Until it fits into a workgroup of the device: fewer channels, then fewer pixels.
static void fit(const struct problem *problem, const struct hymn_vk_plan *plan, uint32_t pixels,
                struct hymn_conv2d_tile *tile) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    while (true) {
        set_subgroups(plan, pixels, tile);
        tile->buffers = !problem->wide && !problem->thin && pixels * tile->channels <= SMALL_TILE ? 2 : 1;
        if (set_step(problem, plan, tile) &&
            tile->rows * tile->columns * plan->subgroup_size <= plan->max_invocations) {
            return;
        }
        if (tile->channels > 16 && tile->channels > matrix->n) {
            tile->channels /= 2;
        } else if (pixels / 2 >= (problem->joined ? matrix->m : tile->width)) {
            pixels /= 2;
            set_pixels(problem, pixels, matrix->m, tile);
        } else {
            return; // hymn_conv2d_matrix_valid says no
        }
    }
}

// Several workgroups for each tile while those are few, each with a sum that is worth passing on.
static void set_splits(const struct problem *problem, uint32_t target, struct hymn_conv2d_tile *tile) {
    uint32_t groups = groups_of(problem, tile), most = stages(problem, tile->depth), k = 0;
    for (uint32_t i = 0; i < 3; i++) {
        k += problem->cells[i] * CELL * problem->kernels[i] * problem->kernels[i];
    }
    most = min_u32(min_u32(most, k / LEAST_SPLIT), MAX_SPLITS);
    for (tile->splits = 1; groups * tile->splits < target && 2 * tile->splits <= most;) {
        tile->splits *= 2;
    }
}

// What a lane has in registers, without what the products themselves take: its sums; the cells that it copies at a time
// (4 each) and where they come from; and a norm's moments. resized: there are pixels of half size too; thin: pixels are
// loaded once for all taps.
static uint32_t registers(const uint32_t kernels[3], bool norm, bool resized, bool thin,
                          const struct hymn_conv2d_tile *tile, uint32_t lanes) {
    bool wide = false, point = false;
    for (uint32_t i = 0; i < 3; i++) {
        wide = wide || kernels[i] == 3;
        point = point || kernels[i] == 1 || kernels[i] == 2;
    }
    uint32_t inner = tile->width * tile->height, staged = wide ? (tile->width + 2) * (tile->height + 2) : inner;
    uint32_t pixels = hymn_divide_up(staged * tile->depth, lanes), points = hymn_divide_up(inner * tile->depth, lanes);
    uint32_t weights = hymn_divide_up(tile->taps * tile->channels * tile->depth, lanes), low = 0;
    if (resized) {
        pixels = 4 * hymn_divide_up(staged / 4 * tile->depth, lanes);
        low = hymn_divide_up((tile->width / 2 + 2) * (tile->height / 2 + 2) * tile->depth, lanes);
    }
    pixels = thin ? hymn_divide_up(staged, lanes) : pixels;
    return inner * tile->channels / lanes + 4 * (pixels + weights) + (wide ? pixels : 0) +
           (point && !wide ? points : 0) + 5 * low + (norm ? 3 * hymn_divide_up(inner, lanes) : 0);
}

// Of the rows of pixels that the kernel keeps for the three taps of a column; 0 where it takes single taps. m, k: of
// the device's matrices. Subgroups of 64 lanes (RDNA 3) have a matrix of pixels twice.
static uint32_t row_registers(const struct hymn_conv2d_tile *tile, uint32_t m, uint32_t k, uint32_t subgroup) {
    uint32_t across = tile->width / m, rows = tile->width * tile->height / tile->rows / m;
    uint32_t each = m * k / 2 / min_u32(subgroup, 32) * (subgroup > 32 ? 2 : 1);
    bool columns = tile->taps % 3 == 0 && across > 0 && rows % across == 0;
    return columns ? (rows + 2 * across) * each : 0;
}

// Whether the registers hold it all.
static bool has_registers(const struct problem *problem, const struct hymn_vk_plan *plan,
                          const struct hymn_conv2d_tile *tile) {
    uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size;
    uint32_t kept = row_registers(tile, plan->matrix.m, plan->matrix.k, plan->subgroup_size);
    return kept + registers(problem->kernels, problem->norm, problem->resized, problem->thin, tile, lanes) <=
           (kept > 0 ? MOST_WITH_ROWS : MOST_REGISTERS);
}

// A large tile of few channels, whose subgroups have many rows of pixels and so load few twice; returns whether there
// are enough of them, and registers. Not where matrices are emulated, as such tiles take the longest to compile.
static bool choose_large(const struct problem *problem, const struct hymn_vk_plan *plan, uint32_t target,
                         struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_tile large = {.channels = tile->channels > 64 ? 64 : 32, .splits = 1};
    set_pixels(problem, LARGE_TILE, plan->matrix.m, &large);
    const uint32_t channels = large.channels, height = large.height;
    if (plan->cpu || !problem->wide || tile->channels < 64 || plan->matrix.n > channels ||
        groups_of(problem, &large) < target) {
        return false;
    }
    fit(problem, plan, LARGE_TILE, &large);
    bool fits = large.channels == channels && large.height == height && large.taps == 3;
    if (fits && has_registers(problem, plan, &large)) {
        *tile = large;
        return true;
    }
    return false;
}

// Measured on an H100 before there were large tiles, base at 256x256: it takes a twentieth longer than the best of 25
// tiles for each node.
struct hymn_conv2d_tile hymn_conv2d_matrix_choose(const struct hymn_graph *graph, const struct hymn_node *node,
                                                  const struct hymn_vk_plan *plan) {
    struct problem problem = describe(graph, node, plan);
    uint32_t target = plan->target_lanes / LANES_PER_GROUP;
    struct hymn_conv2d_tile tile = {.channels = choose_channels(&problem, plan->matrix.n), .splits = 1};
    uint32_t pixels = (problem.wide || problem.thin) && tile.channels <= 32 ? LARGE_TILE : 128;
    set_pixels(&problem, pixels, plan->matrix.m, &tile);
    if (choose_large(&problem, plan, target, &tile)) {
        return tile;
    }
    pixels = fill_device(&problem, &plan->matrix, target, pixels, &tile);
    fit(&problem, plan, pixels, &tile);
    set_splits(&problem, problem.wide ? target : target / 2, &tile);
    return tile;
}

static_assert(sizeof(struct hymn_conv2d_tile) == sizeof(struct hymn_method), "a tile is a method");

static struct hymn_conv2d_tile tile_of(const struct hymn_graph *graph, const struct hymn_node *node,
                                       const struct hymn_vk_plan *plan) {
    struct hymn_conv2d_tile tile;
    if (forced_tile) {
        tile = *forced_tile;
    } else if (node->tuned) {
        memcpy(&tile, &node->method, sizeof tile);
    }
    // What was timed may have no room where the plan allows more by now.
    if (!forced_tile && (!node->tuned || !hymn_conv2d_matrix_valid(graph, node, plan, &tile))) {
        tile = hymn_conv2d_matrix_choose(graph, node, plan);
    }
    tile.splits = hymn_variant_allowed(plan, SHADER "_split", NULL) ? tile.splits : 1;
    return tile;
}

// ---------------------------------------------------------------------------------------------------- tiles worth
// timing

struct tile_list {
    const struct hymn_graph *graph;
    const struct hymn_node *node;
    const struct hymn_vk_plan *plan;
    struct hymn_method *methods;
    uint32_t count, most;
    struct problem problem;
};

static void add_tile(struct tile_list *list, const struct hymn_conv2d_tile *tile) {
    uint32_t rows = tile->width * tile->height / tile->rows, columns = tile->channels / tile->columns;
    const struct problem *problem = &list->problem;
    // Sums of a subgroup that are worth its loads and that its registers hold, with all the rest.
    bool sensible = rows * columns >= 256 && rows * columns <= 4096 && has_registers(problem, list->plan, tile);
    sensible = sensible && resizes(problem, tile) == problem->resized; // or a time would be that of something else
    bool listed = false;
    for (uint32_t i = 0; i < list->count; i++) {
        listed = listed || memcmp(&list->methods[i], tile, sizeof *tile) == 0;
    }
    if (!listed && list->count < list->most && sensible &&
        hymn_conv2d_matrix_valid(list->graph, list->node, list->plan, tile)) {
        memcpy(&list->methods[list->count++], tile, sizeof *tile);
    }
}

static void vary_steps(struct tile_list *list, const struct problem *problem, const struct hymn_conv2d_tile *from) {
    static const uint32_t steps[][2] = {{1, 8}, {3, 8}, {1, 4}, {3, 4}, {9, 4}, {9, 2}, {3, 2}, {1, 2}, {1, 16}};
    for (uint32_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct hymn_conv2d_tile tile = *from;
        tile.taps = steps[i][0];
        tile.depth = steps[i][1];
        if ((problem->wide || tile.taps == 1) && (tile.taps != from->taps || tile.depth != from->depth)) {
            add_tile(list, &tile);
        }
    }
}

static void vary_sizes(struct tile_list *list, const struct problem *problem, const struct hymn_conv2d_tile *from) {
    for (uint32_t larger = 0; larger < 2; larger++) {
        struct hymn_conv2d_tile tile = *from;
        set_pixels(problem, larger ? 2 * from->width * from->height : from->width * from->height / 2,
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

static void vary_splits(struct tile_list *list, const struct problem *problem, const struct hymn_conv2d_tile *from) {
    uint32_t groups = groups_of(problem, from), target = list->plan->target_lanes / LANES_PER_GROUP;
    struct hymn_conv2d_tile tile = *from;
    for (tile.splits = 1; tile.splits <= 8; tile.splits *= 2) {
        if (tile.splits != from->splits && (tile.splits == 1 || groups * tile.splits <= 4 * target)) {
            add_tile(list, &tile);
        }
    }
}

// Tiles that were the best of some layer on an H100, from small to large: those of which there are enough to fill the
// device, but not far too many, unless they are large.
static void add_known(struct tile_list *list, const struct problem *problem) {
    static const uint32_t point[][7] = {
        {32, 32, 2, 2, 1, 16, 2}, {32, 32, 2, 1, 1, 16, 2},  {64, 32, 4, 1, 1, 16, 1},  {32, 64, 2, 2, 1, 8, 2},
        {64, 64, 4, 2, 1, 8, 2},  {64, 64, 2, 2, 1, 8, 2},   {128, 64, 4, 1, 1, 4, 2},  {64, 128, 2, 2, 1, 8, 1},
        {64, 128, 4, 2, 1, 4, 1}, {128, 128, 2, 2, 1, 4, 1}, {128, 128, 4, 2, 1, 4, 1}, {128, 128, 2, 2, 1, 2, 1}};
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
    uint32_t target = plan->target_lanes / LANES_PER_GROUP;
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
        set_pixels(problem, from[0], plan->matrix.m, &tile);
        uint32_t groups = groups_of(problem, &tile);
        bool few = 4 * groups < target || tile.channels >= 2 * problem->channels;
        bool deep = tile.depth > 2 && tile.depth / 2 >= most_cells(problem);
        if (!few && !deep && (groups <= 2 * target || from[0] * from[1] > SMALL_TILE)) {
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
    struct problem problem = describe(graph, node, plan);
    struct hymn_conv2d_tile tile;
    struct tile_list list = {graph, node, plan, out_methods, 0, most, problem};
    if (from) {
        memcpy(&tile, from, sizeof tile);
    } else {
        tile = tile_of(graph, node, plan);
        memcpy(&list.methods[list.count++], &tile, sizeof tile);
    }
    if (!from) {
        add_known(&list, &problem);
    }
    vary_steps(&list, &problem, &tile);
    vary_sizes(&list, &problem, &tile);
    vary_subgroups(&list, &tile);
    if (hymn_variant_allowed(plan, SHADER "_split", NULL)) {
        vary_splits(&list, &problem, &tile);
    }
    return list.count;
}

// ------------------------------------------------------------------------------------------------------------ lowering

bool hymn_conv2d_matrix_fits(const struct hymn_graph *graph, const struct hymn_node *node,
                             const struct hymn_vk_plan *plan) {
    bool half = hymn_variant_allowed(plan, SHADER, NULL) && !plan->weights_f32;
    for (uint32_t i = 0; half && i < node->term_count; i++) {
        half = graph->values[node->terms[i].source.value].storage == HYMN_STORAGE_F16;
    }
    struct hymn_conv2d_tile tile;
    return half && (tile = tile_of(graph, node, plan), hymn_conv2d_matrix_valid(graph, node, plan, &tile));
}

// The kernel finds a norm's statistics by itself: no node does. Sums of the workgroups that share a tile:
// [tile][split][pixel][channel, and with a norm a cell of moments].
enum hymn_status hymn_conv2d_prepare_matrix(struct hymn_graph *graph, struct hymn_node *node,
                                            const struct hymn_vk_plan *plan, const struct hymn_log *log) {
    struct hymn_conv2d_tile tile = tile_of(graph, node, plan);
    struct problem problem = describe(graph, node, plan);
    if (!node->resizes && resizes(&problem, &tile)) {
        hymn_graph_take_resize(graph, node);
    }
    if (node->pooled == HYMN_NONE && pools(&problem, &tile, plan)) {
        hymn_graph_take_pool(graph, node);
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
    uint32_t tiles = hymn_divide_up(groups_of(&problem, &tile), graph->batch);
    node->scratch[0] = hymn_graph_add_value(graph, node->name, tiles * tile.splits, tile.width * tile.height,
                                            tile.channels + (problem.norm ? CELL : 0), HYMN_STORAGE_F32);
    return node->scratch[0] == HYMN_NONE ? hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name)
                                         : HYMN_STATUS_OK;
}

static enum hymn_status bind_splits(struct hymn_lower *lower, const struct hymn_node *node, uint32_t groups,
                                    struct hymn_vk_step *step) {
    struct hymn_vk_binding counters;
    if (!hymn_lower_weights(lower, groups * sizeof(uint32_t), &counters)) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->scratch[0]), true);
    hymn_lower_bind(step, counters, true);
    return HYMN_STATUS_OK;
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
    hymn_conv2d_join_rows(node, params);
    params->norm_channels = node->terms[0].source.channels;
    params->tiles_across = hymn_divide_up(params->width, tile->width);
    params->tiles_down = hymn_divide_up(params->height, tile->height);
    params->tiles = params->tiles_across * params->tiles_down * (params->rows / params->height);
    params->across_reciprocal = 1.0f / (float)params->tiles_across;
    params->down_reciprocal = 1.0f / (float)params->tiles_down;
}

static const char *shader_of(const struct problem *problem, const struct hymn_node *node,
                             const struct hymn_conv2d_tile *tile, const struct hymn_vk_plan *plan) {
    return tile->splits > 1             ? SHADER "_split"
           : problem->thin              ? SHADER "_thin"
           : node->resizes              ? SHADER "_resized"
           : node->pooled != HYMN_NONE  ? SHADER "_pool"
           : packs(problem, tile, plan) ? SHADER "_packed"
                                        : SHADER;
}

enum hymn_status hymn_conv2d_lower_matrix(struct hymn_lower *lower, const struct hymn_node *node) {
    const struct hymn_vk_plan *plan = lower->plan;
    struct hymn_conv2d_tile tile = tile_of(lower->graph, node, plan);
    struct problem problem = describe(lower->graph, node, plan);
    if ((node->resizes && !resizes(&problem, &tile)) || (node->pooled != HYMN_NONE && !pools(&problem, &tile, plan))) {
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
    const uint32_t one = specializes(plan) && stages(&problem, tile.depth) == 1;
    const uint32_t constants[] = {tile.rows * tile.columns * plan->subgroup_size,
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
                                  tile.columns,
                                  tile.taps,
                                  tile.depth,
                                  tile.buffers,
                                  plan->unrolled_ends,
                                  one,
                                  tile.splits};
    memcpy(step->constants, constants, sizeof constants);
    step->constant_count = sizeof constants / sizeof *constants - (tile.splits == 1);
    step->groups[0] = min_u32(params->tiles, plan->max_groups_x);
    step->groups[1] = hymn_divide_up(params->out_stride * CELL, tile.channels);
    step->groups[2] = tile.splits > 1 ? tile.splits : hymn_divide_up(params->tiles, step->groups[0]);
    hymn_conv2d_finish(lower, node, &dispatch, step);
    if (node->pooled != HYMN_NONE) {
        hymn_lower_bind(step, hymn_lower_value(lower, node->pooled), true);
        step->bytes += lower->graph->values[node->pooled].bytes;
    }
    return tile.splits > 1 ? bind_splits(lower, node, params->tiles * step->groups[1], step) : HYMN_STATUS_OK;
}

// ------------------------------------------------------------------------------------------------------------ surveys

// Of the constants above.
enum {
    AT_LANES = 0,
    AT_PROLOGUE = 2,
    AT_KERNELS = 3,
    AT_M = 8,
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
    return row_registers(&tile, step->constants[AT_M], step->constants[AT_K],
                         step->constants[AT_LANES] / (tile.rows * tile.columns));
}

static bool is_thin_step(const struct hymn_vk_step *step) {
    return strcmp(step->shader->name, SHADER "_thin") == 0 || strcmp(step->shader->name, SHADER "_pictures") == 0;
}

static uint32_t registers_of_step(const struct hymn_vk_step *step) {
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    const uint32_t *constants = step->constants;
    return rows_of_step(step) + registers(constants + AT_KERNELS, constants[AT_PROLOGUE] == HYMN_PROLOGUE_NORM,
                                          strcmp(step->shader->name, SHADER "_resized") == 0, is_thin_step(step), &tile,
                                          constants[AT_LANES]);
}

static uint32_t sums_of_step(const struct hymn_vk_step *step) {
    const struct hymn_conv2d_tile tile = tile_of_step(step);
    return tile.width * tile.height * tile.channels / step->constants[AT_LANES];
}

const struct hymn_shader *hymn_conv2d_matrix_find_mask(const struct hymn_vk_plan *plan, const struct hymn_vk_step *step,
                                                       uint32_t cells) {
    const struct hymn_shader *shader = hymn_shader_find(SHADER "_mask");
    if (!step->shader || strcmp(step->shader->name, SHADER "_packed") != 0 || !hymn_vk_plan_allows(plan, shader)) {
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
    const struct hymn_shader *shader = hymn_shader_find(SHADER "_pictures");
    return step->shader && strcmp(step->shader->name, SHADER "_thin") == 0 && hymn_vk_plan_allows(plan, shader) ? shader
                                                                                                                : NULL;
}

bool hymn_conv2d_matrix_covers(const struct hymn_vk_step *a, const struct hymn_vk_step *b) {
    return a->shader != NULL && a->shader == b->shader && strncmp(a->shader->name, SHADER, strlen(SHADER)) == 0 &&
           memcmp(a->constants + 1, b->constants + 1, (AT_WIDTH - 1) * sizeof *a->constants) == 0 &&
           a->constants[AT_ONE] <= b->constants[AT_ONE] && sums_of_step(a) == sums_of_step(b) &&
           (rows_of_step(a) > 0) == (rows_of_step(b) > 0) && registers_of_step(a) >= registers_of_step(b);
}
