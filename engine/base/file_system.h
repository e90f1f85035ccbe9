// SPDX-License-Identifier: MIT
//
// What file.c needs from the platform: file_posix.c and file_win32.c. Paths are UTF-8 (POSIX: bytes). Functions that
// return an error return 0 for success.
#ifndef HYMN_BASE_FILE_SYSTEM_H
#define HYMN_BASE_FILE_SYSTEM_H

#include "base/file.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef HANDLE hymn_system_file;
typedef DWORD hymn_system_error; // GetLastError
#define HYMN_SYSTEM_SEPARATORS "/\\"
#else
typedef int hymn_system_file;
typedef int hymn_system_error; // errno
#define HYMN_SYSTEM_SEPARATORS "/"
#endif

void hymn_system_describe(hymn_system_error error, char *out_message, size_t capacity);
bool hymn_system_error_is_missing_folder(hymn_system_error error);
bool hymn_system_error_is_existing_file(hymn_system_error error);
bool hymn_system_error_is_locked(hymn_system_error error); // by somebody else, of hymn_system_try_lock

hymn_system_error hymn_system_create_new(const char *path, hymn_system_file *out_file); // fails where the file exists
hymn_system_error hymn_system_open_special(const char *path, hymn_system_file *out_file);
hymn_system_error hymn_system_open_lock(const char *path, hymn_system_file *out_file); // made where there is none
hymn_system_error hymn_system_try_lock(hymn_system_file file);                         // does not wait
void hymn_system_unlock(hymn_system_file file);
void hymn_system_sleep(uint32_t milliseconds); // may be woken early
hymn_system_error hymn_system_write_all(hymn_system_file file, const uint8_t *data, size_t size);
hymn_system_error hymn_system_flush(hymn_system_file file);
hymn_system_error hymn_system_close_file(hymn_system_file file);
hymn_system_error hymn_system_replace(const char *from, const char *to);
hymn_system_error hymn_system_make_folder(const char *path); // a folder that is there is a success
void hymn_system_remove_file(const char *path);
bool hymn_system_is_special(const char *path); // exists and is neither a file nor a folder
// What `path` refers to once symbolic links are followed; to be freed with hymn_free. NULL: out of memory.
char *hymn_system_resolve(const char *path);
unsigned long hymn_system_process_id(void);

// Logs "PATH: cannot WHAT: the system's reason" and returns HYMN_STATUS_IO.
enum hymn_status hymn_system_fail(const struct hymn_log *log, const char *path, const char *what,
                                  hymn_system_error error);

#endif
