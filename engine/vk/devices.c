// SPDX-License-Identifier: MIT
//
// The list of devices and the choice among them.
#include <string.h>

#include "base/alloc.h"
#include "vk/device.h"

struct hymn_device_list {
    struct hymn_device_info *infos;
    uint32_t count;
};

enum hymn_status hymn_vk_device_infos(struct hymn_vk_instance *instance, const VkPhysicalDevice *devices,
                                      uint32_t count, struct hymn_device_info **out_infos) {
    *out_infos = hymn_alloc(count, sizeof **out_infos);
    if (!*out_infos) {
        return hymn_fail(&instance->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        struct hymn_vk_snapshot snapshot;
        struct hymn_vk_queues queues;
        status = hymn_vk_snapshot_take(instance, devices[i], i, &snapshot, &(*out_infos)[i], &queues);
    }
    if (status != HYMN_STATUS_OK) {
        hymn_free(*out_infos);
        *out_infos = NULL;
    }
    return status;
}

enum hymn_status hymn_device_list_create(const struct hymn_device_list_params *params,
                                         struct hymn_device_list **out_list) {
    const struct hymn_log *log = params ? &params->log : NULL;
    if (!out_list) {
        return hymn_fail(log, HYMN_STATUS_INVALID_ARGUMENT, "hymn_device_list_create: out_list is NULL");
    }
    *out_list = NULL;
    struct hymn_vk_instance *instance = NULL;
    VkPhysicalDevice *devices = NULL;
    struct hymn_device_list *list = NULL;
    uint32_t count = 0;
    enum hymn_status status = hymn_vk_instance_create(log, false, &instance);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_instance_devices(instance, &devices, &count);
    }
    if (status == HYMN_STATUS_OK) {
        list = hymn_alloc(1, sizeof *list);
        status = list ? HYMN_STATUS_OK : hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    if (status == HYMN_STATUS_OK) {
        list->count = count;
        status = hymn_vk_device_infos(instance, devices, count, &list->infos);
    }
    if (status == HYMN_STATUS_OK) {
        *out_list = list;
    } else {
        hymn_free(list);
    }
    hymn_free(devices);
    hymn_vk_instance_destroy(&instance);
    return status;
}

void hymn_device_list_destroy(struct hymn_device_list **list) {
    if (list && *list) {
        hymn_free((*list)->infos);
        hymn_free(*list);
        *list = NULL;
    }
}

uint32_t hymn_device_list_count(const struct hymn_device_list *list) {
    return list ? list->count : 0;
}

const struct hymn_device_info *hymn_device_list_get(const struct hymn_device_list *list, uint32_t index) {
    return list && index < list->count ? &list->infos[index] : NULL;
}

// ------------------------------------------------------------------------------------------------------- selection

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

// Whether `part` occurs in `text`, in capitals or not.
static bool contains(const char *text, const char *part) {
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && lower(text[i]) == lower(part[i])) {
            i++;
        }
        if (!part[i]) {
            return true;
        }
    }
    return false;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// 32 hexadecimal digits, dashes between them ignored.
static bool parse_uuid(const char *text, uint8_t out_uuid[16]) {
    uint32_t digits = 0;
    memset(out_uuid, 0, 16);
    for (; *text; text++) {
        if (*text == '-') {
            continue;
        }
        int digit = hex_digit(*text);
        if (digit < 0 || digits == 32) {
            return false;
        }
        out_uuid[digits / 2] = (uint8_t)(out_uuid[digits / 2] << 4 | digit);
        digits++;
    }
    return digits == 32;
}

// UINT32_MAX: not a number of at most six digits.
static uint32_t parse_index(const char *text) {
    uint32_t value = 0;
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || length > 6) {
            return UINT32_MAX;
        }
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    return length > 0 ? value : UINT32_MAX;
}

