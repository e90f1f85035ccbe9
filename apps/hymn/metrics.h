// SPDX-License-Identifier: MIT
//
// How well a predicted mask fits a true one. Masks are [height, width] u8, non-zero inside.
//
// Conventions where a ratio has nothing to divide: two empty masks agree (Dice and IoU 1, distance 0); accuracy,
// sensitivity and specificity without a pixel to judge are 1. Where one mask is empty and the other is not, there is no
// distance to measure, and the image's diagonal stands for it, so that missing an object is never better than finding
// it in the wrong place.
#ifndef HYMN_APP_METRICS_H
#define HYMN_APP_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct confusion {
    uint64_t true_positive, false_positive, false_negative, true_negative; // pixels
};

// Adds `count` pixels to `confusion`.
void metrics_count(struct confusion *confusion, const uint8_t *predicted, const uint8_t *truth, size_t count);
void metrics_add(struct confusion *sum, const struct confusion *confusion);

double metrics_dice(const struct confusion *confusion);        // 2 TP / (2 TP + FP + FN)
double metrics_iou(const struct confusion *confusion);         // TP / (TP + FP + FN)
double metrics_accuracy(const struct confusion *confusion);    // (TP + TN) / all
double metrics_sensitivity(const struct confusion *confusion); // TP / (TP + FN)
double metrics_specificity(const struct confusion *confusion); // TN / (TN + FP)

// The 95 % Hausdorff distance in pixels, as MedPy's hd95: a mask's boundary is its pixels with a 4-neighbour outside
// the mask or outside the image; the distances from every boundary pixel of each mask to the nearest one of the other
// are put together, and their 95th percentile (linear interpolation) is the result. Exact Euclidean distances by
// Felzenszwalb and Huttenlocher's lower envelopes ("Distance Transforms of Sampled Functions", 2012). False when memory
// is out.
bool metrics_hd95(const uint8_t *a, const uint8_t *b, uint32_t height, uint32_t width, double *out_distance);

#endif
