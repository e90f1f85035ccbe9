// SPDX-License-Identifier: MIT
//
// The safetensors reader: what it accepts, and what of hostile files it says.
#include "model/safetensors.h"
#include "base/alloc.h"
#include "base/half.h"
#include "test_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "test_log.h"

static enum hymn_status parse(const void *bytes, size_t size, struct test_log *kept, struct hymn_safetensors **out) {
    struct hymn_log log = test_log_start(kept);
    enum hymn_status status = hymn_safetensors_parse(bytes, size, "file", &log, out);
    assert_int_equal(kept->errors, status == HYMN_STATUS_OK ? 0 : 1);
    assert_true((status == HYMN_STATUS_OK) == (*out != NULL));
    return status;
}

// Parses a file of this header and so many bytes of data.
static enum hymn_status parse_text(const char *header, size_t data_bytes, struct test_log *kept) {
    size_t size;
    uint8_t *bytes = test_file_raw(header, data_bytes, &size);
    struct hymn_safetensors *file;
    enum hymn_status status = parse(bytes, size, kept, &file);
    hymn_safetensors_destroy(&file);
    free(bytes);
    return status;
}

static void tensors_are_found(void **state) {
    (void)state;
    const char *header = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[2,26]},"
                         "\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                         "\"__metadata__\":{\"key\":\"value\",\"other\":\"\"},"
                         "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[26,28]},"
                         "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[26,26],\"more\":[1]}}   ";
    size_t size;
    uint8_t *bytes = test_file_raw(header, 28, &size);
    struct test_log kept;
    struct hymn_safetensors *file;
    assert_int_equal(parse(bytes, size, &kept, &file), HYMN_STATUS_OK);
    assert_int_equal(hymn_safetensors_count(file), 4);
    const char *names[] = {"a", "b", "empty", "scalar"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(hymn_safetensors_get(file, i)->name, names[i]);
        assert_ptr_equal(hymn_safetensors_find(file, names[i]), hymn_safetensors_get(file, i));
    }
    const struct hymn_tensor *b = hymn_safetensors_find(file, "b"), *empty = hymn_safetensors_find(file, "empty");
    const struct hymn_tensor *scalar = hymn_safetensors_find(file, "scalar");
    assert_true(b->dtype == HYMN_DTYPE_F32 && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3);
    assert_true(b->elements == 6 && b->bytes == 24 && b->data == bytes + 8 + strlen(header) + 2);
    assert_string_equal(b->dtype_name, "F32");
    assert_true(empty->dtype == HYMN_DTYPE_OTHER && empty->elements == 0 && empty->bytes == 0);
    assert_string_equal(empty->dtype_name, "I64");
    assert_true(scalar->dtype == HYMN_DTYPE_BF16 && scalar->rank == 0 && scalar->elements == 1);
    assert_null(hymn_safetensors_get(file, 4));
    assert_null(hymn_safetensors_find(file, "c"));
    assert_null(hymn_safetensors_find(file, "__metadata__"));
    assert_string_equal(hymn_safetensors_metadata(file, "key"), "value");
    assert_string_equal(hymn_safetensors_metadata(file, "other"), "");
    assert_null(hymn_safetensors_metadata(file, "none"));
    hymn_safetensors_destroy(&file);
    assert_null(file);
    hymn_safetensors_destroy(&file);
    hymn_safetensors_destroy(NULL);
    free(bytes);
}

static void odd_but_legal_files_are_read(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
    } cases[] = {
        {"{}", 0},
        {"{\"__metadata__\":{}}", 0},
        {"{ \"a\" : { \"dtype\" : \"F4\" , \"shape\" : [ 3 , 2 ] , \"data_offsets\" : [ 0 , 3 ] } }\n\n", 3},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3},
        {"{\"a\":{\"dtype\":\"C64\",\"shape\":[2],\"data_offsets\":[0,16]}}", 16},
        {"{\"a\":{\"dtype\":\"NEW_DTYPE_OF_2030\",\"shape\":[2],\"data_offsets\":[0,5]}}", 5},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,2],\"data_offsets\":[0,2]}}", 2},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2},
        {"{\"\\u00e9\\n\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2},
        {"{\"e1\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"e2\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_log kept;
        if (parse_text(cases[i].header, cases[i].data_bytes, &kept) != HYMN_STATUS_OK) {
            fail_msg("%s\n%s", cases[i].header, kept.text);
        }
    }
}

