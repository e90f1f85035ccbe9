// SPDX-License-Identifier: MIT
#include "evaluate.h"

#include <stdlib.h>

#include "interrupt.h"

struct score {
    struct confusion confusion;
    double hd95;
};

struct work {
    const struct evaluate_params *params;
    uint32_t class_count;
    struct score *scores; // [pictures, class_count]
    bool *judged;         // [pictures]
};

static bool check_labels(const struct image *mask, uint32_t classes, struct cause *cause) {
    const size_t count = (size_t)mask->width * mask->height;
    for (size_t i = 0; i < count; i++) {
        if (mask->pixels[i] >= classes) {
            return cause_set(cause, "holds class %u; the model's classes are 0 to %u", mask->pixels[i], classes - 1);
        }
    }
    return true;
}

static bool complain_of_size(const struct pipeline_item *item, uint32_t width, uint32_t height, struct cause *cause) {
    return cause_set(cause, "is %u x %u pixels, but the picture %s is %u x %u", width, height, item->name,
                     item->image.width, item->image.height);
}

// The pipeline has memory for a mask as large as the picture, and to decode it with for the comparison. The orientation
// is not applied yet.
static bool admit_mask(void *user, uint32_t width, uint32_t height, uint32_t beside, struct cause *cause) {
    const struct pipeline_item *item = user;
    (void)beside;
    return (uint64_t)width * height == (uint64_t)item->image.width * item->image.height ||
           complain_of_size(item, width, height, cause);
}

static bool read_mask(struct pipeline_item *item, const char *path, uint32_t classes, struct cause *cause) {
    const struct image_caller caller = {.admit = admit_mask, .user = item};
    struct image *mask = item->user;
    return image_read(path, classes == 1 ? IMAGE_MASK : IMAGE_LABELS, &caller, mask, cause) &&
           (classes == 1 || check_labels(mask, classes, cause)) &&
           ((mask->width == item->image.width && mask->height == item->image.height) ||
            complain_of_size(item, mask->width, mask->height, cause));
}

static bool load(void *user, struct pipeline_item *item) {
    const struct work *work = user;
    const char *mask_path = work->params->masks[item->index];
    struct cause cause;
    item->name = work->params->inputs->items[item->index].path;
    if (!pipeline_read(item, item->name)) {
        return false;
    }
    struct image *mask = calloc(1, sizeof(*mask));
    item->user = mask;
    if (mask == NULL) {
        console_error(item->name, "out of memory");
        return false;
    }
    if (!read_mask(item, mask_path, work->params->pipeline.classes, &cause)) {
        console_error(mask_path, "%s", cause.text);
        return false;
    }
    return true;
}

static void release(void *user, struct pipeline_item *item) {
    (void)user;
    struct image *mask = item->user;
    if (mask != NULL) {
        image_free(mask);
    }
    free(mask);
}

// Marks with 1 what belongs to one class.
static void select_class(const uint8_t *labels, uint8_t value, size_t count, uint8_t *out_mask) {
    for (size_t i = 0; i < count; i++) {
        out_mask[i] = labels[i] == value;
    }
}

static bool finish(void *user, struct pipeline_item *item) {
    struct work *work = user;
    const struct image *truth = item->user;
    const size_t count = (size_t)truth->width * truth->height;
    struct score *scores = work->scores + item->index * work->class_count;
    const bool single = work->params->pipeline.classes == 1;
    uint8_t *chosen = single ? NULL : malloc(2 * count);
    bool good = single || chosen != NULL;
    for (uint32_t c = 0; good && c < work->class_count; c++) {
        const uint8_t *predicted = item->mask, *expected = truth->pixels;
        if (!single) {
            select_class(item->mask, (uint8_t)(c + 1), count, chosen);
            select_class(truth->pixels, (uint8_t)(c + 1), count, chosen + count);
            predicted = chosen;
            expected = chosen + count;
        }
        metrics_count(&scores[c].confusion, predicted, expected, count);
        good = metrics_hd95(predicted, expected, truth->height, truth->width, &scores[c].hd95);
    }
    free(chosen);
    if (!good) {
        console_error(item->name, "out of memory for the comparison");
    }
    work->judged[item->index] = good;
    return good;
}

