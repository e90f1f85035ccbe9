// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common.h"
#include "interrupt.h"

static const struct {
    const char *name, *summary;
    int (*run)(char **arguments, size_t count);
    bool finishes; // what is under way when it is interrupted: it asks interrupt_seen
} commands[] = {
    {"segment", "pictures to masks", command_segment, true},
    {"run", "a tensor through the network: .npy in, raw logits out", command_run, true},
    {"eval", "masks against true ones: Dice, IoU, Hausdorff distance", command_eval, true},
    {"bench", "time, memory and accuracy on this machine", command_bench, true},
    {"devices", "what Vulkan devices there are", command_devices, false},
    {"inspect", "what is in a model file; needs no device", command_inspect, false},
    {"selftest", "whether the device computes what it should", command_selftest, false},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void print_help(void) {
    printf("hymn: HyM-UNet segmentation networks on any Vulkan device\n\n"
           "Usage: hymn COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    }
    printf("\n'hymn COMMAND --help' tells a command's options. 'hymn --version' tells the version.\n\n"
           "Examples:\n"
           "  hymn segment photo.jpg --model tiny.safetensors -o out\n"
           "  hymn devices\n\n"
           "Exit status: 0 all is well; 1 an input could not be read or an output not be written; 2 the command\n"
           "line is wrong; 3 the model or the device cannot be used, or a self-test or the validation layers\n"
           "found something wrong; 130 interrupted.\n");
}

static int complain_unknown(const char *name) {
    const char *names[COMMAND_COUNT + 1] = {NULL};
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
    }
    const char *nearest = options_nearest(name, names);
    if (nearest != NULL) {
        console_error(NULL, "unknown command '%s' (did you mean '%s'?)", name, nearest);
    } else {
        console_error(NULL, "unknown command '%s' (see 'hymn --help')", name);
    }
    return CODE_USAGE;
}

static int finish(int code) {
    return console_finish() || code != CODE_OK ? code : CODE_INPUT;
}

// In the place of a standard stream that is closed the next file that is opened would get what is said there. What
// takes it cannot be read or written either, so that using the stream fails as before: a folder, also where a path like
// /dev/stdout opens it anew.
static void hold_standard_streams(void) {
    if (fcntl(0, F_GETFD) < 0) {
        (void)open("/dev/null", O_WRONLY);
    }
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0) {
            (void)open("/", O_RDONLY);
        }
    }
}

int main(int count, char **arguments) {
    hold_standard_streams();
    interrupt_ignore_writes();
    const char *name = count > 1 ? arguments[1] : NULL;
    if (name == NULL) {
        console_error(NULL, "a command is missing (see 'hymn --help')");
        return CODE_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return finish(CODE_OK);
    }
    if (strcmp(name, "--version") == 0) {
        printf("hymn %s\n", hymn_version_string());
        return finish(CODE_OK);
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            if (commands[i].finishes) {
                interrupt_catch();
            }
            return finish(commands[i].run(arguments + 2, (size_t)count - 2));
        }
    }
    return complain_unknown(name);
}
