/* SPDX-License-Identifier: MIT */
/*
 * The switch: sockets of one canald joined in memory.
 *
 * Purpose: when a guest connects or sends to an address where a socket of the
 * same canald listens, bytes go from the TX of one into the RX of the other.
 * canald copies under its own bounds checks; neither guest maps the other.
 *
 * Both ends look as if loopback had carried them. The connecting end has a port
 * of its own, held by a kernel socket (portpool.c), so nobody else gets it.
 *
 * Invariants
 *  1. a->joined == b if and only if b->joined == a; both have one poller.
 *  2. A listener or datagram socket is in the table exactly while s->hashed.
 *
 * Ownership and threads: one table per poller, used by its thread only.
 * Failure: what the switch cannot join goes to the kernel.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sock.h"
#include "vnet.h"

#define SLICE (128u << 10)

/* --- the table --------------------------------------------------------- */

static struct cds_list_head *bucket(struct poller *p, int type, uint16_t port)
{
	return &p->switch_table[(port * 2654435761u >> 16 ^ (uint32_t)type) % SWITCH_BUCKETS];
}

static void table_add(struct sock *s)
{
	if (s->hashed)
		cds_list_del(&s->hash_link);
	s->hashed = true;
	cds_list_add(&s->hash_link, bucket(s->channel->poller, s->type, s->local.port));
}

static void table_del(struct sock *s)
{
	if (!s->hashed)
		return;
	s->hashed = false;
	cds_list_del(&s->hash_link);
}

/* How well a bound socket fits a destination: 0 not at all. */
static int fit(const struct sock *s, const struct canal_addr *to)
{
	if (s->local.port != to->port || s->reuseport)
		return 0;
	if (addr_same_ip(&s->local, to))
		return 3;
	if (!addr_any(&s->local) || !addr_loopback(to))
		return 0;
	if (s->local.family == to->family)
		return 2;
	return s->local.family == AF_INET6 && !s->v6only && s->type == SOCK_STREAM;
}

struct sock *switch_find(struct poller *p, int type, const struct canal_addr *to)
{
	struct sock *s, *best = NULL;
	int best_fit = 0;

	cds_list_for_each_entry(s, bucket(p, type, to->port), hash_link)
	{
		int f = s->type == type ? fit(s, to) : 0;

		if (f > best_fit) {
			best = s;
			best_fit = f;
		}
	}
	return best;
}

/* The same, unless that one gets nothing by way of canald any more. */
static struct sock *table_find(struct poller *p, int type, const struct canal_addr *to)
{
	struct sock *s = switch_find(p, type, to);

	return s && s->given ? NULL : s;
}

void switch_listen(struct sock *s)
{
	s->reuseport = sock_flag(s, SOL_SOCKET, SO_REUSEPORT);
	s->v6only = s->domain == AF_INET6 && sock_flag(s, IPPROTO_IPV6, IPV6_V6ONLY);
	table_add(s);
}

/*
 * Whether a connector waits for a listener is what pending_at says, not its
 * state, which the guest may have changed meanwhile.
 */
static void pending_join(struct sock *s, struct sock *l)
{
	s->pending_at = l;
	cds_list_add_tail(&s->pending_link, &l->pending);
}

static void pending_leave(struct sock *s)
{
	if (!s->pending_at)
		return;
	s->pending_at = NULL;
	cds_list_del(&s->pending_link);
}

void switch_unlisten(struct sock *s)
{
	struct sock *c, *next;

	table_del(s);
	cds_list_for_each_entry_safe(c, next, &s->pending, pending_link)
	{
		pending_leave(c);
		sock_connected(c, -ECONNREFUSED);
	}
}

static void port_back(struct sock *s)
{
	if (s->pool_port.fd != PORT_NONE)
		portpool_give(s->channel->poller, s->pool_port);
	s->pool_port.fd = PORT_NONE;
}

/* The listener was given away: who waits for room in its backlog waits in the kernel. */
void switch_pass_on(struct sock *l)
{
	struct sock *c, *next;

	table_del(l);
	cds_list_for_each_entry_safe(c, next, &l->pending, pending_link)
	{
		pending_leave(c);
		port_back(c); /* the kernel gives it one of its own */
		sock_connect_kernel(c);
	}
}

