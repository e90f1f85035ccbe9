// SPDX-License-Identifier: MIT
//
// Pre- and post-processing against plain C in double precision: images of every format and random sizes, tensors,
// logits, probabilities and masks; also on a plan whose bindings are so small that everything is split into bands and
// tiles. --bench times a 20-megapixel photograph.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "support/op_main.h"
#include "support/test_image.h"

static struct hymn_context *context;

// Mean squared error, against numbers of size 1 or, where the expected ones are larger on average, against those.
static void compare(const struct test_image *f, const double *expected, const float *got, size_t count,
                    double tolerance, const char *what) {
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < count; i++) {
        error += (got[i] - expected[i]) * (got[i] - expected[i]);
        power += expected[i] * expected[i];
    }
    power = fmax(power, (double)count);
    if (!(error <= tolerance * power)) { // NaN too
        fail_msg("%s, %u x %u format %u, session %u x %u, %u channels, %u classes: NMSE %.2g", what, f->c.height,
                 f->c.width, (unsigned)f->c.format, f->c.session_height, f->c.session_width, f->c.channels,
                 f->c.classes, error / power);
    }
}

// ----------------------------------------------------------------------------------------------------- plain C: input

static double pixel(const struct test_image_case *c, const uint8_t *pixels, size_t at, uint32_t channel) {
    if (c->format == HYMN_PIXEL_GREY8) {
        return pixels[at];
    }
    const uint8_t *p = pixels + at * (c->format == HYMN_PIXEL_RGB8 ? 3 : 4);
    return c->channels == 1 ? 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] : p[channel];
}

// Antialiased triangle filter of one axis: fills weights and returns the first tap.
static uint32_t triangle(uint32_t at, uint32_t in, uint32_t out, double *weights, uint32_t *out_count) {
    double scale = (double)in / out, reach = scale > 1.0 ? scale : 1.0, center = scale * (at + 0.5), sum = 0.0;
    int64_t first = (int64_t)(center - reach + 0.5), last = (int64_t)(center + reach + 0.5);
    first = first < 0 ? 0 : first;
    last = last > (int64_t)in ? (int64_t)in : last;
    for (int64_t i = first; i < last; i++) {
        double away = fabs(((double)i - center + 0.5) / reach);
        sum += weights[i - first] = away < 1.0 ? 1.0 - away : 0.0;
    }
    for (int64_t i = first; i < last; i++) {
        weights[i - first] /= sum;
    }
    *out_count = (uint32_t)(last - first);
    return (uint32_t)first;
}

// [session_height, session_width] of one channel.
static double *resized_image(const struct test_image_case *c, const uint8_t *pixels, uint32_t channel) {
    double *columns = malloc((size_t)c->height * c->session_width * sizeof *columns);
    double *out = calloc((size_t)c->session_height * c->session_width, sizeof *out);
    double *weights = malloc(65536 * sizeof *weights);
    assert_true(columns && out && weights);
    uint32_t count;
    for (uint32_t x = 0; x < c->session_width; x++) {
        uint32_t first = triangle(x, c->width, c->session_width, weights, &count);
        for (uint32_t y = 0; y < c->height; y++) {
            double sum = 0.0;
            for (uint32_t i = 0; i < count; i++) {
                sum += weights[i] * pixel(c, pixels, (size_t)y * c->width + first + i, channel);
            }
            columns[(size_t)y * c->session_width + x] = sum;
        }
    }
    for (uint32_t y = 0; y < c->session_height; y++) {
        uint32_t first = triangle(y, c->height, c->session_height, weights, &count);
        for (uint32_t i = 0; i < count * c->session_width; i++) {
            out[y * c->session_width + i % c->session_width] +=
                weights[i / c->session_width] * columns[(size_t)first * c->session_width + i];
        }
    }
    free(weights);
    free(columns);
    return out;
}

