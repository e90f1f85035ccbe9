// SPDX-License-Identifier: MIT
#include "model/safetensors.h"

#include "base/alloc.h"
#include "base/half.h"
#include "model/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_BYTES 8
#define MAX_HEADER_BYTES 100000000 // the format's own limit
#define SHOWN_NAME_BYTES 100

struct metadata_entry {
    const char *key, *value;
};

struct hymn_safetensors {
    struct hymn_arena arena; // names and metadata
    struct hymn_tensor *tensors;
    struct metadata_entry *metadata;
    size_t count, metadata_count;
};

// What the functions below need to read one header.
struct reader {
    const char *name;
    const struct hymn_log *log;
    const uint8_t *data; // behind the header
    uint64_t data_bytes;
    struct hymn_safetensors *file;
};

// Bits of one element of the dtypes that the format knows. A dtype that is not here is taken as it is: what the file
// says of its size cannot be checked, and no network needs it.
static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"F32", 32}, {"F16", 16},    {"BF16", 16},   {"F64", 64},    {"I64", 64},    {"U64", 64},    {"C64", 64},
    {"I32", 32}, {"U32", 32},    {"I16", 16},    {"U16", 16},    {"I8", 8},      {"U8", 8},      {"BOOL", 8},
    {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8},
};

static enum hymn_status fail_memory(const struct reader *reader) {
    return hymn_fail(reader->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", reader->name);
}

static enum hymn_status fail_tensor(const struct reader *reader, const char *tensor, const char *format, ...)
    HYMN_PRINTF(3, 4);

static enum hymn_status fail_tensor(const struct reader *reader, const char *tensor, const char *format, ...) {
    char shown[SHOWN_NAME_BYTES], cause[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cause, sizeof cause, format, arguments);
    va_end(arguments);
    return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL, "%s: tensor \"%s\": %s", reader->name,
                     hymn_text_cut(tensor, shown, sizeof shown), cause);
}

static const char *copy_text(struct hymn_arena *arena, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = hymn_arena_alloc(arena, bytes, 1);
    if (copy) {
        memcpy(copy, text, bytes);
    }
    return copy;
}

// The first `count` entries of an array of integers that are not negative; false if it is not one of that length.
static bool read_integers(const json_t *array, size_t count, uint64_t *out_values) {
    if (!json_is_array(array) || json_array_size(array) != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return false;
        }
        out_values[i] = (uint64_t)json_integer_value(value);
    }
    return true;
}

