// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_SELFTEST_H
#define HYMN_APP_SELFTEST_H

#include <jansson.h>

#include <hymn/hymn.h>

// hymn_selftest_create, with a progress bar. runs: of each problem; 0: as many as it does by itself. names: parts of
// the names of variants; none: all.
enum hymn_status selftest_run(struct hymn_context *context, uint32_t runs, char *const *names, uint32_t name_count,
                              struct hymn_selftest **out_selftest);
// An array with one object for each variant.
json_t *selftest_json(const struct hymn_selftest *selftest);
// How many variants failed.
uint32_t selftest_failures(const struct hymn_selftest *selftest);

#endif