// Value of the network's input for the case's image, and whether all that must be zero is.
static float input_at(const struct test_image *f, uint32_t y, uint32_t x, uint32_t channel) {
    size_t at = (((size_t)f->c.index * f->c.padded_height + y) * f->c.padded_width + x) * f->input.stride + channel;
    const uint8_t *base = f->bytes[HYMN_VK_ROLE_ACTIVATIONS];
    return f->c.storage == HYMN_STORAGE_F16 ? hymn_half_to_float(((const uint16_t *)(const void *)base)[at])
                                            : ((const float *)(const void *)base)[at];
}

// Compares one channel of the network's input; expected: [session_height, session_width].
static void compare_input(const struct test_image *f, const double *expected, uint32_t channel, const char *what) {
    const struct test_image_case *c = &f->c;
    size_t count = (size_t)c->padded_height * c->padded_width;
    double *padded = malloc(count * sizeof *padded);
    float *got = malloc(count * sizeof *got);
    assert_true(padded && got);
    for (uint32_t y = 0; y < c->padded_height; y++) {
        for (uint32_t x = 0; x < c->padded_width; x++) {
            uint32_t from_y = y < c->session_height ? y : c->session_height - 1;
            uint32_t from_x = x < c->session_width ? x : c->session_width - 1;
            padded[y * c->padded_width + x] = expected[from_y * c->session_width + from_x];
            got[y * c->padded_width + x] = input_at(f, y, x, channel);
            for (uint32_t i = c->channels; i < f->input.stride; i++) {
                assert_true(input_at(f, y, x, i) == 0.0f);
            }
        }
    }
    // Sums over thousands of taps lose more.
    double tolerance = c->height > 1000 || c->width > 1000 ? 1e-8 : 1e-11;
    compare(f, padded, got, count, c->storage == HYMN_STORAGE_F16 ? 1e-6 : tolerance, what);
    free(padded);
    free(got);
}

static void check_image(const struct test_image_case *c, struct test_random *random) {
    struct test_image f;
    test_image_begin(&f, context, c, random);
    uint64_t bytes = hymn_image_pixel_bytes(c->format, c->height, c->width);
    uint64_t scratch = hymn_image_input_scratch_bytes(&f.steps, c->format, c->height, c->width);
    test_image_buffer(&f, HYMN_VK_ROLE_UPLOAD, 256 + bytes);
    test_image_buffer(&f, HYMN_VK_ROLE_IMAGE, 256 + scratch);
    uint8_t *pixels = f.bytes[HYMN_VK_ROLE_UPLOAD] + 256;
    for (uint64_t i = 0; i < bytes; i++) {
        pixels[i] = (uint8_t)test_random_u64(random);
    }
    assert_int_equal(hymn_image_input(&f.steps, c->format, c->height, c->width,
                                      (struct hymn_vk_binding){HYMN_VK_ROLE_UPLOAD, 256, bytes},
                                      (struct hymn_vk_binding){HYMN_VK_ROLE_IMAGE, 256, scratch}),
                     HYMN_STATUS_OK);
    test_image_run(&f, 0, NULL);
    for (uint32_t channel = 0; channel < c->channels; channel++) {
        double *expected = resized_image(c, pixels, channel);
        for (uint32_t i = 0; i < c->session_height * c->session_width; i++) {
            expected[i] = (expected[i] / 255.0 - f.mean[channel]) / f.std[channel];
        }
        compare_input(&f, expected, channel, "image");
        free(expected);
    }
    test_image_end(&f);
}

static void test_images(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image images");
    for (uint32_t i = 0; i < 40; i++) {
        struct test_image_case c = test_image_random_case(&random);
        if (i < 6) {
            c.height = c.width = 1;
        } else if (i < 9) { // the size of the session: every pixel as it is
            c.height = c.session_height;
            c.width = c.session_width;
        }
        check_image(&c, &random);
    }
}

