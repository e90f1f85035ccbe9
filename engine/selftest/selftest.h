// SPDX-License-Identifier: MIT
//
// Checks shaders on the device at hand before they are relied on. Drivers compile some of them wrongly; what every
// device can run (the base variants) and plain C say what is right.
#ifndef HYMN_SELFTEST_SELFTEST_H
#define HYMN_SELFTEST_SELFTEST_H

#include "vk/device.h"
#include "vk/memory.h"
#include "vk/plan.h"
#include "vk/program.h"

struct hymn_selftest_options {
    bool quick;        // only a few cases, as the plan lowers them; otherwise all, for small and large devices too
    bool against_base; // compare with the base variants too
    bool prepared;     // hymn_selftest_collect's pipelines have been made with others', as far as they can be
    uint32_t runs;     // of each case, at least 1; all must give the same bits
};

// Buffers that cases use one after the other. Zero-initialised: none yet.
struct hymn_selftest_room {
    struct hymn_vk_buffer upload; // what activations, and behind them weights, are before each run
    struct hymn_vk_buffer activations, weights, readback;
};

// What shaders that are checked one after the other share. Zero-initialise it; hymn_selftest_rooms_free.
struct hymn_selftest_rooms {
    struct hymn_selftest_room own, base;
};

struct hymn_selftest_outcome {
    uint32_t cases;         // that use the shader; 0: nothing was checked
    uint32_t runs;          // of all cases
    uint32_t differing;     // of these, those that differed from the first of their case
    double reference_error; // largest normalised mean squared error against plain C; infinite where it is not a number
    double base_error;      // the same against the base variants; negative: not compared
    const char *kind;       // of operator; NULL with no cases
    const char *reason;     // why it is wrong, static; NULL: it is right
    const char *where;      // the case that failed
    bool refused;           // it could not be run, which may be the machine's fault, and no number was wrong
};

void hymn_selftest_rooms_free(struct hymn_vk_device *device, struct hymn_selftest_rooms *rooms);

// Runs a shader of hymn_shaders, which the plan must allow, through the cases that can be made to use it. OK whatever
// the outcome; OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST: no outcome.
enum hymn_status hymn_selftest_shader(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                      const struct hymn_shader *shader, const struct hymn_selftest_options *options,
                                      struct hymn_selftest_rooms *rooms, struct hymn_selftest_outcome *out_outcome);

// Appends the steps of these cases, and those by which base variants compute them where they are compared with these,
// whose pipelines hymn_selftest_shader makes otherwise: those of several shaders can be made together, on several
// threads. OUT_OF_MEMORY.
enum hymn_status hymn_selftest_collect(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                       const struct hymn_shader *shader, const struct hymn_selftest_options *options,
                                       struct hymn_vk_program *program);

// Sees to it that every shader of a program that not every device can run has a verdict on this device: one given to
// this device before, or one from the store, or one found now and stored. What is to be checked for the first time has
// its pipelines made in one batch with all of the program's. Wrong ones are demoted in the device's plan and in `plan`;
// then *out_demoted is true, and the program must be lowered, and checked, again. A shader whose check began twice and
// never ended (the process crashed or was killed, the device was lost) counts as wrong for a day, and twice as long
// after each further time, up to 32 days; one that could not be run for a day; and one that no case uses. Does nothing
// on a device that trusts variants.
enum hymn_status hymn_selftest_check(struct hymn_vk_device *device, struct hymn_vk_plan *plan,
                                     const struct hymn_vk_program *program, bool *out_demoted);

#endif
