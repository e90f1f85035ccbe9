// SPDX-License-Identifier: MIT
#ifdef _WIN32

#include "base/alloc.h"
#include "base/file_system.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_CAPACITY 256

bool hymn_system_error_is_missing_folder(hymn_system_error error) {
    return error == ERROR_PATH_NOT_FOUND;
}

bool hymn_system_error_is_existing_file(hymn_system_error error) {
    return error == ERROR_FILE_EXISTS || error == ERROR_ALREADY_EXISTS;
}

bool hymn_system_error_is_locked(hymn_system_error error) {
    return error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING;
}

char *hymn_system_resolve(const char *path) {
    return hymn_strdup(path);
}

// A UTF-8 path as UTF-16, to be freed with hymn_free; NULL: not UTF-8, or out of memory.
static wchar_t *widen(const char *path) {
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *wide = length > 0 ? hymn_alloc((size_t)length, sizeof *wide) : NULL;
    if (wide) {
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, length);
    }
    return wide;
}

void hymn_system_describe(hymn_system_error error, char *out_message, size_t capacity) {
    wchar_t wide[MESSAGE_CAPACITY];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    DWORD length = FormatMessageW(flags, NULL, error, 0, wide, MESSAGE_CAPACITY, NULL);
    while (length > 0 && (wide[length - 1] == L'\r' || wide[length - 1] == L'\n' || wide[length - 1] == L'.')) {
        length--;
    }
    int written = WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, out_message, (int)capacity - 1, NULL, NULL);
    if (length == 0 || written <= 0) {
        snprintf(out_message, capacity, "system error %lu", (unsigned long)error);
        return;
    }
    out_message[written] = '\0';
}

static hymn_system_error last_error(void) {
    DWORD error = GetLastError();
    return error ? error : ERROR_GEN_FAILURE;
}

static hymn_system_error open_file(const char *path, DWORD access, DWORD share, DWORD disposition,
                                   hymn_system_file *out_file) {
    wchar_t *wide = widen(path);
    if (!wide) {
        return ERROR_INVALID_NAME;
    }
    *out_file = CreateFileW(wide, access, share, NULL, disposition, FILE_ATTRIBUTE_NORMAL, NULL);
    hymn_system_error error = *out_file == INVALID_HANDLE_VALUE ? last_error() : 0;
    hymn_free(wide);
    return error;
}

hymn_system_error hymn_system_create_new(const char *path, hymn_system_file *out_file) {
    return open_file(path, GENERIC_WRITE, FILE_SHARE_READ, CREATE_NEW, out_file);
}

hymn_system_error hymn_system_open_special(const char *path, hymn_system_file *out_file) {
    return open_file(path, GENERIC_WRITE, FILE_SHARE_READ, OPEN_EXISTING, out_file);
}

hymn_system_error hymn_system_open_lock(const char *path, hymn_system_file *out_file) {
    return open_file(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, OPEN_ALWAYS, out_file);
}

hymn_system_error hymn_system_try_lock(hymn_system_file file) {
    OVERLAPPED start = {0};
    return LockFileEx(file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &start) ? 0 : last_error();
}

void hymn_system_unlock(hymn_system_file file) {
    OVERLAPPED start = {0};
    UnlockFileEx(file, 0, 1, 0, &start);
}

void hymn_system_sleep(uint32_t milliseconds) {
    Sleep(milliseconds);
}

hymn_system_error hymn_system_write_all(hymn_system_file file, const uint8_t *data, size_t size) {
    while (size > 0) {
        DWORD part = size > (1u << 30) ? 1u << 30 : (DWORD)size, written = 0;
        if (!WriteFile(file, data, part, &written, NULL)) {
            return last_error();
        }
        data += written;
        size -= written;
    }
    return 0;
}

hymn_system_error hymn_system_flush(hymn_system_file file) {
    return FlushFileBuffers(file) ? 0 : last_error();
}

hymn_system_error hymn_system_close_file(hymn_system_file file) {
    return CloseHandle(file) ? 0 : last_error();
}

hymn_system_error hymn_system_replace(const char *from, const char *to) {
    wchar_t *wide_from = widen(from), *wide_to = widen(to);
    hymn_system_error error = ERROR_INVALID_NAME;
    if (wide_from && wide_to) {
        error = MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) ? 0 : last_error();
    }
    hymn_free(wide_from);
    hymn_free(wide_to);
    return error;
}

