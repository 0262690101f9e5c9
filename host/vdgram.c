/* SPDX-License-Identifier: MIT */
/*
 * Datagrams of sockets in a guest's own address space.
 *
 * Purpose: inside (to the guest itself, or another one) a datagram is copied from
 * FIFO to FIFO. To the outside it goes through the port of the host that a publish
 * rule gives the socket, or else through a kernel socket of its own, whose port
 * is the kernel's choice. Through that come only answers: a datagram from
 * whom the guest did not write to is dropped, as a NAT does, because nothing that
 * is not published is to be reached from outside.
 *
 * Whom it wrote to is a small table by hash: 1024 places in sets of four, the
 * newest first. Who is forgotten is as one who was never written to. It also says
 * on which published port somebody was heard, so that the answer leaves there.
 *
 * Ownership and threads: the guest's poller.
 *
 * Failure: what is not allowed, or that nobody waits for, is told to the sender by
 * its socket's error, as ICMP would.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "portmap.h"
#include "publish.h"
#include "vnet.h"

#define SETS 256u
#define WAYS 4u
#define NUMBER 0xffull /* of an entry: the published port, 0: the own socket */

struct vpeers {
	uint64_t entry[SETS][WAYS]; /* hash without its last byte, and NUMBER; 0: free */
};

/* --- whom it wrote to ---------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0xff51afd7ed558ccdull;
	return h ^ h >> 32;
}

/* Of a plain address; nobody outside knows the secret, so nobody aims at a set. */
static uint64_t peer_hash(const struct canal_addr *a)
{
	static uint64_t secret;
	uint64_t half[2] = { 0 };

	if (!secret && getrandom(&secret, sizeof(secret), 0) != sizeof(secret))
		secret = 1;
	memcpy(half, a->ip, a->family == AF_INET ? 4 : 16);
	return mix(mix(mix(secret, half[0]), half[1]), (uint64_t)a->port << 16 | a->family) |
	       (NUMBER + 1);
}

static uint64_t *peer_find(struct sock *s, uint64_t hash)
{
	uint64_t *set = s->peers ? s->peers->entry[hash >> 56] : NULL;

	for (uint32_t i = 0; set && i < WAYS; i++)
		if ((set[i] & ~NUMBER) == (hash & ~NUMBER))
			return &set[i];
	return NULL;
}

static void peer_note(struct sock *s, const struct canal_addr *a, uint8_t number)
{
	uint64_t hash = peer_hash(a), *entry = peer_find(s, hash), *set;

	if (!entry) {
		if (!s->peers)
			s->peers = calloc(1, sizeof(*s->peers));
		if (!s->peers)
			return;
		set = s->peers->entry[hash >> 56];
		memmove(set + 1, set, (WAYS - 1) * sizeof(*set));
		entry = set;
	}
	*entry = (hash & ~NUMBER) | number;
}

/* --- sending ------------------------------------------------------------- */

static bool hears(const struct sock *d, const struct canal_addr *from)
{
	struct canal_addr peer = addr_plain(&d->peer);

	return !d->peer.family || (peer.port == from->port && addr_same_ip(&peer, from));
}

/* The sender as the receiver sees it. */
static int sender_name(struct sock *s, const struct vnet_route *route, struct canal_addr *ret)
{
	int r = vsock_name(s, &route->from);

	if (r)
		return r;
	*ret = addr_plain(&s->local);
	if (addr_any(ret))
		*ret = route->from;
	else if (addr_loopback(ret) && route->guest != s->channel->guest)
		return -EINVAL;
	ret->port = s->local.port;
	return 0;
}

static enum vdgram refused(struct sock *s, const struct canal_dgram *rec)
{
	if (!rec->addr.family && !s->released)
		sock_fail(s, -ECONNREFUSED, 0);
	return VDGRAM_TAKEN;
}

static enum vdgram failed(struct sock *s, int error)
{
	if (!s->released)
		sock_fail(s, error, 0);
	return VDGRAM_TAKEN;
}

/* One that is connected to the sender has what he sends, one connected elsewhere nothing. */
static int suits(const struct port *p, const void *from)
{
	const struct sock *d = p->want.owner;

	if (!hears(d, from))
		return -1;
	return d->peer.family != 0;
}

