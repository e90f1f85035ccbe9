// SPDX-License-Identifier: MIT
//
// The selective scan against plain C in double precision: random shapes, one pass, and two and three with chunks of any
// length. --bench [BATCH] times base's scans by each method (chunk: group/tile x block, together of lanes + helpers,
// span, on matrix units; 0: its own): milliseconds, G updates/s. --races: each way in which lanes share memory, with
// few states, for the validation layers' check of shared memory, with which a software device compiles long for each
// access.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "ops/scan_choice.h"
#include "ops/selective_scan.h"
#include "shaders/params.h"
#include "support/op_main.h"
#include "support/test_log.h"
#include "support/test_node.h"
#include "support/test_share.h"

static struct hymn_context *context;
static bool races; // --races

struct scan_case {
    uint32_t batch, height, width, channels, first, states, rank;
    enum hymn_storage storage;
    uint32_t chunk_length; // forced; 0: not
    uint32_t group, block; // likewise
    uint32_t together, lanes;
    uint32_t span;          // with chunk_length or group
    uint32_t tile, helpers; // with group
    float reach;            // of the projection's values; 0: 1
    bool half_rows;         // the projection in f16, for groups of lanes
    bool matrix;            // with helpers and half_rows
};

// ---------------------------------------------------------------------------------------------------------- plain C

struct place {
    uint32_t image, y, x, direction, channel;
};

static struct place place_at(const struct scan_case *c, uint32_t direction, uint32_t l) {
    uint32_t at = direction < 2 ? l : c->height * c->width - 1 - l;
    uint32_t y = direction % 2 ? at % c->height : at / c->width, x = direction % 2 ? at / c->height : at % c->width;
    return (struct place){.y = y, .x = x, .direction = direction};
}

static double softplus(double v) {
    return v > 20.0 ? v : log1p(exp(v));
}

// One step of one channel; h: [states]. Returns y.
static double advance(const struct test_node *test, const struct scan_case *c, const struct place *p, double *h) {
    const struct hymn_node *node = test->node;
    size_t row = (size_t)p->direction * c->channels + p->channel;
    uint32_t first = p->direction * hymn_round_up(c->rank + 2 * c->states, 8);
    double delta = node->dt_bias[row];
    for (uint32_t r = 0; r < c->rank; r++) {
        delta += node->dt_weights[row * c->rank + r] * test_node_at(test, 1, p->image, p->y, p->x, first + r);
    }
    delta = softplus(delta);
    double u = test_node_at(test, 0, p->image, p->y, p->x, c->first + p->channel), y = node->d[row] * u;
    for (uint32_t n = 0; n < c->states; n++) {
        double b = test_node_at(test, 1, p->image, p->y, p->x, first + c->rank + n);
        double g = test_node_at(test, 1, p->image, p->y, p->x, first + c->rank + c->states + n);
        h[n] = exp(delta * node->a[row * c->states + n]) * h[n] + delta * u * b;
        y += h[n] * g;
    }
    return y;
}

static double *reference(const struct test_node *test, const struct scan_case *c) {
    uint32_t length = c->height * c->width;
    double *expected = malloc((size_t)4 * c->batch * length * c->channels * sizeof *expected);
    assert_non_null(expected);
    for (uint32_t i = 0; i < 4 * c->batch * c->channels; i++) {
        uint32_t channel = i % c->channels, image = i / c->channels % c->batch, direction = i / c->channels / c->batch;
        double h[64] = {0};
        for (uint32_t l = 0; l < length; l++) {
            struct place p = place_at(c, direction, l);
            p.image = image;
            p.channel = channel;
            size_t pixel = ((size_t)direction * c->batch + image) * length + p.y * c->width + p.x;
            expected[pixel * c->channels + channel] = advance(test, c, &p, h);
        }
    }
    return expected;
}

// --------------------------------------------------------------------------------------------------------- building

