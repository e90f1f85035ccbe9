// SPDX-License-Identifier: MIT
//
// A picture to draw on: skin, and what lies above it.
#ifndef HYMN_DEMO_CANVAS_H
#define HYMN_DEMO_CANVAS_H

#include "skin.h"

struct canvas {
    uint32_t height, width;
    struct colour *pixels; // [height][width]
    float *cover;          // [height][width], zero: scratch of what is being drawn
};

// Hairs, bubbles and the ruler of `skin`, drawn over what is there. Coordinates and lengths as in skin.h.
void canvas_draw_hairs(struct canvas *canvas, const struct skin *skin);
void canvas_draw_bubbles(struct canvas *canvas, const struct skin *skin);
void canvas_draw_ruler(struct canvas *canvas, const struct skin *skin);

#endif