static enum hymn_status read_dtype(const struct reader *reader, const json_t *entry, struct hymn_tensor *tensor,
                                   uint32_t *out_bits) {
    const json_t *value = json_object_get(entry, "dtype");
    if (!json_is_string(value)) {
        char shown[64];
        return fail_tensor(reader, tensor->name, "expected \"dtype\" to be a string, found %s",
                           hymn_json_show(value, shown, sizeof shown));
    }
    const char *name = json_string_value(value);
    snprintf(tensor->dtype_name, sizeof tensor->dtype_name, "%s", name);
    tensor->dtype = HYMN_DTYPE_OTHER;
    *out_bits = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            tensor->dtype = i < HYMN_DTYPE_OTHER ? (enum hymn_dtype)i : HYMN_DTYPE_OTHER;
            *out_bits = dtypes[i].bits;
        }
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_shape(const struct reader *reader, const json_t *entry, struct hymn_tensor *tensor) {
    const json_t *value = json_object_get(entry, "shape");
    size_t rank = json_array_size(value); // 0 for what is no array
    char shown[100];
    if (rank > HYMN_TENSOR_MAX_RANK) {
        return fail_tensor(reader, tensor->name, "has %zu dimensions, at most %d are supported", rank,
                           HYMN_TENSOR_MAX_RANK);
    }
    if (!read_integers(value, rank, tensor->shape)) {
        return fail_tensor(reader, tensor->name, "expected \"shape\" to be a list of integers from 0, found %s",
                           hymn_json_show(value, shown, sizeof shown));
    }
    tensor->rank = (uint32_t)rank;
    tensor->elements = 1;
    for (size_t i = 0; i < rank; i++) {
        if (tensor->shape[i] != 0 && tensor->elements > UINT64_MAX / tensor->shape[i]) {
            return fail_tensor(reader, tensor->name, "shape %s has more elements than 64 bits can count",
                               hymn_json_show(value, shown, sizeof shown));
        }
        tensor->elements *= tensor->shape[i];
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_offsets(const struct reader *reader, const json_t *entry, struct hymn_tensor *tensor) {
    const json_t *value = json_object_get(entry, "data_offsets");
    char shown[100];
    uint64_t offsets[2];
    if (!read_integers(value, 2, offsets)) {
        return fail_tensor(reader, tensor->name, "expected \"data_offsets\" to be two integers from 0, found %s",
                           hymn_json_show(value, shown, sizeof shown));
    }
    if (offsets[0] > offsets[1]) {
        return fail_tensor(reader, tensor->name, "ends at byte %" PRIu64 ", before its start at %" PRIu64, offsets[1],
                           offsets[0]);
    }
    if (offsets[1] > reader->data_bytes) {
        return fail_tensor(reader, tensor->name,
                           "ends at byte %" PRIu64 ", but only %" PRIu64 " bytes follow the header: the file is "
                           "truncated or damaged",
                           offsets[1], reader->data_bytes);
    }
    tensor->data = reader->data + offsets[0];
    tensor->bytes = offsets[1] - offsets[0];
    return HYMN_STATUS_OK;
}

static enum hymn_status read_tensor(const struct reader *reader, const char *name, const json_t *entry,
                                    struct hymn_tensor *tensor) {
    char shown[64];
    tensor->name = copy_text(&reader->file->arena, name);
    if (!tensor->name) {
        return fail_memory(reader);
    }
    if (!json_is_object(entry)) {
        return fail_tensor(reader, name, "expected an object with dtype, shape and data_offsets, found %s",
                           hymn_json_show(entry, shown, sizeof shown));
    }
    uint32_t bits = 0;
    enum hymn_status status = read_dtype(reader, entry, tensor, &bits);
    if (status == HYMN_STATUS_OK) {
        status = read_shape(reader, entry, tensor);
    }
    if (status == HYMN_STATUS_OK) {
        status = read_offsets(reader, entry, tensor);
    }
    if (status != HYMN_STATUS_OK || bits == 0) {
        return status;
    }
    bool fits = tensor->elements <= UINT64_MAX / bits && tensor->elements * bits % 8 == 0 &&
                tensor->elements * bits / 8 == tensor->bytes;
    if (!fits) {
        return fail_tensor(reader, name, "shape %s of %s does not fit its %" PRIu64 " bytes",
                           hymn_json_show(json_object_get(entry, "shape"), shown, sizeof shown), tensor->dtype_name,
                           tensor->bytes);
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_metadata(struct reader *reader, json_t *metadata) {
    if (!json_is_object(metadata)) {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL, "%s: expected __metadata__ to be an object", reader->name);
    }
    struct hymn_safetensors *file = reader->file;
    file->metadata = hymn_alloc(json_object_size(metadata), sizeof *file->metadata);
    if (!file->metadata) {
        return fail_memory(reader);
    }
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value)) {
            char shown[SHOWN_NAME_BYTES];
            return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL, "%s: expected \"%s\" in __metadata__ to be a string",
                             reader->name, hymn_text_cut(key, shown, sizeof shown));
        }
        struct metadata_entry *entry = &file->metadata[file->metadata_count++];
        entry->key = copy_text(&file->arena, key);
        entry->value = copy_text(&file->arena, json_string_value(value));
        if (!entry->key || !entry->value) {
            return fail_memory(reader);
        }
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status read_entries(struct reader *reader, json_t *root) {
    struct hymn_safetensors *file = reader->file;
    file->tensors = hymn_alloc(json_object_size(root), sizeof *file->tensors);
    if (!file->tensors) {
        return fail_memory(reader);
    }
    const char *key;
    json_t *entry;
    json_object_foreach(root, key, entry) {
        enum hymn_status status = strcmp(key, "__metadata__") == 0
                                      ? read_metadata(reader, entry)
                                      : read_tensor(reader, key, entry, &file->tensors[file->count++]);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    return HYMN_STATUS_OK;
}

static int compare_position(const void *left, const void *right) {
    const struct hymn_tensor *a = left, *b = right;
    if (a->data != b->data) {
        return a->data < b->data ? -1 : 1;
    }
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; // empty tensors before the one that begins where they are
}

static int compare_name(const void *left, const void *right) {
    return strcmp(((const struct hymn_tensor *)left)->name, ((const struct hymn_tensor *)right)->name);
}

// The tensors must tile the data: each byte belongs to exactly one.
static enum hymn_status check_layout(const struct reader *reader) {
    struct hymn_safetensors *file = reader->file;
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_position);
    uint64_t position = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct hymn_tensor *tensor = &file->tensors[i];
        uint64_t begin = (uint64_t)(tensor->data - reader->data);
        if (begin < position) {
            char shown[SHOWN_NAME_BYTES];
            return fail_tensor(reader, tensor->name, "begins at byte %" PRIu64 ", inside of tensor \"%s\"", begin,
                               hymn_text_cut(file->tensors[i - 1].name, shown, sizeof shown));
        }
        if (begin > position) {
            return fail_tensor(reader, tensor->name, "begins at byte %" PRIu64 " and leaves a hole from byte %" PRIu64,
                               begin, position);
        }
        position += tensor->bytes;
    }
    if (position != reader->data_bytes) {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL,
                         "%s: %" PRIu64 " bytes at the end belong to no tensor: the file is damaged", reader->name,
                         reader->data_bytes - position);
    }
    return HYMN_STATUS_OK;
}

