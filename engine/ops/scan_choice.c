// SPDX-License-Identifier: MIT
//
// How a selective scan is computed: what its method or, without one, the rules make of a node on a device, and the
// methods worth timing.
#include "ops/scan_choice.h"

#include <string.h>

#include "ops/grid.h"

// W_dt stays in registers up to this rank: on devices with much shared memory per workgroup, and on the others (phones,
// Apple), whose lanes have 128 to 192 registers at most, of which state, A and a step's B and C take 100.
#define MAX_HELD_RANK 32u
#define MAX_HELD_RANK_SMALL 4u
#define SMALL_SHARED_BYTES (32u * 1024)
// No invocation may loop more than 65535 times on software devices (shaders/common/grid.glsl).
#define MAX_ITERATIONS 60000u
// Steps of a GPU's workgroup that walks alone, for it cannot be cut: at 20 us a step, which is slow, 1.3 of the two
// seconds after which systems reset a GPU (vk/divide.h).
#define LONGEST_WALK 65536u
// Chunks cost every step twice and a carry, so they must bring a few times the lanes.
#define MIN_CHUNKS 4u
#define MIN_CHUNK_LENGTH 16u
// Groups of lanes: channels and lanes of a workgroup at most, steps of a block; what hymn_divide divides exactly.
#define GROUP_CHANNELS 64u
#define GROUP_LANES 128u
#define HELPERS 64u // by rule
// Lanes a channel: where so many of them fill the device there are enough sequences to need no chunks (without helpers
// where half as many do), and many.
#define ENOUGH_LANES 32u
#define LONGEST_ALONE 1024u // steps, without helpers
#define MANY_LANES 4u
#define LOW_RANK 16u
#define MATRIX_RANK 32u // from which on delta is made faster on matrix units
#define MIN_BLOCK 8u
#define UNROLLED_ROUNDS 2u
#define UNROLLED_STEPS 16u
#define LONG_BLOCK 32u // its steps are all unrolled where a lane has one channel
#define MAX_DIVIDED (1u << 21)
#define CELL 8u
// Chunks within a workgroup: states that a lane holds, those that are carried at once, steps of a chunk worth trying,
// lanes, and the numbers that a lane of twice as many has room for where registers are few.
#define LOCAL_STATES 32u
#define LOCAL_PART 16u
#define LOCAL_LEAST_PART 4u
#define LOCAL_LEAST_CHUNK 8u
#define LOCAL_LONGEST_CHUNK 64u
#define LOCAL_LANES 256u
#define LOCAL_REGISTERS 80u
#define LONGEST_LOCAL 4096u // by rule, with chunks of 64 steps
// Chunks of a workgroup, where two passes do, its lanes, the rank above which more are too many, and the longest chunks
// (measured on an H100: with 128 steps and eight images three passes are faster by a twentieth).
#define OWN_SPAN 4u
#define MOST_OWN_SPAN 8u
#define OWN_LANES 256u
#define OWN_RANK 16u
#define SHORT_CHUNK 64u

static const struct hymn_scan_method *forced;

void hymn_selective_scan_force(const struct hymn_scan_method *method) {
    forced = method;
}

// What the node is to be computed by; NULL: the rule.
static const struct hymn_scan_method *method_of(const struct hymn_node *node, struct hymn_scan_method *storage) {
    if (forced || !node->tuned) {
        return forced;
    }
    const uint32_t *words = node->method.words;
    *storage = (struct hymn_scan_method){words[0], words[1], words[2], words[3], words[4],
                                         words[5], words[6], words[7], words[8]};
    return storage;
}

