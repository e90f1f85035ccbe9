// SPDX-License-Identifier: MIT
//
// A folder that cannot be read to its end, as of a broken disk, and one that cannot be made: the linker brings calls of
// readdir and mkdir here (tests/CMakeLists.txt).
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "files.h"
#include "inputs.h"

enum { PICTURES = 5, ENTRIES = PICTURES + 2 }; // the folder itself, and the one above it

static char folder[] = "/tmp/hymn-folder-XXXXXX";
static int left = ENTRIES; // entries that can be read

struct dirent *__real_readdir(DIR *of);
struct dirent *__wrap_readdir(DIR *of);

struct dirent *__wrap_readdir(DIR *of) {
    if (left == 0) {
        errno = EIO;
        return NULL;
    }
    left--;
    return __real_readdir(of);
}

static int mkdir_error; // what the disk says; 0: nothing

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);

int __wrap_mkdir(const char *path, mode_t mode) {
    errno = mkdir_error;
    return mkdir_error != 0 ? -1 : __real_mkdir(path, mode);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rest_counts_as_failed),
        cmocka_unit_test(an_end_is_no_failure),
        cmocka_unit_test(the_disk_says_why_a_folder_is_not_made),
    };
    return cmocka_run_group_tests_name("cli_folder", tests, set_up, tear_down);
}
