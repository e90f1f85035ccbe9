// SPDX-License-Identifier: MIT
//
// NumPy files: what NumPy writes is read, what it does not write is refused, whatever the bytes.
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "npy.h"
#include "support/test_random.h"

// A file with this header text and `values` floats 0, 1, 2, ...; exactly as large as the block that holds it.
static uint8_t *make(int version, const char *header, size_t values, size_t *out_size) {
    const size_t prefix = version == 1 ? 10 : 12, length = strlen(header);
    uint8_t *file = calloc(1, prefix + length + 4 * values);
    assert_non_null(file);
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)version;
    file[8] = (uint8_t)(length & 0xff);
    file[9] = (uint8_t)(length >> 8);
    memcpy(file + prefix, header, length);
    for (size_t i = 0; i < values; i++) {
        const float value = (float)i;
        memcpy(file + prefix + length + 4 * i, &value, 4);
    }
    *out_size = prefix + length + 4 * values;
    return file;
}

static void check_good(int version, const char *header, uint32_t dimensions, const uint64_t *shape, size_t values) {
    size_t size;
    uint8_t *file = make(version, header, values, &size);
    struct npy npy;
    struct cause cause;
    if (!npy_parse(file, size, &npy, &cause)) {
        fail_msg("%s: %s", header, cause.text);
    }
    assert_int_equal(npy.dimensions, dimensions);
    for (uint32_t i = 0; i < dimensions; i++) {
        assert_int_equal(npy.shape[i], shape[i]);
    }
    for (size_t i = 0; i < values; i++) {
        assert_true(npy.values[i] == (float)i);
    }
    npy_free(&npy);
    free(file);
}

static void good_headers(void **state) {
    const uint64_t shape[4] = {2, 3, 1, 2}, line[1] = {5};
    (void)state;
    check_good(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1, 2), }          \n", 4, shape, 12);
    check_good(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1, 2), }\n", 4, shape, 12);
    check_good(3, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1, 2)}\n", 4, shape, 12);
    check_good(1, "{\"shape\":(5,),\"fortran_order\":False,\"descr\":\"<f4\"}\n", 1, line, 5);
    check_good(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L, 1L, 2L), }\n", 4, shape, 12);
    check_good(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", 0, shape, 1);
}

static void check_bad(const char *header, size_t values, const char *text) {
    size_t size;
    uint8_t *file = make(1, header, values, &size);
    struct npy npy;
    struct cause cause;
    assert_false(npy_parse(file, size, &npy, &cause));
    assert_null(npy.values);
    if (strstr(cause.text, text) == NULL) {
        fail_msg("'%s' does not hold '%s'", cause.text, text);
    }
    free(file);
}

static void bad_headers(void **state) {
    (void)state;
    check_bad("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", 4, "'<f8'");
    check_bad("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n", 2, "'>f4'");
    check_bad("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", 2, "structured");
    check_bad("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }\n", 2, "Fortran");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", 2, "truncated");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n", 2, "overlong");
    check_bad("{'descr': '<f4', 'fortran_order': False, }\n", 2, "missing");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }\n", 2, "whole numbers");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }\n", 2, "whole numbers");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': 2, }\n", 2, "tuple");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }\n", 2, "dimensions");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n", 2, "too large");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999), }\n", 2, "whole numbers");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}\n", 2, "'x'");
    check_bad("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 2, "too early");
    check_bad("", 2, "dictionary");
}

static void hostile_bytes(void **state) {
    struct test_random random = test_random_start("hostile_bytes");
    size_t size;
    uint8_t *file = make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 6, &size);
    struct npy npy;
    struct cause cause;
    (void)state;
    for (size_t length = 0; length < size; length++) {
        uint8_t *part = malloc(length + (length == 0));
        assert_non_null(part);
        memcpy(part, file, length);
        assert_false(npy_parse(part, length, &npy, &cause));
        free(part);
    }
    for (int round = 0; round < 20000; round++) {
        uint8_t *bent = malloc(size);
        assert_non_null(bent);
        memcpy(bent, file, size);
        for (uint32_t flips = test_random_range(&random, 1, 4); flips > 0; flips--) {
            bent[test_random_range(&random, 0, (uint32_t)size - 1)] = (uint8_t)test_random_u64(&random);
        }
        if (npy_parse(bent, size, &npy, &cause)) {
            npy_free(&npy);
        }
        free(bent);
    }
    free(file);
}

static void written_and_read(void **state) {
    char folder[] = "/tmp/hymn-npy-XXXXXX", path[64];
    float values[24];
    static const struct {
        uint32_t dimensions;
        uint64_t shape[4];
    } cases[] = {{4, {1, 2, 3, 4}}, {1, {24}}};
    struct npy npy;
    struct cause cause;
    (void)state;
    for (int i = 0; i < 24; i++) {
        values[i] = (float)i / 7;
    }
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/x.npy", folder);
    for (int i = 0; i < 2; i++) {
        assert_true(npy_write(path, values, cases[i].shape, cases[i].dimensions, &cause));
        assert_true(npy_read(path, &npy, &cause));
        assert_int_equal(npy.dimensions, cases[i].dimensions);
        assert_memory_equal(npy.values, values, sizeof(values));
        npy_free(&npy);
    }
    FILE *file = fopen(path, "rb");
    uint8_t header[128];
    assert_non_null(file);
    assert_int_equal(fread(header, 1, 128, file), 128);
    fclose(file);
    assert_memory_equal(header, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4'", 25); // values begin at a multiple of 64
    assert_int_equal(header[127], '\n');
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(written_and_read),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
