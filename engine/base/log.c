// SPDX-License-Identifier: MIT
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_CAPACITY 1024

// Length of the printable UTF-8 sequence at `text`, or 0: control characters (C0, DEL, C1), overlong forms, surrogates
// and broken sequences.
static size_t printable_length(const unsigned char *text) {
    if (text[0] < 0x80) {
        return text[0] >= 0x20 && text[0] != 0x7F;
    }
    size_t length = text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : 2;
    if (text[0] < 0xC2 || text[0] > 0xF4) {
        return 0;
    }
    uint32_t point = text[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
        point = point << 6 | (text[i] & 0x3Fu);
    }
    bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
    bool outside = point < 0xA0 || (point >= 0xD800 && point <= 0xDFFF) || point > 0x10FFFF;
    return overlong || outside ? 0 : length;
}

void hymn_text_make_printable(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at;) {
        size_t length = printable_length(at);
        if (length == 0) {
            *at = '?';
            length = 1;
        }
        at += length;
    }
}

char *hymn_text_cut(const char *text, char *out, size_t capacity) {
    size_t length = 0;
    while (length < capacity && text[length]) {
        length++;
    }
    if (length < capacity) {
        memmove(out, text, length + 1);
        return out;
    }
    size_t kept = capacity - 4;
    while (kept > 0 && ((unsigned char)text[kept] & 0xC0) == 0x80) {
        kept--;
    }
    memmove(out, text, kept);
    memcpy(out + kept, "...", 4);
    return out;
}

static void write_line(const struct hymn_log *log, enum hymn_log_level level, const char *format, va_list arguments)
    HYMN_PRINTF(3, 0);

static void write_line(const struct hymn_log *log, enum hymn_log_level level, const char *format, va_list arguments) {
    if (!log || !log->callback || level > log->level) {
        return;
    }
    char whole[LINE_CAPACITY + 1], line[LINE_CAPACITY];
    if (vsnprintf(whole, sizeof whole, format, arguments) < 0) {
        return;
    }
    hymn_text_make_printable(hymn_text_cut(whole, line, sizeof line));
    log->callback(log->user, level, line);
}

void hymn_log_write(const struct hymn_log *log, enum hymn_log_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(log, level, format, arguments);
    va_end(arguments);
}

enum hymn_status hymn_fail(const struct hymn_log *log, enum hymn_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(log, HYMN_LOG_ERROR, format, arguments);
    va_end(arguments);
    return status;
}

static void write_softer(void *user, enum hymn_log_level level, const char *message) {
    hymn_log_write(user, level == HYMN_LOG_ERROR ? HYMN_LOG_INFO : level, "%s", message);
}

struct hymn_log hymn_log_soften(const struct hymn_log *log) {
    return (struct hymn_log){write_softer, (void *)log, log->level};
}
