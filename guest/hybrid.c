/* SPDX-License-Identifier: MIT */
/*
 * By reference: canald moves the bytes of a long send or recv between the kernel
 * and the program's own buffer, and the guest copies nothing (vCanal 3.4).
 *
 * Purpose: above a threshold (CANAL_REF_MIN) post SEND_REF or RECV_REF with the
 * addresses of the buffer and wait for the answer. Virtual machines only; the
 * local transport never comes here.
 *
 * Invariants
 *  1. What the program sees is what stream.c gives it. A send that may not wait
 *     leaves to TX what canald could not take at once, so that "TX has room"
 *     stays the one meaning of writable. A recv takes RX first, then the kernel.
 *  2. No call is left behind: a send that is interrupted, runs out of time or is
 *     cancelled stops its call and waits for the end of it before it returns,
 *     for canald reads the buffer until then.
 *  3. Whatever is wrong with a transfer by reference, a copy is right: every
 *     answer that is not understood leads there.
 *
 * Ownership and threads: any thread. A recv is made under rx_lock, for canald
 * answers it without waiting for anything.
 *
 * Failure: -EFAULT for a buffer that is not there, -EINTR, -EAGAIN at the time
 * limit. -EOPNOTSUPP of canald's turns all of this off for the process.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "hybrid.h"
#include "lock.h"

#define PIECES (sizeof(((struct canal_ref *)0)->piece) / sizeof(((struct canal_ref *)0)->piece[0]))
/* Pins of others may drive ours out: after so many rounds it is copied. */
#define PIN_ROUNDS 8

/* One call under way. */
struct ref_call {
	struct channel *ch;
	struct waiter *w;
	struct canal_call *call;
	uint32_t op, n, generation;
	struct canal_ref ref; /* the question; then miss and taken of the answer */
};

/* --- the question ------------------------------------------------------ */

/* Up to @most bytes at @at, as pieces; how many bytes. */
static uint64_t ref_fill(struct canal_ref *ref, const struct cursor *at, uint64_t most)
{
	const struct iovec *iov = at->iov;
	size_t skip = at->done;
	uint64_t total = 0;

	ref->count = 0;
	for (; total < most && ref->count < PIECES; iov++, skip = 0) {
		uint64_t len = iov->iov_len - skip;

		if (len > most - total)
			len = most - total;
		if (!len)
			continue;
		ref->piece[ref->count].address = (uintptr_t)iov->iov_base + skip;
		ref->piece[ref->count++].len = len;
		total += len;
	}
	return total;
}

static void cursor_skip(struct cursor *c, uint64_t len)
{
	while (len && len >= c->iov->iov_len - c->done) {
		len -= c->iov->iov_len - c->done;
		c->iov++;
		c->done = 0;
	}
	c->done += len;
}

static bool call_done(void *arg)
{
	struct canal_call *call = arg;

	/* C1 acquire: COMPLETED before the result; pairs with the host */
	return canal_load_acquire(&call->state) == CANAL_INR_COMPLETED;
}

static int call_post(struct ref_call *c)
{
	struct canal_inr inr = { .op = (canal_u8)c->op, .sock = c->n, .slot = c->w->slot };
	uint32_t len = offsetof(struct canal_ref, piece) + c->ref.count * sizeof(c->ref.piece[0]);

	c->ref.miss = 0;
	c->ref.taken = 0;
	c->call->result = 0;
	c->call->len = len;
	c->call->out_max = 0;
	memcpy(c->call->data, &c->ref, len);
	/* Published by Q1 of the INR; nobody looks at it before. */
	canal_write_once(&c->call->state, CANAL_INR_REQUESTED);
	return channel_post(c->ch, &inr);
}

static int call_result(struct ref_call *c)
{
	memcpy(&c->ref, c->call->data, offsetof(struct canal_ref, piece));
	canal_write_once(&c->call->state, CANAL_CALL_IDLE);
	return c->call->result;
}

/* Ends a SEND_REF under way: it has its result then. Also when cancelled. */
static void call_stop(void *arg)
{
	struct ref_call *c = arg;
	const struct canal_inr inr = {
		.op = CANAL_INR_REF_STOP,
		.sock = c->n,
		.slot = CANAL_NONE,
		.u.arg = { c->w->slot },
	};

	if (!channel_post(c->ch, &inr))
		(void)wait_slot(c->ch, c->w, call_done, c->call);
}

/* 0, -EINTR, -EAGAIN: it was stopped for that; -EPIPE: canald is gone. */
static int call_wait(struct ref_call *c, int64_t deadline)
{
	int err;

	pthread_cleanup_push(call_stop, c);
	err = wait_slot_until(c->ch, c->w, call_done, c->call, deadline);
	pthread_cleanup_pop(0);
	if (err == -EINTR || err == -EAGAIN)
		call_stop(c);
	return err;
}

