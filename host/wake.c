/* SPDX-License-Identifier: MIT */
/*
 * Waking guests: threads that sleep on a socket, and epoll sets.
 *
 * Purpose: the publisher's half of docs/wire.md sections 6 and 7.
 *
 * Invariants
 *  1. The caller has published and passed a full fence before it calls in here
 *     (S1); nothing in here makes up for a missing one.
 *  2. Nothing of the guest is followed: waiters come as 64 bits, subscriptions
 *     from the private table. set.ready is copied, never used as an index.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: a wait slot whose bell has not arrived yet is woken when it does. A
 * slot goes from hand to hand, and the bell of its last use is not that bell.
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "sock.h"

/* Before another sleeper is woken for what nobody took. */
#define SPARED_NS 20000000ull
/* Sockets that are looked at then; a guest may have any number of them. */
#define SPARED_A_LOOK 16

/*
 * A guest can arm its slots again as fast as they are woken, and each costs a
 * system call: one for each slot in a pass is enough, more wait for the next.
 */
static bool may_wake(struct channel *ch)
{
	if (ch->wakes_pass != ch->poller->passes) {
		ch->wakes_pass = ch->poller->passes;
		ch->wakes_left = ch->shape.waits;
	}
	return ch->wakes_left && ch->wakes_left--;
}

void wake_slot(struct channel *ch, uint32_t slot)
{
	if (ch->wait_fd[slot] == -1 ||
	    ch->wait_serial[slot] != canal_read_once(&ch->wait[slot].serial)) {
		ch->wait_owed[slot] = 1;
		return;
	}
	if (!may_wake(ch)) {
		ch->wait_owed[slot] = 1;
		ch->wakes_owed = true;
		ch->poller->work++; /* no sleep before it is paid */
		return;
	}
	if (!ch->transport->wake(ch, slot)) {
		ch->wait_owed[slot] = 1;
		ch->bells_full = true; /* poller_trim() */
		return;
	}
	ch->count.wakes++;
}

void wake_owed(struct channel *ch)
{
	if (!ch->wakes_owed)
		return;
	ch->wakes_owed = false;
	for (uint32_t i = 0; i < ch->wait_high; i++)
		if (ch->wait_owed[i] && ch->wait_fd[i] != -1) {
			ch->wait_owed[i] = 0;
			wake_slot(ch, i);
		}
}

/*
 * Wakes a thread that sleeps on this socket, or on several. With @ret_one, not another one
 * of those who sleep for one thing each: it is then spared, and false returned.
 */
static bool wake_thread(struct sock *s, uint32_t slot, bool *ret_one)
{
	struct canal_wait *wait = &s->channel->wait[slot];
	uint32_t only = canal_read_once(&wait->sock);
	bool one = ret_one && canal_read_once(&wait->armed) == CANAL_ARMED_ONE;

	if (only != s->number && only != CANAL_NONE)
		return true;
	if (one && *ret_one)
		return false;
	if (canal_take(&wait->armed)) {
		wake_slot(s->channel, slot);
		if (one)
			*ret_one = true;
	}
	return true;
}

/* Slots n, n + 64, ... of each bit. Return: the bits of who was spared. */
static uint64_t wake_bits(struct sock *s, uint64_t bits, bool *ret_one)
{
	uint32_t used = canal_read_once(&s->channel->region->wait_used);
	uint64_t spared = 0;

	if (used > s->channel->shape.waits)
		used = s->channel->shape.waits;
	for (; bits; bits &= bits - 1) {
		uint32_t slot = (uint32_t)__builtin_ctzll(bits);

		for (; slot < used; slot += 64)
			if (!wake_thread(s, slot, ret_one))
				spared |= bits & -bits;
	}
	return spared;
}

/*
 * Puts a subscription onto its set's ready list unless it lies there already.
 * Return: whether somebody who sleeps in the set is woken by that.
 */
