// SPDX-License-Identifier: MIT
#include <string.h>

#include "common.h"
#include "devices_report.h"
#include "report.h"
#include "vk/device.h"

static const struct command command = {
    .name = "devices",
    .usage = "[--json | --report] [OPTION]...",
    .description =
        "Lists the Vulkan devices of this machine, or the one that --device names. A command's --device takes\n"
        "the number in front, a part of the name (but no number of one or two digits) or the UUID; without it\n"
        "the device that HYMN_DEVICE names is taken, or else the best usable one.\n"
        "\n"
        "--report makes every shader variant that models of the shipped sizes use, or that tuning may choose\n"
        "for them, without running any, and prints one JSON document: driver, limits, features, the choice\n"
        "of variants, and, where the driver tells them, registers, spills, shared memory and instructions of\n"
        "each pipeline. A device that cannot be used has an entry that says why; the exit status is 3 then.\n"
        "With --selftest the variants are run too, and the verdict on each is in the document, as\n"
        "'hymn selftest --json' has it; the exit status is 3 where one is wrong.\n",
    .examples = "  hymn devices\n"
                "  hymn devices --json --device 0\n"
                "  hymn devices --report --device 0 >report.json\n"
                "  hymn devices --report --selftest --runs 10 >report.json\n",
};

// What --report may be: every model and every choice of variants, or the fewest that mean something.
static const char *const reports[] = {"full", "quick", NULL};

static void format_uuid(const uint8_t *uuid, char *out_text) {
    for (size_t i = 0; i < 16; i++) {
        snprintf(out_text + 2 * i, 3, "%02x", uuid[i]);
    }
}

static json_t *describe(const struct hymn_device_info *info) {
    char uuid[33];
    json_t *object = json_object();
    format_uuid(info->uuid, uuid);
    json_object_set_new(object, "index", json_integer(info->index));
    json_object_set_new(object, "name", report_text(info->name));
    json_object_set_new(object, "type", report_text(common_device_type_name(info->type)));
    json_object_set_new(object, "driver", report_text(info->driver));
    json_object_set_new(object, "api_version", report_text(info->api_version));
    json_object_set_new(object, "uuid", report_text(uuid));
    json_object_set_new(object, "vendor_id", json_integer(info->vendor_id));
    json_object_set_new(object, "device_id", json_integer(info->device_id));
    json_object_set_new(object, "memory_bytes", json_integer((json_int_t)info->memory_bytes));
    json_object_set_new(object, "subgroup_size", json_integer(info->subgroup_size));
    json_object_set_new(object, "storage_16bit", json_boolean(info->storage_16bit));
    json_object_set_new(object, "arithmetic_16bit", json_boolean(info->arithmetic_16bit));
    json_object_set_new(object, "tier", info->usable ? report_text(hymn_tier_string(info->tier)) : json_null());
    json_object_set_new(object, "transfer_queue", json_boolean(info->transfer_queue));
    json_object_set_new(object, "compute_queues", json_integer(info->compute_queues));
    json_object_set_new(object, "usable", json_boolean(info->usable));
    json_object_set_new(object, "reason", info->usable ? json_null() : report_text(info->reason));
    return object;
}

#define ALL UINT32_MAX // in place of the one device that is to be printed

static bool print_json(const struct hymn_device_list *list, uint32_t only) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < hymn_device_list_count(list); i++) {
        if (only == ALL || only == i) {
            json_array_append_new(array, describe(hymn_device_list_get(list, i)));
        }
    }
    return report_write("-", array);
}

static void print_table(const struct hymn_device_list *list, uint32_t only) {
    struct table table;
    table_begin(&table, "#|<device|<type|memory|subgroup|<16-bit|<tier|<transfer queue|queues|<Vulkan|<driver|<usable");
    for (uint32_t i = 0; i < hymn_device_list_count(list); i++) {
        const struct hymn_device_info *info = hymn_device_list_get(list, i);
        if (only != ALL && only != i) {
            continue;
        }
        table_cells(&table, "%u", info->index);
        table_text(&table, "%s", info->name);
        table_cells(&table, "%s|%.1f GiB|%u|%s%s|%s|%s|%u|%s", common_device_type_name(info->type),
                    (double)info->memory_bytes / (1 << 30), info->subgroup_size, info->storage_16bit ? "storage" : "-",
                    info->arithmetic_16bit ? ", arithmetic" : "", info->usable ? hymn_tier_string(info->tier) : "-",
                    info->transfer_queue ? "yes" : "-", info->compute_queues, info->api_version);
        table_text(&table, "%s", info->driver);
        table_text(&table, "%s%s", info->usable ? "yes" : "no: ", info->usable ? "" : info->reason);
    }
    table_end(&table);
}

