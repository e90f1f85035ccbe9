// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "files.h"
#include "inputs.h"
#include "interrupt.h"
#include "pictures.h"
#include "segment.h"

static const struct command command = {
    .name = "segment",
    .usage = "INPUT... --model FILE --output DIR [OPTION]...",
    .description = "Segments pictures: PNG and JPEG files, folders of them (with the folders below and links to\n"
                   "folders; names that begin with a dot are left out), or - for one picture on standard input. For\n"
                   "each picture NAME it writes NAME_mask.png (one class: 255 inside, 0 outside; several: the number\n"
                   "of the class) and NAME_overlay.png (the outline drawn over the picture) to DIR, sub-folders as in\n"
                   "the input, and one line of JSON to standard output: file, width, height, the files written, and\n"
                   "area in pixels, fraction of the picture and bounding box [x, y, width, height] of all that is\n"
                   "found and of each class. A picture that cannot be read is reported and the rest go on; the exit\n"
                   "status is 1 then.\n",
    .examples = "  hymn segment photo.jpg --model tiny.safetensors --output out\n"
                "  hymn segment pictures/ -m tiny.safetensors -o out --batch 8 --probabilities > list.jsonl\n"
                "  hymn segment slide.png -m tiny.safetensors -o out --tile --overlap 0.5\n"
                "  curl -s https://example.org/photo.jpg | hymn segment - -m tiny.safetensors -o out\n",
};

struct settings {
    struct common common;
    struct pictures pictures;
    const char *output, *probabilities;
    bool no_overlay;
};

static const char *const probability_formats[] = {"png", "npy", NULL};

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        COMMON_MODEL_OPTION(&s->pictures.model),
        {"output", 'o', OPTION_REQUIRED, "DIR", "folder for what is written; it is made if missing", &s->output, 0, 0,
         NULL},
        {"probabilities", 0, OPTION_MAY_CHOOSE, "png|npy",
         "write the probabilities too: NAME_probability.png,\n16-bit grey (several classes: one file each,\n"
         "NAME_probability_N.png), or NAME_probability.npy,\nfloat32 (classes, height, width)",
         &s->probabilities, 0, 0, probability_formats},
        {"no-overlay", 0, OPTION_FLAG, NULL, "write no NAME_overlay.png", &s->no_overlay, 0, 0, NULL},
        PICTURES_OPTIONS(&s->pictures),
        COMMON_OPTIONS(&s->common),
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

static enum exit_code check_arguments(const struct settings *settings, char **arguments, size_t count) {
    bool standard_input = false;
    for (size_t i = 0; i < count; i++) {
        const bool dash = strcmp(arguments[i], "-") == 0;
        if (dash && standard_input) {
            console_error(NULL, "%s: standard input (-) was given twice", command.name);
            return CODE_USAGE;
        }
        if (!dash && folder_exists(arguments[i]) && inputs_same_file(arguments[i], settings->output)) {
            console_error(arguments[i], "is both an input and the output folder");
            return CODE_USAGE;
        }
        standard_input = standard_input || dash;
    }
    return CODE_OK;
}

// Inputs to pictures with names for their outputs. CODE_INPUT: nothing is left to do.
static enum exit_code collect(const struct segment_params *work, char **arguments, size_t count,
                              struct input_list *inputs) {
    struct segment_suffixes suffixes;
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        good = inputs_collect(inputs, arguments[i], work->folder);
    }
    if (interrupt_seen()) {
        return common_interrupted();
    }
    segment_list_suffixes(work, &suffixes);
    if (!good || !inputs_name_outputs(inputs, work->folder, suffixes.list)) {
        console_error(NULL, "out of memory for the list of pictures");
        return CODE_INPUT;
    }
    return inputs->count > 0 ? CODE_OK : CODE_INPUT;
}

static enum segment_probabilities probabilities_of(const char *choice) {
    return choice == NULL               ? SEGMENT_NO_PROBABILITIES
           : strcmp(choice, "npy") == 0 ? SEGMENT_PROBABILITIES_NPY
                                        : SEGMENT_PROBABILITIES_PNG;
}

static struct segment_params make_work(const struct settings *settings, const struct hymn_model *model) {
    return (struct segment_params){.model = model,
                                   .folder = settings->output,
                                   .overlay = !settings->no_overlay,
                                   .probabilities = probabilities_of(settings->probabilities)};
}

static enum exit_code segment(const struct settings *settings, struct segment_params *work) {
    struct hymn_context *context = NULL;
    struct hymn_session *session = NULL;
    enum exit_code code = pictures_open(&settings->pictures, &settings->common, work->model, work->inputs->count,
                                        &context, &session, &work->pipeline);
    if (code == CODE_OK) {
        code = segment_run(work);
    }
    return common_close(&session, &context, code);
}

// From a model that is open to all files written.
static enum exit_code segment_all(const struct settings *settings, const struct hymn_model *model, char **arguments,
                                  size_t count) {
    struct input_list inputs = {0};
    struct cause cause;
    struct segment_params work = make_work(settings, model);
    enum exit_code code = common_check_pictures(&command, settings->pictures.model, hymn_model_get_info(model),
                                                settings->pictures.threshold);
    if (code == CODE_OK) {
        code = check_arguments(settings, arguments, count);
    }
    if (code == CODE_OK && !folder_make(settings->output, &cause)) {
        console_error(settings->output, "%s", cause.text);
        code = CODE_INPUT;
    }
    if (code == CODE_OK) {
        code = collect(&work, arguments, count, &inputs);
    }
    if (code == CODE_OK) {
        work.inputs = &inputs;
        code = segment(settings, &work);
        code = code == CODE_OK && inputs.failed > 0 ? CODE_INPUT : code;
    }
    inputs_free(&inputs);
    return code;
}

int command_segment(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults(), .pictures = pictures_defaults()};
    size_t input_count = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &input_count);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (input_count == 0) {
        return common_missing(&command, "INPUT");
    }
    struct hymn_model *model = NULL;
    enum exit_code code = common_open_model(settings.pictures.model, &model);
    if (code == CODE_OK) {
        code = segment_all(&settings, model, arguments, input_count);
    }
    hymn_model_destroy(&model);
    return code;
}
