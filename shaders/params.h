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
#define HYMN_PARAMS_CHECK(name) static_assert(sizeof(struct name) <= 128, #name " exceeds the push constants")
#else
#define hymn_uint uint
#define hymn_int int
#define HYMN_PARAMS_CHECK(name)
#endif

// ---- conv2d ----

// ---- depthwise, max_pool, resize, gate, norm_stats, merge ----

// ---- selective_scan ----

// ---- image pre- and post-processing ----

#endif