static void set_method(struct hymn_node *node, const struct hymn_scan_method *method) {
    node->tuned = true;
    node->method = (struct hymn_method){{method->chunk_length, method->group, method->block, method->together,
                                         method->lanes, method->span, method->tile, method->helpers, method->matrix}};
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t most_held(const struct hymn_vk_plan *plan) {
    return plan->cpu || plan->max_shared_bytes > SMALL_SHARED_BYTES ? MAX_HELD_RANK : MAX_HELD_RANK_SMALL;
}

static uint32_t local_size(uint32_t lanes, const struct hymn_vk_plan *plan) {
    uint32_t size = plan->cpu ? plan->subgroup_size : 64;
    while (size > 4 && size / 2 >= lanes) {
        size /= 2;
    }
    return min_u32(size, plan->max_invocations);
}

// Two passes walk a chunk, one walks the chunks: about half the root of the length balances them (measured on an H200).
static uint32_t shortest_chunk(uint32_t length) {
    uint32_t chunk = MIN_CHUNK_LENGTH;
    while ((uint64_t)4 * chunk * chunk < length) {
        chunk += 8;
    }
    return chunk;
}

// Whether shaders have four storage buffers, or are to make do with so many: then there are no chunks, for whose states
// there would have to be two more.
bool hymn_scan_has_few_buffers(const struct hymn_vk_plan *plan, enum hymn_storage storage) {
    return !hymn_variant_allowed(plan, "selective_scan", hymn_storage_suffix(storage));
}

static uint32_t choose_chunk_length(const struct hymn_scan *scan, const struct hymn_scan_method *method,
                                    enum hymn_storage storage, const struct hymn_vk_plan *plan) {
    uint32_t turns = 1 + (scan->hold ? 0 : scan->rank / 4); // of a step
    uint32_t longest = plan->cpu ? MAX_ITERATIONS / turns : LONGEST_WALK;
    if (hymn_scan_has_few_buffers(plan, storage)) {
        return min_u32(scan->length, longest);
    }
    if (method && method->chunk_length) {
        return min_u32(method->chunk_length, min_u32(longest, scan->length));
    }
    uint64_t lanes = (uint64_t)4 * scan->batch * scan->pairs;
    uint64_t chunks = plan->target_lanes / lanes, most = scan->length / shortest_chunk(scan->length);
    chunks = chunks < most ? chunks : most;
    uint32_t length = chunks < MIN_CHUNKS ? scan->length : (uint32_t)((scan->length + chunks - 1) / chunks);
    return min_u32(length, longest);
}

// ------------------------------------------------------------------------------------------- groups of lanes a channel

// The shader's PAIRED.
static uint32_t paired_steps(const struct hymn_scan *scan) {
    return 2 * scan->group / scan->tile;
}

// In the shader's words: channels of a workgroup, states a lane.
static uint32_t group_channels(const struct hymn_scan *scan) {
    return scan->group_lanes / scan->group * scan->tile;
}

static uint32_t states_each(const struct hymn_scan *scan) {
    return (scan->states + scan->group - 1) / scan->group;
}

// As the shader declares them.
static uint64_t shared_bytes(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    uint32_t each = states_each(scan), pairs = group_channels(scan) / 2, dt = hymn_round_up(scan->rank, 4);
    uint32_t both = 2 * (hymn_round_up(scan->group * each, 4) / 4); // B and C
    uint32_t rows = each % 4 == 2 ? 6 : 3, paired = paired_steps(scan);
    uint32_t results = pairs + (paired < 16 ? 16 / paired : 1);
    if (!scan->matrix) {
        return (uint64_t)scan->block * (rows * (dt / 4 + both) * 16 + 2 * (pairs * 16 + results * 8) + 16 * 4) +
               (uint64_t)dt * pairs * 8 + 32;
    }
    uint32_t units = hymn_round_up(scan->rank + 2, plan->matrix.k) / CELL, pitch = units + (units % 4 == 0);
    uint32_t step = 3 * both * 16 + 2 * (results * 8 + pitch * 16 + (2 * pairs / CELL + 1) * 16) + 8 * 4;
    return (uint64_t)scan->block * step + (uint64_t)2 * pairs * (2 * (scan->block / 2 + 1) + pitch) * 16 + 32;
}

// Whether helpers can make delta on matrix units: as common/scan_make_matrix.glsl wants it.
static bool divides_into_matrices(const struct hymn_scan *scan, enum hymn_storage storage,
                                  const struct hymn_vk_plan *plan) {
    const struct hymn_vk_matrix *matrix = &plan->matrix;
    uint32_t each = states_each(scan), channels = group_channels(scan);
    uint32_t fold = scan->tile > 1 ? paired_steps(scan) : scan->group;
    bool fits = scan->half_rows && storage == HYMN_STORAGE_F16 &&
                hymn_variant_allowed(plan, "selective_scan_group_matrix", ".f16") && scan->helpers > 0 &&
                scan->rank % CELL == 0 && scan->states % CELL == 0 && each % 4 == 0 &&
                each * scan->group == scan->states && fold % 4 == 0;
    if (!fits || scan->helpers % plan->subgroup_size != 0 || channels % CELL != 0 || channels % matrix->m != 0 ||
        scan->helpers % (channels / CELL) != 0 || scan->block % matrix->n != 0) {
        return false;
    }
    uint32_t helpers = scan->helpers / plan->subgroup_size, across = scan->block / matrix->n;
    uint32_t down = across % helpers == 0 ? 1 : helpers / across;
    return (across % helpers == 0 || helpers % across == 0) && channels / matrix->m % down == 0;
}

// Channels of a workgroup: each row is in its shared memory once, for all of them.
static uint32_t choose_group_lanes(const struct hymn_scan *scan, uint32_t wanted, const struct hymn_vk_plan *plan) {
    uint32_t lanes = wanted > 0 ? wanted : GROUP_CHANNELS * scan->group / scan->tile;
    lanes = wanted > 0 || lanes < GROUP_LANES ? lanes : GROUP_LANES;
    return plan->subgroup_size > lanes ? plan->subgroup_size : lanes;
}

static bool group_fits(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    uint32_t least = scan->tile > 1 ? scan->group : 2 * scan->group; // of a subgroup
    uint32_t lanes = scan->group_lanes + scan->helpers, pairs = group_channels(scan) / 2;
    uint32_t made = pairs > 0 ? (scan->helpers > 0 ? scan->helpers : lanes) / pairs : 0; // steps at a time
    return made > 0 && least <= plan->subgroup_size && scan->tile <= scan->group && lanes <= plan->max_invocations &&
           scan->group_lanes % plan->subgroup_size == 0 && scan->helpers % plan->subgroup_size == 0 &&
           scan->helpers % pairs == 0 && scan->block % paired_steps(scan) == 0 && scan->block % made == 0 &&
           shared_bytes(scan, plan) <= plan->max_shared_bytes;
}

// Whether so many lanes a channel are as many as fill the device.
static bool lanes_fill(const struct hymn_scan *scan, uint32_t lanes, const struct hymn_vk_plan *plan) {
    return (uint64_t)4 * scan->batch * scan->width * lanes >= plan->target_lanes;
}

// Helpers, as the scan's lanes should wait for nothing else: with as many states a lane (eight, or four) as leave lanes
// enough to fill the device, and where there are many sequences those of one channel, unless the weights of delta,
// which every block reads anew, are many: these on matrix units, where there are some. Without room for helpers two
// channels a lane where there are many sequences, in short blocks, which leave shared memory to more workgroups; chunks
// are better for long sequences where there are fewer. Group 0 where there are too few sequences. Measured on an H100.
static struct hymn_scan_method group_rule(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    const bool many = lanes_fill(scan, MANY_LANES, plan), low_rank = scan->rank <= LOW_RANK;
    const struct hymn_scan_method none = {0};
    struct hymn_scan_method helped = {.group = 4, .tile = 2, .block = 16, .lanes = GROUP_LANES, .helpers = HELPERS};
    helped.matrix = scan->rank >= MATRIX_RANK && scan->half_rows &&
                    hymn_variant_allowed(plan, "selective_scan_group_matrix", ".f16");
    if (!lanes_fill(scan, 2 * MANY_LANES, plan)) {
        helped.tile = 1, helped.block = helped.matrix ? 16 : LONG_BLOCK; // what matrices take has no room for 32
    } else if (many && low_rank) {
        helped.group = 2, helped.tile = 1;
    }
    if (helped.lanes + helped.helpers <= plan->max_invocations && helped.helpers % plan->subgroup_size == 0) {
        return lanes_fill(scan, ENOUGH_LANES, plan) ? helped : none;
    }
    if (many) {
        return (struct hymn_scan_method){.group = 4, .tile = 2, .block = low_rank ? 8 : 16};
    }
    const struct hymn_scan_method alone = {.group = 4, .tile = 1, .block = 16};
    return lanes_fill(scan, ENOUGH_LANES / 2, plan) && scan->length <= LONGEST_ALONE ? alone : none;
}

// Fills group and block; group 0 where selective_scan.comp does better (software devices), or must do.
static void choose_group(struct hymn_scan *scan, const struct hymn_scan_method *method, enum hymn_storage storage,
                         const struct hymn_vk_plan *plan) {
    scan->group = scan->tile = scan->block = 0;
    bool able = hymn_variant_allowed(plan, "selective_scan_group", hymn_storage_suffix(storage)) &&
                scan->rank <= MAX_HELD_RANK && scan->length < MAX_DIVIDED && scan->length / MIN_BLOCK <= MAX_ITERATIONS;
    if (!able || (!method && plan->cpu)) {
        return;
    }
    struct hymn_scan_method wanted = method ? *method : group_rule(scan, plan);
    if (wanted.group == 0) {
        return;
    }
    scan->group = wanted.group;
    scan->tile = wanted.tile;
    scan->block = wanted.block;
    scan->group_lanes = choose_group_lanes(scan, wanted.lanes, plan);
    scan->helpers = wanted.helpers;
    scan->matrix = wanted.matrix && wanted.chunk_length == 0 && divides_into_matrices(scan, storage, plan);
    scan->matrix = scan->matrix && group_fits(scan, plan);
    while (scan->block > MIN_BLOCK && !group_fits(scan, plan)) {
        scan->block /= 2;
    }
    uint32_t steps = scan->tile == 1 && !scan->matrix && scan->block >= LONG_BLOCK ? LONG_BLOCK : UNROLLED_STEPS;
    uint32_t rounds = scan->helpers > 0 ? steps * scan->tile / (2 * scan->group) : UNROLLED_ROUNDS;
    rounds = min_u32(rounds, scan->block / paired_steps(scan));
    scan->rounds = wanted.span == 1 || rounds == 0 ? 1 : rounds;
    if (!group_fits(scan, plan)) {
        scan->group = scan->tile = scan->block = 0;
    }
}

// ------------------------------------------------------------------------------------------ chunks within a workgroup

// A step's row is loaded by the lanes of its chunk, which must be of one subgroup. By rule in two passes where shared
// memory and registers are many (the best of one image's short chunks on an H200).
static bool choose_staged(const struct hymn_scan *scan, const struct hymn_scan_method *method,
                          const struct hymn_vk_plan *plan) {
    bool within = scan->together > 0 ? plan->subgroup_size % scan->together == 0 : scan->span > 1;
    bool own =
        !plan->cpu && plan->max_shared_bytes > SMALL_SHARED_BYTES && scan->span * plan->subgroup_size <= OWN_LANES;
    return within && (method ? method->block > 0 : own);
}

// As the shader declares it.
static uint64_t local_shared_bytes(const struct hymn_scan *scan, uint32_t lanes) {
    uint64_t states = (uint64_t)4 * lanes * scan->part, pitch = (scan->rank + 2 * scan->states + 3) / 4 / 2 * 2 + 1;
    uint64_t rows = scan->staged ? 2 * 16 * pitch * (lanes / scan->together) : 0, kept = scan->kept * lanes;
    return (states > rows ? states : rows) + (uint64_t)4 * (lanes + kept + 4 + 1);
}

// The deltas are kept where they fit beside some of the states; returns whether anything fits.
static bool share_memory(struct hymn_scan *scan, uint32_t lanes, const struct hymn_vk_plan *plan) {
    for (uint32_t keep = 2; keep-- > 0;) {
        scan->kept = keep ? scan->chunk_length : 0;
        for (scan->part = LOCAL_PART; scan->part >= (keep || scan->staged ? LOCAL_LEAST_PART : 1); scan->part /= 2) {
            if (local_shared_bytes(scan, lanes) <= plan->max_shared_bytes) {
                return true;
            }
        }
    }
    return false;
}

// A lane has the rank and four times the states in registers, and some. Larger workgroups leave it too few
// (tests/vendors): where subgroups have 128 lanes (Adreno), and, with a high rank, where there is little shared memory
// (Apple).
static uint32_t most_local_lanes(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    bool few = plan->subgroup_size >= 128 ||
               (plan->max_shared_bytes <= SMALL_SHARED_BYTES && scan->rank + 4 * scan->states > LOCAL_REGISTERS);
    return few ? LOCAL_LANES : 2 * LOCAL_LANES;
}

// One dispatch in place of two or three, where chunks are needed at all and are not longer than a workgroup can have
// them: more lanes for short sequences, whose walk and not the carry is what takes the time, and for few; long ones
// only where their workgroups are what the device has at once, or half of it, as fewer leave it idle. Rows are staged
// where registers and shared memory are many (measured on an H200).
static struct hymn_scan_method local_rule(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    const uint32_t most = plan->max_invocations >= 2 * LOCAL_LANES ? most_local_lanes(scan, plan) : LOCAL_LANES;
    const bool rich = plan->max_shared_bytes > SMALL_SHARED_BYTES && most > LOCAL_LANES;
    const bool small = scan->length <= 256, large = scan->length > 1024;
    const uint32_t together = small ? 16 : 8;
    const uint64_t lanes = (uint64_t)4 * scan->batch * scan->width / together * most; // of all workgroups
    const bool few = 2 * lanes <= plan->target_lanes;
    const struct hymn_scan_method method = {
        .together = together, .lanes = small || large || few ? most : LOCAL_LANES, .block = rich && !small};
    const bool at_once = lanes <= plan->target_lanes && 2 * lanes >= plan->target_lanes;
    const bool possible = !plan->cpu && scan->group == 0 && scan->chunks > 1 && scan->states <= LOCAL_PART &&
                          scan->length <= LONGEST_LOCAL && (!large || (rich && at_once));
    return possible ? method : (struct hymn_scan_method){0};
}

// Fills together, part, kept, chunks and chunk_length; together 0 where the method is another, or not possible here.
static void choose_local(struct hymn_scan *scan, const struct hymn_scan_method *method, enum hymn_storage storage,
                         const struct hymn_vk_plan *plan) {
    scan->together = 0;
    const struct hymn_scan_method wanted = method ? *method : local_rule(scan, plan);
    if (wanted.together == 0) {
        return;
    }
    uint32_t lanes = wanted.lanes, chunks = lanes / wanted.together;
    uint32_t chunk_length = (scan->length + chunks - 1) / chunks;
    bool able = hymn_variant_allowed(plan, "selective_scan_local", hymn_storage_suffix(storage)) &&
                scan->rank <= MAX_HELD_RANK && scan->states <= LOCAL_STATES && chunk_length <= MAX_ITERATIONS / 2 &&
                lanes <= plan->max_invocations && lanes % plan->subgroup_size == 0 && plan->subgroup_size > 1;
    struct hymn_scan local = *scan;
    local.chunk_length = chunk_length;
    local.together = wanted.together;
    local.staged = choose_staged(&local, &wanted, plan);
    bool fits = able && share_memory(&local, lanes, plan);
    if (able && !fits && !method && local.staged) { // by the rule, rows that have no room are read as they are used
        local.staged = false;
        fits = share_memory(&local, lanes, plan);
    }
    if (fits) {
        *scan = local;
        scan->chunks = chunks;
        scan->group = scan->tile = scan->block = 0;
    }
}

// ------------------------------------------------------------------------------------------------ chunks in two passes

// Lanes of a chunk in a workgroup: a subgroup, whose lanes read the same rows.
uint32_t hymn_scan_joint_lanes(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    return scan->span > 1 ? scan->span * plan->subgroup_size : scan->local;
}

// As the shader declares it in its first pass, of several chunks a workgroup, or in its last.
static uint64_t span_shared_bytes(uint32_t span, bool staged, bool last, const struct hymn_scan *scan,
                                  const struct hymn_vk_plan *plan) {
    uint64_t width = plan->subgroup_size, round = min_u32(scan->states, HYMN_SCAN_ROUND);
    uint64_t ends = last ? (span > 1 ? width * scan->states : 1) : width * span * round;
    uint64_t sums = last ? 1 : width * span;
    uint64_t row = (scan->rank + (last ? 2 : 1) * scan->states + 3) / 4 - (scan->hold ? 0 : scan->rank / 4);
    return 16 * ((ends + sums + 1) / 2 + (staged ? 2 * span * row : 1));
}

// With one chunk a workgroup the first pass is that of three.
static bool span_fits(uint32_t span, bool staged, const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    bool first = span == 1 || (span <= plan->max_invocations && span * plan->subgroup_size <= plan->max_invocations &&
                               span_shared_bytes(span, staged, false, scan, plan) <= plan->max_shared_bytes);
    return first && span_shared_bytes(span, staged, true, scan, plan) <= plan->max_shared_bytes;
}

// What the last pass reads of the workgroups before each, and what a pass between would read and write instead: in
// chunks' states.
static uint64_t spans_read(uint32_t span, const struct hymn_scan *scan) {
    uint64_t spans = span > 0 ? (scan->chunks + span - 1) / span : 0;
    return spans > 0 ? spans * (spans - 1) / 2 : 0;
}

static uint64_t carry_moves(const struct hymn_scan *scan) {
    return (uint64_t)2 * scan->chunks;
}

// Fills span and staged where there is room for so many chunks a workgroup; rows that have none are read as they are
// used.
static void take_span(struct hymn_scan *scan, uint32_t span, const struct hymn_scan_method *method,
                      const struct hymn_vk_plan *plan) {
    struct hymn_scan joint = *scan;
    joint.span = span;
    joint.staged = choose_staged(&joint, method, plan) && span_fits(span, true, scan, plan);
    if (span_fits(span, joint.staged, scan, plan)) {
        *scan = joint;
    }
}

static void choose_span(struct hymn_scan *scan, const struct hymn_scan_method *method, enum hymn_storage storage,
                        const struct hymn_vk_plan *plan) {
    scan->span = 0;
    if (scan->group > 0 || scan->together > 0 || scan->chunks == 1 ||
        !hymn_variant_allowed(plan, "selective_scan_joint", hymn_storage_suffix(storage))) {
        return;
    }
    if (method && method->span > 0) {
        take_span(scan, method->span, method, plan);
    }
    // Where chunks are short, so that a dispatch weighs, and the last pass reads no more than the one between moves.
    bool rule = !method && !plan->cpu && scan->chunk_length <= SHORT_CHUNK;
    for (uint32_t span = OWN_SPAN; rule && span <= MOST_OWN_SPAN && span * plan->subgroup_size <= OWN_LANES;
         span *= 2) {
        if (scan->span == 0 && spans_read(span, scan) <= carry_moves(scan)) {
            take_span(scan, span, NULL, plan);
        }
    }
}

struct hymn_scan hymn_scan_describe(const struct hymn_graph *graph, const struct hymn_node *node,
                                    const struct hymn_vk_plan *plan) {
    const struct hymn_value *output = &graph->values[node->output];
    struct hymn_scan scan = {
        .batch = graph->batch,
        .length = output->width * output->height,
        .width = output->stride,
        .states = node->d_state,
        .rank = node->dt_rank,
        .half_rows = graph->values[node->terms[1].source.value].storage == HYMN_STORAGE_F16,
    };
    scan.pairs = scan.width / 2;
    scan.local = local_size(scan.pairs, plan);
    scan.hold = scan.rank <= most_held(plan);
    struct hymn_scan_method storage;
    const struct hymn_scan_method *method = method_of(node, &storage);
    scan.chunk_length = choose_chunk_length(&scan, method, output->storage, plan);
    scan.chunks = (scan.length + scan.chunk_length - 1) / scan.chunk_length;
    choose_group(&scan, method, output->storage, plan);
    if (scan.group > 0 && !(method && method->chunk_length)) {
        scan.chunks = 1;
        scan.chunk_length = scan.length;
    }
    choose_local(&scan, method, output->storage, plan);
    choose_span(&scan, method, output->storage, plan);
    return scan;
}

// With one chunk a workgroup each lane combines all states, for which Apple's have too few registers: only where more
// chunks do not fit (on an H100 it is the best of no length). Large workgroups have none for the weights of a high
// rank, or for staged rows (RDNA 2). tests/vendors tells.
static bool span_has_registers(const struct hymn_scan *scan, const struct hymn_vk_plan *plan) {
    bool alone = scan->span == 1 && span_fits(OWN_SPAN, false, scan, plan);
    bool many = scan->staged || (scan->hold && scan->rank > OWN_RANK);
    bool crowded = many && scan->span * plan->subgroup_size > OWN_LANES;
    return !alone && !crowded;
}

// Worth timing: what the device can do, and of chunks within a workgroup those of a sensible length, where whole
// sequences are too few.
static bool worth_timing(const struct hymn_scan *scan, const struct hymn_scan_method *method,
                         const struct hymn_vk_plan *plan) {
    // Where the rule has groups, x_proj is f16 by now, which nothing else reads.
    if (scan->half_rows && (method->group == 0 || scan->group == 0)) {
        return false;
    }
    // Apple's have no registers for staged rows either.
    bool poor = plan->max_shared_bytes <= SMALL_SHARED_BYTES;
    if (method->group == 0 && (scan->staged != (method->block > 0) || (scan->staged && poor))) {
        return false;
    }
    if (method->together > 0) {
        return scan->together > 0 && method->lanes <= most_local_lanes(scan, plan) &&
               scan->chunk_length >= LOCAL_LEAST_CHUNK && scan->chunk_length <= LOCAL_LONGEST_CHUNK &&
               (uint64_t)4 * scan->batch * scan->width < plan->target_lanes;
    }
    return scan->group == method->group && scan->tile == method->tile &&
           (scan->group == 0 || scan->helpers == method->helpers) && (scan->group > 0 || scan->span == method->span) &&
           2 * method->chunk_length <= scan->length && (method->chunk_length == 0 || scan->chunks > 1) &&
           span_has_registers(scan, plan) && spans_read(method->span, scan) <= 4 * carry_moves(scan);
}

static struct hymn_scan_method method_from(const struct hymn_scan *scan) {
    if (scan->together > 0) {
        return (struct hymn_scan_method){
            .together = scan->together, .lanes = scan->together * scan->chunks, .block = scan->staged};
    }
    return (struct hymn_scan_method){
        .chunk_length = scan->chunks > 1 ? scan->chunk_length : 0,
        .group = scan->group,
        .tile = scan->tile,
        .block = scan->group > 0 ? scan->block : scan->staged,
        .lanes = scan->group > 0 ? scan->group_lanes : 0,
        .span = scan->group > 0 ? scan->rounds == 1 : scan->span,
        .helpers = scan->group > 0 ? scan->helpers : 0,
        .matrix = scan->group > 0 && scan->matrix,
    };
}

static bool is_listed(const struct hymn_method *methods, uint32_t count, const struct hymn_method *method) {
    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(&methods[i], method, sizeof *method) == 0) {
            return true;
        }
    }
    return false;
}

