// SPDX-License-Identifier: MIT
//
// Facts about a device on disk: kept, merged with those of other processes, the oldest dropped where there are too
// many, and ignored when damaged or somebody else's.
#define _POSIX_C_SOURCE 200809L // mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "support/test_folder.h"
#include "support/test_random.h"
#include "support/test_vk.h"
#include "vk/slowness.h"
#include "vk/store.h"

static const char *program;
static char folder[128];

static uint64_t key_of(uint32_t number) {
    return hymn_vk_store_key("test", &number, sizeof number);
}

static void open_store(struct test_vk *vk) {
    test_vk_open(vk, folder);
}

static void put(struct test_vk *vk, uint32_t number, uint32_t value) {
    assert_int_equal(hymn_vk_store_put(vk->device, key_of(number), &value, sizeof value), HYMN_STATUS_OK);
}

static void expect(struct test_vk *vk, uint32_t number, uint32_t value) {
    uint32_t got = ~value;
    assert_true(hymn_vk_store_get(vk->device, key_of(number), &got, sizeof got));
    assert_int_equal(got, value);
}

static bool ends_in(const char *text, const char *end) {
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

// The one file that the folder holds, but for its lock.
static void find_file(char *out_path, size_t capacity) {
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    out_path[0] = '\0';
    for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        if (entry->d_name[0] != '.' && !ends_in(entry->d_name, ".lock")) {
            assert_string_equal(out_path, "");
            assert_true((size_t)snprintf(out_path, capacity, "%s/%s", folder, entry->d_name) < capacity);
        }
    }
    closedir(entries);
    assert_true(strlen(out_path) > 0 && strstr(out_path, "/facts-"));
}

static uint8_t *read_store(size_t *out_size) {
    char path[512];
    struct hymn_file_map map;
    find_file(path, sizeof path);
    assert_int_equal(hymn_file_map_open(path, NULL, &map), HYMN_STATUS_OK);
    uint8_t *copy = malloc(map.size + 1);
    assert_non_null(copy);
    memcpy(copy, map.data, map.size);
    *out_size = map.size;
    hymn_file_map_close(&map);
    return copy;
}

static void write_store(const uint8_t *data, size_t size) {
    char path[512];
    find_file(path, sizeof path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hymn-facts-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return test_folder_remove(folder);
}

static void facts_are_kept(void **state) {
    (void)state;
    struct test_vk vk;
    open_store(&vk);
    uint32_t value = 7;
    assert_int_equal(hymn_vk_store_count(vk.device), 0);
    assert_false(hymn_vk_store_get(vk.device, key_of(1), &value, sizeof value));
    assert_int_equal(value, 7);
    put(&vk, 1, 10);
    put(&vk, 2, 20);
    put(&vk, 1, 11); // replaces
    assert_int_equal(hymn_vk_store_count(vk.device), 2);
    test_vk_close(&vk);
    open_store(&vk);
    assert_warnings(&vk.log, 0);
    assert_int_equal(hymn_vk_store_count(vk.device), 2);
    expect(&vk, 1, 11);
    expect(&vk, 2, 20);
    uint64_t wide = 1; // a fact of another size is none
    assert_false(hymn_vk_store_get(vk.device, key_of(1), &wide, sizeof wide));
    assert_int_equal(wide, 1);
    test_vk_close(&vk);
    assert_true(key_of(1) != key_of(2));
    uint32_t one = 1;
    assert_true(hymn_vk_store_key("other", &one, sizeof one) != key_of(1));
}

// What could not be written is newer than what the file holds, and is written with the next fact.
static void facts_that_were_not_written_stay(void **state) {
    (void)state;
    struct test_vk vk;
    char path[500], aside[512];
    open_store(&vk);
    put(&vk, 1, 10);
    hymn_vk_store_flush(vk.device);
    find_file(path, sizeof path);
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(mkdir(path, 0700), 0); // nothing can be written there
    put(&vk, 1, 11);
    hymn_vk_store_flush(vk.device);
    assert_log(&vk.log, "what was found out about the device is not kept");
    test_log_start(&vk.log);
    put(&vk, 3, 30);
    hymn_vk_store_flush(vk.device);
    assert_false(test_log_has(&vk.log, "is not kept")); // once is enough
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    hymn_vk_store_lock(vk.device); // takes in what the file holds
    hymn_vk_store_unlock(vk.device);
    expect(&vk, 1, 11);
    put(&vk, 2, 20);
    test_vk_close(&vk);
    open_store(&vk);
    expect(&vk, 1, 11);
    expect(&vk, 2, 20);
    test_vk_close(&vk);
}

static void large_facts(void **state) {
    (void)state;
    struct test_vk vk;
    uint8_t large[HYMN_VK_STORE_VALUE_BYTES + 1] = {1, 2, 3}, got[HYMN_VK_STORE_VALUE_BYTES];
    open_store(&vk);
    assert_int_equal(hymn_vk_store_put(vk.device, 5, large, sizeof large), HYMN_STATUS_UNSUPPORTED);
    assert_int_equal(hymn_vk_store_put(vk.device, 5, large, sizeof got), HYMN_STATUS_OK);
    test_vk_close(&vk);
    open_store(&vk);
    assert_int_equal(hymn_vk_store_count(vk.device), 1);
    assert_true(hymn_vk_store_get(vk.device, 5, got, sizeof got));
    assert_memory_equal(got, large, sizeof got);
    test_vk_close(&vk);
}

static void put_range(struct test_vk *vk, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        put(vk, i, i);
    }
}

