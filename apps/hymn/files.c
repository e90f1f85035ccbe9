// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/thread.h"
#include "interrupt.h"

// LAST_REDIRECTION: shells name descriptors up to 9.
enum { LINK_BYTES = 4096, MOST_LINKS = 40, LAST_REDIRECTION = 9, TEMPORARY_ATTEMPTS = 100, POLL_MILLISECONDS = 100 };

// ------------------------------------------------------------------------------------------------------------ reading

// regular: reading it waits for nobody. awaited: a named pipe whose end may only mean that nobody writes to it yet.
struct source {
    int descriptor;
    bool regular, awaited;
    const struct file_wait *wait; // or NULL
};

static struct source source_of(int descriptor, const struct stat *status, const struct file_wait *wait) {
    struct source source = {.descriptor = descriptor, .regular = S_ISREG(status->st_mode), .wait = wait};
#ifdef __APPLE__
    // poll waits for the first writer on Linux, not here. A pipe without a name has had its writer.
    source.awaited = S_ISFIFO(status->st_mode) && status->st_nlink > 0;
#endif
    return source;
}

// Opening a pipe would wait for somebody to write to it, and a signal that is caught would not end that. -1 with errno.
static int open_to_read(const char *path) {
    struct stat status;
    const bool pipe = stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
    return open(path, O_RDONLY | O_CLOEXEC | (pipe ? O_NONBLOCK : 0));
}

static bool gives_up(const struct source *source) {
    const bool ended = source->wait != NULL && !source->wait->go_on(source->wait->user);
    return ended || interrupt_seen();
}

// As read(2). Whoever writes to a pipe or a terminal may keep us waiting, which an interrupt ends, also where another
// thread gets the signal.
static ssize_t read_some(struct source *source, uint8_t *data, size_t size) {
    struct pollfd input = {.fd = source->descriptor, .events = POLLIN};
    while (!source->regular) {
        const int count = poll(&input, 1, POLL_MILLISECONDS);
        if (gives_up(source)) {
            errno = EINTR;
            return -1;
        }
        if (count == 0 || (count < 0 && errno == EINTR)) {
            continue;
        }
        const ssize_t got = read(source->descriptor, data, size);
        const bool nothing = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        if (!nothing && (got != 0 || !source->awaited)) {
            source->awaited = false;
            return got;
        }
        source->awaited = source->awaited && !nothing; // there is somebody who may write
        poll(NULL, 0, POLL_MILLISECONDS);
    }
    return read(source->descriptor, data, size);
}

// Reads to the end, one block larger than before each time.
static bool read_all(struct source source, size_t expected, size_t limit, uint8_t **out_data, size_t *out_size,
                     struct cause *cause) {
    size_t capacity = expected + 1, size = 0; // so that the end shows without growing
    uint8_t *data = malloc(capacity);
    ssize_t got = 0;
    while (data != NULL && size <= limit && (got = read_some(&source, data + size, capacity - size)) > 0) {
        size += (size_t)got;
        if (size == capacity) {
            capacity = capacity < (size_t)64 << 20 ? capacity * 2 : capacity + capacity / 2;
            uint8_t *larger = realloc(data, capacity);
            if (larger == NULL) {
                free(data);
            }
            data = larger;
        }
    }
    if (data == NULL) {
        return cause_set(cause, "out of memory while reading");
    }
    const char *why = interrupt_seen() ? "interrupted" : "stopped";
    bool good = got >= 0 || (errno == EINTR ? cause_set(cause, "%s", why) : cause_system(cause, "cannot be read"));
    if (good && size == 0) {
        good = cause_set(cause, "empty file");
    } else if (good && size > limit) {
        good = cause_set(cause, "larger than the limit of %zu MiB", limit >> 20);
    }
    if (!good) {
        free(data);
        return false;
    }
    *out_data = data;
    *out_size = size;
    return true;
}

bool file_read(const char *path, size_t limit, const struct file_wait *wait, uint8_t **out_data, size_t *out_size,
               struct cause *cause) {
    *out_data = NULL;
    *out_size = 0;
    const bool standard = strcmp(path, "-") == 0;
    const int descriptor = standard ? STDIN_FILENO : open_to_read(path);
    if (descriptor < 0) {
        return cause_system(cause, "cannot be opened");
    }
    struct stat status;
    bool good = fstat(descriptor, &status) == 0 || cause_system(cause, "cannot be read");
    if (good && S_ISDIR(status.st_mode)) {
        good = cause_set(cause, "is a folder, not a file");
    } else if (good && S_ISREG(status.st_mode) && (uintmax_t)status.st_size > limit) {
        good = cause_set(cause, "larger than the limit of %zu MiB", limit >> 20);
    } else if (good) {
        const size_t expected = S_ISREG(status.st_mode) ? (size_t)status.st_size : (size_t)1 << 16;
        good = read_all(source_of(descriptor, &status, wait), expected, limit, out_data, out_size, cause);
    }
    if (!standard) {
        close(descriptor);
    }
    return good;
}

