// SPDX-License-Identifier: MIT
//
// Pictures: every kind of PNG and JPEG is made here with libpng and libjpeg, decoded, and compared with what was put
// in; then cut off, bent and written.
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>
#include <png.h>

#include "exif.h"
#include "files.h"
#include "image.h"
#include "support/test_random.h"

// ------------------------------------------------------------------------------------------------------- making PNG
// files

struct bytes {
    uint8_t *data;
    size_t size;
};

static void append(struct bytes *file, const uint8_t *data, size_t size) {
    file->data = realloc(file->data, file->size + size);
    assert_non_null(file->data);
    memcpy(file->data + file->size, data, size);
    file->size += size;
}

static void on_write(png_structp png, png_bytep data, size_t size) {
    append(png_get_io_ptr(png), data, size);
}

static void on_flush(png_structp png) {
    (void)png;
}

struct png_kind {
    int colour, depth;
    bool interlaced, transparent;
    int orientation;          // 0: no eXIf chunk
    char *text;               // of a zTXt chunk; NULL: none
    const png_color *palette; // [palette_count]
    int palette_count;
};

// A TIFF structure with the orientation behind another entry.
static size_t make_tiff(uint8_t *tiff, int orientation, bool big) {
    const uint8_t little_tiff[] = {'I',
                                   'I',
                                   '*',
                                   0,
                                   8,
                                   0,
                                   0,
                                   0,
                                   2,
                                   0,
                                   0x0f,
                                   1,
                                   2,
                                   0,
                                   2,
                                   0,
                                   0,
                                   0,
                                   'A',
                                   0,
                                   0,
                                   0,
                                   0x12,
                                   1,
                                   3,
                                   0,
                                   1,
                                   0,
                                   0,
                                   0,
                                   (uint8_t)orientation,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0};
    const uint8_t big_tiff[] = {'M', 'M', 0,   '*', 0, 0, 0, 8,    0, 2, 1, 0x0f, 0, 2, 0, 0,
                                0,   2,   'A', 0,   0, 0, 1, 0x12, 0, 3, 0, 0,    0, 1, 0, (uint8_t)orientation,
                                0,   0,   0,   0,   0, 0};
    memcpy(tiff, big ? big_tiff : little_tiff, sizeof(big_tiff));
    return sizeof(big_tiff);
}

static void set_chunks(png_structp png, png_infop info, const struct png_kind *kind) {
    uint8_t alpha[256] = {0}, tiff[64];
    png_color_16 clear = {.index = 0, .red = 1, .green = 2, .blue = 3, .gray = 1};
    if (kind->palette != NULL) {
        png_set_PLTE(png, info, kind->palette, kind->palette_count);
    }
    if (kind->transparent) {
        png_set_tRNS(png, info, alpha, kind->palette != NULL ? kind->palette_count : 0, &clear);
    }
    if (kind->orientation > 0) {
        const size_t size = make_tiff(tiff, kind->orientation, kind->orientation % 2 == 0);
        png_set_eXIf_1(png, info, (png_uint_32)size, tiff);
    }
    if (kind->text != NULL) {
        char key[] = "Comment";
        const png_text text = {.compression = PNG_TEXT_COMPRESSION_zTXt, .key = key, .text = kind->text};
        png_set_text(png, info, &text, 1);
    }
}

// rows: packed as PNG wants them (16-bit samples big-endian), row_bytes apart.
static struct bytes make_png(const struct png_kind *kind, uint32_t width, uint32_t height, const uint8_t *rows,
                             size_t row_bytes) {
    struct bytes file = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &file, on_write, on_flush);
    png_set_IHDR(png, info, width, height, kind->depth, kind->colour,
                 kind->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    set_chunks(png, info, kind);
    png_write_info(png, info);
    const int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++) {
        for (uint32_t y = 0; y < height; y++) {
            png_write_row(png, rows + y * row_bytes);
        }
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return file;
}

// ------------------------------------------------------------------------------------------------------ making JPEG
// files

struct jpeg_kind {
    J_COLOR_SPACE from, to;
    bool progressive;
    int orientation; // 0: no EXIF
    bool no_adobe;
};

