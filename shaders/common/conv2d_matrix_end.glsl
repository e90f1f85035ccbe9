// SPDX-License-Identifier: MIT
//
// How the sums of conv2d_matrix.comp leave a workgroup: as cells of the output, as a split's part of them, or as masks.
// Of that shader, included behind its constants, its shared memory and its norms.
#ifndef HYMN_CONV2D_MATRIX_END_GLSL
#define HYMN_CONV2D_MATRIX_END_GLSL

hymn_cell shared_cell(uint at) {
    return hymn_cell(uintBitsToFloat(memory[at]), uintBitsToFloat(memory[at + 1]));
}

// A cell of the output. pixel, cell: of the tile.
struct target {
    uint pixel, cell;
    ivec3 place;
    uint of_all; // the cell
    int outside; // -1: nothing to be stored
};

target target_at(ivec3 origin, uint pixel, uint cell) {
    ivec3 place = origin + ivec3(pixel % TILE_WIDTH, pixel / TILE_WIDTH, 0);
    uint of_all = cell + gl_WorkGroupID.y * (CHANNELS / 8);
    return target(pixel, cell, place, of_all, outside(place) | (int(p.out_stride - 1 - of_all) >> 31));
}

// Of any cell for a target outside.
hymn_cell residual_of(target to) {
    ivec3 place = to.place & ~to.outside;
    return hymn_conv2d_residual(uint(pixel_at(place)), place, to.of_all & ~uint(to.outside));
}

// The same as it is in memory.
uvec4 residual_halves_of(target to) {
    return hymn_conv2d_residual_halves(uint(pixel_at(to.place & ~to.outside)), to.of_all & ~uint(to.outside));
}

#if !PACKED
void finish(target to, hymn_cell value, hymn_cell residual) {
    if (to.outside == 0) {
        if (NORM) {
            vec2 by = pixel_norm(to.pixel);
            hymn_cell ones = shared_cell(BIAS_AT + BIAS_ROW + 2 * to.cell);
            value.lo = (value.lo - by.x * ones.lo) * by.y;
            value.hi = (value.hi - by.x * ones.hi) * by.y;
        }
        hymn_cell bias = shared_cell(BIAS_AT + 2 * to.cell);
        value.lo += bias.lo;
        value.hi += bias.hi;
        if (RESIDUAL != 0u) {
            value.lo += residual.lo;
            value.hi += residual.hi;
        }
        hymn_conv2d_end(uint(pixel_at(to.place)), to.of_all, value);
    }
}

void put_block(ivec3 origin, uint memory_at, uint first_pixel, uint first_cell, uint e) {
    // END_BLOCKS is of PACKED
}
#else
// What a target is to have with a residual that is resized: `at` in shared memory it is without.
void end_resized(target to, uint at, hymn_cell residual) {
    hymn_cell value = hymn_cell_unpack(memory[at]);
    value.lo += residual.lo;
    value.hi += residual.hi;
#ifdef MASK
    value.lo = hymn_conv2d_activate(value.lo);
    value.hi = hymn_conv2d_activate(value.hi);
    memory[at] = hymn_cell_pack(value);
#else
    hymn_conv2d_end(uint(pixel_at(to.place)), to.of_all, value);
#endif
}

// The same without, or with one in f16.
void end_halves(target to, uint at, uvec4 residual) {
    uvec4 halves = memory[at];
    if (RESIDUAL != 0u) {
        halves = hymn_cell_add(halves, residual);
    }
#if defined(MASK) || defined(POOL)
    halves = hymn_cell_clamp(halves, hymn_conv2d_least());
    memory[at] = halves;
#endif
#ifdef POOL
    result[uint(pixel_at(to.place)) * p.out_stride + to.of_all] = halves;
#elif !defined(MASK)
    hymn_conv2d_end_packed(uint(pixel_at(to.place)), to.of_all, halves);
#endif
}