static enum vdgram tx_inside(struct sock *s, const struct canal_dgram *rec,
			     const struct vnet_route *route)
{
	const struct port *port;
	struct canal_addr from;
	struct sock *d;
	int r = sender_name(s, route, &from);

	if (r)
		return failed(s, r);
	portmap_read_lock();
	port = portmap_find_suiting(route->guest->number, SOCK_DGRAM, &route->to,
				    (uint32_t)peer_hash(&from) >> 8, suits, &from);
	d = port ? port->want.owner : NULL;
	portmap_read_unlock();
	if (!d || d->released)
		return refused(s, rec);
	return switch_deliver(s, d, rec, &from) ? VDGRAM_TAKEN : VDGRAM_LATER;
}

static void op_set(struct sock *s, int fd, const struct canal_addr *to)
{
	memset(&s->tx_op.msg, 0, sizeof(s->tx_op.msg));
	s->tx_op.fd = fd;
	s->tx_op.msg.msg_namelen = to ? addr_to_sockaddr(to, &s->tx_name) : 0;
	s->tx_op.msg.msg_name = to ? &s->tx_name : NULL;
}

static enum vdgram tx_own(struct sock *s, const struct canal_dgram *rec,
			  const struct vnet_route *route)
{
	const struct canal_addr to = addr_as(&route->to, s->domain);
	int r = sock_kernel(s);

	if (r)
		return failed(s, r);
	peer_note(s, &route->to, 0);
	op_set(s, s->fd, s->own_linked && !rec->addr.family ? NULL : &to);
	return VDGRAM_KERNEL;
}

static enum vdgram tx_outside(struct sock *s, const struct canal_dgram *rec,
			      const struct vnet_route *route)
{
	uint64_t *known = peer_find(s, peer_hash(&route->to));
	struct publish *way =
		publish_way(s, &route->to, route->loopback, known ? (uint8_t)(*known & NUMBER) : 0);
	int r = vsock_name(s, &route->from);

	if (r)
		return failed(s, r);
	s->tx_from = way;
	if (!way)
		return tx_own(s, rec, route);
	op_set(s, way->fd, &route->to);
	return VDGRAM_KERNEL;
}

/* The stand-in means somebody of the host's loopback who was heard. */
static int route_stand_in(struct sock *s, const struct canal_addr *to, struct vnet_route *ret)
{
	static const struct canal_addr loopback4 = { .family = AF_INET, .ip = { 127, 0, 0, 1 } };
	static const struct canal_addr loopback6 = { .family = AF_INET6, .ip = { [15] = 1 } };
	const uint64_t *known;

	*ret = (struct vnet_route){ .loopback = true };
	ret->to = to->family == AF_INET ? loopback4 : loopback6;
	ret->to.port = to->port;
	ret->from = vnet_own(s->channel->guest, to->family);
	known = peer_find(s, peer_hash(&ret->to));
	return known && (*known & NUMBER) ? 0 : -EACCES;
}

enum vdgram vdgram_tx(struct sock *s, const struct canal_dgram *rec)
{
	const struct canal_addr *to = rec->addr.family ? &rec->addr : &s->peer;
	const struct canal_addr plain = addr_plain(to);
	struct vnet_route route;
	int r;

	if (to->family != s->domain)
		return failed(s, to->family ? -EAFNOSUPPORT : -EDESTADDRREQ);
	if (vnet_is_stand_in(&plain))
		r = route_stand_in(s, &plain, &route);
	else
		r = vnet_route(s->channel->guest, to, &route);
	if (r)
		return failed(s, r);
	return route.guest ? tx_inside(s, rec, &route) : tx_outside(s, rec, &route);
}

/* --- receiving ----------------------------------------------------------- */

int vdgram_source(struct sock *s)
{
	s->rx_from = publish_source(s);
	if (s->rx_from)
		return s->rx_from->fd;
	if (s->own_ready && s->fd >= 0)
		return s->fd;
	sock_unmark_rx(s);
	sock_rx_shrink(s);
	return -1;
}

void vdgram_drained(struct sock *s)
{
	if (s->rx_from)
		s->rx_from->ready = false;
	else
		s->own_ready = false;
}

bool vdgram_heard(struct sock *s, struct canal_addr *ret_from)
{
	struct canal_addr from;

	addr_from_sockaddr(&from, &s->op_name);
	from = addr_plain(&from);
	if (vnet_is_forged(s->channel->guest, &from) && !peer_find(s, peer_hash(&from))) {
		s->channel->guest->denied++;
		return false;
	}
	if (s->rx_from)
		peer_note(s, &from, s->rx_from->number);
	else if (!s->own_linked && !peer_find(s, peer_hash(&from)))
		return false;
	vnet_seen(s->channel->guest, &from);
	if (!hears(s, &from))
		return false;
	*ret_from = addr_as(&from, s->domain);
	return true;
}
