/* SPDX-License-Identifier: MIT */
/*
 * Sockets in a guest's own address space: names, connections, listeners.
 *
 * Purpose: what sock_bind(), sock_connect() and listen_start() do for a channel
 * that has a guest. A name is an entry of the port map, never a port of the host;
 * the kernel socket, if there is one, carries bytes to the outside under a port
 * that the guest does not see. So getsockname() and getpeername() need no
 * translation: s->local and s->peer are the guest's from the start.
 *
 * Invariants
 *  1. s->port is in the port map from the first name of s until vsock_end().
 *  2. A kernel socket of such a channel is never bound by bind(), nor listens.
 *
 * Ownership and threads: the guest's poller.
 *
 * Failure: errnos as the guest's own kernel would give them: -EADDRINUSE,
 * -EADDRNOTAVAIL, -ECONNREFUSED, -ENETUNREACH, -EACCES.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "portmap.h"
#include "publish.h"
#include "vnet.h"

bool sock_flag(const struct sock *s, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return s->fd >= 0 && !getsockopt(s->fd, level, name, &value, &len) && value;
}

/* --- names --------------------------------------------------------------- */

static void want_fill(const struct sock *s, const struct canal_addr *addr, struct port_want *want)
{
	*want = (struct port_want){
		.guest = s->channel->guest->number,
		.type = s->type,
		.addr = *addr,
		.v6only = s->domain == AF_INET6 && sock_flag(s, IPPROTO_IPV6, IPV6_V6ONLY),
		.reuseaddr = sock_flag(s, SOL_SOCKET, SO_REUSEADDR),
		.reuseport = sock_flag(s, SOL_SOCKET, SO_REUSEPORT),
		.owner = (void *)(uintptr_t)s,
	};
}

/* Who binds no port shall not be published by chance. */
static bool is_published(const struct port_want *want)
{
	const struct sock *s = want->owner;

	return publish_leads_to(s->channel->guest, want->type, want->addr.port);
}

static int port_take(struct sock *s, struct port_want *want)
{
	struct guest *g = s->channel->guest;
	int r;

	if (!want->addr.port)
		return portmap_add_any(&s->port, want, &g->next_port[s->type == SOCK_DGRAM],
				       is_published);
	r = portmap_add(&s->port, want);
	if (r == -EADDRINUSE && !s->channel->orphan) {
		sock_hear_closes(s->channel->poller);
		/* of itself, perhaps: then it has had its end, and gets no name any more */
		r = s->dead || s->released ? -EBADF : portmap_add(&s->port, want);
	}
	return r;
}

static void port_drop(struct sock *s)
{
	struct port *port = s->port;
	struct guest *g = s->channel->guest;
	uint16_t number;

	if (!port)
		return;
	number = port->want.addr.port;
	s->port = NULL;
	portmap_del(port);
	publish_update(g, s->type, number);
}

/* In a virtual machine low ports are for its root, as its programs expect. */
static bool may_bind(const struct sock *s, uint16_t port)
{
	const struct channel *ch = s->channel;

	return ch->guest->transport == GUEST_LOCAL || !ch->uid || !port || ntohs(port) >= 1024;
}

int vsock_bind(struct sock *s, const struct canal_addr *a)
{
	const struct canal_addr plain = addr_plain(a);
	struct port_want want;
	int r;

	if (a->family != s->domain)
		return -EAFNOSUPPORT;
	if (s->port)
		return -EINVAL;
	if (!vnet_is_own(s->channel->guest, &plain))
		return -EADDRNOTAVAIL;
	if (!may_bind(s, a->port))
		return -EACCES;
	want_fill(s, &plain, &want);
	if (want.v6only && plain.family == AF_INET)
		return -EINVAL;
	r = port_take(s, &want);
	if (r)
		return r == -EADDRNOTAVAIL ? -EADDRINUSE : r; /* as bind() says that none is left */
	s->bound = true;
	s->local = *a;
	s->local.port = s->port->want.addr.port;
	sock_share_names(s);
	if (s->type == SOCK_DGRAM)
		publish_update(s->channel->guest, s->type, s->local.port);
	return 0;
}