// What one step or two make of the image in the upload buffer: a binding that cannot hold it needs two.
static void run_image(struct test_image *f, bool resized, uint8_t **out_input) {
    const struct test_image_case *c = &f->c;
    uint64_t bytes = hymn_image_pixel_bytes(c->format, c->height, c->width);
    f->plan.max_binding_bytes = resized ? bytes - 4 : context->device->plan.max_binding_bytes;
    uint64_t scratch = hymn_image_input_scratch_bytes(&f->steps, c->format, c->height, c->width);
    assert_int_equal(scratch > 0, resized);
    free(f->bytes[HYMN_VK_ROLE_IMAGE]);
    test_image_buffer(f, HYMN_VK_ROLE_IMAGE, 256 + scratch);
    memset(f->bytes[HYMN_VK_ROLE_ACTIVATIONS], 0xFF, f->sizes[HYMN_VK_ROLE_ACTIVATIONS]);
    f->program.count = 0;
    assert_int_equal(hymn_image_input(&f->steps, c->format, c->height, c->width,
                                      (struct hymn_vk_binding){HYMN_VK_ROLE_UPLOAD, 256, bytes},
                                      (struct hymn_vk_binding){HYMN_VK_ROLE_IMAGE, 256, scratch}),
                     HYMN_STATUS_OK);
    assert_true(resized ? f->program.count >= 2 : f->program.count == 1);
    test_image_run(f, 0, NULL);
    *out_input = malloc(f->input.bytes);
    assert_non_null(*out_input);
    memcpy(*out_input, f->bytes[HYMN_VK_ROLE_ACTIVATIONS], f->input.bytes);
}

// Images of the session's size are not resized, and come out as if they were: the same bits where divisions are rounded
// correctly, of which Vulkan does not assure us on GPUs.
static void test_session_size(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image session size");
    for (uint32_t i = 0; i < 24; i++) {
        struct test_image_case c = test_image_random_case(&random);
        c.small_bindings = false;
        c.format = (enum hymn_pixel_format)(i % 3);
        c.channels = i / 3 % 2 ? 3 : 1;
        c.storage = (enum hymn_storage)(i / 6 % 2);
        c.padded_height += (c.height = test_random_range(&random, 24, 90)) - c.session_height;
        c.padded_width += (c.width = test_random_range(&random, 24, 90)) - c.session_width;
        c.session_height = c.height;
        c.session_width = c.width;
        struct test_image f;
        uint8_t *as_it_is, *resized;
        test_image_begin(&f, context, &c, &random);
        test_image_buffer(&f, HYMN_VK_ROLE_UPLOAD, 256 + hymn_image_pixel_bytes(c.format, c.height, c.width));
        for (uint64_t k = 256; k < f.sizes[HYMN_VK_ROLE_UPLOAD]; k++) {
            f.bytes[HYMN_VK_ROLE_UPLOAD][k] = (uint8_t)test_random_u64(&random);
        }
        run_image(&f, false, &as_it_is);
        run_image(&f, true, &resized);
        size_t element = c.storage == HYMN_STORAGE_F16 ? 2 : 4, count = f.input.bytes / element;
        for (size_t k = 0; k < count && !f.plan.cpu; k++) {
            float a =
                element == 2 ? hymn_half_to_float(((uint16_t *)(void *)as_it_is)[k]) : ((float *)(void *)as_it_is)[k];
            float b =
                element == 2 ? hymn_half_to_float(((uint16_t *)(void *)resized)[k]) : ((float *)(void *)resized)[k];
            assert_true(isnan(a) == isnan(b)); // other images'
            assert_true(isnan(a) || fabsf(a - b) <= (element == 2 ? 2e-3f : 2e-6f) * (1.0f + fabsf(a)));
        }
        if (f.plan.cpu) {
            assert_memory_equal(as_it_is, resized, f.input.bytes);
        }
        free(as_it_is);
        free(resized);
        test_image_end(&f);
    }
}

// The longest sides, either way.
static void test_long_sides(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image long sides");
    struct test_image_case c = test_image_random_case(&random);
    c.small_bindings = false;
    c.format = HYMN_PIXEL_RGB8;
    c.height = 3;
    c.width = HYMN_IMAGE_MAX_SIDE;
    check_image(&c, &random);
    c.session_width = c.padded_width = 1;
    check_image(&c, &random);
    c.height = HYMN_IMAGE_MAX_SIDE;
    c.width = 3;
    check_image(&c, &random);
    c.session_height = c.padded_height = 1;
    check_image(&c, &random);
    c.height = 30000;
    c.width = 30;
    c.session_height = c.padded_height = 64;
    c.session_width = c.padded_width = 300; // more columns than are kept at a time
    check_image(&c, &random);
}

