// SPDX-License-Identifier: MIT
//
// A pixel of an 8-bit image as the network reads it: scaled to 0..1, then (v - mean) / std. Include after `p`, which has
// mean and std of each channel, `most` and `last_word`, and `pixels`, the images' words; with the constants
// PIXEL_CHANNELS (of the image: 1, 3 or 4) and IN_CHANNELS (of the network: 1 or 3). A grey value goes to all
// IN_CHANNELS, colour to one as its luma (BT.601).
#ifndef HYMN_NORMALISE_GLSL
#define HYMN_NORMALISE_GLSL

// What the word of a pixel's bytes, the first in the low eight bits, is made of.
uint hymn_pixel_word(uint byte_at) {
    uint shift = 8 * (byte_at % 4), word = pixels[byte_at / 4] >> shift;
    if (PIXEL_CHANNELS == 3) { // begins at any byte
        word |= (pixels[min(byte_at / 4 + 1, p.last_word)] << 1) << (31 - shift);
    }
    return word;
}

// Channels beyond IN_CHANNELS are zero.
vec4 hymn_normalised(uint word) {
    vec3 value = vec3(uvec3(word, word >> 8, word >> 16) & 0xFFu);
    if (PIXEL_CHANNELS == 1) {
        value = value.xxx;
    } else if (IN_CHANNELS == 1) {
        value = vec3(dot(value, vec3(0.299, 0.587, 0.114)));
    }
    value = (value / p.most - vec3(p.mean0, p.mean1, p.mean2)) / vec3(p.std0, p.std1, p.std2);
    return vec4(value.x, IN_CHANNELS == 3 ? value.yz : vec2(0.0), 0.0);
}

#endif
