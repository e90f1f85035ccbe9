// SPDX-License-Identifier: MIT
#include "vk/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "vk/cache.h"

#define PUSH_SIZES (HYMN_VK_MAX_PUSH_BYTES / 4 + 1)

// What makes two steps share a pipeline, and the pipeline.
struct entry {
    struct hymn_vk_pipeline pipeline; // handle VK_NULL_HANDLE: not made yet, or making it failed
    const struct hymn_shader *shader;
    uint32_t constants[HYMN_VK_MAX_CONSTANTS];
    uint32_t constant_count, binding_count, push_bytes;
    bool wanted; // by the batch under way
    VkResult result;
    double milliseconds;
};

struct hymn_vk_pipelines {
    VkPipelineCache cache;
    struct entry **slots;                   // open addressing; capacity is a power of two, at least twice the count
    uint32_t capacity, count, made, stored; // stored: of those made, at the last write of the cache
    double milliseconds;
    VkDescriptorSetLayout set_layouts[HYMN_VK_MAX_BINDINGS + 1];
    VkPipelineLayout layouts[HYMN_VK_MAX_BINDINGS + 1][PUSH_SIZES];
};

enum hymn_status hymn_vk_pipelines_create(struct hymn_vk_device *device) {
    device->pipelines = hymn_alloc(1, sizeof *device->pipelines);
    if (!device->pipelines) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    return hymn_vk_cache_load(device, &device->pipelines->cache);
}

static void store(struct hymn_vk_device *device) {
    device->pipelines->stored = device->pipelines->made;
    hymn_vk_cache_store(device, device->pipelines->cache);
}

void hymn_vk_pipelines_store(struct hymn_vk_device *device) {
    const struct hymn_vk_pipelines *pipelines = device->pipelines;
    if (pipelines->made > pipelines->stored && hymn_vk_cache_grew(device, pipelines->cache)) {
        store(device);
    }
}

void hymn_vk_pipelines_destroy(struct hymn_vk_device *device) {
    struct hymn_vk_pipelines *pipelines = device->pipelines;
    if (!pipelines) {
        return;
    }
    if (pipelines->made > pipelines->stored) {
        store(device);
    }
    for (uint32_t i = 0; i < pipelines->capacity; i++) {
        if (pipelines->slots[i]) {
            device->table.vkDestroyPipeline(device->handle, pipelines->slots[i]->pipeline.handle, NULL);
            hymn_free(pipelines->slots[i]);
        }
    }
    for (uint32_t bindings = 0; bindings <= HYMN_VK_MAX_BINDINGS; bindings++) {
        for (uint32_t push = 0; push < PUSH_SIZES; push++) {
            device->table.vkDestroyPipelineLayout(device->handle, pipelines->layouts[bindings][push], NULL);
        }
        device->table.vkDestroyDescriptorSetLayout(device->handle, pipelines->set_layouts[bindings], NULL);
    }
    device->table.vkDestroyPipelineCache(device->handle, pipelines->cache, NULL);
    hymn_free(pipelines->slots);
    hymn_free(pipelines);
    device->pipelines = NULL;
}

// ------------------------------------------------------------------------------------------------------ hash table

static uint64_t hash_step(const struct hymn_vk_step *step) {
    uint64_t hash = step->shader->hash ^ ((uint64_t)step->binding_count << 32 | step->push_bytes);
    for (uint32_t i = 0; i < step->constant_count; i++) {
        hash = (hash ^ step->constants[i]) * 0x100000001B3u;
    }
    return hash ^ hash >> 29;
}

static bool is_entry_of(const struct entry *entry, const struct hymn_vk_step *step) {
    return entry->shader == step->shader && entry->constant_count == step->constant_count &&
           entry->binding_count == step->binding_count && entry->push_bytes == step->push_bytes &&
           memcmp(entry->constants, step->constants, step->constant_count * sizeof(uint32_t)) == 0;
}

// The slot that holds the step's entry, or the empty one where it belongs. capacity > 0.
static struct entry **find_slot(const struct hymn_vk_pipelines *pipelines, const struct hymn_vk_step *step) {
    uint32_t mask = pipelines->capacity - 1, at = (uint32_t)hash_step(step) & mask;
    while (pipelines->slots[at] && !is_entry_of(pipelines->slots[at], step)) {
        at = (at + 1) & mask;
    }
    return &pipelines->slots[at];
}

