// SPDX-License-Identifier: MIT
#include "image.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"

static const size_t file_limit = (size_t)1 << 30;

static bool check_size(uint32_t width, uint32_t height, struct cause *cause) {
    if (width == 0 || height == 0 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE) {
        return cause_set(cause, "%u x %u pixels: each side must be from 1 to %d", width, height, IMAGE_MAX_SIDE);
    }
    if ((uint64_t)width * height > IMAGE_MAX_PIXELS) {
        return cause_set(cause, "%u x %u pixels: more than the limit of %d", width, height, IMAGE_MAX_PIXELS);
    }
    return true;
}

bool image_admit(const struct image_caller *caller, uint32_t width, uint32_t height, uint32_t beside,
                 struct cause *cause) {
    return check_size(width, height, cause) &&
           (caller == NULL || caller->admit(caller->user, width, height, beside, cause));
}

bool image_allocate(struct image *out_image, uint32_t width, uint32_t height, uint32_t channels, struct cause *cause) {
    *out_image = (struct image){0};
    if (!check_size(width, height, cause)) {
        return false;
    }
    out_image->pixels = calloc((size_t)width * height, channels);
    if (out_image->pixels == NULL) {
        return cause_set(cause, "out of memory for %u x %u pixels", width, height);
    }
    out_image->width = width;
    out_image->height = height;
    out_image->channels = channels;
    return true;
}

void image_free(struct image *image) {
    free(image->pixels);
    *image = (struct image){0};
}

bool image_to_grey(struct image *image, struct cause *cause) {
    (void)cause;
    if (image->channels == 1) {
        return true;
    }
    const size_t count = (size_t)image->width * image->height;
    uint8_t *pixels = image->pixels; // a grey pixel is written behind the colour pixel that is read
    for (size_t i = 0; i < count; i++) {
        const uint8_t *rgb = pixels + 3 * i;
        pixels[i] = (uint8_t)((299u * rgb[0] + 587u * rgb[1] + 114u * rgb[2] + 500u) / 1000u);
    }
    image->channels = 1;
    return true;
}

bool image_to_rgb(struct image *image, struct cause *cause) {
    struct image wide;
    if (image->channels == 3) {
        return true;
    }
    if (!image_allocate(&wide, image->width, image->height, 3, cause)) {
        return false;
    }
    const size_t count = (size_t)image->width * image->height;
    for (size_t i = 0; i < count; i++) {
        memset(wide.pixels + 3 * i, image->pixels[i], 3);
    }
    image_free(image);
    *image = wide;
    return true;
}

// Where the pixel (x, y) of the turned picture lies in a stored one of w x h.
static size_t source_of(int orientation, uint32_t x, uint32_t y, uint32_t w, uint32_t h) {
    const size_t right = w - 1, bottom = h - 1, width = w;
    switch (orientation) {
    case 2:
        return y * width + (right - x);
    case 3:
        return (bottom - y) * width + (right - x);
    case 4:
        return (bottom - y) * width + x;
    case 5:
        return x * width + y;
    case 6:
        return (bottom - x) * width + y;
    case 7:
        return (bottom - x) * width + (right - y);
    case 8:
        return x * width + (right - y);
    default:
        return y * width + x;
    }
}

bool image_orient(struct image *image, int orientation, struct cause *cause) {
    if (orientation < 2 || orientation > 8) {
        return true;
    }
    const uint32_t w = image->width, h = image->height, channels = image->channels;
    const bool swapped = orientation >= 5;
    struct image turned;
    if (!image_allocate(&turned, swapped ? h : w, swapped ? w : h, channels, cause)) {
        return false;
    }
    uint8_t *target = turned.pixels;
    for (uint32_t y = 0; y < turned.height; y++) {
        for (uint32_t x = 0; x < turned.width; x++, target += channels) {
            const uint8_t *source = image->pixels + source_of(orientation, x, y, w, h) * channels;
            target[0] = source[0];
            if (channels == 3) {
                target[1] = source[1];
                target[2] = source[2];
            }
        }
    }
    image_free(image);
    *image = turned;
    return true;
}

