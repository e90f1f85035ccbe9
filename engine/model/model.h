// SPDX-License-Identifier: MIT
//
// What the engine sees of a model beyond hymn.h. A model that was made is whole: every tensor of hymn_model_expect is
// there with its shape, as F32, F16 or BF16, finite; running variances are not negative; nothing else is in the file.
// So the graph builder only asks for what it needs and handles running out of memory, and values that are not finite
// any more.
#ifndef HYMN_MODEL_MODEL_H
#define HYMN_MODEL_MODEL_H

#include "base/alloc.h"
#include "model/config.h"
#include "model/safetensors.h"

// Owned by the model.
const struct hymn_config *hymn_model_config(const struct hymn_model *model);
// What messages call it: its path, or what params named it. Owned by the model.
const char *hymn_model_name(const struct hymn_model *model);
// NULL when the network has no such tensor. Owned by the model.
const struct hymn_tensor *hymn_model_tensor(const struct hymn_model *model, const char *name);
// The tensor's values in its own order, [shape[0], shape[1], ...] f32, in `arena`. OUT_OF_MEMORY. BAD_MODEL: no such
// tensor, or not finite by now: its file, or the caller's data, has been changed. Neither is told in the log.
enum hymn_status hymn_model_load(const struct hymn_model *model, struct hymn_arena *arena, const char *name,
                                 float **out_values);

// One tensor that a network must have.
struct hymn_expected {
    char name[80];
    uint32_t rank;
    uint64_t shape[4];
    bool learned;  // counts as a parameter: not a running statistic
    bool variance; // must not be negative
};

// Calls `visit` for each tensor that a network of `config` has, in the network's order, until it returns false. False
// if it was stopped.
bool hymn_model_expect(const struct hymn_config *config, bool (*visit)(void *user, const struct hymn_expected *tensor),
                       void *user);

#endif
