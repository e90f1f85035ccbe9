// SPDX-License-Identifier: MIT
//
// Devices of this machine: listed, chosen, opened, closed; and systems without a loader or a driver, for which the
// program runs itself again in another environment.
#define _POSIX_C_SOURCE 200809L // fork, setenv, mkdtemp
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "base/alloc.h"
#include "support/test_vk.h"
#include "vk/memory.h"

static const char *program; // argv[0]

static void list_describes_every_device(void **state) {
    (void)state;
    struct hymn_device_list *list = NULL;
    assert_int_equal(hymn_device_list_create(NULL, &list), HYMN_STATUS_OK);
    uint32_t count = hymn_device_list_count(list);
    assert_true(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        const struct hymn_device_info *info = hymn_device_list_get(list, i);
        print_message("%u: %s, %s, Vulkan %s, subgroups of %u, %llu MiB%s%s\n", info->index, info->name, info->driver,
                      info->api_version, info->subgroup_size, (unsigned long long)(info->memory_bytes >> 20),
                      info->usable ? "" : ": ", info->reason);
        assert_int_equal(info->index, i);
        assert_true(info->name[0] && info->driver[0] && info->api_version[0]);
        assert_true(info->usable == (info->reason[0] == '\0'));
        assert_true(info->memory_bytes > 0);
    }
    assert_null(hymn_device_list_get(list, count));
    hymn_device_list_destroy(&list);
    assert_null(list);
    hymn_device_list_destroy(&list);
    hymn_device_list_destroy(NULL);
    assert_int_equal(hymn_device_list_count(NULL), 0);
    assert_null(hymn_device_list_get(NULL, 0));
    assert_int_equal(hymn_device_list_create(NULL, NULL), HYMN_STATUS_INVALID_ARGUMENT);
}

static void device_is_found_by_everything_that_names_it(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    struct hymn_device_info info = vk.device->info;
    assert_true(vk.device->plan.usable);
    assert_log(&vk.log, info.name);
    test_vk_close(&vk);
    char index[16], uuid[33], name[256];
    snprintf(index, sizeof index, "%u", info.index);
    for (int i = 0; i < 16; i++) {
        snprintf(uuid + 2 * i, 3, "%02X", info.uuid[i]);
    }
    snprintf(name, sizeof name, "%s", info.name);
    name[strlen(name) / 2] = '\0'; // its first half
    const char *wanted[] = {index, uuid, name};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(test_vk_try(&vk, wanted[i], "", false), HYMN_STATUS_OK);
        assert_memory_equal(vk.device->info.uuid, info.uuid, sizeof info.uuid);
        test_vk_close(&vk);
    }
}

static void unknown_names_list_what_there_is(void **state) {
    (void)state;
    struct test_vk vk;
    const char *wanted[] = {"no such device", "4711", "0123456789abcdef0123456789abcdef"};
    for (int i = 0; i < 3; i++) {
        vk.device = (struct hymn_vk_device *)&vk;
        assert_int_equal(test_vk_try(&vk, wanted[i], "", false), HYMN_STATUS_NO_DEVICE);
        assert_null(vk.device);
        assert_log(&vk.log, wanted[i]);
        assert_log(&vk.log, "  0: ");
    }
    hymn_vk_device_destroy(&vk.device);
    hymn_vk_device_destroy(NULL);
}

static void opening_and_closing_leaves_nothing(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct test_vk vk;
        assert_int_equal(test_vk_try(&vk, getenv("HYMN_DEVICE"), "", false), HYMN_STATUS_OK);
        assert_int_equal(vk.device->memory_bytes, 0);
        test_vk_close(&vk);
    }
}

// ------------------------------------------------------------------------------------- devices with other answers

// The driver's.
static PFN_vkCreateDevice create_device;
static PFN_vkGetPhysicalDeviceProperties get_properties;
static PFN_vkEnumerateDeviceExtensionProperties enumerate_extensions;
static uint32_t tries;
static VkStructureType refused;      // the feature's structure; 0: none
static uint32_t most_version;        // that the device claims
static const char *hidden_extension; // NULL: none

