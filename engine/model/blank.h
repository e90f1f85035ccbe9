// SPDX-License-Identifier: MIT
#ifndef HYMN_MODEL_BLANK_H
#define HYMN_MODEL_BLANK_H

#include "base/log.h"

// The bytes of a model file for `config` (a valid hymn.config) whose weights are all zero: for what depends on shapes
// only. To be freed with hymn_free. BAD_MODEL, UNSUPPORTED, OUT_OF_MEMORY.
enum hymn_status hymn_model_blank(const char *config, const char *name, const struct hymn_log *log, void **out_data,
                                  size_t *out_size);

#endif