static struct hymn_vk_step step_of(const struct entry *entry) {
    struct hymn_vk_step step = {.shader = entry->shader,
                                .constant_count = entry->constant_count,
                                .binding_count = entry->binding_count,
                                .push_bytes = entry->push_bytes};
    memcpy(step.constants, entry->constants, sizeof step.constants);
    return step;
}

static bool reserve_slots(struct hymn_vk_pipelines *pipelines, uint32_t count) {
    uint32_t capacity = pipelines->capacity ? pipelines->capacity : 64;
    while (capacity < 2 * count) {
        capacity *= 2;
    }
    if (capacity == pipelines->capacity) {
        return true;
    }
    struct entry **old = pipelines->slots, **slots = hymn_alloc(capacity, sizeof *slots);
    uint32_t old_capacity = pipelines->capacity;
    if (!slots) {
        return false;
    }
    pipelines->slots = slots;
    pipelines->capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i]) {
            struct hymn_vk_step step = step_of(old[i]);
            *find_slot(pipelines, &step) = old[i];
        }
    }
    hymn_free(old);
    return true;
}

const struct hymn_vk_pipeline *hymn_vk_pipeline_find(struct hymn_vk_device *device, const struct hymn_vk_step *step) {
    if (device->pipelines->capacity == 0) {
        return NULL;
    }
    const struct entry *entry = *find_slot(device->pipelines, step);
    return entry && entry->pipeline.handle ? &entry->pipeline : NULL;
}

VkResult hymn_vk_pipeline_result(struct hymn_vk_device *device, const struct hymn_vk_step *step, double *out_ms) {
    const struct entry *entry = device->pipelines->capacity > 0 ? *find_slot(device->pipelines, step) : NULL;
    *out_ms = entry ? entry->milliseconds : 0.0;
    return entry ? entry->result : VK_NOT_READY;
}

uint32_t hymn_vk_pipelines_count(const struct hymn_vk_device *device, double *out_ms) {
    if (out_ms) {
        *out_ms = device->pipelines->milliseconds;
    }
    return device->pipelines->made;
}

// --------------------------------------------------------------------------------------------------------- layouts

static enum hymn_status make_set_layout(struct hymn_vk_device *device, uint32_t binding_count) {
    VkDescriptorSetLayoutBinding bindings[HYMN_VK_MAX_BINDINGS];
    for (uint32_t i = 0; i < binding_count; i++) {
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    }
    VkDescriptorSetLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = binding_count,
        .pBindings = bindings,
    };
    VkDescriptorSetLayout *layout = &device->pipelines->set_layouts[binding_count];
    VkResult result = device->table.vkCreateDescriptorSetLayout(device->handle, &info, NULL, layout);
    if (result != VK_SUCCESS) {
        *layout = VK_NULL_HANDLE;
    }
    return hymn_vk_result(device, result, "vkCreateDescriptorSetLayout");
}

// Fills the layouts of an entry, making those that are missing.
static enum hymn_status find_layouts(struct hymn_vk_device *device, struct entry *entry) {
    struct hymn_vk_pipelines *pipelines = device->pipelines;
    VkDescriptorSetLayout *set_layout = &pipelines->set_layouts[entry->binding_count];
    VkPipelineLayout *layout = &pipelines->layouts[entry->binding_count][entry->push_bytes / 4];
    if (!*set_layout) {
        enum hymn_status status = make_set_layout(device, entry->binding_count);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    if (!*layout) {
        VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, entry->push_bytes};
        VkPipelineLayoutCreateInfo info = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
            .setLayoutCount = 1,
            .pSetLayouts = set_layout,
            .pushConstantRangeCount = entry->push_bytes > 0,
            .pPushConstantRanges = &range,
        };
        VkResult result = device->table.vkCreatePipelineLayout(device->handle, &info, NULL, layout);
        if (result != VK_SUCCESS) {
            *layout = VK_NULL_HANDLE;
            return hymn_vk_result(device, result, "vkCreatePipelineLayout");
        }
    }
    entry->pipeline.layout = *layout;
    entry->pipeline.set_layout = *set_layout;
    return HYMN_STATUS_OK;
}

// ------------------------------------------------------------------------------------------------------- the batch

