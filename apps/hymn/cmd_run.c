// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "files.h"
#include "interrupt.h"
#include "npy.h"

static const struct command command = {
    .name = "run",
    .usage = "--model FILE --input X.npy --output Y.npy [OPTION]...",
    .description = "Runs the network on a tensor and writes its raw logits. Both files are NumPy arrays, float32 in\n"
                   "C order, (N, channels, height, width); the input is taken as it is: not resized, not normalised.\n"
                   "N may be any number; the network input has the array's height and width. An output that cannot be\n"
                   "written is told before anything is computed.\n",
    .examples = "  hymn run --model tiny.safetensors --input x.npy --output y.npy\n"
                "  hymn run -m tiny.safetensors -i x.npy -o y.npy --batch 8 --precision fp32 --device llvmpipe\n",
};

struct settings {
    struct common common;
    const char *model, *input, *output;
    uint32_t batch, streams;
    double tuning;
};

static enum options_result parse(struct settings *s, char **arguments, size_t count, size_t *out_count) {
    const struct option options[] = {
        COMMON_MODEL_OPTION(&s->model),
        {"input", 'i', OPTION_REQUIRED, "X.npy", "array to read; - is standard input", &s->input, 0, 0, NULL},
        {"output", 'o', OPTION_REQUIRED, "Y.npy", "array to write; - is standard output", &s->output, 0, 0, NULL},
        {"batch", 'b', OPTION_NUMBER, "N", "images per run (default 1)", &s->batch, 1, COMMON_MAX_BATCH, NULL},
        COMMON_STREAMS_OPTION(&s->streams),
        COMMON_TUNING_OPTION(&s->tuning),
        COMMON_OPTIONS(&s->common),
    };
    return common_parse(&s->common, &command, options, COMMON_COUNT(options), arguments, count, out_count);
}

static bool check_shape(const struct npy *input, const struct hymn_model_info *info, const char *path) {
    const uint64_t *shape = input->shape;
    if (input->dimensions != 4) {
        console_error(path, "array of %u dimensions; 4 are expected: (N, channels, height, width)", input->dimensions);
        return false;
    }
    if (shape[1] != info->in_channels) {
        console_error(path, "array of %llu channels; the model takes %u", (unsigned long long)shape[1],
                      info->in_channels);
        return false;
    }
    if (shape[0] == 0 || shape[2] == 0 || shape[3] == 0 || shape[0] > UINT32_MAX || shape[2] > COMMON_MAX_SIZE ||
        shape[3] > COMMON_MAX_SIZE) {
        console_error(path, "array of shape (%llu, %llu, %llu, %llu): sides from 1 to %d are expected",
                      (unsigned long long)shape[0], (unsigned long long)shape[1], (unsigned long long)shape[2],
                      (unsigned long long)shape[3], COMMON_MAX_SIZE);
        return false;
    }
    return true;
}

static bool check_finite(const struct npy *input, const char *path) {
    const uint64_t *shape = input->shape;
    const uint64_t count = shape[0] * shape[1] * shape[2] * shape[3];
    for (uint64_t i = 0; i < count; i++) {
        if (!isfinite(input->values[i])) {
            console_error(path, "array holds NaN or infinity: element %llu of %llu", (unsigned long long)i,
                          (unsigned long long)count);
            return false;
        }
    }
    return true;
}

struct job {
    struct hymn_session *session;
    const struct npy *input;
    float *logits;
    struct hymn_output *outputs; // [batch]
    uint32_t batch, count;
    size_t input_size, output_size; // values of one image
    uint64_t tickets[COMMON_MAX_FLIGHTS];
    uint32_t most_flights, submitted, landed; // runs
};

static enum hymn_status submit(struct job *job, uint32_t first) {
    const uint32_t left = job->count - first;
    const uint32_t count = left < job->batch ? left : job->batch;
    for (uint32_t i = 0; i < count; i++) {
        job->outputs[i] = (struct hymn_output){.logits = job->logits + (first + i) * job->output_size};
    }
    const struct hymn_run_params run = {
        .tensor = job->input->values + first * job->input_size, .outputs = job->outputs, .count = count};
    const enum hymn_status status =
        hymn_session_submit(job->session, &run, &job->tickets[job->submitted % job->most_flights]);
    job->submitted += status == HYMN_STATUS_OK;
    return status;
}

static enum hymn_status land(struct job *job) {
    return hymn_session_wait(job->session, job->tickets[job->landed++ % job->most_flights]);
}

static enum hymn_status land_all(struct job *job) {
    enum hymn_status status = HYMN_STATUS_OK;
    while (job->landed < job->submitted) {
        const enum hymn_status landed = land(job);
        status = status == HYMN_STATUS_OK ? landed : status;
    }
    return status;
}

static enum hymn_status submit_or_wait(struct job *job, uint32_t first) {
    enum hymn_status status = submit(job, first);
    if (common_memory_is_out(status) && job->landed < job->submitted) {
        console_forget();
        status = land_all(job);
        status = status == HYMN_STATUS_OK ? submit(job, first) : status;
    }
    return status;
}