struct settings {
    struct common common;
    const char *device, *report;
    bool json, selftest;
    uint32_t runs;
};

// Unlike other commands, which take one device, this one lists all of them: HYMN_DEVICE is for its report only.
static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        {"json", 0, OPTION_FLAG, NULL, "print a JSON array instead of a table", &s->json, 0, 0, NULL},
        {"report", 0, OPTION_MAY_CHOOSE, "full|quick",
         "print a JSON document about what the devices' compilers\nmake of the shaders", &s->report, 0, 0, reports},
        {"selftest", 0, OPTION_FLAG, NULL, "with --report: 'hymn selftest' too, and its verdicts", &s->selftest, 0, 0,
         NULL},
        {"runs", 'n', OPTION_NUMBER, "N", "with --selftest: runs of each problem (default 100)", &s->runs, 1, 100000,
         NULL},
        {"device", 'd', OPTION_TEXT, "DEVICE",
         "the only device to tell of: an index, part of a name\nor a UUID; default: all of them (with --report:\n"
         "$HYMN_DEVICE, or else all of them)",
         &s->device, 0, 0, NULL},
        {"verbose", 'v', OPTION_COUNT, NULL, "say more on standard error; twice: everything", &s->common.verbosity, 0,
         0, NULL},
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

// The place of the device that --device names in the list, whether it can be used or not.
static enum exit_code find(const char *device, uint32_t *out_only) {
    const struct hymn_log log = console_log();
    struct hymn_device_info info;
    struct hymn_vk_snapshot snapshot;
    const enum hymn_status status = hymn_vk_device_look(&log, device, &info, &snapshot);
    if (status != HYMN_STATUS_OK && status != HYMN_STATUS_UNSUPPORTED) {
        console_status(NULL, status);
        return CODE_ENGINE;
    }
    console_forget(); // why it cannot be used is in the list
    *out_only = info.index;
    return CODE_OK;
}

static enum exit_code list_devices(const struct settings *settings) {
    struct hymn_device_list *list = NULL;
    const struct hymn_device_list_params params = {.log = console_log()};
    uint32_t only = ALL;
    enum exit_code code = settings->device != NULL ? find(settings->device, &only) : CODE_OK;
    if (code != CODE_OK) {
        return code;
    }
    const enum hymn_status status = hymn_device_list_create(&params, &list);
    if (status != HYMN_STATUS_OK) {
        console_status(NULL, status);
        return CODE_ENGINE;
    }
    if (hymn_device_list_count(list) == 0) {
        code = common_no_devices();
    }
    if (settings->json) {
        code = print_json(list, only) ? code : CODE_INPUT;
    } else if (code == CODE_OK) {
        print_table(list, only);
    }
    hymn_device_list_destroy(&list);
    return code;
}

int command_devices(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults()};
    size_t rest = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest > 0) {
        return common_unexpected(&command, arguments[0]);
    }
    if (settings.report == NULL && (settings.selftest || settings.runs > 0)) {
        console_error(NULL, "devices: --selftest and --runs need --report (see 'hymn devices --help')");
        return CODE_USAGE;
    }
    if (settings.report != NULL && settings.json) {
        console_error(NULL, "devices: --json and --report are two documents: one of them (see 'hymn devices --help')");
        return CODE_USAGE;
    }
    if (settings.report == NULL) {
        return list_devices(&settings);
    }
    if (settings.device != NULL) {
        settings.common.device = settings.device;
    }
    return devices_report(&(struct devices_report_options){.common = &settings.common,
                                                           .quick = strcmp(settings.report, reports[1]) == 0,
                                                           .selftest = settings.selftest,
                                                           .runs = settings.runs});
}
