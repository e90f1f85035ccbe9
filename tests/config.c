// SPDX-License-Identifier: MIT
//
// hymn.config: what is read, what has a default, and what is refused with which message.
#include "model/config.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_log.h"

// The example of the specification.
static const char base[] =
    "{\"architecture\": \"hymunet\", \"version\": 1, \"in_channels\": 3, \"num_classes\": 1,"
    " \"dims\": [32,64,128,256,512], \"depths\": [2,2,2,2,2], \"conv_stages\": 2, \"decoder_depths\": [1,1,1,1],"
    " \"d_state\": 16, \"ssm_ratio\": 2.0, \"dt_rank\": \"auto\", \"skip\": \"mgf\","
    " \"input_size\": [256,192], \"mean\": [0.485,0.456,0.406], \"std\": [0.229,0.224,0.225],"
    " \"classes\": [\"lesion\"], \"threshold\": 0.4}";

static enum hymn_status parse(const char *text, struct hymn_config *config, struct test_log *kept) {
    struct hymn_log log = test_log_start(kept);
    return hymn_config_parse(text, "file", &log, config);
}

// The example with `key` set to the JSON `value`, or without it where value is NULL.
static enum hymn_status parse_with(const char *key, const char *value, struct hymn_config *config,
                                   struct test_log *kept) {
    json_t *root = json_loads(base, 0, NULL);
    assert_non_null(root);
    if (value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(parsed);
        json_object_set_new(root, key, parsed);
    } else {
        json_object_del(root, key);
    }
    char *text = json_dumps(root, 0);
    json_decref(root);
    enum hymn_status status = parse(text, config, kept);
    free(text);
    return status;
}

static void the_example_is_read(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    assert_int_equal(parse(base, &config, &kept), HYMN_STATUS_OK);
    assert_int_equal(kept.lines, 0);
    assert_true(config.in_channels == 3 && config.num_classes == 1 && config.stages == 5 && config.conv_stages == 2);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(config.dims[i], 32u << i);
        assert_int_equal(config.depths[i], 2);
        assert_int_equal(config.decoder_depths[i], i < 4 ? 1 : 0);
        assert_int_equal(hymn_config_inner(&config, i), 64u << i);
        assert_int_equal(hymn_config_rank(&config, i), 2u << i);
        assert_int_equal(hymn_config_channels_before(&config, i), i ? 16u << i : 3);
    }
    assert_true(config.d_state == 16 && config.ssm_ratio == 2.0 && config.dt_rank == 0);
    assert_int_equal(config.skip, HYMN_SKIP_MGF);
    assert_true(config.input_height == 256 && config.input_width == 192);
    assert_true(config.mean[0] == 0.485f && config.std[2] == 0.225f && config.threshold == 0.4f);
    assert_string_equal(config.class_names[0], "lesion");
}

static void absent_keys_have_defaults(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    assert_int_equal(parse_with("input_size", NULL, &config, &kept), HYMN_STATUS_OK);
    assert_true(config.input_height == 256 && config.input_width == 256);
    assert_int_equal(parse_with("mean", NULL, &config, &kept), HYMN_STATUS_OK);
    assert_true(config.mean[0] == 0.485f && config.mean[1] == 0.456f && config.mean[2] == 0.406f);
    assert_int_equal(parse_with("std", NULL, &config, &kept), HYMN_STATUS_OK);
    assert_true(config.std[0] == 0.229f && config.std[1] == 0.224f && config.std[2] == 0.225f);
    assert_int_equal(parse_with("threshold", NULL, &config, &kept), HYMN_STATUS_OK);
    assert_true(config.threshold == 0.5f);
    assert_int_equal(parse_with("classes", NULL, &config, &kept), HYMN_STATUS_OK);
    assert_string_equal(config.class_names[0], "class 0");
    const char *bare = "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":2,\"num_classes\":64,\"dims\":[8],"
                       "\"depths\":[1],\"conv_stages\":0,\"decoder_depths\":[],\"d_state\":1,\"ssm_ratio\":1,"
                       "\"dt_rank\":7,\"skip\":\"concat\"}";
    assert_int_equal(parse(bare, &config, &kept), HYMN_STATUS_OK);
    assert_int_equal(kept.lines, 0);
    assert_true(config.mean[0] == 0.0f && config.mean[1] == 0.0f && config.std[0] == 1.0f && config.std[1] == 1.0f);
    assert_true(config.skip == HYMN_SKIP_CONCAT && config.dt_rank == 7 && hymn_config_rank(&config, 0) == 7);
    assert_string_equal(config.class_names[63], "class 63");
}

