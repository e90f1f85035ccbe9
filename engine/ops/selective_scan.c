// SPDX-License-Identifier: MIT
//
// The selective scan's dispatches.
#include "ops/selective_scan.h"

#include "ops/grid.h"
#include "ops/scan_choice.h"
#include "shaders/params.h"

#define LOG2_E 1.44269504088896341

enum { MODE_WHOLE = 0, MODE_ENDS = 1, MODE_CARRIED = 2 };

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

// The projection is f16 where groups of lanes read it, whose lanes convert each number once, and its product leaves in
// half of the time; by the node's method, if it has one. Only the scan reads it.
void hymn_selective_scan_settle(struct hymn_graph *graph, const struct hymn_node *node,
                                const struct hymn_vk_plan *plan) {
    const struct hymn_scan scan = hymn_scan_describe(graph, node, plan);
    const bool half = graph->storage == HYMN_STORAGE_F16 && !plan->weights_f32 && scan.group > 0;
    graph->values[node->terms[1].source.value].storage = half ? HYMN_STORAGE_F16 : HYMN_STORAGE_F32;
}

// Scratch of chunks: states [4, batch, chunks, N, width] and sums of delta [4, batch, chunks, width].
enum hymn_status hymn_selective_scan_prepare(struct hymn_graph *graph, struct hymn_node *node,
                                             const struct hymn_vk_plan *plan, const struct hymn_log *log) {
    struct hymn_scan scan = hymn_scan_describe(graph, node, plan);
    if (scan.half_rows && scan.group == 0) { // settled for another plan
        graph->values[node->terms[1].source.value].storage = HYMN_STORAGE_F32;
    }
    if (scan.chunks == 1 || scan.together > 0) {
        return HYMN_STATUS_OK;
    }
    uint32_t rows[2] = {scan.states, 1};
    for (uint32_t i = 0; i < 2; i++) {
        node->scratch[i] = hymn_graph_add_value(graph, node->name, scan.chunks, rows[i], scan.width, HYMN_STORAGE_F32);
        if (node->scratch[i] == HYMN_NONE) {
            return hymn_fail(log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", node->name);
        }
        graph->values[node->scratch[i]].planes = 4;
    }
    return HYMN_STATUS_OK;
}

// Per direction rows of `width`: bias, Ds, A log2(e) (N rows), W_dt transposed (R rows).
static bool pack(struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_scan *scan,
                 struct hymn_vk_binding *out_binding) {
    uint32_t channels = node->terms[0].source.channels, rows = 2 + scan->states + scan->rank;
    float *to = hymn_lower_weights(lower, (uint64_t)4 * rows * scan->width * sizeof *to, out_binding);
    for (uint32_t k = 0; to && !lower->blank && k < 4; k++, to += (uint64_t)rows * scan->width) {
        for (uint32_t c = 0; c < channels; c++) {
            uint64_t at = (uint64_t)k * channels + c;
            to[c] = node->dt_bias[at];
            to[scan->width + c] = node->d[at];
            for (uint32_t n = 0; n < scan->states; n++) {
                to[(uint64_t)(2 + n) * scan->width + c] = (float)(node->a[at * scan->states + n] * LOG2_E);
            }
            for (uint32_t r = 0; r < scan->rank; r++) {
                to[(uint64_t)(2 + scan->states + r) * scan->width + c] = node->dt_weights[at * scan->rank + r];
            }
        }
    }
    return to != NULL;
}

static struct hymn_scan_params make_params(const struct hymn_graph *graph, const struct hymn_node *node,
                                           const struct hymn_scan *scan) {
    const struct hymn_value *output = &graph->values[node->output];
    return (struct hymn_scan_params){
        .image_width = output->width,
        .image_height = output->height,
        .batch = scan->batch,
        .width = scan->width,
        .source_stride = hymn_value_cells(&graph->values[node->terms[0].source.value]),
        .source_first = node->terms[0].source.first / 8,
        .proj_stride = graph->values[node->terms[1].source.value].stride / 4,
        .proj_row = hymn_round_up(scan->rank + 2 * scan->states, 8) / 4,
        .chunks = scan->chunks,
        .chunk_length = scan->chunk_length,
        .height_reciprocal = 1.0f / (float)output->height,
    };
}

// Of a pass over all of the sequence: what it reads, and what it computes.
static void count_work(const struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_scan *scan,
                       struct hymn_vk_step *step) {
    const struct hymn_value *values = lower->graph->values;
    step->bytes = values[node->output].bytes / 4 + values[node->terms[1].source.value].bytes;
    step->flops = (uint64_t)4 * scan->batch * scan->length * scan->width * (6 * scan->states + 2 * scan->rank);
}

static void bind_scan(const struct hymn_lower *lower, const struct hymn_node *node, struct hymn_vk_step *step,
                      struct hymn_vk_binding weights, uint32_t mode) {
    // Bindings that a mode does not touch still need a buffer.
    struct hymn_vk_binding result = hymn_lower_value(lower, node->output), states = result, sums = result;
    if (mode != MODE_WHOLE) {
        states = hymn_lower_value(lower, node->scratch[0]);
        sums = hymn_lower_value(lower, node->scratch[1]);
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[1].source.value), false);
    hymn_lower_bind(step, weights, false);
    hymn_lower_bind(step, mode == MODE_ENDS ? states : result, true);
    if (hymn_scan_has_few_buffers(lower->plan, lower->graph->values[node->output].storage)) {
        return;
    }
    // The last pass does not write these, but its shader could: what watches over barriers goes by that.
    hymn_lower_bind(step, states, true);
    hymn_lower_bind(step, sums, true);
}

