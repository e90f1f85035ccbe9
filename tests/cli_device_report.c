// SPDX-License-Identifier: MIT
//
// hymn devices --report: the plans of made-up devices, and the document about the device of HYMN_DEVICE (default: the
// first), every member of it.
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices_report.h"
#include "support/test_leaks.h"
#include "survey.h"

static struct hymn_vk_snapshot made_up(enum hymn_device_type type) {
    return (struct hymn_vk_snapshot){
        .api_version = (1u << 22) | (3u << 12),
        .type = type,
        .max_workgroup_invocations = 1024,
        .max_workgroup_size = {1024, 1024, 64},
        .max_workgroup_count = {65535, 65535, 65535},
        .max_shared_bytes = 32768,
        .max_push_bytes = 128,
        .max_storage_buffers = 8,
        .max_storage_buffer_range = (uint64_t)1 << 27,
        .storage_buffer_alignment = 64,
        .subgroup_size = 32,
        .subgroup_min = 32,
        .subgroup_max = 32,
        .subgroup_arithmetic = true,
        .subgroup_shuffle = true,
        .storage_16bit = true,
        .float16 = true,
        .memory_model = true,
        .compute_queue = true,
    };
}

// The names of a device's plans, with spaces between.
static const char *plan_names(const struct hymn_vk_snapshot *snapshot) {
    static char text[512];
    static struct survey_plan plans[SURVEY_MAX_PLANS];
    const uint32_t count = survey_plans(snapshot, plans);
    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? " " : "", plans[i].name);
        assert_int_equal(plans[i].own, strcmp(plans[i].name, "other") != 0);
        assert_true(plans[i].plan.usable);
    }
    return text;
}

static void plans_of_made_up_devices(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = made_up(HYMN_DEVICE_TYPE_DISCRETE_GPU);
    assert_string_equal(plan_names(&s), "half wide base other");
    s.matrices[0] = (struct hymn_vk_matrix){16, 16, 16};
    s.matrices[1] = (struct hymn_vk_matrix){16, 8, 16};
    s.matrices[2] = (struct hymn_vk_matrix){16, 16, 16}; // again, with other types of the result
    s.matrices[3] = (struct hymn_vk_matrix){12, 12, 12}; // of no use
    s.matrix_count = 4;
    assert_string_equal(plan_names(&s), "matrix half wide base matrix-16x8x16 other");
    s.subgroup_min = s.subgroup_max = 0; // cannot be asked for
    assert_string_equal(plan_names(&s), "half wide base other");
    s.subgroup_fixed = true; // and need not be
    assert_string_equal(plan_names(&s), "matrix half wide base matrix-16x8x16 other");
    s.storage_16bit = s.float16 = false;
    assert_string_equal(plan_names(&s), "wide base other");
    s.max_storage_buffers = 1;
    assert_string_equal(plan_names(&s), "");
}

static void a_full_list_of_matrices_fits(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = made_up(HYMN_DEVICE_TYPE_CPU);
    static const uint32_t sides[] = {8, 16, 32};
    for (uint32_t i = 0; i < 27; i++) {
        s.matrices[s.matrix_count++] = (struct hymn_vk_matrix){sides[i / 9], sides[i / 3 % 3], sides[i % 3]};
    }
    struct survey_plan plans[SURVEY_MAX_PLANS];
    assert_int_equal(survey_plans(&s, plans), 27 + 3 + 1); // tier matrix chooses one of the 27
}

// ---- the document

static json_t *document;

// The document is printed: standard output is a file for that time.
static int make_document(void **state) {
    (void)state;
    char path[] = "/tmp/hymn-report-XXXXXX";
    const int file = mkstemp(path), kept = dup(STDOUT_FILENO);
    if (file < 0 || kept < 0) {
        return -1;
    }
    const char *device = getenv("HYMN_DEVICE");
    const struct devices_report_options options = {.device = device ? device : "0", .quick = true};
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    const enum exit_code code = devices_report(&options);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(file);
    json_error_t error;
    document = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    unlink(path);
    if (document == NULL || code != CODE_OK) {
        print_error("report: %s, exit code %d\n", document ? "JSON" : error.text, (int)code);
        return -1;
    }
    return 0;
}

static int drop_document(void **state) {
    (void)state;
    json_decref(document);
    return 0;
}

static const json_t *device_of_document(void) {
    const json_t *devices = json_object_get(document, "devices");
    assert_int_equal(json_array_size(devices), 1);
    return json_array_get(devices, 0);
}

// Each of "KEY:TYPE ..." is a member of the object and of its type: s string, S string or null, i integer, I integer or
// null, r real, b boolean, a array, o object; and there are no others.
static void check_members(const json_t *object, const char *members) {
    size_t count = 0;
    char key[64], type;
    int used;
    for (const char *at = members; sscanf(at, " %63[^:]:%c%n", key, &type, &used) == 2; at += used, count++) {
        const json_t *value = json_object_get(object, key);
        const bool null = json_is_null(value);
        const bool good = (type == 's' && json_is_string(value)) || (type == 'S' && (json_is_string(value) || null)) ||
                          (type == 'i' && json_is_integer(value) && json_integer_value(value) >= 0) ||
                          (type == 'I' && ((json_is_integer(value) && json_integer_value(value) >= 0) || null)) ||
                          (type == 'r' && json_is_number(value)) || (type == 'b' && json_is_boolean(value)) ||
                          (type == 'a' && json_is_array(value)) || (type == 'A' && (json_is_array(value) || null)) ||
                          (type == 'o' && json_is_object(value));
        if (!good) {
            fail_msg("\"%s\" is missing or not of type %c", key, type);
        }
    }
    assert_int_equal(json_object_size(object), count);
}

