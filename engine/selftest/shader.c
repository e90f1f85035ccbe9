// SPDX-License-Identifier: MIT
//
// One shader through its cases.
#include <math.h>
#include <string.h>

#include "selftest/run.h"
#include "selftest/selftest.h"
#include "vk/pipeline.h"

#define TOLERANCE_F32 1e-10
#define TOLERANCE_F16 1e-6 // weights and results rounded to 11 bits
#define SMALL_LANES 64u
#define LARGE_LANES 131072u

struct check {
    struct hymn_vk_device *device;
    const struct hymn_shader *shader;
    const struct hymn_selftest_options *options;
    struct hymn_selftest_rooms *rooms;
    struct hymn_selftest_outcome *outcome;
    uint32_t index; // case
    enum hymn_storage storage;
    struct hymn_vk_program *collected; // not NULL: steps are only gathered here, so that their pipelines are made in
                                       // one batch
};

// The first reason stays, but for that it could not be run once: wrong numbers tell more.
static void fail(const struct check *check, const char *reason) {
    struct hymn_selftest_outcome *outcome = check->outcome;
    if (!outcome->reason || outcome->refused) {
        outcome->reason = reason;
        outcome->where = hymn_selftest_case_name(check->index);
        outcome->refused = false;
    }
}

// Whether a number of a value need not be there: what is convolved in depth by the node itself.
static bool is_unstored(const struct hymn_graph *graph, uint32_t value, uint64_t i) {
    const struct hymn_node *node = &graph->nodes[0];
    return node->convolved != HYMN_NONE && value == node->output && i % graph->values[value].stride < node->parts[0];
}

// Normalised mean squared error of a run's value; what it is compared with is in plain C (base NULL) or on the device.
static double error_of(const struct hymn_selftest_run *run, const struct hymn_selftest_run *base, uint32_t value) {
    double error = 0.0, power = 0.0;
    for (uint64_t i = 0; i < hymn_selftest_size(&run->problem->graph, value); i++) {
        if (is_unstored(&run->problem->graph, value, i)) {
            continue;
        }
        double expected = base ? hymn_selftest_number(base, value, i) : run->problem->values[value][i];
        double difference = hymn_selftest_number(run, value, i) - expected;
        error += difference * difference;
        power += expected * expected;
    }
    double nmse = error == 0.0 ? 0.0 : error / power;
    return isfinite(nmse) ? nmse : INFINITY;
}

static void compare(const struct check *check, const struct hymn_selftest_run *run,
                    const struct hymn_selftest_run *base) {
    double *worst = base ? &check->outcome->base_error : &check->outcome->reference_error;
    for (uint32_t i = 0; i < HYMN_SELFTEST_MAX_VALUES; i++) {
        if (!run->problem->written[i] || (base && !base->problem->written[i])) {
            continue;
        }
        bool half = run->problem->graph.values[i].storage == HYMN_STORAGE_F16;
        double nmse = error_of(run, base, i);
        *worst = nmse > *worst ? nmse : *worst;
        if (nmse > (half ? TOLERANCE_F16 : TOLERANCE_F32)) {
            fail(check, base ? "differs from the base variant" : "wrong");
        }
    }
    if (!hymn_selftest_same_masks(run)) {
        fail(check, "wrong");
    }
}

