// SPDX-License-Identifier: MIT
//
// Which tiles of the convolution on matrix units the rules choose. Nothing of this runs on a device.
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_tile.h"
#include "support/op_main.h"
#include "support/test_conv.h"

static struct hymn_context *context;

// Of a GPU whose shared memory is as large as those of many.
static struct hymn_vk_plan gpu_plan(void) {
    struct hymn_vk_plan plan = test_conv_matrix_plan(context);
    plan.cpu = false;
    plan.needs_met |= HYMN_NEEDS_COOPERATIVE_MATRIX | HYMN_NEEDS_HALF_SUMS | HYMN_NEEDS_SUBGROUP_SHUFFLE;
    plan.matrix = (struct hymn_vk_matrix){16, 16, 16, 1};
    plan.subgroup_size = 32;
    plan.max_invocations = 512;
    plan.max_shared_bytes = 49152;
    return plan;
}

// The rule's tiles are valid on devices of every matrix shape.
static void test_choice(void **state) {
    (void)state;
    static const struct hymn_vk_matrix shapes[] = {{16, 16, 16, 0}, {8, 8, 8, 0},    {16, 8, 16, 0},
                                                   {8, 8, 16, 0},   {16, 16, 32, 0}, {32, 8, 16, 0}};
    struct test_random random = test_random_start("op_conv2d_choice choice");
    for (size_t i = 0; i < 600; i++) {
        const uint32_t kernels[][3] = {{3}, {1}, {2}, {3, 3}, {3, 1}, {3, 1, 1}};
        struct test_conv_case c = test_conv_random_case(&random, kernels[i % 6]);
        c.parts[0] = test_random_range(&random, 1, 600);
        c.prologue = c.term_count == 1 && c.kernels[0] < 3 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = context->device->plan;
        plan.needs_met |= HYMN_NEEDS_COOPERATIVE_MATRIX | (i % 2 ? HYMN_NEEDS_HALF_SUMS : 0);
        plan.cpu = plan.weights_f32 = false;
        plan.matrix = shapes[i / 6 % 6];
        plan.subgroup_size = 8u << test_random_range(&random, 0, 3);
        plan.max_invocations = 512;
        plan.max_shared_bytes = 32768u << test_random_range(&random, 0, 1);
        plan.target_lanes = 64u << test_random_range(&random, 0, 11);
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        if (!hymn_conv2d_matrix_valid(&b.graph, b.node, &plan, &tile)) {
            test_conv_print(&c, "choice");
            print_error("matrix %ux%ux%u, subgroup %u, shared %u: %ux%u %u, %ux%u, taps %u, depth %u, x%u, /%u\n",
                        plan.matrix.m, plan.matrix.n, plan.matrix.k, plan.subgroup_size, plan.max_shared_bytes,
                        tile.width, tile.height, tile.channels, tile.rows, tile.columns, tile.taps, tile.depth,
                        tile.buffers, tile.splits);
            fail();
        }
        test_conv_destroy(&b);
    }
}

// Large tiles of few channels where there are enough of them for the device, the others where not.
static void test_large_choice(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_choice large choice");
    for (uint32_t round = 0; round < 8; round++) {
        const bool enough = round % 2, many = round / 2 % 2, point = round / 4; // channels; a 1x1 beside
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, point ? 1 : 0});
        c.batch = 2, c.height = 32, c.width = 48;
        c.channels[0] = 64, c.channels[1] = 24;
        c.parts[0] = many ? 128 : 64, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        c.prologue = HYMN_PROLOGUE_NONE;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.target_lanes = 512 * (2 * 2 * 3 * 2 + !enough); // 2 images of 2 x 3 tiles, by two
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(tile.width * tile.height == 256, enough);
        if (enough) {
            assert_int_equal(tile.channels, many ? 64 : 32);
            assert_int_equal(tile.taps, 3);
        }
        plan.target_lanes = 512 * 2 * 2 * 3; // enough of 64 channels
        tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_true(tile.channels == 64 && tile.width * tile.height == 256);
        test_conv_destroy(&b);
    }
}

