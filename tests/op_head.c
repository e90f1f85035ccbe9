// SPDX-License-Identifier: MIT
//
// The network's head against plain C in double precision, and the masks made without its logits against those made of
// them, and by the convolution before it: the same bits. --bench times both ways.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "ops/conv2d_matrix.h"
#include "ops/head.h"
#include "ops/ops.h"
#include "support/op_main.h"
#include "support/test_image.h"
#include "support/test_op.h"

static struct hymn_context *context;

// The head alone in a graph: its source, of which the channels from `first` on are read, is the fixture's input.
struct head {
    struct test_image f;
    struct hymn_graph graph;
    struct hymn_lower lower;
    uint32_t first, channels;
    float *weights, *bias;
};

static void put(struct head *head, uint64_t i, float number) {
    uint8_t *to = head->f.bytes[HYMN_VK_ROLE_ACTIVATIONS];
    uint16_t half = hymn_half_from_float(number);
    if (head->f.c.storage == HYMN_STORAGE_F16) {
        memcpy(to + 2 * i, &half, sizeof half);
    } else {
        memcpy(to + 4 * i, &number, sizeof number);
    }
}

static double source_at(const struct head *head, uint64_t pixel, uint32_t channel) {
    uint64_t i = pixel * head->f.input.stride + head->first + channel;
    const uint8_t *from = head->f.bytes[HYMN_VK_ROLE_ACTIVATIONS];
    uint16_t half;
    float number;
    memcpy(&half, from + 2 * i, sizeof half);
    if (head->f.c.storage == HYMN_STORAGE_F16) {
        return hymn_half_to_float(half);
    }
    memcpy(&number, from + 4 * i, sizeof number);
    return number;
}

static void fill_source(struct head *head, struct test_random *random) {
    const struct hymn_value *x = &head->f.input;
    for (uint64_t i = 0; i < x->bytes / (x->storage == HYMN_STORAGE_F16 ? 2 : 4); i++) {
        float number;
        test_random_fill(random, &number, 1, -2.0f, 2.0f);
        put(head, i, i % x->stride < x->channels ? number : 0.0f);
    }
}

static void make_node(struct head *head, struct test_random *random) {
    uint32_t classes = head->f.c.classes;
    head->weights = malloc((size_t)classes * head->channels * sizeof *head->weights);
    head->bias = malloc(classes * sizeof *head->bias);
    assert_true(head->weights && head->bias);
    test_random_fill(random, head->weights, (size_t)classes * head->channels, -1.0f, 1.0f);
    test_random_fill(random, head->bias, classes, -1.0f, 1.0f);
    struct hymn_node *node = hymn_graph_add_node(&head->graph, HYMN_KIND_HEAD, "head");
    assert_non_null(node);
    node->terms[0].source = (struct hymn_source){0, head->first, head->channels};
    node->terms[0].weights = head->weights;
    node->term_count = node->part_count = 1;
    node->out_channels = node->parts[0] = classes;
    node->bias = head->bias;
    node->output = 1;
}

// The graph's nodes, a step each, and their weights.
static void lower(struct head *head) {
    head->lower = (struct hymn_lower){.graph = &head->graph, .plan = &head->f.plan, .log = &context->device->log};
    assert_int_equal(hymn_ops_lower(&head->lower), HYMN_STATUS_OK);
    assert_int_equal(head->lower.program.count, head->graph.node_count);
    test_image_buffer(&head->f, HYMN_VK_ROLE_WEIGHTS, head->lower.weight_bytes);
    for (uint32_t i = 0; i < head->lower.block_count; i++) {
        const struct hymn_vk_write *block = &head->lower.blocks[i];
        memcpy(head->f.bytes[HYMN_VK_ROLE_WEIGHTS] + block->offset, block->data, block->bytes);
    }
}

static void begin(struct head *head, const struct test_image_case *c, uint32_t first, struct test_random *random) {
    memset(head, 0, sizeof *head);
    head->first = first;
    head->channels = c->channels - first;
    test_image_begin(&head->f, context, c, random);
    hymn_graph_init(&head->graph, c->batch, c->storage);
    assert_int_equal(hymn_graph_add_value(&head->graph, "x", 1, 1, 1, c->storage), 0);
    assert_int_equal(hymn_graph_add_value(&head->graph, "logits", 1, 1, 1, HYMN_STORAGE_F32), 1);
    head->graph.values[0] = head->f.input;
    head->graph.values[1] = head->f.output;
    make_node(head, random);
    lower(head);
    fill_source(head, random);
}

static void end(struct head *head) {
    test_image_end(&head->f);
    hymn_lower_free(&head->lower);
    hymn_graph_free(&head->graph);
    free(head->weights);
    free(head->bias);
}

