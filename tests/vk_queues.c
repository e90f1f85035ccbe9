// SPDX-License-Identifier: MIT
//
// The choice of queue families, on made-up devices; and when an upload goes ahead by itself. No Vulkan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vk/queues.h"
#include "vk/upload.h"

#define COPY VK_QUEUE_TRANSFER_BIT
#define COMPUTE VK_QUEUE_COMPUTE_BIT
#define ALL (VK_QUEUE_GRAPHICS_BIT | COMPUTE | COPY | VK_QUEUE_SPARSE_BINDING_BIT)
#define VIDEO_DECODE 0x20u // of VK_KHR_video_queue, which older headers lack
#define VIDEO_ENCODE 0x40u
#define OPTICAL_FLOW 0x100u

struct families {
    const char *name;
    uint32_t count;
    struct {
        VkQueueFlags flags;
        uint32_t queues;
    } of[8];
    uint32_t compute, transfer;
};

static const struct families devices[] = {
    {"nothing", 0, {{0}}, HYMN_VK_NO_FAMILY, HYMN_VK_NO_FAMILY},
    {"one that does all", 1, {{ALL, 1}}, 0, HYMN_VK_NO_FAMILY},
    {"compute implies copies, told or not", 1, {{COMPUTE, 1}}, 0, HYMN_VK_NO_FAMILY},
    {"graphics and compute apart", 2, {{ALL, 1}, {COMPUTE | COPY, 4}}, 1, HYMN_VK_NO_FAMILY},
    {"an AMD desktop", 3, {{ALL, 1}, {COMPUTE | COPY, 4}, {COPY | VK_QUEUE_SPARSE_BINDING_BIT, 2}}, 1, 2},
    {"an NVIDIA desktop",
     6,
     {{ALL, 16},
      {COPY | VK_QUEUE_SPARSE_BINDING_BIT, 2},
      {COMPUTE | COPY | VK_QUEUE_SPARSE_BINDING_BIT, 8},
      {COPY | VIDEO_DECODE, 1},
      {COPY | VIDEO_ENCODE, 1},
      {COPY | OPTICAL_FLOW, 1}},
     2,
     1},
    {"video units only", 3, {{ALL, 1}, {COPY | VIDEO_DECODE, 1}, {COPY | VIDEO_ENCODE, 1}}, 0, HYMN_VK_NO_FAMILY},
    {"copies first", 3, {{COPY, 1}, {COPY, 1}, {ALL, 1}}, 2, 0},
    {"families without queues", 4, {{COPY, 0}, {COMPUTE, 0}, {ALL, 1}, {COPY | VK_QUEUE_PROTECTED_BIT, 1}}, 2, 3},
    {"sparse binding alone copies nothing", 2, {{ALL, 1}, {VK_QUEUE_SPARSE_BINDING_BIT, 1}}, 0, HYMN_VK_NO_FAMILY},
    {"graphics without compute", 2, {{VK_QUEUE_GRAPHICS_BIT | COPY, 1}, {COMPUTE, 1}}, 1, HYMN_VK_NO_FAMILY},
    {"more queues than are opened", 1, {{ALL, 16}}, 0, HYMN_VK_NO_FAMILY},
    {"copies without compute", 1, {{COPY, 1}}, HYMN_VK_NO_FAMILY, 0},
};

static void families_are_chosen(void **state) {
    (void)state;
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        const VkExtent3D granularities[3] = {{1, 1, 1}, {0, 0, 0}, {16, 16, 8}};
        for (int g = 0; g < 3; g++) { // of images: all the same to buffers
            VkQueueFamilyProperties families[8] = {{0}};
            for (uint32_t i = 0; i < devices[d].count; i++) {
                families[i] = (VkQueueFamilyProperties){
                    .queueFlags = devices[d].of[i].flags,
                    .queueCount = devices[d].of[i].queues,
                    .timestampValidBits = i % 2 ? 0 : 64,
                    .minImageTransferGranularity = granularities[g],
                };
            }
            struct hymn_vk_queues queues = hymn_vk_queues_choose(families, devices[d].count);
            uint32_t there = devices[d].compute == HYMN_VK_NO_FAMILY ? 0 : devices[d].of[devices[d].compute].queues;
            uint32_t count = there < HYMN_VK_MAX_QUEUES ? there : HYMN_VK_MAX_QUEUES;
            if (queues.compute != devices[d].compute || queues.compute_count != count ||
                queues.transfer != devices[d].transfer) {
                fail_msg("%s: compute %d with %u queues, transfer %d", devices[d].name, (int)queues.compute,
                         queues.compute_count, (int)queues.transfer);
            }
        }
    }
}

static void uploads_go_ahead_where_it_pays(void **state) {
    (void)state;
    const uint64_t enough = HYMN_VK_UPLOAD_BYTES;
    struct hymn_vk_device device = {.transfer = HYMN_TRANSFER_AUTO};
    int queue;
    assert_false(hymn_vk_upload_apart(&device, 100 * enough, true)); // a lent device, say, has no second queue
    device.transfer = HYMN_TRANSFER_ON;
    assert_false(hymn_vk_upload_apart(&device, 100 * enough, true));
    device.transfer = HYMN_TRANSFER_AUTO;
    device.transfer_queue = (VkQueue)(void *)&queue;
    assert_true(hymn_vk_upload_apart(&device, enough, true));
    assert_false(hymn_vk_upload_apart(&device, enough - 1, true));
    assert_false(hymn_vk_upload_apart(&device, 100 * enough, false)); // a single run
    assert_false(hymn_vk_upload_apart(&device, 0, true));
    device.transfer = HYMN_TRANSFER_ON;
    assert_true(hymn_vk_upload_apart(&device, 1, false));
    assert_false(hymn_vk_upload_apart(&device, 0, true)); // nothing to upload
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_chosen),
        cmocka_unit_test(uploads_go_ahead_where_it_pays),
    };
    return cmocka_run_group_tests_name("vk_queues", tests, NULL, NULL);
}