static void build(struct test_node *test, const struct scan_case *c, struct test_random *random) {
    test_node_begin(test, HYMN_KIND_SELECTIVE_SCAN, c->batch, c->storage);
    struct hymn_node *node = test->node;
    uint32_t row = hymn_round_up(c->rank + 2 * c->states, 8);
    float reach = c->reach > 0.0f ? c->reach : 1.0f;
    // More channels before and behind the slice that is read.
    uint32_t behind = c->first && c->channels % 8 == 0 ? 8 : 0;
    test_node_input(test, random, c->height, c->width, c->first + c->channels + behind, c->storage, -2.0f, 2.0f);
    test_node_input(test, random, c->height, c->width, 4 * row, c->half_rows ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32,
                    -reach, reach);
    uint32_t output = test_node_output(test, c->height, c->width, c->channels, c->storage);
    test->graph.values[test->outputs[output].value].planes = 4;
    node->terms[0].source = (struct hymn_source){test->inputs[0].value, c->first, c->channels};
    node->terms[1].source = (struct hymn_source){test->inputs[1].value, 0, 4 * row};
    node->term_count = 2;
    node->output = test->outputs[output].value;
    node->d_state = c->states;
    node->dt_rank = c->rank;
    size_t rows = (size_t)4 * c->channels;
    float limit = 3.0f / sqrtf((float)c->rank);
    node->dt_weights = test_node_array(test, random, rows * c->rank, -limit, limit);
    // delta from about 1e-3 to well above 20, where softplus is the identity.
    float *bias = test_node_array(test, random, rows, -7.0f, 2.0f);
    for (size_t i = 0; i < rows; i += 13) {
        bias[i] = 25.0f;
    }
    node->dt_bias = bias;
    float *a = test_node_array(test, random, rows * c->states, -5.0f, 3.0f);
    for (size_t i = 0; i < rows * c->states; i++) {
        a[i] = -expf(a[i]);
    }
    node->a = a;
    node->d = test_node_array(test, random, rows, -1.0f, 1.0f);
}

// The plans of test_node, and that of a GPU with all that the device has.
enum { PLANS = TEST_NODE_PLANS + 1 };
static struct hymn_vk_plan plan_of(uint32_t index) {
    struct hymn_vk_plan plan = test_node_plan(context, index % TEST_NODE_PLANS);
    if (index == TEST_NODE_PLANS) {
        plan.cpu = plan.weights_f32 = false;
        plan.target_lanes = 16384;
    }
    return plan;
}

static struct hymn_scan_method method_of(const struct scan_case *c) {
    return (struct hymn_scan_method){c->chunk_length, c->group, c->block,   c->together, c->lanes,
                                     c->span,         c->tile,  c->helpers, c->matrix};
}

static uint32_t half_runs; // of a projection in f16

// By the method that the case forces, if it does.
static void run(struct test_node *test, const struct scan_case *c, const struct hymn_vk_plan *plan) {
    struct hymn_scan_method method = method_of(c);
    hymn_selective_scan_force(c->chunk_length || c->group || c->together ? &method : NULL);
    test->node->scratch[0] = test->node->scratch[1] = HYMN_NONE;
    test_node_run(test, context, plan, 0, NULL);
    hymn_selective_scan_force(NULL);
    half_runs +=
        test->graph.values[test->node->terms[1].source.value].storage == HYMN_STORAGE_F16; // other methods: f32
}

// Returns the largest of the true outputs; negative: the case is left out.
static double check(const struct scan_case *c, struct test_random *random) {
    struct test_random own = test_random_fixed(test_random_u64(random)); // the next case is the same without this one
    const char *variant = c->matrix ? "selective_scan_group_matrix" : "another";
    if (!races && test_share_leaves_out_of(variant)) { // of those for races there are few
        return -1.0;
    }
    struct test_node test;
    build(&test, c, &own);
    double *expected = reference(&test, c), most = 0.0;
    for (size_t i = 0; i < (size_t)4 * c->batch * c->height * c->width * c->channels; i++) {
        most = fabs(expected[i]) > most ? fabs(expected[i]) : most;
        expected[i] /= c->storage == HYMN_STORAGE_F16 ? HYMN_SCAN_UNIT : 1.0;
    }
    for (uint32_t i = 0; i < PLANS; i++) {
        struct hymn_vk_plan plan = plan_of(i);
        bool spans = i == 0 || i == TEST_NODE_PLANS; // base variants have none
        if (races ? i > 0 : c->span && !c->group ? !spans : i == TEST_NODE_PLANS) {
            continue;
        }
        char what[160];
        snprintf(what, sizeof what,
                 "plan %u, %u states, rank %u, chunks of %u, group %u, tile %u, blocks of %u, %u of %u + %u, spans of "
                 "%u%s%s",
                 i, c->states, c->rank, c->chunk_length, c->group, c->tile, c->block, c->together, c->lanes, c->helpers,
                 c->span, c->half_rows ? ", f16 rows" : "", c->matrix ? ", matrices" : "");
        run(&test, c, &plan);
        test_node_compare(&test, 0, expected, test_op_tolerance(c->storage), what);
    }
    free(expected);
    test_node_end(&test);
    return most;
}

static struct scan_case random_case(struct test_random *random) {
    return (struct scan_case){
        .batch = test_random_range(random, 1, 3),
        .height = test_random_range(random, 1, 11),
        .width = test_random_range(random, 1, 11),
        .channels = test_random_range(random, 1, 70),
        .first = 8 * test_random_range(random, 0, 2),
        .states = test_random_range(random, 1, races ? 5 : 20),
        .rank = test_random_range(random, 1, races ? 5 : 12),
        .storage = (enum hymn_storage)test_random_range(random, 0, 1),
    };
}