static void has_every_member(void **state) {
    (void)state;
    check_members(document, "format:i hymn:s devices:a");
    assert_string_equal(json_string_value(json_object_get(document, "hymn")), hymn_version_string());
    const json_t *device = device_of_document();
    check_members(device, "device:o limits:o features:o tier:s plans:a cases:a pipelines:a pipelines_ms:r "
                          "selftest:A");
    check_members(json_object_get(device, "device"),
                  "name:s type:s driver:s api_version:s vendor_id:i device_id:i memory_bytes:i");
    check_members(json_object_get(device, "limits"),
                  "max_workgroup_invocations:i max_workgroup_size:a max_workgroup_count:a max_shared_bytes:i "
                  "max_push_bytes:i max_storage_buffers:i max_storage_buffer_range:i storage_buffer_alignment:i "
                  "non_coherent_atom:i max_allocation_bytes:i visible_bytes:i subgroup_size:i subgroup_min:i "
                  "subgroup_max:i timestamp_bits:i timestamp_period_ns:r");
    check_members(json_object_get(device, "features"),
                  "storage_16bit:b float16:b subgroup_arithmetic:b subgroup_shuffle:b subgroup_fixed:b memory_model:b "
                  "unified_memory:b transfer_queue:b portability_subset:b pipeline_statistics:b matrices:a");
}

static void every_case_runs_a_convolution(void **state) {
    (void)state;
    const json_t *device = device_of_document(), *plans = json_object_get(device, "plans");
    size_t index, own = 0;
    json_t *item;
    json_array_foreach(plans, index, item) {
        check_members(item, "name:s own:b tier:s needs_met:a matrix:A max_invocations:i max_shared_bytes:i "
                            "subgroup_size:i max_binding_bytes:i target_lanes:i skip_staging:b "
                            "transfer_queue:b direct_bytes:i timestamps:b");
        own += json_is_true(json_object_get(item, "own"));
    }
    const json_t *cases = json_object_get(device, "cases");
    assert_true(own > 0);
    assert_int_equal(json_array_size(cases), own * 2); // two precisions
    json_array_foreach(cases, index, item) {
        check_members(item, "model:s precision:s batch:i plan:s shaders:o");
        const char *shader;
        json_t *count;
        json_int_t convolutions = 0;
        json_object_foreach(json_object_get(item, "shaders"), shader, count) {
            convolutions += strncmp(shader, "conv2d_", 7) == 0 ? json_integer_value(count) : 0;
        }
        assert_true(convolutions > 20);
    }
}

static void every_pipeline_is_made_once(void **state) {
    (void)state;
    const json_t *device = device_of_document(), *pipelines = json_object_get(device, "pipelines");
    const bool told = json_is_true(json_object_get(json_object_get(device, "features"), "pipeline_statistics"));
    size_t index, other;
    json_t *item;
    assert_true(json_array_size(pipelines) > 30);
    json_array_foreach(pipelines, index, item) {
        check_members(item, "shader:s hash:s constants:a own:b plans:a models:a operators:a built:b error:S "
                            "milliseconds:r subgroup_size:i registers:I spills:I scratch_bytes:I shared_bytes:I "
                            "instructions:I statistics:o");
        assert_true(json_is_true(json_object_get(item, "built")) && json_is_null(json_object_get(item, "error")));
        assert_true(json_is_true(json_object_get(item, "own")));
        assert_true(json_array_size(json_object_get(item, "plans")) > 0);
        assert_true(json_array_size(json_object_get(item, "models")) > 0);
        assert_true(json_array_size(json_object_get(item, "operators")) > 0);
        assert_true((json_object_size(json_object_get(item, "statistics")) > 0) == told);
        for (other = 0; other < index; other++) {
            const json_t *before = json_array_get(pipelines, other);
            assert_false(json_equal(json_object_get(before, "shader"), json_object_get(item, "shader")) &&
                         json_equal(json_object_get(before, "constants"), json_object_get(item, "constants")));
        }
    }
}

int main(void) {
    const struct CMUnitTest plans[] = {
        cmocka_unit_test(plans_of_made_up_devices),
        cmocka_unit_test(a_full_list_of_matrices_fits),
    };
    const struct CMUnitTest report[] = {
        cmocka_unit_test(has_every_member),
        cmocka_unit_test(every_case_runs_a_convolution),
        cmocka_unit_test(every_pipeline_is_made_once),
    };
    const int failed = cmocka_run_group_tests(plans, NULL, NULL);
    return failed + cmocka_run_group_tests(report, make_document, drop_document);
}
