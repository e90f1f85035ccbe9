// SPDX-License-Identifier: MIT
//
// Small facts about a device that take time to find (verdicts of the self-test, tuned tiles), kept on disk beside the
// pipeline cache: one file per device and driver. A key says what a fact is about, the hashes of the shaders that it
// depends on among it, so that a fact about a shader that has changed is simply not found any more. A store holds the
// HYMN_VK_STORE_MAX_ENTRIES facts that were last put or asked for; older ones give way.
// Thread-safety: as the device's other functions: one thread at a time. Several processes may share a file.
#ifndef HYMN_VK_STORE_H
#define HYMN_VK_STORE_H

#include "vk/device.h"

enum { HYMN_VK_STORE_VALUE_BYTES = 48, HYMN_VK_STORE_MAX_ENTRIES = 4096 };

// A key for a kind of fact ("verdict") and the bytes that it is about; no padding may be among them.
uint64_t hymn_vk_store_key(const char *kind, const void *about, size_t bytes);

// Copies a fact of exactly `bytes` (at most HYMN_VK_STORE_VALUE_BYTES) to value. False, and value left as it is, when
// there is none of that key and size. That it was asked for is noted on disk by the next flush that has anything to
// write.
bool hymn_vk_store_get(struct hymn_vk_device *device, uint64_t key, void *value, uint32_t bytes);
// Remembers a fact, in the place of an older one with that key, or in a full store of the one that was neither put nor
// asked for the longest; written to disk by the next flush or by the device's end. OUT_OF_MEMORY; UNSUPPORTED: more
// than HYMN_VK_STORE_VALUE_BYTES.
enum hymn_status hymn_vk_store_put(struct hymn_vk_device *device, uint64_t key, const void *value, uint32_t bytes);
// Writes what was put since the last flush, together with what other processes have written meanwhile (of the same key,
// ours stays), under the lock. A file that cannot be written is logged as a warning, once until it could be, and costs
// nothing but the time to find the facts again; so does an entry that is lost because two processes write in the same
// instant where files cannot be locked: the file is always whole.
void hymn_vk_store_flush(struct hymn_vk_device *device);
// Keeps other processes, and other devices of this one, from writing facts and from being here until the unlock, and
// takes in what they have written before. May be nested. Waits for them, but not for ever: goes on without the lock,
// and without trying for it again, where it is not had within two minutes (a warning) or not at all (a read-only
// folder). Whether nobody else is here: false without the lock.
bool hymn_vk_store_lock(struct hymn_vk_device *device);
void hymn_vk_store_unlock(struct hymn_vk_device *device); // flushes nothing
// Facts known now.
uint32_t hymn_vk_store_count(const struct hymn_vk_device *device);

// Called by the device. cache_dir as in struct hymn_context_params. A damaged or foreign file is logged and ignored.
// OUT_OF_MEMORY.
enum hymn_status hymn_vk_store_open(struct hymn_vk_device *device, const char *cache_dir);
void hymn_vk_store_close(struct hymn_vk_device *device); // flushes

#endif
