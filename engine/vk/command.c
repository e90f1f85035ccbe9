// SPDX-License-Identifier: MIT
#include "vk/command.h"

#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "vk/divide.h"
#include "vk/hazard.h"
#include "vk/pipeline.h"

#define STAGES (VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT)

struct recorder {
    struct hymn_vk_device *device;
    const struct hymn_vk_record_params *params;
    struct hymn_vk_command *command;
    VkPipelineStageFlags stages; // that the program uses; all of them in each of its barriers, so that a barrier orders
                                 // everything before it and the tracker starts anew
    struct hymn_vk_hazards hazards;
    VkCommandBuffer buffer; // being recorded
    double seconds;         // of it so far
};

static VkAccessFlags writes_of(VkPipelineStageFlags stages) {
    return (stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT ? VK_ACCESS_SHADER_WRITE_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_TRANSFER_BIT ? VK_ACCESS_TRANSFER_WRITE_BIT : 0);
}

static VkAccessFlags reads_of(VkPipelineStageFlags stages) {
    return (stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT ? VK_ACCESS_SHADER_READ_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_TRANSFER_BIT ? VK_ACCESS_TRANSFER_READ_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_HOST_BIT ? VK_ACCESS_HOST_READ_BIT : 0);
}

// Of all memory. written: what the source stages wrote becomes visible to the destination stages; otherwise they are
// only ordered.
static void barrier(const struct recorder *recorder, VkPipelineStageFlags source, VkPipelineStageFlags destination,
                    bool written) {
    VkMemoryBarrier memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = writes_of(source),
        .dstAccessMask = reads_of(destination) | writes_of(destination),
    };
    recorder->device->table.vkCmdPipelineBarrier(recorder->buffer, source, destination, 0, written ? 1 : 0, &memory, 0,
                                                 NULL, 0, NULL);
}

// ---------------------------------------------------------------------------------------------------------- checks

static enum hymn_status check_binding(const struct recorder *recorder, const struct hymn_vk_step *step,
                                      uint32_t index) {
    const struct hymn_vk_device *device = recorder->device;
    const struct hymn_vk_binding *binding = &step->bindings[index];
    const struct hymn_vk_buffer *buffer =
        (uint32_t)binding->role < HYMN_VK_ROLE_COUNT ? recorder->params->buffers[binding->role] : NULL;
    if (!buffer || !buffer->handle || binding->bytes == 0 || binding->offset > buffer->bytes ||
        binding->bytes > buffer->bytes - binding->offset) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL,
                         "%s: binding %u (%" PRIu64 " bytes at %" PRIu64 ") is not within its buffer of %" PRIu64
                         " bytes",
                         step->name, index, binding->bytes, binding->offset, buffer ? buffer->bytes : 0);
    }
    if (step->kind == HYMN_VK_STEP_COPY) {
        return HYMN_STATUS_OK;
    }
    if (binding->bytes > device->snapshot.max_storage_buffer_range) {
        return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED,
                         "%s: binding %u takes %" PRIu64 " bytes, and %s binds at most %" PRIu64, step->name, index,
                         binding->bytes, device->info.name, device->snapshot.max_storage_buffer_range);
    }
    uint64_t alignment = device->snapshot.storage_buffer_alignment;
    if (binding->bytes % 4 != 0 || (alignment > 0 && binding->offset % alignment != 0)) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: binding %u is not aligned", step->name, index);
    }
    return HYMN_STATUS_OK;
}

