// SPDX-License-Identifier: MIT
#ifndef HYMN_RATIO_GLSL
#define HYMN_RATIO_GLSL

// Pixel positions of a resize as exact fractions: returns floor(n / d) and the fraction that is left. For quotients below
// 2^17 and d below 2^18; the float quotient is at most one off.
uint hymn_ratio(uint n, uint d, out float fraction) {
    uint q = uint(float(n) / float(d));
    int rest = int(n - q * d);
    if (rest < 0) {
        q--;
        rest += int(d);
    }
    if (rest >= int(d)) {
        q++;
        rest -= int(d);
    }
    fraction = float(rest) / float(d);
    return q;
}

// Taps first..end-1 of the antialiased triangle filter (torch: bilinear with antialias=True) for output `at` of `out_size`
// from `in_size` (at most 32768 and 65535); tap j weighs max(0, 1 - abs(j - middle + 0.5 - fraction) * inverse), and the
// weights are to be divided by their sum.
struct hymn_triangle {
    int first, end, middle;
    float fraction, inverse;
};

hymn_triangle hymn_triangle_at(uint at, uint in_size, uint out_size) {
    hymn_triangle t;
    t.middle = int(hymn_ratio(in_size * (2 * at + 1), 2 * out_size, t.fraction));
    float reach = max(float(in_size) / float(out_size), 1.0);
    t.inverse = 1.0 / reach;
    t.first = max(t.middle + int(floor(t.fraction - reach + 0.5)), 0);
    t.end = min(t.middle + int(floor(t.fraction + reach + 0.5)), int(in_size));
    return t;
}

float hymn_triangle_weight(hymn_triangle t, int tap) {
    float far = abs(float(tap - t.middle) + 0.5 - t.fraction);
    return tap < t.end ? max(1.0 - far * t.inverse, 0.0) : 0.0;
}

#endif
