// SPDX-License-Identifier: MIT
//
// A device opened for compute: the VkDevice, its queue, its functions and what is kept per device (pipelines, memory
// accounting).
#ifndef HYMN_VK_DEVICE_H
#define HYMN_VK_DEVICE_H

#include "vk/instance.h"
#include "vk/plan.h"
#include "vk/queues.h"

struct hymn_vk_pipelines;
struct hymn_vk_store;

struct hymn_vk_device {
    struct hymn_log log;
    struct hymn_vk_instance *instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    uint32_t queue_family;
    // Those that compute. The first is for everything but runs of streams beyond the first (hymn_session_params).
    VkQueue queues[HYMN_VK_MAX_QUEUES];
    uint32_t queue_count;
    enum hymn_transfer transfer;
    uint32_t transfer_family;
    VkQueue transfer_queue; // of uploads that overlap with computing (upload.h); VK_NULL_HANDLE: there are none
    uint64_t direct_bytes;  // the plan's, with HYMN_TRANSFER_AUTO
    struct VolkDeviceTable table;
    VkPhysicalDeviceMemoryProperties memory;
    struct hymn_device_info info;
    struct hymn_vk_snapshot snapshot;
    enum hymn_tier tier;                        // that the context is limited to; AUTO: not
    struct hymn_vk_plan plan;                   // for that tier; a session may make a lower one
    bool trust_variants;                        // no self-test
    uint32_t checked[HYMN_VK_MAX_SHADERS / 32]; // bit i: there is a verdict on hymn_shaders[i]; plan.demoted says which
    const struct hymn_shader *replaced, *replacement; // tests: the second one's code stands in for the first one's
    struct hymn_vk_pipelines *pipelines;              // pipeline.h
    uint64_t cache_checksum;                          // of what the pipeline cache was loaded from or last stored as
    size_t cache_bytes;                               // of the pipeline cache then; 0: of nothing
    char *cache_path;                                 // of the pipeline cache; NULL: none
    bool cache_fails;                                 // it could not be written, which has been told
    struct hymn_vk_store *store;                      // store.h
    bool owns_instance, owns_device;                  // false once a host lends its own
    bool memory_budget;                               // VK_EXT_memory_budget is enabled
    bool inspected;                                   // it was asked for a device whose pipelines keep statistics
    bool statistics;                                  // and VK_KHR_pipeline_executable_properties is enabled
    bool unchecked;                                   // pipelines do without bounds checks: see pipeline.c
    double submission_seconds;                        // most estimated work of one submission
    double slowness;   // how much longer it takes than the plan's rates say; measured, kept in the store
    _Atomic bool lost; // sticky
    bool loss_counted; // the loss is in slowness
    uint64_t heap_bytes[VK_MAX_MEMORY_HEAPS]; // allocated now
    uint64_t memory_bytes;                    // their sum
    uint64_t memory_cap;                      // tests: allocations beyond this total fail; 0: none
    VkCommandPool transfer_pool;              // of buffer_write and buffer_read
};

// What hymn_context_create does, but for the context around it. Same statuses.
enum hymn_status hymn_vk_device_create(const struct hymn_context_params *params, struct hymn_vk_device **out_device);
// The same for a device whose pipelines keep statistics, where it can tell any: see statistics.h. Such pipelines may be
// slower to make, and are not for running.
enum hymn_status hymn_vk_device_create_inspected(const struct hymn_context_params *params,
                                                 struct hymn_vk_device **out_device);
// For tests: on an instance whose functions they may have replaced. It is the device's from then on, or, where this
// fails, gone. params: not NULL, and valid.
enum hymn_status hymn_vk_device_create_on(struct hymn_vk_instance *instance, const struct hymn_context_params *params,
                                          struct hymn_vk_device **out_device);
// Waits until the device is idle, writes the pipeline cache if it grew.
void hymn_vk_device_destroy(struct hymn_vk_device **device);

// The status of a driver call's result; other than VK_SUCCESS is logged as "WHAT: VK_ERROR_...". A lost device is
// remembered: see hymn_vk_device_check.
enum hymn_status hymn_vk_result(struct hymn_vk_device *device, VkResult result, const char *what);
// DEVICE_LOST (logged) once a call has reported it, else OK: what every entry to the device begins with.
enum hymn_status hymn_vk_device_check(struct hymn_vk_device *device);
// Names an object for validation messages and captures; does nothing without validation.
void hymn_vk_name(struct hymn_vk_device *device, VkObjectType type, uint64_t handle, const char *name);

// snapshot.c: what a physical device is. `index` is its place in the list. out_queues: the families to use (queues.h).
// OUT_OF_MEMORY.
enum hymn_status hymn_vk_snapshot_take(const struct hymn_vk_instance *instance, VkPhysicalDevice physical,
                                       uint32_t index, struct hymn_vk_snapshot *out_snapshot,
                                       struct hymn_device_info *out_info, struct hymn_vk_queues *out_queues);

// devices.c: what each of an instance's devices is; freed with hymn_free. OUT_OF_MEMORY.
enum hymn_status hymn_vk_device_infos(struct hymn_vk_instance *instance, const VkPhysicalDevice *devices,
                                      uint32_t count, struct hymn_device_info **out_infos);
// devices.c: the place of the wanted device in `infos`. NO_DEVICE (the log lists what there is), UNSUPPORTED.
enum hymn_status hymn_vk_device_select(const struct hymn_device_info *infos, uint32_t count, const char *wanted,
                                       const struct hymn_log *log, uint32_t *out_index);
// devices.c: what is known of the wanted device without opening it. UNSUPPORTED: it cannot be used, *out_info says why
// and *out_snapshot what it is all the same. NO_DEVICE, OUT_OF_MEMORY, INTERNAL: nothing is known of it.
enum hymn_status hymn_vk_device_look(const struct hymn_log *log, const char *wanted, struct hymn_device_info *out_info,
                                     struct hymn_vk_snapshot *out_snapshot);

#endif