static enum hymn_status check_step(const struct recorder *recorder, const struct hymn_vk_step *step) {
    const struct hymn_vk_device *device = recorder->device;
    bool copy = step->kind == HYMN_VK_STEP_COPY;
    if (step->binding_count > HYMN_VK_MAX_BINDINGS || (copy && step->binding_count != 2)) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: %u bindings", step->name, step->binding_count);
    }
    for (uint32_t i = 0; i < step->binding_count; i++) {
        enum hymn_status status = check_binding(recorder, step, i);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
    }
    if (copy) {
        return step->bindings[0].bytes >= step->bindings[1].bytes
                   ? HYMN_STATUS_OK
                   : hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: copies more than its source", step->name);
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (step->groups[i] == 0 || step->groups[i] > device->snapshot.max_workgroup_count[i]) {
            return hymn_fail(&device->log, HYMN_STATUS_UNSUPPORTED,
                             "%s: %u workgroups in %c, and %s dispatches 1 to %u", step->name, step->groups[i],
                             "xyz"[i], device -> info.name, device->snapshot.max_workgroup_count[i]);
        }
    }
    if (!hymn_vk_pipeline_find(recorder->device, step)) {
        return hymn_fail(&device->log, HYMN_STATUS_INTERNAL, "%s: its pipeline has not been made", step->name);
    }
    return HYMN_STATUS_OK;
}

// --------------------------------------------------------------------------------------------------------- objects

static enum hymn_status ensure_pool(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    if (command->pool) {
        VkResult result = device->table.vkResetCommandPool(device->handle, command->pool, 0);
        return hymn_vk_result(device, result, "vkResetCommandPool");
    }
    VkCommandPoolCreateInfo pool_info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .queueFamilyIndex = device->queue_family,
    };
    VkResult result = device->table.vkCreateCommandPool(device->handle, &pool_info, NULL, &command->pool);
    if (result != VK_SUCCESS) {
        command->pool = VK_NULL_HANDLE;
    }
    return hymn_vk_result(device, result, "vkCreateCommandPool");
}

// One more command buffer than the recording has, taken from those of the last one where there are more.
static enum hymn_status add_buffer(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    if (command->buffer_count == command->buffer_capacity) {
        uint32_t capacity = command->buffer_capacity + 1;
        VkCommandBuffer *buffers = hymn_realloc(command->buffers, capacity, sizeof(VkCommandBuffer));
        command->buffers = buffers ? buffers : command->buffers;
        double *seconds = hymn_realloc(command->seconds, capacity, sizeof *seconds);
        command->seconds = seconds ? seconds : command->seconds;
        if (!buffers || !seconds) {
            return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
        }
        VkCommandBufferAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
            .commandPool = command->pool,
            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
            .commandBufferCount = 1,
        };
        VkResult result = device->table.vkAllocateCommandBuffers(device->handle, &info, &buffers[capacity - 1]);
        if (result != VK_SUCCESS) {
            return hymn_vk_result(device, result, "vkAllocateCommandBuffers");
        }
        command->buffer_capacity = capacity;
    }
    recorder->buffer = command->buffers[command->buffer_count++];
    return HYMN_STATUS_OK;
}

static uint32_t descriptors_of(const struct hymn_vk_step *step) {
    return step->kind == HYMN_VK_STEP_DISPATCH ? step->binding_count : 0;
}

// Whether the sets of the last recording have the layouts that the steps need.
static bool sets_fit(const struct recorder *recorder) {
    const struct hymn_vk_command *command = recorder->command;
    bool fit = command->set_count == recorder->params->count;
    for (uint32_t i = 0; i < command->set_count && fit; i++) {
        fit = command->binding_counts[i] == descriptors_of(&recorder->params->steps[i]);
    }
    return fit;
}

