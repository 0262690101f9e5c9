/* SPDX-License-Identifier: MIT */
/*
 * Guests that the configuration names, each with addresses of its own.
 *
 * Purpose: what a [guest NAME] section says, and what canald knows of that guest
 * while it runs. A channel with such a guest (channel.guest) lives in the guest's
 * own address space: host/vnet.c; one without (NULL) has the plain policy of the
 * main socket, the ports and the loopback of canald's own user.
 *
 * Invariants
 *  1. The list, and all of a guest that the configuration gives, is fixed from
 *     before the first poller starts until after the last one ended.
 *  2. All guests have the same poller: those of one virtual network are joined in
 *     memory, and the switch joins within a poller.
 *
 * Ownership and threads: the main thread makes and frees guests. The configured
 * part is read by anyone; the running part belongs to guest->poller's thread, but
 * for `channels`, which is counted atomically.
 *
 * Failure: guest_new() returns NULL without memory.
 */
#ifndef CANAL_HOST_GUEST_H
#define CANAL_HOST_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <urcu/list.h>

#include "sock.h"

#define GUEST_NAME 32 /* with its NUL */
#define GUEST_PATH 108
#define GUEST_MEMORY_PATH 256
#define GUEST_RULE_TEXT 96

enum guest_transport { GUEST_LOCAL = 0, GUEST_VM };
extern const char *const guest_transport_name[2];

struct publish; /* publish.c: what a rule holds on the host */

/* `publish = [ADDRESS:]PORT:PORT[/udp]`: a port of the host that leads to the guest. */
struct publish_rule {
	struct guest *guest;
	struct cds_list_head link;      /* guest.publish */
	int type;                       /* SOCK_STREAM or SOCK_DGRAM */
	struct canal_addr host;         /* family 0: every address of the host */
	uint16_t host_port, guest_port; /* network order */
	unsigned int line;              /* of the configuration file */
	char text[GUEST_RULE_TEXT];     /* as it was written */
	struct publish *open;           /* publish.c; at most one for each family */
};

/* `allow = ADDRESS[/BITS][:PORT]` */
struct allow_rule {
	struct cds_list_head link; /* guest.allow */
	struct canal_addr net;     /* port 0: every port */
	unsigned int bits;
};

struct guest {
	/* --- configured ------------------------------------------------- */
	char name[GUEST_NAME];
	enum guest_transport transport;
	char socket_path[GUEST_PATH];        /* local: canal's; vm: ivshmem's */
	mode_t socket_mode;                  /* 0: as the transport has it */
	char memory_path[GUEST_MEMORY_PATH]; /* vm: the file that is its RAM */
	struct canal_addr address, address6; /* family 0: none of that family */
	struct canal_addr alias, alias6;     /* reach the host's loopback; or none */
	struct cds_list_head publish;        /* struct publish_rule */
	struct cds_list_head allow;          /* struct allow_rule; empty: the default */
	uint32_t max_sockets;                /* of a channel; 0: canald's own limit */
	uint32_t max_channels;               /* of the guest; 0: canald's own limit */
	uint32_t chunks;                     /* of each direction of a channel; 0: default */
	uint32_t pins;                       /* pages that a process may pin; 0: default */
	unsigned int line;                   /* of its section */
	struct cds_list_head link;           /* guests */
	/* --- running ---------------------------------------------------- */
	uint32_t number;       /* from 1, in the order of the file */
	struct poller *poller; /* of all its channels; set by guests_start() */
	uint32_t channels;     /* alive; atomically counted */
	struct counters gone;  /* of its channels that are gone */
	uint64_t denied;       /* connections and datagrams that `allow` kept back */
	uint16_t next_port[2]; /* where to look for an ephemeral one: stream, datagram */
	int listen_fd;         /* local: its UNIX socket; -1 */
	void *vm;              /* vm: the transport's own; NULL */
};

/* In the order of the configuration file. */
extern struct cds_list_head guests;

struct guest *guest_new(const char *name);
void guest_free(struct guest *g);
void guests_free(struct cds_list_head *list);
struct guest *guest_find(struct cds_list_head *list, const char *name);

/* Main thread, pollers run, nobody is served yet: gives each guest its poller and
 * opens what it publishes. 0 or -errno, after logging. */
int guests_start(void);
/* Main thread, pollers have ended. */
void guests_stop(void);

/* A channel begins, false: it has its max_channels already; or ends, on its poller. */
bool guest_enter(struct guest *g);
void guest_leave(struct guest *g, const struct counters *count);

#endif