bool file_is_there(const char *path) {
    struct stat status;
    if (stat(path, &status) == 0) {
        return S_ISREG(status.st_mode);
    }
    return errno != ENOTDIR && errno != ENAMETOOLONG && (errno != ENOENT || lstat(path, &status) == 0);
}

// ------------------------------------------------------------------------------------------------------------ writing

// A name beside `path` that no other thread uses, nor another process but one that had our number before.
static char *temporary_name(const char *path) {
    static hymn_mutex lock = HYMN_MUTEX_INITIALIZER;
    static unsigned long counter;
    hymn_mutex_lock(&lock);
    const unsigned long number = counter++;
    hymn_mutex_unlock(&lock);
    return text_format("%.*s.hymn-%ld-%lu.part", (int)(path_name(path) - path), path, (long)getpid(), number);
}

// What a chain of links at `path` ends in, there or not: what they lead to is written, not they. NULL with errno.
static char *follow_links(const char *path) {
    char *target = text_copy(path), link[LINK_BYTES];
    for (int links = 0; target != NULL; links++) {
        const ssize_t length = readlink(target, link, sizeof(link));
        if (length < 0) {
            return target;
        }
        if (links == MOST_LINKS || (size_t)length == sizeof(link)) {
            free(target);
            errno = links == MOST_LINKS ? ELOOP : ENAMETOOLONG;
            return NULL;
        }
        const int folder = link[0] == '/' ? 0 : (int)(path_name(target) - target);
        char *next = text_format("%.*s%.*s", folder, target, (int)length, link);
        free(target);
        target = next;
    }
    return NULL;
}

// A descriptor that a shell's redirection may have opened to write to this file, or -1.
static int redirection_to(const struct stat *file) {
    for (int descriptor = STDOUT_FILENO; descriptor <= LAST_REDIRECTION; descriptor++) {
        struct stat status;
        const int flags = fcntl(descriptor, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fstat(descriptor, &status) == 0 &&
            status.st_dev == file->st_dev && status.st_ino == file->st_ino) {
            return descriptor;
        }
    }
    return -1;
}

// A pipe, once somebody reads it; an interrupt ends the wait. The descriptor; -1 with errno.
static int open_pipe(const char *path) {
    int descriptor;
    while ((descriptor = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO) {
        poll(NULL, 0, POLL_MILLISECONDS);
        if (interrupt_seen()) {
            errno = EINTR;
            return -1;
        }
    }
    const int flags = descriptor >= 0 ? fcntl(descriptor, F_GETFL) : -1;
    if (flags >= 0) {
        fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK);
    }
    return descriptor;
}

// Whether `path` is not to be replaced: a device, a pipe, standard output, or a link as /dev/stdout is one, to the file
// of a descriptor, where what is written goes on from that one's place. *out_descriptor: that one, or -1; then the
// status is the file's.
static bool is_in_place(const char *path, struct stat *out_status, int *out_descriptor) {
    struct stat link;
    *out_descriptor = strcmp(path, "-") == 0 ? STDOUT_FILENO : -1;
    if (*out_descriptor >= 0) {
        return true;
    }
    if (lstat(path, &link) != 0 || stat(path, out_status) != 0) {
        return false;
    }
    *out_descriptor = S_ISLNK(link.st_mode) ? redirection_to(out_status) : -1;
    return *out_descriptor >= 0 || !S_ISREG(out_status->st_mode);
}

// *out_descriptor: opened for a path that is not to be replaced, -1 with errno.
static bool open_in_place(const char *path, int *out_descriptor) {
    struct stat status;
    int descriptor;
    if (!is_in_place(path, &status, &descriptor)) {
        return false;
    }
    *out_descriptor = descriptor >= 0            ? fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
                      : S_ISFIFO(status.st_mode) ? open_pipe(path)
                                                 : open(path, O_WRONLY | O_CLOEXEC);
    return true;
}

// The group and the permissions of the file that is replaced. Where its group cannot be ours, another one has no more
// rights than all have; where the permissions cannot be set, there are too few.
static void take_permissions(int descriptor, const struct stat *of) {
    mode_t mode = of->st_mode & 0777;
    if (fchown(descriptor, (uid_t)-1, of->st_gid) != 0) {
        mode &= 0707 | (mode & 07) << 3;
    }
    fchmod(descriptor, mode);
}

