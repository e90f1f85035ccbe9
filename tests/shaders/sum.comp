// SPDX-License-Identifier: MIT
//
// out[i] = sum of seven inputs: as many bindings as a step can have, and no push constants.
//
// bindings 0 to 6: inputs [n] u32. binding 7: output [n] u32. constants: 0 = invocations of a workgroup. One workgroup =
// that many elements, of which there is a whole number.
#version 450
layout(local_size_x_id = 0) in;
layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) readonly buffer B { uint b[]; };
layout(set = 0, binding = 2) readonly buffer C { uint c[]; };
layout(set = 0, binding = 3) readonly buffer D { uint d[]; };
layout(set = 0, binding = 4) readonly buffer E { uint e[]; };
layout(set = 0, binding = 5) readonly buffer F { uint f[]; };
layout(set = 0, binding = 6) readonly buffer G { uint g[]; };
layout(set = 0, binding = 7) writeonly buffer Out { uint result[]; };

void main() {
    uint i = gl_GlobalInvocationID.x;
    result[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i];
}
