/* SPDX-License-Identifier: MIT */
/*
 * Ports of the host that lead to guests.
 */
#ifndef CANAL_HOST_PUBLISH_H
#define CANAL_HOST_PUBLISH_H

#include "guest.h"

#define PUBLISH_MAX 200u /* host sockets of one guest; fits a byte */

/* One socket of the host. A rule that names no address has one for each family. */
struct publish {
	struct publish *next; /* of the rule */
	struct publish_rule *rule;
	struct guest *guest;
	struct canal_addr host; /* where it is bound */
	uint8_t number;         /* in its guest, from 1 */
	int fd;                 /* -1: could not be bound, `error` says why */
	int error;
	struct engine_handle handle;
	bool serving; /* somebody in the guest listens */
	bool ready;   /* the kernel reported something to accept or receive */
};

/* Main thread: binds what the rules of @g name. A port that is taken is logged, and
 * tried again when the guest wants it. -ENOMEM. */
int publish_open(struct guest *g);
/* Main thread; pollers have ended. */
void publish_close(struct guest *g);

/* On the poller: somebody in @g began or ceased to listen at that port. */
void publish_update(struct guest *g, int type, uint16_t guest_port);
/* Does a rule of @g lead to that port? */
bool publish_leads_to(const struct guest *g, int type, uint16_t guest_port);
/* A connection for @listener: its descriptor, or -1 and errno. */
int publish_accept(struct sock *listener, struct sockaddr_storage *ret_peer);
/* A socket of the host that has datagrams for @s, or NULL. */
struct publish *publish_source(const struct sock *s);
/* Through which one @s sends to @to; @number: the one that it was heard on, or 0. */
struct publish *publish_way(const struct sock *s, const struct canal_addr *to, bool loopback,
			    uint8_t number);

#endif
