/* SPDX-License-Identifier: MIT */
/*
 * What ready.c and select.c share: the look that needs no sorting, and the call that does
 * everything else. A look at select()'s array is one with @select, which wants other
 * events to make an entry ready.
 */
#ifndef CANAL_READY_H
#define CANAL_READY_H

#include "epoll_set.h"
#include "handover.h"
#include "twin.h"

/* Up to so many descriptors fit the stack. */
#define READY_FEW 256

/* What select means by readable, writable and exceptional, as in Linux. */
#define SELECT_RD (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_WR (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX POLLPRI

/* What makes an entry ready. */
static inline short interest(bool select, const struct pollfd *p)
{
	short all = POLLNVAL;

	if (!select)
		return p->events | POLLERR | POLLHUP | POLLNVAL;
	if (p->events & POLLIN)
		all |= SELECT_RD;
	if (p->events & POLLOUT)
		all |= SELECT_WR;
	return p->events & POLLPRI ? all | SELECT_EX : all;
}

/*
 * Nothing but canal sockets, none of them with a twin, and one is ready: that takes no
 * sorting. Else 0, and nothing is known.
 */
static inline __attribute__((always_inline)) int look_plainly(struct pollfd *fds, uint32_t count,
							      bool select)
{
	int ready = 0;

	if (twin_any())
		return 0;
	wait_arrival(&the_channel);
	for (uint32_t i = 0; i < count; i++) {
		struct pollfd *p = &fds[i];
		struct canal_sock *s = fd_sock(p->fd);

		if (unlikely(!s)) /* may also have been handed over by now */
			return 0;
		p->revents = (short)ready_events(s, (uint16_t)p->events) & interest(select, p);
		ready += p->revents != 0;
	}
	return unlikely(canal_read_once(&handover_met)) ? 0 : ready;
}

/* What poll is asked for, or select. */
struct ready_list {
	struct pollfd *fds;
	uint32_t count;
};

/**
 * ready_wait() - poll, or what select makes of it
 *
 * Return: how many are ready, 0 when the time is over, or -errno.
 */
int ready_wait(const struct ready_list *list, bool select, const struct timespec *timeout,
	       const sigset_t *mask);

#endif
