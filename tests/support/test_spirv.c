// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "support/test_spirv.h"

enum { // of the specification, version 1.6
    OP_TYPE_BOOL = 20,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT_TRUE = 41,
    OP_CONSTANT_FALSE = 42,
    OP_CONSTANT = 43,
    OP_SPEC_CONSTANT_TRUE = 48,
    OP_SPEC_CONSTANT_FALSE = 49,
    OP_SPEC_CONSTANT = 50,
    OP_SPEC_CONSTANT_COMPOSITE = 51,
    OP_SPEC_CONSTANT_OP = 52,
    OP_FUNCTION = 54,
    OP_VARIABLE = 59,
    OP_DECORATE = 71,
    OP_COMPOSITE_EXTRACT = 81,
    OP_I_ADD = 128,
    OP_I_SUB = 130,
    OP_I_MUL = 132,
    OP_U_DIV = 134,
    OP_U_MOD = 137,
    OP_LOGICAL_OR = 166,
    OP_LOGICAL_AND = 167,
    OP_LOGICAL_NOT = 168,
    OP_SELECT = 169,
    OP_I_EQUAL = 170,
    OP_I_NOT_EQUAL = 171,
    OP_U_GREATER_THAN = 172,
    OP_U_GREATER_THAN_EQUAL = 174,
    OP_U_LESS_THAN = 176,
    OP_U_LESS_THAN_EQUAL = 178,
    SPEC_ID = 1,
    STORAGE_WORKGROUP = 4,
    BOOL_BYTES = 4, // as drivers have it: the specification leaves it open
    MOST_IDS = 16384
};

static const uint32_t *made[MOST_IDS]; // by id: the instruction that makes it
static int32_t constant_of[MOST_IDS];  // its specialization constant; -1: none
static const uint32_t *given;          // these constants
static uint32_t given_count;
static uint32_t found[MOST_IDS]; // values of constants, with those that are given
static bool is_found[MOST_IDS];

static uint32_t opcode(const uint32_t *at) {
    return at[0] & 0xFFFF;
}

static uint32_t value_of(uint32_t id);

static uint32_t compute_binary(uint32_t operation, uint32_t a, uint32_t b) {
    assert_true((operation != OP_U_DIV && operation != OP_U_MOD) || b > 0);
    switch (operation) {
    case OP_I_ADD:
        return a + b;
    case OP_I_SUB:
        return a - b;
    case OP_I_MUL:
        return a * b;
    case OP_U_DIV:
        return a / b;
    case OP_U_MOD:
        return a % b;
    case OP_LOGICAL_OR:
        return a || b;
    case OP_LOGICAL_AND:
        return a && b;
    case OP_I_EQUAL:
        return a == b;
    case OP_I_NOT_EQUAL:
        return a != b;
    case OP_U_GREATER_THAN:
        return a > b;
    case OP_U_GREATER_THAN_EQUAL:
        return a >= b;
    case OP_U_LESS_THAN:
        return a < b;
    case OP_U_LESS_THAN_EQUAL:
        return a <= b;
    default:
        fail_msg("operation %u of a size is not known here", operation);
        return 0;
    }
}

// Of an OpSpecConstantOp: operation, operands.
static uint32_t compute(const uint32_t *words) {
    switch (words[0]) {
    case OP_SELECT:
        return value_of(words[1]) ? value_of(words[2]) : value_of(words[3]);
    case OP_COMPOSITE_EXTRACT:
        assert_int_equal(opcode(made[words[1]]), OP_SPEC_CONSTANT_COMPOSITE);
        return value_of(made[words[1]][3 + words[2]]);
    case OP_LOGICAL_NOT:
        return !value_of(words[1]);
    default:
        return compute_binary(words[0], value_of(words[1]), value_of(words[2]));
    }
}

static uint32_t find_value(uint32_t id) {
    const uint32_t *at = made[id];
    assert_non_null(at);
    if (constant_of[id] >= 0 && (uint32_t)constant_of[id] < given_count) {
        return given[constant_of[id]];
    }
    switch (opcode(at)) {
    case OP_CONSTANT_TRUE:
    case OP_SPEC_CONSTANT_TRUE:
        return 1;
    case OP_CONSTANT_FALSE:
    case OP_SPEC_CONSTANT_FALSE:
        return 0;
    case OP_CONSTANT:
    case OP_SPEC_CONSTANT:
        return at[3];
    case OP_SPEC_CONSTANT_OP:
        return compute(at + 3);
    default:
        fail_msg("constant of instruction %u is not known here", opcode(at));
        return 0;
    }
}

static uint32_t value_of(uint32_t id) {
    if (!is_found[id]) {
        found[id] = find_value(id);
        is_found[id] = true;
    }
    return found[id];
}

static uint64_t size_of(uint32_t type) {
    const uint32_t *at = made[type];
    assert_non_null(at);
    switch (opcode(at)) {
    case OP_TYPE_BOOL:
        return BOOL_BYTES;
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
        return at[2] / 8;
    case OP_TYPE_VECTOR:
        return at[3] * size_of(at[2]);
    case OP_TYPE_ARRAY:
        return value_of(at[3]) * size_of(at[2]);
    default:
        fail_msg("type of instruction %u is not known here", opcode(at));
        return 0;
    }
}

// Types, constants and variables of workgroups are before the first function.
static void index_code(const struct hymn_shader *shader) {
    const uint32_t *end = shader->code + shader->code_bytes / 4, bound = shader->code[3];
    assert_in_range(bound, 1, MOST_IDS);
    memset(made, 0, bound * sizeof *made);
    memset(constant_of, -1, bound * sizeof *constant_of);
    for (const uint32_t *at = shader->code + 5; at < end && opcode(at) != OP_FUNCTION; at += at[0] >> 16) {
        const uint32_t op = opcode(at);
        if (op >= OP_TYPE_BOOL && op <= OP_TYPE_POINTER) {
            made[at[1]] = at;
        } else if ((op >= OP_CONSTANT_TRUE && op <= OP_SPEC_CONSTANT_OP) || op == OP_VARIABLE) {
            made[at[2]] = at;
        } else if (op == OP_DECORATE && at[2] == SPEC_ID) {
            constant_of[at[1]] = (int32_t)at[3];
        }
    }
}

uint64_t test_spirv_shared_bytes(const struct hymn_shader *shader, const uint32_t *constants, uint32_t count) {
    uint64_t sum = 0;
    index_code(shader);
    given = constants;
    given_count = count;
    memset(is_found, 0, shader->code[3] * sizeof *is_found);
    for (uint32_t id = 0; id < shader->code[3]; id++) {
        if (made[id] && opcode(made[id]) == OP_VARIABLE && made[id][3] == STORAGE_WORKGROUP) {
            sum += size_of(made[made[id][1]][3]);
        }
    }
    return sum;
}