// Passes on a block of 2x2 of the cells that are in shared memory from `memory_at` on, which are of whole pairs of rows,
// each with what it has of a residual at half size: they are mixed from 3x3 cells of that. e: of the blocks' cells.
void put_block(ivec3 origin, uint memory_at, uint first_pixel, uint first_cell, uint e) {
    uint four = e / END_CELLS, cell = e % END_CELLS;
    uint pixel = four / (TILE_WIDTH / 2) * (2 * TILE_WIDTH) + four % (TILE_WIDTH / 2) * 2;
    uint at = memory_at + pixel * END_PITCH + cell;
    target to = target_at(origin, first_pixel + pixel, first_cell + cell);
    ivec3 place = to.place & ~to.outside;
    uint of_all = p.residual_first + (to.of_all & ~uint(to.outside));
    int width = int(p.width) / 2, height = int(p.height) / 2, x = place.x / 2, y = place.y / 2;
    int before = max(x - 1, 0), behind = min(x + 1, width - 1);
    uvec4 left[3], right[3];
    [[unroll]] for (int i = 0; i < 3; i++) {
        int row = (place.z * height + clamp(y + i - 1, 0, height - 1)) * width;
        uvec4 middle = residual[uint(row + x) * p.residual_stride + of_all];
        left[i] = hymn_quarter_way(middle, residual[uint(row + before) * p.residual_stride + of_all]);
        right[i] = hymn_quarter_way(middle, residual[uint(row + behind) * p.residual_stride + of_all]);
    }
    if (to.outside == 0 && (END_COUNT % (4 * SUBGROUP) == 0 || e < END_COUNT / 4)) {
        [[unroll]] for (int i = 0; i < 2; i++) {
            end_halves(to, at, hymn_quarter_way(left[1], left[2 * i]));
            to.place.x++;
            end_halves(to, at + END_PITCH, hymn_quarter_way(right[1], right[2 * i]));
            to.place += ivec3(-1, 1, 0);
            at += TILE_WIDTH * END_PITCH;
        }
    }
}
#endif

// Passes on AHEAD of the cells that are in shared memory from `memory_at` on: the e-th, and those SUBGROUP apart.
void put_sums(ivec3 origin, uint partial_at, uint memory_at, uint first_pixel, uint first_cell, uint e) {
#ifndef SPLIT
    hymn_cell residual[AHEAD];
    uvec4 residual_halves[AHEAD];
    [[unroll]] for (uint n = 0; n < AHEAD; n++) {
        uint at = e + n * SUBGROUP;
        target to = target_at(origin, first_pixel + at / END_CELLS, first_cell + at % END_CELLS);
        if (PACKED == 1 && RESIDUAL == 1u) {
            residual_halves[n] = residual_halves_of(to);
        } else if (RESIDUAL != 0u) {
            residual[n] = residual_of(to);
        }
    }
#endif
    [[unroll]] for (uint n = 0; n < AHEAD; n++) {
        uint at = e + n * SUBGROUP, pixel = first_pixel + at / END_CELLS, cell = first_cell + at % END_CELLS;
        if (END_COUNT % (AHEAD * SUBGROUP) == 0 || at < END_COUNT) {
            uint from = memory_at + at / END_CELLS * END_PITCH + at % END_CELLS * END_UNITS;
#if PACKED
            target to = target_at(origin, pixel, cell);
            if (to.outside == 0 && RESIDUAL == 2u) {
                end_resized(to, from, residual[n]);
            } else if (to.outside == 0) {
                end_halves(to, from, residual_halves[n]);
            }
#elif defined(SPLIT)
            hymn_cell value = shared_cell(from);
            uint to = partial_at + (pixel * PARTIAL_CELLS + cell) * 2;
            partial[to] = value.lo;
            partial[to + 1] = value.hi;
#else
            finish(target_at(origin, pixel, cell), shared_cell(from), residual[n]);
#endif
        }
    }
}

