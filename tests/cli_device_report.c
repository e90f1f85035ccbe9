// SPDX-License-Identifier: MIT
//
// hymn devices --report: the plans of made-up devices; the document about the device of HYMN_DEVICE (default: the
// first), every member of it, and the verdicts of its self-test; documents about devices that cannot be used, and about
// one with a wrong shader. For these the linker brings a few of the library's functions here first
// (tests/CMakeLists.txt).
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "devices_report.h"
#include "session/context.h"
#include "support/test_command.h"
#include "support/test_leaks.h"
#include "support/test_share.h"
#include "support/test_snapshot.h"
#include "survey.h"
#include "vk/device.h"

enum { RUNS = 2 }; // of each problem of the self-test

// The names of a device's plans, with spaces between.
static const char *plan_names(const struct hymn_vk_snapshot *snapshot) {
    static char text[512];
    static struct survey_plan plans[SURVEY_MAX_PLANS];
    const uint32_t count = survey_plans(snapshot, plans);
    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? " " : "", plans[i].name);
        assert_int_equal(plans[i].own, strcmp(plans[i].name, "other") != 0 && strcmp(plans[i].name, "few") != 0);
        assert_true(plans[i].plan.usable);
    }
    return text;
}

static void plans_of_made_up_devices(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = test_snapshot(HYMN_DEVICE_TYPE_DISCRETE_GPU);
    assert_string_equal(plan_names(&s), "half wide base other few");
    s.matrices[0] = (struct hymn_vk_matrix){16, 16, 16, 0};
    s.matrices[1] = (struct hymn_vk_matrix){16, 8, 16, 0};
    s.matrices[2] = (struct hymn_vk_matrix){16, 16, 16, 0}; // again, with other types of the result
    s.matrices[3] = (struct hymn_vk_matrix){12, 12, 12, 0}; // of no use
    s.matrix_count = 4;
    assert_string_equal(plan_names(&s), "matrix half wide base matrix-16x8x16 other few");
    s.subgroup_min = s.subgroup_max = 0; // cannot be asked for
    assert_string_equal(plan_names(&s), "half wide base other few");
    s.subgroup_fixed = true; // and need not be
    assert_string_equal(plan_names(&s), "matrix half wide base matrix-16x8x16 other few");
    s.storage_16bit = s.float16 = false;
    assert_string_equal(plan_names(&s), "wide base other few");
    s.max_storage_buffers = 1;
    assert_string_equal(plan_names(&s), "");
}

static void a_full_list_of_matrices_fits(void **state) {
    (void)state;
    struct hymn_vk_snapshot s = test_snapshot(HYMN_DEVICE_TYPE_CPU);
    static const uint32_t sides[] = {8, 16, 32};
    for (uint32_t i = 0; i < 27; i++) {
        s.matrices[s.matrix_count++] = (struct hymn_vk_matrix){sides[i / 9], sides[i / 3 % 3], sides[i % 3], 0};
    }
    struct survey_plan plans[SURVEY_MAX_PLANS];
    assert_int_equal(survey_plans(&s, plans), 27 + 3 + 2); // tier matrix chooses one of the 27
}

// ---- devices that are made up

static struct {
    bool old_twin;      // there is another one like the wanted device, of Vulkan 1.0, and no others
    bool refused;       // no device can be opened
    const char *broken; // a shader on which the self-test's verdict is that it failed
} made;

static struct hymn_selftest *selftest; // the one that was run; it stands for all others
static uint32_t selftest_runs;         // that the last one was asked for

// The library's own, and what is called in their place.
enum hymn_status __real_hymn_vk_instance_create(const struct hymn_log *log, bool validation,
                                                struct hymn_vk_instance **out_instance);
enum hymn_status __wrap_hymn_vk_instance_create(const struct hymn_log *log, bool validation,
                                                struct hymn_vk_instance **out_instance);
enum hymn_status __real_hymn_vk_instance_devices(struct hymn_vk_instance *instance, VkPhysicalDevice **out_devices,
                                                 uint32_t *out_count);
enum hymn_status __wrap_hymn_vk_instance_devices(struct hymn_vk_instance *instance, VkPhysicalDevice **out_devices,
                                                 uint32_t *out_count);
enum hymn_status __real_hymn_vk_snapshot_take(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                              uint32_t index, struct hymn_vk_snapshot *out_snapshot,
                                              struct hymn_device_info *out_info, struct hymn_vk_queues *out_queues);
