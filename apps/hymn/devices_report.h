// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_DEVICES_REPORT_H
#define HYMN_APP_DEVICES_REPORT_H

#include "common.h"

struct devices_report_options {
    const char *device; // as of --device; NULL: all of them
    bool quick;         // see survey_device
    bool selftest;      // run it too
};

// `hymn devices --report`: one JSON document on standard output. CODE_ENGINE: a device cannot be opened, a pipeline not
// be made, or a variant fails the self-test; the rest is in the document.
enum exit_code devices_report(const struct devices_report_options *options);

#endif
