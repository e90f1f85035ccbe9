// SPDX-License-Identifier: MIT
//
// The driver's pipeline cache on disk: one file per device, driver and set of shaders. The blob is checked before the
// driver sees it, because a damaged one can crash it.
#ifndef HYMN_VK_CACHE_H
#define HYMN_VK_CACHE_H

#include "vk/device.h"

// Which device and driver a file is of. No padding: compared and hashed as bytes.
struct hymn_vk_identity {
    uint32_t vendor_id, device_id, driver_version, api_version;
    uint8_t device_uuid[16], cache_uuid[16];
};

struct hymn_vk_identity hymn_vk_identify(const struct hymn_vk_device *device);
// FNV-1a, 64 bits: goes on from `hash`.
#define HYMN_VK_HASH_START 0xCBF29CE484222325u
uint64_t hymn_vk_hash(uint64_t hash, const void *data, size_t bytes);

// The file "KIND-HASH.bin" below cache_dir, or below the user's cache folder if NULL. *out_path is NULL for cache_dir
// "" or when the user has no such folder; freed with hymn_free. OUT_OF_MEMORY.
enum hymn_status hymn_vk_cache_file(const struct hymn_vk_device *device, const char *cache_dir, const char *kind,
                                    uint64_t hash, char **out_path);
// Where the pipeline cache lies.
enum hymn_status hymn_vk_cache_path(struct hymn_vk_device *device, const char *cache_dir, char **out_path);
// Makes a VkPipelineCache from device->cache_path; an absent, damaged or foreign file, or one that the driver refuses,
// makes an empty one (the latter three are logged).
enum hymn_status hymn_vk_cache_load(struct hymn_vk_device *device, VkPipelineCache *out_cache);
// Whether its size is another one than when it was loaded or last stored; always, where nothing was loaded.
bool hymn_vk_cache_grew(const struct hymn_vk_device *device, VkPipelineCache cache);
// Writes the cache if its contents are not what was loaded or last stored. Failures are warned of, once, and
// change nothing else.
enum hymn_status hymn_vk_cache_store(struct hymn_vk_device *device, VkPipelineCache cache);

#endif
