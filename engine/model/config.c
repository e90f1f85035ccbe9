// SPDX-License-Identifier: MIT
#include "model/config.h"

#include "model/json.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_DIM 8192
#define MAX_DEPTH 64
#define MAX_STATE 64
#define MAX_RANK 1024
#define MAX_INNER 32768
#define MAX_INPUT_SIZE 32768
#define SHOWN_BYTES 100

static const char *const known_keys[] = {
    "architecture", "version",        "in_channels", "num_classes", "dims",      "depths",
    "conv_stages",  "decoder_depths", "d_state",     "ssm_ratio",   "dt_rank",   "skip",
    "input_size",   "mean",           "std",         "classes",     "threshold",
};

struct reader {
    const json_t *root;
    const char *name;
    const struct hymn_log *log;
};

// "NAME: hymn.config: "KEY": expected ..., found ..."
static enum hymn_status fail_key(const struct reader *reader, enum hymn_status status, const char *key,
                                 const char *format, ...) HYMN_PRINTF(4, 5);

static enum hymn_status fail_key(const struct reader *reader, enum hymn_status status, const char *key,
                                 const char *format, ...) {
    char expected[256], found[SHOWN_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(expected, sizeof expected, format, arguments);
    va_end(arguments);
    return hymn_fail(reader->log, status, "%s: hymn.config: \"%s\": expected %s, found %s", reader->name, key, expected,
                     hymn_json_show(json_object_get(reader->root, key), found, sizeof found));
}

static bool integer_in(const json_t *value, uint32_t low, uint32_t high, uint32_t *out_value) {
    if (!json_is_integer(value) || json_integer_value(value) < (json_int_t)low ||
        json_integer_value(value) > (json_int_t)high) {
        return false;
    }
    *out_value = (uint32_t)json_integer_value(value);
    return true;
}

static enum hymn_status read_integer(const struct reader *reader, const char *key, uint32_t low, uint32_t high,
                                     uint32_t *out_value) {
    if (!integer_in(json_object_get(reader->root, key), low, high, out_value)) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, key, "an integer from %" PRIu32 " to %" PRIu32, low, high);
    }
    return HYMN_STATUS_OK;
}

// `count` integers from 1 to `high`.
static enum hymn_status read_integers(const struct reader *reader, const char *key, uint32_t count, uint32_t high,
                                      uint32_t *out_values) {
    const json_t *value = json_object_get(reader->root, key);
    bool good = json_is_array(value) && json_array_size(value) == count;
    for (uint32_t i = 0; good && i < count; i++) {
        good = integer_in(json_array_get(value, i), 1, high, &out_values[i]);
    }
    if (!good && count == 0) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, key, "an empty list");
    }
    return good ? HYMN_STATUS_OK
                : fail_key(reader, HYMN_STATUS_BAD_MODEL, key,
                           "a list of length %" PRIu32 " of integers from 1 to %" PRIu32, count, high);
}

// One number per input channel; absent: as it is.
static enum hymn_status read_channels(const struct reader *reader, const char *key, uint32_t count, double low,
                                      const char *kind, float *values) {
    const json_t *value = json_object_get(reader->root, key);
    if (!value) {
        return HYMN_STATUS_OK;
    }
    bool good = json_is_array(value) && json_array_size(value) == count;
    for (uint32_t i = 0; good && i < count; i++) {
        const json_t *entry = json_array_get(value, i);
        double number = json_number_value(entry);
        good = json_is_number(entry) && number >= low && number <= FLT_MAX;
        values[i] = good ? (float)number : 0.0f;
    }
    return good ? HYMN_STATUS_OK
                : fail_key(reader, HYMN_STATUS_BAD_MODEL, key,
                           "a list of length %" PRIu32 " (in_channels) of %s numbers", count, kind);
}

