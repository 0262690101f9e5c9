/* SPDX-License-Identifier: MIT */
/*
 * Listeners: connections go from the kernel (or the switch) into RX.
 *
 * Purpose: a listener's RX FIFO carries the numbers of accepted sockets. The
 * guest takes one without asking; the socket becomes its own when the far end
 * of its dummy arrives.
 *
 * Invariants
 *  1. listener->accepted has every accepted socket whose dummy has not come.
 *  2. Whether one was taken is decided by one swap of its `taken`, the guest's in
 *     accept() or ours in listen_stop(). What we win ends with the listener; what
 *     the guest won waits for its dummy, or for the end of that process.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: without a free number, chunk or descriptor, connections wait in the kernel,
 * connectors in listener->pending, and are asked for again from time to time
 * (sock_starve()).
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "sock.h"

#define ACCEPTS_A_PASS 32
#define BACKLOG_MAX 4096

static int kernel_listen(struct sock *s, int backlog)
{
	int r = sock_kernel(s);

	if (!r && listen(s->fd, backlog))
		r = -errno;
	return r;
}

int listen_start(struct sock *s, int backlog)
{
	int r;

	if (s->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (s->state != CANAL_SOCK_OPEN && s->state != CANAL_SOCK_FAILED &&
	    s->state != CANAL_SOCK_LISTENING)
		return -EINVAL;
	if (s->handed || s->handing) /* its RX is pumped, and that is for bytes */
		return -EOPNOTSUPP;
	r = s->channel->guest ? vsock_listen(s) : kernel_listen(s, backlog);
	if (r)
		return r;
	s->backlog = backlog < 1 ? 1 : backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog;
	s->rx_limit = (uint32_t)s->backlog * sizeof(struct canal_accept);
	s->shared->rx.limit = s->rx_limit;
	if (s->state == CANAL_SOCK_LISTENING)
		return 0;
	sock_publish_names(s);
	s->bound = true;
	/* again, perhaps, after a shutdown() */
	s->rx_shut = false;
	canal_store_release(&s->shared->rx.closed, 0u);
	sock_set_state(s, CANAL_SOCK_LISTENING);
	if (s->channel->guest) { /* what came between listen() and now was told to nobody */
		sock_mark_rx(s);
		return 0;
	}
	switch_listen(s);
	return sock_adopt_kernel(s, s->fd);
}

/* Not taken by the guest: reset, as Linux does to its accept queue. */
static void refuse(struct sock *s)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	sock_destroy(s);
}

void listen_taken(struct sock *s)
{
	if (!s->listener)
		return;
	cds_list_del(&s->accept_link);
	s->listener = NULL;
}

bool listen_refuse_wins(struct sock *s)
{
	uint32_t generation = s->channel->generation[s->number];

	return canal_cas(&s->shared->taken, CANAL_TAKEN(generation, 0),
			 CANAL_TAKEN(generation, CANAL_NONE));
}

void listen_stop(struct sock *s)
{
	struct sock *a, *next;

	if (s->state != CANAL_SOCK_LISTENING)
		return;
	switch_unlisten(s);
	/* first: who hears of the end by a reset cannot connect once more */
	sock_unwatch(s);
	if (s->channel->guest)
		vsock_unlisten(s);
	else if (s->fd >= 0)
		shutdown(s->fd, SHUT_RD);
	cds_list_for_each_entry_safe(a, next, &s->accepted, accept_link)
	{
		listen_taken(a);
		/* without a process there is nobody who took it */
		if (listen_refuse_wins(a) || s->channel->orphan)
			refuse(a);
	}
	sock_unmark_rx(s);
	/* R1 release: what was queued before the end, with the fence of S1 */
	canal_store_fence(&s->shared->rx.closed, CANAL_CLOSED_EOF);
	sock_set_state(s, CANAL_SOCK_OPEN);
	wake_socket(s, EPOLLIN | EPOLLHUP);
}

