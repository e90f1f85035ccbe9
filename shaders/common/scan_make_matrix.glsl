// SPDX-License-Identifier: MIT
//
// The same as common/scan_make.glsl by helpers with matrix units, of whole sequences in f16: delta is made as matrices of
// channels by steps, whose elements are where the device has them. Rows of dt are multiplied with W_dt as f16 in f32, and
// with the bias, whose two halves are two columns more of W_dt, for which rows have ones. u, loaded as rows are, is read
// as a matrix too. delta and delta u leave as matrices, steps side by side, so that a lane of the scan reads those of four
// steps at a time. What is loaded and stored is of eight channels; D u is added to y on the way out.
// While block j is scanned, delta of j + 1 is made, j + 2 is loaded, and j - 1 is stored.
//   constants 12, 13, 14: M, N, K of the device's matrices   15: SUBGROUPS that help
// BLOCK is a multiple of N, WIDTH of M and 8; subgroups have as many matrices each, whole columns or parts of one; FOLD and EACH are multiples of 4,
// RANK and STATES of 8; GROUP * EACH is STATES; HELPERS is a multiple of WIDTH / 8.
#ifndef HYMN_SCAN_MAKE_MATRIX_GLSL
#define HYMN_SCAN_MAKE_MATRIX_GLSL

layout(constant_id = 12) const uint M = 16;
layout(constant_id = 13) const uint N = 16;
layout(constant_id = 14) const uint K = 16;
layout(constant_id = 15) const uint SUBGROUPS = 2;

const uint TILES_DOWN = WIDTH / M, TILES_ACROSS = BLOCK / N;
// Subgroups share the steps as far as they can, and then the channels.
const uint DOWN = TILES_ACROSS % SUBGROUPS == 0 ? 1 : SUBGROUPS / TILES_ACROSS;
const uint OWN_ROWS = TILES_DOWN / DOWN, OWN_COLUMNS = TILES_ACROSS / (SUBGROUPS / DOWN); // matrices of a subgroup
const uint CELLS = WIDTH / 8, U_PITCH = CELLS + 1; // of a step; one more for the banks
const uint DT_UNITS = (RANK + 2 + K - 1) / K * K / 8; // of a row of dt, in units of 16 bytes
const uint DT_PITCH = DT_UNITS + (DT_UNITS % 4 == 0 ? 1 : 0);
const uint DELTA_PITCH = BLOCK / 2 + 1;            // of a channel, in units of 4 floats
// What is loaded of a block in units of 16 bytes: of dt, of B and C, and of u.
const uint DT_CELLS = RANK / 8, BC_CELLS = STATES / 4;
const uint DT_COUNT = BLOCK * DT_CELLS, BC_COUNT = BLOCK * BC_CELLS, U_COUNT = BLOCK * CELLS;
const uint DT_LOADS = (DT_COUNT + HELPERS - 1) / HELPERS, BC_LOADS = (BC_COUNT + HELPERS - 1) / HELPERS;
const uint U_LOADS = (U_COUNT + HELPERS - 1) / HELPERS;

layout(set = 0, binding = 0) readonly buffer Source { uvec4 source[]; };
layout(set = 0, binding = 1) readonly buffer Projected { uvec4 projected[]; };
layout(set = 0, binding = 3) writeonly buffer Result { uvec4 result[]; };

shared vec4 deltas[2 * WIDTH * DELTA_PITCH]; // [block % 2][channel]: delta of all steps, delta u of all steps
shared vec2 results[2 * BLOCK * RESULTS];    // [block % 2][step][pair]: y
shared uvec4 dt_rows[2 * BLOCK * DT_PITCH];  // [block % 2][step]: f16
shared uvec4 dt_weights[WIDTH * DT_PITCH];   // [channel]: likewise
shared uvec4 u_rows[2 * BLOCK * U_PITCH];    // [block % 2][step]: likewise

uint own_cell, dt_from, u_from, result_from;
hymn_cell skip; // of the lane's cell, in units of y
uvec4 dt_loaded[DT_LOADS], bc_loaded[BC_LOADS], u_loaded[U_LOADS], u_again[U_LOADS];
vec4 four_deltas[TILE], four_du[TILE]; // of four steps that are scanned
vec2 now[TILE];                        // delta and delta u of the step that is scanned

// first_row: of the image and direction, in units of four numbers; first_u: of the image, in pairs; first_result: of
// the sequence, likewise.
void place_maker(uint first_row, uint first_u, uint first_result) {
    own_cell = maker % CELLS;
    dt_from = first_row / 2;
    u_from = first_u / 4 + min(gl_WorkGroupID.x * CELLS + own_cell, p.width / 8 - 1);
    result_from = first_result / 4 + gl_WorkGroupID.x * CELLS + own_cell;
}