// Each of the facts is there, and asked for by that, or none is.
static void expect_range(struct test_vk *vk, uint32_t first, uint32_t count, bool there) {
    for (uint32_t i = first; i < first + count; i++) {
        uint32_t value;
        if (there) {
            expect(vk, i, i);
        } else if (hymn_vk_store_get(vk->device, key_of(i), &value, sizeof value)) {
            fail_msg("fact %u should have given way", i);
        }
    }
}

// In a full store the facts that were put or asked for last stay, in memory, on disk and for the next process.
static void oldest_facts_give_way(void **state) {
    (void)state;
    const uint32_t most = HYMN_VK_STORE_MAX_ENTRIES;
    struct test_vk vk;
    open_store(&vk);
    put_range(&vk, 0, most);
    expect(&vk, 0, 0); // asked for: newer than all others
    put(&vk, 1, 1);    // and then this one
    put_range(&vk, most, 10);
    assert_int_equal(hymn_vk_store_count(vk.device), most);
    expect_range(&vk, 2, 10, false);
    test_vk_close(&vk);

    open_store(&vk);
    assert_warnings(&vk.log, 0);
    assert_int_equal(hymn_vk_store_count(vk.device), most);
    expect_range(&vk, 2, 10, false);
    expect(&vk, 12, 12); // the oldest, if it were not for this
    put_range(&vk, most + 10, 20);
    test_vk_close(&vk);

    open_store(&vk);
    assert_int_equal(hymn_vk_store_count(vk.device), most);
    expect_range(&vk, 0, 2, true);
    expect_range(&vk, 2, 10, false);
    expect(&vk, 12, 12);
    expect_range(&vk, 13, 20, false);
    expect_range(&vk, 33, most + 30 - 33, true);
    put_range(&vk, most + 30, 1);
    test_vk_close(&vk);

    open_store(&vk); // the last put took the place of 0, which had been asked for before the others, this one that of 1
    put_range(&vk, most + 31, 1);
    expect_range(&vk, 0, 2, false);
    expect(&vk, 12, 12);
    test_vk_close(&vk);
    assert_int_equal(vk.log.errors, 0);
}

// With facts 0, 1, ... on disk.
static void open_full_store(struct test_vk *vk) {
    open_store(vk);
    put_range(vk, 0, HYMN_VK_STORE_MAX_ENTRIES);
    hymn_vk_store_flush(vk->device);
}

