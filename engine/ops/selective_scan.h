// SPDX-License-Identifier: MIT
#ifndef HYMN_OPS_SELECTIVE_SCAN_H
#define HYMN_OPS_SELECTIVE_SCAN_H

#include <stdint.h>

// How the sequences are scanned: `steps` of `segments` at a time (selective_scan_parallel.comp), or, with 0 segments,
// one after the other in chunks of `chunk_length` (0: as many chunks as suit the device).
struct hymn_scan_method {
    uint32_t chunk_length;
    uint32_t steps, segments;
};

// Tests only: the method, instead of what selective_scan would choose by itself; NULL: its own choice. Not thread-safe.
void hymn_selective_scan_force(const struct hymn_scan_method *method);

#endif
