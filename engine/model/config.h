// SPDX-License-Identifier: MIT
//
// A network's hyper-parameters: the JSON string `hymn.config` of a model file.
#ifndef HYMN_MODEL_CONFIG_H
#define HYMN_MODEL_CONFIG_H

#include "base/log.h"

#define HYMN_CONFIG_MAX_STAGES 12
#define HYMN_CONFIG_MAX_CHANNELS 8
#define HYMN_CONFIG_MAX_CLASSES 64
#define HYMN_CONFIG_MAX_CLASS_NAME 128 // bytes with the terminating NUL

enum hymn_skip {
    HYMN_SKIP_MGF = 0,   // "mgf": Mamba-guided fusion
    HYMN_SKIP_CONCAT = 1 // "concat": the ablation
};

struct hymn_config {
    uint32_t in_channels;          // 1..8
    uint32_t num_classes;          // 1..64
    uint32_t stages;               // S, 1..12
    uint32_t dims[16], depths[16]; // S entries: 1..8192, 1..64
    uint32_t conv_stages;          // 0..S
    uint32_t decoder_depths[16];   // S-1 entries, 1..64
    uint32_t d_state;              // 1..64
    double ssm_ratio;              // 1 <= int(ssm_ratio * C) <= 32768 in every Mamba stage
    uint32_t dt_rank;              // 1..1024; 0: "auto"
    enum hymn_skip skip;
    uint32_t input_height, input_width;   // 1..32768; without "input_size": 256 x 256
    float mean[HYMN_CONFIG_MAX_CHANNELS]; // without "mean" and "std": ImageNet's for 3 channels, else 0 and 1
    float std[HYMN_CONFIG_MAX_CHANNELS];
    float threshold;                                                       // 0..1 exclusive; without "threshold": 0.5
    char class_names[HYMN_CONFIG_MAX_CLASSES][HYMN_CONFIG_MAX_CLASS_NAME]; // "class N" where the file names none
};

// BAD_MODEL names the key, what was expected and what was found; UNSUPPORTED: an unknown architecture or version.
// Unknown keys are logged as warnings. OUT_OF_MEMORY. *out_config is zeroed on failure. `name` is the file's.
enum hymn_status hymn_config_parse(const char *json, const char *name, const struct hymn_log *log,
                                   struct hymn_config *out_config);

// Channels that enter encoder stage `stage`: dims[stage-1], or in_channels.
uint32_t hymn_config_channels_before(const struct hymn_config *config, uint32_t stage);
// D = int(ssm_ratio * dims[stage]).
uint32_t hymn_config_inner(const struct hymn_config *config, uint32_t stage);
// R = dt_rank, or ceil(dims[stage] / 16).
uint32_t hymn_config_rank(const struct hymn_config *config, uint32_t stage);

#endif
