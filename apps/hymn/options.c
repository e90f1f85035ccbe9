// SPDX-License-Identifier: MIT
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "console.h"

enum { NAME_MAX_LENGTH = 40, OPTION_MAX = 48 };

// ------------------------------------------------------------------------------------------------------ reading values

bool options_read_number(const char *text, uint32_t low, uint32_t high, uint32_t *out_value) {
    uint64_t value = 0;
    if (*text == '\0') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > UINT32_MAX) {
            return false;
        }
    }
    if (value < low || value > high) {
        return false;
    }
    *out_value = (uint32_t)value;
    return true;
}

bool options_read_real(const char *text, double low, double high, double *out_value) {
    if (strspn(text, "0123456789.eE+-") != strlen(text) || *text == '\0') {
        return false; // strtod alone would take blanks, hexadecimal, "inf" and "nan"
    }
    char *end = NULL;
    errno = 0;
    const double value = strtod(text, &end);
    if (*end != '\0' || errno == ERANGE || !isfinite(value) || value < low || value > high) {
        return false;
    }
    *out_value = value;
    return true;
}

bool options_read_size(const char *text, uint32_t low, uint32_t high, struct size *out_size) {
    char height[16];
    const char *cross = strpbrk(text, "xX");
    if (cross == NULL) {
        if (!options_read_number(text, low, high, &out_size->height)) {
            return false;
        }
        out_size->width = out_size->height;
        return true;
    }
    const size_t length = (size_t)(cross - text);
    if (length >= sizeof(height)) {
        return false;
    }
    memcpy(height, text, length);
    height[length] = '\0';
    struct size size;
    if (!options_read_number(height, low, high, &size.height) ||
        !options_read_number(cross + 1, low, high, &size.width)) {
        return false;
    }
    *out_size = size;
    return true;
}

// Calls the reader of one item for each part of a comma-separated list.
static bool read_list(const struct option *option, const char *text) {
    struct number_list *numbers = option->kind == OPTION_NUMBERS ? option->target : NULL;
    struct size_list *sizes = option->kind == OPTION_SIZES ? option->target : NULL;
    const uint32_t low = (uint32_t)option->low, high = (uint32_t)option->high;
    uint32_t count = 0;
    for (;;) {
        char item[32];
        const size_t length = strcspn(text, ",");
        if (length >= sizeof(item) || count == OPTIONS_LIST_MAX) {
            return false;
        }
        memcpy(item, text, length);
        item[length] = '\0';
        if (numbers != NULL ? !options_read_number(item, low, high, &numbers->items[count])
                            : !options_read_size(item, low, high, &sizes->items[count])) {
            return false;
        }
        count++;
        if (text[length] == '\0') {
            break;
        }
        text += length + 1;
    }
    *(numbers != NULL ? &numbers->count : &sizes->count) = count;
    return true;
}

static bool read_precision(const char *text, enum hymn_precision *out_precision) {
    static const struct {
        const char *name;
        enum hymn_precision precision;
    } names[] = {{"auto", HYMN_PRECISION_AUTO}, {"fp16", HYMN_PRECISION_FP16}, {"fp32", HYMN_PRECISION_FP32}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            *out_precision = names[i].precision;
            return true;
        }
    }
    return false;
}

static bool read_choice(const struct option *option, const char *text) {
    for (const char *const *choice = option->choices; *choice != NULL; choice++) {
        if (strcmp(text, *choice) == 0) {
            *(const char **)option->target = *choice;
            return true;
        }
    }
    return false;
}

static bool read_value(const struct option *option, const char *text) {
    switch (option->kind) {
    case OPTION_TEXT:
    case OPTION_REQUIRED:
        *(const char **)option->target = text;
        return *text != '\0';
    case OPTION_NUMBER:
        return options_read_number(text, (uint32_t)option->low, (uint32_t)option->high, option->target);
    case OPTION_REAL:
        return options_read_real(text, option->low, option->high, option->target);
    case OPTION_SIZE:
        return options_read_size(text, (uint32_t)option->low, (uint32_t)option->high, option->target);
    case OPTION_NUMBERS:
    case OPTION_SIZES:
        return read_list(option, text);
    case OPTION_PRECISION:
        return read_precision(text, option->target);
    case OPTION_CHOICE:
    case OPTION_MAY_CHOOSE:
        return read_choice(option, text);
    case OPTION_FLAG:
    case OPTION_COUNT:
        break;
    }
    return false;
}