static struct bytes make_jpeg(const struct jpeg_kind *kind, uint32_t width, uint32_t height, uint32_t channels,
                              const uint8_t *pixels) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = width;
    jpeg.image_height = height;
    jpeg.input_components = (int)channels;
    jpeg.in_color_space = kind->from;
    jpeg_set_defaults(&jpeg);
    jpeg_set_colorspace(&jpeg, kind->to);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg.write_Adobe_marker = jpeg.write_Adobe_marker && !kind->no_adobe;
    for (int c = 0; c < jpeg.num_components; c++) {
        jpeg.comp_info[c].h_samp_factor = jpeg.comp_info[c].v_samp_factor = 1;
    }
    if (kind->progressive) {
        jpeg_simple_progression(&jpeg);
    }
    jpeg_start_compress(&jpeg, TRUE);
    if (kind->orientation > 0) {
        uint8_t marker[70] = "Exif\0";
        const size_t tiff = make_tiff(marker + 6, kind->orientation, kind->orientation % 2 == 0);
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, marker, (unsigned)(6 + tiff));
    }
    while (jpeg.next_scanline < height) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)jpeg.next_scanline * width * channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    struct bytes file = {malloc(size), size};
    assert_non_null(file.data);
    memcpy(file.data, data, size);
    free(data);
    return file;
}

// A smooth picture, which JPEG keeps to within a few units.
static void fill_smooth(uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels) {
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            for (uint32_t c = 0; c < channels; c++) {
                *pixels++ = (uint8_t)(40 + (c == 0 ? 4 * x : c == 1 ? 4 * y : c == 2 ? 2 * (x + y) : 60 + x));
            }
        }
    }
}

