/* SPDX-License-Identifier: MIT */
/*
 * Transfers by reference: the kernel takes bytes out of a program's own pages, and
 * puts them there (vCanal 3.4).
 *
 * Purpose: SEND_REF follows what was in TX when it was asked for; what comes into TX
 * later waits for it. RECV_REF takes what is in RX, and then what the kernel has.
 * Between joined sockets the sender's pages are copied into the other's RX.
 *
 * Invariants
 *  1. Addresses are translated in ref_pass() and used until the flush of the same
 *     pass: no pointer into a program's pages is kept (T1, T2).
 *  2. The list of buffers was copied out of shared memory once, and bounded.
 *  3. A wait slot has at most one transfer; each is answered exactly once, unless the
 *     channel is closed.
 *  4. Those of a socket are in sock.refs, in the order in which they were asked for.
 *     poller.ref_ready has the sockets whose first one may go on.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -EOPNOTSUPP where nothing is translated; -EFAULT and the address for a
 * page that is not in the table. What was moved before a failure is the result.
 */
#include <stdlib.h>
#include <string.h>

#include "vm.h"

#define REF_PIECES 64u
#define REF_IOV 64
#define REF_SLICE (512u << 10)
/* Of all transfers in a pass; a short one counts as much as REF_LEAST. */
#define REF_PASS (4u << 20)
#define REF_LEAST (16u << 10)
#define REF_LEN_MAX (1ull << 30)
#define ADDRESS_MAX (1ull << 48)

struct ref {
	struct cds_list_head link; /* sock.refs */
	struct sock *sock;
	uint32_t slot, client;
	bool active, receives, dontwait;
	uint64_t after; /* SEND_REF: TX up to here goes first */
	uint64_t total, done, taken, miss;
	uint32_t count, at; /* pieces; the one it stands in */
	uint64_t offset;    /* bytes of that one that are done */
	struct {
		uint64_t address, len;
	} piece[REF_PIECES];
	uint64_t asked; /* of the kernel */
	struct engine_op op;
	struct iovec iov[REF_IOV];
};

/* --- lists ------------------------------------------------------------- */

static void unmark(struct sock *s)
{
	if (!s->ref_ready)
		return;
	s->ref_ready = false;
	cds_list_del(&s->ref_link);
}

void ref_mark(struct sock *s)
{
	if (s->ref_ready || s->dead || cds_list_empty(&s->refs))
		return;
	s->ref_ready = true;
	cds_list_add_tail(&s->ref_link, &s->channel->poller->ref_ready);
}

static void finish(struct ref *r, int64_t result)
{
	struct channel *ch = r->sock->channel;
	struct canal_ref *answer = (struct canal_ref *)(void *)ch->call[r->slot].data;

	r->active = false;
	cds_list_del(&r->link);
	if (cds_list_empty(&r->sock->refs))
		unmark(r->sock);
	if (ch->broken)
		return;
	answer->miss = r->miss;
	answer->taken = r->taken;
	request_complete(ch, r->slot, (int)result, offsetof(struct canal_ref, piece));
}

/* What was moved counts more than what went wrong then. */
static void finish_with(struct ref *r, int error)
{
	finish(r, r->done ? (int64_t)r->done : error);
}

void ref_end(struct sock *s, int error)
{
	struct ref *r, *next;

	cds_list_for_each_entry_safe(r, next, &s->refs, link) finish_with(r, error);
}

void ref_end_sends(struct sock *s, int error)
{
	struct ref *r, *next;

	cds_list_for_each_entry_safe(r, next, &s->refs, link) if (!r->receives)
		finish_with(r, error);
}

void ref_drop_client(struct channel *ch, uint32_t client)
{
	for (uint32_t i = 0; ch->refs && i < ch->shape.waits; i++)
		if (ch->refs[i] && ch->refs[i]->active && ch->refs[i]->client == client)
			finish_with(ch->refs[i], -EINTR);
}

void ref_free(struct channel *ch)
{
	for (uint32_t i = 0; ch->refs && i < ch->shape.waits; i++)
		free(ch->refs[i]);
	free(ch->refs);
}

static struct ref *first_send(const struct sock *s)
{
	struct ref *r;

	cds_list_for_each_entry(r, &s->refs, link) if (!r->receives) return r;
	return NULL;
}

static struct ref *first_receive(const struct sock *s)
{
	struct ref *r;

	cds_list_for_each_entry(r, &s->refs, link) if (r->receives) return r;
	return NULL;
}

uint64_t ref_before(const struct sock *s, uint64_t avail)
{
	const struct ref *r = s->refs.next == &s->refs ? NULL : first_send(s);
	uint64_t before;

	if (!r)
		return avail;
	before = r->after - s->tx_head;
	if (before > CANAL_FIFO_MAX) /* TX is past it */
		return 0;
	return before < avail ? before : avail;
}

