/* SPDX-License-Identifier: MIT */
/*
 * recvmsg(MSG_ERRQUEUE): the entries of a socket's error queue.
 *
 * Purpose: canald takes the oldest entry from the real socket, and it is given out
 * as the kernel's ip_recv_error() does it.
 *
 * Ownership and threads: any thread.
 * Failure: -EAGAIN for an empty queue; an entry that makes no sense is one.
 */
#include "errqueue.h"

#include <errno.h>
#include <string.h>

#include "addr.h"
#include "control.h"
#include "data.h"
#include "handover.h"

static int ask(uint32_t n, struct canal_queued *q)
{
	struct canal_inr inr = { .op = CANAL_INR_QUEUE, .sock = n };
	uint32_t len = sizeof(*q);
	struct call_args args = { .out = q, .out_len = &len };
	int ret = channel_call(&the_channel, &inr, &args);

	if (ret < 0)
		return ret == -EPIPE || ret == -EBADF ? -EAGAIN : ret;
	return len == sizeof(*q) && q->len <= sizeof(q->data) &&
			       q->control_len <= sizeof(q->control)
		       ? 0
		       : -EAGAIN;
}

/* The payload of the datagram that went wrong; bytes that were copied. */
static size_t give_data(const struct canal_queued *q, struct msghdr *m)
{
	struct cursor at = { m->msg_iov, 0 };
	ssize_t room = iov_total(m->msg_iov, (int)m->msg_iovlen);
	size_t len = room < 0 ? 0 : (size_t)room;

	if (len > q->len)
		len = q->len;
	else if (len < q->len)
		m->msg_flags |= MSG_TRUNC;
	cursor_put(&at, q->data, len);
	return len;
}

static void give_control(const struct canal_queued *q, struct msghdr *m)
{
	struct control control = { .len = q->control_len };

	memcpy(control.data, q->control, q->control_len);
	control_give(&control, m);
}

ssize_t errqueue_recv(const struct canal_sock *s, uint32_t n, struct msghdr *m, int flags)
{
	struct canal_queued q;
	size_t copied;
	int ret;

	if (sock_is_handed(s) || sock_is_given(s))
		return -EHANDED;
	ret = ask(n, &q);
	if (ret < 0)
		return ret;
	m->msg_flags = (int)(q.flags & MSG_TRUNC) | MSG_ERRQUEUE | (flags & MSG_CMSG_CLOEXEC);
	copied = give_data(&q, m);
	if (m->msg_name && q.addr.family)
		addr_give(&q.addr, m->msg_name, &m->msg_namelen);
	else
		m->msg_namelen = 0;
	give_control(&q, m);
	return (ssize_t)copied;
}
