// SPDX-License-Identifier: MIT
//
// Runs the nodes of a hand-made graph on the device, for the tests of single operators.
#ifndef HYMN_TESTS_TEST_OP_H
#define HYMN_TESTS_TEST_OP_H

#include "graph/graph.h"
#include "session/context.h"
#include "support/test_random.h"

// A value of the graph and its numbers, dense: [planes][batch][height][width][channels] f32.
struct test_op_tensor {
    uint32_t value;
    float *data;
};

struct test_op_run {
    struct hymn_context *context;
    const struct hymn_vk_plan *plan; // NULL: the device's own
    struct hymn_graph *graph;        // its values get offsets of their own (no aliasing)
    const struct test_op_tensor *inputs;
    uint32_t input_count;
    const struct test_op_tensor *outputs; // filled
    uint32_t output_count;
    uint32_t repeat; // timed runs after the first
};

// Numbers in a tensor's data.
size_t test_op_size(const struct hymn_graph *graph, uint32_t value);
// Allocates data for a value and fills it with random numbers, rounded to what its storage holds. free() it.
float *test_op_random(const struct hymn_graph *graph, uint32_t value, struct test_random *random, float low,
                      float high);

// Scratch, memory plan, lowering, upload, one submission, download. Everything but the inputs is NaN before. True when
// that went well, nothing was written but the values that are no inputs, and padded channels of the outputs are zero
// (unless the value's stride is not a multiple of 8, as of statistics); says what went wrong. out_ms: median time of
// the repeats on the device, or of the submissions on software devices; or NULL.
bool test_op_run(const struct test_op_run *run, double *out_ms);

// Sum of squared differences over the sum of squares of the reference.
double test_op_nmse(const float *reference, const float *got, size_t count);
// The tolerance for an output: fp32 arithmetic, and one rounding where it is stored in fp16.
double test_op_tolerance(enum hymn_storage storage);

#endif
