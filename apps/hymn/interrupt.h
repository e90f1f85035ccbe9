// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_INTERRUPT_H
#define HYMN_APP_INTERRUPT_H

#include <stdbool.h>

// From now on the first SIGINT or SIGTERM only makes `interrupt_seen` true, so that what is under way is finished; the
// second one ends the program. A closed pipe and a file beyond its limit
// are errors of the write, not signals.
void interrupt_catch(void);
bool interrupt_seen(void);

#endif
