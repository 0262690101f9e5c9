/* SPDX-License-Identifier: MIT */
/* Signals of a call that has moved bytes: hold.c. */
#ifndef CANAL_GUEST_HOLD_H
#define CANAL_GUEST_HOLD_H

#include <signal.h>
#include <stdbool.h>

/* Of sendmmsg, recvmmsg and sendfile: what came before this part has moved. The kernel
 * has no such flag, and ignores it. */
#define MSG_BEGUN 0x00800000

/* From here on signals wait for this thread's next sleep, and end that. False: they do
 * already, for a caller of ours; or there is no way. */
bool hold_begin(void);
void hold_end(void);
bool hold_is_on(void);

/* Around a sleep: the mask to sleep with; NULL: none is held. */
const sigset_t *hold_sleeps(sigset_t *room);
void hold_slept(const sigset_t *mask);

/* All handlers of the process have SA_RESTART. */
bool handlers_restart(void);

#endif
