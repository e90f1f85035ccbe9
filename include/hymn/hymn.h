// SPDX-License-Identifier: MIT
//
// hymn: HyM-UNet segmentation networks on any Vulkan device.
//
//   struct hymn_context *context = NULL;          // a device, chosen and opened
//   struct hymn_model *model = NULL;              // a .safetensors file
//   struct hymn_session *session = NULL;          // model + device + size + batch, compiled and recorded
//   hymn_context_create(NULL, &context);
//   hymn_model_create(&(struct hymn_model_params){.path = "tiny.safetensors"}, &model);
//   hymn_session_create(context, model, NULL, &session);
//   hymn_session_run(session, &(struct hymn_run_params){.images = &image, .outputs = &output});
//
// Conventions, for every function here:
// - Calls that can fail return enum hymn_status; a message with the cause goes to the log callback that the object (or,
//   for a create call, its params) carries. On failure out-parameters are set to NULL or left zeroed, nothing is
//   half-built. The library never aborts, exits or prints.
// - `const struct hymn_..._params *` may be NULL, but for a model and a run, which need theirs; a zero field means its
//   default. Params and what they point to are borrowed for the duration of the call only, unless the field says
//   otherwise.
// - A NULL handle or out-parameter is INVALID_ARGUMENT. What returns a value in place of a status returns NULL, 0 or,
//   for a time, -1.0 where its handle is NULL.
// - `_destroy(**)` accepts NULL and a pointer to NULL, and sets the handle to NULL.
// - Images are row-major, top row first; tensors are dense and row-major in the order their comment gives.
#ifndef HYMN_HYMN_H
#define HYMN_HYMN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(HYMN_SHARED) && defined(_WIN32)
#ifdef HYMN_BUILD
#define HYMN_API __declspec(dllexport)
#else
#define HYMN_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define HYMN_API __attribute__((visibility("default")))
#else
#define HYMN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define HYMN_VERSION_MAJOR 0
#define HYMN_VERSION_MINOR 2
#define HYMN_VERSION_PATCH 0

// ---------------------------------------------------------------------------------------------------------- status

enum hymn_status {
    HYMN_STATUS_OK = 0,
    HYMN_STATUS_INVALID_ARGUMENT = 1,     // a parameter is out of its documented range
    HYMN_STATUS_OUT_OF_MEMORY = 2,        // host memory
    HYMN_STATUS_OUT_OF_DEVICE_MEMORY = 3, // device memory; the log says how much was needed and how much there is
    HYMN_STATUS_IO = 4,                   // a file cannot be opened, read or written
    HYMN_STATUS_BAD_MODEL = 5,            // not a safetensors file, or one whose config or tensors are wrong
    HYMN_STATUS_UNSUPPORTED = 6,          // valid, but beyond what this device or this version can do
    HYMN_STATUS_NO_DEVICE = 7,            // no Vulkan loader, no driver, or no device that matches
    HYMN_STATUS_DEVICE_LOST = 8,          // sticky: the context and its sessions are of no further use
    HYMN_STATUS_BUSY = 9,                 // all runs_in_flight are taken: wait for one first
    HYMN_STATUS_INTERNAL = 10             // a driver call failed in a way that nothing above describes
};

// English name of a status ("out of device memory"); never NULL, static storage.
// Thread-safety: any thread.
HYMN_API const char *hymn_status_string(enum hymn_status status);

// "0.2.0"; static storage. Thread-safety: any thread.
HYMN_API const char *hymn_version_string(void);

// ------------------------------------------------------------------------------------------------------------- log

enum hymn_log_level {
    HYMN_LOG_ERROR = 0, // why a call failed
    HYMN_LOG_WARNING = 1,
    HYMN_LOG_INFO = 2, // once per object: device chosen, memory planned
    HYMN_LOG_DEBUG = 3
};

// `message` is one UTF-8 line without a newline, valid during the call only. Called from the thread that called the
// library and, for objects used from several threads, from several threads at once. What the validation layers say of
// pipelines also comes from threads that the library makes them with, one at a time. Must not call the library, which
// may hold the lock of its cache folder meanwhile, and must return: no exception or longjmp out of it.
typedef void (*hymn_log_callback)(void *user, enum hymn_log_level level, const char *message);

