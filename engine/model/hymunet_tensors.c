// SPDX-License-Identifier: MIT
//
// The tensors of a HyM-UNet, in the order of the PyTorch network's state_dict.
#include "model/model.h"

#include <stdio.h>

#define DIRECTIONS 4

struct walk {
    bool (*visit)(void *user, const struct hymn_expected *tensor);
    void *user;
    char prefix[48]; // of the module that is being walked: "encoder.0.blocks.1."
    bool going;
};

enum kind { LEARNED, STATISTIC, VARIANCE };

struct shape {
    uint32_t rank;
    uint64_t size[4];
};

static void add(struct walk *walk, const char *module, const char *leaf, enum kind kind, struct shape shape) {
    if (!walk->going) {
        return;
    }
    struct hymn_expected tensor = {.rank = shape.rank, .learned = kind == LEARNED, .variance = kind == VARIANCE};
    snprintf(tensor.name, sizeof tensor.name, "%s%s%s", walk->prefix, module, leaf);
    for (uint32_t i = 0; i < shape.rank; i++) {
        tensor.shape[i] = shape.size[i];
    }
    walk->going = walk->visit(walk->user, &tensor);
}

static struct shape vector(uint64_t a) {
    return (struct shape){1, {a}};
}

static struct shape matrix(uint64_t a, uint64_t b) {
    return (struct shape){2, {a, b}};
}

static void add_batch_norm(struct walk *walk, const char *module, uint32_t channels) {
    add(walk, module, ".weight", LEARNED, vector(channels));
    add(walk, module, ".bias", LEARNED, vector(channels));
    add(walk, module, ".running_mean", STATISTIC, vector(channels));
    add(walk, module, ".running_var", VARIANCE, vector(channels));
}

static void add_layer_norm(struct walk *walk, const char *module, uint32_t channels) {
    add(walk, module, ".weight", LEARNED, vector(channels));
    add(walk, module, ".bias", LEARNED, vector(channels));
}

static void add_convolution(struct walk *walk, const char *module, uint32_t out, uint32_t in, uint32_t size) {
    add(walk, module, ".weight", LEARNED, (struct shape){4, {out, in, size, size}});
}

static void add_residual_block(struct walk *walk, uint32_t before, uint32_t channels) {
    add_convolution(walk, "conv1", channels, before, 3);
    add_batch_norm(walk, "bn1", channels);
    add_convolution(walk, "conv2", channels, channels, 3);
    add_batch_norm(walk, "bn2", channels);
    if (before != channels) {
        add_convolution(walk, "shortcut.0", channels, before, 1);
        add_batch_norm(walk, "shortcut.1", channels);
    }
}

static void add_vss_block(struct walk *walk, const struct hymn_config *config, uint32_t stage) {
    uint32_t channels = config->dims[stage], states = config->d_state;
    uint32_t inner = hymn_config_inner(config, stage), rank = hymn_config_rank(config, stage);
    add_layer_norm(walk, "norm", channels);
    add(walk, "ss2d", ".x_proj_weight", LEARNED, (struct shape){3, {DIRECTIONS, rank + 2 * states, inner}});
    add(walk, "ss2d", ".dt_projs_weight", LEARNED, (struct shape){3, {DIRECTIONS, inner, rank}});
    add(walk, "ss2d", ".dt_projs_bias", LEARNED, matrix(DIRECTIONS, inner));
    add(walk, "ss2d", ".A_logs", LEARNED, matrix(DIRECTIONS * inner, states));
    add(walk, "ss2d", ".Ds", LEARNED, vector(DIRECTIONS * inner));
    add(walk, "ss2d.in_proj", ".weight", LEARNED, matrix(2 * inner, channels));
    add_convolution(walk, "ss2d.conv2d", inner, 1, 3);
    add(walk, "ss2d.conv2d", ".bias", LEARNED, vector(inner));
    add_layer_norm(walk, "ss2d.out_norm", inner);
    add(walk, "ss2d.out_proj", ".weight", LEARNED, matrix(channels, inner));
}

static void add_encoder_stage(struct walk *walk, const struct hymn_config *config, uint32_t stage) {
    uint32_t before = hymn_config_channels_before(config, stage), channels = config->dims[stage];
    bool mamba = stage >= config->conv_stages;
    snprintf(walk->prefix, sizeof walk->prefix, "encoder.%u.", (unsigned)stage);
    if (mamba && stage == 0) {
        add_convolution(walk, "down.proj", channels, before, 1);
        add(walk, "down.proj", ".bias", LEARNED, vector(channels));
    } else if (mamba) {
        add_layer_norm(walk, "down.norm", 4 * before);
        add(walk, "down.reduction", ".weight", LEARNED, matrix(channels, 4 * before));
    }
    for (uint32_t j = 0; j < config->depths[stage]; j++) {
        snprintf(walk->prefix, sizeof walk->prefix, "encoder.%u.blocks.%u.", (unsigned)stage, (unsigned)j);
        if (mamba) {
            add_vss_block(walk, config, stage);
        } else {
            add_residual_block(walk, j == 0 ? before : channels, channels);
        }
    }
}

static void add_decoder_stage(struct walk *walk, const struct hymn_config *config, uint32_t stage) {
    uint32_t channels = config->dims[stage], deep = config->dims[stage + 1];
    snprintf(walk->prefix, sizeof walk->prefix, "decoder.%u.", (unsigned)stage);
    if (config->skip == HYMN_SKIP_MGF) {
        add_convolution(walk, "skip.gate", channels, deep, 1);
        add_batch_norm(walk, "skip.bn", channels);
    }
    for (uint32_t j = 0; j < config->decoder_depths[stage]; j++) {
        snprintf(walk->prefix, sizeof walk->prefix, "decoder.%u.blocks.%u.", (unsigned)stage, (unsigned)j);
        add_residual_block(walk, j == 0 ? channels + deep : channels, channels);
    }
}

bool hymn_model_expect(const struct hymn_config *config, bool (*visit)(void *user, const struct hymn_expected *tensor),
                       void *user) {
    struct walk walk = {.visit = visit, .user = user, .going = true};
    for (uint32_t i = 0; i < config->stages; i++) {
        add_encoder_stage(&walk, config, i);
    }
    for (uint32_t i = 0; i + 1 < config->stages; i++) {
        add_decoder_stage(&walk, config, i);
    }
    walk.prefix[0] = '\0';
    add_convolution(&walk, "head", config->num_classes, config->dims[0], 1);
    add(&walk, "head", ".bias", LEARNED, vector(config->num_classes));
    return walk.going;
}