// Eight numbers of W_dt and the bias behind it, from the r-th on, of a channel.
uvec4 dt_weights_from(uint weights_at, uint r, uint channel) {
    float w[8];
    [[unroll]] for (uint k = 0; k < 8; k++) {
        w[k] = r < RANK ? weights[weights_at + (2 + STATES + r + k) * p.width + channel] : 0.0;
    }
    if (r == RANK) {
        float bias = clamp(weights[weights_at + channel], -65504.0, 65504.0);
        w[0] = unpackHalf2x16(packHalf2x16(vec2(bias, 0.0))).x;
        w[1] = bias - w[0];
    }
    return hymn_cell_pack(hymn_cell(vec4(w[0], w[1], w[2], w[3]), vec4(w[4], w[5], w[6], w[7])));
}

// weights_at: of the direction.
void load_made_weights(uint weights_at) {
    uint at = weights_at + p.width + min((gl_WorkGroupID.x * CELLS + own_cell) * 8, p.width - 8);
    skip.lo = UNIT * vec4(weights[at], weights[at + 1], weights[at + 2], weights[at + 3]);
    skip.hi = UNIT * vec4(weights[at + 4], weights[at + 5], weights[at + 6], weights[at + 7]);
    uint i = maker;
    if (i < WIDTH * DT_PITCH) {
        do {
            uint channel = min(gl_WorkGroupID.x * WIDTH + i / DT_PITCH, p.width - 1);
            dt_weights[i] = dt_weights_from(weights_at, i % DT_PITCH * 8, channel);
            i += HELPERS;
        } while (i < WIDTH * DT_PITCH);
    }
}

// Where rows of dt have ones for the bias, and zero behind them. By all lanes.
void clear_rows() {
    for (uint i = gl_LocalInvocationID.x; i < 2 * BLOCK * DT_PITCH; i += LANES) {
        dt_rows[i] = uvec4(i % DT_PITCH == DT_CELLS ? 0x3C003C00 : 0, 0, 0, 0);
    }
}

// The i-th of a lane's loads of so many units a step: the step of a block, and the unit. A lane that has none left
// loads of the last step: no branch may part the lanes of a subgroup before their matrices. SPIR-V promises that they
// come together again only where all of the workgroup came to the branch, and helpers are in one of their own.
uvec2 loaded_at(uint i, uint units) {
    uint at = maker + i * HELPERS;
    // Where lanes have the same unit in all of their loads.
    uvec2 place = HELPERS % units == 0 ? uvec2(maker / units + i * (HELPERS / units), maker % units)
                                       : uvec2(at / units, at % units);
    return BLOCK * units % HELPERS == 0 ? place : uvec2(min(place.x, BLOCK - 1), place.y);
}

// Whether the load is the lane's own, and so to be stored.
bool is_loaded(uint i, uint count) {
    return count % HELPERS == 0 || maker + i * HELPERS < count;
}

// The block has been located, and a barrier has come since.
void load_rows(uint block) {
    uint located = block * BLOCK % LOCATED, stride = p.proj_stride / 2;
    [[unroll]] for (uint i = 0; i < DT_LOADS; i++) {
        uvec2 at = loaded_at(i, DT_CELLS);
        dt_loaded[i] = projected[pixels[located + at.x] * stride + dt_from + at.y];
    }
    [[unroll]] for (uint i = 0; i < BC_LOADS; i++) {
        uvec2 at = loaded_at(i, BC_CELLS);
        bc_loaded[i] = projected[pixels[located + at.x] * stride + dt_from + DT_CELLS + at.y];
    }
    [[unroll]] for (uint i = 0; i < U_LOADS; i++) {
        u_loaded[i] = source[pixels[located + loaded_at(i, CELLS).x] * p.source_stride + u_from];
    }
}

// slot: where the block's B and C are in shared memory.
void store_rows(uint block, uint slot) {
    uint first_step = block % 2 * BLOCK;
    [[unroll]] for (uint i = 0; i < DT_LOADS; i++) {
        if (is_loaded(i, DT_COUNT)) {
            uvec2 at = loaded_at(i, DT_CELLS);
            dt_rows[(first_step + at.x) * DT_PITCH + at.y] = dt_loaded[i];
        }
    }
    [[unroll]] for (uint i = 0; i < U_LOADS; i++) {
        if (is_loaded(i, U_COUNT)) {
            u_rows[(first_step + loaded_at(i, CELLS).x) * U_PITCH + own_cell] = u_loaded[i];
        }
    }
    [[unroll]] for (uint i = 0; i < BC_LOADS; i++) {
        if (is_loaded(i, BC_COUNT)) {
            uvec2 at = loaded_at(i, BC_CELLS);
            uint to = (slot * BLOCK + at.x) * PITCH + 2 * at.y;
            hymn_cell cell = hymn_cell_unpack(bc_loaded[i]);
            rows[to] = cell.lo;
            rows[to + 1] = cell.hi;
        }
    }
}

