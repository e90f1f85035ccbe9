// SPDX-License-Identifier: MIT
//
// How the workgroups that share a tile of conv2d_matrix.comp, with SPLIT, add up what each has left. Of that shader,
// included behind its norms and common/conv2d_matrix_end.glsl.
#ifndef HYMN_CONV2D_MATRIX_SPLIT_GLSL
#define HYMN_CONV2D_MATRIX_SPLIT_GLSL

void join_split_moments(uint tile) {
    uint pixel = gl_LocalInvocationID.x;
    if (pixel < PIXELS) {
        do {
            vec4 sum = vec4(0.0);
            uint split = 0;
            do {
                vec4 part = partial[(tile * SPLITS + split) * PART + (pixel * PARTIAL_CELLS + CHANNELS / 8) * 2];
                sum = vec4(sum.xy + part.xy, part.zw);
                split++;
            } while (split < SPLITS);
            put_norm(pixel, sum.xy, sum.z);
            pixel += LOCAL;
        } while (pixel < PIXELS);
    }
    barrier();
}

// The last workgroup of a tile to come here adds up what all of them have left.
void join_splits(ivec3 origin, uint tile) {
    // What the lanes have left is before the counting lane's atomic, as the barrier is one of buffers too; likewise behind
    // it. By Vulkan's memory model that lane's release would do for all, but compilers for AMD have left out what it needs
    // of the others (llvm-project 160501), so each lane has one.
    memoryBarrierBuffer();
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer, gl_SemanticsAcquireRelease);
    if (gl_LocalInvocationID.x == 0) {
        memoryBarrierBuffer();
        last = atomicAdd(counters[tile], 1) == SPLITS - 1;
        memoryBarrierBuffer();
        if (last) {
            counters[tile] = 0;
        }
    }
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer | gl_StorageSemanticsShared,
                   gl_SemanticsAcquireRelease);
    if (!last) {
        return;
    }
    if (NORM) {
        join_split_moments(tile);
    }
    uint e = gl_LocalInvocationID.x;
    if (e < PIXELS * (CHANNELS / 8)) {
        do {
            uint pixel = e / (CHANNELS / 8), cell = e % (CHANNELS / 8);
            target to = target_at(origin, pixel, cell);
            hymn_cell value = hymn_cell_zero(), residual, part[SPLITS];
            if (RESIDUAL != 0u) {
                residual = residual_of(to);
            }
            [[unroll]] for (uint split = 0; split < SPLITS; split++) { // all of them waited for together
                uint from = (tile * SPLITS + split) * PART + (pixel * PARTIAL_CELLS + cell) * 2;
                part[split] = hymn_cell(partial[from], partial[from + 1]);
            }
            [[unroll]] for (uint split = 0; split < SPLITS; split++) {
                value.lo += part[split].lo;
                value.hi += part[split].hi;
            }
            finish(to, value, residual);
            e += LOCAL;
        } while (e < PIXELS * (CHANNELS / 8));
    }
}

#endif
