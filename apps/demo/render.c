// SPDX-License-Identifier: MIT
//
// render-samples DIR: draws the demo's pictures, dermoscopy-like lesions with a known outline, as DIR/images/NAME.png
// and DIR/masks/NAME.png. No photograph went into them, and they come out alike every time.
#include "canvas.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifdef _WIN32
#include <direct.h>
#define make_folder(path) _mkdir(path)
#else
#define make_folder(path) mkdir(path, 0777)
#endif

enum { SAMPLES_PER_PIXEL = 2 };

static const struct skin scenes[] = {
    {.name = "1-round",
     .seed = 11,
     .height = 480,
     .width = 640,
     .tone = {0.93f, 0.80f, 0.72f},
     .melanin = 0.12f,
     .blood = 0.14f,
     .freckles = 0.2f,
     .centre = {0.03f, -0.02f},
     .radius = 0.17f,
     .stretch = 1.06f,
     .angle = 0.4f,
     .irregular = 0.10f,
     .ragged = 0.012f,
     .fade = 0.22f,
     .pigment = 0.95f,
     .redness = 0.25f,
     .variegated = 0.35f,
     .network = 0.8f,
     .globules = 0.2f,
     .vignette = 0.5f,
     .hairs = 14,
     .hair = {0.24f, 0.13f, 0.08f},
     .ruler = true},
    {.name = "2-irregular",
     .seed = 22,
     .height = 600,
     .width = 800,
     .tone = {0.92f, 0.79f, 0.74f},
     .melanin = 0.10f,
     .blood = 0.22f,
     .freckles = 0.3f,
     .centre = {-0.04f, 0.01f},
     .radius = 0.27f,
     .stretch = 1.15f,
     .angle = 2.4f,
     .irregular = 0.34f,
     .ragged = 0.045f,
     .fade = 0.16f,
     .pigment = 1.35f,
     .redness = 0.35f,
     .variegated = 0.95f,
     .network = 0.5f,
     .globules = 0.6f,
     .veil = 0.55f,
     .vignette = 0.6f,
     .hairs = 26,
     .hair = {0.10f, 0.07f, 0.06f},
     .bubbles = 3,
     .glints = 0.3f},
    {.name = "3-elongated",
     .seed = 33,
     .height = 600,
     .width = 600,
     .tone = {0.90f, 0.74f, 0.58f},
     .melanin = 0.22f,
     .blood = 0.10f,
     .freckles = 0.5f,
     .centre = {0.02f, -0.06f},
     .radius = 0.19f,
     .stretch = 1.34f,
     .angle = 0.9f,
     .irregular = 0.16f,
     .ragged = 0.020f,
     .fade = 0.20f,
     .pigment = 0.9f,
     .redness = 0.2f,
     .variegated = 0.6f,
     .network = 0.3f,
     .globules = 0.9f,
     .vignette = 0.7f,
     .hairs = 8,
     .hair = {0.10f, 0.07f, 0.06f},
     .ruler = true},
    {.name = "4-faint",
     .seed = 44,
     .height = 576,
     .width = 768,
     .tone = {0.97f, 0.86f, 0.76f},
     .melanin = 0.10f,
     .blood = 0.12f,
     .freckles = 0.5f,
     .centre = {0.00f, 0.03f},
     .radius = 0.26f,
     .stretch = 1.1f,
     .angle = 1.9f,
     .irregular = 0.18f,
     .ragged = 0.030f,
     .fade = 0.30f,
     .pigment = 0.45f,
     .redness = 0.22f,
     .variegated = 0.5f,
     .network = 0.5f,
     .globules = 0.2f,
     .vignette = 0.4f,
     .hairs = 18,
     .hair = {0.55f, 0.38f, 0.20f}},
    {.name = "5-round-field",
     .seed = 55,
     .height = 512,
     .width = 512,
     .tone = {0.93f, 0.78f, 0.73f},
     .melanin = 0.12f,
     .blood = 0.20f,
     .freckles = 0.1f,
     .centre = {-0.05f, -0.03f},
     .radius = 0.12f,
     .stretch = 1.2f,
     .angle = 1.3f,
     .irregular = 0.22f,
     .ragged = 0.016f,
     .fade = 0.18f,
     .pigment = 1.3f,
     .redness = 0.1f,
     .variegated = 0.5f,
     .network = 0.7f,
     .globules = 0.4f,
     .vignette = 0.5f,
     .field = 0.60f,
     .hairs = 5,
     .hair = {0.24f, 0.13f, 0.08f},
     .bubbles = 4,
     .glints = 0.4f},
    {.name = "6-dark-skin",
     .seed = 66,
     .height = 540,
     .width = 720,
     .tone = {0.80f, 0.62f, 0.48f},
     .melanin = 0.42f,
     .blood = 0.10f,
     .freckles = 0.2f,
     .centre = {0.06f, 0.00f},
     .radius = 0.20f,
     .stretch = 1.08f,
     .angle = 0.2f,
     .irregular = 0.20f,
     .ragged = 0.022f,
     .fade = 0.20f,
     .pigment = 1.15f,
     .redness = 0.05f,
     .variegated = 0.6f,
     .network = 0.7f,
     .globules = 0.3f,
     .vignette = 0.6f,
     .hairs = 12,
     .hair = {0.10f, 0.07f, 0.06f}},
    {.name = "7-red",
     .seed = 77,
     .height = 600,
     .width = 800,
     .tone = {0.96f, 0.79f, 0.73f},
     .melanin = 0.06f,
     .blood = 0.24f,
     .freckles = 0.1f,
     .centre = {-0.02f, -0.01f},
     .radius = 0.24f,
     .stretch = 1.18f,
     .angle = 2.8f,
     .irregular = 0.14f,
     .ragged = 0.020f,
     .fade = 0.18f,
     .pigment = 0.40f,
     .redness = 0.75f,
     .variegated = 0.7f,
     .network = 0.1f,
     .globules = 0.5f,
     .vignette = 0.5f,
     .hairs = 10,
     .hair = {0.55f, 0.38f, 0.20f},
     .bubbles = 16,
     .glints = 0.7f},
    {.name = "8-large",
     .seed = 88,
     .height = 768,
     .width = 576,
     .tone = {0.94f, 0.80f, 0.68f},
     .melanin = 0.15f,
     .blood = 0.14f,
     .freckles = 0.3f,
     .centre = {0.05f, 0.10f},
     .radius = 0.38f,
     .stretch = 0.88f,
     .angle = 0.3f,
     .irregular = 0.24f,
     .ragged = 0.050f,
     .fade = 0.14f,
     .pigment = 1.05f,
     .redness = 0.3f,
     .variegated = 0.9f,
     .network = 0.6f,
     .globules = 0.5f,
     .veil = 0.25f,
     .vignette = 0.5f,
     .hairs = 30,
     .hair = {0.24f, 0.13f, 0.08f},
     .glints = 0.2f},
};