static bool is_png(const uint8_t *data, size_t size) {
    return size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static bool is_jpeg(const uint8_t *data, size_t size) {
    return size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0;
}

static bool complain_unknown(const uint8_t *data, size_t size, struct cause *cause) {
    static const struct {
        const char *magic, *name;
        size_t length;
    } others[] = {{"GIF8", "GIF", 4},          {"BM", "BMP", 2},   {"II*", "TIFF", 3},       {"MM\0*", "TIFF", 4},
                  {"RIFF", "RIFF (WebP?)", 4}, {"%PDF", "PDF", 4}, {"\x93NUMPY", "NumPy", 6}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (size >= others[i].length && memcmp(data, others[i].magic, others[i].length) == 0) {
            return cause_set(cause, "is neither a PNG nor a JPEG file, but %s", others[i].name);
        }
    }
    return cause_set(cause, size == 0 ? "empty file" : "is neither a PNG nor a JPEG file");
}

// Leaves one of three equal channels.
static bool flatten_labels(struct image *image, struct cause *cause) {
    const size_t count = (size_t)image->width * image->height;
    if (image->channels == 1) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *rgb = image->pixels + 3 * i;
        if (rgb[0] != rgb[1] || rgb[0] != rgb[2]) {
            return cause_set(cause, "is a colour picture, not a mask of class numbers");
        }
        image->pixels[i] = rgb[0];
    }
    image->channels = 1;
    return true;
}

// Leaves 0 and 1. Files hold these, or 0 and 255 with a little noise from editing.
static bool cut_mask(struct image *image, struct cause *cause) {
    const size_t count = (size_t)image->width * image->height;
    uint8_t most = 0;
    if (!image_to_grey(image, cause)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        most = image->pixels[i] > most ? image->pixels[i] : most;
    }
    for (size_t i = 0; i < count; i++) {
        image->pixels[i] = most <= 1 ? image->pixels[i] : image->pixels[i] >= 128;
    }
    return true;
}

static bool decode(const uint8_t *data, size_t size, enum image_use use, const struct image_caller *caller,
                   struct image *out_image, struct cause *cause) {
    int orientation = 1;
    *out_image = (struct image){0};
    bool good = false;
    if (is_png(data, size)) {
        good = image_png_decode(data, size, use, caller, out_image, &orientation, cause);
    } else if (!is_jpeg(data, size)) {
        complain_unknown(data, size, cause);
    } else if (use == IMAGE_LABELS) {
        cause_set(cause, "is a JPEG file, which cannot hold exact class numbers: use PNG");
    } else {
        good = image_jpeg_decode(data, size, caller, out_image, &orientation, cause);
    }
    good = good && (use != IMAGE_LABELS || flatten_labels(out_image, cause)) &&
           (use != IMAGE_MASK || cut_mask(out_image, cause)) && image_orient(out_image, orientation, cause);
    if (!good) {
        image_free(out_image);
    }
    return good;
}

bool image_decode(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause) {
    return decode(data, size, IMAGE_PICTURE, NULL, out_image, cause);
}

bool image_decode_labels(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause) {
    return decode(data, size, IMAGE_LABELS, NULL, out_image, cause);
}

bool image_decode_mask(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause) {
    return decode(data, size, IMAGE_MASK, NULL, out_image, cause);
}

bool image_read(const char *path, enum image_use use, const struct image_caller *caller, struct image *out_image,
                struct cause *cause) {
    uint8_t *data = NULL;
    size_t size = 0;
    *out_image = (struct image){0};
    const struct file_wait wait = {caller != NULL ? caller->go_on : NULL, caller != NULL ? caller->user : NULL};
    const bool good = file_read(path, file_limit, wait.go_on != NULL ? &wait : NULL, &data, &size, cause) &&
                      decode(data, size, use, caller, out_image, cause);
    free(data);
    return good;
}