/* --- asking ------------------------------------------------------------ */

/* The question, out of shared memory; 0 or -EINVAL. */
static int ref_read(struct ref *r, const struct canal_call *call)
{
	struct canal_ref asked;

	memcpy(&asked, call->data, sizeof(asked));
	r->count = asked.count;
	r->dontwait = asked.flags & CANAL_REF_DONTWAIT;
	r->total = r->done = r->taken = r->miss = r->offset = 0;
	r->at = 0;
	if (asked.count > REF_PIECES)
		return -EINVAL;
	for (uint32_t i = 0; i < asked.count; i++) {
		r->piece[i].address = asked.piece[i].address;
		r->piece[i].len = asked.piece[i].len;
		if (r->piece[i].len > REF_LEN_MAX - r->total || r->piece[i].address > ADDRESS_MAX)
			return -EINVAL;
		r->total += r->piece[i].len;
	}
	return 0;
}

/* The one of that slot; NULL without memory. */
static struct ref *ref_of(struct channel *ch, uint32_t slot)
{
	if (!ch->refs)
		ch->refs = calloc(ch->shape.waits, sizeof(*ch->refs));
	if (ch->refs && !ch->refs[slot])
		ch->refs[slot] = calloc(1, sizeof(struct ref));
	return ch->refs ? ch->refs[slot] : NULL;
}

