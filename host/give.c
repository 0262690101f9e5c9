/* SPDX-License-Identifier: MIT */
/*
 * The kernel's socket itself for a guest.
 *
 * Purpose: a stream can be pumped through its dummy (pump.c), a listener or a
 * datagram socket cannot: nobody accepts from one end of a socket pair, and it has
 * no addresses. Where code that libcanal does not see is to use such a socket, its
 * process is given canald's kernel socket in the dummy's place. All others that have
 * the socket come for it, too, when they meet the state GIVEN.
 *
 * Invariants
 *  1. Only what the guest's user could have made himself is given: to guests without
 *     addresses of their own, and where the configuration does not forbid the
 *     kernel's sockets (fallback = deny).
 *  2. From then on canald makes no call on it: the guest may take O_NONBLOCK away, and
 *     may hold its lock (a send from memory that never comes). It is closed where
 *     closing may wait.
 *  3. canald is not the owner of its file: a guest can choose the signal (F_SETSIG),
 *     and the kernel sends it with the rights of who made himself the owner.
 *  4. Connections that canald has accepted, and no process has taken, are connected to
 *     the listener once more, and pumped. Connectors that wait for room in its backlog
 *     are connected by the kernel from now on, and wait there.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -errno in the answer; the socket stays as it was. Of the datagrams that lie
 * in RX those that a socket of the same user and poller sent are sent once more, from
 * there; the others are lost, as datagrams may be.
 */
#include <sys/epoll.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "sock.h"
#include "vnet.h"

/* Datagrams that are sent again: each is a system call. */
#define AGAIN_MAX 1024

/* --- connections that came before --------------------------------------- */

/* Where @fd listens, as seen from this machine; 0: nowhere. */
static socklen_t listens_at(int fd, struct sockaddr_storage *ss)
{
	socklen_t len = sizeof(*ss);
	struct canal_addr a;

	if (getsockname(fd, (struct sockaddr *)ss, &len) || !addr_from_sockaddr(&a, ss))
		return 0;
	if (a.family == AF_INET && addr_any(&a))
		((struct sockaddr_in *)ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (addr_any(&a))
		((struct sockaddr_in6 *)ss)->sin6_addr = in6addr_loopback;
	return len;
}

/* A connection to the listener, or -errno. */
static int connect_to(const struct sock *l)
{
	struct sockaddr_storage ss;
	socklen_t len = listens_at(l->fd, &ss);
	int fd = len ? socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&ss, len) && errno != EINPROGRESS) {
		close(fd);
		return -errno;
	}
	fds_opened(fd);
	return fd;
}

/* @a goes on behind a new connection to @l, which takes the place of its dummy. */
static void connect_again(const struct sock *l, struct sock *a)
{
	struct far_end end = { .fd = connect_to(l) };

	if (end.fd < 0) {
		sock_destroy(a);
		return;
	}
	a->far_tcp = true;
	sock_set_far_ours(a, &end);
	if (!a->dead && pump_handover(a))
		sock_destroy(a);
}

static void pass_on_accepted(struct sock *l)
{
	struct sock *a, *next;

	cds_list_for_each_entry_safe(a, next, &l->accepted, accept_link)
	{
		listen_taken(a);
		if (listen_refuse_wins(a))
			connect_again(l, a);
	}
}

/* --- datagrams that came before ------------------------------------------ */

/* Sends the record at @at of RX again; what it takes in the FIFO, 0: it is bad. The guest
 * may have written over it: no other user's socket sends for it. */
