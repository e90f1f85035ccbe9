// SPDX-License-Identifier: MIT
//
// Pictures larger than a network's input: overlapping tiles at the picture's own scale, and probabilities blended back
// with a smooth window. The window is a product of two axes, so the weights that meet in a pixel are normalised per
// axis and sum to one exactly where they should.
#ifndef HYMN_APP_TILE_H
#define HYMN_APP_TILE_H

#include "image.h"

// One axis of the grid. Tile i covers [starts[i], starts[i] + tile); only the last part beyond `length`, where a
// picture is smaller than a tile, is outside.
struct tile_axis {
    uint32_t length, tile, count;
    uint32_t *starts; // [count], rising
    float *weights;   // [count, tile]: over the tiles that cover a position they sum to one
};

// overlap: the least part of a tile, 0..0.9, that is shared with its neighbour. False when memory is out.
bool tile_axis_init(struct tile_axis *axis, uint32_t length, uint32_t tile, double overlap);
void tile_axis_free(struct tile_axis *axis);

// Copies a tile of [y.tile, x.tile, channels] u8 out of a picture; what lies outside repeats the nearest edge pixel.
void tile_extract(const struct image *image, uint32_t y, uint32_t x, uint32_t height, uint32_t width,
                  uint8_t *out_tile);

// Blends tiles, row by row from the top left, into masks and probabilities of the whole picture, keeping only the rows
// that are still open.
struct tile_blend {
    const struct tile_axis *rows, *columns; // borrowed
    uint32_t classes;
    float threshold;
    float *open;          // [rows->tile, classes, columns->length]: row y is at y modulo rows->tile
    uint32_t done;        // rows that have been given out
    uint32_t next;        // number of tiles added
    uint8_t *mask;        // [height, width], or NULL; as struct hymn_output says
    float *probabilities; // [classes, height, width], or NULL
};

// False when memory is out. mask and probabilities are borrowed until tile_blend_free.
bool tile_blend_init(struct tile_blend *blend, const struct tile_axis *rows, const struct tile_axis *columns,
                     uint32_t classes, float threshold, uint8_t *mask, float *probabilities);
// The next tile, [classes, rows->tile, columns->tile]. After the last one all rows have been given out.
void tile_blend_add(struct tile_blend *blend, const float *tile);
void tile_blend_free(struct tile_blend *blend);

#endif
