// SPDX-License-Identifier: MIT
//
// The command where the device's memory does not suffice: with half the batch, and with smaller tiles, it does the same
// work. The linker brings the calls that open contexts and sessions here first (tests/CMakeLists.txt), where the memory
// is limited.
#define _POSIX_C_SOURCE 200809L // mkdtemp

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <jpeglib.h>

#include "base/file.h"
#include "common.h"
#include "files.h"
#include "image.h"
#include "npy.h"
#include "pipeline.h"
#include "session/session.h"
#include "support/test_command.h"
#include "support/test_leaks.h"
#include "support/test_random.h"
#include "vk/memory.h"

enum { SIDE = 64, PICTURES = 7 }; // two and a third runs of three
enum { WIDE = 8 * SIDE };         // of pictures beside which the network's own memory is small
// Of few shaders, which software devices compile for every session.
static const char model[] = HYMN_GOLDEN_DIR "/one_stage_conv.safetensors";
static char folder[] = "/tmp/hymn-memory-XXXXXX";

// ---- between the command and the library

static bool spoils;                   // what waited runs have written
static uint64_t cap;                  // of the device's memory; 0: none
static uint64_t room;                 // for runs, beside the session's memory; 0: no limit
static uint32_t most_streams = 1;     // of a session: with more of them there is no one amount of memory that it needs
static bool exact;                    // sessions are of the batch that is asked for
static uint32_t asked;                // sessions
static struct hymn_session_info last; // of the last one; zeros where it could not be made
static uint64_t at_first, used;       // of the device's memory, before the last one's first run and as it ended
static uint64_t roomy;                // of it: with what all outputs of the last one's runs would take
static struct hymn_vk_device *device;

enum hymn_status __real_hymn_context_create(const struct hymn_context_params *params,
                                            struct hymn_context **out_context);
enum hymn_status __wrap_hymn_context_create(const struct hymn_context_params *params,
                                            struct hymn_context **out_context);
enum hymn_status __real_hymn_session_create(struct hymn_context *context, const struct hymn_model *of,
                                            const struct hymn_session_params *params,
                                            struct hymn_session **out_session);
enum hymn_status __wrap_hymn_session_create(struct hymn_context *context, const struct hymn_model *of,
                                            const struct hymn_session_params *params,
                                            struct hymn_session **out_session);
enum hymn_status __real_hymn_session_wait(struct hymn_session *session, uint64_t ticket);
enum hymn_status __wrap_hymn_session_wait(struct hymn_session *session, uint64_t ticket);
void __real_hymn_session_destroy(struct hymn_session **session);
void __wrap_hymn_session_destroy(struct hymn_session **session);

enum hymn_status __wrap_hymn_context_create(const struct hymn_context_params *params,
                                            struct hymn_context **out_context) {
    const enum hymn_status status = __real_hymn_context_create(params, out_context);
    if (status == HYMN_STATUS_OK) {
        device = (*out_context)->device;
        hymn_vk_memory_cap(device, cap);
        for (uint32_t i = device->queue_count; i < HYMN_VK_MAX_QUEUES; i++) {
            device->queues[i] = device->queues[i % device->queue_count]; // as if it had so many
        }
        device->queue_count = HYMN_VK_MAX_QUEUES;
    }
    return status;
}

enum hymn_status __wrap_hymn_session_wait(struct hymn_session *session, uint64_t ticket) {
    uint8_t *mask = NULL;
    for (uint32_t i = 0; i < session->info.runs_in_flight; i++) {
        mask = session->slots[i].ticket == ticket ? session->slots[i].outputs[0].mask : mask;
    }
    const enum hymn_status status = __real_hymn_session_wait(session, ticket);
    if (spoils && status == HYMN_STATUS_OK) {
        assert_non_null(mask);
        mask[0] ^= 1;
    }
    return status;
}

