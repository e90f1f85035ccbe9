// SPDX-License-Identifier: MIT
#ifndef HYMN_OPS_SELECTIVE_SCAN_H
#define HYMN_OPS_SELECTIVE_SCAN_H

#include <stdint.h>

// How the sequences are scanned: whole, or in `chunk_length` steps at a time (0: as suits the device); by `group` lanes
// for `tile` channels in blocks of `block` steps (selective_scan_group.comp), in workgroups of `lanes` (0: as
// suits the tile), or, with group 0, by half a lane a channel; or in one dispatch of workgroups of `lanes` that have
// `together` sequences each, cut into as many chunks as there are lanes for (selective_scan_local.comp). With group and
// together 0 chunks take two passes, with `span` of them in a workgroup, or, with span 0, three. With together or a
// span of several, block 1 has the rows of a step loaded during the step before, by way of shared memory; with group,
// span 1 has less of a block unrolled, and `helpers` more lanes of a workgroup do all but the scan itself, with matrix
// 1 delta's products on matrix units.
struct hymn_scan_method {
    uint32_t chunk_length;
    uint32_t group, block;
    uint32_t together, lanes;
    uint32_t span;
    uint32_t tile;
    uint32_t helpers;
    uint32_t matrix;
};

// Tests only: the method, instead of what selective_scan would choose by itself; NULL: its own choice. Not thread-safe.
void hymn_selective_scan_force(const struct hymn_scan_method *method);

#endif