/* The pieces of @c from the one that @miss lies in: what came before is there. */
static int call_pin(struct ref_call *c, bool writable)
{
	bool reached = false;

	for (uint32_t i = 0; i < c->ref.count; i++) {
		uint64_t address = c->ref.piece[i].address, len = c->ref.piece[i].len;
		int err;

		/* Pages, not bytes: miss may be the beginning of the page */
		if (!reached && c->ref.miss >= address + len)
			continue;
		reached = true;
		err = c->ch->via->pin(c->ch, address, len, writable);
		if (err)
			return err;
	}
	return reached ? 0 : -EOPNOTSUPP;
}

static void ref_off(struct channel *ch)
{
	canal_write_once(&ch->ref_min, SIZE_MAX);
}

/* --- sending ----------------------------------------------------------- */

/**
 * send_round() - one call, with its pins
 * @deadline: 0: may not wait
 *
 * Return: bytes that went, or -errno. *ret_why: 0; or -EINTR, -EAGAIN: it was
 * stopped for that.
 */
static int64_t send_round(struct ref_call *c, int64_t deadline, int *ret_why)
{
	for (unsigned int i = 0; i < PIN_ROUNDS; i++) {
		const struct canal_sock *s = channel_sock(c->ch, c->n);
		int64_t r = -EPIPE;
		int err = 0;

		if (canal_load_acquire(&s->generation) == c->generation)
			r = call_post(c);
		if (r)
			return r;
		err = deadline ? call_wait(c, deadline)
			       : wait_slot(c->ch, c->w, call_done, c->call);
		if (channel_gone(c->ch))
			return -EPIPE;
		*ret_why = err;
		r = call_result(c);
		if (r != -EFAULT || err)
			return r;
		err = call_pin(c, false);
		if (err)
			return err;
	}
	return -EDQUOT;
}

/* What a round that did not go on means for the send. */
static int send_verdict(const struct ref_call *c, int64_t r, int why)
{
	if (r == -EOPNOTSUPP)
		ref_off(c->ch);
	if (why)
		return why;
	return r == -EFAULT ? -EFAULT : 0;
}

static int send_rounds(struct ref_call *c, struct cursor *at, size_t left, int64_t deadline,
		       size_t *ret_sent)
{
	uint64_t most = c->ch->ref_most;

	while (left) {
		uint64_t asked = ref_fill(&c->ref, at, left < most ? left : most);
		int why = 0;
		int64_t r = send_round(c, deadline, &why);

		if (r > (int64_t)asked)
			r = (int64_t)asked;
		if (r > 0) {
			cursor_skip(at, (uint64_t)r);
			left -= (size_t)r;
			*ret_sent += (size_t)r;
		}
		if (why || r <= 0)
			return send_verdict(c, r, why);
		/* Less, and not for want of a page: what does not wait is copied. */
		if ((uint64_t)r < asked && !deadline && !c->ref.miss)
			return 0;
	}
	return 0;
}

int hybrid_send(struct canal_sock *s, uint32_t n, uint32_t generation, struct cursor *at,
		size_t left, int64_t deadline, size_t *ret_sent)
{
	struct ref_call c = {
		.ch = &the_channel,
		.op = CANAL_INR_SEND_REF,
		.n = n,
		.generation = generation,
	};
	struct waiter spare;
	int err;

	(void)s;
	if (waiter_borrow(c.ch, &spare, &c.w))
		return 0; /* the copy needs none */
	c.call = &c.ch->call[c.w->slot];
	c.ref.flags = deadline ? 0 : CANAL_REF_DONTWAIT;
	err = send_rounds(&c, at, left, deadline, ret_sent);
	waiter_return(c.ch, c.w);
	return err;
}

/* --- receiving --------------------------------------------------------- */

/* Return: bytes of the answer or -errno. */
static int64_t recv_round(struct ref_call *c)
{
	int64_t r = -EFAULT;

	for (unsigned int i = 0; i < PIN_ROUNDS && r == -EFAULT; i++) {
		r = call_post(c);
		if (!r)
			r = wait_slot(c->ch, c->w, call_done, c->call);
		if (r)
			return r;
		r = call_result(c);
		if (r == -EFAULT) {
			int err = call_pin(c, true);

			if (err)
				return err;
		}
	}
	return r == -EFAULT ? -EDQUOT : r;
}

int64_t hybrid_recv(struct canal_sock *s, uint32_t n, struct cursor *at, size_t most,
		    uint64_t *ret_taken)
{
	struct ref_call c = { .ch = &the_channel, .op = CANAL_INR_RECV_REF, .n = n };
	struct waiter spare;
	uint64_t asked;
	int64_t r;

	(void)s;
	if (waiter_borrow(c.ch, &spare, &c.w))
		return 0;
	c.call = &c.ch->call[c.w->slot];
	asked = ref_fill(&c.ref, at, most < c.ch->ref_most ? most : c.ch->ref_most);
	r = recv_round(&c);
	waiter_return(c.ch, c.w);
	if (r == -EOPNOTSUPP)
		ref_off(c.ch);
	if (r <= 0)
		return r == -EFAULT ? r : 0;
	if (r > (int64_t)asked)
		r = (int64_t)asked;
	*ret_taken = c.ref.taken < (uint64_t)r ? c.ref.taken : (uint64_t)r;
	cursor_skip(at, (uint64_t)r);
	return r;
}
