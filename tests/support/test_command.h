// SPDX-License-Identifier: MIT
//
// A command of the program `hymn`, called as it is. POSIX.
#ifndef TEST_COMMAND_H
#define TEST_COMMAND_H

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

enum { TEST_COMMAND_MOST_WORDS = 24 };

// Runs a command with its standard output in a new file at `path`, and returns its exit code; -1: the output cannot go
// there. words: what follows the command's name, to NULL.
static inline int test_command_run(int (*command)(char **, size_t), const char *const *words, const char *path) {
    char *arguments[TEST_COMMAND_MOST_WORDS];
    size_t count = 0;
    for (; words[count] != NULL && count < TEST_COMMAND_MOST_WORDS; count++) {
        arguments[count] = (char *)words[count]; // only moved, never written to
    }
    fflush(stdout);
    const int before = dup(STDOUT_FILENO), file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int code = -1;
    if (before >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) == STDOUT_FILENO) {
        code = command(arguments, count);
        fflush(stdout);
        dup2(before, STDOUT_FILENO);
    }
    close(file);
    close(before);
    return code;
}

#endif
