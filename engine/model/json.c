// SPDX-License-Identifier: MIT
#include "model/json.h"

#include <string.h>

#define MAX_DEPTH 64
#define MAX_VALUES 2000000
#define MAX_STRING_BYTES (64u << 10)
#define MAX_WORD_BYTES 1024

static bool separates(char c) {
    return c != '\0' && strchr(" \t\n\r,:[]{}\"", c) != NULL;
}

// Why the text is not to be parsed, or NULL. Only tells strings, brackets, commas and what is written between them
// apart: the parser sees to the rest.
static const char *find_excess(const char *text, size_t size) {
    size_t depth = 0, values = 0, begin = 0; // begin: of the string, or of the number or word
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            i += c == '\\';
            if (i - begin > MAX_STRING_BYTES) {
                return "a string of more than 64 KiB";
            }
            in_string = c != '"';
            begin = in_string ? begin : i + 1;
        } else if (separates(c)) {
            bool opens = c == '[' || c == '{', closes = c == ']' || c == '}';
            in_string = c == '"';
            begin = i + 1;
            depth = opens ? depth + 1 : depth - (closes && depth > 0);
            values += opens || c == ',';
            if (depth > MAX_DEPTH) {
                return "nested deeper than 64 levels";
            }
            if (values > MAX_VALUES) {
                return "more than 2000000 values";
            }
        } else if (i - begin >= MAX_WORD_BYTES) {
            return "a number or word of more than 1 KiB";
        }
    }
    return NULL;
}

enum hymn_status hymn_json_parse(const char *text, size_t size, const char *name, const char *what,
                                 const struct hymn_log *log, json_t **out_root) {
    *out_root = NULL;
    const char *excess = find_excess(text, size);
    if (excess) {
        return hymn_fail(log, HYMN_STATUS_BAD_MODEL, "%s: %s: %s", name, what, excess);
    }
    json_error_t error = {0};
    *out_root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (*out_root) {
        return HYMN_STATUS_OK;
    }
    if (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: %s: out of memory", name, what);
    }
    return hymn_fail(log, HYMN_STATUS_BAD_MODEL, "%s: %s is not valid JSON: %s (byte %d)", name, what, error.text,
                     error.position);
}

struct cut_text {
    char *at;
    size_t left;
};

static int append(const char *text, size_t size, void *data) {
    struct cut_text *cut = data;
    size_t taken = size < cut->left ? size : cut->left;
    memcpy(cut->at, text, taken);
    cut->at += taken;
    cut->left -= taken;
    return taken == size ? 0 : -1;
}

const char *hymn_json_show(const json_t *value, char *out, size_t capacity) {
    char text[256];
    struct cut_text cut = {text, sizeof text - 1};
    if (!value) {
        return hymn_text_cut("nothing", out, capacity);
    }
    json_dump_callback(value, append, &cut, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    *cut.at = '\0';
    return hymn_text_cut(text, out, capacity < sizeof text ? capacity : sizeof text);
}
