// SPDX-License-Identifier: MIT
//
// Compute pipelines of a device, each made once per shader, specialization constants and layout.
#ifndef HYMN_VK_PIPELINE_H
#define HYMN_VK_PIPELINE_H

#include "vk/device.h"
#include "vk/program.h"

struct hymn_vk_pipeline {
    VkPipeline handle;
    VkPipelineLayout layout;
    VkDescriptorSetLayout set_layout;
};

// Makes all pipelines the steps need and that do not exist yet, on several threads. UNSUPPORTED: a shader needs what
// the device lacks (names both; the others are made all the same). OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST,
// INTERNAL (names the shader).
enum hymn_status hymn_vk_pipelines_prepare(struct hymn_vk_device *device, const struct hymn_vk_step *steps,
                                           uint32_t count);
// The step's pipeline, which lives as long as the device; NULL when it was not prepared.
const struct hymn_vk_pipeline *hymn_vk_pipeline_find(struct hymn_vk_device *device, const struct hymn_vk_step *step);
// How making the step's pipeline went, and the milliseconds that it took: VK_NOT_READY when it was not prepared.
VkResult hymn_vk_pipeline_result(struct hymn_vk_device *device, const struct hymn_vk_step *step, double *out_ms);
// Pipelines made so far, and the milliseconds that making them took.
uint32_t hymn_vk_pipelines_count(const struct hymn_vk_device *device, double *out_ms);
// Writes the pipeline cache, if making pipelines has added anything to it: a process that ends without destroying the
// device has not compiled them in vain. Quick where nothing is new. Failures are logged.
void hymn_vk_pipelines_store(struct hymn_vk_device *device);

// Called by the device.
enum hymn_status hymn_vk_pipelines_create(struct hymn_vk_device *device);
void hymn_vk_pipelines_destroy(struct hymn_vk_device *device);

#endif
