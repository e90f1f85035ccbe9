// SPDX-License-Identifier: MIT
//
// A folder that cannot be read to its end, as of a broken disk, or while an interrupt comes, one that cannot be made,
// and a file that cannot be replaced, or whose group is closed to us: the linker brings calls of readdir, mkdir,
// rename, fchown and what opens a device here (tests/CMakeLists.txt).
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common.h"
#include "files.h"
#include "inputs.h"
#include "interrupt.h"
#include "npy.h"
#include "support/test_command.h"

enum { PICTURES = 5, ENTRIES = PICTURES + 2 }; // the folder itself, and the one above it

static char folder[] = "/tmp/hymn-folder-XXXXXX";
static int left = ENTRIES; // entries that can be read
static bool interrupts;    // the next entry does
static int opened;         // contexts
static int parts;          // files that were being written when the last one was opened

struct dirent *__real_readdir(DIR *of);
struct dirent *__wrap_readdir(DIR *of);

struct dirent *__wrap_readdir(DIR *of) {
    if (left == 0) {
        errno = EIO;
        return NULL;
    }
    left--;
    if (interrupts) {
        interrupts = false;
        raise(SIGTERM);
    }
    return __real_readdir(of);
}

static int count_parts(void) {
    int count = 0;
    DIR *all = opendir(folder);
    assert_non_null(all);
    for (struct dirent *entry; (entry = __real_readdir(all)) != NULL;) {
        count += strstr(entry->d_name, ".part") != NULL;
    }
    closedir(all);
    return count;
}

enum hymn_status __wrap_hymn_context_create(const struct hymn_context_params *params,
                                            struct hymn_context **out_context);

enum hymn_status __wrap_hymn_context_create(const struct hymn_context_params *params,
                                            struct hymn_context **out_context) {
    (void)params;
    *out_context = NULL;
    opened++;
    parts = count_parts();
    return HYMN_STATUS_NO_DEVICE;
}

static int mkdir_error; // what the disk says; 0: nothing

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);

int __wrap_mkdir(const char *path, mode_t mode) {
    errno = mkdir_error;
    return mkdir_error != 0 ? -1 : __real_mkdir(path, mode);
}

static int rename_error; // likewise

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

int __wrap_rename(const char *from, const char *to) {
    errno = rename_error;
    return rename_error != 0 ? -1 : __real_rename(from, to);
}

static int fchown_error; // likewise

int __real_fchown(int descriptor, uid_t owner, gid_t group);
int __wrap_fchown(int descriptor, uid_t owner, gid_t group);

int __wrap_fchown(int descriptor, uid_t owner, gid_t group) {
    errno = fchown_error;
    return fchown_error != 0 ? -1 : __real_fchown(descriptor, owner, group);
}

static int set_up(void **state) {
    struct cause cause;
    bool good = mkdtemp(folder) != NULL;
    (void)state;
    for (int i = 0; good && i < PICTURES; i++) {
        char *path = text_format("%s/%d.png", folder, i);
        good = path != NULL && file_write(path, "x", 1, &cause);
        free(path);
    }
    return good ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    left = INT32_MAX;
    folder_remove(folder);
    return folder_exists(folder);
}

static void the_rest_counts_as_failed(void **state) {
    struct input_list list = {0};
    (void)state;
    left = ENTRIES - 1; // one picture is missing, or one that is hidden
    assert_true(inputs_collect(&list, folder, NULL));
    assert_int_equal(list.failed, 1);
    assert_in_range(list.count, PICTURES - 1, PICTURES);
    inputs_free(&list);
}

static void an_end_is_no_failure(void **state) {
    struct input_list list = {0};
    (void)state;
    left = ENTRIES + 1;
    errno = EIO; // of something else
    assert_true(inputs_collect(&list, folder, NULL));
    assert_int_equal(list.failed, 0);
    assert_int_equal(list.count, PICTURES);
    inputs_free(&list);
}

// That the folder is not there is no reason why it cannot be made.
static void the_disk_says_why_a_folder_is_not_made(void **state) {
    struct cause cause;
    (void)state;
    char *path = text_format("%s/new", folder);
    assert_non_null(path);
    mkdir_error = EROFS;
    assert_true(folder_make(folder, &cause)); // is there
    assert_false(folder_make(path, &cause));
    assert_int_equal(cause.error, EROFS);
    mkdir_error = ENOSPC;
    assert_false(folder_make(path, &cause));
    assert_true(cause_no_space(&cause));
    assert_string_equal(cause.text, "folder cannot be made: No space left on device");
    mkdir_error = 0;
    assert_true(folder_make(path, &cause));
    free(path);
}

