// SPDX-License-Identifier: MIT
//
// Which signals are caught, and which are left to whoever started the program.
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "interrupt.h"

static void (*handler_of(int number))(int) {
    struct sigaction action;
    assert_int_equal(sigaction(number, NULL, &action), 0);
    return action.sa_handler;
}

static void what_is_ignored_stays_so(void **state) {
    (void)state;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    interrupt_catch();
    raise(SIGINT);
    raise(SIGTERM);
    raise(SIGHUP);
    assert_false(interrupt_seen());
    assert_true(handler_of(SIGINT) == SIG_IGN);
}

static void the_first_is_seen_and_a_second_ends(void **state) {
    (void)state;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    interrupt_catch();
    assert_false(interrupt_seen());
    raise(SIGINT);
    assert_true(interrupt_seen());
    assert_true(handler_of(SIGINT) == SIG_DFL);
    raise(SIGTERM);
    assert_true(handler_of(SIGTERM) == SIG_DFL);
}

// A terminal that is closed: from its shell, and when that ends.
static void hangups_are_one(void **state) {
    (void)state;
    raise(SIGHUP);
    raise(SIGHUP);
    assert_true(interrupt_seen());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_ignored_stays_so),
        cmocka_unit_test(the_first_is_seen_and_a_second_ends),
        cmocka_unit_test(hangups_are_one),
    };
    return cmocka_run_group_tests_name("cli_interrupt", tests, NULL, NULL);
}