static const char *shader_of(const struct hymn_scan *scan, bool joint, const char *suffix,
                             const struct hymn_vk_plan *plan) {
    if (scan->group > 0) {
        return scan->matrix ? "selective_scan_group_matrix" : "selective_scan_group";
    }
    if (!hymn_variant_allowed(plan, "selective_scan", suffix)) {
        return "selective_scan_few";
    }
    bool shuffle = plan->cpu && hymn_variant_allowed(plan, "selective_scan_shuffle", suffix);
    return joint ? "selective_scan_joint" : shuffle ? "selective_scan_shuffle" : "selective_scan";
}

static void step_constants(struct hymn_vk_step *step, const uint32_t *constants, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        hymn_step_constant(step, constants[i]);
    }
}

static enum hymn_status add_scan(struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_scan *scan,
                                 struct hymn_vk_binding weights, uint32_t mode) {
    const struct hymn_value *output = &lower->graph->values[node->output];
    const struct hymn_vk_plan *plan = lower->plan;
    const char *suffix = hymn_storage_suffix(output->storage);
    // With one chunk a workgroup the first pass is that of three.
    bool joint = mode == MODE_CARRIED ? scan->span > 0 : scan->span > 1;
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, shader_of(scan, joint, suffix, plan), suffix);
    if (!step) {
        return lower->status;
    }
    bind_scan(lower, node, step, weights, mode);
    struct hymn_scan_params params = make_params(lower->graph, node, scan);
    hymn_vk_step_push(step, &params, sizeof params);
    uint32_t local = scan->group > 0 ? scan->group_lanes : joint ? hymn_scan_joint_lanes(scan, plan) : scan->local;
    const uint32_t constants[] = {local + (scan->group > 0 ? scan->helpers : 0), plan->cpu, scan->states, scan->rank};
    const uint32_t woven = scan->group < plan->subgroup_size ? 2 : 1;
    const uint32_t group[] = {scan->group,  mode,          scan->block, scan->tile,
                              scan->rounds, scan->helpers, woven,       scan->half_rows};
    const uint32_t matrix[] = {plan->matrix.m, plan->matrix.n, plan->matrix.k, scan->helpers / plan->subgroup_size};
    const uint32_t alone[] = {scan->hold, mode, min_u32(plan->subgroup_size, scan->local)};
    const uint32_t shared[] = {scan->hold, mode, scan->span, min_u32(scan->states, HYMN_SCAN_ROUND), scan->staged};
    step_constants(step, constants, 4);
    step_constants(step, scan->group > 0 ? group : joint ? shared : alone, scan->group > 0 ? 8 : joint ? 5 : 3);
    step_constants(step, matrix, scan->group > 0 && scan->matrix ? 4 : 0);
    uint32_t lanes = scan->group > 0 ? scan->width / scan->tile * scan->group : scan->pairs,
             span = joint ? scan->span : 1;
    uint32_t chunks = mode == MODE_ENDS ? scan->chunks - 1 : scan->chunks;
    step->groups[0] = (lanes + local / span - 1) / (local / span);
    step->groups[1] = 4 * scan->batch;
    step->groups[2] = (chunks + span - 1) / span;
    count_work(lower, node, scan, step);
    step->bytes += mode == MODE_ENDS ? 0 : output->bytes;
    return HYMN_STATUS_OK;
}