static enum hymn_status read_identity(const struct reader *reader) {
    const json_t *architecture = json_object_get(reader->root, "architecture");
    const json_t *version = json_object_get(reader->root, "version");
    if (!json_is_string(architecture)) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "architecture", "\"hymunet\"");
    }
    if (strcmp(json_string_value(architecture), "hymunet") != 0) {
        return fail_key(reader, HYMN_STATUS_UNSUPPORTED, "architecture", "\"hymunet\"");
    }
    if (!json_is_integer(version)) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "version", "1");
    }
    if (json_integer_value(version) != 1) {
        return fail_key(reader, HYMN_STATUS_UNSUPPORTED, "version", "1");
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_stages(const struct reader *reader, struct hymn_config *config) {
    const json_t *dims = json_object_get(reader->root, "dims");
    size_t stages = json_array_size(dims); // 0 for what is no array
    if (stages < 1 || stages > HYMN_CONFIG_MAX_STAGES) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "dims", "a list of 1 to %d integers from 1 to %d",
                        HYMN_CONFIG_MAX_STAGES, MAX_DIM);
    }
    config->stages = (uint32_t)stages;
    enum hymn_status status = read_integers(reader, "dims", config->stages, MAX_DIM, config->dims);
    if (status == HYMN_STATUS_OK) {
        status = read_integers(reader, "depths", config->stages, MAX_DEPTH, config->depths);
    }
    if (status == HYMN_STATUS_OK) {
        status = read_integers(reader, "decoder_depths", config->stages - 1, MAX_DEPTH, config->decoder_depths);
    }
    if (status == HYMN_STATUS_OK) {
        status = read_integer(reader, "conv_stages", 0, config->stages, &config->conv_stages);
    }
    return status;
}

static enum hymn_status read_ssm_ratio(const struct reader *reader, struct hymn_config *config) {
    const json_t *value = json_object_get(reader->root, "ssm_ratio");
    config->ssm_ratio = json_number_value(value);
    if (!json_is_number(value) || !(config->ssm_ratio > 0) || config->ssm_ratio >= MAX_INNER + 1) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "ssm_ratio", "a number above 0, at most %d", MAX_INNER);
    }
    for (uint32_t i = config->conv_stages; i < config->stages; i++) {
        uint32_t inner = hymn_config_inner(config, i);
        if (inner < 1 || inner > MAX_INNER) {
            return fail_key(reader, HYMN_STATUS_BAD_MODEL, "ssm_ratio",
                            "1 to %d inner channels in each Mamba stage (stage %" PRIu32 " would have %" PRIu32
                            " of dims %" PRIu32 ")",
                            MAX_INNER, i, inner, config->dims[i]);
        }
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_scan(const struct reader *reader, struct hymn_config *config) {
    enum hymn_status status = read_integer(reader, "d_state", 1, MAX_STATE, &config->d_state);
    if (status == HYMN_STATUS_OK) {
        status = read_ssm_ratio(reader, config);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const json_t *rank = json_object_get(reader->root, "dt_rank");
    bool automatic = json_is_string(rank) && strcmp(json_string_value(rank), "auto") == 0;
    if (!automatic && !integer_in(rank, 1, MAX_RANK, &config->dt_rank)) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "dt_rank", "\"auto\" or an integer from 1 to %d", MAX_RANK);
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_skip(const struct reader *reader, struct hymn_config *config) {
    const json_t *value = json_object_get(reader->root, "skip");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (strcmp(text, "mgf") != 0 && strcmp(text, "concat") != 0) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "skip", "\"mgf\" or \"concat\"");
    }
    config->skip = strcmp(text, "mgf") == 0 ? HYMN_SKIP_MGF : HYMN_SKIP_CONCAT;
    return HYMN_STATUS_OK;
}

static enum hymn_status read_normalisation(const struct reader *reader, struct hymn_config *config) {
    static const float imagenet_mean[3] = {0.485f, 0.456f, 0.406f}, imagenet_std[3] = {0.229f, 0.224f, 0.225f};
    bool colour = config->in_channels == 3;
    for (uint32_t i = 0; i < config->in_channels; i++) {
        config->mean[i] = colour ? imagenet_mean[i] : 0.0f;
        config->std[i] = colour ? imagenet_std[i] : 1.0f;
    }
    enum hymn_status status =
        read_channels(reader, "mean", config->in_channels, -(double)FLT_MAX, "finite", config->mean);
    if (status == HYMN_STATUS_OK) {
        // what is smaller than FLT_MIN may have no finite reciprocal
        status = read_channels(reader, "std", config->in_channels, FLT_MIN, "positive", config->std);
    }
    return status;
}

static enum hymn_status read_input(const struct reader *reader, struct hymn_config *config) {
    uint32_t size[2] = {256, 256};
    enum hymn_status status = HYMN_STATUS_OK;
    if (json_object_get(reader->root, "input_size")) {
        status = read_integers(reader, "input_size", 2, MAX_INPUT_SIZE, size);
    }
    config->input_height = size[0];
    config->input_width = size[1];
    return status == HYMN_STATUS_OK ? read_normalisation(reader, config) : status;
}

