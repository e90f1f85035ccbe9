// SPDX-License-Identifier: MIT
//
// Command lines from a table: each option is a row that says how it is written, what it takes and where its value goes.
// The same rows print the help.
#ifndef HYMN_APP_OPTIONS_H
#define HYMN_APP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hymn/hymn.h>

enum { OPTIONS_LIST_MAX = 32 };

struct size {
    uint32_t height, width;
};

struct size_list {
    struct size items[OPTIONS_LIST_MAX];
    uint32_t count;
};

struct number_list {
    uint32_t items[OPTIONS_LIST_MAX];
    uint32_t count;
};

// What `target` points to, and how a value is written.
enum option_kind {
    OPTION_FLAG,      // bool: no value
    OPTION_COUNT,     // unsigned: no value, counts how often it is given
    OPTION_TEXT,      // const char *: not empty
    OPTION_REQUIRED,  // the same, and must be given
    OPTION_NUMBER,    // uint32_t within low..high
    OPTION_REAL,      // double within low..high
    OPTION_SIZE,      // struct size: "256" or "256x384" (height x width), each within low..high
    OPTION_NUMBERS,   // struct number_list: "1,2,8"
    OPTION_SIZES,     // struct size_list: "256,512x384"
    OPTION_PRECISION, // enum hymn_precision: auto, fp16, fp32
    OPTION_CHOICE,    // const char *: one of `choices`
    OPTION_MAY_CHOOSE // const char *: "--name" alone means choices[0], "--name=choice" one of them
};

struct option {
    const char *name; // long name without dashes
    char letter;      // short name, or 0
    enum option_kind kind;
    const char *value;          // what help calls the value; NULL: takes none
    const char *help;           // a newline in it starts another line
    void *target;               // holds the default on entry
    double low, high;           // legal values of numbers
    const char *const *choices; // NULL-terminated
};

struct command {
    const char *name;
    const char *summary;     // one line, for the list of commands
    const char *usage;       // what follows "hymn NAME"
    const char *description; // whole lines
    const char *examples;    // whole lines
};

enum options_result { OPTIONS_OK, OPTIONS_HELP, OPTIONS_BAD };

// Reads arguments[0..count). Those that are no options are moved to the front, in order, and *out_count says how many.
// "--" ends the options, "-" is not one. OPTIONS_HELP: --help or --version was given and has been
// printed. OPTIONS_BAD: a line
// on standard error says what is wrong.
enum options_result options_parse(const struct command *command, const struct option *options, size_t option_count,
                                  char **arguments, size_t count, size_t *out_count);

// Strict readings of a whole string: digits only, no sign, no blanks, nothing behind; false outside low..high.
bool options_read_number(const char *text, uint32_t low, uint32_t high, uint32_t *out_value);
bool options_read_real(const char *text, double low, double high, double *out_value);
bool options_read_size(const char *text, uint32_t low, uint32_t high, struct size *out_size);

// The string of `names` (NULL-terminated) that `text` was probably meant to be, or NULL.
const char *options_nearest(const char *text, const char *const *names);

#endif
