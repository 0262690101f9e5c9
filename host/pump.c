/* SPDX-License-Identifier: MIT */
/*
 * Bytes that go through a dummy.
 *
 * Purpose: code that libcanal does not see (a static program after exec, stdio, a
 * raw system call) reads and writes the program's descriptor, which is the near end
 * of a socket pair. What is written there follows what is in TX. Once the socket is
 * handed over, the host consumes RX instead of the guest, and puts it there.
 *
 *	near ─► far ─► bounce ─► kernel socket, or RX of the joined one     pump_tx()
 *	near ◄─ far ◄─ RX chunks ◄─ kernel socket, or TX of the joined one  pump_rx()
 *
 * Invariants
 *  1. Only far ends that canald made are read: no guest can hold their lock.
 *  2. Of TX, bytes of the FIFO go before those of the far end.
 *  3. Of RX, a byte is consumed by the guest or by the host: the host begins at
 *     the guest's head when no thread of the guest is at RX (rx_lock), and none
 *     comes any more: each looks at the state behind the lock (H1).
 *  4. Every byte in a far end has been looked at as soon as it arrived, also while
 *     nothing can be moved. One that brings a descriptor ends the socket: it could
 *     be the dummy itself, which would then never hang up.
 *  5. Nothing of a far end is kept: bytes are peeked at, moved, and then taken as
 *     far as they were moved.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: without memory for the bounce buffer the socket ends.
 */
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syslog.h>

#include "sock.h"

#define BOUNCE 65536u
/* More than a socket pair holds: who goes on writes faster than it is thrown away. */
#define DISCARD_ROUNDS 64
/* Sockets whose lock is looked at in one pass. */
#define RETRIES 64

static bool is_carrying(const struct sock *s)
{
	return s->type == SOCK_STREAM && s->state == CANAL_SOCK_CONNECTED && !s->tx_fin_sent;
}

/* --- the far end, read ------------------------------------------------- */

/* It brought a descriptor: whatever that is, it goes nowhere. */
static void smuggled(struct sock *s)
{
	s->channel->count.smuggled++;
	host_log_limited(s->channel->name, LOG_WARNING,
			 "guest=%s socket=%u: a descriptor was sent over it: closed",
			 s->channel->name, s->number);
	sock_destroy(s);
}

