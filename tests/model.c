// SPDX-License-Identifier: MIT
//
// Models: every architecture variation is accepted, and whatever is wrong with a file's tensors is named.
#include "model/model.h"
#include "base/alloc.h"
#include "base/file.h"
#include "test_file.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_log.h"

#define CONFIG(dims, depths, conv_stages, decoder_depths, rest)                                                        \
    "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":3,\"num_classes\":1,\"dims\":" dims                   \
    ",\"depths\":" depths ",\"conv_stages\":" conv_stages ",\"decoder_depths\":" decoder_depths                        \
    ",\"d_state\":16,\"ssm_ratio\":2.0,\"dt_rank\":\"auto\"" rest "}"

// Two stages, the second one Mamba: small enough to be made hundreds of times.
static const char small[] = CONFIG("[3,5]", "[1,1]", "1", "[1]", ",\"skip\":\"mgf\"");

static enum hymn_status load(const struct test_file *file, struct test_log *kept, struct hymn_model **out_model,
                             uint8_t **out_bytes) {
    size_t size;
    *out_bytes = test_file_bytes(file, &size);
    struct hymn_model_params params = {.log = test_log_start(kept), .data = *out_bytes, .size = size};
    return hymn_model_create(&params, out_model);
}

static enum hymn_status try_file(const struct test_file *file, struct test_log *kept) {
    struct hymn_model *model;
    uint8_t *bytes;
    enum hymn_status status = load(file, kept, &model, &bytes);
    assert_true((status == HYMN_STATUS_OK) == (model != NULL));
    assert_true((status == HYMN_STATUS_OK) == (kept->errors == 0));
    hymn_model_destroy(&model);
    assert_null(model);
    free(bytes);
    return status;
}

struct totals {
    uint64_t learned, tensors, stop_after;
};

static bool add_up(void *user, const struct hymn_expected *tensor) {
    struct totals *totals = user;
    uint64_t elements = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        elements *= tensor->shape[i];
    }
    totals->learned += tensor->learned ? elements : 0;
    totals->tensors++;
    return totals->tensors != totals->stop_after;
}

static uint64_t parameters_of(const char *text) {
    struct hymn_config config;
    struct totals totals = {0};
    assert_int_equal(hymn_config_parse(text, "config", NULL, &config), HYMN_STATUS_OK);
    assert_true(hymn_model_expect(&config, add_up, &totals));
    struct totals stopped = {.stop_after = totals.tensors / 2};
    assert_false(hymn_model_expect(&config, add_up, &stopped));
    assert_int_equal(stopped.tensors, totals.tensors / 2);
    return totals.learned;
}

static void sizes_in_use_have_the_specified_parameters(void **state) {
    (void)state;
    assert_int_equal(parameters_of(CONFIG("[32,64,128,256,512]", "[2,2,2,2,2]", "2", "[1,1,1,1]", ",\"skip\":\"mgf\"")),
                     10005153);
    uint64_t in_small =
        parameters_of(CONFIG("[24,48,96,192,384]", "[1,1,2,2,2]", "2", "[1,1,1,1]", ",\"skip\":\"mgf\""));
    assert_int_equal((in_small + 5000) / 10000, 572);
    uint64_t in_tiny =
        parameters_of(CONFIG("[16,32,64,128,256]", "[1,1,1,1,1]", "2", "[1,1,1,1]", ",\"skip\":\"mgf\""));
    assert_int_equal((in_tiny + 5000) / 10000, 188);
}

