// SPDX-License-Identifier: MIT
#include "skin.h"

#include <math.h>

static struct point scaled(struct point p, float factor) {
    return (struct point){p.x * factor, p.y * factor};
}

float skin_depth(const struct skin *skin, struct point p) {
    const uint32_t seed = skin->seed;
    const float reach = skin->radius * (2.0f + 2 * skin->irregular) + 2 * skin->ragged; // the outline is well within
    if (hypotf(p.x - skin->centre.x, p.y - skin->centre.y) > reach) {
        return -1;
    }
    const struct point near = scaled(p, 3.0f), fine = scaled(p, 11.0f);
    const float shift = skin->ragged;
    float x = p.x - skin->centre.x, y = p.y - skin->centre.y;
    x += shift * (noise_fractal(seed + 1, near, 2) + 0.35f * noise_fractal(seed + 2, fine, 3));
    y += shift * (noise_fractal(seed + 3, near, 2) + 0.35f * noise_fractal(seed + 4, fine, 3));
    const float c = cosf(skin->angle), s = sinf(skin->angle);
    const float u = (c * x + s * y) / skin->stretch, v = (c * y - s * x) * skin->stretch;
    const float distance = sqrtf(u * u + v * v), around = atan2f(v, u);
    // Lobes: a few harmonics of the angle with random phases.
    struct noise_stream random = {seed};
    float radius = 1;
    for (int k = 2; k <= 6; ++k) {
        radius += skin->irregular * noise_between(&random, 0.3f, 1.0f) / (float)k *
                  cosf((float)k * around + 6.2832f * noise_next(&random));
    }
    return radius - distance / skin->radius;
}

// Lines between cells, 1 on the line and 0 inside the cell; `width` relative to a cell.
static float lines(uint32_t seed, struct point p, float width) {
    const struct noise_cell cell = noise_cellular(seed, p);
    return 1 - noise_step(0, width, cell.second - cell.first);
}

struct pigments {
    float melanin, blood, veil;
};

// The skin around the lesion: mottled, with freckles and fine lines.
static struct pigments around(const struct skin *skin, struct point p) {
    const uint32_t seed = skin->seed + 100;
    const float coarse = noise_fractal(seed, scaled(p, 2.2f), 4), middle = noise_fractal(seed + 10, scaled(p, 14), 4);
    const struct point bent = {p.x + 0.012f * noise_gradient(seed + 20, scaled(p, 20)),
                               p.y + 0.012f * noise_gradient(seed + 21, scaled(p, 20))};
    const float furrows = lines(seed + 22, (struct point){bent.x * 34, bent.y * 46}, 0.35f);
    struct pigments here;
    here.melanin = skin->melanin * (1 + 0.25f * coarse + 0.18f * middle) - 0.02f * furrows;
    here.blood = skin->blood * (1 + 0.35f * noise_fractal(seed + 30, scaled(p, 3.5f), 4) +
                                0.3f * noise_fractal(seed + 40, scaled(p, 24), 3)) +
                 0.02f * furrows;
    const struct point spotty = {9 * p.x + 0.35f * noise_fractal(seed + 60, scaled(p, 13), 3),
                                 9 * p.y + 0.35f * noise_fractal(seed + 70, scaled(p, 13), 3)};
    const struct noise_cell spot = noise_cellular(seed + 50, spotty);
    const float size = 0.05f + 0.45f * spot.id * spot.id;
    here.melanin += skin->freckles * 0.28f * spot.id * (1 - noise_step(0, size, spot.first));
    here.veil = 0;
    return here;
}

