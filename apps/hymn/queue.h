// SPDX-License-Identifier: MIT
//
// A bounded queue of pointers between threads.
#ifndef HYMN_APP_QUEUE_H
#define HYMN_APP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/thread.h"

struct queue {
    hymn_mutex lock;
    hymn_condition changed;
    struct queue_entry {
        void *item;
        uint64_t cost;
    } * entries;
    size_t capacity, first, count;
    uint64_t cost, budget;
    bool closed;
};

// Holds at most `capacity` items whose costs add up to at most `budget`; a single item may exceed the budget. False
// when memory is out.
bool queue_init(struct queue *queue, size_t capacity, uint64_t budget);
void queue_destroy(struct queue *queue); // no thread may use it any more
// Waits for room. False when the queue is closed: the item stays the caller's.
bool queue_push(struct queue *queue, void *item, uint64_t cost);
// Waits for an item. NULL when the queue is closed and empty.
void *queue_pop(struct queue *queue);
// Nothing more will be pushed; what is in the queue can still be popped.
void queue_close(struct queue *queue);

#endif