enum hymn_status __wrap_hymn_session_create(struct hymn_context *context, const struct hymn_model *of,
                                            const struct hymn_session_params *params,
                                            struct hymn_session **out_session) {
    struct hymn_session_params own = *params;
    own.tuning_ms = HYMN_TUNING_NONE; // then equal sessions give equal bits
    own.streams = own.streams < most_streams ? own.streams : most_streams;
    own.min_batch = exact ? 0 : own.min_batch;
    const enum hymn_status status = __real_hymn_session_create(context, of, &own, out_session);
    last = status == HYMN_STATUS_OK ? *hymn_session_get_info(*out_session) : (struct hymn_session_info){0};
    asked++;
    roomy = at_first = device->memory_bytes;
    if (status == HYMN_STATUS_OK) {
        uint64_t own_bytes, host_bytes;
        hymn_io_bytes(*out_session, &own_bytes, &host_bytes);
        roomy += last.runs_in_flight * (own_bytes + host_bytes);
    }
    if (room > 0) {
        hymn_vk_memory_cap(device, at_first + room);
    }
    return status;
}

void __wrap_hymn_session_destroy(struct hymn_session **session) {
    if (*session != NULL) {
        used = device->memory_bytes;
    }
    __real_hymn_session_destroy(session);
}

static uint64_t host_memory;                // for pictures; 0: as much as the command thinks right
static atomic_size_t decoded, most_decoded; // bytes of pictures

enum exit_code __real_pipeline_run(const struct pipeline_params *params, size_t *out_done);
enum exit_code __wrap_pipeline_run(const struct pipeline_params *params, size_t *out_done);
bool __real_image_allocate(struct image *out_image, uint32_t width, uint32_t height, uint32_t channels,
                           struct cause *cause);
bool __wrap_image_allocate(struct image *out_image, uint32_t width, uint32_t height, uint32_t channels,
                           struct cause *cause);
void __real_image_free(struct image *image);
void __wrap_image_free(struct image *image);

enum exit_code __wrap_pipeline_run(const struct pipeline_params *params, size_t *out_done) {
    struct pipeline_params own = *params;
    own.memory = host_memory;
    atomic_store(&most_decoded, 0);
    return __real_pipeline_run(&own, out_done);
}

bool __wrap_image_allocate(struct image *out_image, uint32_t width, uint32_t height, uint32_t channels,
                           struct cause *cause) {
    if (!__real_image_allocate(out_image, width, height, channels, cause)) {
        return false;
    }
    const size_t bytes = (size_t)width * height * channels, now = atomic_fetch_add(&decoded, bytes) + bytes;
    for (size_t most = atomic_load(&most_decoded); now > most;) {
        if (atomic_compare_exchange_weak(&most_decoded, &most, now)) {
            break;
        }
    }
    return true;
}

void __wrap_image_free(struct image *image) {
    if (image->pixels != NULL) {
        atomic_fetch_sub(&decoded, (size_t)image->width * image->height * image->channels);
    }
    __real_image_free(image);
}

// ---- the command

