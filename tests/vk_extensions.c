// SPDX-License-Identifier: MIT
//
// Which extensions are enabled on made-up devices, MoltenVK among them; and what drivers' statistics are taken to mean.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "vk/extensions.h"
#include "vk/statistics.h"

static const char *const moltenvk[] = {
    "VK_KHR_16bit_storage", "VK_KHR_portability_subset", "VK_KHR_shader_float16_int8",
    "VK_EXT_memory_budget", "VK_KHR_timeline_semaphore", "VK_EXT_subgroup_size_control",
};

static const char *const desktop[] = {
    "VK_KHR_cooperative_matrix",  "VK_KHR_pipeline_executable_properties",
    "VK_KHR_shader_float16_int8", "VK_KHR_swapchain",
    "VK_EXT_memory_budget",
};

static struct hymn_vk_extensions offer(const struct hymn_vk_snapshot *snapshot, uint32_t needs_met, bool statistics,
                                       const char *const *names, size_t count) {
    struct hymn_vk_extensions chosen = {0};
    const struct hymn_vk_plan plan = {.needs_met = needs_met};
    for (size_t i = 0; i < count; i++) {
        hymn_vk_extensions_offer(snapshot, &plan, statistics, names[i], &chosen);
    }
    return chosen;
}

#define OFFER(snapshot, needs, statistics, names)                                                                      \
    offer(snapshot, needs, statistics, names, sizeof(names) / sizeof(names)[0])

