// SPDX-License-Identifier: MIT
//
// result = source: what the device's memory can do, measured (engine/tune/ceiling.c).
//   source, result: [workgroups * STRIPS * lanes] units of 16 bytes
// One workgroup = STRIPS strips of one unit a lane.
//   binding 0: source   1: result
//   constants 0: lanes   1: STRIPS
#version 450

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint STRIPS = 4;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) writeonly buffer Result { uvec4 result[]; };

void main() {
    uint at = gl_WorkGroupID.x * STRIPS * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    for (uint i = 0; i < STRIPS; i++) {
        result[at + i * gl_WorkGroupSize.x] = source[at + i * gl_WorkGroupSize.x];
    }
}