static char *at(const char *name) {
    static char paths[64][256];
    static unsigned next;
    char *path = paths[next++ % 64];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int set_up(void **state) {
    static uint8_t pixels[4 * SIDE * SIDE * 3];
    static float values[PICTURES * 3 * SIDE * SIDE];
    struct test_random random = test_random_fixed(11);
    struct cause cause;
    (void)state;
    if (mkdtemp(folder) == NULL || !folder_make(at("in"), &cause) || !folder_make(at("large"), &cause)) {
        return -1;
    }
    bool good = true;
    for (uint32_t i = 0; i <= PICTURES && good; i++) {
        char name[32];
        const uint32_t side = i < PICTURES ? SIDE : 2 * SIDE; // the last one is to be cut into tiles
        for (uint32_t p = 0; p < side * side * 3; p++) {
            pixels[p] = (uint8_t)(p / 3 % side * 3 + p / 3 / side * i + test_random_range(&random, 0, 60));
        }
        snprintf(name, sizeof(name), i < PICTURES ? "in/%u.png" : "large/%u.png", i);
        good = image_write_png(at(name), pixels, side, side, 3, &cause);
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        values[i] = (float)test_random_range(&random, 0, 255) / 255;
    }
    const uint64_t shape[4] = {PICTURES, 3, SIDE, SIDE};
    return good && npy_write(at("x.npy"), values, shape, 4, &cause) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    folder_remove(folder);
    return folder_exists(folder);
}

// Runs a command with its standard output in the file "out" and at most so much device memory. Makes one session.
static int run(int (*command)(char **, size_t), const char *const *words, uint64_t memory) {
    cap = memory;
    asked = 0;
    const int code = test_command_run(command, words, at("out"));
    assert_int_equal(asked, 1);
    return code;
}

static void expect_session(uint32_t side, uint32_t batch) {
    assert_int_equal(last.height, side);
    assert_int_equal(last.width, side);
    assert_int_equal(last.batch, batch);
}

static void expect_same_file(const char *a, const char *b) {
    struct hymn_file_map one, two;
    assert_int_equal(hymn_file_map_open(at(a), NULL, &one), HYMN_STATUS_OK);
    assert_int_equal(hymn_file_map_open(at(b), NULL, &two), HYMN_STATUS_OK);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    hymn_file_map_close(&one);
    hymn_file_map_close(&two);
}

// Memory that suffices for the command, with all that its runs might take on, and not for much more.
static uint64_t enough(int (*command)(char **, size_t), const char *const *words) {
    assert_int_equal(run(command, words, 0), CODE_OK);
    assert_true(used <= roomy);
    return roomy + roomy / 8;
}

// ---- tests

static uint64_t for_three; // pictures, not for six

static void segment_with_half_the_batch(void **state) {
    (void)state;
    const char *const three[] = {at("in"), "-m", model, "-o", at("three"), "-s", "64", "--batch", "3", NULL};
    const char *const limited[] = {at("in"), "-m", model, "-o", at("limited"), "-s", "64", "--batch", "6", NULL};
    for_three = enough(command_segment, three);
    assert_int_equal(run(command_segment, limited, for_three), CODE_OK);
    expect_session(SIDE, 3);
    for (int i = 0; i < PICTURES; i++) {
        char reference[32], mask[32];
        snprintf(reference, sizeof(reference), "three/%d_mask.png", i);
        snprintf(mask, sizeof(mask), "limited/%d_mask.png", i);
        expect_same_file(reference, mask);
    }
    assert_int_equal(run(command_segment, limited, 1), CODE_ENGINE); // not even for one
    expect_session(0, 0);
}

static void eval_with_half_the_batch(void **state) {
    (void)state;
    assert_true(for_three > 0 && folder_exists(at("three"))); // of the test before, whose session is the same
    const char *const limited[] = {"-m",      model, "-i",     at("in"),        "-k", at("three"), "-s", "64",
                                   "--batch", "6",   "--json", at("eval.json"), NULL};
    assert_int_equal(run(command_eval, limited, for_three), CODE_OK);
    expect_session(SIDE, 3);
    json_error_t error;
    json_t *figures = json_load_file(at("eval.json"), 0, &error);
    assert_int_equal(json_integer_value(json_object_get(figures, "images")), PICTURES);
    assert_true(json_real_value(json_object_get(figures, "dice_mean")) == 1);
    json_decref(figures);
}

static void run_with_half_the_batch(void **state) {
    (void)state;
    const char *const three[] = {"-m", model, "-i", at("x.npy"), "-o", at("three.npy"), "--batch", "3", NULL};
    const char *const limited[] = {"-m", model, "-i", at("x.npy"), "-o", at("limited.npy"), "--batch", "6", NULL};
    const uint64_t memory = enough(command_run, three);
    assert_int_equal(run(command_run, limited, memory), CODE_OK);
    expect_session(SIDE, 3);
    expect_same_file("three.npy", "limited.npy");
    assert_int_equal(run(command_run, limited, 1), CODE_ENGINE);
}

// Tiles may be smaller than asked for; whole pictures at another size would be another result.
static void smaller_tiles_but_no_smaller_pictures(void **state) {
    (void)state;
    const char *const large[] = {at("large"), "-m", model, "-o", at("tiles"), "-s", "128", "--tile", NULL};
    const char *const small[] = {at("large"), "-m", model, "-o", at("small"), "-s", "64", "--tile", NULL};
    const char *const whole[] = {at("large"), "-m", model, "-o", at("whole"), "-s", "128", NULL};
    const uint64_t memory = enough(command_segment, small);
    assert_int_equal(run(command_segment, large, memory), CODE_OK);
    expect_session(SIDE, 1);
    expect_same_file("tiles/7_mask.png", "small/7_mask.png");
    assert_int_equal(run(command_segment, whole, memory), CODE_ENGINE);
    expect_session(0, 0);
    const char *const eval[] = {"-m", model, "-i", at("large"), "-k", at("small"), "-s", "128", "--tile", NULL};
    assert_int_equal(run(command_eval, eval, memory), CODE_OK);
    expect_session(SIDE, 1);
}

// As many as there are runs, queues and memory for; the files are the same.
static void several_streams_do_the_same_work(void **state) {
    (void)state;
    const struct { uint32_t most, streams, in_flight; } cases[] = {{1, 1, 2}, {8, 4, 4}, {2, 2, 2}};
    uint64_t one = 0, four = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char masks[32], array[32];
        snprintf(masks, sizeof(masks), "streams%zu", i);
        snprintf(array, sizeof(array), "streams%zu.npy", i);
        most_streams = cases[i].most;
        const char *const segment[] = {at("in"), "-m", model, "-o", at(masks), "-s", "64", NULL};
        assert_int_equal(run(command_segment, segment, 0), CODE_OK);
        assert_int_equal(last.streams, cases[i].streams);
        assert_int_equal(last.runs_in_flight, cases[i].in_flight);
        one = i == 0 ? used : one;
        four = i == 1 ? used : four;
        const char *const tiles[] = {at("large"), "-m", model, "-o", at(masks), "-s", "64", "--tile", NULL};
        assert_int_equal(run(command_segment, tiles, 0), CODE_OK);
        assert_int_equal(last.streams, cases[i].streams); // of a single picture
        const char *const numbers[] = {"-m", model, "-i", at("x.npy"), "-o", at(array), NULL};
        assert_int_equal(run(command_run, numbers, 0), CODE_OK);
        assert_int_equal(last.streams, cases[i].streams);
        expect_same_file("streams0.npy", array);
        for (int k = 0; k <= PICTURES; k++) {
            char reference[40], mask[40];
            snprintf(reference, sizeof(reference), "streams0/%d_mask.png", k);
            snprintf(mask, sizeof(mask), "%s/%d_mask.png", masks, k);
            expect_same_file(reference, mask);
        }
    }
    most_streams = 8;
    const char *const few[] = {at("in"), "-m", model, "-o", at("few"), "-s", "64", "--batch", "4", NULL};
    assert_int_equal(run(command_segment, few, 0), CODE_OK);
    assert_int_equal(last.streams, 2); // there are no more runs
    const char *const eight[] = {at("in"), "-m", model, "-o", at("few"), "-s", "64", "--streams", "8", NULL};
    assert_int_equal(run(command_segment, eight, 0), CODE_OK);
    assert_int_equal(last.streams, 7);
    const char *const limited[] = {at("in"), "-m", model, "-o", at("few"), "-s", "64", NULL};
    assert_int_equal(run(command_segment, limited, one), CODE_OK); // what runs need comes first
    assert_int_equal(last.streams, 1);
    assert_int_equal(last.runs_in_flight, 2);
    assert_int_equal(run(command_segment, limited, (one + four) / 2), CODE_OK);
    assert_in_range(last.streams, 1, 3);
    most_streams = 1;
}