#ifdef MASK
// Of the pixels whose cells are in shared memory from `memory_at` on: two side by side a lane, and of each two lanes the
// first one stores.
void put_masks(ivec3 origin, uint memory_at, uint first_pixel) {
    [[unroll]] for (uint i = 0; i < (END_ROWS * M / 2 + SUBGROUP - 1) / SUBGROUP; i++) {
        uint two = gl_SubgroupInvocationID + i * SUBGROUP, at = min(2 * two, END_ROWS * M - 2);
        vec4 sums[2] = {vec4(0.0), vec4(0.0)};
        [[unroll]] for (uint cell = 0; cell < END_CELLS; cell++) {
            if (cell < p.out_stride) {
                hymn_cell weights = shared_cell(HEAD_AT + 2 * cell);
                [[unroll]] for (uint k = 0; k < 2; k++) {
                    hymn_cell v = hymn_cell_unpack(memory[memory_at + (at + k) * END_PITCH + cell]);
                    sums[k] = hymn_add_to_logit(sums[k], v, weights.lo, weights.hi);
                }
            }
        }
        float bias = uintBitsToFloat(memory[HEAD_AT + 2 * p.out_stride].x);
        vec2 own = vec2(hymn_logit(sums[0], bias), hymn_logit(sums[1], bias));
        vec4 logits = vec4(own, subgroupShuffleXor(own, 1));
        uint pixel = first_pixel + at;
        ivec3 place = origin + ivec3(pixel % TILE_WIDTH, pixel / TILE_WIDTH, 0);
        uint image = uint(place.z) - p.index; // beyond p.images where it is before the first
        bool stores = two % 2 == 0 && 2 * two < END_ROWS * M;
        if (stores && place.x < p.mask_width && place.y < p.mask_height && image < p.images) {
            uint to = image * p.image_words + place.y * ((p.mask_width + 3) / 4) + place.x / 4;
            masks[to] = hymn_label(logits, p.threshold, p.mask_width - 1 - place.x);
        }
    }
}
#endif

#ifdef POOL
// The largest of each 2x2 of the pixels whose cells are in shared memory from `memory_at` on, which are whole pairs of
// rows.
void put_pooled(ivec3 origin, uint memory_at, uint first_pixel, uint first_cell) {
    const uint across = TILE_WIDTH / 2, count = END_COUNT / 4;
    [[unroll]] for (uint i = 0; i < (count + SUBGROUP - 1) / SUBGROUP; i++) {
        uint e = gl_SubgroupInvocationID + i * SUBGROUP, four = e / END_CELLS, cell = e % END_CELLS;
        uint x = 2 * (four % across), y = 2 * (four / across);
        uint from = memory_at + (y * TILE_WIDTH + x) * END_PITCH + cell;
        target to = target_at(origin, first_pixel + y * TILE_WIDTH + x, first_cell + cell);
        if (to.outside == 0 && (count % SUBGROUP == 0 || e < count)) {
            uvec4 upper = hymn_cell_max(memory[from], memory[from + END_PITCH]);
            uint below = from + TILE_WIDTH * END_PITCH;
            uvec4 lower = hymn_cell_max(memory[below], memory[below + END_PITCH]);
            int pixel = (to.place.z * (int(p.height) / 2) + to.place.y / 2) * (int(p.width) / 2) + to.place.x / 2;
            pooled[uint(pixel) * p.out_stride + to.of_all] = hymn_cell_max(upper, lower);
        }
    }
}
#endif

#if PACKED
#define END_TYPE coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>

// Applies bias and norm to the sums, as matrices whose rows or columns are all the same: loads may have a stride of 0.
void finish_sums(uint block_row, uint block_column) {
    [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
        uint bias_at = BIAS_AT + (block_column + j) * (N / 4);
        coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> bias, ones, scale, offset;
        coopMatLoad(bias, memory, bias_at, 0, gl_CooperativeMatrixLayoutRowMajor);
        if (NORM) {
            coopMatLoad(ones, memory, bias_at + BIAS_ROW, 0, gl_CooperativeMatrixLayoutRowMajor);
        }
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            uint at = i * BLOCK_COLUMNS + j;
            if (NORM) {
                uint pixel = (block_row + i) * (M / 4);
                coopMatLoad(scale, memory, SCALE_AT + pixel, 0, gl_CooperativeMatrixLayoutColumnMajor);
                coopMatLoad(offset, memory, SHIFT_AT + pixel, 0, gl_CooperativeMatrixLayoutColumnMajor);
                sums[at] = (sums[at] + offset * ones) * scale + bias; // the mean first: what it cancels may be large
            } else {
                sums[at] = sums[at] + bias;
            }
        }
    }
}
#else
#define END_TYPE coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#endif

