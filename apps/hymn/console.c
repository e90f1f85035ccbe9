// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "console.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"

// LINE_BYTES: a file's name and the longest message.
enum { BAR_WIDTH = 30, KEPT_BYTES = 8192, NAME_BYTES = 4352, LINE_BYTES = 8192 };

static struct {
    hymn_mutex lock;
    enum hymn_log_level level;
    bool validation;
    bool output_failed;
    char kept[KEPT_BYTES]; // the library's error lines since the last report, each ended by a newline
    size_t kept_length;

    bool bar;
    size_t total, done, failed;
    double started, drawn;
} console = {.lock = HYMN_MUTEX_INITIALIZER, .level = HYMN_LOG_WARNING};

void console_init(unsigned verbosity, bool validation) {
    console.level = verbosity == 0 ? HYMN_LOG_WARNING : verbosity == 1 ? HYMN_LOG_INFO : HYMN_LOG_DEBUG;
    console.validation = validation;
}

// The functions below that end in _locked expect console.lock to be held.

static void bar_clear_locked(void) {
    if (console.bar) {
        fputs("\r\033[K", stderr);
    }
}

static void bar_draw_locked(void) {
    if (!console.bar) {
        return;
    }
    const double elapsed = hymn_time_now() - console.started;
    const double rate = elapsed > 0 ? (double)console.done / elapsed : 0;
    const size_t filled = console.total > 0 ? console.done * BAR_WIDTH / console.total : 0;
    char bar[BAR_WIDTH + 1];
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r\033[K[%s] %zu/%zu", bar, console.done, console.total);
    if (console.failed > 0) {
        fprintf(stderr, " (%zu failed)", console.failed);
    }
    if (rate > 0) {
        const double left = (double)(console.total - console.done) / rate;
        const unsigned seconds = left < 359999 ? (unsigned)(left + 0.5) : 359999;
        fprintf(stderr, "  %.1f/s  ETA %u:%02u:%02u", rate, seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    fflush(stderr);
    console.drawn = hymn_time_now();
}

static void say_locked(const char *kind, const char *file, const char *text) {
    char name[NAME_BYTES], line[LINE_BYTES];
    hymn_text_cut(file != NULL ? file : "", name, sizeof(name));
    snprintf(line, sizeof(line), "hymn: %s%s%s%s", kind, name, file != NULL ? ": " : "", text);
    hymn_text_make_printable(line);
    bar_clear_locked();
    fprintf(stderr, "%s\n", line);
    bar_draw_locked();
}

void console_error(const char *file, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    hymn_mutex_lock(&console.lock);
    say_locked("", file, text);
    hymn_mutex_unlock(&console.lock);
}

void console_warning(const char *file, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    hymn_mutex_lock(&console.lock);
    say_locked("warning: ", file, text);
    hymn_mutex_unlock(&console.lock);
}

static void keep_locked(const char *message) {
    const size_t length = strlen(message);
    if (length + 1 <= sizeof(console.kept) - console.kept_length) {
        memcpy(console.kept + console.kept_length, message, length);
        console.kept[console.kept_length + length] = '\n';
        console.kept_length += length + 1;
    }
}

static void on_message(void *user, enum hymn_log_level level, const char *message) {
    (void)user;
    hymn_mutex_lock(&console.lock);
    if (level == HYMN_LOG_ERROR && !console.validation) {
        keep_locked(message);
    } else if (level == HYMN_LOG_ERROR) {
        say_locked("", NULL, message);
    } else if (level == HYMN_LOG_WARNING) {
        say_locked("warning: ", NULL, message);
    } else {
        say_locked("", NULL, message);
    }
    hymn_mutex_unlock(&console.lock);
}

struct hymn_log console_log(void) {
    return (struct hymn_log){.callback = on_message, .level = console.level};
}

// A message that already begins with the file's name is not given it a second time.
static const char *without_prefix(const char *line, const char *file) {
    const size_t length = file != NULL ? strlen(file) : 0;
    if (length > 0 && strncmp(line, file, length) == 0 && line[length] == ':' && line[length + 1] == ' ') {
        return line + length + 2;
    }
    return line;
}

void console_status(const char *file, enum hymn_status status) {
    hymn_mutex_lock(&console.lock);
    if (console.kept_length == 0) {
        say_locked("", file, hymn_status_string(status));
    }
    for (size_t start = 0; start < console.kept_length;) {
        char *line = console.kept + start;
        char *end = memchr(line, '\n', console.kept_length - start);
        *end = '\0';
        say_locked("", file, without_prefix(line, file));
        start = (size_t)(end - console.kept) + 1;
    }
    console.kept_length = 0;
    hymn_mutex_unlock(&console.lock);
}

void console_peek(char *out_text, size_t capacity) {
    hymn_mutex_lock(&console.lock);
    const char *end = memchr(console.kept, '\n', console.kept_length);
    const size_t length = end != NULL ? (size_t)(end - console.kept) : 0;
    snprintf(out_text, capacity, "%.*s", (int)length, console.kept);
    hymn_mutex_unlock(&console.lock);
}

void console_forget(void) {
    hymn_mutex_lock(&console.lock);
    console.kept_length = 0;
    hymn_mutex_unlock(&console.lock);
}

static void output_failed_locked(void) {
    if (!console.output_failed) {
        console.output_failed = true;
        say_locked("", "standard output", errno != 0 ? strerror(errno) : "cannot be written");
    }
}

bool console_finish(void) {
    hymn_mutex_lock(&console.lock);
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        output_failed_locked();
    }
    const bool good = !console.output_failed;
    hymn_mutex_unlock(&console.lock);
    return good;
}

bool console_line(const char *text) {
    hymn_mutex_lock(&console.lock);
    bar_clear_locked();
    errno = 0;
    const bool written = fputs(text, stdout) >= 0 && fputc('\n', stdout) != EOF && fflush(stdout) == 0;
    if (!written) {
        output_failed_locked();
    }
    bar_draw_locked();
    hymn_mutex_unlock(&console.lock);
    return written;
}

void console_print(const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    hymn_text_make_printable(line);
    (void)console_line(line);
}

void console_progress_begin(size_t total) {
    hymn_mutex_lock(&console.lock);
    console.bar = isatty(STDERR_FILENO) == 1;
    console.total = total;
    console.done = console.failed = 0;
    console.started = hymn_time_now();
    bar_draw_locked();
    hymn_mutex_unlock(&console.lock);
}

void console_progress_step(bool failed) {
    hymn_mutex_lock(&console.lock);
    console.done += console.done < console.total;
    console.failed += failed;
    if (hymn_time_now() - console.drawn > 0.1 || console.done == console.total) {
        bar_draw_locked();
    }
    hymn_mutex_unlock(&console.lock);
}

void console_progress_end(void) {
    hymn_mutex_lock(&console.lock);
    bar_clear_locked();
    console.bar = false;
    fflush(stderr);
    hymn_mutex_unlock(&console.lock);
}
