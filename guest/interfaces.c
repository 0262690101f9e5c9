/* SPDX-License-Identifier: MIT */
/*
 * The interfaces of a guest with addresses of its own: getifaddrs(), SIOCGIF*.
 *
 * Purpose: a program that asks for its own addresses is told those that its sockets
 * have, at an interface "canal0" that the kernel does not know, and the loopback. In
 * a virtual machine the kernel's interfaces are the guest's own, and stay; a local
 * guest does not see the host's.
 *
 * Invariants
 *  1. A list is one piece of memory and begins with its first entry: libc's
 *     freeifaddrs() is free().
 *
 * Ownership and threads: any thread; nothing is kept.
 *
 * Failure: no canald, or no addresses of its own: libc's and the kernel's answers.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "internal.h"

#define OWN_NAME "canal0"
#define OWN_FLAGS (IFF_UP | IFF_RUNNING | IFF_NOARP)
#define OWN_MTU 65535
#define OWN_COUNT 2

/* An entry with all that it points to. */
struct piece {
	struct ifaddrs ifa; /* first: see 1. */
	struct sockaddr_storage addr, mask, other;
	struct rtnl_link_stats stats;
	char name[IFNAMSIZ];
};

/* The guest's addresses; NULL: it has none of its own. */
static const struct canal_addr *own_addresses(const struct channel **ret_ch)
{
	const struct canal_addr *own;
	struct channel *ch;

	if (!libcanal_preloaded || channel_get(&ch))
		return NULL;
	own = ch->region->own;
	*ret_ch = ch;
	return own[0].family || own[1].family ? own : NULL;
}

/* --- the list ---------------------------------------------------------- */

static struct sockaddr *address_copy(struct sockaddr_storage *to, const struct sockaddr *from)
{
	size_t len = 0;

	if (!from)
		return NULL;
	if (from->sa_family == AF_INET)
		len = sizeof(struct sockaddr_in);
	else if (from->sa_family == AF_INET6)
		len = sizeof(struct sockaddr_in6);
	else if (from->sa_family == AF_PACKET)
		len = sizeof(struct sockaddr_ll);
	else
		len = sizeof(from->sa_family);
	memcpy(to, from, len);
	return (struct sockaddr *)to;
}

static void piece_copy(struct piece *p, const struct ifaddrs *from)
{
	strncpy(p->name, from->ifa_name, sizeof(p->name) - 1);
	p->ifa.ifa_name = p->name;
	p->ifa.ifa_flags = from->ifa_flags;
	p->ifa.ifa_addr = address_copy(&p->addr, from->ifa_addr);
	p->ifa.ifa_netmask = address_copy(&p->mask, from->ifa_netmask);
	p->ifa.ifa_broadaddr = address_copy(&p->other, from->ifa_broadaddr);
	if (from->ifa_data) {
		memcpy(&p->stats, from->ifa_data, sizeof(p->stats));
		p->ifa.ifa_data = &p->stats;
	}
}

static void piece_own(struct piece *p, const struct canal_addr *own)
{
	struct canal_addr mask = { .family = own->family };

	strcpy(p->name, OWN_NAME);
	p->ifa.ifa_name = p->name;
	p->ifa.ifa_flags = OWN_FLAGS;
	addr_to_sockaddr(own, &p->addr);
	p->ifa.ifa_addr = (struct sockaddr *)&p->addr;
	memset(mask.ip, 0xff, own->family == AF_INET ? 4 : 16);
	addr_to_sockaddr(&mask, &p->mask);
	p->ifa.ifa_netmask = (struct sockaddr *)&p->mask;
}

