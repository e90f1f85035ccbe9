// SPDX-License-Identifier: MIT
//
// Tiles of the convolution on matrix units: which are possible, what they take, and which one a node gets by rule.
#include "ops/conv2d_tile.h"

#include <assert.h>
#include <string.h>

#define CELL 8u
// By the rule: sums that a lane holds at most, products of a matrix that are unrolled, pixels of a large tile,
// workgroups that share a tile, and the least k of each.
#define SUMS_PER_LANE 128u
#define MAX_UNROLLED 8u
#define LARGE_TILE 256u
#define MAX_SPLITS 8u
#define LEAST_SPLIT 512u
#define WORTH_SPLIT 2048u   // with a margin, where workgroups are a quarter of what fills the device already
#define DEPTHWISE_UNITS 11u // of 16 bytes for a cell: its bias and nine weights of each channel
#define THIN_DEPTH 4u       // cells of the one stage that all taps of a thin source are
#define THIN_PIXELS 32u     // of a subgroup, of thin sources
#define THIN_LANES 256u     // of a workgroup, likewise, by rule
// Two buffers in tiles of so many outputs, where there are so many stages of so many cells.
#define MANY_OUTPUTS (128u * 128u)
#define MANY_STAGES 16u
#define MANY_DEPTH 4u
// Of a stage of small tiles, where the sources have so many cells and more.
#define DEEP_DEPTH 32u
#define DEEP_CELLS 128u
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

// Whether the kernel's special forms are worth their compilation: not where matrices are emulated, for which Mesa takes
// minutes at the tiles of GPUs.
bool hymn_conv2d_specializes(const struct hymn_vk_plan *plan) {
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
           THIN_DEPTH * CELL % plan->matrix.k == 0 && hymn_conv2d_specializes(plan) &&
           hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_thin", NULL);
}

struct hymn_conv2d_problem hymn_conv2d_describe(const struct hymn_graph *graph, const struct hymn_node *node,
                                                const struct hymn_vk_plan *plan) {
    const struct hymn_value *output = &graph->values[node->output];
    struct hymn_conv2d_params params = {.width = output->width,
                                        .height = output->height,
                                        .rows = graph->batch * output->height,
                                        .residual = node->residual_resize ? 2 : 0};
    hymn_conv2d_join_rows(node, &params);
    struct hymn_conv2d_problem problem = {.width = params.width,
                                          .height = params.height,
                                          .rows = params.rows,
                                          .channels = output->stride,
                                          .joined = params.rows == 1,
                                          .norm = node->prologue == HYMN_PROLOGUE_NORM,
                                          .whole = node->terms[0].source.channels % CELL == 0,
                                          .plain = output->storage == HYMN_STORAGE_F16 &&
                                                   is_half(graph, &node->residual) &&
                                                   node->activation != HYMN_ACTIVATION_SILU,
                                          .half_residual = node->residual_resize};
    // Small maps are resized beside the gate's convolution, which costs nothing.
    bool large =
        (uint64_t)params.rows * params.width >= (uint64_t)plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP * LARGE_MAP;
    problem.resized = problem.plain && node->low.value != HYMN_NONE && hymn_conv2d_specializes(plan) &&
                      (large || forced_tile) && is_half(graph, &node->low) &&
                      hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_resized", NULL);
    problem.pooled = problem.plain && node->pool != HYMN_NONE && !node->residual_resize &&
                     hymn_conv2d_specializes(plan) && output->height % 2 == 0 && output->width % 2 == 0 &&
                     hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_pool", NULL);
    if (problem.plain && node->depthwise != HYMN_NONE && node->term_count == 1 && node->terms[0].kernel == 1 &&
        node->residual.value == HYMN_NONE && node->activation == HYMN_ACTIVATION_NONE &&
        hymn_conv2d_specializes(plan) && hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_depthwise", NULL)) {
        problem.convolved = node->parts[0];
        problem.map_width = output->width;
        problem.map_height = output->height;
        problem.images = graph->batch;
    }
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

uint32_t hymn_conv2d_stages(const struct hymn_conv2d_problem *problem, uint32_t depth) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        count += hymn_divide_up(problem->cells[i], depth) * (problem->kernels[i] == 2 ? 4 : 1);
    }
    return count;
}

