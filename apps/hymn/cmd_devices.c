// SPDX-License-Identifier: MIT
#include <string.h>

#include "common.h"
#include "devices_report.h"
#include "report.h"

static const struct command command = {
    .name = "devices",
    .usage = "[--json | --report] [OPTION]...",
    .description =
        "Lists the Vulkan devices of this machine. A command's --device takes the number in front, a part\n"
        "of the name or the UUID; without it the best usable device is taken.\n"
        "\n"
        "--report makes every shader variant that models of the shipped sizes use, or that tuning may choose\n"
        "for them, without running any, and prints one JSON document: driver, limits, features, the choice\n"
        "of variants, and, where the driver tells them, registers, spills, shared memory and instructions of\n"
        "each pipeline. A device that cannot be used has an entry that says why; the exit status is 3 then.\n"
        "With --selftest the variants are run too, and the verdict on each is in the document, as\n"
        "'hymn selftest --json' has it; the exit status is 3 where one is wrong.\n",
    .examples = "  hymn devices\n"
                "  hymn devices --json\n"
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
    json_object_set_new(object, "transfer_queue", json_boolean(info->transfer_queue));
    json_object_set_new(object, "usable", json_boolean(info->usable));
    json_object_set_new(object, "reason", info->usable ? json_null() : report_text(info->reason));
    return object;
}

static bool print_json(const struct hymn_device_list *list) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < hymn_device_list_count(list); i++) {
        json_array_append_new(array, describe(hymn_device_list_get(list, i)));
    }
    return report_write("-", array);
}

static void print_table(const struct hymn_device_list *list) {
    struct table table;
    table_begin(&table, "#|<device|<type|memory|subgroup|<16-bit|<transfer queue|<Vulkan|<driver|<usable");
    for (uint32_t i = 0; i < hymn_device_list_count(list); i++) {
        const struct hymn_device_info *info = hymn_device_list_get(list, i);
        table_row(&table, "%u|%s|%s|%.1f GiB|%u|%s%s|%s|%s|%s|%s%s", info->index, info->name,
                  common_device_type_name(info->type), (double)info->memory_bytes / (1 << 30), info->subgroup_size,
                  info->storage_16bit ? "storage" : "-", info->arithmetic_16bit ? ", arithmetic" : "",
                  info->transfer_queue ? "yes" : "-", info->api_version, info->driver,
                  info->usable ? "yes" : "no: ", info->usable ? "" : info->reason);
    }
    table_end(&table);
}

int command_devices(char **arguments, size_t count) {
    struct common common = common_defaults();
    bool json = false, selftest = false;
    const char *report = NULL;
    uint32_t runs = 0;
    size_t rest = 0;
    const struct option options[] = {
        {"json", 0, OPTION_FLAG, NULL, "print a JSON array instead of a table", &json, 0, 0, NULL},
        {"report", 0, OPTION_MAY_CHOOSE, "full|quick",
         "print a JSON document about what the devices' compilers\nmake of the shaders", &report, 0, 0, reports},
        {"selftest", 0, OPTION_FLAG, NULL, "with --report: 'hymn selftest' too, and its verdicts", &selftest, 0, 0,
         NULL},
        {"runs", 'n', OPTION_NUMBER, "N", "with --selftest: runs of each problem (default 100)", &runs, 1, 100000,
         NULL},
        COMMON_DEVICE_OPTION(&common),
        {"verbose", 'v', OPTION_COUNT, NULL, "say more on standard error; twice: everything", &common.verbosity, 0, 0,
         NULL},
    };
    const enum options_result parsed =
        common_parse(&common, &command, options, COMMON_COUNT(options), arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest > 0) {
        return common_unexpected(&command, arguments[0]);
    }
    if (report != NULL) {
        return devices_report(&(struct devices_report_options){
            .device = common.device, .quick = strcmp(report, reports[1]) == 0, .selftest = selftest, .runs = runs});
    }
    struct hymn_device_list *list = NULL;
    const struct hymn_device_list_params params = {.log = console_log()};
    const enum hymn_status status = hymn_device_list_create(&params, &list);
    if (status != HYMN_STATUS_OK) {
        console_status(NULL, status);
        return CODE_ENGINE;
    }
    enum exit_code code = CODE_OK;
    if (hymn_device_list_count(list) == 0) {
        console_error(NULL, "there is no Vulkan device on this machine (no driver is installed, or none works)");
        code = CODE_ENGINE;
    }
    if (json) {
        code = print_json(list) ? code : CODE_INPUT;
    } else if (code == CODE_OK) {
        print_table(list);
    }
    hymn_device_list_destroy(&list);
    return code;
}