/* Or no internet address at all. */
static bool is_loopback(const struct sockaddr *sa)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

	if (sa && sa->sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return !sa || sa->sa_family != AF_INET6 || IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/* The host may have other addresses at its loopback, too. */
static bool is_seen(const struct channel *ch, const struct ifaddrs *kernel)
{
	return ch->via->apart ||
	       ((kernel->ifa_flags & IFF_LOOPBACK) && is_loopback(kernel->ifa_addr));
}

static uint32_t list_count(const struct channel *ch, const struct ifaddrs *kernel)
{
	uint32_t count = OWN_COUNT;

	for (; kernel; kernel = kernel->ifa_next)
		count += is_seen(ch, kernel);
	return count;
}

int interfaces_list(struct ifaddrs **ret_list)
{
	const struct channel *ch;
	const struct canal_addr *own = own_addresses(&ch);
	struct ifaddrs *kernel, *from;
	struct piece *list, *to;

	if (real(getifaddrs)(&kernel))
		return -errno;
	if (!own) {
		*ret_list = kernel;
		return 0;
	}
	to = list = calloc(list_count(ch, kernel), sizeof(*list));
	for (from = kernel; list && from; from = from->ifa_next)
		if (is_seen(ch, from))
			piece_copy(to++, from);
	for (uint32_t i = 0; list && i < OWN_COUNT; i++)
		if (own[i].family)
			piece_own(to++, &own[i]);
	freeifaddrs(kernel);
	if (!list)
		return -ENOMEM;
	for (struct piece *p = list; p + 1 < to; p++)
		p->ifa.ifa_next = &p[1].ifa;
	*ret_list = &list->ifa;
	return 0;
}

/* --- ioctl ------------------------------------------------------------- */

/* All IPv4 addresses. No buffer: how long it must be. */
static int config(struct ifconf *conf)
{
	struct ifaddrs *list, *at;
	int len = 0, ret = interfaces_list(&list);

	if (ret)
		return ret;
	for (at = list; at; at = at->ifa_next) {
		struct ifreq one = { .ifr_ifindex = 0 };

		if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET)
			continue;
		if (conf->ifc_buf && (size_t)conf->ifc_len < len + sizeof(one))
			break;
		strncpy(one.ifr_name, at->ifa_name, sizeof(one.ifr_name) - 1);
		memcpy(&one.ifr_addr, at->ifa_addr, sizeof(one.ifr_addr));
		if (conf->ifc_buf)
			memcpy(conf->ifc_buf + len, &one, sizeof(one));
		len += (int)sizeof(one);
	}
	conf->ifc_len = len;
	freeifaddrs(list);
	return 0;
}

static int question(const struct canal_addr *own, unsigned long request, struct ifreq *r)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	switch (request) {
	case SIOCGIFFLAGS:
		r->ifr_flags = OWN_FLAGS;
		return 0;
	case SIOCGIFMTU:
		r->ifr_mtu = OWN_MTU;
		return 0;
	case SIOCGIFMETRIC:
		r->ifr_metric = 0;
		return 0;
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
		memcpy(&in.sin_addr, own[0].ip, 4);
		break;
	case SIOCGIFNETMASK:
		in.sin_addr.s_addr = INADDR_NONE;
		break;
	case SIOCGIFBRDADDR:
		break;
	default:
		return -EINVAL;
	}
	if (!own[0].family)
		return -EADDRNOTAVAIL;
	memcpy(&r->ifr_addr, &in, sizeof(in));
	return 0;
}

/**
 * interfaces_ioctl() - SIOCGIF* of a canal socket
 *
 * Return: 0 or -errno; INTERFACES_KERNEL: the kernel's answer is right.
 */
int interfaces_ioctl(unsigned long request, void *arg)
{
	const struct channel *ch;
	const struct canal_addr *own;
	struct ifreq *r = arg;

	if ((request < SIOCGIFNAME || request > SIOCGIFHWADDR) && request != SIOCGIFINDEX)
		return INTERFACES_KERNEL;
	own = own_addresses(&ch);
	if (!own || !arg)
		return INTERFACES_KERNEL;
	if (request == SIOCGIFCONF)
		return config(arg);
	if (request != SIOCGIFNAME && !strncmp(r->ifr_name, OWN_NAME, sizeof(r->ifr_name)))
		return question(own, request, r);
	/* Others than the loopback are the host's in a local guest. */
	if (ch->via->apart || !strncmp(r->ifr_name, "lo", sizeof(r->ifr_name)))
		return INTERFACES_KERNEL;
	return -ENODEV;
}
