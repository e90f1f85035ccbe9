// SPDX-License-Identifier: MIT
#include "common.h"

#include <stdlib.h>
#include <string.h>

#include "inputs.h"
#include "interrupt.h"

static const char *const transfers[] = {"auto", "off", "on", NULL}; // in the order of enum hymn_transfer
const char *const common_tiers[] = {"auto", "base", "wide", "half", "matrix", NULL};

struct common common_defaults(void) {
    const char *device = getenv("HYMN_DEVICE"), *tier = getenv("HYMN_TIER"), *transfer = getenv("HYMN_TRANSFER");
    return (struct common){.device = device,
                           .default_device = device,
                           .tier = tier && *tier ? tier : NULL,
                           .transfer = transfer && *transfer ? transfer : NULL};
}

enum options_result common_parse(const struct common *common, const struct command *command,
                                 const struct option *options, size_t option_count, char **arguments, size_t count,
                                 size_t *out_count) {
    const enum options_result result = options_parse(command, options, option_count, arguments, count, out_count);
    console_init(common->verbosity, common->validation);
    return result;
}

uint32_t common_tuning_ms(double seconds) {
    return seconds * 1000 >= 1 ? (uint32_t)(seconds * 1000) : HYMN_TUNING_NONE;
}

uint32_t common_streams(uint32_t streams, size_t count, uint32_t batch) {
    const size_t runs = count > 0 ? (count - 1) / batch + 1 : 1;
    return runs < streams ? (uint32_t)runs : streams;
}

bool common_memory_is_out(enum hymn_status status) {
    return status == HYMN_STATUS_OUT_OF_DEVICE_MEMORY || status == HYMN_STATUS_OUT_OF_MEMORY;
}

enum exit_code common_interrupted(void) {
    console_error(NULL, "interrupted");
    return CODE_INTERRUPTED;
}

enum exit_code common_open_model(const char *path, struct hymn_model **out_model) {
    const struct hymn_model_params params = {.log = console_log(), .path = path};
    const enum hymn_status status = hymn_model_create(&params, out_model);
    if (status != HYMN_STATUS_OK) {
        console_status(path, status);
        return CODE_ENGINE;
    }
    return CODE_OK;
}

// The place of a name in a list that ends with NULL: that of the NULL where it is not among them, 0 for no name.
static uint32_t index_of(const char *const *names, const char *name) {
    uint32_t index = 0;
    while (name != NULL && names[index] != NULL && strcmp(names[index], name) != 0) {
        index++;
    }
    return index;
}

enum exit_code common_open_device(const struct common *common, const char *cache_dir, uint32_t queues,
                                  struct hymn_context **out_context) {
    const uint32_t tier = index_of(common_tiers, common->tier), transfer = index_of(transfers, common->transfer);
    if (common_tiers[tier] == NULL) {
        console_error(NULL, "HYMN_TIER '%s': expected auto, base, wide, half or matrix", common->tier);
        return CODE_USAGE;
    }
    if (transfers[transfer] == NULL) {
        console_error(NULL, "HYMN_TRANSFER '%s': expected auto, off or on", common->transfer);
        return CODE_USAGE;
    }
    if (interrupt_seen()) {
        return common_interrupted();
    }
    const struct hymn_context_params params = {.log = console_log(),
                                               .device = common->device,
                                               .cache_dir = cache_dir,
                                               .tier = (enum hymn_tier)tier,
                                               .validation = common->validation,
                                               .transfer = (enum hymn_transfer)transfer,
                                               .compute_queues = queues};
    const enum hymn_status status = hymn_context_create(&params, out_context);
    if (status != HYMN_STATUS_OK) {
        common_device_status(common, status);
        return CODE_ENGINE;
    }
    return CODE_OK;
}

void common_device_status(const struct common *common, enum hymn_status status) {
    // Pointers: whether no --device has taken the variable's place.
    const bool by_variable = common->device != NULL && common->device == common->default_device;
    bool others = false; // else there are no devices at all, whatever the variable says
    if (status == HYMN_STATUS_NO_DEVICE && by_variable) {
        struct hymn_device_list *list = NULL;
        others = hymn_device_list_create(NULL, &list) == HYMN_STATUS_OK && hymn_device_list_count(list) > 0;
        hymn_device_list_destroy(&list);
    }
    console_status(others ? "HYMN_DEVICE" : NULL, status);
}

enum exit_code common_no_devices(void) {
    console_error(NULL, "there is no Vulkan device on this machine (no driver is installed, or none works)");
    return CODE_ENGINE;
}

enum exit_code common_open_session(struct hymn_context *context, const struct hymn_model *model, const char *model_path,
                                   const struct hymn_session_params *params, struct hymn_session **out_session) {
    if (interrupt_seen()) {
        return common_interrupted();
    }
    const enum hymn_status status = hymn_session_create(context, model, params, out_session);
    if (status != HYMN_STATUS_OK) {
        console_status(model_path, status);
        return CODE_ENGINE;
    }
    return CODE_OK;
}

enum exit_code common_check_pictures(const struct command *command, const char *model_path,
                                     const struct hymn_model_info *info, double threshold) {
    if (info->in_channels != 1 && info->in_channels != 3) {
        console_error(model_path, "takes %u channels; pictures have 1 or 3 (use 'hymn run')", info->in_channels);
        return CODE_ENGINE;
    }
    if (info->num_classes > 1 && threshold > 0) {
        console_error(NULL, "%s: --threshold is for models of one class; this one has %u", command->name,
                      info->num_classes);
        return CODE_USAGE;
    }
    return CODE_OK;
}

enum exit_code common_missing(const struct command *command, const char *what) {
    console_error(NULL, "%s: %s is missing (see 'hymn %s --help')", command->name, what, command->name);
    return CODE_USAGE;
}

enum exit_code common_unexpected(const struct command *command, const char *argument) {
    console_error(NULL, "%s: unexpected argument '%s' (see 'hymn %s --help')", command->name, argument, command->name);
    return CODE_USAGE;
}

enum exit_code common_keep_model(const struct command *command, const char *model_path, const char *option,
                                 const char *path) {
    if (path == NULL || !inputs_same_file(path, model_path)) {
        return CODE_OK;
    }
    console_error(NULL, "%s: %s '%s' is the model", command->name, option, path);
    return CODE_USAGE;
}

enum exit_code common_close(struct hymn_session **session, struct hymn_context **context, enum exit_code code) {
    hymn_session_destroy(session);
    const uint32_t messages = *context != NULL ? hymn_context_validation_messages(*context) : 0;
    hymn_context_destroy(context);
    if (messages > 0) {
        console_error(NULL, "the validation layers reported %u messages", messages);
        return code == CODE_OK ? CODE_ENGINE : code;
    }
    return code;
}

const char *common_precision_name(enum hymn_precision precision) {
    return precision == HYMN_PRECISION_FP16 ? "fp16" : precision == HYMN_PRECISION_FP32 ? "fp32" : "auto";
}

const char *common_device_type_name(enum hymn_device_type type) {
    switch (type) {
    case HYMN_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case HYMN_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case HYMN_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case HYMN_DEVICE_TYPE_CPU:
        return "cpu";
    case HYMN_DEVICE_TYPE_OTHER:
        break;
    }
    return "other";
}