static void assert_near(const uint8_t *found, const uint8_t *expected, size_t count, int tolerance) {
    for (size_t i = 0; i < count; i++) {
        if (abs(found[i] - expected[i]) > tolerance) {
            fail_msg("sample %zu is %u, expected %u within %d", i, found[i], expected[i], tolerance);
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- PNG
// kinds

static uint32_t sample_at(const uint8_t *row, size_t index, int depth) {
    if (depth == 16) {
        return (uint32_t)row[2 * index] << 8 | row[2 * index + 1];
    }
    const size_t bit = index * (size_t)depth;
    return (uint32_t)(row[bit / 8] >> (8 - depth - (int)(bit % 8))) & ((1u << depth) - 1);
}

static uint8_t to_8_bits(uint32_t sample, int depth) {
    return (uint8_t)(depth == 16 ? (sample * 255 + 32895) >> 16 : sample * 255 / ((1u << depth) - 1));
}

static uint32_t channels_of(int colour) {
    return colour == PNG_COLOR_TYPE_RGB_ALPHA    ? 4
           : colour == PNG_COLOR_TYPE_RGB        ? 3
           : colour == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                 : 1;
}

static void check_png_pixels(const struct png_kind *kind, const struct image *image, const uint8_t *rows,
                             size_t row_bytes) {
    const uint32_t stored = channels_of(kind->colour);
    assert_int_equal(image->channels, kind->palette != NULL || stored > 2 ? 3 : 1);
    for (uint32_t y = 0; y < image->height; y++) {
        for (uint32_t x = 0; x < image->width; x++) {
            const uint8_t *found = image->pixels + ((size_t)y * image->width + x) * image->channels;
            for (uint32_t c = 0; c < image->channels; c++) {
                const uint32_t sample =
                    sample_at(rows + y * row_bytes, (size_t)x * stored + (stored > 2 ? c : 0), kind->depth);
                uint8_t expected = to_8_bits(sample, kind->depth);
                if (kind->palette != NULL) {
                    const png_color colour = kind->palette[sample];
                    expected = c == 0 ? colour.red : c == 1 ? colour.green : colour.blue;
                }
                assert_int_equal(found[c], expected);
            }
        }
    }
}

static void check_png(const struct png_kind *kind, struct test_random *random) {
    const uint32_t width = test_random_range(random, 1, 40), height = test_random_range(random, 1, 40);
    const size_t row_bytes = (width * channels_of(kind->colour) * (size_t)kind->depth + 7) / 8;
    uint8_t *rows = malloc(row_bytes * height);
    assert_non_null(rows);
    for (size_t i = 0; i < row_bytes * height; i++) {
        rows[i] = (uint8_t)test_random_u64(random);
    }
    struct bytes file = make_png(kind, width, height, rows, row_bytes);
    struct image image;
    struct cause cause;
    if (!image_decode(file.data, file.size, &image, &cause)) {
        fail_msg("colour %d depth %d: %s", kind->colour, kind->depth, cause.text);
    }
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    check_png_pixels(kind, &image, rows, row_bytes);
    image_free(&image);
    free(file.data);
    free(rows);
}

static void png_kinds(void **state) {
    static const struct {
        int colour, depths[5];
    } kinds[] = {{PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}},
                 {PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}},
                 {PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}},
                 {PNG_COLOR_TYPE_RGB, {8, 16}},
                 {PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}}};
    struct test_random random = test_random_start("png_kinds");
    png_color palette[256];
    (void)state;
    for (int i = 0; i < 256; i++) {
        palette[i] = (png_color){(png_byte)(i * 7), (png_byte)(255 - i), (png_byte)(i ^ 0x55)};
    }
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (int d = 0; d < 5 && kinds[k].depths[d] != 0; d++) {
            for (int variant = 0; variant < 4; variant++) {
                const bool indexed = kinds[k].colour == PNG_COLOR_TYPE_PALETTE;
                const bool alpha = (kinds[k].colour & PNG_COLOR_MASK_ALPHA) != 0;
                const struct png_kind kind = {.colour = kinds[k].colour,
                                              .depth = kinds[k].depths[d],
                                              .interlaced = variant % 2 == 1,
                                              .transparent = variant >= 2 && !alpha,
                                              .palette = indexed ? palette : NULL,
                                              .palette_count = indexed ? 1 << kinds[k].depths[d] : 0};
                check_png(&kind, &random);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ JPEG
// kinds

enum { JPEG_WIDTH = 37, JPEG_HEIGHT = 29, JPEG_PIXELS = JPEG_WIDTH * JPEG_HEIGHT };

static struct image decode_good(struct bytes file) {
    struct image image;
    struct cause cause;
    if (!image_decode(file.data, file.size, &image, &cause)) {
        fail_msg("not decoded: %s", cause.text);
    }
    free(file.data);
    return image;
}

static void jpeg_grey_and_colour(void **state) {
    uint8_t pixels[JPEG_PIXELS * 3];
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        for (uint32_t channels = 1; channels <= 3; channels += 2) {
            const struct jpeg_kind kind = {.from = channels == 1 ? JCS_GRAYSCALE : JCS_RGB,
                                           .to = channels == 1 ? JCS_GRAYSCALE : JCS_YCbCr,
                                           .progressive = progressive == 1};
            fill_smooth(pixels, JPEG_WIDTH, JPEG_HEIGHT, channels);
            struct image image = decode_good(make_jpeg(&kind, JPEG_WIDTH, JPEG_HEIGHT, channels, pixels));
            assert_int_equal(image.width, JPEG_WIDTH);
            assert_int_equal(image.height, JPEG_HEIGHT);
            assert_int_equal(image.channels, channels);
            assert_near(image.pixels, pixels, (size_t)JPEG_PIXELS * channels, 4);
            image_free(&image);
        }
    }
}

static void jpeg_four_channels(void **state) {
    static const struct jpeg_kind kinds[] = {{.from = JCS_CMYK, .to = JCS_CMYK},
                                             {.from = JCS_CMYK, .to = JCS_YCCK},
                                             {.from = JCS_CMYK, .to = JCS_YCCK, .progressive = true},
                                             {.from = JCS_CMYK, .to = JCS_CMYK, .no_adobe = true}};
    uint8_t cmyk[JPEG_PIXELS * 4], rgb[JPEG_PIXELS * 3];
    (void)state;
    fill_smooth(cmyk, JPEG_WIDTH, JPEG_HEIGHT, 4);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (size_t i = 0; i < JPEG_PIXELS; i++) { // Adobe's convention is the inverted one
            for (size_t c = 0; c < 3; c++) {
                const double ink = cmyk[4 * i + c] / 255.0, black = cmyk[4 * i + 3] / 255.0;
                rgb[3 * i + c] = (uint8_t)((kinds[k].no_adobe ? (1 - ink) * (1 - black) : ink * black) * 255 + 0.5);
            }
        }
        struct image image = decode_good(make_jpeg(&kinds[k], JPEG_WIDTH, JPEG_HEIGHT, 4, cmyk));
        assert_int_equal(image.channels, 3);
        assert_near(image.pixels, rgb, sizeof(rgb), 5);
        image_free(&image);
    }
}

