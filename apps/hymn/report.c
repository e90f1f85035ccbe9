// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "console.h"
#include "files.h"

// --------------------------------------------------------------------------------------------------------------- table

static void add_cell(struct table *table, const char *text, size_t length) {
    if (table->count == table->capacity) {
        const size_t capacity = table->capacity > 0 ? table->capacity * 2 : 256;
        char **cells = realloc(table->cells, capacity * sizeof(*cells));
        if (cells == NULL) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    char *cell = text_format("%.*s", (int)length, text);
    if (cell == NULL) {
        table->failed = true;
        return;
    }
    hymn_text_make_printable(cell);
    table->cells[table->count++] = cell;
}

static void add_cells(struct table *table, const char *text) {
    for (const char *end; *(end = text + strcspn(text, "|")) != '\0'; text = end + 1) {
        add_cell(table, text, (size_t)(end - text));
    }
    add_cell(table, text, strlen(text));
}

static void add_whole(struct table *table, const char *text) {
    add_cell(table, text, strlen(text));
}

void table_begin(struct table *table, const char *heading) {
    *table = (struct table){.columns = 1};
    for (const char *c = heading; *c != '\0'; c++) {
        table->columns += *c == '|' && table->columns < TABLE_MAX_COLUMNS;
    }
    add_cells(table, heading);
}

static void add_formatted(struct table *table, void (*add)(struct table *, const char *), const char *format,
                          va_list arguments) CAUSE_PRINTF(3, 0);

static void add_formatted(struct table *table, void (*add)(struct table *, const char *), const char *format,
                          va_list arguments) {
    char text[2048];
    vsnprintf(text, sizeof(text), format, arguments);
    add(table, text);
}

void table_cells(struct table *table, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_formatted(table, add_cells, format, arguments);
    va_end(arguments);
}

void table_text(struct table *table, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_formatted(table, add_whole, format, arguments);
    va_end(arguments);
}

static void print_row(const struct table *table, size_t row, const size_t *widths) {
    for (size_t c = 0; c < table->columns; c++) {
        const char *heading = table->cells[c], *cell = table->cells[row * table->columns + c];
        const bool left = heading[0] == '<';
        cell += row == 0 && left;
        const char *gap = c > 0 ? "  " : "";
        if (left && c + 1 == table->columns) {
            printf("%s%s", gap, cell);
        } else {
            printf(left ? "%s%-*s" : "%s%*s", gap, (int)widths[c], cell);
        }
    }
    printf("\n");
}

void table_end(struct table *table) {
    size_t widths[TABLE_MAX_COLUMNS] = {0};
    for (size_t i = 0; !table->failed && i < table->count; i++) {
        const size_t length = strlen(table->cells[i]) - (i < table->columns && table->cells[i][0] == '<');
        size_t *width = &widths[i % table->columns];
        *width = length > *width ? length : *width;
    }
    for (size_t row = 0; !table->failed && row < table->count / table->columns; row++) {
        print_row(table, row, widths);
    }
    if (table->failed) {
        console_error(NULL, "out of memory for a table");
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){0};
}

// ---------------------------------------------------------------------------------------------------------------- JSON

json_t *report_text(const char *text) {
    json_t *string = json_string(text);
    if (string != NULL) {
        return string;
    }
    // A file name may be in another encoding. Each byte beyond ASCII becomes U+FFFD.
    char *clean = malloc(3 * strlen(text) + 1);
    size_t length = 0;
    for (const char *c = text; clean != NULL && *c != '\0'; c++) {
        if ((unsigned char)*c < 0x80) {
            clean[length++] = *c;
        } else {
            memcpy(clean + length, "\xef\xbf\xbd", 3);
            length += 3;
        }
    }
    string = clean != NULL ? json_stringn(clean, length) : NULL;
    free(clean);
    return string;
}

json_t *report_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

char *report_line(const json_t *json) {
    return json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(7));
}

bool report_write(const char *path, json_t *json) {
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(json);
    if (text == NULL) {
        console_error(path, "out of memory for the JSON report");
        return false;
    }
    bool good;
    if (strcmp(path, "-") == 0) {
        good = console_line(text);
    } else {
        struct cause cause;
        char *line = text_format("%s\n", text);
        good = line != NULL ? file_write(path, line, strlen(line), &cause) : cause_set(&cause, "out of memory");
        if (!good) {
            console_error(path, "%s", cause.text);
        }
        free(line);
    }
    free(text);
    return good;
}
