// SPDX-License-Identifier: MIT
//
// Which memory is chosen on made-up devices, and what is flushed of it. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "support/test_random.h"
#include "vk/memory_type.h"

#define GIB ((uint64_t)1 << 30)
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define VISIBLE VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT
#define COHERENT VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT
#define LAZY VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT
#define PROTECTED VK_MEMORY_PROPERTY_PROTECTED_BIT
#define UNCACHED_AMD (VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD)
#define NONE HYMN_VK_NO_TYPE
#define NO_HEAP HYMN_VK_NO_HEAP

struct table {
    const char *name;
    struct {
        uint64_t size;
        bool local;
    } heaps[4]; // size 0: none
    struct {
        VkMemoryPropertyFlags flags;
        uint32_t heap;
    } types[10];
    uint32_t type_count;
    bool host_sees_all;                // as hymn_vk_memory_is_unified says
    uint64_t bytes;                    // as hymn_vk_memory_bytes says
    bool integrated;                   // no bus between
    uint32_t device, upload, readback; // types that are chosen
    uint64_t visible;                  // as hymn_vk_memory_visible_bytes says
    uint32_t direct;
};

static const struct table tables[] = {
    {.name = "discrete, a window of 256 MiB",
     .heaps = {{16 * GIB, true}, {32 * GIB, false}, {GIB / 4, true}},
     .types = {{0, 1},
               {LOCAL, 0},
               {VISIBLE | COHERENT, 1},
               {VISIBLE | COHERENT | CACHED, 1},
               {LOCAL | VISIBLE | COHERENT, 2}},
     .type_count = 5,
     .bytes = 16 * GIB,
     .device = 1,
     .upload = 2,
     .readback = 3,
     .visible = GIB / 4,
     .direct = 4},
    {.name = "discrete, all of it visible across the bus",
     .heaps = {{16 * GIB, true}, {32 * GIB, false}},
     .types = {{LOCAL, 0}, {LOCAL | VISIBLE | COHERENT, 0}, {VISIBLE | COHERENT, 1}, {VISIBLE | COHERENT | CACHED, 1}},
     .type_count = 4,
     .host_sees_all = true,
     .bytes = 16 * GIB,
     .device = 0,
     .upload = 2,
     .readback = 3,
     .visible = 16 * GIB,
     .direct = 1},
    {.name = "integrated",
     .heaps = {{8 * GIB, true}},
     .types = {{LOCAL, 0}, {LOCAL | VISIBLE | COHERENT, 0}, {LOCAL | VISIBLE | COHERENT | CACHED, 0}},
     .type_count = 3,
     .host_sees_all = true,
     .bytes = 8 * GIB,
     .integrated = true,
     .device = 1,
     .upload = 1,
     .readback = 2,
     .visible = 8 * GIB,
     .direct = 1},
    {.name = "phone, cached memory is not coherent",
     .heaps = {{6 * GIB, true}},
     .types = {{LOCAL | LAZY, 0}, {LOCAL | VISIBLE | COHERENT, 0}, {LOCAL | VISIBLE | CACHED, 0}},
     .type_count = 3,
     .host_sees_all = true,
     .bytes = 6 * GIB,
     .integrated = true,
     .device = 1,
     .upload = 1,
     .readback = 2,
     .visible = 6 * GIB,
     .direct = 1},
    {.name = "phone, nothing is coherent",
     .heaps = {{6 * GIB, true}},
     .types = {{LOCAL | VISIBLE | CACHED, 0}, {LOCAL | PROTECTED, 0}},
     .type_count = 2,
     .host_sees_all = true,
     .bytes = 6 * GIB,
     .integrated = true,
     .device = 0,
     .upload = 0,
     .readback = 0,
     .direct = NONE},
    {.name = "software: one kind of memory",
     .heaps = {{2 * GIB, true}},
     .types = {{LOCAL | VISIBLE | COHERENT | CACHED, 0}},
     .type_count = 1,
     .host_sees_all = true,
     .bytes = 2 * GIB,
     .integrated = true,
     .device = 0,
     .upload = 0,
     .readback = 0,
     .visible = 2 * GIB,
     .direct = 0},
    {.name = "nothing is device-local",
     .heaps = {{4 * GIB, false}},
     .types = {{VISIBLE | COHERENT, 0}, {VISIBLE | CACHED, 0}},
     .type_count = 2,
     .host_sees_all = true,
     .bytes = 4 * GIB,
     .integrated = true,
     .device = 0,
     .upload = 0,
     .readback = 1,
     .direct = NONE},
    {.name = "debugging kinds beside the usual ones",
     .heaps = {{8 * GIB, true}, {16 * GIB, false}},
     .types = {{LOCAL | UNCACHED_AMD, 0},
               {LOCAL, 0},
               {VISIBLE | COHERENT | UNCACHED_AMD, 1},
               {VISIBLE | COHERENT, 1},
               {VISIBLE | COHERENT | CACHED, 1}},
     .type_count = 5,
     .bytes = 8 * GIB,
     .device = 1,
     .upload = 3,
     .readback = 4,
     .direct = NONE},
    {.name = "integrated, a part set aside, a window of it",
     .heaps = {{GIB / 4, true}, {8 * GIB, false}, {GIB / 4, true}},
     .types = {{LOCAL, 0}, {VISIBLE | COHERENT, 1}, {LOCAL | VISIBLE | COHERENT, 2}, {VISIBLE | COHERENT | CACHED, 1}},
     .type_count = 4,
     .bytes = 8 * GIB,
     .integrated = true,
     .device = 0,
     .upload = 1,
     .readback = 3,
     .visible = GIB / 4,
     .direct = 2},
    {.name = "integrated, a part set aside, all of it visible",
     .heaps = {{GIB / 2, true}, {8 * GIB, false}},
     .types = {{LOCAL, 0}, {LOCAL | VISIBLE | COHERENT, 0}, {VISIBLE | COHERENT, 1}, {VISIBLE | COHERENT | CACHED, 1}},
     .type_count = 4,
     .host_sees_all = true,
     .bytes = 8 * GIB,
     .integrated = true,
     .device = 1,
     .upload = 1,
     .readback = 3,
     .visible = GIB / 2,
     .direct = 1},
    {.name = "nothing for the host",
     .heaps = {{8 * GIB, true}},
     .types = {{LOCAL, 0}},
     .type_count = 1,
     .bytes = 8 * GIB,
     .device = 0,
     .upload = NONE,
     .readback = NONE,
     .direct = NONE},
};