// Where the kernel that streams cannot be: several terms, a margin, f32, channels that leave a cell's end to the norm,
// more workgroups than passes.
static void test_stream_left_alone(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_conv2d_choice stream left alone");
    struct hymn_vk_plan plan = gpu_plan();
    for (uint32_t round = 0; round < 8; round++) {
        struct test_conv_case c = test_conv_random_case(&random, round == 1 ? (const uint32_t[3]){1, 1}
                                                                            : (const uint32_t[3]){round == 2 ? 3 : 1});
        c.channels[0] = round == 3 ? 30 : 32;
        c.parts[0] = 160;
        c.residual = 0;
        c.prologue = round == 3 || round == 4 ? HYMN_PROLOGUE_NORM : HYMN_PROLOGUE_NONE;
        c.output = round == 5 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
        c.activation = round == 6 ? HYMN_ACTIVATION_SILU : HYMN_ACTIVATION_NONE;
        struct hymn_conv2d_tile tile = {128, 1, 32, 4, round == 7 ? 6 : 5, 1, 4, 0, 1};
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        assert_int_equal(hymn_conv2d_matrix_valid(&b.graph, b.node, &plan, &tile), round == 0 || round == 4);
        // By rule where two workgroups a multiprocessor have work, and five passes.
        plan.target_lanes = 512 * (3 * hymn_divide_up(c.batch * c.height * c.width, 128));
        tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(tile.buffers == 0, round == 0 || round == 4 || round == 7);
        plan.target_lanes *= 2;
        tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_true(tile.buffers > 0);
        test_conv_destroy(&b);
    }
}

// Where that kernel is by rule, with walks as long as there are enough of them, and where it cannot be: another kernel
// than 3, a third source, f32, more channels than there may be, subgroups that share pixels with a resized residual.
static void test_rows_choice(void **state) {
    (void)state;
    static const struct {
        uint32_t kernels[3], in, out, residual, columns; // columns: of the rule's tile, 0: another kernel's
        enum hymn_storage output;
    } rounds[] = {
        {{3, 1}, 32, 32, 1, 1, HYMN_STORAGE_F16}, {{3, 1}, 32, 32, 2, 1, HYMN_STORAGE_F16},
        {{3, 1}, 40, 24, 1, 2, HYMN_STORAGE_F16}, {{3, 1}, 32, 64, 0, 4, HYMN_STORAGE_F16},
        {{3}, 64, 40, 1, 3, HYMN_STORAGE_F16},    {{3, 1}, 32, 40, 2, 0, HYMN_STORAGE_F16},
        {{3}, 72, 32, 1, 0, HYMN_STORAGE_F16},    {{3}, 32, 72, 1, 0, HYMN_STORAGE_F16},
        {{1}, 32, 32, 1, 0, HYMN_STORAGE_F16},    {{3, 1, 1}, 32, 32, 1, 0, HYMN_STORAGE_F16},
        {{3, 1}, 32, 32, 1, 0, HYMN_STORAGE_F32},
    };
    struct test_random random = test_random_start("op_conv2d_choice rows choice");
    struct hymn_vk_plan plan = gpu_plan();
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
        struct test_conv_case c = test_conv_random_case(&random, rounds[i].kernels);
        c.height = 128, c.width = 64;
        c.channels[0] = rounds[i].in, c.channels[1] = rounds[i].kernels[1] ? 32 : 0;
        c.parts[0] = rounds[i].out, c.parts[1] = 0, c.part_count = 1;
        c.residual = rounds[i].residual;
        c.output = rounds[i].output;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        const uint32_t columns = rounds[i].columns, across = columns > 2 ? 2 : 1;
        const uint32_t least = columns > 1 ? 16 : 32;
        for (uint32_t height = 64; height >= least; height /= 2) { // so many walks, or twice as many with a shorter one
            const uint32_t walks = c.batch * across * (128 / height);
            plan.target_lanes = 512 * (height > least ? walks / 2 : walks);
            struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
            assert_int_equal(hymn_conv2d_walks(&tile), columns > 0);
            assert_true(columns == 0 || (tile.height == height && tile.columns == columns));
        }
        plan.target_lanes = 512 * (c.batch * across * (128 / least) + 1);
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_false(hymn_conv2d_walks(&tile));
        test_conv_destroy(&b);
    }
}