/* A datagram socket has a name now, or another one. */
void switch_bound(struct sock *s)
{
	if (s->protocol != IPPROTO_UDP || !s->local.port)
		return;
	s->reuseport = sock_flag(s, SOL_SOCKET, SO_REUSEPORT);
	table_add(s);
}

/* --- joining ----------------------------------------------------------- */

static bool name_client(struct sock *s, const struct canal_addr *to)
{
	if (!s->bound) {
		if (s->pool_port.fd == PORT_NONE &&
		    !portpool_take(s->channel->poller, &s->pool_port))
			return false;
		memset(&s->local, 0, sizeof(s->local));
		s->local.port = s->pool_port.port;
	}
	s->local.family = to->family;
	if (addr_any(&s->local))
		memcpy(s->local.ip, to->ip, sizeof(to->ip));
	s->peer = *to;
	return true;
}

/* The accepting end in the listener's channel. */
static struct sock *make_server(struct sock *l, const struct sock *client)
{
	uint32_t number = channel_take_number(l->channel);
	struct sock *a;

	if (number == CANAL_NONE)
		return NULL;
	a = sock_new(l->channel, number, l->domain, SOCK_STREAM);
	if (!a) {
		channel_give_number(l->channel, number);
		return NULL;
	}
	a->local = addr_as(&client->peer, l->domain);
	a->peer = addr_as(&client->local, l->domain);
	a->was_accepted = true;
	inherit_take(a, l);
	return a;
}

/* False: the listener has no room now, or no number or chunk: it is tried again. */
static bool join(struct sock *s, struct sock *l)
{
	struct sock *a;
	uint64_t room;
	bool pushed;

	if (!sock_rx_room(l, &room))
		return false;
	if (room < sizeof(struct canal_accept)) {
		if (sock_rx_park(l))
			return false;
	}
	a = sock_rx_prepare(l, sizeof(struct canal_accept)) < sizeof(struct canal_accept)
		    ? NULL
		    : make_server(l, s);
	if (!a) {
		sock_starve(l);
		return false;
	}
	a->joined = s;
	s->joined = a;
	a->shared->inward = s->shared->inward = s->channel == l->channel;
	sock_share_names(a);
	sock_share_names(s);
	sock_set_state(a, CANAL_SOCK_CONNECTED);
	s->channel->count.joined++;
	pushed = listen_push(l, a); /* it can be accepted when connect() is over */
	sock_connected(s, 0);
	if (!pushed)
		sock_destroy(a);
	return true;
}

bool switch_connect(struct sock *s, const struct canal_addr *to)
{
	struct canal_addr here = *to;
	struct sock *l;

	if (addr_any(to)) { /* to connect to any address means to this machine */
		here.ip[to->family == AF_INET ? 0 : 15] = to->family == AF_INET ? 127 : 1;
		here.ip[to->family == AF_INET ? 3 : 15] = 1;
		to = &here;
	}
	l = table_find(s->channel->poller, SOCK_STREAM, to);
	if (!l || l->state != CANAL_SOCK_LISTENING || s->domain != to->family)
		return false;
	if (!l->channel->free_count) /* no number: it waits among the kernel's */
		return false;
	if (!name_client(s, to))
		return false;
	switch_join(s, l);
	return true;
}

void switch_join(struct sock *s, struct sock *l)
{
	s->channel->poller->work++;
	if (join(s, l))
		return;
	pending_join(s, l);
	sock_share_names(s);
	sock_connecting(s);
}

/* The listener has room again. */
void switch_resume(struct sock *l)
{
	struct sock *c, *next;

	cds_list_for_each_entry_safe(c, next, &l->pending, pending_link)
	{
		pending_leave(c);
		if (!join(c, l)) {
			c->pending_at = l;
			cds_list_add(&c->pending_link, &l->pending); /* still the first */
			return;
		}
	}
}

/* --- moving bytes ------------------------------------------------------ */

