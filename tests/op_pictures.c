// SPDX-License-Identifier: MIT
//
// Pictures that go into the network's first convolution as they are, against the same convolution behind what makes its
// source of them: the same bits, of the source too.
#include <stdlib.h>
#include <string.h>

#include "ops/conv2d_matrix.h"
#include "ops/ops.h"
#include "ops/picture.h"
#include "support/op_main.h"
#include "support/test_image.h"
#include "support/test_share.h"

static struct hymn_context *context;

struct first {
    struct test_image f;
    struct hymn_graph graph;
    struct hymn_lower lower;
    float *weights, *bias;
};

// A 3x3 convolution of the fixture's input, with room behind both ends for what it leaves.
static void begin(struct first *first, const struct test_image_case *c, uint32_t channels, struct test_random *random) {
    memset(first, 0, sizeof *first);
    test_image_begin(&first->f, context, c, random);
    first->f.plan.weights_f32 = false; // software devices would keep them
    hymn_graph_init(&first->graph, c->batch, c->storage);
    assert_int_equal(hymn_graph_add_value(&first->graph, "x", 1, 1, 1, c->storage), 0);
    first->graph.values[0] = first->f.input;
    uint32_t output =
        hymn_graph_add_value(&first->graph, "y", c->padded_height, c->padded_width, channels, HYMN_STORAGE_F16);
    assert_int_equal(output, 1);
    struct hymn_value *value = &first->graph.values[output];
    value->bytes = (uint64_t)c->batch * value->height * value->width * value->stride * 2;
    value->offset = first->f.output.offset + (first->f.output.bytes + 255) / 256 * 256;
    free(first->f.bytes[HYMN_VK_ROLE_ACTIVATIONS]);
    test_image_buffer(&first->f, HYMN_VK_ROLE_ACTIVATIONS, value->offset + value->bytes);
    const uint32_t count = channels * 9 * c->channels;
    first->weights = malloc(count * sizeof *first->weights);
    first->bias = malloc(channels * sizeof *first->bias);
    assert_true(first->weights && first->bias);
    test_random_fill(random, first->weights, count, -0.5f, 0.5f);
    test_random_fill(random, first->bias, channels, -1.0f, 1.0f);
    struct hymn_node *node = hymn_graph_add_node(&first->graph, HYMN_KIND_CONV2D, "conv");
    assert_non_null(node);
    node->terms[0] = (struct hymn_term){{0, 0, c->channels}, 3, first->weights};
    node->term_count = node->part_count = 1;
    node->out_channels = node->parts[0] = channels;
    node->bias = first->bias;
    node->output = output;
    first->lower = (struct hymn_lower){.graph = &first->graph, .plan = &first->f.plan, .log = &context->device->log};
    assert_int_equal(hymn_ops_lower(&first->lower), HYMN_STATUS_OK);
    assert_int_equal(first->lower.program.count, 1);
    test_image_buffer(&first->f, HYMN_VK_ROLE_WEIGHTS, first->lower.weight_bytes);
    for (uint32_t i = 0; i < first->lower.block_count; i++) {
        const struct hymn_vk_write *block = &first->lower.blocks[i];
        memcpy(first->f.bytes[HYMN_VK_ROLE_WEIGHTS] + block->offset, block->data, block->bytes);
    }
}

static void end(struct first *first) {
    test_image_end(&first->f);
    hymn_lower_free(&first->lower);
    hymn_graph_free(&first->graph);
    free(first->weights);
    free(first->bias);
}

// The run's activations, which are then as before it again.
static uint8_t *run(struct first *first) {
    uint64_t bytes = first->f.sizes[HYMN_VK_ROLE_ACTIVATIONS];
    test_image_run(&first->f, 0, NULL);
    uint8_t *result = malloc(bytes);
    assert_non_null(result);
    memcpy(result, first->f.bytes[HYMN_VK_ROLE_ACTIVATIONS], bytes);
    memset(first->f.bytes[HYMN_VK_ROLE_ACTIVATIONS], 0xFF, bytes);
    first->f.program.count = 0;
    return result;
}

