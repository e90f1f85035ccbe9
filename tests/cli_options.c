// SPDX-License-Identifier: MIT
//
// Command lines: what is read, what is refused, what is suggested.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"

static void numbers(void **state) {
    uint32_t value = 0;
    (void)state;
    assert_true(options_read_number("0", 0, 10, &value) && value == 0);
    assert_true(options_read_number("10", 0, 10, &value) && value == 10);
    assert_true(options_read_number("4294967295", 0, UINT32_MAX, &value) && value == UINT32_MAX);
    const char *const bad[] = {
        "", "11", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0", "4294967296", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(options_read_number(bad[i], 0, 10, &value));
    }
    assert_false(options_read_number("4294967296", 0, UINT32_MAX, &value));
}

static void reals(void **state) {
    double value = 0;
    (void)state;
    assert_true(options_read_real("0.25", 0, 1, &value) && value == 0.25);
    assert_true(options_read_real("1e-1", 0, 1, &value) && value == 1e-1);
    assert_true(options_read_real("-1", -2, 1, &value) && value == -1);
    const char *const bad[] = {"", "1.5", "nan", "inf", "0x1p-1", " 0.5", "0.5 ", "0.5x", "1e999", "--1", "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(options_read_real(bad[i], 0, 1, &value));
    }
}

static void sizes(void **state) {
    struct size size = {0};
    (void)state;
    assert_true(options_read_size("256", 1, 512, &size) && size.height == 256 && size.width == 256);
    assert_true(options_read_size("256x384", 1, 512, &size) && size.height == 256 && size.width == 384);
    assert_true(options_read_size("000000000000256x1", 1, 512, &size) && size.height == 256 && size.width == 1);
    const char *const bad[] = {
        "", "x", "256x", "x256", "0", "513", "256x0", "256x384x2", "0000000000000256x1", "99999999999999999999x1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(options_read_size(bad[i], 1, 512, &size));
    }
}

struct values {
    bool flag;
    unsigned count;
    const char *text, *choice, *maybe;
    uint32_t number;
    double real;
    struct size_list sizes;
    struct number_list numbers;
    enum hymn_precision precision;
};

enum { MAX_ARGUMENTS = 16 };

// Parses a command line of words, NULL-terminated; out_rest[0..*out_count) is what is left.
static enum options_result parse(struct values *v, const char *const *words, char **out_rest, size_t *out_count) {
    static const char *const choices[] = {"png", "npy", NULL};
    const struct command command = {"test", "", "", "", ""};
    const struct option options[] = {
        {"flag", 'f', OPTION_FLAG, NULL, "", &v->flag, 0, 0, NULL},
        {"verbose", 'v', OPTION_COUNT, NULL, "", &v->count, 0, 0, NULL},
        {"text", 't', OPTION_TEXT, "T", "", &v->text, 0, 0, NULL},
        {"choice", 0, OPTION_CHOICE, "C", "", &v->choice, 0, 0, choices},
        {"maybe", 0, OPTION_MAY_CHOOSE, "C", "", &v->maybe, 0, 0, choices},
        {"number", 'n', OPTION_NUMBER, "N", "", &v->number, 1, 64, NULL},
        {"real", 0, OPTION_REAL, "R", "", &v->real, 0, 1, NULL},
        {"sizes", 0, OPTION_SIZES, "S", "", &v->sizes, 1, 4096, NULL},
        {"numbers", 0, OPTION_NUMBERS, "N", "", &v->numbers, 1, 64, NULL},
        {"precision", 'p', OPTION_PRECISION, "P", "", &v->precision, 0, 0, NULL},
    };
    size_t count = 0;
    *v = (struct values){0};
    for (; count < MAX_ARGUMENTS && words[count] != NULL; count++) {
        out_rest[count] = (char *)words[count]; // only moved, never written to
    }
    return options_parse(&command, options, sizeof(options) / sizeof(options[0]), out_rest, count, out_count);
}