static bool sub_push(struct channel *ch, struct sub *sub)
{
	uint32_t n = (uint32_t)(sub - ch->subs);
	struct canal_sub *shared = &ch->sub[n];
	struct canal_set *set = &ch->set[sub->set];
	uint32_t slot, head;

	/* P1 store-load: readiness was published before this; pairs with the
	 * guest, which takes pending and then looks at the socket */
	if (canal_xchg(&shared->pending, 1u))
		return false;
	head = canal_read_once(&set->ready);
	for (int i = 0; i < 1000; i++) { /* only the guest's take-all interferes */
		canal_write_once(&shared->next, head);
		/* L1 release: next before ready; pairs with the take-all */
		if (canal_cas(&set->ready, head, n + 1))
			break;
		head = canal_read_once(&set->ready);
	}
	slot = canal_read_once(&set->slot);
	if (slot >= ch->shape.waits || !canal_take(&ch->wait[slot].armed))
		return false;
	wake_slot(ch, slot);
	return true;
}

/*
 * A bell for signals is O_ASYNC in the guest: what is done to it makes the kernel send
 * the signal, to whom the guest itself has chosen.
 */
static void ring(struct sock *s, const struct bell *bell, uint8_t how)
{
	struct channel *ch = s->channel;

	if (bell->slot == CANAL_NONE ||
	    canal_read_once(&ch->wait[bell->slot].serial) != bell->serial)
		return; /* whose it was has let go of it */
	ch->wait_signals[bell->slot] = how;
	wake_slot(ch, bell->slot);
}

static int bell_take(struct channel *ch, struct bell *bell, uint32_t slot)
{
	if (slot != CANAL_NONE && slot >= ch->shape.waits)
		return RULE_BROKEN;
	bell->slot = slot;
	bell->serial = slot == CANAL_NONE ? 0 : canal_read_once(&ch->wait[slot].serial);
	return 0;
}

int wake_signals(struct sock *s, const struct canal_inr *inr)
{
	int r = bell_take(s->channel, &s->on_event, inr->u.arg[0]);

	if (!r)
		r = bell_take(s->channel, &s->on_urgent, inr->u.arg[1]);
	if (!r)
		channel_hear(s->channel, inr->client); /* the bells, on their way */
	return r;
}

void wake_urgent(struct sock *s)
{
	ring(s, &s->on_urgent, RING_IN);
}

/* Whoever sleeps in a call on this socket. Return: whether some were spared. */
static bool wake_readers(struct sock *s, bool all)
{
	uint64_t bits = canal_take_bits(&s->shared->rd_waiters);
	bool one = false;

	if (bits)
		bits = wake_bits(s, bits, all ? NULL : &one);
	/* theirs again: nobody else publishes to this socket meanwhile */
	if (bits)
		(void)canal_fetch_or(&s->shared->rd_waiters, bits);
	return bits;
}

/* --- one for each ------------------------------------------------------ */

/* A connection or a datagram is for one of those who wait. */
static bool comes_singly(const struct sock *s)
{
	return s->state == CANAL_SOCK_LISTENING || s->type == SOCK_DGRAM;
}

static bool takes_turns(const struct sub *sub)
{
	return (sub->events & EPOLLEXCLUSIVE) && (sub->events & EPOLLIN);
}

/* Of the sets with EPOLLEXCLUSIVE, those up to the first in which somebody sleeps. */
static bool wake_one_set(struct sock *s)
{
	bool woken = false;
	struct sub *sub;

	cds_list_for_each_entry(sub, &s->subs, link)
	{
		if (!takes_turns(sub))
			continue;
		if (woken)
			return true;
		woken = sub_push(s->channel, sub);
	}
	return false;
}

/*
 * As in Linux one of those who sleep in accept(), or recv() of datagrams, is enough for each
 * that comes, and one of the sets with EPOLLEXCLUSIVE. Who was woken may not come for it: a
 * thread is cancelled, a process killed, or it had just found another one by itself. So while
 * something waits, the next sleeper is woken a little later (tests/model/one_sleeper.pml, ONCE).
 */
