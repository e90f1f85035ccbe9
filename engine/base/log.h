// SPDX-License-Identifier: MIT
#ifndef HYMN_BASE_LOG_H
#define HYMN_BASE_LOG_H

#include <hymn/hymn.h>

#if defined(__MINGW32__)
#define HYMN_PRINTF(format_index, first) __attribute__((format(gnu_printf, format_index, first)))
#elif defined(__GNUC__)
#define HYMN_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define HYMN_PRINTF(format_index, first)
#endif

// Formats one line (cut at 1023 bytes) and hands it to the callback if `level` is wanted. log may be NULL. Control
// characters and what is not UTF-8 become "?": messages quote names out of files.
void hymn_log_write(const struct hymn_log *log, enum hymn_log_level level, const char *format, ...) HYMN_PRINTF(3, 4);

// Logs an error and returns `status`: `return hymn_fail(log, HYMN_STATUS_IO, "%s: %s", path, strerror(errno));`
enum hymn_status hymn_fail(const struct hymn_log *log, enum hymn_status status, const char *format, ...)
    HYMN_PRINTF(3, 4);

// A log that hands everything to `log`, which must outlive it, errors as mere information: for attempts that may fail.
struct hymn_log hymn_log_soften(const struct hymn_log *log);

// Copies `text` to `out` (which may be the same) and, where it has `capacity` bytes or more, ends it in "..." without
// splitting a character: for names of any length in messages. capacity: at least 8. Returns `out`.
char *hymn_text_cut(const char *text, char *out, size_t capacity);

// Control characters and what is not UTF-8 become "?", in place: what names and values out of files may have in them
// and could move a terminal's cursor must not reach it.
void hymn_text_make_printable(char *text);

#endif