static uint32_t rank(enum hymn_device_type type) {
    switch (type) {
    case HYMN_DEVICE_TYPE_DISCRETE_GPU:
        return 4;
    case HYMN_DEVICE_TYPE_INTEGRATED_GPU:
        return 3;
    case HYMN_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    case HYMN_DEVICE_TYPE_CPU:
        return 1;
    case HYMN_DEVICE_TYPE_OTHER:
        break;
    }
    return 0;
}

static bool better(const struct hymn_device_info *a, const struct hymn_device_info *b) {
    if (a->usable != b->usable) {
        return a->usable;
    }
    if (rank(a->type) != rank(b->type)) {
        return rank(a->type) > rank(b->type);
    }
    return a->memory_bytes > b->memory_bytes;
}

static bool matches(const struct hymn_device_info *info, const char *wanted) {
    uint8_t uuid[16];
    return contains(info->name, wanted) || (parse_uuid(wanted, uuid) && memcmp(uuid, info->uuid, sizeof uuid) == 0);
}

enum hymn_status hymn_vk_device_select(const struct hymn_device_info *infos, uint32_t count, const char *wanted,
                                       const struct hymn_log *log, uint32_t *out_index) {
    bool named = wanted && *wanted;
    uint32_t index = named ? parse_index(wanted) : UINT32_MAX;
    uint32_t found = index < count ? index : UINT32_MAX;
    // Where there are fewer devices than that, "4090" is part of a name, and "5" is a slip: most names have some digit.
    bool numbered = index < count || (index != UINT32_MAX && strlen(wanted) <= 2);
    for (uint32_t i = 0; i < count && !numbered; i++) {
        bool candidate = !named || matches(&infos[i], wanted);
        if (candidate && (found == UINT32_MAX || better(&infos[i], &infos[found]))) {
            found = i;
        }
    }
    *out_index = found;
    if (count == 0) {
        return hymn_fail(log, HYMN_STATUS_NO_DEVICE, "no Vulkan device: no driver is installed");
    }
    if (found != UINT32_MAX && infos[found].usable) {
        return HYMN_STATUS_OK;
    }
    if (found != UINT32_MAX && named) {
        return hymn_fail(log, HYMN_STATUS_UNSUPPORTED, "%s cannot be used: %s", infos[found].name, infos[found].reason);
    }
    if (named) {
        hymn_fail(log, HYMN_STATUS_NO_DEVICE, "no Vulkan device matches \"%s\"; there are:", wanted);
    } else {
        hymn_fail(log, HYMN_STATUS_NO_DEVICE, "no Vulkan device can be used; there are:");
    }
    for (uint32_t i = 0; i < count; i++) {
        hymn_log_write(log, HYMN_LOG_ERROR, "  %u: %s%s%s", i, infos[i].name,
                       infos[i].usable ? "" : ", cannot be used: ", infos[i].reason);
    }
    return HYMN_STATUS_NO_DEVICE;
}

enum hymn_status hymn_vk_device_look(const struct hymn_log *log, const char *wanted, struct hymn_device_info *out_info,
                                     struct hymn_vk_snapshot *out_snapshot) {
    struct hymn_vk_instance *instance = NULL;
    VkPhysicalDevice *devices = NULL;
    struct hymn_device_info *infos = NULL;
    uint32_t count = 0, index = UINT32_MAX;
    enum hymn_status status = hymn_vk_instance_create(log, false, &instance);
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_instance_devices(instance, &devices, &count);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_infos(instance, devices, count, &infos);
    }
    if (status == HYMN_STATUS_OK) {
        status = hymn_vk_device_select(infos, count, wanted, log, &index);
    }
    if (status == HYMN_STATUS_OK || status == HYMN_STATUS_UNSUPPORTED) {
        struct hymn_vk_queues queues;
        enum hymn_status taken =
            index < count ? hymn_vk_snapshot_take(instance, devices[index], index, out_snapshot, out_info, &queues)
                          : HYMN_STATUS_NO_DEVICE;
        status = taken == HYMN_STATUS_OK ? status : taken;
    }
    hymn_free(infos);
    hymn_free(devices);
    hymn_vk_instance_destroy(&instance);
    return status;
}
