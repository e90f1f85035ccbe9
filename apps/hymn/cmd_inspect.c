// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "base/log.h"
#include "common.h"
#include "report.h"

static const struct command command = {
    .name = "inspect",
    .usage = "MODEL [OPTION]...",
    .description = "Shows what is in a model file: its configuration, and for each layer, as a GPU runs it, the shape\n"
                   "of its output (height x width x channels of one image), parameters, multiply-adds, and the place\n"
                   "of its output in the memory that all activations share. Needs no device.\n",
    .examples = "  hymn inspect tiny.safetensors\n"
                "  hymn inspect tiny.safetensors --size 512 --batch 8 --precision fp32\n"
                "  hymn inspect tiny.safetensors --json\n",
};

enum { NAME_BYTES = 256 }; // of a class, as far as it is shown

struct settings {
    struct common common;
    struct size size;
    uint32_t batch;
    bool json;
};

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        {"size", 's', OPTION_SIZE, "SIZE", "network input, N or HEIGHTxWIDTH (default: the model's)", &s->size, 1,
         COMMON_MAX_SIZE, NULL},
        {"batch", 'b', OPTION_NUMBER, "N", "images per run (default 1)", &s->batch, 1, COMMON_MAX_BATCH, NULL},
        {"json", 0, OPTION_FLAG, NULL, "print JSON instead of tables", &s->json, 0, 0, NULL},
        COMMON_PRECISION_OPTION(&s->common),
        {"verbose", 'v', OPTION_COUNT, NULL, "say more on standard error; twice: everything", &s->common.verbosity, 0,
         0, NULL},
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

struct plan {
    const struct hymn_model *model;
    const struct hymn_model_info *info;
    const struct hymn_summary *summary;
    uint32_t height, width, batch;
    uint64_t unaliased; // bytes of all outputs
};

static void print_config(const struct plan *plan) {
    const struct hymn_model_info *info = plan->info;
    console_print("architecture  %s, %u stages, %u of them convolutional", info->architecture, info->stages,
                  info->conv_stages);
    printf("input         %u channels, %u x %u (multiples of %u need no padding)\n", info->in_channels,
           info->input_height, info->input_width, info->size_multiple);
    printf("normalised    mean");
    for (uint32_t c = 0; c < info->in_channels && c < 8; c++) {
        printf(" %g", info->mean[c]);
    }
    printf(", standard deviation");
    for (uint32_t c = 0; c < info->in_channels && c < 8; c++) {
        printf(" %g", info->std[c]);
    }
    printf("\nclasses       %u:", info->num_classes);
    for (uint32_t c = 0; c < info->num_classes; c++) {
        char name[NAME_BYTES];
        hymn_text_make_printable(hymn_text_cut(hymn_model_class_name(plan->model, c), name, sizeof(name)));
        printf("%s %s", c > 0 ? "," : "", name);
    }
    if (info->num_classes == 1) {
        printf(", threshold %g", info->threshold);
    }
    printf("\nparameters    %llu in a file of %.1f MiB\n\n", (unsigned long long)info->parameters,
           (double)info->file_bytes / (1 << 20));
}

static void print_layers(const struct plan *plan) {
    struct table table;
    table_begin(&table, "<layer|<kind|output|parameters|MMAC|offset|bytes");
    for (uint32_t i = 0; i < hymn_summary_layer_count(plan->summary); i++) {
        const struct hymn_layer *layer = hymn_summary_layer(plan->summary, i);
        table_cells(&table, "%s|%s|%ux%ux%u|%llu|%.2f|%llu|%llu", layer->name, layer->kind, layer->height, layer->width,
                    layer->channels, (unsigned long long)layer->parameters, (double)layer->macs / 1e6,
                    (unsigned long long)layer->offset, (unsigned long long)layer->bytes);
    }
    table_end(&table);
    printf("\nat %u x %u, batch %u: %.3f GMAC; activations take %.2f MiB (%.2f MiB if they shared no memory)\n",
           plan->height, plan->width, plan->batch, (double)hymn_summary_macs(plan->summary) / 1e9,
           (double)hymn_summary_activation_bytes(plan->summary) / (1 << 20), (double)plan->unaliased / (1 << 20));
}

static json_t *pair(uint64_t first, uint64_t second) {
    json_t *array = json_array();
    json_array_append_new(array, json_integer((json_int_t)first));
    json_array_append_new(array, json_integer((json_int_t)second));
    return array;
}

