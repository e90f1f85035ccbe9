// SPDX-License-Identifier: MIT
//
// Buffers: what is written is read back, by every way the bytes can take; memory that is not there.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "support/test_random.h"
#include "support/test_vk.h"
#include "vk/memory.h"

#define MIB ((uint64_t)1 << 20)

static void create(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                   struct hymn_vk_buffer *out_buffer) {
    assert_int_equal(hymn_vk_buffer_create(device, usage, bytes, "test buffer", out_buffer), HYMN_STATUS_OK);
    assert_int_equal(out_buffer->bytes, bytes);
    assert_true(out_buffer->allocated >= bytes);
}

static uint32_t *random_words(struct test_random *random, uint64_t count) {
    uint32_t *words = malloc(count * sizeof *words);
    assert_non_null(words);
    for (uint64_t i = 0; i < count; i++) {
        words[i] = (uint32_t)test_random_u64(random);
    }
    return words;
}

// Writes the buffer whole and then in random places, and reads random parts.
static void round_trips(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer, struct test_random *random) {
    enum { WRITES = 40 };
    uint32_t words = (uint32_t)(buffer->bytes / 4);
    uint32_t *expected = random_words(random, words), *other = random_words(random, words);
    uint32_t *read = malloc(words * sizeof *read);
    assert_non_null(read);
    struct hymn_vk_write whole = {0, expected, (uint64_t)words * 4};
    assert_int_equal(hymn_vk_buffer_write(device, buffer, &whole, 1), HYMN_STATUS_OK);
    struct hymn_vk_write writes[WRITES];
    uint32_t slice = words / WRITES; // disjoint, as the blocks of a weight buffer are
    for (uint32_t i = 0; i < WRITES; i++) {
        uint32_t from = i * slice + test_random_range(random, 0, slice / 2),
                 count = test_random_range(random, 0, slice / 2);
        writes[i] = (struct hymn_vk_write){(uint64_t)from * 4, other + from, (uint64_t)count * 4};
        memcpy(expected + from, other + from, count * sizeof *other);
    }
    assert_int_equal(hymn_vk_buffer_write(device, buffer, writes, WRITES), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_buffer_read(device, buffer, 0, read, (uint64_t)words * 4), HYMN_STATUS_OK);
    assert_memory_equal(read, expected, (size_t)words * 4);
    for (int i = 0; i < 10; i++) {
        uint32_t from = test_random_range(random, 0, words - 1), count = test_random_range(random, 0, words - from);
        assert_int_equal(hymn_vk_buffer_read(device, buffer, (uint64_t)from * 4, read, (uint64_t)count * 4),
                         HYMN_STATUS_OK);
        assert_memory_equal(read, expected + from, (size_t)count * 4);
    }
    for (int i = 0; i < 4; i++) { // again and again; a period may be longer than the range
        uint32_t from = test_random_range(random, 0, words - 1), count = test_random_range(random, 1, words - from);
        uint32_t most = i == 0 ? 3 : words < (4u << 20) ? words : 4u << 20;
        uint32_t period = test_random_range(random, 1, most);
        for (uint32_t k = 0; k < count; k++) {
            expected[from + k] = other[k % period];
        }
        assert_int_equal(
            hymn_vk_buffer_repeat(device, buffer, (uint64_t)from * 4, (uint64_t)count * 4, other, (uint64_t)period * 4),
            HYMN_STATUS_OK);
        assert_int_equal(hymn_vk_buffer_read(device, buffer, 0, read, (uint64_t)words * 4), HYMN_STATUS_OK);
        assert_memory_equal(read, expected, (size_t)words * 4);
    }
    free(expected);
    free(other);
    free(read);
}

