// SPDX-License-Identifier: MIT
//
// Tuning: what it finds is kept and used again, whatever it finds is right, and its time is bounded. Software devices
// are not tuned by themselves: the plan says that this is another kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "ops/ops.h"
#include "support/test_context.h"
#include "support/test_conv.h"
#include "support/test_node.h"
#include "tune/trial.h"
#include "tune/tune.h"
#include "vk/pipeline.h"
#include "vk/store.h"
#include "vk/timer.h"

static struct hymn_context *context;

static struct hymn_vk_plan make_plan(void) {
    struct hymn_vk_plan plan = context->device->plan;
    plan.cpu = plan.weights_f32 = false;
    return plan;
}

static void build_scan(struct test_node *test, struct test_random *random, uint32_t side) {
    enum { CHANNELS = 16, STATES = 4, RANK = 4 };
    test_node_begin(test, HYMN_KIND_SELECTIVE_SCAN, 1, HYMN_STORAGE_F32);
    struct hymn_node *node = test->node;
    uint32_t row = hymn_round_up(RANK + 2 * STATES, 8);
    test_node_input(test, random, side, side, CHANNELS, HYMN_STORAGE_F32, -1.0f, 1.0f);
    test_node_input(test, random, side, side, 4 * row, HYMN_STORAGE_F32, -1.0f, 1.0f);
    uint32_t output = test_node_output(test, side, side, CHANNELS, HYMN_STORAGE_F32);
    test->graph.values[test->outputs[output].value].planes = 4;
    node->terms[0].source = (struct hymn_source){test->inputs[0].value, 0, CHANNELS};
    node->terms[1].source = (struct hymn_source){test->inputs[1].value, 0, 4 * row};
    node->term_count = 2;
    node->output = test->outputs[output].value;
    node->d_state = STATES;
    node->dt_rank = RANK;
    node->dt_weights = test_node_array(test, random, 4 * CHANNELS * RANK, -1.0f, 1.0f);
    node->dt_bias = test_node_array(test, random, 4 * CHANNELS, -3.0f, 0.0f);
    float *a = test_node_array(test, random, 4 * CHANNELS * STATES, -2.0f, 1.0f);
    for (uint32_t i = 0; i < 4 * CHANNELS * STATES; i++) {
        a[i] = -expf(a[i]);
    }
    node->a = a;
    node->d = test_node_array(test, random, 4 * CHANNELS, -1.0f, 1.0f);
}

static double *run(struct test_node *test, const struct hymn_vk_plan *plan) {
    for (uint32_t i = 0; i < 3; i++) {
        test->node->scratch[i] = HYMN_NONE;
    }
    test_node_run(test, context, plan, 0, NULL);
    size_t count = test_op_size(&test->graph, test->outputs[0].value);
    double *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = test->outputs[0].data[i];
    }
    return values;
}

