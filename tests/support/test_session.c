// SPDX-License-Identifier: MIT
#include "support/test_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

struct hymn_session *test_session_open(struct hymn_context *context, const struct golden *golden,
                                       enum hymn_precision precision, enum hymn_tier tier) {
    struct hymn_session *session = NULL;
    struct hymn_session_params params = {.height = golden->height,
                                         .width = golden->width,
                                         .batch = golden->batch,
                                         .precision = precision,
                                         .tier = tier,
                                         .tuning_ms = HYMN_TUNING_NONE};
    assert_int_equal(hymn_session_create(context, golden->model, &params, &session), HYMN_STATUS_OK);
    return session;
}

float *test_session_logits(const struct golden *golden) {
    float *logits = malloc(golden->output_count * sizeof *logits);
    assert_non_null(logits);
    return logits;
}

enum hymn_status test_session_run(struct hymn_session *session, const struct golden *golden, float *logits) {
    enum { MOST_BATCH = 8 };
    struct hymn_output outputs[MOST_BATCH] = {{0}};
    assert_true(golden->batch <= MOST_BATCH);
    memset(logits, 0xFF, golden->output_count * sizeof *logits);
    for (uint32_t i = 0; i < golden->batch; i++) {
        outputs[i].logits = logits + i * (golden->output_count / golden->batch);
    }
    struct hymn_run_params params = {.tensor = golden->input, .outputs = outputs};
    return hymn_session_run(session, &params);
}