struct batch {
    struct hymn_vk_device *device;
    struct entry **entries;
    uint32_t count;
};

static VkResult make_pipeline(struct hymn_vk_device *device, struct entry *entry) {
    const struct hymn_shader *shader = entry->shader == device->replaced ? device->replacement : entry->shader;
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = shader->code_bytes,
        .pCode = shader->code,
    };
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = device->table.vkCreateShaderModule(device->handle, &module_info, NULL, &module);
    if (result != VK_SUCCESS) {
        return result;
    }
    VkSpecializationMapEntry map[HYMN_VK_MAX_CONSTANTS];
    for (uint32_t i = 0; i < entry->constant_count; i++) {
        map[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    }
    VkSpecializationInfo constants = {entry->constant_count, map, entry->constant_count * sizeof(uint32_t),
                                      entry->constants};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup_size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = device->plan.subgroup_size,
    };
    const uint32_t sharing = HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_SUBGROUP_SHUFFLE;
    bool shares = entry->shader->needs & sharing, sized = shares && device->plan.subgroup_sized;
    // Constant 0 is the size of a workgroup: smaller ones than a subgroup exist.
    bool full = shares && device->plan.subgroup_full && entry->constants[0] % device->plan.subgroup_size == 0;
    // Drivers may check every access of a buffer though robustBufferAccess is not asked for (NVIDIA's 580 does: an
    // instruction or three around each load and store). Shaders stay within their bindings by themselves, which tests
    // show under GPU-assisted validation.
    const VkPipelineRobustnessCreateInfoEXT unchecked = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_ROBUSTNESS_CREATE_INFO_EXT,
        .storageBuffers = VK_PIPELINE_ROBUSTNESS_BUFFER_BEHAVIOR_DISABLED_EXT,
    };
    // All of them may be dispatched in slices. With some that may and some that may not, otherwise alike, divided runs
    // were wrong on an NVIDIA H100 (580.159.04), as if a cache had mixed up the two and all slices were the first.
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .pNext = device->unchecked ? &unchecked : NULL,
        .flags =
            VK_PIPELINE_CREATE_DISPATCH_BASE | (device->statistics ? VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR : 0),
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = sized ? &subgroup_size : NULL,
                  .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = entry->pipeline.layout,
    };
    VkPipeline *handle = &entry->pipeline.handle;
    result = device->table.vkCreateComputePipelines(device->handle, device->pipelines->cache, 1, &info, NULL, handle);
    if (result != VK_SUCCESS) {
        *handle = VK_NULL_HANDLE;
    }
    device->table.vkDestroyShaderModule(device->handle, module, NULL);
    return result;
}

// The largest first, so that no thread ends up with one while the others have nothing left to do.
static int by_size(const void *a, const void *b) {
    const struct hymn_shader *first = (*(struct entry *const *)a)->shader,
                             *second = (*(struct entry *const *)b)->shader;
    return (first->code_bytes < second->code_bytes) - (first->code_bytes > second->code_bytes);
}

static void make_entry(void *argument, uint32_t i) {
    const struct batch *batch = argument;
    struct entry *entry = batch->entries[i];
    double start = hymn_time_now();
    entry->result = make_pipeline(batch->device, entry);
    entry->milliseconds = (hymn_time_now() - start) * 1e3;
}

static enum hymn_status check_step(struct hymn_vk_device *device, const struct hymn_vk_step *step) {
    static const char *const needs[] = {"16-bit storage",       "fp16 arithmetic",   "cooperative matrices",
                                        "subgroup shuffles",    "larger workgroups", "eight storage buffers",
                                        "matrices of fp16 sums"}; // by bits
    static_assert(sizeof needs / sizeof *needs == HYMN_NEEDS_BITS, "each bit has a name");
    if (!step->shader || step->constant_count > HYMN_VK_MAX_CONSTANTS || step->binding_count > HYMN_VK_MAX_BINDINGS ||
        step->push_bytes > HYMN_VK_MAX_PUSH_BYTES || step->push_bytes % 4 != 0) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: no shader, or too many constants or bindings",
                         step->name);
    }
    uint32_t missing = step->shader->needs & ~device->plan.needs_met;
    if (missing != 0) {
        uint32_t i = 0;
        while (i + 1 < HYMN_NEEDS_BITS && !(missing & (1u << i))) {
            i++;
        }
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "%s: %s needs %s, which %s lacks", step->name,
                         step->shader->name, needs[i], device->info.name);
    }
    if (step->binding_count > device->snapshot.max_storage_buffers) {
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED, "%s: %s has %u storage buffers, and shaders of %s %u",
                         step->name, step->shader->name, step->binding_count, device->info.name,
                         device->snapshot.max_storage_buffers);
    }
    return HYMN_STATUS_OK;
}