static bool asks_for(const VkDeviceCreateInfo *info, VkStructureType type) {
    for (const VkBaseInStructure *next = info->pNext; next; next = next->pNext) {
        if (next->sType == type) {
            return true;
        }
    }
    return false;
}

static VKAPI_ATTR VkResult VKAPI_CALL refuse_feature(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                     const VkAllocationCallbacks *allocator, VkDevice *out_device) {
    tries++;
    bool refuse = refused != 0 && asks_for(info, refused);
    return refuse ? VK_ERROR_FEATURE_NOT_PRESENT : create_device(physical, info, allocator, out_device);
}

static enum hymn_status open_refusing(VkStructureType feature, struct test_log *log,
                                      struct hymn_vk_device **out_device) {
    struct hymn_context_params params = {.device = getenv("HYMN_DEVICE"), .cache_dir = "", .log = test_log_start(log)};
    struct hymn_vk_instance *instance = NULL;
    assert_int_equal(hymn_vk_instance_create(&params.log, false, &instance), HYMN_STATUS_OK);
    create_device = instance->table.vkCreateDevice;
    instance->table.vkCreateDevice = refuse_feature;
    refused = feature;
    tries = 0;
    return hymn_vk_device_create_on(instance, &params, out_device);
}

// A feature that is claimed, and refused when it is asked for, costs the tiers that need it, and says so.
static void a_refused_feature_costs_a_tier(void **state) {
    (void)state;
    static const struct {
        VkStructureType feature;
        uint32_t needs;
    } cases[] = {
        {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, HYMN_NEEDS_COOPERATIVE_MATRIX},
        {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES, HYMN_NEEDS_FLOAT16},
        {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES, HYMN_NEEDS_SUBGROUP_SHUFFLE},
    };
    struct test_log log;
    struct hymn_vk_device *device = NULL;
    assert_int_equal(open_refusing(0, &log, &device), HYMN_STATUS_OK);
    uint32_t has = device->plan.needs_met;
    assert_int_equal(tries, 1);
    hymn_vk_device_destroy(&device);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(open_refusing(cases[i].feature, &log, &device), HYMN_STATUS_OK);
        uint32_t keeps = device->plan.needs_met;
        assert_int_equal(keeps & cases[i].needs, 0);
        assert_int_equal(keeps & ~has, 0);
        assert_int_equal(tries > 1, (has & cases[i].needs) != 0);
        if (has & cases[i].needs) {
            assert_log(&log, "and cannot be opened with it: VK_ERROR_FEATURE_NOT_PRESENT");
        }
        if (cases[i].needs == HYMN_NEEDS_COOPERATIVE_MATRIX) {
            const uint32_t matrices = HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_HALF_SUMS;
            assert_int_equal(keeps, has & ~matrices); // and nothing else
        }
        assert_int_equal(device->table.vkQueueWaitIdle(device->queues[0]), VK_SUCCESS);
        hymn_vk_device_destroy(&device);
    }
}

// Beyond the lowest tier there is no other.
static void a_device_that_refuses_everything_is_an_error(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_vk_device *device = NULL;
    assert_int_equal(open_refusing(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &log, &device), HYMN_STATUS_INTERNAL);
    assert_null(device);
    assert_true(tries <= HYMN_TIER_MATRIX);
    assert_log(&log, "vkCreateDevice: VK_ERROR_FEATURE_NOT_PRESENT");
}

static VKAPI_ATTR void VKAPI_CALL lower_version(VkPhysicalDevice physical, VkPhysicalDeviceProperties *properties) {
    get_properties(physical, properties);
    properties->apiVersion = properties->apiVersion < most_version ? properties->apiVersion : most_version;
}

