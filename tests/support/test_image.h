// SPDX-License-Identifier: MIT
//
// Runs steps of ops/image.h on the device, for their tests. Include after cmocka.h.
#ifndef HYMN_TESTS_TEST_IMAGE_H
#define HYMN_TESTS_TEST_IMAGE_H

#include "ops/image.h"
#include "session/context.h"
#include "support/test_random.h"

// Sides and kinds of one case.
struct test_image_case {
    uint32_t height, width; // of the image or the result
    enum hymn_pixel_format format;
    uint32_t session_height, session_width, padded_height, padded_width;
    uint32_t batch, index, channels, classes;
    enum hymn_storage storage;
    bool small_bindings;
};

struct test_image {
    struct hymn_context *context;
    struct test_image_case c;
    struct hymn_vk_plan plan;
    struct hymn_value input, output;
    float mean[8], std[8];
    struct hymn_vk_program program;
    struct hymn_image_steps steps;
    uint8_t *bytes[HYMN_VK_ROLE_COUNT]; // what the buffers hold before and after
    uint64_t sizes[HYMN_VK_ROLE_COUNT];
};

// Sizes up to 90 x 90, of everything that a case can be.
struct test_image_case test_image_random_case(struct test_random *random);

// The network's buffer, its ends, random means and deviations; no steps. End it with test_image_end.
void test_image_begin(struct test_image *f, struct hymn_context *context, const struct test_image_case *c,
                      struct test_random *random);
void test_image_end(struct test_image *f);
// Gives a role a buffer of at least `bytes`, all of whose bits are set.
void test_image_buffer(struct test_image *f, enum hymn_vk_role role, uint64_t bytes);
// Uploads all buffers, runs the program, downloads them. out_ms: least wall time of `repeat` more runs, or NULL.
void test_image_run(struct test_image *f, uint32_t repeat, double *out_ms);

#endif