static void test_tensors(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image tensors");
    for (uint32_t i = 0; i < 16; i++) {
        struct test_image_case c = test_image_random_case(&random);
        c.channels = 1 + i % 8;
        struct test_image f;
        test_image_begin(&f, context, &c, &random);
        uint64_t bytes = hymn_image_tensor_bytes(&f.steps);
        size_t plane = (size_t)c.session_height * c.session_width;
        assert_true(bytes == c.channels * plane * sizeof(float));
        test_image_buffer(&f, HYMN_VK_ROLE_UPLOAD, 256 + bytes);
        float *tensor = (float *)(void *)(f.bytes[HYMN_VK_ROLE_UPLOAD] + 256);
        test_random_fill(&random, tensor, c.channels * plane, -2.0f, 2.0f);
        struct hymn_vk_binding binding = {HYMN_VK_ROLE_UPLOAD, 256, bytes};
        assert_int_equal(hymn_image_tensor_input(&f.steps, binding), HYMN_STATUS_OK);
        test_image_run(&f, 0, NULL);
        double *expected = malloc(plane * sizeof *expected);
        assert_non_null(expected);
        for (uint32_t channel = 0; channel < c.channels; channel++) {
            for (size_t k = 0; k < plane; k++) {
                expected[k] = tensor[channel * plane + k];
            }
            compare_input(&f, expected, channel, "tensor");
        }
        free(expected);
        test_image_end(&f);
    }
}

// ---------------------------------------------------------------------------------------------------- plain C: output

// Fills the network's output with logits and returns them as [classes, session_height, session_width].
static double *random_logits(struct test_image *f, struct test_random *random) {
    const struct test_image_case *c = &f->c;
    size_t plane = (size_t)c->session_height * c->session_width;
    double *logits = malloc(c->classes * plane * sizeof *logits);
    assert_non_null(logits);
    float *to = (float *)(void *)(f->bytes[HYMN_VK_ROLE_ACTIVATIONS] + f->output.offset);
    for (size_t i = 0; i < f->output.bytes / sizeof *to; i++) {
        bool real = i % f->output.stride < c->classes;
        to[i] = real ? test_random_float(random, -6.0f, 6.0f) : 0.0f;
        if (real && test_random_range(random, 0, 20) == 0) {
            to[i] *= 100.0f; // exp() of it overflows
        }
    }
    for (size_t i = 0; i < c->classes * plane; i++) {
        size_t at = i % plane, row = (size_t)c->index * c->padded_height + at / c->session_width;
        logits[i] = to[(row * c->padded_width + at % c->session_width) * f->output.stride + i / plane];
    }
    return logits;
}

static void activate(const struct test_image_case *c, double *logits) {
    size_t plane = (size_t)c->session_height * c->session_width;
    for (size_t i = 0; i < plane; i++) {
        double most = -INFINITY, sum = 0.0;
        for (size_t k = 0; k < c->classes; k++) {
            most = fmax(most, logits[k * plane + i]);
        }
        for (size_t k = 0; k < c->classes; k++) {
            sum += exp(logits[k * plane + i] - most);
        }
        for (size_t k = 0; k < c->classes; k++) {
            double *v = &logits[k * plane + i];
            *v = c->classes == 1 ? 1.0 / (1.0 + exp(-*v)) : exp(*v - most) / sum;
        }
    }
}

static uint32_t sample(uint32_t at, uint32_t in, uint32_t out, double *fraction) {
    double position = fmax((double)in / out * (at + 0.5) - 0.5, 0.0);
    uint32_t first = (uint32_t)position;
    first = first < in ? first : in - 1;
    *fraction = position - first;
    return first;
}