static VKAPI_ATTR VkResult VKAPI_CALL hide_extension(VkPhysicalDevice physical, const char *layer, uint32_t *count,
                                                     VkExtensionProperties *properties) {
    VkResult result = enumerate_extensions(physical, layer, count, properties);
    for (uint32_t i = 0; properties && hidden_extension && i < *count; i++) {
        if (strcmp(properties[i].extensionName, hidden_extension) == 0) {
            snprintf(properties[i].extensionName, sizeof properties[i].extensionName, "VK_EXT_of_no_use");
        }
    }
    return result;
}

// An instance whose functions a test replaces before it opens the device by hymn_vk_device_create_on.
static struct hymn_vk_instance *make_instance(struct test_log *log, bool validation,
                                              struct hymn_context_params *out_params) {
    struct hymn_vk_instance *instance = NULL;
    *out_params =
        (struct hymn_context_params){.device = getenv("HYMN_DEVICE"), .cache_dir = "", .log = test_log_start(log)};
    assert_int_equal(hymn_vk_instance_create(&out_params->log, validation, &instance), HYMN_STATUS_OK);
    return instance;
}

static uint32_t needs_met_of(uint32_t version, const char *hidden) {
    struct test_log log;
    struct hymn_context_params params;
    struct hymn_vk_instance *instance = make_instance(&log, getenv("HYMN_VALIDATION") != NULL, &params);
    struct hymn_vk_device *device = NULL;
    get_properties = instance->table.vkGetPhysicalDeviceProperties;
    enumerate_extensions = instance->table.vkEnumerateDeviceExtensionProperties;
    instance->table.vkGetPhysicalDeviceProperties = lower_version;
    instance->table.vkEnumerateDeviceExtensionProperties = hide_extension;
    most_version = version;
    hidden_extension = hidden;
    assert_int_equal(hymn_vk_device_create_on(instance, &params, &device), HYMN_STATUS_OK);
    assert_true(device->snapshot.api_version <= version);
    uint32_t met = device->plan.needs_met;
    hymn_vk_device_destroy(&device);
    return met;
}

// Before Vulkan 1.3 an extension tells of subgroups' sizes; without it nothing is shared across a subgroup.
static void older_devices_tell_of_subgroups_by_an_extension(void **state) {
    (void)state;
    const uint32_t newest = needs_met_of(VK_API_VERSION_1_3, NULL) & HYMN_NEEDS_SUBGROUP_SHUFFLE;
    const uint32_t versions[] = {VK_API_VERSION_1_1, VK_API_VERSION_1_2};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(needs_met_of(versions[i], NULL) & HYMN_NEEDS_SUBGROUP_SHUFFLE, newest);
        uint32_t met = needs_met_of(versions[i], VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
        assert_int_equal(met & HYMN_NEEDS_SUBGROUP_SHUFFLE, 0);
    }
}

static PFN_vkGetPhysicalDeviceProperties2 get_properties_2;
enum { SMALL_BUFFER = 12345 << 12 };

static VKAPI_ATTR void VKAPI_CALL limit_buffers(VkPhysicalDevice physical, VkPhysicalDeviceProperties2 *properties) {
    get_properties_2(physical, properties);
    for (VkBaseOutStructure *next = properties->pNext; next; next = next->pNext) {
        if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES) {
            ((VkPhysicalDeviceMaintenance4Properties *)(void *)next)->maxBufferSize = SMALL_BUFFER;
        }
    }
}

// Each buffer has an allocation of its own, but a driver may allocate more than it has buffers for.
static void allocations_are_no_larger_than_buffers(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context_params params;
    struct hymn_vk_instance *instance = make_instance(&log, false, &params);
    struct hymn_vk_device *device = NULL;
    struct hymn_vk_buffer buffer;
    get_properties_2 = instance->table.vkGetPhysicalDeviceProperties2;
    instance->table.vkGetPhysicalDeviceProperties2 = limit_buffers;
    assert_int_equal(hymn_vk_device_create_on(instance, &params, &device), HYMN_STATUS_OK);
    if (device->snapshot.api_version >= VK_API_VERSION_1_3) {
        assert_int_equal(device->snapshot.max_allocation_bytes, SMALL_BUFFER);
        assert_true(device->plan.max_piece_bytes < SMALL_BUFFER);
        assert_int_equal(
            hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, SMALL_BUFFER + 4, "too large a thing", &buffer),
            HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
        assert_log(&log, "too large a thing");
    }
    hymn_vk_device_destroy(&device);
}

