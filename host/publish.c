/* SPDX-License-Identifier: MIT */
/*
 * Ports of the host that lead to guests.
 *
 * Purpose: a publish rule has its port of the host from the start of canald, so
 * that nobody else gets it, but listens there only while somebody in the guest
 * does: until then a client is refused, as by any closed port. A rule that names
 * no address has one socket for IPv4 and one for IPv6, so that an AF_INET
 * listener never gets a client that it could not name.
 *
 * Invariants
 *  1. p->serving if and only if p->fd listens (stream) and is watched.
 *  2. Which socket of the guest is served is looked up each time (fits()): there
 *     is no pointer from here to a struct sock.
 *
 * Ownership and threads: opened and closed by the main thread while no poller
 * runs or serves; in between the guest's poller has them.
 *
 * Failure: a port that another program has is logged with its rule, shown by
 * canalctl ports, and tried again when the guest listens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "portmap.h"
#include "publish.h"
#include "vnet.h"

/* Datagrams that came while nobody in the guest was there: at most so many. */
#define STALE_MAX 4096

/* --- sockets of the host ------------------------------------------------ */

static int set_flag(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/*
 * Bound without SO_REUSEADDR, nobody else gets the port while it does not listen.
 * Connections of a canald before us may still be in TIME-WAIT: then with it, and by
 * listening for a moment the kernel forgets that the port may be shared.
 */
static int bind_alone(int fd, const struct sockaddr *sa, socklen_t len, int type)
{
	int r = bind(fd, sa, len) < 0 ? -errno : 0;

	if (r != -EADDRINUSE || type != SOCK_STREAM)
		return r;
	r = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!r && bind(fd, sa, len) < 0)
		r = -errno;
	if (!r && listen(fd, 0) < 0)
		r = -errno;
	if (!r) {
		shutdown(fd, SHUT_RD);
		r = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	}
	return r;
}

/* A descriptor or -errno. */
static int socket_bound(const struct canal_addr *host, int type)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(host, &ss);
	int fd = socket(host->family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0)
		return -errno;
	if (host->family == AF_INET6)
		r = set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!r)
		r = bind_alone(fd, (const struct sockaddr *)&ss, len, type);
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* What helps, for who reads the log. */
static const char *remedy(int error)
{
	switch (-error) {
	case EADDRINUSE:
		return " by another program: free it, or publish another";
	case EACCES:
		return ": give canald the right to it, or publish one above 1023";
	case EADDRNOTAVAIL:
		return ": no address of this host";
	default:
		return fds_remedy(error);
	}
}

static void log_taken(const struct publish *p)
{
	char ip[INET6_ADDRSTRLEN] = "?";

	inet_ntop(p->host.family, p->host.ip, ip, sizeof(ip));
	host_log(LOG_ERR,
		 "guest=%s: publish = %s: port %u of %s cannot be had for it: %s%s; it is tried "
		 "again when something in the guest takes port %u",
		 p->guest->name, p->rule->text, ntohs(p->host.port), ip, strerror(-p->error),
		 remedy(p->error), ntohs(p->rule->guest_port));
}

/* A host without IPv6 is no fault of a rule that names no address. */
static bool no_such_family(const struct publish *p)
{
	return p->error == -EAFNOSUPPORT || (p->error == -EADDRNOTAVAIL && addr_any(&p->host));
}

/* Said once: a guest can have it tried as often as it likes. */
static void publish_bind(struct publish *p)
{
	int fd, before = p->error;

	if (p->fd >= 0)
		return;
	fd = socket_bound(&p->host, p->rule->type);
	p->fd = fd < 0 ? -1 : fd;
	p->error = fd < 0 ? fd : 0;
	if (p->error && p->error != before && !(no_such_family(p) && !p->rule->host.family))
		log_taken(p);
}

static void published(struct engine_handle *h, uint32_t events);

