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

static bool has_room(const struct queue *queue, uint64_t cost) {
    return queue->count == 0 || (queue->count < queue->capacity && queue->cost + cost <= queue->budget);
}

bool queue_push(struct queue *queue, void *item, uint64_t cost) {
    hymn_mutex_lock(&queue->lock);
    while (!queue->closed && !has_room(queue, cost)) {
        hymn_condition_wait(&queue->changed, &queue->lock);
    }
    const bool open = !queue->closed;
    if (open) {
        queue->entries[(queue->first + queue->count) % queue->capacity] = (struct queue_entry){item, cost};
        queue->count++;
        queue->cost += cost;
        hymn_condition_broadcast(&queue->changed);
    }
    hymn_mutex_unlock(&queue->lock);
    return open;
}

void *queue_pop(struct queue *queue) {
    void *item = NULL;
    hymn_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed) {
        hymn_condition_wait(&queue->changed, &queue->lock);
    }
    if (queue->count > 0) {
        item = queue->entries[queue->first].item;
        queue->cost -= queue->entries[queue->first].cost;
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        hymn_condition_broadcast(&queue->changed);
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
