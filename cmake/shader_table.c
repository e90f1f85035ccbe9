// SPDX-License-Identifier: MIT
//
// shader_table NAME LIST OUTPUT: writes a C file that holds SPIR-V modules as `const struct hymn_shader NAME[]`, sorted
// by name. LIST has a line for each: its name, what it needs (an expression), its file. Runs on the building machine.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHADERS = 4096, MAX_WORD_COUNT = 1 << 20 };

struct entry {
    char name[128];
    char needs[256];
    char path[4096];
    uint32_t word_count;
    uint64_t hash;
};

static struct entry entries[MAX_SHADERS];
static uint32_t words[MAX_WORD_COUNT];

static int compare_names(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int read_list(const char *path, uint32_t *out_count) {
    FILE *list = fopen(path, "r");
    if (!list) {
        fprintf(stderr, "shader_table: cannot open %s\n", path);
        return 1;
    }
    uint32_t count = 0;
    char line[4600];
    int failed = 0;
    while (!failed && fgets(line, sizeof line, list)) {
        struct entry *entry = &entries[count];
        failed =
            count == MAX_SHADERS || sscanf(line, "%127s %255s %4095[^\n]", entry->name, entry->needs, entry->path) != 3;
        count += !failed;
    }
    fclose(list);
    if (failed) {
        fprintf(stderr, "shader_table: %s: line %" PRIu32 " is wrong\n", path, count + 1);
    }
    *out_count = count;
    return failed;
}

// Reads the module into `words`.
static int read_module(struct entry *entry) {
    FILE *file = fopen(entry->path, "rb");
    if (!file) {
        fprintf(stderr, "shader_table: cannot open %s\n", entry->path);
        return 1;
    }
    size_t bytes = fread(words, 1, sizeof words, file);
    const int at_end = fgetc(file) == EOF;
    fclose(file);
    if (!at_end || bytes < 20 || bytes % 4 != 0 || words[0] != 0x07230203u) {
        fprintf(stderr, "shader_table: %s is no SPIR-V module of at most %zu bytes\n", entry->path, sizeof words);
        return 1;
    }
    entry->word_count = (uint32_t)(bytes / 4);
    entry->hash = UINT64_C(14695981039346656037); // FNV-1a
    for (size_t i = 0; i < bytes; ++i) {
        entry->hash = (entry->hash ^ ((const uint8_t *)words)[i]) * UINT64_C(1099511628211);
    }
    return 0;
}

static void write_module(FILE *out, const char *table, uint32_t index, const struct entry *entry) {
    fprintf(out, "// %s\nstatic const uint32_t %s_%" PRIu32 "[] = {", entry->name, table, index);
    for (uint32_t i = 0; i < entry->word_count; ++i) {
        fprintf(out, "%s0x%" PRIx32 ",", i % 16 == 0 ? "\n    " : "", words[i]);
    }
    fputs("\n};\n", out);
}

static void write_table(FILE *out, const char *table, uint32_t count) {
    fprintf(out, "\nconst struct hymn_shader %s[] = {\n", table);
    for (uint32_t i = 0; i < count; ++i) {
        fprintf(out, "    {\"%s\", %s_%" PRIu32 ", sizeof %s_%" PRIu32 ", %s, UINT64_C(0x%016" PRIx64 ")},\n",
                entries[i].name, table, i, table, i, entries[i].needs, entries[i].hash);
    }
    if (count == 0) {
        fputs("    {0},\n", out);
    }
    // hymn_shaders -> hymn_shader_count
    fprintf(out, "};\nconst uint32_t %.*s_count = %" PRIu32 ";\n", (int)strlen(table) - 1, table, count);
}

int main(int argc, char **argv) {
    uint32_t count = 0;
    if (argc != 4 || read_list(argv[2], &count)) {
        return 1;
    }
    qsort(entries, count, sizeof *entries, compare_names);
    FILE *out = fopen(argv[3], "w");
    if (!out) {
        fprintf(stderr, "shader_table: cannot write %s\n", argv[3]);
        return 1;
    }
    fputs("// Made by cmake/shader_table.c; do not edit.\n#include \"vk/shader.h\"\n\n", out);
    int failed = 0;
    for (uint32_t i = 0; i < count && !failed; ++i) {
        failed = read_module(&entries[i]);
        if (!failed) {
            write_module(out, argv[1], i, &entries[i]);
        }
    }
    write_table(out, argv[1], count);
    failed |= ferror(out);
    failed |= fclose(out) != 0;
    if (failed) {
        remove(argv[3]); // never a half-written table that looks up to date
    }
    return failed;
}
