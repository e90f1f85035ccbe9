// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_DEVICES_REPORT_H
#define HYMN_APP_DEVICES_REPORT_H

#include "common.h"

// `hymn devices --report`: one JSON document on standard output about the wanted device, or about all of them where
// none is wanted. quick: see survey_device. CODE_ENGINE: a device cannot be opened, or a pipeline not be made; the rest
// is in the document.
enum exit_code devices_report(const struct common *common, bool quick);

#endif
