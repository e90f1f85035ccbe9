// SPDX-License-Identifier: MIT
//
// Results for people (aligned tables) and for programs (JSON).
#ifndef HYMN_APP_REPORT_H
#define HYMN_APP_REPORT_H

#include <jansson.h>

#include "cause.h"

enum { TABLE_MAX_COLUMNS = 16 };

// Rows of text cells; a column is as wide as its widest cell.
struct table {
    size_t columns, count, capacity;
    char **cells; // [rows, columns], `count` in all; the first row is the heading
    bool failed;  // memory was out; printing then says so
};

// heading: the columns' names with '|' between; a name that begins with '<' makes its column flush left.
void table_begin(struct table *table, const char *heading);
// The next cells, which fill row after row, with '|' between: numbers and words of our own, which have no '|' in them.
void table_cells(struct table *table, const char *format, ...) CAUSE_PRINTF(2, 3);
// The next cell, of any text: names out of files and from drivers.
void table_text(struct table *table, const char *format, ...) CAUSE_PRINTF(2, 3);
// Prints to standard output and frees.
void table_end(struct table *table);

// A JSON string of any bytes: what is no UTF-8 is replaced.
json_t *report_text(const char *text);
// A JSON number; null for what is no finite number.
json_t *report_real(double value);
// One line without a newline, from malloc; NULL when memory is out.
char *report_line(const json_t *json);
// Writes indented JSON to a file, or standard output for "-", and drops the reference. Reports its failure.
bool report_write(const char *path, json_t *json);

#endif
