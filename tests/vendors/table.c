// SPDX-License-Identifier: MIT
//
// Judges and prints what `hymn devices --report` says of one device.
//   vendors-table built REPORT              every pipeline was made
//   vendors-table spills NAME REPORT KNOWN  no convolution, GEMM or scan spills registers, or has scratch memory, but
//                                           those of KNOWN
//   vendors-table growth REPORT TABLE       no statistic is larger than in the table by more than a tenth
//   vendors-table write NAME REPORT         prints the table
//   vendors-table row REPORT TIME           prints a row of README's table; TIME: what stands in its last column
// Exit status: 0 all is well, 1 it is not (what is wrong is printed), 2 a file cannot be read, 3 the table is of
// another driver, so that growth cannot be judged.
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 4096, COLUMNS = 5 };

enum { OTHER_DRIVER = 3 };
static const char *const columns[COLUMNS] = {"registers", "spills", "scratch_bytes", "shared_bytes", "instructions"};

// A pipeline: "SHADER CONSTANTS", as "conv2d_tiled 128,95,0", and its statistics; negative: not told.
struct row {
    char key[256];
    long values[COLUMNS];
};

struct rows {
    struct row list[MAX_ROWS];
    size_t count, made; // made: with those that nothing is told of
    char driver[512];
};

static void give_up(const char *path, const char *why) {
    fprintf(stderr, "vendors-table: %s: %s\n", path, why);
    exit(2);
}

// The document and its only device.
static json_t *read_report(const char *path, json_t **out_document) {
    json_error_t error;
    *out_document = json_load_file(path, 0, &error);
    if (*out_document == NULL) {
        give_up(path, error.text);
    }
    json_t *devices = json_object_get(*out_document, "devices");
    if (json_array_size(devices) != 1 || !json_is_array(json_object_get(json_array_get(devices, 0), "pipelines"))) {
        give_up(path, "not a report on one device");
    }
    return json_array_get(devices, 0);
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

static void read_row(const json_t *pipeline, struct row *row) {
    size_t length = (size_t)snprintf(row->key, sizeof(row->key), "%s ", text_of(pipeline, "shader"));
    const json_t *constants = json_object_get(pipeline, "constants");
    for (size_t i = 0; i < json_array_size(constants) && length < sizeof(row->key) - 16; i++) {
        length += (size_t)snprintf(row->key + length, sizeof(row->key) - length, "%s%lld", i > 0 ? "," : "",
                                   (long long)json_integer_value(json_array_get(constants, i)));
    }
    for (size_t c = 0; c < COLUMNS; c++) {
        const json_t *value = json_object_get(pipeline, columns[c]);
        row->values[c] = json_is_integer(value) ? (long)json_integer_value(value) : -1;
    }
}

static int compare_rows(const void *a, const void *b) {
    return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static bool is_told(const struct row *row) {
    bool told = false;
    for (size_t c = 0; c < COLUMNS; c++) {
        told = told || row->values[c] >= 0;
    }
    return told;
}

// The pipelines that the device itself may come to use and that it tells something of, sorted.
static void rows_of_report(const json_t *device, struct rows *rows) {
    const json_t *pipelines = json_object_get(device, "pipelines");
    snprintf(rows->driver, sizeof(rows->driver), "%s", text_of(json_object_get(device, "device"), "driver"));
    for (size_t i = 0; i < json_array_size(pipelines) && rows->count < MAX_ROWS; i++) {
        const json_t *pipeline = json_array_get(pipelines, i);
        if (json_is_true(json_object_get(pipeline, "own")) && json_is_true(json_object_get(pipeline, "built"))) {
            read_row(pipeline, &rows->list[rows->count]);
            rows->count += is_told(&rows->list[rows->count]);
            rows->made++;
        }
    }
    qsort(rows->list, rows->count, sizeof(rows->list[0]), compare_rows);
}

static void read_table(const char *path, struct rows *rows) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        give_up(path, "cannot be opened; 'tests/vendors/run --write' makes it");
    }
    char line[1024], shader[96], constants[160];
    while (fgets(line, sizeof(line), file) != NULL && rows->count < MAX_ROWS) {
        struct row *row = &rows->list[rows->count];
        long *v = row->values;
        if (sscanf(line, "# driver: %511[^\n]", rows->driver) == 1 || line[0] == '#') {
            continue;
        }
        if (sscanf(line, "%95s %159s %ld %ld %ld %ld %ld", shader, constants, &v[0], &v[1], &v[2], &v[3], &v[4]) != 7) {
            give_up(path, line);
        }
        snprintf(row->key, sizeof(row->key), "%s %s", shader, constants);
        rows->count++;
    }
    fclose(file);
    qsort(rows->list, rows->count, sizeof(rows->list[0]), compare_rows);
}