static void add_logits(struct head *head) {
    struct hymn_vk_step *step = hymn_vk_program_add(&head->f.program);
    assert_non_null(step);
    *step = head->lower.program.steps[0];
}

static void compare_logits(const struct head *head) {
    const struct hymn_value *out = &head->f.output;
    const float *got = (const void *)(head->f.bytes[HYMN_VK_ROLE_ACTIVATIONS] + out->offset);
    double error = 0.0, power = 0.0;
    for (uint64_t pixel = 0; pixel < (uint64_t)head->f.c.batch * out->height * out->width; pixel++) {
        for (uint32_t i = 0; i < out->stride; i++) {
            double expected = i < out->channels ? head->bias[i] : 0.0;
            for (uint32_t k = 0; k < head->channels && i < out->channels; k++) {
                expected += head->weights[i * head->channels + k] * source_at(head, pixel, k);
            }
            double difference = got[pixel * out->stride + i] - expected;
            error += difference * difference;
            power += expected * expected;
        }
    }
    assert_true(error <= test_op_tolerance(HYMN_STORAGE_F32) * power);
}

static struct test_image_case random_case(struct test_random *random) {
    struct test_image_case c = test_image_random_case(random);
    c.batch = c.index + test_random_range(random, 1, 3);
    c.height = c.session_height;
    c.width = c.session_width;
    c.channels = test_random_range(random, 1, 70);
    c.small_bindings = false;
    return c;
}

static void test_logits(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_head logits");
    for (uint32_t round = 0; round < 16; round++) {
        struct test_image_case c = random_case(&random);
        c.classes = 1 + round % HYMN_HEAD_MAX_CLASSES;
        struct head head;
        begin(&head, &c, round % 3 == 0 && c.channels > 8 ? 8 : 0, &random);
        assert_int_equal(hymn_head_has_mask(&head.lower.program.steps[0]), c.classes == 1);
        add_logits(&head);
        test_image_run(&head.f, 0, NULL);
        compare_logits(&head);
        end(&head);
    }
}

static void test_masks(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_head masks");
    for (uint32_t round = 0; round < 16; round++) {
        struct test_image_case c = random_case(&random);
        c.classes = 1;
        struct head head;
        begin(&head, &c, round % 3 == 0 && c.channels > 8 ? 8 : 0, &random);
        put(&head, (uint64_t)c.index * c.padded_height * c.padded_width * head.f.input.stride + head.first, NAN);
        head.f.steps.count = c.batch - c.index;
        uint64_t mask = hymn_image_mask_bytes(c.height, c.width), all = head.f.steps.count * ((mask + 255) / 256 * 256);
        test_image_buffer(&head.f, HYMN_VK_ROLE_READBACK, 2 * all);
        struct hymn_vk_binding out[2] = {{HYMN_VK_ROLE_READBACK, 0, mask}, {HYMN_VK_ROLE_READBACK, all, mask}};
        float threshold = round % 4 == 0 ? 0.5f : 0.3f;
        add_logits(&head);
        assert_int_equal(hymn_image_mask_directly(&head.f.steps, threshold, out[0]), HYMN_STATUS_OK);
        assert_int_equal(hymn_head_mask(&head.f.steps, &head.lower.program.steps[0], threshold, out[1]),
                         HYMN_STATUS_OK);
        test_image_run(&head.f, 0, NULL);
        const uint8_t *masks = head.f.bytes[HYMN_VK_ROLE_READBACK];
        assert_memory_equal(masks, masks + all, all);
        assert_int_equal(masks[0], 0); // where x is not a number
        end(&head);
    }
}

// ------------------------------------------------------------------------------- masks by the convolution before it

// A value of f16 behind those that the graph has; returns its index.
static uint32_t add_input(struct head *head, uint32_t height, uint32_t width, uint32_t channels, uint64_t *end) {
    uint32_t index = hymn_graph_add_value(&head->graph, "input", height, width, channels, HYMN_STORAGE_F16);
    assert_int_not_equal(index, HYMN_NONE);
    struct hymn_value *value = &head->graph.values[index];
    value->bytes = (uint64_t)head->graph.batch * height * width * value->stride * 2;
    value->offset = *end;
    *end += (value->bytes + 255) / 256 * 256;
    return index;
}

