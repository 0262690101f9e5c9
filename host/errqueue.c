/* SPDX-License-Identifier: MIT */
/*
 * The error queue of a socket (IP_RECVERR, IPV6_RECVERR).
 *
 * Purpose: the kernel keeps it; the guest is told that there is something in it
 * (canal_sock.queued), and asks for one entry at a time.
 *
 * Invariants
 *  1. `queued` is stored behind so_error: who hears of the entry finds the error.
 *  2. A guest in an address space of its own has no queue: entries name addresses
 *     of the host.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -EAGAIN when the queue is empty.
 */
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sock.h"

void errqueue_option(struct sock *s, int level, int name)
{
	if ((level == IPPROTO_IP && name == IP_RECVERR) ||
	    (level == IPPROTO_IPV6 && name == IPV6_RECVERR))
		s->hears_errors = !s->channel->guest;
}

static int pending_error(const struct sock *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) ? 0 : err;
}

/* Once the pending error is taken, the queue alone makes POLLERR. */
static bool has_entries(const struct sock *s)
{
	struct pollfd p = { .fd = s->fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

void errqueue_event(struct sock *s)
{
	int err;

	/* a stream's error ends it: whoever reads the bytes before it finds that */
	if (!s->hears_errors || s->type != SOCK_DGRAM)
		return;
	err = pending_error(s);
	if (err)
		canal_write_once(&s->shared->so_error, (uint32_t)err);
	/* N1 release: the error before the entry */
	canal_store_fence(&s->shared->queued, has_entries(s));
	wake_socket(s, EPOLLIN | EPOLLOUT | EPOLLERR);
}

static int queue_take(const struct sock *s, struct canal_queued *q)
{
	struct sockaddr_storage name;
	struct iovec iov = { q->data, sizeof(q->data) };
	struct msghdr m = {
		.msg_name = &name,
		.msg_namelen = sizeof(name),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = q->control,
		.msg_controllen = sizeof(q->control),
	};
	ssize_t got = recvmsg(s->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);

	if (got < 0)
		return -errno;
	if (m.msg_namelen)
		addr_from_sockaddr(&q->addr, &name);
	q->len = (uint32_t)got;
	q->flags = m.msg_flags & MSG_TRUNC;
	q->control_len = (uint32_t)m.msg_controllen;
	return 0;
}

int errqueue_take(struct sock *s, uint32_t slot, uint32_t *ret_len)
{
	struct canal_queued q = { .len = 0 };
	int r;

	if (!s->hears_errors || s->fd < 0)
		return -EAGAIN;
	r = queue_take(s, &q);
	if (r)
		return r;
	/* the kernel's pending error is that of the entry behind it now, or none */
	canal_write_once(&s->shared->so_error, (uint32_t)pending_error(s));
	/* N1 release: the error before the entry */
	canal_store_fence(&s->shared->queued, has_entries(s));
	memcpy(s->channel->call[slot].data, &q, sizeof(q));
	*ret_len = sizeof(q);
	return 0;
}
