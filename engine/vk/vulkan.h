// SPDX-License-Identifier: MIT
//
// The one way in which the engine includes Vulkan: types and volk's per-device table, no prototypes. The global
// function pointers that volk declares must not be used: they belong to whichever instance or device loaded them last.
#ifndef HYMN_VK_VULKAN_H
#define HYMN_VK_VULKAN_H

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES
#endif
#include <volk.h>

#endif
