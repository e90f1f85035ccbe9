// SPDX-License-Identifier: MIT
//
// What the shaders of the selective scan have in common: the way of a sequence through the image, and the softplus of a
// channel. Include after `p` (hymn_scan_params) is declared.
#ifndef HYMN_SCAN_GLSL
#define HYMN_SCAN_GLSL

#include "common/exp.glsl"

// Where a sequence stands: `left` steps to the end of a column (or never), then on to the next one.
struct hymn_walk {
    uint at, left; // at: pixel of the image
    int step, turn;
};

// At step `first` of a direction.
hymn_walk hymn_walk_from(uint direction, uint first) {
    uint length = p.image_width * p.image_height;
    bool columns = (direction & 1) != 0, reversed = direction >= 2;
    hymn_walk walk = hymn_walk(reversed ? length - 1 - first : first, 0xFFFFFFFF, 1, 0);
    if (columns) {
        uint x = walk.at / p.image_height, y = walk.at - x * p.image_height;
        walk.at = y * p.image_width + x;
        walk.step = int(p.image_width), walk.turn = 1 - int(length);
        walk.left = reversed ? y + 1 : p.image_height - y;
    }
    walk.step = reversed ? -walk.step : walk.step;
    walk.turn = reversed ? -walk.turn : walk.turn;
    return walk;
}

void hymn_walk_on(inout hymn_walk walk) {
    walk.at = uint(int(walk.at) + walk.step);
    walk.left--;
    if (walk.left == 0) {
        walk.at = uint(int(walk.at) + walk.turn);
        walk.left = p.image_height;
    }
}

float hymn_softplus(float v) {
    return hymn_add_log1p(vec2(max(v, 0.0)), vec2(exp2(-1.44269504088896341 * abs(v)))).x;
}

#endif