// Where messages go; copied by value into the object that is made. callback NULL: messages are dropped.
struct hymn_log {
    hymn_log_callback callback;
    void *user;
    enum hymn_log_level level; // the most detailed level that is delivered; 0 = errors only
};

// ---------------------------------------------------------------------------------------------------------- device

enum hymn_device_type {
    HYMN_DEVICE_TYPE_OTHER = 0,
    HYMN_DEVICE_TYPE_INTEGRATED_GPU = 1,
    HYMN_DEVICE_TYPE_DISCRETE_GPU = 2,
    HYMN_DEVICE_TYPE_VIRTUAL_GPU = 3,
    HYMN_DEVICE_TYPE_CPU = 4
};

// What a device's shaders may be made of, each tier with all of those before it. A tier that is asked for is the most
// that is used: a device that lacks it takes its own best one, and the results are the same within rounding.
enum hymn_tier {
    HYMN_TIER_AUTO = 0,  // the device's best (software devices: HALF, as their matrix units are loops)
    HYMN_TIER_BASE = 1,  // what every device has that can be used at all: the reference for the others
    HYMN_TIER_WIDE = 2,  // larger workgroups, more shared memory, operations across a subgroup
    HYMN_TIER_HALF = 3,  // 16-bit storage buffers or fp16 arithmetic, whichever there is; no shader needs them today
    HYMN_TIER_MATRIX = 4 // cooperative matrices of fp16 with 32-bit sums
};

// "auto", "base", "wide", "half", "matrix"; never NULL, static storage. Thread-safety: any thread.
HYMN_API const char *hymn_tier_string(enum hymn_tier tier);

struct hymn_device_info {
    uint32_t index;   // position in this list; what a device selector "0", "1", ... names
    char name[256];   // the driver's name for the device
    char driver[512]; // driver name and version, for people
    char api_version[16];
    uint8_t uuid[16]; // VkPhysicalDeviceIDProperties::deviceUUID
    uint32_t vendor_id, device_id;
    enum hymn_device_type type;
    uint64_t memory_bytes; // size of the largest device-local heap; of integrated and software devices of the largest
    uint32_t subgroup_size;
    bool storage_16bit, arithmetic_16bit; // 16-bit storage buffers, fp16 arithmetic in shaders
    enum hymn_tier tier;                  // what HYMN_TIER_AUTO means on it; BASE where it is not usable
    bool transfer_queue;                  // inputs may overlap with runs (enum hymn_transfer); of a context: do
    uint32_t compute_queues; // runs that may overlap with each other (hymn_session_params::streams), at most 8
    bool usable;             // false: `reason` says what it lacks
    char reason[256];
};

// How the inputs of runs reach a device that keeps its memory behind a bus.
enum hymn_transfer {
    // Where the host can write to the device's own memory (resizable BAR; small inputs also through a window of 256
    // MiB), hymn_session_submit writes them there, and nothing is copied. Else, where the device has a queue that only
    // copies (hymn_device_info::transfer_queue), large inputs go through it while another run of the session is
    // computed; all others are copied before their run, on the queue that computes it.
    HYMN_TRANSFER_AUTO = 0,
    HYMN_TRANSFER_OFF = 1, // always the last of these: no second queue is opened
    // For tests: every input goes ahead by itself, also on devices without a bus or a second queue, whose only one then
    // plays both parts. Slower there, and for single runs anywhere; the results are the same.
    HYMN_TRANSFER_ON = 2
};

struct hymn_device_list;

struct hymn_device_list_params {
    struct hymn_log log;
};

// Every Vulkan device of the machine, usable or not, in the loader's order. An empty list is a success; no Vulkan
// loader at all is HYMN_STATUS_NO_DEVICE. OUT_OF_MEMORY, INTERNAL.
// Thread-safety: any thread. The list is immutable once made.
HYMN_API enum hymn_status hymn_device_list_create(const struct hymn_device_list_params *params,
                                                  struct hymn_device_list **out_list);