// Room for `sets` sets of `descriptors` descriptors in all, in an empty pool.
static enum hymn_status ensure_descriptor_pool(struct recorder *recorder, uint32_t sets, uint32_t descriptors) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    command->set_count = 0;
    if (command->descriptor_pool && sets <= command->set_capacity && descriptors <= command->descriptor_capacity) {
        VkResult result = device->table.vkResetDescriptorPool(device->handle, command->descriptor_pool, 0);
        return hymn_vk_result(device, result, "vkResetDescriptorPool");
    }
    device->table.vkDestroyDescriptorPool(device->handle, command->descriptor_pool, NULL);
    command->descriptor_pool = VK_NULL_HANDLE;
    command->set_capacity = command->descriptor_capacity = 0;
    VkDescriptorSet *handles = hymn_realloc(command->sets, sets, sizeof(VkDescriptorSet));
    command->sets = handles ? handles : command->sets;
    uint8_t *counts = hymn_realloc(command->binding_counts, sets, 1);
    command->binding_counts = counts ? counts : command->binding_counts;
    if (!handles || !counts) {
        return hymn_fail(&device->log, HYMN_STATUS_OUT_OF_MEMORY, "out of memory");
    }
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, descriptors > 0 ? descriptors : 1};
    VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = sets > 0 ? sets : 1,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    VkResult result = device->table.vkCreateDescriptorPool(device->handle, &info, NULL, &command->descriptor_pool);
    if (result != VK_SUCCESS) {
        command->descriptor_pool = VK_NULL_HANDLE;
        return hymn_vk_result(device, result, "vkCreateDescriptorPool");
    }
    command->set_capacity = sets;
    command->descriptor_capacity = descriptors;
    return HYMN_STATUS_OK;
}

static enum hymn_status ensure_sets(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    if (sets_fit(recorder)) {
        return HYMN_STATUS_OK;
    }
    uint32_t count = recorder->params->count, descriptors = 0;
    for (uint32_t i = 0; i < count; i++) {
        descriptors += descriptors_of(&recorder->params->steps[i]);
    }
    enum hymn_status status = ensure_descriptor_pool(recorder, count, descriptors);
    for (uint32_t i = 0; i < count && status == HYMN_STATUS_OK; i++) {
        const struct hymn_vk_step *step = &recorder->params->steps[i];
        command->sets[i] = VK_NULL_HANDLE;
        command->binding_counts[i] = (uint8_t)descriptors_of(step);
        if (command->binding_counts[i] == 0) {
            continue;
        }
        VkDescriptorSetAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
            .descriptorPool = command->descriptor_pool,
            .descriptorSetCount = 1,
            .pSetLayouts = &hymn_vk_pipeline_find(device, step)->set_layout,
        };
        VkResult result = device->table.vkAllocateDescriptorSets(device->handle, &info, &command->sets[i]);
        status = hymn_vk_result(device, result, "vkAllocateDescriptorSets");
    }
    command->set_count = status == HYMN_STATUS_OK ? count : 0;
    return status;
}

static enum hymn_status ensure_queries(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    const struct hymn_vk_record_params *params = recorder->params;
    bool steps = params->step_timestamps && device->plan.timestamps;
    command->query_count = !device->plan.timestamps || !(params->timestamps || steps) ? 0
                           : steps                                                    ? 2 + 2 * params->count
                                                                                      : 2;
    if (command->query_count <= command->query_capacity) {
        return HYMN_STATUS_OK;
    }
    device->table.vkDestroyQueryPool(device->handle, command->queries, NULL);
    command->query_capacity = 0;
    VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = command->query_count,
    };
    VkResult result = device->table.vkCreateQueryPool(device->handle, &info, NULL, &command->queries);
    if (result != VK_SUCCESS) {
        command->queries = VK_NULL_HANDLE;
        command->query_count = 0;
        return hymn_vk_result(device, result, "vkCreateQueryPool");
    }
    command->query_capacity = command->query_count;
    return HYMN_STATUS_OK;
}

// ------------------------------------------------------------------------------------------------------- recording

// Two roles may share a buffer: the first one with the same handle stands for it.
static uint32_t canonical_role(const struct hymn_vk_record_params *params, enum hymn_vk_role role) {
    uint32_t first = 0;
    while (!params->buffers[first] || params->buffers[first]->handle != params->buffers[role]->handle) {
        first++;
    }
    return first;
}

