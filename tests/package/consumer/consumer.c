// SPDX-License-Identifier: MIT
//
// The least that a program does with the library: it finds devices, and hears why a model cannot be read.
#include <hymn/hymn.h>

#include <stdio.h>
#include <string.h>

static void hear(void *user, enum hymn_log_level level, const char *message) {
    (void)level;
    snprintf(user, 256, "%s", message);
}

int main(void) {
    struct hymn_device_list *devices = NULL;
    const enum hymn_status listed = hymn_device_list_create(NULL, &devices);
    printf("hymn %s, %s, %u devices\n", hymn_version_string(), hymn_status_string(listed),
           devices ? hymn_device_list_count(devices) : 0);
    hymn_device_list_destroy(&devices);

    char message[256] = "";
    struct hymn_model *model = NULL;
    const struct hymn_model_params params = {.log = {.callback = hear, .user = message}, .path = "no-such-model"};
    const enum hymn_status read = hymn_model_create(&params, &model);
    printf("%s\n", message);
    return listed == HYMN_STATUS_OK && read == HYMN_STATUS_IO && !model && strstr(message, "no-such-model") ? 0 : 1;
}