// -----------------------------------------------------------------------------------------------------------
// orientation

// What a viewer shows for the stored rows "ab", "cd", "ef".
static const struct {
    uint32_t width, height;
    const char *shown;
} turned[9] = {{2, 3, "abcdef"}, {2, 3, "abcdef"}, {2, 3, "badcfe"}, {2, 3, "fedcba"}, {2, 3, "efcdab"},
               {3, 2, "acebdf"}, {3, 2, "ecafdb"}, {3, 2, "fdbeca"}, {3, 2, "bdface"}};

static void png_orientation(void **state) {
    (void)state;
    for (int orientation = 0; orientation <= 8; orientation++) {
        const struct png_kind kind = {.colour = PNG_COLOR_TYPE_GRAY, .depth = 8, .orientation = orientation};
        struct image image = decode_good(make_png(&kind, 2, 3, (const uint8_t *)"abcdef", 2));
        assert_int_equal(image.width, turned[orientation].width);
        assert_int_equal(image.height, turned[orientation].height);
        assert_memory_equal(image.pixels, turned[orientation].shown, 6);
        image_free(&image);
    }
}

// The most memory that this process has had, in MiB.
static long most_memory(void) {
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
#ifdef __APPLE__
    return usage.ru_maxrss >> 20;
#else
    return usage.ru_maxrss >> 10;
#endif
}

// A few kilobytes of compressed text become megabytes each; nobody reads them.
static void png_with_much_text(void **state) {
    enum { TEXTS = 200, MOST_MIB = 100 };
    static char text[(6 << 20) + 1];
    const struct png_kind kind = {.colour = PNG_COLOR_TYPE_GRAY, .depth = 8, .orientation = 6, .text = text};
    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    struct bytes one = make_png(&kind, 2, 3, (const uint8_t *)"abcdef", 2), many = {0};
    size_t at = 8; // of the chunks' lengths
    while (memcmp(one.data + at + 4, "zTXt", 4) != 0) {
        at += 12 + png_get_uint_32(one.data + at);
    }
    const size_t length = 12 + png_get_uint_32(one.data + at);
    append(&many, one.data, at);
    for (int i = 0; i < TEXTS; i++) {
        append(&many, one.data + at, length);
    }
    append(&many, one.data + at, one.size - at);
    free(one.data);
    const long before = most_memory();
    struct image image = decode_good(many);
    assert_in_range(most_memory() - before, 0, MOST_MIB);
    assert_int_equal(image.width, 3);
    assert_memory_equal(image.pixels, turned[6].shown, 6);
    image_free(&image);
}

static void jpeg_orientation(void **state) {
    enum { BLOCK = 8 };
    uint8_t pixels[2 * BLOCK * 3 * BLOCK * 3];
    (void)state;
    for (uint32_t y = 0; y < 3 * BLOCK; y++) {
        for (uint32_t x = 0; x < 2 * BLOCK; x++) {
            const uint8_t level = (uint8_t)(20 + 40 * (y / BLOCK * 2 + x / BLOCK));
            memset(pixels + 3 * (y * 2 * BLOCK + x), level, 3);
        }
    }
    for (int orientation = 0; orientation <= 8; orientation++) {
        const struct jpeg_kind kind = {.from = JCS_RGB, .to = JCS_YCbCr, .orientation = orientation};
        struct image image = decode_good(make_jpeg(&kind, 2 * BLOCK, 3 * BLOCK, 3, pixels));
        assert_int_equal(image.width, turned[orientation].width * BLOCK);
        assert_int_equal(image.height, turned[orientation].height * BLOCK);
        for (uint32_t i = 0; i < 6; i++) {
            const uint32_t x = i % turned[orientation].width, y = i / turned[orientation].width;
            const uint8_t found = image.pixels[3 * ((y * BLOCK + 3) * image.width + x * BLOCK + 3)];
            assert_true(abs(found - (20 + 40 * (turned[orientation].shown[i] - 'a'))) <= 3);
        }
        image_free(&image);
    }
}

