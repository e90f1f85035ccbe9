// SPDX-License-Identifier: MIT
#ifndef _WIN32

#if !defined(_XOPEN_SOURCE)
#define _XOPEN_SOURCE 700 // realpath, and strerror_r that returns an int
#endif
#ifdef __APPLE__
#define _DARWIN_C_SOURCE // flock
#endif
#define _FILE_OFFSET_BITS 64

#include "base/alloc.h"
#include "base/file_system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool hymn_system_error_is_missing_folder(hymn_system_error error) {
    return error == ENOENT;
}

bool hymn_system_error_is_existing_file(hymn_system_error error) {
    return error == EEXIST;
}

bool hymn_system_error_is_locked(hymn_system_error error) {
    return error == EWOULDBLOCK || error == EINTR;
}

char *hymn_system_resolve(const char *path) {
    struct stat info;
    char *target = lstat(path, &info) == 0 && S_ISLNK(info.st_mode) ? realpath(path, NULL) : NULL;
    char *copy = hymn_strdup(target ? target : path);
    free(target);
    return copy;
}

void hymn_system_describe(hymn_system_error error, char *out_message, size_t capacity) {
    if (strerror_r(error, out_message, capacity) != 0) {
        snprintf(out_message, capacity, "system error %d", error);
    }
}

static hymn_system_error open_file(const char *path, int flags, hymn_system_file *out_file) {
    do {
        *out_file = open(path, flags | O_CLOEXEC, 0666);
    } while (*out_file < 0 && errno == EINTR);
    return *out_file < 0 ? errno : 0;
}

hymn_system_error hymn_system_create_new(const char *path, hymn_system_file *out_file) {
    return open_file(path, O_WRONLY | O_CREAT | O_EXCL, out_file);
}

hymn_system_error hymn_system_open_special(const char *path, hymn_system_file *out_file) {
    return open_file(path, O_WRONLY, out_file);
}

hymn_system_error hymn_system_open_lock(const char *path, hymn_system_file *out_file) {
    return open_file(path, O_RDWR | O_CREAT, out_file); // NFS wants a file that can be written to
}

// flock, not fcntl: closing another descriptor of the file does not unlock it, and two threads exclude each other.
hymn_system_error hymn_system_try_lock(hymn_system_file file) {
    return flock(file, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

void hymn_system_unlock(hymn_system_file file) {
    flock(file, LOCK_UN); // a child of fork may have the file open still
}

void hymn_system_sleep(uint32_t milliseconds) {
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

hymn_system_error hymn_system_write_all(hymn_system_file file, const uint8_t *data, size_t size) {
    while (size > 0) {
        size_t part = size > ((size_t)1 << 30) ? (size_t)1 << 30 : size;
        ssize_t written = write(file, data, part);
        if (written < 0 && errno != EINTR) {
            return errno;
        }
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

hymn_system_error hymn_system_flush(hymn_system_file file) {
    // EINVAL, ENOTSUP: a file system that has nothing to flush
    return fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

hymn_system_error hymn_system_close_file(hymn_system_file file) {
    return close(file) == 0 || errno == EINTR ? 0 : errno;
}

hymn_system_error hymn_system_replace(const char *from, const char *to) {
    return rename(from, to) == 0 ? 0 : errno;
}

hymn_system_error hymn_system_make_folder(const char *path) {
    if (mkdir(path, 0777) == 0) {
        return 0;
    }
    hymn_system_error error = errno;
    struct stat info;
    if (stat(path, &info) == 0) {
        return S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    }
    return error;
}

void hymn_system_remove_file(const char *path) {
    unlink(path);
}

bool hymn_system_is_special(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

unsigned long hymn_system_process_id(void) {
    return (unsigned long)getpid();
}

static enum hymn_status map_descriptor(int file, const char *path, const struct hymn_log *log,
                                       struct hymn_file_map *out_map) {
    struct stat info;
    if (fstat(file, &info) != 0) {
        return hymn_system_fail(log, path, "read", errno);
    }
    if (!S_ISREG(info.st_mode)) {
        return hymn_fail(log, HYMN_STATUS_IO, "%s: is %s, not a file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device or a pipe");
    }
    if (info.st_size == 0) {
        return HYMN_STATUS_OK;
    }
    if ((uint64_t)info.st_size > SIZE_MAX) {
        return hymn_fail(log, HYMN_STATUS_IO, "%s: too large to be mapped into memory", path);
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
        return hymn_system_fail(log, path, "map", errno);
    }
    *out_map = (struct hymn_file_map){.data = data, .size = (size_t)info.st_size};
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_file_map_open(const char *path, const struct hymn_log *log, struct hymn_file_map *out_map) {
    *out_map = (struct hymn_file_map){0};
    int file;
    hymn_system_error error = open_file(path, O_RDONLY | O_NONBLOCK, &file); // a pipe without a writer must not block
    if (error) {
        return hymn_system_fail(log, path, "open", error);
    }
    enum hymn_status status = map_descriptor(file, path, log, out_map);
    close(file);
    return status;
}

void hymn_file_map_close(struct hymn_file_map *map) {
    if (map->data) {
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct hymn_file_map){0};
}

bool hymn_file_cache_dir(char *out_path, size_t capacity) {
#ifdef __APPLE__
    const char *below_home = "/Library/Caches";
#else
    const char *below_home = "/.cache";
#endif
    const char *base = getenv("XDG_CACHE_HOME"), *middle = "";
    if (!base || base[0] != '/') { // the XDG specification: a relative path is to be ignored
        base = getenv("HOME");
        middle = below_home;
    }
    if (!base || base[0] != '/') {
        return false;
    }
    int written = snprintf(out_path, capacity, "%s%s/hymn", base, middle);
    return written > 0 && (size_t)written < capacity;
}

#else
typedef int hymn_not_empty; // ISO C wants a declaration in every file
#endif