// ------------------------------------------------------------------------------------------------------------ tests

static void test_shapes(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan shapes");
    for (uint32_t i = 0; i < 5; i++) {
        struct scan_case c = random_case(&random);
        check(&c, &random);
    }
    struct scan_case one = {.batch = 1, .height = 1, .width = 1, .channels = 1, .states = 1, .rank = 1};
    check(&one, &random);
    one.storage = HYMN_STORAGE_F16;
    check(&one, &random);
}

static void test_chunks(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan chunks");
    for (uint32_t i = 0; i < 5; i++) {
        struct scan_case c = random_case(&random);
        uint32_t length = c.height * c.width;
        c.chunk_length = i == 0 ? 1 : i == 1 ? length : test_random_range(&random, 1, length);
        check(&c, &random);
    }
}

// Groups of lanes a channel: sequences shorter and longer than a block, whole and in chunks, full and odd numbers of
// states and ranks; with helpers and without.
static void test_groups(void **state) {
    (void)state;
    static const struct hymn_scan_method methods[] = {
        {.group = 4, .tile = 4, .block = 16},
        {.group = 8, .tile = 1, .block = 16},
        {.group = 2, .tile = 2, .block = 8},
        {.group = 4, .tile = 1, .block = 8, .chunk_length = 21},
        {.group = 1, .tile = 1, .block = 16},
        {.group = 4, .tile = 2, .block = 8, .lanes = 64, .span = 1},
        {.group = 4, .tile = 4, .block = 8, .chunk_length = 13, .lanes = 32},
        {.group = 8, .tile = 4, .block = 8, .chunk_length = 40},
        {.group = 4, .tile = 2, .block = 16, .lanes = 64, .helpers = 64},
        {.group = 4, .tile = 1, .block = 16, .lanes = 64, .helpers = 32},
        {.group = 2, .tile = 1, .block = 8, .lanes = 64, .helpers = 32, .chunk_length = 21},
        {.group = 4, .tile = 4, .block = 8, .lanes = 32, .helpers = 32, .span = 1},
        {.group = 8, .tile = 2, .block = 8, .lanes = 32, .helpers = 32},
    };
    struct test_random random = test_random_start("op_selective_scan groups");
    uint32_t able = 0; // cases whose rows stayed f16
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct scan_case c = random_case(&random);
        if (races && (i == 1 || i == 2 || i == 4 || i == 7)) { // share memory as others do
            continue;
        }
        if (i == 0 || (races && i == 5)) { // rows that fill their place in shared memory
            c.states = races ? 4 : 16;
            c.rank = races ? 4 : 8;
        }
        c.chunk_length = races && i > 3 ? 0 : methods[i].chunk_length; // no other accesses, but twice the shaders
        c.group = methods[i].group;
        c.tile = methods[i].tile;
        c.lanes = methods[i].lanes;
        c.helpers = methods[i].helpers;
        c.span = races ? 1 : methods[i].span;   // rounds that are not unrolled compile faster
        c.block = races ? 8 : methods[i].block; // with more shared memory the check leaves a shader alone
        // Of those in chunks the first two in f32, the others in f16; rows in f32 beside f16 as where x_proj is kept
        // so.
        c.storage = i % 3 > 0 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
        c.half_rows = c.storage == HYMN_STORAGE_F16 && i != 4;
        half_runs = 0;
        check(&c, &random);
        able += half_runs > 0;
    }
    // Four cases at least fit on every device, two of them in chunks.
    assert_true(able >= 4 || test_share() > 1 ||
                !hymn_variant_allowed(&context->device->plan, "selective_scan_group", ".f16"));
}

static uint32_t count_steps(struct test_node *test, const struct scan_case *c, const struct hymn_vk_plan *plan,
                            struct hymn_vk_step *out_first);

