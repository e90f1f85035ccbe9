// SPDX-License-Identifier: MIT
//
// Seeded random numbers and noise over the plane: the same on every machine.
#ifndef HYMN_DEMO_NOISE_H
#define HYMN_DEMO_NOISE_H

#include <stdint.h>

struct point {
    float x, y;
};

// A random stream: noise_next gives a number in 0..1.
struct noise_stream {
    uint64_t state;
};
float noise_next(struct noise_stream *stream);
// In low..high.
float noise_between(struct noise_stream *stream, float low, float high);

// Gradient noise, about -1..1, one feature a unit.
float noise_gradient(uint32_t seed, struct point p);
// Sum of octaves, each of half the size and half the weight, scaled to about -1..1.
float noise_fractal(uint32_t seed, struct point p, int octaves);
// Distances to the nearest and the second nearest of one random point per unit cell, and the nearest one's own number
// in 0..1.
struct noise_cell {
    float first, second, id;
};
struct noise_cell noise_cellular(uint32_t seed, struct point p);

// 0 below low, 1 above high, smooth between.
float noise_step(float low, float high, float value);

#endif
