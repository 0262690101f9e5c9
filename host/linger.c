/* SPDX-License-Identifier: MIT */
/*
 * SO_LINGER with a time.
 *
 * Purpose: who closes the last descriptor of such a stream waits until the peer has
 * acknowledged all of it, the end included, or the time is over. The guest asks by
 * INR_LINGER; here the kernel's socket is kept for as long, to see that.
 *
 * Invariants
 *  1. A socket is in poller.lingering from its release until its time is over or it is
 *     destroyed. Who asks about any other one is answered at once.
 *  2. One caller waits for a socket at most; it gets one answer.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: a connection that breaks off ends the wait.
 */
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "sock.h"

#define NS_PER_S 1000000000ull
/* Between looks at one that is held: the kernel tells when its state changes, so this is
 * for what it might not tell, and becomes rare. */
#define LOOK_NS 100000000ull
#define LOOK_MOST_NS (32 * LOOK_NS)

void linger_begin(struct sock *s)
{
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);

	if (!s->lingers || s->fd < 0 || s->state != CANAL_SOCK_CONNECTED ||
	    getsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, &len) || !linger.l_onoff ||
	    linger.l_linger <= 0)
		return;
	s->linger_until_ns =
		s->channel->poller->now_ns + (uint64_t)(unsigned int)linger.l_linger * NS_PER_S;
	cds_list_add_tail(&s->linger_link, &s->channel->poller->lingering);
}

/* The caller, if there is one, waits no longer. */
static void answer(struct sock *s)
{
	if (s->linger_slot)
		request_complete(s->channel, s->linger_slot - 1, 0, 0);
	s->linger_slot = 0;
}

void linger_end(struct sock *s)
{
	if (!s->linger_until_ns)
		return;
	cds_list_del(&s->linger_link);
	s->linger_until_ns = 0;
	answer(s);
}

/* Whether nothing is left that the peer could acknowledge. */
static bool acknowledged(const struct sock *s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) ||
	       (info.tcpi_state != TCP_FIN_WAIT1 && info.tcpi_state != TCP_CLOSING &&
		info.tcpi_state != TCP_LAST_ACK);
}

bool linger_hold(struct sock *s)
{
	if (!s->linger_until_ns || s->joined || s->peer_gone || s->broken_off || s->given ||
	    s->fd < 0 || s->state != CANAL_SOCK_CONNECTED || s->channel->broken ||
	    s->channel->orphan)
		return false;
	shutdown(s->fd, SHUT_WR);
	s->linger_wait_ns = LOOK_NS;
	s->linger_look_ns = s->channel->poller->now_ns + LOOK_NS;
	s->lingering = !acknowledged(s);
	return s->lingering;
}

void linger_look(struct sock *s)
{
	if (acknowledged(s))
		sock_destroy(s);
}

/* The time for the next look has come. */
static bool look_is_due(struct sock *s, uint64_t now_ns)
{
	if (now_ns < s->linger_look_ns)
		return false;
	if (s->linger_wait_ns < LOOK_MOST_NS)
		s->linger_wait_ns *= 2;
	s->linger_look_ns = now_ns + s->linger_wait_ns;
	return true;
}

void linger_tick(struct poller *p)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &p->lingering, linger_link)
	{
		/* nobody lingers for a program that ended */
		bool over = p->now_ns >= s->linger_until_ns || s->channel->orphan;

		if (over)
			linger_end(s); /* what is in TX is still sent */
		if (over && s->lingering)
			sock_destroy(s);
		else if (s->lingering && look_is_due(s, p->now_ns))
			linger_look(s);
	}
}

/* Its wait slots are others' from now on. */
void linger_drop_client(struct channel *ch, uint32_t client)
{
	struct sock *s;

	cds_list_for_each_entry(s, &ch->poller->lingering, linger_link)
	{
		if (s->channel == ch && s->linger_client == client)
			s->linger_slot = 0;
	}
}

int linger_ask(struct channel *ch, const struct canal_inr *inr)
{
	struct sock *s;

	if (inr->sock >= ch->shape.socks || inr->slot == CANAL_NONE)
		return RULE_BROKEN;
	if (!channel_has_client(ch, inr->client))
		return 0;
	s = ch->socks[inr->sock];
	if (!s || ch->generation[inr->sock] != inr->u.arg[0] || !s->linger_until_ns ||
	    s->linger_slot) {
		request_complete(ch, inr->slot, 0, 0);
		return 0;
	}
	s->linger_slot = inr->slot + 1;
	s->linger_client = inr->client;
	return 0;
}