static void every_usage_round_trips(void **state) {
    (void)state;
    struct test_random random = test_random_start("every_usage_round_trips");
    struct test_vk vk;
    test_vk_open(&vk, "");
    for (enum hymn_vk_usage usage = HYMN_VK_USAGE_DEVICE; usage <= HYMN_VK_USAGE_DIRECT; usage++) {
        struct hymn_vk_buffer buffer;
        if (usage == HYMN_VK_USAGE_DIRECT && vk.device->snapshot.visible_bytes == 0) {
            continue; // vk_heaps tells that there is none
        }
        create(vk.device, usage, 4 * (uint64_t)test_random_range(&random, 1000, 300000), &buffer);
        assert_true(usage == HYMN_VK_USAGE_DEVICE ? !buffer.mapped == !vk.device->plan.skip_staging
                                                  : buffer.mapped != NULL);
        round_trips(vk.device, &buffer, &random);
        hymn_vk_buffer_destroy(vk.device, &buffer);
        assert_null(buffer.mapped);
    }
    assert_int_equal(vk.device->memory_bytes, 0);
    test_vk_close(&vk);
}

// As on a discrete GPU, with more than one piece through the staging buffer.
static void staging_takes_any_size(void **state) {
    (void)state;
    struct test_random random = test_random_start("staging_takes_any_size");
    struct test_vk vk;
    test_vk_open(&vk, "");
    vk.device->plan.skip_staging = false;
    struct hymn_vk_buffer buffer;
    create(vk.device, HYMN_VK_USAGE_DEVICE, 40 * MIB + 12, &buffer);
    assert_null(buffer.mapped);
    round_trips(vk.device, &buffer, &random);
    assert_int_equal(vk.device->memory_bytes, buffer.allocated); // the staging buffer is gone
    hymn_vk_buffer_destroy(vk.device, &buffer);
    create(vk.device, HYMN_VK_USAGE_DEVICE, 4 * 41, &buffer);
    round_trips(vk.device, &buffer, &random);
    hymn_vk_buffer_destroy(vk.device, &buffer);
    test_vk_close(&vk);
}

// Ranges of memory that must be flushed keep to the device's atom; validation checks that.
static void non_coherent_ranges_are_whole_atoms(void **state) {
    (void)state;
    struct test_random random = test_random_start("non_coherent_ranges_are_whole_atoms");
    struct test_vk vk;
    test_vk_open(&vk, "");
    struct hymn_vk_buffer buffer;
    create(vk.device, HYMN_VK_USAGE_READBACK, 1004, &buffer);
    buffer.coherent = false;
    for (int i = 0; i < 200; i++) {
        uint64_t offset = test_random_range(&random, 0, 1004),
                 bytes = test_random_range(&random, 0, 1004 - (uint32_t)offset);
        assert_int_equal(hymn_vk_buffer_flush(vk.device, &buffer, offset, bytes), HYMN_STATUS_OK);
        assert_int_equal(hymn_vk_buffer_invalidate(vk.device, &buffer, offset, bytes), HYMN_STATUS_OK);
    }
    round_trips(vk.device, &buffer, &random);
    hymn_vk_buffer_destroy(vk.device, &buffer);
    test_vk_close(&vk);
}

