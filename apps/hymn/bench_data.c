// SPDX-License-Identifier: MIT
#include "bench_data.h"

#include <stdlib.h>
#include <string.h>

// SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

// As a normalised picture: from -2 to 2.
static void fill_tensor(float *values, size_t count) {
    uint64_t state = 1;
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(next_random(&state) >> 40) * (4.0f / (1 << 24)) - 2.0f;
    }
}

static void fill_pixels(uint8_t *pixels, size_t count) {
    uint64_t state = 2;
    for (size_t i = 0; i < count; i++) {
        pixels[i] = (uint8_t)(next_random(&state) >> 56);
    }
}

static bool init_pictures(struct bench_data *data, const struct bench_setup *setup) {
    const size_t area = (size_t)setup->height * setup->width;
    data->pixels = malloc(setup->batch * area * 3);
    data->images = calloc(setup->batch, sizeof(*data->images));
    if (data->pixels == NULL || data->images == NULL) {
        return false;
    }
    fill_pixels(data->pixels, setup->batch * area * 3);
    for (uint32_t i = 0; i < setup->batch; i++) {
        data->images[i] = (struct hymn_image){.pixels = data->pixels + i * area * 3,
                                              .height = setup->height,
                                              .width = setup->width,
                                              .format = HYMN_PIXEL_RGB8};
    }
    return true;
}

static bool init_run(struct bench_data *data, const struct bench_setup *setup, uint32_t slot) {
    const size_t area = (size_t)setup->height * setup->width;
    const size_t logits = data->logit_count / setup->batch;
    const bool both = setup->tensor || slot < 2; // two for the comparison in the end
    data->outputs[slot] = calloc(setup->batch, sizeof(*data->outputs[slot]));
    data->logits[slot] = both ? malloc(data->logit_count * sizeof(float)) : NULL;
    data->masks[slot] = setup->tensor ? NULL : malloc(setup->batch * area);
    if (data->outputs[slot] == NULL || (both && data->logits[slot] == NULL) ||
        (!setup->tensor && data->masks[slot] == NULL)) {
        return false;
    }
    for (uint32_t i = 0; i < setup->batch; i++) {
        data->outputs[slot][i] = setup->tensor ? (struct hymn_output){.logits = data->logits[slot] + i * logits}
                                               : (struct hymn_output){.mask = data->masks[slot] + i * area};
    }
    data->runs[slot] = (struct hymn_run_params){.images = setup->tensor ? NULL : data->images,
                                                .tensor = setup->tensor ? data->tensor : NULL,
                                                .outputs = data->outputs[slot]};
    return true;
}

uint32_t bench_in_flight(const struct bench_setup *setup) {
    return setup->streams > 2 ? setup->streams : 2;
}

bool bench_data_init(struct bench_data *data, const struct bench_setup *setup) {
    const struct hymn_model_info *info = hymn_model_get_info(setup->model);
    const size_t pixels = (size_t)setup->batch * setup->height * setup->width;
    *data = (struct bench_data){.logit_count = pixels * info->num_classes};
    data->result_bytes = (setup->tensor ? data->logit_count * sizeof(float) : pixels) / setup->batch;
    data->alone = malloc(setup->batch * data->result_bytes);
    data->tensor = malloc(pixels * info->in_channels * sizeof(float));
    bool good = data->tensor != NULL && data->alone != NULL && (setup->tensor || init_pictures(data, setup));
    for (uint32_t slot = 0; slot < bench_in_flight(setup) && good; slot++) {
        good = init_run(data, setup, slot);
    }
    if (!good) {
        bench_data_free(data);
        return false;
    }
    fill_tensor(data->tensor, pixels * info->in_channels);
    return true;
}

static void *result_of(const struct bench_data *data, const struct bench_setup *setup, uint32_t slot) {
    return setup->tensor ? (void *)data->logits[slot] : (void *)data->masks[slot];
}

void bench_data_keep(struct bench_data *data, const struct bench_setup *setup) {
    const size_t bytes = setup->batch * data->result_bytes;
    memcpy(data->alone, result_of(data, setup, 0), bytes);
    for (uint32_t slot = 0; slot < bench_in_flight(setup); slot++) {
        memset(result_of(data, setup, slot), 0xA5, bytes); // no mask, and no logit that could be
    }
}

bool bench_data_same(const struct bench_data *data, const struct bench_setup *setup, uint32_t count, uint32_t batch) {
    bool same = true;
    for (uint32_t slot = 0; slot < count; slot++) {
        same = same && memcmp(result_of(data, setup, slot), data->alone, batch * data->result_bytes) == 0;
    }
    return same;
}

void bench_data_free(struct bench_data *data) {
    for (int slot = 0; slot < COMMON_MAX_FLIGHTS; slot++) {
        free(data->outputs[slot]);
        free(data->logits[slot]);
        free(data->masks[slot]);
    }
    free(data->alone);
    free(data->tensor);
    free(data->pixels);
    free(data->images);
    *data = (struct bench_data){0};
}

enum hymn_status bench_data_logits(const struct bench_data *data, const struct bench_setup *setup,
                                   struct hymn_session *session, float *out_logits) {
    const size_t count = data->logit_count / setup->batch;
    struct hymn_output *outputs = calloc(setup->batch, sizeof(*outputs));
    if (outputs == NULL) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < setup->batch; i++) {
        outputs[i].logits = out_logits + i * count;
    }
    const struct hymn_run_params run = {.tensor = data->tensor, .outputs = outputs};
    const enum hymn_status status = hymn_session_run(session, &run);
    free(outputs);
    return status;
}
