// SPDX-License-Identifier: MIT
//
// hymn segment and hymn eval on models of several classes and of one channel, with random weights: masks are the
// classes of the greatest probability, with and without tiles, and agree with themselves.
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common.h"
#include "files.h"
#include "image.h"
#include "npy.h"
#include "support/test_command.h"
#include "support/test_file.h"
#include "support/test_leaks.h"
#include "support/test_random.h"

enum { WIDTH = 61, HEIGHT = 43, CLASSES = 5 };

static char folder[] = "/tmp/hymn-device-XXXXXX";

static char *at(const char *name) {
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void write_model(const char *name, const char *config, struct test_random *random) {
    struct test_file file;
    struct cause cause;
    size_t size;
    test_file_model(&file, config, HYMN_DTYPE_F32, random);
    uint8_t *bytes = test_file_bytes(&file, &size);
    if (!file_write(at(name), bytes, size, &cause)) {
        fail_msg("%s: %s", name, cause.text);
    }
    free(bytes);
    test_file_free(&file);
}

static int set_up(void **state) {
    static uint8_t pixels[HEIGHT * WIDTH * 3];
    struct test_random random = test_random_fixed(7);
    struct cause cause;
    (void)state;
    if (mkdtemp(folder) == NULL || !folder_make(at("in"), &cause)) {
        return -1;
    }
    write_model(
        "classes.safetensors",
        "{\"architecture\": \"hymunet\", \"version\": 1, \"in_channels\": 3, \"num_classes\": 5, \"dims\": [8, 12], "
        "\"depths\": [1, 1], \"conv_stages\": 1, \"decoder_depths\": [1], \"d_state\": 4, \"ssm_ratio\": 2.0, "
        "\"dt_rank\": \"auto\", \"skip\": \"mgf\", \"input_size\": [24, 32], \"mean\": [0.5, 0.5, 0.5], "
        "\"std\": [0.25, 0.25, 0.25], \"classes\": [\"ground\", \"a\", \"b\", \"c\", \"d\"], \"threshold\": 0.5}",
        &random);
    write_model(
        "grey.safetensors",
        "{\"architecture\": \"hymunet\", \"version\": 1, \"in_channels\": 1, \"num_classes\": 1, \"dims\": [8], "
        "\"depths\": [1], \"conv_stages\": 1, \"decoder_depths\": [], \"d_state\": 4, \"ssm_ratio\": 2.0, "
        "\"dt_rank\": \"auto\", \"skip\": \"mgf\", \"input_size\": [24, 32], \"mean\": [0.5], \"std\": [0.25], "
        "\"classes\": [\"lesion\"], \"threshold\": 0.5}",
        &random);
    for (size_t i = 0; i < sizeof(pixels); i++) {
        const size_t x = i / 3 % WIDTH, y = i / 3 / WIDTH;
        pixels[i] = (uint8_t)(x * 4 + y * (i % 3) * 3 + test_random_range(&random, 0, 40));
    }
    return image_write_png(at("in/picture.png"), pixels, WIDTH, HEIGHT, 3, &cause) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    folder_remove(folder);
    return folder_exists(folder);
}

// Runs a command with its standard output in the file "out".
static void run(int (*command)(char **, size_t), const char *const *words) {
    assert_int_equal(test_command_run(command, words, at("out")), CODE_OK);
}

static json_t *load_output(const char *name) {
    json_error_t error;
    json_t *json = json_load_file(at(name), 0, &error);
    if (json == NULL) {
        fail_msg("%s: %s", name, error.text);
    }
    return json;
}

// The mask is the class of the greatest probability; areas in the JSON line are its pixels.
static void check_classes(const char *output) {
    char name[64];
    struct image mask;
    struct npy probabilities;
    struct cause cause;
    size_t areas[CLASSES] = {0};
    snprintf(name, sizeof(name), "%s/picture_mask.png", output);
    assert_true(image_read(at(name), IMAGE_LABELS, NULL, &mask, &cause));
    snprintf(name, sizeof(name), "%s/picture_probability.npy", output);
    assert_true(npy_read(at(name), &probabilities, &cause));
    assert_int_equal(probabilities.dimensions, 3);
    assert_int_equal(probabilities.shape[0], CLASSES);
    for (size_t i = 0; i < HEIGHT * WIDTH; i++) {
        double sum = 0;
        size_t best = 0;
        for (size_t c = 0; c < CLASSES; c++) {
            const float value = probabilities.values[c * HEIGHT * WIDTH + i];
            sum += value;
            best = value > probabilities.values[best * HEIGHT * WIDTH + i] ? c : best;
        }
        assert_true(sum > 0.999 && sum < 1.001);
        assert_int_equal(mask.pixels[i], best);
        areas[best]++;
    }
    json_t *line = load_output("out"), *classes = json_object_get(line, "classes");
    assert_int_equal(json_array_size(classes), CLASSES - 1);
    assert_int_equal(json_integer_value(json_object_get(line, "area")), HEIGHT * WIDTH - (int)areas[0]);
    for (size_t c = 1; c < CLASSES; c++) {
        const json_t *entry = json_array_get(classes, c - 1);
        assert_int_equal(json_integer_value(json_object_get(entry, "area")), areas[c]);
        assert_int_equal(*json_string_value(json_object_get(entry, "name")), 'a' + (int)c - 1);
        assert_true(json_is_null(json_object_get(entry, "bounding_box")) == (areas[c] == 0));
    }
    json_decref(line);
    npy_free(&probabilities);
    image_free(&mask);
}

static void several_classes(void **state) {
    (void)state;
    const char *const whole[] = {at("in"), "-m", at("classes.safetensors"), "-o", at("whole"), "--probabilities=npy",
                                 NULL};
    run(command_segment, whole);
    check_classes("whole");
    const char *const tiles[] = {
        at("in"), "-m", at("classes.safetensors"), "-o", at("tiles"), "--probabilities=npy", "--tile", "--batch",
        "3",      NULL};
    run(command_segment, tiles);
    check_classes("tiles");
    const char *const planes[] = {at("in"),          "-m", at("classes.safetensors"), "-o", at("planes"),
                                  "--probabilities", NULL};
    run(command_segment, planes);
    json_t *line = load_output("out");
    assert_int_equal(json_array_size(json_object_get(line, "probabilities")), CLASSES);
    json_decref(line);
    assert_int_equal(access(at("planes/picture_probability_4.png"), R_OK), 0);
}

static void evaluated_against_themselves(void **state) {
    (void)state;
    const char *const words[] = {"-m",     at("classes.safetensors"), "--images", at("in"), "--masks", at("whole"),
                                 "--json", at("eval.json"),           NULL};
    run(command_eval, words);
    json_t *figures = load_output("eval.json");
    assert_true(json_real_value(json_object_get(figures, "dice_mean")) == 1);
    assert_true(json_real_value(json_object_get(figures, "hd95")) == 0);
    assert_int_equal(json_array_size(json_object_get(figures, "classes")), CLASSES - 1);
    json_decref(figures);
}

static void one_channel(void **state) {
    (void)state;
    const char *const words[] = {at("in"), "-m", at("grey.safetensors"), "-o", at("grey"), NULL};
    run(command_segment, words);
    struct image mask;
    struct cause cause;
    assert_true(image_read(at("grey/picture_mask.png"), IMAGE_LABELS, NULL, &mask, &cause));
    for (size_t i = 0; i < HEIGHT * WIDTH; i++) {
        assert_true(mask.pixels[i] == 0 || mask.pixels[i] == 255);
    }
    image_free(&mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_classes),
        cmocka_unit_test(evaluated_against_themselves),
        cmocka_unit_test(one_channel),
    };
    return cmocka_run_group_tests_name("cli_device", tests, set_up, tear_down);
}