static void the_bounds_are_inside(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"in_channels", "3"},
        {"conv_stages", "0"},
        {"conv_stages", "5"},
        {"dims", "[1,1,1,1,8192]"},
        {"depths", "[1,64,1,1,1]"},
        {"decoder_depths", "[64,1,1,1]"},
        {"d_state", "1"},
        {"d_state", "64"},
        {"ssm_ratio", "64"},
        {"ssm_ratio", "0.0078125"},
        {"dt_rank", "1"},
        {"dt_rank", "1024"},
        {"input_size", "[1,32768]"},
        {"mean", "[-1e38,0,1e38]"},
        {"std", "[1e-37,1,1e38]"},
        {"classes", "[\"\"]"},
        {"threshold", "0.001"},
        {"threshold", "0.999"},
        {"mean", "[0,1,0]"},
        {"ssm_ratio", "1.9999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hymn_config config;
        struct test_log kept;
        if (parse_with(cases[i][0], cases[i][1], &config, &kept) != HYMN_STATUS_OK) {
            fail_msg("%s: %s: %s", cases[i][0], cases[i][1], kept.text);
        }
    }
}

static const struct {
    const char *key, *value, *message;
} out_of_range[] = {
    {"architecture", NULL, "\"architecture\": expected \"hymunet\", found nothing"},
    {"architecture", "7", "found 7"},
    {"version", NULL, "\"version\": expected 1, found nothing"},
    {"version", "\"1\"", "expected 1, found \"1\""},
    {"version", "1.0", "expected 1, found 1.0"},
    {"in_channels", NULL, "\"in_channels\": expected an integer from 1 to 8, found nothing"},
    {"in_channels", "0", "found 0"},
    {"in_channels", "9", "found 9"},
    {"in_channels", "3.0", "found 3.0"},
    {"in_channels", "true", "found true"},
    {"in_channels", "4", "\"mean\": expected a list of length 4 (in_channels) of finite numbers, found [0.485"},
    {"num_classes", "0", "expected an integer from 1 to 64, found 0"},
    {"num_classes", "65", "found 65"},
    {"num_classes", "-9223372036854775808", "found -9223372036854775808"},
    {"num_classes", "4294967297", "found 4294967297"},
    {"num_classes", "2", "\"classes\": expected a list of length 2 (num_classes) of names shorter than 128 bytes, "},
    {"dims", NULL, "\"dims\": expected a list of 1 to 12 integers from 1 to 8192, found nothing"},
    {"dims", "[]", "found []"},
    {"dims", "[1,1,1,1,1,1,1,1,1,1,1,1,1]", "found [1, 1,"},
    {"dims", "[1,1,1,1,0]", "a list of length 5 of integers from 1 to 8192, found [1, 1, 1, 1, 0]"},
    {"dims", "[1,1,1,1,8193]", "8193]"},
    {"dims", "[1,1,1,1,\"8\"]", "\"8\"]"},
    {"dims", "{\"a\":1}", "found {\"a\": 1}"},
    {"depths", "[2,2,2,2]", "\"depths\": expected a list of length 5 of integers from 1 to 64, found [2, 2, 2, 2]"},
    {"depths", "[2,2,2,2,65]", "65]"},
    {"depths", "[2,2,2,2,0]", "0]"},
    {"decoder_depths", "[1,1,1,1,1]", "\"decoder_depths\": expected a list of length 4"},
    {"decoder_depths", "[1,1,1,0]", "found [1, 1, 1, 0]"},
    {"conv_stages", "6", "\"conv_stages\": expected an integer from 0 to 5, found 6"},
    {"conv_stages", "-1", "found -1"},
    {"d_state", "0", "\"d_state\": expected an integer from 1 to 64, found 0"},
    {"d_state", "65", "found 65"},
    {"ssm_ratio", NULL, "\"ssm_ratio\": expected a number above 0, at most 32768, found nothing"},
    {"ssm_ratio", "0", "found 0"},
    {"ssm_ratio", "-2.0", "found -2.0"},
    {"ssm_ratio", "\"2\"", "found \"2\""},
    {"ssm_ratio", "1e300", "found 1e300"},
    {"ssm_ratio", "0.0078", "stage 2 would have 0 of dims 128), found 0.0078"},
    {"ssm_ratio", "64.002", "stage 4 would have 32769 of dims 512), found 64.002"},
    {"dt_rank", NULL, "\"dt_rank\": expected \"auto\" or an integer from 1 to 1024, found nothing"},
    {"dt_rank", "0", "found 0"},
    {"dt_rank", "1025", "found 1025"},
    {"dt_rank", "\"Auto\"", "found \"Auto\""},
    {"skip", NULL, "\"skip\": expected \"mgf\" or \"concat\", found nothing"},
    {"skip", "\"add\"", "found \"add\""},
    {"skip", "1", "found 1"},
    {"input_size", "256", "\"input_size\": expected a list of length 2 of integers from 1 to 32768, found 256"},
    {"input_size", "[256]", "found [256]"},
    {"input_size", "[0,256]", "found [0, 256]"},
    {"input_size", "[256,32769]", "found [256, 32769]"},
    {"mean", "[0,0]", "found [0, 0]"},
    {"mean", "0", "found 0"},
    {"mean", "[0,0,\"0\"]", "found [0, 0, \"0\"]"},
    {"mean", "[0,0,1e39]", "finite numbers, found [0, 0, 1e39]"},
    {"std", "[1,1,0]", "\"std\": expected a list of length 3 (in_channels) of positive numbers, found [1, 1, 0]"},
    {"std", "[1,1,-1]", "found [1, 1, -1]"},
    {"std", "[1,1,1e-39]", "found [1, 1, 1e-39]"},
    {"classes", "\"lesion\"", "found \"lesion\""},
    {"classes", "[3]", "found [3]"},
    {"classes", "[\"a\",\"b\"]", "found [\"a\", \"b\"]"},
    {"threshold", "0", "\"threshold\": expected a number between 0 and 1, found 0"},
    {"threshold", "1", "found 1"},
    {"threshold", "null", "found null"},
    {"threshold", "\"0.5\"", "found \"0.5\""},
};

