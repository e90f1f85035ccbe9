// SPDX-License-Identifier: MIT
//
// Mask metrics against brute force and against values worked out by hand.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics.h"
#include "stats.h"
#include "support/test_random.h"

enum { MAX_SIDE = 40 };

static void assert_close(double found, double expected) {
    if (!(fabs(found - expected) <= 1e-12 * (1 + fabs(expected)))) {
        fail_msg("%.17g, expected %.17g", found, expected);
    }
}

// ------------------------------------------------------------------------------------------------------------ brute
// force

struct point {
    int x, y;
};

static bool inside(const uint8_t *mask, int height, int width, int y, int x) {
    return y >= 0 && x >= 0 && y < height && x < width && mask[y * width + x] != 0;
}

static size_t boundary_of(const uint8_t *mask, int height, int width, struct point *out_points) {
    size_t count = 0;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const bool all = inside(mask, height, width, y - 1, x) && inside(mask, height, width, y + 1, x) &&
                             inside(mask, height, width, y, x - 1) && inside(mask, height, width, y, x + 1);
            if (inside(mask, height, width, y, x) && !all) {
                out_points[count++] = (struct point){x, y};
            }
        }
    }
    return count;
}

static double nearest(struct point from, const struct point *to, size_t count) {
    double least = INFINITY;
    for (size_t i = 0; i < count; i++) {
        least = fmin(least, hypot(from.x - to[i].x, from.y - to[i].y));
    }
    return least;
}

static double slow_hd95(const uint8_t *a, const uint8_t *b, int height, int width) {
    static struct point one[MAX_SIDE * MAX_SIDE], other[MAX_SIDE * MAX_SIDE];
    static double distances[2 * MAX_SIDE * MAX_SIDE];
    const size_t first = boundary_of(a, height, width, one), second = boundary_of(b, height, width, other);
    if (first == 0 || second == 0) {
        return first == second ? 0 : hypot(height, width);
    }
    for (size_t i = 0; i < first; i++) {
        distances[i] = nearest(one[i], other, second);
    }
    for (size_t i = 0; i < second; i++) {
        distances[first + i] = nearest(other[i], one, first);
    }
    return stats_percentile(distances, first + second, 95);
}

// Blobs, specks, or nothing.
static void fill_mask(uint8_t *mask, int height, int width, struct test_random *random) {
    memset(mask, 0, (size_t)height * (size_t)width);
    const uint32_t kind = test_random_range(random, 0, 4);
    if (kind == 0) {
        return;
    }
    if (kind == 1) {
        for (int i = 0; i < height * width; i++) {
            mask[i] = test_random_range(random, 0, 9) == 0;
        }
        return;
    }
    for (uint32_t blobs = kind; blobs > 0; blobs--) {
        const int cx = (int)test_random_range(random, 0, (uint32_t)width - 1);
        const int cy = (int)test_random_range(random, 0, (uint32_t)height - 1);
        const int rx = (int)test_random_range(random, 1, 12), ry = (int)test_random_range(random, 1, 12);
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                const double u = (double)(x - cx) / rx, v = (double)(y - cy) / ry;
                if (u * u + v * v <= 1) {
                    mask[y * width + x] = 255;
                }
            }
        }
    }
}

static void hd95_is_brute_force(void **state) {
    static uint8_t a[MAX_SIDE * MAX_SIDE], b[MAX_SIDE * MAX_SIDE];
    struct test_random random = test_random_start("hd95_is_brute_force");
    (void)state;
    for (int round = 0; round < 600; round++) {
        const int height = (int)test_random_range(&random, 1, MAX_SIDE);
        const int width = (int)test_random_range(&random, 1, MAX_SIDE);
        double found, mirrored;
        fill_mask(a, height, width, &random);
        fill_mask(b, height, width, &random);
        assert_true(metrics_hd95(a, b, (uint32_t)height, (uint32_t)width, &found));
        assert_close(found, slow_hd95(a, b, height, width));
        assert_true(metrics_hd95(b, a, (uint32_t)height, (uint32_t)width, &mirrored));
        assert_true(found == mirrored);
    }
}

static void hd95_by_hand(void **state) {
    uint8_t a[20] = {0}, b[20] = {0};
    double distance;
    (void)state;
    a[0] = 1; // single pixels 3 right and 4 down of each other: 4 x 5 image
    b[3 * 4 + 3] = 1;
    assert_true(metrics_hd95(a, b, 5, 4, &distance));
    assert_close(distance, sqrt(18));
    assert_true(metrics_hd95(a, a, 5, 4, &distance));
    assert_close(distance, 0);
    memset(b, 0, sizeof(b));
    assert_true(metrics_hd95(a, b, 5, 4, &distance));
    assert_close(distance, sqrt(41)); // the diagonal
    assert_true(metrics_hd95(b, b, 5, 4, &distance));
    assert_close(distance, 0);
}

static void counts(void **state) {
    const uint8_t predicted[10] = {255, 255, 255, 0, 0, 0, 0, 0, 255, 1}, truth[10] = {1, 1, 0, 1, 0, 0, 0, 0, 0, 1};
    struct confusion confusion = {0}, sum = {0};
    (void)state;
    metrics_count(&confusion, predicted, truth, 10);
    assert_int_equal(confusion.true_positive, 3);
    assert_int_equal(confusion.false_positive, 2);
    assert_int_equal(confusion.false_negative, 1);
    assert_int_equal(confusion.true_negative, 4);
    assert_close(metrics_dice(&confusion), 6.0 / 9);
    assert_close(metrics_iou(&confusion), 3.0 / 6);
    assert_close(metrics_accuracy(&confusion), 0.7);
    assert_close(metrics_sensitivity(&confusion), 0.75);
    assert_close(metrics_specificity(&confusion), 4.0 / 6);
    metrics_add(&sum, &confusion);
    metrics_add(&sum, &confusion);
    assert_int_equal(sum.true_negative, 8);
    assert_close(metrics_dice(&sum), 6.0 / 9);
}

static void empty_masks(void **state) {
    const uint8_t none[4] = {0}, all[4] = {1, 1, 1, 1};
    struct confusion both = {0}, missed = {0}, full = {0};
    (void)state;
    metrics_count(&both, none, none, 4);
    assert_close(metrics_dice(&both), 1);
    assert_close(metrics_iou(&both), 1);
    assert_close(metrics_sensitivity(&both), 1);
    metrics_count(&missed, none, all, 4);
    assert_close(metrics_dice(&missed), 0);
    assert_close(metrics_iou(&missed), 0);
    assert_close(metrics_sensitivity(&missed), 0);
    metrics_count(&full, all, all, 4);
    assert_close(metrics_specificity(&full), 1);
}

static void percentiles(void **state) {
    double values[] = {4, 1, 3, 2};
    (void)state;
    assert_close(stats_percentile(values, 4, 0), 1);
    assert_close(stats_percentile(values, 4, 50), 2.5);
    assert_close(stats_percentile(values, 4, 95), 3.85);
    assert_close(stats_percentile(values, 4, 100), 4);
    assert_close(stats_percentile(values, 1, 99), 1);
    assert_close(stats_percentile(values, 0, 50), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hd95_is_brute_force), cmocka_unit_test(hd95_by_hand), cmocka_unit_test(counts),
        cmocka_unit_test(empty_masks),         cmocka_unit_test(percentiles),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
