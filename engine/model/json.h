// SPDX-License-Identifier: MIT
//
// JSON out of files that nobody has checked, through jansson.
#ifndef HYMN_MODEL_JSON_H
#define HYMN_MODEL_JSON_H

#include "base/log.h"

#include <jansson.h>

// Parses the `size` bytes at `text`. BAD_MODEL: not JSON, not UTF-8, a repeated key, nested deeper than 64 levels, more
// than 2,000,000 values, a string of more than 64 KiB, a number or word of more than 1 KiB. These limits bound
// jansson's recursion and memory; its lexer does not check that its text buffer, which holds one string, number or
// word, could grow (it asserts on what is then missing, and reads a string past its end), so that it must stay small.
// Messages begin with "NAME: WHAT". OUT_OF_MEMORY. *out_root is to be released with json_decref.
enum hymn_status hymn_json_parse(const char *text, size_t size, const char *name, const char *what,
                                 const struct hymn_log *log, json_t **out_root);

// `value` as JSON on one line for a message, cut to fit `capacity` bytes (at least 8); "nothing" for NULL. Returns
// `out`.
const char *hymn_json_show(const json_t *value, char *out, size_t capacity);

#endif
