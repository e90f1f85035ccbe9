// SPDX-License-Identifier: MIT
#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

enum { PREFIX_BYTES = 10, ALIGNMENT = 64 };

static const size_t file_limit = (size_t)16 << 30;

// The header is the repr() of a Python dictionary. This reads the little of Python that NumPy writes there.
struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n' || *cursor->at == '\t')) {
        cursor->at++;
    }
}

static bool accept(struct cursor *cursor, const char *word) {
    const size_t length = strlen(word);
    skip_blanks(cursor);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length) != 0) {
        return false;
    }
    cursor->at += length;
    return true;
}

static bool read_string(struct cursor *cursor, char *out_text, size_t capacity) {
    skip_blanks(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '\'' && *cursor->at != '"')) {
        return false;
    }
    const char quote = *cursor->at++;
    size_t length = 0;
    while (cursor->at < cursor->end && *cursor->at != quote && length + 1 < capacity) {
        out_text[length++] = *cursor->at++;
    }
    out_text[length] = '\0';
    return cursor->at < cursor->end && *cursor->at++ == quote;
}

static bool read_length(struct cursor *cursor, uint64_t *out_value) {
    uint64_t value = 0;
    skip_blanks(cursor);
    if (cursor->at == cursor->end || *cursor->at < '0' || *cursor->at > '9') {
        return false;
    }
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        if (value > UINT64_MAX / 10 - 1) {
            return false;
        }
        value = value * 10 + (uint64_t)(*cursor->at - '0');
    }
    (void)accept(cursor, "L"); // Python 2 wrote long integers so
    *out_value = value;
    return true;
}

static bool read_shape(struct cursor *cursor, struct npy *npy, struct cause *cause) {
    if (!accept(cursor, "(")) {
        return cause_set(cause, "broken .npy header: the shape is no tuple");
    }
    npy->dimensions = 0;
    while (!accept(cursor, ")")) {
        if (npy->dimensions == NPY_MAX_DIMENSIONS) {
            return cause_set(cause, "array of more than %d dimensions", NPY_MAX_DIMENSIONS);
        }
        if (!read_length(cursor, &npy->shape[npy->dimensions++]) ||
            (!accept(cursor, ",") && cursor->at < cursor->end && *cursor->at != ')')) {
            return cause_set(cause, "broken .npy header: the shape is no tuple of whole numbers");
        }
    }
    return true;
}

static bool read_entry(struct cursor *cursor, struct npy *npy, unsigned *seen, struct cause *cause) {
    char key[32], type[64];
    if (!read_string(cursor, key, sizeof(key)) || !accept(cursor, ":")) {
        return cause_set(cause, "broken .npy header: it is no dictionary");
    }
    if (strcmp(key, "descr") == 0) {
        *seen |= 1;
        if (!read_string(cursor, type, sizeof(type))) {
            return cause_set(cause, "array of a structured type: float32 ('<f4') is expected");
        }
        return strcmp(type, "<f4") == 0 || cause_set(cause, "array of type '%s': float32 ('<f4') is expected", type);
    }
    if (strcmp(key, "fortran_order") == 0) {
        *seen |= 2;
        if (accept(cursor, "True")) {
            return cause_set(cause, "array in Fortran order: C order is expected (numpy.ascontiguousarray)");
        }
        return accept(cursor, "False") ||
               cause_set(cause, "broken .npy header: fortran_order is neither True nor False");
    }
    if (strcmp(key, "shape") == 0) {
        *seen |= 4;
        return read_shape(cursor, npy, cause);
    }
    return cause_set(cause, "broken .npy header: unknown key '%s'", key);
}

static bool read_header(struct cursor cursor, struct npy *npy, struct cause *cause) {
    unsigned seen = 0;
    if (!accept(&cursor, "{")) {
        return cause_set(cause, "broken .npy header: it is no dictionary");
    }
    while (!accept(&cursor, "}")) {
        if (!read_entry(&cursor, npy, &seen, cause)) {
            return false;
        }
        if (!accept(&cursor, ",") && (cursor.at == cursor.end || *cursor.at != '}')) {
            return cause_set(cause, "broken .npy header: it ends too early");
        }
    }
    return seen == 7 || cause_set(cause, "broken .npy header: descr, fortran_order or shape is missing");
}

