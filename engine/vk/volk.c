// SPDX-License-Identifier: MIT
//
// volk's implementation, compiled once. Only instance.c uses it.
#define VOLK_IMPLEMENTATION
#include "vk/vulkan.h"
