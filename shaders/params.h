// SPDX-License-Identifier: MIT
//
// Push constants, read by C and GLSL alike: members are 32-bit scalars only, so that both lay them out the same.
#ifndef HYMN_PARAMS_H
#define HYMN_PARAMS_H

#ifdef __STDC__
#include <assert.h>
#include <stdint.h>
typedef uint32_t hymn_uint;
typedef int32_t hymn_int;
#define HYMN_PARAMS_CHECK(name) static_assert(sizeof(struct name) <= 128, #name " exceeds the push constants");
#else
#define hymn_uint uint
#define hymn_int int
#define HYMN_PARAMS_CHECK(name)
#endif

// The unit of the scan's planes in f16: in trained networks they reach millions, 65504 being the
// largest binary16. The layer norm of the sum takes the unit out again, its epsilon being in the unit's square.
#define HYMN_SCAN_UNIT 256.0

// Added to the variance by every layer norm.
#define HYMN_NORM_EPSILON 1e-5

// ---- conv2d ----

// Sizes in pixels and cells (eight channels of one pixel); `rows` are those of all images of the batch.
struct hymn_conv2d_params {
    hymn_uint width, height, rows;     // of the output; rows = batch * height
    hymn_uint tiles;                   // of pixels in the whole dispatch
    hymn_uint tiles_across;            // of a row; lanes: strips of pixels
    hymn_uint cells0, stride0, first0; // of each source: cells to read, cells per pixel, the first of them
    hymn_uint cells1, stride1, first1;
    hymn_uint cells2, stride2, first2;
    hymn_uint wide_terms, point_terms;  // lanes: how many sources are read 3x3 and how many 1x1
    hymn_uint scale;                    // lanes: 2 for kernel 2, else 1
    hymn_uint tiles_down, tile_weights; // matrix: tiles of an image's column; of a tile of channels, units of 16 bytes
    float across_reciprocal, down_reciprocal;            // matrix: of the numbers of tiles
    hymn_uint out_stride;                                // cells per pixel
    hymn_uint residual, residual_stride, residual_first; // residual: 0 none, 1 same size, 2 half size and resized
    hymn_uint bias_at;                                   // in the weights, in units of 16 bytes
    hymn_uint norm_channels;  // matrix, of a source that is normalised: its channels of a pixel;
    hymn_uint weight_sums_at; // the sums of each output channel's weights, where bias_at is
    float least;              // 0 with ReLU, else the lowest float
    hymn_uint modes;          // lanes: bit 0: the output is f32; 1: the source is normalised by the stats
};
HYMN_PARAMS_CHECK(hymn_conv2d_params)

// The same where the matrix kernel goes on to masks: what it does not read makes room for theirs.
struct hymn_conv2d_mask_params {
    hymn_uint width, height, rows;
    hymn_uint tiles, tiles_across;
    hymn_uint cells0, stride0, first0;
    hymn_uint cells1, stride1, first1;
    hymn_uint cells2, stride2, first2;
    hymn_uint mask_width, mask_height; // of the session, at most width x height
    hymn_uint index;                   // the first image of the batch that has a mask
    hymn_uint tiles_down, tile_weights;
    float across_reciprocal, down_reciprocal;
    hymn_uint out_stride;
    hymn_uint residual, residual_stride, residual_first;
    hymn_uint bias_at;
    hymn_uint norm_channels, weight_sums_at;
    float threshold;
    hymn_uint images, image_words; // masks, and from one to the next
};
HYMN_PARAMS_CHECK(hymn_conv2d_mask_params)

// The same where its one source is made of pictures of the network's size.
struct hymn_conv2d_picture_params {
    hymn_uint width, height, rows;
    hymn_uint tiles, tiles_across;
    hymn_uint cells0, stride0, first0;
    hymn_uint picture_width, picture_height; // at most width x height
    hymn_uint image_bytes, last_word;        // from one to the next; index of the binding's last word
    float mean0, mean1, mean2, std0, std1;
    hymn_uint tiles_down, tile_weights;
    float across_reciprocal, down_reciprocal;
    hymn_uint out_stride;
    hymn_uint residual, residual_stride, residual_first;
    hymn_uint bias_at;
    hymn_uint norm_channels, weight_sums_at;
    float std2;
    float most; // as below
};
HYMN_PARAMS_CHECK(hymn_conv2d_picture_params)

// The same where some tiles of channels are convolved in depth: what the matrix kernel does not read makes room.
struct hymn_conv2d_depthwise_params {
    hymn_uint width, height, rows;
    hymn_uint tiles, tiles_across; // with a margin that they share: of those that are convolved
    hymn_uint cells0, stride0, first0;
    hymn_uint cells1, stride1, first1;
    hymn_uint cells2, stride2, first2;
    hymn_uint convolved;                                  // tiles of channels, the first ones
    float plain_across_reciprocal, plain_down_reciprocal; // of the numbers of tiles of the others
    hymn_uint tiles_down, tile_weights;
    float across_reciprocal, down_reciprocal;
    hymn_uint out_stride;
    hymn_uint residual, residual_stride, residual_first;
    hymn_uint bias_at;
    hymn_uint norm_channels, weight_sums_at;
    float least;
    hymn_uint modes;
};
HYMN_PARAMS_CHECK(hymn_conv2d_depthwise_params)

