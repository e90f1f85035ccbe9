// SPDX-License-Identifier: MIT
#include "vk/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "vk/cache.h"

#define STORE_VERSION 1u
// A check of one shader takes seconds on a software device. Whoever holds the lock for longer hangs or was stopped.
#define LOCK_SECONDS 120.0
static const char store_magic[8] = {'H', 'Y', 'M', 'N', 'F', 'A', 'C', 'T'};

struct entry {
    uint64_t key;
    uint32_t bytes;
    uint8_t value[HYMN_VK_STORE_VALUE_BYTES];
    uint32_t ours; // put by this process since the last flush; 0 in files
};
static_assert(sizeof(struct entry) == 64, "entry has padding");

// Before the entries in the file, in the machine's byte order.
struct header {
    char magic[8];
    uint32_t version, count;
    struct hymn_vk_identity identity;
    uint64_t checksum; // of the entries
};
static_assert(sizeof(struct header) == 72, "header has padding");

struct hymn_vk_store {
    char *path; // NULL: nothing on disk
    char *lock_path;
    struct hymn_file_lock lock;
    uint32_t locks;  // hymn_vk_store_lock's without their unlock
    bool lock_fails; // once is enough: it is not tried again
    struct entry *entries;
    uint32_t count, capacity;
    bool changed; // since the last flush
};

uint64_t hymn_vk_store_key(const char *kind, const void *about, size_t bytes) {
    return hymn_vk_hash(hymn_vk_hash(HYMN_VK_HASH_START, kind, strlen(kind) + 1), about, bytes);
}

static struct entry *find(const struct hymn_vk_store *store, uint64_t key) {
    for (uint32_t i = 0; i < store->count; i++) {
        if (store->entries[i].key == key) {
            return &store->entries[i];
        }
    }
    return NULL;
}

// The entry with the key, made if there is none; NULL when out of memory or full.
static struct entry *find_or_add(struct hymn_vk_store *store, uint64_t key) {
    struct entry *found = find(store, key);
    if (found || store->count == HYMN_VK_STORE_MAX_ENTRIES) {
        return found;
    }
    if (store->count == store->capacity) {
        uint32_t capacity = store->capacity ? 2 * store->capacity : 32;
        struct entry *grown = hymn_realloc(store->entries, capacity, sizeof *grown);
        if (!grown) {
            return NULL;
        }
        store->entries = grown;
        store->capacity = capacity;
    }
    found = &store->entries[store->count++];
    *found = (struct entry){.key = key};
    return found;
}

bool hymn_vk_store_get(struct hymn_vk_device *device, uint64_t key, void *value, uint32_t bytes) {
    const struct entry *found = find(device->store, key);
    if (!found || found->bytes != bytes) {
        return false;
    }
    memcpy(value, found->value, bytes);
    return true;
}

enum hymn_status hymn_vk_store_put(struct hymn_vk_device *device, uint64_t key, const void *value, uint32_t bytes) {
    struct hymn_vk_store *store = device->store;
    if (bytes > HYMN_VK_STORE_VALUE_BYTES || (store->count == HYMN_VK_STORE_MAX_ENTRIES && !find(store, key))) {
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "a fact of %u bytes, the %uth, is not stored", bytes,
                         store->count + 1);
    }
    struct entry *entry = find_or_add(store, key);
    if (!entry) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    *entry = (struct entry){.key = key, .bytes = bytes, .ours = 1};
    memcpy(entry->value, value, bytes);
    store->changed = true;
    return HYMN_STATUS_OK;
}

uint32_t hymn_vk_store_count(const struct hymn_vk_device *device) {
    return device->store->count;
}

// ------------------------------------------------------------------------------------------------------------ on disk

// Why a file is not this device's whole and undamaged store; NULL when it is.
static const char *check_file(const struct hymn_vk_device *device, const struct hymn_file_map *map,
                              struct header *out_header) {
    if (map->size < sizeof *out_header) {
        return "too short";
    }
    memcpy(out_header, map->data, sizeof *out_header);
    if (memcmp(out_header->magic, store_magic, sizeof store_magic) != 0) {
        return "no store of facts";
    }
    if (out_header->version != STORE_VERSION) {
        return "of another version";
    }
    struct hymn_vk_identity identity = hymn_vk_identify(device);
    if (memcmp(&out_header->identity, &identity, sizeof identity) != 0) {
        return "of another device or driver";
    }
    if (out_header->count > HYMN_VK_STORE_MAX_ENTRIES ||
        map->size != sizeof *out_header + out_header->count * sizeof(struct entry)) {
        return "truncated";
    }
    if (hymn_vk_hash(HYMN_VK_HASH_START, map->data + sizeof *out_header, map->size - sizeof *out_header) !=
        out_header->checksum) {
        return "damaged";
    }
    return NULL;
}