// What the lesion adds. depth: skin_depth.
static struct pigments inside(const struct skin *skin, struct point p, float depth) {
    const uint32_t seed = skin->seed + 200;
    const float edge = noise_step(-0.06f, skin->fade, depth);
    const float patch = noise_fractal(seed, scaled(p, 1.1f / skin->radius), 4);
    const float dark = noise_step(-0.1f, 0.5f, patch), pale = noise_step(-0.15f, -0.55f, patch);
    const struct point bent = {p.x + 0.02f * noise_fractal(seed + 10, scaled(p, 9), 2),
                               p.y + 0.02f * noise_fractal(seed + 11, scaled(p, 9), 2)};
    const float mesh =
        lines(seed + 12, scaled(bent, 30), 0.5f) * (0.5f + 0.5f * noise_gradient(seed + 13, scaled(p, 6)));
    const struct noise_cell dot = noise_cellular(seed + 14, scaled(bent, 19));
    const float globule = (1 - noise_step(0.12f, 0.3f, dot.first)) * noise_step(0.35f, 0.6f, dot.id);
    const float grain = noise_fractal(seed + 20, scaled(p, 26), 4);
    float strength = 0.78f + 0.22f * noise_step(0.1f, 0.7f, depth) + 0.22f * grain;
    strength *= 1 + skin->variegated * (0.55f * dark - 0.6f * pale);
    strength += skin->network * 0.55f * (mesh - 0.35f) + skin->globules * 0.6f * globule;
    strength = strength < 0.1f ? 0.1f : strength;
    struct pigments here;
    here.melanin = skin->pigment * edge * strength;
    here.blood = skin->redness * edge * (0.8f + 0.35f * noise_fractal(seed + 30, scaled(p, 8), 3) + 0.5f * pale);
    here.veil = skin->veil * edge * noise_step(0.25f, 0.7f, depth) *
                noise_step(-0.05f, 0.45f, noise_fractal(seed + 40, scaled(p, 0.9f / skin->radius), 3));
    return here;
}

static float lit(float tone, float melanin, float blood, float veil, float veil_tone, float light) {
    const float skin = tone * expf(-melanin - blood);
    const float value = (skin + veil * (veil_tone - skin)) * light;
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

// Light lost towards the edge, and the edge of a round field of view.
static float light_at(const struct skin *skin, struct point p) {
    const float square = p.x * p.x + p.y * p.y;
    float light =
        1 - skin->vignette * 0.55f * square - 0.05f * p.y + 0.04f * noise_gradient(skin->seed + 300, scaled(p, 0.9f));
    light += 0.025f * noise_fractal(skin->seed + 310, scaled(p, 60), 2);
    if (skin->field > 0) {
        const float rim = sqrtf(square) / skin->field;
        light *= (1 - noise_step(0.985f, 1.03f, rim)) * (1 - 0.45f * noise_step(0.75f, 1.02f, rim));
    }
    return light;
}

// Small bright reflections of the lamp in the gel.
static float glint_at(const struct skin *skin, struct point p) {
    if (skin->glints <= 0) {
        return 0;
    }
    const uint32_t seed = skin->seed + 400;
    const float where = noise_step(0.1f, 0.6f, noise_fractal(seed, scaled(p, 2.5f), 2));
    const float spark = noise_step(0.42f, 0.75f, noise_fractal(seed + 10, scaled(p, 70), 2));
    return skin->glints * where * spark;
}

struct colour skin_shade(const struct skin *skin, struct point p, float depth) {
    struct pigments here = around(skin, p);
    if (depth > -0.06f) {
        const struct pigments lesion = inside(skin, p, depth);
        here.melanin += lesion.melanin;
        here.blood += lesion.blood;
        here.veil = lesion.veil;
    }
    // Lambert-Beer with each pigment's absorption of red, green and blue light.
    const float m = here.melanin, h = here.blood, light = light_at(skin, p), glint = glint_at(skin, p);
    struct colour c = {lit(skin->tone.r, 0.60f * m, 0.10f * h, here.veil, 0.45f, light),
                       lit(skin->tone.g, 0.98f * m, 0.80f * h, here.veil, 0.46f, light),
                       lit(skin->tone.b, 1.34f * m, 0.66f * h, here.veil, 0.55f, light)};
    c.r += glint * (1 - c.r);
    c.g += glint * (1 - c.g);
    c.b += glint * (1 - c.b);
    return c;
}
