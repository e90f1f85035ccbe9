// SPDX-License-Identifier: MIT
//
// Host memory. All of the engine's allocations come through here, so that a test can make the n-th one fail.
#ifndef HYMN_BASE_ALLOC_H
#define HYMN_BASE_ALLOC_H

#include "base/log.h"

// count * size zeroed bytes; NULL when out of memory or when the product overflows. count or size 0: a valid pointer.
void *hymn_alloc(size_t count, size_t size);
// As realloc; the new part is not zeroed. On failure the old block stays.
void *hymn_realloc(void *block, size_t count, size_t size);
void hymn_free(void *block);
// A copy of a string, or NULL.
char *hymn_strdup(const char *string);

// Tests only: the allocation after the next `countdown` ones fails, once. Negative: never (the default). Returns
// whether the one that the call before asked for has come to fail: until then there are more to be tried.
// Thread-safety: the counter is atomic and shared by the whole process.
bool hymn_alloc_fail_after(int64_t countdown);

// A bump allocator: many small blocks that die together. Zero-initialise before use.
struct hymn_arena {
    struct hymn_arena_chunk *head;
};

// Zeroed, 16-byte aligned; NULL when out of memory.
void *hymn_arena_alloc(struct hymn_arena *arena, size_t count, size_t size);
// Formatted string in the arena, or NULL.
char *hymn_arena_printf(struct hymn_arena *arena, const char *format, ...) HYMN_PRINTF(2, 3);
void hymn_arena_free(struct hymn_arena *arena); // frees every block; the arena is empty and usable again

#endif
