/* SPDX-License-Identifier: MIT */
/*
 * Urgent data (MSG_OOB): how the host stops at the mark. urgent.c tells how.
 */
#ifndef CANAL_HOST_URGENT_H
#define CANAL_HOST_URGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

struct sock;

enum urgent {
	URGENT_NONE = 0, /* of what the kernel has: nothing urgent */
	URGENT_COMING,   /* announced, and not there yet */
	URGENT_HERE,     /* its place is known, and told to the guest */
};

/* SIGURGs that this thread has heard. */
extern _Thread_local volatile uint32_t urgent_signals;

/* A poller's thread: SIGURG comes to it from now on. */
void urgent_listen(void);
/* A stream of the kernel's, connected or about to be: SIGURG comes for it. */
void urgent_watch(int fd);

/*
 * What is about to be received: SIGURG ends it, also between here and the system
 * call. None: 0.
 */
void urgent_guard(struct engine_op *const *ops, uint32_t count);
/* The same behind the call: -EINTR when it is to be made again. */
int urgent_result(const struct engine_op *op, int res);

/* Before a receive of the kernel's stream. False: not now. */
bool urgent_allows(struct sock *s);
/* Whether that has to be asked. */
static inline bool urgent_unsure(enum urgent state, uint32_t looked)
{
	return __builtin_expect(state != URGENT_NONE || looked != urgent_signals, 0);
}
/* A receive that SIGURG ended: bytes or -errno of another try. */
int urgent_again(struct sock *s);

/* Bytes are in RX, or have no room there: the guest is told of the byte at the mark. */
void urgent_published(struct sock *s);
void urgent_held_up(struct sock *s);

/* Bytes of the @avail in TX that go in one send; with *ret_flags. */
uint64_t urgent_tx(const struct sock *s, uint64_t avail, int *ret_flags);
/* The same for a joined one: its mark becomes that of the other end. False after
 * channel_break(). */
bool urgent_across(struct sock *s, struct sock *d, uint64_t avail);
/* Bytes of RX that the dummy may have, from *head on, which steps over a mark. */
uint64_t urgent_handed(struct sock *s, uint64_t *head);

#endif