static struct evaluation summarize_class(const struct work *work, uint32_t index, size_t images) {
    struct evaluation sum = {0};
    struct confusion all = {0};
    for (size_t i = 0; i < work->params->inputs->count; i++) {
        if (work->judged[i]) {
            const struct score *score = &work->scores[i * work->class_count + index];
            metrics_add(&all, &score->confusion);
            sum.dice_mean += metrics_dice(&score->confusion);
            sum.iou_mean += metrics_iou(&score->confusion);
            sum.hd95 += score->hd95;
        }
    }
    sum.dice_mean /= (double)images;
    sum.iou_mean /= (double)images;
    sum.hd95 /= (double)images;
    sum.dice_pooled = metrics_dice(&all);
    sum.iou_pooled = metrics_iou(&all);
    sum.accuracy = metrics_accuracy(&all);
    sum.sensitivity = metrics_sensitivity(&all);
    sum.specificity = metrics_specificity(&all);
    return sum;
}

static struct evaluation mean_of(const struct evaluation *classes, uint32_t count) {
    struct evaluation mean = {0};
    for (uint32_t c = 0; c < count; c++) {
        mean.dice_mean += classes[c].dice_mean / count;
        mean.iou_mean += classes[c].iou_mean / count;
        mean.dice_pooled += classes[c].dice_pooled / count;
        mean.iou_pooled += classes[c].iou_pooled / count;
        mean.accuracy += classes[c].accuracy / count;
        mean.sensitivity += classes[c].sensitivity / count;
        mean.specificity += classes[c].specificity / count;
        mean.hd95 += classes[c].hd95 / count;
    }
    return mean;
}

static void summarize(const struct work *work, struct evaluation_result *out_result) {
    *out_result = (struct evaluation_result){.class_count = work->class_count};
    for (size_t i = 0; i < work->params->inputs->count; i++) {
        out_result->images += work->judged[i];
    }
    for (uint32_t c = 0; out_result->images > 0 && c < work->class_count; c++) {
        out_result->classes[c] = summarize_class(work, c, out_result->images);
    }
    out_result->mean = mean_of(out_result->classes, out_result->class_count);
}

enum exit_code evaluate_run(const struct evaluate_params *params, struct evaluation_result *out_result) {
    struct work work = {.params = params};
    struct pipeline_params pipeline = params->pipeline;
    size_t done = 0;
    work.class_count = pipeline.classes > 1 ? pipeline.classes - 1 : 1;
    work.scores = calloc(params->inputs->count * work.class_count, sizeof(*work.scores));
    work.judged = calloc(params->inputs->count, sizeof(*work.judged));
    // The picture, its true mask, and for the comparison flags and distances, of one class out of several two masks.
    pipeline.pixel_bytes = 3 + 3 + (pipeline.classes == 1 ? 6 : 8);
    pipeline.count = params->inputs->count;
    pipeline.load = load;
    pipeline.finish = finish;
    pipeline.release = release;
    pipeline.user = &work;
    enum exit_code code = CODE_INPUT;
    *out_result = (struct evaluation_result){0};
    if (work.scores == NULL || work.judged == NULL) {
        console_error(NULL, "out of memory");
    } else {
        code = pipeline_run(&pipeline, &done);
        summarize(&work, out_result);
        if (done < pipeline.count) {
            console_error(NULL, "%s: %zu of %zu pictures were not judged", interrupt_seen() ? "interrupted" : "stopped",
                          pipeline.count - done, pipeline.count);
        }
    }
    free(work.scores);
    free(work.judged);
    return code;
}
