// SPDX-License-Identifier: MIT
//
// libpng reports errors by longjmp. To keep every local variable's value defined, all state lives in a struct, and
// setjmp is called by functions that hold nothing else.
#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h> // Z_RLE; libpng needs it too

#include "exif.h"
#include "files.h"
#include "image.h"

// ----------------------------------------------------------------------------------------------------------- decoding

struct reader {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t size, offset;
    enum image_use use;
    const struct image_caller *caller;
    int depth; // of the samples as stored
    struct image *image;
    int orientation;
    struct cause *cause;
};

static void on_read_error(png_structp png, png_const_charp message) {
    struct reader *reader = png_get_error_ptr(png);
    if (reader->cause->text[0] == '\0') {
        cause_set(reader->cause, "broken PNG: %s", message);
    }
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message; // a picture that decodes is a picture
}

static void on_read(png_structp png, png_bytep bytes, size_t count) {
    struct reader *reader = png_get_io_ptr(png);
    if (count > reader->size - reader->offset) {
        cause_set(reader->cause, "truncated PNG: the file ends after %zu bytes", reader->size);
        png_error(png, "truncated");
    }
    memcpy(bytes, reader->data + reader->offset, count);
    reader->offset += count;
}

// A row of a grey mask, as stored but for one sample in a byte or two, to the upper 8 bits of each: 0 and 1 stay as
// they are, and what is above 1 stays above.
static void reduce_mask(png_structp png, png_row_infop row, png_bytep samples) {
    const struct reader *reader = png_get_user_transform_ptr(png);
    for (png_uint_32 x = 0; x < row->width; x++) {
        uint32_t value = samples[x];
        if (reader->depth == 16) {
            value = (uint32_t)samples[2 * x] << 8 | samples[2 * x + 1];
        }
        const uint32_t upper = reader->depth == 16 ? value >> 8 : value << (8 - reader->depth);
        samples[x] = (png_byte)(value <= 1 ? value : upper < 2 ? 2 : upper);
    }
}

// A row of class numbers of 16 bits to 8: those that there may be.
static void reduce_labels(png_structp png, png_row_infop row, png_bytep samples) {
    const struct reader *reader = png_get_user_transform_ptr(png);
    for (size_t i = 0; i < (size_t)row->width * row->channels; i++) {
        if (samples[2 * i] != 0) {
            cause_set(reader->cause, "holds %u; class numbers end at 255", samples[2 * i] << 8 | samples[2 * i + 1]);
            png_error(png, "labels");
        }
        samples[i] = samples[2 * i + 1];
    }
}

static void set_transforms(struct reader *reader) {
    const int colour = png_get_color_type(reader->png, reader->info);
    png_set_strip_alpha(reader->png);
    if (reader->use == IMAGE_LABELS) {
        png_set_packing(reader->png); // one value a byte, not scaled
        if (reader->depth == 16) {
            png_set_read_user_transform_fn(reader->png, reduce_labels);
            png_set_user_transform_info(reader->png, reader, 8, (colour & PNG_COLOR_MASK_COLOR) != 0 ? 3 : 1);
        }
        return;
    }
    if (reader->use == IMAGE_MASK && (colour & PNG_COLOR_MASK_COLOR) == 0) {
        png_set_packing(reader->png);
        png_set_read_user_transform_fn(reader->png, reduce_mask);
        png_set_user_transform_info(reader->png, reader, 8, 1);
        return;
    }
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(reader->png);
    } else if (reader->depth < 8) {
        png_set_expand_gray_1_2_4_to_8(reader->png);
    }
    if (reader->depth == 16) {
        png_set_scale_16(reader->png);
    }
}

static void find_orientation(struct reader *reader) {
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 size = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(reader->png, reader->info, &size, &exif) != 0 && exif != NULL) {
        reader->orientation = exif_orientation(exif, size);
    }
#endif
}

static void read_rows(struct reader *reader) {
    const int passes = png_set_interlace_handling(reader->png);
    png_read_update_info(reader->png, reader->info);
    const uint32_t width = png_get_image_width(reader->png, reader->info);
    const uint32_t height = png_get_image_height(reader->png, reader->info);
    const uint32_t channels = png_get_channels(reader->png, reader->info);
    const size_t row_bytes = png_get_rowbytes(reader->png, reader->info);
    if ((channels != 1 && channels != 3) || row_bytes != (size_t)width * channels) {
        png_error(reader->png, "unexpected sample layout");
    }
    const uint32_t beside = reader->orientation > 1 ? channels : 0; // turned
    if (!image_admit(reader->caller, width, height, beside, reader->cause) ||
        !image_allocate(reader->image, width, height, channels, reader->cause)) {
        png_error(reader->png, "image");
    }
    for (int pass = 0; pass < passes; pass++) {
        for (uint32_t y = 0; y < height; y++) {
            png_read_row(reader->png, reader->image->pixels + y * row_bytes, NULL);
        }
    }
}

