/* SPDX-License-Identifier: MIT */
/*
 * Sockets whose bytes go through the dummy (handover.c), because code that
 * libcanal does not see uses them, too.
 */
#ifndef CANAL_HANDOVER_H
#define CANAL_HANDOVER_H

#include "data.h"
#include "internal.h"

/* What a data call gives for a socket that was handed over: the caller makes the call
 * of the kernel's on the descriptor. No errno has this number. */
#define EHANDED 10002

/* Descriptors of this process have changed from canal's to the kernel's, so often. */
extern uint32_t handover_count __attribute__((visibility("hidden")));
/* A socket was met that another process or thread handed over. */
extern uint32_t handover_met __attribute__((visibility("hidden")));

/* Hands the socket over that @fd is, if it can be. 0, or -errno: it stays as it is. */
int handover(int fd);
/* From now on every stream of this process: something in it talks to the kernel
 * past every library (io_uring). */
void handover_all(void);
extern bool handover_always __attribute__((visibility("hidden")));

/* The descriptors of @fd's socket are the kernel's from now on. True, for use behind
 * a data call. */
bool handover_learn(int fd);
/* In a forked child. */
void handover_after_fork(void);
/* The same for all of which handover_met was told. */
void handover_sweep(void);

/* The socket of a descriptor that was handed over: for calls that are no data. */
static inline struct sock_ref handed_of(int fd)
{
	const struct fd_entry *entry = fd_lookup(fd);
	struct sock_ref ref = { .s = NULL };

	if (entry && entry->kind == FD_HANDED) {
		ref.s = entry->object;
		ref.n = entry->number;
		ref.domain = entry->flags >> 8;
		ref.type = entry->flags & 0xff;
	}
	return ref;
}

static inline bool sock_is_given(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_GIVEN;
}

static inline bool sock_is_handed(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_HANDED;
}

/* Either; not one that the kernel's socket is to be had for: that it is from now on. */
static inline struct sock_ref control_of(int fd)
{
	struct sock_ref ref = sock_of(fd);

	if (unlikely(ref.s && sock_is_given(ref.s)) && handover_learn(fd))
		ref = sock_of(fd);
	return likely(ref.s) ? ref : handed_of(fd);
}

/* Connected, one way or the other. */
static inline bool state_is_connected(uint32_t state)
{
	return state == CANAL_SOCK_CONNECTED || state == CANAL_SOCK_HANDED;
}

#endif
