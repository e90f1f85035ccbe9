// SPDX-License-Identifier: MIT
//
// Model files from nowhere: whatever the bytes are, hymn_model_create says yes or no, and reads nothing else.
//
//   fuzz_safetensors [ITERATIONS]   mutations of good files, the same ones each time (HYMN_TEST_SEED: others)
//   fuzz_safetensors FILE...        these inputs, for instance what libFuzzer found
//
// With -DHYMN_LIBFUZZER and clang's -fsanitize=fuzzer it is a libFuzzer target instead.
#include "base/alloc.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned status_counts[HYMN_STATUS_INTERNAL + 1];

static void fail(const char *what) {
    fprintf(stderr, "fuzz_safetensors: %s\n", what);
    abort();
}

static void count_errors(void *user, enum hymn_log_level level, const char *message) {
    unsigned *errors = user;
    *errors += level == HYMN_LOG_ERROR;
    if (strlen(message) > 1023 || strchr(message, '\n')) {
        fail("a message is not one line");
    }
}

// What the network would read of a model that was accepted.
static void load_all(const struct hymn_model *model) {
    struct hymn_arena arena = {0};
    static const char *const names[] = {"head.weight", "head.bias", "encoder.0.blocks.0.conv1.weight",
                                        "encoder.1.blocks.0.ss2d.A_logs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct hymn_tensor *tensor = hymn_model_tensor(model, names[i]);
        float *values;
        hymn_model_load(model, &arena, names[i], &values);
        if ((tensor != NULL) != (values != NULL)) {
            fail("a tensor of an accepted model cannot be loaded");
        }
        for (uint64_t j = 0; tensor && j < tensor->elements; j++) {
            if (!(values[j] - values[j] == 0.0f)) {
                fail("an accepted model holds NaN or infinity");
            }
        }
    }
    hymn_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned errors = 0;
    struct hymn_model_params params = {.log = {count_errors, &errors, HYMN_LOG_DEBUG}, .size = size};
    params.data = data ? data : (const uint8_t *)"";
    struct hymn_model *model;
    enum hymn_status status = hymn_model_create(&params, &model);
    if (status != HYMN_STATUS_OK && status != HYMN_STATUS_BAD_MODEL && status != HYMN_STATUS_UNSUPPORTED) {
        fail("an unexpected status");
    }
    if ((status == HYMN_STATUS_OK) != (model != NULL) || (status == HYMN_STATUS_OK) != (errors == 0)) {
        fail("status, model and messages do not agree");
    }
    if (model) {
        load_all(model);
    }
    hymn_model_destroy(&model);
    status_counts[status]++;
    return 0;
}

#ifndef HYMN_LIBFUZZER

#include "test_file.h"

#define CAPACITY 65536

// An input in the making: the header's text and what follows it.
struct input {
    uint8_t bytes[CAPACITY];
    size_t header, size; // bytes of the header, of all
};

static void replace(struct input *input, size_t at, size_t removed, const void *with, size_t added) {
    if (at + removed > input->size || input->size - removed + added > CAPACITY) {
        return;
    }
    size_t in_header = at >= input->header ? 0 : removed < input->header - at ? removed : input->header - at;
    memmove(input->bytes + at + added, input->bytes + at + removed, input->size - at - removed);
    memcpy(input->bytes + at, with, added);
    input->size += added - removed;
    input->header += (at < input->header ? added : 0) - in_header;
}

static size_t below(struct test_random *random, size_t limit) {
    return limit ? (size_t)(test_random_u64(random) % limit) : 0;
}

// A place where the header has a number; its length in *out_length.
static size_t find_number(const struct input *input, struct test_random *random, size_t *out_length) {
    size_t start = below(random, input->header);
    for (size_t i = 0; i < input->header; i++) {
        size_t at = (start + i) % input->header;
        size_t length = strspn((const char *)input->bytes + at, "0123456789");
        if (length > 0 && at + length <= input->header) {
            *out_length = length;
            return at;
        }
    }
    *out_length = 0;
    return 0;
}