static bool note_beside(void *user, uint32_t width, uint32_t height, uint32_t beside, struct cause *cause) {
    uint32_t *note = user;
    *note = beside;
    return width == height && cause != NULL;
}

// By libjpeg for the coefficients of several scans, and here for the turned picture.
static void decoders_tell_what_they_take(void **state) {
    static const uint8_t pixels[8 * 8 * 4];
    static const struct {
        struct jpeg_kind kind;
        uint32_t channels, beside;
    } jpegs[] = {
        {{.from = JCS_RGB, .to = JCS_YCbCr, .orientation = 1}, 3, 0},
        {{.from = JCS_RGB, .to = JCS_YCbCr, .orientation = 3}, 3, 3},
        {{.from = JCS_RGB, .to = JCS_YCbCr, .progressive = true, .orientation = 3}, 3, 6},
        {{.from = JCS_GRAYSCALE, .to = JCS_GRAYSCALE, .orientation = 8}, 1, 1},
        {{.from = JCS_CMYK, .to = JCS_CMYK, .progressive = true}, 4, 8},
    };
    uint32_t note;
    int orientation;
    const struct image_caller caller = {.admit = note_beside, .user = &note};
    struct image image;
    struct cause cause;
    (void)state;
    for (size_t k = 0; k < sizeof(jpegs) / sizeof(jpegs[0]); k++) {
        struct bytes file = make_jpeg(&jpegs[k].kind, 8, 8, jpegs[k].channels, pixels);
        assert_true(image_jpeg_decode(file.data, file.size, &caller, &image, &orientation, &cause));
        assert_int_equal(note, jpegs[k].beside);
        image_free(&image);
        free(file.data);
    }
    for (int turn = 0; turn <= 8; turn++) {
        const struct png_kind kind = {.colour = PNG_COLOR_TYPE_RGB, .depth = 8, .orientation = turn};
        struct bytes file = make_png(&kind, 8, 8, pixels, 3 * 8);
        assert_true(image_png_decode(file.data, file.size, IMAGE_PICTURE, &caller, &image, &orientation, &cause));
        assert_int_equal(note, turn > 1 ? 3 : 0);
        image_free(&image);
        free(file.data);
    }
}

static void exif_is_hostile(void **state) {
    struct test_random random = test_random_start("exif_is_hostile");
    uint8_t tiff[64];
    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t size = make_tiff(tiff, 6, round % 2 == 0);
        assert_int_equal(exif_orientation(tiff, size), 6);
        size = test_random_range(&random, 0, (uint32_t)size);
        uint8_t *copy = malloc(size + (size == 0)); // its exact size, so that a sanitizer sees a read behind it
        assert_non_null(copy);
        memcpy(copy, tiff, size);
        for (uint32_t flips = test_random_range(&random, 0, 4); size > 0 && flips > 0; flips--) {
            copy[test_random_range(&random, 0, (uint32_t)size - 1)] = (uint8_t)test_random_u64(&random);
        }
        assert_true(exif_orientation(copy, size) >= 1 && exif_orientation(copy, size) <= 8);
        free(copy);
    }
}

// ---------------------------------------------------------------------------------------------------------- broken
// files

static bool decodes(const uint8_t *data, size_t size, struct cause *cause) {
    uint8_t *copy = malloc(size + (size == 0));
    struct image image;
    assert_non_null(copy);
    memcpy(copy, data, size);
    const bool good = image_decode(copy, size, &image, cause);
    assert_true(good == (image.pixels != NULL));
    if (!good) {
        assert_int_not_equal(cause->text[0], '\0');
    }
    image_free(&image);
    free(copy);
    return good;
}