// Adds the step's pipeline to the batch unless it is made already or in the batch.
static enum hymn_status add_to_batch(struct batch *batch, const struct hymn_vk_step *step) {
    struct hymn_vk_device *device = batch->device;
    enum hymn_status status = check_step(device, step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct entry **slot = find_slot(device->pipelines, step);
    if (*slot && ((*slot)->pipeline.handle || (*slot)->wanted)) {
        return HYMN_STATUS_OK;
    }
    if (!*slot) {
        struct entry *entry = hymn_alloc(1, sizeof *entry);
        if (!entry) {
            return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
        }
        entry->shader = step->shader;
        entry->result = VK_NOT_READY;
        entry->constant_count = step->constant_count;
        entry->binding_count = step->binding_count;
        entry->push_bytes = step->push_bytes;
        memcpy(entry->constants, step->constants, step->constant_count * sizeof(uint32_t));
        *slot = entry;
        device->pipelines->count++;
    }
    status = find_layouts(device, *slot);
    if (status == HYMN_STATUS_OK) {
        (*slot)->wanted = true;
        (*slot)->result = VK_NOT_READY;
        batch->entries[batch->count++] = *slot;
    }
    return status;
}

// The first failure of the batch, with the shader's name.
static enum hymn_status finish_batch(struct batch *batch) {
    struct hymn_vk_device *device = batch->device;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct entry *entry = batch->entries[i];
        entry->wanted = false;
        if (entry->result == VK_NOT_READY) {
            continue; // for another failure
        }
        if (entry->result != VK_SUCCESS) {
            enum hymn_status failed = hymn_vk_result(device, entry->result, entry->shader->name);
            status = status == HYMN_STATUS_OK ? failed : status;
            continue;
        }
        if (entry->pipeline.handle) {
            device->pipelines->made++;
            hymn_vk_name(device, VK_OBJECT_TYPE_PIPELINE, (uint64_t)entry->pipeline.handle, entry->shader->name);
        }
    }
    return status;
}

enum hymn_status hymn_vk_pipelines_prepare(struct hymn_vk_device *device, const struct hymn_vk_step *steps,
                                           uint32_t count) {
    struct hymn_vk_pipelines *pipelines = device->pipelines;
    enum hymn_status status = hymn_vk_device_check(device);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    struct batch batch = {.device = device, .entries = hymn_alloc(count, sizeof *batch.entries)};
    if (!batch.entries || !reserve_slots(pipelines, pipelines->count + count)) {
        hymn_free(batch.entries);
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    enum hymn_status refused = HYMN_STATUS_OK;
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        if (steps[i].kind == HYMN_VK_STEP_DISPATCH) {
            status = add_to_batch(&batch, &steps[i]);
        }
        if (status == HYMN_STATUS_UNSUPPORTED) { // costs this step its pipeline, not the others theirs
            refused = status;
            status = HYMN_STATUS_OK;
        }
    }
    if (status == HYMN_STATUS_OK && batch.count > 0) {
        double start = hymn_time_now();
        qsort(batch.entries, batch.count, sizeof *batch.entries, by_size);
        // On threads of our own, as the caller's stack may be too small for a driver's compiler.
        hymn_thread_each(HYMN_THREAD_MOST, batch.count, make_entry, &batch);
        double milliseconds = (hymn_time_now() - start) * 1e3;
        pipelines->milliseconds += milliseconds;
        hymn_log_write(&device->log, HYMN_LOG_DEBUG, "%u pipelines made in %.1f ms", batch.count, milliseconds);
    }
    enum hymn_status finished = finish_batch(&batch);
    hymn_free(batch.entries);
    status = status == HYMN_STATUS_OK ? finished : status;
    return status == HYMN_STATUS_OK ? refused : status;
}