// Tiles of 128 pixels and 64 channels, in eight subgroups, where at least half as many as fill the device are there,
// and no more than do.
static void test_whole_choice(void **state) {
    (void)state;
    static const struct hymn_conv2d_tile whole = {16, 8, 64, 4, 2, 3, 4, 1, 1};
    struct test_random random = test_random_start("op_conv2d_choice whole");
    for (uint32_t round = 0; round < 8; round++) {
        const uint32_t target = 24 + (round % 2 ? 24 : 25);  // 2 images of 3 x 4 tiles
        const bool point = round / 2 % 2, twice = round / 4; // channels
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3, point ? 1 : 0});
        c.batch = 2, c.height = 32, c.width = 48;
        c.channels[0] = 64, c.channels[1] = 64;
        c.parts[0] = twice ? 128 : 64, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * target;
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(memcmp(&tile, &whole, sizeof tile) == 0, target == 48 || twice);
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * (twice ? 97 : 49);
        tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_not_equal(memcmp(&tile, &whole, sizeof tile), 0);
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * 24;
        tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_not_equal(memcmp(&tile, &whole, sizeof tile), 0);
        test_conv_destroy(&b);
    }
}

// Workgroups share a tile where those are few and each has 512 of k; with a margin, where they are a quarter of what
// fills the device, 2048. Products have two buffers where workgroups are few and k is short, and in large tiles of many
// stages.
static void test_few_choice(void **state) {
    (void)state;
    static const struct {
        uint32_t kernel, size, batch, in, out, groups, splits, buffers;
    } cases[] = {
        {3, 8, 1, 256, 64, 4, 4, 1},      {3, 8, 1, 512, 64, 4, 8, 1},      {3, 32, 1, 256, 256, 128, 1, 1},
        {3, 32, 1, 400, 256, 128, 1, 1},  {3, 32, 1, 512, 256, 128, 2, 1},  {1, 16, 1, 1024, 224, 56, 2, 1},
        {1, 16, 1, 512, 224, 56, 1, 2},   {1, 32, 5, 512, 192, 240, 1, 2},  {1, 32, 8, 512, 192, 384, 1, 1},
        {1, 16, 8, 512, 2048, 256, 1, 2}, {1, 16, 8, 400, 2048, 256, 1, 1},
    };
    struct test_random random = test_random_start("op_conv2d_choice few");
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){cases[i].kernel});
        c.height = c.width = cases[i].size;
        c.batch = cases[i].batch;
        c.channels[0] = cases[i].in;
        c.parts[0] = cases[i].out, c.parts[1] = 0, c.part_count = 1;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * 256;
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        struct hymn_conv2d_problem problem = hymn_conv2d_describe(&b.graph, b.node, &plan);
        assert_int_equal(hymn_conv2d_groups(&problem, &tile), cases[i].groups);
        assert_int_equal(tile.splits, cases[i].splits);
        assert_int_equal(tile.buffers, cases[i].buffers);
        test_conv_destroy(&b);
    }
}

// Stages of three taps for small tiles of up to 32 channels, as deep as the source, and short ones for up to 16; more
// subgroups for thin sources; not where matrices are emulated.
static void test_stages_choice(void **state) {
    (void)state;
    static const struct {
        uint32_t in, out, tiles, taps, depth, rows; // channels; tiles that fill the device; of the rule's tile
        bool cpu;
    } cases[] = {
        {64, 32, 32, 3, 8, 4, false}, {64, 32, 16, 3, 4, 4, false}, {16, 32, 16, 3, 2, 4, false},
        {64, 16, 8, 3, 2, 4, false},  {3, 16, 8, 1, 4, 8, false},   {64, 32, 16, 1, 8, 4, true},
        {64, 16, 8, 3, 4, 4, true},
    };
    struct test_random random = test_random_start("op_conv2d_choice stages");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){3});
        c.batch = 1, c.height = 32, c.width = 64;
        c.channels[0] = cases[i].in;
        c.parts[0] = cases[i].out, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.cpu = cases[i].cpu;
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * cases[i].tiles; // of 64, 128 or 256 pixels
        const struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(tile.taps, cases[i].taps);
        assert_int_equal(tile.depth, cases[i].depth);
        assert_int_equal(tile.rows, cases[i].rows);
        test_conv_destroy(&b);
    }
}

