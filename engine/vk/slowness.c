// SPDX-License-Identifier: MIT
#include "vk/slowness.h"

#include <math.h>

#include "vk/divide.h"
#include "vk/store.h"

// What no device and no estimate can be apart.
#define MOST_SLOWNESS 1e6
// Of a submission: seconds estimated beyond which a loss may be one of time, and what the estimate was wrong by then.
#define LONG_SECONDS 0.1
#define LOST_FACTOR 4.0

static uint64_t key(void) {
    static const uint32_t version = 1; // to be raised when the plan's rates change
    return hymn_vk_store_key("slowness", &version, sizeof version);
}

void hymn_vk_slowness_load(struct hymn_vk_device *device) {
    double found;
    device->slowness = 1.0;
    if (hymn_vk_store_get(device, key(), &found, sizeof found) && isfinite(found) && found >= 1.0 / MOST_SLOWNESS &&
        found <= MOST_SLOWNESS) {
        device->slowness = found;
    }
}

static void keep(struct hymn_vk_device *device, double found) {
    device->slowness = found;
    hymn_vk_store_put(device, key(), &found, sizeof found);
}

void hymn_vk_slowness_measure(struct hymn_vk_device *device, double estimate, double measured) {
    double found = hymn_vk_slowness(device->slowness, estimate, measured, device->submission_seconds);
    found = fmin(fmax(found, 1.0 / MOST_SLOWNESS), MOST_SLOWNESS);
    if (found != device->slowness) {
        hymn_log_write(&device->log, HYMN_LOG_DEBUG, "a run of %.3g s was estimated at %.3g s", measured,
                       estimate * device->slowness);
        keep(device, found);
    }
}

void hymn_vk_slowness_lost(struct hymn_vk_device *device, double estimate) {
    const double seconds = fmin(estimate * device->slowness, device->submission_seconds);
    if (device->loss_counted || !(seconds > LONG_SECONDS)) {
        return;
    }
    device->loss_counted = true;
    hymn_log_write(&device->log, HYMN_LOG_WARNING,
                   "%s was lost by work of an estimated %.3g s: it may be slower than thought, and is given less at a "
                   "time from now on",
                   device->info.name, seconds);
    keep(device, fmin(LOST_FACTOR * device->slowness, MOST_SLOWNESS));
    hymn_vk_store_flush(device); // a host may not come to close a device that is lost
}