// Two stores of the same file: what one has dropped does not come back with the other, unless that one has asked for
// it, and what both have put stays.
static void full_stores_are_merged(void **state) {
    (void)state;
    const uint32_t most = HYMN_VK_STORE_MAX_ENTRIES;
    struct test_vk one, two;
    open_full_store(&one);
    open_store(&two);
    expect(&two, 3, 3);
    put_range(&one, most, 100); // instead of 0 to 99
    hymn_vk_store_flush(one.device);
    put_range(&two, most + 100, 50);
    hymn_vk_store_flush(two.device);
    assert_int_equal(hymn_vk_store_count(two.device), most);
    test_vk_close(&two);
    test_vk_close(&one);
    open_store(&one);
    assert_int_equal(hymn_vk_store_count(one.device), most);
    expect(&one, 3, 3);
    expect_range(&one, 0, 3, false);
    expect_range(&one, 4, 147, false); // the 150 that were put have the places of these and of 0 to 2
    expect_range(&one, 151, most + 150 - 151, true);
    test_vk_close(&one);
    assert_int_equal(one.log.errors + two.log.errors, 0);
}

// The file says what is old, whatever a store has thought since it last read it.
static void dropped_facts_stay_dropped(void **state) {
    (void)state;
    const uint32_t most = HYMN_VK_STORE_MAX_ENTRIES;
    struct test_vk one, two;
    open_full_store(&one);
    open_store(&two); // to which the last hundred are the newest
    expect_range(&one, 0, most - 100, true);
    put_range(&one, most, 100); // instead of them
    hymn_vk_store_flush(one.device);
    put_range(&two, most + 100, 1);
    test_vk_close(&two);
    test_vk_close(&one);
    open_store(&one);
    assert_int_equal(hymn_vk_store_count(one.device), most);
    expect_range(&one, 0, 1, false);
    expect_range(&one, 1, most - 101, true);
    expect_range(&one, most - 100, 100, false);
    expect_range(&one, most, 101, true);
    test_vk_close(&one);
}

// The file is ignored with a warning, and replaced by a good one by whoever puts something next.
static void expect_ignored(const char *why) {
    struct test_vk vk;
    open_store(&vk);
    assert_warnings(&vk.log, 1);
    assert_log(&vk.log, why);
    assert_int_equal(hymn_vk_store_count(vk.device), 0);
    put(&vk, 3, 30);
    test_vk_close(&vk);
    open_store(&vk);
    assert_warnings(&vk.log, 0);
    assert_int_equal(hymn_vk_store_count(vk.device), 1);
    expect(&vk, 3, 30);
    test_vk_close(&vk);
}

static void damaged_and_foreign_files_are_ignored(void **state) {
    (void)state;
    struct test_random random = test_random_start("damaged_and_foreign_files_are_ignored");
    struct test_vk vk;
    open_store(&vk);
    put(&vk, 1, 10);
    put(&vk, 2, 20);
    test_vk_close(&vk);
    size_t size;
    uint8_t *good = read_store(&size), *bad = malloc(size + 1);
    assert_non_null(bad);
    memset(bad, 'x', size + 1);
    write_store(bad, 10);
    expect_ignored("too short");
    write_store(bad, size);
    expect_ignored("no store of facts");
    write_store(good, size - 1);
    expect_ignored("truncated");
    memcpy(bad, good, size);
    write_store(bad, size + 1);
    expect_ignored("truncated");
    bad[8]++;
    write_store(bad, size);
    expect_ignored("of another version");
    memcpy(bad, good, size);
    bad[16]++; // the vendor
    write_store(bad, size);
    expect_ignored("of another device or driver");
    memcpy(bad, good, size);
    bad[size - 1] ^= 1;
    write_store(bad, size);
    expect_ignored("damaged");
    for (int i = 0; i < 10; i++) { // any single bit
        memcpy(bad, good, size);
        bad[test_random_range(&random, 0, (uint32_t)size - 1)] ^= (uint8_t)(1u << test_random_range(&random, 0, 7));
        write_store(bad, size);
        expect_ignored("; ignored");
    }
    free(good);
    free(bad);
}

static void store_can_be_off_or_nowhere(void **state) {
    (void)state;
    struct test_vk vk;
    const char *const nowhere[] = {"", "/dev/null/cache"};
    for (int i = 0; i < 2; i++) {
        test_vk_open(&vk, nowhere[i]);
        put(&vk, 1, 10);
        hymn_vk_store_flush(vk.device);
        expect(&vk, 1, 10);
        assert_warnings(&vk.log, i);
        test_vk_close(&vk);
        assert_int_equal(vk.log.errors, 0);
    }
}