/*
 * The name of who connects or sends without one. @from, its address on that way, is
 * what getsockname() then shows of a stream; a datagram socket keeps the wildcard.
 */
int vsock_name(struct sock *s, const struct canal_addr *from)
{
	struct canal_addr addr = { .family = (uint16_t)s->domain };
	struct port_want want;
	int r;

	if (s->port)
		return 0;
	if (s->type == SOCK_STREAM)
		addr = addr_plain(from);
	addr.port = 0;
	want_fill(s, &addr, &want);
	want.state = s->type == SOCK_STREAM ? PORT_CLIENT : PORT_BOUND;
	want.reuseaddr = want.reuseport = false;
	r = port_take(s, &want);
	if (r)
		return r;
	s->local = (struct canal_addr){ .family = (uint16_t)s->domain };
	s->local.port = s->port->want.addr.port;
	sock_share_names(s);
	return 0;
}

void vsock_unname(struct sock *s)
{
	memset(&s->peer, 0, sizeof(s->peer));
	if (s->bound && s->port)
		s->local = addr_as(&s->port->want.addr, s->domain);
	if (s->bound && s->port && addr_any(&s->port->want.addr))
		s->local = (struct canal_addr){ .family = (uint16_t)s->domain,
						.port = s->port->want.addr.port };
	if (!s->bound) {
		port_drop(s);
		s->local = (struct canal_addr){ .family = (uint16_t)s->domain };
	}
	sock_share_names(s);
}

/* Whether a port is shared is asked when somebody else wants it, as in Linux. */
void vsock_option(struct sock *s)
{
	if (!s->port || s->port->want.state == PORT_CLIENT)
		return;
	s->port->want.reuseaddr = sock_flag(s, SOL_SOCKET, SO_REUSEADDR);
	s->port->want.reuseport = sock_flag(s, SOL_SOCKET, SO_REUSEPORT);
}

void vsock_end(struct sock *s)
{
	port_drop(s);
	free(s->peers);
	s->peers = NULL;
}

/* --- connections --------------------------------------------------------- */

/* Both names of @s, on a way that is known. */
static int names_set(struct sock *s, const struct canal_addr *to, const struct vnet_route *route)
{
	struct canal_addr bound;
	int r = vsock_name(s, &route->from);

	if (r)
		return r;
	bound = s->port->want.addr;
	if (addr_any(&bound) || !s->bound) {
		uint16_t port = s->local.port;

		s->local = addr_as(&route->from, s->domain);
		s->local.port = port;
	} else if (addr_loopback(&bound) && route->guest != s->channel->guest) {
		return -EINVAL; /* as the kernel says of a loopback address that would leave */
	}
	s->peer = addr_any(to) || (route->guest && addr_any(&route->to))
			  ? addr_as(&route->to, s->domain)
			  : *to;
	return 0;
}

/* Who shares a port (SO_REUSEPORT) gets connections in turn. */
static uint32_t next_turn(void)
{
	static uint32_t turn; /* of the one poller that guests have */

	return turn++;
}

static int connect_inside(struct sock *s, const struct vnet_route *route)
{
	const struct port *port;
	struct sock *l;

	portmap_read_lock();
	port = portmap_find(route->guest->number, SOCK_STREAM, &route->to, next_turn());
	l = port ? port->want.owner : NULL;
	portmap_read_unlock();
	if (!l || l->state != CANAL_SOCK_LISTENING)
		return -ECONNREFUSED;
	switch_join(s, l);
	return 0;
}

/* Its kernel socket, which is made for it, out of the host. */
static int kernel_connect(struct sock *s, const struct vnet_route *route)
{
	const struct canal_addr to = addr_as(&route->to, s->domain);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&to, &ss);
	int r = sock_kernel(s);

	if (!r)
		urgent_watch(s);
	if (!r && connect(s->fd, (struct sockaddr *)&ss, len))
		r = -errno;
	return r;
}

static int connect_outside(struct sock *s, const struct vnet_route *route)
{
	int r = kernel_connect(s, route);

	if (r && r != -EINPROGRESS)
		return r;
	sock_share_names(s);
	sock_connecting(s);
	return sock_adopt_kernel(s, s->fd);
}

