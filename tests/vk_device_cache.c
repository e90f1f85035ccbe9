// SPDX-License-Identifier: MIT
//
// The pipeline cache on disk: kept, and ignored when damaged, truncated or somebody else's.
#define _POSIX_C_SOURCE 200809L // mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/file.h"
#include "support/test_random.h"
#include "support/test_vk.h"
#include "vk/cache.h"
#include "vk/pipeline.h"

static char folder[128], path[512];

static struct hymn_vk_step step_with(uint32_t multiplier) {
    return (struct hymn_vk_step){.name = "step",
                                 .shader = test_vk_shader("chain"),
                                 .constants = {64, multiplier},
                                 .constant_count = 2,
                                 .binding_count = 2,
                                 .push_bytes = 12};
}

// Opens a device that keeps its cache in the folder, makes a pipeline, closes it.
static void use_cache(struct test_vk *vk, uint32_t multiplier) {
    test_vk_open(vk, folder);
    assert_non_null(vk->device->cache_path);
    snprintf(path, sizeof path, "%s", vk->device->cache_path);
    struct hymn_vk_step step = step_with(multiplier);
    assert_int_equal(hymn_vk_pipelines_prepare(vk->device, &step, 1), HYMN_STATUS_OK);
    test_vk_close(vk);
}

// To be freed with free.
static uint8_t *read_cache_file(size_t *out_size) {
    struct hymn_file_map map;
    assert_int_equal(hymn_file_map_open(path, NULL, &map), HYMN_STATUS_OK);
    uint8_t *copy = malloc(map.size + 1);
    assert_non_null(copy);
    memcpy(copy, map.data, map.size);
    *out_size = map.size;
    hymn_file_map_close(&map);
    return copy;
}

static void write_cache_file(const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hymn-cache-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    remove(path);
    char below[256];
    snprintf(below, sizeof below, "%s/new/folders", folder);
    remove(below);
    snprintf(below, sizeof below, "%s/new", folder);
    remove(below);
    return remove(folder);
}

static void cache_is_written_and_read(void **state) {
    (void)state;
    struct test_vk vk;
    use_cache(&vk, 1);
    size_t size, again;
    uint8_t *first = read_cache_file(&size);
    assert_true(size > 88);
    assert_memory_equal(first, "HYMNPIPE", 8);
    use_cache(&vk, 1);
    assert_warnings(&vk.log, 0);
    uint8_t *second = read_cache_file(&again);
    assert_true(again >= size);
    free(first);
    free(second);
}