void switch_copy(struct iovec *to, int to_n, struct iovec *from, int from_n)
{
	int i = 0, j = 0;

	while (i < to_n && j < from_n) {
		size_t part = to[i].iov_len < from[j].iov_len ? to[i].iov_len : from[j].iov_len;

		memcpy(to[i].iov_base, from[j].iov_base, part);
		to[i].iov_base = (uint8_t *)to[i].iov_base + part;
		from[j].iov_base = (uint8_t *)from[j].iov_base + part;
		to[i].iov_len -= part;
		from[j].iov_len -= part;
		i += !to[i].iov_len;
		j += !from[j].iov_len;
	}
}

/* @len bytes at @from of s's TX to the end of d's RX, not published. */
static bool copy_across(struct sock *s, uint64_t from, struct sock *d, uint64_t to, uint64_t len)
{
	struct iovec src[ENGINE_IOV], dst[ENGINE_IOV];
	int n = canal_fifo_pieces(s->shared->tx.chunk, &s->channel->tx, from, len, src, ENGINE_IOV);
	int m = canal_fifo_pieces(d->rx_chunk, &d->channel->rx, to, len, dst, ENGINE_IOV);

	if (n < 0) {
		channel_break(s->channel, BROKEN_TX_CHUNK);
		return false;
	}
	switch_copy(dst, m, src, n);
	return true;
}

/* What a reset is to who has heard the end before: as in the kernel's tcp_reset(). */
static int reset_error(const struct sock *s)
{
	return s->rx_eof ? -EPIPE : -ECONNRESET;
}

/* The other end is gone: what is sent now meets a reset. */
static bool send_into_void(struct sock *s, uint64_t avail)
{
	if (!avail) {
		sock_tx_quiet(s);
		return false;
	}
	sock_tx_consumed(s, avail);
	if (s->released)
		sock_drained(s);
	else
		sock_fail(s, reset_error(s), CANAL_CLOSED_RESET);
	sock_unmark_tx(s);
	return true;
}

/* Nobody will read it, or say anything more: as in the kernel, both ends are reset. */
static bool send_behind_ends(struct sock *d)
{
	switch_detach(d);
	d->peer_gone = true;
	sock_fail(d, -ECONNRESET, CANAL_CLOSED_RESET);
	return true;
}

bool switch_tx(struct sock *s, uint64_t avail)
{
	struct sock *d = s->joined;
	uint64_t room, len;

	if (!d || (s->tx_fin_sent && avail)) /* nothing follows an end */
		return send_into_void(s, avail);
	if (avail && d->rx_shut && d->tx_fin_sent && !d->released)
		return send_behind_ends(d);
	if (!avail) {
		sock_tx_quiet(s);
		return false;
	}
	s->tx_quiet = 0;
	if (!urgent_across(s, d, avail) || !sock_rx_room(d, &room))
		return false;
	if (!room) {
		if (sock_rx_park(d)) {
			s->tx_blocked = true;
			sock_unmark_tx(s);
		}
		return false;
	}
	len = avail < room ? avail : room;
	len = sock_rx_prepare(d, len < SLICE ? len : SLICE);
	if (!len) {
		s->tx_blocked = true; /* until switch_peer_room() */
		sock_unmark_tx(s);
		sock_starve(d);
	}
	if (!len || !copy_across(s, s->tx_head, d, d->rx_tail, len))
		return false;
	s->channel->poller->work++;
	sock_rx_publish(d, len);
	sock_tx_consumed(s, len);
	return true;
}

/* RX of @d has room: its other end may go on. */
void switch_peer_room(struct sock *d)
{
	struct sock *s = d->joined;

	if (s && s->tx_blocked) {
		s->tx_blocked = false;
		sock_mark_tx(s);
	}
}

static void end_of_file(struct sock *d)
{
	if (d->rx_eof || d->broken_off)
		return;
	d->rx_eof = true;
	sock_ended(d);
	sock_rx_shrink(d);
	/* R1 release: bytes before the end, with the fence of S1 */
	canal_store_fence(&d->shared->rx.closed, CANAL_CLOSED_EOF);
	wake_socket(d, EPOLLIN | EPOLLRDHUP);
	pump_rx(d);
}