// Frees the list and sets *list to NULL; NULL is fine.
// Thread-safety: any thread, once no other uses the list.
HYMN_API void hymn_device_list_destroy(struct hymn_device_list **list);
// Devices in the list. Thread-safety: any thread.
HYMN_API uint32_t hymn_device_list_count(const struct hymn_device_list *list);
// One of them; NULL past the end; owned by the list. Thread-safety: any thread.
HYMN_API const struct hymn_device_info *hymn_device_list_get(const struct hymn_device_list *list, uint32_t index);

// --------------------------------------------------------------------------------------------------------- context

// A device opened for compute: one VkDevice with its queues, and maybe one that copies, memory, and the pipeline cache.
// Several contexts, on the same or on different devices, may live in one process.
struct hymn_context;

struct hymn_context_params {
    struct hymn_log log;
    // NULL or "": the best usable device (discrete before integrated before virtual before CPU, then memory).
    // "3": index in the list; a number of one or two digits is nothing else, and NO_DEVICE where the list is shorter.
    // Otherwise a case-insensitive part of the name, or a UUID as 32 hexadecimal digits.
    const char *device;
    // Folder for the pipeline cache, which is written when a session or a self-test has added to it. NULL: "hymn" below
    // the user's cache folder ($XDG_CACHE_HOME, ~/.cache, ~/Library/Caches, %LOCALAPPDATA%). "": nothing is read from
    // or written to disk. A relative one is below the process's current folder, each time anew: a program that changes
    // that gives an absolute one.
    const char *cache_dir;
    enum hymn_tier tier; // the most that any of the context's sessions uses
    // Load VK_LAYER_KHRONOS_validation (core and synchronization checks) and log what it says as errors. The layer not
    // being installed is HYMN_STATUS_UNSUPPORTED.
    bool validation;
    // Use every shader that the device claims to be able to run without checking it first. By default one that not
    // every device can run is checked when a session would use it for the first time on this device and driver, on
    // small random problems against plain C (milliseconds; seconds on a software device); one that is wrong is not
    // used, with a warning. Verdicts are kept in cache_dir. A check that was interrupted (the process was killed or
    // crashed, the device was lost) is run again by the next session of a new context. After the second time the shader
    // is not used for a day, with a warning, and then checked again; after each further time that takes twice as long,
    // up to 32 days. One that could not be run on some of the problems, and was right on the others, is checked again
    // after a day too. hymn_selftest_create checks anew what it is asked for.
    bool trust_variants;
    enum hymn_transfer transfer;
    // Queues for computing that are opened, for hymn_session_params::streams. 0: 1; at most 8, and at most as many as
    // the device has (hymn_device_info::compute_queues). NVIDIA's driver takes some 30 ms for each.
    uint32_t compute_queues;
};

// NO_DEVICE: no loader, or nothing matches `device` (the log lists what there is). UNSUPPORTED: the named device lacks
// something required. INVALID_ARGUMENT: `tier`, `transfer` or `compute_queues` is none of those possible.
// OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST, INTERNAL.
// Thread-safety: any thread.
HYMN_API enum hymn_status hymn_context_create(const struct hymn_context_params *params,
                                              struct hymn_context **out_context);
// All sessions of the context must have been destroyed. Writes the pipeline cache if it grew, and sets *context to
// NULL. Thread-safety: any thread, once no other uses the context.
HYMN_API void hymn_context_destroy(struct hymn_context **context);
// What was opened. Owned by the context. Thread-safety: any thread.
HYMN_API const struct hymn_device_info *hymn_context_device(const struct hymn_context *context);
// Number of validation messages so far; 0 without `validation`. Thread-safety: any thread.
HYMN_API uint32_t hymn_context_validation_messages(const struct hymn_context *context);

// ------------------------------------------------------------------------------------------------------- self-test

enum hymn_selftest_verdict {
    HYMN_SELFTEST_PASSED = 0,
    HYMN_SELFTEST_FAILED = 1, // sessions do not use it, where it is not a base variant
    // Not for this device: it lacks what is needed, the context's tier forbids it, or no case uses it there, and then
    // no session does either.
    HYMN_SELFTEST_UNAVAILABLE = 2
};

