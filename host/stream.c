/* SPDX-License-Identifier: MIT */
/*
 * Streams that the kernel carries: TX into it, out of it into RX.
 *
 * Purpose: one bounded step each; the poller calls them for sockets that have
 * bytes in TX, or that the kernel reported readable.
 *
 * Invariants
 *  1. At most one operation per direction is under way; it ends in the flush of
 *     the same pass.
 *  2. The kernel's readiness is edge-triggered: a socket leaves rx_ready only
 *     on -EAGAIN, at the end, or after a short read without hang-up or urgent data.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: an error of the kernel ends the stream (sock_fail).
 */
#include <errno.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "sock.h"

/* Most bytes in one step, so that sockets share a pass. */
#define TX_SLICE (256u << 10)
#define RX_SLICE_MAX (128u << 10)

static void tx_done(struct engine_op *op, int res)
{
	struct sock *s = caa_container_of(op, struct sock, tx_op);

	if (s->dead)
		return;
	if (res > 0) {
		s->channel->poller->work++;
		sock_tx_consumed(s, (uint64_t)res);
	} else if (res == -EAGAIN || res == -ENOBUFS) {
		s->tx_blocked = true;
		sock_unmark_tx(s);
	} else if (res < 0 && res != -EINTR) {
		sock_unmark_tx(s);
		if (s->released)
			sock_destroy(s);
		else if (!s->broken_off) /* else the receive of this pass has told why */
			sock_fail(s, res, CANAL_CLOSED_RESET);
	}
}

bool stream_tx(struct sock *s)
{
	struct poller *p = s->channel->poller;
	uint64_t avail;
	int n, flags;

	if (s->tx_op.under_way || !sock_tx_avail(s, &avail))
		return false;
	if (s->state != CANAL_SOCK_CONNECTED) {
		sock_unmark_tx(s);
		if (s->released) /* it was draining when its other end broke off */
			sock_destroy(s);
		else if (s->far_gone) /* its dummy still had bytes then */
			sock_release(s);
		return false;
	}
	if (avail && !ref_before(s, avail))
		return false; /* a transfer by reference goes first */
	avail = ref_before(s, avail);
	if (!avail && pump_pending(s))
		return pump_tx(s);
	if (s->joined || s->peer_gone)
		return switch_tx(s, avail);
	if (!avail) {
		sock_tx_quiet(s);
		return false;
	}
	s->tx_quiet = 0;
	avail = urgent_tx(s, avail, &flags);
	n = canal_fifo_pieces(s->shared->tx.chunk, &s->channel->tx, s->tx_head,
			      avail < TX_SLICE ? avail : TX_SLICE, s->tx_op.iov, ENGINE_IOV);
	if (n < 0) {
		channel_break(s->channel, BROKEN_TX_CHUNK);
		return false;
	}
	s->tx_op.fd = s->fd;
	s->tx_op.flags = flags;
	s->tx_op.msg.msg_iov = s->tx_op.iov;
	s->tx_op.msg.msg_iovlen = (size_t)n;
	s->tx_op.done = tx_done;
	p->ops->send(p->engine, &s->tx_op);
	return true;
}

int stream_outq(struct sock *s, bool unsent)
{
	uint64_t avail;
	int count = 0;

	if (s->type != SOCK_STREAM)
		return -EINVAL;
	if (!sock_tx_avail(s, &avail))
		return -EIO;
	/* a joined one's peer has what left TX */
	if (s->fd >= 0 && !s->joined && !s->peer_gone &&
	    ioctl(s->fd, unsent ? SIOCOUTQNSD : SIOCOUTQ, &count))
		count = 0;
	return (int)avail + count;
}

static void rx_end(struct sock *s)
{
	s->rx_eof = true;
	sock_ended(s);
	sock_unmark_rx(s);
	sock_rx_shrink(s);
	/* R1 release: bytes before the end, with the fence of S1 */
	canal_store_fence(&s->shared->rx.closed, CANAL_CLOSED_EOF);
	wake_socket(s, EPOLLIN | EPOLLRDHUP);
	pump_rx(s);
}

/* Asks for more when the kernel had more, and for less when it did not. */
static void adapt_slice(struct sock *s, uint64_t asked, uint64_t got)
{
	if (got == asked && s->rx_slice < RX_SLICE_MAX)
		s->rx_slice *= 2;
	else if (got < s->rx_slice / 4 && s->rx_slice > CANAL_CHUNK)
		s->rx_slice /= 2;
}

void stream_received(struct sock *s, uint64_t asked, int res)
{
	if (res > 0) {
		s->channel->poller->work++;
		if ((uint64_t)res < asked && !s->rx_hup &&
		    !urgent_unsure(s->urgent, s->urgent_looked)) {
			sock_unmark_rx(s);
			sock_rx_shrink(s);
		}
	} else if (res == 0) {
		rx_end(s);
	} else if (res == -EAGAIN) {
		sock_unmark_rx(s);
		sock_rx_shrink(s);
	} else if (res != -EINTR) {
		sock_fail(s, res, CANAL_CLOSED_RESET);
	}
}

static void rx_done(struct engine_op *op, int res)
{
	struct sock *s = caa_container_of(op, struct sock, rx_op);

	if (s->dead || s->released)
		return;
	if (res == -EINTR)
		res = urgent_again(s);
	if (res > 0) {
		sock_rx_publish(s, (uint64_t)res);
		adapt_slice(s, s->op_span, (uint64_t)res);
	}
	stream_received(s, s->op_span, res);
}

/* Makes rx_op a receive of what RX has room for. False: not now. */
static bool rx_prepare(struct sock *s)
{
	uint64_t room, len;
	int n;

	if (s->rx_op.under_way || s->ref_receives)
		return false;
	if (urgent_unsure(s->urgent, s->urgent_looked) && !urgent_allows(s))
		return false;
	if (!sock_rx_room(s, &room))
		return false;
	if (!room && sock_rx_park(s))
		return false;
	if (!room)
		sock_rx_room(s, &room);
	len = room < s->rx_slice ? room : s->rx_slice;
	len = sock_rx_prepare(s, len);
	if (!len) {
		sock_starve(s);
		return false;
	}
	n = canal_fifo_pieces(s->rx_chunk, &s->channel->rx, s->rx_tail, len, s->rx_op.iov,
			      ENGINE_IOV);
	s->op_span = (uint32_t)len;
	s->rx_pieces = (uint32_t)n;
	s->rx_op.fd = s->fd;
	s->rx_op.flags = 0;
	s->rx_op.guarded = true;
	s->rx_op.looked = s->urgent_looked;
	s->rx_op.msg.msg_iov = s->rx_op.iov;
	s->rx_op.msg.msg_iovlen = (size_t)n;
	s->rx_op.done = rx_done;
	return true;
}

bool stream_rx(struct sock *s)
{
	struct poller *p = s->channel->poller;

	if (!rx_prepare(s))
		return false;
	p->ops->recv(p->engine, &s->rx_op);
	return true;
}

void stream_rx_now(struct sock *s)
{
	if (rx_prepare(s))
		rx_done(&s->rx_op, engine_recv_now(&s->rx_op));
}