// Decoders wait until pictures before are written, also where these wait for the rest of a batch. A picture that takes
// more than all of the memory goes alone.
static void decoders_wait_for_memory(void **state) {
    enum { PIXELS = WIDE * WIDE, MANY = 8 };
    static uint8_t pixels[PIXELS * 3];
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("flat"), &cause));
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof(name), "flat/%d.png", i);
        assert_true(image_write_png(at(name), pixels, WIDE, WIDE, 3, &cause));
    }
    // With its overlay and mask a picture takes 5 bytes a pixel, with its true mask and the comparison 13; 3, and 1 of
    // the true mask, are decoded.
    const struct {
        const char *batch;
        uint64_t segment, eval;
        size_t pictures;
    } cases[] = {{"1", 11 * PIXELS, 27 * PIXELS, 2}, {"8", 11 * PIXELS, 27 * PIXELS, 2}, {"3", 1, 1, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const segment[] = {at("flat"), "-m", model, "-s", "64",           "-o",
                                       at("host"), "-j", "8",   "-b", cases[i].batch, NULL};
        host_memory = cases[i].segment;
        assert_int_equal(run(command_segment, segment, 0), CODE_OK);
        assert_in_range(atomic_load(&most_decoded), 3 * PIXELS, cases[i].pictures * 3 * PIXELS);
        const char *const eval[] = {"-i", at("flat"), "-k", at("host"), "-m",           model, "-s",
                                    "64", "-j",       "8",  "-b",       cases[i].batch, NULL};
        host_memory = cases[i].eval;
        assert_int_equal(run(command_eval, eval, 0), CODE_OK);
        assert_in_range(atomic_load(&most_decoded), 4 * PIXELS, cases[i].pictures * 4 * PIXELS);
        assert_int_equal(atomic_load(&decoded), 0);
    }
    host_memory = 0;
}

