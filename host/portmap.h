/* SPDX-License-Identifier: MIT */
/*
 * The port map: whose a port is, in the address spaces of all guests.
 *
 * (guest, protocol, address, port) -> the socket that has it (vCanal 3.3).
 */
#ifndef CANAL_HOST_PORTMAP_H
#define CANAL_HOST_PORTMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <urcu/call-rcu.h>
#include <urcu/rculfhash.h>

#include "wire.h"

enum port_state {
	PORT_BOUND = 0, /* a datagram socket, or one that may listen later */
	PORT_LISTENING,
	PORT_CLIENT, /* of a connection: nobody binds it meanwhile */
};

/* What somebody wants to have. */
struct port_want {
	uint32_t guest;         /* struct guest.number */
	int type;               /* SOCK_STREAM or SOCK_DGRAM */
	struct canal_addr addr; /* never IPv4-mapped */
	bool v6only;            /* of [::] only */
	bool reuseaddr, reuseport;
	enum port_state state;
	void *owner;
};

/* One that somebody has. While it is in the map only its state changes, and, in the
 * hands of the thread that changes the map, whether it is shared. */
struct port {
	struct cds_lfht_node node;
	struct rcu_head rcu;
	struct port_want want;
};

/* Main thread. 0 or -ENOMEM. */
int portmap_start(void);
/* Main thread; no other uses it any more. What is left in it is freed. */
void portmap_stop(void);
/* A thread that reads or changes the map: before the first time, after the last. */
void portmap_thread_begin(void);
void portmap_thread_end(void);

/* One thread changes the map. 0, -EADDRINUSE, -ENOBUFS (too many share it) or -ENOMEM. */
int portmap_add(struct port **ret_port, const struct port_want *want);
/* The same with the first port of [first, last] that nobody has, looked for from *cursor on;
 * @skip (or NULL) tells of ports that are not to be given. -EADDRNOTAVAIL: none. */
int portmap_add_any(struct port **ret_port, struct port_want *want, uint16_t *cursor,
		    bool (*skip)(const struct port_want *want));
void portmap_del(struct port *p);
/* 0, or -EADDRINUSE: another listens there, or stands in the way. */
int portmap_listen(struct port *p);
void portmap_unlisten(struct port *p);

/* Any thread that began, between rcu_read_lock() and rcu_read_unlock(). */
void portmap_read_lock(void);
void portmap_read_unlock(void);
/* Who gets what is sent to @to: of a stream, who listens. Where several share a
 * port (SO_REUSEPORT) @spread chooses. NULL: nobody. */
const struct port *portmap_find(uint32_t guest, int type, const struct canal_addr *to,
				uint32_t spread);
/* The same, of those that suit: -1: not this one, 0, 1: rather than others of its address. */
typedef int portmap_suits(const struct port *p, const void *arg);
const struct port *portmap_find_suiting(uint32_t guest, int type, const struct canal_addr *to,
					uint32_t spread, portmap_suits *suits, const void *arg);
/* Every entry of that port, whatever its address; false from @each ends it. */
void portmap_each_at(uint32_t guest, int type, uint16_t port,
		     bool (*each)(const struct port *p, void *arg), void *arg);
void portmap_each(bool (*each)(const struct port *p, void *arg), void *arg);

#endif
