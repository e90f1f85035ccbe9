// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L

#include "interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t seen;

static void on_signal(int number) {
    (void)number;
    seen = 1;
}

// What is ignored stays so: nohup wants it, and a shell of what it runs in the background.
static void catch_signal(int number, int flags) {
    struct sigaction action = {.sa_handler = on_signal}, before;
    if (sigaction(number, NULL, &before) != 0 || before.sa_handler == SIG_IGN) {
        return;
    }
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void interrupt_catch(void) {
    catch_signal(SIGINT, (int)SA_RESETHAND | SA_RESTART);
    catch_signal(SIGTERM, (int)SA_RESETHAND | SA_RESTART);
    catch_signal(SIGHUP, SA_RESTART); // a closed terminal may send more than one: its shell does, and the system
}

void interrupt_ignore_writes(void) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool interrupt_seen(void) {
    return seen != 0;
}