static void peek_from(struct sock *s, int offset)
{
	(void)setsockopt(s->far_fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
	s->far_peeked = true;
}

/* Bytes at the peek offset, 0 at the end, -EAGAIN: none; -EBADF: it is destroyed. */
static int look(struct sock *s)
{
	struct poller *p = s->channel->poller;
	struct iovec iov = { .iov_len = BOUNCE };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t got;

	if (!p->bounce)
		p->bounce = malloc(BOUNCE);
	iov.iov_base = p->bounce;
	if (!iov.iov_base) {
		sock_destroy(s);
		return -EBADF;
	}
	do
		got = recvmsg(s->far_fd, &msg, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	/* there were descriptors, and no room for them in msg: they are where they were */
	if (got > 0 && (msg.msg_flags & MSG_CTRUNC)) {
		smuggled(s);
		return -EBADF;
	}
	return got < 0 ? -errno : (int)got;
}

/* What arrived since the last look, while it cannot be moved. */
static void look_through(struct sock *s)
{
	if (s->far_tcp) /* brings nothing but bytes, and has no peek offset */
		return;
	if (!s->far_peeked) /* else it goes on where it was */
		peek_from(s, 0);
	while (look(s) > 0)
		;
}

/* Takes @len bytes that were seen to bring nothing else. */
static void take(struct sock *s, size_t len)
{
	uint8_t *to = s->channel->poller->bounce;

	while (len) {
		ssize_t got = recv(s->far_fd, to, len < BOUNCE ? len : BOUNCE, MSG_DONTWAIT);

		if (got <= 0)
			return;
		len -= (size_t)got;
	}
}

/* Nobody is there whom these bytes could be for. */
static void discard(struct sock *s)
{
	int got, rounds = 0;

	peek_from(s, 0);
	while ((got = look(s)) > 0 && rounds++ < DISCARD_ROUNDS) {
		take(s, (size_t)got);
		peek_from(s, 0);
	}
	if (got > 0)
		sock_destroy(s);
	else if (got != -EBADF)
		s->far_ready = false;
}

/* --- TX ---------------------------------------------------------------- */

bool pump_pending(const struct sock *s)
{
	return s->far_ready && is_carrying(s);
}

static void blocked(struct sock *s)
{
	s->tx_blocked = true;
	sock_unmark_tx(s);
	look_through(s);
}

/* Bytes that the joined socket took; -EAGAIN: it has no room. */
static int into_joined(struct sock *s, size_t len)
{
	struct iovec from = { s->channel->poller->bounce, len }, to[ENGINE_IOV];
	struct sock *d = s->joined;
	uint64_t room;
	int n;

	if (!d) /* it went away */
		return s->rx_eof ? -EPIPE : -ECONNRESET;
	if (!sock_rx_room(d, &room) || (!room && (sock_rx_park(d) || !sock_rx_room(d, &room))))
		return -EAGAIN;
	len = sock_rx_prepare(d, len < room ? len : room);
	if (!len) {
		sock_starve(d);
		return -EAGAIN;
	}
	from.iov_len = len;
	n = canal_fifo_pieces(d->rx_chunk, &d->channel->rx, d->rx_tail, len, to, ENGINE_IOV);
	switch_copy(to, n, &from, 1);
	sock_rx_publish(d, len);
	return (int)len;
}

static int into_kernel(struct sock *s, size_t len)
{
	ssize_t sent;

	do
		sent = send(s->fd, s->channel->poller->bounce, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : (int)sent;
}

/* Nothing follows in the far end: the dummy was closed, or shut down for writing. */
static void ended(struct sock *s)
{
	s->far_ready = false;
	if (s->far_gone) {
		s->far_clean = true;
		sock_release(s);
		return;
	}
	(void)canal_fetch_or(&s->shared->shut, (uint32_t)SHUT_WR + 1);
	(void)sock_shutdown(s, SHUT_WR);
}

static void count(struct sock *s, size_t len)
{
	s->tx_bytes += len;
	s->channel->count.tx_bytes += len;
	s->channel->poller->work++;
}

bool pump_tx(struct sock *s)
{
	int got, sent;

	peek_from(s, 0);
	got = look(s);
	if (got <= 0) {
		if (got == 0 || (got != -EBADF && s->far_gone))
			ended(s);
		else if (got != -EBADF)
			s->far_ready = false;
		return false;
	}
	sent = s->joined || s->peer_gone ? into_joined(s, (size_t)got)
					 : into_kernel(s, (size_t)got);
	if (sent > 0) {
		take(s, (size_t)sent);
		count(s, (size_t)sent);
		return true;
	}
	if (sent == -EAGAIN || sent == -ENOBUFS) {
		blocked(s);
	} else if (!s->broken_off) {
		sock_unmark_tx(s);
		sock_fail(s, sent, CANAL_CLOSED_RESET);
		discard(s);
	}
	return false;
}

/* --- RX ---------------------------------------------------------------- */

/* The program's reads meet the end, or nothing of it is left that could fail. */
static void tell_end(struct sock *s)
{
	if (s->handed_over || !(s->rx_eof || s->broken_off))
		return;
	s->handed_over = true;
	(void)shutdown(s->far_fd, s->broken_off ? SHUT_RDWR : SHUT_WR);
}

static ssize_t into_dummy(struct sock *s, uint64_t len)
{
	struct iovec iov[ENGINE_IOV];
	struct msghdr msg = { .msg_iov = iov };
	int n = canal_fifo_pieces(s->rx_chunk, &s->channel->rx, s->handed_head, len, iov,
				  ENGINE_IOV);
	ssize_t put;

	msg.msg_iovlen = n > 0 ? (size_t)n : 0;
	do
		put = sendmsg(s->far_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put >= 0)
		return put;
	/* shut down for reading: what comes is dropped, as in the kernel */
	return errno == EAGAIN ? -EAGAIN : (ssize_t)len;
}

void pump_rx(struct sock *s)
{
	bool moved = false;

	if (!s->handed || s->far_fd < 0)
		return;
	while (s->handed_head != s->rx_tail && !s->handed_full) {
		uint64_t len = urgent_handed(s, &s->handed_head);
		ssize_t put = len ? into_dummy(s, len) : 0;

		if (put < 0) {
			s->handed_full = true;
			break;
		}
		s->handed_head += (uint64_t)put;
		moved = true;
	}
	if (moved && s->rx_parked)
		sock_rx_resume(s);
	else if (moved)
		switch_peer_room(s);
	if (s->handed_head == s->rx_tail)
		tell_end(s);
}

/* --- handing over ------------------------------------------------------ */

/* Room in the dummy is told as well from now on. */
static int watch_room(struct sock *s)
{
	struct poller *p = s->channel->poller;

	p->ops->unwatch(p->engine, &s->far);
	return p->ops->watch(p->engine, &s->far, s->far_fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

/* From here on every thread of the guest that comes for RX finds it handed over. */
static void announce(struct sock *s)
{
	/* H1 heavy: the state before the look at rx_lock; pairs with lock_enter() and
	 * the look at the state behind it */
	sock_set_state(s, s->state);
	canal_full_fence();
	heavy_fence();
}

static void take_over(struct sock *s)
{
	uint64_t room;

	s->handing = false;
	s->handed_head = sock_rx_head(s);
	s->handed = true;
	if (!sock_rx_room(s, &room)) /* checks it */
		return;
	s->channel->count.handovers++;
	sock_set_state(s, s->state);
	if (watch_room(s)) {
		sock_destroy(s);
		return;
	}
	canal_full_fence();
	wake_quietly(s, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	s->on_event.slot = s->on_urgent.slot = CANAL_NONE; /* the dummy does it itself */
	pump_rx(s);
}

static bool may_hand_over(const struct sock *s)
{
	return s->type == SOCK_STREAM && s->far_ours && s->far_fd >= 0 &&
	       (s->state == CANAL_SOCK_CONNECTED || s->state == CANAL_SOCK_CONNECTING);
}

int pump_handover(struct sock *s)
{
	if (s->handed)
		return 0;
	if (!may_hand_over(s))
		return s->state == CANAL_SOCK_CLOSED ? 0 : -EOPNOTSUPP;
	if (s->handing)
		cds_list_del(&s->handing_link);
	s->handing = true;
	announce(s);
	take_over(s);
	return 0;
}

static bool at_rx(const struct sock *s)
{
	/* K1 acquire: the holder's stores; pairs with lock_leave() */
	return canal_load_acquire(&s->shared->rx.rx_lock);
}

void pump_retry(struct poller *p)
{
	struct sock *s, *last = cds_list_entry(p->handing.prev, struct sock, handing_link);

	for (int i = 0; i < RETRIES && !cds_list_empty(&p->handing); i++) {
		s = cds_list_first_entry(&p->handing, struct sock, handing_link);
		cds_list_del(&s->handing_link);
		if (at_rx(s))
			cds_list_add_tail(&s->handing_link, &p->handing);
		else
			take_over(s);
		if (s == last)
			break;
	}
}

/*
 * Somebody wrote past libcanal, and is likely to read there, too. Without heavy
 * fences nothing tells whether a thread is about to consume RX: then it stays.
 */
static void hand_over_unasked(struct sock *s)
{
	if (s->handed || s->handing || !settings.heavy || !may_hand_over(s))
		return;
	s->handing = true;
	announce(s);
	if (at_rx(s))
		cds_list_add_tail(&s->handing_link, &s->channel->poller->handing);
	else
		take_over(s);
}

/* --- passed on --------------------------------------------------------- */

#define PASSED_MAX_MS 10000u

void pump_adopted(struct sock *s)
{
	if (s->passed_until_ns)
		cds_list_del(&s->passed_link);
	s->passed_until_ns = 0;
}

/*
 * Its next user may be one of the channel, who says so, or anybody, who would wait
 * for ever at a dummy that carries nothing.
 */
void pump_passed(struct sock *s, uint32_t ms)
{
	if (s->handed || s->passed_until_ns || s->type != SOCK_STREAM || !s->far_ours)
		return;
	ms = ms < PASSED_MAX_MS ? ms : PASSED_MAX_MS;
	s->passed_until_ns = s->channel->poller->now_ns + ms * 1000000ull + 1;
	cds_list_add_tail(&s->passed_link, &s->channel->poller->passed);
}

bool pump_passed_look(struct poller *p)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &p->passed, passed_link)
	{
		if (p->now_ns < s->passed_until_ns)
			continue;
		pump_adopted(s);
		hand_over_unasked(s);
	}
	return !cds_list_empty(&p->passed);
}

void pump_end(struct sock *s)
{
	pump_adopted(s);
	if (s->handing)
		cds_list_del(&s->handing_link);
	s->handing = false;
}

/* --- events ------------------------------------------------------------ */

static bool is_empty(const struct sock *s)
{
	int queued;

	return !ioctl(s->far_fd, SIOCINQ, &queued) && !queued;
}

static void arrived(struct sock *s)
{
	s->far_ready = true;
	if (is_carrying(s)) {
		hand_over_unasked(s);
		if (s->dead || s->channel->broken)
			return;
		if (s->tx_blocked)
			look_through(s);
		sock_mark_tx(s);
	} else if (s->state == CANAL_SOCK_CONNECTING) {
		look_through(s);
	} else {
		discard(s);
	}
}

void pump_event(struct sock *s, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if ((events & EPOLLERR) && !getsockopt(s->far_fd, SOL_SOCKET, SO_ERROR, &error, &len))
		s->far_unread = error == ECONNRESET;
	if (events & EPOLLHUP)
		s->far_gone = true;
	if (s->far_gone) {
		s->far_clean = is_empty(s);
		if (s->far_clean || !is_carrying(s)) {
			sock_release(s);
			return;
		}
		if (!closing_begin(s)) {
			sock_destroy(s);
			return;
		}
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
		arrived(s);
	if (!s->dead && (events & EPOLLOUT) && s->handed_full) {
		s->handed_full = false;
		pump_rx(s);
	}
}
