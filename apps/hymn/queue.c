// SPDX-License-Identifier: MIT
#include "queue.h"

#include <stdlib.h>

bool queue_init(struct queue *queue, size_t capacity, uint64_t budget) {
    *queue = (struct queue){.capacity = capacity, .budget = budget};
    queue->entries = calloc(capacity, sizeof(*queue->entries));
    hymn_mutex_init(&queue->lock);
    hymn_condition_init(&queue->changed);
    return queue->entries != NULL;
}

void queue_destroy(struct queue *queue) {
    free(queue->entries);
    hymn_condition_destroy(&queue->changed);
    hymn_mutex_destroy(&queue->lock);
}

void queue_hurry(struct queue *queue) {
    hymn_mutex_lock(&queue->lock);
    if (!queue->hurried) {
        queue->hurried = true;
        hymn_condition_broadcast(&queue->changed);
    }
    hymn_mutex_unlock(&queue->lock);
}

static bool fits(const struct queue *queue, uint64_t cost) {
    return queue->reserved == 0 || queue->reserved + cost <= queue->budget;
}

void queue_reserve(struct queue *queue, uint64_t cost) {
    hymn_mutex_lock(&queue->lock);
    const uint64_t ticket = queue->tickets++;
    while (ticket != queue->served || !fits(queue, cost)) {
        if (ticket == queue->served && queue->wanted == 0) {
            queue->wanted = cost;
            hymn_condition_broadcast(&queue->changed);
        }
        hymn_condition_wait(&queue->changed, &queue->lock);
    }
    queue->wanted = 0;
    queue->served++;
    queue->reserved += cost;
    hymn_condition_broadcast(&queue->changed); // the next one may fit, too
    hymn_mutex_unlock(&queue->lock);
}

void queue_release(struct queue *queue, uint64_t cost) {
    hymn_mutex_lock(&queue->lock);
    queue->reserved -= cost;
    hymn_condition_broadcast(&queue->changed);
    hymn_mutex_unlock(&queue->lock);
}

bool queue_push(struct queue *queue, void *item) {
    hymn_mutex_lock(&queue->lock);
    while (!queue->closed && queue->count == queue->capacity) {
        hymn_condition_wait(&queue->changed, &queue->lock);
    }
    const bool open = !queue->closed;
    if (open) {
        queue->entries[(queue->first + queue->count) % queue->capacity] = item;
        queue->count++;
        hymn_condition_broadcast(&queue->changed);
    }
    hymn_mutex_unlock(&queue->lock);
    return open;
}

// Whether nothing but what the caller holds keeps the first in line from the budget: else more items will come, or
// others release some.
static bool is_waited_for(const struct queue *queue, uint64_t held) {
    return queue->wanted > 0 && held == queue->reserved && !fits(queue, queue->wanted);
}

void *queue_pop(struct queue *queue, uint64_t held) {
    void *item = NULL;
    hymn_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed && !(held > 0 && (queue->hurried || is_waited_for(queue, held)))) {
        hymn_condition_wait(&queue->changed, &queue->lock);
    }
    if (queue->count > 0) {
        item = queue->entries[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        hymn_condition_broadcast(&queue->changed);
    } else {
        queue->hurried = false;
    }
    hymn_mutex_unlock(&queue->lock);
    return item;
}

void queue_close(struct queue *queue) {
    hymn_mutex_lock(&queue->lock);
    queue->closed = true;
    hymn_condition_broadcast(&queue->changed);
    hymn_mutex_unlock(&queue->lock);
}
