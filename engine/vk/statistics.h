// SPDX-License-Identifier: MIT
//
// What a driver tells about a pipeline that it has compiled (VK_KHR_pipeline_executable_properties).
#ifndef HYMN_VK_STATISTICS_H
#define HYMN_VK_STATISTICS_H

#include "vk/device.h"
#include "vk/program.h"

enum { HYMN_VK_MAX_STATISTICS = 64 };

struct hymn_vk_statistic {
    char name[64]; // the driver's own word
    double value;
};

struct hymn_vk_statistics {
    uint32_t subgroup_size; // that the pipeline runs with; 0: it varies
    uint32_t count;
    struct hymn_vk_statistic items[HYMN_VK_MAX_STATISTICS];
    // The same in words that are common to drivers; negative: the driver does not tell.
    double registers;     // of an invocation, in the driver's own unit (a Turnip register is a vector of four)
    double spills;        // to memory: registers, or stores of registers
    double scratch_bytes; // of an invocation: spilled registers and arrays that are no registers
    double shared_bytes;  // of a workgroup
    double instructions;  // of the program, not executed ones
};

// Of the step's pipeline, prepared on a device of hymn_vk_device_create_inspected. Empty where the device or the driver
// tells nothing. OUT_OF_MEMORY, INTERNAL; the step's pipeline not being there is INTERNAL.
enum hymn_status hymn_vk_statistics_read(struct hymn_vk_device *device, const struct hymn_vk_step *step,
                                         struct hymn_vk_statistics *out_statistics);

// Fills the common words from the items. Pure.
void hymn_vk_statistics_translate(struct hymn_vk_statistics *statistics);

#endif
