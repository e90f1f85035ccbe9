// SPDX-License-Identifier: MIT
#include "vk/cache.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"

// To be raised when pipelines are made in another way from the same shaders.
#define CACHE_VERSION 2u
static const char cache_magic[8] = {'H', 'Y', 'M', 'N', 'P', 'I', 'P', 'E'};

// Whose blob it is. No padding: compared and hashed as bytes.
struct cache_key {
    struct hymn_vk_identity identity;
    uint64_t shaders; // hash of all shaders' hashes
};
static_assert(sizeof(struct cache_key) == 56, "cache_key has padding");

// Before the blob in the file, in the machine's byte order.
struct cache_header {
    char magic[8];
    uint32_t version, header_bytes;
    struct cache_key key;
    uint64_t blob_bytes, checksum;
};
static_assert(sizeof(struct cache_header) == 88, "cache_header has padding");

uint64_t hymn_vk_hash(uint64_t hash, const void *data, size_t bytes) {
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * 0x100000001B3u;
    }
    return hash;
}

struct hymn_vk_identity hymn_vk_identify(const struct hymn_vk_device *device) {
    VkPhysicalDeviceProperties properties;
    device->instance->table.vkGetPhysicalDeviceProperties(device->physical, &properties);
    struct hymn_vk_identity identity = {
        .vendor_id = properties.vendorID,
        .device_id = properties.deviceID,
        .driver_version = properties.driverVersion,
        .api_version = properties.apiVersion,
    };
    memcpy(identity.device_uuid, device->info.uuid, sizeof identity.device_uuid);
    memcpy(identity.cache_uuid, properties.pipelineCacheUUID, sizeof identity.cache_uuid);
    return identity;
}

static struct cache_key make_key(const struct hymn_vk_device *device) {
    struct cache_key key = {.identity = hymn_vk_identify(device), .shaders = HYMN_VK_HASH_START};
    for (uint32_t i = 0; i < hymn_shader_count; i++) {
        key.shaders = hymn_vk_hash(key.shaders, &hymn_shaders[i].hash, sizeof hymn_shaders[i].hash);
    }
    return key;
}

