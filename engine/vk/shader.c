// SPDX-License-Identifier: MIT
#include "vk/shader.h"

#include <string.h>

// The table is sorted by name.
const struct hymn_shader *hymn_shader_find(const char *name) {
    uint32_t low = 0, high = hymn_shader_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, hymn_shaders[middle].name);
        if (order == 0) {
            return &hymn_shaders[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}
