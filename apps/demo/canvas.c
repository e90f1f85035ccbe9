// SPDX-License-Identifier: MIT
#include "canvas.h"

#include <math.h>
#include <stddef.h>

static float shorter_side(const struct canvas *canvas) {
    return (float)(canvas->height < canvas->width ? canvas->height : canvas->width);
}

// From skin.h's coordinates to pixels.
static struct point to_pixels(const struct canvas *canvas, struct point p) {
    const float side = shorter_side(canvas);
    return (struct point){p.x * side + 0.5f * (float)canvas->width, p.y * side + 0.5f * (float)canvas->height};
}

static void blend(struct canvas *canvas, int x, int y, struct colour over, float alpha) {
    if (x < 0 || y < 0 || x >= (int)canvas->width || y >= (int)canvas->height || alpha <= 0) {
        return;
    }
    struct colour *under = &canvas->pixels[(size_t)y * canvas->width + (size_t)x];
    under->r += alpha * (over.r - under->r);
    under->g += alpha * (over.g - under->g);
    under->b += alpha * (over.b - under->b);
}

static float distance_to_segment(float x, float y, struct point a, struct point b) {
    const float dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    float t = length > 0 ? ((x - a.x) * dx + (y - a.y) * dy) / length : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return hypotf(x - a.x - t * dx, y - a.y - t * dy);
}

// A straight stroke in pixels, antialiased over one pixel, added to the canvas's cover: where strokes overlap the
// larger cover counts, so that the parts of a curve do not darken twice.
static void stroke(struct canvas *canvas, struct point a, struct point b, float width) {
    const float reach = 0.5f * width + 1;
    const int left = (int)fmaxf(fminf(a.x, b.x) - reach, 0), top = (int)fmaxf(fminf(a.y, b.y) - reach, 0);
    const int right = (int)fminf(fmaxf(a.x, b.x) + reach, (float)canvas->width - 1);
    const int low = (int)fminf(fmaxf(a.y, b.y) + reach, (float)canvas->height - 1);
    for (int y = top; y <= low; ++y) {
        for (int x = left; x <= right; ++x) {
            const float distance = distance_to_segment((float)x + 0.5f, (float)y + 0.5f, a, b);
            float *cover = &canvas->cover[(size_t)y * canvas->width + (size_t)x];
            *cover = fmaxf(*cover, fminf(fmaxf(0.5f * width + 0.5f - distance, 0), fminf(width, 1)));
        }
    }
}

// Paints what the strokes cover, and clears the cover.
static void fill(struct canvas *canvas, struct colour colour, float alpha) {
    for (int y = 0; y < (int)canvas->height; ++y) {
        for (int x = 0; x < (int)canvas->width; ++x) {
            float *cover = &canvas->cover[(size_t)y * canvas->width + (size_t)x];
            blend(canvas, x, y, colour, alpha * *cover);
            *cover = 0;
        }
    }
}

static struct point on_curve(const struct point c[4], float t) {
    const float s = 1 - t;
    const float w[4] = {s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t};
    struct point p = {0, 0};
    for (int i = 0; i < 4; ++i) {
        p.x += w[i] * c[i].x;
        p.y += w[i] * c[i].y;
    }
    return p;
}

// A cubic curve, thickest in its first half, drawn into the cover, shifted by `shift` pixels.
static void draw_curve(struct canvas *canvas, const struct point c[4], float width, struct point shift) {
    enum { PARTS = 40 };
    struct point last = {c[0].x + shift.x, c[0].y + shift.y};
    for (int i = 1; i <= PARTS; ++i) {
        const float t = (float)i / PARTS;
        struct point next = on_curve(c, t);
        next = (struct point){next.x + shift.x, next.y + shift.y};
        stroke(canvas, last, next, width * (1 - 0.7f * t * t) * (0.4f + 0.6f * noise_step(0, 0.2f, t)));
        last = next;
    }
}

void canvas_draw_hairs(struct canvas *canvas, const struct skin *skin) {
    struct noise_stream random = {skin->seed * 31 + 7};
    const float side = shorter_side(canvas);
    const float aspect_x = (float)canvas->width / side, aspect_y = (float)canvas->height / side;
    const float grain = noise_between(&random, 0, 6.2832f); // hairs lie roughly one way
    for (int i = 0; i < (int)skin->hairs; ++i) {
        struct point p = {aspect_x * noise_between(&random, -0.6f, 0.6f),
                          aspect_y * noise_between(&random, -0.6f, 0.6f)};
        float way = grain + noise_between(&random, -0.7f, 0.7f);
        const float step = noise_between(&random, 0.05f, 0.26f), bend = noise_between(&random, -0.55f, 0.55f);
        struct point curve[4];
        for (int k = 0; k < 4; ++k) {
            curve[k] = to_pixels(canvas, p);
            p.x += step * cosf(way);
            p.y += step * sinf(way);
            way += bend;
        }
        const float width = side * noise_between(&random, 0.0018f, 0.0042f), shade = noise_between(&random, 0.8f, 1.3f);
        const struct colour colour = {skin->hair.r * shade, skin->hair.g * shade, skin->hair.b * shade};
        const struct colour shadow = {0.35f, 0.2f, 0.15f};
        draw_curve(canvas, curve, 2.2f * width, (struct point){0.8f * width, 1.1f * width});
        fill(canvas, shadow, 0.10f);
        draw_curve(canvas, curve, width, (struct point){0, 0});
        fill(canvas, colour, noise_between(&random, 0.55f, 0.92f));
    }
}