/* Whether this socket can do it at all now: 0 or -errno. */
static int ref_possible(struct channel *ch, const struct sock *s, const struct canal_inr *inr)
{
	struct client *c = ch->vm ? channel_client(ch, inr->client) : NULL;

	if (!c || !c->table || !ch->vm->pins)
		return -EOPNOTSUPP;
	if (!s || s->dead || s->released || inr->generation != ch->generation[inr->sock])
		return -EBADF;
	if (s->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (inr->op == CANAL_INR_SEND_REF && (s->tx_shut || s->broken_off || s->peer_gone))
		return -EPIPE;
	return s->state == CANAL_SOCK_CONNECTED ? 0 : -ENOTCONN;
}

int ref_ask(struct channel *ch, struct sock *s, const struct canal_inr *inr)
{
	int error = ref_possible(ch, s, inr);
	struct ref *r = error ? NULL : ref_of(ch, inr->slot);

	if (!error && !r)
		error = -ENOMEM;
	if (r && r->active)
		return RULE_BROKEN;
	if (!error)
		error = ref_read(r, &ch->call[inr->slot]);
	if (error || !r->total) {
		request_complete(ch, inr->slot, error, 0);
		return 0;
	}
	r->sock = s;
	r->slot = inr->slot;
	r->client = inr->client;
	r->receives = inr->op == CANAL_INR_RECV_REF;
	r->active = true;
	/* R1 acquire: what is in TX now goes before it */
	r->after = canal_load_acquire(&s->shared->tx.tail);
	cds_list_add_tail(&r->link, &s->refs);
	if (!r->receives)
		sock_mark_tx(s);
	ref_mark(s);
	return 0;
}

int ref_stop(struct channel *ch, const struct canal_inr *inr)
{
	uint32_t slot = inr->u.arg[0];
	struct ref *r;

	if (slot >= ch->shape.waits)
		return RULE_BROKEN;
	r = ch->refs ? ch->refs[slot] : NULL;
	if (r && r->active && r->client == inr->client)
		finish_with(r, 0);
	return 0;
}

/* --- translation ------------------------------------------------------- */

static void iov_add(struct iovec *iov, int *count, void *base, uint64_t len)
{
	struct iovec *last = *count ? &iov[*count - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == base)
		last->iov_len += len;
	else
		iov[(*count)++] = (struct iovec){ base, len };
}

static void budget_use(struct poller *p, uint64_t len)
{
	len = len < REF_LEAST ? REF_LEAST : len;
	p->ref_left -= len < p->ref_left ? len : p->ref_left;
}

/* From where it stands; fills r->iov for this pass. Bytes, and their pieces. */
static uint64_t translate(struct ref *r, int *ret_count)
{
	const struct channel *ch = r->sock->channel;
	const struct client *c = channel_client((struct channel *)(uintptr_t)ch, r->client);
	uint64_t offset = r->offset, total = 0;
	int count = 0;

	r->miss = 0;
	for (uint32_t i = r->at; i < r->count && total < REF_SLICE && count < REF_IOV;) {
		uint64_t address = r->piece[i].address + offset, len;
		uint64_t left = r->piece[i].len - offset;
		void *at;

		if (!left) {
			i++;
			offset = 0;
			continue;
		}
		at = c ? guestmem_walk(&ch->vm->ram, c->table, address, r->receives, &len) : NULL;
		if (!at) {
			r->miss = address;
			break;
		}
		len = len < left ? len : left;
		iov_add(r->iov, &count, at, len);
		total += len;
		offset += len;
	}
	*ret_count = count;
	budget_use(ch->poller, total);
	return total;
}

/* The kernel is to do it, with the first @count of r->iov. */
static void op_set(struct ref *r, int count, void (*done)(struct engine_op *op, int res))
{
	r->op.fd = r->sock->fd;
	r->op.flags = 0;
	r->op.guarded = false;
	r->op.msg.msg_iov = r->iov;
	r->op.msg.msg_iovlen = (size_t)count;
	r->op.done = done;
}

/* @len bytes went. */
static void advance(struct ref *r, uint64_t len)
{
	r->done += len;
	while (len) {
		uint64_t left = r->piece[r->at].len - r->offset;

		if (len < left) {
			r->offset += len;
			return;
		}
		len -= left;
		r->at++;
		r->offset = 0;
	}
}

/* --- sending ----------------------------------------------------------- */

static void send_blocked(struct ref *r)
{
	struct sock *s = r->sock;

	if (r->dontwait)
		finish_with(r, -EAGAIN);
	else
		unmark(s); /* sock_mark_tx() follows, when there is room */
}

static void sent(struct ref *r, uint64_t len)
{
	struct sock *s = r->sock;

	s->channel->poller->work++;
	s->tx_bytes += len;
	s->channel->count.tx_bytes += len;
	advance(r, len);
	if (r->done == r->total) {
		r->miss = 0;
		finish(r, (int64_t)r->done);
	}
}

static void send_done(struct engine_op *op, int res)
{
	struct ref *r = caa_container_of(op, struct ref, op);
	struct sock *s = r->sock;

	if (!r->active)
		return;
	if (res > 0) {
		sent(r, (uint64_t)res);
	} else if (res == -EAGAIN || res == -ENOBUFS) {
		s->tx_blocked = true;
		sock_unmark_tx(s);
		send_blocked(r);
	} else if (res == -EFAULT) {
		finish_with(r, -EOPNOTSUPP); /* RAM that is no RAM: it will be copied */
	} else if (res < 0 && res != -EINTR) {
		sock_unmark_tx(s);
		sock_fail(s, res, CANAL_CLOSED_RESET);
	}
}

static void send_kernel(struct ref *r, int count)
{
	struct poller *p = r->sock->channel->poller;

	op_set(r, count, send_done);
	p->ops->send(p->engine, &r->op);
}

/* Into the RX of the socket that it is joined with. */
static void send_across(struct ref *r, int count, uint64_t len)
{
	struct sock *s = r->sock, *d = s->joined;
	struct iovec to[CANAL_FIFO_CHUNKS];
	uint64_t room;
	int n;

	if (!sock_rx_room(d, &room))
		return;
	if (!room) {
		if (sock_rx_park(d)) {
			s->tx_blocked = true;
			sock_unmark_tx(s);
			send_blocked(r);
		}
		return;
	}
	len = sock_rx_prepare(d, len < room ? len : room);
	n = canal_fifo_pieces(d->rx_chunk, &d->channel->rx, d->rx_tail, len, to, CANAL_FIFO_CHUNKS);
	if (!len) { /* no chunk: until switch_peer_room() */
		s->tx_blocked = true;
		sock_unmark_tx(s);
		sock_starve(d);
		send_blocked(r);
	}
	if (!len || n < 0)
		return;
	switch_copy(to, n, r->iov, count);
	sock_rx_publish(d, len);
	sent(r, len);
}

static void send_step(struct ref *r)
{
	struct sock *s = r->sock;
	uint64_t avail, len;
	int count;

	if (s->state != CANAL_SOCK_CONNECTED || s->peer_gone) {
		finish_with(r, -EPIPE);
		return;
	}
	if (s->tx_blocked) {
		send_blocked(r);
		return;
	}
	if (s->tx_op.under_way || !sock_tx_avail(s, &avail))
		return;
	if (ref_before(s, UINT64_MAX) > avail) { /* tail was there already, and went back */
		channel_break(s->channel, BROKEN_TX_POSITION);
		return;
	}
	if (ref_before(s, avail))
		return; /* TX goes first */
	len = translate(r, &count);
	if (!len)
		finish_with(r, -EFAULT);
	else if (s->joined)
		send_across(r, count, len);
	else
		send_kernel(r, count);
}

/* --- receiving --------------------------------------------------------- */

static void receive_done(struct engine_op *op, int res)
{
	struct ref *r = caa_container_of(op, struct ref, op);
	struct sock *s = r->sock;
	uint64_t asked = r->asked;

	s->ref_receives = false;
	if (r->active && res > 0) {
		r->done += (uint64_t)res;
		s->rx_bytes += (uint64_t)res;
		s->channel->count.rx_bytes += (uint64_t)res;
	}
	if (r->active)
		finish_with(r, -EAGAIN);
	if (!s->dead && !s->released)
		stream_received(s, asked, res);
}

/* Leaves out the first @len bytes. */
static int iov_skip(struct iovec *iov, int count, uint64_t len)
{
	int first = 0;

	while (first < count && len >= iov[first].iov_len)
		len -= iov[first++].iov_len;
	if (first < count) {
		iov[first].iov_base = (uint8_t *)iov[first].iov_base + len;
		iov[first].iov_len -= len;
	}
	memmove(iov, iov + first, (size_t)(count - first) * sizeof(*iov));
	return count - first;
}

static void receive_kernel(struct ref *r, int count, uint64_t len)
{
	struct sock *s = r->sock;
	struct poller *p = s->channel->poller;

	op_set(r, count, receive_done);
	r->op.guarded = true;
	r->op.looked = s->urgent_looked;
	r->asked = len;
	s->ref_receives = true;
	p->ops->recv(p->engine, &r->op);
}

/* Whether the kernel may have bytes that follow those in RX. */
static bool kernel_has(const struct sock *s)
{
	return s->fd >= 0 && !s->joined && !s->peer_gone && !s->rx_eof && !s->broken_off &&
	       (s->rx_ready || s->rx_parked) && !s->rx_op.under_way && !s->ref_receives &&
	       s->state == CANAL_SOCK_CONNECTED && !urgent_unsure(s->urgent, s->urgent_looked);
}

/* Copies from RX; the guest moves head. False after channel_break(). */
static bool receive_rx(struct ref *r, int count, uint64_t len, uint64_t *ret_left)
{
	struct sock *s = r->sock;
	struct iovec from[CANAL_FIFO_CHUNKS], to[REF_IOV];
	uint64_t head = canal_load_acquire(&s->shared->rx.head), held = s->rx_tail - head;
	int n;

	if (held > s->rx_tail - s->rx_reclaim) {
		channel_break(s->channel, BROKEN_RX_POSITION);
		return false;
	}
	*ret_left = held > len ? held - len : 0;
	r->taken = held < len ? held : len;
	n = canal_fifo_pieces(s->rx_chunk, &s->channel->rx, head, r->taken, from,
			      CANAL_FIFO_CHUNKS);
	if (n < 0) { /* a head that went back, to where no chunk is any more */
		channel_break(s->channel, BROKEN_RX_POSITION);
		return false;
	}
	memcpy(to, r->iov, (size_t)count * sizeof(*to));
	switch_copy(to, count, from, n);
	r->done = r->taken;
	return true;
}

static void receive_step(struct ref *r)
{
	struct sock *s = r->sock;
	uint64_t len, left;
	int count;

	if (canal_fifo_marked(&s->shared->rx, canal_read_once(&s->shared->rx.head))) {
		finish(r, -EAGAIN); /* the guest knows when to stop */
		return;
	}
	len = translate(r, &count);
	if (!len) {
		finish(r, -EFAULT);
		return;
	}
	if (!receive_rx(r, count, len, &left))
		return;
	r->miss = 0;
	s->channel->poller->work++;
	if (r->taken == len || left || !kernel_has(s))
		finish_with(r, -EAGAIN);
	else
		receive_kernel(r, iov_skip(r->iov, count, r->taken), len - r->taken);
}

/* --- a pass ------------------------------------------------------------ */

/* The first of each kind: RECV_REF is made under rx_lock, so an honest guest has one. */
static void sock_step(struct sock *s)
{
	struct ref *r = first_receive(s);

	if (r && !r->op.under_way)
		receive_step(r);
	r = first_send(s);
	if (r && !r->op.under_way && !s->channel->broken)
		send_step(r);
}

void ref_pass(struct poller *p)
{
	struct sock *s, *next;

	p->ref_left = REF_PASS;
	cds_list_for_each_entry_safe(s, next, &p->ref_ready, ref_link)
	{
		if (!p->ref_left) { /* the next pass begins with this one */
			cds_list_del(&p->ref_ready);
			cds_list_add_tail(&p->ref_ready, &s->ref_link);
			break;
		}
		if (s->dead || s->channel->broken)
			unmark(s);
		else
			sock_step(s);
	}
}
