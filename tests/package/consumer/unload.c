// SPDX-License-Identifier: MIT
//
// A host of plug-ins: loads the library, uses it, and lets go of it. What the library keeps as long as the process, it
// would otherwise keep once more for each time.
#include <hymn/hymn.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef enum hymn_status create_list(const struct hymn_device_list_params *params, struct hymn_device_list **out_list);
typedef void destroy_list(struct hymn_device_list **list);

int main(void) {
    void *library = dlopen(HYMN_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void *create_symbol = library ? dlsym(library, "hymn_device_list_create") : NULL;
    void *destroy_symbol = library ? dlsym(library, "hymn_device_list_destroy") : NULL;
    if (!create_symbol || !destroy_symbol) {
        printf("%s\n", dlerror());
        return 1;
    }
    create_list *create;
    destroy_list *destroy;
    memcpy(&create, &create_symbol, sizeof create);
    memcpy(&destroy, &destroy_symbol, sizeof destroy);
    struct hymn_device_list *devices = NULL;
    const enum hymn_status listed = create(NULL, &devices);
    destroy(&devices);
    dlclose(library);
    const int there = dlopen(HYMN_LIBRARY, RTLD_NOW | RTLD_NOLOAD) != NULL;
    printf("status %d, %s\n", (int)listed, there ? "still loaded" : "unloaded");
    return listed == HYMN_STATUS_OK && there ? 0 : 1;
}