struct hymn_selftest_result {
    const char *variant;   // a shader's name; owned by the library
    const char *operation; // "conv2d", "selective_scan", ...; "" if unavailable
    bool base;             // every device can run it
    enum hymn_selftest_verdict verdict;
    uint32_t cases, runs;   // problems that it was tried on; runs of all of them
    uint32_t differing;     // runs that gave other bits than the first one of the same problem
    double base_error;      // largest normalised mean squared error against the base variants on the same device;
                            // negative: not compared
    double reference_error; // the same against plain C in double precision
    const char *reason;     // of a failure; "" otherwise
};

struct hymn_selftest;

// done: of count shaders, those included that are not tested here; from 0 on, one after the other, to count unless the
// self-test fails. Must not call the library, and must return.
typedef void (*hymn_selftest_callback)(void *user, uint32_t done, uint32_t count);

struct hymn_selftest_params {
    uint32_t runs;                   // of each problem; 0: 100
    hymn_selftest_callback progress; // called by the thread that tests; NULL: none
    void *user;                      // what the callback is given
    // Only variants whose names contain one of these `name_count` texts; NULL: all. The others have no result.
    const char *const *names;
    uint32_t name_count;
};

// Runs every shader of the network's operators through small random problems, whatever earlier verdicts say, and keeps
// the new ones. Success whatever the verdicts are. INVALID_ARGUMENT: no variant's name contains one of `names` (says
// which). OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST, INTERNAL.
// Thread-safety: as hymn_session_create.
HYMN_API enum hymn_status hymn_selftest_create(struct hymn_context *context, const struct hymn_selftest_params *params,
                                               struct hymn_selftest **out_selftest);
// Sets *selftest to NULL. Thread-safety: any thread.
HYMN_API void hymn_selftest_destroy(struct hymn_selftest **selftest);
// Thread-safety: any thread.
HYMN_API uint32_t hymn_selftest_count(const struct hymn_selftest *selftest);
// NULL past the end; owned by the self-test. Thread-safety: any thread.
HYMN_API const struct hymn_selftest_result *hymn_selftest_get(const struct hymn_selftest *selftest, uint32_t index);

// ----------------------------------------------------------------------------------------------------------- model

// A network's config and weights, read and checked; needs no device.
struct hymn_model;

struct hymn_model_params {
    struct hymn_log log;
    // A .safetensors file, memory-mapped until the model is destroyed: till then it may be replaced by a rename, but
    // must not be written in place, as a file that becomes shorter ends the process (SIGBUS). Or NULL and:
    const char *path;
    const void *data; // the same file's bytes in memory, which must stay valid and unchanged as long as the model
    size_t size;      // bytes at data
    const char *name; // what messages call it; NULL: path, or "(memory)"
};

struct hymn_model_info {
    const char *architecture; // "hymunet"
    uint32_t in_channels, num_classes;
    uint32_t input_height, input_width; // the size it was trained at: a session's default
    uint32_t stages, conv_stages;       // S, and how many of them are convolutional
    uint32_t size_multiple;             // 2^(S-1): other sizes are padded inside the session
    float mean[8], std[8];              // per input channel, for pixels from 0 to 1
    float threshold;                    // of the mask when num_classes = 1
    uint64_t parameters;                // learned values: weights, biases, norms' affines; not running statistics
    uint64_t file_bytes;
};

// INVALID_ARGUMENT: neither a path nor data, or both. IO: cannot be opened or mapped. OUT_OF_MEMORY. BAD_MODEL: names
// the tensor or the config key, what was expected and what was found; NaN or infinite weights are among the errors.
// UNSUPPORTED: an architecture or a version this library does not know.
// Thread-safety: any thread. A model is immutable once made: any number of sessions on any threads may be made from it.
HYMN_API enum hymn_status hymn_model_create(const struct hymn_model_params *params, struct hymn_model **out_model);
// Sessions do not refer to the model after they are made: it may be destroyed before them. Sets *model to NULL.
// Thread-safety: any thread, once no other uses the model.
HYMN_API void hymn_model_destroy(struct hymn_model **model);
// Owned by the model. Thread-safety: any thread.
HYMN_API const struct hymn_model_info *hymn_model_get_info(const struct hymn_model *model);
// Name of class `index`, "class N" where the config names none; NULL past num_classes. Owned by the model.
// Thread-safety: any thread.
HYMN_API const char *hymn_model_class_name(const struct hymn_model *model, uint32_t index);

