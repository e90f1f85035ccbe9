// SPDX-License-Identifier: MIT
//
// Writes nothing: what a driver makes of a shader that it compiles wrongly. In the place of any shader of the engine.
//
// no bindings. constants: 0 = invocations of a workgroup.
#version 450
layout(local_size_x_id = 0) in;

void main() {
}