static VKAPI_ATTR VkResult VKAPI_CALL fail_to_list(VkPhysicalDevice physical, const char *layer, uint32_t *count,
                                                   VkExtensionProperties *properties) {
    (void)physical, (void)layer, (void)properties;
    *count = 0;
    return VK_ERROR_OUT_OF_HOST_MEMORY;
}

// A device whose extensions cannot be listed is not taken for a lesser one without a word.
static void failing_lists_of_extensions_are_told(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context_params params;
    struct hymn_vk_instance *instance = make_instance(&log, false, &params);
    struct hymn_vk_device *device = NULL;
    instance->table.vkEnumerateDeviceExtensionProperties = fail_to_list;
    assert_int_equal(hymn_vk_device_create_on(instance, &params, &device), HYMN_STATUS_OUT_OF_MEMORY);
    assert_null(device);
    assert_log(&log, "vkEnumerateDeviceExtensionProperties: VK_ERROR_OUT_OF_HOST_MEMORY; the device counts as one");
}

static PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get_matrices;

static VKAPI_ATTR VkResult VKAPI_CALL hide_half_sums(VkPhysicalDevice physical, uint32_t *count,
                                                     VkCooperativeMatrixPropertiesKHR *properties) {
    VkResult result = get_matrices(physical, count, properties);
    for (uint32_t i = 0; properties && i < *count; i++) {
        if (properties[i].ResultType == VK_COMPONENT_TYPE_FLOAT16_KHR) {
            properties[i].saturatingAccumulation = VK_TRUE; // which no shader here has
        }
    }
    return result;
}

// Of all that a device with cooperative matrices can do, only what needs such sums is left out.
static void sums_of_halves_are_a_need_of_their_own(void **state) {
    (void)state;
    struct test_log log;
    struct hymn_context_params params;
    struct hymn_vk_device *device = NULL;
    uint32_t met[2];
    for (int i = 0; i < 2; i++) {
        struct hymn_vk_instance *instance = make_instance(&log, false, &params);
        get_matrices = instance->table.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR;
        if (i == 1) {
            instance->table.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR = hide_half_sums;
        }
        assert_int_equal(hymn_vk_device_create_on(instance, &params, &device), HYMN_STATUS_OK);
        met[i] = device->plan.needs_met;
        hymn_vk_device_destroy(&device);
    }
    if (!(met[0] & HYMN_NEEDS_HALF_SUMS)) {
        print_message("no cooperative matrices, or none of fp16 sums\n");
        skip();
    }
    assert_true(met[0] & HYMN_NEEDS_COOPERATIVE_MATRIX);
    assert_int_equal(met[1], met[0] & ~(uint32_t)HYMN_NEEDS_HALF_SUMS);
}

static void two_devices_live_side_by_side(void **state) {
    (void)state;
    struct test_vk one, two;
    test_vk_open(&one, "");
    test_vk_open(&two, "");
    assert_ptr_not_equal(one.device->handle, two.device->handle);
    assert_ptr_not_equal(one.device->instance->handle, two.device->instance->handle);
    test_vk_close(&one);
    assert_int_equal(hymn_vk_device_check(two.device), HYMN_STATUS_OK);
    assert_int_equal(two.device->table.vkQueueWaitIdle(two.device->queues[0]), VK_SUCCESS);
    test_vk_close(&two);
}