// Sets the names of the output and opens the temporary one, with the permissions of the file that it replaces. The
// descriptor; -1 with errno.
static int open_temporary(struct output *output, const char *path) {
    int descriptor = -1, error = EEXIST;
    struct stat status;
    output->path = follow_links(path);
    if (output->path == NULL) {
        return -1;
    }
    const bool replaces = stat(output->path, &status) == 0;
    const mode_t mode = replaces ? 0600 : 0666;
    // A process that was killed may have left a file of that name: in a container numbers are soon the same again.
    for (int attempt = 0; attempt < TEMPORARY_ATTEMPTS && descriptor < 0 && error == EEXIST; attempt++) {
        free(output->temporary);
        output->temporary = temporary_name(output->path);
        descriptor =
            output->temporary != NULL ? open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode) : -1;
        error = errno;
    }
    if (descriptor >= 0 && replaces) {
        take_permissions(descriptor, &status);
    }
    if (descriptor < 0) {
        free(output->temporary); // it was not made, so it is not ours to remove
        output->temporary = NULL;
        errno = error;
    }
    return descriptor;
}

// The output's file itself, where its folder lets nobody make another one: what is written replaces its content. The
// descriptor; -1 with the folder's errno.
static int open_over(struct output *output) {
    const int error = errno;
    struct stat status;
    const bool closed = output->path != NULL && (error == EACCES || error == EROFS);
    const bool regular = closed && stat(output->path, &status) == 0 && S_ISREG(status.st_mode);
    const int descriptor = regular ? open(output->path, O_WRONLY | O_CLOEXEC) : -1;
    output->overwrites = descriptor >= 0;
    errno = error;
    return descriptor;
}

bool output_open(struct output *output, const char *path, struct cause *cause) {
    *output = (struct output){0};
    if (strcmp(path, "-") != 0 && folder_exists(path)) {
        return cause_set(cause, "cannot be written: is a folder");
    }
    int descriptor = -1;
    if (!open_in_place(path, &descriptor)) {
        descriptor = open_temporary(output, path);
        descriptor = descriptor >= 0 ? descriptor : open_over(output);
    }
    output->stream = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (output->stream == NULL) {
        if (interrupt_seen() && errno == EINTR) {
            cause_set(cause, "interrupted");
        } else {
            cause_system(cause, "cannot be written");
        }
        if (descriptor >= 0) {
            close(descriptor);
        }
        output_discard(output);
        return false;
    }
    return true;
}

bool output_check(const char *path, struct cause *cause) {
    struct output output;
    struct stat status;
    int descriptor;
    if (!folder_exists(path) && is_in_place(path, &status, &descriptor)) {
        return true;
    }
    if (!output_open(&output, path, cause)) {
        return false;
    }
    output_discard(&output);
    return true;
}

bool output_write(struct output *output, const void *data, size_t size, struct cause *cause) {
    errno = 0;
    if (output->overwrites && ftruncate(fileno(output->stream), 0) != 0) {
        return cause_system(cause, "cannot be written");
    }
    output->overwrites = false; // any more
    return fwrite(data, 1, size, output->stream) == size || cause_system(cause, "cannot be written");
}

// Writes what is in the file `from` to the file `to`, which is there. False with errno.
static bool copy_file(const char *from, const char *to) {
    static const size_t block_bytes = 1 << 16;
    FILE *source = fopen(from, "rb"), *target = source != NULL ? fopen(to, "wb") : NULL;
    uint8_t *block = malloc(block_bytes);
    bool good = target != NULL && block != NULL;
    for (size_t got; good && (got = fread(block, 1, block_bytes, source)) > 0;) {
        good = fwrite(block, 1, got, target) == got;
    }
    good = good && ferror(source) == 0;
    if (target != NULL) {
        good = fclose(target) == 0 && good;
    }
    const int error = errno;
    if (source != NULL) {
        fclose(source);
    }
    free(block);
    errno = error;
    return good;
}

// A file that is mounted there, as into a container, can be written, but not replaced.
static bool replace(const char *path, const char *by) {
    return rename(by, path) == 0 || (errno == EBUSY && copy_file(by, path) && remove(by) == 0);
}

bool output_commit(struct output *output, struct cause *cause) {
    errno = 0;
    bool good = fflush(output->stream) == 0 || cause_system(cause, "cannot be written");
    const bool closed = fclose(output->stream) == 0;
    output->stream = NULL;
    if (good && !closed) {
        good = cause_system(cause, "cannot be written");
    }
    if (good && output->temporary != NULL && !replace(output->path, output->temporary)) {
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
        if (mkdir(part, 0777) != 0) {
            const int error = errno; // of mkdir: folder_exists has its own
            if (!folder_exists(part)) {
                errno = error == EEXIST ? ENOTDIR : error;
                good = cause_system(cause, "folder cannot be made");
            }
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
