// SPDX-License-Identifier: MIT
#include "model/model.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_KEY "hymn.config"
#define SHOWN_PROBLEMS 5
#define SHOWN_NAME_BYTES 100

struct hymn_model {
    char *name;
    struct hymn_file_map map;
    struct hymn_safetensors *file;
    struct hymn_config config;
    struct hymn_model_info info;
};

// ---- checking a file's tensors against the network's

struct check {
    const struct hymn_model *model;
    const struct hymn_log *log;
    bool *wanted; // [tensors of the file], whether the network has it
    uint64_t parameters;
    uint32_t problems;
};

static void report(struct check *check, const char *tensor, const char *format, ...) HYMN_PRINTF(3, 4);

static void report(struct check *check, const char *tensor, const char *format, ...) {
    if (check->problems++ >= SHOWN_PROBLEMS) {
        return;
    }
    char cause[512], shown[SHOWN_NAME_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cause, sizeof cause, format, arguments);
    va_end(arguments);
    hymn_log_write(check->log, HYMN_LOG_ERROR, "%s: tensor \"%s\" %s", check->model->name,
                   hymn_text_cut(tensor, shown, sizeof shown), cause);
}

// "[64, 3, 3, 3]" in out_text of 200 bytes.
static const char *show_shape(const uint64_t *shape, uint32_t rank, char *out_text) {
    size_t length = 0;
    out_text[length++] = '[';
    for (uint32_t i = 0; i < rank; i++) {
        length += (size_t)snprintf(out_text + length, 200 - length, "%s%" PRIu64, i ? ", " : "", shape[i]);
    }
    out_text[length] = ']';
    out_text[length + 1] = '\0';
    return out_text;
}

static bool has_shape(const struct hymn_tensor *tensor, const struct hymn_expected *expected) {
    return tensor->rank == expected->rank &&
           memcmp(tensor->shape, expected->shape, expected->rank * sizeof *expected->shape) == 0;
}

// Index of the first negative element, or the number of elements; all of them are finite.
static size_t find_negative(const struct hymn_tensor *tensor) {
    size_t element_bytes = tensor->dtype == HYMN_DTYPE_F32 ? 4 : 2, count = (size_t)tensor->elements;
    for (size_t begin = 0; begin < count; begin += 64) {
        float values[64];
        struct hymn_tensor part = *tensor;
        part.elements = count - begin < 64 ? count - begin : 64;
        part.data = tensor->data + begin * element_bytes;
        hymn_tensor_to_f32(&part, values, NULL);
        for (size_t i = 0; i < part.elements; i++) {
            if (values[i] < 0.0f) {
                return begin + i;
            }
        }
    }
    return count;
}

static void check_values(struct check *check, const struct hymn_tensor *tensor, const struct hymn_expected *expected) {
    size_t bad;
    if (!hymn_tensor_to_f32(tensor, NULL, &bad)) {
        report(check, tensor->name, "holds NaN or infinity: element %zu of %" PRIu64, bad, tensor->elements);
    } else if (expected->variance && (bad = find_negative(tensor)) < tensor->elements) {
        report(check, tensor->name, "holds a negative variance: element %zu of %" PRIu64, bad, tensor->elements);
    }
}

static bool check_tensor(void *user, const struct hymn_expected *expected) {
    struct check *check = user;
    const struct hymn_tensor *tensor = hymn_safetensors_find(check->model->file, expected->name);
    char wanted[200], found[200];
    show_shape(expected->shape, expected->rank, wanted);
    if (!tensor) {
        report(check, expected->name, "is missing: expected shape %s", wanted);
        return true;
    }
    check->wanted[tensor - hymn_safetensors_get(check->model->file, 0)] = true;
    if (!has_shape(tensor, expected)) {
        report(check, expected->name, "has the wrong shape: expected %s, found %s", wanted,
               show_shape(tensor->shape, tensor->rank, found));
    } else if (tensor->dtype == HYMN_DTYPE_OTHER) {
        report(check, expected->name, "has the wrong dtype: expected F32, F16 or BF16, found %s", tensor->dtype_name);
    } else {
        check_values(check, tensor, expected);
        check->parameters += expected->learned ? tensor->elements : 0;
    }
    return true;
}

static bool is_ignored(const char *name) {
    static const char suffix[] = ".num_batches_tracked"; // a counter of PyTorch's training
    size_t length = strlen(name);
    return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

static enum hymn_status check_tensors(struct hymn_model *model, const struct hymn_log *log) {
    size_t count = hymn_safetensors_count(model->file);
    struct check check = {.model = model, .log = log, .wanted = hymn_alloc(count, sizeof(bool))};
    if (!check.wanted) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", model->name);
    }
    hymn_model_expect(&model->config, check_tensor, &check);
    for (size_t i = 0; i < count; i++) {
        const char *name = hymn_safetensors_get(model->file, i)->name;
        if (!check.wanted[i] && !is_ignored(name)) {
            report(&check, name, "is not one of the network that hymn.config describes");
        }
    }
    hymn_free(check.wanted);
    model->info.parameters = check.parameters;
    if (check.problems > SHOWN_PROBLEMS) {
        hymn_log_write(log, HYMN_LOG_ERROR, "%s: and %" PRIu32 " more problems", model->name,
                       check.problems - SHOWN_PROBLEMS);
    }
    return check.problems ? HYMN_STATUS_BAD_MODEL : HYMN_STATUS_OK;
}