uint32_t hymn_selective_scan_list_methods(const struct hymn_graph *graph, const struct hymn_node *node,
                                          const struct hymn_vk_plan *plan, const struct hymn_method *from,
                                          struct hymn_method *out_methods, uint32_t most) {
    static const struct hymn_scan_method methods[] = {
        {.group = 4, .tile = 1, .block = 16}, // what was best of some length and batch, then the rest
        {.group = 4, .tile = 1, .block = 32, .lanes = 128, .helpers = 64},
        {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 64, .matrix = 1},
        {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 128},
        {.group = 2, .tile = 1, .block = 16, .lanes = 128, .helpers = 64},
        {.group = 2, .tile = 2, .block = 16, .lanes = 128, .helpers = 128},
        {.group = 4, .tile = 2, .block = 16, .lanes = 128, .helpers = 64},
        {.group = 4, .tile = 1, .block = 16, .lanes = 128, .helpers = 64, .matrix = 1},
        {.group = 4, .tile = 2, .block = 8},
        {.together = 16, .lanes = 512},
        {.together = 8, .lanes = 256},
        {.together = 8, .lanes = 512, .block = 1},
        {.span = 8},
        {.together = 16, .lanes = 512, .block = 1},
        {.together = 8, .lanes = 256, .block = 1},
        {.span = 8, .block = 1},
        {.group = 0},
        {.together = 16, .lanes = 256},
        {.together = 8, .lanes = 512},
        {.span = 4},
        {.span = 4, .block = 1},
        {.chunk_length = 64, .span = 4},
        {.chunk_length = 128, .span = 4, .block = 1},
        {.span = 1},
        {.group = 4, .tile = 2, .block = 16},
        {.group = 4, .tile = 1, .block = 16, .lanes = 128, .helpers = 64},
        {.group = 8, .tile = 2, .block = 16, .lanes = 128, .helpers = 64},
        {.group = 4, .tile = 2, .block = 4},
        {.group = 2, .tile = 1, .block = 16},
        {.group = 4, .tile = 2, .block = 8, .span = 1},
        {.group = 8, .tile = 1, .block = 16, .lanes = 128, .helpers = 64},
        {.chunk_length = 64},
        {.chunk_length = 128},
        {.chunk_length = 256},
        {.chunk_length = 32},
        {.chunk_length = 256, .group = 4, .tile = 2, .block = 8},
        {.group = 4, .tile = 1, .block = 32, .lanes = 128, .helpers = 64, .matrix = 1},
    };
    if (plan->cpu || from || most == 0) {
        return 0;
    }
    struct hymn_scan own = hymn_scan_describe(graph, node, plan);
    struct hymn_node tried = *node;
    uint32_t count = 0;
    for (uint32_t i = 0; i <= sizeof methods / sizeof *methods && count < most; i++) {
        struct hymn_scan_method method = i == 0 ? method_from(&own) : methods[i - 1];
        set_method(&tried, &method);
        struct hymn_scan scan = hymn_scan_describe(graph, &tried, plan);
        bool worth = i == 0 || worth_timing(&scan, &method, plan);
        // What it comes to: "as suits the device" may be listed by its number too.
        method = method_from(&scan);
        set_method(&tried, &method);
        if (worth && !is_listed(out_methods, count, &tried.method)) {
            out_methods[count++] = tried.method;
        }
    }
    return count;
}
