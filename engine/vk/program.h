// SPDX-License-Identifier: MIT
//
// What is to run on a device, as plain data: made by the operators without touching Vulkan, recorded by command.c.
#ifndef HYMN_VK_PROGRAM_H
#define HYMN_VK_PROGRAM_H

#include <hymn/hymn.h>

#include "vk/shader.h"

enum { HYMN_VK_MAX_BINDINGS = 8, HYMN_VK_MAX_CONSTANTS = 24, HYMN_VK_MAX_PUSH_BYTES = 128, HYMN_VK_MAX_PIECES = 8 };

// Which buffer of the session a binding means.
enum hymn_vk_role {
    HYMN_VK_ROLE_ACTIVATIONS = 0,      // the first piece of the aliased arena, device-local
    HYMN_VK_ROLE_WEIGHTS = 1,          // device-local, read-only after upload
    HYMN_VK_ROLE_UPLOAD = 2,           // host-visible, written by the host before a run
    HYMN_VK_ROLE_IMAGE = 3,            // device-local copy of the upload, scratch of pre- and post-processing
    HYMN_VK_ROLE_READBACK = 4,         // host-visible, read by the host after a run
    HYMN_VK_ROLE_COUNTERS = 5,         // device-local, zero before and after a run
    HYMN_VK_ROLE_MORE_ACTIVATIONS = 6, // the arena's other pieces
    HYMN_VK_ROLE_COUNT = HYMN_VK_ROLE_MORE_ACTIVATIONS + HYMN_VK_MAX_PIECES - 1
};

// Of the piece-th piece of the activations.
static inline enum hymn_vk_role hymn_vk_role_of_piece(uint32_t piece) {
    return piece == 0 ? HYMN_VK_ROLE_ACTIVATIONS
                      : (enum hymn_vk_role)((uint32_t)HYMN_VK_ROLE_MORE_ACTIVATIONS + piece - 1);
}

struct hymn_vk_binding {
    enum hymn_vk_role role;
    uint64_t offset, bytes; // offset: a multiple of 256; bytes: a multiple of 4
};

// What a part of a buffer is to hold.
struct hymn_vk_write {
    uint64_t offset; // in the buffer, a multiple of 4
    const void *data;
    uint64_t bytes; // a multiple of 4
};

enum hymn_vk_step_kind {
    HYMN_VK_STEP_DISPATCH = 0,
    HYMN_VK_STEP_COPY = 1 // bindings[0] -> bindings[1], bytes of the second
};

struct hymn_vk_step {
    enum hymn_vk_step_kind kind;
    const char *name;                 // the operator's name, for timings and debug labels; outlives the program
    const struct hymn_shader *shader; // its entry point is main; local sizes come from specialization constants
    uint32_t constants[HYMN_VK_MAX_CONSTANTS]; // specialization constants 0..constant_count-1 (32-bit each)
    uint32_t constant_count;
    struct hymn_vk_binding bindings[HYMN_VK_MAX_BINDINGS]; // storage buffers, set 0, binding = index
    uint32_t binding_count;
    uint32_t write_mask; // bit i: bindings[i] is written (or read and written)
    uint8_t push[HYMN_VK_MAX_PUSH_BYTES];
    uint32_t push_bytes;
    uint32_t groups[3];
    uint64_t bytes, flops; // least traffic and operations, for profiles and estimates
    double seconds;        // estimated by hymn_vk_program_divide; 0: next to nothing
    uint32_t slices;       // that its workgroups are dispatched in; 0 and 1: whole
};

struct hymn_vk_program {
    struct hymn_vk_step *steps;
    uint32_t count, capacity;
};

// A zeroed step at the end (groups 1,1,1), valid until the next one is added; NULL when out of memory.
struct hymn_vk_step *hymn_vk_program_add(struct hymn_vk_program *program);
// All steps of another program; false when out of memory.
bool hymn_vk_program_append(struct hymn_vk_program *program, const struct hymn_vk_program *other);
void hymn_vk_program_free(struct hymn_vk_program *program);
// Copies a push-constant struct into the step. bytes <= HYMN_VK_MAX_PUSH_BYTES, a multiple of 4.
void hymn_vk_step_push(struct hymn_vk_step *step, const void *params, uint32_t bytes);
// Whether two dispatches are of one pipeline.
bool hymn_vk_step_same_pipeline(const struct hymn_vk_step *a, const struct hymn_vk_step *b);

#endif
