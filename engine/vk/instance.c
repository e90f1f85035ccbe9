// SPDX-License-Identifier: MIT
#include "vk/instance.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

// Guards volk's globals. Of these only vkGetInstanceProcAddr and, for the time of one volkLoadDeviceTable,
// vkGetDeviceProcAddr are used.
static hymn_mutex loader_mutex = HYMN_MUTEX_INITIALIZER;

// The loader's entry point, NULL where there is no loader. The loader stays loaded as long as the process.
static PFN_vkGetInstanceProcAddr loader_entry(void) {
    static PFN_vkGetInstanceProcAddr entry = NULL;
    hymn_mutex_lock(&loader_mutex);
    if (!entry && volkInitialize() == VK_SUCCESS) {
        entry = vkGetInstanceProcAddr;
    }
    PFN_vkGetInstanceProcAddr found = entry;
    hymn_mutex_unlock(&loader_mutex);
    return found;
}

void hymn_vk_device_table_load(const struct hymn_vk_instance *instance, VkDevice device,
                               struct VolkDeviceTable *table) {
    hymn_mutex_lock(&loader_mutex);
    vkGetDeviceProcAddr = instance->table.vkGetDeviceProcAddr;
    volkLoadDeviceTable(table, device);
    hymn_mutex_unlock(&loader_mutex);
}

// The functions that exist before an instance does.
struct global_functions {
    PFN_vkGetInstanceProcAddr get;
    PFN_vkCreateInstance create;
    PFN_vkEnumerateInstanceVersion version;
    PFN_vkEnumerateInstanceExtensionProperties extensions;
    PFN_vkEnumerateInstanceLayerProperties layers;
};

static bool load_global_functions(struct global_functions *out_functions) {
    PFN_vkGetInstanceProcAddr get = loader_entry();
    if (!get) {
        return false;
    }
    out_functions->get = get;
    out_functions->create = (PFN_vkCreateInstance)get(NULL, "vkCreateInstance");
    out_functions->version = (PFN_vkEnumerateInstanceVersion)get(NULL, "vkEnumerateInstanceVersion");
    out_functions->extensions =
        (PFN_vkEnumerateInstanceExtensionProperties)get(NULL, "vkEnumerateInstanceExtensionProperties");
    out_functions->layers = (PFN_vkEnumerateInstanceLayerProperties)get(NULL, "vkEnumerateInstanceLayerProperties");
    return out_functions->create && out_functions->extensions && out_functions->layers;
}

