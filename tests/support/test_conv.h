// SPDX-License-Identifier: MIT
//
// A graph of one convolution with random weights and inputs, and its result in plain C and double precision, for the
// tests of the convolution's kernels.
#ifndef HYMN_TESTS_TEST_CONV_H
#define HYMN_TESTS_TEST_CONV_H

#include "ops/conv2d_matrix.h"
#include "ops/ops.h"
#include "support/test_op.h"

struct test_conv_case {
    uint32_t height, width, batch;
    uint32_t term_count, kernels[3], channels[3], first[3];
    uint32_t parts[4], part_count;
    enum hymn_activation activation;
    enum hymn_prologue prologue;
    uint32_t residual;                           // 0 none, 1 same size, 2 half size
    enum hymn_storage sources[3], output, extra; // extra: residual
    bool bias;
    float mean; // of the sources, which lie within one of it
};

struct test_conv {
    struct test_conv_case shape;
    struct hymn_graph graph;
    struct hymn_node *node;
    uint32_t out_channels;
    struct test_op_tensor inputs[5], output; // sources, residual, stats
    uint32_t input_count, residual, stats;   // places in inputs; HYMN_NONE
    float *weights[3], *bias;
};

// A small one with these kernels (0: no term), every source a slice of more channels, ReLU, a bias, all f16.
struct test_conv_case test_conv_random_case(struct test_random *random, const uint32_t kernels[3]);

// The device's plan with weights that are f16, as matrix units read them, also where software devices keep them f32.
struct hymn_vk_plan test_conv_matrix_plan(const struct hymn_context *context);

// All of these end the test (cmocka) when memory runs out.
void test_conv_build(struct test_conv *conv, const struct test_conv_case *shape, struct test_random *random);
void test_conv_destroy(struct test_conv *conv);
// Runs it; out_ms as of test_op_run.
bool test_conv_run(struct test_conv *conv, struct hymn_context *context, const struct hymn_vk_plan *plan,
                   uint32_t repeat, double *out_ms);
// What is expected of conv->output; free() it.
float *test_conv_reference(const struct test_conv *conv);
void test_conv_print(const struct test_conv_case *shape, const char *plan);

#endif