static void good_lines(void **state) {
    struct values v;
    size_t rest;
    char *left[MAX_ARGUMENTS];
    const char *const separate[MAX_ARGUMENTS] = {"a.png", "--text", "x",   "-n",      "3",
                                                 "-",     "--flag", "-vv", "--maybe", "b.png"};
    (void)state;
    assert_int_equal(parse(&v, separate, left, &rest), OPTIONS_OK);
    assert_int_equal(rest, 3);
    assert_string_equal(left[0], "a.png");
    assert_string_equal(left[1], "-");
    assert_string_equal(left[2], "b.png");
    assert_string_equal(v.text, "x");
    assert_string_equal(v.maybe, "png");
    assert_true(v.flag && v.count == 2 && v.number == 3);
    const char *const attached[MAX_ARGUMENTS] = {"--text=a=b",   "-n4",    "-vfn5",    "--maybe=npy",
                                                 "--choice=png", "-pfp16", "--real=.5"};
    assert_int_equal(parse(&v, attached, left, &rest), OPTIONS_OK);
    assert_int_equal(rest, 0);
    assert_string_equal(v.text, "a=b");
    assert_string_equal(v.maybe, "npy");
    assert_true(v.flag && v.count == 1 && v.number == 5 && v.precision == HYMN_PRECISION_FP16 && v.real == 0.5);
    const char *const lists[MAX_ARGUMENTS] = {"--sizes", "256,512x384", "--numbers", "1,2,8", "--", "--flag", "-n"};
    assert_int_equal(parse(&v, lists, left, &rest), OPTIONS_OK);
    assert_int_equal(rest, 2);
    assert_string_equal(left[0], "--flag");
    assert_true(v.sizes.count == 2 && v.sizes.items[0].width == 256 && v.sizes.items[1].width == 384);
    assert_true(v.numbers.count == 3 && v.numbers.items[2] == 8 && !v.flag);
}

static void bad_lines(void **state) {
    static const char *const lines[][4] = {{"--flag=1"},
                                           {"--text"},
                                           {"--text", ""},
                                           {"-n"},
                                           {"-n", "0"},
                                           {"-nx"},
                                           {"--tex", "x"},
                                           {"-x"},
                                           {"--choice", "gif"},
                                           {"--maybe=gif"},
                                           {"--real", "2"},
                                           {"--sizes", "1,,2"},
                                           {"--numbers", "1,"},
                                           {"--numbers", "65"},
                                           {"-p", "fp8"},
                                           {"--verbose=2"},
                                           {"-vz"}};
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct values v;
        size_t rest = 99;
        char *left[MAX_ARGUMENTS];
        assert_int_equal(parse(&v, lines[i], left, &rest), OPTIONS_BAD);
        assert_int_equal(rest, 0);
    }
}

static void required(void **state) {
    const char *text = NULL;
    static const struct command command = {"test", "", "", "", ""};
    const struct option options[] = {{"text", 't', OPTION_REQUIRED, "T", "", &text, 0, 0, NULL}};
    char word[] = "a.png", given[] = "-tx", empty[] = "--text=";
    char *left[2] = {word, NULL};
    size_t rest = 99;
    (void)state;
    assert_int_equal(options_parse(&command, options, 1, left, 1, &rest), OPTIONS_BAD);
    left[0] = empty;
    assert_int_equal(options_parse(&command, options, 1, left, 1, &rest), OPTIONS_BAD);
    left[0] = given;
    left[1] = word;
    assert_int_equal(options_parse(&command, options, 1, left, 2, &rest), OPTIONS_OK);
    assert_string_equal(text, "x");
    assert_int_equal(rest, 1);
}

static void suggestions(void **state) {
    const char *const names[] = {"segment", "run", "eval", "bench", "devices", "inspect", NULL};
    (void)state;
    assert_string_equal(options_nearest("segmnet", names), "segment");
    assert_string_equal(options_nearest("seg", names), "segment");
    assert_string_equal(options_nearest("device", names), "devices");
    assert_string_equal(options_nearest("evel", names), "eval");
    assert_string_equal(options_nearest("xvel", names), "eval");
    assert_null(options_nearest("xyzzy", names));
    assert_null(options_nearest("a-very-long-word-that-is-longer-than-any-name-of-ours", names));
    char longest[41], text[41]; // as long as names may be
    memset(longest, 'a', 40);
    longest[40] = 0;
    memcpy(text, longest, sizeof(text));
    text[0] = 'b';
    assert_string_equal(options_nearest(text, (const char *const[]){longest, NULL}), longest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),     cmocka_unit_test(reals),     cmocka_unit_test(sizes),
        cmocka_unit_test(good_lines),  cmocka_unit_test(bad_lines), cmocka_unit_test(required),
        cmocka_unit_test(suggestions),
    };
    return cmocka_run_group_tests_name("cli_options", tests, NULL, NULL);
}