void switch_fin(struct sock *s)
{
	end_of_file(s->joined);
}

/* @s goes away: its other end sees an orderly end or a reset. */
void switch_detach(struct sock *s)
{
	struct sock *d = s->joined;
	bool unread = s->rx_tail != sock_rx_head(s) || s->far_unread || s->cut;

	table_del(s);
	pending_leave(s);
	port_back(s);
	if (!d)
		return;
	s->joined = NULL;
	d->joined = NULL;
	d->shared->inward = 0;
	d->peer_gone = true;
	d->tx_blocked = false;
	if (!unread && s->released && !sock_resets(s))
		end_of_file(d);
	else if (!d->rx_eof || !d->tx_fin_sent) /* else it has ended both ways, and hears no more */
		sock_fail(d, reset_error(d), CANAL_CLOSED_RESET);
	sock_mark_tx(d);
}

/* --- datagrams --------------------------------------------------------- */

/*
 * The sender as the receiver sees it. It gets its port with the first datagram,
 * which must not go by the kernel for that: the second one would overtake it.
 */
static bool sender_name(struct sock *s, const struct canal_addr *to, struct canal_addr *from)
{
	const struct canal_addr any = { .family = (uint16_t)s->domain };

	if (!s->bound && sock_bind(s, &any))
		return false;
	if (!s->local.port)
		return false;
	*from = s->local;
	if (addr_any(from))
		memcpy(from->ip, to->ip, sizeof(from->ip));
	return true;
}

static bool hears(const struct sock *d, const struct canal_addr *from)
{
	return !d->peer.family || (d->peer.port == from->port && addr_same_ip(&d->peer, from));
}

bool switch_deliver(struct sock *s, struct sock *d, const struct canal_dgram *rec,
		    const struct canal_addr *from)
{
	struct canal_dgram out = { .len = rec->len, .addr = addr_as(from, d->domain) };
	uint64_t room, span = canal_dgram_span(rec->len);

	if (d->rx_op.under_way) /* the kernel is writing where this one would go */
		return false;
	if (!sock_rx_room(d, &room))
		return true;
	if (room < span || sock_rx_prepare(d, span) < span) {
		d->channel->count.rx_drops++;
		d->shared->rx.drops++;
		return true;
	}
	canal_fifo_poke(d->rx_chunk, &d->channel->rx, d->rx_tail, &out, sizeof(out));
	if (!copy_across(s, s->tx_head + sizeof(out), d, d->rx_tail + sizeof(out), rec->len))
		return true;
	d->channel->count.rx_dgrams++;
	s->channel->count.joined++;
	sock_rx_publish(d, span);
	return true;
}

/*
 * As the kernel chooses among sockets of one port: by address, then one that is connected
 * to the sender, then the youngest. One that is connected to somebody else is none.
 */
static struct sock *hearer_find(struct poller *p, const struct canal_addr *to,
				const struct canal_addr *from)
{
	struct sock *d, *best = NULL;
	int best_fit = 0;

	cds_list_for_each_entry(d, bucket(p, SOCK_DGRAM, to->port), hash_link)
	{
		int f = d->type == SOCK_DGRAM && hears(d, from) ? 2 * fit(d, to) : 0;

		if (f && d->peer.family)
			f++;
		if (f > best_fit) {
			best = d;
			best_fit = f;
		}
	}
	return best;
}

/* False: the kernel shall carry it. */
bool switch_dgram(struct sock *s, const struct canal_dgram *rec)
{
	const struct canal_addr *to = rec->addr.family ? &rec->addr : &s->peer;
	struct canal_addr from;
	struct sock *d;

	if (to->family != s->domain || !addr_loopback(to) || s->protocol != IPPROTO_UDP)
		return false;
	if (!table_find(s->channel->poller, SOCK_DGRAM, to) || !sender_name(s, to, &from))
		return false;
	d = hearer_find(s->channel->poller, to, &from);
	if (!d || d->given || d->released || d->hears_control || d->domain != s->domain)
		return false;
	return switch_deliver(s, d, rec, &from);
}
