// SPDX-License-Identifier: MIT
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <dirent.h>
#include <stdio.h>

// Removes a folder and the files in it; not those of folders below. 0 on success.
static inline int test_folder_remove(const char *folder) {
    char path[512];
    DIR *entries = opendir(folder);
    for (struct dirent *entry = entries ? readdir(entries) : NULL; entry; entry = readdir(entries)) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.') {
            remove(path);
        }
    }
    if (entries) {
        closedir(entries);
    }
    return remove(folder);
}

#endif
