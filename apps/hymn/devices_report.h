// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_DEVICES_REPORT_H
#define HYMN_APP_DEVICES_REPORT_H

#include "common.h"

struct devices_report_options {
    const struct common *common; // its device: as of --device; NULL or "": all of them
    bool quick;                  // see survey_device
    bool selftest;               // run it too
    uint32_t runs;               // of each of its problems; 0: as hymn_selftest_params
};

// `hymn devices --report`: one JSON document on standard output, with an entry for every device, those that cannot be
// used too ("usable" and "reason"). CODE_ENGINE: there is no device, one cannot be used or opened, a pipeline not
// be made, or a variant fails the self-test; the rest is in the document.
enum exit_code devices_report(const struct devices_report_options *options);

#endif
