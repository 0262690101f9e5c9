/* SPDX-License-Identifier: MIT */
/*
 * Internet endpoints: the wire's and the kernel's.
 *
 * Ownership and threads: any thread.
 *
 * Failure: a family that is neither AF_INET nor AF_INET6 gives 0 or false.
 */
#include <string.h>

#include "sock.h"

/* Returns the length of the address, 0 for a family that there is not. */
socklen_t addr_to_sockaddr(const struct canal_addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)ss;

	memset(ss, 0, sizeof(*ss));
	if (a->family == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = a->port;
		memcpy(&in->sin_addr, a->ip, sizeof(in->sin_addr));
		return sizeof(*in);
	}
	if (a->family == AF_INET6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = a->port;
		in6->sin6_scope_id = a->scope;
		memcpy(&in6->sin6_addr, a->ip, sizeof(in6->sin6_addr));
		return sizeof(*in6);
	}
	return 0;
}

/* False (and family 0) for a family that the wire does not have. */
bool addr_from_sockaddr(struct canal_addr *a, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)ss;
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)ss;

	memset(a, 0, sizeof(*a));
	if (ss->ss_family == AF_INET) {
		a->port = in->sin_port;
		memcpy(a->ip, &in->sin_addr, sizeof(in->sin_addr));
	} else if (ss->ss_family == AF_INET6) {
		a->port = in6->sin6_port;
		a->scope = in6->sin6_scope_id;
		memcpy(a->ip, &in6->sin6_addr, sizeof(in6->sin6_addr));
	} else {
		return false;
	}
	a->family = ss->ss_family;
	return true;
}
