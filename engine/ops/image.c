// SPDX-License-Identifier: MIT
#include "ops/image.h"

#include "ops/grid.h"
#include "shaders/params.h"

// Sizes for which the shaders' positions are exact (shaders/common/ratio.glsl).
#define MAX_SESSION_SIDE 32768u
// Rows resized horizontally are kept for as many output columns at a time as fit in this.
#define SCRATCH_BYTES ((uint64_t)32 << 20)
#define MAX_GROUPS 65535u
// Output rows of a lane of image_output.comp.
#define OUTPUT_ROWS 8u
// Of a row of it, as of a picture 256 wide: its workgroups are the same for pictures of all widths.
#define OUTPUT_LANES 64u

enum { TENSOR_LOGITS = 0, TENSOR_SIGMOID = 1, TENSOR_SOFTMAX = 2 };
enum { OUTPUT_FLOATS = 0, OUTPUT_THRESHOLD = 1, OUTPUT_LARGEST = 2 };

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint64_t round_up_4(uint64_t bytes) {
    return (bytes + 3) / 4 * 4;
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + HYMN_IMAGE_ALIGNMENT - 1) / HYMN_IMAGE_ALIGNMENT * HYMN_IMAGE_ALIGNMENT;
}

// What all images' bindings take, if one takes `bytes`.
static uint64_t together(const struct hymn_image_steps *steps, uint64_t bytes) {
    return (steps->count - 1) * aligned(bytes) + bytes;
}

uint32_t hymn_image_pixel_channels(enum hymn_pixel_format format) {
    return format == HYMN_PIXEL_RGB8 ? 3 : format == HYMN_PIXEL_RGBA8 ? 4 : format == HYMN_PIXEL_GREY8 ? 1 : 0;
}

// Floats kept of a pixel between the two halves of the resize.
static uint32_t kept_channels(const struct hymn_image_steps *steps, enum hymn_pixel_format format) {
    return steps->in_channels == 1 || format == HYMN_PIXEL_GREY8 ? 1 : 4;
}

static uint32_t tile_columns(const struct hymn_image_steps *steps, enum hymn_pixel_format format, uint32_t height) {
    uint64_t bytes = SCRATCH_BYTES < steps->plan->max_binding_bytes ? SCRATCH_BYTES : steps->plan->max_binding_bytes;
    uint64_t columns = bytes / ((uint64_t)height * kept_channels(steps, format) * sizeof(float));
    return columns < steps->width ? (columns > 0 ? (uint32_t)columns : 1) : steps->width;
}

// Appends a step; INTERNAL (no such shader) or OUT_OF_MEMORY, both logged.
static enum hymn_status add_step(const struct hymn_image_steps *steps, const char *name, const char *shader,
                                 struct hymn_vk_step **out_step) {
    const struct hymn_shader *found = hymn_shader_find(shader);
    if (!found) {
        return hymn_fail(steps->log, HYMN_STATUS_INTERNAL, "%s: no shader named %s", name, shader);
    }
    *out_step = hymn_vk_program_add(steps->program);
    if (!*out_step) {
        return hymn_fail(steps->log, HYMN_STATUS_OUT_OF_MEMORY, "%s: out of memory", name);
    }
    (*out_step)->name = name;
    (*out_step)->shader = found;
    return HYMN_STATUS_OK;
}

static void bind(struct hymn_vk_step *step, struct hymn_vk_binding binding, bool written) {
    step->write_mask |= (uint32_t)written << step->binding_count;
    step->bindings[step->binding_count++] = binding;
    step->bytes += binding.bytes;
}

// Of the network's input or output, whose binding is the whole batch's, only the images at hand are touched.
static void bind_value(const struct hymn_image_steps *steps, struct hymn_vk_step *step, const struct hymn_value *value,
                       bool written) {
    uint64_t element = value->storage == HYMN_STORAGE_F16 ? 2 : 4;
    bind(step, (struct hymn_vk_binding){hymn_vk_role_of_piece(value->piece), value->offset, value->bytes}, written);
    step->bytes -= value->bytes;
    step->bytes += steps->count * element * value->height * value->width * value->stride;
}