/* The way to @a, with the names that the socket has on it. */
static int route_find(struct sock *s, const struct canal_addr *a, struct vnet_route *ret_route)
{
	int r;

	if (a->family != s->domain)
		return -EAFNOSUPPORT;
	r = vnet_route(s->channel->guest, a, ret_route);
	return r ? r : names_set(s, a, ret_route);
}

int vsock_connect_stream(struct sock *s, const struct canal_addr *a)
{
	struct vnet_route route;
	int r = route_find(s, a, &route);

	if (r)
		return r;
	return route.guest ? connect_inside(s, &route) : connect_outside(s, &route);
}

/* A kernel socket that was connected for it, and is not any more. */
static void unlink_own(struct sock *s)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (s->own_linked)
		connect(s->fd, &none, sizeof(none));
	s->own_linked = false;
}

/* By its own kernel socket, unless it has a port of the host to send from. */
static int link_own(struct sock *s, const struct vnet_route *route)
{
	int r;

	if (route->guest || publish_way(s, &route->to, route->loopback, 0))
		return 0;
	r = kernel_connect(s, route);
	s->own_linked = !r;
	return r;
}

int vsock_connect_dgram(struct sock *s, const struct canal_addr *a)
{
	struct vnet_route route;
	int r;

	if (!a->family) {
		unlink_own(s);
		vsock_unname(s);
		return 0;
	}
	r = route_find(s, a, &route);
	if (r)
		return r;
	unlink_own(s);
	r = link_own(s, &route);
	sock_share_names(s);
	return r;
}

/* --- listeners ----------------------------------------------------------- */

int vsock_listen(struct sock *s)
{
	const struct canal_addr any = { .family = (uint16_t)s->domain };
	int r = s->port ? 0 : vsock_bind(s, &any);

	if (!r)
		r = portmap_listen(s->port);
	if (!r)
		publish_update(s->channel->guest, SOCK_STREAM, s->local.port);
	return r;
}

void vsock_unlisten(struct sock *s)
{
	if (!s->port)
		return;
	portmap_unlisten(s->port);
	publish_update(s->channel->guest, SOCK_STREAM, s->local.port);
}

struct sock *vsock_turn(struct sock *l)
{
	struct canal_addr to = l->port->want.addr;
	const struct port *port;
	struct sock *next;

	if (!l->port->want.reuseport)
		return l;
	if (addr_any(&to))
		to = vnet_own(l->channel->guest, to.family);
	to.port = l->port->want.addr.port;
	portmap_read_lock();
	port = portmap_find(l->port->want.guest, SOCK_STREAM, &to, next_turn());
	next = port ? port->want.owner : NULL;
	portmap_read_unlock();
	return next && next->state == CANAL_SOCK_LISTENING && next->domain == l->domain ? next : l;
}

/* A host that itself has that address connects from it to it. */
static bool is_host(int fd, const struct canal_addr *peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct canal_addr here;

	return !getsockname(fd, (struct sockaddr *)&ss, &len) && addr_from_sockaddr(&here, &ss) &&
	       addr_same_ip(&here, peer);
}

int vsock_accept(struct sock *l, struct canal_addr *ret_peer)
{
	struct sockaddr_storage ss;
	int fd = publish_accept(l, &ss);

	if (fd < 0)
		return fd;
	addr_from_sockaddr(ret_peer, &ss);
	if (vnet_is_forged(l->channel->guest, ret_peer) && !is_host(fd, ret_peer)) {
		l->channel->guest->denied++;
		close(fd);
		errno = ECONNABORTED;
		return -1;
	}
	vnet_seen(l->channel->guest, ret_peer);
	return fd;
}

/* The names of what came through a publish rule. */
void vsock_accepted(struct sock *s, const struct sock *l, const struct canal_addr *peer)
{
	struct canal_addr own = vnet_own(s->channel->guest, peer->family);

	if (!addr_any(&l->port->want.addr))
		own = l->port->want.addr;
	s->local = addr_as(&own, s->domain);
	s->local.port = l->local.port;
	s->peer = addr_as(peer, s->domain);
}
