// SPDX-License-Identifier: MIT
//
// NumPy's .npy files, versions 1, 2 and 3, of little-endian 32-bit floats in C order.
#ifndef HYMN_APP_NPY_H
#define HYMN_APP_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "cause.h"

enum { NPY_MAX_DIMENSIONS = 8 };

// values: dense, row-major, of the given shape; they lie in `block`, which comes from malloc.
struct npy {
    float *values;
    uint32_t dimensions;
    uint64_t shape[NPY_MAX_DIMENSIONS];
    void *block;
};

// Reads a file's bytes, which must be the header and exactly the values it announces. Other types, Fortran order and
// anything malformed is an error. The values are copied.
bool npy_parse(const uint8_t *data, size_t size, struct npy *out_npy, struct cause *cause);
// The same for a file, or standard input for "-".
bool npy_read(const char *path, struct npy *out_npy, struct cause *cause);
void npy_free(struct npy *npy);

// Writes a version 1 file, whole or not at all.
bool npy_write(const char *path, const float *values, const uint64_t *shape, uint32_t dimensions, struct cause *cause);

#endif