static void what_is_out_of_range_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof out_of_range / sizeof *out_of_range; i++) {
        struct hymn_config config;
        struct test_log kept;
        enum hymn_status status = parse_with(out_of_range[i].key, out_of_range[i].value, &config, &kept);
        if (status != HYMN_STATUS_BAD_MODEL) {
            fail_msg("%s: %s: status %d", out_of_range[i].key, out_of_range[i].value ? out_of_range[i].value : "(none)",
                     (int)status);
        }
        assert_int_equal(kept.errors, 1);
        assert_memory_equal(kept.text, "file: hymn.config: \"", 20);
        assert_log(&kept, out_of_range[i].message);
        assert_true(config.stages == 0 && config.in_channels == 0 && config.num_classes == 0);
    }
}

static void a_ratio_only_matters_where_there_is_a_scan(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    const char *convolutional = "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":1,\"num_classes\":1,"
                                "\"dims\":[8192,1],\"depths\":[1,1],\"conv_stages\":2,\"decoder_depths\":[1],"
                                "\"d_state\":1,\"ssm_ratio\":32768.5,\"dt_rank\":\"auto\",\"skip\":\"mgf\"}";
    assert_int_equal(parse(convolutional, &config, &kept), HYMN_STATUS_OK);
}

static void other_networks_are_unsupported(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    assert_int_equal(parse_with("architecture", "\"unet\"", &config, &kept), HYMN_STATUS_UNSUPPORTED);
    assert_log(&kept, "\"architecture\": expected \"hymunet\", found \"unet\"");
    assert_int_equal(parse_with("version", "2", &config, &kept), HYMN_STATUS_UNSUPPORTED);
    assert_log(&kept, "\"version\": expected 1, found 2");
}

static void unknown_keys_are_a_warning(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    assert_int_equal(parse_with("dropout", "0.1", &config, &kept), HYMN_STATUS_OK);
    assert_true(kept.warnings == 1 && kept.errors == 0);
    assert_log(&kept, "file: hymn.config: unknown key \"dropout\" is ignored");
}

static void what_is_no_object_is_refused(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    assert_int_equal(parse("", &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "file: hymn.config is not valid JSON");
    assert_int_equal(parse("[]", &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "expected a JSON object");
    assert_int_equal(parse("{\"version\":1,\"version\":1}", &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "duplicate");
    assert_int_equal(parse("{\"mean\":[NaN]}", &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_int_equal(parse("{\"mean\":[1e999]}", &config, &kept), HYMN_STATUS_BAD_MODEL);
    char deep[201];
    memset(deep, '[', 200);
    deep[200] = '\0';
    assert_int_equal(parse(deep, &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "file: hymn.config: nested deeper than 64 levels");
}

static void long_names_are_refused(void **state) {
    (void)state;
    struct hymn_config config;
    struct test_log kept;
    char value[200];
    snprintf(value, sizeof value, "[\"%0127d\"]", 0);
    assert_int_equal(parse_with("classes", value, &config, &kept), HYMN_STATUS_OK);
    assert_int_equal(strlen(config.class_names[0]), 127);
    snprintf(value, sizeof value, "[\"%0128d\"]", 0);
    assert_int_equal(parse_with("classes", value, &config, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "00...");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_read),
        cmocka_unit_test(absent_keys_have_defaults),
        cmocka_unit_test(the_bounds_are_inside),
        cmocka_unit_test(what_is_out_of_range_is_named),
        cmocka_unit_test(a_ratio_only_matters_where_there_is_a_scan),
        cmocka_unit_test(other_networks_are_unsupported),
        cmocka_unit_test(unknown_keys_are_a_warning),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(long_names_are_refused),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