static void mutate_number(struct input *input, struct test_random *random) {
    static const char *const numbers[] = {"0",
                                          "1",
                                          "2",
                                          "4",
                                          "8",
                                          "9",
                                          "64",
                                          "65",
                                          "-1",
                                          "4294967295",
                                          "4e9",
                                          "1.0",
                                          "1e99",
                                          "1e9999",
                                          "2147483648",
                                          "4294967296",
                                          "4611686018427387904",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "18446744073709551615",
                                          "null",
                                          "\"1\"",
                                          "[1]"};
    size_t length, at = find_number(input, random, &length);
    const char *number = numbers[below(random, sizeof numbers / sizeof *numbers)];
    replace(input, at, length, number, strlen(number));
}

static void mutate_word(struct input *input, struct test_random *random) {
    static const char *const words[][2] = {
        {"F32", "F16"},
        {"F32", "I64"},
        {"F32", "F4"},
        {"shape", "data_offsets"},
        {"mgf", "concat"},
        {"weight", "bias"},
        {"auto", "3"},
        {"decoder", "encoder"},
        {"hymunet", "unet"},
        {"bn1", "bn2"},
        {"bn1.", ""},
        {"running_var", "num_batches_tracked"},
        {"\"", "\\u0000"},
        {"[", "{"},
        {",", ""},
        {"}", "},"},
        {"__metadata__", "metadata"},
        {"conv_stages\\\":1", "conv_stages\\\":0"},
    };
    const char *const *word = words[below(random, sizeof words / sizeof *words)];
    size_t length = strlen(word[0]), start = below(random, input->header);
    for (size_t i = 0; i < input->header; i++) {
        size_t at = (start + i) % input->header;
        if (at + length <= input->header && memcmp(input->bytes + at, word[0], length) == 0) {
            replace(input, at, length, word[1], strlen(word[1]));
            return;
        }
    }
}

static void mutate_bytes(struct input *input, struct test_random *random, size_t begin, size_t end) {
    static const char alphabet[] = "{}[]\",:0123456789\\eE-+. \n\x7F\x80\xC3\xFF";
    size_t at = begin + below(random, end - begin), length = below(random, 24);
    uint8_t byte = (uint8_t)alphabet[below(random, sizeof alphabet)], copy[24];
    length = length > end - at ? end - at : length;
    switch (below(random, 5)) {
    case 0:
        replace(input, at, length > 0, &byte, 1);
        break;
    case 1:
        replace(input, at, 0, &byte, 1);
        break;
    case 2:
        replace(input, at, length, "", 0);
        break;
    case 3:
        memcpy(copy, input->bytes + at, length);
        replace(input, begin + below(random, end - begin), 0, copy, length);
        break;
    default:
        if (at < end) {
            input->bytes[at] ^= (uint8_t)(1u << below(random, 8));
        }
    }
}

static void mutate_data(struct input *input, struct test_random *random) {
    static const uint8_t nan[4] = {0, 0, 0xC0, 0x7F}, infinity[4] = {0, 0x7C, 0x80, 0xFF};
    size_t left = input->size - input->header;
    if (left >= 4 && below(random, 3) == 0) {
        memcpy(input->bytes + input->header + below(random, left - 3), below(random, 2) ? nan : infinity, 4);
    } else {
        mutate_bytes(input, random, input->header, input->size);
    }
}

static void mutate(struct input *input, struct test_random *random) {
    switch (below(random, 8)) {
    case 0:
    case 1:
    case 2:
        mutate_number(input, random);
        break;
    case 3:
    case 4:
        mutate_word(input, random);
        break;
    case 5:
        mutate_data(input, random);
        break;
    case 6:
        mutate_bytes(input, random, 0, input->header);
        break;
    default:
        input->size = below(random, 40) ? input->size : below(random, input->size + 1);
        input->header = input->header < input->size ? input->header : input->size;
    }
}

