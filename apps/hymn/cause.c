// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "cause.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool cause_set(struct cause *cause, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cause->text, sizeof(cause->text), format, arguments);
    va_end(arguments);
    cause->error = 0;
    return false;
}

bool cause_system(struct cause *cause, const char *doing) {
    const int error = errno;
    cause_set(cause, "%s: %s", doing, strerror(error));
    cause->error = error;
    return false;
}

bool cause_no_space(const struct cause *cause) {
    return cause->error == ENOSPC || cause->error == EDQUOT;
}
