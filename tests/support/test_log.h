// SPDX-License-Identifier: MIT
//
// A log that keeps what it is told, one line after the other, for tests of messages. Include after cmocka.h.
#ifndef HYMN_TESTS_SUPPORT_TEST_LOG_H
#define HYMN_TESTS_SUPPORT_TEST_LOG_H

#include <hymn/hymn.h>
#include <stdio.h>
#include <string.h>

struct test_log {
    char text[16384];
    size_t length, lines, errors, warnings;
};

static inline void test_log_callback(void *user, enum hymn_log_level level, const char *message) {
    struct test_log *log = user;
    log->lines++;
    log->errors += level == HYMN_LOG_ERROR;
    log->warnings += level == HYMN_LOG_WARNING;
    size_t left = sizeof log->text - log->length;
    int written = snprintf(log->text + log->length, left, "%s\n", message);
    log->length += written > 0 && (size_t)written < left ? (size_t)written : 0;
}

// Empties `log`; what to pass as a log to the library.
static inline struct hymn_log test_log_start(struct test_log *log) {
    *log = (struct test_log){.length = 0};
    return (struct hymn_log){.callback = test_log_callback, .user = log, .level = HYMN_LOG_DEBUG};
}

static inline bool test_log_has(const struct test_log *log, const char *text) {
    return strstr(log->text, text) != NULL;
}

// Fails the test, showing the log, unless it holds `wanted`.
#define assert_log(log, wanted)                                                                                        \
    do {                                                                                                               \
        if (!test_log_has(log, wanted)) {                                                                              \
            print_error("expected the log to hold: %s\nthe log:\n%s\n", wanted, (log)->text);                          \
            fail();                                                                                                    \
        }                                                                                                              \
    } while (0)

// Fails the test, showing the log, unless it holds so many warnings.
#define assert_warnings(log, wanted)                                                                                   \
    do {                                                                                                               \
        if ((log)->warnings != (size_t)(wanted)) {                                                                     \
            print_error("expected %u warnings\nthe log:\n%s\n", (unsigned)(wanted), (log)->text);                      \
            fail();                                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
