// SPDX-License-Identifier: MIT
#include "support/op_main.h"

#include <stdlib.h>
#include <string.h>

int op_main(int count, char **arguments, const struct op_program *program) {
    *program->context = test_context_open();
    if (!*program->context) {
        return 1;
    }
    int failed;
    if (program->bench && count > 1 && strncmp(arguments[1], "--bench", 7) == 0) {
        failed = program->bench(count - 1, arguments + 1);
    } else {
        failed = _cmocka_run_group_tests(program->name, program->tests, program->test_count, NULL, NULL);
    }
    return test_context_close(program->context) != 0 || failed;
}

uint32_t op_number(int count, char **arguments, int index, uint32_t otherwise) {
    return index < count ? (uint32_t)strtoul(arguments[index], NULL, 10) : otherwise;
}
