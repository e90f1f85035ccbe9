// SPDX-License-Identifier: MIT
//
// A picture with a mask drawn over it: a coloured outline just inside each region, a dark line just outside, so that it
// shows on any background, and a light tint within.
#ifndef HYMN_APP_OVERLAY_H
#define HYMN_APP_OVERLAY_H

#include "image.h"

// Draws into an RGB picture. mask: [height, width] as struct hymn_output says: 0 outside, 255 or a class number
// inside; each class has its colour, and they repeat after twelve. False when memory is out.
bool overlay_draw(struct image *image, const uint8_t *mask, struct cause *cause);

#endif