static void test_found_kept_and_right(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune");
    struct hymn_vk_plan plan = make_plan();
    if (!plan.timestamps) {
        skip();
    }
    struct test_node test;
    build_scan(&test, &random, 21);
    double *own = run(&test, &plan), spent = 0.0;
    uint32_t known = hymn_vk_store_count(context->device);

    // No budget: nothing is timed and nothing is known.
    assert_int_equal(hymn_tune_graph(context->device, &plan, &test.graph, 0.0, &spent), HYMN_STATUS_OK);
    assert_false(test.node->tuned);
    assert_true(spent == 0.0);
    assert_false(hymn_tune_is_known(context->device, &plan, &test.graph));

    assert_int_equal(hymn_tune_graph(context->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_true(test.node->tuned);
    assert_true(spent > 0.0);
    assert_true(hymn_tune_is_known(context->device, &plan, &test.graph));
    assert_true(hymn_vk_store_count(context->device) > known);
    struct hymn_method found = test.node->method;

    test.node->tuned = false;
    memset(&test.node->method, 0xFF, sizeof found);
    assert_int_equal(hymn_tune_graph(context->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_true(test.node->tuned);
    assert_true(spent == 0.0);
    assert_memory_equal(&test.node->method, &found, sizeof found);

    double *tuned = run(&test, &plan);
    test_node_compare(&test, 0, own, 1e-10, "tuned");
    free(own);
    free(tuned);
    test_node_end(&test);
}

// Little time is enough for a few ways, which are used; a later call goes on to all of them.
static void test_goes_on_where_it_stopped(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune goes on");
    struct hymn_vk_plan plan = make_plan();
    if (!plan.timestamps) {
        skip();
    }
    struct test_node test;
    build_scan(&test, &random, 23);
    double *own = run(&test, &plan), spent = 0.0;
    for (uint32_t call = 0; call < 4; call++) {
        static const double budgets[] = {20.0, 0.0, 60000.0, 60000.0};
        test.node->tuned = false;
        assert_int_equal(hymn_tune_graph(context->device, &plan, &test.graph, budgets[call], &spent), HYMN_STATUS_OK);
        assert_true(test.node->tuned);
        assert_int_equal(spent > 0.0, call % 2 == 0);
        double *tuned = run(&test, &plan);
        test_node_compare(&test, 0, own, 1e-10, "tuned");
        free(tuned);
    }
    free(own);
    test_node_end(&test);
}

// Every way that is listed computes the same.
static void test_all_methods_right(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune methods");
    struct hymn_vk_plan plan = make_plan();
    struct test_node test;
    build_scan(&test, &random, 33);
    struct hymn_method methods[24];
    double *own = run(&test, &plan);
    test.node->scratch[0] = test.node->scratch[1] = HYMN_NONE;
    uint32_t count = hymn_ops[HYMN_KIND_SELECTIVE_SCAN].list_methods(&test.graph, test.node, &plan, NULL, methods, 24);
    assert_true(count > 1);
    for (uint32_t i = 0; i < count; i++) {
        test.node->tuned = true;
        test.node->method = methods[i];
        free(run(&test, &plan));
        char what[64];
        snprintf(what, sizeof what, "method %u: chunk %u, group %u, block %u, span %u", i, methods[i].words[0],
                 methods[i].words[1], methods[i].words[2], methods[i].words[3]);
        test_node_compare(&test, 0, own, 1e-10, what);
    }
    free(own);
    test_node_end(&test);
}

static void open_and_run(const struct hymn_vk_plan *plan, const struct hymn_graph *graph, const struct hymn_node *node,
                         const struct hymn_method *method, VkFence fence, struct hymn_trial *trial, uint8_t **output) {
    struct hymn_vk_device *device = context->device;
    struct hymn_vk_buffer activations = {0};
    assert_int_equal(hymn_trial_open(device, plan, graph, node, method, trial), HYMN_STATUS_OK);
    const struct hymn_vk_program *program = &trial->lower.program;
    assert_int_equal(hymn_vk_pipelines_prepare(device, program->steps, program->count), HYMN_STATUS_OK);
    assert_int_equal(
        hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, trial->graph.activation_bytes, "trial", &activations),
        HYMN_STATUS_OK);
    assert_int_equal(hymn_trial_ready(device, &activations, trial), HYMN_STATUS_OK);
    assert_int_equal(hymn_trial_output(device, &activations, trial, fence, output), HYMN_STATUS_OK);
    // Its steps' first times; the shortest of the others, of which the whole run has more.
    double span = hymn_vk_timer_span(device, &trial->command, &trial->command) / (HYMN_TRIAL_TIMES - 1);
    assert_true(plan->timestamps ? trial->ms > 0.0 && trial->best_ms > 0.0 && trial->best_ms <= span
                                 : trial->ms < 0.0 && trial->best_ms < 0.0);
    // As many runs again and more than are remembered: the median is of some of them.
    hymn_trial_forget(trial);
    assert_true(trial->ms < 0.0 && trial->best_ms < 0.0);
    double least = INFINITY, most = 0.0;
    for (uint32_t i = 0; i < HYMN_CHOICE_SAMPLES + 3 && plan->timestamps; i++) {
        assert_int_equal(hymn_trial_run(device, trial, fence), HYMN_STATUS_OK);
        double first = 0.0;
        for (uint32_t step = 0; step < program->count; step++) {
            first += trial->step_ms[step];
        }
        bool remembered = i >= 3;
        least = remembered && first < least ? first : least;
        most = remembered && first > most ? first : most;
    }
    assert_true(!plan->timestamps || (trial->ms >= least && trial->ms <= most));
    hymn_vk_buffer_destroy(device, &activations);
}

// The results of a way are compared before it is taken: another number, or one that is not written, is noticed.
static void test_wrong_results_are_noticed(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune results");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    struct test_node test;
    build_scan(&test, &random, 19);
    struct hymn_method methods[2];
    assert_true(hymn_ops[HYMN_KIND_SELECTIVE_SCAN].list_methods(&test.graph, test.node, &plan, NULL, methods, 2) == 2);
    uint8_t *outputs[2];
    struct hymn_trial trials[2];
    VkFence fence;
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    for (uint32_t i = 0; i < 2; i++) {
        open_and_run(&plan, &test.graph, test.node, &methods[i], fence, &trials[i], &outputs[i]);
    }
    assert_true(hymn_trial_agrees(&trials[1], outputs[1], outputs[0]));
    float kept, wrong = 1.0f, missing = NAN;
    memcpy(&kept, outputs[1] + 400, sizeof kept);
    wrong += kept;
    memcpy(outputs[1] + 400, &wrong, sizeof wrong);
    assert_false(hymn_trial_agrees(&trials[1], outputs[1], outputs[0]));
    memcpy(outputs[1] + 400, &missing, sizeof missing);
    assert_false(hymn_trial_agrees(&trials[1], outputs[1], outputs[0]));
    for (uint32_t i = 0; i < 2; i++) {
        hymn_free(outputs[i]);
        hymn_trial_close(device, &trials[i]);
    }
    hymn_vk_fence_destroy(device, &fence);
    test_node_end(&test);
}

// Of a scan, which is built.
static struct hymn_method first_method(struct test_node *test, struct test_random *random,
                                       const struct hymn_vk_plan *plan) {
    struct hymn_method method;
    build_scan(test, random, 19);
    assert_true(hymn_ops[HYMN_KIND_SELECTIVE_SCAN].list_methods(&test->graph, test->node, plan, NULL, &method, 1) == 1);
    return method;
}

// Of a large output, the beginning and the end.
static void test_ends_of_large_results_are_compared(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune ends");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    struct test_node test;
    struct hymn_method method = first_method(&test, &random, &plan);
    struct hymn_trial trial;
    struct hymn_vk_buffer activations = {0};
    uint8_t *whole, *ends, *again;
    VkFence fence;
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    open_and_run(&plan, &test.graph, test.node, &method, fence, &trial, &whole);
    assert_int_equal(
        hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, trial.graph.activation_bytes, "trial", &activations),
        HYMN_STATUS_OK);
    const struct hymn_value *output = &trial.graph.values[trial.graph.nodes[0].output];
    const uint64_t pixel = output->stride * (output->storage == HYMN_STORAGE_F16 ? 2u : 4u), part = 3 * pixel;
    trial.most_compared = part + pixel - 1;
    assert_int_equal(hymn_trial_output(device, &activations, &trial, fence, &ends), HYMN_STATUS_OK);
    assert_memory_equal(ends, whole, part);
    assert_memory_equal(ends + part, whole + output->bytes - part, part);
    assert_int_equal(hymn_trial_output(device, &activations, &trial, fence, &again), HYMN_STATUS_OK);
    assert_true(hymn_trial_agrees(&trial, again, ends));
    memset(again + 2 * part - 4, 0xFF, 4);
    assert_false(hymn_trial_agrees(&trial, again, ends));
    hymn_free(whole);
    hymn_free(ends);
    hymn_free(again);
    hymn_vk_buffer_destroy(device, &activations);
    hymn_trial_close(device, &trial);
    hymn_vk_fence_destroy(device, &fence);
    test_node_end(&test);
}

// A second pass over the methods may take larger memory than the first had: results are of what is there then.
static void test_results_are_of_the_memory_at_hand(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune memory");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    struct test_node test;
    struct hymn_method method = first_method(&test, &random, &plan);
    uint8_t *before, *after;
    struct hymn_trial trial;
    VkFence fence;
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    open_and_run(&plan, &test.graph, test.node, &method, fence, &trial, &before);
    struct hymn_vk_buffer larger = {0};
    assert_int_equal(
        hymn_vk_buffer_create(device, HYMN_VK_USAGE_DEVICE, 2 * trial.graph.activation_bytes, "larger", &larger),
        HYMN_STATUS_OK);
    assert_int_equal(hymn_trial_output(device, &larger, &trial, fence, &after), HYMN_STATUS_OK);
    assert_true(hymn_trial_agrees(&trial, after, before));
    hymn_free(before);
    hymn_free(after);
    hymn_trial_close(device, &trial);
    hymn_vk_buffer_destroy(device, &larger);
    hymn_vk_fence_destroy(device, &fence);
    test_node_end(&test);
}

// What does not fit into one piece of memory is not timed; the others are.
static void test_trials_that_do_not_fit_cost_only_themselves(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune room");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    if (!plan.timestamps) {
        skip();
    }
    struct test_node test;
    build_scan(&test, &random, 35);
    struct hymn_method methods[HYMN_TUNE_MOST_METHODS];
    uint64_t bytes[HYMN_TUNE_MOST_METHODS], most = 0;
    const struct hymn_op *op = &hymn_ops[HYMN_KIND_SELECTIVE_SCAN];
    uint32_t count = op->list_methods(&test.graph, test.node, &plan, NULL, methods, HYMN_TUNE_MOST_METHODS);
    for (uint32_t i = 0; i < count; i++) {
        struct hymn_trial trial;
        assert_int_equal(hymn_trial_open(device, &plan, &test.graph, test.node, &methods[i], &trial), HYMN_STATUS_OK);
        bytes[i] = trial.graph.activation_bytes;
        most = bytes[i] > most ? bytes[i] : most;
        hymn_trial_close(device, &trial);
    }
    assert_true(count > 1);
    if (bytes[0] == most) {
        print_message("the operator's own choice takes the most\n");
        test_node_end(&test);
        skip();
    }
    double spent = 0.0;
    const uint64_t room = device->plan.max_piece_bytes;
    device->plan.max_piece_bytes = most - 1;
    enum hymn_status status = hymn_tune_graph(device, &plan, &test.graph, 60000.0, &spent);
    device->plan.max_piece_bytes = room;
    assert_int_equal(status, HYMN_STATUS_OK);
    assert_true(test.node->tuned);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(bytes[i] < most || memcmp(&methods[i], &test.node->method, sizeof *methods) != 0);
    }
    test_node_end(&test);
}

