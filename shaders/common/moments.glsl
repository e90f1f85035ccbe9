// SPDX-License-Identifier: MIT
//
// Mean and variance of a pixel's true channels, cell by cell: each cell's two-pass moments are merged into the running
// ones by Chan, Golub and LeVeque's formula (1979), which is as robust as two passes over all and reads the data once.
// Include after declaring `const uint SHARE` (lanes that share a pixel, a power of two; specialization constant) and
// `local_size`.
#ifndef HYMN_MOMENTS_GLSL
#define HYMN_MOMENTS_GLSL

struct hymn_moments {
    float count, mean, squares; // squares: the sum of squared deviations from the mean
};

hymn_moments hymn_moments_merge(hymn_moments a, hymn_moments b) {
    float count = a.count + b.count;
    float share = b.count / max(count, 1.0), step = b.mean - a.mean;
    return hymn_moments(count, fma(step, share, a.mean), a.squares + fma(step * step, a.count * share, b.squares));
}

// The first `channels` channels (1 or more) of a cell, the others being zero.
hymn_moments hymn_moments_of(hymn_cell cell, uint channels) {
    float count = float(min(channels, 8));
    float mean = (dot(cell.lo, vec4(1.0)) + dot(cell.hi, vec4(1.0))) / count;
    vec4 lo = mix(vec4(0.0), cell.lo - mean, lessThan(vec4(0, 1, 2, 3), vec4(count)));
    vec4 hi = mix(vec4(0.0), cell.hi - mean, lessThan(vec4(4, 5, 6, 7), vec4(count)));
    return hymn_moments(count, mean, dot(lo, lo) + dot(hi, hi));
}

// As stored: mean, 1 / sqrt(variance + epsilon), of values in units of `unit`.
vec2 hymn_moments_stats(hymn_moments m, float unit) {
    return vec2(m.mean, inversesqrt(m.squares / m.count + HYMN_NORM_EPSILON / (unit * unit)));
}

shared float hymn_shared_count[128], hymn_shared_mean[128], hymn_shared_squares[128];

// Merges what the SHARE lanes of each pixel have: the same bits in all of them. All lanes of the workgroup must come
// here.
hymn_moments hymn_moments_reduce(hymn_moments m) {
    uint lane = gl_LocalInvocationID.x;
    for (uint reach = SHARE / 2; reach > 0; reach /= 2) {
        hymn_shared_count[lane] = m.count;
        hymn_shared_mean[lane] = m.mean;
        hymn_shared_squares[lane] = m.squares;
        barrier();
        uint a = lane & ~reach, b = lane | reach;
        m = hymn_moments_merge(hymn_moments(hymn_shared_count[a], hymn_shared_mean[a], hymn_shared_squares[a]),
                               hymn_moments(hymn_shared_count[b], hymn_shared_mean[b], hymn_shared_squares[b]));
        barrier();
    }
    return m;
}

#endif