static uint64_t send_again(struct sock *s, uint64_t at, struct sockaddr_storage *to, socklen_t len)
{
	struct iovec iov[ENGINE_IOV];
	struct msghdr msg = { .msg_name = to, .msg_namelen = len, .msg_iov = iov };
	struct canal_dgram rec;
	struct sock *from;
	int n;

	if (s->rx_tail - at < sizeof(rec) ||
	    canal_fifo_peek(s->rx_chunk, &s->channel->rx, at, &rec, sizeof(rec)) ||
	    canal_dgram_extent(&rec) > s->rx_tail - at)
		return 0;
	n = canal_fifo_pieces(s->rx_chunk, &s->channel->rx, at + sizeof(rec), rec.len, iov,
			      ENGINE_IOV);
	from = switch_find(s->channel->poller, SOCK_DGRAM, &rec.addr);
	msg.msg_iovlen = n > 0 ? (size_t)n : 0;
	if (!from || from->given || n < 0 || from->channel->uid != s->channel->uid ||
	    sock_kernel(from) || sendmsg(from->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		s->channel->count.rx_drops++;
		s->shared->rx.drops++;
	}
	return canal_dgram_extent(&rec);
}

static void send_again_all(struct sock *s)
{
	uint64_t at = sock_rx_head(s), span = 1;
	struct sockaddr_storage to;
	socklen_t len = listens_at(s->fd, &to);

	if (s->rx_tail - at > s->rx_tail - s->rx_reclaim)
		return; /* so far the guest cannot be */
	for (int i = 0; len && span && at != s->rx_tail && i < AGAIN_MAX; i++) {
		span = send_again(s, at, &to, len);
		at += span;
	}
}

/* --- giving ------------------------------------------------------------- */

static bool may_give(const struct sock *s)
{
	if (s->channel->guest || !settings.guest_fallback || s->dead || s->released)
		return false;
	return s->type == SOCK_DGRAM || s->state == CANAL_SOCK_OPEN ||
	       s->state == CANAL_SOCK_FAILED || s->state == CANAL_SOCK_LISTENING;
}

/* Nothing comes by way of canald any more. */
static void let_go(struct sock *s)
{
	s->given = true;
	privilege_own(s);
	sock_unwatch(s);
	urgent_forget(s);
	sock_unmark_rx(s);
	sock_unstarve(s);
	if (s->state == CANAL_SOCK_LISTENING)
		pass_on_accepted(s);
	if (s->type == SOCK_STREAM)
		switch_pass_on(s);
	sock_set_state(s, CANAL_SOCK_OPEN);
	if (s->type == SOCK_DGRAM)
		send_again_all(s);
	if (s->dead)
		return;
	canal_full_fence();
	wake_socket(s, EPOLLIN | EPOLLOUT);
	s->channel->count.falls++;
	host_log_limited(s->channel->name, LOG_INFO,
			 "guest=%s socket=%u: given to a program that libcanal does not cover",
			 s->channel->name, s->number);
}

/* The kernel's socket, or -errno. */
static int give(struct channel *ch, uint32_t number, uint32_t generation)
{
	struct sock *s = number < ch->shape.socks ? ch->socks[number] : NULL;
	uint64_t avail = 0;
	int r;

	if (!s || ch->generation[number] != generation)
		return -EBADF;
	if (!may_give(s))
		return -EOPNOTSUPP;
	if (s->type == SOCK_DGRAM && !s->given && (!sock_tx_avail(s, &avail) || avail))
		return -EAGAIN; /* what was sent goes first */
	r = s->given ? 0 : sock_kernel(s);
	if (r)
		return r;
	if (!s->given)
		let_go(s);
	return s->dead ? -EBADF : s->fd;
}

int give_answer(struct client *c, const struct canal_local *asked)
{
	struct canal_local answer = {
		.magic = CANAL_LOCAL_MAGIC,
		.type = CANAL_LOCAL_KERNEL,
		.version = CANAL_WIRE_VERSION,
	};
	int fd = stock_takes_answers(c) ? give(c->channel, asked->number, asked->extra) : -EAGAIN;

	answer.number = fd >= 0;
	answer.extra = fd < 0 ? (uint32_t)-fd : 0;
	return local_send(c->fd, &answer, &fd, answer.number);
}