static void results_become_statuses(void **state) {
    (void)state;
    struct test_vk vk;
    test_vk_open(&vk, "");
    assert_int_equal(hymn_vk_result(vk.device, VK_SUCCESS, "this"), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_result(vk.device, VK_INCOMPLETE, "this"), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_result(vk.device, VK_ERROR_OUT_OF_HOST_MEMORY, "a"), HYMN_STATUS_OUT_OF_MEMORY);
    assert_int_equal(hymn_vk_result(vk.device, VK_ERROR_OUT_OF_DEVICE_MEMORY, "b"), HYMN_STATUS_OUT_OF_DEVICE_MEMORY);
    assert_int_equal(hymn_vk_result(vk.device, VK_ERROR_UNKNOWN, "c"), HYMN_STATUS_INTERNAL);
    assert_log(&vk.log, "c: VK_ERROR_UNKNOWN");
    assert_int_equal(hymn_vk_device_check(vk.device), HYMN_STATUS_OK);
    assert_int_equal(hymn_vk_result(vk.device, VK_ERROR_DEVICE_LOST, "d"), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(hymn_vk_device_check(vk.device), HYMN_STATUS_DEVICE_LOST); // sticky
    assert_log(&vk.log, "was lost");
    test_vk_close(&vk);
}

// Every single allocation fails once: the same status, nothing leaked, nothing half-built.
static void allocation_failures_are_reported(void **state) {
    (void)state;
    bool failed = true;
    uint32_t failures = 0;
    for (int64_t countdown = 0; failed && countdown < 1000; countdown++) {
        struct test_vk vk;
        hymn_alloc_fail_after(countdown);
        enum hymn_status status = test_vk_try(&vk, getenv("HYMN_DEVICE"), "/nowhere", false);
        failed = hymn_alloc_fail_after(-1);
        failures += status != HYMN_STATUS_OK;
        if (status != HYMN_STATUS_OK) {
            assert_true(failed && status == HYMN_STATUS_OUT_OF_MEMORY);
            assert_null(vk.device);
        } else {
            test_vk_close(&vk);
        }
    }
    assert_true(failures > 4 && !failed);
    failed = true;
    failures = 0;
    for (int64_t countdown = 0; failed && countdown < 1000; countdown++) {
        struct hymn_device_list *list = NULL;
        hymn_alloc_fail_after(countdown);
        enum hymn_status status = hymn_device_list_create(NULL, &list);
        failed = hymn_alloc_fail_after(-1);
        failures += status != HYMN_STATUS_OK;
        assert_true(status == HYMN_STATUS_OK || (failed && status == HYMN_STATUS_OUT_OF_MEMORY));
        assert_true((status == HYMN_STATUS_OK) == (list != NULL));
        hymn_device_list_destroy(&list);
    }
    assert_true(failures > 4 && !failed);
}

// ---------------------------------------------------------------------------------------------- other environments

#ifndef _WIN32

// Runs this program as `program --CHECK` with a variable set; its exit status is the check's verdict.
static int run_self(const char *check, const char *variable, const char *value) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv(variable, value, 1);
        unsetenv("VK_DRIVER_FILES");
        if (strcmp(variable, "VK_ICD_FILENAMES") == 0) {
            setenv("VK_DRIVER_FILES", value, 1); // the newer name, which goes first
        }
        execl(program, program, check, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int check_failed(const char *what, const struct test_log *log) {
    fprintf(stderr, "%s\n%s", what, log ? log->text : "");
    return 1;
}

// With a loader and no driver: an empty list, which is a success, and no device.
static int check_no_driver(void) {
    struct hymn_device_list *list = NULL;
    if (hymn_device_list_create(NULL, &list) != HYMN_STATUS_OK || hymn_device_list_count(list) != 0) {
        return check_failed("the list is not empty", NULL);
    }
    hymn_device_list_destroy(&list);
    struct test_vk vk;
    if (test_vk_try(&vk, NULL, "", false) != HYMN_STATUS_NO_DEVICE ||
        !test_log_has(&vk.log, "no Vulkan device: no driver is installed")) {
        return check_failed("a device without a driver", &vk.log);
    }
    return 0;
}

static int check_no_loader(void) {
    struct hymn_device_list *list = NULL;
    struct test_log log;
    struct hymn_device_list_params params = {.log = test_log_start(&log)};
    if (hymn_device_list_create(&params, &list) != HYMN_STATUS_NO_DEVICE || list ||
        !test_log_has(&log, "no Vulkan loader")) {
        return check_failed("a list without a loader", &log);
    }
    struct test_vk vk;
    if (test_vk_try(&vk, NULL, "", false) != HYMN_STATUS_NO_DEVICE || vk.device) {
        return check_failed("a device without a loader", &vk.log);
    }
    return 0;
}

static int check_no_layer(void) {
    struct test_vk vk;
    if (test_vk_try(&vk, NULL, "", true) != HYMN_STATUS_UNSUPPORTED || vk.device ||
        !test_log_has(&vk.log, "VK_LAYER_KHRONOS_validation is not installed")) {
        return check_failed("validation without its layer", &vk.log);
    }
    return 0;
}

static void no_driver_is_no_device(void **state) {
    (void)state;
    assert_int_equal(run_self("--no-driver", "VK_ICD_FILENAMES", "/nonexistent/driver.json"), 0);
}

static void no_validation_layer_is_unsupported(void **state) {
    (void)state;
    assert_int_equal(run_self("--no-layer", "VK_LAYER_PATH", "/nonexistent"), 0);
}

// A folder in which every name of the loader is a file that is no library, and which is searched first.
static void no_loader_is_no_device(void **state) {
    (void)state;
    char folder[] = "/tmp/hymn-no-loader-XXXXXX", one[64], two[64];
    assert_non_null(mkdtemp(folder));
    snprintf(one, sizeof one, "%s/libvulkan.so.1", folder);
    snprintf(two, sizeof two, "%s/libvulkan.so", folder);
    const char *paths[] = {one, two};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(paths[i], "w");
        assert_non_null(file);
        fputs("not a library\n", file);
        fclose(file);
    }
    char path[4096];
    const char *others = getenv("LD_LIBRARY_PATH"); // where the program may have its libraries from
    snprintf(path, sizeof path, "%s%s%s", folder, others ? ":" : "", others ? others : "");
    int result = run_self("--no-loader", "LD_LIBRARY_PATH", path);
    remove(one);
    remove(two);
    remove(folder);
    assert_int_equal(result, 0);
}

#endif

int main(int argc, char **argv) {
    program = argv[0];
    (void)argc;
#ifndef _WIN32
    if (argc == 2) {
        return strcmp(argv[1], "--no-driver") == 0   ? check_no_driver()
               : strcmp(argv[1], "--no-loader") == 0 ? check_no_loader()
               : strcmp(argv[1], "--no-layer") == 0  ? check_no_layer()
                                                     : 2;
    }
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_describes_every_device),
        cmocka_unit_test(device_is_found_by_everything_that_names_it),
        cmocka_unit_test(unknown_names_list_what_there_is),
        cmocka_unit_test(opening_and_closing_leaves_nothing),
        cmocka_unit_test(a_refused_feature_costs_a_tier),
        cmocka_unit_test(a_device_that_refuses_everything_is_an_error),
        cmocka_unit_test(older_devices_tell_of_subgroups_by_an_extension),
        cmocka_unit_test(allocations_are_no_larger_than_buffers),
        cmocka_unit_test(failing_lists_of_extensions_are_told),
        cmocka_unit_test(sums_of_halves_are_a_need_of_their_own),
        cmocka_unit_test(two_devices_live_side_by_side),
        cmocka_unit_test(results_become_statuses),
        cmocka_unit_test(allocation_failures_are_reported),
#ifndef _WIN32
        cmocka_unit_test(no_driver_is_no_device),
        cmocka_unit_test(no_validation_layer_is_unsupported),
        cmocka_unit_test(no_loader_is_no_device),
#endif
    };
    return cmocka_run_group_tests_name("vk_device", tests, NULL, NULL);
}
