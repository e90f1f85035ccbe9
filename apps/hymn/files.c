// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/thread.h"

// ------------------------------------------------------------------------------------------------------------ reading

// Reads to the end of a stream of unknown length, one block larger than before each time.
static bool read_stream(FILE *stream, size_t expected, size_t limit, uint8_t **out_data, size_t *out_size,
                        struct cause *cause) {
    size_t capacity = expected + 1, size = 0; // one more than expected, so that the end shows without growing
    uint8_t *data = malloc(capacity);
    while (data != NULL) {
        size += fread(data + size, 1, capacity - size, stream);
        if (size < capacity || size > limit) {
            break;
        }
        capacity = capacity < (size_t)64 << 20 ? capacity * 2 : capacity + capacity / 2;
        uint8_t *larger = realloc(data, capacity);
        if (larger == NULL) {
            free(data);
        }
        data = larger;
    }
    if (data == NULL) {
        return cause_set(cause, "out of memory while reading");
    }
    if (ferror(stream) || size > limit || size == 0) {
        const int error = errno;
        free(data);
        if (ferror(stream)) {
            errno = error;
            return cause_system(cause, "cannot be read");
        }
        return size == 0 ? cause_set(cause, "empty file")
                         : cause_set(cause, "larger than the limit of %zu MiB", limit >> 20);
    }
    *out_data = data;
    *out_size = size;
    return true;
}

bool file_read(const char *path, size_t limit, uint8_t **out_data, size_t *out_size, struct cause *cause) {
    *out_data = NULL;
    *out_size = 0;
    if (strcmp(path, "-") == 0) {
        return read_stream(stdin, 1 << 16, limit, out_data, out_size, cause);
    }
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        return cause_system(cause, "cannot be opened");
    }
    struct stat status;
    bool good = fstat(fileno(stream), &status) == 0 || cause_system(cause, "cannot be read");
    if (good && S_ISDIR(status.st_mode)) {
        good = cause_set(cause, "is a folder, not a file");
    } else if (good && S_ISREG(status.st_mode) && (uintmax_t)status.st_size > limit) {
        good = cause_set(cause, "larger than the limit of %zu MiB", limit >> 20);
    } else if (good) {
        const size_t expected = S_ISREG(status.st_mode) ? (size_t)status.st_size : (size_t)1 << 16;
        good = read_stream(stream, expected, limit, out_data, out_size, cause);
    }
    fclose(stream);
    return good;
}

// ------------------------------------------------------------------------------------------------------------ writing

// A name beside `path` that no other thread or process uses.
static char *temporary_name(const char *path) {
    static hymn_mutex lock = HYMN_MUTEX_INITIALIZER;
    static unsigned long counter;
    hymn_mutex_lock(&lock);
    const unsigned long number = counter++;
    hymn_mutex_unlock(&lock);
    return text_format("%.*s.hymn-%ld-%lu.part", (int)(path_name(path) - path), path, (long)getpid(), number);
}

static bool writes_in_place(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

bool output_open(struct output *output, const char *path, struct cause *cause) {
    *output = (struct output){.path = text_copy(path)};
    const bool in_place = writes_in_place(path);
    if (output->path == NULL || (!in_place && (output->temporary = temporary_name(path)) == NULL)) {
        output_discard(output);
        return cause_set(cause, "out of memory");
    }
    if (folder_exists(path)) {
        output_discard(output);
        return cause_set(cause, "cannot be written: is a folder");
    }
    const int flags = in_place ? O_WRONLY | O_CLOEXEC : O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    const int descriptor = open(in_place ? path : output->temporary, flags, 0666);
    output->stream = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (output->stream == NULL) {
        cause_system(cause, "cannot be written");
        if (descriptor >= 0) {
            close(descriptor);
        } else {
            free(output->temporary); // it was not made, so it is not ours to remove
            output->temporary = NULL;
        }
        output_discard(output);
        return false;
    }
    return true;
}

bool output_write(struct output *output, const void *data, size_t size, struct cause *cause) {
    errno = 0;
    return fwrite(data, 1, size, output->stream) == size || cause_system(cause, "cannot be written");
}

bool output_commit(struct output *output, struct cause *cause) {
    errno = 0;
    bool good = fflush(output->stream) == 0 || cause_system(cause, "cannot be written");
    const bool closed = fclose(output->stream) == 0;
    output->stream = NULL;
    if (good && !closed) {
        good = cause_system(cause, "cannot be written");
    }
    if (good && output->temporary != NULL && rename(output->temporary, output->path) != 0) {
        good = cause_system(cause, "cannot be written");
    }
    if (good) {
        free(output->temporary);
        output->temporary = NULL;
    }
    output_discard(output);
    return good;
}

void output_discard(struct output *output) {
    if (output->stream != NULL) {
        fclose(output->stream);
    }
    if (output->temporary != NULL) {
        remove(output->temporary);
    }
    free(output->temporary);
    free(output->path);
    *output = (struct output){0};
}

bool file_write(const char *path, const void *data, size_t size, struct cause *cause) {
    struct output output;
    if (!output_open(&output, path, cause)) {
        return false;
    }
    if (!output_write(&output, data, size, cause)) {
        output_discard(&output);
        return false;
    }
    return output_commit(&output, cause);
}

// ------------------------------------------------------------------------------------------------------------ folders

bool folder_exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool folder_make(const char *path, struct cause *cause) {
    char *part = text_copy(path);
    if (part == NULL) {
        return cause_set(cause, "out of memory");
    }
    bool good = true;
    for (char *slash = part; good && slash != NULL;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(part, 0777) != 0 && !folder_exists(part)) {
            errno = errno == EEXIST ? ENOTDIR : errno;
            good = cause_system(cause, "folder cannot be made");
        }
        if (slash != NULL) {
            *slash = '/';
        }
    }
    free(part);
    return good;
}

void folder_remove(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char *child =
            strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ? NULL : path_join(path, entry->d_name);
        struct stat status;
        if (child != NULL && lstat(child, &status) == 0) {
            if (S_ISDIR(status.st_mode)) {
                folder_remove(child);
            } else {
                remove(child);
            }
        }
        free(child);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(path);
}

// -------------------------------------------------------------------------------------------------------------- paths

char *text_format(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length >= 0 ? malloc((size_t)length + 1) : NULL;
    if (text != NULL) {
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}

char *text_copy(const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

char *path_join(const char *folder, const char *name) {
    const size_t length = strlen(folder);
    const bool bare = length == 0 || folder[length - 1] == '/';
    return text_format("%s%s%s", folder, bare ? "" : "/", name);
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

const char *path_extension(const char *path) {
    const char *name = path_name(path);
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name ? dot : name + strlen(name);
}

bool path_has_extension(const char *path, const char *extension) {
    const char *own = path_extension(path);
    for (; *own != '\0' && *extension != '\0'; own++, extension++) {
        const char lower = *own >= 'A' && *own <= 'Z' ? (char)(*own - 'A' + 'a') : *own;
        if (lower != *extension) {
            return false;
        }
    }
    return *own == *extension;
}