static VkPhysicalDeviceMemoryProperties properties_of(const struct table *table) {
    VkPhysicalDeviceMemoryProperties memory = {.memoryTypeCount = table->type_count};
    for (uint32_t i = 0; i < 4 && table->heaps[i].size; i++) {
        memory.memoryHeaps[i].size = table->heaps[i].size;
        memory.memoryHeaps[i].flags = table->heaps[i].local ? VK_MEMORY_HEAP_DEVICE_LOCAL_BIT : 0;
        memory.memoryHeapCount++;
    }
    for (uint32_t i = 0; i < table->type_count; i++) {
        memory.memoryTypes[i] = (VkMemoryType){table->types[i].flags, table->types[i].heap};
    }
    return memory;
}

static struct hymn_vk_memory_choice choose(const struct table *table, enum hymn_vk_usage usage, uint32_t allowed,
                                           uint64_t bytes, const uint64_t room[VK_MAX_MEMORY_HEAPS]) {
    const VkPhysicalDeviceMemoryProperties memory = properties_of(table);
    return hymn_vk_memory_choose(&memory, table->host_sees_all && table->integrated, table->integrated, usage, allowed,
                                 bytes, room);
}

static void each_usage_gets_its_memory(void **state) {
    (void)state;
    const uint64_t room[VK_MAX_MEMORY_HEAPS] = {GIB, GIB, GIB, GIB};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const struct table *table = &tables[i];
        VkPhysicalDeviceMemoryProperties memory = properties_of(table);
        bool sees_all = hymn_vk_memory_is_unified(&memory);
        uint64_t bytes = hymn_vk_memory_bytes(&memory, table->integrated);
        const uint32_t expected[] = {table->device, table->upload, table->readback, table->direct};
        for (uint32_t usage = 0; usage < 4; usage++) {
            struct hymn_vk_memory_choice choice = choose(table, (enum hymn_vk_usage)usage, UINT32_MAX, 4096, room);
            if (choice.type != expected[usage] || (choice.heap == NO_HEAP) != (choice.type == NONE)) {
                fail_msg("%s: type %u for usage %u, expected %u", table->name, choice.type, usage, expected[usage]);
            }
        }
        if (hymn_vk_memory_visible_bytes(&memory) != table->visible) {
            fail_msg("%s: the host writes to %llu bytes", table->name,
                     (unsigned long long)hymn_vk_memory_visible_bytes(&memory));
        }
        if (sees_all != table->host_sees_all || bytes != table->bytes) {
            fail_msg("%s: the host %s all of %llu bytes", table->name, sees_all ? "sees" : "does not see",
                     (unsigned long long)bytes);
        }
    }
}

static void full_memory_is_not_replaced_by_slow_memory(void **state) {
    (void)state;
    const struct table *table = &tables[0];
    const uint64_t room[VK_MAX_MEMORY_HEAPS] = {1000, GIB, 2000, 0};
    struct hymn_vk_memory_choice choice = choose(table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 1000, room);
    assert_int_equal(choice.type, 1);
    // The window is the device's own memory too.
    choice = choose(table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 1500, room);
    assert_int_equal(choice.type, 4);
    // The host's is not, though it has room.
    choice = choose(table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 4096, room);
    assert_int_equal(choice.type, NONE);
    assert_int_equal(choice.heap, 0);
    // For what the host reads any will do.
    choice = choose(table, HYMN_VK_USAGE_READBACK, UINT32_MAX & ~8u, 4096, room);
    assert_int_equal(choice.type, 2);
    choice = choose(table, HYMN_VK_USAGE_UPLOAD, UINT32_MAX, 2 * GIB, room);
    assert_int_equal(choice.type, NONE);
    assert_int_equal(choice.heap, 1);
    // There is nothing like the window.
    choice = choose(table, HYMN_VK_USAGE_DIRECT, UINT32_MAX, 4096, room);
    assert_int_equal(choice.type, NONE);
    assert_int_equal(choice.heap, 2);
    assert_int_equal(choose(table, HYMN_VK_USAGE_DIRECT, 15, 1, room).heap, NO_HEAP);
}

