// SPDX-License-Identifier: MIT
//
// What a measured session is fed with, and where its results go.
#ifndef HYMN_APP_BENCH_DATA_H
#define HYMN_APP_BENCH_DATA_H

#include "bench.h"

struct bench_data {
    float *tensor; // [batch, channels, height, width]
    // [batch, classes, height, width] each: one per run in flight; for pictures the first two only
    float *logits[COMMON_MAX_FLIGHTS];
    uint8_t *pixels;                    // [batch, height, width, 3], or NULL for tensors
    uint8_t *masks[COMMON_MAX_FLIGHTS]; // [batch, height, width] each, or NULL for tensors
    struct hymn_image *images;          // [batch], or NULL for tensors
    struct hymn_output *outputs[COMMON_MAX_FLIGHTS];
    struct hymn_run_params runs[COMMON_MAX_FLIGHTS]; // what is measured: as many as bench_in_flight says
    size_t logit_count;                              // of one run
    size_t result_bytes;                             // of what one of these runs writes, for an image
    void *alone;                                     // what a run that was alone has written
};

// Runs in flight while throughput is measured, at most.
uint32_t bench_in_flight(const struct bench_setup *setup);
// The same random values every time. False when memory is out.
bool bench_data_init(struct bench_data *data, const struct bench_setup *setup);
// Keeps what the first of the runs has written, and spoils what all of them have.
void bench_data_keep(struct bench_data *data, const struct bench_setup *setup);
// Whether the first `count` of the runs have written the same as what was kept, as far as the first `batch` images.
bool bench_data_same(const struct bench_data *data, const struct bench_setup *setup, uint32_t count, uint32_t batch);
void bench_data_free(struct bench_data *data);
// One run of the tensor to `out_logits`, [batch, classes, height, width].
enum hymn_status bench_data_logits(const struct bench_data *data, const struct bench_setup *setup,
                                   struct hymn_session *session, float *out_logits);

#endif