static void compare(struct first *first, struct test_random *random) {
    const struct test_image_case *c = &first->f.c;
    struct hymn_image_steps *steps = &first->f.steps;
    const struct hymn_vk_step *conv = &first->lower.program.steps[0];
    steps->index = 0;
    steps->count = c->batch;
    uint64_t apart, bytes = hymn_image_pixels_together(steps, c->format, c->height, c->width, &apart);
    test_image_buffer(&first->f, HYMN_VK_ROLE_UPLOAD, bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        first->f.bytes[HYMN_VK_ROLE_UPLOAD][i] = (uint8_t)test_random_range(random, 0, 255);
    }
    const struct hymn_vk_binding pixels = {HYMN_VK_ROLE_UPLOAD, 0, bytes}, none = {0};
    assert_true(hymn_image_goes_as_it_is(steps, c->format, c->height, c->width));
    assert_int_equal(hymn_image_input(steps, c->format, c->height, c->width, pixels, none), HYMN_STATUS_OK);
    struct hymn_vk_step *step = hymn_vk_program_add(&first->f.program);
    assert_non_null(step);
    *step = *conv;
    uint8_t *apart_made = run(first);
    assert_non_null(hymn_picture_joined(&first->f.plan, conv, &first->f.input));
    assert_int_equal(hymn_picture_join(steps, conv, c->format, pixels), HYMN_STATUS_OK);
    assert_int_equal(first->f.program.count, 1);
    for (uint32_t i = 0; i < first->f.program.steps[0].binding_count; i++) { // x and y are written, and so told to be
        const bool value = first->f.program.steps[0].bindings[i].role == HYMN_VK_ROLE_ACTIVATIONS;
        assert_int_equal(first->f.program.steps[0].write_mask >> i & 1, value);
    }
    uint8_t *joined = run(first);
    const struct hymn_value *x = &first->f.input, *y = &first->graph.values[1];
    assert_memory_equal(apart_made + x->offset, joined + x->offset, x->bytes);
    assert_memory_equal(apart_made + y->offset, joined + y->offset, y->bytes);
    // What was there before is in neither, and there is more than one value to compare.
    assert_int_not_equal(memcmp(joined + y->offset, "\xFF\xFF\xFF\xFF", 4), 0);
    assert_true(y->bytes == 16 || memcmp(joined + y->offset, joined + y->offset + y->bytes - 16, 16) != 0);
    free(apart_made);
    free(joined);
}

static struct test_image_case make_case(struct test_random *random, uint32_t round) {
    struct test_image_case c = test_image_random_case(random);
    c.height = c.session_height;
    c.width = c.session_width;
    c.format = (enum hymn_pixel_format)(round % 3);
    c.index = 0;
    c.channels = round % 2 ? 1 : 3;
    c.classes = 1;
    c.storage = HYMN_STORAGE_F16;
    c.small_bindings = false;
    return c;
}

static bool able(void) {
    bool can = hymn_variant_allowed(&context->device->plan, "conv2d_matrix_pictures", NULL) &&
               32 % context->device->plan.matrix.k == 0;
    if (!can) {
        print_message("no cooperative matrices of a shape that fits\n");
    }
    return can;
}

static void test_joined(void **state) {
    (void)state;
    if (!able()) {
        skip();
    }
    const struct hymn_vk_matrix *m = &context->device->plan.matrix;
    const struct hymn_conv2d_tile tiles[] = {
        {m->m, 2, m->n, 2, 1, 1, 4, 1, 1},
        {2 * m->m, 2, 2 * m->n, 4, 1, 1, 4, 1, 1},
    };
    struct test_random random = test_random_start("op_pictures joined");
    for (uint32_t round = 0; round < 12; round++) {
        struct test_image_case c = make_case(&random, round);
        struct first first;
        if (test_share_leaves_out_of("conv2d_matrix_pictures")) {
            continue;
        }
        hymn_conv2d_matrix_force(&tiles[round / 6]);
        begin(&first, &c, test_random_range(&random, 1, 40), &random); // several columns of tiles too
        hymn_conv2d_matrix_force(NULL);
        compare(&first, &random);
        end(&first);
    }
}

// Other kernels, and a source that is not the network's input, are not for it.
static void test_not_joined(void **state) {
    (void)state;
    struct test_random random = test_random_start("op_pictures not joined");
    struct test_image_case c = make_case(&random, 0);
    struct first first;
    begin(&first, &c, 8, &random); // by rule: no matrices on software devices
    const struct hymn_vk_step *step = &first.lower.program.steps[0];
    bool thin = strcmp(step->shader->name, "conv2d_matrix_thin") == 0;
    assert_int_equal(hymn_picture_joined(&first.f.plan, step, &first.f.input) != NULL, thin);
    end(&first);
    if (!able()) {
        skip();
    }
    const struct hymn_vk_matrix *m = &context->device->plan.matrix;
    const struct hymn_conv2d_tile tile = {m->m, 2, m->n, 2, 1, 1, 4, 1, 1};
    hymn_conv2d_matrix_force(&tile);
    begin(&first, &c, 8, &random);
    hymn_conv2d_matrix_force(NULL);
    step = &first.lower.program.steps[0];
    assert_string_equal(step->shader->name, "conv2d_matrix_thin");
    assert_non_null(hymn_picture_joined(&first.f.plan, step, &first.f.input));
    assert_null(hymn_picture_joined(&first.f.plan, step, &first.f.output));
    hymn_vk_plan_demote(&first.f.plan, hymn_shader_find("conv2d_matrix_pictures"), true);
    assert_null(hymn_picture_joined(&first.f.plan, step, &first.f.input));
    assert_int_equal(hymn_picture_join(&first.f.steps, step, c.format, (struct hymn_vk_binding){0}),
                     HYMN_STATUS_INTERNAL);
    end(&first);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_joined), cmocka_unit_test(test_not_joined)};
    return op_main(argc, argv,
                   &(struct op_program){"op_pictures", &context, tests, sizeof tests / sizeof *tests, NULL});
}
