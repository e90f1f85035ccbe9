// SPDX-License-Identifier: MIT
//
// The small graphs that shaders are checked on: each of one node with random weights and inputs, the same every time.
// Knows no Vulkan.
#ifndef HYMN_SELFTEST_CASES_H
#define HYMN_SELFTEST_CASES_H

#include <hymn/hymn.h>

#include "graph/graph.h"

enum { HYMN_SELFTEST_MAX_VALUES = 16 };

// A graph and the numbers of its values: [planes, batch, height, width, stride]. Those of inputs are what their storage
// holds; those of outputs are the plain-C result once hymn_selftest_expect has been called.
struct hymn_selftest_problem {
    struct hymn_graph graph;
    struct hymn_arena numbers;
    double *values[HYMN_SELFTEST_MAX_VALUES]; // NULL: a scratch value
    bool written[HYMN_SELFTEST_MAX_VALUES];   // an output
    // Room for two times the masks of the second node, a head, one after the other; or HYMN_NONE.
    uint32_t masks;
    // What the node's source, an output then, is made of, with the means and deviations below: 8-bit pictures; or
    // HYMN_NONE.
    uint32_t pictures, picture_height, picture_width;
    enum hymn_pixel_format picture_format;
};

extern const float hymn_selftest_mean[3], hymn_selftest_std[3];

uint32_t hymn_selftest_case_count(void);
const char *hymn_selftest_case_name(uint32_t index);
enum hymn_kind hymn_selftest_case_kind(uint32_t index);
// The name of the only shader that it is for; NULL: of no certain one.
const char *hymn_selftest_case_only(uint32_t index);
// Among the few that are run before a session uses a shader for the first time.
bool hymn_selftest_case_quick(uint32_t index);

// Builds a case. Without `numbers`, which take most of the time, there are no values, and all weights are zero: enough
// to see what it is lowered to. False when out of memory; to be freed in any case.
bool hymn_selftest_build(uint32_t index, enum hymn_storage storage, bool numbers,
                         struct hymn_selftest_problem *problem);
// Fills the outputs in plain C.
void hymn_selftest_expect(struct hymn_selftest_problem *problem);
void hymn_selftest_problem_free(struct hymn_selftest_problem *problem);

// Numbers of a value.
uint64_t hymn_selftest_size(const struct hymn_graph *graph, uint32_t value);

#endif