static DWORD attributes_of(const wchar_t *path) {
    DWORD attributes = GetFileAttributesW(path);
    return attributes == INVALID_FILE_ATTRIBUTES ? 0 : attributes;
}

hymn_system_error hymn_system_make_folder(const char *path) {
    size_t length = strlen(path);
    if (length > 0 && path[length - 1] == ':') { // "C:"
        return 0;
    }
    wchar_t *wide = widen(path);
    if (!wide) {
        return ERROR_INVALID_NAME;
    }
    hymn_system_error error = CreateDirectoryW(wide, NULL) ? 0 : last_error();
    if (error && ((attributes_of(wide) & FILE_ATTRIBUTE_DIRECTORY) || strncmp(path, "\\\\", 2) == 0)) {
        error = 0; // it is there, or it is a server's name: what cannot be made shows when the file is
    }
    hymn_free(wide);
    return error;
}

void hymn_system_remove_file(const char *path) {
    wchar_t *wide = widen(path);
    if (wide) {
        DeleteFileW(wide);
    }
    hymn_free(wide);
}

bool hymn_system_is_special(const char *path) {
    wchar_t *wide = widen(path);
    bool special = false;
    if (wide) {
        HANDLE file = CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
        if (file != INVALID_HANDLE_VALUE) {
            special = GetFileType(file) != FILE_TYPE_DISK;
            CloseHandle(file);
        }
    }
    hymn_free(wide);
    return special;
}

unsigned long hymn_system_process_id(void) {
    return GetCurrentProcessId();
}

static enum hymn_status map_view(HANDLE file, const char *path, const struct hymn_log *log,
                                 struct hymn_file_map *out_map) {
    LARGE_INTEGER size;
    if (!GetFileSizeEx(file, &size)) {
        return hymn_system_fail(log, path, "read", last_error());
    }
    if (size.QuadPart == 0) {
        return HYMN_STATUS_OK;
    }
    if ((uint64_t)size.QuadPart > SIZE_MAX) {
        return hymn_fail(log, HYMN_STATUS_IO, "%s: too large to be mapped into memory", path);
    }
    HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping) {
        return hymn_system_fail(log, path, "map", last_error());
    }
    const void *data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    if (!data) {
        hymn_system_error error = last_error();
        CloseHandle(mapping);
        return hymn_system_fail(log, path, "map", error);
    }
    *out_map = (struct hymn_file_map){.data = data, .size = (size_t)size.QuadPart, .handle = mapping};
    return HYMN_STATUS_OK;
}

static bool is_folder(const char *path) {
    wchar_t *wide = widen(path);
    bool folder = wide && (attributes_of(wide) & FILE_ATTRIBUTE_DIRECTORY);
    hymn_free(wide);
    return folder;
}

enum hymn_status hymn_file_map_open(const char *path, const struct hymn_log *log, struct hymn_file_map *out_map) {
    *out_map = (struct hymn_file_map){0};
    if (is_folder(path)) {
        return hymn_fail(log, HYMN_STATUS_IO, "%s: is a folder, not a file", path);
    }
    HANDLE file;
    hymn_system_error error = open_file(path, GENERIC_READ, FILE_SHARE_READ, OPEN_EXISTING, &file);
    if (error) {
        return hymn_system_fail(log, path, "open", error);
    }
    enum hymn_status status = map_view(file, path, log, out_map);
    CloseHandle(file);
    return status;
}

void hymn_file_map_close(struct hymn_file_map *map) {
    if (map->data) {
        UnmapViewOfFile(map->data);
        CloseHandle(map->handle);
    }
    *map = (struct hymn_file_map){0};
}

bool hymn_file_cache_dir(char *out_path, size_t capacity) {
    wchar_t wide[MAX_PATH + 1];
    DWORD length = GetEnvironmentVariableW(L"LOCALAPPDATA", wide, MAX_PATH + 1);
    char base[4 * MAX_PATH];
    if (length == 0 || length > MAX_PATH ||
        WideCharToMultiByte(CP_UTF8, 0, wide, -1, base, sizeof base, NULL, NULL) <= 0) {
        return false;
    }
    int written = snprintf(out_path, capacity, "%s\\hymn", base);
    return written > 0 && (size_t)written < capacity;
}

#else
typedef int hymn_not_empty; // ISO C wants a declaration in every file
#endif
