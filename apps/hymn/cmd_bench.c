// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "inputs.h"
#include "interrupt.h"

static const struct command command = {
    .name = "bench",
    .usage = "--model FILE [OPTION]...",
    .description =
        "Measures a model at each size and batch: GPU time and wall time of single runs (percentiles 50, 90\n"
        "and 99), images per second with several runs in flight (--streams), whose results must be those\n"
        "of a run alone, the time from nothing to the first result without caches (cold) and with them\n"
        "(warm; ready: its part until a run can begin), device memory, the session's host memory, and the\n"
        "largest difference of the logits from those of the fp32 shaders that run on every device, where\n"
        "the device has memory for these too.\n",
    .examples = "  hymn bench --model tiny.safetensors\n"
                "  hymn bench -m base.safetensors --size 256,512 --batch 1,8 --precision fp16 --json base.json\n"
                "  hymn bench -m tiny.safetensors --profile --trace trace.json --device 1\n",
};

struct settings {
    struct common common;
    const char *model, *json, *trace, *input, *cache;
    struct size_list sizes;
    struct number_list batches;
    uint32_t runs, warmup, streams;
    double seconds, tuning;
    bool profile, no_check;
};

static const char *const input_kinds[] = {"image", "tensor", NULL};

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        COMMON_MODEL_OPTION(&s->model),
        {"size", 's', OPTION_SIZES, "SIZE,...", "network inputs, N or HEIGHTxWIDTH (default: the\nmodel's)", &s->sizes,
         1, COMMON_MAX_SIZE, NULL},
        {"batch", 'b', OPTION_NUMBERS, "N,...", "images per run (default 1)", &s->batches, 1, COMMON_MAX_BATCH, NULL},
        {"runs", 'n', OPTION_NUMBER, "N", "single runs that are measured (default: as many as\nfit into --seconds)",
         &s->runs, 1, 1000000, NULL},
        {"seconds", 0, OPTION_REAL, "T", "time for single runs (default 3); at least 3 runs", &s->seconds, 0, 86400,
         NULL},
        {"warmup", 'w', OPTION_NUMBER, "N", "runs before those that are measured (default 2)", &s->warmup, 0, 1000000,
         NULL},
        COMMON_STREAMS_OPTION(&s->streams),
        {"tuning", 0, OPTION_REAL, "T",
         "seconds that GPUs may take to choose the fastest way of\neach operator first (default 10; 0: none)",
         &s->tuning, 0, 3600, NULL},
        {"input", 0, OPTION_CHOICE, "KIND",
         "image: 8-bit pictures of the network's size to masks\n(the default; no resizing is in it); tensor: float\n"
         "tensors to logits",
         &s->input, 0, 0, input_kinds},
        {"profile", 0, OPTION_FLAG, NULL,
         "print the time of each operator, with GB/s, GFLOP/s\nand its share of what the device can do", &s->profile, 0,
         0, NULL},
        {"trace", 0, OPTION_TEXT, "FILE", "write the starts and the operators of a run in\nChrome's trace format",
         &s->trace, 0, 0, NULL},
        {"json", 0, OPTION_TEXT, "FILE", "write the results as JSON too; - is standard output,\ninstead of the tables",
         &s->json, 0, 0, NULL},
        {"cache", 0, OPTION_TEXT, "FOLDER",
         "keep what is compiled and chosen in FOLDER; a later call\nfinds it there, and its cold start is a warm one",
         &s->cache, 0, 0, NULL},
        {"no-check", 0, OPTION_FLAG, NULL, "do not compare with the fp32 base shaders", &s->no_check, 0, 0, NULL},
        COMMON_OPTIONS(&s->common),
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