static enum hymn_status check_side(const struct hymn_image_steps *steps) {
    if (steps->width > MAX_SESSION_SIDE || steps->height > MAX_SESSION_SIDE) {
        return hymn_fail(steps->log, HYMN_STATUS_UNSUPPORTED,
                         "a network input of %u x %u: images are resized to at most %u pixels a side", steps->width,
                         steps->height, MAX_SESSION_SIDE);
    }
    return HYMN_STATUS_OK;
}

// ----------------------------------------------------------------------------------------------------------- images

uint64_t hymn_image_pixel_bytes(enum hymn_pixel_format format, uint32_t height, uint32_t width) {
    return round_up_4((uint64_t)height * width * hymn_image_pixel_channels(format));
}

uint64_t hymn_image_pixels_together(const struct hymn_image_steps *steps, enum hymn_pixel_format format,
                                    uint32_t height, uint32_t width, uint64_t *out_apart) {
    uint64_t bytes = hymn_image_pixel_bytes(format, height, width);
    *out_apart = aligned(bytes);
    return together(steps, bytes);
}

void hymn_image_norm(const struct hymn_image_steps *steps, float out_mean[3], float out_std[3]) {
    for (uint32_t i = 0; i < 3; i++) {
        out_mean[i] = i < steps->in_channels ? steps->mean[i] : 0.0f;
        out_std[i] = i < steps->in_channels ? steps->std[i] : 1.0f;
    }
}

bool hymn_image_is_of_session_size(const struct hymn_image_steps *steps, uint32_t height, uint32_t width) {
    return height == steps->height && width == steps->width;
}

bool hymn_image_goes_as_it_is(const struct hymn_image_steps *steps, enum hymn_pixel_format format, uint32_t height,
                              uint32_t width) {
    return hymn_image_is_of_session_size(steps, height, width) &&
           hymn_image_pixel_bytes(format, height, width) <= steps->plan->max_binding_bytes;
}

uint64_t hymn_image_input_scratch_bytes(const struct hymn_image_steps *steps, enum hymn_pixel_format format,
                                        uint32_t height, uint32_t width) {
    if (hymn_image_goes_as_it_is(steps, format, height, width)) {
        return 0;
    }
    return (uint64_t)steps->count * height * tile_columns(steps, format, height) * kept_channels(steps, format) *
           sizeof(float);
}

static uint64_t lower_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// Workgroups in z of one image of image_output.comp: at the edges half as many rows again lie below the first middle or
// beyond the last.
static uint32_t output_layers(uint32_t height, uint32_t out_height) {
    uint64_t most = (3 * (uint64_t)out_height + 2 * height - 1) / (2 * (uint64_t)height) + 1;
    return (uint32_t)((most + OUTPUT_ROWS - 1) / OUTPUT_ROWS);
}

uint32_t hymn_image_most_together(const struct hymn_image_steps *steps, bool tensor, enum hymn_pixel_format format,
                                  uint32_t height, uint32_t width) {
    struct hymn_image_steps one = *steps;
    one.count = 1;
    uint64_t binding = steps->plan->max_binding_bytes,
             rows = steps->input->height > height ? steps->input->height : height;
    uint64_t input = tensor ? hymn_image_tensor_bytes(&one) : hymn_image_pixel_bytes(format, height, width);
    uint64_t most = binding / aligned(input);
    most = lower_of(most, binding / aligned(hymn_image_logits_bytes(&one)));
    most = lower_of(most, binding / aligned(hymn_image_probability_bytes(&one, height, width)));
    most = lower_of(most, binding / aligned(hymn_image_mask_bytes(height, width)));
    most = lower_of(most, (HYMN_GRID_MAX_LANES - 1) / rows);
    most = lower_of(most, MAX_GROUPS / output_layers(steps->height, height));
    if (!tensor && !hymn_image_goes_as_it_is(steps, format, height, width)) {
        uint64_t scratch = hymn_image_input_scratch_bytes(&one, format, height, width);
        most = lower_of(most, lower_of(SCRATCH_BYTES, binding) / scratch);
        most = tile_columns(steps, format, height) < steps->width ? 1 : most;
    }
    return most > UINT32_MAX ? UINT32_MAX : most > 0 ? (uint32_t)most : 1;
}

