// SPDX-License-Identifier: MIT
#include "exif.h"

#include <stdbool.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4, ENTRY_BYTES = 12 };

static uint32_t get16(const uint8_t *bytes, bool big) {
    return big ? (uint32_t)bytes[0] << 8 | bytes[1] : (uint32_t)bytes[1] << 8 | bytes[0];
}

static uint32_t get32(const uint8_t *bytes, bool big) {
    return big ? get16(bytes, big) << 16 | get16(bytes + 2, big) : get16(bytes + 2, big) << 16 | get16(bytes, big);
}

int exif_orientation(const uint8_t *tiff, size_t size) {
    if (size < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0)) {
        return 1;
    }
    const bool big = tiff[0] == 'M';
    const size_t directory = get32(tiff + 4, big);
    if (directory > size - 2) {
        return 1;
    }
    const size_t count = get16(tiff + directory, big);
    const size_t room = (size - directory - 2) / ENTRY_BYTES;
    for (size_t i = 0; i < count && i < room; i++) {
        const uint8_t *entry = tiff + directory + 2 + i * ENTRY_BYTES;
        if (get16(entry, big) != TAG_ORIENTATION || get32(entry + 4, big) != 1) {
            continue;
        }
        const uint32_t type = get16(entry + 2, big);
        const uint32_t value = type == TYPE_SHORT  ? get16(entry + 8, big)
                               : type == TYPE_LONG ? get32(entry + 8, big)
                                                   : 0;
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