static PFN_vkQueueSubmit real_submit;
static uint32_t submissions;

static VKAPI_ATTR VkResult VKAPI_CALL counting_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *submits,
                                                      VkFence fence) {
    submissions++;
    return real_submit(queue, count, submits, fence);
}

// A trial that takes long is cut into submissions, as runs are.
static void test_long_trials_are_divided(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune divided");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    struct test_node test;
    struct hymn_method method = first_method(&test, &random, &plan);
    uint8_t *outputs[2];
    uint32_t counts[2];
    VkFence fence;
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    real_submit = device->table.vkQueueSubmit;
    device->table.vkQueueSubmit = counting_submit;
    double limit = device->submission_seconds;
    for (uint32_t i = 0; i < 2; i++) {
        struct hymn_trial trial;
        submissions = 0;
        open_and_run(&plan, &test.graph, test.node, &method, fence, &trial, &outputs[i]);
        counts[i] = submissions;
        device->submission_seconds = trial.repeated.steps[0].seconds / 3;
        assert_true(i == 0 || hymn_trial_agrees(&trial, outputs[1], outputs[0]));
        hymn_trial_close(device, &trial);
    }
    device->submission_seconds = limit;
    device->table.vkQueueSubmit = real_submit;
    assert_true(counts[1] >= counts[0] + HYMN_TRIAL_TIMES - 1);
    hymn_free(outputs[0]);
    hymn_free(outputs[1]);
    hymn_vk_fence_destroy(device, &fence);
    test_node_end(&test);
}

