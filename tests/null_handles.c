// SPDX-License-Identifier: MIT
//
// What the functions that return no status say of a NULL handle.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "hymn/hymn.h"

static void getters_return_nothing(void **state) {
    (void)state;
    assert_int_equal(hymn_device_list_count(NULL), 0);
    assert_int_equal(hymn_selftest_count(NULL), 0);
    assert_int_equal(hymn_context_validation_messages(NULL), 0);
    assert_null(hymn_context_device(NULL));
    assert_null(hymn_model_get_info(NULL));
    assert_null(hymn_session_get_info(NULL));
    assert_true(hymn_session_gpu_ms(NULL) == -1.0);
    assert_int_equal(hymn_summary_layer_count(NULL), 0);
    assert_int_equal(hymn_summary_activation_bytes(NULL), 0);
    assert_int_equal(hymn_summary_macs(NULL), 0);
    for (uint32_t index = 0; index < 2; index++) {
        assert_null(hymn_device_list_get(NULL, index));
        assert_null(hymn_selftest_get(NULL, index));
        assert_null(hymn_model_class_name(NULL, index));
        assert_null(hymn_summary_layer(NULL, index));
    }
}

static void destroying_nothing_is_fine(void **state) {
    (void)state;
    struct hymn_device_list *list = NULL;
    struct hymn_selftest *selftest = NULL;
    struct hymn_context *context = NULL;
    struct hymn_model *model = NULL;
    struct hymn_session *session = NULL;
    struct hymn_summary *summary = NULL;
    hymn_device_list_destroy(&list), hymn_device_list_destroy(NULL);
    hymn_selftest_destroy(&selftest), hymn_selftest_destroy(NULL);
    hymn_context_destroy(&context), hymn_context_destroy(NULL);
    hymn_model_destroy(&model), hymn_model_destroy(NULL);
    hymn_session_destroy(&session), hymn_session_destroy(NULL);
    hymn_summary_destroy(&summary), hymn_summary_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(getters_return_nothing),
        cmocka_unit_test(destroying_nothing_is_fine),
    };
    return cmocka_run_group_tests_name("null_handles", tests, NULL, NULL);
}
