// SPDX-License-Identifier: MIT
//
// Pre- and post-processing of several images of one size in one step each way.
#include <string.h>

#include "support/op_main.h"
#include "support/test_image.h"

static struct hymn_context *context;

static uint64_t aligned(uint64_t bytes) {
    return (bytes + HYMN_IMAGE_ALIGNMENT - 1) / HYMN_IMAGE_ALIGNMENT * HYMN_IMAGE_ALIGNMENT;
}

// `count` images and their results, in calls of `size` images each.
static void add_all(struct test_image *f, bool tensor, uint32_t count, uint32_t size) {
    const struct test_image_case *c = &f->c;
    f->steps.count = 1;
    uint64_t input =
        aligned(tensor ? hymn_image_tensor_bytes(&f->steps) : hymn_image_pixel_bytes(c->format, c->height, c->width));
    uint64_t logits = aligned(hymn_image_logits_bytes(&f->steps));
    uint64_t floats = aligned(hymn_image_probability_bytes(&f->steps, c->height, c->width));
    uint64_t mask = aligned(hymn_image_mask_bytes(c->height, c->width));
    f->steps.count = count;
    uint64_t scratch = aligned(hymn_image_input_scratch_bytes(&f->steps, c->format, c->height, c->width));
    test_image_buffer(f, HYMN_VK_ROLE_UPLOAD, count * input);
    test_image_buffer(f, HYMN_VK_ROLE_IMAGE, scratch + count * logits);
    test_image_buffer(f, HYMN_VK_ROLE_READBACK, 2 * count * (logits + floats + mask));
    assert_true(hymn_image_most_together(&f->steps, tensor, c->format, c->height, c->width) >= count);
    f->steps.count = size;
    for (uint32_t i = 0; i < count; i += size, f->steps.index += size) {
        struct hymn_vk_binding from = {HYMN_VK_ROLE_UPLOAD, i * input, input};
        struct hymn_vk_binding columns = {HYMN_VK_ROLE_IMAGE, 0, scratch};
        struct hymn_vk_binding activated = {HYMN_VK_ROLE_IMAGE, scratch + i * logits, logits};
        struct hymn_vk_binding out = {HYMN_VK_ROLE_READBACK, i * logits, logits};
        assert_int_equal(tensor ? hymn_image_tensor_input(&f->steps, from)
                                : hymn_image_input(&f->steps, c->format, c->height, c->width, from, columns),
                         HYMN_STATUS_OK);
        assert_int_equal(hymn_image_logits(&f->steps, out), HYMN_STATUS_OK);
        assert_int_equal(hymn_image_activate(&f->steps, activated), HYMN_STATUS_OK);
        out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, count * logits + i * floats, floats};
        assert_int_equal(hymn_image_probabilities(&f->steps, activated, c->height, c->width, out), HYMN_STATUS_OK);
        out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, count * (logits + floats) + i * mask, mask};
        assert_int_equal(hymn_image_mask(&f->steps, activated, 0.5f, c->height, c->width, out), HYMN_STATUS_OK);
        if (hymn_image_is_of_session_size(&f->steps, c->height, c->width)) {
            out.offset += count * (logits + floats + mask);
            assert_int_equal(hymn_image_mask_directly(&f->steps, 0.5f, out), HYMN_STATUS_OK);
            out = (struct hymn_vk_binding){HYMN_VK_ROLE_READBACK, i * floats, floats};
            out.offset += count * (logits + floats + mask);
            assert_int_equal(hymn_image_probabilities_directly(&f->steps, out), HYMN_STATUS_OK);
        }
    }
}

// Images of one size in one step each way: the same bits as one by one, nothing between them touched.
static void test_together(void **state) {
    (void)state;
    struct test_random random = test_random_start("images together");
    for (uint32_t round = 0; round < 24; round++) {
        struct test_image_case c = test_image_random_case(&random);
        bool tensor = round % 3 == 0;
        uint32_t count = test_random_range(&random, 2, 5);
        c.small_bindings = false;
        c.batch = c.index + count;
        if (round % 2 == 0) {
            c.height = c.session_height;
            c.width = c.session_width;
        }
        struct test_image f[2];
        struct test_random start = random;
        for (uint32_t i = 0; i < 2; i++) { // alone, together
            random = start;
            test_image_begin(&f[i], context, &c, &random);
            add_all(&f[i], tensor, count, i ? count : 1);
            for (uint64_t k = 0; k < f[i].sizes[HYMN_VK_ROLE_UPLOAD] / 4; k++) {
                test_random_fill(&random, (float *)(void *)f[i].bytes[HYMN_VK_ROLE_UPLOAD] + k, 1, -1.0f, 1.0f);
            }
            test_random_fill(&random, (float *)(void *)(f[i].bytes[HYMN_VK_ROLE_ACTIVATIONS] + f[i].output.offset),
                             f[i].output.bytes / 4, -3.0f, 3.0f);
            test_image_run(&f[i], 0, NULL);
        }
        assert_int_equal(f[0].program.count, count * f[1].program.count);
        assert_memory_equal(f[0].bytes[HYMN_VK_ROLE_ACTIVATIONS], f[1].bytes[HYMN_VK_ROLE_ACTIVATIONS],
                            f[0].input.bytes);
        assert_memory_equal(f[0].bytes[HYMN_VK_ROLE_READBACK], f[1].bytes[HYMN_VK_ROLE_READBACK],
                            f[0].sizes[HYMN_VK_ROLE_READBACK]);
        test_image_end(&f[0]);
        test_image_end(&f[1]);
    }
}

// What does not fit into a binding, a scratch or a dispatch together goes alone.
static void test_most_together(void **state) {
    (void)state;
    struct test_random random = test_random_start("most together");
    const struct test_image_case c = {256, 256, HYMN_PIXEL_RGB8,  256,  256, 256, 256, 64, 0,
                                      3,   1,   HYMN_STORAGE_F16, false};
    struct test_image f;
    test_image_begin(&f, context, &c, &random);
    f.plan.max_binding_bytes = 1u << 27;
    assert_int_equal(hymn_image_most_together(&f.steps, false, HYMN_PIXEL_RGB8, 256, 200), 32); // MiB of scratch
    assert_int_equal(hymn_image_most_together(&f.steps, false, HYMN_PIXEL_GREY8, 256, 200), 128);
    assert_int_equal(hymn_image_most_together(&f.steps, false, HYMN_PIXEL_RGB8, 256, 256), 512); // 128 MiB of logits
    assert_int_equal(hymn_image_most_together(&f.steps, true, HYMN_PIXEL_RGB8, 256, 256), 170);  // 128 MiB of tensors
    assert_int_equal(hymn_image_most_together(&f.steps, false, HYMN_PIXEL_RGB8, 8192, 8192), 1);
    assert_int_equal(hymn_image_most_together(&f.steps, false, HYMN_PIXEL_RGB8, 65535, 1), 1);
    f.plan.max_binding_bytes = 1000;
    assert_int_equal(hymn_image_most_together(&f.steps, true, HYMN_PIXEL_RGB8, 256, 256), 1);
    test_image_end(&f);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_most_together),
    };
    return op_main(argc, argv,
                   &(struct op_program){"op_image_batch", &context, tests, sizeof tests / sizeof *tests, NULL});
}
