// SPDX-License-Identifier: MIT
//
// A made-up dermoscopic picture of skin with one lesion: its description, and its colour at a point. Lengths are in
// units of the picture's shorter side, angles in radians; the origin is the picture's middle.
#ifndef HYMN_DEMO_SKIN_H
#define HYMN_DEMO_SKIN_H

#include "noise.h"

#include <stdbool.h>

struct colour {
    float r, g, b; // 0..1, sRGB-encoded
};

struct skin {
    const char *name;
    uint32_t seed;
    uint32_t height, width; // pixels
    // The skin around: its colour without pigment, how much of it varies, spots of other pigment.
    struct colour tone;
    float melanin, blood; // optical density of the two pigments
    float freckles;       // 0..1
    // The lesion's outline: an ellipse, turned, with irregular radius and edge.
    struct point centre;
    float radius, stretch, angle;
    float irregular; // relative change of the radius around the outline
    float ragged;    // how far the edge is shifted by noise
    float fade;      // width of the edge, relative to the radius
    // What is inside.
    float pigment;    // melanin at full strength
    float redness;    // blood at full strength
    float variegated; // 0..1: patches of different strength
    float network;    // 0..1: pigment network of dark lines
    float globules;   // 0..1: dark dots
    float veil;       // 0..1: a blue-white veil over a part
    // The instrument.
    float vignette; // 0..1
    float field;    // radius of a round field of view with black around it; 0: none
    float hairs;    // number
    struct colour hair;
    float bubbles; // number of gas bubbles in the gel
    float glints;  // 0..1: reflections
    bool ruler;
};

// How deep inside the lesion's known outline a point is, relative to its radius; below 0: outside.
float skin_depth(const struct skin *skin, struct point p);

// Colour at a point, without hairs, bubbles and ruler; `depth` is the point's skin_depth.
struct colour skin_shade(const struct skin *skin, struct point p, float depth);

#endif
