// SPDX-License-Identifier: MIT
//
// How conv2d_matrix.comp with RESIZED defined reads its two terms of kernel 3, of which the second is resized to twice its
// size (as by common/double.glsl, the sums on the way in f16). Of that shader, included behind its constants and what
// locates a tile.
// A stage's pixels at half size are copied to shared memory first. There a lane makes blocks of 2x2 of the tile with its
// margin, whose pixels lie between the same four.
#ifndef HYMN_CONV2D_MATRIX_RESIZED_GLSL
#define HYMN_CONV2D_MATRIX_RESIZED_GLSL

const uint LOW_WIDTH = TILE_WIDTH / 2 + 2;
const uint BLOCKS_ACROSS = HALO_WIDTH / 2;

uint low_at; // in shared memory
int low_pixel[LOW_LOADS];
uvec4 low_next[LOW_LOADS];

// Where blocks and pixels of half size are; those beyond an edge are the edge's again.
void locate_blocks(ivec3 origin) {
    [[unroll]] for (uint b = 0; b < BLOCK_LOADS; b++) {
        int block = int(copied_row(b)), y = block / int(BLOCKS_ACROSS);
        [[unroll]] for (int o = 0; o < 4; o++) {
            ivec3 at = origin + ivec3(2 * (block - y * int(BLOCKS_ACROSS)) + o % 2 - 1, 2 * y + o / 2 - 1, 0);
            wide_pixel[4 * b + o] = pixel_at(at) | outside(at);
        }
    }
    int width = int(p.width) / 2, height = int(p.height) / 2;
    [[unroll]] for (uint i = 0; i < LOW_LOADS; i++) {
        int pixel = int(copied_row(i)), y = pixel / int(LOW_WIDTH);
        int column = clamp(origin.x / 2 - 1 + pixel - y * int(LOW_WIDTH), 0, width - 1);
        low_pixel[i] = (origin.z * height + clamp(origin.y / 2 - 1 + y, 0, height - 1)) * width + column;
    }
}

void load_blocks(place at) {
    if (at.term == 0) {
        [[unroll]] for (uint i = 0; i < 4 * BLOCK_LOADS; i++) {
            uint cell = min(at.cell + copied_cell(i / 4), p.cells0 - 1);
            pixel_next[i] = source0[uint(max(wide_pixel[i], 0)) * p.stride0 + (p.first0 + cell)];
        }
    } else {
        [[unroll]] for (uint i = 0; i < LOW_LOADS; i++) {
            uint cell = min(at.cell + copied_cell(i), p.cells1 - 1);
            low_next[i] = source1[uint(low_pixel[i]) * p.stride1 + (p.first1 + cell)];
        }
    }
}

// The block from the four pixels around it, the first of which is at `from`.
void resize_block(uint from, out uvec4 block[4]) {
    uvec4 left[2], right[2];
    [[unroll]] for (uint y = 0; y < 2; y++) {
        uvec4 l = memory[from + y * LOW_WIDTH * DEPTH], r = memory[from + (y * LOW_WIDTH + 1) * DEPTH];
        left[y] = hymn_quarter_way(l, r);
        right[y] = hymn_quarter_way(r, l);
    }
    [[unroll]] for (uint y = 0; y < 2; y++) {
        block[2 * y] = hymn_quarter_way(left[y], left[1 - y]);
        block[2 * y + 1] = hymn_quarter_way(right[y], right[1 - y]);
    }
}

// To shared memory: what is at half size, and all else behind a barrier, for which all lanes are done with the stage
// before. weights_at: of the step that is multiplied last before.
void share_low(place at, uint weights_at) {
    low_at = LOW_APART ? LOW_AT : 2 * WEIGHTS_AT + STEP_WEIGHTS * ROW - weights_at;
    [[unroll]] for (uint i = 0; i < LOW_LOADS; i++) {
        uint to = gl_LocalInvocationID.x + i * LOCAL;
        if (at.term == 1 && to < LOW_PIXELS * DEPTH) {
            memory[low_at + to] = low_next[i];
        }
    }
}

void share_blocks(place at, uint to) {
    [[unroll]] for (uint b = 0; b < BLOCK_LOADS; b++) {
        if (gl_LocalInvocationID.x + b * LOCAL < STAGE_PIXELS / 4 * DEPTH) {
            uint block = copied_row(b), cell = copied_cell(b), y = block / BLOCKS_ACROSS, x = block - y * BLOCKS_ACROSS;
            uvec4 made[4] = {pixel_next[4 * b], pixel_next[4 * b + 1], pixel_next[4 * b + 2], pixel_next[4 * b + 3]};
            if (at.term == 1) {
                resize_block(low_at + (y * LOW_WIDTH + x) * DEPTH + cell, made);
            }
            [[unroll]] for (uint o = 0; o < 4; o++) {
                uint row = (2 * y + o / 2) * HALO_WIDTH + 2 * x + o % 2;
                memory[to + row * ROW + cell] = made[o] & ~uint(wide_pixel[4 * b + o] >> 31);
            }
        }
    }
}

#endif
