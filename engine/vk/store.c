// SPDX-License-Identifier: MIT
#include "vk/store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "vk/cache.h"

#define STORE_VERSION 1u
// A check of one shader takes seconds on a software device. Whoever holds the lock for longer hangs or was stopped.
#define LOCK_SECONDS 120.0
static const char store_magic[8] = {'H', 'Y', 'M', 'N', 'F', 'A', 'C', 'T'};

// A fact in the file, where those that were put or asked for last stand last.
struct entry {
    uint64_t key;
    uint32_t bytes;
    uint8_t value[HYMN_VK_STORE_VALUE_BYTES];
    uint32_t reserved; // 0
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

// A fact in memory, at no place in particular.
struct fact {
    struct entry entry;
    uint64_t rank; // grows with use: the lowest one gives way. Up to MAX_ENTRIES: its place in the file as it was last
                   // read or written, from 1, or 0 where the file did not hold it; beyond: put or asked for since then
    bool ours;     // put by this process since the last flush
};

struct hymn_vk_store {
    char *path; // NULL: nothing on disk
    char *lock_path;
    struct hymn_file_lock lock;
    uint32_t locks;   // hymn_vk_store_lock's without their unlock
    bool lock_fails;  // once is enough: it is not tried again
    bool write_fails; // the last time, which has been told
    struct fact *facts;
    uint32_t count, capacity;
    uint64_t last_rank; // given to a fact that was put or asked for
    bool changed;       // since the last flush
};

uint64_t hymn_vk_store_key(const char *kind, const void *about, size_t bytes) {
    return hymn_vk_hash(hymn_vk_hash(HYMN_VK_HASH_START, kind, strlen(kind) + 1), about, bytes);
}

static struct fact *find(const struct hymn_vk_store *store, uint64_t key) {
    for (uint32_t i = 0; i < store->count; i++) {
        if (store->facts[i].entry.key == key) {
            return &store->facts[i];
        }
    }
    return NULL;
}

static struct fact *find_lowest(const struct hymn_vk_store *store) {
    struct fact *lowest = &store->facts[0];
    for (uint32_t i = 1; i < store->count; i++) {
        lowest = store->facts[i].rank < lowest->rank ? &store->facts[i] : lowest;
    }
    return lowest;
}

// The fact with the key. If there is none, a new one, in a full store in the place of the lowest. NULL when out of
// memory, or when all of a full store rank higher.
static struct fact *find_or_add(struct hymn_vk_store *store, uint64_t key, uint64_t rank) {
    struct fact *found = find(store, key);
    if (found) {
        return found;
    }
    if (store->count == HYMN_VK_STORE_MAX_ENTRIES) {
        found = find_lowest(store);
        if (found->rank > rank) {
            return NULL;
        }
    } else if (store->count == store->capacity) {
        uint32_t capacity = store->capacity ? 2 * store->capacity : 32;
        struct fact *grown = hymn_realloc(store->facts, capacity, sizeof *grown);
        if (!grown) {
            return NULL;
        }
        store->facts = grown;
        store->capacity = capacity;
    }
    found = found ? found : &store->facts[store->count++];
    *found = (struct fact){.entry = {.key = key}, .rank = rank};
    return found;
}

static uint64_t next_rank(struct hymn_vk_store *store) {
    store->last_rank = store->last_rank ? store->last_rank + 1 : HYMN_VK_STORE_MAX_ENTRIES + 1;
    return store->last_rank;
}

bool hymn_vk_store_get(struct hymn_vk_device *device, uint64_t key, void *value, uint32_t bytes) {
    struct fact *found = find(device->store, key);
    if (!found || found->entry.bytes != bytes) {
        return false;
    }
    memcpy(value, found->entry.value, bytes);
    found->rank = next_rank(device->store);
    return true;
}

enum hymn_status hymn_vk_store_put(struct hymn_vk_device *device, uint64_t key, const void *value, uint32_t bytes) {
    struct hymn_vk_store *store = device->store;
    if (bytes > HYMN_VK_STORE_VALUE_BYTES) {
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "a fact of %u bytes is not stored", bytes);
    }
    uint64_t rank = next_rank(store);
    struct fact *fact = find_or_add(store, key, rank);
    if (!fact) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    *fact = (struct fact){.entry = {.key = key, .bytes = bytes}, .rank = rank, .ours = true};
    memcpy(fact->entry.value, value, bytes);
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

// Of the facts that were neither put nor asked for since the file was last read or written, the file decides the rank:
// they have none until they are met in it.
static void take_entries(struct hymn_vk_store *store, const uint8_t *entries, uint32_t count) {
    for (uint32_t i = 0; i < store->count; i++) {
        struct fact *fact = &store->facts[i];
        fact->rank = fact->rank > HYMN_VK_STORE_MAX_ENTRIES ? fact->rank : 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct entry read;
        memcpy(&read, entries + i * sizeof read, sizeof read);
        const uint64_t place = i + 1;
        struct fact *fact = read.bytes <= HYMN_VK_STORE_VALUE_BYTES ? find_or_add(store, read.key, place) : NULL;
        if (!fact) {
            continue;
        }
        fact->rank = fact->rank > place ? fact->rank : place;
        if (!fact->ours) {
            fact->entry = read;
            fact->entry.reserved = 0;
        }
    }
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
    } else {
        take_entries(store, map.data + sizeof header, header.count);
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

bool hymn_vk_store_lock(struct hymn_vk_device *device) {
    lock_file(device);
    merge_file(device, NULL);
    return !device->store->path || !device->store->lock_fails;
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

static int compare_ranks(const void *a, const void *b) {
    const uint64_t first = ((const struct fact *)a)->rank, second = ((const struct fact *)b)->rank;
    return first < second ? -1 : first > second;
}

// Replaces the file by what is known, in the order of use.
static void write_file(struct hymn_vk_device *device) {
    struct hymn_vk_store *store = device->store;
    size_t bytes = store->count * sizeof(struct entry);
    uint8_t *file = hymn_alloc(sizeof(struct header) + bytes, 1);
    if (!file) {
        hymn_log_write(&device->log, HYMN_LOG_WARNING, "what was found out about the device is not kept: no memory");
        return;
    }
    uint8_t *entries = file + sizeof(struct header);
    qsort(store->facts, store->count, sizeof *store->facts, compare_ranks);
    for (uint32_t i = 0; i < store->count; i++) {
        store->facts[i].rank = i + 1;
        memcpy(entries + i * sizeof(struct entry), &store->facts[i].entry, sizeof(struct entry));
    }
    struct header header = {
        .version = STORE_VERSION,
        .count = store->count,
        .identity = hymn_vk_identify(device),
        .checksum = hymn_vk_hash(HYMN_VK_HASH_START, entries, bytes),
    };
    memcpy(header.magic, store_magic, sizeof store_magic);
    memcpy(file, &header, sizeof header);
    struct hymn_log warn = {.callback = store->write_fails ? NULL : log_as_warning, .user = &device->log};
    bool written = hymn_file_write_atomic(store->path, file, sizeof header + bytes, &warn) == HYMN_STATUS_OK;
    for (uint32_t i = 0; i < store->count && written; i++) {
        store->facts[i].ours = false; // else they are newer than the file's, and written with the next that is put
    }
    store->write_fails = !written;
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
        hymn_free(device->store->facts);
        hymn_free(device->store);
        device->store = NULL;
    }
}