static const struct row *find_row(const struct rows *rows, const char *key) {
    struct row wanted;
    snprintf(wanted.key, sizeof(wanted.key), "%s", key);
    return bsearch(&wanted, rows->list, rows->count, sizeof(rows->list[0]), compare_rows);
}

// ---- the judgements

static int check_built(const json_t *device) {
    const json_t *pipelines = json_object_get(device, "pipelines");
    int failed = json_array_size(pipelines) == 0;
    if (json_is_false(json_object_get(device, "usable"))) {
        printf("the device cannot be used: %s\n", text_of(device, "reason"));
    }
    for (size_t i = 0; i < json_array_size(pipelines); i++) {
        const json_t *pipeline = json_array_get(pipelines, i);
        if (!json_is_true(json_object_get(pipeline, "built"))) {
            struct row row;
            read_row(pipeline, &row);
            printf("%s: %s\n", row.key, text_of(pipeline, "error"));
            failed = 1;
        }
    }
    return failed;
}

static bool must_not_spill(const char *key) {
    return strncmp(key, "conv2d", 6) == 0 || strncmp(key, "selective_scan", 14) == 0;
}

// Spills, or bytes of scratch memory, that a line "DEVICE SHADER CONSTANTS SPILLS" of the file allows; 0: there is
// none.
static long known_spills(const char *path, const char *name, const char *key) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        give_up(path, "cannot be opened");
    }
    char line[1024], device[96], shader[96], constants[160], found[256];
    long spills = 0, value;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] != '#' && sscanf(line, "%95s %95s %159s %ld", device, shader, constants, &value) == 4) {
            snprintf(found, sizeof(found), "%s %s", shader, constants);
            spills = strcmp(device, name) == 0 && strcmp(found, key) == 0 ? value : spills;
        }
    }
    fclose(file);
    return spills;
}

static int check_spills(const char *name, const struct rows *rows, const char *path) {
    int failed = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = &rows->list[i];
        // Some compilers count what they could not keep in registers as memory only, not as spills.
        const long spills = row->values[1] > row->values[2] ? row->values[1] : row->values[2];
        if (spills > 0 && must_not_spill(row->key)) {
            const long known = known_spills(path, name, row->key);
            if (spills > known) {
                printf("%s %s %ld\n", name, row->key, spills);
                failed = 1;
            }
        }
    }
    if (failed) {
        printf("These spill, or spill more than %s says.\n", path);
    }
    return failed;
}

// Whether a statistic has grown by more than a tenth.
static bool has_grown(const struct row *row, const struct row *before) {
    bool grown = false;
    for (size_t c = 0; c < COLUMNS; c++) {
        if (before->values[c] >= 0 && row->values[c] * 10 > before->values[c] * 11) {
            printf("%s: %s %ld -> %ld\n", row->key, columns[c], before->values[c], row->values[c]);
            grown = true;
        }
    }
    return grown;
}

// Against a table of another version of the driver nothing is held: what differs is told.
static int check_growth(const struct rows *rows, const struct rows *table) {
    size_t unknown = 0, grown = 0, gone = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *before = find_row(table, rows->list[i].key);
        unknown += before == NULL;
        grown += before != NULL && has_grown(&rows->list[i], before);
    }
    for (size_t i = 0; i < table->count; i++) {
        gone += find_row(rows, table->list[i].key) == NULL;
    }
    const bool same_driver = strcmp(rows->driver, table->driver) == 0;
    if (unknown + grown + gone > 0) {
        printf("%zu of %zu pipelines have grown; %zu are not in the table, %zu of the table are gone", grown,
               rows->count, unknown, gone);
        printf(same_driver ? " (tests/vendors/run --write)\n" : "\n");
    }
    if (!same_driver) {
        printf("the table is of %s, this is %s\n", table->driver, rows->driver);
        return OTHER_DRIVER;
    }
    return grown + unknown + gone > 0;
}

