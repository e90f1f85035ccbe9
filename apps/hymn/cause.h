// SPDX-License-Identifier: MIT
//
// Why something failed, as one line for the user. Functions that can fail for a reason a user should read take a
// `struct cause *` last and fill it when they return false.
#ifndef HYMN_APP_CAUSE_H
#define HYMN_APP_CAUSE_H

#include <stdbool.h>

#if defined(__GNUC__)
#define CAUSE_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define CAUSE_PRINTF(format_index, first)
#endif

struct cause {
    char text[512];
    int error; // errno's value, or 0 where the system had no part in it
};

// Formats `cause` and returns false: `return cause_set(cause, "empty file");`. Longer text is cut.
bool cause_set(struct cause *cause, const char *format, ...) CAUSE_PRINTF(2, 3);
// The same from errno's text, with what was being done: "cannot open: No such file or directory".
bool cause_system(struct cause *cause, const char *doing);
// Whether every further write would fail in the same way: the disk is full or the quota used up.
bool cause_no_space(const struct cause *cause);

#endif