// A random config within small bounds, as JSON in text of 1024 bytes.
static void random_config(struct test_random *random, char *text) {
    char dims[128] = "", depths[128] = "", decoder_depths[128] = "", rank[16] = "\"auto\"";
    uint32_t stages = test_random_range(random, 1, 4);
    for (uint32_t i = 0; i < stages; i++) {
        const char *comma = i ? "," : "";
        size_t at = strlen(dims), at_depth = strlen(depths), at_decoder = strlen(decoder_depths);
        snprintf(dims + at, sizeof dims - at, "%s%u", comma, (unsigned)test_random_range(random, 1, 20));
        snprintf(depths + at_depth, sizeof depths - at_depth, "%s%u", comma, (unsigned)test_random_range(random, 1, 3));
        if (i + 1 < stages) {
            snprintf(decoder_depths + at_decoder, sizeof decoder_depths - at_decoder, "%s%u", comma,
                     (unsigned)test_random_range(random, 1, 2));
        }
    }
    if (test_random_range(random, 0, 1)) {
        snprintf(rank, sizeof rank, "%u", (unsigned)test_random_range(random, 1, 9));
    }
    uint32_t channels = test_random_range(random, 1, 8), classes = test_random_range(random, 1, 5);
    uint32_t conv_stages = test_random_range(random, 0, stages), states = test_random_range(random, 1, 20);
    double ratio = (double)test_random_range(random, 10, 35) / 10.0;
    snprintf(text, 1024,
             "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":%u,\"num_classes\":%u,\"dims\":[%s],"
             "\"depths\":[%s],\"conv_stages\":%u,\"decoder_depths\":[%s],\"d_state\":%u,\"ssm_ratio\":%.1f,"
             "\"dt_rank\":%s,\"skip\":\"%s\"}",
             (unsigned)channels, (unsigned)classes, dims, depths, (unsigned)conv_stages, decoder_depths,
             (unsigned)states, ratio, rank, test_random_range(random, 0, 1) ? "mgf" : "concat");
}

static void every_variation_is_loaded(void **state) {
    (void)state;
    struct test_random random = test_random_start("every_variation_is_loaded");
    for (int round = 0; round < 60; round++) {
        char text[1024];
        random_config(&random, text);
        struct test_file file;
        struct test_log kept;
        test_file_model(&file, text, (enum hymn_dtype)(round % 3), &random);
        struct hymn_model *model;
        uint8_t *bytes;
        if (load(&file, &kept, &model, &bytes) != HYMN_STATUS_OK) {
            fail_msg("%s\n%s", text, kept.text);
        }
        assert_int_equal(hymn_model_get_info(model)->parameters, parameters_of(text));
        for (size_t i = 0; i < file.count; i++) {
            const struct hymn_tensor *tensor = hymn_model_tensor(model, file.tensors[i].name);
            assert_non_null(tensor);
            assert_memory_equal(tensor->data, file.tensors[i].data, file.tensors[i].bytes);
        }
        hymn_model_destroy(&model);
        free(bytes);
        test_file_free(&file);
    }
}

static void what_pytorch_wrote_is_loaded(void **state) {
    (void)state;
    FILE *cases = fopen(HYMN_SOURCE_DIR "/tests/golden/cases.txt", "r");
    assert_non_null(cases);
    char line[256];
    int loaded = 0;
    while (fgets(line, sizeof line, cases)) {
        char path[1024];
        line[strcspn(line, " \n")] = '\0';
        snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", HYMN_SOURCE_DIR, line);
        struct test_log kept;
        struct hymn_model_params params = {.log = test_log_start(&kept), .path = path};
        struct hymn_model *model;
        if (hymn_model_create(&params, &model) != HYMN_STATUS_OK) {
            fail_msg("%s", kept.text);
        }
        assert_string_equal(hymn_model_name(model), path);
        assert_true(kept.warnings == 0);
        hymn_model_destroy(&model);
        loaded++;
    }
    fclose(cases);
    assert_true(loaded > 10);
}

static void a_model_describes_itself(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(1);
    struct test_file file;
    struct test_log kept;
    test_file_model(&file, CONFIG("[3,5,4]", "[1,1,1]", "1", "[1,1]", ",\"skip\":\"mgf\",\"input_size\":[64,96]"),
                    HYMN_DTYPE_F16, &random);
    struct hymn_model *model;
    size_t size;
    uint8_t *bytes = test_file_bytes(&file, &size);
    struct hymn_model_params params = {.log = test_log_start(&kept), .data = bytes, .size = size, .name = "mine"};
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_OK);
    assert_log(&kept, "mine: 3 stages");
    const struct hymn_model_info *info = hymn_model_get_info(model);
    assert_string_equal(info->architecture, "hymunet");
    assert_true(info->in_channels == 3 && info->num_classes == 1 && info->stages == 3 && info->conv_stages == 1);
    assert_true(info->input_height == 64 && info->input_width == 96 && info->size_multiple == 4);
    assert_true(info->mean[1] == 0.456f && info->std[1] == 0.224f && info->threshold == 0.5f);
    assert_int_equal(info->file_bytes, size);
    assert_string_equal(hymn_model_class_name(model, 0), "class 0");
    assert_null(hymn_model_class_name(model, 1));
    assert_string_equal(hymn_model_name(model), "mine");
    assert_int_equal(hymn_model_config(model)->dims[1], 5);
    hymn_model_destroy(&model);
    hymn_model_destroy(&model);
    hymn_model_destroy(NULL);
    free(bytes);
    test_file_free(&file);
}