static void expect_no_memory(struct test_vk *vk, uint64_t bytes, const char *needed) {
    struct hymn_vk_buffer buffer = {.bytes = 1};
    vk->device->log = test_log_start(&vk->log);
    assert_int_equal(hymn_vk_buffer_create(vk->device, HYMN_VK_USAGE_DEVICE, bytes, "activations", &buffer),
                     HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_true(buffer.handle == VK_NULL_HANDLE && buffer.memory == VK_NULL_HANDLE && buffer.bytes == 0);
    assert_log(&vk->log, "activations: ");
    assert_log(&vk->log, needed);
    assert_int_equal(vk->log.lines, 1);
}

static void missing_memory_is_named_before_it_is_taken(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    uint64_t heap = vk.device->snapshot.device_heap_bytes;
    vk.device->snapshot.max_allocation_bytes = 0; // not what is tested here
    expect_no_memory(&vk, heap + MIB, "MiB of device memory are needed");
    expect_no_memory(&vk, (uint64_t)1 << 62, "4398046511104.0 MiB of device memory are needed");
    vk.device->memory_bytes += 5 * MIB; // staged in the host's heap, as behind a bus
    expect_no_memory(&vk, heap + MIB, " MiB are free, and 0.0 MiB are in use here");
    vk.device->memory_bytes -= 5 * MIB;
    vk.device->snapshot.max_allocation_bytes = 64 * MIB;
    expect_no_memory(&vk, 65 * MIB, "68157440 bytes of device memory are needed");
    struct hymn_vk_buffer buffer, second;
    hymn_vk_memory_cap(vk.device, 3 * MIB);
    create(vk.device, HYMN_VK_USAGE_DEVICE, 2 * MIB, &buffer);
    expect_no_memory(&vk, 2 * MIB, "2.0 MiB of device memory are needed; of ");
    assert_log(&vk.log, ", 1.0 MiB are free, and 2.0 MiB are in use here");
    create(vk.device, HYMN_VK_USAGE_UPLOAD, MIB / 2, &second); // and goes on
    hymn_vk_buffer_destroy(vk.device, &buffer);
    hymn_vk_buffer_destroy(vk.device, &second);
    create(vk.device, HYMN_VK_USAGE_DEVICE, 2 * MIB, &buffer);
    hymn_vk_buffer_destroy(vk.device, &buffer);
    assert_int_equal(vk.device->memory_bytes, 0);
    test_vk_close(&vk);
}

static uint32_t calls, call_fails_at; // of allocating and mapping together; 0: never
static struct VolkDeviceTable real;

static VKAPI_ATTR VkResult VKAPI_CALL failing_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                                       const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    return ++calls == call_fails_at ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                    : real.vkAllocateMemory(device, info, callbacks, memory);
}

static VKAPI_ATTR VkResult VKAPI_CALL failing_map(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                                                  VkDeviceSize bytes, VkMemoryMapFlags flags, void **mapped) {
    return ++calls == call_fails_at ? VK_ERROR_MEMORY_MAP_FAILED
                                    : real.vkMapMemory(device, memory, offset, bytes, flags, mapped);
}