static json_t *layers_json(const struct plan *plan) {
    json_t *layers = json_array();
    for (uint32_t i = 0; i < hymn_summary_layer_count(plan->summary); i++) {
        const struct hymn_layer *layer = hymn_summary_layer(plan->summary, i);
        json_t *object = json_object(), *shape = pair(layer->height, layer->width);
        json_array_append_new(shape, json_integer(layer->channels));
        json_object_set_new(object, "name", report_text(layer->name));
        json_object_set_new(object, "kind", report_text(layer->kind));
        json_object_set_new(object, "shape", shape);
        json_object_set_new(object, "parameters", json_integer((json_int_t)layer->parameters));
        json_object_set_new(object, "macs", json_integer((json_int_t)layer->macs));
        json_object_set_new(object, "offset", json_integer((json_int_t)layer->offset));
        json_object_set_new(object, "bytes", json_integer((json_int_t)layer->bytes));
        json_array_append_new(layers, object);
    }
    return layers;
}

static bool print_json(const struct plan *plan) {
    const struct hymn_model_info *info = plan->info;
    json_t *object = json_object(), *classes = json_array();
    for (uint32_t c = 0; c < info->num_classes; c++) {
        json_array_append_new(classes, report_text(hymn_model_class_name(plan->model, c)));
    }
    json_object_set_new(object, "architecture", report_text(info->architecture));
    json_object_set_new(object, "in_channels", json_integer(info->in_channels));
    json_object_set_new(object, "classes", classes);
    json_object_set_new(object, "input_size", pair(info->input_height, info->input_width));
    json_object_set_new(object, "stages", json_integer(info->stages));
    json_object_set_new(object, "conv_stages", json_integer(info->conv_stages));
    json_object_set_new(object, "threshold", report_real(info->threshold));
    json_object_set_new(object, "parameters", json_integer((json_int_t)info->parameters));
    json_object_set_new(object, "file_bytes", json_integer((json_int_t)info->file_bytes));
    json_object_set_new(object, "size", pair(plan->height, plan->width));
    json_object_set_new(object, "batch", json_integer(plan->batch));
    json_object_set_new(object, "macs", json_integer((json_int_t)hymn_summary_macs(plan->summary)));
    json_object_set_new(object, "activation_bytes",
                        json_integer((json_int_t)hymn_summary_activation_bytes(plan->summary)));
    json_object_set_new(object, "activation_bytes_unaliased", json_integer((json_int_t)plan->unaliased));
    json_object_set_new(object, "layers", layers_json(plan));
    return report_write("-", object);
}

static enum exit_code inspect(const struct settings *settings, const char *path, const struct hymn_model *model) {
    struct hymn_summary *summary = NULL;
    const struct hymn_summary_params params = {.log = console_log(),
                                               .height = settings->size.height,
                                               .width = settings->size.width,
                                               .batch = settings->batch,
                                               .precision = settings->common.precision};
    const enum hymn_status status = hymn_summary_create(model, &params, &summary);
    if (status != HYMN_STATUS_OK) {
        console_status(path, status);
        return CODE_ENGINE;
    }
    const struct hymn_model_info *info = hymn_model_get_info(model);
    struct plan plan = {.model = model,
                        .info = info,
                        .summary = summary,
                        .batch = settings->batch,
                        .height = settings->size.height > 0 ? settings->size.height : info->input_height,
                        .width = settings->size.width > 0 ? settings->size.width : info->input_width};
    for (uint32_t i = 0; i < hymn_summary_layer_count(summary); i++) {
        plan.unaliased += hymn_summary_layer(summary, i)->bytes;
    }
    bool good = true;
    if (settings->json) {
        good = print_json(&plan);
    } else {
        print_config(&plan);
        print_layers(&plan);
    }
    hymn_summary_destroy(&summary);
    return good ? CODE_OK : CODE_INPUT;
}

int command_inspect(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults(), .batch = 1};
    size_t rest = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest != 1) {
        return rest == 0 ? common_missing(&command, "MODEL") : common_unexpected(&command, arguments[1]);
    }
    struct hymn_model *model = NULL;
    enum exit_code code = common_open_model(arguments[0], &model);
    if (code == CODE_OK) {
        code = inspect(&settings, arguments[0], model);
    }
    hymn_model_destroy(&model);
    return code;
}