// The properties of a list that is asked for twice, first its length and then its elements, freed with hymn_free.
// Between the two it may have grown or shrunk.
static enum hymn_status list_extensions(const struct global_functions *global, const struct hymn_log *log,
                                        const char *layer, VkExtensionProperties **out_list, uint32_t *out_count) {
    *out_count = 0;
    VkResult result = global->extensions(layer, out_count, NULL);
    *out_list = hymn_alloc(*out_count, sizeof **out_list);
    if (!*out_list) {
        *out_count = 0;
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    if (result < VK_SUCCESS || global->extensions(layer, out_count, *out_list) < VK_SUCCESS) {
        *out_count = 0;
    }
    return HYMN_STATUS_OK;
}

// Whether an instance extension is offered by the loader and its drivers (layer NULL) or by a layer.
static enum hymn_status find_extension(const struct global_functions *global, const struct hymn_log *log,
                                       const char *layer, const char *name, bool *out_found) {
    VkExtensionProperties *list = NULL;
    uint32_t count = 0;
    *out_found = false;
    enum hymn_status status = list_extensions(global, log, layer, &list, &count);
    for (uint32_t i = 0; i < count; i++) {
        *out_found = *out_found || strcmp(list[i].extensionName, name) == 0;
    }
    hymn_free(list);
    return status;
}

static enum hymn_status find_validation_layer(const struct global_functions *global, const struct hymn_log *log,
                                              bool *out_found) {
    uint32_t count = 0;
    *out_found = false;
    VkResult result = global->layers(&count, NULL);
    VkLayerProperties *list = hymn_alloc(count, sizeof *list);
    if (!list) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    if (result >= VK_SUCCESS && global->layers(&count, list) >= VK_SUCCESS) {
        for (uint32_t i = 0; i < count; i++) {
            *out_found = *out_found || strcmp(list[i].layerName, VALIDATION_LAYER) == 0;
        }
    }
    hymn_free(list);
    return HYMN_STATUS_OK;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL validation_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                         VkDebugUtilsMessageTypeFlagsEXT types,
                                                         const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
    (void)severity;
    (void)types;
    static hymn_mutex mutex =
        HYMN_MUTEX_INITIALIZER; // pipelines are made by several threads, and the log is the caller's
    struct hymn_vk_instance *instance = user;
    // volkLoadDeviceTable of some versions of volk asks a device for an instance's functions, none of which are used.
    if (data->pMessageIdName && strcmp(data->pMessageIdName, "WARNING-vkGetDeviceProcAddr-device") == 0) {
        return VK_FALSE;
    }
    atomic_fetch_add(&instance->validation_messages, 1);
    hymn_mutex_lock(&mutex);
    hymn_log_write(&instance->log, HYMN_LOG_ERROR, "validation: %s: %s",
                   data->pMessageIdName ? data->pMessageIdName : "(no name)",
                   data->pMessage ? data->pMessage : "(no message)");
    hymn_mutex_unlock(&mutex);
    return VK_FALSE;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(struct hymn_vk_instance *instance) {
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity =
            VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = validation_message,
        .pUserData = instance,
    };
}

// What an instance is made from; holds the structures that `info` points to.
struct instance_request {
    VkApplicationInfo application;
    VkInstanceCreateInfo info;
    VkValidationFeatureEnableEXT enabled;
    VkValidationFeaturesEXT features;
    VkDebugUtilsMessengerCreateInfoEXT messenger;
    VkLayerSettingEXT setting;
    VkLayerSettingsCreateInfoEXT settings;
    const char *extensions[4];
    const char *layers[1];
};

// Layers since 1.3.290 look at what shaders access only when told to, which VkValidationFeaturesEXT cannot express.
static enum hymn_status request_shader_accesses(const struct global_functions *global,
                                                struct hymn_vk_instance *instance, struct instance_request *request) {
    static const VkBool32 yes = VK_TRUE;
    bool found = false;
    enum hymn_status status =
        find_extension(global, &instance->log, VALIDATION_LAYER, VK_EXT_LAYER_SETTINGS_EXTENSION_NAME, &found);
    if (found) {
        request->setting = (VkLayerSettingEXT){
            .pLayerName = VALIDATION_LAYER,
            .pSettingName = "syncval_shader_accesses_heuristic",
            .type = VK_LAYER_SETTING_TYPE_BOOL32_EXT,
            .valueCount = 1,
            .pValues = &yes,
        };
        request->settings = (VkLayerSettingsCreateInfoEXT){
            .sType = VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT,
            .pNext = request->info.pNext,
            .settingCount = 1,
            .pSettings = &request->setting,
        };
        request->info.pNext = &request->settings;
        request->extensions[request->info.enabledExtensionCount++] = VK_EXT_LAYER_SETTINGS_EXTENSION_NAME;
    }
    return status;
}

// A loader older than the layer refuses an extension that it does not know, though the layer does. The layer reads its
// settings all the same, as they stay in the list. False: nothing to be dropped.
static bool drop_shader_accesses(struct instance_request *request) {
    if (request->settings.settingCount > 0 && request->info.enabledExtensionCount > 0 &&
        strcmp(request->extensions[request->info.enabledExtensionCount - 1], VK_EXT_LAYER_SETTINGS_EXTENSION_NAME) ==
            0) {
        request->info.enabledExtensionCount--;
        return true;
    }
    return false;
}

static enum hymn_status request_validation(const struct global_functions *global, struct hymn_vk_instance *instance,
                                           struct instance_request *request) {
    const struct hymn_log *log = &instance->log;
    bool layer = false, features = false, utils = false;
    enum hymn_status status = find_validation_layer(global, log, &layer);
    if (status == HYMN_STATUS_OK && !layer) {
        status = hymn_fail(log, HYMN_STATUS_UNSUPPORTED, "the layer " VALIDATION_LAYER " is not installed");
    }
    if (status == HYMN_STATUS_OK) {
        status = find_extension(global, log, VALIDATION_LAYER, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME, &features);
    }
    if (status == HYMN_STATUS_OK) {
        status = find_extension(global, log, VALIDATION_LAYER, VK_EXT_DEBUG_UTILS_EXTENSION_NAME, &utils);
    }
    if (status == HYMN_STATUS_OK && !(features && utils)) {
        status = hymn_fail(log, HYMN_STATUS_UNSUPPORTED,
                           "the layer " VALIDATION_LAYER " cannot check synchronization or report what it finds");
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    request->layers[request->info.enabledLayerCount++] = VALIDATION_LAYER;
    request->extensions[request->info.enabledExtensionCount++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    request->extensions[request->info.enabledExtensionCount++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
    request->messenger = messenger_info(instance);
    request->enabled = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    request->features = (VkValidationFeaturesEXT){
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = &request->messenger,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = &request->enabled,
    };
    request->info.pNext = &request->features;
    return request_shader_accesses(global, instance, request);
}

static enum hymn_status build_request(const struct global_functions *global, struct hymn_vk_instance *instance,
                                      struct instance_request *request) {
    request->application = (VkApplicationInfo){
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pEngineName = "hymn",
        .engineVersion = VK_MAKE_API_VERSION(0, HYMN_VERSION_MAJOR, HYMN_VERSION_MINOR, HYMN_VERSION_PATCH),
        .apiVersion = VK_API_VERSION_1_3, // the newest that is made use of; a loader since 1.1 takes any
    };
    request->info = (VkInstanceCreateInfo){
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &request->application,
        .ppEnabledExtensionNames = request->extensions,
        .ppEnabledLayerNames = request->layers,
    };
    // Without it the loader hides drivers that are not fully conformant (MoltenVK).
    bool portability = false;
    enum hymn_status status =
        find_extension(global, &instance->log, NULL, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME, &portability);
    if (portability) {
        request->extensions[request->info.enabledExtensionCount++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
        request->info.flags |= VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
    }
    return status == HYMN_STATUS_OK && instance->validation ? request_validation(global, instance, request) : status;
}

static bool load_instance_functions(const struct global_functions *global, struct hymn_vk_instance *instance) {
    struct hymn_vk_instance_table *table = &instance->table;
    bool complete = true;
#define LOAD(name) table->name = (PFN_##name)global->get(instance->handle, #name);
#define REQUIRE(name) complete = complete && table->name;
    HYMN_VK_INSTANCE_FUNCTIONS(LOAD)
    HYMN_VK_INSTANCE_FUNCTIONS(REQUIRE)
    HYMN_VK_OPTIONAL_FUNCTIONS(LOAD)
    if (instance->validation) {
        HYMN_VK_DEBUG_FUNCTIONS(LOAD)
        HYMN_VK_DEBUG_FUNCTIONS(REQUIRE)
    }
#undef LOAD
#undef REQUIRE
    return complete;
}

static enum hymn_status create_handle(const struct global_functions *global, struct hymn_vk_instance *instance) {
    struct instance_request request = {0};
    enum hymn_status status = build_request(global, instance, &request);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    VkResult result = global->create(&request.info, NULL, &instance->handle);
    if (result == VK_ERROR_EXTENSION_NOT_PRESENT && drop_shader_accesses(&request)) {
        result = global->create(&request.info, NULL, &instance->handle);
    }
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
        instance->handle = VK_NULL_HANDLE; // a loader without a driver: no devices, which is no failure
        return HYMN_STATUS_OK;
    }
    if (result != VK_SUCCESS) {
        instance->handle = VK_NULL_HANDLE;
        bool memory = result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY;
        return hymn_fail(&instance->log, memory ? HYMN_STATUS_OUT_OF_MEMORY : HYMN_STATUS_INTERNAL,
                         "vkCreateInstance: %s", hymn_vk_result_string(result));
    }
    if (!load_instance_functions(global, instance)) {
        return hymn_fail(&instance->log, HYMN_STATUS_INTERNAL, "the Vulkan loader lacks functions of Vulkan 1.1");
    }
    if (instance->validation) {
        VkDebugUtilsMessengerCreateInfoEXT info = messenger_info(instance);
        result = instance->table.vkCreateDebugUtilsMessengerEXT(instance->handle, &info, NULL, &instance->messenger);
        if (result != VK_SUCCESS) {
            return hymn_fail(&instance->log, HYMN_STATUS_INTERNAL, "vkCreateDebugUtilsMessengerEXT: %s",
                             hymn_vk_result_string(result));
        }
    }
    return HYMN_STATUS_OK;
}

enum hymn_status hymn_vk_instance_create(const struct hymn_log *log, bool validation,
                                         struct hymn_vk_instance **out_instance) {
    *out_instance = NULL;
    struct global_functions global = {0};
    if (!load_global_functions(&global)) {
        return hymn_fail(log, HYMN_STATUS_NO_DEVICE, "no Vulkan loader (libvulkan) on this system");
    }
    uint32_t version = VK_API_VERSION_1_0;
    if (!global.version || global.version(&version) != VK_SUCCESS || version < VK_API_VERSION_1_1) {
        return hymn_fail(log, HYMN_STATUS_NO_DEVICE, "the Vulkan loader is of version 1.0; 1.1 is needed");
    }
    struct hymn_vk_instance *instance = hymn_alloc(1, sizeof *instance);
    if (!instance) {
        return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    if (log) {
        instance->log = *log;
    }
    instance->validation = validation;
    enum hymn_status status = create_handle(&global, instance);
    if (status != HYMN_STATUS_OK) {
        hymn_vk_instance_destroy(&instance);
        return status;
    }
    *out_instance = instance;
    return HYMN_STATUS_OK;
}

// An instance stays as long as the process, so that the loader does not unload the drivers: NVIDIA's driver cannot be
// loaded again and again (after some tens of times there is "no driver": each load takes static thread-local storage
// for good), and the next context opens faster. It is the first one without validation layers, which would find fault
// with it, that nothing needs any more. Guarded by loader_mutex.
static VkInstance kept = VK_NULL_HANDLE;

static bool is_kept(void) {
    hymn_mutex_lock(&loader_mutex);
    bool found = kept != VK_NULL_HANDLE;
    hymn_mutex_unlock(&loader_mutex);
    return found;
}

static bool keep_loaded(VkInstance handle) {
    hymn_mutex_lock(&loader_mutex);
    bool keep = kept == VK_NULL_HANDLE;
    kept = keep ? handle : kept;
    hymn_mutex_unlock(&loader_mutex);
    return keep;
}

void hymn_vk_instance_destroy(struct hymn_vk_instance **instance) {
    if (!instance || !*instance) {
        return;
    }
    struct hymn_vk_instance *old = *instance, *plain = NULL;
    if (old->messenger) {
        old->table.vkDestroyDebugUtilsMessengerEXT(old->handle, old->messenger, NULL);
    }
    // While the drivers are loaded.
    if (old->handle && old->validation && !is_kept() &&
        hymn_vk_instance_create(NULL, false, &plain) == HYMN_STATUS_OK) {
        hymn_vk_instance_destroy(&plain);
    }
    if (old->handle && old->table.vkDestroyInstance && (old->validation || !keep_loaded(old->handle))) {
        old->table.vkDestroyInstance(old->handle, NULL);
    }
    hymn_free(old);
    *instance = NULL;
}

enum hymn_status hymn_vk_instance_devices(struct hymn_vk_instance *instance, VkPhysicalDevice **out_devices,
                                          uint32_t *out_count) {
    *out_devices = NULL;
    *out_count = 0;
    if (!instance->handle) {
        return HYMN_STATUS_OK;
    }
    uint32_t count = 0;
    VkResult result = instance->table.vkEnumeratePhysicalDevices(instance->handle, &count, NULL);
    if (result == VK_ERROR_INITIALIZATION_FAILED || (result == VK_SUCCESS && count == 0)) {
        return HYMN_STATUS_OK; // drivers that find no hardware
    }
    VkPhysicalDevice *devices = NULL;
    if (result == VK_SUCCESS) {
        devices = hymn_alloc(count, sizeof(VkPhysicalDevice));
        if (!devices) {
            return hymn_fail(&instance->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
        }
        result = instance->table.vkEnumeratePhysicalDevices(instance->handle, &count, devices);
    }
    if (result < VK_SUCCESS) {
        hymn_free(devices);
        return hymn_fail(&instance->log, HYMN_STATUS_INTERNAL, "vkEnumeratePhysicalDevices: %s",
                         hymn_vk_result_string(result));
    }
    *out_devices = devices;
    *out_count = count;
    return HYMN_STATUS_OK;
}

const char *hymn_vk_result_string(VkResult result) {
    switch ((int)result) {
#define NAME(value)                                                                                                    \
    case value:                                                                                                        \
        return #value
        NAME(VK_SUCCESS);
        NAME(VK_NOT_READY);
        NAME(VK_TIMEOUT);
        NAME(VK_INCOMPLETE);
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY);
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY);
        NAME(VK_ERROR_INITIALIZATION_FAILED);
        NAME(VK_ERROR_DEVICE_LOST);
        NAME(VK_ERROR_MEMORY_MAP_FAILED);
        NAME(VK_ERROR_LAYER_NOT_PRESENT);
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT);
        NAME(VK_ERROR_FEATURE_NOT_PRESENT);
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER);
        NAME(VK_ERROR_TOO_MANY_OBJECTS);
        NAME(VK_ERROR_FRAGMENTED_POOL);
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY);
        NAME(VK_ERROR_FRAGMENTATION);
        NAME(VK_ERROR_INVALID_SHADER_NV);
        NAME(VK_ERROR_UNKNOWN);
#undef NAME
    default:
        return "an error unknown to Vulkan 1.1";
    }
}
