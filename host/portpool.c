/* SPDX-License-Identifier: MIT */
/*
 * Ports for connections that never reach the kernel.
 *
 * Purpose: a joined connection needs a port that nobody else gets. Each port of
 * the pool is held by a bound kernel socket, on all addresses of both families,
 * and used again and again, the longest unused first.
 *
 * Ownership and threads: one pool per poller, used by its thread only.
 * Failure: portpool_take() returns 0 when the kernel has no port; the caller
 * then lets the kernel connect.
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host.h"

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

/* The kernel sockets live as long as canald: closing them is the exit's work. */
uint16_t portpool_take(struct poller *p)
{
	uint16_t port = 0;

	if (p->ports_free >= PORTPOOL_REST) {
		port = p->ports[p->ports_head++ % PORTPOOL_MAX];
		p->ports_free--;
		return port;
	}
	if (p->ports_held < PORTPOOL_MAX && hold_port(&port) >= 0) {
		p->ports_held++;
		return port;
	}
	if (!p->ports_free)
		return 0;
	p->ports_free--;
	return p->ports[p->ports_head++ % PORTPOOL_MAX];
}

void portpool_give(struct poller *p, uint16_t port)
{
	p->ports[(p->ports_head + p->ports_free++) % PORTPOOL_MAX] = port;
}