static void cached_memory_is_read_where_there_is_any(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const struct table *table = &tables[i];
        const VkPhysicalDeviceMemoryProperties memory = properties_of(table);
        const bool cached = table->readback != NONE && table->types[table->readback].flags & CACHED;
        for (uint32_t type = 0; type < table->type_count; type++) {
            assert_int_equal(hymn_vk_memory_reads_slowly(&memory, type),
                             cached && !(table->types[type].flags & CACHED));
        }
    }
    struct table table = tables[2];
    assert_true(table.integrated && table.device == 1);
    VkPhysicalDeviceMemoryProperties memory = properties_of(&table);
    assert_true(hymn_vk_memory_reads_slowly(&memory, 1));
    assert_false(hymn_vk_memory_reads_slowly(&memory, 2));
    memory.memoryTypeCount = 2;
    assert_false(hymn_vk_memory_reads_slowly(&memory, 1)); // there is no better
}

// What a driver sets aside for an integrated device is no faster than the rest, and the first to be full.
static void integrated_devices_have_the_hosts_memory(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct table table = tables[i];
        const uint64_t room[VK_MAX_MEMORY_HEAPS] = {table.heaps[0].size, table.heaps[1].size, table.heaps[2].size};
        if (!table.integrated || table.heaps[1].size == 0) {
            continue;
        }
        struct hymn_vk_memory_choice choice = choose(&table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, GIB, room);
        assert_true(choice.type != NONE && table.types[choice.type].heap == 1);
        choice = choose(&table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 9 * GIB, room);
        assert_true(choice.type == NONE && choice.heap == 1);
        table.integrated = false;
        choice = choose(&table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, GIB, room);
        assert_true(choice.type == NONE && choice.heap == 0);
        const VkPhysicalDeviceMemoryProperties memory = properties_of(&table);
        assert_int_equal(hymn_vk_memory_bytes(&memory, false), table.heaps[0].size);
    }
}

static void only_allowed_types_are_taken(void **state) {
    (void)state;
    struct table table = tables[0];
    const uint64_t room[VK_MAX_MEMORY_HEAPS] = {GIB, GIB, GIB};
    assert_int_equal(choose(&table, HYMN_VK_USAGE_DEVICE, 1u << 4, 1, room).type, 4);
    assert_int_equal(choose(&table, HYMN_VK_USAGE_UPLOAD, 1u << 1, 1, room).type, NONE);
    assert_int_equal(choose(&table, HYMN_VK_USAGE_DEVICE, 0, 1, room).heap, NO_HEAP);
    table.type_count = 0;
    table.integrated = true;
    assert_int_equal(choose(&table, HYMN_VK_USAGE_DEVICE, UINT32_MAX, 1, room).heap, NO_HEAP);
    table.heaps[0].size = 0;
    const VkPhysicalDeviceMemoryProperties memory = properties_of(&table);
    assert_false(hymn_vk_memory_is_unified(&memory));
    assert_int_equal(hymn_vk_memory_bytes(&memory, true), 0);
    assert_int_equal(hymn_vk_memory_visible_bytes(&memory), 0);
}

static void ranges_are_whole_atoms_within_the_allocation(void **state) {
    (void)state;
    struct test_random random = test_random_start("ranges_are_whole_atoms_within_the_allocation");
    for (int i = 0; i < 2000; i++) {
        uint64_t atom = (uint64_t)1 << test_random_range(&random, 0, 8);
        uint64_t allocated = test_random_range(&random, 1, 5000), offset = test_random_u64(&random) % allocated;
        uint64_t bytes = 1 + test_random_u64(&random) % (allocated - offset);
        VkMappedMemoryRange range = hymn_vk_memory_range(VK_NULL_HANDLE, allocated, atom, offset, bytes);
        assert_true(range.offset % atom == 0 && range.offset <= offset && offset - range.offset < atom);
        if (range.size == VK_WHOLE_SIZE) {
            assert_true(offset + bytes + atom > allocated);
        } else {
            assert_true(range.size % atom == 0 && range.offset + range.size >= offset + bytes);
            assert_true(range.offset + range.size < allocated);
        }
    }
    assert_int_equal(hymn_vk_memory_range(VK_NULL_HANDLE, 100, 0, 10, 20).size, 20); // a driver that says 0
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_usage_gets_its_memory),
        cmocka_unit_test(full_memory_is_not_replaced_by_slow_memory),
        cmocka_unit_test(integrated_devices_have_the_hosts_memory),
        cmocka_unit_test(cached_memory_is_read_where_there_is_any),
        cmocka_unit_test(only_allowed_types_are_taken),
        cmocka_unit_test(ranges_are_whole_atoms_within_the_allocation),
    };
    return cmocka_run_group_tests_name("vk_heaps", tests, NULL, NULL);
}
