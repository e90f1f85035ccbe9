// SPDX-License-Identifier: MIT
#include "metrics.h"

#include <math.h>
#include <stdlib.h>

#include "stats.h"

void metrics_count(struct confusion *confusion, const uint8_t *predicted, const uint8_t *truth, size_t count) {
    uint64_t counts[4] = {0};
    for (size_t i = 0; i < count; i++) {
        counts[(predicted[i] != 0) * 2 + (truth[i] != 0)]++;
    }
    confusion->true_negative += counts[0];
    confusion->false_negative += counts[1];
    confusion->false_positive += counts[2];
    confusion->true_positive += counts[3];
}

void metrics_add(struct confusion *sum, const struct confusion *confusion) {
    sum->true_positive += confusion->true_positive;
    sum->false_positive += confusion->false_positive;
    sum->false_negative += confusion->false_negative;
    sum->true_negative += confusion->true_negative;
}

static double ratio(uint64_t part, uint64_t whole) {
    return whole > 0 ? (double)part / (double)whole : 1;
}

double metrics_dice(const struct confusion *c) {
    return ratio(2 * c->true_positive, 2 * c->true_positive + c->false_positive + c->false_negative);
}

double metrics_iou(const struct confusion *c) {
    return ratio(c->true_positive, c->true_positive + c->false_positive + c->false_negative);
}

double metrics_accuracy(const struct confusion *c) {
    return ratio(c->true_positive + c->true_negative,
                 c->true_positive + c->true_negative + c->false_positive + c->false_negative);
}

double metrics_sensitivity(const struct confusion *c) {
    return ratio(c->true_positive, c->true_positive + c->false_negative);
}

double metrics_specificity(const struct confusion *c) {
    return ratio(c->true_negative, c->true_negative + c->false_positive);
}

// ---------------------------------------------------------------------------------------------------- 95 % Hausdorff

// The part of the image that holds both masks: [y0, y1) x [x0, x1). Distances between boundaries need nothing outside.
struct box {
    uint32_t y0, x0, y1, x1;
};

// Grows the box by a mask; false if the mask is empty.
static bool box_add(struct box *box, const uint8_t *mask, uint32_t height, uint32_t width) {
    bool any = false;
    for (uint32_t y = 0; y < height; y++) {
        const uint8_t *row = mask + (size_t)y * width;
        uint32_t left = 0, right = width;
        while (left < width && row[left] == 0) {
            left++;
        }
        if (left == width) {
            continue;
        }
        while (row[right - 1] == 0) {
            right--;
        }
        any = true;
        box->y0 = y < box->y0 ? y : box->y0;
        box->y1 = y + 1 > box->y1 ? y + 1 : box->y1;
        box->x0 = left < box->x0 ? left : box->x0;
        box->x1 = right > box->x1 ? right : box->x1;
    }
    return any;
}

// Marks the boundary pixels of a mask within the box; returns their number.
static size_t find_boundary(const uint8_t *mask, uint32_t height, uint32_t width, const struct box *box,
                            uint8_t *out_boundary) {
    size_t count = 0;
    for (uint32_t y = box->y0; y < box->y1; y++) {
        for (uint32_t x = box->x0; x < box->x1; x++) {
            const uint8_t *pixel = mask + (size_t)y * width + x;
            const bool inner = y > 0 && x > 0 && y + 1 < height && x + 1 < width && pixel[-1] != 0 && pixel[1] != 0 &&
                               *(pixel - width) != 0 && pixel[width] != 0;
            *out_boundary = *pixel != 0 && !inner;
            count += *out_boundary++;
        }
    }
    return count;
}

// Distance to the nearest marked pixel in the same column; UINT32_MAX where the column has none.
static void column_distances(const uint8_t *marked, uint32_t height, uint32_t width, uint32_t *out_distances) {
    const size_t count = (size_t)height * width;
    for (size_t i = 0; i < count; i++) {
        const uint32_t above = i >= width ? out_distances[i - width] : UINT32_MAX;
        out_distances[i] = marked[i] ? 0 : above == UINT32_MAX ? UINT32_MAX : above + 1;
    }
    for (size_t i = count - width; i-- > 0;) {
        const uint32_t below = out_distances[i + width];
        if (below < out_distances[i]) {
            out_distances[i] = below + 1;
        }
    }
}

