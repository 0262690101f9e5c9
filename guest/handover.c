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
 * A listener, a datagram socket, and what is not connected yet, cannot be carried by
 * a socket pair. There the kernel's socket itself takes the place of the dummy
 * (host/give.c), in this process now, in others when they meet the state GIVEN.
 *
 * Failure: where canald, or CANAL_FALLBACK=deny, gives no kernel's sockets, they stay as
 * they are (-EOPNOTSUPP), as do all sockets of a virtual machine, whose driver needs no
 * handover.
 */
#include <errno.h>
#include <sys/time.h>

#include "epoll_set.h"
#include "handover.h"
#include "lock.h"
#include "stock.h"

#define MEMBERSHIPS 16
/* For datagrams that have not left yet: 200 ms in all. */
#define DRAIN_NAPS 200
#define DRAIN_NAP_NS 1000000
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
static void learn_handed(const struct canal_sock *s, uint32_t n)
{
	struct membership in[MEMBERSHIPS];
	uint32_t count = member_list(n, in, MEMBERSHIPS);
	int any = -1;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		/* another thread may close it meanwhile */
		if (fd_sock(fd) == s &&
		    canal_cas(&fd_table[fd].kind, (uint16_t)FD_SOCKET, (uint16_t)FD_HANDED))
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

/* --- the kernel's socket itself ----------------------------------------- */

/* Forgets the descriptors of @s one after the other, and has each of them be @kernel.
 * The last one's goodbye is said when no dummy is left. */
static void replace(const struct canal_sock *s, int kernel)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		int flags;

		if (fd_sock(fd) != s)
			continue;
		flags = real(fcntl)(fd, F_GETFD, NULL);
		process_replace(fd, kernel, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
}

/* What the dummies had of the file, and libcanal of the socket. */
static void set_up(const struct canal_sock *s, int kernel)
{
	bool nonblock = canal_read_once(&s->status) & CANAL_STATUS_NONBLOCK;

	real(fcntl)(kernel, F_SETFL, (void *)(uintptr_t)(O_RDWR | (nonblock ? O_NONBLOCK : 0)));
	limit_set(kernel, SO_RCVTIMEO, canal_read_once(&s->rcvtimeo_ns));
	limit_set(kernel, SO_SNDTIMEO, canal_read_once(&s->sndtimeo_ns));
}

/* What was sent before goes first. */
static int kernel_ask(struct channel *ch, struct canal_sock *s, uint32_t n)
{
	int fd;

	for (int i = 0; i < DRAIN_NAPS; i++) {
		fd = stock_kernel(ch, n, canal_read_once(&s->generation));
		if (fd != -EAGAIN)
			break;
		(void)wait_nap(DRAIN_NAP_NS);
	}
	return fd;
}

static int learn_given(struct canal_sock *s, uint32_t n)
{
	struct membership in[MEMBERSHIPS];
	uint32_t count = member_list(n, in, MEMBERSHIPS);
	struct channel *ch;
	int kernel = channel_get(&ch);

	if (kernel == 0)
		kernel = kernel_ask(ch, s, n);
	if (kernel < 0)
		return kernel;
	kernel = fd_move_high(kernel);
	set_up(s, kernel);
	replace(s, kernel);
	fd_close_own(kernel);
	move_members(in, count);
	(void)canal_fetch_add(&handover_count, 1u);
	return 0;
}

/* Who comes second finds the descriptor as it is to be, not between the two. */
static uint32_t learn_lock;

void handover_after_fork(void)
{
	canal_write_once(&learn_lock, 0u);
}

static void learn(struct canal_sock *s, uint32_t n)
{
	if (!sock_is_given(s))
		learn_handed(s, n);
	else if (learn_given(s, n) < 0)
		learn_handed(s, n); /* its dummy gives errors */
}

bool handover_learn(int fd)
{
	bool locked = lock_enter(&learn_lock);
	struct sock_ref ref = sock_of(fd);
	int saved = errno;

	if (ref.s)
		learn(ref.s, ref.n);
	if (locked)
		lock_leave(&learn_lock);
	errno = saved;
	return true;
}

void handover_sweep(void)
{
	int saved = errno;

	if (!canal_xchg(&handover_met, 0u))
		return;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		const struct canal_sock *s = fd_sock(fd);

		if (s && (sock_is_handed(s) || sock_is_given(s)))
			(void)handover_learn(fd);
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

/* The kernel's sockets are not for who wants canald's or none. */
static int give(struct sock_ref ref)
{
	bool locked;
	int ret;

	if (the_channel.via != &transport_local || !fallback_ok())
		return -EOPNOTSUPP;
	locked = lock_enter(&learn_lock);
	ret = learn_given(ref.s, ref.n);
	if (locked)
		lock_leave(&learn_lock);
	return ret;
}

/* What dummies can carry: the rest needs the kernel's socket. */
static bool is_pumped(const struct canal_sock *s)
{
	uint32_t state = canal_load_acquire(&s->state);

	return s->type == SOCK_STREAM && state != CANAL_SOCK_OPEN && state != CANAL_SOCK_FAILED &&
	       state != CANAL_SOCK_LISTENING;
}

int handover(int fd)
{
	struct sock_ref ref = sock_of(fd);
	int saved = errno, ret;

	if (!ref.s)
		return 0;
	data_settle(ref.s);
	if (sock_is_given(ref.s) || (!sock_is_connecting(ref.s) && !is_pumped(ref.s))) {
		ret = give(ref);
	} else {
		ret = sock_is_handed(ref.s) ? 0 : ask(ref);
		if (ret == 0)
			learn_handed(ref.s, ref.n);
	}
	errno = saved;
	return ret;
}

void handover_all(void)
{
	handover_always = true;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		(void)handover(fd);
}
