// SPDX-License-Identifier: MIT
//
// From the arguments of a command to the list of pictures, and from pictures to the names of what is made from them.
#ifndef HYMN_APP_INPUTS_H
#define HYMN_APP_INPUTS_H

#include <stdbool.h>
#include <stddef.h>

struct input {
    char *path; // "-" for standard input
    char *stem; // path below the input folder, or the name, without extension: what outputs are named after
};

struct input_list {
    struct input *items;
    size_t count, capacity;
    size_t failed; // arguments and folders that could not be read; each has been reported
};

// Appends what `argument` names: a file, whatever its extension; every .png, .jpg and .jpeg (in any case) in a folder
// and below it, in the order of their names; or "-". Links to folders are followed; what leads back to a folder that
// it is in is left out with a warning. Hidden files and folders and `exclude` (NULL or the output folder) are left out
// of folders. False only when memory is out; everything else is reported and counted in list->failed. After an
// interrupt it looks at nothing more.
bool inputs_collect(struct input_list *list, const char *argument, const char *exclude);

// Makes stems unique (ignoring case) and such that no file "FOLDER/STEM" + suffix is one of the inputs: "-2", "-3", ...
// are added where needed. `suffixes` is NULL-terminated. False when memory is out.
bool inputs_name_outputs(struct input_list *list, const char *folder, const char *const *suffixes);

void inputs_free(struct input_list *list);

// Whether two paths name the same existing file or folder.
bool inputs_same_file(const char *a, const char *b);

#endif