static void decode_body(struct reader *reader) {
    png_set_user_limits(reader->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_chunk_cache_max(reader->png, 1); // keep none: the texts of a small file may inflate to gigabytes
    png_set_read_fn(reader->png, reader, on_read);
    png_read_info(reader->png, reader->info);
    reader->depth = png_get_bit_depth(reader->png, reader->info);
    set_transforms(reader);
    find_orientation(reader);
    read_rows(reader);
    png_read_end(reader->png, reader->info); // a missing end is a truncation; eXIf may stand behind the pixels, too
    find_orientation(reader);
}

static bool decode_guarded(struct reader *reader) {
    if (setjmp(png_jmpbuf(reader->png)) != 0) {
        return false;
    }
    decode_body(reader);
    return true;
}

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

// Says in pixels what libpng would call "Invalid IHDR data".
static bool size_is_legal(const uint8_t *data, size_t size, struct cause *cause) {
    if (size < 24 || memcmp(data + 12, "IHDR", 4) != 0) {
        return true; // libpng finds out what is wrong
    }
    const uint32_t width = big_endian(data + 16), height = big_endian(data + 20);
    if (width == 0 || height == 0 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE) {
        return cause_set(cause, "%u x %u pixels: each side must be from 1 to %d", width, height, IMAGE_MAX_SIDE);
    }
    return true;
}

bool image_png_decode(const uint8_t *data, size_t size, enum image_use use, const struct image_caller *caller,
                      struct image *out_image, int *out_orientation, struct cause *cause) {
    struct reader reader = {
        .data = data, .size = size, .use = use, .caller = caller, .image = out_image, .orientation = 1, .cause = cause};
    *out_image = (struct image){0};
    if (!size_is_legal(data, size, cause)) {
        return false;
    }
    cause->text[0] = '\0';
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_read_error, on_warning);
    reader.info = reader.png != NULL ? png_create_info_struct(reader.png) : NULL;
    const bool good = reader.info != NULL && decode_guarded(&reader);
    if (reader.info == NULL) {
        cause_set(cause, "out of memory");
    }
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    if (!good) {
        image_free(out_image);
    }
    *out_orientation = reader.orientation;
    return good;
}

// ----------------------------------------------------------------------------------------------------------- encoding

struct writer {
    png_structp png;
    png_infop info;
    struct output output;
    const uint8_t *samples;
    uint32_t width, height, channels;
    int depth;
    struct cause *cause;
};

static void on_write_error(png_structp png, png_const_charp message) {
    struct writer *writer = png_get_error_ptr(png);
    if (writer->cause->text[0] == '\0') {
        cause_set(writer->cause, "cannot be encoded as PNG: %s", message);
    }
    png_longjmp(png, 1);
}

static void on_write(png_structp png, png_bytep bytes, size_t count) {
    struct writer *writer = png_get_io_ptr(png);
    if (!output_write(&writer->output, bytes, count, writer->cause)) {
        png_error(png, "write");
    }
}

static void on_flush(png_structp png) {
    (void)png; // output_commit flushes
}

static void encode_body(struct writer *writer) {
    static const uint16_t one = 1;
    const size_t row_bytes = (size_t)writer->width * writer->channels * (size_t)(writer->depth / 8);
    png_set_write_fn(writer->png, writer, on_write, on_flush);
    // Runs alone, no other matches: for differences between rows a sixth of the default's time for a seventh more of
    // size, for masks a third of it for less.
    const bool mask = writer->channels == 1 && writer->depth == 8;
    png_set_compression_strategy(writer->png, Z_RLE);
    png_set_filter(writer->png, PNG_FILTER_TYPE_BASE, mask ? PNG_FILTER_NONE : PNG_FILTER_UP);
    png_set_IHDR(writer->png, writer->info, writer->width, writer->height, writer->depth,
                 writer->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(writer->png, writer->info);
    if (writer->depth == 16 && *(const uint8_t *)&one == 1) {
        png_set_swap(writer->png);
    }
    for (uint32_t y = 0; y < writer->height; y++) {
        png_write_row(writer->png, writer->samples + y * row_bytes);
    }
    png_write_end(writer->png, writer->info);
}

static bool encode_guarded(struct writer *writer) {
    if (setjmp(png_jmpbuf(writer->png)) != 0) {
        return false;
    }
    encode_body(writer);
    return true;
}

static bool encode(struct writer *writer, const char *path) {
    struct cause *cause = writer->cause;
    if (!output_open(&writer->output, path, cause)) {
        return false;
    }
    cause->text[0] = '\0';
    writer->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, writer, on_write_error, on_warning);
    writer->info = writer->png != NULL ? png_create_info_struct(writer->png) : NULL;
    const bool good = writer->info != NULL && encode_guarded(writer);
    if (writer->info == NULL) {
        cause_set(cause, "out of memory");
    }
    png_destroy_write_struct(&writer->png, &writer->info);
    if (!good) {
        output_discard(&writer->output);
        return false;
    }
    return output_commit(&writer->output, cause);
}

bool image_write_png(const char *path, const uint8_t *samples, uint32_t width, uint32_t height, uint32_t channels,
                     struct cause *cause) {
    struct writer writer = {
        .samples = samples, .width = width, .height = height, .channels = channels, .depth = 8, .cause = cause};
    return encode(&writer, path);
}

bool image_write_png16(const char *path, const uint16_t *samples, uint32_t width, uint32_t height,
                       struct cause *cause) {
    struct writer writer = {.samples = (const uint8_t *)samples,
                            .width = width,
                            .height = height,
                            .channels = 1,
                            .depth = 16,
                            .cause = cause};
    return encode(&writer, path);
}
