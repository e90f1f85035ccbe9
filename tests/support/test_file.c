// SPDX-License-Identifier: MIT
#include "test_file.h"

#include "base/half.h"
#include "model/model.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static void *must(void *block) {
    if (!block) {
        fprintf(stderr, "test_file: out of memory\n");
        abort();
    }
    return block;
}

static size_t element_bytes(const char *dtype) {
    return strcmp(dtype, "F32") == 0 ? 4 : 2;
}

struct test_tensor *test_file_add(struct test_file *file, const char *name, const char *dtype, uint32_t rank,
                                  const uint64_t *shape, const void *data, size_t bytes) {
    if (file->count == file->capacity) {
        file->capacity = file->capacity ? 2 * file->capacity : 64;
        file->tensors = must(realloc(file->tensors, file->capacity * sizeof *file->tensors));
    }
    struct test_tensor *tensor = &file->tensors[file->count++];
    *tensor = (struct test_tensor){.rank = rank, .bytes = bytes, .data = must(calloc(1, bytes ? bytes : 1))};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    snprintf(tensor->dtype, sizeof tensor->dtype, "%s", dtype);
    for (uint32_t i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
    }
    if (data && bytes) {
        memcpy(tensor->data, data, bytes);
    }
    return tensor;
}

struct test_tensor *test_file_find(const struct test_file *file, const char *name) {
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) {
            return &file->tensors[i];
        }
    }
    fprintf(stderr, "test_file: no tensor %s\n", name);
    abort();
}

void test_file_remove(struct test_file *file, const char *name) {
    struct test_tensor *tensor = test_file_find(file, name);
    free(tensor->data);
    *tensor = file->tensors[--file->count];
}

void test_file_set(struct test_tensor *tensor, size_t index, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    size_t size = element_bytes(tensor->dtype);
    if (strcmp(tensor->dtype, "F16") == 0) {
        bits = hymn_half_from_float(value);
    } else if (strcmp(tensor->dtype, "BF16") == 0) {
        bits >>= 16;
    }
    for (size_t i = 0; i < size; i++) {
        tensor->data[index * size + i] = (uint8_t)(bits >> (8 * i));
    }
}

struct maker {
    struct test_file *file;
    struct test_random *random;
    const char *dtype;
    uint32_t states;
};

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

// A value such as the tensor's have at the start of training, so that activations stay near 1.
static float initial_value(struct maker *maker, const struct hymn_expected *tensor, size_t index, float scale) {
    if (ends_with(tensor->name, ".A_logs")) {
        return logf((float)(index % maker->states + 1));
    }
    if (ends_with(tensor->name, ".dt_projs_bias")) {
        return test_random_float(maker->random, -6.0f, -2.0f);
    }
    if (tensor->variance || (tensor->rank == 1 && !ends_with(tensor->name, "bias") && tensor->learned)) {
        return test_random_float(maker->random, 0.5f, 1.5f); // a norm's weight, a variance, Ds
    }
    if (tensor->rank == 1) {
        return test_random_float(maker->random, -0.2f, 0.2f);
    }
    return scale * test_random_normal(maker->random);
}

static bool make_tensor(void *user, const struct hymn_expected *expected) {
    struct maker *maker = user;
    size_t elements = 1, inputs = 1;
    for (uint32_t i = 0; i < expected->rank; i++) {
        elements *= (size_t)expected->shape[i];
    }
    if (expected->rank == 2 || expected->rank == 4) {
        inputs = elements / (size_t)expected->shape[0];
    } else if (expected->rank == 3) {
        inputs = (size_t)expected->shape[2];
    }
    struct test_tensor *tensor = test_file_add(maker->file, expected->name, maker->dtype, expected->rank,
                                               expected->shape, NULL, elements * element_bytes(maker->dtype));
    float scale = 1.0f / sqrtf((float)inputs);
    for (size_t i = 0; i < elements; i++) {
        test_file_set(tensor, i, initial_value(maker, expected, i, scale));
    }
    return true;
}

static void print_message(void *user, enum hymn_log_level level, const char *message) {
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

void test_file_model(struct test_file *file, const char *config, enum hymn_dtype dtype, struct test_random *random) {
    static const char *const names[] = {"F32", "F16", "BF16"};
    struct hymn_log log = {.callback = print_message};
    struct hymn_config parsed;
    *file = (struct test_file){0};
    if (hymn_config_parse(config, "test_file_model", &log, &parsed) != HYMN_STATUS_OK) {
        abort();
    }
    file->config = must(malloc(strlen(config) + 1));
    memcpy(file->config, config, strlen(config) + 1);
    struct maker maker = {file, random, names[dtype], parsed.d_state};
    hymn_model_expect(&parsed, make_tensor, &maker);
}

uint8_t *test_file_raw(const char *header, size_t data_bytes, size_t *out_size) {
    size_t length = strlen(header);
    *out_size = 8 + length + data_bytes;
    uint8_t *bytes = must(calloc(1, *out_size));
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
    }
    memcpy(bytes + 8, header, length);
    return bytes;
}

uint8_t *test_file_bytes(const struct test_file *file, size_t *out_size) {
    json_t *root = must(json_object());
    size_t offset = 0;
    if (file->config) {
        json_object_set_new(root, "__metadata__", json_pack("{s:s}", "hymn.config", file->config));
    }
    for (size_t i = 0; i < file->count; i++) {
        const struct test_tensor *tensor = &file->tensors[i];
        json_t *shape = must(json_array());
        for (uint32_t d = 0; d < tensor->rank; d++) {
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[d]));
        }
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                                  (json_int_t)offset, (json_int_t)(offset + tensor->bytes));
        json_object_set_new(root, tensor->name, must(entry));
        offset += tensor->bytes;
    }
    char *header = must(json_dumps(root, JSON_COMPACT));
    json_decref(root);
    uint8_t *bytes = test_file_raw(header, offset, out_size);
    uint8_t *at = bytes + 8 + strlen(header);
    free(header);
    for (size_t i = 0; i < file->count; i++) {
        memcpy(at, file->tensors[i].data, file->tensors[i].bytes);
        at += file->tensors[i].bytes;
    }
    return bytes;
}

void test_file_free(struct test_file *file) {
    for (size_t i = 0; i < file->count; i++) {
        free(file->tensors[i].data);
    }
    free(file->tensors);
    free(file->config);
    *file = (struct test_file){0};
}
