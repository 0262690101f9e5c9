/* SPDX-License-Identifier: MIT */
/*
 * Streams that were closed while bytes were still to be sent.
 *
 * Purpose: what a program sent before close() goes on to its peer, also when the
 * program has ended. A peer that takes nothing would keep such a socket, and with it
 * the memory of its program, for ever. So it is reset when nothing has moved for
 * settings.close_timeout_s, as Linux does with its orphans when its probes of a closed
 * window have gone on for that long; and at once if its guest has
 * settings.max_closing of them already (tcp_max_orphans).
 *
 * Invariants
 *  1. A socket is in poller.closing from the close of its last descriptor, if bytes are
 *     left, until it is destroyed.
 *  2. owner->count is the number of its sockets there; an owner without is freed.
 *
 * Ownership and threads: the poller that owns the channel; so the number is of a guest
 * on one poller.
 * Failure: without memory for an owner the socket is reset.
 */
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syslog.h>

#include "sock.h"

#define NS_PER_S 1000000000ull
#define LOOK_NS NS_PER_S
#define CUTS_A_LOOK 256
#define NOT_ASKED (-1)

/* A guest of the configuration, or a user of the main socket. */
struct closing_owner {
	struct cds_list_head link; /* poller.closing_owners */
	const struct guest *guest;
	uint32_t uid;
	uint32_t count;
};

static struct closing_owner *owner_of(const struct channel *ch)
{
	struct cds_list_head *owners = &ch->poller->closing_owners;
	struct closing_owner *o;

	cds_list_for_each_entry(o, owners, link)
	{
		if (o->guest == ch->guest && (ch->guest || o->uid == ch->uid))
			return o;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->guest = ch->guest;
	o->uid = ch->uid;
	cds_list_add(&o->link, owners);
	return o;
}

bool closing_begin(struct sock *s)
{
	struct poller *p = s->channel->poller;
	struct closing_owner *o;

	if (s->closing)
		return true;
	o = owner_of(s->channel);
	if (!o || o->count >= settings.max_closing) {
		host_log_limited(s->channel->name, LOG_WARNING,
				 "guest=%s socket=%u: reset: %u that it closed still have bytes "
				 "to send",
				 s->channel->name, s->number, o ? o->count : 0);
		s->cut = true;
		return false;
	}
	o->count++;
	s->closing = o;
	s->closing_since_ns = p->now_ns;
	s->closing_bytes = s->tx_bytes;
	s->closing_outq = NOT_ASKED;
	cds_list_add_tail(&s->closing_link, &p->closing);
	return true;
}

void closing_end(struct sock *s)
{
	struct closing_owner *o = s->closing;

	if (!o)
		return;
	s->closing = NULL;
	cds_list_del(&s->closing_link);
	if (--o->count)
		return;
	cds_list_del(&o->link);
	free(o);
}

/* What the kernel still has of it; of a joined one there is nothing on the way. */
static int kernel_has(const struct sock *s)
{
	int count = 0;

	if (s->fd < 0 || s->joined || s->peer_gone || ioctl(s->fd, SIOCOUTQ, &count))
		return 0;
	return count;
}

/*
 * Whether it is over. The kernel takes more only when it has got rid of much, so in the
 * second half of the time it is asked what it has.
 */
static bool stands_still(struct sock *s, uint64_t now_ns)
{
	uint64_t most = settings.close_timeout_s * NS_PER_S;
	int had = s->closing_outq;

	/* a program that waits in close() is there: SO_LINGER ends that */
	if (s->tx_bytes != s->closing_bytes || s->linger_until_ns) {
		s->closing_bytes = s->tx_bytes;
		s->closing_since_ns = now_ns;
		s->closing_outq = NOT_ASKED;
		return false;
	}
	if (now_ns - s->closing_since_ns < (had == NOT_ASKED ? most / 2 : most))
		return false;
	s->closing_outq = kernel_has(s);
	if (had == NOT_ASKED)
		return false;
	if (had == s->closing_outq)
		return true;
	s->closing_since_ns = now_ns - most / 2;
	return false;
}

void closing_tick(struct poller *p)
{
	struct sock *s, *next;
	int cuts = 0;

	if (p->now_ns < p->closing_at_ns)
		return;
	p->closing_at_ns = p->now_ns + LOOK_NS;
	cds_list_for_each_entry_safe(s, next, &p->closing, closing_link)
	{
		if (!stands_still(s, p->now_ns))
			continue;
		host_log_limited(s->channel->name, LOG_INFO,
				 "guest=%s socket=%u: reset: closed, and its peer takes nothing",
				 s->channel->name, s->number);
		s->cut = true;
		sock_destroy(s);
		if (++cuts == CUTS_A_LOOK) {
			p->closing_at_ns = p->now_ns;
			break;
		}
	}
}

int64_t closing_sleep_limit(struct poller *p)
{
	return cds_list_empty(&p->closing) ? -1 : (int64_t)LOOK_NS;
}
