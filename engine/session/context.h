// SPDX-License-Identifier: MIT
#ifndef HYMN_SESSION_CONTEXT_H
#define HYMN_SESSION_CONTEXT_H

#include "vk/device.h"

struct hymn_context {
    struct hymn_vk_device *device;
};

#endif
