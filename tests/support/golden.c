// SPDX-License-Identifier: MIT
#include "support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/safetensors.h"

#ifndef HYMN_GOLDEN_DIR
#error "HYMN_GOLDEN_DIR must name tests/golden"
#endif

void golden_print_log(void *user, enum hymn_log_level level, const char *message) {
    (void)user;
    fprintf(stderr, "  log %d: %s\n", (int)level, message);
}

static void stop(const char *name, const char *why) {
    fprintf(stderr, "golden case %s: %s\n", name, why);
    exit(1);
}

size_t golden_names(char names[GOLDEN_MAX_CASES][64]) {
    FILE *file = fopen(HYMN_GOLDEN_DIR "/cases.txt", "r");
    size_t count = 0;
    char line[512];
    while (file && count < GOLDEN_MAX_CASES && fgets(line, sizeof line, file)) {
        if (line[0] != '#' && sscanf(line, "%63s", names[count]) == 1) {
            count++;
        }
    }
    if (file) {
        fclose(file);
    }
    return count;
}

static float *read_tensor(const char *name, const struct hymn_safetensors *file, const char *key, uint32_t shape[4]) {
    const struct hymn_tensor *tensor = hymn_safetensors_find(file, key);
    if (!tensor || tensor->rank != 4) {
        stop(name, "no such tensor of four dimensions");
    }
    for (int i = 0; i < 4; i++) {
        shape[i] = (uint32_t)tensor->shape[i];
    }
    float *values = malloc(tensor->elements * sizeof *values);
    if (!values || !hymn_tensor_to_f32(tensor, values, NULL)) {
        stop(name, "a tensor cannot be read");
    }
    return values;
}

void golden_load(const char *name, struct golden *out_golden) {
    char path[1024];
    struct hymn_log log = {.callback = golden_print_log, .level = HYMN_LOG_WARNING};
    memset(out_golden, 0, sizeof *out_golden);
    snprintf(path, sizeof path, "%s/%s.safetensors", HYMN_GOLDEN_DIR, name);
    struct hymn_model_params params = {.log = log, .path = path};
    if (hymn_model_create(&params, &out_golden->model) != HYMN_STATUS_OK) {
        stop(name, "the model cannot be loaded");
    }
    snprintf(path, sizeof path, "%s/%s.golden", HYMN_GOLDEN_DIR, name);
    struct hymn_file_map map;
    struct hymn_safetensors *file = NULL;
    if (hymn_file_map_open(path, &log, &map) != HYMN_STATUS_OK ||
        hymn_safetensors_parse(map.data, map.size, path, &log, &file) != HYMN_STATUS_OK) {
        stop(name, "the golden file cannot be read");
    }
    uint32_t in[4], out[4];
    out_golden->input = read_tensor(name, file, "input", in);
    out_golden->output = read_tensor(name, file, "output", out);
    if (in[0] != out[0] || in[2] != out[2] || in[3] != out[3]) {
        stop(name, "input and output do not fit each other");
    }
    out_golden->batch = in[0];
    out_golden->channels = in[1];
    out_golden->height = in[2];
    out_golden->width = in[3];
    out_golden->classes = out[1];
    out_golden->output_count = (size_t)out[0] * out[1] * out[2] * out[3];
    hymn_safetensors_destroy(&file);
    hymn_file_map_close(&map);
}

void golden_free(struct golden *golden) {
    hymn_model_destroy(&golden->model);
    free(golden->input);
    free(golden->output);
    memset(golden, 0, sizeof *golden);
}

double golden_nmse_double(const double *values, const float *reference, size_t count) {
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return INFINITY;
        }
        error += (values[i] - reference[i]) * (values[i] - reference[i]);
        power += (double)reference[i] * reference[i];
    }
    return error / power;
}

double golden_nmse(const float *values, const float *reference, size_t count) {
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return INFINITY;
        }
        error += ((double)values[i] - reference[i]) * ((double)values[i] - reference[i]);
        power += (double)reference[i] * reference[i];
    }
    return error / power;
}