uint32_t hymn_conv2d_most_cells(const struct hymn_conv2d_problem *problem) {
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
bool hymn_conv2d_resizes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    return problem->resized && tile->buffers > 0 && tile->splits <= 1 && tile->height % 2 == 0;
}

bool hymn_conv2d_convolves(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    return problem->convolved > 0 && problem->convolved % tile->channels == 0 && tile->width > 2 && tile->height > 2 &&
           tile->splits <= 1;
}

uint32_t hymn_conv2d_overlapping(uint32_t size, uint32_t tile) {
    return size <= tile ? 1 : hymn_divide_up(size - 2, tile - 2);
}

// Units of 16 bytes of the pixels at half size, which lie where the next step's weights would if there is room.
static uint32_t low_units(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    uint32_t low = (tile->width / 2 + 2) * (tile->height / 2 + 2) * tile->depth;
    return hymn_conv2d_resizes(problem, tile) && low > tile->taps * tile->channels * (tile->depth + 1) ? low : 0;
}

// Whether the variant is to be used that finishes sums as matrices.
bool hymn_conv2d_packs(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                       const struct hymn_vk_plan *plan) {
    return problem->plain && tile->splits <= 1 && hymn_conv2d_specializes(plan) &&
           hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_packed", NULL);
}

// Units of 16 bytes of the sums on their way out; out_whole: all of them at a time.
static uint32_t end_units(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
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

// Of the loop over stages: its pixels, a step's weights, or two steps' where steps are not stages or pixels have two
// buffers, and pixels at half size.
static uint32_t loop_units(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    const uint32_t staged = problem->wide ? (tile->width + 2) * (tile->height + 2) : tile->width * tile->height;
    const bool stages = (!problem->wide || tile->taps == 9) && !hymn_conv2d_resizes(problem, tile);
    const uint32_t steps = tile->buffers == 1 && stages ? 1 : 2;
    return (tile->buffers * staged + steps * tile->taps * tile->channels) * (tile->depth + 1) +
           low_units(problem, tile);
}

// Enough for each variant that may be used, as whether workgroups share the tile is decided last.
static uint32_t shared_bytes(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                             const struct hymn_vk_plan *plan) {
    uint32_t loop = loop_units(problem, tile), most = loop;
    bool whole;
    for (uint32_t packed = 0; packed < (problem->plain ? 2 : 1); packed++) {
        uint32_t end = end_units(problem, tile, plan, loop, packed != 0, &whole);
        most = end > most ? end : most;
    }
    if (hymn_conv2d_convolves(problem, tile)) { // a whole tile of outputs, and the weights of the second convolution
        uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size, pixels = tile->width * tile->height;
        uint32_t norm = problem->norm ? pixels * norm_parts(tile, lanes) + pixels / 2 : 0;
        uint32_t whole_tile = pixels * (tile->channels / CELL + 1) + norm;
        most = (whole_tile > most ? whole_tile : most) + DEPTHWISE_UNITS * (tile->channels / CELL);
    }
    bool masks = problem->plain && problem->wide && tile->columns == 1 &&
                 hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_mask", NULL);
    uint32_t extra = masks ? tile->channels / 4 + 1 : 0;
    extra += problem->thin ? hymn_divide_up((tile->width + 2) * (tile->height + 2), 2) : 0;
    return 16 * (most + tile->channels / 4 * (problem->norm ? 2 : 1) + extra) + 16;
}

// Whether the variant is to be used that pools by itself: a subgroup has whole pairs of rows of pixels, all of which
// leave at a time.
bool hymn_conv2d_pools(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile,
                       const struct hymn_vk_plan *plan) {
    if (hymn_conv2d_walks(tile)) {
        return problem->pooled;
    }
    bool whole;
    end_units(problem, tile, plan, loop_units(problem, tile), true, &whole);
    return problem->pooled && whole && tile->splits <= 1 && !problem->joined && !hymn_conv2d_resizes(problem, tile) &&
           tile->width * tile->height / tile->rows % (2 * tile->width) == 0;
}

// As hymn_conv2d_matrix_valid, of a problem.
static bool tile_fits(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                      const struct hymn_conv2d_tile *tile) {
    if (hymn_conv2d_walks(tile)) {
        return hymn_conv2d_rows_fits(problem, plan, tile);
    }
    if (hymn_conv2d_streams(tile)) {
        return hymn_conv2d_stream_fits(problem, plan, tile);
    }
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size, pixels = tile->width * tile->height;
    return lanes <= plan->max_invocations && shared_bytes(problem, tile, plan) <= plan->max_shared_bytes &&
           tile->width % matrix->m == 0 && pixels % (matrix->m * tile->rows) == 0 &&
           tile->channels % (matrix->n * tile->columns) == 0 && tile->channels / tile->columns % CELL == 0 &&
           tile->depth * CELL % matrix->k == 0 && tile->splits <= hymn_conv2d_stages(problem, tile->depth) &&
           (problem->wide || tile->taps == 1) && (!problem->thin || is_of_taps(tile));
}

bool hymn_conv2d_matrix_valid(const struct hymn_graph *graph, const struct hymn_node *node,
                              const struct hymn_vk_plan *plan, const struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_problem problem = hymn_conv2d_describe(graph, node, plan);
    return tile_fits(&problem, plan, tile);
}

uint32_t hymn_conv2d_groups(const struct hymn_conv2d_problem *problem, const struct hymn_conv2d_tile *tile) {
    if (hymn_conv2d_convolves(problem, tile)) {
        uint32_t across = hymn_divide_up(problem->map_width, tile->width);
        uint32_t plain = across * hymn_divide_up(problem->map_height, tile->height) * problem->images;
        uint32_t convolved = hymn_conv2d_overlapping(problem->map_width, tile->width) *
                             hymn_conv2d_overlapping(problem->map_height, tile->height) * problem->images;
        return convolved * (problem->convolved / tile->channels) +
               plain * hymn_divide_up(problem->channels - problem->convolved, tile->channels);
    }
    return hymn_divide_up(problem->width, tile->width) * hymn_divide_up(problem->height, tile->height) *
           (problem->rows / problem->height) * hymn_divide_up(problem->channels, tile->channels);
}

// The most channels of a tile that leave a fifth of the tiles empty at most, or no more than the smallest tiles would.
static uint32_t choose_channels(const struct hymn_conv2d_problem *problem, uint32_t n) {
    uint32_t least = n > 16 ? n : 16, channels = 128;
    uint32_t with_least = hymn_round_up(problem->channels, least), room = problem->channels * 5 / 4;
    uint32_t most = room > with_least ? room : with_least;
    while (channels > least && hymn_round_up(problem->channels, channels) > most) {
        channels /= 2;
    }
    return channels;
}

void hymn_conv2d_set_pixels(const struct hymn_conv2d_problem *problem, uint32_t pixels, uint32_t m,
                            struct hymn_conv2d_tile *tile) {
    tile->width = problem->joined ? pixels : m > 16 ? m : 16;
    tile->height = pixels / tile->width;
}

// Too few workgroups: smaller tiles. Those of a 3x3 kernel keep pixels, whose margin all load; those of a norm keep
// channels, as each column of tiles sums up the moments; and half of the workgroups do below 64 x 64, where each loads
// as much as it multiplies. Returns the pixels.
static uint32_t fill_device(const struct hymn_conv2d_problem *problem, const struct hymn_vk_matrix *matrix,
                            uint32_t target, uint32_t pixels, struct hymn_conv2d_tile *tile) {
    const bool margin = problem->wide || problem->thin;
    uint32_t least_pixels = margin ? 64 : 32, least_channels = problem->norm ? 64 : 32;
    while (hymn_conv2d_groups(problem, tile) < target && (pixels > 64 || tile->channels > 64)) {
        if (pixels > 64 && !(margin && tile->channels > 64)) {
            pixels /= 2;
        } else {
            tile->channels /= 2;
        }
        hymn_conv2d_set_pixels(problem, pixels, matrix->m, tile);
    }
    target = margin ? target : target / 2;
    least_channels = least_channels > matrix->n ? least_channels : matrix->n;
    while (hymn_conv2d_groups(problem, tile) < target && (tile->channels > least_channels || pixels > least_pixels)) {
        if (tile->channels > least_channels) {
            tile->channels /= 2;
        } else {
            pixels /= 2;
        }
        hymn_conv2d_set_pixels(problem, pixels, matrix->m, tile);
    }
    return pixels;
}

// Few subgroups with many sums each, as each loads its pixels and weights from shared memory: 64 x 64 at most, as far
// as registers go.
static void set_subgroups(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan, uint32_t pixels,
                          struct hymn_conv2d_tile *tile) {
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
    // Thin sources have few products, and as many sums to store as others.
    if (problem->thin && !plan->cpu && tile->columns == 1 && pixels / THIN_PIXELS > tile->rows &&
        pixels / THIN_PIXELS * plan->subgroup_size <= THIN_LANES) {
        tile->rows = pixels / THIN_PIXELS;
    }
}

// The deepest stages that fit, as each ends in a wait, but not deeper than the sources are, nor, with a norm, than
// registers hold; small tiles of few channels in stages of three taps, which share rows of pixels, and those of very
// few in short ones, which leave room to more workgroups (measured on an H200; where matrices are emulated three taps
// take long to compile). Returns whether any fit.
static bool set_step(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                     struct hymn_conv2d_tile *tile) {
    static const uint32_t point[][2] = {{1, 16}, {1, 8}, {1, 4}, {1, 2}}; // taps, depth
    static const uint32_t wide[][2] = {{1, 16}, {1, 8}, {3, 4}, {3, 2}, {1, 4}};
    static const uint32_t few[][2] = {{3, 8}, {3, 4}, {3, 2}, {1, 8}, {1, 4}};
    static const uint32_t fewest[][2] = {{3, 2}, {3, 4}, {1, 4}, {1, 8}, {1, 16}};
    static_assert(sizeof wide == sizeof few && sizeof wide == sizeof fewest, "as many");
    const bool small = tile->channels <= 32 && tile->width * tile->height < LARGE_TILE;
    const uint32_t(*steps)[2] = !problem->wide               ? point
                                : problem->thin || plan->cpu ? wide
                                : tile->channels <= 16       ? fewest
                                : small                      ? few
                                                             : wide;
    uint32_t k = plan->matrix.k, least = k > 2 * CELL ? k / CELL : 2, cells = hymn_conv2d_most_cells(problem);
    uint32_t count = problem->wide ? sizeof wide / sizeof *wide : sizeof point / sizeof *point;
    for (uint32_t i = 0; i < count; i++) {
        tile->taps = steps[i][0];
        tile->depth = steps[i][1];
        bool deep = tile->depth > least && (tile->depth / 2 >= cells || tile->depth * CELL > MAX_UNROLLED * k);
        // Large tiles are for the rows of pixels that three taps share.
        deep = deep || (problem->thin && tile->depth != THIN_DEPTH);
        deep =
            deep || (problem->wide && tile->width * tile->height >= LARGE_TILE && tile->taps == 1 && tile->depth > 4);
        deep = deep || (problem->norm && tile->depth > least && !hymn_conv2d_has_registers(problem, plan, tile));
        if (tile->depth >= least && !deep && shared_bytes(problem, tile, plan) <= plan->max_shared_bytes) {
            return true;
        }
    }
    return false;
}

// Stages of all the depth that fits in one buffer for the small tiles of long products: what they wait for is weights
// on their way from memory, once a stage. Measured on an H200 at batch 1: 11 to 9 us where k is 1024, as before where
// it is 512.
static bool set_deep(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                     struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_tile deep = *tile;
    deep.taps = 1, deep.depth = DEEP_DEPTH, deep.buffers = 1;
    if (plan->cpu || problem->wide || problem->thin || hymn_conv2d_most_cells(problem) < DEEP_CELLS ||
        shared_bytes(problem, &deep, plan) > plan->max_shared_bytes ||
        !hymn_conv2d_has_registers(problem, plan, &deep)) {
        return false;
    }
    *tile = deep;
    return true;
}

// Until it fits into a workgroup of the device: fewer channels, then fewer pixels.
static void fit(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan, uint32_t pixels,
                struct hymn_conv2d_tile *tile) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    const uint32_t target = plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
    while (true) {
        set_subgroups(problem, plan, pixels, tile);
        // Two where workgroups are few: more of them wait for each other's loads. And in the largest tiles of products,
        // where there are many stages (measured on an H200, k of 512: 28 to 25 us and 99 to 88; smaller ones lose).
        const uint32_t outputs = pixels * tile->channels;
        const bool few = outputs <= HYMN_CONV2D_SMALL_TILE && hymn_conv2d_groups(problem, tile) <= target;
        const bool many =
            outputs >= MANY_OUTPUTS && !plan->cpu && hymn_conv2d_stages(problem, MANY_DEPTH) >= MANY_STAGES;
        tile->buffers = (few || many) && !problem->wide && !problem->thin ? 2 : 1;
        if (((few && set_deep(problem, plan, tile)) || set_step(problem, plan, tile)) &&
            tile->rows * tile->columns * plan->subgroup_size <= plan->max_invocations) {
            return;
        }
        if (tile->channels > 16 && tile->channels > matrix->n) {
            tile->channels /= 2;
        } else if (pixels / 2 >= (problem->joined ? matrix->m : tile->width)) {
            pixels /= 2;
            hymn_conv2d_set_pixels(problem, pixels, matrix->m, tile);
        } else {
            return; // hymn_conv2d_matrix_valid says no
        }
    }
}