// Puts a 3x3 convolution before the head, that makes what it reads. residual: 0 none, 1 same size, 2 half size.
// It reads `most` channels at the most. Returns its weights.
static float *put_before(struct head *head, uint32_t residual, uint32_t most, struct test_random *random) {
    struct hymn_graph *graph = &head->graph;
    const uint32_t height = head->f.input.height, width = head->f.input.width, channels = head->channels;
    const uint32_t read = test_random_range(random, 1, most);
    uint64_t end = head->f.output.offset + (head->f.output.bytes + 255) / 256 * 256, inputs = end;
    hymn_lower_free(&head->lower);
    assert_non_null(hymn_graph_add_node(graph, HYMN_KIND_CONV2D, "conv"));
    float *weights = malloc((size_t)channels * 9 * read * sizeof *weights);
    assert_non_null(weights);
    test_random_fill(random, weights, (size_t)channels * 9 * read, -0.2f, 0.2f);
    struct hymn_node node = graph->nodes[1];
    graph->nodes[1] = graph->nodes[0];
    node.terms[0] = (struct hymn_term){{add_input(head, height, width, read, &end), 0, read}, 3, weights};
    node.term_count = node.part_count = 1;
    node.out_channels = node.parts[0] = channels;
    node.activation = residual == 1 ? HYMN_ACTIVATION_NONE : HYMN_ACTIVATION_RELU;
    node.output = 0;
    if (residual) {
        node.residual =
            (struct hymn_source){add_input(head, height / residual, width / residual, channels, &end), 0, channels};
        node.residual_resize = residual == 2;
    }
    graph->nodes[0] = node;
    free(head->f.bytes[HYMN_VK_ROLE_ACTIVATIONS]);
    free(head->f.bytes[HYMN_VK_ROLE_WEIGHTS]);
    test_image_buffer(&head->f, HYMN_VK_ROLE_ACTIVATIONS, end);
    for (uint64_t i = inputs / 2; i < end / 2; i++) {
        float number;
        test_random_fill(random, &number, 1, -1.0f, 1.0f);
        put(head, i, number);
    }
    lower(head);
    return weights;
}

// Both ways with a threshold. Returns whether the first mask has both classes, so that there was something to compare.
static bool compare_joined(struct head *head, float threshold) {
    const struct hymn_vk_step *steps = head->lower.program.steps;
    head->f.steps.count = head->f.c.batch - head->f.c.index;
    head->f.program.count = 0;
    uint64_t mask = hymn_image_mask_bytes(head->f.c.session_height, head->f.c.session_width);
    uint64_t all = head->f.steps.count * ((mask + 255) / 256 * 256);
    free(head->f.bytes[HYMN_VK_ROLE_READBACK]);
    test_image_buffer(&head->f, HYMN_VK_ROLE_READBACK, 2 * all);
    struct hymn_vk_binding out[2] = {{HYMN_VK_ROLE_READBACK, 0, mask}, {HYMN_VK_ROLE_READBACK, all, mask}};
    assert_non_null(hymn_head_joined(&head->f.plan, &steps[0], &steps[1]));
    for (uint32_t i = 0; i < 2; i++) {
        struct hymn_vk_step *step = hymn_vk_program_add(&head->f.program);
        assert_non_null(step);
        *step = steps[i];
    }
    assert_int_equal(hymn_image_mask_directly(&head->f.steps, threshold, out[0]), HYMN_STATUS_OK);
    assert_int_equal(hymn_head_join(&head->f.steps, &steps[0], &steps[1], threshold, out[1]), HYMN_STATUS_OK);
    test_image_run(&head->f, 0, NULL);
    const uint8_t *masks = head->f.bytes[HYMN_VK_ROLE_READBACK];
    assert_memory_equal(masks, masks + all, all);
    return memchr(masks, 0xFF, mask) && memchr(masks, 0, mask);
}

static void compare_some_joined(struct head *head) {
    static const float thresholds[] = {0.5f, 0.4f, 0.7f, 0.2f, 0.9f, 0.05f, 0.97f};
    bool both = false;
    for (size_t i = 0; i < sizeof thresholds / sizeof *thresholds && !both; i++) {
        both = compare_joined(head, thresholds[i]);
    }
    assert_true(both);
}