// Builds a case and lowers it for a plan; closed with close_case in any case.
static enum hymn_status open_case(const struct check *check, const struct hymn_vk_plan *plan, bool numbers,
                                  struct hymn_selftest_problem *problem, struct hymn_selftest_run *run) {
    memset(run, 0, sizeof *run);
    run->device = check->device;
    return hymn_selftest_build(check->index, check->storage, numbers, problem)
               ? hymn_selftest_open(check->device, plan, !numbers, problem, run)
               : hymn_fail(&check->device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
}

static void close_case(struct hymn_selftest_problem *problem, struct hymn_selftest_run *run) {
    hymn_selftest_close(run);
    hymn_selftest_problem_free(problem);
}

// The same problem by the base variants, on the same device.
static enum hymn_status compare_with_base(const struct check *check, const struct hymn_selftest_run *run) {
    struct hymn_selftest_problem problem;
    struct hymn_vk_plan plan;
    struct hymn_selftest_run base;
    hymn_vk_plan_make(&check->device->snapshot, HYMN_TIER_BASE, &plan);
    enum hymn_status status = open_case(check, &plan, true, &problem, &base);
    if (status == HYMN_STATUS_OK) {
        status = hymn_selftest_ready(&base, &check->rooms->base);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_selftest_execute(&base);
    }
    if (status == HYMN_STATUS_OK) {
        compare(check, run, &base);
    }
    close_case(&problem, &base);
    return status;
}

// Runs what has been made ready, and compares.
static enum hymn_status execute_all(const struct check *check, struct hymn_selftest_run *run) {
    struct hymn_selftest_outcome *outcome = check->outcome;
    uint8_t *first = hymn_alloc(run->bytes, 1);
    enum hymn_status status =
        first ? hymn_selftest_execute(run)
              : hymn_fail(&check->device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    if (status == HYMN_STATUS_OK) {
        memcpy(first, run->after, run->bytes);
        hymn_selftest_expect(run->problem);
        compare(check, run, NULL);
        outcome->cases++;
        outcome->runs++;
        outcome->kind = hymn_kind_name(hymn_selftest_case_kind(check->index));
        status = check->options->against_base ? compare_with_base(check, run) : HYMN_STATUS_OK;
    }
    for (uint32_t i = 1; i < check->options->runs && status == HYMN_STATUS_OK; i++) {
        status = hymn_selftest_execute(run);
        bool same = status != HYMN_STATUS_OK || hymn_selftest_same(run, first);
        outcome->runs++;
        outcome->differing += !same;
        if (!same) {
            fail(check, "not the same every time");
        }
    }
    hymn_free(first);
    return status;
}

// Whether a failure says something about the shader and not about the machine.
static bool is_shaders_fault(enum hymn_status status) {
    return status == HYMN_STATUS_INTERNAL || status == HYMN_STATUS_UNSUPPORTED;
}

static enum hymn_status collect(const struct check *check, const struct hymn_vk_program *program) {
    struct hymn_vk_program *collected = check->collected;
    uint32_t i = collected->count;
    if (!hymn_vk_program_append(collected, program)) {
        return hymn_fail(&check->device->log, HYMN_STATUS_OUT_OF_MEMORY, "self-test: out of memory");
    }
    for (; i < collected->count; i++) {
        collected->steps[i].name = collected->steps[i].shader->name; // the node's goes with its graph
    }
    return HYMN_STATUS_OK;
}

// What the base variants compute a case by.
static enum hymn_status collect_base(const struct check *check) {
    struct hymn_selftest_problem problem;
    struct hymn_vk_plan plan;
    struct hymn_selftest_run base;
    hymn_vk_plan_make(&check->device->snapshot, HYMN_TIER_BASE, &plan);
    enum hymn_status status = open_case(check, &plan, false, &problem, &base);
    status = status == HYMN_STATUS_OK ? collect(check, &base.lower.program) : status;
    close_case(&problem, &base);
    return status;
}

static enum hymn_status ready_and_execute(const struct check *check, struct hymn_selftest_run *run) {
    enum hymn_status status = hymn_selftest_ready(run, &check->rooms->own);
    status = status == HYMN_STATUS_OK ? execute_all(check, run) : status;
    if (is_shaders_fault(status)) {
        if (!check->outcome->reason) {
            fail(check, "cannot be run");
            check->outcome->refused = true;
        }
        check->outcome->cases += check->outcome->cases == 0;
        return HYMN_STATUS_OK;
    }
    return status;
}

// One case for one plan; *out_used: the shader is in it.
static enum hymn_status run_case(const struct check *check, const struct hymn_vk_plan *plan, bool *out_used) {
    struct hymn_selftest_problem problem;
    struct hymn_selftest_run run;
    enum hymn_status status = open_case(check, plan, false, &problem, &run);
    *out_used = status == HYMN_STATUS_OK && hymn_selftest_uses(&run, check->shader);
    if (*out_used && check->collected) {
        status = collect(check, &run.lower.program);
    }
    close_case(&problem, &run);
    if (*out_used && check->collected && check->options->against_base && status == HYMN_STATUS_OK) {
        status = collect_base(check);
    }
    if (*out_used && !check->collected) {
        status = open_case(check, plan, true, &problem, &run);
        status = status == HYMN_STATUS_OK ? ready_and_execute(check, &run) : status;
        close_case(&problem, &run);
    }
    return status;
}

// As the plan is, and if the shader does not come into use so, without the other variants; those for few storage
// buffers also without the base variants that need more, if `few`.
static enum hymn_status run_plan(const struct check *check, const struct hymn_vk_plan *plan, bool few) {
    const uint32_t without[] = {0, ~(uint32_t)HYMN_NEEDS_BUFFERS, UINT32_MAX};
    bool used = false;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < (few ? 3 : 2) && !used && status == HYMN_STATUS_OK; i++) {
        struct hymn_vk_plan only = *plan;
        for (uint32_t k = 0; k < hymn_shader_count; k++) {
            if (hymn_shaders[k].needs & without[i] && &hymn_shaders[k] != check->shader) {
                hymn_vk_plan_demote(&only, &hymn_shaders[k], true);
            }
        }
        status = run_case(check, &only, &used);
    }
    return status;
}

// Whatever the storage that the shader's name ends in.
static bool is_named(const struct hymn_shader *shader, const char *name) {
    const size_t length = strlen(name);
    return strncmp(shader->name, name, length) == 0 && (shader->name[length] == 0 || shader->name[length] == '.');
}

static enum hymn_status run_all(struct check *check, const struct hymn_vk_plan *plan) {
    const struct hymn_selftest_options *options = check->options;
    // How many lanes fill the device decides about tiles and chunks: a small one makes those that large layers get.
    const uint32_t lanes[] = {plan->target_lanes, SMALL_LANES, LARGE_LANES, SMALL_LANES};
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < 2 * 4 * hymn_selftest_case_count() && status == HYMN_STATUS_OK; i++) {
        struct hymn_vk_plan with = *plan;
        uint32_t kind = i / 2 % 4;
        check->index = i / 8;
        check->storage = i % 2 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
        with.target_lanes = lanes[kind];
        if (kind >= 2) { // what software devices would not choose
            with.cpu = with.weights_f32 = false;
        }
        const char *only = hymn_selftest_case_only(check->index);
        bool other = only && !is_named(check->shader, only);
        bool again = kind == 3 ? !plan->cpu : kind > 0 && lanes[kind] == lanes[0];
        bool slow = options->quick && (kind >= 2 || !hymn_selftest_case_quick(check->index));
        // Where the device has more buffers nothing but this test uses those for few: once is enough.
        bool few = kind == 0 || !(plan->needs_met & HYMN_NEEDS_BUFFERS);
        status = again || slow || other ? HYMN_STATUS_OK : run_plan(check, &with, few);
    }
    return status;
}