// ---- what is printed

static int write_table(const char *name, const json_t *device, const struct rows *rows) {
    printf("# %s: %s. Written by tests/vendors/run --write.\n", name,
           text_of(json_object_get(device, "device"), "name"));
    printf("# driver: %s\n# shader constants", rows->driver);
    for (size_t c = 0; c < COLUMNS; c++) {
        printf(" %s", columns[c]);
    }
    printf("\n");
    for (size_t i = 0; i < rows->count; i++) {
        const long *v = rows->list[i].values;
        printf("%s %ld %ld %ld %ld %ld\n", rows->list[i].key, v[0], v[1], v[2], v[3], v[4]);
    }
    return 0;
}

// The largest of a column's values, or how many pipelines spill: by this column or the one of scratch memory.
static void print_count(const struct rows *rows, size_t column, bool largest) {
    long result = -1, spilling = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const long *values = rows->list[i].values;
        const long value = largest || values[column] > values[column + 1] ? values[column] : values[column + 1];
        result = value > result ? value : result;
        spilling += value > 0;
    }
    if (result < 0) {
        printf(" |");
    } else {
        printf(" %ld |", largest ? result : spilling);
    }
}

static int print_row(const json_t *device, const struct rows *rows, const char *time) {
    const json_t *info = json_object_get(device, "device"), *features = json_object_get(device, "features");
    const json_t *matrices = json_object_get(features, "matrices");
    printf("| %s | %s | %s | %lld | %s%s | ", text_of(info, "name"), text_of(info, "driver"), text_of(device, "tier"),
           (long long)json_integer_value(json_object_get(json_object_get(device, "limits"), "subgroup_size")),
           json_is_true(json_object_get(features, "storage_16bit")) ? "storage" : "-",
           json_is_true(json_object_get(features, "float16")) ? ", arithmetic" : "");
    for (size_t i = 0; i < json_array_size(matrices); i++) {
        const json_t *shape = json_array_get(matrices, i);
        printf("%s%lldx%lldx%lld", i > 0 ? ", " : "", (long long)json_integer_value(json_array_get(shape, 0)),
               (long long)json_integer_value(json_array_get(shape, 1)),
               (long long)json_integer_value(json_array_get(shape, 2)));
    }
    printf(json_array_size(matrices) > 0 ? " | %zu |" : "- | %zu |", rows->made);
    print_count(rows, 0, true);
    print_count(rows, 1, false);
    size_t passed = 0, failed = 0, index;
    json_t *variant;
    json_array_foreach(json_object_get(device, "selftest"), index, variant) {
        passed += strcmp(text_of(variant, "verdict"), "passed") == 0;
        failed += strcmp(text_of(variant, "verdict"), "failed") == 0;
    }
    if (failed > 0) {
        printf(" %zu passed, %zu failed |", passed, failed);
    } else if (passed > 0) {
        printf(" %zu passed |", passed);
    } else {
        printf(" only compiled |");
    }
    printf(" %s |\n", time);
    return 0;
}

int main(int count, char **arguments) {
    static struct rows rows, table;
    const char *command = count > 2 ? arguments[1] : "";
    const bool named = strcmp(command, "spills") == 0 || strcmp(command, "write") == 0;
    const char *last = count > 3 + named ? arguments[3 + named] : NULL;
    if (count < 3 + named || (last == NULL && strcmp(command, "built") != 0 && strcmp(command, "write") != 0)) {
        fprintf(stderr, "vendors-table: wrong arguments: see the top of tests/vendors/table.c\n");
        return 2;
    }
    json_t *document = NULL;
    const json_t *device = read_report(arguments[2 + named], &document);
    rows_of_report(device, &rows);
    int result = 2;
    if (strcmp(command, "built") == 0) {
        result = check_built(device);
    } else if (strcmp(command, "spills") == 0) {
        result = check_spills(arguments[2], &rows, last);
    } else if (strcmp(command, "growth") == 0) {
        read_table(last, &table);
        result = check_growth(&rows, &table);
    } else if (strcmp(command, "write") == 0) {
        result = write_table(arguments[2], device, &rows);
    } else if (strcmp(command, "row") == 0) {
        result = print_row(device, &rows, last);
    }
    json_decref(document);
    return result;
}
