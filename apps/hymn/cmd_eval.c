// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "evaluate.h"
#include "files.h"
#include "interrupt.h"
#include "pictures.h"
#include "report.h"

static const struct command command = {
    .name = "eval",
    .usage = "--model FILE --images DIR --masks DIR [OPTION]...",
    .description = "Segments the pictures of a folder and compares the result with true masks. The mask of NAME.jpg\n"
                   "(or .png) is NAME_segmentation.png, NAME.png or NAME_mask.png in the folder of masks, or in the\n"
                   "same sub-folder there, and has the picture's size. One class: pixels from half of the range on\n"
                   "(128 of 8 bits; or 1, where nothing is above 1) are inside; several: pixel values are class\n"
                   "numbers.\n"
                   "Dice, IoU and hd95 (95 % Hausdorff distance in pixels) are means over pictures; the pooled\n"
                   "figures, accuracy, sensitivity and specificity come from the pixels of all pictures together.\n"
                   "Several classes: figures of each but the background, and their mean. Two empty masks agree\n"
                   "(Dice 1, distance 0); where only one is empty, the distance is the picture's diagonal. Pictures\n"
                   "without a mask are named and left out; the exit status is 1 then.\n",
    .examples = "  hymn eval --model tiny.safetensors --images val/images --masks val/masks\n"
                "  hymn eval -m tiny.safetensors --images val/images --masks val/masks --batch 8 --json val.json\n",
};

struct settings {
    struct common common;
    struct pictures pictures;
    const char *images, *masks, *json;
};

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        COMMON_MODEL_OPTION(&s->pictures.model),
        {"images", 'i', OPTION_REQUIRED, "DIR", "folder of pictures, or one picture", &s->images, 0, 0, NULL},
        {"masks", 'k', OPTION_REQUIRED, "DIR", "folder of true masks", &s->masks, 0, 0, NULL},
        {"json", 0, OPTION_TEXT, "FILE", "write the figures as JSON too; - is standard output,\ninstead of the table",
         &s->json, 0, 0, NULL},
        PICTURES_OPTIONS(&s->pictures),
        COMMON_OPTIONS(&s->common),
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

// ------------------------------------------------------------------------------------------------------ pictures,
// masks

static const char *const mask_suffixes[] = {"_segmentation.png", ".png", "_mask.png"};

// The mask of a picture: below `folder` at the picture's own sub-folder, or directly in it. NULL if there is none.
static char *find_mask(const struct input *input, const char *folder) {
    for (int flat = 0; flat < 2; flat++) {
        const char *stem = flat ? path_name(input->stem) : input->stem;
        for (size_t i = 0; i < sizeof(mask_suffixes) / sizeof(mask_suffixes[0]); i++) {
            char *name = text_format("%s%s", stem, mask_suffixes[i]);
            char *path = name != NULL ? path_join(folder, name) : NULL;
            free(name);
            if (path != NULL && !inputs_same_file(path, input->path) && file_is_there(path)) {
                return path;
            }
            free(path);
        }
    }
    return NULL;
}

