// SPDX-License-Identifier: MIT
#include "devices_report.h"

#include <assert.h>
#include <string.h>

#include "report.h"
#include "selftest.h"
#include "survey.h"

// Raised when a member changes its meaning or goes.
#define REPORT_FORMAT 1

static void set_integer(json_t *object, const char *key, uint64_t value) {
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *triple(const uint32_t values[3]) {
    json_t *array = json_array();
    for (int i = 0; i < 3; i++) {
        json_array_append_new(array, json_integer(values[i]));
    }
    return array;
}

static json_t *describe_device(const struct hymn_device_info *info) {
    json_t *object = json_object();
    json_object_set_new(object, "name", report_text(info->name));
    json_object_set_new(object, "type", report_text(common_device_type_name(info->type)));
    json_object_set_new(object, "driver", report_text(info->driver));
    json_object_set_new(object, "api_version", report_text(info->api_version));
    set_integer(object, "vendor_id", info->vendor_id);
    set_integer(object, "device_id", info->device_id);
    set_integer(object, "memory_bytes", info->memory_bytes);
    return object;
}

static json_t *describe_limits(const struct hymn_vk_snapshot *s) {
    json_t *object = json_object();
    set_integer(object, "max_workgroup_invocations", s->max_workgroup_invocations);
    json_object_set_new(object, "max_workgroup_size", triple(s->max_workgroup_size));
    json_object_set_new(object, "max_workgroup_count", triple(s->max_workgroup_count));
    set_integer(object, "max_shared_bytes", s->max_shared_bytes);
    set_integer(object, "max_push_bytes", s->max_push_bytes);
    set_integer(object, "max_storage_buffers", s->max_storage_buffers);
    set_integer(object, "max_storage_buffer_range", s->max_storage_buffer_range);
    set_integer(object, "storage_buffer_alignment", s->storage_buffer_alignment);
    set_integer(object, "non_coherent_atom", s->non_coherent_atom);
    set_integer(object, "max_allocation_bytes", s->max_allocation_bytes);
    set_integer(object, "visible_bytes", s->visible_bytes);
    set_integer(object, "subgroup_size", s->subgroup_size);
    set_integer(object, "subgroup_min", s->subgroup_min);
    set_integer(object, "subgroup_max", s->subgroup_max);
    set_integer(object, "timestamp_bits", s->timestamp_bits);
    json_object_set_new(object, "timestamp_period_ns", report_real(s->timestamp_period));
    return object;
}

// device: NULL where it could not be opened; then it is not known whether its pipelines tell of themselves.
static json_t *describe_features(const struct hymn_vk_snapshot *s, const struct hymn_vk_device *device) {
    json_t *object = json_object(), *matrices = json_array();
    json_object_set_new(object, "storage_16bit", json_boolean(s->storage_16bit));
    json_object_set_new(object, "float16", json_boolean(s->float16));
    json_object_set_new(object, "subgroup_arithmetic", json_boolean(s->subgroup_arithmetic));
    json_object_set_new(object, "subgroup_shuffle", json_boolean(s->subgroup_shuffle));
    json_object_set_new(object, "subgroup_fixed", json_boolean(s->subgroup_fixed));
    json_object_set_new(object, "memory_model", json_boolean(s->memory_model));
    json_object_set_new(object, "unified_memory", json_boolean(s->unified_memory));
    json_object_set_new(object, "transfer_queue", json_boolean(s->transfer_queue));
    json_object_set_new(object, "compute_queues", json_integer(s->compute_queues));
    json_object_set_new(object, "portability_subset", json_boolean(s->portability_subset));
    json_object_set_new(object, "pipeline_robustness", json_boolean(s->pipeline_robustness));
    json_object_set_new(object, "pipeline_statistics", device ? json_boolean(device->statistics) : json_null());
    for (uint32_t i = 0; i < s->matrix_count; i++) {
        json_array_append_new(matrices, triple((uint32_t[3]){s->matrices[i].m, s->matrices[i].n, s->matrices[i].k}));
    }
    json_object_set_new(object, "matrices", matrices);
    return object;
}

static json_t *describe_plan(const struct survey_plan *plan) {
    static const char *const needs[] = {"storage16", "float16", "coopmat", "shuffle", "wide", "buffers", "halfsums"};
    static_assert(sizeof(needs) / sizeof(needs[0]) == HYMN_NEEDS_BITS, "each bit has a name");
    const struct hymn_vk_plan *p = &plan->plan;
    json_t *object = json_object(), *met = json_array();
    for (uint32_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if (p->needs_met & (1u << i)) {
            json_array_append_new(met, report_text(needs[i]));
        }
    }
    const bool matrices = p->needs_met & HYMN_NEEDS_COOPERATIVE_MATRIX;
    json_object_set_new(object, "name", report_text(plan->name));
    json_object_set_new(object, "own", json_boolean(plan->own));
    json_object_set_new(object, "tier", report_text(hymn_tier_string(p->tier)));
    json_object_set_new(object, "needs_met", met);
    json_object_set_new(object, "matrix",
                        matrices ? triple((uint32_t[3]){p->matrix.m, p->matrix.n, p->matrix.k}) : json_null());
    set_integer(object, "max_invocations", p->max_invocations);
    set_integer(object, "max_shared_bytes", p->max_shared_bytes);
    set_integer(object, "subgroup_size", p->subgroup_size);
    set_integer(object, "max_binding_bytes", p->max_binding_bytes);
    set_integer(object, "target_lanes", p->target_lanes);
    json_object_set_new(object, "skip_staging", json_boolean(p->skip_staging));
    json_object_set_new(object, "transfer_queue", json_boolean(p->transfer_queue));
    set_integer(object, "direct_bytes", p->direct_bytes);
    json_object_set_new(object, "timestamps", json_boolean(p->timestamps));
    return object;
}

static json_t *describe_plans(const struct hymn_vk_snapshot *snapshot) {
    struct survey_plan plans[SURVEY_MAX_PLANS];
    json_t *array = json_array();
    const uint32_t count = survey_plans(snapshot, plans);
    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(array, describe_plan(&plans[i]));
    }
    return array;
}

