// SPDX-License-Identifier: MIT
#include "tile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t tile_count(uint32_t length, uint32_t tile, double overlap) {
    if (length <= tile) {
        return 1;
    }
    const double step = fmax(1, floor(tile * (1 - overlap)));
    return (uint32_t)ceil((length - tile) / step) + 1;
}

// sin^2 over the tile, never zero, divided by the sum of all tiles' at each position.
static void fill_weights(struct tile_axis *axis, double *sums) {
    const double pi = 3.14159265358979323846;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < axis->count; i++) {
            for (uint32_t t = 0; t < axis->tile && axis->starts[i] + t < axis->length; t++) {
                const double sine = sin(pi * (t + 0.5) / axis->tile);
                if (pass == 0) {
                    sums[axis->starts[i] + t] += sine * sine;
                } else {
                    axis->weights[(size_t)i * axis->tile + t] = (float)(sine * sine / sums[axis->starts[i] + t]);
                }
            }
        }
    }
}

bool tile_axis_init(struct tile_axis *axis, uint32_t length, uint32_t tile, double overlap) {
    *axis = (struct tile_axis){.length = length, .tile = tile, .count = tile_count(length, tile, overlap)};
    axis->starts = calloc(axis->count, sizeof(*axis->starts));
    axis->weights = calloc((size_t)axis->count * tile, sizeof(*axis->weights));
    double *sums = calloc(length, sizeof(*sums));
    const bool good = axis->starts != NULL && axis->weights != NULL && sums != NULL;
    if (good) {
        for (uint32_t i = 1; i < axis->count; i++) { // evenly spread from edge to edge
            axis->starts[i] = (uint32_t)((uint64_t)(length - tile) * i / (axis->count - 1));
        }
        fill_weights(axis, sums);
    } else {
        tile_axis_free(axis);
    }
    free(sums);
    return good;
}

void tile_axis_free(struct tile_axis *axis) {
    free(axis->starts);
    free(axis->weights);
    *axis = (struct tile_axis){0};
}

void tile_extract(const struct image *image, uint32_t y, uint32_t x, uint32_t height, uint32_t width,
                  uint8_t *out_tile) {
    const size_t channels = image->channels;
    const uint32_t inside = image->width - x < width ? image->width - x : width;
    for (uint32_t row = 0; row < height; row++) {
        const uint32_t from = y + row < image->height ? y + row : image->height - 1;
        const uint8_t *source = image->pixels + ((size_t)from * image->width + x) * channels;
        memcpy(out_tile, source, inside * channels);
        for (uint32_t column = inside; column < width; column++) {
            memcpy(out_tile + column * channels, source + (inside - 1) * channels, channels);
        }
        out_tile += width * channels;
    }
}

bool tile_blend_init(struct tile_blend *blend, const struct tile_axis *rows, const struct tile_axis *columns,
                     uint32_t classes, float threshold, uint8_t *mask, float *probabilities) {
    *blend = (struct tile_blend){.rows = rows,
                                 .columns = columns,
                                 .classes = classes,
                                 .threshold = threshold,
                                 .mask = mask,
                                 .probabilities = probabilities};
    blend->open = calloc((size_t)rows->tile * classes, columns->length * sizeof(float));
    return blend->open != NULL;
}

void tile_blend_free(struct tile_blend *blend) {
    free(blend->open);
    *blend = (struct tile_blend){0};
}

static uint8_t decide(const struct tile_blend *blend, const float *line, uint32_t x) {
    const uint32_t width = blend->columns->length;
    if (blend->classes == 1) {
        return line[x] >= blend->threshold ? 255 : 0;
    }
    uint32_t best = 0;
    for (uint32_t c = 1; c < blend->classes; c++) {
        if (line[(size_t)c * width + x] > line[(size_t)best * width + x]) {
            best = c;
        }
    }
    return (uint8_t)best;
}

// Gives out the rows before `end` and clears their place for rows to come.
static void give_out(struct tile_blend *blend, uint32_t end) {
    const size_t width = blend->columns->length, plane = width * blend->rows->length;
    for (; blend->done < end; blend->done++) {
        float *line = blend->open + (size_t)(blend->done % blend->rows->tile) * blend->classes * width;
        for (uint32_t x = 0; blend->mask != NULL && x < width; x++) {
            blend->mask[blend->done * width + x] = decide(blend, line, x);
        }
        for (uint32_t c = 0; blend->probabilities != NULL && c < blend->classes; c++) {
            memcpy(blend->probabilities + c * plane + blend->done * width, line + c * width, width * sizeof(float));
        }
        memset(line, 0, blend->classes * width * sizeof(float));
    }
}

void tile_blend_add(struct tile_blend *blend, const float *tile) {
    const struct tile_axis *rows = blend->rows, *columns = blend->columns;
    const uint32_t row = blend->next / columns->count, column = blend->next % columns->count;
    const uint32_t top = rows->starts[row], left = columns->starts[column];
    const uint32_t height = rows->length - top < rows->tile ? rows->length - top : rows->tile;
    const uint32_t width = columns->length - left < columns->tile ? columns->length - left : columns->tile;
    if (column == 0) {
        give_out(blend, top);
    }
    for (uint32_t y = 0; y < height; y++) {
        const float row_weight = rows->weights[(size_t)row * rows->tile + y];
        float *line = blend->open + (size_t)((top + y) % rows->tile) * blend->classes * columns->length;
        for (uint32_t c = 0; c < blend->classes; c++) {
            const float *source = tile + ((size_t)c * rows->tile + y) * columns->tile;
            const float *weights = columns->weights + (size_t)column * columns->tile;
            float *target = line + (size_t)c * columns->length + left;
            for (uint32_t x = 0; x < width; x++) {
                target[x] += row_weight * weights[x] * source[x];
            }
        }
    }
    if (++blend->next == rows->count * columns->count) {
        give_out(blend, rows->length);
    }
}
