// SPDX-License-Identifier: MIT
//
// Safetensors files made in memory: models with random weights of any config, and broken ones. Memory comes from
// malloc, not from the engine's allocator, so that allocation-failure tests do not reach it. Failures here are fatal.
#ifndef HYMN_TESTS_SUPPORT_TEST_FILE_H
#define HYMN_TESTS_SUPPORT_TEST_FILE_H

#include "model/safetensors.h"
#include "test_random.h"

struct test_tensor {
    char name[128];
    char dtype[16]; // "F32", ...
    uint32_t rank;
    uint64_t shape[HYMN_TENSOR_MAX_RANK];
    uint8_t *data;
    size_t bytes;
};

struct test_file {
    struct test_tensor *tensors;
    size_t count, capacity;
    char *config; // "hymn.config" in __metadata__; NULL: no metadata
};

// A model of `config` (a valid hymn.config) with random weights such as training starts from. dtype: of all tensors.
void test_file_model(struct test_file *file, const char *config, enum hymn_dtype dtype, struct test_random *random);
// data: copied; NULL: zeros.
struct test_tensor *test_file_add(struct test_file *file, const char *name, const char *dtype, uint32_t rank,
                                  const uint64_t *shape, const void *data, size_t bytes);
struct test_tensor *test_file_find(const struct test_file *file, const char *name);
void test_file_remove(struct test_file *file, const char *name);
void test_file_set(struct test_tensor *tensor, size_t index, float value); // F32, F16 or BF16
// The file's bytes, to be freed with free; each tensor at its place in order.
uint8_t *test_file_bytes(const struct test_file *file, size_t *out_size);
// 8 bytes of length, `header`, `data_bytes` zeros; to be freed with free.
uint8_t *test_file_raw(const char *header, size_t data_bytes, size_t *out_size);
void test_file_free(struct test_file *file);

#endif
