// SPDX-License-Identifier: MIT
//
// Tiles: weights that sum to one, tiles that hold the right pixels, and blending that gives back what was cut.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/test_random.h"
#include "tile.h"

static void check_axis(uint32_t length, uint32_t tile, double overlap) {
    struct tile_axis axis;
    assert_true(tile_axis_init(&axis, length, tile, overlap));
    double *sums = calloc(length, sizeof(*sums));
    assert_non_null(sums);
    for (uint32_t i = 0; i < axis.count; i++) {
        for (uint32_t t = 0; t < tile && axis.starts[i] + t < length; t++) {
            assert_true(axis.weights[(size_t)i * tile + t] >= 0);
            sums[axis.starts[i] + t] += axis.weights[(size_t)i * tile + t];
        }
        if (i > 0) {
            const uint32_t shared = axis.starts[i - 1] + tile - axis.starts[i];
            assert_true(axis.starts[i] > axis.starts[i - 1]);
            assert_true(shared + 1 >= (uint32_t)(tile * overlap) || axis.starts[i] == axis.starts[i - 1] + 1);
        }
    }
    for (uint32_t x = 0; x < length; x++) {
        if (fabs(sums[x] - 1) > 1e-6) {
            fail_msg("length %u tile %u overlap %g: the weights at %u sum to %g", length, tile, overlap, x, sums[x]);
        }
    }
    assert_int_equal(axis.starts[0], 0);
    if (length > tile) {
        assert_int_equal(axis.starts[axis.count - 1] + tile, length);
    } else {
        assert_int_equal(axis.count, 1);
    }
    // Where tiles lie as they do seen from the other end, so do their weights.
    for (uint32_t i = 0; i < axis.count && axis.count > 1 && (length - tile) % (axis.count - 1) == 0; i++) {
        for (uint32_t t = 0; t < tile; t++) {
            const float *mirrored = &axis.weights[(size_t)(axis.count - 1 - i) * tile + tile - 1 - t];
            assert_true(fabs(axis.weights[(size_t)i * tile + t] - *mirrored) <= 1e-6);
        }
    }
    free(sums);
    tile_axis_free(&axis);
}

static void weights_sum_to_one(void **state) {
    struct test_random random = test_random_start("weights_sum_to_one");
    (void)state;
    for (int round = 0; round < 500; round++) {
        const uint32_t length = test_random_range(&random, 1, 700), tile = test_random_range(&random, 1, 200);
        check_axis(length, tile, test_random_range(&random, 0, 9) / 10.0);
    }
    check_axis(30000, 256, 0.25);
    check_axis(257, 256, 0);
    check_axis(512, 256, 0);
}

static void edge_pixels_are_repeated(void **state) {
    uint8_t pixels[] = "abcdefghi", tile[16];
    const struct image image = {3, 3, 1, pixels};
    (void)state;
    tile_extract(&image, 0, 0, 4, 4, tile);
    assert_memory_equal(tile, "abccdeffghiighii", 16);
    tile_extract(&image, 1, 1, 2, 2, tile);
    assert_memory_equal(tile, "efhi", 4);
}

// A "network" that gives back the pixels of its input, one class each channel.
static void run_tile(const uint8_t *tile, uint32_t height, uint32_t width, uint32_t classes, float *out_values) {
    for (size_t i = 0; i < (size_t)height * width; i++) {
        for (uint32_t c = 0; c < classes; c++) {
            out_values[c * (size_t)height * width + i] = tile[i * classes + c] / 255.0f;
        }
    }
}

static void check_blend(struct test_random *random, uint32_t classes) {
    const uint32_t height = test_random_range(random, 1, 90), width = test_random_range(random, 1, 90);
    const uint32_t tile_height = test_random_range(random, 1, 40), tile_width = test_random_range(random, 1, 40);
    const double overlap = test_random_range(random, 0, 6) / 10.0;
    const size_t area = (size_t)height * width;
    struct image image;
    struct cause cause;
    struct tile_axis rows, columns;
    struct tile_blend blend;
    assert_true(image_allocate(&image, width, height, classes, &cause));
    for (size_t i = 0; i < area * classes; i++) {
        image.pixels[i] = (uint8_t)test_random_u64(random);
    }
    uint8_t *mask = malloc(area), *tile = malloc((size_t)tile_height * tile_width * classes);
    float *probabilities = malloc(area * classes * sizeof(float));
    float *values = malloc((size_t)tile_height * tile_width * classes * sizeof(float));
    assert_true(mask != NULL && tile != NULL && probabilities != NULL && values != NULL);
    assert_true(tile_axis_init(&rows, height, tile_height, overlap));
    assert_true(tile_axis_init(&columns, width, tile_width, overlap));
    assert_true(tile_blend_init(&blend, &rows, &columns, classes, 0.5f, mask, probabilities));
    for (uint32_t i = 0; i < rows.count * columns.count; i++) {
        tile_extract(&image, rows.starts[i / columns.count], columns.starts[i % columns.count], tile_height, tile_width,
                     tile);
        run_tile(tile, tile_height, tile_width, classes, values);
        tile_blend_add(&blend, values);
    }
    assert_int_equal(blend.done, height);
    for (size_t i = 0; i < area; i++) {
        uint8_t best = 0;
        for (uint32_t c = 0; c < classes; c++) {
            const float expected = image.pixels[i * classes + c] / 255.0f;
            assert_true(fabsf(probabilities[c * area + i] - expected) < 1e-5f);
            best = probabilities[c * area + i] > probabilities[best * area + i] ? (uint8_t)c : best;
        }
        assert_int_equal(mask[i], classes == 1 ? (probabilities[i] >= 0.5f ? 255 : 0) : best);
    }
    tile_blend_free(&blend);
    tile_axis_free(&rows);
    tile_axis_free(&columns);
    image_free(&image);
    free(mask);
    free(tile);
    free(probabilities);
    free(values);
}

static void blending_gives_back_what_was_cut(void **state) {
    struct test_random random = test_random_start("blending_gives_back_what_was_cut");
    (void)state;
    for (int round = 0; round < 150; round++) {
        check_blend(&random, round % 2 == 0 ? 1 : 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_sum_to_one),
        cmocka_unit_test(edge_pixels_are_repeated),
        cmocka_unit_test(blending_gives_back_what_was_cut),
    };
    return cmocka_run_group_tests_name("cli_tile", tests, NULL, NULL);
}
