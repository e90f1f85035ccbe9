// SPDX-License-Identifier: MIT
//
// A graph of one node for the test of its operator: inputs, outputs and arrays that are freed together, the comparison
// with a reference in double precision, and the device plans to try.
#ifndef HYMN_TESTS_TEST_NODE_H
#define HYMN_TESTS_TEST_NODE_H

#include "support/test_op.h"

enum { TEST_NODE_MAX = 8 };

struct test_node {
    struct hymn_graph graph;
    struct hymn_node *node;
    struct test_op_tensor inputs[TEST_NODE_MAX], outputs[TEST_NODE_MAX];
    uint32_t input_count, output_count;
    float *arrays[TEST_NODE_MAX]; // weights
    uint32_t array_count;
};

// All of these end the test (cmocka) when memory runs out.
void test_node_begin(struct test_node *test, enum hymn_kind kind, uint32_t batch, enum hymn_storage storage);
void test_node_end(struct test_node *test);
// Returns the place in inputs or outputs; the value is in there.
uint32_t test_node_input(struct test_node *test, struct test_random *random, uint32_t height, uint32_t width,
                         uint32_t channels, enum hymn_storage storage, float low, float high);
uint32_t test_node_output(struct test_node *test, uint32_t height, uint32_t width, uint32_t channels,
                          enum hymn_storage storage);
// Random numbers from low to high.
float *test_node_array(struct test_node *test, struct test_random *random, size_t count, float low, float high);
// Number at a place of an input; 0 outside of the image.
double test_node_at(const struct test_node *test, uint32_t input, uint32_t image, int64_t y, int64_t x,
                    uint32_t channel);
// Sample of an input of half the size at an output's position (y + 0.5) / 2 - 0.5, bilinear, edges clamped.
double test_node_resized(const struct test_node *test, uint32_t input, uint32_t image, int64_t y, int64_t x,
                         uint32_t channel);

// What an operator may be lowered for on any device: its own plan, the base variants, and those of a GPU.
enum { TEST_NODE_PLANS = 3 };
struct hymn_vk_plan test_node_plan(const struct hymn_context *context, uint32_t index);

// Runs the node; out_ms: median wall time of `repeat` more runs, or NULL. Ends the test on failure.
void test_node_run(struct test_node *test, struct hymn_context *context, const struct hymn_vk_plan *plan,
                   uint32_t repeat, double *out_ms);
// Normalised mean squared error of an output against `expected`, dense as the output is, must be at most `tolerance`,
// half a step of the smallest numbers of binary16 aside.
void test_node_compare(const struct test_node *test, uint32_t output, const double *expected, double tolerance,
                       const char *what);
// Runs the node by each of the plans, compares its first output, frees `expected` and ends the test.
void test_node_check(struct test_node *test, struct hymn_context *context, double *expected, double tolerance,
                     const char *what);

#endif