static uint32_t list_accesses(const struct hymn_vk_record_params *params, const struct hymn_vk_step *step,
                              struct hymn_vk_access out_accesses[HYMN_VK_MAX_BINDINGS]) {
    for (uint32_t i = 0; i < step->binding_count; i++) {
        const struct hymn_vk_binding *binding = &step->bindings[i];
        bool copy = step->kind == HYMN_VK_STEP_COPY;
        out_accesses[i] = (struct hymn_vk_access){
            .buffer = canonical_role(params, binding->role),
            .begin = binding->offset,
            .end = binding->offset + (copy ? step->bindings[1].bytes : binding->bytes),
            .write = copy ? i == 1 : step->write_mask >> i & 1,
        };
    }
    return step->binding_count;
}

// Everything before it is waited for, but no more is made visible than what was written since the last one; all that
// is, so that the tracker may start anew.
static void record_ranges(const struct recorder *recorder, const struct hymn_vk_range *ranges, uint32_t count) {
    VkBufferMemoryBarrier barriers[HYMN_VK_MAX_RANGES];
    for (uint32_t i = 0; i < count; i++) {
        barriers[i] = (VkBufferMemoryBarrier){
            .sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
            .srcAccessMask = writes_of(recorder->stages),
            .dstAccessMask = reads_of(recorder->stages) | writes_of(recorder->stages),
            .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
            .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
            .buffer = recorder->params->buffers[ranges[i].buffer]->handle,
            .offset = ranges[i].begin,
            .size = ranges[i].end - ranges[i].begin,
        };
    }
    recorder->device->table.vkCmdPipelineBarrier(recorder->buffer, recorder->stages, recorder->stages, 0, 0, NULL,
                                                 count, barriers, 0, NULL);
}

static void record_barrier(struct recorder *recorder, const struct hymn_vk_step *step) {
    struct hymn_vk_access accesses[HYMN_VK_MAX_BINDINGS];
    uint32_t count = list_accesses(recorder->params, step, accesses);
    bool written = false, timed = recorder->command->query_count > 2;
    bool needed = hymn_vk_hazards_check(&recorder->hazards, accesses, count, &written);
    if (needed || (timed && recorder->hazards.count > 0)) {
        struct hymn_vk_range ranges[HYMN_VK_MAX_RANGES];
        uint32_t range_count = hymn_vk_hazards_written(&recorder->hazards, ranges);
        if (range_count <= HYMN_VK_MAX_RANGES) {
            record_ranges(recorder, ranges, range_count);
        } else {
            barrier(recorder, recorder->stages, recorder->stages, written);
        }
        recorder->command->barrier_count++;
        hymn_vk_hazards_clear(&recorder->hazards);
    }
    hymn_vk_hazards_add(&recorder->hazards, accesses, count);
}

static void write_descriptors(const struct recorder *recorder, const struct hymn_vk_step *step, VkDescriptorSet set) {
    VkDescriptorBufferInfo buffers[HYMN_VK_MAX_BINDINGS];
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set,
        .descriptorCount = step->binding_count, // runs on into the bindings that follow
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = buffers,
    };
    for (uint32_t i = 0; i < step->binding_count; i++) {
        const struct hymn_vk_binding *binding = &step->bindings[i];
        buffers[i] =
            (VkDescriptorBufferInfo){recorder->params->buffers[binding->role]->handle, binding->offset, binding->bytes};
    }
    if (step->binding_count > 0) {
        recorder->device->table.vkUpdateDescriptorSets(recorder->device->handle, 1, &write, 0, NULL);
    }
}

