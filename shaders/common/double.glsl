// SPDX-License-Identifier: MIT
//
// Bilinear resizing to exactly twice the size (half-pixel centres, edges clamped) in blocks of 2x2 outputs: output rows
// 2j and 2j+1 are s[j-1]/4 + 3s[j]/4 and 3s[j]/4 + s[j+1]/4, columns alike, so a block needs 3x3 sources, and each is
// loaded once for all four. Include after declaring `words` as HYMN_DOUBLE_SOURCE and HALF.
#ifndef HYMN_DOUBLE_GLSL
#define HYMN_DOUBLE_GLSL

struct hymn_block {
    hymn_cell cells[4]; // row-major
};

// One source row's share: columns left, middle, right of which the block needs the mixes.
void hymn_double_row(inout hymn_block block, hymn_cell l, hymn_cell m, hymn_cell r, float above, float below) {
    vec4 lo = 0.25 * l.lo + 0.75 * m.lo, hi = 0.25 * l.hi + 0.75 * m.hi;
    block.cells[0].lo = fma(vec4(above), lo, block.cells[0].lo);
    block.cells[0].hi = fma(vec4(above), hi, block.cells[0].hi);
    block.cells[2].lo = fma(vec4(below), lo, block.cells[2].lo);
    block.cells[2].hi = fma(vec4(below), hi, block.cells[2].hi);
    lo = 0.25 * r.lo + 0.75 * m.lo;
    hi = 0.25 * r.hi + 0.75 * m.hi;
    block.cells[1].lo = fma(vec4(above), lo, block.cells[1].lo);
    block.cells[1].hi = fma(vec4(above), hi, block.cells[1].hi);
    block.cells[3].lo = fma(vec4(below), lo, block.cells[3].lo);
    block.cells[3].hi = fma(vec4(below), hi, block.cells[3].hi);
}

// The block whose middle is source pixel (image_row + j, k) of a [rows, width, stride cells] tensor; at: the cell within
// a pixel; height: of one image, its first row is image_row.
hymn_block hymn_double(uint image_row, uint j, uint k, uint height, uint width, uint stride, uint at) {
    hymn_block block;
    block.cells[0] = block.cells[1] = block.cells[2] = block.cells[3] = hymn_cell_zero();
    uint left = max(k, 1) - 1, right = min(k + 1, width - 1);
    uint i = 0;
    do {
        uint row_at = (image_row + clamp(j + i, 1, height) - 1) * width;
        hymn_cell l, m, r;
        HYMN_LOAD_CELL(l, HYMN_DOUBLE_SOURCE, (row_at + left) * stride + at, HALF)
        HYMN_LOAD_CELL(m, HYMN_DOUBLE_SOURCE, (row_at + k) * stride + at, HALF)
        HYMN_LOAD_CELL(r, HYMN_DOUBLE_SOURCE, (row_at + right) * stride + at, HALF)
        hymn_double_row(block, l, m, r, i == 0 ? 0.25 : i == 1 ? 0.75 : 0.0, i == 0 ? 0.0 : i == 1 ? 0.75 : 0.25);
        i++;
    } while (i < 3);
    return block;
}

#endif
