// SPDX-License-Identifier: MIT
//
// main() of an operator's tests: opens the context that they and the benchmark use, and closes it.
#ifndef HYMN_TESTS_OP_MAIN_H
#define HYMN_TESTS_OP_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/test_context.h"

struct op_program {
    const char *name;
    struct hymn_context **context;
    const struct CMUnitTest *tests;
    size_t test_count;
    // In place of the tests where the first argument begins with --bench; arguments from that on. NULL: none.
    int (*bench)(int count, char **arguments);
};

// The exit status: not 0 as well where validation had anything to say.
int op_main(int count, char **arguments, const struct op_program *program);

// Of a benchmark's arguments, a number, or `otherwise` where there are not so many.
uint32_t op_number(int count, char **arguments, int index, uint32_t otherwise);

#endif