static enum hymn_status read_classes(const struct reader *reader, struct hymn_config *config) {
    const json_t *value = json_object_get(reader->root, "classes");
    bool good = !value || (json_is_array(value) && json_array_size(value) == config->num_classes);
    for (uint32_t i = 0; good && i < config->num_classes; i++) {
        const json_t *entry = value ? json_array_get(value, i) : NULL;
        const char *text = json_is_string(entry) ? json_string_value(entry) : "";
        good = (!value || json_is_string(entry)) && strlen(text) < sizeof config->class_names[i];
        if (good && *text) {
            snprintf(config->class_names[i], sizeof config->class_names[i], "%s", text);
        } else {
            snprintf(config->class_names[i], sizeof config->class_names[i], "class %" PRIu32, i);
        }
    }
    return good ? HYMN_STATUS_OK
                : fail_key(reader, HYMN_STATUS_BAD_MODEL, "classes",
                           "a list of length %" PRIu32 " (num_classes) of names shorter than %d bytes",
                           config->num_classes, HYMN_CONFIG_MAX_CLASS_NAME);
}

static enum hymn_status read_threshold(const struct reader *reader, struct hymn_config *config) {
    const json_t *value = json_object_get(reader->root, "threshold");
    config->threshold = value ? (float)json_number_value(value) : 0.5f;
    if ((value && !json_is_number(value)) || !(config->threshold > 0.0f && config->threshold < 1.0f)) {
        return fail_key(reader, HYMN_STATUS_BAD_MODEL, "threshold", "a number between 0 and 1");
    }
    return HYMN_STATUS_OK;
}

static void warn_of_unknown_keys(const struct reader *reader, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        bool known = false;
        for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++) {
            known = known || strcmp(key, known_keys[i]) == 0;
        }
        if (!known) {
            char shown[SHOWN_BYTES];
            hymn_log_write(reader->log, HYMN_LOG_WARNING, "%s: hymn.config: unknown key \"%s\" is ignored",
                           reader->name, hymn_text_cut(key, shown, sizeof shown));
        }
    }
}

static enum hymn_status read_config(const struct reader *reader, struct hymn_config *config) {
    static enum hymn_status (*const parts[])(const struct reader *, struct hymn_config *) = {
        read_stages, read_scan, read_skip, read_input, read_classes, read_threshold,
    };
    enum hymn_status status = read_identity(reader);
    if (status == HYMN_STATUS_OK) {
        status = read_integer(reader, "in_channels", 1, HYMN_CONFIG_MAX_CHANNELS, &config->in_channels);
    }
    if (status == HYMN_STATUS_OK) {
        status = read_integer(reader, "num_classes", 1, HYMN_CONFIG_MAX_CLASSES, &config->num_classes);
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == HYMN_STATUS_OK; i++) {
        status = parts[i](reader, config);
    }
    return status;
}

enum hymn_status hymn_config_parse(const char *json, const char *name, const struct hymn_log *log,
                                   struct hymn_config *out_config) {
    *out_config = (struct hymn_config){0};
    json_t *root = NULL;
    enum hymn_status status = hymn_json_parse(json, strlen(json), name, "hymn.config", log, &root);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct reader reader = {root, name, log};
    if (!json_is_object(root)) {
        status = hymn_fail(log, HYMN_STATUS_BAD_MODEL, "%s: hymn.config: expected a JSON object", name);
    } else {
        status = read_config(&reader, out_config);
    }
    if (status == HYMN_STATUS_OK) {
        warn_of_unknown_keys(&reader, root);
    } else {
        *out_config = (struct hymn_config){0};
    }
    json_decref(root);
    return status;
}

uint32_t hymn_config_channels_before(const struct hymn_config *config, uint32_t stage) {
    return stage == 0 ? config->in_channels : config->dims[stage - 1];
}

uint32_t hymn_config_inner(const struct hymn_config *config, uint32_t stage) {
    return (uint32_t)(config->ssm_ratio * config->dims[stage]);
}

uint32_t hymn_config_rank(const struct hymn_config *config, uint32_t stage) {
    return config->dt_rank ? config->dt_rank : (config->dims[stage] + 15) / 16;
}
