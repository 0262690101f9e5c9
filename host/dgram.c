/* SPDX-License-Identifier: MIT */
/*
 * Datagrams that the kernel carries.
 *
 * Purpose: each record of TX becomes one sendmsg, each datagram that arrives
 * one record of RX, received straight into its chunks.
 *
 * Invariants
 *  1. A record is consumed or published whole.
 *  2. A datagram for which RX has no room is dropped and counted, as UDP may.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: a record that lies about its length closes the channel; an error of
 * the kernel is told to the guest once (so_error) and the socket lives on.
 */
#include <string.h>
#include <sys/epoll.h>

#include "sock.h"

#define DGRAM_MAX 65535u

static void tx_done(struct engine_op *op, int res)
{
	struct sock *s = caa_container_of(op, struct sock, tx_op);

	if (s->dead)
		return;
	if (res == -EAGAIN || res == -ENOBUFS) {
		s->tx_blocked = true;
		sock_unmark_tx(s);
		return;
	}
	s->channel->poller->work++;
	s->channel->count.tx_dgrams++;
	if (!s->bound && !s->channel->guest) { /* before head says that it was sent (R2) */
		s->bound = true;
		sock_publish_names(s);
		switch_bound(s);
	}
	sock_tx_consumed(s, s->tx_span);
	if (res < 0 && !s->released)
		sock_fail(s, res, 0);
}

/* The record at tx_head; false after channel_break(). */
static bool record_read(struct sock *s, uint64_t avail, struct canal_dgram *rec)
{
	if (avail < sizeof(*rec) ||
	    canal_fifo_peek(s->shared->tx.chunk, &s->channel->tx, s->tx_head, rec, sizeof(*rec))) {
		channel_break(s->channel,
			      avail < sizeof(*rec) ? BROKEN_DGRAM_LENGTH : BROKEN_TX_CHUNK);
		return false;
	}
	if (rec->addr.family && rec->addr.family != AF_INET && rec->addr.family != AF_INET6) {
		channel_break(s->channel, BROKEN_ADDRESS);
		return false;
	}
	if (rec->len > DGRAM_MAX || canal_dgram_extent(rec) > avail ||
	    CANAL_DGRAM_CONTROL(rec->flags) > CANAL_DGRAM_CONTROL_MAX ||
	    CANAL_DGRAM_CONTROL(rec->flags) % CANAL_DGRAM_ALIGN) {
		channel_break(s->channel, BROKEN_DGRAM_LENGTH);
		return false;
	}
	return true;
}

/* It went across in memory, or was refused. */
static bool tx_taken(struct sock *s)
{
	if (s->channel->broken)
		return false;
	s->channel->poller->work++;
	s->channel->count.tx_dgrams++;
	sock_tx_consumed(s, s->tx_span);
	return true;
}

/* Whether the kernel shall carry it is known: to where is in tx_op. */
static bool tx_kernel(struct sock *s, const struct canal_dgram *rec)
{
	struct poller *p = s->channel->poller;
	int n = canal_fifo_pieces(s->shared->tx.chunk, &s->channel->tx, s->tx_head + sizeof(*rec),
				  rec->len, s->tx_op.iov, ENGINE_IOV);
	int r;

	if (n < 0) {
		channel_break(s->channel, BROKEN_TX_CHUNK);
		return false;
	}
	r = rec->flags ? dgram_control_tx(s, rec) : 0;
	if (r) {
		sock_fail(s, r, 0);
		return tx_taken(s);
	}
	s->corked = rec->flags & CANAL_DGRAM_MORE;
	s->tx_op.flags = s->corked ? MSG_MORE : 0;
	s->tx_op.msg.msg_iov = s->tx_op.iov;
	s->tx_op.msg.msg_iovlen = (size_t)n;
	s->tx_op.done = tx_done;
	p->ops->send(p->engine, &s->tx_op);
	return true;
}

static bool tx_guest(struct sock *s, const struct canal_dgram *rec)
{
	switch (vdgram_tx(s, rec)) {
	case VDGRAM_TAKEN:
		return tx_taken(s);
	case VDGRAM_KERNEL:
		return tx_kernel(s, rec);
	default:
		return false;
	}
}

