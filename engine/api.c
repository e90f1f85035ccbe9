// SPDX-License-Identifier: MIT
//
// Status names, version and contexts. The other public functions live beside their objects: device lists in
// vk/devices.c, models in model/model.c, sessions and summaries in session/.
#include <hymn/hymn.h>

#include "base/alloc.h"
#include "session/context.h"

#define STRING2(x) #x
#define STRING(x) STRING2(x)

const char *hymn_status_string(enum hymn_status status) {
    switch (status) {
    case HYMN_STATUS_OK:
        return "success";
    case HYMN_STATUS_INVALID_ARGUMENT:
        return "invalid argument";
    case HYMN_STATUS_OUT_OF_MEMORY:
        return "out of memory";
    case HYMN_STATUS_OUT_OF_DEVICE_MEMORY:
        return "out of device memory";
    case HYMN_STATUS_IO:
        return "input/output error";
    case HYMN_STATUS_BAD_MODEL:
        return "bad model";
    case HYMN_STATUS_UNSUPPORTED:
        return "unsupported";
    case HYMN_STATUS_NO_DEVICE:
        return "no device";
    case HYMN_STATUS_DEVICE_LOST:
        return "device lost";
    case HYMN_STATUS_BUSY:
        return "busy";
    case HYMN_STATUS_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

const char *hymn_tier_string(enum hymn_tier tier) {
    switch (tier) {
    case HYMN_TIER_AUTO:
        return "auto";
    case HYMN_TIER_BASE:
        return "base";
    case HYMN_TIER_WIDE:
        return "wide";
    case HYMN_TIER_HALF:
        return "half";
    case HYMN_TIER_MATRIX:
        return "matrix";
    }
    return "unknown";
}

const char *hymn_version_string(void) {
    return STRING(HYMN_VERSION_MAJOR) "." STRING(HYMN_VERSION_MINOR) "." STRING(HYMN_VERSION_PATCH);
}

enum hymn_status hymn_context_create(const struct hymn_context_params *params, struct hymn_context **out_context) {
    static const struct hymn_context_params defaults;
    const struct hymn_context_params *given = params ? params : &defaults;
    if (!out_context) {
        return hymn_fail(&given->log, HYMN_STATUS_INVALID_ARGUMENT, "hymn_context_create: out_context is NULL");
    }
    *out_context = NULL;
    struct hymn_context *context = hymn_alloc(1, sizeof *context);
    if (!context) {
        return hymn_fail(&given->log, HYMN_STATUS_OUT_OF_MEMORY, "context: out of memory");
    }
    enum hymn_status status = hymn_vk_device_create(given, &context->device);
    if (status != HYMN_STATUS_OK) {
        hymn_free(context);
        return status;
    }
    *out_context = context;
    return HYMN_STATUS_OK;
}

void hymn_context_destroy(struct hymn_context **context) {
    if (context && *context) {
        hymn_vk_device_destroy(&(*context)->device);
        hymn_free(*context);
        *context = NULL;
    }
}

const struct hymn_device_info *hymn_context_device(const struct hymn_context *context) {
    return context ? &context->device->info : NULL;
}

uint32_t hymn_context_validation_messages(const struct hymn_context *context) {
    return context ? context->device->instance->validation_messages : 0;
}