// One setup for each size and batch.
static size_t list_setups(const struct settings *settings, const struct hymn_model *model,
                          struct bench_setup *out_setups) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    const bool pictures = info->in_channels == 1 || info->in_channels == 3;
    size_t count = 0;
    for (uint32_t s = 0; s < settings->sizes.count; s++) {
        for (uint32_t b = 0; b < settings->batches.count; b++) {
            const struct size size = settings->sizes.items[s];
            out_setups[count++] = (struct bench_setup){.common = &settings->common,
                                                       .model = model,
                                                       .model_path = settings->model,
                                                       .cache = settings->cache,
                                                       .height = size.height > 0 ? size.height : info->input_height,
                                                       .width = size.width > 0 ? size.width : info->input_width,
                                                       .batch = settings->batches.items[b],
                                                       .streams = settings->streams,
                                                       .runs = settings->runs,
                                                       .warmup = settings->warmup,
                                                       .seconds = settings->seconds,
                                                       .tuning = settings->tuning,
                                                       .tensor = !pictures || strcmp(settings->input, "tensor") == 0,
                                                       .check = !settings->no_check,
                                                       .profile = settings->profile || settings->trace != NULL};
        }
    }
    return count;
}

static enum exit_code report(const struct settings *settings, const struct bench_setup *setups,
                             const struct bench_result *results, size_t count) {
    bool good = true;
    if (settings->json == NULL || strcmp(settings->json, "-") != 0) {
        bench_print(setups, results, count);
        for (size_t i = 0; settings->profile && i < count; i++) {
            bench_print_profile(&setups[i], &results[i]);
        }
    }
    if (settings->json != NULL) {
        const bool several = settings->sizes.count * settings->batches.count > 1;
        good = report_write(settings->json, bench_json(setups, results, count, several));
    }
    if (settings->trace != NULL) {
        good = report_write(settings->trace, bench_trace(setups, results, count)) && good;
    }
    return good ? CODE_OK : interrupt_seen() ? CODE_INTERRUPTED : CODE_INPUT;
}

static enum exit_code bench(const struct settings *settings, const struct hymn_model *model) {
    const size_t capacity = (size_t)settings->sizes.count * settings->batches.count;
    struct bench_setup *setups = calloc(capacity, sizeof(*setups));
    struct bench_result *results = calloc(capacity, sizeof(*results));
    enum exit_code code = CODE_OK;
    size_t done = 0;
    if (setups == NULL || results == NULL) {
        console_error(NULL, "out of memory");
        code = CODE_ENGINE;
    } else {
        const size_t count = list_setups(settings, model, setups);
        for (; done < count && code == CODE_OK; done += code == CODE_OK) {
            code = bench_measure(&setups[done], &results[done]);
        }
        if (done > 0) { // what was measured before a failure is not lost
            const enum exit_code reported = report(settings, setups, results, done);
            code = code == CODE_OK ? reported : code;
        }
    }
    for (size_t i = 0; i < done; i++) {
        bench_result_free(&results[i]);
    }
    free(results);
    free(setups);
    return code;
}

int command_bench(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults(),
                                .input = input_kinds[0],
                                .warmup = 2,
                                .streams = COMMON_STREAMS,
                                .seconds = 3,
                                .tuning = 10,
                                .sizes = {.count = 1},
                                .batches = {.items = {1}, .count = 1}};
    size_t rest = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest > 0) {
        return common_unexpected(&command, arguments[0]);
    }
    if (settings.json != NULL && settings.trace != NULL &&
        (strcmp(settings.json, settings.trace) == 0 || inputs_same_file(settings.json, settings.trace))) {
        console_error(NULL, "%s: --json and --trace are the same file '%s'", command.name, settings.json);
        return CODE_USAGE;
    }
    struct hymn_model *model = NULL;
    enum exit_code code = common_keep_model(&command, settings.model, "--json", settings.json);
    if (code == CODE_OK) {
        code = common_keep_model(&command, settings.model, "--trace", settings.trace);
    }
    if (code == CODE_OK) {
        code = common_open_model(settings.model, &model);
    }
    if (code == CODE_OK) {
        code = bench(&settings, model);
    }
    hymn_model_destroy(&model);
    return code;
}