// Checks the length field; *out_header_bytes is what it says.
static enum hymn_status read_length(const struct reader *reader, const uint8_t *bytes, size_t size,
                                    size_t *out_header_bytes) {
    if (size < LENGTH_BYTES) {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL, "%s: %zu bytes are too few for a safetensors file",
                         reader->name, size);
    }
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        length = length << 8 | bytes[i];
    }
    if (length > MAX_HEADER_BYTES) {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL,
                         "%s: not a safetensors file: its header would be %" PRIu64 " bytes long (at most %d are)",
                         reader->name, length, MAX_HEADER_BYTES);
    }
    if (length > size - LENGTH_BYTES) {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL,
                         "%s: the header is %" PRIu64 " bytes long, but only %zu follow: the file is truncated, or not "
                         "a safetensors file",
                         reader->name, length, size - LENGTH_BYTES);
    }
    if (length == 0 || bytes[LENGTH_BYTES] != '{') {
        return hymn_fail(reader->log, HYMN_STATUS_BAD_MODEL,
                         "%s: not a safetensors file: its header does not begin with \"{\"", reader->name);
    }
    *out_header_bytes = (size_t)length;
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_safetensors_parse(const void *data, size_t size, const char *name, const struct hymn_log *log,
                                        struct hymn_safetensors **out_file) {
    *out_file = NULL;
    const uint8_t *bytes = data;
    struct reader reader = {.name = name, .log = log};
    size_t header_bytes = 0;
    enum hymn_status status = read_length(&reader, bytes, size, &header_bytes);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    reader.data = bytes + LENGTH_BYTES + header_bytes;
    reader.data_bytes = size - LENGTH_BYTES - header_bytes;
    json_t *root = NULL;
    status = hymn_json_parse((const char *)bytes + LENGTH_BYTES, header_bytes, name, "the header", log, &root);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    reader.file = hymn_alloc(1, sizeof *reader.file);
    status = reader.file ? read_entries(&reader, root) : fail_memory(&reader);
    json_decref(root);
    if (status == HYMN_STATUS_OK) {
        status = check_layout(&reader);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_safetensors_destroy(&reader.file);
        return status;
    }
    qsort(reader.file->tensors, reader.file->count, sizeof *reader.file->tensors, compare_name);
    *out_file = reader.file;
    return HYMN_STATUS_OK;
}

