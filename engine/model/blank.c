// SPDX-License-Identifier: MIT
#include "model/blank.h"

#include <jansson.h>
#include <string.h>

#include "model/model.h"

struct header {
    json_t *object;
    json_int_t end; // of the tensors so far
    bool failed;
};

static bool add_tensor(void *user, const struct hymn_expected *tensor) {
    struct header *header = user;
    json_t *shape = json_array();
    json_int_t bytes = 2;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        bytes *= (json_int_t)tensor->shape[i];
        header->failed |= json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i])) != 0;
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F16", "shape", shape, "data_offsets", header->end,
                              header->end + bytes);
    header->failed |= json_object_set_new(header->object, tensor->name, entry) != 0;
    header->end += bytes;
    return !header->failed;
}

// Eight bytes of length, the header, zeros.
static void *assemble(const char *text, size_t zeros, size_t *out_size) {
    size_t length = strlen(text);
    *out_size = 8 + length + zeros;
    uint8_t *data = hymn_alloc(*out_size, 1);
    for (size_t i = 0; data && i < 8; i++) {
        data[i] = (uint8_t)((uint64_t)length >> (8 * i));
    }
    if (data) {
        memcpy(data + 8, text, length);
    }
    return data;
}

enum hymn_status hymn_model_blank(const char *config, const char *name, const struct hymn_log *log, void **out_data,
                                  size_t *out_size) {
    *out_data = NULL;
    *out_size = 0;
    struct hymn_config parsed;
    enum hymn_status status = hymn_config_parse(config, name, log, &parsed);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct header header = {.object = json_pack("{s:{s:s}}", "__metadata__", "hymn.config", config)};
    header.failed = header.object == NULL || !hymn_model_expect(&parsed, add_tensor, &header);
    char *text = header.failed ? NULL : json_dumps(header.object, JSON_COMPACT);
    *out_data = text ? assemble(text, (size_t)header.end, out_size) : NULL;
    hymn_free(text); // jansson allocates with malloc, as hymn_free expects
    json_decref(header.object);
    return *out_data ? HYMN_STATUS_OK : hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", name);
}