bool dgram_tx(struct sock *s)
{
	struct canal_dgram rec;
	uint64_t avail;
	int r;

	if (s->tx_op.under_way || !sock_tx_avail(s, &avail))
		return false;
	if (!avail) {
		sock_tx_quiet(s);
		return false;
	}
	s->tx_quiet = 0;
	if (s->given) { /* too late */
		sock_tx_consumed(s, avail);
		return false;
	}
	if (!record_read(s, avail, &rec))
		return false;
	s->tx_span = (uint32_t)canal_dgram_extent(&rec);
	if (s->channel->guest)
		return tx_guest(s, &rec);
	if (settings.join && !rec.flags && !s->corked && !s->by_kernel && switch_dgram(s, &rec))
		return tx_taken(s);
	r = sock_kernel(s);
	if (r) {
		if (!s->released)
			sock_fail(s, r, 0);
		return tx_taken(s);
	}
	s->tx_op.fd = s->fd;
	memset(&s->tx_op.msg, 0, sizeof(s->tx_op.msg));
	s->tx_op.msg.msg_namelen = addr_to_sockaddr(&rec.addr, &s->tx_name);
	s->tx_op.msg.msg_name = s->tx_op.msg.msg_namelen ? &s->tx_name : NULL;
	return tx_kernel(s, &rec);
}

/* Nothing is left; a guest's socket may have other sources: the next look tells. */
static void rx_drained(struct sock *s)
{
	if (s->channel->guest) {
		vdgram_drained(s);
		return;
	}
	sock_unmark_rx(s);
	sock_rx_shrink(s);
}

static void rx_done(struct engine_op *op, int res)
{
	struct sock *s = caa_container_of(op, struct sock, rx_op);
	struct canal_dgram rec = { .len = (uint32_t)res };
	uint32_t control = 0;

	if (s->dead || s->released)
		return;
	if (res == -EAGAIN) {
		rx_drained(s);
		return;
	}
	if (res < 0) {
		if (res != -EINTR && !s->rx_from)
			sock_fail(s, res, 0);
		return;
	}
	s->channel->poller->work++;
	/* an empty datagram is never truncated, but its record needs room, too */
	if (s->hears_control)
		control = CMSG_ALIGN(op->msg.msg_controllen);
	rec.flags = control << 16;
	if ((op->msg.msg_flags & MSG_TRUNC) || s->op_span < canal_dgram_extent(&rec)) {
		s->channel->count.rx_drops++;
		s->shared->rx.drops++;
		return;
	}
	if (!s->channel->guest) {
		addr_from_sockaddr(&rec.addr, &s->op_name);
	} else if (!vdgram_heard(s, &rec.addr)) {
		s->channel->count.rx_drops++;
		return;
	}
	canal_fifo_poke(s->rx_chunk, &s->channel->rx, s->rx_tail, &rec, sizeof(rec));
	if (control)
		canal_fifo_poke(s->rx_chunk, &s->channel->rx,
				s->rx_tail + canal_dgram_span(rec.len), s->control->rx, control);
	s->channel->count.rx_dgrams++;
	sock_rx_publish(s, canal_dgram_extent(&rec));
}

/*
 * The kernel is always asked, also when RX is full: what finds no room is
 * dropped here, so that newer datagrams do not wait behind the kernel's queue.
 */
bool dgram_rx(struct sock *s)
{
	struct poller *p = s->channel->poller;
	uint64_t room, len;
	int n = 0, fd = s->fd;

	if (s->rx_op.under_way || !sock_rx_room(s, &room))
		return false;
	if (s->channel->guest) {
		fd = vdgram_source(s);
		if (fd < 0)
			return false;
	}
	len = sizeof(struct canal_dgram) + DGRAM_MAX + 1;
	if (s->hears_control)
		len += CANAL_DGRAM_CONTROL_MAX;
	if (len > room)
		len = room & ~(uint64_t)(CANAL_DGRAM_ALIGN - 1);
	len = sock_rx_prepare(s, len);
	if (len > sizeof(struct canal_dgram))
		n = canal_fifo_pieces(s->rx_chunk, &s->channel->rx,
				      s->rx_tail + sizeof(struct canal_dgram),
				      len - sizeof(struct canal_dgram), s->rx_op.iov, ENGINE_IOV);
	s->op_span = (uint32_t)len;
	s->rx_op.fd = fd;
	s->rx_op.flags = 0;
	memset(&s->rx_op.msg, 0, sizeof(s->rx_op.msg));
	s->rx_op.msg.msg_iov = s->rx_op.iov;
	s->rx_op.msg.msg_iovlen = (size_t)n;
	s->rx_op.msg.msg_name = &s->op_name;
	s->rx_op.msg.msg_namelen = sizeof(s->op_name);
	if (s->hears_control) {
		s->rx_op.msg.msg_control = s->control->rx;
		s->rx_op.msg.msg_controllen = sizeof(s->control->rx);
	}
	s->rx_op.done = rx_done;
	p->ops->recv(p->engine, &s->rx_op);
	return true;
}