// Where the values begin, 0 if there is no whole header.
static size_t values_offset(const uint8_t *data, size_t size, size_t *out_header, struct cause *cause) {
    if (size < PREFIX_BYTES + 2 || memcmp(data, "\x93NUMPY", 6) != 0) {
        cause_set(cause, "is no .npy file");
        return 0;
    }
    if (data[6] < 1 || data[6] > 3) {
        cause_set(cause, ".npy version %u.%u is not known", data[6], data[7]);
        return 0;
    }
    uint64_t length = (uint64_t)data[8] | (uint64_t)data[9] << 8;
    *out_header = PREFIX_BYTES;
    if (data[6] > 1) {
        length |= (uint64_t)data[10] << 16 | (uint64_t)data[11] << 24;
        *out_header += 2;
    }
    if (length > size - *out_header) {
        cause_set(cause, "truncated .npy file: the header announces %llu bytes, %zu are there",
                  (unsigned long long)length, size - *out_header);
        return 0;
    }
    return *out_header + (size_t)length;
}

bool npy_parse(const uint8_t *data, size_t size, struct npy *out_npy, struct cause *cause) {
    struct npy npy = {0};
    size_t header = 0;
    *out_npy = npy;
    const size_t offset = values_offset(data, size, &header, cause);
    if (offset == 0) {
        return false;
    }
    const struct cursor cursor = {(const char *)data + header, (const char *)data + offset};
    if (!read_header(cursor, &npy, cause)) {
        return false;
    }
    uint64_t count = 1;
    for (uint32_t i = 0; i < npy.dimensions; i++) {
        if (npy.shape[i] != 0 && count > UINT64_MAX / 8 / npy.shape[i]) {
            return cause_set(cause, "the array's shape is too large");
        }
        count *= npy.shape[i];
    }
    if (count * sizeof(float) != size - offset) {
        return cause_set(cause, "%s .npy file: the shape needs %llu bytes of values, %zu are there",
                         count * sizeof(float) > size - offset ? "truncated" : "overlong",
                         (unsigned long long)(count * sizeof(float)), size - offset);
    }
    npy.block = malloc(size - offset + 1);
    if (npy.block == NULL) {
        return cause_set(cause, "out of memory for %zu bytes", size - offset);
    }
    npy.values = npy.block;
    if (size > offset) {
        memcpy(npy.values, data + offset, size - offset);
    }
    *out_npy = npy;
    return true;
}

bool npy_read(const char *path, struct npy *out_npy, struct cause *cause) {
    uint8_t *data = NULL;
    size_t size = 0;
    *out_npy = (struct npy){0};
    const bool good = file_read(path, file_limit, NULL, &data, &size, cause) && npy_parse(data, size, out_npy, cause);
    free(data);
    return good;
}

void npy_free(struct npy *npy) {
    free(npy->block);
    *npy = (struct npy){0};
}

// Fills a buffer with the whole header; returns its size, a multiple of ALIGNMENT, or 0 if it does not fit.
static size_t make_header(char *header, size_t capacity, const uint64_t *shape, uint32_t dimensions) {
    size_t length = PREFIX_BYTES;
    memcpy(header, "\x93NUMPY\x01\x00\x00\x00", PREFIX_BYTES);
    length +=
        (size_t)snprintf(header + length, capacity - length, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (uint32_t i = 0; i < dimensions && length < capacity; i++) {
        length += (size_t)snprintf(header + length, capacity - length, "%s%llu%s", i > 0 ? " " : "",
                                   (unsigned long long)shape[i], i + 1 < dimensions || dimensions == 1 ? "," : "");
    }
    length += length < capacity ? (size_t)snprintf(header + length, capacity - length, "), }") : 0;
    const size_t padded = (length + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (padded > capacity) {
        return 0;
    }
    memset(header + length, ' ', padded - length);
    header[padded - 1] = '\n';
    header[8] = (char)((padded - PREFIX_BYTES) & 0xff);
    header[9] = (char)((padded - PREFIX_BYTES) >> 8);
    return padded;
}

static bool put(struct output *output, const float *values, const uint64_t *shape, uint32_t dimensions,
                struct cause *cause) {
    char header[512];
    size_t count = 1;
    const size_t length = make_header(header, sizeof(header), shape, dimensions);
    if (length == 0) {
        return cause_set(cause, "array of too many dimensions");
    }
    for (uint32_t i = 0; i < dimensions; i++) {
        count *= (size_t)shape[i];
    }
    return output_write(output, header, length, cause) && output_write(output, values, count * sizeof(float), cause);
}

bool npy_write(const char *path, const float *values, const uint64_t *shape, uint32_t dimensions, struct cause *cause) {
    struct output output;
    if (!output_open(&output, path, cause)) {
        return false;
    }
    if (!put(&output, values, shape, dimensions, cause)) {
        output_discard(&output);
        return false;
    }
    return output_commit(&output, cause);
}