// As in a container, where a file of the host is mounted over another.
static void a_mounted_file_is_written_in_place(void **state) {
    struct cause cause;
    struct stat before, after;
    uint8_t *data;
    size_t size;
    (void)state;
    char *path = text_format("%s/mounted.png", folder);
    assert_non_null(path);
    assert_true(file_write(path, "old and longer", 14, &cause));
    assert_int_equal(stat(path, &before), 0);
    rename_error = EBUSY;
    assert_true(file_write(path, "new", 3, &cause));
    rename_error = EXDEV;
    assert_false(file_write(path, "newest", 6, &cause));
    assert_int_equal(cause.error, EXDEV);
    rename_error = 0;
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_true(file_read(path, 100, NULL, &data, &size, &cause));
    assert_int_equal(size, 3);
    assert_memory_equal(data, "new", 3);
    free(data);
    assert_int_equal(remove(path), 0);
    free(path);
    assert_int_equal(count_parts(), 0);
}

// Then those of the new file's group may do no more than all others.
static void a_group_that_cannot_be_kept_gives_no_rights(void **state) {
    static const struct { mode_t before, after; } modes[] = {{0640, 0600}, {0664, 0644}, {0604, 0604}};
    struct cause cause;
    struct stat status;
    (void)state;
    char *path = text_format("%s/shared.png", folder);
    assert_non_null(path);
    assert_true(file_write(path, "old", 3, &cause));
    fchown_error = EPERM;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(chmod(path, modes[i].before), 0);
        assert_true(file_write(path, "new", 3, &cause));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, modes[i].after);
    }
    fchown_error = 0;
    assert_int_equal(remove(path), 0);
    free(path);
}

// The last test: what has been seen stays so.
static void an_interrupt_comes_before_the_device(void **state) {
    static const char model[] = HYMN_GOLDEN_DIR "/plain.safetensors";
    static const float values[3] = {0};
    const uint64_t shape[4] = {1, 3, 1, 1};
    struct cause cause;
    (void)state;
    char *array = text_format("%s/x.npy", folder), *output = text_format("%s/out", folder);
    char *logits = text_format("%s/y.npy", folder);
    assert_true(array != NULL && output != NULL && logits != NULL && npy_write(array, values, shape, 4, &cause));
    const char *const segment[] = {folder, "-m", model, "-o", output, NULL};
    const char *const eval[] = {"-i", folder, "-k", output, "-m", model, NULL};
    const char *const run[] = {"-i", array, "-o", logits, "-m", model, NULL};
    left = INT32_MAX;
    assert_int_equal(test_command_run(command_segment, segment, "/dev/null"), CODE_ENGINE);
    assert_int_equal(opened, 1); // without an interrupt
    assert_int_equal(test_command_run(command_run, run, "/dev/null"), CODE_ENGINE);
    assert_int_equal(opened, 2);
    assert_int_equal(parts, 0); // the work takes long, and may be killed
    interrupt_catch();
    interrupts = true;
    assert_int_equal(test_command_run(command_segment, segment, "/dev/null"), CODE_INTERRUPTED);
    assert_true(interrupt_seen());
    assert_int_equal(test_command_run(command_eval, eval, "/dev/null"), CODE_INTERRUPTED);
    assert_int_equal(test_command_run(command_run, run, "/dev/null"), CODE_INTERRUPTED);
    assert_int_equal(opened, 2);
    free(array);
    free(output);
    free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rest_counts_as_failed),
        cmocka_unit_test(an_end_is_no_failure),
        cmocka_unit_test(the_disk_says_why_a_folder_is_not_made),
        cmocka_unit_test(a_mounted_file_is_written_in_place),
        cmocka_unit_test(a_group_that_cannot_be_kept_gives_no_rights),
        cmocka_unit_test(an_interrupt_comes_before_the_device),
    };
    return cmocka_run_group_tests_name("cli_folder", tests, set_up, tear_down);
}
