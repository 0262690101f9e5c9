/* SPDX-License-Identifier: MIT */
/*
 * The address space of a guest: what its addresses mean.
 */
#ifndef CANAL_HOST_VNET_H
#define CANAL_HOST_VNET_H

#include "guest.h"

/* Where something goes that a guest sends to an address. */
struct vnet_route {
	struct guest *guest;    /* to this one, in memory; NULL: out of the host */
	struct canal_addr to;   /* the destination: the guest's, or as the host knows it */
	struct canal_addr from; /* the sender's own address there, port 0 */
	bool loopback;          /* to the host's loopback, by the alias */
};

/* 0, -ENETUNREACH: the guest has no address of that family; -EACCES: its allow
 * list does not cover it. */
int vnet_route(struct guest *g, const struct canal_addr *to, struct vnet_route *ret);
/* Is it an address that a socket of the guest may be bound to? */
bool vnet_is_own(const struct guest *g, const struct canal_addr *a);
/* What the guest sees of an address of the host's side, that something came from. */
void vnet_seen(const struct guest *g, struct canal_addr *a);
/* Whether an address from outside is one that means something else to @g: a guest, or
 * the host's loopback. Who bears it there is not to pass for those. */
bool vnet_is_forged(const struct guest *g, const struct canal_addr *from);
/* The guest's own address, for a peer of @family. */
struct canal_addr vnet_own(const struct guest *g, int family);
/* One that no machine has for itself everywhere: link-local, multicast, reserved, broadcast. */
bool vnet_is_special(const struct canal_addr *a);
/* The stand-in for the host's loopback where a guest has no alias: replies only. */
bool vnet_is_stand_in(const struct canal_addr *a);

/* An IPv4 address in the place of an IPv4-mapped one. */
struct canal_addr addr_plain(const struct canal_addr *a);
/* @a as a socket of @family sees it: mapped, or not. */
struct canal_addr addr_as(const struct canal_addr *a, int family);
bool addr_any(const struct canal_addr *a);
bool addr_loopback(const struct canal_addr *a);
bool addr_same_ip(const struct canal_addr *a, const struct canal_addr *b);
/* Are the first @bits the same? Families must be. */
bool addr_in_net(const struct canal_addr *a, const struct canal_addr *net, unsigned int bits);

#endif
