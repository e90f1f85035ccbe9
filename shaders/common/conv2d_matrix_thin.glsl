// SPDX-License-Identifier: MIT
//
// How conv2d_matrix.comp with THIN defined reads its one term, of kernel 3 and at most three channels: all nine taps make
// one stage of k, tap by tap from left to right and down, three numbers each (zero where there are fewer channels), and
// five zeros at the end. Of that shader, included behind its constants and what locates a tile.
// The tile's pixels and a margin of one are copied to shared memory, from where a lane gathers the taps of its own.
#ifndef HYMN_CONV2D_MATRIX_THIN_GLSL
#define HYMN_CONV2D_MATRIX_THIN_GLSL

shared uvec2 thin[HALO_PIXELS]; // of a pixel's cell the half that there is

// Of three channels, in halves: two words with the upper half of the second zero.
uvec2 first_three(uvec2 words) {
    return uvec2(words.x, words.y & 0xFFFF);
}

void locate_thin(ivec3 origin) {
    [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
        int pixel = int(gl_LocalInvocationID.x + i * LOCAL), y = pixel / int(HALO_WIDTH);
        ivec3 at = origin + ivec3(pixel - y * int(HALO_WIDTH) - 1, y - 1, 0);
        wide_pixel[i] = pixel_at(at) | outside(at);
    }
}

void load_thin() {
    [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
        pixel_next[i].xy = source0[uint(max(wide_pixel[i], 0)) * p.stride0 + p.first0].xy;
    }
}

void share_thin() {
    [[unroll]] for (uint i = 0; i < PIXEL_LOADS; i++) {
        uint pixel = gl_LocalInvocationID.x + i * LOCAL;
        if (HALO_PIXELS % LOCAL == 0 || pixel < HALO_PIXELS) {
            thin[pixel] = first_three(pixel_next[i].xy) & ~uint(wide_pixel[i] >> 31);
        }
    }
}

// A row of k for each pixel of the tile, behind a barrier.
void share_taps(uint to) {
    [[unroll]] for (uint i = 0; i < (PIXELS + LOCAL - 1) / LOCAL; i++) {
        uint pixel = gl_LocalInvocationID.x + i * LOCAL, y = pixel / TILE_WIDTH, x = pixel - y * TILE_WIDTH;
        if (PIXELS % LOCAL == 0 || pixel < PIXELS) {
            uint words[16];
            [[unroll]] for (uint tap = 0; tap < 9; tap++) {
                uvec2 three = thin[(y + tap / 3) * HALO_WIDTH + x + tap % 3];
                if (tap % 2 == 0) {
                    words[tap / 2 * 3] = three.x;
                    words[tap / 2 * 3 + 1] = three.y;
                } else {
                    words[tap / 2 * 3 + 1] |= three.x << 16;
                    words[tap / 2 * 3 + 2] = three.x >> 16 | three.y << 16;
                }
            }
            words[14] = words[15] = 0;
            [[unroll]] for (uint cell = 0; cell < DEPTH; cell++) {
                memory[to + pixel * ROW + cell] =
                    uvec4(words[4 * cell], words[4 * cell + 1], words[4 * cell + 2], words[4 * cell + 3]);
            }
        }
    }
}

#endif
