// SPDX-License-Identifier: MIT
//
// Convolutions and products of base at 256x256, and tiles to time them with.
#ifndef HYMN_TESTS_CONV_LAYERS_H
#define HYMN_TESTS_CONV_LAYERS_H

#include "support/test_conv.h"

struct test_conv_layer {
    const char *name;
    uint32_t size, kernels[3], channels[3], out, residual, count; // count: in the network
    enum hymn_prologue prologue;
};

extern const struct test_conv_layer test_conv_layers[];
extern const size_t test_conv_layer_count;

struct test_conv_case test_conv_layer_case(const struct test_conv_layer *layer, uint32_t batch);

// The tiles worth trying: combinations that are valid, `most` at the most. Returns how many.
uint32_t test_conv_list_tiles(const struct test_conv *conv, const struct hymn_vk_plan *plan,
                              struct hymn_conv2d_tile *tiles, uint32_t most);

#endif