// As many runs in flight as the session allows.
static enum hymn_status run_all(struct job *job) {
    job->most_flights = hymn_session_get_info(job->session)->runs_in_flight;
    enum hymn_status status = HYMN_STATUS_OK;
    for (uint32_t first = 0; first < job->count && status == HYMN_STATUS_OK && !interrupt_seen();) {
        if (job->submitted - job->landed == job->most_flights) {
            status = land(job);
        }
        status = status == HYMN_STATUS_OK ? submit_or_wait(job, first) : status;
        first = job->count - first > job->batch ? first + job->batch : job->count;
    }
    const enum hymn_status landed = land_all(job);
    return status == HYMN_STATUS_OK ? landed : status;
}

static enum exit_code complain_of_output(const struct settings *settings, const struct cause *cause) {
    console_error(strcmp(settings->output, "-") == 0 ? "standard output" : settings->output, "%s", cause->text);
    return interrupt_seen() ? CODE_INTERRUPTED : CODE_INPUT;
}

static enum exit_code run_session(struct hymn_session *session, const struct settings *settings,
                                  const struct npy *input, uint32_t classes, uint32_t batch) {
    const uint64_t shape[4] = {input->shape[0], classes, input->shape[2], input->shape[3]};
    struct job job = {.session = session, .input = input, .batch = batch, .count = (uint32_t)shape[0]};
    job.output_size = (size_t)(classes * shape[2] * shape[3]);
    job.input_size = (size_t)(input->shape[1] * shape[2] * shape[3]);
    job.logits = calloc((size_t)shape[0], job.output_size * sizeof(float));
    job.outputs = calloc(batch, sizeof(*job.outputs));
    enum exit_code code = CODE_OK;
    struct cause cause;
    if (job.logits == NULL || job.outputs == NULL) {
        console_error(settings->output, "out of memory for the logits");
        code = CODE_ENGINE;
    } else {
        const enum hymn_status status = run_all(&job);
        if (status != HYMN_STATUS_OK) {
            console_status(settings->input, status);
            code = CODE_ENGINE;
        } else if (interrupt_seen()) {
            code = CODE_INTERRUPTED;
        } else if (!npy_write(settings->output, job.logits, shape, 4, &cause)) {
            code = complain_of_output(settings, &cause);
        }
    }
    free(job.logits);
    free(job.outputs);
    return code;
}

static enum exit_code run(const struct settings *settings, const struct hymn_model *model, const struct npy *input) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    struct hymn_context *context = NULL;
    struct hymn_session *session = NULL;
    struct cause cause;
    if (!check_shape(input, info, settings->input) || !check_finite(input, settings->input)) {
        return CODE_INPUT;
    }
    if (!output_check(settings->output, &cause)) {
        return complain_of_output(settings, &cause);
    }
    const uint32_t batch = input->shape[0] < settings->batch ? (uint32_t)input->shape[0] : settings->batch;
    const struct hymn_session_params params = {.height = (uint32_t)input->shape[2],
                                               .width = (uint32_t)input->shape[3],
                                               .batch = batch,
                                               .min_batch = 1,
                                               .precision = settings->common.precision,
                                               .tuning_ms = common_tuning_ms(settings->tuning),
                                               .streams = common_streams(settings->streams, input->shape[0], batch)};
    enum exit_code code = common_open_device(&settings->common, NULL, params.streams, &context);
    if (code == CODE_OK) {
        code = common_open_session(context, model, settings->model, &params, &session);
    }
    if (code == CODE_OK) {
        code = run_session(session, settings, input, info->num_classes, hymn_session_get_info(session)->batch);
    }
    return common_close(&session, &context, code);
}

int command_run(char **arguments, size_t count) {
    struct settings settings = {.common = common_defaults(), .batch = 1, .streams = COMMON_STREAMS};
    size_t rest = 0;
    const enum options_result parsed = parse(&settings, arguments, count, &rest);
    if (parsed != OPTIONS_OK) {
        return parsed == OPTIONS_HELP ? CODE_OK : CODE_USAGE;
    }
    if (rest > 0) {
        return common_unexpected(&command, arguments[0]);
    }
    struct hymn_model *model = NULL;
    struct npy input = {0};
    struct cause cause;
    enum exit_code code = common_keep_model(&command, settings.model, "--output", settings.output);
    if (code == CODE_OK) {
        code = common_open_model(settings.model, &model);
    }
    if (code == CODE_OK && !npy_read(settings.input, &input, &cause)) {
        console_error(settings.input, "%s", cause.text);
        code = interrupt_seen() ? CODE_INTERRUPTED : CODE_INPUT;
    }
    if (code == CODE_OK) {
        code = run(&settings, model, &input);
    }
    npy_free(&input);
    hymn_model_destroy(&model);
    return code;
}
