// SPDX-License-Identifier: MIT
//
// How the input of a run reaches a device behind a bus: written into its memory by the host, or staged and copied, by
// the run itself or while the run before it is computed.
//
// Direct. Where the host can write to memory of the device's own (all of it, or a window), that is what it does when a
// run is submitted, in place of writing to a staging buffer: one pass over the bus, no copy, no step that others wait
// for. Each run in flight has a buffer of its own, so it needs no order but that of the submission, which makes visible
// what the host wrote. It is the caller's thread that writes, as it does to staging; the memory is write-combined, so
// whole rows are written one after the other and nothing is ever read. Inputs larger than the plan's direct_bytes, and
// those for which there is no memory of that kind left, go as follows.
//
// Queues. Where a device behind a bus has a queue family that only copies (queues.h), one queue of it is opened beside
// the one that computes. device->transfer_queue is that queue; VK_NULL_HANDLE, as on a device that a host lends without
// one, says no, and everything stays on the one queue. With HYMN_TRANSFER_ON the queue that computes plays both parts
// on devices without another, so that all of this runs anywhere.
//
// HYMN_TRANSFER_OFF and _ON write nothing directly.
//
// Order. The copy from the slot's staging buffer to its buffer in device memory is a submission of its own, which
// signals the slot's semaphore; the run's first submission waits for it. Both buffers are the slot's own, and a slot is
// used again only after its last run has been waited for: nothing else can be reading or writing them, and the fence of
// the run is signalled after the copy too.
//
// Sharing. The two buffers are VK_SHARING_MODE_CONCURRENT between the two families (hymn_vk_buffer_create_shared): they
// are buffers, for which drivers have nothing to decompress or to hand over, and a pair of ownership barriers would be
// two more commands a run and a second recording of everything that copies on the queue that computes.
//
// When. Only while another run of the session is in flight, since otherwise there is nothing to overlap with and a
// second submission with a semaphore costs a single run 10 to 20 us of latency; and only from HYMN_VK_UPLOAD_BYTES on,
// below which the copy takes less than what the submission costs. Sessions with timings never, as their steps run one
// after the other. A single run is exactly what it is without a second queue.
//
// Downloads stay where they are: shaders write the results to host memory, packed, at the rate of the bus. At batch 32
// of 256 x 256 these are 2 MB of masks, 0.08 ms of 14.5 on an H100, or 8 MB of probabilities, 0.3 ms; a copy behind the
// computation would need a third buffer a slot and a second semaphore, and makes every single run later.
//
// Threads. Vulkan wants calls on one queue not to overlap; neither do, as calls on one context must not (hymn.h).
#ifndef HYMN_VK_UPLOAD_H
#define HYMN_VK_UPLOAD_H

#include "vk/memory.h"

// About what a bus of 25 GB/s carries in the time that a submission takes the host.
#define HYMN_VK_UPLOAD_BYTES ((uint64_t)256 << 10)

// Zero-initialise before the first hymn_vk_upload_record.
struct hymn_vk_upload {
    VkCommandPool pool; // of the family of the transfer queue
    VkCommandBuffer commands;
    VkSemaphore arrived; // signalled by the copy, waited for by the run; VK_NULL_HANDLE: made by the next start
};

// Whether the upload of a run goes ahead by itself. busy: another run is in flight.
bool hymn_vk_upload_apart(const struct hymn_vk_device *device, uint64_t bytes, bool busy);

// Records the copy of the first `bytes` of a buffer to another's, both from hymn_vk_buffer_create_shared. The device
// has a transfer queue; the upload is not pending. On failure it must be recorded again or destroyed. OUT_OF_MEMORY,
// OUT_OF_DEVICE_MEMORY, DEVICE_LOST.
enum hymn_status hymn_vk_upload_record(struct hymn_vk_device *device, const struct hymn_vk_buffer *from,
                                       const struct hymn_vk_buffer *to, uint64_t bytes, struct hymn_vk_upload *upload);
// Submits the copy. What computes must wait for upload->arrived once before the next start, or the upload must be
// abandoned. On failure nothing is pending.
enum hymn_status hymn_vk_upload_start(struct hymn_vk_device *device, struct hymn_vk_upload *upload);
// After a start, where the run does not come to its end: waits until the copy is done, and drops the signal. What has
// waited for the signal is done. Where that cannot be told the device counts as lost, and the signal stays.
void hymn_vk_upload_abandon(struct hymn_vk_device *device, struct hymn_vk_upload *upload);
// No submission may be pending. Zeroes *upload.
void hymn_vk_upload_destroy(struct hymn_vk_device *device, struct hymn_vk_upload *upload);

#endif