static void bind(const struct recorder *recorder, uint32_t index) {
    struct hymn_vk_device *device = recorder->device;
    const struct hymn_vk_step *step = &recorder->params->steps[index];
    const struct hymn_vk_pipeline *pipeline = hymn_vk_pipeline_find(device, step);
    VkCommandBuffer buffer = recorder->buffer;
    VkDescriptorSet set = recorder->command->sets[index];
    device->table.vkCmdBindPipeline(buffer, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
    if (step->binding_count > 0) {
        device->table.vkCmdBindDescriptorSets(buffer, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->layout, 0, 1, &set, 0,
                                              NULL);
    }
    if (step->push_bytes > 0) {
        device->table.vkCmdPushConstants(buffer, pipeline->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, step->push_bytes,
                                         step->push);
    }
}

static void record_slice(const struct recorder *recorder, const struct hymn_vk_step *step, uint32_t slice) {
    uint32_t base[3] = {0}, groups[3] = {step->groups[0], step->groups[1], step->groups[2]};
    if (step->slices <= 1) {
        recorder->device->table.vkCmdDispatch(recorder->buffer, groups[0], groups[1], groups[2]);
        return;
    }
    uint32_t axis = hymn_vk_step_axis(step);
    hymn_vk_step_slice(step, slice, &base[axis], &groups[axis]);
    recorder->device->table.vkCmdDispatchBase(recorder->buffer, base[0], base[1], base[2], groups[0], groups[1],
                                              groups[2]);
}

static void record_copy(const struct recorder *recorder, const struct hymn_vk_step *step) {
    const struct hymn_vk_binding *source = &step->bindings[0], *destination = &step->bindings[1];
    VkBufferCopy region = {source->offset, destination->offset, destination->bytes};
    recorder->device->table.vkCmdCopyBuffer(recorder->buffer, recorder->params->buffers[source->role]->handle,
                                            recorder->params->buffers[destination->role]->handle, 1, &region);
}

static void record_timestamp(const struct recorder *recorder, uint32_t query) {
    recorder->device->table.vkCmdWriteTimestamp(recorder->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                                                recorder->command->queries, query);
}

static void record_label(const struct recorder *recorder, const struct hymn_vk_step *step) {
    const struct hymn_vk_instance_table *table = &recorder->device->instance->table;
    if (table->vkCmdBeginDebugUtilsLabelEXT && step) {
        VkDebugUtilsLabelEXT label = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_LABEL_EXT, .pLabelName = step->name};
        table->vkCmdBeginDebugUtilsLabelEXT(recorder->buffer, &label);
    } else if (table->vkCmdEndDebugUtilsLabelEXT && !step) {
        table->vkCmdEndDebugUtilsLabelEXT(recorder->buffer);
    }
}

// A new command buffer. It begins with waiting for everything before it; what the host wrote needs no barrier: a
// submission makes it visible.
static enum hymn_status begin_buffer(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    enum hymn_status status = add_buffer(recorder);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const char *name = recorder->params->name ? recorder->params->name : "program";
    hymn_vk_name(device, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)recorder->buffer, name);
    VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    };
    VkResult result = device->table.vkBeginCommandBuffer(recorder->buffer, &info);
    if (result != VK_SUCCESS) {
        return hymn_vk_result(device, result, "vkBeginCommandBuffer");
    }
    hymn_vk_hazards_clear(&recorder->hazards);
    barrier(recorder, STAGES, STAGES, true);
    recorder->seconds = 0.0;
    return HYMN_STATUS_OK;
}

static enum hymn_status end_buffer(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    recorder->command->seconds[recorder->command->buffer_count - 1] = recorder->seconds;
    VkResult result = device->table.vkEndCommandBuffer(recorder->buffer);
    return hymn_vk_result(device, result, "vkEndCommandBuffer");
}

// Goes on in another command buffer where this one would hold too much.
static enum hymn_status make_room(struct recorder *recorder, double seconds) {
    enum hymn_status status = HYMN_STATUS_OK;
    if (recorder->seconds > 0.0 && recorder->seconds + seconds > recorder->device->submission_seconds) {
        status = end_buffer(recorder);
        status = status == HYMN_STATUS_OK ? begin_buffer(recorder) : status;
    }
    recorder->seconds += seconds;
    return status;
}