/* Puts a connected socket into the listener's RX; false when it is full. */
bool listen_push(struct sock *l, struct sock *s)
{
	uint32_t generation = l->channel->generation[s->number];
	struct canal_accept entry = { .sock = s->number, .generation = generation };
	uint64_t room;

	if (!sock_rx_room(l, &room) || room < sizeof(entry) ||
	    sock_rx_prepare(l, sizeof(entry)) < sizeof(entry))
		return false;
	canal_fifo_poke(l->rx_chunk, &l->channel->rx, l->rx_tail, &entry, sizeof(entry));
	s->was_accepted = true;
	s->listener = l;
	/* published with the entry */
	canal_write_once(&s->shared->taken, CANAL_TAKEN(generation, 0));
	cds_list_add_tail(&s->accept_link, &l->accepted);
	l->channel->count.connections++;
	l->channel->count.rx_bytes -= sizeof(entry); /* not payload */
	sock_rx_publish(l, sizeof(entry));
	return true;
}

/* What waits in the kernel is not told again: it is asked for again later. */
static void accept_failed(struct sock *l, int error)
{
	host_log_limited(l->channel->name, LOG_WARNING, "guest=%s socket=%u: accept: %s",
			 l->channel->name, l->number, strerror(error));
	sock_starve(l);
}

/* What comes to @l, for the guest of @to: itself, or one that shares its port. */
static bool accept_one(struct sock *l, struct sock *to, uint32_t number)
{
	struct canal_addr peer;
	int fd = l->channel->guest ? vsock_accept(l, &peer)
				   : accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct sock *s;
	int r;

	if (fd < 0) {
		int error = errno;

		channel_give_number(to->channel, number);
		if (error == EAGAIN)
			sock_unmark_rx(l);
		else if (error != EINTR && error != ECONNABORTED)
			accept_failed(l, error);
		return false;
	}
	fds_opened(fd);
	s = sock_new(to->channel, number, to->domain, SOCK_STREAM);
	if (!s) {
		close(fd);
		channel_give_number(to->channel, number);
		return false;
	}
	sock_set_state(s, CANAL_SOCK_CONNECTED);
	if (l->channel->guest) { /* it comes out of a socket of canald's own */
		inherit_take(s, to);
		s->was_accepted = true;
		vsock_accepted(s, to, &peer);
	}
	s->fd = fd;
	if (l->shares)
		privilege_own(s);
	urgent_accepted(s);
	if (l->channel->guest)
		inherit_apply(s);
	else
		inherit_take(s, l);
	sock_publish_names(s);
	r = sock_adopt_kernel(s, fd);
	if (!r && l->deferred) /* who accepts it finds the bytes for which it was held back */
		stream_rx_now(s);
	if (r || !listen_push(to, s))
		refuse(s);
	l->channel->poller->work++;
	return true;
}

/* Who is to have the next one: @l, or another that shares its port and has room. */
static struct sock *next_taker(struct sock *l)
{
	struct sock *to = l->channel->guest ? vsock_turn(l) : l;
	uint64_t room;

	return to != l && sock_rx_room(to, &room) && room >= sizeof(struct canal_accept) ? to : l;
}

bool listen_rx(struct sock *l)
{
	for (int i = 0; i < ACCEPTS_A_PASS && l->rx_ready; i++) {
		struct sock *to;
		uint32_t number;
		uint64_t room;

		if (!sock_rx_room(l, &room))
			return false;
		if (room % sizeof(struct canal_accept)) { /* there is no half of an entry */
			channel_break(l->channel, BROKEN_RX_POSITION);
			return false;
		}
		if (!room) {
			sock_rx_park(l);
			return false;
		}
		to = next_taker(l);
		number = sock_rx_prepare(to, sizeof(struct canal_accept)) <
					 sizeof(struct canal_accept)
				 ? CANAL_NONE
				 : channel_take_number(to->channel);
		if (number == CANAL_NONE)
			sock_starve(l);
		if (number == CANAL_NONE || !accept_one(l, to, number))
			return i > 0;
	}
	return true;
}