// Probability of one class at one pixel of the result.
static double probability(const struct test_image_case *c, const double *plane, uint32_t y, uint32_t x) {
    double down, across;
    uint32_t y0 = sample(y, c->session_height, c->height, &down), y1 = y0 + 1 < c->session_height ? y0 + 1 : y0;
    uint32_t x0 = sample(x, c->session_width, c->width, &across), x1 = x0 + 1 < c->session_width ? x0 + 1 : x0;
    const double *upper = plane + (size_t)y0 * c->session_width, *lower = plane + (size_t)y1 * c->session_width;
    return (1.0 - down) * ((1.0 - across) * upper[x0] + across * upper[x1]) +
           down * ((1.0 - across) * lower[x0] + across * lower[x1]);
}

// What a mask must say; 256 where it is too close to call.
static uint32_t label(const struct test_image_case *c, const double *activated, uint32_t y, uint32_t x,
                      float threshold) {
    size_t plane = (size_t)c->session_height * c->session_width;
    if (c->classes == 1) {
        double p = probability(c, activated, y, x);
        return fabs(p - threshold) < 1e-5 ? 256 : p >= threshold ? 255 : 0;
    }
    double best = -1.0, next = -1.0;
    uint32_t found = 0;
    for (uint32_t k = 0; k < c->classes; k++) {
        double p = probability(c, activated + k * plane, y, x);
        if (p > best) {
            next = best;
            best = p;
            found = k;
        } else if (p > next) {
            next = p;
        }
    }
    return best - next < 1e-5 ? 256 : found;
}

static void check_mask(const struct test_image *f, const uint8_t *mask, const double *activated, float threshold) {
    uint32_t row_bytes = hymn_image_mask_row_bytes(f->c.width);
    for (uint32_t y = 0; y < f->c.height; y++) {
        for (uint32_t x = 0; x < row_bytes; x++) {
            uint32_t expected = x < f->c.width ? label(&f->c, activated, y, x, threshold) : 0;
            if (expected < 256 && mask[y * row_bytes + x] != expected) {
                fail_msg("mask %u x %u of %u x %u, %u classes: %u at %u, %u, not %u", f->c.height, f->c.width,
                         f->c.session_height, f->c.session_width, f->c.classes, mask[y * row_bytes + x], y, x,
                         expected);
            }
        }
    }
}

static void check_outputs(const struct test_image_case *c, struct test_random *random) {
    struct test_image f;
    test_image_begin(&f, context, c, random);
    float threshold = test_random_float(random, 0.2f, 0.8f);
    double *logits = random_logits(&f, random);
    uint64_t logit_bytes = hymn_image_logits_bytes(&f.steps), at_floats = (logit_bytes + 255) / 256 * 256;
    uint64_t float_bytes = hymn_image_probability_bytes(&f.steps, c->height, c->width);
    uint64_t mask_bytes = hymn_image_mask_bytes(c->height, c->width);
    uint64_t at_mask = at_floats + (float_bytes + 255) / 256 * 256;
    test_image_buffer(&f, HYMN_VK_ROLE_IMAGE, logit_bytes);
    uint64_t again = at_mask + (mask_bytes + 255) / 256 * 256;
    bool direct = hymn_image_is_of_session_size(&f.steps, c->height, c->width);
    test_image_buffer(&f, HYMN_VK_ROLE_READBACK, again + at_mask + mask_bytes);
    struct hymn_vk_binding activated = {HYMN_VK_ROLE_IMAGE, 0, logit_bytes};
    struct hymn_vk_binding out = {HYMN_VK_ROLE_READBACK, 0, logit_bytes};
    assert_int_equal(hymn_image_logits(&f.steps, out), HYMN_STATUS_OK);
    assert_int_equal(hymn_image_activate(&f.steps, activated), HYMN_STATUS_OK);
    out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, at_floats, float_bytes};
    assert_int_equal(hymn_image_probabilities(&f.steps, activated, c->height, c->width, out), HYMN_STATUS_OK);
    out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, at_mask, mask_bytes};
    assert_int_equal(hymn_image_mask(&f.steps, activated, threshold, c->height, c->width, out), HYMN_STATUS_OK);
    if (direct) {
        out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, again + at_floats, float_bytes};
        assert_int_equal(hymn_image_probabilities_directly(&f.steps, out), HYMN_STATUS_OK);
        out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, again + at_mask, mask_bytes};
        assert_int_equal(hymn_image_mask_directly(&f.steps, threshold, out), HYMN_STATUS_OK);
    }
    test_image_run(&f, 0, NULL);

    const uint8_t *readback = f.bytes[HYMN_VK_ROLE_READBACK];
    compare(&f, logits, (const float *)(const void *)readback, logit_bytes / 4, 0.0, "logits");
    activate(c, logits);
    compare(&f, logits, (const float *)(const void *)f.bytes[HYMN_VK_ROLE_IMAGE], logit_bytes / 4, 1e-11, "activated");
    double *expected = malloc(float_bytes / sizeof(float) * sizeof *expected);
    assert_non_null(expected);
    size_t plane = (size_t)c->session_height * c->session_width;
    for (size_t i = 0; i < float_bytes / 4; i++) {
        size_t pixel_at = i % ((size_t)c->height * c->width);
        expected[i] = probability(c, logits + i / ((size_t)c->height * c->width) * plane,
                                  (uint32_t)(pixel_at / c->width), (uint32_t)(pixel_at % c->width));
    }
    compare(&f, expected, (const float *)(const void *)(readback + at_floats), float_bytes / 4, 1e-11, "probabilities");
    check_mask(&f, readback + at_mask, logits, threshold);
    if (direct) {
        assert_memory_equal(readback + again + at_floats, readback + at_floats, float_bytes);
        assert_memory_equal(readback + again + at_mask, readback + at_mask, mask_bytes);
    }
    free(expected);
    free(logits);
    test_image_end(&f);
}

