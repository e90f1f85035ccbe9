// SPDX-License-Identifier: MIT
#include "vk/timer.h"

static bool read_queries(struct hymn_vk_device *device, const struct hymn_vk_command *command, uint32_t first,
                         uint32_t count, uint64_t *out_ticks) {
    return device->table.vkGetQueryPoolResults(device->handle, command->queries, first, count, count * sizeof(uint64_t),
                                               out_ticks, sizeof(uint64_t), VK_QUERY_RESULT_64_BIT) == VK_SUCCESS;
}

// Counters have fewer than 64 valid bits on many devices, and wrap around.
static double elapsed_ms(const struct hymn_vk_device *device, uint64_t begin, uint64_t end) {
    uint32_t bits = device->snapshot.timestamp_bits;
    uint64_t mask = bits < 64 ? ((uint64_t)1 << bits) - 1 : UINT64_MAX;
    return (double)((end - begin) & mask) * (double)device->snapshot.timestamp_period * 1e-6;
}

double hymn_vk_timer_span(struct hymn_vk_device *device, const struct hymn_vk_command *first,
                          const struct hymn_vk_command *last) {
    uint64_t begin = 0, end = 0;
    if (first->query_count == 0 || last->query_count == 0 || !read_queries(device, first, 0, 1, &begin) ||
        !read_queries(device, last, 1, 1, &end)) {
        return -1.0;
    }
    return elapsed_ms(device, begin, end);
}

enum hymn_status hymn_vk_timer_steps(struct hymn_vk_device *device, const struct hymn_vk_command *command,
                                     double *out_ms) {
    uint32_t count = command->step_count;
    if (command->query_count != 2 + 2 * count) {
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "recorded without timings, or a device without timers");
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t ticks[2];
        if (!read_queries(device, command, 2 + 2 * i, 2, ticks)) {
            return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "the timings cannot be read");
        }
        out_ms[i] = elapsed_ms(device, ticks[0], ticks[1]);
    }
    return HYMN_STATUS_OK;
}