enum hymn_status hymn_selftest_collect(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_shader *shader, const struct hymn_selftest_options *options,
                                       struct hymn_vk_program *program) {
    struct hymn_selftest_outcome none = {0};
    struct check check = {
        .device = device, .shader = shader, .options = options, .outcome = &none, .collected = program};
    return run_all(&check, plan);
}

enum hymn_status hymn_selftest_shader(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      const struct hymn_shader *shader, const struct hymn_selftest_options *options,
                                      struct hymn_selftest_rooms *rooms, struct hymn_selftest_outcome *out_outcome) {
    struct hymn_vk_program program = {0};
    struct check check = {
        .device = device, .shader = shader, .options = options, .rooms = rooms, .outcome = out_outcome};
    *out_outcome = (struct hymn_selftest_outcome){.base_error = options->against_base ? 0.0 : -1.0};
    enum hymn_status status = HYMN_STATUS_OK;
    if (!options->prepared) {
        status = hymn_selftest_collect(device, plan, shader, options, &program);
    }
    if (!options->prepared && status == HYMN_STATUS_OK) {
        // Which one cannot be made is found again, and blamed, with its case.
        status = hymn_vk_pipelines_prepare(device, program.steps, program.count);
        status = is_shaders_fault(status) ? HYMN_STATUS_OK : status;
    }
    hymn_vk_program_free(&program);
    return status == HYMN_STATUS_OK ? run_all(&check, plan) : status;
}