static void write_progressive(const char *path, uint32_t side, uint8_t *grey) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = jpeg.image_height = side;
    jpeg.input_components = 1;
    jpeg.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (JSAMPROW row = grey; jpeg.next_scanline < side; row += side) {
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    assert_int_equal(fclose(file), 0);
}

// A picture takes 4 bytes a pixel with its mask, and its coefficients another 2.
static void coefficients_take_memory(void **state) {
    enum { PIXELS = WIDE * WIDE, MANY = 8 };
    static uint8_t grey[PIXELS];
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("progressive"), &cause));
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof(name), "progressive/%d.jpg", i);
        write_progressive(at(name), WIDE, grey);
    }
    const char *const segment[] = {at("progressive"), "-m", model, "-s", "64", "-o", at("host"), "-j", "8", "-b", "8",
                                   "--no-overlay",    NULL};
    host_memory = 9 * PIXELS; // for two of them but for that
    assert_int_equal(run(command_segment, segment, 0), CODE_OK);
    assert_int_equal(atomic_load(&most_decoded), PIXELS);
    host_memory = 10 * PIXELS; // for one that is decoded beside another one
    assert_int_equal(run(command_segment, segment, 0), CODE_OK);
    assert_in_range(atomic_load(&most_decoded), PIXELS, 2 * PIXELS);
    host_memory = 0;
}

// Runs the command twice, with memory for all of so many runs in flight and then for two and a half: words[output] is
// where to, `first` and then `second`. Leaves the limit.
static void run_tightly(int (*command)(char **, size_t), const char **words, uint32_t runs, size_t output,
                        const char *first, const char *second) {
    most_streams = runs;
    words[output] = at(first);
    assert_int_equal(run(command, words, 0), CODE_OK);
    assert_int_equal(last.runs_in_flight, runs);
    room = (used - at_first) / runs * 5 / 2;
    words[output] = at(second);
    assert_int_equal(run(command, words, 0), CODE_OK);
    assert_int_equal(last.runs_in_flight, runs);
    assert_true(used <= at_first + room);
}

static int forget_room(void **state) {
    (void)state;
    room = 0;
    most_streams = 1;
    return 0;
}

// A run in flight keeps its buffers from others that would have room without it.
static void runs_wait_for_memory(void **state) {
    enum { MANY = 12 };
    static uint8_t pixels[WIDE * WIDE * 3];
    const char *words[MANY + 9] = {"-m", model, "-s", "64", "--streams", "8", "-o"};
    struct cause cause;
    (void)state;
    for (int i = 0; i < MANY; i++) {
        char name[32];
        memset(pixels + i * 1000, 20 * i, sizeof(pixels) - i * 1000);
        snprintf(name, sizeof(name), "wide-%d.png", i);
        words[8 + i] = at(name);
        assert_true(image_write_png(words[8 + i], pixels, WIDE, WIDE, 3, &cause));
    }
    run_tightly(command_segment, words, 8, 7, "roomy", "tight");
    for (int i = 0; i < MANY; i++) {
        char reference[40], mask[40];
        snprintf(reference, sizeof(reference), "roomy/wide-%d_mask.png", i);
        snprintf(mask, sizeof(mask), "tight/wide-%d_mask.png", i);
        expect_same_file(reference, mask);
    }
    room = 1; // not of one
    assert_int_equal(run(command_segment, words, 0), CODE_INPUT);
}

