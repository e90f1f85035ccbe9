// SPDX-License-Identifier: MIT
//
// The moments of what conv2d_matrix.comp normalises: summed up from the stages in shared memory, put together at the end.
// Of that shader, included behind its constants, its shared memory and what finds its tile.
#ifndef HYMN_CONV2D_MATRIX_NORM_GLSL
#define HYMN_CONV2D_MATRIX_NORM_GLSL

uint norm_pixel(uint own) {
    return (gl_LocalInvocationID.x + own * LOCAL) % PIXELS;
}

uint norm_part(uint own) {
    return (gl_LocalInvocationID.x + own * LOCAL) / PIXELS;
}

void start_moments(ivec3 origin) {
    [[unroll]] for (uint own = 0; own < NORM_OWN; own++) {
        int pixel = int(norm_pixel(own)), y = pixel / int(TILE_WIDTH);
        ivec3 at = origin + ivec3(pixel - y * int(TILE_WIDTH), y, 0);
        int row = at.z * int(p.height) + at.y;
        int first = (KERNEL0 == 2 ? row * 4 * int(p.width) + 2 * at.x : pixel_at(at)) | outside(at);
        shift[own] = unpackHalf2x16(source0[uint(max(first, 0)) * p.stride0 + p.first0].x).x;
        moments[own] = vec2(0.0);
    }
}

// Adds a cell of a pixel to its moments. What is beyond the term's channels is zero and does not count.
void add_cell(uint own, uint cell, uvec4 words) {
    hymn_cell x = hymn_cell_unpack(words);
    x.lo -= shift[own];
    x.hi -= shift[own];
    float left = float(int(p.norm_channels) - int(8 * cell));
    if (left < 8.0) {
        x.lo = mix(vec4(0.0), x.lo, lessThan(vec4(0, 1, 2, 3), vec4(left)));
        x.hi = mix(vec4(0.0), x.hi, lessThan(vec4(4, 5, 6, 7), vec4(left)));
    }
    moments[own] += vec2(dot(x.lo, vec4(1.0)) + dot(x.hi, vec4(1.0)), dot(x.lo, x.lo) + dot(x.hi, x.hi));
}

// Of the stage that is in shared memory.
void add_moments(place at, uint pixels_at) {
    [[unroll]] for (uint own = 0; own < NORM_OWN; own++) {
        uint first = norm_part(own) * (DEPTH / PARTS), from = pixels_at + norm_pixel(own) * ROW + first;
        if (NORM_ITEMS % LOCAL == 0 || norm_part(own) < PARTS) {
            [[unroll]] for (uint cell = 0; cell < DEPTH / PARTS; cell++) {
                add_cell(own, at.cell + first + cell, memory[from + cell]);
            }
        }
    }
}

// Keeps mean and 1 / sqrt(variance + epsilon) of a pixel, from the sums of x - s and (x - s)^2 over all it reads.
void put_norm(uint pixel, vec2 sums, float s) {
    float count = float(p.norm_channels * (KERNEL0 == 2 ? 4 : 1)), mean = sums.x / count;
    float scale = inversesqrt(max(sums.y / count - mean * mean, 0.0) + HYMN_NORM_EPSILON);
#if PACKED
    memory[SCALE_AT + pixel / 4][pixel % 4] = floatBitsToUint(scale);
    memory[SHIFT_AT + pixel / 4][pixel % 4] = floatBitsToUint(-(s + mean));
#else
    memory[NORM_AT + pixel] = floatBitsToUint(vec4(s + mean, scale, 0.0, 0.0));
#endif
}

vec2 pixel_norm(uint pixel) {
    return uintBitsToFloat(memory[NORM_AT + pixel].xy);
}

void leave_moments(uint partial_at, uint pixel, vec2 sum, float s) {
#ifdef SPLIT
    partial[partial_at + (pixel * PARTIAL_CELLS + CHANNELS / 8) * 2] = vec4(sum, s, 0.0);
#else
    put_norm(pixel, sum, s);
#endif
}

// The norms, or the moments of a split: adds up what the lanes of each pixel have, in the order of their parts.
void join_moments(uint partial_at) {
    barrier();
    [[unroll]] for (uint own = 0; own < NORM_OWN; own++) {
        uint item = gl_LocalInvocationID.x + own * LOCAL;
        if (NORM_ITEMS % LOCAL == 0 || item < NORM_ITEMS) {
            if (PARTS == 1) {
                leave_moments(partial_at, item, moments[own], shift[own]);
            } else {
                memory[NORM_AT + item] = floatBitsToUint(vec4(moments[own], shift[own], 0.0));
            }
        }
    }
    if (PARTS > 1) {
        barrier();
        uint pixel = gl_LocalInvocationID.x; // fewer than lanes
        if (pixel < PIXELS) {
            vec2 sum = vec2(0.0);
            [[unroll]] for (uint part = 0; part < PARTS; part++) {
                sum += uintBitsToFloat(memory[NORM_AT + part * PIXELS + pixel].xy);
            }
            leave_moments(partial_at, pixel, sum, uintBitsToFloat(memory[NORM_AT + pixel].z));
        }
    }
}

#endif
