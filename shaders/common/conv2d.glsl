// SPDX-License-Identifier: MIT
//
// What the convolutions for GPUs (conv2d_tiled.comp, conv2d_matrix.comp) share: the bindings, the prologue on what is
// read and the epilogue on what is written. Include after load.glsl and params.h, with these constants or macros:
// PROLOGUE (enum hymn_prologue), RESIDUAL (0 none, 1 same size, 2 half size and resized), ACTIVATION (enum
// hymn_activation), IS_HALF(bit) (storage: bits 0..2 sources, 3 residual, 5 output, 6 weights).
// HYMN_CONV2D_PINNED (volatile, or nothing): how the first two sources and the residual are declared.
// Bindings: 0 weights, then bias f32; 1 output; 2..4 sources (with a prologue 3 is the stats [pixel]{mean, rstd} f32);
//   5 residual. With FEW defined, for devices whose shaders have four storage buffers, there is one source, and 3 is the
//   stats or the residual.
#ifndef HYMN_CONV2D_GLSL
#define HYMN_CONV2D_GLSL

#ifdef MASK
#define HYMN_CONV2D_PARAMS hymn_conv2d_mask_params
#elif defined(PICTURES)
#define HYMN_CONV2D_PARAMS hymn_conv2d_picture_params
#elif defined(DEPTHWISE)
#define HYMN_CONV2D_PARAMS hymn_conv2d_depthwise_params
#else
#define HYMN_CONV2D_PARAMS hymn_conv2d_params
#endif
layout(push_constant) uniform Push {
    HYMN_CONV2D_PARAMS p;
};
layout(set = 0, binding = 0) readonly restrict buffer Weights {
    uvec4 weights[];
};
#ifndef MASK
layout(set = 0, binding = 1) writeonly restrict buffer Output {
    uvec4 result[];
};
#endif
#ifndef HYMN_CONV2D_PINNED
#define HYMN_CONV2D_PINNED
#endif
layout(set = 0, binding = 2) readonly restrict HYMN_CONV2D_PINNED buffer Source0 {
    uvec4 source0[];
};
layout(set = 0, binding = 3) readonly restrict buffer Stats {
    vec2 stats[];
};
#ifdef FEW
layout(set = 0, binding = 3) readonly restrict buffer Residual {
    uvec4 residual[];
};
#else
layout(set = 0, binding = 3) readonly restrict HYMN_CONV2D_PINNED buffer Source1 {
    uvec4 source1[];
};
layout(set = 0, binding = 4) readonly restrict buffer Source2 {
    uvec4 source2[];
};
layout(set = 0, binding = 5) readonly restrict HYMN_CONV2D_PINNED buffer Residual {
    uvec4 residual[];
};
#endif

// norm: mean and rstd.
hymn_cell hymn_prologue(hymn_cell x, vec2 norm) {
    return hymn_cell((x.lo - norm.x) * norm.y, (x.hi - norm.x) * norm.y);
}

hymn_cell hymn_load_residual(uint at) {
    hymn_cell cell;
    HYMN_LOAD_CELL(cell, residual, at, IS_HALF(3))
    return cell;
}

// Of an output pixel: x, y, image.
ivec3 hymn_conv2d_place(uint pixel) {
    uint row = pixel / p.width, image = row / p.height;
    return ivec3(pixel - row * p.width, row - image * p.height, image);
}

// The residual of half the size at an output pixel: weights 1/4 and 3/4 of the nearest rows and columns, edges clamped.
hymn_cell hymn_resized_residual(ivec3 place, uint cell) {
    int half_height = int(p.height) / 2, half_width = int(p.width) / 2, x = place.x, y = place.y, image = place.z;
    int y0 = (y - 1) >> 1, x0 = (x - 1) >> 1;
    float down = (y & 1) == 0 ? 0.75 : 0.25, right = (x & 1) == 0 ? 0.75 : 0.25;
    int upper = (image * half_height + max(y0, 0)) * half_width;
    int lower = (image * half_height + min(y0 + 1, half_height - 1)) * half_width;
    int x1 = min(x0 + 1, half_width - 1);
    x0 = max(x0, 0);
    uint at = p.residual_first + cell;
    hymn_cell a = hymn_load_residual(uint(upper + x0) * p.residual_stride + at);
    hymn_cell b = hymn_load_residual(uint(upper + x1) * p.residual_stride + at);
    hymn_cell c = hymn_load_residual(uint(lower + x0) * p.residual_stride + at);
    hymn_cell d = hymn_load_residual(uint(lower + x1) * p.residual_stride + at);
    return hymn_cell(mix(mix(a.lo, b.lo, right), mix(c.lo, d.lo, right), down),
                     mix(mix(a.hi, b.hi, right), mix(c.hi, d.hi, right), down));
}

vec4 hymn_conv2d_activate(vec4 v) {
    return ACTIVATION == 2u ? v / (1.0 + exp(-v)) : ACTIVATION == 1u ? max(v, vec4(0.0)) : v;
}

// Of a cell of channels of an output pixel. place: of the pixel, where the residual is resized.
hymn_cell hymn_conv2d_residual(uint pixel, ivec3 place, uint cell) {
    return RESIDUAL == 1u ? hymn_load_residual(pixel * p.residual_stride + p.residual_first + cell)
                          : hymn_resized_residual(place, cell);
}

// Of a residual of the same size, in f16.
uvec4 hymn_conv2d_residual_halves(uint pixel, uint cell) {
    return residual[pixel * p.residual_stride + p.residual_first + cell];
}

#ifdef HYMN_HALF_ARITHMETIC // as of load.glsl
// With ReLU or none, clamping is all there is to activate.
float16_t hymn_conv2d_least() {
    return ACTIVATION == 1u ? float16_t(0.0) : float16_t(-65504.0);
}

#ifndef MASK
void hymn_conv2d_end_packed(uint pixel, uint cell, uvec4 halves) {
    result[pixel * p.out_stride + cell] = hymn_cell_clamp(halves, hymn_conv2d_least());
}
#endif
#endif

#ifndef MASK
// Activates and stores.
void hymn_conv2d_end(uint pixel, uint cell, hymn_cell value) {
    value.lo = hymn_conv2d_activate(value.lo);
    value.hi = hymn_conv2d_activate(value.hi);
    uint to = pixel * p.out_stride + cell;
    HYMN_STORE_CELL(result, to, IS_HALF(5), value)
}

// Adds bias and residual, activates and stores.
void hymn_conv2d_finish(uint pixel, uint cell, hymn_cell value) {
    uint bias_at = p.bias_at + 2 * cell;
    value.lo += uintBitsToFloat(weights[bias_at]);
    value.hi += uintBitsToFloat(weights[bias_at + 1]);
    if (RESIDUAL != 0u) {
        hymn_cell r = hymn_conv2d_residual(pixel, RESIDUAL == 2u ? hymn_conv2d_place(pixel) : ivec3(0), cell);
        value.lo += r.lo;
        value.hi += r.hi;
    }
    hymn_conv2d_end(pixel, cell, value);
}
#endif

#endif
