// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_SELFTEST_H
#define HYMN_APP_SELFTEST_H

#include <jansson.h>

#include <hymn/hymn.h>

// An array with one object for each variant.
json_t *selftest_json(const struct hymn_selftest *selftest);
// How many variants failed.
uint32_t selftest_failures(const struct hymn_selftest *selftest);

#endif
