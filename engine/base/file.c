// SPDX-License-Identifier: MIT
#include "base/file.h"

#include "base/alloc.h"
#include "base/file_system.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_CAPACITY 256
#define TEMPORARY_ATTEMPTS 100
#define LOCK_POLL_MILLISECONDS 5

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

static hymn_system_error open_lock(const char *path, hymn_system_file *out_file) {
    hymn_system_error error = hymn_system_open_lock(path, out_file);
    char *copy = error && hymn_system_error_is_missing_folder(error) ? hymn_strdup(path) : NULL;
    if (copy) {
        error = make_parents(copy);
        error = error ? error : hymn_system_open_lock(path, out_file);
        hymn_free(copy);
    }
    return error;
}

// Until `seconds` from now.
static hymn_system_error wait_for_lock(hymn_system_file file, const char *path, double seconds,
                                       const struct hymn_log *log) {
    double start = hymn_time_now(), waited = 0.0;
    bool told = false;
    hymn_system_error error = hymn_system_try_lock(file);
    while (error && hymn_system_error_is_locked(error) && waited < seconds) {
        hymn_system_sleep(LOCK_POLL_MILLISECONDS);
        error = hymn_system_try_lock(file);
        waited = hymn_time_now() - start;
        if (error && waited >= 1.0 && !told) {
            told = true;
            hymn_log_write(log, HYMN_LOG_INFO, "%s: waiting for another process or thread", path);
        }
    }
    return error;
}

bool hymn_file_lock(const char *path, double seconds, const struct hymn_log *log, struct hymn_file_lock *out_lock) {
    hymn_system_file file;
    *out_lock = (struct hymn_file_lock){0};
    hymn_system_error error = open_lock(path, &file);
    if (!error) {
        error = wait_for_lock(file, path, seconds, log);
        if (!error) {
            *out_lock = (struct hymn_file_lock){(intptr_t)file, true};
            return true;
        }
        hymn_system_close_file(file);
    }
    if (hymn_system_error_is_locked(error)) {
        hymn_log_write(log, HYMN_LOG_WARNING, "%s: locked by another process or thread for %.3g s; going on without",
                       path, seconds);
    } else {
        char reason[MESSAGE_CAPACITY];
        hymn_system_describe(error, reason, sizeof reason);
        hymn_log_write(log, HYMN_LOG_DEBUG, "%s: cannot be locked: %s; going on without", path, reason);
    }
    return false;
}

void hymn_file_unlock(struct hymn_file_lock *lock) {
    if (lock->held) {
        hymn_system_file file = (hymn_system_file)lock->file;
        hymn_system_unlock(file);
        hymn_system_close_file(file);
    }
    *lock = (struct hymn_file_lock){0};
}
