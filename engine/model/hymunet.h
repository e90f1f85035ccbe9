// SPDX-License-Identifier: MIT
#ifndef HYMN_MODEL_HYMUNET_H
#define HYMN_MODEL_HYMUNET_H

#include "graph/graph.h"
#include "model/model.h"

// Emits HyM-UNet (Chen et al., arXiv 2511.17988, with VMamba's SS2D v0 as its Mamba block) for inputs of height x
// width, both multiples of 2^(S-1), into an initialised graph: plain operators, to be optimized. Weights are copied
// into the graph's arena, so the model may go afterwards. OUT_OF_MEMORY. BAD_MODEL: a tensor is not finite any
// more.
enum hymn_status hymn_hymunet_build(const struct hymn_model *model, uint32_t height, uint32_t width,
                                    const struct hymn_log *log, struct hymn_graph *graph);

#endif
