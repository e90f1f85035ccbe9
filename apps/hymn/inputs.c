// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "inputs.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "console.h"
#include "files.h"
#include "interrupt.h"

enum { MAX_DEPTH = 64 };

struct file_identity {
    dev_t device;
    ino_t number;
};

// --------------------------------------------------------------------------------------------------------- collecting

static bool append(struct input_list *list, const char *path, const char *stem_path) {
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity > 0 ? list->capacity * 2 : 64;
        struct input *items = realloc(list->items, capacity * sizeof(*items));
        if (items == NULL) {
            return false;
        }
        list->items = items;
        list->capacity = capacity;
    }
    const int length = (int)(path_extension(stem_path) - stem_path);
    struct input input = {text_copy(path), text_format("%.*s", length, stem_path)};
    if (input.path == NULL || input.stem == NULL) {
        free(input.path);
        free(input.stem);
        return false;
    }
    list->items[list->count++] = input;
    return true;
}

static bool is_picture(const char *name) {
    return path_has_extension(name, ".png") || path_has_extension(name, ".jpg") || path_has_extension(name, ".jpeg");
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
}

// NULL at the end, with errno 0, and where the folder cannot be read any further.
static struct dirent *next_entry(DIR *folder) {
    errno = 0;
    return readdir(folder);
}

// The sorted names in a folder, hidden ones left out. False: memory is out. A folder that cannot be read, or not to its
// end, is reported.
static bool list_folder(struct input_list *list, const char *path, char ***out_names, size_t *out_count) {
    char **names = NULL;
    size_t count = 0, capacity = 0;
    DIR *folder = opendir(path);
    *out_names = NULL;
    *out_count = 0;
    if (folder == NULL) {
        console_error(path, "folder cannot be read: %s", strerror(errno));
        list->failed++;
        return true;
    }
    bool good = true;
    for (struct dirent *entry; good && (entry = next_entry(folder)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (count == capacity) {
            capacity = capacity > 0 ? capacity * 2 : 64;
            char **larger = realloc(names, capacity * sizeof(*names));
            good = larger != NULL;
            names = good ? larger : names;
        }
        good = good && (names[count] = text_copy(entry->d_name)) != NULL;
        count += good;
    }
    if (good && errno != 0) {
        console_error(path, "folder cannot be read to its end: %s", strerror(errno));
        list->failed++;
    }
    closedir(folder);
    if (!good) {
        free_names(names, count);
        return false;
    }
    if (count > 1) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    *out_names = names;
    *out_count = count;
    return true;
}

// A folder that is walked.
struct walk {
    const struct walk *above; // what it was found in; NULL: the argument
    const char *path, *below; // below: of what is in it, the path below the argument
    const char *exclude;
    struct file_identity identity;
    unsigned depth;
};

// Whether the walk is in this folder already, so that a link to it would be followed for ever.
static bool is_walked(const struct walk *walk, const struct stat *status) {
    while (walk != NULL && (walk->identity.device != status->st_dev || walk->identity.number != status->st_ino)) {
        walk = walk->above;
    }
    return walk != NULL;
}

static bool collect_folder(struct input_list *list, const struct walk *walk);

static bool collect_entry(struct input_list *list, const struct walk *walk, const char *path, const char *below) {
    struct stat status;
    if (interrupt_seen()) {
        return true;
    }
    if (stat(path, &status) != 0) {
        const int error = errno;
        if (!is_picture(path) && lstat(path, &status) != 0 && errno == ENOENT) {
            return true; // it is gone since the folder was read
        }
        console_error(path, "cannot be read: %s", strerror(error));
        list->failed++;
        return true;
    }
    if (!S_ISDIR(status.st_mode)) {
        return !S_ISREG(status.st_mode) || !is_picture(path) || append(list, path, below);
    }
    if (walk->exclude != NULL && inputs_same_file(path, walk->exclude)) {
        return true;
    }
    if (is_walked(walk, &status)) {
        console_warning(path, "leads back to a folder that it is in; left out");
        return true;
    }
    const struct walk child = {walk, path, below, walk->exclude, {status.st_dev, status.st_ino}, walk->depth + 1};
    return collect_folder(list, &child);
}

static bool collect_folder(struct input_list *list, const struct walk *walk) {
    char **names = NULL;
    size_t count = 0;
    if (walk->depth > MAX_DEPTH) {
        console_error(walk->path, "folders are nested more than %d deep", MAX_DEPTH);
        list->failed++;
        return true;
    }
    bool good = list_folder(list, walk->path, &names, &count);
    for (size_t i = 0; good && i < count; i++) {
        char *path = path_join(walk->path, names[i]);
        char *below = path_join(walk->below, names[i]);
        good = path != NULL && below != NULL && collect_entry(list, walk, path, below);
        free(path);
        free(below);
    }
    free_names(names, count);
    return good;
}

bool inputs_collect(struct input_list *list, const char *argument, const char *exclude) {
    struct stat status;
    if (strcmp(argument, "-") == 0) {
        return append(list, argument, "stdin");
    }
    if (stat(argument, &status) != 0) {
        console_error(argument, "cannot be opened: %s", strerror(errno));
        list->failed++;
        return true;
    }
    if (!S_ISDIR(status.st_mode)) {
        return append(list, argument, path_name(argument));
    }
    const size_t count = list->count, failed = list->failed;
    const struct walk walk = {NULL, argument, "", exclude, {status.st_dev, status.st_ino}, 0};
    const bool good = collect_folder(list, &walk);
    if (good && !interrupt_seen() && list->count == count && list->failed == failed) {
        console_error(argument, "there is no .png, .jpg or .jpeg file in this folder");
        list->failed++;
    }
    return good;
}

void inputs_free(struct input_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].path);
        free(list->items[i].stem);
    }
    free(list->items);
    *list = (struct input_list){0};
}

