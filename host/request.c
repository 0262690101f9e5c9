/* SPDX-License-Identifier: MIT */
/*
 * One INR: what the guest asks for, checked and handed to whoever does it.
 *
 * Purpose: the request translator of vCanal 3.3. The INR was copied out of the
 * ring; nothing of it is believed.
 *
 * Invariants
 *  1. Each call is completed exactly once, here or (resolve) later, unless the
 *     channel is closed.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: a rule broken closes the channel; a request that is merely wrong
 * gets its errno.
 */
#include <string.h>

#include "sock.h"

void request_complete(struct channel *ch, uint32_t slot, int result, uint32_t len)
{
	struct canal_call *call;

	if (slot == CANAL_NONE)
		return;
	call = &ch->call[slot];
	call->result = result;
	call->len = len;
	/* C1 release: result before COMPLETED, with the fence of S1 */
	canal_store_fence(&call->state, CANAL_INR_COMPLETED);
	if (canal_take(&ch->wait[slot].armed))
		wake_slot(ch, slot);
}

static int do_setsockopt(struct channel *ch, struct sock *s, const struct canal_inr *inr)
{
	uint8_t value[CANAL_CALL_DATA];
	const struct canal_call *call;
	uint32_t len;

	if (inr->slot == CANAL_NONE)
		return sock_setopt(s, (int)inr->u.arg[0], (int)inr->u.arg[1], &inr->u.arg[2],
				   sizeof(int));
	call = &ch->call[inr->slot];
	len = canal_read_once(&call->len);
	if (len > sizeof(value))
		return -EINVAL;
	memcpy(value, call->data, len);
	return sock_setopt(s, (int)canal_read_once(&call->level), (int)canal_read_once(&call->name),
			   value, len);
}

static int do_getsockopt(struct channel *ch, struct sock *s, uint32_t slot, uint32_t *ret_len)
{
	uint8_t value[CANAL_CALL_DATA];
	struct canal_call *call = &ch->call[slot];
	uint32_t len = canal_read_once(&call->out_max);
	int r;

	if (len > sizeof(value))
		len = sizeof(value);
	r = sock_getopt(s, (int)canal_read_once(&call->level), (int)canal_read_once(&call->name),
			value, &len);
	if (r)
		return r;
	memcpy(call->data, value, len);
	*ret_len = len;
	return 0;
}

/* A socket that was given to its user (give.c): he can make any call on it wait. */
static bool is_beyond(const struct sock *s, uint32_t op)
{
	return s->given && op != CANAL_INR_CLOSE && op != CANAL_INR_PASSED &&
	       op != CANAL_INR_SUBSCRIBE;
}

/* The INRs that name a socket which exists. Result of a call, or 0. */
static int serve_socket(struct channel *ch, struct sock *s, const struct canal_inr *inr,
			uint32_t *ret_len)
{
	if (is_beyond(s, inr->op))
		return -EBADF;
	switch (inr->op) {
	case CANAL_INR_BIND:
		return sock_bind(s, &inr->u.addr);
	case CANAL_INR_LISTEN:
		return listen_start(s, (int)inr->u.arg[0]);
	case CANAL_INR_CONNECT:
		return sock_connect(s, &inr->u.addr);
	case CANAL_INR_SHUTDOWN:
		return sock_shutdown(s, (int)inr->u.arg[0]);
	case CANAL_INR_CLOSE:
		/* the number may be another's by now: only a hint, if it is */
		sock_close_hint(s, inr->client,
				inr->u.arg[0] && inr->u.arg[1] == ch->generation[inr->sock]);
		return 0;
	case CANAL_INR_TX:
		sock_mark_tx(s);
		return 0;
	case CANAL_INR_RX:
		sock_rx_resume(s);
		return 0;
	case CANAL_INR_SETSOCKOPT:
		return do_setsockopt(ch, s, inr);
	case CANAL_INR_GETSOCKOPT:
		if (inr->slot == CANAL_NONE)
			return RULE_BROKEN;
		return do_getsockopt(ch, s, inr->slot, ret_len);
	case CANAL_INR_QUEUE:
		if (inr->slot == CANAL_NONE)
			return RULE_BROKEN;
		return errqueue_take(s, inr->slot, ret_len);
	case CANAL_INR_OUTQ:
		if (inr->slot == CANAL_NONE)
			return RULE_BROKEN;
		return stream_outq(s, inr->u.arg[0]);
	case CANAL_INR_SUBSCRIBE:
		return sub_add(ch, s, inr->u.arg[0], inr->u.arg[1], inr->u.arg[2], inr->u.arg[3]);
	case CANAL_INR_ASYNC:
		return wake_signals(s, inr);
	case CANAL_INR_HANDOVER:
		return pump_handover(s);
	case CANAL_INR_PASSED:
		pump_passed(s, inr->u.arg[0]);
		return 0;
	default:
		return RULE_BROKEN;
	}
}

static int serve_unsubscribe(struct channel *ch, const struct canal_inr *inr)
{
	uint32_t n = inr->u.arg[0];

	if (n >= ch->shape.subs)
		return RULE_BROKEN;
	if (ch->subs[n].sock)
		sub_drop(&ch->subs[n]);
	return 0;
}

