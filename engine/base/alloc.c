// SPDX-License-Identifier: MIT
#include "base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGNMENT 16
#define ARENA_CHUNK_BYTES ((size_t)64 * 1024)

struct hymn_arena_chunk {
    struct hymn_arena_chunk *next;
    size_t used, capacity;
};

// Blocks start behind the chunk's header, on the next multiple of the alignment.
#define ARENA_HEADER_BYTES ((sizeof(struct hymn_arena_chunk) + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT)

static _Atomic int64_t fail_countdown = -1;

bool hymn_alloc_fail_after(int64_t countdown) {
    return atomic_exchange(&fail_countdown, countdown) < 0;
}

static bool must_fail(void) {
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) {
        return false;
    }
    return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

// count * size, at least 1; false on overflow.
static bool block_bytes(size_t count, size_t size, size_t *out_bytes) {
    if (size != 0 && count > SIZE_MAX / size) {
        return false;
    }
    size_t bytes = count * size;
    *out_bytes = bytes > 0 ? bytes : 1;
    return true;
}

void *hymn_alloc(size_t count, size_t size) {
    size_t bytes;
    if (!block_bytes(count, size, &bytes) || must_fail()) {
        return NULL;
    }
    return calloc(1, bytes);
}

void *hymn_realloc(void *block, size_t count, size_t size) {
    size_t bytes;
    if (!block_bytes(count, size, &bytes) || must_fail()) {
        return NULL;
    }
    return realloc(block, bytes);
}

void hymn_free(void *block) {
    free(block);
}

char *hymn_strdup(const char *string) {
    size_t bytes = strlen(string) + 1;
    char *copy = hymn_alloc(bytes, 1);
    if (copy) {
        memcpy(copy, string, bytes);
    }
    return copy;
}

static struct hymn_arena_chunk *chunk_create(size_t capacity) {
    if (capacity > SIZE_MAX - ARENA_HEADER_BYTES) {
        return NULL;
    }
    struct hymn_arena_chunk *chunk = hymn_alloc(1, ARENA_HEADER_BYTES + capacity);
    if (chunk) {
        chunk->capacity = capacity;
    }
    return chunk;
}

static void *chunk_take(struct hymn_arena_chunk *chunk, size_t bytes) {
    void *block = (uint8_t *)chunk + ARENA_HEADER_BYTES + chunk->used;
    chunk->used += bytes;
    return block;
}

void *hymn_arena_alloc(struct hymn_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (!block_bytes(count, size, &bytes) || bytes > SIZE_MAX - (ARENA_ALIGNMENT - 1)) {
        return NULL;
    }
    bytes = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (arena->head && bytes <= arena->head->capacity - arena->head->used) {
        return chunk_take(arena->head, bytes);
    }
    bool large = bytes > ARENA_CHUNK_BYTES / 4;
    struct hymn_arena_chunk *chunk = chunk_create(large ? bytes : ARENA_CHUNK_BYTES);
    if (!chunk) {
        return NULL;
    }
    if (large && arena->head) { // behind the head, whose rest stays in use
        chunk->next = arena->head->next;
        arena->head->next = chunk;
    } else {
        chunk->next = arena->head;
        arena->head = chunk;
    }
    return chunk_take(chunk, bytes);
}

char *hymn_arena_printf(struct hymn_arena *arena, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : hymn_arena_alloc(arena, (size_t)length + 1, 1);
    if (text) {
        va_start(arguments, format);
        vsnprintf(text, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    return text;
}

void hymn_arena_free(struct hymn_arena *arena) {
    while (arena->head) {
        struct hymn_arena_chunk *chunk = arena->head;
        arena->head = chunk->next;
        hymn_free(chunk);
    }
}
