// SPDX-License-Identifier: MIT
//
// Overlays against a slow drawing of the same, and the regions that are measured in masks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "overlay.h"
#include "segment.h"
#include "support/test_random.h"

// Whether all pixels within `radius` of (x, y) that exist have its class.
static bool uniform(const uint8_t *mask, int height, int width, int y, int x, int radius) {
    for (int v = y - radius; v <= y + radius; v++) {
        for (int u = x - radius; u <= x + radius; u++) {
            if (v >= 0 && u >= 0 && v < height && u < width && mask[v * width + u] != mask[y * width + x]) {
                return false;
            }
        }
    }
    return true;
}

static int line_width(int height, int width) {
    int line = 1; // round(sqrt(h w) / 200), at least 1
    while ((2 * line + 1) * (2 * line + 1) * 10000 <= height * width) {
        line++;
    }
    return line;
}

static void fill_mask(uint8_t *mask, int height, int width, int classes, struct test_random *random) {
    memset(mask, 0, (size_t)height * (size_t)width);
    for (uint32_t i = test_random_range(random, 0, 6); i > 0; i--) {
        const int y0 = (int)test_random_range(random, 0, (uint32_t)height - 1);
        const int x0 = (int)test_random_range(random, 0, (uint32_t)width - 1);
        const int y1 = (int)test_random_range(random, (uint32_t)y0, (uint32_t)height - 1);
        const int x1 = (int)test_random_range(random, (uint32_t)x0, (uint32_t)width - 1);
        const uint8_t value = classes == 1 ? 255 : (uint8_t)test_random_range(random, 0, (uint32_t)classes - 1);
        for (int y = y0; y <= y1; y++) {
            memset(mask + y * width + x0, value, (size_t)(x1 - x0 + 1));
        }
    }
}

static void check_overlay(int height, int width, int classes, struct test_random *random) {
    struct image image;
    struct cause cause;
    uint8_t *mask = malloc((size_t)height * (size_t)width);
    assert_non_null(mask);
    assert_true(image_allocate(&image, (uint32_t)width, (uint32_t)height, 3, &cause));
    memset(image.pixels, 100, (size_t)height * (size_t)width * 3);
    fill_mask(mask, height, width, classes, random);
    assert_true(overlay_draw(&image, mask, &cause));
    const int line = line_width(height, width), halo = (line + 1) / 2;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const uint8_t *pixel = image.pixels + 3 * (y * width + x);
            const int strongest = pixel[0] > pixel[1] ? (pixel[0] > pixel[2] ? pixel[0] : pixel[2])
                                                      : (pixel[1] > pixel[2] ? pixel[1] : pixel[2]);
            if (mask[y * width + x] == 0) {
                assert_int_equal(strongest, uniform(mask, height, width, y, x, halo) ? 100 : 47);
            } else {
                assert_true(uniform(mask, height, width, y, x, line) == (strongest < 140)); // tint or outline
            }
        }
    }
    image_free(&image);
    free(mask);
}

static void overlays(void **state) {
    struct test_random random = test_random_start("overlays");
    (void)state;
    for (int round = 0; round < 200; round++) {
        check_overlay((int)test_random_range(&random, 1, 60), (int)test_random_range(&random, 1, 60), round % 4 + 1,
                      &random);
    }
    check_overlay(500, 700, 3, &random); // several pixels wide
    check_overlay(3, 30000, 1, &random);
}

static void regions(void **state) {
    static const uint8_t mask[4 * 5] = {0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 3, 0};
    struct segment_region found[256];
    (void)state;
    segment_measure(mask, 4, 5, found);
    assert_int_equal(found[255].area, 4);
    assert_int_equal(found[255].x0, 1);
    assert_int_equal(found[255].y0, 1);
    assert_int_equal(found[255].x1, 5);
    assert_int_equal(found[255].y1, 3);
    assert_int_equal(found[3].area, 1);
    assert_int_equal(found[3].x0, 3);
    assert_int_equal(found[3].y1, 4);
    assert_int_equal(found[0].area, 15);
    assert_int_equal(found[7].area, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlays),
        cmocka_unit_test(regions),
    };
    return cmocka_run_group_tests_name("cli_overlay", tests, NULL, NULL);
}