// "a number from 1 to 64": what a bad value should have been.
static void describe_expected(const struct option *option, char *out_text, size_t capacity) {
    size_t used = 0;
    switch (option->kind) {
    case OPTION_NUMBER:
        snprintf(out_text, capacity, "a whole number from %.0f to %.0f", option->low, option->high);
        break;
    case OPTION_REAL:
        snprintf(out_text, capacity, "a number from %g to %g", option->low, option->high);
        break;
    case OPTION_SIZE:
        snprintf(out_text, capacity, "N or HEIGHTxWIDTH, each from %.0f to %.0f", option->low, option->high);
        break;
    case OPTION_NUMBERS:
        snprintf(out_text, capacity, "up to %d whole numbers from %.0f to %.0f with commas between", OPTIONS_LIST_MAX,
                 option->low, option->high);
        break;
    case OPTION_SIZES:
        snprintf(out_text, capacity, "up to %d sizes (N or HEIGHTxWIDTH, each from %.0f to %.0f) with commas between",
                 OPTIONS_LIST_MAX, option->low, option->high);
        break;
    case OPTION_PRECISION:
        snprintf(out_text, capacity, "auto, fp16 or fp32");
        break;
    case OPTION_CHOICE:
    case OPTION_MAY_CHOOSE:
        for (const char *const *choice = option->choices; *choice != NULL && used < capacity; choice++) {
            used += (size_t)snprintf(out_text + used, capacity - used, "%s%s", used > 0 ? " or " : "", *choice);
        }
        break;
    default:
        snprintf(out_text, capacity, "something that is not empty");
    }
}

// ----------------------------------------------------------------------------------------------------------
// suggestions

static size_t smallest(size_t a, size_t b, size_t c) {
    const size_t least = a < b ? a : b;
    return least < c ? least : c;
}