// Where a convolution finds its source's statistics by itself, its trial has none, and all tiles find the same.
static void test_ways_of_a_norm_agree(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune norm");
    struct hymn_vk_plan plan = make_plan();
    struct hymn_vk_device *device = context->device;
    struct test_conv_case c = {.height = 9,
                               .width = 7,
                               .batch = 1,
                               .term_count = 1,
                               .kernels = {1},
                               .channels = {104},
                               .parts = {72},
                               .part_count = 1,
                               .prologue = HYMN_PROLOGUE_NORM,
                               .sources = {HYMN_STORAGE_F16},
                               .output = HYMN_STORAGE_F16};
    struct test_conv conv;
    test_conv_build(&conv, &c, &random);
    struct hymn_method methods[2];
    uint8_t *outputs[2] = {NULL, NULL};
    struct hymn_trial trials[2];
    VkFence fence = VK_NULL_HANDLE;
    uint32_t count = hymn_ops[HYMN_KIND_CONV2D].list_methods(&conv.graph, conv.node, &plan, NULL, methods, 2);
    if (count == 2) {
        assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    }
    for (uint32_t i = 0; i < count; i++) {
        open_and_run(&plan, &conv.graph, conv.node, &methods[i], fence, &trials[i], &outputs[i]);
        assert_true(trials[i].graph.nodes[0].stats == HYMN_NONE);
    }
    bool agree = count < 2 || hymn_trial_agrees(&trials[1], outputs[1], outputs[0]);
    for (uint32_t i = 0; i < count; i++) {
        hymn_free(outputs[i]);
        hymn_trial_close(device, &trials[i]);
    }
    hymn_vk_fence_destroy(device, &fence);
    test_conv_destroy(&conv);
    assert_true(agree);
    if (count < 2) {
        print_message("no cooperative matrices\n");
        skip();
    }
}

