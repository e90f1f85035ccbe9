// SPDX-License-Identifier: MIT
#include "overlay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t colours[12][3] = {{0, 230, 118},  {255, 82, 82},  {64, 156, 255}, {255, 202, 40},
                                       {213, 0, 249},  {0, 229, 255},  {255, 128, 0},  {174, 234, 0},
                                       {255, 64, 159}, {124, 77, 255}, {0, 191, 165},  {161, 136, 127}};

static uint32_t lesser(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

// out_same[x] = all pixels of the row within `radius` of x, as far as there are any, have x's class.
static void same_in_row(const uint8_t *row, uint32_t width, uint32_t radius, uint8_t *out_same) {
    for (uint32_t start = 0; start < width;) {
        uint32_t end = start + 1;
        while (end < width && row[end] == row[start]) {
            end++;
        }
        for (uint32_t x = start; x < end; x++) {
            const bool left = start == 0 || x - start >= radius;
            const bool right = end == width || end - 1 - x >= radius;
            out_same[x] = left && right;
        }
        start = end;
    }
}

// Turns "same in row" into "all pixels of the square of `radius` have the pixel's class", in place. `runs` has room for
// one number per column: how many rows above, this one included, have the same class and are the same in their rows.
static void same_in_square(const uint8_t *mask, uint8_t *same, uint32_t height, uint32_t width, uint32_t radius,
                           uint32_t *runs) {
    memset(runs, 0, width * sizeof(*runs));
    for (uint32_t y = 0; y < height + radius; y++) {
        const uint32_t row = lesser(y, height - 1); // the last row stands for those below it
        const uint8_t *labels = mask + (size_t)row * width;
        for (uint32_t x = 0; y < height && x < width; x++) {
            const bool continues = y > 0 && runs[x] > 0 && labels[x] == *(labels + x - width);
            runs[x] = same[(size_t)row * width + x] ? (continues ? runs[x] + 1 : 1) : 0;
        }
        if (y < radius) {
            continue;
        }
        // The square around row y - radius ends in this row; its own flag is read by no later row.
        const uint32_t centre = y - radius, top = centre > radius ? centre - radius : 0;
        for (uint32_t x = 0; x < width; x++) {
            same[(size_t)centre * width + x] = runs[x] >= row - top + 1;
        }
    }
}

static bool find_uniform(const uint8_t *mask, uint32_t height, uint32_t width, uint32_t radius, uint8_t *out_same) {
    uint32_t *runs = malloc(width * sizeof(*runs));
    if (runs == NULL) {
        return false;
    }
    for (uint32_t y = 0; y < height; y++) {
        same_in_row(mask + (size_t)y * width, width, radius, out_same + (size_t)y * width);
    }
    same_in_square(mask, out_same, height, width, radius, runs);
    free(runs);
    return true;
}

static void blend(uint8_t *pixel, const uint8_t *colour, uint32_t part_of_256) {
    for (int c = 0; c < 3; c++) {
        pixel[c] = (uint8_t)((pixel[c] * (256 - part_of_256) + colour[c] * part_of_256) >> 8);
    }
}

bool overlay_draw(struct image *image, const uint8_t *mask, struct cause *cause) {
    static const uint8_t dark[3] = {16, 16, 16};
    const size_t count = (size_t)image->width * image->height;
    const uint32_t line = (uint32_t)fmin(40, fmax(1, round(sqrt((double)count) / 200)));
    uint8_t *same = malloc(count);
    if (same == NULL || !find_uniform(mask, image->height, image->width, line, same)) {
        free(same);
        return cause_set(cause, "out of memory for the overlay");
    }
    for (size_t i = 0; i < count; i++) {
        if (mask[i] != 0) {
            const size_t colour = mask[i] == 255 ? 0 : (size_t)(mask[i] - 1) % 12;
            blend(image->pixels + 3 * i, colours[colour], same[i] ? 40 : 256);
        }
    }
    const uint32_t halo = (line + 1) / 2;
    if (!find_uniform(mask, image->height, image->width, halo, same)) {
        free(same);
        return cause_set(cause, "out of memory for the overlay");
    }
    for (size_t i = 0; i < count; i++) {
        if (mask[i] == 0 && !same[i]) {
            blend(image->pixels + 3 * i, dark, 160);
        }
    }
    free(same);
    return true;
}