static void weights_are_converted(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(2);
    for (int dtype = HYMN_DTYPE_F32; dtype <= HYMN_DTYPE_BF16; dtype++) {
        struct test_file file;
        struct test_log kept;
        test_file_model(&file, small, (enum hymn_dtype)dtype, &random);
        test_file_set(test_file_find(&file, "head.weight"), 2, -1.25f);
        struct hymn_model *model;
        uint8_t *bytes;
        struct hymn_arena arena = {0};
        assert_int_equal(load(&file, &kept, &model, &bytes), HYMN_STATUS_OK);
        float *values, *none;
        assert_int_equal(hymn_model_load(model, &arena, "head.weight", &values), HYMN_STATUS_OK);
        assert_true(values[2] == -1.25f && values[0] != 0.0f && fabsf(values[0]) < 6.0f);
        assert_int_equal(hymn_model_load(model, &arena, "head.nothing", &none), HYMN_STATUS_BAD_MODEL);
        assert_null(none);
        hymn_arena_free(&arena);
        hymn_alloc_fail_after(0);
        assert_int_equal(hymn_model_load(model, &arena, "head.weight", &none), HYMN_STATUS_OUT_OF_MEMORY);
        assert_null(none);
        hymn_alloc_fail_after(-1);
        hymn_model_destroy(&model);
        free(bytes);
        test_file_free(&file);
    }
}

// Against the contract, as where a file is rewritten in place.
static void weights_that_change_are_found(void **state) {
    (void)state;
    static const uint8_t nan[4] = {0xFF, 0xFF, 0xFF, 0xFF}; // of all types
    struct test_random random = test_random_fixed(3);
    for (int dtype = HYMN_DTYPE_F32; dtype <= HYMN_DTYPE_BF16; dtype++) {
        struct test_file file;
        struct test_log kept;
        struct hymn_model *model;
        struct hymn_summary *summary;
        uint8_t *bytes, before[4];
        test_file_model(&file, small, (enum hymn_dtype)dtype, &random);
        assert_int_equal(load(&file, &kept, &model, &bytes), HYMN_STATUS_OK);
        const struct hymn_summary_params params = {.log = test_log_start(&kept), .height = 32, .width = 32};
        uint8_t *weight = bytes + (hymn_model_tensor(model, "decoder.0.blocks.0.conv1.weight")->data - bytes) + 4;
        memcpy(before, weight, sizeof before);
        memcpy(weight, nan, sizeof nan);
        assert_int_equal(hymn_summary_create(model, &params, &summary), HYMN_STATUS_BAD_MODEL);
        assert_null(summary);
        assert_log(&kept, "(memory): decoder.0.blocks.0.conv1.weight holds NaN or infinity by now");
        memcpy(weight, before, sizeof before);
        assert_int_equal(hymn_summary_create(model, &params, &summary), HYMN_STATUS_OK);
        hymn_summary_destroy(&summary);
        hymn_model_destroy(&model);
        free(bytes);
        test_file_free(&file);
    }
}

// By its kind: with or without a bias, whatever was folded into it.
static bool is_sum_of_weights(const struct hymn_layer *layer) {
    const uint64_t products = layer->macs / ((uint64_t)layer->height * layer->width);
    if (strcmp(layer->kind, "conv2d") == 0 || strcmp(layer->kind, "head") == 0 ||
        strcmp(layer->kind, "depthwise") == 0) {
        return layer->parameters == products || layer->parameters == products + layer->channels;
    }
    if (strcmp(layer->kind, "merge") == 0) {
        return layer->parameters == 2 * (uint64_t)layer->channels; // a LayerNorm's
    }
    if (strcmp(layer->kind, "selective_scan") == 0) {
        return layer->parameters == 4 * (uint64_t)layer->channels * (1 + 2 + 16); // W_dt, its bias and D, A
    }
    return layer->parameters == 0;
}