static void test_outputs(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image outputs");
    for (uint32_t i = 0; i < 40; i++) {
        struct test_image_case c = test_image_random_case(&random);
        if (i % 4 == 0) {
            c.height = test_random_range(&random, 1, 400); // many rows between two source rows
        }
        if (i < 4) {
            c.session_height = c.session_width = 1;
        } else if (i < 8) {
            c.height = c.width = 1;
        } else if (i < 10) {
            c.classes = 64;
        } else if (i >= 20) {
            c.height = c.session_height;
            c.width = c.session_width;
        }
        check_outputs(&c, &random);
    }
}

static void test_wide_outputs(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image wide outputs");
    struct test_image_case c = test_image_random_case(&random);
    c.small_bindings = false;
    c.height = 5;
    c.width = HYMN_IMAGE_MAX_SIDE;
    check_outputs(&c, &random);
    c.height = HYMN_IMAGE_MAX_SIDE;
    c.width = 5;
    check_outputs(&c, &random);
}

// Equal probabilities: the lower class.
static void test_ties(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image ties");
    struct test_image_case c = test_image_random_case(&random);
    c.classes = 5;
    c.small_bindings = false;
    struct test_image f;
    test_image_begin(&f, context, &c, &random);
    memset(f.bytes[HYMN_VK_ROLE_ACTIVATIONS], 0, f.sizes[HYMN_VK_ROLE_ACTIVATIONS]);
    test_image_buffer(&f, HYMN_VK_ROLE_IMAGE, hymn_image_logits_bytes(&f.steps));
    uint64_t resized = (hymn_image_mask_bytes(c.height, c.width) + 255) / 256 * 256;
    uint64_t own = hymn_image_mask_bytes(c.session_height, c.session_width);
    test_image_buffer(&f, HYMN_VK_ROLE_READBACK, resized + own);
    struct hymn_vk_binding activated = {HYMN_VK_ROLE_IMAGE, 0, f.sizes[HYMN_VK_ROLE_IMAGE]};
    struct hymn_vk_binding out = {HYMN_VK_ROLE_READBACK, 0, resized};
    assert_int_equal(hymn_image_activate(&f.steps, activated), HYMN_STATUS_OK);
    assert_int_equal(hymn_image_mask(&f.steps, activated, 0.5f, c.height, c.width, out), HYMN_STATUS_OK);
    out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, resized, own};
    assert_int_equal(hymn_image_mask_directly(&f.steps, 0.5f, out), HYMN_STATUS_OK);
    test_image_run(&f, 0, NULL);
    for (uint64_t i = 0; i < resized + own; i++) {
        if (i < hymn_image_mask_bytes(c.height, c.width) || i >= resized) {
            assert_int_equal(f.bytes[HYMN_VK_ROLE_READBACK][i], 0);
        }
    }
    test_image_end(&f);
}