static bool enabled(const struct hymn_vk_extensions *chosen, const char *name) {
    for (uint32_t i = 0; i < chosen->count; i++) {
        if (strcmp(chosen->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void portability_subset_is_enabled_where_it_is_offered(void **state) {
    (void)state;
    const struct hymn_vk_snapshot snapshot = {.api_version = VK_API_VERSION_1_1, .float16 = true};
    struct hymn_vk_extensions chosen = OFFER(&snapshot, HYMN_NEEDS_FLOAT16, false, moltenvk);
    assert_true(chosen.portability_subset && enabled(&chosen, "VK_KHR_portability_subset"));
    assert_true(chosen.memory_budget && enabled(&chosen, "VK_EXT_memory_budget"));
    assert_true(enabled(&chosen, "VK_KHR_shader_float16_int8"));
    assert_int_equal(chosen.count, 3);
    // Even on the lowest tier.
    chosen = OFFER(&snapshot, 0, false, moltenvk);
    assert_true(chosen.portability_subset);
    assert_false(enabled(&chosen, "VK_KHR_shader_float16_int8"));
    chosen = OFFER(&snapshot, HYMN_NEEDS_FLOAT16, false, desktop);
    assert_false(chosen.portability_subset);
}

// Of the core since 1.3; before that an extension, for plans that ask for whole subgroups.
static void subgroup_sizes_are_an_extension_of_older_devices(void **state) {
    (void)state;
    const char *name = "VK_EXT_subgroup_size_control";
    for (int newer = 0; newer < 2; newer++) {
        for (int full = 0; full < 2; full++) {
            const struct hymn_vk_snapshot snapshot = {.api_version = newer ? VK_API_VERSION_1_3 : VK_API_VERSION_1_2};
            const struct hymn_vk_plan plan = {.subgroup_full = full};
            struct hymn_vk_extensions chosen = {0};
            hymn_vk_extensions_offer(&snapshot, &plan, false, name, &chosen);
            assert_int_equal(enabled(&chosen, name), full && !newer);
        }
    }
}

// Only where its feature is there too.
static void bounds_checks_are_switched_off_where_they_can_be(void **state) {
    (void)state;
    for (int can = 0; can < 2; can++) {
        const struct hymn_vk_snapshot snapshot = {.api_version = VK_API_VERSION_1_1, .pipeline_robustness = can};
        const struct hymn_vk_plan plan = {0};
        struct hymn_vk_extensions chosen = {0};
        hymn_vk_extensions_offer(&snapshot, &plan, false, "VK_EXT_pipeline_robustness", &chosen);
        assert_int_equal(chosen.pipeline_robustness, can);
        assert_int_equal(enabled(&chosen, "VK_EXT_pipeline_robustness"), can);
    }
}

static void only_what_is_used_is_enabled(void **state) {
    (void)state;
    const struct hymn_vk_snapshot snapshot = {.api_version = VK_API_VERSION_1_3, .float16 = true};
    const uint32_t all = HYMN_NEEDS_FLOAT16 | HYMN_NEEDS_COOPERATIVE_MATRIX;
    struct hymn_vk_extensions chosen = OFFER(&snapshot, all, false, desktop);
    assert_true(enabled(&chosen, "VK_KHR_cooperative_matrix"));
    assert_false(chosen.statistics || enabled(&chosen, "VK_KHR_pipeline_executable_properties"));
    assert_false(enabled(&chosen, "VK_KHR_shader_float16_int8")); // of the core since 1.2
    assert_int_equal(chosen.count, 2);
    chosen = OFFER(&snapshot, HYMN_NEEDS_FLOAT16, true, desktop);
    assert_false(enabled(&chosen, "VK_KHR_cooperative_matrix"));
    assert_true(chosen.statistics && enabled(&chosen, "VK_KHR_pipeline_executable_properties"));
    chosen = OFFER(&snapshot, all, true, moltenvk);
    assert_false(chosen.statistics);
}

// By the driver and by a layer.
static void an_extension_offered_twice_is_enabled_once(void **state) {
    (void)state;
    static const char *const twice[] = {"VK_EXT_memory_budget", "VK_KHR_portability_subset", "VK_EXT_memory_budget",
                                        "VK_KHR_portability_subset"};
    const struct hymn_vk_snapshot snapshot = {.api_version = VK_API_VERSION_1_3};
    const struct hymn_vk_extensions chosen = OFFER(&snapshot, 0, false, twice);
    assert_int_equal(chosen.count, 2);
    assert_true(chosen.memory_budget && chosen.portability_subset);
}

// ---- statistics

static struct hymn_vk_statistics translate(const struct hymn_vk_statistic *items, uint32_t count) {
    struct hymn_vk_statistics statistics = {.count = count};
    memcpy(statistics.items, items, count * sizeof *items);
    hymn_vk_statistics_translate(&statistics);
    return statistics;
}

#define TRANSLATE(items) translate(items, sizeof(items) / sizeof(items)[0])

static void statistics_of_each_driver_are_understood(void **state) {
    (void)state;
    static const struct hymn_vk_statistic radv[] = {{"SGPRs", 108},        {"VGPRs", 132},      {"Spilled SGPRs", 2},
                                                    {"Spilled VGPRs", 40}, {"LDS size", 22528}, {"Scratch size", 160},
                                                    {"Instructions", 847}, {"Copies", 143}};
    struct hymn_vk_statistics s = TRANSLATE(radv);
    assert_true(s.registers == 132 && s.spills == 42 && s.scratch_bytes == 160);
    assert_true(s.shared_bytes == 22528 && s.instructions == 847);
    static const struct hymn_vk_statistic turnip[] = {
        {"Instruction Count", 2825}, {"Registers used", 48}, {"STP Count", 30}, {"LDP Count", 31}};
    s = TRANSLATE(turnip);
    assert_true(s.registers == 48 && s.spills == 30 && s.instructions == 2825 && s.shared_bytes < 0);
    static const struct hymn_vk_statistic honeykrisp[] = {
        {"Instructions", 1910}, {"GPRs", 255}, {"Scratch", 36}, {"Spills", 9}, {"Fills", 12}};
    s = TRANSLATE(honeykrisp);
    assert_true(s.registers == 255 && s.spills == 9 && s.scratch_bytes == 36 && s.instructions == 1910);
    static const struct hymn_vk_statistic nvk[] = {{"Instruction count", 1728},
                                                   {"Spills to memory", 3},
                                                   {"Spills to reg", 21},
                                                   {"Number of GPRs", 104},
                                                   {"SLM size", 256}};
    s = TRANSLATE(nvk);
    assert_true(s.registers == 104 && s.spills == 3 && s.scratch_bytes == 256 && s.instructions == 1728);
}

static void what_is_not_told_is_not_zero(void **state) {
    (void)state;
    static const struct hymn_vk_statistic other[] = {{"Magic", 7}};
    const struct hymn_vk_statistics s = TRANSLATE(other), none = translate(other, 0);
    assert_true(s.registers < 0 && s.spills < 0 && s.scratch_bytes < 0 && s.shared_bytes < 0 && s.instructions < 0);
    assert_true(none.registers < 0 && none.spills < 0 && none.instructions < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portability_subset_is_enabled_where_it_is_offered),
        cmocka_unit_test(bounds_checks_are_switched_off_where_they_can_be),
        cmocka_unit_test(subgroup_sizes_are_an_extension_of_older_devices),
        cmocka_unit_test(only_what_is_used_is_enabled),
        cmocka_unit_test(an_extension_offered_twice_is_enabled_once),
        cmocka_unit_test(statistics_of_each_driver_are_understood),
        cmocka_unit_test(what_is_not_told_is_not_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