static void layers_tell_of_their_weights(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(4);
    struct test_file file;
    struct test_log kept;
    struct hymn_model *model;
    struct hymn_summary *summary;
    uint8_t *bytes;
    test_file_model(&file, CONFIG("[3,5,8]", "[2,1,1]", "1", "[1,1]", ",\"skip\":\"mgf\""), HYMN_DTYPE_F32, &random);
    assert_int_equal(load(&file, &kept, &model, &bytes), HYMN_STATUS_OK);
    const struct hymn_summary_params params = {.log = test_log_start(&kept), .height = 32, .width = 32};
    assert_int_equal(hymn_summary_create(model, &params, &summary), HYMN_STATUS_OK);
    uint64_t macs = 0;
    const uint32_t count = hymn_summary_layer_count(summary);
    bool scans = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct hymn_layer *layer = hymn_summary_layer(summary, i);
        if (!is_sum_of_weights(layer)) {
            fail_msg("%s, a %s: %llu parameters", layer->name, layer->kind, (unsigned long long)layer->parameters);
        }
        assert_true(layer->offset + layer->bytes <= hymn_summary_activation_bytes(summary));
        macs += layer->macs;
        scans = scans || strcmp(layer->kind, "selective_scan") == 0;
    }
    assert_true(count > 20 && scans && macs > 0);
    assert_int_equal(hymn_summary_macs(summary), macs);
    assert_null(hymn_summary_layer(summary, count));
    hymn_summary_destroy(&summary);
    hymn_model_destroy(&model);
    free(bytes);
    test_file_free(&file);
}

// ---- files with something wrong

static struct test_file file; // a good small model, made anew for each test
static struct test_log kept;

static int make_file(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(3);
    test_file_model(&file, small, HYMN_DTYPE_F32, &random);
    return 0;
}

static int free_file(void **state) {
    (void)state;
    test_file_free(&file);
    return 0;
}

static void missing_tensors_are_named(void **state) {
    (void)state;
    for (size_t i = 0; i < file.count; i++) {
        struct test_tensor *last = &file.tensors[file.count - 1], taken = file.tensors[i];
        file.tensors[i] = *last;
        file.count--;
        assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
        char message[256];
        snprintf(message, sizeof message, "(memory): tensor \"%s\" is missing: expected shape [", taken.name);
        assert_log(&kept, message);
        assert_int_equal(kept.errors, 1);
        file.tensors[i] = taken;
        file.count++;
        file.tensors[file.count - 1] = i == file.count - 1 ? taken : *last;
    }
}

static void other_shapes_are_shown(void **state) {
    (void)state;
    struct test_tensor *tensor = test_file_find(&file, "encoder.0.blocks.0.conv1.weight");
    tensor->shape[2] = 1;
    tensor->shape[3] = 9;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tensor \"encoder.0.blocks.0.conv1.weight\" has the wrong shape: expected [3, 3, 3, 3], found "
                      "[3, 3, 1, 9]");
    tensor->rank = 1;
    tensor->shape[0] = 81;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "found [81]");
    tensor->rank = 8;
    for (int i = 0; i < 8; i++) {
        tensor->shape[i] = i < 4 ? 3 : 1;
    }
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "found [3, 3, 3, 3, 1, 1, 1, 1]");
}

static void empty_tensors_are_misshapen(void **state) {
    (void)state;
    struct test_tensor *tensor = test_file_find(&file, "head.bias");
    tensor->shape[0] = 0;
    tensor->bytes = 0;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tensor \"head.bias\" has the wrong shape: expected [1], found [0]");
}