// Levenshtein's distance; text beyond NAME_MAX_LENGTH characters counts as far away.
static size_t edit_distance(const char *a, const char *b) {
    const size_t rows = strlen(a), columns = strlen(b);
    size_t line[NAME_MAX_LENGTH + 1];
    if (rows > NAME_MAX_LENGTH || columns > NAME_MAX_LENGTH) {
        return NAME_MAX_LENGTH;
    }
    for (size_t j = 0; j <= columns; j++) {
        line[j] = j;
    }
    for (size_t i = 1; i <= rows; i++) {
        size_t diagonal = line[0];
        line[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            const size_t above = line[j];
            line[j] = smallest(line[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return line[columns];
}

const char *options_nearest(const char *text, const char *const *names) {
    const char *best = NULL;
    size_t least = strlen(text) / 3 + 2; // a third of the letters and one may be wrong
    for (; *names != NULL; names++) {
        const size_t length = strlen(text);
        const size_t distance = length >= 2 && strncmp(text, *names, length) == 0 ? 1 : edit_distance(text, *names);
        if (distance < least) {
            least = distance;
            best = *names;
        }
    }
    return best;
}

// --------------------------------------------------------------------------------------------------------------- help

static int option_column(const struct option *option, char *out_text, size_t capacity) {
    char letter[4] = "  ";
    if (option->letter != 0) {
        snprintf(letter, sizeof(letter), "-%c", option->letter);
    }
    const bool optional = option->kind == OPTION_MAY_CHOOSE;
    return snprintf(out_text, capacity, "  %s%s --%s%s%s%s", letter, option->letter != 0 ? "," : " ", option->name,
                    option->value == NULL ? "" : (optional ? "[=" : " "), option->value == NULL ? "" : option->value,
                    optional ? "]" : "");
}

static void print_option(const struct option *option) {
    enum { HELP_COLUMN = 32 };
    char left[96];
    const int length = option_column(option, left, sizeof(left));
    printf("%s", left);
    int column = length;
    if (length >= HELP_COLUMN) {
        printf("\n");
        column = 0;
    }
    for (const char *line = option->help; line != NULL;) {
        const char *end = strchr(line, '\n');
        const int shown = end != NULL ? (int)(end - line) : (int)strlen(line);
        printf("%*s%.*s\n", HELP_COLUMN - column, "", shown, line);
        column = 0;
        line = end != NULL ? end + 1 : NULL;
    }
}

static void print_help(const struct command *command, const struct option *options, size_t option_count) {
    printf("Usage: hymn %s %s\n\n%s\nOptions:\n", command->name, command->usage, command->description);
    for (size_t i = 0; i < option_count; i++) {
        print_option(&options[i]);
    }
    printf("  -h, --help                    this text\n"
           "      --version                 the version\n\nExamples:\n%s",
           command->examples);
}

// ------------------------------------------------------------------------------------------------------------ parsing

struct parser {
    const struct command *command;
    const struct option *options;
    size_t option_count;
    char **arguments;
    size_t count, next;
};

static enum options_result complain_unknown(const struct parser *parser, const char *written, const char *name) {
    const char *names[OPTION_MAX + 3] = {"help", "version"};
    for (size_t i = 0; i < parser->option_count && i < OPTION_MAX; i++) {
        names[i + 2] = parser->options[i].name;
    }
    const char *nearest = name != NULL ? options_nearest(name, names) : NULL;
    if (nearest != NULL) {
        console_error(NULL, "%s: unknown option %s (did you mean --%s?)", parser->command->name, written, nearest);
    } else {
        console_error(NULL, "%s: unknown option %s (see 'hymn %s --help')", parser->command->name, written,
                      parser->command->name);
    }
    return OPTIONS_BAD;
}

// `value` is what was attached with "=" or behind a letter, or NULL: then the next argument, where one is needed.
static enum options_result apply(struct parser *parser, const struct option *option, const char *value) {
    const bool bare = option->kind == OPTION_FLAG || option->kind == OPTION_COUNT;
    if (bare && value != NULL) {
        console_error(NULL, "%s: option --%s takes no value", parser->command->name, option->name);
        return OPTIONS_BAD;
    }
    if (option->kind == OPTION_FLAG) {
        *(bool *)option->target = true;
        return OPTIONS_OK;
    }
    if (option->kind == OPTION_COUNT) {
        ++*(unsigned *)option->target;
        return OPTIONS_OK;
    }
    if (value == NULL && option->kind == OPTION_MAY_CHOOSE) {
        value = option->choices[0];
    } else if (value == NULL && parser->next < parser->count) {
        value = parser->arguments[parser->next++];
    } else if (value == NULL) {
        console_error(NULL, "%s: option --%s needs a value (%s)", parser->command->name, option->name, option->value);
        return OPTIONS_BAD;
    }
    if (!read_value(option, value)) {
        char expected[160];
        describe_expected(option, expected, sizeof(expected));
        console_error(NULL, "%s: --%s '%s': expected %s", parser->command->name, option->name, value, expected);
        return OPTIONS_BAD;
    }
    return OPTIONS_OK;
}

static enum options_result parse_long(struct parser *parser, const char *argument) {
    const char *name = argument + 2;
    const char *equals = strchr(name, '=');
    const size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    if (strcmp(name, "help") == 0) {
        print_help(parser->command, parser->options, parser->option_count);
        return OPTIONS_HELP;
    }
    if (strcmp(name, "version") == 0) {
        printf("hymn %s\n", hymn_version_string());
        return OPTIONS_HELP;
    }
    for (size_t i = 0; i < parser->option_count; i++) {
        const struct option *option = &parser->options[i];
        if (strlen(option->name) == length && strncmp(option->name, name, length) == 0) {
            return apply(parser, option, equals != NULL ? equals + 1 : NULL);
        }
    }
    char plain[NAME_MAX_LENGTH + 1];
    snprintf(plain, sizeof(plain), "%.*s", (int)(length < NAME_MAX_LENGTH ? length : NAME_MAX_LENGTH), name);
    return complain_unknown(parser, argument, plain);
}

static enum options_result parse_letters(struct parser *parser, const char *argument) {
    for (const char *letter = argument + 1; *letter != '\0'; letter++) {
        const struct option *found = NULL;
        if (*letter == 'h') {
            print_help(parser->command, parser->options, parser->option_count);
            return OPTIONS_HELP;
        }
        for (size_t i = 0; i < parser->option_count && found == NULL; i++) {
            found = parser->options[i].letter == *letter ? &parser->options[i] : NULL;
        }
        if (found == NULL) {
            return complain_unknown(parser, argument, NULL);
        }
        const bool bare = found->kind == OPTION_FLAG || found->kind == OPTION_COUNT;
        const enum options_result result = apply(parser, found, bare || letter[1] == '\0' ? NULL : letter + 1);
        if (result != OPTIONS_OK || !bare) {
            return result;
        }
    }
    return OPTIONS_OK;
}

static enum options_result require(const struct parser *parser) {
    for (size_t i = 0; i < parser->option_count; i++) {
        const struct option *option = &parser->options[i];
        if (option->kind == OPTION_REQUIRED && *(const char **)option->target == NULL) {
            console_error(NULL, "%s: --%s %s is missing (see 'hymn %s --help')", parser->command->name, option->name,
                          option->value, parser->command->name);
            return OPTIONS_BAD;
        }
    }
    return OPTIONS_OK;
}

enum options_result options_parse(const struct command *command, const struct option *options, size_t option_count,
                                  char **arguments, size_t count, size_t *out_count) {
    struct parser parser = {command, options, option_count, arguments, count, 0};
    size_t kept = 0;
    bool ended = false;
    *out_count = 0;
    while (parser.next < count) {
        char *argument = arguments[parser.next++];
        if (ended || argument[0] != '-' || argument[1] == '\0') {
            arguments[kept++] = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            ended = true;
            continue;
        }
        const enum options_result result =
            argument[1] == '-' ? parse_long(&parser, argument) : parse_letters(&parser, argument);
        if (result != OPTIONS_OK) {
            return result;
        }
    }
    const enum options_result result = require(&parser);
    *out_count = result == OPTIONS_OK ? kept : 0;
    return result;
}
