// SPDX-License-Identifier: MIT
//
// What the command says: errors and the progress bar on standard error, results on standard output. Every function may
// be called from any thread once console_init has returned.
#ifndef HYMN_APP_CONSOLE_H
#define HYMN_APP_CONSOLE_H

#include <hymn/hymn.h>

#include "cause.h"

// Exit statuses of the command, as the manual page lists them.
enum exit_code {
    CODE_OK = 0,
    CODE_INPUT = 1,  // an input could not be read or an output could not be written
    CODE_USAGE = 2,  // the command line is wrong
    CODE_ENGINE = 3, // the model cannot be used, or there is no device that could run it
    CODE_INTERRUPTED = 130
};

// verbosity 0: errors and warnings; 1: information too; 2: everything. With `validation` every error that the library
// reports is shown at once, because the validation layers report outside of failing calls.
void console_init(unsigned verbosity, bool validation);
// One line "hymn: FILE: cause" on standard error; file may be NULL. Control characters in it and what is not UTF-8
// become "?": names and causes come from files.
void console_error(const char *file, const char *format, ...) CAUSE_PRINTF(2, 3);
void console_warning(const char *file, const char *format, ...) CAUSE_PRINTF(2, 3);

// Where the library's messages go. Warnings and below are shown as they come; errors are kept for console_status.
struct hymn_log console_log(void);
// Reports a failed library call: what the library said since the last report, or else the status in words.
void console_status(const char *file, enum hymn_status status);
// The first line of what the library said since the last report, as far as it fits; "" where it said nothing.
void console_peek(char *out_text, size_t capacity);
// Drops what the library said since the last report: the call is tried in another way.
void console_forget(void);

// Writes text and a newline to standard output, whole. False when that fails (the reader is gone, the disk is full);
// the error has been reported then, once.
bool console_line(const char *text);
// One line on standard output for people, with "?" as above. Its newline is added.
void console_print(const char *format, ...) CAUSE_PRINTF(1, 2);

// Flushes standard output at the program's end; false, after a report, if anything could not be written there.
bool console_finish(void);

// A bar on standard error with count, rate and time left; nothing at all where that is no terminal.
void console_progress_begin(size_t total);
void console_progress_step(bool failed);
void console_progress_end(void);

#endif
