// SPDX-License-Identifier: MIT
//
// Buffers with memory of their own. There are few of them (arenas), so each is one allocation.
#ifndef HYMN_VK_MEMORY_H
#define HYMN_VK_MEMORY_H

#include "vk/device.h"
#include "vk/memory_type.h"
#include "vk/program.h"

// All usages can be bound as storage buffers and copied from and to. Zero-initialised: no buffer.
struct hymn_vk_buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t bytes;     // as asked for
    uint64_t allocated; // as taken from the heap
    uint32_t heap;      // that it was taken from
    uint8_t *mapped;    // NULL: not host-visible
    bool coherent;      // flush and invalidate do nothing
    bool reads_slowly;  // hymn_vk_memory_reads_slowly
};

// `what` names the buffer in messages ("activations"). OUT_OF_DEVICE_MEMORY says how much was needed and how much there
// is (also when it is more than the device allocates in one piece); DEVICE_LOST, INTERNAL. bytes: at least 1.
enum hymn_status hymn_vk_buffer_create(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                       const char *what, struct hymn_vk_buffer *out_buffer);
// The same for a buffer that the transfer queue uses too: see upload.h.
enum hymn_status hymn_vk_buffer_create_shared(struct hymn_vk_device *device, enum hymn_vk_usage usage, uint64_t bytes,
                                              const char *what, struct hymn_vk_buffer *out_buffer);
// For the input of runs, mapped. *out_direct: shaders read it where the host writes it, in memory of the device's own,
// as there is nothing between them or as upload.h says; else, and where such memory cannot be had, it is as
// HYMN_VK_USAGE_UPLOAD, shared, to be copied from.
enum hymn_status hymn_vk_buffer_create_input(struct hymn_vk_device *device, uint64_t bytes, const char *what,
                                             struct hymn_vk_buffer *out_buffer, bool *out_direct);
// No submission may still use it. Zeroes *buffer.
void hymn_vk_buffer_destroy(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer);

// Between the host's writes and the submission, and between the wait and the host's reads. Mapped buffers only.
enum hymn_status hymn_vk_buffer_flush(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                      uint64_t offset, uint64_t bytes);
enum hymn_status hymn_vk_buffer_invalidate(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                           uint64_t offset, uint64_t bytes);

// One-time transfers of any size: straight to mapped memory, and from it unless the host reads that slowly, else in
// pieces through a staging buffer. They wait for the device; no submission may be using the ranges.
enum hymn_status hymn_vk_buffer_write(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer,
                                      const struct hymn_vk_write *writes, uint32_t count);
// Fills a range with the `period` bytes at data, again and again; the device multiplies them. All three numbers are
// multiples of 4; period: 16 MiB at most.
enum hymn_status hymn_vk_buffer_repeat(struct hymn_vk_device *device, struct hymn_vk_buffer *buffer, uint64_t offset,
                                       uint64_t bytes, const void *data, uint64_t period);
// Of HYMN_VK_USAGE_DEVICE, filled with zeros; bytes 0: none is made, and *out_buffer is zeroed. On failure there is
// nothing to destroy.
enum hymn_status hymn_vk_buffer_create_zeroed(struct hymn_vk_device *device, uint64_t bytes, const char *what,
                                              struct hymn_vk_buffer *out_buffer);
enum hymn_status hymn_vk_buffer_read(struct hymn_vk_device *device, const struct hymn_vk_buffer *buffer,
                                     uint64_t offset, void *data, uint64_t bytes);

// Tests only: allocations that would bring the device's total beyond `bytes` fail as if its memory were full. 0: no
// cap.
void hymn_vk_memory_cap(struct hymn_vk_device *device, uint64_t bytes);

#endif