// Every beginning of the file is refused; a file with changed bytes may be anything but a crash.
static void check_broken(struct bytes file, struct test_random *random) {
    struct cause cause;
    assert_true(decodes(file.data, file.size, &cause));
    for (size_t size = 0; size < file.size; size++) {
        if (decodes(file.data, size, &cause)) {
            fail_msg("the first %zu of %zu bytes were accepted", size, file.size);
        }
    }
    for (int round = 0; round < 300; round++) {
        uint8_t *bent = malloc(file.size);
        assert_non_null(bent);
        memcpy(bent, file.data, file.size);
        for (uint32_t flips = test_random_range(random, 1, 5); flips > 0; flips--) {
            bent[test_random_range(random, 2, (uint32_t)file.size - 1)] = (uint8_t)test_random_u64(random);
        }
        decodes(bent, file.size, &cause);
        free(bent);
    }
    free(file.data);
}

static void broken_png(void **state) {
    struct test_random random = test_random_start("broken_png");
    uint8_t rows[32 * 3 * 24];
    (void)state;
    fill_smooth(rows, 32, 24, 3);
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        const struct png_kind kind = {
            .colour = PNG_COLOR_TYPE_RGB, .depth = 8, .interlaced = interlaced == 1, .orientation = 6};
        check_broken(make_png(&kind, 32, 24, rows, 96), &random);
    }
}

static void broken_jpeg(void **state) {
    struct test_random random = test_random_start("broken_jpeg");
    uint8_t pixels[32 * 24 * 4];
    (void)state;
    fill_smooth(pixels, 32, 24, 4);
    const struct jpeg_kind kinds[] = {{.from = JCS_RGB, .to = JCS_YCbCr, .orientation = 5},
                                      {.from = JCS_RGB, .to = JCS_YCbCr, .progressive = true},
                                      {.from = JCS_CMYK, .to = JCS_YCCK}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        check_broken(make_jpeg(&kinds[k], 32, 24, kinds[k].from == JCS_CMYK ? 4 : 3, pixels), &random);
    }
}

static void assert_refused(const void *data, size_t size, const char *text) {
    struct cause cause;
    assert_false(decodes(data, size, &cause));
    if (strstr(cause.text, text) == NULL) {
        fail_msg("'%s' does not hold '%s'", cause.text, text);
    }
}

static void refused_with_a_reason(void **state) {
    // Signature and IHDR; libpng would check the CRC later than the size.
    uint8_t png[33] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    (void)state;
    png[24] = 8;
    assert_refused(png, sizeof(png), "0 x 0 pixels");
    png[17] = 1;
    png[23] = 1;
    assert_refused(png, sizeof(png), "65536 x 1 pixels");
    assert_refused("GIF89a..........", 16, "GIF");
    assert_refused("BM..............", 16, "BMP");
    assert_refused("hello", 5, "neither a PNG nor a JPEG");
    assert_refused("", 0, "empty file");
    assert_refused("\xff\xd8\xff", 3, "JPEG");
    struct image image;
    struct cause cause;
    assert_false(image_allocate(&image, 65535, 65535, 3, &cause));
    assert_non_null(strstr(cause.text, "more than the limit"));
    assert_false(image_read("no/such/file.png", IMAGE_PICTURE, NULL, &image, &cause));
    assert_non_null(strstr(cause.text, "No such file"));
    assert_false(image_read(".", IMAGE_PICTURE, NULL, &image, &cause));
    assert_non_null(strstr(cause.text, "folder"));
}

// -----------------------------------------------------------------------------------------------------------------
// masks of class numbers