static struct publish *publish_new(struct publish_rule *rule, const struct canal_addr *host,
				   uint8_t number)
{
	struct publish *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->rule = rule;
	p->guest = rule->guest;
	p->host = *host;
	p->host.port = rule->host_port;
	p->number = number;
	p->fd = p->handle.fd = -1;
	p->handle.event = published;
	publish_bind(p);
	p->next = rule->open;
	rule->open = p;
	return p;
}

int publish_open(struct guest *g)
{
	static const struct canal_addr any6 = { .family = AF_INET6 }, any4 = { .family = AF_INET };
	struct publish_rule *rule;
	uint8_t number = 0;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		bool all = !rule->host.family;

		if (all && !publish_new(rule, &any6, ++number))
			return -ENOMEM;
		if (!publish_new(rule, all ? &any4 : &rule->host, ++number))
			return -ENOMEM;
	}
	return 0;
}

void publish_close(struct guest *g)
{
	struct publish_rule *rule;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		while (rule->open) {
			struct publish *p = rule->open;

			rule->open = p->next;
			if (p->fd >= 0)
				close(p->fd);
			free(p);
		}
	}
}

/* --- who is served ------------------------------------------------------ */

/* May what comes to @p be given to a socket of that name? */
static bool fits_name(const struct publish *p, const struct port_want *w)
{
	if (w->guest != p->guest->number || w->type != p->rule->type ||
	    w->addr.port != p->rule->guest_port || w->state == PORT_CLIENT ||
	    addr_loopback(&w->addr))
		return false;
	if (w->addr.family == p->host.family)
		return true;
	return w->addr.family == AF_INET6 && !w->v6only && addr_any(&w->addr);
}

static bool fits(const struct publish *p, const struct sock *s)
{
	return s->port && fits_name(p, &s->port->want);
}

struct wanting {
	const struct publish *publish;
	bool wanted;
};

static bool want_look(const struct port *port, void *arg)
{
	struct wanting *w = arg;

	w->wanted = fits_name(w->publish, &port->want) &&
		    (port->want.type == SOCK_DGRAM || port->want.state == PORT_LISTENING);
	return !w->wanted;
}

static bool wanted(const struct publish *p)
{
	struct wanting w = { .publish = p };

	portmap_read_lock();
	portmap_each_at(p->guest->number, p->rule->type, p->rule->guest_port, want_look, &w);
	portmap_read_unlock();
	return w.wanted;
}

/* What came for somebody who was here before is not for who is here now. */
static void drop_stale(const struct publish *p)
{
	char byte;

	for (int i = 0; i < STALE_MAX && recv(p->fd, &byte, 1, MSG_DONTWAIT) >= 0; i++)
		;
}

static int serve_begin(struct publish *p)
{
	struct poller *poller = p->guest->poller;

	publish_bind(p);
	if (p->fd < 0)
		return p->error;
	if (p->rule->type == SOCK_DGRAM)
		drop_stale(p);
	else if (set_flag(p->fd, SOL_SOCKET, SO_REUSEADDR, 1) || listen(p->fd, SOMAXCONN) < 0)
		return -errno;
	return poller->ops->watch(poller->engine, &p->handle, p->fd,
				  EPOLLIN | (p->rule->type == SOCK_DGRAM ? EPOLLOUT : 0));
}

/* A socket that was shut down keeps its port; what waits there is reset. */
static void serve_end(struct publish *p)
{
	struct poller *poller = p->guest->poller;

	if (p->handle.fd >= 0)
		poller->ops->unwatch(poller->engine, &p->handle);
	p->ready = false;
	if (p->rule->type != SOCK_STREAM)
		return;
	shutdown(p->fd, SHUT_RD);
	set_flag(p->fd, SOL_SOCKET, SO_REUSEADDR, 0);
}

static void tell_all(const struct publish *p, uint32_t events);