// Two workgroups at most share the passes of a tile whose pixels stay, or four where each has eight.
static void test_stream_shared(void **state) {
    (void)state;
    static const struct {
        uint32_t out, fill, columns; // channels; workgroups a tile that fill the device; of the rule's tile, 0: another
    } cases[] = {{1024, 1, 1}, {1024, 2, 4}, {512, 2, 2}, {992, 2, 2}, {1024, 4, 0}, {2048, 4, 0}};
    struct test_random random = test_random_start("op_conv2d_choice stream shared");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){1});
        c.batch = 2, c.height = 16, c.width = 32; // 8 tiles
        c.channels[0] = 128;
        c.parts[0] = cases[i].out, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * 3 * 8 * cases[i].fill;
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(hymn_conv2d_streams(&tile), cases[i].columns > 0);
        assert_true(cases[i].columns == 0 || tile.columns == cases[i].columns);
        test_conv_destroy(&b);
    }
}

// Tiles of 64 pixels by 128 channels in eight subgroups for merging, where they are at most what fills the device, and
// half of it at least.
static void test_merging_choice(void **state) {
    (void)state;
    static const struct {
        uint32_t batch, in, out;
        bool wide, cpu;
    } cases[] = {{8, 256, 512, true, false},   {4, 256, 512, false, false}, {17, 256, 512, false, false},
                 {16, 256, 448, false, false}, {8, 32, 512, false, false},  {8, 256, 512, false, true}};
    struct test_random random = test_random_start("op_conv2d_choice merging");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){2});
        c.batch = cases[i].batch, c.height = c.width = 16;
        c.channels[0] = cases[i].in;
        c.parts[0] = cases[i].out, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        c.prologue = HYMN_PROLOGUE_NORM;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.cpu = cases[i].cpu;
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * 256;
        struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_int_equal(tile.channels == 128 && tile.rows == 2 && tile.columns == 4, cases[i].wide);
        assert_true(!cases[i].wide || (tile.width * tile.height == 64 && tile.depth == 8 && tile.buffers == 1));
        test_conv_destroy(&b);
    }
}

// Stages of 256 channels in one buffer for small tiles of long products, where they fit and registers hold what is
// loaded at a time; not where matrices are emulated.
static void test_deep_choice(void **state) {
    (void)state;
    static const struct {
        uint32_t in, kernel, subgroup, shared, depth, buffers; // shared: KiB
        bool cpu;
    } cases[] = {{1024, 1, 32, 48, 32, 1, false}, {992, 1, 32, 48, 16, 2, false}, {1024, 1, 32, 32, 8, 2, false},
                 {1024, 3, 32, 48, 8, 1, false},  {1024, 1, 32, 48, 16, 2, true}, {1024, 1, 64, 48, 32, 1, false},
                 {1024, 1, 8, 64, 16, 2, false}};
    struct test_random random = test_random_start("op_conv2d_choice deep");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_conv_case c = test_conv_random_case(&random, (const uint32_t[3]){cases[i].kernel});
        c.batch = 1, c.height = c.width = 16;
        c.channels[0] = cases[i].in;
        c.parts[0] = 512, c.parts[1] = 0, c.part_count = 1;
        c.residual = 0;
        struct test_conv b;
        test_conv_build(&b, &c, &random);
        struct hymn_vk_plan plan = gpu_plan();
        plan.cpu = cases[i].cpu, plan.max_shared_bytes = 1024 * cases[i].shared;
        plan.subgroup_size = cases[i].subgroup;
        plan.matrix = plan.subgroup_size < 32 ? (struct hymn_vk_matrix){8, 8, 16, 0} : plan.matrix;
        plan.target_lanes = HYMN_CONV2D_LANES_PER_GROUP * 256;
        const struct hymn_conv2d_tile tile = hymn_conv2d_matrix_choose(&b.graph, b.node, &plan);
        assert_true(tile.width * tile.height * tile.channels <= HYMN_CONV2D_SMALL_TILE);
        assert_int_equal(tile.depth, cases[i].depth);
        assert_int_equal(tile.buffers, cases[i].buffers);
        test_conv_destroy(&b);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),         cmocka_unit_test(test_large_choice),
        cmocka_unit_test(test_whole_choice),   cmocka_unit_test(test_few_choice),
        cmocka_unit_test(test_stages_choice),  cmocka_unit_test(test_stream_shared),
        cmocka_unit_test(test_merging_choice), cmocka_unit_test(test_stream_left_alone),
        cmocka_unit_test(test_rows_choice),    cmocka_unit_test(test_deep_choice),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_conv2d_choice", &context, tests, sizeof tests / sizeof *tests, NULL});
}