static PFN_vkWaitForFences real_wait;
static uint32_t waits, waits_until_loss; // 0: it is never lost
static double nap;                       // seconds

// Of a device that takes long for everything, or that is lost.
static VKAPI_ATTR VkResult VKAPI_CALL slow_wait(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
                                                uint64_t timeout) {
    const double end = hymn_time_now() + nap;
    VkResult result = real_wait(device, count, fences, all, timeout);
    while (hymn_time_now() < end) {
    }
    return ++waits == waits_until_loss ? VK_ERROR_DEVICE_LOST : result;
}

// Opens another context for a test, whose waits are as above.
static struct hymn_context *open_slow(double seconds, uint32_t until_loss) {
    struct hymn_context *opened = test_context_open();
    assert_non_null(opened);
    opened->device->trust_variants = true;
    real_wait = opened->device->table.vkWaitForFences;
    opened->device->table.vkWaitForFences = slow_wait;
    nap = seconds;
    waits = 0;
    waits_until_loss = until_loss;
    return opened;
}

static struct hymn_method own_method(const struct test_node *test, const struct hymn_vk_plan *plan) {
    struct hymn_method method;
    assert_int_equal(hymn_ops[HYMN_KIND_SELECTIVE_SCAN].list_methods(&test->graph, test->node, plan, NULL, &method, 1),
                     1);
    return method;
}

