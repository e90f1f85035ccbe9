// SPDX-License-Identifier: MIT
//
// Tables of any text: cells stay where they belong, and nothing moves the terminal's cursor.
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

#include "console.h"
#include "files.h"
#include "report.h"
#include "support/test_command.h"

static char path[] = "/tmp/hymn-table-XXXXXX";

static int print_table(char **arguments, size_t count) {
    struct table table;
    (void)count;
    table_begin(&table, "#|<name|<kind|size|<verdict");
    for (int i = 0; i < 2; i++) {
        table_cells(&table, "%d", i);
        table_text(&table, "%s", arguments[i]);
        table_cells(&table, "%s|%.1f", "cpu", 9.5 + i);
        table_text(&table, "no: %s", arguments[i]);
    }
    table_end(&table);
    console_print("device %s", arguments[1]);
    return 0;
}

// What print_table prints, from malloc.
static char *printed(const char *first, const char *second) {
    const char *const words[] = {first, second, NULL};
    struct cause cause;
    uint8_t *data;
    size_t size;
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(test_command_run(print_table, words, path), 0);
    assert_true(file_read(path, 4096, NULL, &data, &size, &cause));
    remove(path);
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    char *text = text_format("%.*s", (int)size, (const char *)data);
    free(data);
    assert_non_null(text);
    return text;
}

static void text_is_no_separator(void **state) {
    (void)state;
    char *text = printed("a|b||", "plain");
    assert_string_equal(text, "#  name   kind  size  verdict\n"
                              "0  a|b||  cpu    9.5  no: a|b||\n"
                              "1  plain  cpu   10.5  no: plain\n"
                              "device plain\n");
    free(text);
}

static void control_characters_are_not_printed(void **state) {
    (void)state;
    char *text = printed("\033[2J", "\r\n\xff\xc2\x9b");
    assert_string_equal(text, "#  name   kind  size  verdict\n"
                              "0  ?[2J   cpu    9.5  no: ?[2J\n"
                              "1  ?????  cpu   10.5  no: ?????\n"
                              "device ?????\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_no_separator),
        cmocka_unit_test(control_characters_are_not_printed),
    };
    return cmocka_run_group_tests_name("cli_table", tests, NULL, NULL);
}
