// SPDX-License-Identifier: MIT
//
// What the commands share: options, opening a device and a model, exit codes.
#ifndef HYMN_APP_COMMON_H
#define HYMN_APP_COMMON_H

#include "console.h"
#include "options.h"

struct common {
    const char *device;         // the selector of struct hymn_context_params; starts as:
    const char *default_device; // $HYMN_DEVICE
    enum hymn_precision precision;
    const char *tier;     // starts as $HYMN_TIER; NULL: auto
    const char *transfer; // likewise, $HYMN_TRANSFER
    unsigned verbosity;
    bool validation;
};

// Rows of an option table. A command takes those that mean something to it.
#define COMMON_OPTIONS(common)                                                                                         \
    COMMON_DEVICE_OPTION(common), COMMON_PRECISION_OPTION(common), COMMON_TIER_OPTION(common), COMMON_SHARED(common)
#define COMMON_MODEL_OPTION(target)                                                                                    \
    { "model", 'm', OPTION_REQUIRED, "FILE", "network: a .safetensors file", (target), 0, 0, NULL }
#define COMMON_DEVICE_OPTION(common)                                                                                   \
    {                                                                                                                  \
        "device", 'd', OPTION_TEXT, "DEVICE",                                                                          \
            "device: an index (all numbers of one or two digits\nare), part of a name or a UUID (see 'hymn devices');" \
            "\ndefault: $HYMN_DEVICE, or else the best one",                                                           \
            &(common)->device, 0, 0, NULL                                                                              \
    }
#define COMMON_PRECISION_OPTION(common)                                                                                \
    {                                                                                                                  \
        "precision", 'p', OPTION_PRECISION, "P", "storage: fp16, fp32 or auto (the default)", &(common)->precision, 0, \
            0, NULL                                                                                                    \
    }
#define COMMON_TIER_OPTION(common)                                                                                     \
    {                                                                                                                  \
        "tier", 0, OPTION_CHOICE, "T",                                                                                 \
            "the most of the device to use: base, wide, half,\nmatrix or auto; default: $HYMN_TIER, or else auto",     \
            &(common)->tier, 0, 0, common_tiers                                                                        \
    }
#define COMMON_TUNING_OPTION(target)                                                                                   \
    {                                                                                                                  \
        "tuning", 0, OPTION_REAL, "T",                                                                                 \
            "seconds that GPUs may take to choose the fastest way of\neach operator first; what is found is kept for " \
            "later\nstarts (default 0: what is known is used)",                                                        \
            (target), 0, 3600, NULL                                                                                    \
    }
#define COMMON_STREAMS_OPTION(target)                                                                                  \
    {                                                                                                                  \
        "streams", 0, OPTION_NUMBER, "N",                                                                              \
            "runs that the device may compute at the same time, each\nwith memory of its own (default 4); where it "   \
            "has "                                                                                                     \
            "no\nqueues for them, or no memory, it is fewer",                                                          \
            (target), 1, COMMON_MAX_STREAMS, NULL                                                                      \
    }
#define COMMON_SHARED(common)                                                                                          \
    {"validation",                                                                                                     \
     0,                                                                                                                \
     OPTION_FLAG,                                                                                                      \
     NULL,                                                                                                             \
     "run under the Vulkan validation layers; what they\nreport is a failure",                                         \
     &(common)->validation,                                                                                            \
     0,                                                                                                                \
     0,                                                                                                                \
     NULL},                                                                                                            \
    {                                                                                                                  \
        "verbose", 'v', OPTION_COUNT, NULL, "say more on standard error; twice: everything", &(common)->verbosity, 0,  \
            0, NULL                                                                                                    \
    }

#define COMMON_COUNT(options) (sizeof(options) / sizeof((options)[0]))

// Largest side of a network input that options take.
// COMMON_MIN_TILE: what a tile's sides may shrink to where memory does not suffice.
enum { COMMON_MIN_TILE = 64, COMMON_MAX_SIZE = 32768, COMMON_MAX_BATCH = 1024, COMMON_MAX_JOBS = 256 };
// Of hymn_session_params. COMMON_STREAMS: what more of them add on the largest GPUs is a few percent.
enum { COMMON_STREAMS = 4, COMMON_MAX_STREAMS = 8, COMMON_MAX_FLIGHTS = 8 };

extern const char *const common_tiers[]; // in the order of enum hymn_tier

struct common common_defaults(void);
// Parses, then sets the console up. As options_parse.
enum options_result common_parse(const struct common *common, const struct command *command,
                                 const struct option *options, size_t option_count, char **arguments, size_t count,
                                 size_t *out_count);

// hymn_session_params::tuning_ms for so many seconds.
uint32_t common_tuning_ms(double seconds);
// No more than there are runs of `batch` among `count` pictures.
uint32_t common_streams(uint32_t streams, size_t count, uint32_t batch);

// Of a submit: whether there may be memory for the run when those in flight have been waited for.
bool common_memory_is_out(enum hymn_status status);
// CODE_INTERRUPTED after a line that says so.
enum exit_code common_interrupted(void);
// Each reports its failure; then *out is NULL and the result is the code to exit with. An interrupt that has been seen
// is one, but for models.
enum exit_code common_open_model(const char *path, struct hymn_model **out_model);
// queues: for computing, that are opened; fewer where there are fewer.
enum exit_code common_open_device(const struct common *common, const char *cache_dir, uint32_t queues,
                                  struct hymn_context **out_context);
// As console_status, of a failure to find or open common->device: where there is none of that name and it is from
// HYMN_DEVICE, its lines begin with that.
void common_device_status(const struct common *common, enum hymn_status status);
// Reports that there are no devices at all: CODE_ENGINE.
enum exit_code common_no_devices(void);
// size 0 x 0: the model's. `model_path` is for messages.
enum exit_code common_open_session(struct hymn_context *context, const struct hymn_model *model, const char *model_path,
                                   const struct hymn_session_params *params, struct hymn_session **out_session);

// Whether the model can run on pictures (1 or 3 channels) with this --threshold (0: not given). Reports why not.
enum exit_code common_check_pictures(const struct command *command, const char *model_path,
                                     const struct hymn_model_info *info, double threshold);
// CODE_USAGE after a line that says that an argument, `what` ("INPUT"), is missing.
enum exit_code common_missing(const struct command *command, const char *what);
// CODE_USAGE after a line that says that an argument has no meaning.
enum exit_code common_unexpected(const struct command *command, const char *argument);
// CODE_USAGE after a line where the file of an option ("--output"; NULL: not given) is the model, which it would
// replace.
enum exit_code common_keep_model(const struct command *command, const char *model_path, const char *option,
                                 const char *path);
// Destroys session and context, and turns validation messages into a failure: returns `code`, or CODE_ENGINE.
enum exit_code common_close(struct hymn_session **session, struct hymn_context **context, enum exit_code code);

const char *common_precision_name(enum hymn_precision precision);
const char *common_device_type_name(enum hymn_device_type type);

// The commands. arguments: what stands behind the command's name.
int command_segment(char **arguments, size_t count);
int command_run(char **arguments, size_t count);
int command_eval(char **arguments, size_t count);
int command_bench(char **arguments, size_t count);
int command_devices(char **arguments, size_t count);
int command_inspect(char **arguments, size_t count);
int command_selftest(char **arguments, size_t count);

#endif
