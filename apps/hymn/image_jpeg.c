// SPDX-License-Identifier: MIT
//
// libjpeg reports errors by a callback that must not return. As with libpng, all state lives in a struct and setjmp is
// called by a function that holds nothing else.
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "exif.h"
#include "image.h"

// A progressive file of a few hundred kilobytes can ask for thousands of passes over a huge picture; real ones have
// ten.
enum { MAX_SCANS = 500 };

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const struct image_caller *caller;
    struct image *image;
    int orientation;
    struct cause *cause;
};

static void on_error(j_common_ptr jpeg) {
    struct reader *reader = jpeg->client_data;
    if (reader->cause->text[0] == '\0') {
        char message[JMSG_LENGTH_MAX];
        jpeg->err->format_message(jpeg, message);
        cause_set(reader->cause, "broken JPEG: %s", message);
    }
    longjmp(reader->jump, 1);
}

// libjpeg goes on after these, with grey or smeared pixels; for a measurement that is an error.
static bool is_damage(int code) {
    return code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
           code == JWRN_ARITH_BAD_CODE || code == JWRN_MUST_RESYNC;
}

static void on_message(j_common_ptr jpeg, int level) {
    struct reader *reader = jpeg->client_data;
    if (level >= 0 || !is_damage(jpeg->err->msg_code)) {
        return;
    }
    if (jpeg->err->msg_code == JWRN_JPEG_EOF) {
        cause_set(reader->cause, "truncated JPEG: the file ends too early");
    }
    jpeg->err->error_exit(jpeg);
}

static void on_progress(j_common_ptr jpeg) {
    struct reader *reader = jpeg->client_data;
    if (reader->jpeg.input_scan_number > MAX_SCANS) {
        cause_set(reader->cause, "broken JPEG: more than %d scans", MAX_SCANS);
        jpeg->err->error_exit(jpeg);
    }
}

static void find_orientation(struct reader *reader) {
    for (jpeg_saved_marker_ptr marker = reader->jpeg.marker_list; marker != NULL; marker = marker->next) {
        if (marker->marker == JPEG_APP0 + 1 && marker->data_length > 6 && memcmp(marker->data, "Exif\0\0", 6) == 0) {
            reader->orientation = exif_orientation(marker->data + 6, marker->data_length - 6);
            return;
        }
    }
}

// Adobe's programs store ink the other way round (255: none) and leave a marker; others do not.
static void cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, uint32_t width, bool inverted) {
    for (uint32_t x = 0; x < width; x++, cmyk += 4, rgb += 3) {
        const uint32_t flip = inverted ? 0 : 255;
        const uint32_t key = cmyk[3] ^ flip;
        for (int c = 0; c < 3; c++) {
            rgb[c] = (uint8_t)(((cmyk[c] ^ flip) * key + 127) / 255);
        }
    }
}

// Files of several scans are taken apart into coefficients of 16 bits first; turned is a picture behind these.
static uint32_t bytes_beside(struct reader *reader, uint32_t channels) {
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    const uint32_t coefficients = jpeg_has_multiple_scans(jpeg) ? 2 * (uint32_t)jpeg->num_components : 0;
    const uint32_t turned = reader->orientation > 1 ? channels : 0;
    return coefficients > turned ? coefficients : turned;
}

static void read_rows(struct reader *reader, JSAMPARRAY cmyk) {
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    const uint32_t width = jpeg->output_width;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = reader->image->pixels + (size_t)jpeg->output_scanline * width * reader->image->channels;
        if (cmyk == NULL) {
            jpeg_read_scanlines(jpeg, &row, 1);
        } else if (jpeg_read_scanlines(jpeg, cmyk, 1) == 1) {
            cmyk_to_rgb(cmyk[0], row, width, jpeg->saw_Adobe_marker);
        }
    }
}

static void decode_body(struct reader *reader, const uint8_t *data, size_t size) {
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = reader;
    jpeg->progress = &reader->progress;
    jpeg_mem_src(jpeg, data, (unsigned long)size);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    find_orientation(reader);
    const bool cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    const bool grey = jpeg->jpeg_color_space == JCS_GRAYSCALE;
    jpeg->out_color_space = cmyk ? JCS_CMYK : grey ? JCS_GRAYSCALE : JCS_RGB;
    const uint32_t width = jpeg->image_width, height = jpeg->image_height, channels = grey ? 1 : 3;
    if (!image_admit(reader->caller, width, height, bytes_beside(reader, channels), reader->cause) ||
        !image_allocate(reader->image, width, height, channels, reader->cause)) {
        longjmp(reader->jump, 1);
    }
    jpeg_start_decompress(jpeg);
    JSAMPARRAY row = cmyk ? jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, jpeg->output_width * 4, 1) : NULL;
    read_rows(reader, row);
    jpeg_finish_decompress(jpeg);
}

static bool decode_guarded(struct reader *reader, const uint8_t *data, size_t size) {
    if (setjmp(reader->jump) != 0) {
        return false;
    }
    decode_body(reader, data, size);
    return true;
}

bool image_jpeg_decode(const uint8_t *data, size_t size, const struct image_caller *caller, struct image *out_image,
                       int *out_orientation, struct cause *cause) {
    struct reader reader = {.caller = caller, .image = out_image, .orientation = 1, .cause = cause};
    *out_image = (struct image){0};
    cause->text[0] = '\0';
    reader.jpeg.err = jpeg_std_error(&reader.errors);
    reader.jpeg.client_data = &reader; // jpeg_create_decompress may fail already; it keeps err and client_data
    reader.errors.error_exit = on_error;
    reader.errors.emit_message = on_message;
    reader.progress.progress_monitor = on_progress;
    const bool good = decode_guarded(&reader, data, size);
    jpeg_destroy_decompress(&reader.jpeg);
    if (!good) {
        image_free(out_image);
    }
    *out_orientation = reader.orientation;
    return good;
}