static void wake_one(struct sock *s)
{
	struct poller *p = s->channel->poller;
	bool spared = wake_readers(s, false);

	spared |= wake_one_set(s);
	if (!spared || s->spared)
		return;
	s->spared = true;
	if (!p->spared_count++)
		p->spared_at_ns = p->now_ns + SPARED_NS;
	cds_list_add_tail(&s->spared_link, &s->channel->spared);
}

void wake_no_more(struct sock *s)
{
	if (!s->spared)
		return;
	s->spared = false;
	s->channel->poller->spared_count--;
	cds_list_del(&s->spared_link);
}

int64_t spared_sleep_limit(const struct poller *p)
{
	return p->spared_count ? (int64_t)SPARED_NS : -1;
}

static void wake_spared_of(struct channel *ch)
{
	for (int i = 0; i < SPARED_A_LOOK && !cds_list_empty(&ch->spared); i++) {
		struct sock *s = cds_list_first_entry(&ch->spared, struct sock, spared_link);

		wake_no_more(s);
		if (comes_singly(s) && sock_rx_head(s) != s->rx_tail)
			wake_one(s);
	}
}

void wake_spared(struct poller *p)
{
	struct channel *ch;

	if (!p->spared_count || p->now_ns < p->spared_at_ns)
		return;
	p->spared_at_ns = p->now_ns + SPARED_NS;
	cds_list_for_each_entry(ch, &p->channels, link) wake_spared_of(ch);
}

/* --- what happened to a socket ----------------------------------------- */

void wake_quietly(struct sock *s, uint32_t events)
{
	const uint32_t always = EPOLLERR | EPOLLHUP;
	bool one = events == EPOLLIN && comes_singly(s);
	struct sub *sub;
	uint64_t bits;

	if (one)
		wake_one(s);
	else if (events & (EPOLLIN | EPOLLRDHUP | always))
		(void)wake_readers(s, true);
	if (events & (EPOLLOUT | always)) {
		bits = canal_take_bits(&s->shared->wr_waiters);
		if (bits)
			(void)wake_bits(s, bits, NULL);
	}
	cds_list_for_each_entry(sub, &s->subs, link)
	{
		if ((events & (sub->events | always)) && !(one && takes_turns(sub)))
			(void)sub_push(s->channel, sub);
	}
}

void wake_socket(struct sock *s, uint32_t events)
{
	wake_quietly(s, events);
	if (__builtin_expect(s->on_event.slot != CANAL_NONE, 0))
		ring(s, &s->on_event, events & EPOLLHUP ? RING_HUP : RING_IN);
}

/* --- subscriptions ----------------------------------------------------- */

/*
 * Whether something may have happened before the subscription that the guest,
 * which looked at the socket when it made it, did not see. Only of a fresh stream,
 * accepted or @connected when the guest looked, it is known that nothing has. A push
 * for nothing is not free: where the set is in a set, that one sees an edge.
 */
static bool has_news(const struct sock *s, bool connected)
{
	if (s->rx_tail || s->tx_head || s->rx_eof || s->broken_off)
		return true;
	if (s->was_accepted)
		return false;
	return !connected || s->type != SOCK_STREAM || s->state != CANAL_SOCK_CONNECTED ||
	       s->urgent_mark || canal_read_once(&s->shared->so_error) ||
	       canal_read_once(&s->shared->queued);
}

int sub_add(struct channel *ch, struct sock *s, uint32_t n, uint32_t set, uint32_t events,
	    bool connected)
{
	struct sub *sub;

	if (n >= ch->shape.subs || set >= ch->shape.sets)
		return RULE_BROKEN;
	sub = &ch->subs[n];
	if (sub->sock)
		sub_drop(sub);
	sub->sock = s;
	sub->set = set;
	sub->events = events;
	cds_list_add_tail(&sub->link, &s->subs);
	if (has_news(s, connected))
		sub_push(ch, sub);
	return 0;
}

void sub_drop(struct sub *sub)
{
	cds_list_del(&sub->link);
	sub->sock = NULL;
}
