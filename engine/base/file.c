// SPDX-License-Identifier: MIT
#include "base/file.h"

#include "base/alloc.h"
#include "base/file_system.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_CAPACITY 256
#define TEMPORARY_ATTEMPTS 100

enum hymn_status hymn_system_fail(const struct hymn_log *log, const char *path, const char *what,
                                  hymn_system_error error) {
    char reason[MESSAGE_CAPACITY];
    hymn_system_describe(error, reason, sizeof reason);
    return hymn_fail(log, HYMN_STATUS_IO, "%s: cannot %s: %s", path, what, reason);
}

// Length of the folder's part of `path` with its last separator.
static size_t folder_length(const char *path) {
    size_t length = strlen(path);
    while (length > 0 && !strchr(HYMN_SYSTEM_SEPARATORS, path[length - 1])) {
        length--;
    }
    return length;
}

// Makes the folders above the last component of `path`, which is changed and changed back meanwhile.
static hymn_system_error make_parents(char *path) {
    size_t length = folder_length(path);
    for (size_t i = 1; i < length; i++) {
        if (strchr(HYMN_SYSTEM_SEPARATORS, path[i]) && !strchr(HYMN_SYSTEM_SEPARATORS, path[i - 1])) {
            char separator = path[i];
            path[i] = '\0';
            hymn_system_error error = hymn_system_make_folder(path);
            path[i] = separator;
            if (error) {
                return error;
            }
        }
    }
    return 0;
}

// A new file in the folder of `path`; its name, in `temporary` ([folder_length + 64] bytes), does not grow with that of
// `path`, which may be as long as the file system allows.
static hymn_system_error create_temporary(const char *path, char *temporary, size_t capacity,
                                          hymn_system_file *out_file) {
    static atomic_uint counter;
    size_t folder = folder_length(path);
    hymn_system_error error = 0;
    bool made_parents = false;
    for (int attempt = 0; attempt < TEMPORARY_ATTEMPTS; attempt++) {
        memcpy(temporary, path, folder);
        snprintf(temporary + folder, capacity - folder, ".hymn-%lx-%x.tmp", hymn_system_process_id(),
                 atomic_fetch_add(&counter, 1));
        error = hymn_system_create_new(temporary, out_file);
        if (error && hymn_system_error_is_missing_folder(error) && !made_parents) {
            made_parents = true;
            error = make_parents(temporary);
            if (error) {
                return error;
            }
        } else if (!error || !hymn_system_error_is_existing_file(error)) {
            return error;
        }
    }
    return error;
}

static hymn_system_error write_and_close(hymn_system_file file, const void *data, size_t size, bool flushed) {
    hymn_system_error error = hymn_system_write_all(file, data, size);
    if (!error && flushed) {
        error = hymn_system_flush(file);
    }
    hymn_system_error close_error = hymn_system_close_file(file);
    return error ? error : close_error;
}

// Devices and pipes are written to, not replaced.
static enum hymn_status write_special(const char *path, const void *data, size_t size, const struct hymn_log *log) {
    hymn_system_file file;
    hymn_system_error error = hymn_system_open_special(path, &file);
    if (error) {
        return hymn_system_fail(log, path, "open", error);
    }
    error = write_and_close(file, data, size, false);
    return error ? hymn_system_fail(log, path, "write", error) : HYMN_STATUS_OK;
}

// `temporary`: [capacity] bytes to work in. *out_what is what failed.
static hymn_system_error write_replacing(const char *path, char *temporary, size_t capacity, const void *data,
                                         size_t size, const char **out_what) {
    hymn_system_file file;
    *out_what = "create";
    hymn_system_error error = create_temporary(path, temporary, capacity, &file);
    if (error) {
        return error;
    }
    *out_what = "write";
    error = write_and_close(file, data, size, true);
    if (!error) {
        *out_what = "replace";
        error = hymn_system_replace(temporary, path);
    }
    if (error) {
        hymn_system_remove_file(temporary);
    }
    return error;
}

enum hymn_status hymn_file_write_atomic(const char *path, const void *data, size_t size, const struct hymn_log *log) {
    if (hymn_system_is_special(path)) {
        return write_special(path, data, size, log);
    }
    enum hymn_status status = HYMN_STATUS_OK;
    char *target = hymn_system_resolve(path); // a link stays a link
    size_t capacity = target ? folder_length(target) + 64 : 0;
    char *temporary = target ? hymn_alloc(capacity, 1) : NULL;
    if (!temporary) {
        status = hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", path);
    } else {
        const char *what;
        hymn_system_error error = write_replacing(target, temporary, capacity, data, size, &what);
        if (error) {
            status = hymn_system_fail(log, path, what, error);
        }
    }
    hymn_free(temporary);
    hymn_free(target);
    return status;
}
