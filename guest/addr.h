/* SPDX-License-Identifier: MIT */
/*
 * Addresses: struct sockaddr of the program, struct canal_addr of the wire.
 *
 * Purpose: one place that knows the lengths and families that Linux accepts.
 * On the wire an address has the family of its socket, so an IPv4 address given
 * to an AF_INET6 socket is mapped here (::ffff:a.b.c.d).
 *
 * Failure: -EINVAL for a name that is too short, -EAFNOSUPPORT for a family
 * that the socket cannot use.
 */
#ifndef CANAL_GUEST_ADDR_H
#define CANAL_GUEST_ADDR_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "wire.h"

/* What sockaddr_in6 was before it had a scope: Linux still takes it. */
#define ADDR_IN6_SHORT offsetof(struct sockaddr_in6, sin6_scope_id)

static inline bool addr_is_mapped(const struct canal_addr *a)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return a->family == AF_INET6 && !memcmp(a->ip, prefix, sizeof(prefix));
}

static inline int addr_from_in(struct canal_addr *a, const void *name, socklen_t len, int domain)
{
	struct sockaddr_in in;
	uint8_t *ip = a->ip;

	if (len < sizeof(in))
		return -EINVAL;
	memcpy(&in, name, sizeof(in));
	memset(a, 0, sizeof(*a));
	a->family = (canal_u16)domain;
	a->port = in.sin_port;
	if (domain == AF_INET6) {
		ip[10] = ip[11] = 0xff;
		ip += 12;
	}
	memcpy(ip, &in.sin_addr, 4);
	return 0;
}

static inline int addr_from_in6(struct canal_addr *a, const void *name, socklen_t len)
{
	struct sockaddr_in6 in6 = { .sin6_scope_id = 0 };

	if (len < ADDR_IN6_SHORT)
		return -EINVAL;
	memcpy(&in6, name, len < sizeof(in6) ? ADDR_IN6_SHORT : sizeof(in6));
	memset(a, 0, sizeof(*a));
	a->family = AF_INET6;
	a->port = in6.sin6_port;
	a->scope = in6.sin6_scope_id;
	memcpy(a->ip, &in6.sin6_addr, 16);
	return 0;
}

/* Family of a name of @len bytes, or -EINVAL when it is too short for one. */
static inline int addr_family(const void *name, socklen_t len)
{
	sa_family_t family;

	if (!name || len < sizeof(family))
		return -EINVAL;
	memcpy(&family, name, sizeof(family));
	return family;
}

/**
 * addr_from_sockaddr() - an address that the program gave
 * @a:      set on success
 * @name:   any alignment
 * @domain: of the socket, AF_INET or AF_INET6
 *
 * AF_UNSPEC has a meaning of its own in each call: the caller looks for it
 * before, by addr_family().
 */
static inline int addr_from_sockaddr(struct canal_addr *a, const void *name, socklen_t len,
				     int domain)
{
	int family = addr_family(name, len);

	if (family < 0)
		return family;
	if (family == AF_INET)
		return addr_from_in(a, name, len, domain);
	if (family == AF_INET6 && domain == AF_INET6)
		return addr_from_in6(a, name, len);
	return -EAFNOSUPPORT;
}

/* The same back; the length of what was stored. */
static inline socklen_t addr_to_sockaddr(const struct canal_addr *a, struct sockaddr_storage *ss)
{
	if (a->family == AF_INET6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
					    .sin6_port = a->port,
					    .sin6_scope_id = a->scope };

		memcpy(&in6.sin6_addr, a->ip, 16);
		memcpy(ss, &in6, sizeof(in6));
		return sizeof(in6);
	}
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = a->port };

	memcpy(&in.sin_addr, a->ip, 4);
	memcpy(ss, &in, sizeof(in));
	return sizeof(in);
}

/**
 * addr_give() - an address into the program's buffer, cut to what fits there
 * @len: room, then the length that the whole address has
 */
static inline void addr_give(const struct canal_addr *a, void *name, socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t whole = addr_to_sockaddr(a, &ss);

	if (*len)
		memcpy(name, &ss, *len < whole ? *len : whole);
	*len = whole;
}

#endif