// One tensor whose entry is broken in one way, with 16 bytes of data.
#define ENTRY(dtype, shape, offsets) "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header, *message;
} broken_headers[] = {
    {"[]", "does not begin with \"{\""},
    {" {}", "does not begin with \"{\""},
    {"{", "is not valid JSON"},
    {"{}{}", "is not valid JSON"},
    {"{} x", "is not valid JSON"},
    {"{\"t\":}", "is not valid JSON"},
    {"{\"t\xFF\":1}", "is not valid JSON"},
    {"{\"t\\u0000\":1}", "is not valid JSON"},
    {"{\"__metadata__\":{\"k\":\"\xC0\xAF\"}}", "is not valid JSON"},
    {"{\"t\":1,\"t\":2}", "duplicate object key"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "duplicate object key"},
    {"{\"__metadata__\":3}", "expected __metadata__ to be an object"},
    {"{\"__metadata__\":{\"k\":{}}}", "expected \"k\" in __metadata__ to be a string"},
    {"{\"t\":3}", "tensor \"t\": expected an object with dtype, shape and data_offsets, found 3"},
    {"{\"t\":{}}", "tensor \"t\": expected \"dtype\" to be a string, found nothing"},
    {"{\"t\":{\"dtype\":\"F32\"}}", "expected \"shape\" to be a list of integers from 0, found nothing"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[4]}}", "expected \"data_offsets\" to be two integers from 0, found no"},
    {ENTRY("7", "[4]", "[0,16]"), "expected \"dtype\" to be a string, found 7"},
    {ENTRY("\"F32\"", "4", "[0,16]"), "found 4"},
    {ENTRY("\"F32\"", "{\"a\":4}", "[0,16]"), "found {\"a\": 4}"},
    {ENTRY("\"F32\"", "[4.0]", "[0,16]"), "found [4.0]"},
    {ENTRY("\"F32\"", "[-4]", "[0,16]"), "found [-4]"},
    {ENTRY("\"F32\"", "[true]", "[0,16]"), "found [true]"},
    {ENTRY("\"F32\"", "[\"4\"]", "[0,16]"), "found [\"4\"]"},
    {ENTRY("\"F32\"", "[99999999999999999999]", "[0,16]"), "too big"},
    {ENTRY("\"F32\"", "[4]", "[0,1e1]"), "found [0, 10.0]"},
    {ENTRY("\"F32\"", "[4]", "[0]"), "found [0]"},
    {ENTRY("\"F32\"", "[4]", "[0,16,16]"), "found [0, 16, 16]"},
    {ENTRY("\"F32\"", "[4]", "[-1,16]"), "found [-1, 16]"},
    {ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), "has 9 dimensions, at most 8"},
    {ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,16]"), "more elements than 64 bits can count"},
    {ENTRY("\"F32\"", "[2305843009213693952,2]", "[0,16]"), "does not fit its 16 bytes"},
    {ENTRY("\"F32\"", "[4611686018427387908]", "[0,16]"), "does not fit its 16 bytes"},
    {ENTRY("\"F32\"", "[5]", "[0,16]"), "shape [5] of F32 does not fit its 16 bytes"},
    {ENTRY("\"F16\"", "[4]", "[0,16]"), "shape [4] of F16 does not fit its 16 bytes"},
    {ENTRY("\"F4\"", "[31]", "[0,16]"), "shape [31] of F4 does not fit its 16 bytes"},
    {ENTRY("\"F4\"", "[31]", "[0,15]"), "shape [31] of F4 does not fit its 15 bytes"},
    {ENTRY("\"F32\"", "[]", "[0,16]"), "shape [] of F32 does not fit its 16 bytes"},
    {ENTRY("\"F32\"", "[4]", "[16,0]"), "ends at byte 0, before its start at 16"},
    {ENTRY("\"F32\"", "[4]", "[4,20]"), "ends at byte 20, but only 16 bytes follow the header"},
    {ENTRY("\"F32\"", "[4]", "[0,9223372036854775807]"), "ends at byte 9223372036854775807, but only 16"},
    {ENTRY("\"F32\"", "[3]", "[4,16]"), "begins at byte 4 and leaves a hole from byte 0"},
    {ENTRY("\"F32\"", "[3]", "[0,12]"), "4 bytes at the end belong to no tensor"},
    {"{}", "16 bytes at the end belong to no tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     "tensor \"b\": begins at byte 8, inside of tensor \"a\""},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
     "begins at byte 0, inside of tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}}",
     "tensor \"b\": begins at byte 8, inside of tensor \"a\""},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     "tensor \"b\": begins at byte 8 and leaves a hole from byte 4"},
};