static void extra_tensors_are_named(void **state) {
    (void)state;
    const uint64_t shape[1] = {2};
    test_file_add(&file, "encoder.0.blocks.1.conv1.weight", "F32", 1, shape, NULL, 8);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tensor \"encoder.0.blocks.1.conv1.weight\" is not one of the network");
    assert_int_equal(kept.errors, 1);
}

static void batch_counters_are_ignored(void **state) {
    (void)state;
    test_file_add(&file, "encoder.0.blocks.0.bn1.num_batches_tracked", "I64", 0, NULL, NULL, 8);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_OK);
    test_file_add(&file, "num_batches_tracked", "I64", 0, NULL, NULL, 8);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
}

static void other_dtypes_are_refused(void **state) {
    (void)state;
    struct test_tensor *tensor = test_file_find(&file, "decoder.0.skip.gate.weight");
    snprintf(tensor->dtype, sizeof tensor->dtype, "I32");
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept,
               "tensor \"decoder.0.skip.gate.weight\" has the wrong dtype: expected F32, F16 or BF16, found I32");
}

static void values_that_are_not_finite_are_found(void **state) {
    (void)state;
    test_file_set(test_file_find(&file, "encoder.1.blocks.0.ss2d.A_logs"), 37, NAN);
    test_file_set(test_file_find(&file, "encoder.1.blocks.0.ss2d.Ds"), 0, INFINITY);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tensor \"encoder.1.blocks.0.ss2d.A_logs\" holds NaN or infinity: element 37 of 640");
    assert_log(&kept, "tensor \"encoder.1.blocks.0.ss2d.Ds\" holds NaN or infinity: element 0 of 40");
    assert_int_equal(kept.errors, 2);
}

static void negative_variances_are_found(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(4);
    test_file_set(test_file_find(&file, "encoder.0.blocks.0.bn1.running_var"), 0, -0.0f);
    test_file_set(test_file_find(&file, "encoder.0.blocks.0.bn1.running_mean"), 0, -3.0f);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_OK);
    test_file_set(test_file_find(&file, "encoder.0.blocks.0.bn2.running_var"), 2, -1e-30f);
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tensor \"encoder.0.blocks.0.bn2.running_var\" holds a negative variance: element 2 of 3");
    for (int dtype = HYMN_DTYPE_F32; dtype <= HYMN_DTYPE_BF16; dtype++) {
        test_file_free(&file);
        test_file_model(&file, CONFIG("[130]", "[1]", "1", "[]", ",\"skip\":\"mgf\""), (enum hymn_dtype)dtype, &random);
        test_file_set(test_file_find(&file, "encoder.0.blocks.0.shortcut.1.running_var"), 129, -1.0f);
        assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
        assert_log(&kept, "element 129 of 130");
    }
}

static void many_problems_are_counted(void **state) {
    (void)state;
    for (size_t i = 0; i < file.count; i++) {
        file.tensors[i].name[0] = 'X';
    }
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_int_equal(kept.errors, 6);
    char message[64];
    snprintf(message, sizeof message, "(memory): and %zu more problems", 2 * file.count - 5);
    assert_log(&kept, message);
}

static void a_config_must_be_there_and_right(void **state) {
    (void)state;
    char *config = file.config;
    file.config = NULL;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "(memory): no \"hymn.config\" in __metadata__");
    char broken[] = "{\"architecture\": \"unet\"}";
    file.config = broken;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_UNSUPPORTED);
    file.config = config;
    assert_int_equal(try_file(&file, &kept), HYMN_STATUS_OK);
}

static void files_that_are_no_model_are_refused(void **state) {
    (void)state;
    struct hymn_model *model;
    struct hymn_model_params params = {.log = test_log_start(&kept), .path = HYMN_SOURCE_DIR "/tests/model.c"};
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "tests/model.c: not a safetensors file");
    assert_null(model);
    params.path = HYMN_SOURCE_DIR "/tests/none.safetensors";
    params.name = "the model";
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_IO);
    assert_log(&kept, "none.safetensors: cannot open");
    params.path = HYMN_SOURCE_DIR "/tests";
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_IO);
    params = (struct hymn_model_params){.log = test_log_start(&kept), .data = "", .size = 0};
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "(memory): 0 bytes are too few");
}