static void test_joined(void **state) {
    (void)state;
    const struct hymn_vk_matrix *m = &context->device->plan.matrix;
    if (!hymn_variant_allowed(&context->device->plan, "conv2d_matrix_mask", NULL)) {
        print_message("no cooperative matrices of a shape that fits\n");
        skip();
    }
    // Small ones, as software devices take long to compile them.
    const uint32_t depth = m->k > 16 ? m->k / 8 : 2, channels = m->n > 16 ? m->n : 16;
    // Of weights that stay: a subgroup's lanes share a row of its pixels evenly.
    const uint32_t few = m->n > 8 ? m->n : 8, subgroup = context->device->plan.subgroup_size;
    const struct hymn_conv2d_tile tiles[] = {
        {m->m, 4, channels, 2, 1, 3, depth, 1, 1},
        {2 * m->m, 2, channels, 4, 1, 1, depth, 2, 1},
        {m->m, 2, 2 * channels, 1, 1, 1, depth, 1, 1}, // more channels than there may be
        {hymn_round_up(hymn_divide_up(8 * subgroup, few), m->m), 4, few, 1, 1, 9, m->k / 8, 0, 1},
    };
    struct test_random random = test_random_start("op_head joined");
    const uint32_t residual = test_random_range(&random, 0, 2);
    for (uint32_t round = 0; round < 4; round++) {
        struct test_image_case c = random_case(&random);
        c.classes = 1;
        c.storage = HYMN_STORAGE_F16;
        c.channels = test_random_range(&random, 4, round == 3 ? few : channels);
        c.session_height = c.height = test_random_range(&random, 6, 19);
        c.session_width = c.width = test_random_range(&random, 6, 45);
        c.padded_height = hymn_round_up(c.height, round % 2 ? 2 : 16);
        c.padded_width = hymn_round_up(c.width, round % 2 ? 2 : 32);
        struct head head;
        begin(&head, &c, 0, &random);
        head.f.plan.weights_f32 = false; // software devices would keep them
        hymn_conv2d_matrix_force(&tiles[round]);
        float *weights = put_before(&head, (round + residual) % 3, round == 3 ? m->k : 40, &random);
        hymn_conv2d_matrix_force(NULL);
        compare_some_joined(&head);
        free(weights);
        end(&head);
    }
}

// Tiles that have not all channels of a pixel, and other kernels, are not for it.
static void test_not_joined(void **state) {
    (void)state;
    const struct hymn_vk_matrix *m = &context->device->plan.matrix;
    const bool able = hymn_variant_allowed(&context->device->plan, "conv2d_matrix_mask", NULL);
    const uint32_t depth = m->k > 16 ? m->k / 8 : 2, channels = m->n > 16 ? m->n : 16;
    const struct hymn_conv2d_tile tiles[] = {
        {m->m, 4, 2 * channels, 2, 2, 3, depth, 1, 1}, // two subgroups share a pixel
        {m->m, 4, channels, 2, 1, 3, depth, 1, 1},     // two columns of tiles
    };
    struct test_random random = test_random_start("op_head not joined");
    for (uint32_t i = 0; i < 3; i++) {
        struct test_image_case c = {16,           16, HYMN_PIXEL_RGB8,  16,   16, 16, 16, 1, 0,
                                    2 * channels, 1,  HYMN_STORAGE_F16, false};
        struct head head;
        begin(&head, &c, 0, &random);
        head.f.plan.weights_f32 = false;
        hymn_conv2d_matrix_force(able && i < 2 ? &tiles[i] : NULL);
        head.f.plan.needs_met &= i == 2 ? ~(uint32_t)HYMN_NEEDS_COOPERATIVE_MATRIX : ~(uint32_t)0;
        float *weights = put_before(&head, 0, 40, &random);
        hymn_conv2d_matrix_force(NULL);
        const struct hymn_vk_step *steps = head.lower.program.steps;
        assert_true(!able || i == 2 || strcmp(steps[0].shader->name, "conv2d_matrix_packed") == 0);
        assert_null(hymn_head_joined(&context->device->plan, &steps[0], &steps[1]));
        free(weights);
        end(&head);
    }
}

static int bench(int count, char **arguments) {
    (void)count, (void)arguments;
    struct test_random random = test_random_fixed(1);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t batch = i / 2 ? 8 : 1;
        struct test_image_case c = {256, 256, HYMN_PIXEL_RGB8,  256,  256, 256, 256, batch, 0,
                                    32,  1,   HYMN_STORAGE_F16, false};
        struct head head;
        begin(&head, &c, 0, &random);
        head.f.steps.count = batch;
        uint64_t mask = hymn_image_mask_bytes(256, 256);
        test_image_buffer(&head.f, HYMN_VK_ROLE_READBACK, batch * mask);
        struct hymn_vk_binding out = {HYMN_VK_ROLE_READBACK, 0, mask};
        if (i % 2) {
            assert_int_equal(hymn_head_mask(&head.f.steps, &head.lower.program.steps[0], 0.5f, out), HYMN_STATUS_OK);
        } else {
            add_logits(&head);
            assert_int_equal(hymn_image_mask_directly(&head.f.steps, 0.5f, out), HYMN_STATUS_OK);
        }
        double ms = 0.0;
        test_image_run(&head.f, 20, &ms);
        printf("%u images of 256 x 256, 32 channels, f16, %s: %.3f ms\n", batch, i % 2 ? "masks" : "logits, then masks",
               ms);
        end(&head);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_not_joined),
    };
    return op_main(argc, argv, &(struct op_program){"op_head", &context, tests, sizeof tests / sizeof *tests, bench});
}
