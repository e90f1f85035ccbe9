// SPDX-License-Identifier: MIT
//
// Reading whole files, writing files that are whole or absent, and paths.
#ifndef HYMN_APP_FILES_H
#define HYMN_APP_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cause.h"

// Asked again and again while a pipe or a terminal is read, which may keep us waiting; false gives up.
struct file_wait {
    bool (*go_on)(void *user);
    void *user;
};

// The whole of a file, or of standard input for "-", in a block from malloc that the caller frees. A folder, an empty
// file and more than `limit` bytes are errors, and so is an interrupt, or the end of what `wait` (or NULL) allows,
// while a pipe or a terminal is read, also where nobody has opened the pipe to write to it.
bool file_read(const char *path, size_t limit, const struct file_wait *wait, uint8_t **out_data, size_t *out_size,
               struct cause *cause);

// Whether a regular file is there, or what cannot be looked at and may be one: a link that leads nowhere, or a file in
// a folder that may not be entered. Reading it tells why.
bool file_is_there(const char *path);

// A file being written. It has another name until output_commit, so that a failure leaves neither half a file nor a
// damaged older one, whose group and permissions the new one has. A link stays a link, and what it leads to is written.
// What is no regular file (a pipe, a device) is written in place, and so is what a link like /dev/stdout leads to,
// which is the file of a descriptor that is open, a file that is mounted there, one in a folder that cannot be written
// to, and standard output for "-". An interrupt ends the wait for who reads a pipe.
struct output {
    FILE *stream;
    char *path, *temporary; // no temporary: in place
    bool overwrites;        // what is written first removes what the file holds
};

bool output_open(struct output *output, const char *path, struct cause *cause);
// Whether output_open can do it, as far as that is known without waiting for who reads a pipe.
bool output_check(const char *path, struct cause *cause);
bool output_write(struct output *output, const void *data, size_t size, struct cause *cause);
// Both end the output. A false output_commit has discarded it.
bool output_commit(struct output *output, struct cause *cause);
void output_discard(struct output *output);
// All of the above for data that is at hand.
bool file_write(const char *path, const void *data, size_t size, struct cause *cause);

// Makes a folder and those above it that are missing.
bool folder_make(const char *path, struct cause *cause);
// Removes a folder of ours and all below it, as far as that goes.
void folder_remove(const char *path);
// Whether a path exists and is a folder.
bool folder_exists(const char *path);

// "folder/name" in a block from malloc, or NULL when memory is out. An empty folder adds nothing.
char *path_join(const char *folder, const char *name);
// A formatted string in a block from malloc, or NULL when memory is out.
char *text_format(const char *format, ...) CAUSE_PRINTF(1, 2);
// A copy in a block from malloc, or NULL.
char *text_copy(const char *text);
// Where the last component of a path begins, and where its extension (the dot included) does: at the end if it has
// none.
const char *path_name(const char *path);
const char *path_extension(const char *path);
// Whether the path ends in this extension (".png"), whatever the case.
bool path_has_extension(const char *path, const char *extension);

#endif