static void arguments_are_checked(void **state) {
    (void)state;
    struct hymn_model *model = (struct hymn_model *)&kept;
    assert_int_equal(hymn_model_create(NULL, &model), HYMN_STATUS_INVALID_ARGUMENT);
    assert_null(model);
    struct hymn_model_params params = {.log = test_log_start(&kept)};
    assert_int_equal(hymn_model_create(&params, NULL), HYMN_STATUS_INVALID_ARGUMENT);
    assert_log(&kept, "out_model is NULL");
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_INVALID_ARGUMENT);
    assert_log(&kept, "neither a path nor data");
    params.path = "a";
    params.data = "b";
    assert_int_equal(hymn_model_create(&params, &model), HYMN_STATUS_INVALID_ARGUMENT);
    assert_log(&kept, "both a path and data");
}

// ---- running out of memory

static void each_of_our_allocations_may_fail(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = test_file_bytes(&file, &size);
    struct hymn_model *model = NULL;
    bool failed = true;
    int failures = 0;
    for (int64_t countdown = 0; failed; countdown++) {
        struct hymn_model_params params = {.log = test_log_start(&kept), .data = bytes, .size = size};
        hymn_alloc_fail_after(countdown);
        enum hymn_status status = hymn_model_create(&params, &model);
        failed = hymn_alloc_fail_after(-1);
        failures += status != HYMN_STATUS_OK;
        assert_true(status == HYMN_STATUS_OK ||
                    (failed && status == HYMN_STATUS_OUT_OF_MEMORY && !model && kept.errors == 1));
        hymn_model_destroy(&model);
    }
    assert_true(failures >= 5);
    free(bytes);
}

static int64_t json_countdown;
static bool json_failed;

// Not the powers of two: jansson's lexer drops a byte where its text buffer cannot grow, which nobody above it can see.
static void *failing_malloc(size_t size) {
    bool fails = (size & (size - 1)) != 0 && json_countdown-- == 0;
    json_failed = json_failed || fails;
    return fails ? NULL : malloc(size);
}

// jansson reports some of its failed allocations as broken JSON; what counts is that nothing is leaked or believed.
static void each_of_janssons_allocations_may_fail(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = test_file_bytes(&file, &size);
    int64_t failures = 0;
    do {
        struct hymn_model_params params = {.log = test_log_start(&kept), .data = bytes, .size = size};
        struct hymn_model *model;
        json_countdown = failures++;
        json_failed = false;
        json_set_alloc_funcs(failing_malloc, free);
        enum hymn_status status = hymn_model_create(&params, &model);
        json_set_alloc_funcs(malloc, free);
        assert_true(status == HYMN_STATUS_OUT_OF_MEMORY || status == HYMN_STATUS_BAD_MODEL ||
                    (status == HYMN_STATUS_OK && !json_failed));
        assert_true((status == HYMN_STATUS_OK) == (model != NULL));
        hymn_model_destroy(&model);
    } while (json_failed);
    assert_true(failures > 100);
    free(bytes);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_file, free_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_in_use_have_the_specified_parameters),
        cmocka_unit_test(every_variation_is_loaded),
        cmocka_unit_test(what_pytorch_wrote_is_loaded),
        cmocka_unit_test(a_model_describes_itself),
        cmocka_unit_test(weights_are_converted),
        cmocka_unit_test(weights_that_change_are_found),
        cmocka_unit_test(layers_tell_of_their_weights),
        WITH_FILE(missing_tensors_are_named),
        WITH_FILE(other_shapes_are_shown),
        WITH_FILE(empty_tensors_are_misshapen),
        WITH_FILE(extra_tensors_are_named),
        WITH_FILE(batch_counters_are_ignored),
        WITH_FILE(other_dtypes_are_refused),
        WITH_FILE(values_that_are_not_finite_are_found),
        WITH_FILE(negative_variances_are_found),
        WITH_FILE(many_problems_are_counted),
        WITH_FILE(a_config_must_be_there_and_right),
        cmocka_unit_test(files_that_are_no_model_are_refused),
        cmocka_unit_test(arguments_are_checked),
        WITH_FILE(each_of_our_allocations_may_fail),
        WITH_FILE(each_of_janssons_allocations_may_fail),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
