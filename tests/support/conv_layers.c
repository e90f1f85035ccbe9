// SPDX-License-Identifier: MIT
#include "support/conv_layers.h"

const struct test_conv_layer test_conv_layers[] = {
    {"encoder.0 first", 256, {3}, {3}, 32, 0, 1, 0},
    {"encoder.0", 256, {3}, {32}, 32, 1, 3, 0},
    {"encoder.1", 128, {3}, {64}, 64, 1, 3, 0},
    {"decoder.0 two sources", 256, {3, 3}, {32, 64}, 32, 0, 1, 0},
    {"decoder.1 two sources", 128, {3, 3}, {64, 128}, 64, 0, 1, 0},
    {"decoder.2 two sources", 64, {3, 3}, {128, 256}, 128, 0, 1, 0},
    {"decoder.3 two sources", 32, {3, 3}, {256, 512}, 256, 0, 1, 0},
    {"decoder.0 with shortcut", 256, {3, 1}, {32, 32}, 32, 2, 1, 0},
    {"decoder.1 with shortcut", 128, {3, 1}, {64, 64}, 64, 2, 1, 0},
    {"decoder.2 with shortcut", 64, {3, 1}, {128, 128}, 128, 2, 1, 0},
    {"decoder.3 with shortcut", 32, {3, 1}, {256, 256}, 256, 2, 1, 0},
    {"decoder.3 gate", 16, {1}, {512}, 512, 0, 1, 0},
    {"encoder.2 in_proj", 64, {1}, {128}, 512, 0, 2, HYMN_PROLOGUE_NORM},
    {"encoder.2 x_proj", 64, {1}, {256}, 160, 0, 2, 0},
    {"encoder.2 out_proj", 64, {1}, {256}, 128, 1, 2, 0},
    {"encoder.3 merging", 32, {2}, {128}, 256, 0, 1, HYMN_PROLOGUE_NORM},
    {"encoder.3 in_proj", 32, {1}, {256}, 1024, 0, 2, HYMN_PROLOGUE_NORM},
    {"encoder.3 x_proj", 32, {1}, {512}, 192, 0, 2, 0},
    {"encoder.3 out_proj", 32, {1}, {512}, 256, 1, 2, 0},
    {"encoder.4 in_proj", 16, {1}, {512}, 2048, 0, 2, HYMN_PROLOGUE_NORM},
    {"encoder.4 out_proj", 16, {1}, {1024}, 512, 1, 2, 0},
    {"large product", 64, {1}, {1024}, 1024, 0, 0, 0},
};

const size_t test_conv_layer_count = sizeof test_conv_layers / sizeof *test_conv_layers;

struct test_conv_case test_conv_layer_case(const struct test_conv_layer *l, uint32_t batch) {
    struct test_conv_case c = {.height = l->size,
                               .width = l->size,
                               .batch = batch,
                               .parts = {l->out},
                               .part_count = 1,
                               .activation = l->kernels[0] == 3 ? HYMN_ACTIVATION_RELU : HYMN_ACTIVATION_NONE,
                               .prologue = l->prologue,
                               .residual = l->residual,
                               .bias = true,
                               .output = HYMN_STORAGE_F16,
                               .extra = HYMN_STORAGE_F16};
    for (uint32_t t = 0; t < 3 && l->kernels[t]; t++) {
        c.term_count++;
        c.kernels[t] = l->kernels[t];
        c.channels[t] = l->channels[t];
        c.sources[t] = HYMN_STORAGE_F16;
    }
    return c;
}

uint32_t test_conv_list_tiles(const struct test_conv *b, const struct hymn_vk_plan *plan,
                              struct hymn_conv2d_tile *tiles, uint32_t most) {
    static const uint32_t pixels[] = {32, 64, 128, 256}, channels[] = {16, 32, 64, 128}, taps[] = {1, 3, 9},
                          depths[] = {2, 4, 8, 16};
    static const uint32_t subgroups[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 2}, {2, 2}, {4, 2}, {2, 4}};
    bool wide = b->shape.kernels[0] == 3, joined = b->shape.kernels[0] == 1 && b->shape.residual != 2;
    uint32_t count = 0;
    for (uint32_t i = 0; i < 4 * 4 * 3 * 4 * 8 * 2 * 4; i++) {
        uint32_t at = i, rest;
#define PICK(n) (rest = at % (n), at /= (n), rest)
        uint32_t p = pixels[PICK(4)];
        struct hymn_conv2d_tile tile = {.width = joined ? p : 16, .channels = channels[PICK(4)]};
        tile.height = p / tile.width;
        tile.taps = taps[PICK(3)];
        tile.depth = depths[PICK(4)];
        const uint32_t *split = subgroups[PICK(8)];
        tile.rows = split[0], tile.columns = split[1];
        tile.buffers = 1 + PICK(2);
        tile.splits = 1u << PICK(4);
        uint32_t groups = (b->shape.batch * b->shape.height * b->shape.width + p - 1) / p *
                          ((b->shape.parts[0] + tile.channels - 1) / tile.channels);
        uint32_t rows = p / tile.rows, columns = tile.channels / tile.columns;
        bool sensible = tile.channels < 2 * b->shape.parts[0] && (tile.buffers == 2) == !wide &&
                        rows * columns <= 4096 && rows * columns >= 512 && rows <= 64 && columns <= 64 &&
                        (tile.splits == 1 || groups * tile.splits <= 600) &&
                        (groups * tile.splits >= 60 || tile.splits == 8);
        if (count < most && sensible && hymn_conv2d_matrix_valid(&b->graph, b->node, plan, &tile)) {
            tiles[count++] = tile;
        }
    }
    return count;
}
