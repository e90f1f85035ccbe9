// SPDX-License-Identifier: MIT
//
// Pictures: PNG and JPEG of every kind in, PNG out.
#ifndef HYMN_APP_IMAGE_H
#define HYMN_APP_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "cause.h"

enum { IMAGE_MAX_SIDE = 65535, IMAGE_MAX_PIXELS = 1 << 28 };

// pixels: [height, width, channels] u8, dense, top row first; from malloc, owned by the image. channels: 1 (grey) or
// 3 (RGB).
struct image {
    uint32_t width, height, channels;
    uint8_t *pixels;
};

// Decodes the bytes of a PNG or JPEG file; the content decides which it is. Alpha is dropped, not composited; palettes
// become RGB; 16 bits are scaled to 8; CMYK and YCCK become RGB; the EXIF orientation is applied. False: broken,
// truncated, too large or no such file; nothing is allocated then.
// Thread-safety: any thread.
bool image_decode(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause);

// Decodes a mask of class numbers: one channel of the values as stored (palette indices, grey of 1 to 8 bits not
// scaled). True colour is accepted where R = G = B everywhere. JPEG is refused: its values are not exact.
bool image_decode_labels(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause);

// Decodes a mask of one class: one channel of 0 and 1. Inside are the grey values from half of their range on, 128 of 8
// bits, or 1 where nothing is above 1: in PNG of grey that is judged of the values as stored, in what is scaled or
// coloured of the 8 bits that image_decode and image_to_grey make of it.
bool image_decode_mask(const uint8_t *data, size_t size, struct image *out_image, struct cause *cause);

// What pixels are decoded for. IMAGE_MASK: grey values in 8 bits of which 0 and 1 are as stored and no other becomes 1.
enum image_use { IMAGE_PICTURE, IMAGE_LABELS, IMAGE_MASK };

// Whoever reads a picture, where it has a say in it.
struct image_caller {
    // The size, before there is memory for the pixels and before the orientation is applied; false with a cause refuses
    // the picture. beside: bytes of each pixel that decoding takes beside the picture, as long as it lasts.
    bool (*admit)(void *user, uint32_t width, uint32_t height, uint32_t beside, struct cause *cause);
    bool (*go_on)(void *user); // of struct file_wait
    void *user;
};

// The three above for a file, or standard input for "-". caller: may be NULL.
bool image_read(const char *path, enum image_use use, const struct image_caller *caller, struct image *out_image,
                struct cause *cause);

// Zeroed pixels; false, with the cause, where a side or the product is beyond the limits, or memory is out.
bool image_allocate(struct image *out_image, uint32_t width, uint32_t height, uint32_t channels, struct cause *cause);
void image_free(struct image *image);

// In place: colour becomes grey by BT.601's luma; grey becomes RGB.
bool image_to_grey(struct image *image, struct cause *cause);
bool image_to_rgb(struct image *image, struct cause *cause);
// In place: turns the picture as the EXIF orientation 1..8 asks for; another number leaves it as it is.
bool image_orient(struct image *image, int orientation, struct cause *cause);

// Writes `path` whole or not at all. samples: [height, width, channels] u8, or u16 in host order for image_write_png16
// (one channel).
bool image_write_png(const char *path, const uint8_t *samples, uint32_t width, uint32_t height, uint32_t channels,
                     struct cause *cause);
bool image_write_png16(const char *path, const uint16_t *samples, uint32_t width, uint32_t height, struct cause *cause);

// Between image.c and the two decoders: whether the size is within the limits and the caller (or NULL) admits it;
// pixels before the orientation, which is 1 where the file gives none.
bool image_admit(const struct image_caller *caller, uint32_t width, uint32_t height, uint32_t beside,
                 struct cause *cause);
bool image_png_decode(const uint8_t *data, size_t size, enum image_use use, const struct image_caller *caller,
                      struct image *out_image, int *out_orientation, struct cause *cause);
bool image_jpeg_decode(const uint8_t *data, size_t size, const struct image_caller *caller, struct image *out_image,
                       int *out_orientation, struct cause *cause);

#endif
