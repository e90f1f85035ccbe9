// SPDX-License-Identifier: MIT
#include "segment.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "files.h"
#include "interrupt.h"
#include "npy.h"
#include "overlay.h"
#include "report.h"

struct segmentation {
    const struct segment_params *params;
    hymn_mutex lock; // of the lines
    struct line {
        char *text;   // finished and not yet printed
        bool settled; // finished or failed
    } * lines;
    size_t next_line;
};

// ----------------------------------------------------------------------------------------------------------- measuring

static void region_grow(struct segment_region *region, uint64_t area, uint32_t x0, uint32_t x1, uint32_t y) {
    if (region->area == 0) {
        *region = (struct segment_region){.x0 = x0, .x1 = x1, .y0 = y};
    }
    region->area += area;
    region->x0 = x0 < region->x0 ? x0 : region->x0;
    region->x1 = x1 > region->x1 ? x1 : region->x1;
    region->y1 = y + 1;
}

void segment_measure(const uint8_t *mask, uint32_t height, uint32_t width, struct segment_region *out_regions) {
    memset(out_regions, 0, 256 * sizeof(*out_regions));
    for (uint32_t y = 0; y < height; y++, mask += width) {
        for (uint32_t x = 0; x < width;) {
            uint32_t end = x + 1;
            while (end < width && mask[end] == mask[x]) {
                end++;
            }
            region_grow(&out_regions[mask[x]], end - x, x, end, y);
            x = end;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- JSON

static void add_region(json_t *object, const struct segment_region *region, const struct image *image) {
    const double pixels = (double)image->width * image->height;
    json_object_set_new(object, "area", json_integer((json_int_t)region->area));
    json_object_set_new(object, "fraction", report_real((double)region->area / pixels));
    json_t *box = json_null();
    if (region->area > 0) {
        box = json_array();
        json_array_append_new(box, json_integer(region->x0));
        json_array_append_new(box, json_integer(region->y0));
        json_array_append_new(box, json_integer(region->x1 - region->x0));
        json_array_append_new(box, json_integer(region->y1 - region->y0));
    }
    json_object_set_new(object, "bounding_box", box);
}

static void region_join(struct segment_region *sum, const struct segment_region *region) {
    if (region->area == 0) {
        return;
    }
    if (sum->area == 0) {
        *sum = *region;
        return;
    }
    sum->area += region->area;
    sum->x0 = region->x0 < sum->x0 ? region->x0 : sum->x0;
    sum->y0 = region->y0 < sum->y0 ? region->y0 : sum->y0;
    sum->x1 = region->x1 > sum->x1 ? region->x1 : sum->x1;
    sum->y1 = region->y1 > sum->y1 ? region->y1 : sum->y1;
}

// Regions of every class but the background: one class is marked by 255, several by their numbers.
static void add_classes(json_t *object, const struct segment_params *params, const struct pipeline_item *item) {
    struct segment_region regions[256], all = {0};
    const uint32_t classes = params->pipeline.classes;
    json_t *list = json_array();
    segment_measure(item->mask, item->image.height, item->image.width, regions);
    for (uint32_t c = classes == 1 ? 0 : 1; c < classes; c++) {
        const struct segment_region *region = &regions[classes == 1 ? 255 : c];
        json_t *entry = json_object();
        json_object_set_new(entry, "name", report_text(hymn_model_class_name(params->model, c)));
        add_region(entry, region, &item->image);
        json_array_append_new(list, entry);
        region_join(&all, region);
    }
    add_region(object, &all, &item->image);
    json_object_set_new(object, "classes", list);
}

// -------------------------------------------------------------------------------------------------------------- output

// What names the probabilities of class `index` of so many in PNG.
static void plane_suffix(uint32_t classes, uint32_t index, char *out_text, size_t capacity) {
    if (classes == 1) {
        snprintf(out_text, capacity, "_probability.png");
    } else {
        snprintf(out_text, capacity, "_probability_%u.png", index);
    }
}

void segment_list_suffixes(const struct segment_params *params, struct segment_suffixes *out_suffixes) {
    const uint32_t classes = hymn_model_get_info(params->model)->num_classes;
    size_t count = 0;
    *out_suffixes = (struct segment_suffixes){.text = {"_mask.png", "_overlay.png", "_probability.npy"}};
    out_suffixes->list[count++] = out_suffixes->text[0];
    if (params->overlay) {
        out_suffixes->list[count++] = out_suffixes->text[1];
    }
    if (params->probabilities == SEGMENT_PROBABILITIES_NPY) {
        out_suffixes->list[count++] = out_suffixes->text[2];
    }
    for (uint32_t c = 0; params->probabilities == SEGMENT_PROBABILITIES_PNG && c < classes && c < 64; c++) {
        plane_suffix(classes, c, out_suffixes->text[3 + c], sizeof(out_suffixes->text[0]));
        out_suffixes->list[count++] = out_suffixes->text[3 + c];
    }
}

// "FOLDER/STEM" + suffix; NULL after a report.
static char *output_path(const struct segment_params *params, size_t index, const char *suffix) {
    char *name = text_format("%s%s", params->inputs->items[index].stem, suffix);
    char *path = name != NULL ? path_join(params->folder, name) : NULL;
    free(name);
    if (path == NULL) {
        console_error(params->inputs->items[index].path, "out of memory");
    }
    return path;
}

// Reports that a file could not be written. A full disk ends the whole run: no other picture would fare better.
static bool complain(const char *path, const struct cause *cause) {
    console_error(path, "%s", cause->text);
    if (cause_no_space(cause)) {
        pipeline_stop();
    }
    return false;
}

static bool note_file(json_t *object, const char *key, char *path, bool written, const struct cause *cause) {
    if (written) {
        json_object_set_new(object, key, report_text(path));
    } else {
        complain(path, cause);
    }
    free(path);
    return written;
}

static bool write_mask(const struct segment_params *params, const struct pipeline_item *item, json_t *object) {
    struct cause cause;
    char *path = output_path(params, item->index, "_mask.png");
    return path != NULL &&
           note_file(object, "mask", path,
                     image_write_png(path, item->mask, item->image.width, item->image.height, 1, &cause), &cause);
}

static bool write_overlay(const struct segment_params *params, struct pipeline_item *item, json_t *object) {
    struct cause cause;
    char *path = output_path(params, item->index, "_overlay.png");
    return path != NULL &&
           note_file(object, "overlay", path,
                     image_to_rgb(&item->image, &cause) && overlay_draw(&item->image, item->mask, &cause) &&
                         image_write_png(path, item->image.pixels, item->image.width, item->image.height, 3, &cause),
                     &cause);
}

static bool write_plane(const char *path, const float *plane, const struct image *image, struct cause *cause) {
    const size_t count = (size_t)image->width * image->height;
    uint16_t *samples = malloc(count * sizeof(*samples));
    if (samples == NULL) {
        return cause_set(cause, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const float value = plane[i] > 0 ? plane[i] < 1 ? plane[i] : 1 : 0;
        samples[i] = (uint16_t)(value * 65535 + 0.5f);
    }
    const bool good = image_write_png16(path, samples, image->width, image->height, cause);
    free(samples);
    return good;
}

static bool write_probability_planes(const struct segment_params *params, const struct pipeline_item *item,
                                     json_t *object) {
    const uint32_t classes = params->pipeline.classes;
    json_t *list = json_array();
    bool good = list != NULL;
    for (uint32_t c = 0; good && c < classes; c++) {
        char suffix[40];
        struct cause cause;
        plane_suffix(classes, c, suffix, sizeof(suffix));
        char *path = output_path(params, item->index, suffix);
        const size_t plane = (size_t)item->image.width * item->image.height;
        good = path != NULL;
        if (good && !write_plane(path, item->probabilities + c * plane, &item->image, &cause)) {
            good = complain(path, &cause);
        }
        json_array_append_new(list, report_text(path != NULL ? path : ""));
        free(path);
    }
    if (good && classes == 1) {
        json_object_set(object, "probabilities", json_array_get(list, 0));
    } else if (good) {
        json_object_set(object, "probabilities", list);
    }
    json_decref(list);
    return good;
}

static bool write_probabilities(const struct segment_params *params, const struct pipeline_item *item, json_t *object) {
    if (params->probabilities == SEGMENT_PROBABILITIES_PNG) {
        return write_probability_planes(params, item, object);
    }
    struct cause cause;
    const uint64_t shape[3] = {params->pipeline.classes, item->image.height, item->image.width};
    char *path = output_path(params, item->index, "_probability.npy");
    return path != NULL &&
           note_file(object, "probabilities", path, npy_write(path, item->probabilities, shape, 3, &cause), &cause);
}

static bool make_parent(const struct segment_params *params, size_t index) {
    struct cause cause;
    char *path = output_path(params, index, "");
    if (path == NULL) {
        return false;
    }
    path[path_name(path) - path] = '\0';
    const bool good = path[0] == '\0' || folder_make(path, &cause) || complain(path, &cause);
    free(path);
    return good;
}

// --------------------------------------------------------------------------------------------------- lines in their
// order

// Settles a picture and prints every line whose turn it is. False: standard output cannot be written.
static bool settle(struct segmentation *work, size_t index, char *text) {
    bool good = true;
    hymn_mutex_lock(&work->lock);
    work->lines[index] = (struct line){text, true};
    while (work->next_line < work->params->inputs->count && work->lines[work->next_line].settled) {
        struct line *line = &work->lines[work->next_line++];
        good = line->text == NULL || console_line(line->text);
        free(line->text);
        line->text = NULL;
    }
    hymn_mutex_unlock(&work->lock);
    return good;
}

// After a stop there are gaps; what is finished behind them is told as well.
static void print_rest(struct segmentation *work) {
    for (; work->next_line < work->params->inputs->count; work->next_line++) {
        struct line *line = &work->lines[work->next_line];
        if (line->text != NULL) {
            console_line(line->text);
        }
        free(line->text);
    }
}

// ------------------------------------------------------------------------------------------------------ pipeline's
// hooks

static bool load(void *user, struct pipeline_item *item) {
    const struct segmentation *work = user;
    const char *path = work->params->inputs->items[item->index].path;
    item->name = strcmp(path, "-") == 0 ? "standard input" : path;
    return pipeline_read(item, path);
}

static bool finish(void *user, struct pipeline_item *item) {
    struct segmentation *work = user;
    const struct segment_params *params = work->params;
    json_t *object = json_object();
    json_object_set_new(object, "file", report_text(params->inputs->items[item->index].path));
    json_object_set_new(object, "width", json_integer(item->image.width));
    json_object_set_new(object, "height", json_integer(item->image.height));
    add_classes(object, params, item);
    const bool good =
        make_parent(params, item->index) && write_mask(params, item, object) &&
        (params->probabilities == SEGMENT_NO_PROBABILITIES || write_probabilities(params, item, object)) &&
        (!params->overlay || write_overlay(params, item, object));
    char *text = good ? report_line(object) : NULL;
    json_decref(object);
    if (good && text == NULL) {
        console_error(item->name, "out of memory");
    }
    if (text == NULL) {
        return false;
    }
    if (!settle(work, item->index, text)) {
        pipeline_stop(); // nobody reads the results; the exit status tells
    }
    return true;
}

static void failed(void *user, size_t index) {
    settle(user, index, NULL);
}

enum exit_code segment_run(const struct segment_params *params) {
    struct segmentation work = {.params = params};
    size_t done = 0;
    work.lines = calloc(params->inputs->count, sizeof(*work.lines));
    if (work.lines == NULL) {
        console_error(NULL, "out of memory");
        return CODE_INPUT;
    }
    hymn_mutex_init(&work.lock);
    struct pipeline_params pipeline = params->pipeline;
    pipeline.probabilities = params->probabilities != SEGMENT_NO_PROBABILITIES;
    // The outline takes a byte beside three of the picture, 16 bits of a probability two.
    pipeline.pixel_bytes = 3 + params->overlay + (params->probabilities == SEGMENT_PROBABILITIES_PNG ? 2 : 0);
    pipeline.count = params->inputs->count;
    pipeline.load = load;
    pipeline.finish = finish;
    pipeline.failed = failed;
    pipeline.user = &work;
    const enum exit_code code = pipeline_run(&pipeline, &done);
    print_rest(&work);
    if (done < pipeline.count) {
        console_error(NULL, "%s: %zu of %zu pictures were not segmented", interrupt_seen() ? "interrupted" : "stopped",
                      pipeline.count - done, pipeline.count);
    }
    hymn_mutex_destroy(&work.lock);
    free(work.lines);
    return code;
}