enum hymn_status __wrap_hymn_vk_snapshot_take(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                              uint32_t index, struct hymn_vk_snapshot *out_snapshot,
                                              struct hymn_device_info *out_info, struct hymn_vk_queues *out_queues);
enum hymn_status __real_hymn_selftest_create(struct hymn_context *context, const struct hymn_selftest_params *params,
                                             struct hymn_selftest **out_selftest);
enum hymn_status __wrap_hymn_selftest_create(struct hymn_context *context, const struct hymn_selftest_params *params,
                                             struct hymn_selftest **out_selftest);
const struct hymn_selftest_result *__real_hymn_selftest_get(const struct hymn_selftest *of, uint32_t index);
const struct hymn_selftest_result *__wrap_hymn_selftest_get(const struct hymn_selftest *of, uint32_t index);
void __real_hymn_selftest_destroy(struct hymn_selftest **old);
void __wrap_hymn_selftest_destroy(struct hymn_selftest **old);

static VKAPI_ATTR VkResult VKAPI_CALL refuse(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                             const VkAllocationCallbacks *allocator, VkDevice *out_device) {
    (void)physical, (void)info, (void)allocator, (void)out_device;
    return VK_ERROR_INITIALIZATION_FAILED;
}

enum hymn_status __wrap_hymn_vk_instance_create(const struct hymn_log *log, bool validation,
                                                struct hymn_vk_instance **out_instance) {
    const enum hymn_status status = __real_hymn_vk_instance_create(log, validation, out_instance);
    if (status == HYMN_STATUS_OK && made.refused) {
        (*out_instance)->table.vkCreateDevice = refuse;
    }
    return status;
}

// Of HYMN_DEVICE, which is taken away: the command without --device is about all devices.
static char wanted[256] = "0";

enum hymn_status __wrap_hymn_vk_instance_devices(struct hymn_vk_instance *instance, VkPhysicalDevice **out_devices,
                                                 uint32_t *out_count) {
    enum hymn_status status = __real_hymn_vk_instance_devices(instance, out_devices, out_count);
    if (status != HYMN_STATUS_OK || !made.old_twin) {
        return status;
    }
    struct hymn_device_info *infos = calloc(*out_count, sizeof(*infos));
    struct hymn_vk_snapshot snapshot;
    struct hymn_vk_queues queues;
    uint32_t index = 0;
    assert_non_null(infos);
    for (uint32_t i = 0; i < *out_count; i++) {
        assert_int_equal(__real_hymn_vk_snapshot_take(instance, (*out_devices)[i], i, &snapshot, &infos[i], &queues),
                         0);
    }
    assert_int_equal(hymn_vk_device_select(infos, *out_count, wanted, &instance->log, &index), 0);
    free(infos);
    *out_devices = hymn_realloc(*out_devices, *out_count + 1, sizeof(**out_devices));
    assert_non_null(*out_devices);
    (*out_devices)[0] = (*out_devices)[1] = (*out_devices)[index];
    *out_count = 2;
    return status;
}

enum hymn_status __wrap_hymn_vk_snapshot_take(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                              uint32_t index, struct hymn_vk_snapshot *out_snapshot,
                                              struct hymn_device_info *out_info, struct hymn_vk_queues *out_queues) {
    const enum hymn_status status =
        __real_hymn_vk_snapshot_take(instance, physical, index, out_snapshot, out_info, out_queues);
    if (status == HYMN_STATUS_OK && made.old_twin && index == 1) {
        struct hymn_vk_plan plan;
        out_snapshot->api_version = VK_API_VERSION_1_0;
        snprintf(out_info->api_version, sizeof(out_info->api_version), "1.0.0");
        hymn_vk_plan_make(out_snapshot, HYMN_TIER_AUTO, &plan);
        out_info->usable = plan.usable;
        memcpy(out_info->reason, plan.reason, sizeof(out_info->reason));
    }
    return status;
}