// --------------------------------------------------------------------------------------------------------- session

enum hymn_precision {
    HYMN_PRECISION_AUTO = 0, // fp16: packed halves need no device feature
    HYMN_PRECISION_FP16 = 1, // activations and weights stored in 16 bits, accumulated in 32
    HYMN_PRECISION_FP32 = 2
};

// A model compiled for one device, network size and batch: weights uploaded, pipelines made, commands recorded. Running
// it compiles nothing. Each run in flight has buffers of its own for images and results, which grow when it asks for
// more than before, the first time too. Where there is no memory for that, those of the session's runs that are not in
// flight are freed, and made again when they are needed; otherwise runs allocate no device memory.
struct hymn_session;

#define HYMN_TUNING_NONE UINT32_MAX

struct hymn_session_params {
    struct hymn_log log;    // callback NULL: the context's
    uint32_t height, width; // network input size; 0: the model's. Any size from 1 x 1 to 32768 x 32768:
                            // what is no multiple of size_multiple is edge-padded below and to the right, and cropped
                            // again
    uint32_t batch;         // images per run, at most 1024; 0: 1
    // Where the device's memory, or its largest storage buffer, does not suffice, half the batch is tried, and so on
    // down to min_batch, and then half the height and width, down to min_height and min_width, with a warning. As long
    // as a smaller session may be tried, it is to suffice for all runs in flight too, of tensors or of images of the
    // network's size, with all outputs. 0: no less than asked for. The session's info tells what it became.
    uint32_t min_batch, min_height, min_width;
    enum hymn_precision precision;
    uint32_t runs_in_flight; // 0: 2, or `streams` where that is more; at most 8
    // How many of them may be computed at the same time, each on a queue of its own among those that the context has
    // opened (hymn_context_params::compute_queues) and with activations of its own: more images a second where a single
    // run does not fill the device, for as many times the activations' memory; each run by itself takes longer the
    // while. Runs beyond that number follow each other in turn. 0: 1; at most 8. It becomes less where the context has
    // fewer queues, there are fewer runs in flight, or streams beyond the first would take more than a quarter of the
    // device's memory or what there is; and 1 with `timings`. The session's info tells.
    uint32_t streams;
    bool timings;        // record per-operator GPU timestamps (hymn_session_timings)
    enum hymn_tier tier; // the most that this session uses; AUTO: the context's
    // On GPUs, operators that can be computed in several ways are timed until about so many milliseconds have passed,
    // most of which go into making shaders: first a few ways for every operator, then, one operator after the other,
    // all ways; those with the most work come first. What is found is kept with the pipeline cache and used by every
    // later session, which goes on where this one stopped. 0: 1000; HYMN_TUNING_NONE: nothing is timed, but what is
    // known already, of cache_dir or of sessions of this context, is used.
    uint32_t tuning_ms;
};

struct hymn_session_info {
    uint32_t height, width, batch;
    enum hymn_precision precision; // FP16 or FP32
    enum hymn_tier tier;           // in use: not AUTO
    uint32_t runs_in_flight, streams;
    uint32_t operators, dispatches; // graph nodes after fusion; compute dispatches of one run (network only)
    uint64_t macs;                  // multiply-adds of one run, convolutions and GEMMs
    // Device memory: weights; activations, which share memory, of all streams; staging and images.
    uint64_t weight_bytes, activation_bytes, io_bytes;
    uint64_t activation_bytes_unaliased; // what the activations would take without sharing memory
    uint64_t host_bytes; // host memory held by the session, with those buffers for images and results that are in it
    double tuning_ms;    // that hymn_session_create spent on timing operators
};

// INVALID_ARGUMENT, OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY (with the plan's size), UNSUPPORTED (a tensor beyond the
// device's storage-buffer range or beyond 32-bit offsets, says which), BAD_MODEL (a weight is not finite any more: the
// model's file or data was changed), DEVICE_LOST, INTERNAL.
// Thread-safety: calls on one context must not overlap with each other, nor with submit or wait on its sessions.
HYMN_API enum hymn_status hymn_session_create(struct hymn_context *context, const struct hymn_model *model,
                                              const struct hymn_session_params *params,
                                              struct hymn_session **out_session);
