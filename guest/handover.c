/* SPDX-License-Identifier: MIT */
/*
 * Handing a socket over to code that libcanal does not see.
 *
 * Purpose: stdio, a raw system call, a program that cannot be covered, use the
 * descriptor as the kernel has it: the near end of a socket pair whose far end is
 * canald's. After the handover canald moves all bytes through it (host/pump.c), and
 * libcanal, in all processes that have the socket, makes the kernel's calls on it.
 * Names and options are still asked of canald.
 *
 * Invariants
 *  1. The order of bytes holds: the call that hands over holds rx_lock, and when it
 *     returns, nothing is consumed from RX, nor put into TX, any more: whoever comes
 *     looks at the state behind the lock (H1).
 *  2. A descriptor of a socket that was handed over has the kind FD_HANDED: to
 *     read, poll and the rest it is one of the kernel's. It never goes back.
 *  3. Members of epoll sets become members of the kernel's instance then.
 *
 * Ownership and threads: the state is all processes'; each learns of it by itself,
 * from a data call (-EHANDED) or from a look (handover_met).
 *
 * Failure: listeners, datagram sockets and what is not connected stay as they are
 * (-EOPNOTSUPP), as do all sockets of a virtual machine, whose driver needs no
 * handover.
 */
#include <errno.h>
#include <sys/time.h>

#include "epoll_set.h"
#include "handover.h"
#include "lock.h"

#define MEMBERSHIPS 16
#define NS_PER_S 1000000000ull
#define NS_PER_US 1000ull

uint32_t handover_count;
uint32_t handover_met;
bool handover_always;

/* The time limits of a call were libcanal's business. */
static void limit_set(int fd, int name, uint64_t ns)
{
	const struct timeval tv = { .tv_sec = (time_t)(ns / NS_PER_S),
				    .tv_usec = (suseconds_t)(ns % NS_PER_S / NS_PER_US) };

	if (ns)
		(void)real(setsockopt)(fd, SOL_SOCKET, name, &tv, sizeof(tv));
}

/* The program's number of an epoll instance; -1: it is closed. */
static int epoll_number(const struct epoll_set *es)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (fd_table[fd].kind == FD_EPOLL && fd_table[fd].object == es)
			return fd;
	return -1;
}

static void move_members(const struct membership *in, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct epoll_event ev = { .events = in[i].events, .data.u64 = in[i].data };
		int epfd = epoll_number(in[i].es);

		if (epfd >= 0)
			(void)epoll_change(epfd, EPOLL_CTL_ADD, in[i].fd, &ev);
	}
}

/* All descriptors of socket @n. */
static void learn(const struct canal_sock *s, uint32_t n)
{
	struct membership in[MEMBERSHIPS];
	uint32_t count = member_list(n, in, MEMBERSHIPS);
	int any = -1;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		if (fd_sock(fd) != s)
			continue;
		canal_store_release(&fd_table[fd].kind, (uint16_t)FD_HANDED);
		any = fd;
	}
	if (any < 0)
		return;
	limit_set(any, SO_RCVTIMEO, canal_read_once(&s->rcvtimeo_ns));
	limit_set(any, SO_SNDTIMEO, canal_read_once(&s->sndtimeo_ns));
	epoll_forget(any); /* its number is all that counts there */
	move_members(in, count);
	(void)canal_fetch_add(&handover_count, 1u);
}

bool handover_learn(int fd)
{
	struct sock_ref ref = sock_of(fd);
	int saved = errno;

	if (ref.s)
		learn(ref.s, ref.n);
	errno = saved;
	return true;
}

void handover_sweep(void)
{
	int saved = errno;

	if (!canal_xchg(&handover_met, 0u))
		return;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		struct sock_ref ref = sock_of(fd);

		if (ref.s && sock_is_handed(ref.s))
			learn(ref.s, ref.n);
	}
	errno = saved;
}

/* In a handler on top of who is at RX, the call waits for nobody: better not. */
static int ask(struct sock_ref ref)
{
	struct canal_inr inr = { .op = CANAL_INR_HANDOVER, .sock = ref.n };
	struct channel *ch;
	int ret = channel_get(&ch);

	if (ret < 0)
		return ret;
	if (ch->via != &transport_local)
		return -EOPNOTSUPP;
	if (!lock_enter(&ref.s->rx.rx_lock))
		return -EDEADLK;
	ret = channel_call(ch, &inr, NULL);
	lock_leave(&ref.s->rx.rx_lock);
	return ret;
}

int handover(int fd)
{
	struct sock_ref ref = sock_of(fd);
	int saved = errno, ret;

	if (!ref.s || ref.type != SOCK_STREAM)
		return ref.s ? -EOPNOTSUPP : 0;
	data_settle(ref.s);
	ret = sock_is_handed(ref.s) ? 0 : ask(ref);
	if (ret == 0)
		learn(ref.s, ref.n);
	errno = saved;
	return ret;
}

void handover_all(void)
{
	handover_always = true;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		(void)handover(fd);
}