// It takes software devices seconds: of the base tier, and once; with HYMN_TEST_SHARE of a few shaders.
enum hymn_status __wrap_hymn_selftest_create(struct hymn_context *context, const struct hymn_selftest_params *params,
                                             struct hymn_selftest **out_selftest) {
    static const char *const few[] = {"conv2d_tiled", "gate", "max_pool"};
    struct hymn_selftest_params of = params ? *params : (struct hymn_selftest_params){0};
    selftest_runs = of.runs;
    if (test_share() > 1) {
        of.names = few;
        of.name_count = sizeof(few) / sizeof(*few);
    }
    const enum hymn_tier tier = context->device->tier;
    context->device->tier = HYMN_TIER_BASE;
    const enum hymn_status status = selftest ? HYMN_STATUS_OK : __real_hymn_selftest_create(context, &of, &selftest);
    context->device->tier = tier;
    *out_selftest = selftest;
    return status;
}

const struct hymn_selftest_result *__wrap_hymn_selftest_get(const struct hymn_selftest *of, uint32_t index) {
    static struct hymn_selftest_result failed;
    const struct hymn_selftest_result *result = __real_hymn_selftest_get(of, index);
    if (made.broken == NULL || strcmp(result->variant, made.broken) != 0) {
        return result;
    }
    failed = *result;
    failed.verdict = HYMN_SELFTEST_FAILED;
    failed.reason = "not the same every time";
    failed.differing = 1;
    failed.base_error = INFINITY;
    return &failed;
}

void __wrap_hymn_selftest_destroy(struct hymn_selftest **old) {
    *old = NULL;
}

// ---- the document

static json_t *document;

// What `hymn devices` with these words prints, as standard output is a file for that time. NULL after a message.
static json_t *print_report(const char *const *words, int *out_code) {
    char path[] = "/tmp/hymn-report-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0) {
        return NULL;
    }
    close(file);
    *out_code = test_command_run(command_devices, words, path);
    json_error_t error;
    json_t *printed = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    unlink(path);
    if (printed == NULL) {
        print_error("report: %s\n", error.text);
    }
    return printed;
}

static int make_document(void **state) {
    (void)state;
    int code = CODE_ENGINE;
    const char *const words[] = {"--report=quick", "--device", wanted, "--selftest", "--runs", "2", NULL};
    document = print_report(words, &code);
    if (code != CODE_OK) {
        print_error("report: exit code %d\n", code);
    }
    return document != NULL && code == CODE_OK ? 0 : -1;
}

static int drop_document(void **state) {
    (void)state;
    json_decref(document);
    __real_hymn_selftest_destroy(&selftest);
    return 0;
}

static const json_t *device_of_document(void) {
    const json_t *devices = json_object_get(document, "devices");
    assert_int_equal(json_array_size(devices), 1);
    return json_array_get(devices, 0);
}

// Each of "KEY:TYPE ..." is a member of the object and of its type: s string, i integer, r real, b boolean, a array, or
// null too where the letter is a capital; o object, n null; and there are no others.
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
                          (type == 'r' && json_is_number(value)) || (type == 'R' && (json_is_number(value) || null)) ||
                          (type == 'b' && json_is_boolean(value)) || (type == 'a' && json_is_array(value)) ||
                          (type == 'A' && (json_is_array(value) || null)) || (type == 'o' && json_is_object(value)) ||
                          (type == 'n' && null);
        if (!good) {
            fail_msg("\"%s\" is missing or not of type %c", key, type);
        }
    }
    assert_int_equal(json_object_size(object), count);
}

// What is said of any device, usable or not; `told`: the type of features.pipeline_statistics.
static void check_description(const json_t *device, char told) {
    char features[512];
    check_members(json_object_get(device, "device"),
                  "name:s type:s driver:s api_version:s vendor_id:i device_id:i memory_bytes:i");
    check_members(json_object_get(device, "limits"),
                  "max_workgroup_invocations:i max_workgroup_size:a max_workgroup_count:a max_shared_bytes:i "
                  "max_push_bytes:i max_storage_buffers:i max_storage_buffer_range:i storage_buffer_alignment:i "
                  "non_coherent_atom:i max_allocation_bytes:i visible_bytes:i subgroup_size:i subgroup_min:i "
                  "subgroup_max:i timestamp_bits:i timestamp_period_ns:r");
    snprintf(features, sizeof(features),
             "storage_16bit:b float16:b subgroup_arithmetic:b subgroup_shuffle:b subgroup_fixed:b memory_model:b "
             "unified_memory:b transfer_queue:b compute_queues:i portability_subset:b pipeline_robustness:b "
             "pipeline_statistics:%c "
             "matrices:a",
             told);
    check_members(json_object_get(device, "features"), features);
}