void hymn_safetensors_destroy(struct hymn_safetensors **file) {
    if (!file || !*file) {
        return;
    }
    hymn_arena_free(&(*file)->arena);
    hymn_free((*file)->tensors);
    hymn_free((*file)->metadata);
    hymn_free(*file);
    *file = NULL;
}

size_t hymn_safetensors_count(const struct hymn_safetensors *file) {
    return file->count;
}

const struct hymn_tensor *hymn_safetensors_get(const struct hymn_safetensors *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

const struct hymn_tensor *hymn_safetensors_find(const struct hymn_safetensors *file, const char *name) {
    const struct hymn_tensor key = {.name = name};
    return bsearch(&key, file->tensors, file->count, sizeof *file->tensors, compare_name);
}

const char *hymn_safetensors_metadata(const struct hymn_safetensors *file, const char *key) {
    for (size_t i = 0; i < file->metadata_count; i++) {
        if (strcmp(file->metadata[i].key, key) == 0) {
            return file->metadata[i].value;
        }
    }
    return NULL;
}

#define BLOCK 256u

// `count` elements from `first` on, at most BLOCK, as the 32-bit floats that they exactly are.
static void load_block(const struct hymn_tensor *tensor, size_t first, size_t count, uint32_t *out_bits) {
    if (tensor->dtype == HYMN_DTYPE_F32) {
        const uint8_t *at = tensor->data + first * 4;
        for (size_t i = 0; i < count; i++) {
            out_bits[i] = (uint32_t)at[4 * i] | (uint32_t)at[4 * i + 1] << 8 | (uint32_t)at[4 * i + 2] << 16 |
                          (uint32_t)at[4 * i + 3] << 24;
        }
        return;
    }
    uint16_t halves[BLOCK];
    float values[BLOCK];
    const uint8_t *at = tensor->data + first * 2;
    for (size_t i = 0; i < count; i++) {
        halves[i] = (uint16_t)(at[2 * i] | at[2 * i + 1] << 8);
    }
    if (tensor->dtype == HYMN_DTYPE_BF16) {
        for (size_t i = 0; i < count; i++) {
            out_bits[i] = (uint32_t)halves[i] << 16;
        }
        return;
    }
    hymn_halves_to_floats(halves, count, values);
    memcpy(out_bits, values, count * sizeof *values);
}

// The first element that is NaN or infinite; count if there is none.
static size_t find_not_finite(const uint32_t *bits, size_t count) {
    uint32_t any = 0;
    for (size_t i = 0; i < count; i++) {
        any |= (bits[i] & 0x7F800000u) == 0x7F800000u;
    }
    size_t index = any ? 0 : count;
    while (any && (bits[index] & 0x7F800000u) != 0x7F800000u) {
        index++;
    }
    return index;
}

bool hymn_tensor_to_f32(const struct hymn_tensor *tensor, float *out, size_t *out_bad_index) {
    size_t count = tensor->dtype == HYMN_DTYPE_OTHER ? 0 : (size_t)tensor->elements;
    size_t done = 0, good = BLOCK;
    while (done < count && good == BLOCK) {
        uint32_t bits[BLOCK];
        size_t left = count - done < BLOCK ? count - done : BLOCK;
        load_block(tensor, done, left, bits);
        good = find_not_finite(bits, left);
        if (out) {
            memcpy(out + done, bits, good * sizeof *bits);
        }
        done += good;
    }
    if (out_bad_index) {
        *out_bad_index = done;
    }
    return tensor->dtype != HYMN_DTYPE_OTHER && done == count;
}
