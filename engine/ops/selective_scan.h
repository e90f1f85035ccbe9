// SPDX-License-Identifier: MIT
#ifndef HYMN_OPS_SELECTIVE_SCAN_H
#define HYMN_OPS_SELECTIVE_SCAN_H

#include <stdint.h>

// Tests only: what selective_scan would choose by itself is replaced where not 0. chunk_length: steps of a chunk;
// channels_per_lane: 2, 4 or 8. Not thread-safe.
void hymn_selective_scan_force(uint32_t chunk_length, uint32_t channels_per_lane);

#endif