// ---- making a model

static enum hymn_status check_params(const struct hymn_model_params *params) {
    if (!params || (!params->path && !params->data)) {
        return hymn_fail(params ? &params->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_model_create: neither a path nor data is given");
    }
    if (params->path && params->data) {
        return hymn_fail(&params->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_model_create: both a path and data are given");
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status open_file(struct hymn_model *model, const struct hymn_model_params *params) {
    const uint8_t *data = params->data;
    size_t size = params->size;
    if (params->path) {
        enum hymn_status status = hymn_file_map_open(params->path, &params->log, &model->map);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
        data = model->map.data;
        size = model->map.size;
    }
    model->info.file_bytes = size;
    return hymn_safetensors_parse(data, size, model->name, &params->log, &model->file);
}

static enum hymn_status read_config(struct hymn_model *model, const struct hymn_log *log) {
    const char *json = hymn_safetensors_metadata(model->file, CONFIG_KEY);
    if (!json) {
        return hymn_fail(log, HYMN_STATUS_BAD_MODEL,
                         "%s: no \"" CONFIG_KEY "\" in __metadata__: not a model that hymn's training exported",
                         model->name);
    }
    return hymn_config_parse(json, model->name, log, &model->config);
}

static void fill_info(struct hymn_model *model) {
    const struct hymn_config *config = &model->config;
    struct hymn_model_info *info = &model->info;
    info->architecture = "hymunet";
    info->in_channels = config->in_channels;
    info->num_classes = config->num_classes;
    info->input_height = config->input_height;
    info->input_width = config->input_width;
    info->stages = config->stages;
    info->conv_stages = config->conv_stages;
    info->size_multiple = 1u << (config->stages - 1);
    memcpy(info->mean, config->mean, sizeof info->mean);
    memcpy(info->std, config->std, sizeof info->std);
    info->threshold = config->threshold;
}

enum hymn_status hymn_model_create(const struct hymn_model_params *params, struct hymn_model **out_model) {
    if (!out_model) {
        return hymn_fail(params ? &params->log : NULL, HYMN_STATUS_INVALID_ARGUMENT,
                         "hymn_model_create: out_model is NULL");
    }
    *out_model = NULL;
    enum hymn_status status = check_params(params);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const char *name = params->name ? params->name : params->path ? params->path : "(memory)";
    struct hymn_model *model = hymn_alloc(1, sizeof *model);
    if (!model || !(model->name = hymn_strdup(name))) {
        status = hymn_fail(&params->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", name);
    }
    if (status == HYMN_STATUS_OK) {
        status = open_file(model, params);
    }
    if (status == HYMN_STATUS_OK) {
        status = read_config(model, &params->log);
    }
    if (status == HYMN_STATUS_OK) {
        status = check_tensors(model, &params->log);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_model_destroy(&model);
        return status;
    }
    fill_info(model);
    hymn_log_write(&params->log, HYMN_LOG_INFO, "%s: %" PRIu32 " stages, %" PRIu64 " parameters", name,
                   model->info.stages, model->info.parameters);
    *out_model = model;
    return HYMN_STATUS_OK;
}

void hymn_model_destroy(struct hymn_model **model) {
    if (!model || !*model) {
        return;
    }
    hymn_safetensors_destroy(&(*model)->file);
    hymn_file_map_close(&(*model)->map);
    hymn_free((*model)->name);
    hymn_free(*model);
    *model = NULL;
}

// ---- asking a model

const struct hymn_model_info *hymn_model_get_info(const struct hymn_model *model) {
    return model ? &model->info : NULL;
}

const char *hymn_model_class_name(const struct hymn_model *model, uint32_t index) {
    return model && index < model->config.num_classes ? model->config.class_names[index] : NULL;
}

const struct hymn_config *hymn_model_config(const struct hymn_model *model) {
    return &model->config;
}

const char *hymn_model_name(const struct hymn_model *model) {
    return model->name;
}

const struct hymn_tensor *hymn_model_tensor(const struct hymn_model *model, const char *name) {
    const struct hymn_tensor *tensor = hymn_safetensors_find(model->file, name);
    return tensor && !is_ignored(name) ? tensor : NULL;
}

enum hymn_status hymn_model_load(const struct hymn_model *model, struct hymn_arena *arena, const char *name,
                                 float **out_values) {
    *out_values = NULL;
    const struct hymn_tensor *tensor = hymn_model_tensor(model, name);
    if (!tensor) {
        return HYMN_STATUS_BAD_MODEL;
    }
    float *values = hymn_arena_alloc(arena, (size_t)tensor->elements, sizeof *values);
    if (!values) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    if (!hymn_tensor_to_f32(tensor, values, NULL)) {
        return HYMN_STATUS_BAD_MODEL;
    }
    *out_values = values;
    return HYMN_STATUS_OK;
}