// Nothing new: the file is left alone.
static void unchanged_cache_is_not_written(void **state) {
    (void)state;
    struct test_vk vk;
    use_cache(&vk, 1);
    use_cache(&vk, 1);
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    test_vk_open(&vk, folder);
    test_vk_close(&vk);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

static void expect_ignored(const char *why) {
    struct test_vk vk;
    use_cache(&vk, 3);
    assert_warnings(&vk.log, 1);
    assert_log(&vk.log, path);
    assert_log(&vk.log, why);
    assert_int_equal(vk.log.errors, 0);
    use_cache(&vk, 3); // it has been replaced by a good one
    assert_warnings(&vk.log, 0);
}

static void damaged_files_are_ignored(void **state) {
    (void)state;
    struct test_random random = test_random_start("damaged_files_are_ignored");
    struct test_vk vk;
    use_cache(&vk, 2);
    size_t size;
    uint8_t *good = read_cache_file(&size), *bad = malloc(size + 1);
    assert_non_null(bad);
    write_cache_file(good, 0);
    expect_ignored("too short");
    write_cache_file(good, 87);
    expect_ignored("too short");
    write_cache_file(good, size - 1);
    expect_ignored("truncated");
    good[size] = 0;
    write_cache_file(good, size + 1);
    expect_ignored("truncated");
    memset(bad, 'x', size);
    write_cache_file(bad, size);
    expect_ignored("not a pipeline cache");
    memcpy(bad, good, size);
    bad[8]++;
    write_cache_file(bad, size);
    expect_ignored("of another version");
    for (int i = 0; i < 20; i++) { // any single bit
        memcpy(bad, good, size);
        bad[test_random_range(&random, 0, (uint32_t)size - 1)] ^= (uint8_t)(1u << test_random_range(&random, 0, 7));
        write_cache_file(bad, size);
        expect_ignored("; ignored");
    }
    free(good);
    free(bad);
}

static void foreign_files_are_ignored(void **state) {
    (void)state;
    struct test_vk vk;
    use_cache(&vk, 2);
    size_t size;
    uint8_t *file = read_cache_file(&size);
    file[16]++; // the vendor
    write_cache_file(file, size);
    expect_ignored("of another device, driver or set of shaders");
    free(file);
}

static void cache_can_be_off_or_nowhere(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    assert_null(vk.device->cache_path);
    test_vk_close(&vk);
    // A folder that cannot be made: pipelines work, the failure is logged.
    test_vk_open(&vk, "/dev/null/cache");
    struct hymn_vk_step step = step_with(1);
    assert_int_equal(hymn_vk_pipelines_prepare(vk.device, &step, 1), HYMN_STATUS_OK);
    test_vk_close(&vk);
    assert_log(&vk.log, "the pipeline cache is not kept: /dev/null/cache");
    assert_int_equal(vk.log.errors, 0);
    // One that is not there yet is made.
    char below[256];
    snprintf(below, sizeof below, "%s/new/folders", folder);
    test_vk_open(&vk, below);
    snprintf(path, sizeof path, "%s", vk.device->cache_path);
    assert_int_equal(hymn_vk_pipelines_prepare(vk.device, &step, 1), HYMN_STATUS_OK);
    test_vk_close(&vk);
    size_t size;
    free(read_cache_file(&size));
    assert_true(size > 88);
}

// Two contexts at once, as two processes would: whoever closes last keeps what the other has stored.
static void two_writers_leave_a_good_file(void **state) {
    (void)state;
    struct test_vk one, two;
    test_vk_open(&one, folder);
    test_vk_open(&two, folder);
    snprintf(path, sizeof path, "%s", one.device->cache_path);
    assert_string_equal(one.device->cache_path, two.device->cache_path);
    struct hymn_vk_step a = step_with(5), b = step_with(6);
    assert_int_equal(hymn_vk_pipelines_prepare(one.device, &a, 1), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_pipelines_prepare(two.device, &b, 1), HYMN_STATUS_OK);
    test_vk_close(&one);
    test_vk_close(&two);
    assert_int_equal(one.log.warnings + two.log.warnings, 0);
    use_cache(&one, 5);
    assert_warnings(&one.log, 0);
}

static PFN_vkCreatePipelineCache real_create_cache;

static VKAPI_ATTR VkResult VKAPI_CALL refusing_create_cache(VkDevice device, const VkPipelineCacheCreateInfo *info,
                                                            const VkAllocationCallbacks *callbacks,
                                                            VkPipelineCache *cache) {
    return info->initialDataSize > 0 ? VK_ERROR_UNKNOWN : real_create_cache(device, info, callbacks, cache);
}

// Whole and undamaged, but the driver makes nothing of it: as if it were not there, and it is replaced.
static void refused_files_are_ignored(void **state) {
    (void)state;
    struct test_vk vk;
    struct stat before, after;
    use_cache(&vk, 1);
    test_vk_open(&vk, folder);
    VkPipelineCache cache = VK_NULL_HANDLE;
    real_create_cache = vk.device->table.vkCreatePipelineCache;
    vk.device->table.vkCreatePipelineCache = refusing_create_cache;
    assert_int_equal(hymn_vk_cache_load(vk.device, &cache), HYMN_STATUS_OK);
    assert_true(cache != VK_NULL_HANDLE);
    assert_int_equal(vk.log.errors, 0);
    assert_warnings(&vk.log, 1);
    assert_log(&vk.log, "refused by the driver (VK_ERROR_UNKNOWN); ignored");
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(hymn_vk_cache_store(vk.device, cache), HYMN_STATUS_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_equal(vk.log.errors, 0);
    vk.device->table.vkDestroyPipelineCache(vk.device->handle, cache, NULL);
    test_vk_close(&vk);
    use_cache(&vk, 1);
    assert_warnings(&vk.log, 0);
}

static size_t blob_bytes;  // of a driver's cache, as it tells
static uint32_t blobs_got; // how often it was asked for more than that

static VKAPI_ATTR VkResult VKAPI_CALL counting_get_data(VkDevice device, VkPipelineCache cache, size_t *bytes,
                                                        void *data) {
    (void)device, (void)cache;
    *bytes = blob_bytes;
    if (data) {
        memset(data, 7, blob_bytes);
        blobs_got++;
    }
    return VK_SUCCESS;
}

// A device that is in use writes its cache when pipelines have added something to it, and else does next to nothing.
static void new_pipelines_are_stored_at_once(void **state) {
    (void)state;
    const struct {
        uint32_t multiplier;
        size_t bytes;
        uint32_t stored; // by then
    } turns[] = {{1, 100, 1}, {1, 100, 1}, {2, 100, 1}, {3, 200, 2}, {3, 200, 2}};
    struct test_vk vk;
    struct stat file;
    test_vk_open(&vk, folder);
    snprintf(path, sizeof path, "%s", vk.device->cache_path);
    vk.device->table.vkGetPipelineCacheData = counting_get_data;
    blobs_got = 0;
    hymn_vk_pipelines_store(vk.device);
    assert_int_not_equal(stat(path, &file), 0);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        struct hymn_vk_step step = step_with(turns[i].multiplier);
        blob_bytes = turns[i].bytes;
        assert_int_equal(hymn_vk_pipelines_prepare(vk.device, &step, 1), HYMN_STATUS_OK);
        hymn_vk_pipelines_store(vk.device);
        assert_int_equal(blobs_got, turns[i].stored);
        assert_int_equal(stat(path, &file), 0);
        assert_int_equal(file.st_size, 88 + turns[i].bytes);
    }
    test_vk_close(&vk);
    assert_int_equal(blobs_got, 2);
}

// A device that is in use warns once of a cache that cannot be written, however often there is something new in it.
static void unwritable_caches_are_told_once(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, folder);
    snprintf(path, sizeof path, "%s", vk.device->cache_path);
    assert_int_equal(mkdir(path, 0700), 0); // nothing can be written there
    vk.device->table.vkGetPipelineCacheData = counting_get_data;
    for (uint32_t i = 1; i <= 3; i++) {
        struct hymn_vk_step step = step_with(i);
        blob_bytes = 100 * (size_t)i;
        assert_int_equal(hymn_vk_pipelines_prepare(vk.device, &step, 1), HYMN_STATUS_OK);
        hymn_vk_pipelines_store(vk.device);
        assert_log(&vk.log, "the pipeline cache is not kept");
        assert_warnings(&vk.log, 1);
    }
    test_vk_close(&vk);
    assert_warnings(&vk.log, 1);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_get_data(VkDevice device, VkPipelineCache cache, size_t *bytes,
                                                       void *data) {
    (void)device, (void)cache, (void)bytes, (void)data;
    return VK_ERROR_OUT_OF_HOST_MEMORY;
}

// What a cache cannot be kept for is no reason why a call failed: none did.
static void caches_without_memory_are_warned_of(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct test_vk vk;
        test_vk_open(&vk, folder);
        struct hymn_vk_step step = step_with(1);
        assert_int_equal(hymn_vk_pipelines_prepare(vk.device, &step, 1), HYMN_STATUS_OK);
        PFN_vkGetPipelineCacheData get_data = vk.device->table.vkGetPipelineCacheData;
        vk.device->table.vkGetPipelineCacheData = i == 0 ? get_data : failing_get_data;
        hymn_alloc_fail_after(i == 0 ? 0 : -1);
        hymn_vk_pipelines_store(vk.device);
        hymn_alloc_fail_after(-1);
        vk.device->table.vkGetPipelineCacheData = get_data;
        assert_log(&vk.log, "the pipeline cache is not kept");
        assert_warnings(&vk.log, 1);
        assert_int_equal(vk.log.errors, 0);
        test_vk_close(&vk);
    }
}

#define CACHE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CACHE_TEST(cache_is_written_and_read),        CACHE_TEST(unchanged_cache_is_not_written),
        CACHE_TEST(damaged_files_are_ignored),        CACHE_TEST(foreign_files_are_ignored),
        CACHE_TEST(cache_can_be_off_or_nowhere),      CACHE_TEST(two_writers_leave_a_good_file),
        CACHE_TEST(new_pipelines_are_stored_at_once), CACHE_TEST(refused_files_are_ignored),
        CACHE_TEST(unwritable_caches_are_told_once),  CACHE_TEST(caches_without_memory_are_warned_of),
    };
    return cmocka_run_group_tests_name("vk_device_cache", tests, NULL, NULL);
}
