/* SPDX-License-Identifier: MIT */
/*
 * The address space of a guest: what its addresses mean.
 *
 * Purpose: says for each address that a guest names where it leads:
 *
 *	127.0.0.0/8, ::1, any address	the guest itself, in memory
 *	its own address			the guest itself, in memory
 *	the address of another guest	that guest, in memory
 *	its host-alias			the host's loopback, by the kernel
 *	all else			out of the host, by the kernel
 *
 * The last three only as far as the guest's allow list goes, if it has one; the
 * alias is allowed by being there. Without a list all is allowed but link-local
 * addresses (169.254.0.0/16 is where clouds keep credentials) and multicast:
 * those belong to the host's own links.
 *
 * The other way round, something that comes from the host's loopback is seen to
 * come from the alias, and where there is none from a stand-in: a peer at
 * 127.0.0.1 would be the guest itself, and programs trust that. Somebody outside who
 * really has such an address, or that of a guest, is not let in.
 *
 * Invariants
 *  1. No address that a guest names reaches the host's loopback but the alias.
 *  2. Addresses are compared as plain ones: ::ffff:a.b.c.d is a.b.c.d.
 *
 * Ownership and threads: any; nothing here changes.
 *
 * Failure: -ENETUNREACH where the guest has no address of that family, -EACCES
 * for what a firewall keeps back: the errno that connect(2) has for that.
 */
#include <errno.h>
#include <string.h>

#include "vnet.h"

/* "IPv4 dummy address", RFC 7600; and one of the discard prefix, RFC 6666. */
static const struct canal_addr stand_in4 = { .family = AF_INET, .ip = { 192, 0, 0, 8 } };
static const struct canal_addr stand_in6 = { .family = AF_INET6, .ip = { [0] = 1, [15] = 8 } };

static const struct canal_addr loopback4 = { .family = AF_INET, .ip = { 127, 0, 0, 1 } };
static const struct canal_addr loopback6 = { .family = AF_INET6, .ip = { [15] = 1 } };

/* --- addresses --------------------------------------------------------- */

static size_t ip_len(const struct canal_addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

bool addr_any(const struct canal_addr *a)
{
	static const uint8_t zero[16];

	return !memcmp(a->ip, zero, ip_len(a));
}

bool addr_loopback(const struct canal_addr *a)
{
	return a->family == AF_INET ? a->ip[0] == 127 : addr_same_ip(a, &loopback6);
}

bool addr_same_ip(const struct canal_addr *a, const struct canal_addr *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, ip_len(a));
}

bool addr_in_net(const struct canal_addr *a, const struct canal_addr *net, unsigned int bits)
{
	unsigned int bytes = bits / 8, rest = bits % 8;

	if (a->family != net->family || memcmp(a->ip, net->ip, bytes))
		return false;
	return !rest || !((a->ip[bytes] ^ net->ip[bytes]) >> (8 - rest));
}

struct canal_addr addr_plain(const struct canal_addr *a)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	struct canal_addr plain = { .family = AF_INET, .port = a->port };

	if (a->family != AF_INET6 || memcmp(a->ip, prefix, sizeof(prefix)))
		return *a;
	memcpy(plain.ip, a->ip + 12, 4);
	return plain;
}

struct canal_addr addr_as(const struct canal_addr *a, int family)
{
	struct canal_addr m = { .family = AF_INET6, .port = a->port };

	if (family == AF_INET) {
		const struct canal_addr none = { .family = AF_INET, .port = a->port };
		const struct canal_addr plain = addr_plain(a);

		return plain.family == AF_INET ? plain : none;
	}
	if (a->family == AF_INET6)
		return *a;
	m.ip[10] = m.ip[11] = 0xff;
	memcpy(m.ip + 12, a->ip, 4);
	return m;
}

/* --- whose an address is ----------------------------------------------- */

static bool has_address(const struct guest *g, const struct canal_addr *a)
{
	return addr_same_ip(a, &g->address) || addr_same_ip(a, &g->address6);
}

static struct guest *guest_at(const struct canal_addr *a)
{
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link) if (has_address(g, a)) return g;
	return NULL;
}

