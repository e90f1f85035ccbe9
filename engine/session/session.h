// SPDX-License-Identifier: MIT
//
// A session's parts. session.c makes and destroys them, io.c lays out and records what surrounds the network for the
// images of a run, run.c submits and waits.
#ifndef HYMN_SESSION_SESSION_H
#define HYMN_SESSION_SESSION_H

#include "ops/ops.h"
#include "session/context.h"
#include "session/network.h"
#include "vk/command.h"

enum { HYMN_SESSION_MAX_SLOTS = 8 };

// What one image of a run asks for: what the pre- and post-processing commands are recorded for.
struct hymn_io_image {
    uint32_t height, width; // of the image; of the session for a tensor input
    enum hymn_pixel_format format;
    bool tensor;
    bool logits, probabilities, mask;
};

// Where an image's data lies in the slot's buffers; offsets are multiples of 256. Those of neighbouring images that ask
// for the same follow each other.
struct hymn_io_place {
    uint64_t upload;                      // pixels, or the tensor
    uint64_t logits, probabilities, mask; // in the readback buffer
};

// What runs that follow each other share: a queue, and the network's buffers, which belong to the run that is computed.
// Runs of different streams may be computed at the same time.
struct hymn_stream {
    VkQueue queue;
    struct hymn_vk_buffer activations[HYMN_GRAPH_MAX_PIECES]; // those that there are
    struct hymn_vk_buffer counters;                           // if there are any
};

// Everything that one run in flight needs for itself, and the stream that it is computed by.
struct hymn_slot {
    const struct hymn_stream *stream;
    struct hymn_vk_command before, network, after;
    struct hymn_vk_command behind; // `before` without the copy of the images, which `copy` does (vk/upload.h)
    struct hymn_vk_upload copy;
    struct hymn_vk_buffer upload, image, readback;
    VkFence fence;
    uint64_t ticket;              // 0: free
    uint32_t count;               // images in the run
    struct hymn_output *outputs;  // [batch]
    struct hymn_io_image *images; // [batch]: what before and after are recorded for
    struct hymn_io_place *places; // [batch]
    struct hymn_vk_program before_program, after_program;
    uint32_t recorded;                     // images that the commands are recorded for; 0: not recorded
    bool before_recorded, behind_recorded; // for the same: each when it is needed for the first time
    bool apart;                            // the last run's images were copied by `copy`
    bool direct;                           // shaders read `upload` where the host wrote it: nothing is copied
    uint64_t copy_bytes;                   // of the images of a run; 0: direct
    double slowness;                       // that they are divided for
    double seconds, copy_seconds;          // estimates of before and after, and of the copy in them, with slowness 1
    float threshold;                       // likewise
    double submitted;                      // when, as hymn_time_now
    bool alone;                            // no other run has been in flight since then
};

struct hymn_session {
    struct hymn_log log;
    struct hymn_vk_device *device;
    struct hymn_vk_plan plan;
    struct hymn_session_info info;
    struct hymn_value input, output;
    uint32_t in_channels, num_classes;
    float mean[8], std[8], threshold;
    bool timings;
    bool may_shrink;         // a smaller session would do: this one is to have room for all runs
    double tuning_ms;        // left
    struct hymn_arena names; // of the steps
    struct hymn_vk_program program;
    // Its last step if masks can be made without it (hymn_head_has_mask), and the one before if both can be one step
    // then (hymn_head_joined): each run decides what follows the others, and the slots' `after` begins with those of
    // the two that are needed.
    struct hymn_vk_step head, joined;
    bool has_head, has_joined;
    // The network's first step if it can take pictures as they are (hymn_picture_joined): the slots' `before` ends with
    // it, or has what does its work too.
    struct hymn_vk_step first;
    bool has_first;
    double slowness, seconds; // that the program is divided for; its estimate with slowness 1
    struct hymn_vk_buffer weights;
    struct hymn_stream streams[HYMN_VK_MAX_QUEUES]; // info.streams of them; slot i uses the (i modulo that)'th
    struct hymn_slot slots[HYMN_SESSION_MAX_SLOTS];
    uint64_t last_ticket;
    double gpu_ms; // of the last waited run
    struct hymn_timing *timing_entries;
    double *timing_ms;
    uint32_t timing_count, timing_capacity;
};

// Readies a slot for `count` images: lays out and grows its buffers, and records its commands but those before the
// network if they were recorded for something else. OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, UNSUPPORTED, DEVICE_LOST,
// INTERNAL.
enum hymn_status hymn_io_prepare(struct hymn_session *session, struct hymn_slot *slot,
                                 const struct hymn_io_image *images, uint32_t count, float threshold);
// Then records the commands before the network for what the slot was readied for, if they are not: slot->before, or,
// apart, slot->copy and slot->behind. The same statuses.
enum hymn_status hymn_io_record_input(struct hymn_session *session, struct hymn_slot *slot, bool apart);
// Appends the steps of every kind of input and output that the model can have. Needs no device: of the session, its
// plan and what it knows of the model and the network.
enum hymn_status hymn_io_every_kind(const struct hymn_session *session, struct hymn_vk_program *program);
// The most that a run takes by itself, of tensors or of images of the network's size, with all outputs: in the device's
// memory, and in what the host writes and reads.
void hymn_io_bytes(const struct hymn_session *session, uint64_t *out_device, uint64_t *out_host);
// The steps of the network that are the same in every run. Nothing of it is the caller's to free.
struct hymn_vk_program hymn_session_network(const struct hymn_session *session);
// What hymn_io_every_kind needs of a lowered network: its shape, its input and output, and its first and last steps,
// whose names stay the program's (see hymn_session::head and first). The plan is the session's.
void hymn_session_take_ends(struct hymn_session *session, const struct hymn_network_shape *shape,
                            const struct hymn_graph *graph, const struct hymn_vk_program *program);
// What a session keeps of its model.
void hymn_session_copy_model(struct hymn_session *session, const struct hymn_model *model);
// Names the session's weights and what a slot's stream has to a recording.
void hymn_session_bind(const struct hymn_session *session, const struct hymn_slot *slot,
                       struct hymn_vk_record_params *params);
// What steps are divided by: the device's slowness, as many times as there are streams to share the device with.
double hymn_session_slowness(const struct hymn_session *session);
// Divides the network anew and records it for the slot when the device has turned out slower or faster than thought.
enum hymn_status hymn_slot_adapt(struct hymn_session *session, struct hymn_slot *slot);
// What hymn_session_info::host_bytes reports.
uint64_t hymn_session_host_bytes(const struct hymn_session *session);
void hymn_slot_destroy(struct hymn_session *session, struct hymn_slot *slot);

#endif