static void labels(void **state) {
    const png_color palette[4] = {{9, 9, 9}, {8, 0, 0}, {0, 8, 0}, {0, 0, 8}};
    const struct png_kind indexed = {
        .colour = PNG_COLOR_TYPE_PALETTE, .depth = 2, .palette = palette, .palette_count = 4};
    const struct png_kind grey = {.colour = PNG_COLOR_TYPE_GRAY, .depth = 2};
    const struct png_kind deep = {.colour = PNG_COLOR_TYPE_GRAY, .depth = 16, .interlaced = true};
    const struct png_kind veiled = {.colour = PNG_COLOR_TYPE_GRAY_ALPHA, .depth = 16};
    const struct png_kind rgb = {.colour = PNG_COLOR_TYPE_RGB, .depth = 8};
    const struct png_kind deep_rgb = {.colour = PNG_COLOR_TYPE_RGB, .depth = 16};
    const struct {
        const struct png_kind *kind;
        uint32_t width, row_bytes;
        const char *row, *expected, *refused;
    } cases[] = {
        {&indexed, 4, 1, "\x1b", "\0\1\2\3", NULL},        {&grey, 4, 1, "\x1b", "\0\1\2\3", NULL},
        {&deep, 3, 6, "\0\1\0\0\0\xff", "\1\0\xff", NULL}, {&deep, 2, 4, "\0\1\1\2", NULL, "holds 258"},
        {&veiled, 2, 8, "\0\3\7\7\0\5\0\0", "\3\5", NULL}, {&rgb, 2, 6, "\5\5\5\7\7\7", "\5\7", NULL},
        {&rgb, 2, 6, "\5\5\5\7\7\1", NULL, "colour"},      {&deep_rgb, 2, 12, "\0\5\0\5\0\5\0\7\0\7\0\7", "\5\7", NULL},
        {&deep_rgb, 1, 6, "\0\5\0\5\0\6", NULL, "colour"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes file =
            make_png(cases[i].kind, cases[i].width, 1, (const uint8_t *)cases[i].row, cases[i].row_bytes);
        struct image image;
        struct cause cause;
        assert_int_equal(image_decode_labels(file.data, file.size, &image, &cause), cases[i].refused == NULL);
        assert_true(cases[i].refused == NULL ? image.channels == 1 : strstr(cause.text, cases[i].refused) != NULL);
        if (cases[i].refused == NULL) {
            assert_memory_equal(image.pixels, cases[i].expected, cases[i].width);
        }
        image_free(&image);
        free(file.data);
    }
}

// ------------------------------------------------------------------------------------------------------------------
// masks

static void expect_mask(const struct png_kind *kind, uint32_t width, uint32_t height, const uint8_t *rows,
                        size_t row_bytes, const void *expected) {
    struct bytes file = make_png(kind, width, height, rows, row_bytes);
    struct image image;
    struct cause cause;
    assert_true(image_decode_mask(file.data, file.size, &image, &cause));
    assert_true(image.width == width && image.height == height && image.channels == 1);
    assert_memory_equal(image.pixels, expected, (size_t)width * height);
    image_free(&image);
    free(file.data);
}

// Of numbers up to `most`.
static void check_mask(const struct png_kind *kind, uint32_t most, struct test_random *random) {
    enum { WIDTH = 21, HEIGHT = 13 };
    const uint32_t stored = channels_of(kind->colour), half = 1u << (kind->depth - 1);
    const size_t row_bytes = (WIDTH * stored * (size_t)kind->depth + 7) / 8;
    uint8_t rows[WIDTH * HEIGHT * 4] = {0}, expected[WIDTH * HEIGHT];
    for (size_t y = 0; y < HEIGHT; y++) {
        for (size_t x = 0; x < WIDTH; x++) {
            const uint32_t value = y + x == 0 ? most : test_random_range(random, 0, most);
            const size_t bit = x * stored * (size_t)kind->depth;
            uint8_t *sample = rows + y * row_bytes + bit / 8;
            if (kind->depth == 16) {
                sample[0] = (uint8_t)(value >> 8);
                sample[1] = (uint8_t)value;
            } else {
                sample[0] |= (uint8_t)(value << (8 - kind->depth - (int)(bit % 8)));
            }
            expected[y * WIDTH + x] = most <= 1 ? value == 1 : value >= half;
        }
    }
    expect_mask(kind, WIDTH, HEIGHT, rows, row_bytes, expected);
}

static void masks(void **state) {
    static const int depths[] = {1, 2, 4, 8, 16};
    struct test_random random = test_random_start("masks");
    (void)state;
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
        for (int variant = 0; variant < 4; variant++) {
            const struct png_kind kind = {.colour = variant >= 2 && depths[d] >= 8 ? PNG_COLOR_TYPE_GRAY_ALPHA
                                                                                   : PNG_COLOR_TYPE_GRAY,
                                          .depth = depths[d],
                                          .interlaced = variant % 2 == 1};
            const uint32_t range = (1u << depths[d]) - 1;
            check_mask(&kind, 0, &random);
            check_mask(&kind, 1, &random);
            check_mask(&kind, range < 2 ? range : 2, &random);
            check_mask(&kind, range < 300 ? range : 300, &random); // of 16 bits the upper ones are 0 and 1
            check_mask(&kind, range, &random);
        }
    }
}

