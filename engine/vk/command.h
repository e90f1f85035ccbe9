// SPDX-License-Identifier: MIT
//
// Programs recorded into command buffers, and their submission. A recorded program is submitted any number of times.
#ifndef HYMN_VK_COMMAND_H
#define HYMN_VK_COMMAND_H

#include "vk/memory.h"
#include "vk/program.h"
#include "vk/upload.h"

// Zero-initialise before the first hymn_vk_command_record.
struct hymn_vk_command {
    VkCommandPool pool;
    VkCommandBuffer *buffers; // run in order; more than one where the steps' estimated seconds ask for it
    double *seconds;          // of each, estimated
    uint32_t buffer_count, buffer_capacity;
    VkDescriptorPool descriptor_pool;
    VkDescriptorSet *sets;   // one per step; VK_NULL_HANDLE for copies
    uint8_t *binding_counts; // of each set
    uint32_t set_capacity, set_count;
    uint32_t descriptor_capacity; // descriptors the pool has room for
    VkQueryPool queries;
    uint32_t query_capacity;
    uint32_t query_count;               // 0: recorded without timestamps; 2: begin and end; 2 + 2 * step_count
    uint32_t step_count, barrier_count; // barrier_count: between steps
};

struct hymn_vk_record_params {
    const char *name; // of the command buffer in messages
    const struct hymn_vk_step *steps;
    uint32_t count;
    const struct hymn_vk_buffer *buffers[HYMN_VK_ROLE_COUNT]; // NULL: not used. Several roles may name one buffer
    bool timestamps;                                          // begin and end (ignored where the device has none)
    bool step_timestamps; // also before and after each step, which then run one after the other
};

// Records a program whose pipelines have been prepared. The commands
// - wait for everything submitted to the queue before them, and for what the host wrote before the submission;
// - put a barrier only between steps that touch the same bytes and at least one of which writes; it is about the ranges
//   written since the last one where these are few;
// - begin another command buffer before a step, or a slice of one, that would make the estimated seconds of the last
// one
//   more than device->submission_seconds;
// - make writes to host-visible buffers visible to the host once the fence is signalled.
// `command` may have been recorded before (not pending any more): what it holds is reused, without allocating when the
// steps' number and binding counts are the same. On failure it must be recorded again or destroyed.
// UNSUPPORTED: more workgroups or a larger binding than the device allows (names the step). INTERNAL: a binding out of
// its buffer, a step not prepared. OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST.
enum hymn_status hymn_vk_command_record(struct hymn_vk_device *device, const struct hymn_vk_record_params *params,
                                        struct hymn_vk_command *command);
// No submission may be pending. Zeroes *command.
void hymn_vk_command_destroy(struct hymn_vk_device *device, struct hymn_vk_command *command);

enum hymn_status hymn_vk_fence_create(struct hymn_vk_device *device, VkFence *out_fence); // unsignalled
void hymn_vk_fence_destroy(struct hymn_vk_device *device, VkFence *fence);                // sets VK_NULL_HANDLE

// Submits recorded programs to the first queue, where they run in order, in as few submissions as keep each within
// device->submission_seconds of estimated work. The fence is reset first and signalled when all are done. After a
// failure nothing is pending.
enum hymn_status hymn_vk_submit(struct hymn_vk_device *device, const struct hymn_vk_command *const *commands,
                                uint32_t count, VkFence fence);
// The same to one of device->queues, behind an upload that is submitted first, on the transfer queue, and that the
// programs wait for. NULL: none.
enum hymn_status hymn_vk_submit_to(struct hymn_vk_device *device, VkQueue queue, struct hymn_vk_upload *upload,
                                   const struct hymn_vk_command *const *commands, uint32_t count, VkFence fence);
// One vkQueueSubmit of command buffers.
enum hymn_status hymn_vk_submit_buffers(struct hymn_vk_device *device, const VkCommandBuffer *buffers, uint32_t count,
                                        VkFence fence);
// Waits until nothing of a queue is pending (VK_NULL_HANDLE: of any queue), where no fence tells. False where the
// driver cannot tell either: what was submitted may still be running, and the device counts as lost, so that nothing
// follows it.
bool hymn_vk_drain(struct hymn_vk_device *device, VkQueue queue);
// Waits without a time limit. DEVICE_LOST; OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY: the driver could not tell, and nothing
// that was submitted is pending any more, as with OK, or the device counts as lost from then on.
enum hymn_status hymn_vk_wait(struct hymn_vk_device *device, VkFence fence);
// True when the fence is signalled or the device is lost.
bool hymn_vk_done(struct hymn_vk_device *device, VkFence fence);

#endif