bool inputs_same_file(const char *a, const char *b) {
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// ------------------------------------------------------------------------------------------------------------- naming

// A set of strings that ignores the case of ASCII letters.
struct name_set {
    struct name_slot {
        const char *name; // borrowed, but for `own`; NULL: free
        char *own;
        bool taken;      // else it was asked for in vain: an output would overwrite an input
        unsigned number; // of the last "-2", "-3", ... that was tried in its place; 0: none
    } * slots;
    size_t capacity; // a power of two, at least twice the number of strings
};

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool equal_names(const char *a, const char *b) {
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

// The slot that holds the name, or the free one where it belongs. FNV-1a.
static struct name_slot *find_slot(const struct name_set *set, const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)lower(*c)) * UINT64_C(1099511628211);
    }
    size_t slot = (size_t)hash & (set->capacity - 1);
    while (set->slots[slot].name != NULL && !equal_names(set->slots[slot].name, name)) {
        slot = (slot + 1) & (set->capacity - 1);
    }
    return &set->slots[slot];
}

static int compare_identities(const void *a, const void *b) {
    const struct file_identity *one = a, *other = b;
    if (one->device != other->device) {
        return one->device < other->device ? -1 : 1;
    }
    return one->number == other->number ? 0 : one->number < other->number ? -1 : 1;
}

struct naming {
    struct name_set names;
    struct file_identity *inputs; // sorted
    size_t input_count;
    const char *folder;
    const char *const *suffixes;
};

// Whether writing the outputs of this stem would destroy an input. -1: memory is out.
static int hits_an_input(const struct naming *naming, const char *stem) {
    for (const char *const *suffix = naming->suffixes; *suffix != NULL; suffix++) {
        char *name = text_format("%s%s", stem, *suffix);
        char *path = name != NULL ? path_join(naming->folder, name) : NULL;
        free(name);
        if (path == NULL) {
            return -1;
        }
        struct stat status;
        const bool exists = stat(path, &status) == 0;
        free(path);
        if (exists && naming->input_count > 0) {
            const struct file_identity identity = {status.st_dev, status.st_ino};
            if (bsearch(&identity, naming->inputs, naming->input_count, sizeof(identity), compare_identities)) {
                return 1;
            }
        }
    }
    return 0;
}

// 0: the stem is taken now, and its string borrowed. 1: it is not to be had. -1: memory is out.
static int take_stem(struct naming *naming, struct name_slot *slot, const char *stem) {
    const int hit = slot->taken ? 1 : hits_an_input(naming, stem);
    if (hit == 0) {
        slot->name = slot->name != NULL ? slot->name : stem;
        slot->taken = true;
    }
    return hit;
}

static bool choose_stem(struct naming *naming, struct input *input) {
    struct name_slot *wanted = find_slot(&naming->names, input->stem);
    int hit = take_stem(naming, wanted, input->stem);
    if (hit <= 0) {
        return hit == 0;
    }
    wanted->name = wanted->name != NULL ? wanted->name : input->stem;
    wanted->number = wanted->number > 0 ? wanted->number : 1;
    char *stem = NULL;
    while (hit > 0) {
        free(stem);
        stem = text_format("%s-%u", input->stem, ++wanted->number);
        hit = stem != NULL ? take_stem(naming, find_slot(&naming->names, stem), stem) : -1;
    }
    if (hit < 0) {
        free(stem);
        return false;
    }
    if (wanted->name == input->stem) {
        wanted->own = input->stem;
    } else {
        free(input->stem);
    }
    input->stem = stem;
    return true;
}

static void free_naming(struct naming *naming) {
    for (size_t i = 0; naming->names.slots != NULL && i < naming->names.capacity; i++) {
        free(naming->names.slots[i].own);
    }
    free(naming->names.slots);
    free(naming->inputs);
}

bool inputs_name_outputs(struct input_list *list, const char *folder, const char *const *suffixes) {
    struct naming naming = {.names.capacity = 16, .folder = folder, .suffixes = suffixes};
    while (naming.names.capacity < 4 * list->count) { // a name that is asked for and one that is taken, each
        naming.names.capacity *= 2;
    }
    naming.names.slots = calloc(naming.names.capacity, sizeof(*naming.names.slots));
    naming.inputs = calloc(list->count + 1, sizeof(*naming.inputs));
    bool good = naming.names.slots != NULL && naming.inputs != NULL;
    for (size_t i = 0; good && i < list->count; i++) {
        struct stat status;
        if (stat(list->items[i].path, &status) == 0) {
            naming.inputs[naming.input_count++] = (struct file_identity){status.st_dev, status.st_ino};
        }
    }
    if (good && naming.input_count > 0) {
        qsort(naming.inputs, naming.input_count, sizeof(*naming.inputs), compare_identities);
    }
    for (size_t i = 0; good && i < list->count; i++) {
        good = choose_stem(&naming, &list->items[i]);
    }
    free_naming(&naming);
    return good;
}
