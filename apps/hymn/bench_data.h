// SPDX-License-Identifier: MIT
//
// What a measured session is fed with, and where its results go.
#ifndef HYMN_APP_BENCH_DATA_H
#define HYMN_APP_BENCH_DATA_H

#include "bench.h"

enum { BENCH_IN_FLIGHT = 2 };

struct bench_data {
    float *tensor;             // [batch, channels, height, width]
    float *logits[2];          // [batch, classes, height, width] each: one per run in flight
    uint8_t *pixels;           // [batch, height, width, 3], or NULL for tensors
    uint8_t *masks[2];         // [batch, height, width] each, or NULL for tensors
    struct hymn_image *images; // [batch], or NULL for tensors
    struct hymn_output *outputs[2];
    struct hymn_run_params runs[2]; // what is measured
    size_t logit_count;             // of one run
};

// The same random values every time. False when memory is out.
bool bench_data_init(struct bench_data *data, const struct bench_setup *setup);
void bench_data_free(struct bench_data *data);
// One run of the tensor to `out_logits`, [batch, classes, height, width].
enum hymn_status bench_data_logits(const struct bench_data *data, const struct bench_setup *setup,
                                   struct hymn_session *session, float *out_logits);

#endif