// Several workgroups for each tile while those are few, each with a sum that is worth passing on.
static void set_splits(const struct hymn_conv2d_problem *problem, uint32_t target, struct hymn_conv2d_tile *tile) {
    uint32_t groups = hymn_conv2d_groups(problem, tile), most = hymn_conv2d_stages(problem, tile->depth), k = 0;
    for (uint32_t i = 0; i < 3; i++) {
        k += problem->cells[i] * CELL * problem->kernels[i] * problem->kernels[i];
    }
    most = min_u32(most, MAX_SPLITS);
    tile->splits = 1;
    while (groups * tile->splits < target && 2 * tile->splits <= most &&
           2 * tile->splits * (problem->wide && 4 * groups * tile->splits >= target ? WORTH_SPLIT : LEAST_SPLIT) <= k) {
        tile->splits *= 2;
    }
}

// What a lane has in registers, without what the products themselves take: its sums; the cells that it copies at a time
// (4 each) and where they come from; and a norm's moments. resized: there are pixels of half size too; thin: pixels are
// loaded once for all taps.
uint32_t hymn_conv2d_registers(const uint32_t kernels[3], bool norm, bool resized, bool thin,
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

uint32_t hymn_conv2d_pixel_registers(uint32_t m, uint32_t k, uint32_t subgroup) {
    return m * k / 2 / min_u32(subgroup, 32) * (subgroup > 32 ? 2 : 1);
}

// Of the rows of pixels that the kernel keeps for the three taps of a column; 0 where it takes single taps. m, k: of
// the device's matrices.
uint32_t hymn_conv2d_row_registers(const struct hymn_conv2d_tile *tile, uint32_t m, uint32_t k, uint32_t subgroup) {
    uint32_t across = tile->width / m, rows = tile->width * tile->height / tile->rows / m;
    uint32_t each = hymn_conv2d_pixel_registers(m, k, subgroup);
    bool columns = tile->taps % 3 == 0 && across > 0 && rows % across == 0;
    return columns ? (rows + 2 * across) * each : 0;
}

// Whether the registers hold it all.
bool hymn_conv2d_has_registers(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                               const struct hymn_conv2d_tile *tile) {
    if (hymn_conv2d_walks(tile)) {
        return hymn_conv2d_rows_has_registers(plan, tile);
    }
    if (hymn_conv2d_streams(tile)) {
        return hymn_conv2d_stream_has_registers(plan, tile);
    }
    uint32_t lanes = tile->rows * tile->columns * plan->subgroup_size;
    uint32_t kept = hymn_conv2d_row_registers(tile, plan->matrix.m, plan->matrix.k, plan->subgroup_size);
    return kept +
               hymn_conv2d_registers(problem->kernels, problem->norm, problem->resized, problem->thin, tile, lanes) <=
           (kept > 0 ? MOST_WITH_ROWS : MOST_REGISTERS);
}

// A large tile of few channels, whose subgroups have many rows of pixels and so load few twice; returns whether there
// are enough of them, and registers. Not where matrices are emulated, as such tiles take the longest to compile.
static bool choose_large(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan, uint32_t target,
                         uint32_t channels, struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_tile large = {.channels = channels, .splits = 1};
    hymn_conv2d_set_pixels(problem, LARGE_TILE, plan->matrix.m, &large);
    const uint32_t height = large.height;
    if (plan->cpu || !problem->wide || tile->channels < 64 || plan->matrix.n > channels ||
        hymn_conv2d_groups(problem, &large) < target) {
        return false;
    }
    fit(problem, plan, LARGE_TILE, &large);
    bool fits = large.channels == channels && large.height == height && large.taps == 3;
    if (fits && hymn_conv2d_has_registers(problem, plan, &large)) {
        *tile = large;
        return true;
    }
    return false;
}

// Takes a tile if it fits and registers hold it all; returns whether.
static bool take(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                 const struct hymn_conv2d_tile *wanted, struct hymn_conv2d_tile *tile) {
    if (!tile_fits(problem, plan, wanted) || !hymn_conv2d_has_registers(problem, plan, wanted)) {
        return false;
    }
    *tile = *wanted;
    return true;
}

// Whole tiles of 64 channels, in eight subgroups, where they are no more than fill the device, and half as many at
// least. Measured on an H200 at batch 1, of 128 x 128 pixels: 12 us where tiles half as large take 13.
static bool choose_whole(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan, uint32_t target,
                         struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_tile wanted = {
        .channels = 64, .rows = 4, .columns = 2, .taps = 3, .depth = 4, .buffers = 1, .splits = 1};
    hymn_conv2d_set_pixels(problem, 128, plan->matrix.m, &wanted);
    const uint32_t groups = hymn_conv2d_groups(problem, &wanted);
    const bool suits = !plan->cpu && problem->wide && !problem->resized && tile->channels >= wanted.channels;
    return suits && groups <= target && 2 * groups >= target && take(problem, plan, &wanted, tile);
}

// Merging, whose k of all four pixels is many stages, in tiles of few pixels by many channels with eight subgroups:
// each column of tiles sums up the moments. Measured on an H200: 25 to 22 us where k is 1024, 21 to 19 where it is 512.
static bool choose_merging(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan, uint32_t target,
                           struct hymn_conv2d_tile *tile) {
    struct hymn_conv2d_tile wanted = {
        .channels = 128, .rows = 2, .columns = 4, .taps = 1, .depth = 8, .buffers = 1, .splits = 1};
    hymn_conv2d_set_pixels(problem, 64, plan->matrix.m, &wanted);
    const uint32_t groups = hymn_conv2d_groups(problem, &wanted);
    const bool suits = !plan->cpu && problem->norm && problem->kernels[0] == 2 &&
                       problem->channels % wanted.channels == 0 && wanted.depth <= problem->cells[0];
    return suits && groups <= target && 2 * groups >= target && take(problem, plan, &wanted, tile);
}

// One image's product and the convolution in depth behind it, where so many workgroups have time for a tile and its
// margin: a dispatch less to wait for. Measured on an H100 at batch 1; at batch 8 the margins cost more than that
// saves.
static bool choose_convolving(const struct hymn_conv2d_problem *problem, const struct hymn_vk_plan *plan,
                              uint32_t target, struct hymn_conv2d_tile *tile) {
    const uint32_t m = plan->matrix.m > 16 ? plan->matrix.m : 16;
    struct hymn_conv2d_tile wanted = {m, 128 / m, 64, 4, 2, 1, 8, 1, 1};
    while ((wanted.depth / 2 >= hymn_conv2d_most_cells(problem) || !tile_fits(problem, plan, &wanted)) &&
           wanted.depth > 2 && wanted.depth / 2 * CELL % plan->matrix.k == 0) {
        wanted.depth /= 2;
    }
    if (!hymn_conv2d_convolves(problem, &wanted) || hymn_conv2d_groups(problem, &wanted) > target ||
        !tile_fits(problem, plan, &wanted)) {
        return false;
    }
    *tile = wanted;
    return true;
}

// Measured on an H100 before there were large tiles, base at 256x256: it takes a twentieth longer than the best of 25
// tiles for each node.
struct hymn_conv2d_tile hymn_conv2d_matrix_choose(const struct hymn_graph *graph, const struct hymn_node *node,
                                                  const struct hymn_vk_plan *plan) {
    struct hymn_conv2d_problem problem = hymn_conv2d_describe(graph, node, plan);
    uint32_t target = plan->target_lanes / HYMN_CONV2D_LANES_PER_GROUP;
    struct hymn_conv2d_tile tile = {.channels = choose_channels(&problem, plan->matrix.n), .splits = 1};
    if (choose_convolving(&problem, plan, target, &tile) || hymn_conv2d_choose_stream(&problem, plan, target, &tile) ||
        hymn_conv2d_choose_rows(&problem, plan, target, &tile)) {
        return tile;
    }
    uint32_t pixels = (problem.wide || problem.thin) && tile.channels <= 32 ? LARGE_TILE : 128;
    hymn_conv2d_set_pixels(&problem, pixels, plan->matrix.m, &tile);
    // Layers of 64 channels: whole, but by halves if they resize or there are too few whole tiles.
    if (((tile.channels > 64 || !problem.resized) && choose_large(&problem, plan, target, 64, &tile)) ||
        (tile.channels <= 64 && choose_large(&problem, plan, target, 32, &tile)) ||
        choose_whole(&problem, plan, target, &tile) || choose_merging(&problem, plan, target, &tile)) {
        return tile;
    }
    pixels = fill_device(&problem, &plan->matrix, target, pixels, &tile);
    fit(&problem, plan, pixels, &tile);
    set_splits(&problem, problem.wide ? target : target / 2, &tile);
    return tile;
}

static_assert(sizeof(struct hymn_conv2d_tile) == sizeof(struct hymn_method), "a tile is a method");

struct hymn_conv2d_tile hymn_conv2d_tile_of(const struct hymn_graph *graph, const struct hymn_node *node,
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
    tile.splits = hymn_variant_allowed(plan, HYMN_CONV2D_MATRIX "_split", NULL) ? tile.splits : 1;
    return tile;
}
