// SPDX-License-Identifier: MIT
#ifndef HYMN_BASE_FILE_H
#define HYMN_BASE_FILE_H

#include "base/log.h"

// A whole file mapped read-only. data is NULL for an empty file.
struct hymn_file_map {
    const uint8_t *data;
    size_t size;
    void *handle; // platform state
};

// IO with the path and the system's reason in the log; a folder is an error.
enum hymn_status hymn_file_map_open(const char *path, const struct hymn_log *log, struct hymn_file_map *out_map);
void hymn_file_map_close(struct hymn_file_map *map);

// Writes to a temporary file beside `path`, flushes and renames, so that a reader sees the old or the new, whole.
// Missing parent folders are made; a symbolic link stays and its target is replaced; a device or a pipe is written to.
// IO, OUT_OF_MEMORY.
enum hymn_status hymn_file_write_atomic(const char *path, const void *data, size_t size, const struct hymn_log *log);

// A file that is locked.
struct hymn_file_lock {
    intptr_t file; // platform state
    bool held;
};

// Locks a file, which is made empty where there is none, the folders above it too, and stays: against all others that
// lock it, in other processes, other threads and this one. Waits for them, `seconds` at most. A process that ends,
// however it does, leaves nothing locked. False, with nothing to unlock: still held by somebody else by then, a
// warning; or it cannot be locked (no right to write there, a file system without locks), for debugging only.
bool hymn_file_lock(const char *path, double seconds, const struct hymn_log *log, struct hymn_file_lock *out_lock);
void hymn_file_unlock(struct hymn_file_lock *lock); // nothing where it is not held

// The user's cache folder for hymn without a trailing slash (XDG_CACHE_HOME, ~/.cache, ~/Library/Caches,
// %LOCALAPPDATA%) in `out_path`; false when there is none or it does not fit.
bool hymn_file_cache_dir(char *out_path, size_t capacity);

#endif