// Null when it is not asked for: devices that only compile fail it or hang.
static json_t *run_selftest(const struct devices_report_options *options, const char *selector, enum exit_code *code) {
    if (!options->selftest) {
        return json_null();
    }
    struct hymn_context *context = NULL;
    struct hymn_selftest *selftest = NULL;
    const struct hymn_context_params params = {.log = console_log(), .device = selector};
    enum hymn_status status = hymn_context_create(&params, &context);
    if (status == HYMN_STATUS_OK) {
        status = selftest_run(context, options->runs, NULL, 0, &selftest);
    }
    if (status != HYMN_STATUS_OK) {
        console_status(NULL, status);
    }
    *code = status != HYMN_STATUS_OK || selftest_failures(selftest) > 0 ? CODE_ENGINE : *code;
    json_t *array = status == HYMN_STATUS_OK ? selftest_json(selftest) : json_null();
    hymn_selftest_destroy(&selftest);
    hymn_context_destroy(&context);
    return array;
}

// What is known without running or compiling anything. reason: why the device cannot be used; NULL: it is open.
static json_t *describe_entry(const struct hymn_device_info *info, const struct hymn_vk_snapshot *snapshot,
                              const struct hymn_vk_device *device, const char *reason) {
    json_t *object = json_object();
    json_object_set_new(object, "device", describe_device(info));
    json_object_set_new(object, "usable", json_boolean(reason == NULL));
    json_object_set_new(object, "reason", reason == NULL ? json_null() : report_text(reason));
    json_object_set_new(object, "limits", describe_limits(snapshot));
    json_object_set_new(object, "features", describe_features(snapshot, device));
    json_object_set_new(object, "tier", device ? report_text(hymn_tier_string(device->plan.tier)) : json_null());
    json_object_set_new(object, "plans", describe_plans(snapshot));
    json_object_set_new(object, "cases", json_array());
    json_object_set_new(object, "pipelines", json_array());
    json_object_set_new(object, "pipelines_ms", json_null());
    json_object_set_new(object, "selftest", json_null());
    return object;
}

// Either the device lacks something, or it was not to be opened, of which the library has said why.
static json_t *describe_unusable(const struct hymn_device_info *info, const struct hymn_vk_snapshot *snapshot,
                                 enum hymn_status status) {
    char said[512];
    console_peek(said, sizeof(said));
    const char *reason = !info->usable ? info->reason : said[0] != '\0' ? said : hymn_status_string(status);
    return describe_entry(info, snapshot, NULL, reason);
}

// The device that `selector` names: its number, or as of --device.
static enum exit_code report_device(const struct devices_report_options *options, const char *selector,
                                    json_t *devices) {
    const struct hymn_log log = console_log();
    const struct hymn_context_params params = {.log = log, .device = selector, .cache_dir = ""};
    struct hymn_device_info info;
    struct hymn_vk_snapshot snapshot;
    struct hymn_vk_device *device = NULL;
    enum hymn_status status = hymn_vk_device_look(&log, selector, &info, &snapshot);
    if (status != HYMN_STATUS_OK && status != HYMN_STATUS_UNSUPPORTED) {
        common_device_status(options->common, status);
        return CODE_ENGINE; // nothing is known of it
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_create_inspected(&params, &device);
    }
    if (status != HYMN_STATUS_OK) {
        json_array_append_new(devices, describe_unusable(&info, &snapshot, status));
        console_status(NULL, status);
        return CODE_ENGINE;
    }
    json_t *object = describe_entry(&device->info, &device->snapshot, device, NULL);
    enum exit_code code = survey_device(device, options->quick, object);
    hymn_vk_device_destroy(&device);
    json_object_set_new(object, "selftest", run_selftest(options, selector, &code));
    json_array_append_new(devices, object);
    return code;
}

static enum exit_code report_all(const struct devices_report_options *options, json_t *devices) {
    struct hymn_device_list *list = NULL;
    const enum hymn_status status =
        hymn_device_list_create(&(struct hymn_device_list_params){.log = console_log()}, &list);
    if (status != HYMN_STATUS_OK) {
        console_status(NULL, status);
        return CODE_ENGINE;
    }
    enum exit_code code = hymn_device_list_count(list) > 0 ? CODE_OK : common_no_devices();
    for (uint32_t i = 0; i < hymn_device_list_count(list); i++) {
        char selector[16];
        snprintf(selector, sizeof(selector), "%u", (unsigned)i);
        const enum exit_code one = report_device(options, selector, devices);
        code = one == CODE_OK ? code : one;
    }
    hymn_device_list_destroy(&list);
    return code;
}

enum exit_code devices_report(const struct devices_report_options *options) {
    json_t *document = json_object(), *devices = json_array();
    const char *device = options->common->device;
    const bool named = device != NULL && device[0] != '\0';
    const enum exit_code code = named ? report_device(options, device, devices) : report_all(options, devices);
    json_object_set_new(document, "format", json_integer(REPORT_FORMAT));
    json_object_set_new(document, "hymn", report_text(hymn_version_string()));
    json_object_set_new(document, "devices", devices);
    return report_write("-", document) ? code : CODE_INPUT;
}