// Takes in what the file holds, but for keys that this process has put itself. What is wrong with it goes to `log`.
static void merge_file(struct hymn_vk_device *device, const struct hymn_log *log) {
    struct hymn_vk_store *store = device->store;
    struct hymn_file_map map = {0};
    struct header header;
    if (!store->path || hymn_file_map_open(store->path, NULL, &map) != HYMN_STATUS_OK) {
        return; // no file is the usual case the first time
    }
    const char *fault = check_file(device, &map, &header);
    if (fault) {
        hymn_log_write(log, HYMN_LOG_WARNING, "%s: %s; ignored", store->path, fault);
    }
    for (uint32_t i = 0; !fault && i < header.count; i++) {
        struct entry read;
        memcpy(&read, map.data + sizeof header + i * sizeof read, sizeof read);
        struct entry *entry = read.bytes <= HYMN_VK_STORE_VALUE_BYTES ? find_or_add(store, read.key) : NULL;
        if (entry && !entry->ours) {
            *entry = read;
            entry->ours = 0;
        }
    }
    hymn_file_map_close(&map);
}

// A file of its own is locked: the file of the facts is replaced when it is written.
static void lock_file(struct hymn_vk_device *device) {
    struct hymn_vk_store *store = device->store;
    if (store->locks++ == 0 && store->path && !store->lock_fails) {
        store->lock_fails = !hymn_file_lock(store->lock_path, LOCK_SECONDS, &device->log, &store->lock);
    }
}

void hymn_vk_store_lock(struct hymn_vk_device *device) {
    lock_file(device);
    merge_file(device, NULL);
}

void hymn_vk_store_unlock(struct hymn_vk_device *device) {
    if (device->store->locks > 0 && --device->store->locks == 0) {
        hymn_file_unlock(&device->store->lock);
    }
}

static void log_as_warning(void *user, enum hymn_log_level level, const char *message) {
    (void)level;
    hymn_log_write(user, HYMN_LOG_WARNING, "what was found out about the device is not kept: %s", message);
}

// Replaces the file by what is known.
static void write_file(struct hymn_vk_device *device) {
    struct hymn_vk_store *store = device->store;
    size_t bytes = store->count * sizeof(struct entry);
    uint8_t *file = hymn_alloc(sizeof(struct header) + bytes, 1);
    if (!file) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING, "what was found out about the device is not kept: no memory");
        return;
    }
    for (uint32_t i = 0; i < store->count; i++) {
        store->entries[i].ours = 0;
    }
    memcpy(file + sizeof(struct header), store->entries, bytes);
    struct header header = {
        .version = STORE_VERSION,
        .count = store->count,
        .identity = hymn_vk_identify(device),
        .checksum = hymn_vk_hash(HYMN_VK_HASH_START, store->entries, bytes),
    };
    memcpy(header.magic, store_magic, sizeof store_magic);
    memcpy(file, &header, sizeof header);
    struct hymn_log warn = {.callback = log_as_warning, .user = &device->log};
    hymn_file_write_atomic(store->path, file, sizeof header + bytes, &warn);
    store->changed = false;
    hymn_free(file);
}

void hymn_vk_store_flush(struct hymn_vk_device *device) {
    if (device->store->changed && device->store->path) {
        hymn_vk_store_lock(device);
        write_file(device);
        hymn_vk_store_unlock(device);
    }
}

static enum hymn_status make_lock_path(struct hymn_vk_device *device) {
    struct hymn_vk_store *store = device->store;
    size_t capacity = strlen(store->path) + sizeof ".lock";
    store->lock_path = hymn_alloc(capacity, 1);
    if (!store->lock_path) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    snprintf(store->lock_path, capacity, "%s.lock", store->path);
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_vk_store_open(struct hymn_vk_device *device, const char *cache_dir) {
    device->store = hymn_alloc(1, sizeof *device->store);
    if (!device->store) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    struct hymn_vk_identity identity = hymn_vk_identify(device);
    enum hymn_status status = hymn_vk_cache_file(
        device, cache_dir, "facts", hymn_vk_hash(HYMN_VK_HASH_START, &identity, sizeof identity), &device->store->path);
    if (status == HYMN_STATUS_OK && device->store->path) {
        status = make_lock_path(device);
    }
    if (status == HYMN_STATUS_OK) {
        merge_file(device, &device->log);
    }
    return status;
}

void hymn_vk_store_close(struct hymn_vk_device *device) {
    if (device->store) {
        hymn_vk_store_flush(device);
        hymn_free(device->store->path);
        hymn_free(device->store->lock_path);
        hymn_free(device->store->entries);
        hymn_free(device->store);
        device->store = NULL;
    }
}