static void open_stores_are_merged(void **state) {
    (void)state;
    struct test_vk one, two;
    open_store(&one);
    open_store(&two);
    put(&one, 1, 10);
    put(&one, 3, 30);
    put(&two, 2, 20);
    put(&two, 3, 31);
    hymn_vk_store_flush(one.device);
    hymn_vk_store_flush(two.device);
    expect(&two, 1, 10); // taken in by the way
    test_vk_close(&one);
    test_vk_close(&two);
    open_store(&one);
    expect(&one, 1, 10);
    expect(&one, 2, 20);
    expect(&one, 3, 31); // of the last one to write
    test_vk_close(&one);
    assert_int_equal(one.log.warnings + two.log.warnings, 0);
}

// A process of its own: puts twenty facts, flushing after each.
static int child(const char *number, const char *where) {
    struct test_vk vk;
    uint32_t first = 100 * (uint32_t)atoi(number);
    if (test_vk_try(&vk, getenv("HYMN_DEVICE"), where, false) != HYMN_STATUS_OK) {
        return 1;
    }
    for (uint32_t i = 0; i < 20; i++) {
        if (hymn_vk_store_put(vk.device, key_of(first + i), &i, sizeof i) != HYMN_STATUS_OK) {
            return 1;
        }
        hymn_vk_store_flush(vk.device);
    }
    uint32_t warnings = vk.log.warnings;
    hymn_vk_device_destroy(&vk.device);
    return warnings ? 1 : 0;
}

// What two processes write at the same time is a whole file, and nothing is lost.
static void processes_lose_nothing(void **state) {
    (void)state;
    pid_t pids[2];
    const char *const numbers[] = {"1", "2"};
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            execl(program, program, numbers[i], folder, (char *)NULL);
            _exit(127);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    struct test_vk vk;
    open_store(&vk);
    assert_warnings(&vk.log, 0);
    uint32_t found[2] = {0};
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t value;
        if (hymn_vk_store_get(vk.device, key_of(100 + i / 20 * 100 + i % 20), &value, sizeof value)) {
            assert_int_equal(value, i % 20);
            found[i / 20]++;
        }
    }
    assert_int_equal(found[0], 20);
    assert_int_equal(found[1], 20);
    test_vk_close(&vk);
}

// What a loss has taught is there for the next device before the lost one is closed. Short work teaches nothing.
static void losses_are_remembered_at_once(void **state) {
    (void)state;
    struct test_vk lost, next;
    open_store(&lost);
    hymn_vk_slowness_lost(lost.device, 0.01);
    assert_true(lost.device->slowness == 1.0);
    hymn_vk_slowness_lost(lost.device, 0.2);
    assert_true(lost.device->slowness == 4.0);
    hymn_vk_slowness_lost(lost.device, 0.2); // another run that was in flight
    assert_true(lost.device->slowness == 4.0);
    open_store(&next);
    assert_true(next.device->slowness == 4.0);
    hymn_vk_slowness_lost(next.device, 0.2);
    assert_true(next.device->slowness == 16.0);
    test_vk_close(&next);
    test_vk_close(&lost);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int count, char **arguments) {
    if (count == 3) {
        return child(arguments[1], arguments[2]);
    }
    program = arguments[0];
    const struct CMUnitTest tests[] = {
        STORE_TEST(facts_are_kept),
        STORE_TEST(facts_that_were_not_written_stay),
        STORE_TEST(large_facts),
        STORE_TEST(oldest_facts_give_way),
        STORE_TEST(full_stores_are_merged),
        STORE_TEST(dropped_facts_stay_dropped),
        STORE_TEST(damaged_and_foreign_files_are_ignored),
        STORE_TEST(store_can_be_off_or_nowhere),
        STORE_TEST(open_stores_are_merged),
        STORE_TEST(processes_lose_nothing),
        STORE_TEST(losses_are_remembered_at_once),
    };
    return cmocka_run_group_tests_name("vk_device_store", tests, NULL, NULL);
}
