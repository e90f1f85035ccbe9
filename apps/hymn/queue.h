// SPDX-License-Identifier: MIT
//
// A bounded queue of pointers between threads, with a budget for what they point to.
#ifndef HYMN_APP_QUEUE_H
#define HYMN_APP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/thread.h"

struct queue {
    hymn_mutex lock;
    hymn_condition changed;
    void **entries;
    size_t capacity, first, count;
    uint64_t reserved, budget;
    uint64_t tickets, served; // of who reserves, in the order of arrival
    uint64_t wanted;          // by the first that waits; 0: nobody does
    bool hurried, closed;
};

// Holds at most `capacity` items. False when memory is out.
bool queue_init(struct queue *queue, size_t capacity, uint64_t budget);
void queue_destroy(struct queue *queue); // no thread may use it any more
// Waits until `cost`, above 0, fits into what is left of the budget; where nothing is reserved, whatever the cost. Who
// came first is first, so that large items get their turn too. Before an item is made, and released when it is gone:
// from anywhere, not only from the queue.
void queue_reserve(struct queue *queue, uint64_t cost);
void queue_release(struct queue *queue, uint64_t cost);
// Waits for room. False when the queue is closed: the item stays the caller's.
bool queue_push(struct queue *queue, void *item);
// Waits for an item. NULL when the queue is closed and empty. held: what is reserved for items that the caller keeps,
// which others may wait for: above 0 also NULL when the queue is empty, once after queue_hurry, and where that is all
// that is reserved and leaves too little for who waits in queue_reserve.
void *queue_pop(struct queue *queue, uint64_t held);
// The next item may be long in coming.
void queue_hurry(struct queue *queue);
// Nothing more will be pushed; what is in the queue can still be popped.
void queue_close(struct queue *queue);

#endif
