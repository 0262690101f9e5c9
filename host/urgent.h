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

/* SIGURGs that this thread has heard. */
extern _Thread_local volatile uint32_t urgent_signals;

/* A poller's thread: SIGURG comes to it from now on. */
void urgent_listen(void);
/* The stream that the kernel has for @s: SIGURG comes for it. It is new, or accepted. */
void urgent_watch(struct sock *s);
void urgent_accepted(struct sock *s);
/* It is given to a guest: no signal of its file is for canald any more. */
void urgent_forget(struct sock *s);

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
static inline bool urgent_unsure(bool near, uint32_t looked)
{
	return __builtin_expect(near || looked != urgent_signals, 0);
}
/* Urgent data is announced, and RX is full or has other bytes to take first. */
void urgent_early(struct sock *s);
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