// delta made on matrix units: steps and channels shared among helpers in each way, folds of four steps and of eight,
// ranks that fill matrices and not, sequences shorter than a block and longer.
static void test_matrix(void **state) {
    (void)state;
    static const struct hymn_scan_method methods[] = {
        {.group = 4, .tile = 2, .block = 16, .lanes = 64, .helpers = 64},
        {.group = 4, .tile = 1, .block = 32, .lanes = 128, .helpers = 64},
        {.group = 8, .tile = 2, .block = 16, .lanes = 128, .helpers = 64, .span = 1},
        {.group = 4, .tile = 1, .block = 16, .lanes = 128, .helpers = 64},
    };
    static const uint32_t ranks[] = {8, 24, 16, 32};
    if (!hymn_variant_allowed(&context->device->plan, "selective_scan_group_matrix", ".f16")) {
        skip();
    }
    struct test_random random = test_random_start("op_selective_scan matrix");
    const uint32_t shared = context->device->plan.max_shared_bytes;
    const bool little = shared < 48 * 1024;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct scan_case c = random_case(&random);
        c.states = 4 * methods[i].group;
        const uint32_t rank = ranks[(i + test_random_range(&random, 0, 3)) % 4];
        const bool crowded = i == 2 || (i == 1 && shared < 64 * 1024); // many states, or long blocks
        c.rank = crowded ? 8 : rank;
        c.storage = HYMN_STORAGE_F16;
        c.group = methods[i].group;
        c.tile = methods[i].tile;
        c.block = little && methods[i].block > 16 ? 16 : methods[i].block;
        c.lanes = methods[i].lanes;
        c.helpers = methods[i].helpers;
        c.span = methods[i].span;
        c.half_rows = c.matrix = true;
        struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
        struct hymn_vk_step first;
        struct test_node test;
        build(&test, &c, &random);
        count_steps(&test, &c, &plan, &first);
        assert_string_equal(first.shader->name, "selective_scan_group_matrix.f16");
        test_node_end(&test);
        check(&c, &random);
    }
}

// Chunks within a workgroup: with deltas kept and not, states carried in one go and in several, more lanes than steps,
// fewer channels than a workgroup has; rows by way of shared memory, where subgroups are that large, and not.
static void test_local(void **state) {
    (void)state;
    static const uint32_t together[] = {16, 8, 32, 2, 8, 8, 8, 4, 4}, lanes[] = {64, 128, 64, 32, 128, 16, 128, 64, 16};
    struct test_random random = test_random_start("op_selective_scan local");
    for (size_t i = 0; i < (races ? 6 : sizeof lanes / sizeof *lanes); i++) { // the last are about rows
        struct scan_case c = random_case(&random);
        if (races) { // little shared memory
            c.states = i == 4 ? 17 : c.states;
        } else if (i == 0 || i >= 4) {
            c.height = i == 5 ? 40 : 16; // 800 steps of 2 chunks: too many for their deltas to be kept
            c.width = i == 5 ? 20 : 16;
            c.batch = 1;
            c.states = i == 4 ? 29 : 16;
            c.rank = i == 4 ? 7 : 32;
        }
        c.together = together[i];
        c.lanes = lanes[i];
        c.block = !races && (i % 2 || i > 5); // the check for races knows no barriers of subgroups
        c.storage = (enum hymn_storage)(i % 2);
        check(&c, &random);
    }
}

// Chunks in two passes: spans of one workgroup and of several, full and not, chunks that do not divide the sequence or
// are longer than it, numbers of states that spans do not divide, rows by way of shared memory and not.
static void test_spans(void **state) {
    (void)state;
    static const uint32_t spans[] = {1, 2, 3, 4, 4, 8, 8, 4, 4, 8}, lengths[] = {7, 5, 9, 1, 13, 3, 11, 200, 6, 10};
    struct test_random random = test_random_start("op_selective_scan spans");
    for (size_t i = 0; i < (races ? 8 : sizeof spans / sizeof *spans); i++) { // likewise
        struct scan_case c = random_case(&random);
        c.states = i % 2 ? (races ? 9 : 16) : c.states; // combined in two rounds
        c.span = spans[i];
        c.chunk_length = lengths[i];
        c.block = !races && (i % 4 == 2 || i > 7);
        check(&c, &random);
    }
}

// The steps of a case's method, or its own choice; the first of them to *out_first.
static uint32_t count_steps(struct test_node *test, const struct scan_case *c, const struct hymn_vk_plan *plan,
                            struct hymn_vk_step *out_first) {
    struct hymn_scan_method method = method_of(c);
    struct hymn_lower lower = {.graph = &test->graph, .plan = plan, .log = &context->device->log};
    test->node->scratch[0] = test->node->scratch[1] = HYMN_NONE;
    hymn_selective_scan_force(c->chunk_length || c->group || c->together ? &method : NULL);
    assert_int_equal(hymn_ops_prepare(&test->graph, plan, lower.log), HYMN_STATUS_OK);
    assert_int_equal(hymn_graph_plan_memory(&test->graph, false, lower.log), HYMN_STATUS_OK);
    assert_int_equal(hymn_ops_lower(&lower), HYMN_STATUS_OK);
    hymn_selective_scan_force(NULL);
    uint32_t count = lower.program.count;
    *out_first = lower.program.steps[0];
    hymn_lower_free(&lower);
    return count;
}

