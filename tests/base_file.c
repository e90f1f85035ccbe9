// SPDX-License-Identifier: MIT
//
// Mapping, atomic writing, locks, the cache folder. On Windows only the locks: the rest makes links, pipes
// and folders of its own in the ways of POSIX.
#if !defined(_WIN32) && !defined(_XOPEN_SOURCE)
#define _XOPEN_SOURCE 700
#endif

#include "base/alloc.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test_log.h"

static char folder[256]; // this run's own

static const char *in_folder(const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void a_lock_has_one_holder(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    struct hymn_file_lock one, two;
    const char *path = in_folder("new/folders/of a lock");
    assert_true(hymn_file_lock(path, 0.0, &log, &one) && one.held);
    assert_false(hymn_file_lock(path, 0.0, &log, &two)); // flock, not fcntl: of this process neither
    assert_false(two.held);
    assert_false(hymn_file_lock(path, 0.02, &log, &two));
    assert_log(&kept, "locked by another process or thread for 0.02 s; going on without");
    assert_warnings(&kept, 2);
    hymn_file_unlock(&two);
    assert_false(hymn_file_lock(path, 0.0, NULL, &two)); // not two's to unlock
    hymn_file_unlock(&one);
    assert_false(one.held);
    assert_true(hymn_file_lock(path, 0.0, &log, &two));
    hymn_file_unlock(&two);
    log = test_log_start(&kept);
    assert_false(hymn_file_lock(folder, 60.0, &log, &one));
    assert_log(&kept, "cannot be locked");
    assert_int_equal(kept.warnings + kept.errors, 0);
    assert_int_equal(kept.lines, 1);
}

#ifndef _WIN32

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_content(const char *path, const char *text) {
    struct hymn_file_map map;
    assert_int_equal(hymn_file_map_open(path, NULL, &map), HYMN_STATUS_OK);
    assert_int_equal(map.size, strlen(text));
    assert_memory_equal(map.data, text, map.size);
    hymn_file_map_close(&map);
    assert_null(map.data);
}

static enum hymn_status write_text(const char *path, const char *text, struct test_log *kept) {
    struct hymn_log log = test_log_start(kept);
    return hymn_file_write_atomic(path, text, strlen(text), &log);
}

// Entries of a folder but "." and "..".
static int count_entries(const char *path) {
    DIR *open_folder = opendir(path);
    int count = -2;
    while (open_folder && readdir(open_folder)) {
        count++;
    }
    closedir(open_folder);
    return count;
}

static void files_are_mapped(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    struct hymn_file_map map;
    assert_int_equal(write_text(in_folder("mapped"), "content", &kept), HYMN_STATUS_OK);
    assert_content(in_folder("mapped"), "content");
    assert_int_equal(write_text(in_folder("empty"), "", &kept), HYMN_STATUS_OK);
    assert_int_equal(hymn_file_map_open(in_folder("empty"), &log, &map), HYMN_STATUS_OK);
    assert_true(map.data == NULL && map.size == 0);
    hymn_file_map_close(&map);
    assert_int_equal(kept.lines, 0);
}

static void what_is_no_file_is_not_mapped(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    struct hymn_file_map map;
    assert_int_equal(hymn_file_map_open(in_folder("missing"), &log, &map), HYMN_STATUS_IO);
    assert_log(&kept, "missing: cannot open: No such file or directory");
    assert_int_equal(hymn_file_map_open(folder, &log, &map), HYMN_STATUS_IO);
    assert_log(&kept, "is a folder");
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(hymn_file_map_open(in_folder("pipe"), &log, &map), HYMN_STATUS_IO);
    assert_log(&kept, "pipe: is a device or a pipe");
    assert_int_equal(hymn_file_map_open("", &log, &map), HYMN_STATUS_IO);
    assert_true(map.data == NULL && map.size == 0);
    assert_int_equal(kept.errors, 4);
}

static void writing_replaces_and_makes_folders(void **state) {
    (void)state;
    struct test_log kept;
    assert_int_equal(write_text(in_folder("a/b//c/file"), "old", &kept), HYMN_STATUS_OK);
    assert_content(in_folder("a/b/c/file"), "old");
    struct hymn_file_map map;
    assert_int_equal(hymn_file_map_open(in_folder("a/b/c/file"), NULL, &map), HYMN_STATUS_OK);
    assert_int_equal(write_text(in_folder("a/b/c/file"), "newer", &kept), HYMN_STATUS_OK);
    assert_memory_equal(map.data, "old", 3); // who has the old file open still sees it
    hymn_file_map_close(&map);
    assert_content(in_folder("a/b/c/file"), "newer");
    assert_int_equal(count_entries(in_folder("a/b/c")), 1);
    struct stat info;
    assert_int_equal(stat(in_folder("a/b/c/file"), &info), 0);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(info.st_mode & 0777, 0666 & ~mask);
}

static void a_relative_path_needs_no_folder(void **state) {
    (void)state;
    struct test_log kept;
    char before[512];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    enum hymn_status status = write_text("relative", "here", &kept);
    enum hymn_status below = write_text("below/relative", "there", &kept);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(status, HYMN_STATUS_OK);
    assert_int_equal(below, HYMN_STATUS_OK);
    assert_content(in_folder("relative"), "here");
    assert_content(in_folder("below/relative"), "there");
}

static void links_stay_links(void **state) {
    (void)state;
    struct test_log kept;
    assert_int_equal(write_text(in_folder("target"), "old", &kept), HYMN_STATUS_OK);
    assert_int_equal(symlink("target", in_folder("link")), 0);
    assert_int_equal(write_text(in_folder("link"), "new", &kept), HYMN_STATUS_OK);
    struct stat info;
    assert_int_equal(lstat(in_folder("link"), &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_content(in_folder("target"), "new");
}

static void devices_are_written_to(void **state) {
    (void)state;
    struct test_log kept;
    struct stat info;
    assert_int_equal(write_text("/dev/null", "dropped", &kept), HYMN_STATUS_OK);
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    if (stat("/dev/full", &info) == 0) {
        assert_int_equal(write_text("/dev/full", "too much", &kept), HYMN_STATUS_IO);
        assert_log(&kept, "/dev/full: cannot write: No space left on device");
    }
}

static void a_failed_write_leaves_nothing(void **state) {
    (void)state;
    struct test_log kept;
    assert_int_equal(write_text(in_folder("failed/file"), "kept", &kept), HYMN_STATUS_OK);
    assert_int_equal(write_text(in_folder("failed/file/below"), "x", &kept), HYMN_STATUS_IO);
    assert_log(&kept, "failed/file/below: cannot create: Not a directory");
    assert_int_equal(write_text(in_folder("failed/file/deep/below"), "x", &kept), HYMN_STATUS_IO);
    assert_log(&kept, "Not a directory");
    assert_int_equal(write_text(in_folder("failed"), "x", &kept), HYMN_STATUS_IO); // a folder
    assert_log(&kept, "failed: cannot replace: Is a directory");
    assert_int_equal(write_text("", "x", &kept), HYMN_STATUS_IO);
    char name[400];
    memset(name, 'n', sizeof name);
    name[300] = '\0';
    assert_int_equal(write_text(in_folder(name), "x", &kept), HYMN_STATUS_IO);
    assert_log(&kept, "File name too long");
    name[255] = '\0'; // the longest that a file system usually allows: the temporary file's name must not be longer
    assert_int_equal(write_text(in_folder(name), "x", &kept), HYMN_STATUS_OK);
    assert_int_equal(unlink(in_folder(name)), 0);
    DIR *open_folder = opendir(folder);
    for (struct dirent *entry = readdir(open_folder); entry; entry = readdir(open_folder)) {
        assert_null(strstr(entry->d_name, ".hymn-"));
    }
    closedir(open_folder);
    assert_content(in_folder("failed/file"), "kept");
    assert_int_equal(count_entries(in_folder("failed")), 1);
}

static void running_out_of_memory_is_a_status(void **state) {
    (void)state;
    struct test_log kept;
    for (int64_t i = 0; i < 2; i++) {
        hymn_alloc_fail_after(i);
        assert_int_equal(write_text(in_folder("unmade"), "x", &kept), HYMN_STATUS_OUT_OF_MEMORY);
        assert_int_equal(kept.errors, 1);
        assert_int_not_equal(access(in_folder("unmade"), F_OK), 0);
    }
    hymn_alloc_fail_after(-1);
}

static void the_cache_folder_follows_the_environment(void **state) {
    (void)state;
    char path[64];
    setenv("HOME", "/home/someone", 1);
    setenv("XDG_CACHE_HOME", "/var/somewhere", 1);
    assert_true(hymn_file_cache_dir(path, sizeof path));
    assert_string_equal(path, "/var/somewhere/hymn");
    assert_false(hymn_file_cache_dir(path, 19)); // one byte short
    assert_true(hymn_file_cache_dir(path, 20));
    setenv("XDG_CACHE_HOME", "relative", 1);
    assert_true(hymn_file_cache_dir(path, sizeof path));
#ifdef __APPLE__
    assert_string_equal(path, "/home/someone/Library/Caches/hymn");
#else
    assert_string_equal(path, "/home/someone/.cache/hymn");
#endif
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_false(hymn_file_cache_dir(path, sizeof path));
}

static int make_folder(void **state) {
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/hymn-test-XXXXXX", parent && *parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

// Who dies holds nothing; who waits gets it.
static void a_lock_ends_with_its_process(void **state) {
    (void)state;
    struct hymn_file_lock lock;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    const char *path = in_folder("lock");
    int told[2];
    char byte;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (hymn_file_lock(path, 0.0, NULL, &lock) && write(told[1], "x", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    close(told[1]);
    assert_int_equal(read(told[0], &byte, 1), 1);
    close(told[0]);
    assert_false(hymn_file_lock(path, 0.0, NULL, &lock));
    assert_content(path, "");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(hymn_file_lock(path, 60.0, NULL, &lock));
    hymn_file_unlock(&lock);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(hymn_file_lock("/dev/null/lock", 60.0, &log, &lock)); // no folder to be made there
    assert_log(&kept, "cannot be locked");
    assert_int_equal(kept.warnings + kept.errors, 0);
}

static void remove_below(const char *path) {
    DIR *open_folder = opendir(path);
    for (struct dirent *entry = open_folder ? readdir(open_folder) : NULL; entry; entry = readdir(open_folder)) {
        char child[1024];
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || lstat(child, &info) != 0) {
            continue;
        }
        if (S_ISDIR(info.st_mode)) {
            remove_below(child);
        } else {
            unlink(child);
        }
    }
    if (open_folder) {
        closedir(open_folder);
    }
    rmdir(path);
}

static int remove_folder(void **state) {
    (void)state;
    remove_below(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_mapped),
        cmocka_unit_test(what_is_no_file_is_not_mapped),
        cmocka_unit_test(writing_replaces_and_makes_folders),
        cmocka_unit_test(a_relative_path_needs_no_folder),
        cmocka_unit_test(links_stay_links),
        cmocka_unit_test(devices_are_written_to),
        cmocka_unit_test(a_failed_write_leaves_nothing),
        cmocka_unit_test(running_out_of_memory_is_a_status),
        cmocka_unit_test(the_cache_folder_follows_the_environment),
        cmocka_unit_test(a_lock_has_one_holder),
        cmocka_unit_test(a_lock_ends_with_its_process),
    };
    return cmocka_run_group_tests_name("base_file", tests, make_folder, remove_folder);
}

#else

#include <direct.h>
#include <process.h>

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_lock_has_one_holder)};
    const char *temporary = getenv("TEMP");
    snprintf(folder, sizeof folder, "%s/hymn-file-%d", temporary ? temporary : ".", _getpid());
    int failed = cmocka_run_group_tests_name("base_file", tests, NULL, NULL);
    remove(in_folder("new/folders/of a lock"));
    _rmdir(in_folder("new/folders"));
    _rmdir(in_folder("new"));
    _rmdir(folder);
    return failed;
}

#endif
