// SPDX-License-Identifier: MIT
//
// What `hymn devices --report` has compiled: every shader that a device can run, of made-up devices and of HYMN_DEVICE
// (default: the first). Nothing is compiled here. With HYMN_TEST_SHARE (support/test_share.h) without made-up ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "support/test_leaks.h"
#include "support/test_share.h"
#include "support/test_snapshot.h"
#include "survey.h"

static bool is_listed(const struct survey *survey, const struct hymn_shader *shader) {
    for (uint32_t i = 0; i < survey->program.count; i++) {
        if (survey->program.steps[i].shader == shader) {
            return true;
        }
    }
    return false;
}

// Software devices have a kernel for each size of subgroups, and no use for sums in memory, for those that leave as
// f16, whose compilation takes them minutes, or for scans on matrices that they emulate.
static bool is_foreign(const struct hymn_vk_snapshot *snapshot, const struct hymn_shader *shader) {
    const char *other = snapshot->subgroup_size < 8 ? ".8" : ".4", *suffix = strchr(shader->name, '.');
    const bool lanes = strncmp(shader->name, "conv2d_lanes_", 13) == 0 && strcmp(suffix, other) == 0;
    static const char *const without[] = {
        "split",   "packed",    "mask",   "pool", "thin",      "pictures",
        "resized", "depthwise", "stream", "rows", "rows_mask", "rows_pool"}; // all but the first are packed
    bool sums = strcmp(shader->name, "selective_scan_group_matrix.f16") == 0;
    for (size_t i = 0; i < sizeof without / sizeof *without && strncmp(shader->name, "conv2d_matrix_", 14) == 0; i++) {
        sums = sums || strcmp(shader->name + 14, without[i]) == 0;
    }
    return lanes || (snapshot->type == HYMN_DEVICE_TYPE_CPU && sums);
}

// Every shader whose needs some plan meets.
static void check_listed(const struct hymn_vk_snapshot *snapshot) {
    static struct survey survey;
    json_t *cases = json_array();
    survey_list(snapshot, false, cases, &survey);
    assert_int_equal(survey.code, CODE_OK);
    uint32_t met = 0, missing = 0;
    for (uint32_t i = 0; i < survey.plan_count; i++) {
        met |= survey.plans[i].plan.needs_met;
    }
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        const struct hymn_shader *shader = &hymn_shaders[i];
        const bool foreign = is_foreign(snapshot, shader);
        if ((shader->needs & ~met) == 0 && is_listed(&survey, shader) == foreign) {
            print_error("%s: %s\n", shader->name, foreign ? "listed" : "not listed");
            missing++;
        }
    }
    survey_free(&survey);
    json_decref(cases);
    assert_int_equal(missing, 0);
}

static void every_shader_is_listed(void **state) {
    (void)state;
    if (test_share() > 1) {
        print_message("made-up devices are the same on every device\n");
        skip();
    }
    struct hymn_vk_snapshot s = test_snapshot(HYMN_DEVICE_TYPE_DISCRETE_GPU);
    s.matrices[0] = (struct hymn_vk_matrix){16, 16, 16, 1};
    s.matrix_count = 1;
    check_listed(&s);
    s = test_snapshot(HYMN_DEVICE_TYPE_INTEGRATED_GPU);
    s.subgroup_size = s.subgroup_min = s.subgroup_max = 128; // a phone
    check_listed(&s);
    s = test_snapshot(HYMN_DEVICE_TYPE_CPU);
    s.subgroup_size = s.subgroup_min = s.subgroup_max = 4;
    check_listed(&s);
}

static void every_shader_of_this_device_is_listed(void **state) {
    (void)state;
    const char *device = getenv("HYMN_DEVICE");
    struct hymn_vk_device *opened = NULL;
    const struct hymn_context_params params = {.log = console_log(), .device = device ? device : "0", .cache_dir = ""};
    assert_int_equal(hymn_vk_device_create_inspected(&params, &opened), HYMN_STATUS_OK);
    const struct hymn_vk_snapshot snapshot = opened->snapshot;
    hymn_vk_device_destroy(&opened);
    check_listed(&snapshot);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shader_is_listed),
        cmocka_unit_test(every_shader_of_this_device_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
