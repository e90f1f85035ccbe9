// SPDX-License-Identifier: MIT
//
// One way to compute one node, on the device alone, ready to be timed.
#ifndef HYMN_TUNE_TRIAL_H
#define HYMN_TUNE_TRIAL_H

#include "ops/ops.h"
#include "tune/choice.h"
#include "vk/command.h"

// That the node is computed in one run; what is behind the first time counts for ceilings alone (best_ms).
#define HYMN_TRIAL_TIMES 4u

struct hymn_trial {
    struct hymn_method method;
    struct hymn_graph graph; // the node and its values
    struct hymn_lower lower;
    struct hymn_vk_program repeated; // the lowered program several times
    struct hymn_vk_buffer weights, counters;
    struct hymn_vk_command command;
    double estimate; // seconds of a run, with slowness 1
    double *step_ms; // of one run, and behind it the shortest so far of each step, but for first times
    struct hymn_choice_samples samples;
    // What the first time of a run takes (hymn_choice_add): its code comes from far where other trials ran in between,
    // as it does in a network, which runs each kernel once. Negative: not run yet, or a device without timers. best_ms:
    // the sum of the shortest.
    double ms, best_ms;
    uint64_t most_compared; // bytes at either end of an output that hymn_trial_output reads; 16 MiB
};

// Lowers graph's node by the method for a plan (kept by reference). Freed with hymn_trial_close in any case.
enum hymn_status hymn_trial_open(struct hymn_vk_device *device, const struct hymn_vk_plan *plan,
                                 const struct hymn_graph *graph, const struct hymn_node *node,
                                 const struct hymn_method *method, struct hymn_trial *trial);
// The same with shaders that are right on this device: where one was found wrong, which demotes it in the plan, it is
// lowered again, and the operator takes another. Closed already when it fails.
enum hymn_status hymn_trial_open_checked(struct hymn_vk_device *device, struct hymn_vk_plan *plan,
                                         const struct hymn_graph *graph, const struct hymn_node *node,
                                         const struct hymn_method *method, struct hymn_trial *trial);
// Uploads and records; pipelines have been made. activations: graph.activation_bytes or more, which trials that do not
// run at the same time may share. What they hold does not matter: nothing branches on it.
enum hymn_status hymn_trial_ready(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                  struct hymn_trial *trial);
// Records it anew, for activations that are elsewhere than when it was made ready.
enum hymn_status hymn_trial_record(struct hymn_vk_device *device, const struct hymn_vk_buffer *activations,
                                   struct hymn_trial *trial);
// Runs it and keeps its times.
enum hymn_status hymn_trial_run(struct hymn_vk_device *device, struct hymn_trial *trial, VkFence fence);
// What its last run tells of the device: that it is slower than its plan says. A trial says nothing of a faster one:
// networks have slower nodes.
void hymn_trial_learn(struct hymn_vk_device *device, const struct hymn_trial *trial);
// As before its first run.
void hymn_trial_forget(struct hymn_trial *trial);
// Records it anew, for the activations may be others than those it was timed with, runs it on random inputs, the same
// ones for all trials of a node, with everything else NaN before, and copies the node's output, and behind it what is
// pooled of that or convolved in depth, to *out_output, which the caller frees with hymn_free: all of each, or, of more
// than twice most_compared, so much of its beginning and of its end, in whole pixels.
enum hymn_status hymn_trial_output(struct hymn_vk_device *device, struct hymn_vk_buffer *activations,
                                   struct hymn_trial *trial, VkFence fence, uint8_t **out_output);
// Whether two trials' outputs agree as closely as rounding in their storage lets them.
bool hymn_trial_agrees(const struct hymn_trial *trial, const uint8_t *output, const uint8_t *expected);
void hymn_trial_close(struct hymn_vk_device *device, struct hymn_trial *trial);

#endif
