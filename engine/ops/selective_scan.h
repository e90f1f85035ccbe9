// SPDX-License-Identifier: MIT
#ifndef HYMN_OPS_SELECTIVE_SCAN_H
#define HYMN_OPS_SELECTIVE_SCAN_H

#include <stdint.h>

// Tests only: steps of a chunk, instead of what selective_scan would choose by itself; 0: its own choice. Not
// thread-safe.
void hymn_selective_scan_force_chunk(uint32_t length);

#endif
