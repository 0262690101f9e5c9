/* SPDX-License-Identifier: MIT */
/*
 * Ports for connections that never reach the kernel.
 *
 * Purpose: a joined connection needs a port that nobody else gets. Each port of
 * the pool is held by a bound kernel socket, on all addresses of both families,
 * and used again and again, the longest unused first.
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

#include "host.h"

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
	if (fd < 0 || getsockname(fd, &a.sa, &len))
		return fd;
	*ret_port = a.v4.sin_port; /* same place in both families */
	return fd;
}

static struct held_port next_free(struct poller *p)
{
	p->ports_free--;
	return p->ports[p->ports_head++ % PORTPOOL_MAX];
}

bool portpool_take(struct poller *p, struct held_port *ret)
{
	if (p->ports_free < PORTPOOL_REST && p->ports_held < PORTPOOL_MAX) {
		ret->fd = hold_port(&ret->port);
		if (ret->fd >= 0) {
			p->ports_held++;
			return true;
		}
	}
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
	while (p->ports_free)
		close(next_free(p).fd);
	p->ports_held = 0;
	return false;
}
