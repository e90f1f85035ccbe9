// SPDX-License-Identifier: MIT
//
// The 3x3 convolution in depth of what conv2d_matrix.comp has computed, with DEPTHWISE. Of that shader, included behind
// its constants, its shared memory and what finds its tile.
#ifndef HYMN_CONV2D_MATRIX_DEPTHWISE_GLSL
#define HYMN_CONV2D_MATRIX_DEPTHWISE_GLSL

#include "common/activation.glsl"

#define DEPTHWISE_STRIP 4 // pixels side by side of a lane

// The weights of the workgroup's channels; where it convolves nothing, some.
void load_depthwise() {
    [[unroll]] for (uint i = 0; i < DEPTHWISE_LOADS; i++) {
        uint cells = CHANNELS / 8, at = min(gl_LocalInvocationID.x + i * LOCAL, DEPTHWISE_ROW - 1);
        uint cell = min(gl_WorkGroupID.y, p.convolved - 1) * cells + at % cells;
        depthwise_next[i] = depthwise_weights[at / cells * (p.convolved * cells) + cell];
    }
}

void share_depthwise() {
    [[unroll]] for (uint i = 0; i < DEPTHWISE_LOADS; i++) {
        uint at = gl_LocalInvocationID.x + i * LOCAL;
        if (at < DEPTHWISE_ROW) {
            memory[DEPTHWISE_AT + at] = depthwise_next[i];
        }
    }
}

// The convolution in depth of a tile that is in shared memory, as depthwise.comp makes it: what lies beside the image is
// zero, and of the tile's outermost pixels only those at the image's edges have all that they need.
void put_convolved(ivec3 origin) {
    const uint cells = CHANNELS / 8, strips = PIXELS / DEPTHWISE_STRIP * cells;
    uint all_cells = p.convolved * cells;
    [[unroll]] for (uint n = 0; n < (strips + LOCAL - 1) / LOCAL; n++) {
        uint own = gl_LocalInvocationID.x + n * LOCAL, item = min(own, strips - 1);
        uint cell = item % cells, pixel = item / cells * DEPTHWISE_STRIP;
        int x = int(pixel % TILE_WIDTH), y = int(pixel / TILE_WIDTH);
        uint of_all = gl_WorkGroupID.y * cells + cell;
        hymn_cell values[DEPTHWISE_STRIP];
        uint weights_at = DEPTHWISE_AT + cell;
        values[0] = hymn_cell(uintBitsToFloat(memory[weights_at]), uintBitsToFloat(memory[weights_at + cells]));
        [[unroll]] for (uint o = 1; o < DEPTHWISE_STRIP; o++) {
            values[o] = values[0];
        }
        [[unroll]] for (int i = 0; i < 3; i++) {
            hymn_cell taps[3];
            [[unroll]] for (int t = 0; t < 3; t++) {
                taps[t] = hymn_cell_unpack(memory[weights_at + (2 + 3 * i + t) * cells]);
            }
            int row = clamp(y + i - 1, 0, int(TILE_HEIGHT) - 1);
            [[unroll]] for (int j = 0; j < DEPTHWISE_STRIP + 2; j++) {
                int column = clamp(x + j - 1, 0, int(TILE_WIDTH) - 1);
                ivec3 at = origin + ivec3(x + j - 1, y + i - 1, 0);
                uvec4 words = memory[(row * int(TILE_WIDTH) + column) * WHOLE_PITCH + cell] & ~uint(outside(at));
                hymn_cell value = hymn_cell_unpack(words);
                [[unroll]] for (int o = 0; o < DEPTHWISE_STRIP; o++) {
                    if (j >= o && j - o < 3) {
                        values[o].lo = fma(taps[j - o].lo, value.lo, values[o].lo);
                        values[o].hi = fma(taps[j - o].hi, value.hi, values[o].hi);
                    }
                }
            }
        }
        bool whole = own < strips && (y > 0 || origin.y == 0) && (y < TILE_HEIGHT - 1 || origin.y + y == p.height - 1);
        [[unroll]] for (int o = 0; o < DEPTHWISE_STRIP; o++) {
            ivec3 at = origin + ivec3(x + o, y, 0);
            bool wide = (x + o > 0 || origin.x == 0) && (x + o < TILE_WIDTH - 1 || at.x == p.width - 1);
            if (whole && wide && outside(at) == 0) {
                hymn_cell value = hymn_cell(hymn_activate(values[o].lo, DEPTHWISE_ACTIVATION),
                                            hymn_activate(values[o].hi, DEPTHWISE_ACTIVATION));
                convolved[uint(pixel_at(at)) * all_cells + of_all] = hymn_cell_pack(value);
            }
        }
    }
}

#endif