// A GPU takes two passes where workgroups read no more than a pass between them would, if need be with eight chunks a
// workgroup, and chunks are short.
static void test_spans_chosen(void **state) {
    (void)state;
    struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
    bool able = hymn_variant_allowed(&plan, "selective_scan_joint", ".f32");
    struct test_random random = test_random_start("op_selective_scan spans chosen");
    static const struct scan_case cases[] = {
        {.batch = 1, .height = 9, .width = 11, .channels = 20, .states = 18, .rank = 8},
        {.batch = 1, .height = 64, .width = 64, .channels = 8, .states = 2, .rank = 1},
        {.batch = 1, .height = 128, .width = 132, .channels = 8, .states = 2, .rank = 1},
    };
    for (uint32_t i = 0; i < 3; i++) {
        struct test_node test;
        struct hymn_vk_step first;
        build(&test, &cases[i], &random);
        assert_int_equal(count_steps(&test, &cases[i], &plan, &first), able && i < 2 ? 2 : 3);
        if (i == 0) {
            double *expected = reference(&test, &cases[i]);
            run(&test, &cases[i], &plan);
            test_node_compare(&test, 0, expected, test_op_tolerance(HYMN_STORAGE_F32), "own choice");
            free(expected);
        }
        test_node_end(&test);
    }
}

// A GPU scans by groups of lanes where there are enough sequences, with helpers where a workgroup has room for those.
// Without room there have to be twice as many sequences.
static void test_helpers_chosen(void **state) {
    (void)state;
    enum { AT_GROUP = 4, AT_TILE = 7, AT_HELPERS = 9, CONSTANTS = 12, HELPERS = 64 }; // of selective_scan_group.comp
    static const struct {
        uint32_t filling, rank; // lanes a channel that fill the device
        uint32_t group, tile;   // 0: no groups
        uint32_t alone;         // tile where there is no room for helpers, in groups of 4
    } cases[] = {{4, 5, 2, 1, 2},  {4, 20, 4, 2, 2}, {8, 5, 4, 2, 1},
                 {16, 5, 4, 1, 1}, {32, 5, 4, 1, 0}, {64, 5, 0, 0, 0}};
    struct test_random random = test_random_start("op_selective_scan helpers chosen");
    for (uint32_t round = 0; round < 2 * sizeof cases / sizeof *cases; round++) {
        const uint32_t i = round / 2;
        const struct scan_case c = {
            .batch = 2, .height = 5, .width = 7, .channels = 24, .states = 16, .rank = cases[i].rank};
        struct test_node test;
        build(&test, &c, &random);
        double *values = reference(&test, &c);
        struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
        plan.target_lanes = 4 * c.batch * c.channels * cases[i].filling;
        if (round % 2 && plan.max_invocations > 128) {
            plan.max_invocations = 128;
        }
        bool room = 128 + HELPERS <= plan.max_invocations && HELPERS % plan.subgroup_size == 0;
        uint32_t group = room ? cases[i].group : 4, tile = room ? cases[i].tile : cases[i].alone;
        bool groups = tile > 0 && hymn_variant_allowed(&plan, "selective_scan_group", ".f32") &&
                      plan.subgroup_size >= (tile > 1 ? group : 2 * group);
        struct hymn_vk_step first;
        count_steps(&test, &c, &plan, &first);
        assert_int_equal(first.constant_count == CONSTANTS, groups);
        if (groups) {
            assert_int_equal(first.constants[AT_GROUP], group);
            assert_int_equal(first.constants[AT_TILE], tile);
            assert_int_equal(first.constants[AT_HELPERS], room ? HELPERS : 0);
        }
        run(&test, &c, &plan);
        test_node_compare(&test, 0, values, test_op_tolerance(HYMN_STORAGE_F32), "own choice");
        free(values);
        test_node_end(&test);
    }
}

// Chunks within a workgroup, of few sequences: rows are staged where a device has much of everything, which may have
// longer ones so, in large workgroups, if it has all of them at once.
static void test_local_chosen(void **state) {
    (void)state;
    static const struct {
        uint32_t length, shared, invocations, filling; // lanes that fill the device for each workgroup of 512
        uint32_t together, lanes;
        bool staged;
    } cases[] = {
        {256, 49152, 1024, 1024, 16, 512, false}, {1024, 49152, 1024, 1023, 8, 256, true},
        {1024, 49152, 1024, 1024, 8, 512, true},  {1024, 32768, 1024, 1023, 8, 256, false},
        {1024, 49152, 256, 1023, 8, 256, false},  {4096, 49152, 1024, 1024, 8, 512, true},
        {4096, 49152, 1024, 1025, 0, 0, true},    {4096, 49152, 1024, 511, 0, 0, true},
        {4096, 32768, 1024, 1024, 0, 0, false},   {4096, 49152, 256, 1024, 0, 0, true},
        {8192, 49152, 1024, 1024, 0, 0, true},
    };
    struct test_random random = test_random_start("op_selective_scan local chosen");
    struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
    if (!hymn_variant_allowed(&plan, "selective_scan_local", ".f32")) {
        print_message("no chunks within a workgroup: no shuffles\n");
        skip();
    }
    const bool joint = hymn_variant_allowed(&plan, "selective_scan_joint", ".f32");
    plan.subgroup_size = 32;
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct scan_case c = {
            .batch = 1, .height = 1, .width = cases[i].length, .channels = 64, .states = 16, .rank = 8};
        struct test_node test;
        build(&test, &c, &random);
        plan.max_shared_bytes = cases[i].shared;
        plan.max_invocations = cases[i].invocations;
        plan.target_lanes = 4 * c.channels / 8 * cases[i].filling;
        const struct hymn_scan scan = hymn_scan_describe(&test.graph, test.node, &plan);
        assert_int_equal(scan.together, cases[i].together);
        assert_true(scan.together == 0 || scan.together * scan.chunks == cases[i].lanes);
        assert_int_equal(scan.staged, cases[i].staged && (joint || scan.together > 0));
        test_node_end(&test);
    }
}

