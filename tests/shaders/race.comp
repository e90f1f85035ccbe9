// SPDX-License-Identifier: MIT
//
// b[i] = a[i + 1], wrapped around in each workgroup, through shared memory and without the barrier that this needs: what
// the validation layers' check of shared memory must find. On a device whose subgroups keep step nothing else shows it.
//
// binding 0: a [n] u32, read. binding 1: b [n] u32, written. No push constants. constants: 0 = invocations of a
// workgroup, at most 128. One workgroup = that many elements, of which there is a whole number.
#version 450
layout(local_size_x_id = 0) in;
layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) writeonly buffer B { uint b[]; };
shared uint cells[128];

void main() {
    uint i = gl_GlobalInvocationID.x, lane = gl_LocalInvocationID.x;
    cells[lane] = a[i];
    b[i] = cells[(lane + 1) % gl_WorkGroupSize.x];
}
