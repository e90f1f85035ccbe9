// SPDX-License-Identifier: MIT
//
// How slow a device has been found to be, kept in the store.
#ifndef HYMN_VK_SLOWNESS_H
#define HYMN_VK_SLOWNESS_H

#include "vk/device.h"

// What an earlier process has measured, or 1.
void hymn_vk_slowness_load(struct hymn_vk_device *device);
// A run whose estimate with slowness 1 was `estimate` seconds took `measured` (negative: unknown). Sets
// device->slowness, by which work recorded from now on is divided.
void hymn_vk_slowness_measure(struct hymn_vk_device *device, double estimate, double measured);
// A run of that estimate has lost the device, which may be what a desktop system does to one that is slower than
// thought: if its submissions were long enough for that, the next device divides them more finely. Written to disk at
// once. Of several runs that say so the first counts.
void hymn_vk_slowness_lost(struct hymn_vk_device *device, double estimate);

#endif
