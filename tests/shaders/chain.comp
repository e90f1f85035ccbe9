// SPDX-License-Identifier: MIT
//
// b[i] = a[i] * multiplier + addend (+ b[i] with accumulate), modulo 2^32: a step whose result depends on the order of
// steps.
//
// binding 0: a [count] u32, read. binding 1: b [count] u32, written.
// constants: 0 = invocations of a workgroup, 1 = multiplier. One workgroup = that many elements.
#version 450
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint multiplier = 1;
layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) buffer B { uint b[]; };
layout(push_constant) uniform Params {
    uint count;
    uint addend;
    uint accumulate;
};

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i < count) {
        uint before = accumulate != 0 ? b[i] : 0;
        b[i] = before + a[i] * multiplier + addend;
    }
}