static void test_refusals(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_image refusals");
    struct test_image_case c = test_image_random_case(&random);
    c.channels = 2;
    struct test_image f;
    test_image_begin(&f, context, &c, &random);
    struct hymn_vk_binding binding = {HYMN_VK_ROLE_UPLOAD, 0, 256};
    assert_int_equal(hymn_image_input(&f.steps, HYMN_PIXEL_RGB8, 4, 4, binding, binding), HYMN_STATUS_INVALID_ARGUMENT);
    f.steps.in_channels = 3;
    f.steps.width = 32769;
    assert_int_equal(hymn_image_input(&f.steps, HYMN_PIXEL_RGB8, 4, 4, binding, binding), HYMN_STATUS_UNSUPPORTED);
    test_image_end(&f);
}

// ------------------------------------------------------------------------------------------------------------ timing

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 4; i++) {
        struct test_image_case c = {.height = i < 2 ? 3648 : 256,
                                    .width = i < 2 ? 5472 : 256,
                                    .session_height = 256,
                                    .session_width = 256,
                                    .padded_height = 256,
                                    .padded_width = 256,
                                    .batch = 1,
                                    .channels = 3,
                                    .classes = i % 2 ? 5 : 1,
                                    .storage = HYMN_STORAGE_F16};
        struct test_image f;
        test_image_begin(&f, context, &c, &random);
        free(random_logits(&f, &random));
        test_image_buffer(&f, HYMN_VK_ROLE_UPLOAD, hymn_image_pixel_bytes(c.format, c.height, c.width));
        test_image_buffer(&f, HYMN_VK_ROLE_IMAGE,
                          hymn_image_input_scratch_bytes(&f.steps, c.format, c.height, c.width) +
                              hymn_image_logits_bytes(&f.steps));
        test_image_buffer(&f, HYMN_VK_ROLE_READBACK, hymn_image_mask_bytes(c.height, c.width));
        struct hymn_vk_binding from = {HYMN_VK_ROLE_UPLOAD, 0, f.sizes[HYMN_VK_ROLE_UPLOAD]};
        struct hymn_vk_binding scratch = {HYMN_VK_ROLE_IMAGE, 0, f.sizes[HYMN_VK_ROLE_IMAGE]};
        struct hymn_vk_binding out = {HYMN_VK_ROLE_READBACK, 0, f.sizes[HYMN_VK_ROLE_READBACK]};
        double in_ms = 0.0, out_ms = 0.0;
        assert_int_equal(hymn_image_input(&f.steps, c.format, c.height, c.width, from, scratch), HYMN_STATUS_OK);
        test_image_run(&f, 5, &in_ms);
        hymn_vk_program_free(&f.program);
        if (hymn_image_is_of_session_size(&f.steps, c.height, c.width)) {
            assert_int_equal(hymn_image_mask_directly(&f.steps, 0.5f, out), HYMN_STATUS_OK);
        } else {
            assert_int_equal(hymn_image_activate(&f.steps, scratch), HYMN_STATUS_OK);
            assert_int_equal(hymn_image_mask(&f.steps, scratch, 0.5f, c.height, c.width, out), HYMN_STATUS_OK);
        }
        test_image_run(&f, 5, &out_ms);
        printf("%u x %u: in %.2f ms, mask of %u classes out %.2f ms\n", c.height, c.width, in_ms, c.classes, out_ms);
        test_image_end(&f);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),  cmocka_unit_test(test_session_size), cmocka_unit_test(test_long_sides),
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_outputs),      cmocka_unit_test(test_wide_outputs),
        cmocka_unit_test(test_ties),    cmocka_unit_test(test_refusals),
    };
    return op_main(argc, argv, &(struct op_program){"op_image", &context, tests, sizeof tests / sizeof *tests, bench});
}
