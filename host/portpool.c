/* SPDX-License-Identifier: MIT */
/*
 * Ports for connections that never reach the kernel.
 *
 * Purpose: a joined connection needs a port that nobody else gets. Each port of
 * the pool is held by a bound kernel socket, on all addresses of both families,
 * and used again and again, the longest unused first.
 *
 * Descriptors are finite: beyond PORTPOOL_HELD ports the pool only makes sure
 * that a port is free at that moment, and marks it as its own. The kernel may
 * then give the same port to a socket that connects elsewhere.
 *
 * A pool whose ports have all been free for a second is given back.
 *
 * Ownership and threads: one pool per poller, used by its thread only.
 * Failure: portpool_take() returns false when the kernel has no port; the caller
 * then lets the kernel connect.
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"

#define REST_NS 1000000000ull

static int hold_port(uint16_t *ret_port)
{
	union {
		struct sockaddr_in6 v6;
		struct sockaddr_in v4;
		struct sockaddr sa;
	} a = { .v6 = { .sin6_family = AF_INET6 } };
	socklen_t len = sizeof(a.v6);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, &a.sa, len)) {
		if (fd >= 0)
			close(fd);
		memset(&a, 0, sizeof(a));
		a.v4.sin_family = AF_INET;
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && bind(fd, &a.sa, sizeof(a.v4))) {
			close(fd);
			fd = -1;
		}
	}
	len = sizeof(a);
	if (fd >= 0)
		fds_opened(fd);
	if (fd < 0 || getsockname(fd, &a.sa, &len))
		return fd;
	*ret_port = a.v4.sin_port; /* same place in both families */
	return fd;
}

static bool port_marked(const struct poller *p, uint16_t port)
{
	return p->ports_mine[port / 64] >> port % 64 & 1;
}

static void port_mark(struct poller *p, uint16_t port, bool mine)
{
	if (mine)
		p->ports_mine[port / 64] |= 1ull << port % 64;
	else
		p->ports_mine[port / 64] &= ~(1ull << port % 64);
}

/* A new port for the pool; false when there is none to be had. */
static bool new_port(struct poller *p, struct held_port *ret)
{
	for (int i = 0; i < 16; i++) {
		ret->fd = hold_port(&ret->port);
		if (ret->fd < 0)
			return false;
		if (port_marked(p, ret->port)) { /* ours, but not held */
			close(ret->fd);
			continue;
		}
		if (p->ports_held >= PORTPOOL_HELD) {
			close(ret->fd);
			ret->fd = PORT_NOT_HELD;
		}
		port_mark(p, ret->port, true);
		p->ports_held++;
		return true;
	}
	return false;
}

static struct held_port next_free(struct poller *p)
{
	p->ports_free--;
	return p->ports[p->ports_head++ % PORTPOOL_MAX];
}

bool portpool_take(struct poller *p, struct held_port *ret)
{
	if (p->ports_free < PORTPOOL_REST && p->ports_held < PORTPOOL_MAX && new_port(p, ret))
		return true;
	if (!p->ports_free)
		return false;
	*ret = next_free(p);
	return true;
}

void portpool_give(struct poller *p, struct held_port port)
{
	p->ports[(p->ports_head + p->ports_free++) % PORTPOOL_MAX] = port;
	p->ports_given_ns = p->now_ns;
}

/* True: there is a pool that may be given back in a while. */
bool portpool_trim(struct poller *p)
{
	if (!p->ports_held || p->ports_free != p->ports_held)
		return false;
	if (p->now_ns - p->ports_given_ns < REST_NS)
		return true;
	while (p->ports_free) {
		struct held_port port = next_free(p);

		port_mark(p, port.port, false);
		if (port.fd >= 0)
			close(port.fd);
	}
	p->ports_held = 0;
	return false;
}