void make_deltas(uint block) {
    uint helper = gl_SubgroupID - SCANNERS / (HELPERS / SUBGROUPS);
    uint first_channel = helper % DOWN * (OWN_ROWS * M), first_step = helper / DOWN * (OWN_COLUMNS * N);
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[OWN_ROWS * OWN_COLUMNS];
    [[unroll]] for (uint i = 0; i < OWN_ROWS * OWN_COLUMNS; i++) {
        sums[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    }
    uint dt_at = (block % 2 * BLOCK + first_step) * DT_PITCH, u_at = (block % 2 * BLOCK + first_step) * U_PITCH;
    [[unroll]] for (uint k = 0; k < DT_UNITS * 8 / K; k++) {
        coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> dt[OWN_COLUMNS];
        [[unroll]] for (uint j = 0; j < OWN_COLUMNS; j++) {
            coopMatLoad(dt[j], dt_rows, dt_at + j * N * DT_PITCH + k * (K / 8), DT_PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
        }
        [[unroll]] for (uint i = 0; i < OWN_ROWS; i++) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> w;
            coopMatLoad(w, dt_weights, (first_channel + i * M) * DT_PITCH + k * (K / 8), DT_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint j = 0; j < OWN_COLUMNS; j++) {
                sums[i * OWN_COLUMNS + j] = coopMatMulAdd(w, dt[j], sums[i * OWN_COLUMNS + j]);
            }
        }
    }
    uint to = (block % 2 * WIDTH + first_channel) * DELTA_PITCH + first_step / 4;
    [[unroll]] for (uint i = 0; i < OWN_ROWS; i++) {
        [[unroll]] for (uint j = 0; j < OWN_COLUMNS; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> u;
            coopMatLoad(u, u_rows, u_at + j * N * U_PITCH + (first_channel + i * M) / 8, U_PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
            coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> delta = sums[i * OWN_COLUMNS + j];
            [[unroll]] for (uint e = 0; e < delta.length(); e++) {
                delta[e] = softplus(vec2(delta[e])).x;
            }
            uint at = to + i * M * DELTA_PITCH + j * (N / 4);
            coopMatStore(delta, deltas, at, DELTA_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            delta = delta * coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(u);
            coopMatStore(delta, deltas, at + BLOCK / 4, DELTA_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        }
    }
}

// u of the block whose results are to be stored.
void load_again(uint block) {
    uint located = block * BLOCK % LOCATED;
    [[unroll]] for (uint i = 0; i < U_LOADS; i++) {
        u_again[i] = source[pixels[located + loaded_at(i, CELLS).x] * p.source_stride + u_from];
    }
}

void store_results(uint block) {
    uint located = block * BLOCK % LOCATED, first_step = block % 2 * BLOCK, left = end - first - block * BLOCK;
    [[unroll]] for (uint i = 0; i < U_LOADS; i++) {
        if (is_loaded(i, U_COUNT)) {
            uint step = loaded_at(i, CELLS).x, from = (first_step + step) * RESULTS + 4 * own_cell;
            hymn_cell y = hymn_cell(vec4(results[from], results[from + 1]), vec4(results[from + 2], results[from + 3]));
            hymn_cell u = hymn_cell_unpack(u_again[i]);
            y.lo = fma(y.lo, vec4(UNIT), skip.lo * u.lo);
            y.hi = fma(y.hi, vec4(UNIT), skip.hi * u.hi);
            uint to = pixels[located + step] * (p.width / 8) + result_from;
            if (step < left && gl_WorkGroupID.x * CELLS + own_cell < p.width / 8) {
                result[to] = hymn_cell_pack(y);
            }
        }
    }
}

// What is behind the last block is located as the last step, and so may be loaded and made too; in the first turns, when
// there are no rows yet, what is made is never read.
void help(uint turn, uint stored, uint made) {
    load_rows(turn);
    if (turn >= 3) {
        load_again(turn - 3);
    }
    make_deltas(turn + 1); // of turn - 1, which the first has none of
    if (turn % 2 == 0) {
        locate(turn + 2, 2);
    }
    if (turn >= 3) {
        store_results(turn - 3);
    }
    store_rows(turn, stored);
}

// Where the deltas of the lane's channels are, from the block's first step on, and so many steps further.
uint deltas_from(uint block) {
    return (block % 2 * WIDTH + TILE * group) * DELTA_PITCH;
}

uint deltas_after(uint steps) {
    return steps / 4;
}

// Of the i-th step from there: four at a time.
void take_deltas(uint at, uint i) {
    [[unroll]] for (uint k = 0; k < TILE; k++) {
        if (i % 4 == 0) {
            four_deltas[k] = deltas[at + k * DELTA_PITCH + i / 4];
            four_du[k] = deltas[at + k * DELTA_PITCH + BLOCK / 4 + i / 4];
        }
        now[k] = vec2(four_deltas[k][i % 4], four_du[k][i % 4]);
    }
}

// y of the lane's own pair, of a step of the block; at: its place among the results.
void leave_result(uint block, uint step, uint at, vec2 both) {
    results[at] = both;
}

#endif