// Waits for runs in flight, whose outputs are dropped, and sets *session to NULL.
// Thread-safety: as hymn_session_create.
HYMN_API void hymn_session_destroy(struct hymn_session **session);
// Owned by the session. Submits change io_bytes and host_bytes.
// Thread-safety: any thread, but for these two, which are to be read as hymn_session_run is called.
HYMN_API const struct hymn_session_info *hymn_session_get_info(const struct hymn_session *session);

enum hymn_pixel_format {
    HYMN_PIXEL_RGB8 = 0,  // 3 bytes a pixel
    HYMN_PIXEL_RGBA8 = 1, // 4 bytes a pixel, alpha ignored
    HYMN_PIXEL_GREY8 = 2  // 1 byte a pixel, repeated over R, G and B
};

// An 8-bit image of any size from 1 x 1 to 65535 x 65535; resized (antialiased triangle filter), normalised and padded
// on the device. Needs a model with in_channels = 3, or 1 (luma of BT.601 from colour).
struct hymn_image {
    const uint8_t *pixels;
    uint32_t height, width;
    size_t row_bytes; // distance between rows; 0: dense
    enum hymn_pixel_format format;
};

// What to bring back for one image; NULL members are neither computed nor copied.
struct hymn_output {
    float *logits;        // [num_classes, height, width], the session's size
    float *probabilities; // [num_classes, oh, ow]: sigmoid (one class) or softmax, resized bilinearly
    uint8_t *mask;        // [oh, ow]: one class: 255 where the probability >= threshold, else 0; several: class index
    // oh x ow is the image's own size, or the session's for a tensor input.
};

struct hymn_run_params {
    // Either `images`: `batch` images, each of its own size; or
    const struct hymn_image *images;
    // `tensor`: float [batch, in_channels, height, width], already normalised. NaN and infinity are not looked for, and
    // what comes of them means nothing.
    const float *tensor;
    // [batch]. The structures are copied by submit; the memory they point to is written by wait.
    const struct hymn_output *outputs;
    float threshold; // finite; 0: the model's; of the mask when num_classes = 1
    uint32_t count; // images in this run, 1..batch; 0: batch. The rest of the batch is computed on old data and dropped
};

// Run and wait. INVALID_ARGUMENT, OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY (images or results need larger buffers, or ones
// that were freed for another run's; where runs are in flight there may be room when they have been waited for),
// UNSUPPORTED (an image takes more than the device binds or dispatches), BUSY (runs_in_flight runs have been submitted
// and not waited for), DEVICE_LOST, INTERNAL.
// Thread-safety: one thread per session at a time; different sessions of one context must not overlap either; sessions
// of different contexts may.
HYMN_API enum hymn_status hymn_session_run(struct hymn_session *session, const struct hymn_run_params *params);

// Start a run; inputs are copied before it returns. BUSY when runs_in_flight runs have not been waited for.
// *out_ticket names the run to hymn_session_wait. Otherwise as hymn_session_run. Before the process exits, the run is
// to be waited for or its session destroyed: parts of drivers are gone by then, and lavapipe crashes while it computes.
// Thread-safety: as hymn_session_run.
HYMN_API enum hymn_status hymn_session_submit(struct hymn_session *session, const struct hymn_run_params *params,
                                              uint64_t *out_ticket);
// Wait for a run and write its outputs. A ticket that was never given or already waited for is INVALID_ARGUMENT.
// DEVICE_LOST, OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, INTERNAL: the outputs mean nothing, and the ticket is spent.
// Thread-safety: as hymn_session_run.
HYMN_API enum hymn_status hymn_session_wait(struct hymn_session *session, uint64_t ticket);

// ------------------------------------------------------------------------------------------------ timings and plans

struct hymn_timing {
    const char *name;   // "encoder.2.blocks.0.ss2d.scan"; owned by the session
    const char *shader; // "conv2d_tiled"; owned by the library
    double gpu_ms;      // of the last waited run; sequential, so a sum is meaningful
    uint64_t bytes;     // least traffic: each input read once, each output written once
    uint64_t flops;     // 2 x multiply-adds, or an operation count the shader documents
};