struct image {
    enum hymn_pixel_format format;
    uint32_t height, width;
    struct hymn_vk_binding pixels, scratch;
};

// One band of image rows -> scratch.
static enum hymn_status add_columns(const struct hymn_image_steps *steps, const struct image *image,
                                    struct hymn_image_columns_params *params) {
    struct hymn_vk_step *step;
    enum hymn_status status = add_step(steps, "image.columns", "image_columns", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    uint64_t row_bytes = (uint64_t)image->width * hymn_image_pixel_channels(image->format);
    uint64_t first = params->row_first * row_bytes, start = first / 256 * 256;
    struct hymn_vk_binding band = {image->pixels.role, image->pixels.offset + start,
                                   together(steps, round_up_4(first - start + params->rows * row_bytes))};
    params->byte_offset = (uint32_t)(first - start);
    params->last_word = (uint32_t)(band.bytes / 4 - 1);
    params->images = steps->count;
    params->image_bytes = (uint32_t)aligned(hymn_image_pixel_bytes(image->format, image->height, image->width));
    params->rows_reciprocal = 1.0f / (float)params->rows;
    bind(step, band, false);
    bind(step, image->scratch, true);
    hymn_vk_step_push(step, params, sizeof *params);
    status = hymn_grid_set_like(step, steps->plan, steps->log, steps->width, params->tile_width,
                                (uint64_t)steps->count * params->rows);
    hymn_step_constant(step, hymn_image_pixel_channels(image->format));
    hymn_step_constant(step, kept_channels(steps, image->format));
    return status;
}

static enum hymn_status add_rows(const struct hymn_image_steps *steps, const struct image *image, uint32_t tile_first,
                                 uint32_t tile_width) {
    const struct hymn_value *input = steps->input;
    struct hymn_vk_step *step;
    enum hymn_status status =
        add_step(steps, "image.rows", input->storage == HYMN_STORAGE_F16 ? "image_rows.f16" : "image_rows.f32", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    float mean[3], std[3];
    hymn_image_norm(steps, mean, std);
    bool last = tile_first + tile_width == steps->width;
    struct hymn_image_rows_params params = {
        .height = image->height,
        .out_width = steps->width,
        .out_height = steps->height,
        .padded_width = input->width,
        .padded_height = input->height,
        .tile_first = tile_first,
        .tile_width = tile_width,
        .tile_end = last ? input->width : tile_first + tile_width,
        .input_first = steps->index * input->height * input->width,
        .mean0 = mean[0],
        .mean1 = mean[1],
        .mean2 = mean[2],
        .std0 = std[0],
        .std1 = std[1],
        .std2 = std[2],
        .images = steps->count,
        .padded_height_reciprocal = 1.0f / (float)input->height,
    };
    bind(step, image->scratch, false);
    bind_value(steps, step, input, true);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set_like(step, steps->plan, steps->log, input->width, params.tile_end - tile_first,
                                (uint64_t)steps->count * input->height);
    hymn_step_constant(step, kept_channels(steps, image->format));
    hymn_step_constant(step, steps->in_channels);
    return status;
}

// All rows of the image for the columns of one tile, in bands that a binding can hold.
static enum hymn_status add_tile(const struct hymn_image_steps *steps, const struct image *image, uint32_t tile_first,
                                 uint32_t tile_width) {
    uint64_t row_bytes = (uint64_t)image->width * hymn_image_pixel_channels(image->format);
    uint64_t most = (steps->plan->max_binding_bytes - 256) / row_bytes;
    uint32_t band = most < image->height ? (uint32_t)most : image->height;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t row = 0; status == HYMN_STATUS_OK && row < image->height; row += band) {
        struct hymn_image_columns_params params = {
            .width = image->width,
            .out_width = steps->width,
            .tile_first = tile_first,
            .tile_width = tile_width,
            .rows = min_u32(band, image->height - row),
            .row_first = row,
        };
        status = add_columns(steps, image, &params);
    }
    return status == HYMN_STATUS_OK ? add_rows(steps, image, tile_first, tile_width) : status;
}

static enum hymn_status add_normalise(const struct hymn_image_steps *steps, struct image *image) {
    const struct hymn_value *input = steps->input;
    struct hymn_vk_step *step;
    enum hymn_status status =
        add_step(steps, "image.normalise",
                 input->storage == HYMN_STORAGE_F16 ? "image_normalise.f16" : "image_normalise.f32", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    uint64_t apart;
    float mean[3], std[3];
    hymn_image_norm(steps, mean, std);
    image->pixels.bytes = hymn_image_pixels_together(steps, image->format, image->height, image->width, &apart);
    struct hymn_image_normalise_params params = {
        .width = image->width,
        .height = image->height,
        .padded_width = input->width,
        .padded_height = input->height,
        .input_first = steps->index * input->height * input->width,
        .images = steps->count,
        .image_bytes = (uint32_t)apart,
        .last_word = (uint32_t)(image->pixels.bytes / 4 - 1),
        .mean0 = mean[0],
        .mean1 = mean[1],
        .mean2 = mean[2],
        .std0 = std[0],
        .std1 = std[1],
        .std2 = std[2],
        .padded_height_reciprocal = 1.0f / (float)input->height,
        .most = 255.0f,
    };
    bind(step, image->pixels, false);
    bind_value(steps, step, input, true);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set(step, steps->plan, steps->log, input->width, (uint64_t)steps->count * input->height);
    hymn_step_constant(step, hymn_image_pixel_channels(image->format));
    hymn_step_constant(step, steps->in_channels);
    return status;
}

enum hymn_status hymn_image_input(const struct hymn_image_steps *steps, enum hymn_pixel_format format, uint32_t height,
                                  uint32_t width, struct hymn_vk_binding pixels, struct hymn_vk_binding scratch) {
    if (steps->in_channels != 3 && steps->in_channels != 1) {
        return hymn_fail(steps->log, HYMN_STATUS_INVALID_ARGUMENT,
                         "images need a model of 1 or 3 input channels, and this one has %u", steps->in_channels);
    }
    struct image image = {format, height, width, pixels, scratch};
    image.scratch.bytes = hymn_image_input_scratch_bytes(steps, format, height, width);
    uint32_t tile = tile_columns(steps, format, height);
    enum hymn_status status = check_side(steps);
    if (status == HYMN_STATUS_OK && hymn_image_goes_as_it_is(steps, format, height, width)) {
        return add_normalise(steps, &image);
    }
    for (uint32_t x = 0; status == HYMN_STATUS_OK && x < steps->width; x += tile) {
        status = add_tile(steps, &image, x, min_u32(tile, steps->width - x));
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------------- tensors

static struct hymn_tensor_params tensor_params(const struct hymn_image_steps *steps, const struct hymn_value *value,
                                               uint32_t channels, uint32_t rows) {
    uint64_t bytes = (uint64_t)channels * steps->height * steps->width * sizeof(float);
    return (struct hymn_tensor_params){
        .width = steps->width,
        .height = steps->height,
        .channels = channels,
        .padded_width = value->width,
        .padded_height = value->height,
        .stride = value->stride,
        .index = steps->index,
        .images = steps->count,
        .image_floats = (uint32_t)(aligned(bytes) / sizeof(float)),
        .rows_reciprocal = 1.0f / (float)rows,
    };
}

uint64_t hymn_image_tensor_bytes(const struct hymn_image_steps *steps) {
    return (uint64_t)steps->in_channels * steps->height * steps->width * sizeof(float);
}

enum hymn_status hymn_image_tensor_input(const struct hymn_image_steps *steps, struct hymn_vk_binding tensor) {
    const struct hymn_value *input = steps->input;
    struct hymn_vk_step *step;
    enum hymn_status status =
        add_step(steps, "tensor.in", input->storage == HYMN_STORAGE_F16 ? "tensor_in.f16" : "tensor_in.f32", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    tensor.bytes = together(steps, hymn_image_tensor_bytes(steps));
    bind(step, tensor, false);
    bind_value(steps, step, input, true);
    struct hymn_tensor_params params = tensor_params(steps, input, steps->in_channels, input->height);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set(step, steps->plan, steps->log, input->width, (uint64_t)steps->count * input->height);
    hymn_step_constant(step, steps->in_channels);
    return status;
}

uint64_t hymn_image_logits_bytes(const struct hymn_image_steps *steps) {
    return (uint64_t)steps->num_classes * steps->height * steps->width * sizeof(float);
}

static enum hymn_status add_tensor_out(const struct hymn_image_steps *steps, struct hymn_vk_binding out, uint32_t mode,
                                       const char *name) {
    struct hymn_vk_step *step;
    enum hymn_status status = add_step(steps, name, "tensor_out", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    out.bytes = together(steps, hymn_image_logits_bytes(steps));
    bind_value(steps, step, steps->output, false);
    bind(step, out, true);
    struct hymn_tensor_params params = tensor_params(steps, steps->output, steps->num_classes, steps->height);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set(step, steps->plan, steps->log, steps->width, (uint64_t)steps->count * steps->height);
    hymn_step_constant(step, mode);
    return status;
}

enum hymn_status hymn_image_logits(const struct hymn_image_steps *steps, struct hymn_vk_binding out) {
    return add_tensor_out(steps, out, TENSOR_LOGITS, "tensor.logits");
}

enum hymn_status hymn_image_activate(const struct hymn_image_steps *steps, struct hymn_vk_binding out) {
    return add_tensor_out(steps, out, steps->num_classes == 1 ? TENSOR_SIGMOID : TENSOR_SOFTMAX, "tensor.activate");
}

// ---------------------------------------------------------------------------------------------------------- outputs

uint64_t hymn_image_probability_bytes(const struct hymn_image_steps *steps, uint32_t out_height, uint32_t out_width) {
    return (uint64_t)steps->num_classes * out_height * out_width * sizeof(float);
}

uint32_t hymn_image_mask_row_bytes(uint32_t out_width) {
    return (out_width + 3) / 4 * 4;
}

uint64_t hymn_image_mask_bytes(uint32_t out_height, uint32_t out_width) {
    return (uint64_t)out_height * hymn_image_mask_row_bytes(out_width);
}

// The source row above the middle of output row y.
static uint32_t source_row(const struct hymn_image_output_params *params, uint32_t y) {
    uint64_t at = (uint64_t)params->height * (2 * (uint64_t)y + 1);
    return at < params->out_height ? 0 : (uint32_t)((at - params->out_height) / (2 * (uint64_t)params->out_height));
}

// Rows params->row_first..row_end-1 of classes from class_first on, which begin `elements` four-byte elements into out.
static enum hymn_status add_output(const struct hymn_image_steps *steps, struct hymn_image_output_params params,
                                   struct hymn_vk_binding activated, struct hymn_vk_binding out, uint64_t elements,
                                   uint64_t count, uint32_t mode) {
    struct hymn_vk_step *step;
    enum hymn_status status =
        add_step(steps, mode == OUTPUT_FLOATS ? "image.probabilities" : "image.mask", "image_output", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    uint64_t start = elements / 64 * 64;
    params.out_offset = (uint32_t)(elements - start);
    params.source_first = source_row(&params, params.row_first);
    params.layers = output_layers(params.height, params.out_height);
    params.layers_reciprocal = 1.0f / (float)params.layers;
    params.activated_elements = (uint32_t)(aligned(hymn_image_logits_bytes(steps)) / 4);
    params.out_image_elements = (uint32_t)(aligned(4 * (params.out_offset + count)) / 4); // of several: whole ones
    activated.bytes = together(steps, hymn_image_logits_bytes(steps));
    out.offset += start * 4;
    out.bytes = together(steps, (params.out_offset + count) * 4);
    bind(step, activated, false);
    bind(step, out, true);
    hymn_vk_step_push(step, &params, sizeof params);
    status = hymn_grid_set_like(step, steps->plan, steps->log, OUTPUT_LANES, (params.out_width + 3) / 4,
                                source_row(&params, params.row_end - 1) - params.source_first + 1);
    hymn_step_constant(step, mode);
    step->groups[2] = steps->count * params.layers;
    return status;
}

// One plane of rows (of row_elements four-byte elements), `plane` planes into out, in bands that a binding can hold.
static enum hymn_status add_plane(const struct hymn_image_steps *steps, struct hymn_image_output_params params,
                                  struct hymn_vk_binding activated, struct hymn_vk_binding out, uint32_t plane,
                                  uint32_t row_elements, uint32_t mode) {
    uint64_t most = (steps->plan->max_binding_bytes - 256) / ((uint64_t)row_elements * 4);
    uint32_t band = most < params.out_height ? (uint32_t)most : params.out_height;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t row = 0; status == HYMN_STATUS_OK && row < params.out_height; row += band) {
        params.row_first = row;
        params.row_end = row + min_u32(band, params.out_height - row);
        uint64_t elements = ((uint64_t)plane * params.out_height + row) * row_elements;
        uint64_t count = (uint64_t)(params.row_end - row) * row_elements;
        status = add_output(steps, params, activated, out, elements, count, mode);
    }
    return status;
}

static struct hymn_image_output_params output_params(const struct hymn_image_steps *steps, uint32_t out_height,
                                                     uint32_t out_width) {
    return (struct hymn_image_output_params){
        .width = steps->width,
        .height = steps->height,
        .out_width = out_width,
        .out_height = out_height,
        .class_count = steps->num_classes,
        .row_end = out_height,
    };
}

enum hymn_status hymn_image_probabilities(const struct hymn_image_steps *steps, struct hymn_vk_binding activated,
                                          uint32_t out_height, uint32_t out_width, struct hymn_vk_binding out) {
    struct hymn_image_output_params params = output_params(steps, out_height, out_width);
    uint64_t bytes = hymn_image_probability_bytes(steps, out_height, out_width);
    enum hymn_status status = check_side(steps);
    if (status == HYMN_STATUS_OK && bytes <= steps->plan->max_binding_bytes) {
        return add_output(steps, params, activated, out, 0, bytes / 4, OUTPUT_FLOATS);
    }
    params.class_count = 1;
    for (uint32_t c = 0; status == HYMN_STATUS_OK && c < steps->num_classes; c++) {
        params.class_first = c;
        status = add_plane(steps, params, activated, out, c, out_width, OUTPUT_FLOATS);
    }
    return status;
}

enum hymn_status hymn_image_mask(const struct hymn_image_steps *steps, struct hymn_vk_binding activated,
                                 float threshold, uint32_t out_height, uint32_t out_width, struct hymn_vk_binding out) {
    struct hymn_image_output_params params = output_params(steps, out_height, out_width);
    params.threshold = threshold;
    enum hymn_status status = check_side(steps);
    return status == HYMN_STATUS_OK
               ? add_plane(steps, params, activated, out, 0, hymn_image_mask_row_bytes(out_width) / 4,
                           steps->num_classes == 1 ? OUTPUT_THRESHOLD : OUTPUT_LARGEST)
               : status;
}

enum hymn_status hymn_image_probabilities_directly(const struct hymn_image_steps *steps, struct hymn_vk_binding out) {
    return add_tensor_out(steps, out, steps->num_classes == 1 ? TENSOR_SIGMOID : TENSOR_SOFTMAX, "image.probabilities");
}

enum hymn_status hymn_image_mask_directly(const struct hymn_image_steps *steps, float threshold,
                                          struct hymn_vk_binding out) {
    struct hymn_vk_step *step;
    enum hymn_status status = add_step(steps, "image.mask", "image_mask", &step);
    if (status != HYMN_STATUS_OK) {
        return status;
    }
    const struct hymn_value *output = steps->output;
    uint64_t bytes = hymn_image_mask_bytes(steps->height, steps->width);
    out.bytes = together(steps, bytes);
    bind_value(steps, step, output, false);
    bind(step, out, true);
    struct hymn_image_mask_params params = {
        .width = steps->width,
        .height = steps->height,
        .channels = steps->num_classes,
        .padded_width = output->width,
        .padded_height = output->height,
        .stride = output->stride,
        .index = steps->index,
        .images = steps->count,
        .image_words = (uint32_t)(aligned(bytes) / 4),
        .threshold = threshold,
        .rows_reciprocal = 1.0f / (float)steps->height,
    };
    hymn_vk_step_push(step, &params, sizeof params);
    status =
        hymn_grid_set(step, steps->plan, steps->log, (steps->width + 3) / 4, (uint64_t)steps->count * steps->height);
    hymn_step_constant(step, steps->num_classes == 1 ? OUTPUT_THRESHOLD : OUTPUT_LARGEST);
    return status;
}