// Where one run of a node takes much of the time, the operator's own choice is run, no more, and other starts come to
// an end with it too. With more time it is tuned.
static void test_slow_devices_keep_the_time(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune slow");
    struct hymn_vk_plan plan = make_plan();
    if (!plan.timestamps) {
        skip();
    }
    struct hymn_context *slow = open_slow(0.1, 0);
    struct test_node test;
    build_scan(&test, &random, 25);
    const struct hymn_method own = own_method(&test, &plan);
    double spent = 1.0;
    for (uint32_t start = 0; start < 10 && spent > 0.0; start++) {
        test.node->tuned = false;
        waits = 0;
        assert_int_equal(hymn_tune_graph(slow->device, &plan, &test.graph, 200.0, &spent), HYMN_STATUS_OK);
        assert_true(test.node->tuned);
        assert_memory_equal(&test.node->method, &own, sizeof own);
        assert_true(spent == 0.0 || waits > 0);
        assert_true(waits <= 4 || !plan.skip_staging); // else there are uploads too
    }
    assert_true(spent == 0.0);
    nap = 0.0;
    assert_int_equal(hymn_tune_graph(slow->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_true(spent > 0.0);
    assert_int_equal(hymn_tune_graph(slow->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_true(spent == 0.0);
    test_node_end(&test);
    assert_int_equal(test_context_close(&slow), 0);
}

// What has lost the device is not tried again at the next start.
static void test_lost_devices_are_remembered(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune lost");
    struct hymn_vk_plan plan = make_plan();
    if (!plan.timestamps) {
        skip();
    }
    struct hymn_context *lost = open_slow(0.0, 8);
    struct test_node test;
    build_scan(&test, &random, 27);
    const struct hymn_method own = own_method(&test, &plan);
    double spent = 0.0;
    lost->device->slowness = 1e5; // long enough for a driver to end it; it is
    assert_int_equal(hymn_tune_graph(lost->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_DEVICE_LOST);
    assert_int_equal(waits, 8);
    assert_true(lost->device->slowness == 4e5);
    lost->device->lost = false; // another start
    assert_int_equal(hymn_tune_graph(lost->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_true(spent == 0.0);
    assert_true(test.node->tuned);
    assert_memory_equal(&test.node->method, &own, sizeof own);
    test_node_end(&test);
    assert_int_equal(test_context_close(&lost), 0);
}

// A trial tells of a device that is slower than thought, not of a faster one.
static void test_trials_teach_slowness(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune slowness");
    struct hymn_vk_plan plan = make_plan();
    if (!plan.timestamps) {
        skip();
    }
    struct hymn_context *fresh = open_slow(0.0, 0), *usual = context;
    struct hymn_vk_device *device = fresh->device;
    struct test_node test;
    struct hymn_method method = first_method(&test, &random, &plan);
    struct hymn_trial trial;
    uint8_t *output;
    VkFence fence;
    assert_int_equal(hymn_vk_fence_create(device, &fence), HYMN_STATUS_OK);
    device->slowness = 1e-5;
    device->submission_seconds = 1e-6; // all trials are long
    context = fresh;
    open_and_run(&plan, &test.graph, test.node, &method, fence, &trial, &output);
    context = usual;
    assert_true(trial.estimate > 0.0);
    assert_true(device->slowness == 1e-5);
    hymn_trial_learn(device, &trial);
    const double found = device->slowness;
    assert_true(found > 1.25e-5);
    device->slowness = 100.0 * found;
    hymn_trial_learn(device, &trial);
    assert_true(device->slowness == 100.0 * found);
    hymn_free(output);
    hymn_trial_close(device, &trial);
    // And tuning asks them, where it comes to a run.
    device->slowness = 1e-5;
    double spent = 0.0;
    assert_int_equal(hymn_tune_graph(device, &plan, &test.graph, 1000.0, &spent), HYMN_STATUS_OK);
    assert_true(device->slowness > 1.25e-5);
    hymn_vk_fence_destroy(device, &fence);
    test_node_end(&test);
    assert_int_equal(test_context_close(&fresh), 0);
}

static void test_software_devices_are_left_alone(void **state) {
    (void)state;
    struct test_random random = test_random_start("tune software");
    struct hymn_vk_plan plan = make_plan();
    plan.cpu = true;
    struct test_node test;
    build_scan(&test, &random, 8);
    double spent = 1.0;
    assert_int_equal(hymn_tune_graph(context->device, &plan, &test.graph, 60000.0, &spent), HYMN_STATUS_OK);
    assert_false(test.node->tuned);
    assert_true(spent == 0.0);
    test_node_end(&test);
}

int main(void) {
    context = test_context_open();
    if (!context) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_kept_and_right),
        cmocka_unit_test(test_goes_on_where_it_stopped),
        cmocka_unit_test(test_all_methods_right),
        cmocka_unit_test(test_wrong_results_are_noticed),
        cmocka_unit_test(test_ends_of_large_results_are_compared),
        cmocka_unit_test(test_results_are_of_the_memory_at_hand),
        cmocka_unit_test(test_trials_that_do_not_fit_cost_only_themselves),
        cmocka_unit_test(test_long_trials_are_divided),
        cmocka_unit_test(test_ways_of_a_norm_agree),
        cmocka_unit_test(test_slow_devices_keep_the_time),
        cmocka_unit_test(test_lost_devices_are_remembered),
        cmocka_unit_test(test_trials_teach_slowness),
        cmocka_unit_test(test_software_devices_are_left_alone),
    };
    int failed = cmocka_run_group_tests_name("tune", tests, NULL, NULL);
    return test_context_close(&context) != 0 || failed;
}