// The lower envelope of the parabolas (x - at)^2 + column distance^2 of one row.
struct envelope {
    uint32_t *at;  // [width] where the parabolas of the envelope have their minima
    double *start; // [width] from where on each is the lowest
    size_t count;
};

static double squared(double value) {
    return value * value;
}

static void envelope_build(struct envelope *envelope, const uint32_t *distances, uint32_t width) {
    envelope->count = 0;
    for (uint32_t x = 0; x < width; x++) {
        if (distances[x] == UINT32_MAX) {
            continue;
        }
        const double height = squared(distances[x]) + squared(x);
        double start = -INFINITY;
        while (envelope->count > 0) {
            const uint32_t last = envelope->at[envelope->count - 1];
            start = (height - squared(distances[last]) - squared(last)) / (2.0 * ((double)x - last));
            if (start > envelope->start[envelope->count - 1]) {
                break;
            }
            envelope->count--;
            start = -INFINITY;
        }
        envelope->at[envelope->count] = x;
        envelope->start[envelope->count++] = start;
    }
}

// Appends, for every marked pixel of `from`, the distance to the nearest one that `distances` was made from.
static size_t row_distances(struct envelope *envelope, const uint8_t *from, const uint32_t *distances, uint32_t height,
                            uint32_t width, double *out_values) {
    size_t count = 0;
    for (uint32_t y = 0; y < height; y++, from += width, distances += width) {
        size_t k = 0;
        envelope_build(envelope, distances, width);
        for (uint32_t x = 0; x < width; x++) {
            if (!from[x]) {
                continue;
            }
            while (k + 1 < envelope->count && envelope->start[k + 1] < x) {
                k++;
            }
            const uint32_t at = envelope->at[k];
            out_values[count++] = sqrt(squared((double)x - at) + squared(distances[at]));
        }
    }
    return count;
}

static bool boundary_distance(const uint8_t *a, const uint8_t *b, uint32_t height, uint32_t width,
                              const struct box *box, double *out_distance) {
    const uint32_t box_height = box->y1 - box->y0, box_width = box->x1 - box->x0;
    const size_t area = (size_t)box_height * box_width;
    uint8_t *boundaries = malloc(2 * area);
    uint32_t *columns = malloc(area * sizeof(*columns));
    struct envelope envelope = {malloc(box_width * sizeof(uint32_t)), malloc(box_width * sizeof(double)), 0};
    double *values = NULL;
    size_t count = 0;
    if (boundaries != NULL && columns != NULL && envelope.at != NULL && envelope.start != NULL) {
        uint8_t *first = boundaries, *second = boundaries + area;
        count = find_boundary(a, height, width, box, first) + find_boundary(b, height, width, box, second);
        values = malloc(count * sizeof(*values));
        if (values != NULL) {
            column_distances(second, box_height, box_width, columns);
            const size_t done = row_distances(&envelope, first, columns, box_height, box_width, values);
            column_distances(first, box_height, box_width, columns);
            row_distances(&envelope, second, columns, box_height, box_width, values + done);
            *out_distance = stats_percentile(values, count, 95);
        }
    }
    free(boundaries);
    free(columns);
    free(envelope.at);
    free(envelope.start);
    const bool good = values != NULL;
    free(values);
    return good;
}

bool metrics_hd95(const uint8_t *a, const uint8_t *b, uint32_t height, uint32_t width, double *out_distance) {
    struct box box = {height, width, 0, 0};
    const bool any_a = box_add(&box, a, height, width), any_b = box_add(&box, b, height, width);
    if (!any_a || !any_b) {
        *out_distance = any_a == any_b ? 0 : sqrt(squared(height) + squared(width));
        return true;
    }
    return boundary_distance(a, b, height, width, &box, out_distance);
}