// A bubble: a bright rim, brightest towards the lamp, a darker ring inside it and a small highlight.
static void draw_bubble(struct canvas *canvas, struct point centre, float radius) {
    const struct colour white = {1, 0.99f, 0.97f}, dark = {0.25f, 0.18f, 0.15f};
    const struct point lamp = {centre.x - 0.45f * radius, centre.y - 0.45f * radius};
    for (int y = (int)(centre.y - radius - 2); y <= (int)(centre.y + radius + 2); ++y) {
        for (int x = (int)(centre.x - radius - 2); x <= (int)(centre.x + radius + 2); ++x) {
            const float dx = (float)x + 0.5f - centre.x, dy = (float)y + 0.5f - centre.y;
            const float distance = hypotf(dx, dy) / radius, facing = -0.7071f * (dx + dy) / (hypotf(dx, dy) + 1e-3f);
            const float rim = expf(-80 * (distance - 0.93f) * (distance - 0.93f));
            const float ring = expf(-50 * (distance - 0.78f) * (distance - 0.78f));
            const float spot = hypotf((float)x + 0.5f - lamp.x, (float)y + 0.5f - lamp.y) / radius;
            blend(canvas, x, y, dark, distance < 1.1f ? 0.22f * ring : 0);
            blend(canvas, x, y, white, distance < 1.2f ? rim * (0.3f + 0.35f * facing) : 0);
            blend(canvas, x, y, white, 0.9f * (1 - noise_step(0.08f, 0.2f, spot)));
        }
    }
}

void canvas_draw_bubbles(struct canvas *canvas, const struct skin *skin) {
    struct noise_stream random = {skin->seed * 57 + 3};
    const float side = shorter_side(canvas);
    for (int i = 0; i < (int)skin->bubbles; ++i) {
        const struct point p = {noise_between(&random, -0.6f, 0.6f), noise_between(&random, -0.48f, 0.48f)};
        const float size = noise_next(&random);
        draw_bubble(canvas, to_pixels(canvas, p), side * (0.006f + 0.022f * size * size * size));
    }
}

// Engraved in the contact plate: a line with a tick every millimetre, longer ones every fifth, and "mm" in strokes.
void canvas_draw_ruler(struct canvas *canvas, const struct skin *skin) {
    if (!skin->ruler) {
        return;
    }
    struct noise_stream random = {skin->seed * 77 + 5};
    const float side = shorter_side(canvas), tilt = noise_between(&random, -0.18f, 0.18f);
    const struct colour ink = {0.14f, 0.11f, 0.10f};
    const struct point start = {-0.22f, 0.41f}, along = {cosf(tilt), sinf(tilt)};
    const float width = 0.0028f * side;
    enum { TICKS = 10 };
    for (int i = 0; i <= TICKS; ++i) {
        const float t = 0.044f * (float)i, up = i % 5 == 0 ? 0.030f : 0.018f;
        const struct point foot = {start.x + t * along.x, start.y + t * along.y};
        const struct point head = {foot.x + up * along.y, foot.y - up * along.x};
        stroke(canvas, to_pixels(canvas, foot), to_pixels(canvas, head), width);
    }
    const float full = 0.044f * TICKS;
    const struct point end = {start.x + full * along.x, start.y + full * along.y};
    stroke(canvas, to_pixels(canvas, start), to_pixels(canvas, end), width);
    static const struct point letter[5] = {{0, 0.03f}, {0, 0.01f}, {0.009f, 0.02f}, {0.018f, 0.01f}, {0.018f, 0.03f}};
    for (int k = 0; k < 2; ++k) {
        for (int i = 0; i < 4; ++i) {
            const struct point a = {start.x + letter[i].x + 0.028f * (float)k, start.y + letter[i].y};
            const struct point b = {start.x + letter[i + 1].x + 0.028f * (float)k, start.y + letter[i + 1].y};
            stroke(canvas, to_pixels(canvas, a), to_pixels(canvas, b), width);
        }
    }
    fill(canvas, ink, 0.75f);
}