static enum hymn_status record_step(struct recorder *recorder, uint32_t index) {
    const struct hymn_vk_step *step = &recorder->params->steps[index];
    bool timed = recorder->command->query_count > 2, copy = step->kind == HYMN_VK_STEP_COPY;
    uint32_t slices = step->slices > 1 ? step->slices : 1;
    enum hymn_status status = HYMN_STATUS_OK;
    if (!copy) {
        write_descriptors(recorder, step, recorder->command->sets[index]);
    }
    for (uint32_t i = 0; i < slices && status == HYMN_STATUS_OK; i++) {
        status = make_room(recorder, step->seconds / slices);
        if (status != HYMN_STATUS_OK) {
            return status;
        }
        if (i == 0 || recorder->hazards.count == 0) { // slices do not depend on each other
            record_barrier(recorder, step);
        }
        record_label(recorder, step);
        if (timed && i == 0) {
            record_timestamp(recorder, 2 + 2 * index);
        }
        if (copy) {
            record_copy(recorder, step);
        } else {
            bind(recorder, index);
            record_slice(recorder, step, i);
        }
        if (timed && i + 1 == slices) {
            record_timestamp(recorder, 2 + 2 * index + 1);
        }
        record_label(recorder, NULL);
    }
    return status;
}

static bool writes_readback(const struct hymn_vk_record_params *params) {
    bool found = false;
    for (uint32_t i = 0; i < params->count && params->buffers[HYMN_VK_ROLE_READBACK]; i++) {
        struct hymn_vk_access accesses[HYMN_VK_MAX_BINDINGS];
        uint32_t count = list_accesses(params, &params->steps[i], accesses);
        for (uint32_t j = 0; j < count; j++) {
            found = found || (accesses[j].write && accesses[j].buffer == canonical_role(params, HYMN_VK_ROLE_READBACK));
        }
    }
    return found;
}

static enum hymn_status record_all(struct recorder *recorder) {
    struct hymn_vk_device *device = recorder->device;
    struct hymn_vk_command *command = recorder->command;
    command->buffer_count = 0;
    enum hymn_status status = begin_buffer(recorder);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    if (command->query_count > 0) {
        device->table.vkCmdResetQueryPool(recorder->buffer, command->queries, 0, command->query_count);
        record_timestamp(recorder, 0);
    }
    for (uint32_t i = 0; i < recorder->params->count && status == HYMN_STATUS_OK; i++) {
        status = record_step(recorder, i);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    if (command->query_count > 0) {
        record_timestamp(recorder, 1);
    }
    if (writes_readback(recorder->params)) {
        barrier(recorder, recorder->stages, VK_PIPELINE_STAGE_HOST_BIT, true);
    }
    return end_buffer(recorder);
}

enum hymn_status hymn_vk_command_record(struct hymn_vk_device *device, const struct hymn_vk_record_params *params,
                                        struct hymn_vk_command *command) {
    struct recorder recorder = {.device = device, .params = params, .command = command};
    recorder.stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    enum hymn_status status = hymn_vk_device_check(device);
    for (uint32_t i = 0; i < params->count && status == HYMN_STATUS_OK; i++) {
        status = check_step(&recorder, &params->steps[i]);
        if (params->steps[i].kind == HYMN_VK_STEP_COPY) {
            recorder.stages = STAGES;
        }
    }
    if (status == HYMN_STATUS_OK) {
        status = ensure_pool(&recorder);
    }
    if (status == HYMN_STATUS_OK) {
        status = ensure_sets(&recorder);
    }
    if (status == HYMN_STATUS_OK) {
        status = ensure_queries(&recorder);
    }
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    command->step_count = params->count;
    command->barrier_count = 0;
    return record_all(&recorder);
}

void hymn_vk_command_destroy(struct hymn_vk_device *device, struct hymn_vk_command *command) {
    device->table.vkDestroyQueryPool(device->handle, command->queries, NULL);
    device->table.vkDestroyDescriptorPool(device->handle, command->descriptor_pool, NULL);
    device->table.vkDestroyCommandPool(device->handle, command->pool, NULL);
    hymn_free(command->sets);
    hymn_free(command->binding_counts);
    hymn_free(command->buffers);
    hymn_free(command->seconds);
    memset(command, 0, sizeof *command);
}