static enum hymn_status add_local(struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_scan *scan,
                                  struct hymn_vk_binding weights) {
    const struct hymn_value *output = &lower->graph->values[node->output];
    struct hymn_vk_step *step =
        hymn_lower_dispatch(lower, node, "selective_scan_local", hymn_storage_suffix(output->storage));
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[0].source.value), false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->terms[1].source.value), false);
    hymn_lower_bind(step, weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->output), true);
    struct hymn_scan_params params = make_params(lower->graph, node, scan);
    hymn_vk_step_push(step, &params, sizeof params);
    const uint32_t constants[] = {scan->together * scan->chunks,
                                  lower->plan->cpu,
                                  scan->states,
                                  scan->rank,
                                  scan->together,
                                  scan->part,
                                  scan->kept,
                                  scan->staged};
    for (uint32_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        hymn_step_constant(step, constants[i]);
    }
    step->groups[0] = (scan->width + scan->together - 1) / scan->together;
    step->groups[1] = 4 * scan->batch;
    step->groups[2] = 1;
    count_work(lower, node, scan, step);
    step->bytes += output->bytes;
    return HYMN_STATUS_OK;
}

static enum hymn_status add_carry(struct hymn_lower *lower, const struct hymn_node *node, const struct hymn_scan *scan,
                                  struct hymn_vk_binding weights) {
    struct hymn_vk_step *step = hymn_lower_dispatch(lower, node, "selective_scan_carry", NULL);
    if (!step) {
        return lower->status;
    }
    hymn_lower_bind(step, weights, false);
    hymn_lower_bind(step, hymn_lower_value(lower, node->scratch[0]), true);
    hymn_lower_bind(step, hymn_lower_value(lower, node->scratch[1]), false);
    struct hymn_scan_params params = make_params(lower->graph, node, scan);
    hymn_vk_step_push(step, &params, sizeof params);
    enum hymn_status status =
        hymn_grid_set(step, lower->plan, lower->log, (uint64_t)scan->states * scan->width, (uint64_t)4 * scan->batch);
    hymn_step_constant(step, scan->states);
    hymn_step_constant(step, scan->rank);
    step->bytes = 2 * lower->graph->values[node->scratch[0]].bytes + lower->graph->values[node->scratch[1]].bytes;
    return status;
}

enum hymn_status hymn_selective_scan_lower(struct hymn_lower *lower, const struct hymn_node *node) {
    struct hymn_scan scan = hymn_scan_describe(lower->graph, node, lower->plan);
    struct hymn_vk_binding weights;
    if (scan.half_rows && scan.group == 0) {
        return hymn_fail(lower->log, HYMN_STATUS_INTERNAL, "%s: prepared for another device", node->name);
    }
    if (scan.chunks > 65535 || 4 * (uint64_t)scan.batch > 65535) {
        return hymn_fail(lower->log, HYMN_STATUS_UNSUPPORTED,
                         "%s: %u chunks of %u images are more than one dispatch does", node->name, scan.chunks,
                         scan.batch);
    }
    if (scan.chunks > 1 && scan.together == 0 &&
        hymn_scan_has_few_buffers(lower->plan, lower->graph->values[node->output].storage)) {
        return hymn_fail(lower->log, HYMN_STATUS_UNSUPPORTED,
                         "%s: %u steps are more than one pass does, and this device's shaders have too few storage "
                         "buffers for several: use a smaller size or tiles",
                         node->name, scan.length);
    }
    if (!pack(lower, node, &scan, &weights)) {
        return HYMN_STATUS_OUT_OF_MEMORY;
    }
    if (scan.together > 0) {
        return add_local(lower, node, &scan, weights);
    }
    if (scan.chunks == 1) {
        return add_scan(lower, node, &scan, weights, MODE_WHOLE);
    }
    enum hymn_status status = add_scan(lower, node, &scan, weights, MODE_ENDS);
    if (status == HYMN_STATUS_OK && scan.span == 0) {
        status = add_carry(lower, node, &scan, weights);
    }
    return status == HYMN_STATUS_OK ? add_scan(lower, node, &scan, weights, MODE_CARRIED) : status;
}
