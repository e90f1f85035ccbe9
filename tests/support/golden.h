// SPDX-License-Identifier: MIT
//
// The golden cases: small models of every variation with inputs and float64 outputs, made by tests/golden/make.py.
#ifndef HYMN_TESTS_GOLDEN_H
#define HYMN_TESTS_GOLDEN_H

#include <hymn/hymn.h>

enum { GOLDEN_MAX_CASES = 64 };

// The names of tests/golden/cases.txt; HYMN_GOLDEN_DIR names the folder. Returns how many; 0 when it cannot be read.
size_t golden_names(char names[GOLDEN_MAX_CASES][64]);

struct golden {
    struct hymn_model *model;
    uint32_t batch, channels, height, width, classes;
    float *input;  // [batch, channels, height, width]
    float *output; // [batch, classes, height, width]
    size_t output_count;
};

// Stops the test with a message when a file is missing or wrong.
void golden_load(const char *name, struct golden *out_golden);
void golden_free(struct golden *golden);

// Sum of squared differences over the sum of squared reference values; infinity when a value is not finite.
double golden_nmse(const float *values, const float *reference, size_t count);
double golden_nmse_double(const double *values, const float *reference, size_t count);

// A log callback that prints to standard error.
void golden_print_log(void *user, enum hymn_log_level level, const char *message);

#endif