// Shades one pixel from several points along its diagonal; *out_inside: whether its middle lies inside the outline.
static struct colour shade_pixel(const struct skin *skin, uint32_t x, uint32_t y, bool *out_inside) {
    const float side = (float)(skin->height < skin->width ? skin->height : skin->width);
    struct colour sum = {0, 0, 0};
    float depths = 0;
    for (int i = 0; i < SAMPLES_PER_PIXEL; ++i) {
        const float shift = ((float)i + 0.5f) / SAMPLES_PER_PIXEL;
        const struct point p = {((float)x + shift - 0.5f * (float)skin->width) / side,
                                ((float)y + shift - 0.5f * (float)skin->height) / side};
        const float depth = skin_depth(skin, p);
        const struct colour c = skin_shade(skin, p, depth);
        sum.r += c.r;
        sum.g += c.g;
        sum.b += c.b;
        depths += depth;
    }
    *out_inside = depths >= 0;
    return (struct colour){sum.r / SAMPLES_PER_PIXEL, sum.g / SAMPLES_PER_PIXEL, sum.b / SAMPLES_PER_PIXEL};
}

static uint8_t to_byte(float value, struct noise_stream *random) {
    // the sensor's noise: three numbers make a rough bell
    const float noise = noise_next(random) + noise_next(random) + noise_next(random) - 1.5f;
    const float byte = 255 * value + 2.4f * noise + 0.5f;
    return (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
}

static bool write_png(const char *folder, const char *kind, const char *name, uint32_t format, const uint8_t *pixels,
                      uint32_t height, uint32_t width) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s/%s.png", folder, kind, name) >= (int)sizeof path) {
        fprintf(stderr, "render-samples: the folder's name is too long\n");
        return false;
    }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = format};
    if (!png_image_write_to_file(&image, path, 0, pixels, 0, NULL)) {
        fprintf(stderr, "render-samples: %s: %s\n", path, image.message);
        return false;
    }
    return true;
}

static void paint(const struct skin *skin, struct canvas *canvas, uint8_t *rgb, uint8_t *mask) {
    for (uint32_t y = 0; y < skin->height; ++y) {
        for (uint32_t x = 0; x < skin->width; ++x) {
            const size_t at = (size_t)y * skin->width + x;
            bool inside = false;
            canvas->pixels[at] = shade_pixel(skin, x, y, &inside);
            mask[at] = inside ? 255 : 0;
        }
    }
    canvas_draw_ruler(canvas, skin);
    canvas_draw_hairs(canvas, skin);
    canvas_draw_bubbles(canvas, skin);
    struct noise_stream random = {skin->seed};
    for (size_t i = 0; i < (size_t)skin->height * skin->width; ++i) {
        rgb[3 * i] = to_byte(canvas->pixels[i].r, &random);
        rgb[3 * i + 1] = to_byte(canvas->pixels[i].g, &random);
        rgb[3 * i + 2] = to_byte(canvas->pixels[i].b, &random);
    }
}

static bool render(const struct skin *skin, const char *folder) {
    const size_t count = (size_t)skin->height * skin->width;
    struct canvas canvas = {skin->height, skin->width, malloc(count * sizeof(struct colour)),
                            calloc(count, sizeof(float))};
    uint8_t *rgb = malloc(3 * count), *mask = malloc(count);
    bool done = canvas.pixels && canvas.cover && rgb && mask;
    if (done) {
        paint(skin, &canvas, rgb, mask);
        done = write_png(folder, "images", skin->name, PNG_FORMAT_RGB, rgb, skin->height, skin->width) &&
               write_png(folder, "masks", skin->name, PNG_FORMAT_GRAY, mask, skin->height, skin->width);
    } else {
        fprintf(stderr, "render-samples: out of memory\n");
    }
    free(canvas.pixels);
    free(canvas.cover);
    free(rgb);
    free(mask);
    return done;
}

static bool make_folders(const char *folder) {
    char path[4096];
    static const char *const below[] = {"", "/images", "/masks"};
    for (size_t i = 0; i < sizeof below / sizeof *below; ++i) {
        snprintf(path, sizeof path, "%s%s", folder, below[i]);
        if (make_folder(path) != 0 && errno != EEXIST) {
            fprintf(stderr, "render-samples: %s: %s\n", path, strerror(errno));
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv) {
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: render-samples DIR\n");
        return 2;
    }
    if (!make_folders(argv[1])) {
        return 1;
    }
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; ++i) {
        if (!render(&scenes[i], argv[1])) {
            return 1;
        }
    }
    return 0;
}