static void masks_of_colour(void **state) {
    const png_color palette[4] = {{0, 0, 0}, {1, 1, 1}, {127, 127, 127}, {128, 128, 128}};
    const struct png_kind indexed = {
        .colour = PNG_COLOR_TYPE_PALETTE, .depth = 2, .palette = palette, .palette_count = 4};
    const struct png_kind rgb = {.colour = PNG_COLOR_TYPE_RGB, .depth = 8, .orientation = 3};
    (void)state;
    expect_mask(&indexed, 4, 1, (const uint8_t *)"\x1b", 1, "\0\0\0\1");
    expect_mask(&indexed, 4, 1, (const uint8_t *)"\x14", 1, "\0\1\1\0");
    expect_mask(&rgb, 2, 1, (const uint8_t *)"\xff\xff\xff\1\1\1", 6, "\0\1"); // turned
}

// ----------------------------------------------------------------------------------------------------------------
// writing

static void written_and_read(void **state) {
    struct test_random random = test_random_start("written_and_read");
    char folder[] = "/tmp/hymn-image-XXXXXX", path[64];
    uint8_t pixels[17 * 11 * 3];
    uint16_t deep[17 * 11];
    struct image image;
    struct cause cause;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/picture.jpg", folder); // the content decides, not the name
    for (uint32_t channels = 1; channels <= 3; channels += 2) {
        for (size_t i = 0; i < sizeof(pixels); i++) {
            pixels[i] = (uint8_t)test_random_u64(&random);
        }
        assert_true(image_write_png(path, pixels, 17, 11, channels, &cause));
        assert_true(image_read(path, IMAGE_PICTURE, NULL, &image, &cause));
        assert_int_equal(image.channels, channels);
        assert_memory_equal(image.pixels, pixels, (size_t)17 * 11 * channels);
        image_free(&image);
    }
    for (size_t i = 0; i < 17 * 11; i++) {
        deep[i] = (uint16_t)(i * 257);
    }
    assert_true(image_write_png16(path, deep, 17, 11, &cause));
    assert_true(image_read(path, IMAGE_PICTURE, NULL, &image, &cause));
    for (size_t i = 0; i < 17 * 11; i++) {
        assert_int_equal(image.pixels[i], i);
    }
    image_free(&image);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(folder), 0); // nothing else is left there
}

static void not_written(void **state) {
    char folder[] = "/tmp/hymn-image-XXXXXX";
    uint8_t *pixels = malloc((size_t)1 << 20);
    struct cause cause;
    (void)state;
    assert_non_null(pixels);
    memset(pixels, 7, (size_t)1 << 20);
    assert_false(image_write_png("/no/such/folder/x.png", pixels, 1024, 1024, 1, &cause));
    assert_non_null(strstr(cause.text, "No such file"));
    assert_non_null(mkdtemp(folder));
    assert_false(image_write_png(folder, pixels, 1024, 1024, 1, &cause));
    assert_non_null(strstr(cause.text, "folder"));
    assert_int_equal(rmdir(folder), 0);
    if (access("/dev/full", W_OK) == 0) {
        assert_false(image_write_png("/dev/full", pixels, 1024, 1024, 1, &cause));
        assert_non_null(strstr(cause.text, "No space left"));
        assert_true(cause_no_space(&cause));
        assert_int_equal(access("/dev/full", W_OK), 0);
    }
    free(pixels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_kinds),
        cmocka_unit_test(jpeg_grey_and_colour),
        cmocka_unit_test(jpeg_four_channels),
        cmocka_unit_test(png_orientation),
        cmocka_unit_test(png_with_much_text),
        cmocka_unit_test(jpeg_orientation),
        cmocka_unit_test(decoders_tell_what_they_take),
        cmocka_unit_test(exif_is_hostile),
        cmocka_unit_test(broken_png),
        cmocka_unit_test(broken_jpeg),
        cmocka_unit_test(refused_with_a_reason),
        cmocka_unit_test(labels),
        cmocka_unit_test(masks),
        cmocka_unit_test(masks_of_colour),
        cmocka_unit_test(written_and_read),
        cmocka_unit_test(not_written),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