static void tiles_wait_for_memory(void **state) {
    const char *words[] = {at("large"), "-m", model, "-s", "64", "--tile", "--streams", "8", "-o", "", NULL};
    (void)state;
    run_tightly(command_segment, words, 8, 9, "tiles-roomy", "tiles-tight");
    expect_same_file("tiles-roomy/7_mask.png", "tiles-tight/7_mask.png");
}

static void arrays_wait_for_memory(void **state) {
    const char *words[] = {"-i", at("x.npy"), "-m", model, "--streams", "7", "-o", "", NULL};
    (void)state;
    run_tightly(command_run, words, 7, 7, "roomy.npy", "tight.npy");
    expect_same_file("roomy.npy", "tight.npy");
}

static void expect_comparison(bool known) {
    static const char *const names[] = {"max_abs_error", "max_abs_logit", "nmse"};
    json_error_t error;
    json_t *figures = json_load_file(at("bench.json"), 0, &error);
    assert_true(json_real_value(json_object_get(figures, "images_per_second")) > 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *figure = json_object_get(figures, names[i]);
        assert_true(known ? json_is_real(figure) && json_real_value(figure) >= 0 : json_is_null(figure));
    }
    json_decref(figures);
}

// Of bench's two sessions the one in fp32, for the comparison, takes more memory; what was measured does not depend on
// it.
static void bench_without_memory_for_fp32(void **state) {
    (void)state;
    const char *const words[] = {"-m",       model, "-s",          "256",  "--batch",   "4",
                                 "--runs",   "1",   "--warmup",    "0",    "--streams", "1",
                                 "--tuning", "0",   "--precision", "fp16", "--json",    at("bench.json"),
                                 NULL,       NULL};
    const char *alone[sizeof(words) / sizeof(words[0])];
    memcpy(alone, words, sizeof(words));
    alone[sizeof(words) / sizeof(words[0]) - 2] = "--no-check";
    cap = 0;
    assert_int_equal(test_command_run(command_bench, alone, at("out")), CODE_OK);
    const uint64_t least = used;
    expect_comparison(false);
    assert_int_equal(test_command_run(command_bench, words, at("out")), CODE_OK);
    assert_true(least < at_first);
    expect_comparison(true);
    cap = (least + at_first) / 2;
    exact = true;
    assert_int_equal(test_command_run(command_bench, words, at("out")), CODE_OK);
    exact = false;
    expect_comparison(false);
}

static void bench_compares_runs_in_flight(void **state) {
    (void)state;
    const char *const words[] = {"-m",       model, "-s",        "64", "--batch",  "2", "--runs",     "1",
                                 "--warmup", "0",   "--streams", "1",  "--tuning", "0", "--no-check", NULL};
    cap = 0;
    assert_int_equal(test_command_run(command_bench, words, at("out")), CODE_OK);
    spoils = true;
    assert_int_equal(test_command_run(command_bench, words, at("out")), CODE_ENGINE);
    spoils = false;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_with_half_the_batch),
        cmocka_unit_test(eval_with_half_the_batch),
        cmocka_unit_test(run_with_half_the_batch),
        cmocka_unit_test(smaller_tiles_but_no_smaller_pictures),
        cmocka_unit_test(decoders_wait_for_memory),
        cmocka_unit_test(coefficients_take_memory),
        cmocka_unit_test(several_streams_do_the_same_work),
        cmocka_unit_test_teardown(runs_wait_for_memory, forget_room),
        cmocka_unit_test_teardown(tiles_wait_for_memory, forget_room),
        cmocka_unit_test_teardown(arrays_wait_for_memory, forget_room),
        cmocka_unit_test(bench_without_memory_for_fp32),
        cmocka_unit_test(bench_compares_runs_in_flight),
    };
    return cmocka_run_group_tests_name("cli_memory", tests, set_up, tear_down);
}