enum hymn_status hymn_vk_cache_file(const struct hymn_vk_device *device, const char *cache_dir, const char *kind,
                                    uint64_t hash, char **out_path) {
    char folder[4096];
    *out_path = NULL;
    if (!cache_dir) {
        if (!hymn_file_cache_dir(folder, sizeof folder)) {
            hymn_log_write(&device->log, HYMN_LOG_DEBUG, "no cache folder: %s are not kept", kind);
            return HYMN_STATUS_OK;
        }
        cache_dir = folder;
    }
    if (!*cache_dir) {
        return HYMN_STATUS_OK;
    }
    size_t capacity = strlen(cache_dir) + strlen(kind) + 32;
    char *path = hymn_alloc(capacity, 1);
    if (!path) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    snprintf(path, capacity, "%s/%s-%016" PRIx64 ".bin", cache_dir, kind, hash);
    *out_path = path;
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_vk_cache_path(struct hymn_vk_device *device, const char *cache_dir, char **out_path) {
    struct cache_key key = make_key(device);
    return hymn_vk_cache_file(device, cache_dir, "pipelines", hymn_vk_hash(HYMN_VK_HASH_START, &key, sizeof key),
                              out_path);
}

// Why a file is not this device's whole and undamaged cache; NULL when it is.
static const char *check_file(const struct hymn_vk_device *device, const struct hymn_file_map *map,
                              struct cache_header *out_header) {
    if (map->size < sizeof *out_header) {
        return "too short";
    }
    memcpy(out_header, map->data, sizeof *out_header);
    const uint8_t *blob = map->data + sizeof *out_header;
    if (memcmp(out_header->magic, cache_magic, sizeof cache_magic) != 0) {
        return "not a pipeline cache";
    }
    if (out_header->version != CACHE_VERSION || out_header->header_bytes != sizeof *out_header) {
        return "of another version";
    }
    struct cache_key key = make_key(device);
    if (memcmp(&out_header->key, &key, sizeof key) != 0) {
        return "of another device, driver or set of shaders";
    }
    if (out_header->blob_bytes != map->size - sizeof *out_header) {
        return "truncated";
    }
    if (hymn_vk_hash(HYMN_VK_HASH_START, blob, (size_t)out_header->blob_bytes) != out_header->checksum) {
        return "damaged";
    }
    return NULL;
}

// The blob of a good file is read into *out_cache, else, or where the driver refuses that, it becomes an empty cache
// and *out_checksum 0. What is wrong with the file goes to `log`.
static enum hymn_status read_cache(struct hymn_vk_device *device, const struct hymn_log *log,
                                   VkPipelineCache *out_cache, uint64_t *out_checksum) {
    struct hymn_file_map map = {0};
    struct cache_header header = {0};
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    *out_checksum = 0;
    // No file is the usual case the first time, hence no log.
    bool opened = device->cache_path && hymn_file_map_open(device->cache_path, NULL, &map) == HYMN_STATUS_OK;
    if (opened) {
        const char *fault = check_file(device, &map, &header);
        if (fault) {
            hymn_log_write(log, HYMN_LOG_WARNING, "%s: %s; ignored", device->cache_path, fault);
        } else {
            info.initialDataSize = (size_t)header.blob_bytes;
            info.pInitialData = map.data + sizeof header;
            *out_checksum = header.checksum;
        }
    }
    VkResult result = device->table.vkCreatePipelineCache(device->handle, &info, NULL, out_cache);
    if (result != VK_SUCCESS && info.pInitialData) {
        hymn_log_write(log, HYMN_LOG_WARNING, "%s: refused by the driver (%s); ignored", device->cache_path,
                       hymn_vk_result_string(result));
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        *out_checksum = 0;
        result = device->table.vkCreatePipelineCache(device->handle, &info, NULL, out_cache);
    }
    if (opened) {
        hymn_file_map_close(&map);
    }
    if (result != VK_SUCCESS) {
        *out_cache = VK_NULL_HANDLE;
    }
    return hymn_vk_result(device, result, "vkCreatePipelineCache");
}

// 0: not known.
static size_t size_of(const struct hymn_vk_device *device, VkPipelineCache cache) {
    size_t bytes = 0;
    return device->table.vkGetPipelineCacheData(device->handle, cache, &bytes, NULL) == VK_SUCCESS ? bytes : 0;
}

enum hymn_status hymn_vk_cache_load(struct hymn_vk_device *device, VkPipelineCache *out_cache) {
    enum hymn_status status = read_cache(device, &device->log, out_cache, &device->cache_checksum);
    device->cache_bytes = device->cache_checksum != 0 ? size_of(device, *out_cache) : 0;
    return status;
}

bool hymn_vk_cache_grew(const struct hymn_vk_device *device, VkPipelineCache cache) {
    return device->cache_bytes == 0 || size_of(device, cache) != device->cache_bytes;
}

// Adds what another process has stored since this one loaded or stored.
static void merge_newer(struct hymn_vk_device *device, VkPipelineCache cache) {
    VkPipelineCache stored = VK_NULL_HANDLE;
    uint64_t checksum = 0;
    if (read_cache(device, NULL, &stored, &checksum) == HYMN_STATUS_OK && checksum != 0 &&
        checksum != device->cache_checksum) {
        device->table.vkMergePipelineCaches(device->handle, cache, 1, &stored);
    }
    device->table.vkDestroyPipelineCache(device->handle, stored, NULL);
}

// A cache that cannot be written is slower the next time, and no error.
static void log_as_warning(void *user, enum hymn_log_level level, const char *message) {
    (void)level;
    hymn_log_write(user, HYMN_LOG_WARNING, "the pipeline cache is not kept: %s", message);
}

static enum hymn_status write_cache(struct hymn_vk_device *device, VkPipelineCache cache) {
    merge_newer(device, cache);
    size_t bytes = 0;
    VkResult result = device->table.vkGetPipelineCacheData(device->handle, cache, &bytes, NULL);
    uint8_t *file = result == VK_SUCCESS ? hymn_alloc(sizeof(struct cache_header) + bytes, 1) : NULL;
    if (!file) {
        return result == VK_SUCCESS ? hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory")
                                    : hymn_vk_result(device, result, "vkGetPipelineCacheData");
    }
    uint8_t *blob = file + sizeof(struct cache_header);
    result = device->table.vkGetPipelineCacheData(device->handle, cache, &bytes, blob);
    enum hymn_status status = hymn_vk_result(device, result, "vkGetPipelineCacheData");
    if (status == HYMN_STATUS_OK) {
        struct cache_header header = {
            .version = CACHE_VERSION,
            .header_bytes = sizeof header,
            .key = make_key(device),
            .blob_bytes = bytes,
            .checksum = hymn_vk_hash(HYMN_VK_HASH_START, blob, bytes),
        };
        memcpy(header.magic, cache_magic, sizeof cache_magic);
        memcpy(file, &header, sizeof header);
        if (header.checksum != device->cache_checksum) {
            status = hymn_file_write_atomic(device->cache_path, file, sizeof header + bytes, &device->log);
            device->cache_checksum = status == HYMN_STATUS_OK ? header.checksum : device->cache_checksum;
        }
        device->cache_bytes = size_of(device, cache);
    }
    hymn_free(file);
    return status;
}

enum hymn_status hymn_vk_cache_store(struct hymn_vk_device *device, VkPipelineCache cache) {
    if (!device->cache_path || atomic_load(&device->lost)) {
        return HYMN_STATUS_OK;
    }
    struct hymn_log own = device->log;
    device->log = (struct hymn_log){device->cache_fails ? NULL : log_as_warning, &own, own.level};
    enum hymn_status status = write_cache(device, cache);
    device->log = own;
    device->cache_fails = device->cache_fails || status != HYMN_STATUS_OK;
    return status;
}