static bool looks_like_a_mask(const char *stem) {
    static const char *const endings[] = {"_segmentation", "_mask"};
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        const size_t length = strlen(stem), tail = strlen(endings[i]);
        if (length > tail && strcmp(stem + length - tail, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Whether a file of the folder of masks is one of these, which find_mask gave, sorted.
static bool is_found(const struct input *input, const char *folder, char *const *found, size_t count) {
    char *name = text_format("%s.png", input->stem);
    char *path = name != NULL ? path_join(folder, name) : NULL;
    const bool same = path != NULL && count > 0 && inputs_same_file(path, input->path) &&
                      bsearch(&path, found, count, sizeof(*found), compare_paths) != NULL;
    free(name);
    free(path);
    return same;
}

// Keeps the pictures that have masks. masks[i] belongs to inputs->items[i] afterwards; the others are reported, but for
// masks among the pictures. False when memory is out.
static bool match_masks(const struct settings *settings, struct input_list *inputs, char **masks) {
    const bool together = inputs_same_file(settings->images, settings->masks);
    size_t count = 0, kept = 0;
    char **found = calloc(inputs->count + 1, sizeof(*found));
    if (found == NULL) {
        return false;
    }
    for (size_t i = 0; i < inputs->count; i++) {
        const bool skipped = together && looks_like_a_mask(inputs->items[i].stem);
        masks[i] = skipped ? NULL : find_mask(&inputs->items[i], settings->masks);
        if (masks[i] != NULL) {
            found[count++] = masks[i];
        }
    }
    qsort(found, count, sizeof(*found), compare_paths);
    for (size_t i = 0; i < inputs->count; i++) {
        struct input input = inputs->items[i];
        if (masks[i] != NULL) {
            masks[kept] = masks[i];
            inputs->items[kept++] = input;
            continue;
        }
        if (!together || (!looks_like_a_mask(input.stem) && !is_found(&input, settings->masks, found, count))) {
            console_error(input.path, "there is no mask %s_segmentation.png, %s.png or %s_mask.png in %s", input.stem,
                          input.stem, input.stem, settings->masks);
            inputs->failed++;
        }
        free(input.path);
        free(input.stem);
    }
    inputs->count = kept;
    free(found);
    return true;
}

// ------------------------------------------------------------------------------------------------------------- report

static void add_figures(json_t *object, const struct evaluation *figures) {
    json_object_set_new(object, "dice_mean", report_real(figures->dice_mean));
    json_object_set_new(object, "iou_mean", report_real(figures->iou_mean));
    json_object_set_new(object, "dice_pooled", report_real(figures->dice_pooled));
    json_object_set_new(object, "iou_pooled", report_real(figures->iou_pooled));
    json_object_set_new(object, "accuracy", report_real(figures->accuracy));
    json_object_set_new(object, "sensitivity", report_real(figures->sensitivity));
    json_object_set_new(object, "specificity", report_real(figures->specificity));
    json_object_set_new(object, "hd95", report_real(figures->hd95));
}

static const char *class_name(const struct hymn_model *model, uint32_t index) {
    return hymn_model_class_name(model, hymn_model_get_info(model)->num_classes > 1 ? index + 1 : index);
}

static bool write_json(const struct settings *settings, const struct hymn_model *model,
                       const struct evaluation_result *result, size_t failed) {
    json_t *object = json_object(), *classes = json_array();
    json_object_set_new(object, "images", json_integer((json_int_t)result->images));
    json_object_set_new(object, "failed", json_integer((json_int_t)failed));
    add_figures(object, &result->mean);
    for (uint32_t c = 0; c < result->class_count; c++) {
        json_t *entry = json_object();
        json_object_set_new(entry, "name", report_text(class_name(model, c)));
        add_figures(entry, &result->classes[c]);
        json_array_append_new(classes, entry);
    }
    json_object_set_new(object, "classes", classes);
    return report_write(settings->json, object);
}

static void add_row(struct table *table, const char *name, const struct evaluation *e) {
    table_text(table, "%s", name);
    table_cells(table, "%.4f|%.4f|%.4f|%.4f|%.4f|%.4f|%.4f|%.2f", e->dice_mean, e->iou_mean, e->dice_pooled,
                e->iou_pooled, e->accuracy, e->sensitivity, e->specificity, e->hd95);
}

static void print_table(const struct hymn_model *model, const struct evaluation_result *result) {
    struct table table;
    printf("%zu pictures\n", result->images);
    table_begin(&table, "<class|Dice|IoU|Dice pooled|IoU pooled|accuracy|sensitivity|specificity|hd95 px");
    for (uint32_t c = 0; c < result->class_count; c++) {
        add_row(&table, class_name(model, c), &result->classes[c]);
    }
    if (result->class_count > 1) {
        add_row(&table, "(mean)", &result->mean);
    }
    table_end(&table);
}

// --------------------------------------------------------------------------------------------------------------- whole

static enum exit_code run_session(const struct settings *settings, const struct hymn_model *model,
                                  const struct input_list *inputs, char *const *masks,
                                  struct evaluation_result *out_result) {
    struct hymn_context *context = NULL;
    struct hymn_session *session = NULL;
    struct evaluate_params work = {.inputs = inputs, .masks = masks};
    enum exit_code code =
        pictures_open(&settings->pictures, &settings->common, model, inputs->count, &context, &session, &work.pipeline);
    if (code == CODE_OK) {
        code = evaluate_run(&work, out_result);
    }
    return common_close(&session, &context, code);
}

static enum exit_code evaluate(const struct settings *settings, const struct hymn_model *model,
                               struct input_list *inputs) {
    struct evaluation_result result = {0};
    char **masks = calloc(inputs->count + 1, sizeof(*masks));
    if (masks == NULL || !match_masks(settings, inputs, masks)) {
        console_error(NULL, "out of memory");
        free(masks);
        return CODE_INPUT;
    }
    enum exit_code code = inputs->count > 0 ? run_session(settings, model, inputs, masks, &result) : CODE_INPUT;
    for (size_t i = 0; i < inputs->count; i++) {
        free(masks[i]);
    }
    free(masks);
    if (result.images == 0) {
        if (code != CODE_ENGINE && code != CODE_INTERRUPTED) {
            console_error(settings->images, "no picture could be judged");
        }
        return code;
    }
    const size_t failed = inputs->failed + inputs->count - result.images;
    if (settings->json != NULL && !write_json(settings, model, &result, failed)) {
        code = code != CODE_OK ? code : interrupt_seen() ? CODE_INTERRUPTED : CODE_INPUT;
    }
    if (settings->json == NULL || strcmp(settings->json, "-") != 0) {
        print_table(model, &result);
    }
    return code == CODE_OK && failed > 0 ? CODE_INPUT : code;
}

static enum exit_code start(const struct settings *settings, const struct hymn_model *model) {
    struct input_list inputs = {0};
    enum exit_code code = common_check_pictures(&command, settings->pictures.model, hymn_model_get_info(model),
                                                settings->pictures.threshold);
    if (code != CODE_OK) {
        return code;
    }
    if (!folder_exists(settings->masks)) {
        console_error(settings->masks, "there is no such folder of masks");
        return CODE_INPUT;
    }
    const bool together = inputs_same_file(settings->images, settings->masks);
    code = CODE_INPUT;
    if (!inputs_collect(&inputs, settings->images, together ? NULL : settings->masks)) {
        console_error(NULL, "out of memory for the list of pictures");
    } else if (interrupt_seen()) {
        code = common_interrupted();
    } else if (inputs.count > 0) {
        code = evaluate(settings, model, &inputs);
    }
    inputs_free(&inputs);
    return code;
}

int command_eval(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults(), .pictures = pictures_defaults()};
    size_t rest = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest > 0) {
        return common_unexpected(&command, arguments[0]);
    }
    struct hymn_model *model = NULL;
    enum exit_code code = common_keep_model(&command, settings.pictures.model, "--json", settings.json);
    if (code == CODE_OK) {
        code = common_open_model(settings.pictures.model, &model);
    }
    if (code == CODE_OK) {
        code = start(&settings, model);
    }
    hymn_model_destroy(&model);
    return code;
}
