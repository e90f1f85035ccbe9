// SPDX-License-Identifier: MIT
#include "vk/program.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

struct hymn_vk_step *hymn_vk_program_add(struct hymn_vk_program *program) {
    if (program->count == program->capacity) {
        uint32_t capacity = program->capacity ? program->capacity * 2 : 32;
        struct hymn_vk_step *steps = hymn_realloc(program->steps, capacity, sizeof *steps);
        if (!steps) {
            return NULL;
        }
        program->steps = steps;
        program->capacity = capacity;
    }
    struct hymn_vk_step *step = &program->steps[program->count++];
    memset(step, 0, sizeof *step);
    step->groups[0] = step->groups[1] = step->groups[2] = 1;
    return step;
}

bool hymn_vk_program_append(struct hymn_vk_program *program, const struct hymn_vk_program *other) {
    for (uint32_t i = 0; i < other->count; i++) {
        struct hymn_vk_step *step = hymn_vk_program_add(program);
        if (!step) {
            return false;
        }
        *step = other->steps[i];
    }
    return true;
}

void hymn_vk_program_free(struct hymn_vk_program *program) {
    hymn_free(program->steps);
    memset(program, 0, sizeof *program);
}

void hymn_vk_step_push(struct hymn_vk_step *step, const void *params, uint32_t bytes) {
    assert(bytes <= HYMN_VK_MAX_PUSH_BYTES && bytes % 4 == 0);
    memcpy(step->push, params, bytes);
    step->push_bytes = bytes;
}

bool hymn_vk_step_same_pipeline(const struct hymn_vk_step *a, const struct hymn_vk_step *b) {
    return a->kind == HYMN_VK_STEP_DISPATCH && b->kind == HYMN_VK_STEP_DISPATCH && a->shader == b->shader &&
           a->constant_count == b->constant_count && a->binding_count == b->binding_count &&
           a->push_bytes == b->push_bytes &&
           memcmp(a->constants, b->constants, a->constant_count * sizeof *a->constants) == 0;
}
