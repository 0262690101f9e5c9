/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: sockets on the ports that are root's.
 *
 * Purpose and rules: intercept.h. libc binds them where nobody sees it. Ports are tried
 * in libc's order.
 */
#include <netinet/in.h>

#include "intercept.h"

#define LOWEST (IPPORT_RESERVED / 2)
#define FIRST 600
#define LAST (IPPORT_RESERVED - 1)

/* From @port on, round from @last to @first. */
static int bind_between(int fd, struct sockaddr_in *name, int port, int first, int last)
{
	int ret = -1;

	for (int i = first; i <= last; i++) {
		name->sin_port = htons((uint16_t)port);
		port = port < last ? port + 1 : first;
		ret = bind(fd, (struct sockaddr *)name, sizeof(*name));
		if (ret == 0 || errno != EADDRINUSE)
			break;
	}
	return ret;
}

EXPORT int bindresvport(int fd, struct sockaddr_in *name)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	const int pid = getpid();
	int ret;

	if (!name)
		name = &any;
	if (name->sin_family != AF_INET)
		return (int)give(-EAFNOSUPPORT);
	ret = bind_between(fd, name, FIRST + pid % (LAST - FIRST + 1), FIRST, LAST);
	if (ret < 0 && errno == EADDRINUSE)
		ret = bind_between(fd, name, LOWEST + pid % (FIRST - LOWEST), LOWEST, FIRST - 1);
	return ret;
}

/* A port of @fd's at or below *@port, round from the lowest to the highest. */
static int bind_below(int fd, sa_family_t family, int *port)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} name = { .in6.sin6_family = family };
	const socklen_t len = family == AF_INET ? sizeof(name.in) : sizeof(name.in6);
	const int start = *port;

	do {
		name.in.sin_port = htons((uint16_t)*port); /* at the same place in both */
		if (bind(fd, &name.any, len) == 0)
			return fd;
		if (errno != EADDRINUSE)
			return -errno;
		*port = *port == LOWEST ? LAST : *port - 1;
	} while (*port != start);
	return -EAGAIN;
}

EXPORT int rresvport_af(int *port, sa_family_t family)
{
	int fd, ret;

	if (family != AF_INET && family != AF_INET6)
		return (int)give(-EAFNOSUPPORT);
	fd = socket(family, SOCK_STREAM, 0);
	if (fd < 0)
		return fd;
	if (*port < LOWEST)
		*port = LOWEST;
	else if (*port > LAST)
		*port = LAST;
	ret = bind_below(fd, family, port);
	if (ret < 0)
		close(fd);
	return (int)give(ret);
}

EXPORT int rresvport(int *port)
{
	return rresvport_af(port, AF_INET);
}