/* Socket numbers that a guest may still name although the host let go. */
static int serve_late(const struct canal_inr *inr)
{
	switch (inr->op) {
	case CANAL_INR_CLOSE:
	case CANAL_INR_TX:
	case CANAL_INR_RX:
	case CANAL_INR_SHUTDOWN:
	case CANAL_INR_SUBSCRIBE:
	case CANAL_INR_PASSED:
		return 0;
	case CANAL_INR_BIND:
	case CANAL_INR_LISTEN:
	case CANAL_INR_CONNECT:
	case CANAL_INR_SETSOCKOPT:
	case CANAL_INR_GETSOCKOPT:
	case CANAL_INR_QUEUE:
	case CANAL_INR_OUTQ:
	case CANAL_INR_HANDOVER:
	case CANAL_INR_ASYNC:
		return -EBADF;
	default:
		return RULE_BROKEN;
	}
}

/* A dummy for an accepted socket, which may have ended meanwhile. */
static int serve_dummy(struct channel *ch, const struct canal_inr *inr)
{
	uint32_t n = inr->sock;
	struct far_end far;

	if (n >= ch->shape.socks)
		return RULE_BROKEN;
	if (!stock_take(ch, inr->client, inr->u.arg[0], &far))
		return 0;
	if (ch->socks[n] && ch->generation[n] == inr->u.arg[1])
		sock_set_far_ours(ch->socks[n], &far);
	else
		far_end_close(far.fd);
	return 0;
}

static int serve_adopt(struct channel *ch, const struct canal_inr *inr)
{
	uint64_t inode = inr->u.arg[0] | (uint64_t)inr->u.arg[1] << 32;
	struct sock *s = inode ? stock_find(ch, inode) : NULL;

	if (!s || s->dead || s->released)
		return -ENOENT;
	pump_adopted(s);
	return (int)s->number;
}

static int serve(struct channel *ch, const struct canal_inr *inr, uint32_t *ret_len)
{
	struct sock *s;

	switch (inr->op) {
	case CANAL_INR_NOP:
		return 0;
	case CANAL_INR_SOCKET:
		return sock_open(ch, inr);
	case CANAL_INR_UNSUBSCRIBE:
		return serve_unsubscribe(ch, inr);
	case CANAL_INR_FALL:
		ch->count.falls++;
		return 0;
	case CANAL_INR_REF_STOP:
		return ref_stop(ch, inr);
	case CANAL_INR_DUMMY:
		return serve_dummy(ch, inr);
	case CANAL_INR_ADOPT:
		return serve_adopt(ch, inr);
	default:
		break;
	}
	if (inr->sock >= ch->shape.socks)
		return RULE_BROKEN;
	s = ch->socks[inr->sock];
	/* one that is draining has nobody who could still ask for something, nor has one
	 * that lives for what is left in its dummy */
	if (!s || s->dead || s->released || s->far_gone)
		return serve_late(inr);
	/* Late: the socket that it is for has ended, and its number is another's. */
	if (inr->op != CANAL_INR_CLOSE && inr->generation != ch->generation[inr->sock])
		return serve_late(inr);
	return serve_socket(ch, s, inr, ret_len);
}

static enum broken reason(const struct canal_inr *inr)
{
	if (inr->op >= CANAL_INR_OPS)
		return BROKEN_OP;
	if (inr->op == CANAL_INR_SUBSCRIBE || inr->op == CANAL_INR_UNSUBSCRIBE)
		return BROKEN_SUBSCRIPTION;
	return inr->op == CANAL_INR_REF_STOP || inr->op == CANAL_INR_ASYNC ? BROKEN_SLOT
									   : BROKEN_SOCKET;
}

void request_serve(struct channel *ch, struct canal_inr *inr)
{
	uint32_t client = canal_inr_client(inr->state), len = 0;
	int r;

	if (client != inr->client || !client || client > ch->client_high) {
		channel_break(ch, BROKEN_CLIENT);
		return;
	}
	if (inr->slot != CANAL_NONE && inr->slot >= ch->shape.waits) {
		channel_break(ch, BROKEN_SLOT);
		return;
	}
	if (inr->op == CANAL_INR_RESOLVE) {
		if (inr->slot == CANAL_NONE)
			channel_break(ch, BROKEN_SLOT);
		else
			resolve_ask(ch, inr->slot);
		return;
	}
	if (inr->op == CANAL_INR_SEND_REF || inr->op == CANAL_INR_RECV_REF) {
		r = inr->slot == CANAL_NONE || inr->sock >= ch->shape.socks
			    ? RULE_BROKEN
			    : ref_ask(ch, ch->socks[inr->sock], inr);
		if (r == RULE_BROKEN)
			channel_break(ch, BROKEN_SLOT);
		return;
	}
	if (inr->op == CANAL_INR_SETTLE) {
		if (settle_ask(ch, inr) == RULE_BROKEN)
			channel_break(ch, BROKEN_SLOT);
		return;
	}
	if (inr->op == CANAL_INR_LINGER) {
		if (linger_ask(ch, inr) == RULE_BROKEN)
			channel_break(ch, BROKEN_SOCKET);
		return;
	}
	r = serve(ch, inr, &len);
	if (r == RULE_BROKEN)
		channel_break(ch, reason(inr));
	else
		request_complete(ch, inr->slot, r, len);
}