// Inputs are staged where the device's own memory cannot be had for them, be it too small, full, refused or not mapped;
// nobody hears of it.
static void inputs_are_staged_where_they_must_be(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    bool visible = vk.device->snapshot.visible_bytes > 0;
    struct hymn_vk_buffer buffer;
    bool direct;
    vk.device->log = test_log_start(&vk.log);
    vk.device->plan.skip_staging = true; // nothing lies between
    vk.device->direct_bytes = 0;
    assert_int_equal(hymn_vk_buffer_create_input(vk.device, 4096, "input", &buffer, &direct), HYMN_STATUS_OK);
    assert_true(direct && buffer.mapped);
    hymn_vk_buffer_destroy(vk.device, &buffer);
    vk.device->plan.skip_staging = false;
    vk.device->direct_bytes = 4096;
    real = vk.device->table;
    vk.device->table.vkAllocateMemory = failing_allocate;
    vk.device->table.vkMapMemory = failing_map;
    for (uint32_t i = 0; i < 4; i++) { // all is well, no memory, not mapped, too large
        uint64_t bytes = i < 3 ? 4096 : 4097;
        calls = 0;
        call_fails_at = i < 3 && visible ? i : 0; // without such memory the calls are those for staging
        assert_int_equal(hymn_vk_buffer_create_input(vk.device, bytes, "input", &buffer, &direct), HYMN_STATUS_OK);
        assert_int_equal(direct, visible && i == 0);
        assert_true(buffer.bytes == bytes && buffer.mapped);
        assert_int_equal(vk.device->memory_bytes, buffer.allocated);
        bool local = vk.device->memory.memoryHeaps[buffer.heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
        assert_true(!direct || (local && buffer.coherent));
        hymn_vk_buffer_destroy(vk.device, &buffer);
    }
    assert_int_equal(vk.log.errors + vk.log.warnings, 0);
    calls = 0;
    call_fails_at = 1; // staging itself: that is heard of
    assert_int_equal(hymn_vk_buffer_create_input(vk.device, 4097, "input", &buffer, &direct),
                     HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_true(!direct && !buffer.handle && vk.log.errors == 1);
    vk.device->table = real;
    test_vk_close(&vk);
}

static uint32_t real_type; // that stands for both of pretend_two_heaps

static VKAPI_ATTR void VKAPI_CALL two_types(VkDevice device, VkBuffer buffer, VkMemoryRequirements *requirements) {
    real.vkGetBufferMemoryRequirements(device, buffer, requirements);
    requirements->memoryTypeBits = 3;
}

static VKAPI_ATTR VkResult VKAPI_CALL allocate_either(VkDevice device, const VkMemoryAllocateInfo *info,
                                                      const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    VkMemoryAllocateInfo changed = *info;
    changed.memoryTypeIndex = real_type;
    return real.vkAllocateMemory(device, &changed, callbacks, memory);
}

// As if the device had a heap of its own and that of the host, with a type each, which are the host's in truth.
static void pretend_two_heaps(struct hymn_vk_device *device, uint64_t own_bytes, VkMemoryPropertyFlags own_flags,
                              VkMemoryPropertyFlags host_flags) {
    uint64_t room[VK_MAX_MEMORY_HEAPS] = {0};
    real = device->table;
    real_type = hymn_vk_memory_choose(&device->memory, true, true, HYMN_VK_USAGE_READBACK, UINT32_MAX, 0, room).type;
    assert_int_not_equal(real_type, HYMN_VK_NO_TYPE);
    const VkMemoryType *type = &device->memory.memoryTypes[real_type];
    const VkMemoryPropertyFlags coherent = type->propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    device->memory = (VkPhysicalDeviceMemoryProperties){
        .memoryTypeCount = 2,
        .memoryTypes = {{own_flags | coherent, 0}, {host_flags | coherent, 1}},
        .memoryHeapCount = 2,
        .memoryHeaps = {{own_bytes, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT},
                        {device->memory.memoryHeaps[type->heapIndex].size, 0}},
    };
    device->memory_budget = false;
    device->table.vkGetBufferMemoryRequirements = two_types;
    device->table.vkAllocateMemory = allocate_either;
}

// What has no room in the memory that is set aside for an integrated device.
static void integrated_devices_have_the_hosts_memory(void **state) {
    (void)state;
    struct test_random random = test_random_start("integrated_devices_have_the_hosts_memory");
    struct test_vk vk;
    test_vk_open(&vk, "");
    pretend_two_heaps(vk.device, 2 * MIB, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    vk.device->plan.skip_staging = false;
    vk.device->plan.integrated = true;
    for (uint32_t heap = 0; heap < 2; heap++) {
        struct hymn_vk_buffer buffer;
        create(vk.device, HYMN_VK_USAGE_DEVICE, (1 + 3 * heap) * MIB, &buffer);
        assert_int_equal(buffer.heap, heap);
        round_trips(vk.device, &buffer, &random);
        hymn_vk_buffer_destroy(vk.device, &buffer);
    }
    vk.device->plan.integrated = false;
    expect_no_memory(&vk, 4 * MIB, "4.0 MiB of device memory are needed; of ");
    assert_log(&vk.log, "'s 2.0 MiB, 2.0 MiB are free");
    vk.device->table = real;
    test_vk_close(&vk);
}

static uint32_t copies;

static VKAPI_ATTR void VKAPI_CALL counting_copy(VkCommandBuffer commands, VkBuffer from, VkBuffer to, uint32_t count,
                                                const VkBufferCopy *regions) {
    copies += count;
    real.vkCmdCopyBuffer(commands, from, to, count, regions);
}

// Mapped memory without the host's cache is copied to memory that has it, unless there is none.
static void uncached_memory_is_copied_before_it_is_read(void **state) {
    (void)state;
    const VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    const VkMemoryPropertyFlags cached = visible | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    const struct {
        VkMemoryPropertyFlags own, host;
        uint32_t copies;
    } cases[] = {{visible, cached, 3}, {cached, cached, 0}, {cached, visible, 0}, {visible, visible, 0}};
    struct test_random random = test_random_start("uncached_memory_is_copied_before_it_is_read");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_vk vk;
        test_vk_open(&vk, "");
        pretend_two_heaps(vk.device, 64 * MIB, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | cases[i].own, cases[i].host);
        vk.device->table.vkCmdCopyBuffer = counting_copy;
        vk.device->plan.skip_staging = vk.device->plan.integrated = true;
        struct hymn_vk_buffer buffer;
        create(vk.device, HYMN_VK_USAGE_DEVICE, 40 * MIB, &buffer);
        assert_true(buffer.mapped && buffer.heap == 0);
        uint32_t *words = random_words(&random, 10 * MIB), *read = calloc(10 * MIB, sizeof *read);
        const struct hymn_vk_write write = {0, words, 40 * MIB};
        assert_non_null(read);
        copies = 0;
        assert_int_equal(hymn_vk_buffer_write(vk.device, &buffer, &write, 1), HYMN_STATUS_OK);
        assert_int_equal(copies, 0);
        assert_int_equal(hymn_vk_buffer_read(vk.device, &buffer, 0, read, 40 * MIB), HYMN_STATUS_OK);
        assert_int_equal(copies, cases[i].copies);
        assert_memory_equal(words, read, 40 * MIB);
        free(words);
        free(read);
        hymn_vk_buffer_destroy(vk.device, &buffer);
        vk.device->table = real;
        test_vk_close(&vk);
    }
}

static void ranges_beyond_the_buffer_are_refused(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    struct hymn_vk_buffer buffer;
    create(vk.device, HYMN_VK_USAGE_DEVICE, 64, &buffer);
    uint32_t words[32] = {0};
    struct hymn_vk_write writes[] = {{0, words, 64}, {60, words, 8}};
    assert_int_equal(hymn_vk_buffer_write(vk.device, &buffer, writes, 1), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_buffer_write(vk.device, &buffer, writes, 2), HYMN_STATUS_INTERNAL);
    assert_int_equal(hymn_vk_buffer_read(vk.device, &buffer, UINT64_MAX - 3, words, 8), HYMN_STATUS_INTERNAL);
    assert_int_equal(hymn_vk_buffer_write(vk.device, &buffer, NULL, 0), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_buffer_repeat(vk.device, &buffer, 60, 8, words, 4), HYMN_STATUS_INTERNAL);
    assert_int_equal(hymn_vk_buffer_repeat(vk.device, &buffer, 0, 8, words, 0), HYMN_STATUS_INTERNAL);
    assert_int_equal(hymn_vk_buffer_repeat(vk.device, &buffer, 64, 0, words, 4), HYMN_STATUS_OK);
    hymn_vk_result(vk.device, VK_ERROR_DEVICE_LOST, "a test");
    struct hymn_vk_buffer none;
    assert_int_equal(hymn_vk_buffer_write(vk.device, &buffer, writes, 1), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_buffer_read(vk.device, &buffer, 0, words, 4), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_buffer_repeat(vk.device, &buffer, 0, 4, words, 4), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_buffer_create(vk.device, HYMN_VK_USAGE_DEVICE, 64, "x", &none), HYMN_STATUS_DEVICE_LOST);
    hymn_vk_buffer_destroy(vk.device, &buffer);
    hymn_vk_buffer_destroy(vk.device, &buffer); // zeroed: nothing to do
    test_vk_close(&vk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_usage_round_trips),
        cmocka_unit_test(staging_takes_any_size),
        cmocka_unit_test(non_coherent_ranges_are_whole_atoms),
        cmocka_unit_test(missing_memory_is_named_before_it_is_taken),
        cmocka_unit_test(inputs_are_staged_where_they_must_be),
        cmocka_unit_test(integrated_devices_have_the_hosts_memory),
        cmocka_unit_test(uncached_memory_is_copied_before_it_is_read),
        cmocka_unit_test(ranges_beyond_the_buffer_are_refused),
    };
    return cmocka_run_group_tests_name("vk_device_memory", tests, NULL, NULL);
}
