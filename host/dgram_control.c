/* SPDX-License-Identifier: MIT */
/*
 * Control messages of datagrams: what the guest sends along, and what it asked
 * to be told with each datagram.
 *
 * Purpose: the kernel makes and reads them; canald carries them behind the
 * payload of a record (docs/wire.md, section 5). A datagram that has some, or
 * whose receiver wants some, never goes by the switch.
 *
 * Invariants
 *  1. Of what a guest sends, only messages that concern that datagram alone
 *     reach the kernel.
 *  2. A guest in an address space of its own sends and hears none: they name
 *     addresses and interfaces of the host.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -EINVAL for a message that is not allowed; the datagram is dropped.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sock.h"

bool dgram_control_have(struct sock *s)
{
	if (!s->control)
		s->control = calloc(1, sizeof(*s->control));
	return s->control;
}

bool dgram_control_option(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_TIMESTAMP || name == SO_TIMESTAMPNS || name == SO_RXQ_OVFL;
	if (level == IPPROTO_UDP)
		return name == UDP_GRO;
	if (level == IPPROTO_IP)
		return name == IP_PKTINFO || name == IP_RECVTOS || name == IP_RECVTTL ||
		       name == IP_RECVORIGDSTADDR;
	return level == IPPROTO_IPV6 &&
	       (name == IPV6_RECVPKTINFO || name == IPV6_RECVTCLASS || name == IPV6_RECVHOPLIMIT);
}

static bool may_send(const struct cmsghdr *c)
{
	switch (c->cmsg_level) {
	case IPPROTO_UDP:
		return c->cmsg_type == UDP_SEGMENT;
	case IPPROTO_IP:
		return c->cmsg_type == IP_TOS || c->cmsg_type == IP_TTL ||
		       c->cmsg_type == IP_PKTINFO;
	case IPPROTO_IPV6:
		return c->cmsg_type == IPV6_PKTINFO || c->cmsg_type == IPV6_HOPLIMIT ||
		       c->cmsg_type == IPV6_TCLASS || c->cmsg_type == IPV6_DONTFRAG;
	default:
		return false;
	}
}

int dgram_control_tx(struct sock *s, const struct canal_dgram *rec)
{
	uint32_t len = CANAL_DGRAM_CONTROL(rec->flags);
	struct msghdr *m = &s->tx_op.msg;

	m->msg_control = NULL;
	m->msg_controllen = 0;
	if (!len || s->channel->guest)
		return 0;
	if (!dgram_control_have(s))
		return -ENOMEM;
	if (canal_fifo_peek(s->shared->tx.chunk, &s->channel->tx,
			    s->tx_head + canal_dgram_span(rec->len), s->control->tx, len))
		return -EINVAL;
	m->msg_control = s->control->tx;
	m->msg_controllen = len;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (!may_send(c))
			return -EINVAL;
	return 0;
}