// What the projection is stored as once a device is known, and whether delta is made on matrix units.
static void test_rows_settled(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan rows settled");
    struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
    plan.max_shared_bytes = 48 * 1024;
    const bool able = hymn_variant_allowed(&plan, "selective_scan_group", ".f16") && plan.subgroup_size >= 4 &&
                      128 + 64 <= plan.max_invocations && 64 % plan.subgroup_size == 0;
    const bool matrix = able && hymn_variant_allowed(&plan, "selective_scan_group_matrix", ".f16");
    for (uint32_t i = 0; i < 5; i++) {
        // Sequences: few, for which there are chunks, or enough for a channel a lane, in blocks that matrices have room
        // for.
        const uint32_t filling = i == 3 ? 64 : i == 4 ? 16 : 8;
        const bool high = i == 0 || i == 4; // rank
        const struct scan_case c = {.batch = 2,
                                    .height = 5,
                                    .width = 7,
                                    .channels = 64,
                                    .states = 16,
                                    .rank = high ? 32 : 16,
                                    .storage = i == 2 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16};
        struct test_node test;
        build(&test, &c, &random);
        struct hymn_value *rows = &test.graph.values[test.node->terms[1].source.value];
        plan.target_lanes = 4 * c.batch * c.channels * filling;
        hymn_ops_settle(&test.graph, &plan);
        const bool grouped = able && (i < 2 || (i == 4 && plan.subgroup_size >= 8)); // two groups a subgroup
        assert_int_equal(rows->storage, grouped ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32);
        struct hymn_vk_step first;
        count_steps(&test, &c, &plan, &first);
        assert_int_equal(strcmp(first.shader->name, "selective_scan_group_matrix.f16") == 0, matrix && grouped && high);
        test_node_end(&test);
    }
}

// A chunk a workgroup: what two passes sum, they sum in the order of three, and so to the same bits.
static void test_spans_exact(void **state) {
    (void)state;
    struct hymn_vk_plan plan = plan_of(TEST_NODE_PLANS);
    if (!hymn_variant_allowed(&plan, "selective_scan_joint", ".f32")) {
        skip();
    }
    struct test_random random = test_random_start("op_selective_scan spans exact");
    for (uint32_t i = 0; i < 4; i++) {
        struct scan_case c = random_case(&random);
        struct hymn_vk_step first;
        struct test_node test;
        c.height += 4; // two chunks at least
        c.chunk_length = test_random_range(&random, 1, c.height * c.width / 2);
        build(&test, &c, &random);
        size_t bytes = test_op_size(&test.graph, test.outputs[0].value) * sizeof(float);
        assert_int_equal(count_steps(&test, &c, &plan, &first), 3);
        run(&test, &c, &plan);
        float *three = test.outputs[0].data;
        test.outputs[0].data = NULL;
        c.span = 1;
        assert_int_equal(count_steps(&test, &c, &plan, &first), 2);
        run(&test, &c, &plan);
        assert_memory_equal(test.outputs[0].data, three, bytes);
        free(three);
        test_node_end(&test);
    }
}

// Many states, and ranks beyond what is kept in registers.
static void test_sizes(void **state) {
    (void)state;
    static const uint32_t states[] = {2, 15, 16, 33, 64}, ranks[] = {33, 70, 257, 24, 4};
    struct test_random random = test_random_start("op_selective_scan sizes");
    for (uint32_t i = 0; i < 5; i++) {
        struct scan_case c = random_case(&random);
        c.states = states[i];
        c.rank = ranks[i];
        check(&c, &random);
    }
}

// A sequence longer than one invocation may loop on llvmpipe.
static void test_long(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan long");
    struct scan_case c = {.batch = 1, .height = 270, .width = 260, .channels = 8, .states = 2, .rank = 1};
    check(&c, &random);
    c = (struct scan_case){.batch = 1, .height = 40, .width = 40, .channels = 8, .states = 1, .rank = 40};
    check(&c, &random);
    // With ranks that are not held, a chunk of the longest: channels enough for no shorter ones.
    c = (struct scan_case){.batch = 1, .height = 833, .width = 8, .channels = 16, .states = 1, .rank = 33};
    check(&c, &random);
}