// ---- depthwise, max_pool, resize, resize_taps, gate, norm_stats, merge ----

// Strides and firsts are in cells (eight channels of one pixel); `rows` are those of all images of the batch.
struct hymn_depthwise_params {
    hymn_uint width, height, rows, cells; // of the output
    hymn_uint source_stride, source_first;
    hymn_uint strips; // strips of pixels per row
    float cells_reciprocal, height_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_depthwise_params)

// max_pool: sizes of the output. resize, resize_taps, gate: of the low resolution.
struct hymn_resample_params {
    hymn_uint width, height, rows, cells;
    hymn_uint source_stride, source_first;
    hymn_uint e_stride, e_first; // gate
    float cells_reciprocal, height_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_resample_params)

struct hymn_stats_params {
    hymn_uint width, rows; // of the output
    hymn_uint cells, channels;
    hymn_uint source_stride, source_first; // merge: of the gate
};
HYMN_PARAMS_CHECK(hymn_stats_params)

// ---- selective_scan ----

struct hymn_scan_params {
    hymn_uint image_width, image_height, batch;
    hymn_uint width;                       // channels with padding: a multiple of 8
    hymn_uint source_stride, source_first; // cells
    hymn_uint proj_stride, proj_row;       // of a pixel and of a direction's part, in units of 4 floats
    hymn_uint chunks, chunk_length;        // 1 chunk: a single pass
    float height_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_scan_params)

// ---- image pre- and post-processing ----

struct hymn_image_columns_params {
    hymn_uint width, out_width;       // of the image, of the session
    hymn_uint tile_first, tile_width; // output columns made
    hymn_uint rows, row_first;        // image rows of this band, and the first of them
    hymn_uint byte_offset, last_word; // of the band's first pixel; index of the binding's last word
    hymn_uint images, image_bytes;    // how many images of this size; from one to the next
    float rows_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_image_columns_params)

struct hymn_image_rows_params {
    hymn_uint height;                           // of the image
    hymn_uint out_width, out_height;            // of the session
    hymn_uint padded_width, padded_height;      // of the network's input
    hymn_uint tile_first, tile_width, tile_end; // columns to be read, and the end of those to be written
    hymn_uint input_first;                      // the image's first pixel
    float mean0, mean1, mean2, std0, std1, std2;
    hymn_uint images;
    float padded_height_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_image_rows_params)

struct hymn_image_normalise_params {
    hymn_uint width, height;               // of the images
    hymn_uint padded_width, padded_height; // of the network's input
    hymn_uint input_first;                 // the first image's first pixel
    hymn_uint images, image_bytes;         // how many images; from one to the next
    hymn_uint last_word;                   // index of the binding's
    float mean0, mean1, mean2, std0, std1, std2;
    float padded_height_reciprocal;
    float most; // 255: compilers multiply by the reciprocals of constants, and then the last bit differs
};
HYMN_PARAMS_CHECK(hymn_image_normalise_params)

struct hymn_tensor_params {
    hymn_uint width, height, channels;
    hymn_uint padded_width, padded_height, stride; // of the network's input or output
    hymn_uint index, images;                       // the first image of the batch, and how many
    hymn_uint image_floats;                        // of the tensors, from one to the next
    float rows_reciprocal;                         // of the rows of an image in the dispatch
};
HYMN_PARAMS_CHECK(hymn_tensor_params)

struct hymn_image_output_params {
    hymn_uint width, height; // of the session
    hymn_uint out_width, out_height;
    hymn_uint class_first, class_count;
    hymn_uint source_first;                   // source row of workgroup y = 0
    hymn_uint row_first, row_end, out_offset; // rows written; where the first one begins, in elements
    float threshold;
    hymn_uint layers;                                 // workgroups in z of an image
    float layers_reciprocal;                          // images follow each other in z
    hymn_uint activated_elements, out_image_elements; // from one image to the next
};
HYMN_PARAMS_CHECK(hymn_image_output_params)

struct hymn_image_mask_params {
    hymn_uint width, height, channels;
    hymn_uint padded_width, padded_height, stride; // of the network's output
    hymn_uint index, images;                       // the first image of the batch, and how many
    hymn_uint image_words;                         // of the masks, from one to the next
    float threshold;
    float rows_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_image_mask_params)

// ---- head ----

struct hymn_head_params {
    hymn_uint width, height;               // of what is computed: the network's, or with MASK the session's
    hymn_uint padded_width, padded_height; // of the network's
    hymn_uint stride, first;               // of the source, in cells
    hymn_uint index, images;               // the first image of the batch, and how many
    hymn_uint image_words;                 // of the masks, from one to the next
    float threshold;
    float rows_reciprocal;
};
HYMN_PARAMS_CHECK(hymn_head_params)

#endif