static void broken_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken_headers / sizeof *broken_headers; i++) {
        struct test_log kept;
        if (parse_text(broken_headers[i].header, 16, &kept) != HYMN_STATUS_BAD_MODEL) {
            fail_msg("accepted: %s", broken_headers[i].header);
        }
        assert_log(&kept, broken_headers[i].message);
        assert_memory_equal(kept.text, "file: ", 6);
    }
}

static void the_length_field_is_checked(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_safetensors *file;
    uint8_t bytes[64] = {0};
    assert_int_equal(parse(NULL, 0, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "0 bytes are too few");
    assert_int_equal(parse(bytes, 7, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_int_equal(parse(bytes, 8, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_int_equal(parse(bytes, 64, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "does not begin");
    bytes[0] = 57;
    assert_int_equal(parse(bytes, 64, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "the header is 57 bytes long, but only 56 follow");
    memset(bytes, 0xFF, 8);
    assert_int_equal(parse(bytes, 64, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "not a safetensors file");
    const uint8_t hundred_megabytes[8] = {0x01, 0xE1, 0xF5, 0x05};
    memcpy(bytes, hundred_megabytes, 8);
    assert_int_equal(parse(bytes, 64, &kept, &file), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "100000001 bytes long (at most 100000000");
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                         "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]}}";
    size_t size;
    uint8_t *bytes = test_file_raw(header, 12, &size);
    for (size_t i = 0; i < size; i++) {
        uint8_t *part = malloc(i ? i : 1); // of its own, so that a read past its end is seen
        assert_non_null(part);
        memcpy(part, bytes, i);
        struct test_log kept;
        struct hymn_safetensors *file;
        assert_int_equal(parse(part, i, &kept, &file), HYMN_STATUS_BAD_MODEL);
        free(part);
    }
    free(bytes);
}

// `count` times `text` between `before` and `after`; to be freed.
static char *repeat(const char *before, const char *text, size_t count, const char *after) {
    size_t length = strlen(text);
    char *all = malloc(strlen(before) + count * length + strlen(after) + 1);
    assert_non_null(all);
    char *at = all + sprintf(all, "%s", before);
    for (size_t i = 0; i < count; i++, at += length) {
        memcpy(at, text, length);
    }
    strcpy(at, after);
    return all;
}

static void excess_is_refused(void **state) {
    (void)state;
    struct test_log kept;
    char *deep = repeat("{\"a\":", "[", 100000, "");
    assert_int_equal(parse_text(deep, 0, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "nested deeper than 64 levels");
    free(deep);
    char *wide = repeat("{\"a\":[0", ",0", 2100000, "]}");
    assert_int_equal(parse_text(wide, 0, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "more than 2000000 values");
    free(wide);
    char *harmless = repeat("{\"__metadata__\":{\"a\":\"", "[{,\\\"", 13000, "\"}}"); // all of it in one string
    assert_int_equal(parse_text(harmless, 0, &kept), HYMN_STATUS_OK);
    free(harmless);
    char *long_string = repeat("{\"__metadata__\":{\"a\":\"", "\\n", 33000, "\"}}");
    assert_int_equal(parse_text(long_string, 0, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "a string of more than 64 KiB");
    free(long_string);
    static const char *const words[] = {"1", "t", "1.", "-"}; // each kind that the parser would gather whole
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *word = repeat("{\"a\":", words[i], 1025, "}");
        assert_int_equal(parse_text(word, 0, &kept), HYMN_STATUS_BAD_MODEL);
        assert_log(&kept, "a number or word of more than 1 KiB");
        free(word);
    }
    char *digits = repeat("{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"more\":0.", "1", 1022, "}}");
    assert_int_equal(parse_text(digits, 0, &kept), HYMN_STATUS_OK); // 1 KiB
    free(digits);
    char *named = repeat("{\"", "name\xC3\xA9", 10000, "\":{\"dtype\":3}}");
    assert_int_equal(parse_text(named, 0, &kept), HYMN_STATUS_BAD_MODEL);
    assert_true(kept.length < 400);
    assert_log(&kept, "name\xC3\xA9...\": expected \"dtype\"");
    free(named);
    char *shape = repeat("{\"t\":{\"dtype\":\"F32\",\"shape\":[1", ",1", 100000, "]}}");
    assert_int_equal(parse_text(shape, 0, &kept), HYMN_STATUS_BAD_MODEL);
    assert_log(&kept, "has 100001 dimensions");
    free(shape);
}

static void many_tensors_are_found(void **state) {
    (void)state;
    struct test_random random = test_random_start("many_tensors_are_found");
    struct test_file source = {0};
    const uint64_t shape[1] = {3};
    for (uint32_t i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "tensor.%u", (i * 7919u) % 5000u);
        uint8_t data[3] = {(uint8_t)i, (uint8_t)(i >> 8), 9};
        test_file_add(&source, name, "U8", 1, shape, data, 3);
    }
    size_t size;
    uint8_t *bytes = test_file_bytes(&source, &size);
    struct test_log kept;
    struct hymn_safetensors *file;
    assert_int_equal(parse(bytes, size, &kept, &file), HYMN_STATUS_OK);
    assert_int_equal(hymn_safetensors_count(file), 5000);
    for (uint32_t round = 0; round < 5000; round++) {
        uint32_t i = test_random_range(&random, 0, 4999);
        const struct hymn_tensor *tensor = hymn_safetensors_find(file, source.tensors[i].name);
        assert_non_null(tensor);
        assert_memory_equal(tensor->data, source.tensors[i].data, 3);
    }
    hymn_safetensors_destroy(&file);
    test_file_free(&source);
    free(bytes);
}

// A tensor over bytes at an odd address.
static struct hymn_tensor odd_tensor(uint8_t *memory, const void *values, enum hymn_dtype dtype, size_t count) {
    size_t bytes = count * (dtype == HYMN_DTYPE_F32 ? 4 : 2);
    memcpy(memory + 1, values, bytes);
    return (struct hymn_tensor){.dtype = dtype, .data = memory + 1, .bytes = bytes, .elements = count};
}

static void elements_are_converted(void **state) {
    (void)state;
    uint8_t memory[64];
    float out[8];
    size_t bad;
    const float floats[4] = {1.5f, -0.0f, 3.4e38f, 1e-45f};
    const uint16_t halves[4] = {0x3E00, 0x8000, 0x7BFF, 0x0001}, bfloats[3] = {0x3FC0, 0x8000, 0x7F7F};
    struct hymn_tensor tensor = odd_tensor(memory, floats, HYMN_DTYPE_F32, 4);
    assert_true(hymn_tensor_to_f32(&tensor, out, &bad));
    assert_int_equal(bad, 4);
    assert_memory_equal(out, floats, sizeof floats);
    tensor = odd_tensor(memory, halves, HYMN_DTYPE_F16, 4);
    assert_true(hymn_tensor_to_f32(&tensor, out, NULL));
    assert_true(out[0] == 1.5f && signbit(out[1]) && out[1] == 0 && out[2] == 65504.0f && out[3] == 0x1p-24f);
    tensor = odd_tensor(memory, bfloats, HYMN_DTYPE_BF16, 3);
    assert_true(hymn_tensor_to_f32(&tensor, out, NULL));
    assert_true(out[0] == 1.5f && out[1] == 0 && out[2] == 0x1.FEp127f);
    tensor.dtype = HYMN_DTYPE_OTHER;
    assert_false(hymn_tensor_to_f32(&tensor, out, &bad));
    tensor = odd_tensor(memory, floats, HYMN_DTYPE_F32, 0);
    assert_true(hymn_tensor_to_f32(&tensor, NULL, &bad));
}

static void what_is_not_finite_is_found(void **state) {
    (void)state;
    uint8_t memory[64];
    size_t bad;
    const uint32_t patterns[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001, 0x7FFFFFFF};
    const uint16_t halves[] = {0x7C00, 0xFC00, 0x7E00, 0xFC01, 0x7FFF}, bfloats[] = {0x7F80, 0xFF80, 0x7FC0, 0xFF81};
    for (size_t i = 0; i < 5; i++) {
        uint32_t values[5] = {0};
        uint16_t narrow[5] = {0};
        values[i] = patterns[i];
        narrow[i] = halves[i];
        struct hymn_tensor tensor = odd_tensor(memory, values, HYMN_DTYPE_F32, 5);
        assert_false(hymn_tensor_to_f32(&tensor, NULL, &bad));
        assert_int_equal(bad, i);
        tensor = odd_tensor(memory, narrow, HYMN_DTYPE_F16, 5);
        assert_false(hymn_tensor_to_f32(&tensor, NULL, &bad));
        assert_int_equal(bad, i);
        narrow[i] = bfloats[i < 4 ? i : 0];
        tensor = odd_tensor(memory, narrow, HYMN_DTYPE_BF16, 5);
        assert_false(hymn_tensor_to_f32(&tensor, NULL, &bad));
        assert_int_equal(bad, i);
    }
}

static void running_out_of_memory_is_a_status(void **state) {
    (void)state;
    struct test_random random = test_random_fixed(1);
    struct test_file source = {0};
    const uint64_t shape[1] = {1};
    for (int i = 0; i < 3000; i++) { // names of more than one arena chunk
        char name[100];
        snprintf(name, sizeof name, "a.tensor.with.a.long.name.%d.%08x", i, (unsigned)test_random_u64(&random));
        test_file_add(&source, name, "U8", 1, shape, NULL, 1);
    }
    size_t size;
    uint8_t *bytes = test_file_bytes(&source, &size);
    struct test_log kept;
    struct hymn_safetensors *file = NULL;
    int failures = 0;
    bool failed = true;
    for (int64_t countdown = 0; failed; countdown++) {
        hymn_alloc_fail_after(countdown);
        enum hymn_status status = parse(bytes, size, &kept, &file);
        failed = hymn_alloc_fail_after(-1);
        failures += status != HYMN_STATUS_OK;
        assert_true(status == HYMN_STATUS_OK || (failed && status == HYMN_STATUS_OUT_OF_MEMORY));
        hymn_safetensors_destroy(&file);
    }
    assert_true(failures >= 4);
    test_file_free(&source);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found),           cmocka_unit_test(odd_but_legal_files_are_read),
        cmocka_unit_test(broken_headers_are_refused),  cmocka_unit_test(the_length_field_is_checked),
        cmocka_unit_test(every_truncation_is_refused), cmocka_unit_test(excess_is_refused),
        cmocka_unit_test(many_tensors_are_found),      cmocka_unit_test(elements_are_converted),
        cmocka_unit_test(what_is_not_finite_is_found), cmocka_unit_test(running_out_of_memory_is_a_status),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