// Per-dispatch GPU times of the last waited run, in order of execution. *out_count entries at *out_timings, owned by
// the session, valid until the next wait. UNSUPPORTED without `timings`, or on a device without timestamps.
// Thread-safety: as hymn_session_run.
HYMN_API enum hymn_status hymn_session_timings(struct hymn_session *session, const struct hymn_timing **out_timings,
                                               uint32_t *out_count);
// GPU milliseconds of the last waited run, from its first to its last command on the queue that computes it: what it
// waited for others of its stream is not in it (those of other streams share the device with it, and make it longer),
// nor an input that went ahead on another queue or that the host wrote into the device's memory (HYMN_TRANSFER_AUTO),
// but the copying of any other input is. Negative if the device has no timestamps. Thread-safety: as hymn_session_run.
HYMN_API double hymn_session_gpu_ms(const struct hymn_session *session);

// What a device does at most, measured on it: what an operator's time can be compared with. The least time of an
// operator is the larger of bytes / gbps and flops / gflops; one whose data come from a cache may take less.
struct hymn_ceilings {
    double gbps;   // 1e9 bytes a second, read and written ones together, of a large copy within the device's memory
    double gflops; // 1e9 operations a second (2 x multiply-adds) of a large matrix product, as this session computes
                   // it, or on matrix units of a large 3x3 convolution, if that is faster
    double dispatch_us; // microseconds of a dispatch that does next to nothing, but waits for the one before it
    // Milliseconds of a chain of copies, each of which waits for the one before it: one for each entry of
    // hymn_session_timings, of as many bytes as that tells of, half of them read and half written, within as much
    // memory as a run's activations and weights take. Kernels that wait for each other are hardly faster than that.
    // 0: not known, for there is no such entry, or the chain is too large for the device.
    double chain_ms;
};

// Measures them for a session's device, precision and tier: a second or two, and while it lasts up to 512 MiB of device
// memory, or more for the chain where a run takes more and the device has it. No run may be in flight: it would count.
// UNSUPPORTED: a device without timestamps; OUT_OF_MEMORY, OUT_OF_DEVICE_MEMORY, DEVICE_LOST, INTERNAL. On failure
// *out_ceilings is zero.
// Thread-safety: as hymn_session_create.
HYMN_API enum hymn_status hymn_session_measure_ceilings(struct hymn_session *session,
                                                        struct hymn_ceilings *out_ceilings);

// A line-by-line view of a model's graph at a size, made without a device: what `hymn inspect` prints.
struct hymn_layer {
    const char *name;                 // the operator's name
    const char *kind;                 // "conv2d", "selective_scan", ...
    uint32_t height, width, channels; // of its output, per image
    uint64_t macs;                    // per run
    uint64_t parameters;
    uint64_t offset, bytes; // of its output in the activation arena
};

struct hymn_summary;

struct hymn_summary_params {
    struct hymn_log log;
    uint32_t height, width, batch; // 0: the model's size, 1
    enum hymn_precision precision;
};

// OUT_OF_MEMORY, INVALID_ARGUMENT, UNSUPPORTED (a tensor beyond 32-bit offsets), BAD_MODEL (as hymn_session_create),
// INTERNAL. Thread-safety: any thread.
HYMN_API enum hymn_status hymn_summary_create(const struct hymn_model *model, const struct hymn_summary_params *params,
                                              struct hymn_summary **out_summary);
// Sets *summary to NULL. Thread-safety: any thread, once no other uses the summary.
HYMN_API void hymn_summary_destroy(struct hymn_summary **summary);
// Thread-safety: any thread.
HYMN_API uint32_t hymn_summary_layer_count(const struct hymn_summary *summary);
// NULL past the end; owned by the summary. Thread-safety: any thread.
HYMN_API const struct hymn_layer *hymn_summary_layer(const struct hymn_summary *summary, uint32_t index);
// Bytes of the activations, which share memory by lifetime. Thread-safety: any thread.
HYMN_API uint64_t hymn_summary_activation_bytes(const struct hymn_summary *summary);
// Multiply-adds of a run. Thread-safety: any thread.
HYMN_API uint64_t hymn_summary_macs(const struct hymn_summary *summary);

#ifdef __cplusplus
}
#endif

#endif