static void publish_follow(struct publish *p)
{
	bool serve = wanted(p);
	int before = p->error;

	if (serve && p->serving && p->ready) /* who was told of it may be the one who went */
		tell_all(p, EPOLLIN);
	if (serve == p->serving)
		return;
	p->serving = serve;
	if (!serve) {
		serve_end(p);
		return;
	}
	p->error = serve_begin(p);
	if (p->error) {
		p->serving = false;
		if (p->fd >= 0) {
			if (p->error != before)
				log_taken(p);
			serve_end(p);
		}
	}
}

void publish_update(struct guest *g, int type, uint16_t guest_port)
{
	struct publish_rule *rule;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		if (rule->type != type || rule->guest_port != guest_port)
			continue;
		for (struct publish *p = rule->open; p; p = p->next)
			publish_follow(p);
	}
}

bool publish_leads_to(const struct guest *g, int type, uint16_t guest_port)
{
	struct publish_rule *rule;

	cds_list_for_each_entry(rule, &g->publish,
				link) if (rule->type == type &&
					  rule->guest_port == guest_port) return true;
	return false;
}

/* --- something came ----------------------------------------------------- */

struct telling {
	const struct publish *publish;
	uint32_t events;
};

static bool tell(const struct port *port, void *arg)
{
	const struct telling *t = arg;
	struct sock *s = port->want.owner;

	if (!fits_name(t->publish, &port->want))
		return true;
	if (t->events & EPOLLIN)
		sock_mark_rx(s);
	if ((t->events & EPOLLOUT) && s->type == SOCK_DGRAM && s->tx_blocked) {
		s->tx_blocked = false;
		sock_mark_tx(s);
	}
	return true;
}

static void tell_all(const struct publish *p, uint32_t events)
{
	struct telling t = { .publish = p, .events = events };

	portmap_read_lock();
	portmap_each_at(p->guest->number, p->rule->type, p->rule->guest_port, tell, &t);
	portmap_read_unlock();
}

static void published(struct engine_handle *h, uint32_t events)
{
	struct publish *p = caa_container_of(h, struct publish, handle);

	if (events & (EPOLLIN | EPOLLERR))
		p->ready = true;
	tell_all(p, events & EPOLLERR ? events | EPOLLIN : events);
}

/* The next one of @s's guest that serves @s and has something. */
static struct publish *next_ready(const struct sock *s)
{
	const struct guest *g = s->channel->guest;
	struct publish_rule *rule;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		for (struct publish *p = rule->open; p; p = p->next)
			if (p->serving && p->ready && fits(p, s))
				return p;
	}
	return NULL;
}

int publish_accept(struct sock *listener, struct sockaddr_storage *ret_peer)
{
	struct publish *p;

	while ((p = next_ready(listener))) {
		socklen_t len = sizeof(*ret_peer);
		int fd = accept4(p->fd, (struct sockaddr *)ret_peer, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0 || errno != EAGAIN)
			return fd;
		p->ready = false;
	}
	errno = EAGAIN;
	return -1;
}

struct publish *publish_source(const struct sock *s)
{
	return next_ready(s);
}

/* --- answers ------------------------------------------------------------ */

/* Can a datagram for @to leave there? One bound to loopback reaches only that. */
static bool leads_to(const struct publish *p, const struct canal_addr *to, bool loopback)
{
	if (p->fd < 0 || !p->serving || p->host.family != to->family)
		return false;
	return addr_any(&p->host) || addr_loopback(&p->host) == loopback;
}

struct publish *publish_way(const struct sock *s, const struct canal_addr *to, bool loopback,
			    uint8_t number)
{
	const struct guest *g = s->channel->guest;
	struct publish_rule *rule;
	struct publish *first = NULL;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		for (struct publish *p = rule->open; p; p = p->next) {
			if (!fits(p, s) || !leads_to(p, to, loopback))
				continue;
			if (p->number == number)
				return p;
			first = first ? first : p;
		}
	}
	return first;
}
