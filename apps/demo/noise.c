// SPDX-License-Identifier: MIT
#include "noise.h"

#include <math.h>

// A number from the cell (x, y): every bit depends on every bit of the input.
static uint32_t hash_cell(uint32_t seed, int32_t x, int32_t y) {
    uint32_t h = seed * 0x9E3779B1u ^ (uint32_t)x * 0x85EBCA77u ^ (uint32_t)y * 0xC2B2AE3Du;
    h = (h ^ (h >> 15)) * 0x2C1B3C6Du;
    h = (h ^ (h >> 12)) * 0x297A2D39u;
    return h ^ (h >> 15);
}

static float to_unit(uint32_t bits) {
    return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

// SplitMix64 (Steele, Lea, Flood 2014).
float noise_next(struct noise_stream *stream) {
    uint64_t z = (stream->state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return to_unit((uint32_t)((z ^ (z >> 31)) >> 32));
}

float noise_between(struct noise_stream *stream, float low, float high) {
    return low + (high - low) * noise_next(stream);
}

// floorf, without the call that it is on the oldest x86-64. |value| < 2^31.
static int32_t floor_of(float value) {
    const int32_t whole = (int32_t)value;
    return whole - (value < (float)whole);
}

// The scalar product of the corner's gradient, one of eight, with the way from the corner.
static float corner(uint32_t seed, int32_t x, int32_t y, float dx, float dy) {
    const uint32_t h = hash_cell(seed, x, y);
    const float a = (h & 1) ? dx : -dx, b = (h & 2) ? dy : -dy;
    return (h & 4) ? a + 0.5f * b : 0.5f * a + b;
}

float noise_gradient(uint32_t seed, struct point p) {
    const int32_t x = floor_of(p.x), y = floor_of(p.y);
    const float dx = p.x - (float)x, dy = p.y - (float)y;
    const float u = dx * dx * dx * (dx * (dx * 6 - 15) + 10), v = dy * dy * dy * (dy * (dy * 6 - 15) + 10);
    const float top = corner(seed, x, y, dx, dy) * (1 - u) + corner(seed, x + 1, y, dx - 1, dy) * u;
    const float low = corner(seed, x, y + 1, dx, dy - 1) * (1 - u) + corner(seed, x + 1, y + 1, dx - 1, dy - 1) * u;
    return 1.4f * (top * (1 - v) + low * v);
}

float noise_fractal(uint32_t seed, struct point p, int octaves) {
    float sum = 0, weight = 1, total = 0;
    for (int i = 0; i < octaves; ++i) {
        sum += weight * noise_gradient(seed + (uint32_t)i, p);
        total += weight;
        weight *= 0.5f;
        p = (struct point){2 * p.x + 17.3f, 2 * p.y - 9.1f};
    }
    return sum / total;
}

struct noise_cell noise_cellular(uint32_t seed, struct point p) {
    const int32_t cell_x = floor_of(p.x), cell_y = floor_of(p.y);
    struct noise_cell cell = {9, 9, 0}; // distances squared, for now
    for (int32_t y = cell_y - 1; y <= cell_y + 1; ++y) {
        for (int32_t x = cell_x - 1; x <= cell_x + 1; ++x) {
            const uint32_t h = hash_cell(seed, x, y);
            const float dx = (float)x + to_unit(h << 16) - p.x, dy = (float)y + to_unit(h & 0xFFFF0000u) - p.y;
            const float distance = dx * dx + dy * dy;
            if (distance < cell.first) {
                cell.second = cell.first;
                cell.first = distance;
                cell.id = to_unit(h * 0x9E3779B1u);
            } else if (distance < cell.second) {
                cell.second = distance;
            }
        }
    }
    cell.first = sqrtf(cell.first);
    cell.second = sqrtf(cell.second);
    return cell;
}

float noise_step(float low, float high, float value) {
    float t = (value - low) / (high - low);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return t * t * (3 - 2 * t);
}
