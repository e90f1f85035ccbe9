// SPDX-License-Identifier: MIT
//
// What the files of the selective scan share: scan_choice.c decides how a node is computed, selective_scan.c dispatches
// it.
#ifndef HYMN_OPS_SCAN_CHOICE_H
#define HYMN_OPS_SCAN_CHOICE_H

#include "ops/ops.h"
#include "ops/selective_scan.h"

enum { HYMN_SCAN_ROUND = 8 }; // states in shared memory at a time: shared memory too limits workgroups

struct hymn_scan {
    uint32_t batch, length, width; // width: channels with padding
    uint32_t states, rank;
    uint32_t pairs, local; // lanes: pairs of channels; of a workgroup
    bool hold;             // W_dt in registers
    uint32_t chunks, chunk_length;
    // group 0: not selective_scan_group.comp; else lanes that share `tile` channels, steps of a block, lanes of a
    // workgroup that scan, and those that do the rest for them (0: the same)
    uint32_t group, tile, block, group_lanes, helpers;
    uint32_t rounds; // of a block's steps that are unrolled
    bool half_rows;  // the projection is f16, which only groups of lanes read
    bool matrix;     // helpers make delta's products on matrix units
    // together 0: not selective_scan_local.comp; else channels of a workgroup, states carried at once, steps whose
    // delta is kept.
    uint32_t together, part, kept;
    uint32_t span; // of selective_scan.comp's chunks; 0: three passes
    bool staged;   // rows of chunks in a workgroup by way of shared memory, a step ahead
};

struct hymn_scan hymn_scan_describe(const struct hymn_graph *graph, const struct hymn_node *node,
                                    const struct hymn_vk_plan *plan);
// Whether shaders have four storage buffers, or are to make do with so many: then there are no chunks, for whose states
// there would have to be two more.
bool hymn_scan_has_few_buffers(const struct hymn_vk_plan *plan, enum hymn_storage storage);
// Lanes of a chunk in a workgroup of selective_scan.comp.
uint32_t hymn_scan_joint_lanes(const struct hymn_scan *scan, const struct hymn_vk_plan *plan);

#endif