bool vnet_is_own(const struct guest *g, const struct canal_addr *a)
{
	return addr_any(a) || addr_loopback(a) || has_address(g, a);
}

struct canal_addr vnet_own(const struct guest *g, int family)
{
	bool first = family == AF_INET6 ? !g->address6.family : g->address.family;

	return first && g->address.family ? g->address : g->address6;
}

static bool is_alias(const struct guest *g, const struct canal_addr *to)
{
	return addr_same_ip(to, &g->alias) || addr_same_ip(to, &g->alias6);
}

/* --- seen from the guest ----------------------------------------------- */

bool vnet_is_stand_in(const struct canal_addr *a)
{
	return addr_same_ip(a, &stand_in4) || addr_same_ip(a, &stand_in6);
}

bool vnet_is_forged(const struct guest *g, const struct canal_addr *from)
{
	return guest_at(from) || vnet_is_stand_in(from) || is_alias(g, from);
}

void vnet_seen(const struct guest *g, struct canal_addr *a)
{
	const struct canal_addr *alias = a->family == AF_INET ? &g->alias : &g->alias6;
	uint16_t port = a->port;

	if (!addr_loopback(a))
		return;
	*a = alias->family ? *alias : a->family == AF_INET ? stand_in4 : stand_in6;
	a->port = port;
}

/* --- where it leads ---------------------------------------------------- */

static bool in_net4(const struct canal_addr *a, uint8_t first, uint8_t second, unsigned int bits)
{
	const struct canal_addr net = { .family = AF_INET, .ip = { first, second } };

	return addr_in_net(a, &net, bits);
}

static bool in_net6(const struct canal_addr *a, uint8_t first, uint8_t second, unsigned int bits)
{
	const struct canal_addr net = { .family = AF_INET6, .ip = { first, second } };

	return addr_in_net(a, &net, bits);
}

bool vnet_is_special(const struct canal_addr *a)
{
	return in_net4(a, 0, 0, 8) || in_net4(a, 169, 254, 16) || in_net4(a, 224, 0, 3) ||
	       in_net6(a, 0xfe, 0x80, 10) || in_net6(a, 0xff, 0, 8);
}

static bool allowed(struct guest *g, const struct canal_addr *to)
{
	struct allow_rule *rule;

	if (cds_list_empty(&g->allow))
		return !vnet_is_special(to);
	cds_list_for_each_entry(rule, &g->allow, link)
	{
		if ((!rule->net.port || rule->net.port == to->port) &&
		    addr_in_net(to, &rule->net, rule->bits))
			return true;
	}
	return false;
}

static void with_port(struct canal_addr *a, uint16_t port)
{
	a->port = port;
}

/* To the guest itself; as the kernel does it, 127.0.0.1 is the sender there. */
static void route_self(struct guest *g, const struct canal_addr *to, struct vnet_route *ret)
{
	ret->guest = g;
	ret->to = *to;
	if (addr_any(to))
		ret->to = to->family == AF_INET ? loopback4 : loopback6;
	ret->from = ret->to;
	if (addr_loopback(&ret->to))
		ret->from = to->family == AF_INET ? loopback4 : loopback6;
	with_port(&ret->to, to->port);
	with_port(&ret->from, 0);
}

static int route_away(struct guest *g, const struct canal_addr *to, struct vnet_route *ret)
{
	ret->from = to->family == AF_INET ? g->address : g->address6;
	if (!ret->from.family)
		return -ENETUNREACH;
	ret->to = *to;
	ret->loopback = is_alias(g, to);
	if (ret->loopback) {
		ret->to = to->family == AF_INET ? loopback4 : loopback6;
		with_port(&ret->to, to->port);
		return 0;
	}
	if (!allowed(g, to)) {
		g->denied++;
		return -EACCES;
	}
	ret->guest = guest_at(to);
	return 0;
}

int vnet_route(struct guest *g, const struct canal_addr *address, struct vnet_route *ret)
{
	const struct canal_addr to = addr_plain(address);

	*ret = (struct vnet_route){ .guest = NULL };
	if (vnet_is_own(g, &to)) {
		route_self(g, &to, ret);
		return 0;
	}
	return route_away(g, &to, ret);
}
