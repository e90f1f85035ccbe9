// SPDX-License-Identifier: MIT
#include <math.h>

#include "common.h"
#include "report.h"
#include "selftest.h"

static const struct command command = {
    .name = "selftest",
    .usage = "[NAME]... [OPTION]...",
    .description =
        "Runs every shader of the network's operators on small random problems and compares the results with\n"
        "those of the base variants, which every device can run, with plain C, and with themselves. What is\n"
        "found wrong is not used on this device and driver from then on. The exit status is 3 where anything\n"
        "is wrong. It takes some seconds to some minutes. With NAMEs, only the variants whose names contain one\n"
        "of them are tested.\n",
    .examples = "  hymn selftest\n"
                "  hymn selftest selective_scan conv2d_tiled --runs 1000\n"
                "  hymn selftest --device llvmpipe --runs 10 --json\n",
};

struct settings {
    struct common common;
    uint32_t runs;
    bool json;
};

static void on_progress(void *user, uint32_t done, uint32_t count) {
    (void)user;
    if (done == 0) {
        console_progress_begin(count);
    } else {
        console_progress_step(false);
    }
}

enum hymn_status selftest_run(struct hymn_context *context, uint32_t runs, char *const *names, uint32_t name_count,
                              struct hymn_selftest **out_selftest) {
    const struct hymn_selftest_params params = {.runs = runs,
                                                .progress = on_progress,
                                                .names = name_count > 0 ? (const char *const *)names : NULL,
                                                .name_count = name_count};
    const enum hymn_status status = hymn_selftest_create(context, &params, out_selftest);
    console_progress_end();
    return status;
}

static const char *verdict_name(enum hymn_selftest_verdict verdict) {
    switch (verdict) {
    case HYMN_SELFTEST_PASSED:
        return "passed";
    case HYMN_SELFTEST_FAILED:
        return "failed";
    case HYMN_SELFTEST_UNAVAILABLE:
        break;
    }
    return "unavailable";
}

// Null where it was not compared, and where the result is no number.
static json_t *error_value(double error) {
    return report_real(error < 0 ? NAN : error);
}

static json_t *describe(const struct hymn_selftest_result *result) {
    json_t *object = json_object();
    json_object_set_new(object, "variant", report_text(result->variant));
    json_object_set_new(object, "operation", report_text(result->operation));
    json_object_set_new(object, "base", json_boolean(result->base));
    json_object_set_new(object, "verdict", report_text(verdict_name(result->verdict)));
    json_object_set_new(object, "reason", report_text(result->reason));
    json_object_set_new(object, "cases", json_integer(result->cases));
    json_object_set_new(object, "runs", json_integer(result->runs));
    json_object_set_new(object, "differing", json_integer(result->differing));
    json_object_set_new(object, "base_error", error_value(result->base_error));
    json_object_set_new(object, "reference_error", error_value(result->reference_error));
    return object;
}

json_t *selftest_json(const struct hymn_selftest *selftest) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) {
        json_array_append_new(array, describe(hymn_selftest_get(selftest, i)));
    }
    return array;
}

uint32_t selftest_failures(const struct hymn_selftest *selftest) {
    uint32_t failures = 0;
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) {
        failures += hymn_selftest_get(selftest, i)->verdict == HYMN_SELFTEST_FAILED;
    }
    return failures;
}

static bool print_json(const struct hymn_device_info *device, const struct hymn_selftest *selftest) {
    json_t *object = json_object();
    json_object_set_new(object, "device", report_text(device->name));
    json_object_set_new(object, "driver", report_text(device->driver));
    json_object_set_new(object, "variants", selftest_json(selftest));
    return report_write("-", object);
}

static void print_table(const struct hymn_device_info *device, const struct hymn_selftest *selftest) {
    struct table table;
    console_print("device   %s, %s", device->name, device->driver);
    printf("error    normalised mean squared, the largest of all cases\n\n");
    table_begin(&table, "<variant|<operator|<for|cases|against base|against C|runs|other bits|<verdict");
    for (uint32_t i = 0; i < hymn_selftest_count(selftest); i++) {
        const struct hymn_selftest_result *result = hymn_selftest_get(selftest, i);
        if (result->verdict == HYMN_SELFTEST_UNAVAILABLE) {
            table_cells(&table, "%s|-|-|-|-|-|-|-|not for this device", result->variant);
            continue;
        }
        table_cells(&table, "%s|%s|%s|%u|%.1e|%.1e|%u|%u", result->variant, result->operation,
                    result->base ? "all" : "some", result->cases, result->base_error, result->reference_error,
                    result->runs, result->differing);
        table_text(&table, "%s%s%s", verdict_name(result->verdict), result->reason[0] ? ": " : "", result->reason);
    }
    table_end(&table);
}

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        {"runs", 'n', OPTION_NUMBER, "N", "runs of each problem, which must all give the\nsame bits (default 100)",
         &s->runs, 1, 100000, NULL},
        {"json", 0, OPTION_FLAG, NULL, "print JSON instead of a table", &s->json, 0, 0, NULL},
        COMMON_DEVICE_OPTION(&s->common),
        COMMON_TIER_OPTION(&s->common),
        COMMON_SHARED(&s->common),
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

int command_selftest(char **arguments, size_t count) {
    struct settings s = {.common = common_defaults()};
    size_t rest = 0;
    const enum options_result parsed = parse(&s, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    struct hymn_context *context = NULL;
    struct hymn_session *session = NULL;
    struct hymn_selftest *selftest = NULL;
    enum exit_code code = common_open_device(&s.common, NULL, 1, &context);
    if (code == CODE_OK) {
        const enum hymn_status status = selftest_run(context, s.runs, arguments, (uint32_t)rest, &selftest);
        if (status != HYMN_STATUS_OK) {
            console_status(NULL, status);
            code = status == HYMN_STATUS_INVALID_ARGUMENT ? CODE_USAGE : CODE_ENGINE;
        }
    }
    if (code == CODE_OK) {
        const struct hymn_device_info *device = hymn_context_device(context);
        if (s.json) {
            code = print_json(device, selftest) ? code : CODE_INPUT;
        } else {
            print_table(device, selftest);
        }
    }
    code = selftest_failures(selftest) > 0 && code == CODE_OK ? CODE_ENGINE : code;
    hymn_selftest_destroy(&selftest);
    return common_close(&session, &context, code);
}