// Outputs far beyond binary16's range, as trained networks have them, are kept in f16.
static void test_large(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan large");
    struct scan_case c = {.batch = 1, .height = 9, .width = 7, .channels = 40, .states = 16, .rank = 4, .reach = 30.0f};
    for (uint32_t i = 0; i < 4; i++) {
        c.storage = i == 3 ? HYMN_STORAGE_F32 : HYMN_STORAGE_F16;
        c.chunk_length = i == 1 ? 17 : 0;
        c.group = i == 2 ? 4 : 0;
        c.block = i == 2 ? 8 : 0;
        c.tile = i == 2 ? 2 : 0;
        c.span = i == 1 ? 2 : 0;
        double most = check(&c, &random);
        assert_true(most < 0.0 || (most > 1.5 * 65504.0 && most < 65504.0 * HYMN_SCAN_UNIT));
    }
}

// Where shaders have four storage buffers there are no chunks.
static void test_few_buffers(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan few buffers");
    struct hymn_vk_plan plan = test_node_plan(context, 1);
    plan.needs_met &= ~(uint32_t)HYMN_NEEDS_BUFFERS;
    plan.target_lanes = 1u << 20; // chunks would pay
    for (uint32_t i = 0; i < 4; i++) {
        struct scan_case c = random_case(&random);
        struct test_node test;
        c.height += 20 * (i == 2);
        c.rank += 30 * (i == 3);
        c.storage = i % 2 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
        build(&test, &c, &random);
        double *expected = reference(&test, &c);
        for (size_t k = 0; k < (size_t)4 * c.batch * c.height * c.width * c.channels; k++) {
            expected[k] /= c.storage == HYMN_STORAGE_F16 ? HYMN_SCAN_UNIT : 1.0;
        }
        run(&test, &c, &plan);
        test_node_compare(&test, 0, expected, test_op_tolerance(c.storage), "four buffers");
        free(expected);
        test_node_end(&test);
    }
}

// Nor then of long sequences: a GPU walks them in one go, whatever the rank, and those beyond are refused.
static void test_few_buffers_long(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_selective_scan few buffers, long");
    struct scan_case c = {.batch = 1, .height = 144, .width = 144, .channels = 8, .states = 2, .rank = 8};
    struct hymn_vk_plan plan = test_node_plan(context, 1);
    plan.needs_met &= ~(uint32_t)HYMN_NEEDS_BUFFERS;
    plan.cpu = false;
    struct test_node test;
    struct hymn_vk_step first;
    build(&test, &c, &random);
    assert_int_equal(count_steps(&test, &c, &plan, &first), 1);
    assert_string_equal(first.shader->name, "selective_scan_few.f32");
    assert_int_equal(first.groups[2], 1);
    test_node_end(&test);

    c = (struct scan_case){.batch = 1, .height = 270, .width = 260, .channels = 8, .states = 2, .rank = 1};
    build(&test, &c, &random);
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        struct test_log log;
        struct hymn_log sink = test_log_start(&log);
        plan.cpu = cpu > 0;
        assert_int_equal(hymn_ops_prepare(&test.graph, &plan, &sink), HYMN_STATUS_OK);
        assert_int_equal(hymn_graph_plan_memory(&test.graph, false, &sink), HYMN_STATUS_OK);
        struct hymn_lower lower = {.graph = &test.graph, .plan = &plan, .log = &sink};
        assert_int_equal(hymn_ops_lower(&lower), HYMN_STATUS_UNSUPPORTED);
        assert_log(&log, "70200 steps are more than one pass does");
        hymn_lower_free(&lower);
    }
    test_node_end(&test);
}

static double measure(struct test_node *test, const struct hymn_scan_method *method) {
    struct hymn_vk_plan plan = test_node_plan(context, 0);
    double ms = 0.0;
    hymn_selective_scan_force(method);
    test->node->scratch[0] = test->node->scratch[1] = HYMN_NONE;
    test_node_run(test, context, &plan, plan.cpu ? 5 : 40, &ms); // so many that a GPU's clock is up
    hymn_selective_scan_force(NULL);
    return ms;
}

// Whether groups of lanes fit as they are asked for: they would be timed with shorter blocks, or as something else.
static bool comes_to(struct test_node *test, const struct scan_case *from, const struct hymn_scan_method *method) {
    struct scan_case c = *from;
    c.group = method->group, c.tile = method->tile, c.block = method->block;
    c.lanes = method->lanes, c.helpers = method->helpers, c.span = method->span, c.chunk_length = method->chunk_length;
    c.matrix = method->matrix > 0;
    struct hymn_vk_plan plan = test_node_plan(context, 0);
    struct hymn_vk_step first;
    count_steps(test, &c, &plan, &first);
    const char *name = c.matrix ? "selective_scan_group_matrix.f16" : "selective_scan_group.f16";
    return strcmp(first.shader->name, name) == 0 && first.constants[6] == method->block;
}