// Each subgroup spreads its sums over its lanes by way of shared memory: cells of channels leave together.
void write_sums(ivec3 origin, uint partial_at) {
    uint block_row = gl_SubgroupID / COLUMNS * BLOCK_ROWS, block_column = gl_SubgroupID % COLUMNS * BLOCK_COLUMNS;
    uint memory_at = gl_SubgroupID * (END_ROWS * M * END_PITCH);
    barrier();
#if PACKED
    finish_sums(block_row, block_column);
#endif
#ifdef DEPTHWISE
    if (gl_WorkGroupID.y < p.convolved) {
        // The tile, as f16 saturates. Not in a function: with one more, NVIDIA's compiler left all sums in memory.
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i++) {
            [[unroll]] for (uint j = 0; j < BLOCK_COLUMNS; j++) {
                uint to = (block_row + i) * M * WHOLE_PITCH + (block_column + j) * (N / 8);
                END_TYPE leaving = END_TYPE(sums[i * BLOCK_COLUMNS + j]);
                [[unroll]] for (int k = 0; k < leaving.length(); k++) {
                    leaving[k] = clamp(leaving[k], float16_t(-65504.0), float16_t(65504.0));
                }
                coopMatStore(leaving, memory, to, WHOLE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            }
        }
        barrier();
        put_convolved(origin);
        return;
    }
#endif
    [[unroll]] for (uint part = 0; part < END_PARTS; part++) {
        uint first = part * END_COLUMNS, first_cell = (block_column + first) * N / 8;
        [[unroll]] for (uint i = 0; i < BLOCK_ROWS; i += END_ROWS) {
            [[unroll]] for (uint row = 0; row < END_ROWS; row++) {
                [[unroll]] for (uint j = 0; j < END_COLUMNS; j++) {
                    uint at = (i + row) * BLOCK_COLUMNS + first + j;
                    uint to = memory_at + row * M * END_PITCH + j * (N / 8 * END_UNITS);
                    END_TYPE leaving = END_TYPE(sums[at]);
                    coopMatStore(leaving, memory, to, END_PITCH, gl_CooperativeMatrixLayoutRowMajor);
                }
            }
            subgroupBarrier();
            uint e = gl_SubgroupInvocationID, first_pixel = (block_row + i) * M;
            if (END_BLOCKS && UNROLLED) {
                [[unroll]] for (uint n = 0; n < END_STEPS; n += 4) {
                    put_block(origin, memory_at, first_pixel, first_cell, e + n / 4 * SUBGROUP);
                }
            } else if (END_BLOCKS) {
                if (e < END_COUNT / 4) {
                    do {
                        put_block(origin, memory_at, first_pixel, first_cell, e);
                        e += SUBGROUP;
                    } while (e < END_COUNT / 4);
                }
            } else if (END_STEPS == AHEAD) {
                put_sums(origin, partial_at, memory_at, first_pixel, first_cell, e);
            } else if (e < END_COUNT) {
                do {
                    put_sums(origin, partial_at, memory_at, first_pixel, first_cell, e);
                    e += AHEAD * SUBGROUP;
                } while (e < END_COUNT);
            }
            subgroupBarrier();
#ifdef MASK
            put_masks(origin, memory_at, first_pixel);
            subgroupBarrier();
#endif
#ifdef POOL
            put_pooled(origin, memory_at, first_pixel, first_cell);
            subgroupBarrier();
#endif
        }
    }
}

#endif