static void check_usable(const json_t *device, const char *verdicts) {
    char members[256];
    snprintf(members, sizeof(members),
             "device:o usable:b reason:n limits:o features:o tier:s plans:a cases:a pipelines:a pipelines_ms:r "
             "selftest:%s",
             verdicts);
    check_members(device, members);
    check_description(device, 'b');
    assert_true(json_is_true(json_object_get(device, "usable")));
    assert_true(json_array_size(json_object_get(device, "plans")) > 0);
    assert_true(json_array_size(json_object_get(device, "pipelines")) > 0);
}

static void check_unusable(const json_t *device, const char *reason) {
    check_members(device, "device:o usable:b reason:s limits:o features:o tier:n plans:a cases:a pipelines:a "
                          "pipelines_ms:n selftest:n");
    check_description(device, 'n');
    assert_true(json_is_false(json_object_get(device, "usable")));
    assert_string_equal(json_string_value(json_object_get(device, "reason")), reason);
    assert_int_equal(json_array_size(json_object_get(device, "cases")), 0);
    assert_int_equal(json_array_size(json_object_get(device, "pipelines")), 0);
}

static void has_every_member(void **state) {
    (void)state;
    check_members(document, "format:i hymn:s devices:a");
    assert_string_equal(json_string_value(json_object_get(document, "hymn")), hymn_version_string());
    check_usable(device_of_document(), "a");
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

// ---- verdicts

static const char *verdict_of(const json_t *entry) {
    return json_string_value(json_object_get(entry, "verdict"));
}

static void check_error(const json_t *entry, const char *key, double error) {
    const json_t *value = json_object_get(entry, key);
    const bool number = isfinite(error) && error >= 0;
    assert_int_equal(json_is_number(value), number);
    if (number) {
        assert_true(fabs(json_number_value(value) - error) <= 1e-8 * error); // nine digits are printed
    }
}

// The document has what the library has found, shader by shader.
static void verdicts_are_those_of_the_library(void **state) {
    (void)state;
    static const char *const names[] = {"passed", "failed", "unavailable"};
    const json_t *entries = json_object_get(device_of_document(), "selftest");
    assert_int_equal(selftest_runs, RUNS);
    assert_non_null(selftest);
    assert_int_equal(json_array_size(entries), hymn_selftest_count(selftest));
    assert_true(json_array_size(entries) > (test_share() > 1 ? 2 : 10));
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) {
        const struct hymn_selftest_result *result = __real_hymn_selftest_get(selftest, i);
        const json_t *entry = json_array_get(entries, i);
        check_members(entry, "variant:s operation:s base:b verdict:s reason:s cases:i runs:i differing:i base_error:R "
                             "reference_error:R");
        assert_non_null(hymn_shader_find(json_string_value(json_object_get(entry, "variant"))));
        assert_string_equal(json_string_value(json_object_get(entry, "variant")), result->variant);
        assert_string_equal(json_string_value(json_object_get(entry, "operation")), result->operation);
        assert_int_equal(json_is_true(json_object_get(entry, "base")), result->base);
        assert_string_equal(verdict_of(entry), names[result->verdict]);
        assert_int_not_equal(result->verdict, HYMN_SELFTEST_FAILED);
        assert_string_equal(json_string_value(json_object_get(entry, "reason")), "");
        assert_int_equal(json_integer_value(json_object_get(entry, "cases")), result->cases);
        assert_int_equal(json_integer_value(json_object_get(entry, "runs")), RUNS * result->cases);
        assert_int_equal(json_integer_value(json_object_get(entry, "differing")), 0);
        check_error(entry, "base_error", result->base_error);
        check_error(entry, "reference_error", result->reference_error);
    }
}

// A shader that fails is told of as failed, and it alone, and the command fails; the rest of the document is whole.
static void a_wrong_shader_is_told_of(void **state) {
    (void)state;
    int code = CODE_OK;
    size_t index, failed = 0;
    json_t *entry;
    const json_t *before = json_object_get(device_of_document(), "selftest");
    const char *const words[] = {"--report=quick", "--device", wanted, "--selftest", NULL};
    made.broken = "conv2d_tiled";
    json_t *printed = print_report(words, &code);
    made.broken = NULL;
    assert_non_null(printed);
    assert_int_equal(code, CODE_ENGINE);
    assert_int_equal(selftest_runs, 0); // the library's default
    const json_t *device = json_array_get(json_object_get(printed, "devices"), 0);
    check_usable(device, "a");
    json_array_foreach(json_object_get(device, "selftest"), index, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "variant")), "conv2d_tiled") == 0) {
            assert_string_equal(verdict_of(entry), "failed");
            assert_string_equal(json_string_value(json_object_get(entry, "reason")), "not the same every time");
            assert_int_equal(json_integer_value(json_object_get(entry, "differing")), 1);
            assert_true(json_is_null(json_object_get(entry, "base_error")));
            failed++;
        } else {
            assert_true(json_equal(entry, json_array_get(before, index)));
        }
    }
    assert_int_equal(failed, 1);
    json_decref(printed);
}