static const struct hymn_scan_method timed_methods[] = {
    {.group = 0},
    {.group = 4, .tile = 1, .block = 16},
    {.group = 4, .tile = 2, .block = 4},
    {.group = 4, .tile = 2, .block = 8},
    {.group = 4, .tile = 2, .block = 16},
    {.group = 4, .tile = 2, .block = 8, .span = 1},
    {.group = 8, .tile = 1, .block = 16},
    {.group = 2, .tile = 1, .block = 16},
    {.group = 4, .tile = 1, .block = 32, .lanes = 128, .helpers = 64},
    {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 64},
    {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 128},
    {.group = 8, .tile = 2, .block = 16, .lanes = 128, .helpers = 64},
    {.group = 2, .tile = 1, .block = 16, .lanes = 128, .helpers = 64},
    {.group = 2, .tile = 2, .block = 16, .lanes = 128, .helpers = 128},
    {.group = 4, .tile = 1, .block = 32, .lanes = 128, .helpers = 64, .matrix = 1},
    {.group = 4, .tile = 1, .block = 16, .lanes = 128, .helpers = 64, .matrix = 1},
    {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 64, .matrix = 1},
    {.together = 16, .lanes = 256},
    {.together = 8, .lanes = 256},
    {.together = 16, .lanes = 512},
    {.together = 8, .lanes = 512},
    {.together = 8, .lanes = 1024},
    {.span = 4},
    {.span = 8},
    {.together = 16, .lanes = 256, .block = 1},
    {.together = 8, .lanes = 256, .block = 1},
    {.together = 16, .lanes = 512, .block = 1},
    {.together = 8, .lanes = 512, .block = 1},
    {.span = 4, .block = 1},
    {.span = 8, .block = 1},
    {.chunk_length = 128, .span = 4},
    {.chunk_length = 128, .span = 4, .block = 1},
};

static int bench(int argc, char **argv) {
    const uint32_t batch = op_number(argc, argv, 1, 1);
    static const struct scan_case cases[] = {
        {.height = 64, .width = 64, .channels = 256, .states = 16, .rank = 8},
        {.height = 32, .width = 32, .channels = 512, .states = 16, .rank = 16},
        {.height = 16, .width = 16, .channels = 1024, .states = 16, .rank = 32},
    };
    struct test_random random = test_random_fixed(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scan_case c = cases[i];
        c.batch = batch;
        c.storage = HYMN_STORAGE_F16;
        printf("%u x %u steps, %u channels, rank %u\n", batch, c.height * c.width, c.channels, c.rank);
        struct test_node test;
        build(&test, &c, &random);
        for (size_t m = 0; m < sizeof timed_methods / sizeof *timed_methods; m++) {
            const struct hymn_scan_method *method = &timed_methods[m];
            test.graph.values[test.node->terms[1].source.value].storage = // as it is settled for them
                method->group > 0 ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
            if (method->group > 0 && !comes_to(&test, &c, method)) {
                printf("  method %zu: not here\n", m);
                continue;
            }
            double ms = measure(&test, method), updates = 4.0 * batch * c.height * c.width * c.channels * c.states;
            printf("  %4u: %2u/%u x %2u, %2u of %4u + %3u, %u%s  %7.4f ms %7.1f G/s\n", method->chunk_length,
                   method->group, method->tile, method->block, method->together, method->lanes, method->helpers,
                   method->span, method->matrix ? " matrix" : "       ", ms, updates / ms * 1e-6);
            fflush(stdout);
        }
        test_node_end(&test);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),       cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_groups),       cmocka_unit_test(test_local),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_long),
        cmocka_unit_test(test_spans),        cmocka_unit_test(test_spans_exact),
        cmocka_unit_test(test_spans_chosen), cmocka_unit_test(test_large),
        cmocka_unit_test(test_few_buffers),  cmocka_unit_test(test_helpers_chosen),
        cmocka_unit_test(test_matrix),       cmocka_unit_test(test_local_chosen),
        cmocka_unit_test(test_rows_settled), cmocka_unit_test(test_few_buffers_long),
    };
    const struct CMUnitTest few[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_spans),
    };
    races = argc > 1 && strcmp(argv[1], "--races") == 0;
    const struct op_program all = {"op_selective_scan", &context, tests, sizeof tests / sizeof *tests, bench};
    const struct op_program small = {"op_selective_scan --races", &context, few, sizeof few / sizeof *few, NULL};
    return op_main(argc, argv, races ? &small : &all);
}
