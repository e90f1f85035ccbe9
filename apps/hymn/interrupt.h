// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_INTERRUPT_H
#define HYMN_APP_INTERRUPT_H

#include <stdbool.h>

// From now on the first SIGINT, SIGTERM or SIGHUP only makes `interrupt_seen` true, so that what is under way is
// finished; a second SIGINT or SIGTERM ends the program. For commands that ask interrupt_seen, before they begin.
// Signals that the program was started to ignore stay ignored.
void interrupt_catch(void);
bool interrupt_seen(void);
// A closed pipe and a file beyond its limit are errors of the write from now on, not signals.
void interrupt_ignore_writes(void);

#endif