// ---- devices that cannot be used

static void an_old_device_has_an_entry(void **state) {
    (void)state;
    int code = CODE_OK;
    made.old_twin = true;
    json_t *printed = print_report((const char *const[]){"--report=quick", NULL}, &code);
    made.old_twin = false;
    assert_non_null(printed);
    assert_int_equal(code, CODE_ENGINE);
    const json_t *devices = json_object_get(printed, "devices"), *usable = json_array_get(devices, 0),
                 *old = json_array_get(devices, 1), *known = device_of_document();
    assert_int_equal(json_array_size(devices), 2);
    check_usable(usable, "n"); // the device beside it is told of as if it were alone
    assert_true(json_equal(json_object_get(usable, "device"), json_object_get(known, "device")));
    assert_true(json_equal(json_object_get(usable, "cases"), json_object_get(known, "cases")));
    assert_int_equal(json_array_size(json_object_get(usable, "pipelines")),
                     json_array_size(json_object_get(known, "pipelines")));
    check_unusable(old, "version 1.0 of Vulkan, and 1.1 is needed");
    assert_int_equal(json_array_size(json_object_get(old, "plans")), 0);
    assert_true(json_equal(json_object_get(old, "limits"), json_object_get(usable, "limits")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(old, "device"), "api_version")), "1.0.0");
    json_decref(printed);
}

// The report of one device, which ends with an error; its only entry says why. The caller's to free.
static json_t *print_unusable(const char *const *words, const char *reason) {
    int code = CODE_OK;
    json_t *printed = print_report(words, &code);
    assert_non_null(printed);
    assert_int_equal(code, CODE_ENGINE);
    const json_t *devices = json_object_get(printed, "devices");
    assert_int_equal(json_array_size(devices), 1);
    check_unusable(json_array_get(devices, 0), reason);
    return printed;
}

static void a_device_that_is_named_and_old(void **state) {
    (void)state;
    made.old_twin = true;
    json_decref(print_unusable((const char *const[]){"--report", "--device", "1", "--selftest", NULL},
                               "version 1.0 of Vulkan, and 1.1 is needed"));
    made.old_twin = false;
}

static void a_device_that_cannot_be_opened(void **state) {
    (void)state;
    made.refused = true;
    json_t *printed = print_unusable((const char *const[]){"--report", "--device", wanted, NULL},
                                     "vkCreateDevice: VK_ERROR_INITIALIZATION_FAILED");
    made.refused = false;
    const json_t *device = json_array_get(json_object_get(printed, "devices"), 0);
    assert_true(json_array_size(json_object_get(device, "plans")) > 0);
    json_decref(printed);
}

static void a_device_that_is_not_there(void **state) {
    (void)state;
    int code = CODE_OK;
    json_t *printed = print_report((const char *const[]){"--report", "--device", "nonesuch", NULL}, &code);
    assert_non_null(printed);
    assert_int_equal(code, CODE_ENGINE);
    assert_int_equal(json_array_size(json_object_get(printed, "devices")), 0);
    json_decref(printed);
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
        cmocka_unit_test(verdicts_are_those_of_the_library),
        cmocka_unit_test(a_wrong_shader_is_told_of),
        cmocka_unit_test(an_old_device_has_an_entry),
        cmocka_unit_test(a_device_that_is_named_and_old),
        cmocka_unit_test(a_device_that_cannot_be_opened),
        cmocka_unit_test(a_device_that_is_not_there),
    };
    const char *device = getenv("HYMN_DEVICE");
    if (device != NULL && *device != '\0') {
        snprintf(wanted, sizeof(wanted), "%s", device);
    }
    unsetenv("HYMN_DEVICE");
    const int failed = cmocka_run_group_tests(plans, NULL, NULL);
    return failed + cmocka_run_group_tests(report, make_document, drop_document);
}
