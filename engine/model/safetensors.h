// SPDX-License-Identifier: MIT
//
// A reader of safetensors files: 8 bytes of little-endian header length, a JSON header that gives every tensor's dtype,
// shape and byte range, then the tensors' bytes without gaps. Nothing of the data is copied.
#ifndef HYMN_MODEL_SAFETENSORS_H
#define HYMN_MODEL_SAFETENSORS_H

#include "base/log.h"

#define HYMN_TENSOR_MAX_RANK 8

enum hymn_dtype {
    HYMN_DTYPE_F32 = 0,
    HYMN_DTYPE_F16 = 1,
    HYMN_DTYPE_BF16 = 2,
    HYMN_DTYPE_OTHER = 3 // legal in a file, of no use as a weight
};

// `data`: `bytes` bytes, row-major little-endian elements, at any alignment: read it with memcpy.
struct hymn_tensor {
    const char *name; // UTF-8 without NUL; owned by the file's hymn_safetensors
    enum hymn_dtype dtype;
    char dtype_name[8]; // as in the file, cut to fit
    uint32_t rank;      // 0: a scalar, one element
    uint64_t shape[HYMN_TENSOR_MAX_RANK];
    const uint8_t *data;
    uint64_t bytes, elements;
};

struct hymn_safetensors;

// Reads the header of the file whose bytes are at `data`; `name` is what messages call it. The bytes must stay valid
// and unchanged as long as *out_file lives. Everything that the format forbids is BAD_MODEL: a truncated file, a header
// that is not a JSON object or repeats a key, a tensor whose range leaves the file, overlaps another, leaves a hole or
// does not fit its shape, more than 8 dimensions. OUT_OF_MEMORY. Thread-safety: any thread. The result is immutable.
enum hymn_status hymn_safetensors_parse(const void *data, size_t size, const char *name, const struct hymn_log *log,
                                        struct hymn_safetensors **out_file);
void hymn_safetensors_destroy(struct hymn_safetensors **file);
size_t hymn_safetensors_count(const struct hymn_safetensors *file);
// In order of name (bytewise); NULL past the end.
const struct hymn_tensor *hymn_safetensors_get(const struct hymn_safetensors *file, size_t index);
// NULL when there is none. O(log count).
const struct hymn_tensor *hymn_safetensors_find(const struct hymn_safetensors *file, const char *name);
// The string under `key` in the header's __metadata__, or NULL.
const char *hymn_safetensors_metadata(const struct hymn_safetensors *file, const char *key);

// Converts F32, F16 or BF16 to `tensor->elements` floats at `out`; false at the first NaN or infinity, or with another
// dtype: *out_bad_index (may be NULL) is its index, and `out` is undefined. out NULL: checks only.
bool hymn_tensor_to_f32(const struct hymn_tensor *tensor, float *out, size_t *out_bad_index);

#endif