// Runs an input in memory of exactly its size; now and then with a wrong length field or cut off.
static void run(const struct input *input, struct test_random *random) {
    size_t size = 8 + input->size;
    uint8_t *bytes = malloc(size);
    if (!bytes) {
        fail("out of memory");
    }
    uint64_t length = below(random, 50) ? input->header : test_random_u64(random) >> below(random, 64);
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(length >> (8 * i));
    }
    memcpy(bytes + 8, input->bytes, input->size);
    if (below(random, 50) == 0) {
        size = below(random, size + 1);
        uint8_t *cut = malloc(size ? size : 1);
        if (!cut) {
            fail("out of memory");
        }
        memcpy(cut, bytes, size);
        free(bytes);
        bytes = cut;
    }
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
}

static void make_seed(struct input *seed, const char *config, enum hymn_dtype dtype) {
    struct test_random random = test_random_fixed(7);
    struct test_file file;
    test_file_model(&file, config, dtype, &random);
    size_t size;
    uint8_t *bytes = test_file_bytes(&file, &size);
    if (size - 8 > CAPACITY) {
        fail("a seed is too large");
    }
    seed->size = size - 8;
    seed->header = (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16;
    memcpy(seed->bytes, bytes + 8, seed->size);
    free(bytes);
    test_file_free(&file);
}

static void run_mutations(unsigned long iterations) {
    static struct input seeds[3], input;
    const char *seed_text = getenv("HYMN_TEST_SEED");
    struct test_random random = test_random_fixed(seed_text ? strtoull(seed_text, NULL, 0) : 1);
    make_seed(&seeds[0],
              "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":3,\"num_classes\":2,\"dims\":[3,5],"
              "\"depths\":[1,1],\"conv_stages\":1,\"decoder_depths\":[1],\"d_state\":2,\"ssm_ratio\":2.0,"
              "\"dt_rank\":\"auto\",\"skip\":\"mgf\",\"classes\":[\"background\",\"lesion\"],\"threshold\":0.5}",
              HYMN_DTYPE_F32);
    make_seed(&seeds[1],
              "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":1,\"num_classes\":1,\"dims\":[4],"
              "\"depths\":[1],\"conv_stages\":0,\"decoder_depths\":[],\"d_state\":1,\"ssm_ratio\":1.5,"
              "\"dt_rank\":1,\"skip\":\"concat\",\"mean\":[0],\"std\":[1],\"input_size\":[8,8]}",
              HYMN_DTYPE_F16);
    make_seed(&seeds[2],
              "{\"architecture\":\"hymunet\",\"version\":1,\"in_channels\":3,\"num_classes\":1,\"dims\":[2],"
              "\"depths\":[1],\"conv_stages\":1,\"decoder_depths\":[],\"d_state\":1,\"ssm_ratio\":1,"
              "\"dt_rank\":1,\"skip\":\"mgf\"}",
              HYMN_DTYPE_BF16);
    for (unsigned long i = 0; i < iterations; i++) {
        const struct input *seed = &seeds[below(&random, 3)];
        memcpy(input.bytes, seed->bytes, seed->size);
        input.size = seed->size;
        input.header = seed->header;
        for (size_t j = below(&random, 4); i > 2 && j < 4; j++) {
            mutate(&input, &random);
        }
        run(&input, &random);
    }
}

static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    uint8_t *bytes = size >= 0 ? malloc(size ? (size_t)size : 1) : NULL;
    if (!bytes || fseek(file, 0, SEEK_SET) != 0 || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        fail("cannot read a file");
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
}

int main(int argc, char **argv) {
    char *end = NULL;
    unsigned long iterations = argc > 1 ? strtoul(argv[1], &end, 10) : 20000;
    if (argc > 1 && *end) {
        for (int i = 1; i < argc; i++) {
            run_file(argv[i]);
        }
    } else {
        run_mutations(iterations);
    }
    printf("fuzz_safetensors: %u accepted, %u refused, %u unsupported\n", status_counts[HYMN_STATUS_OK],
           status_counts[HYMN_STATUS_BAD_MODEL], status_counts[HYMN_STATUS_UNSUPPORTED]);
    return 0;
}

#endif
