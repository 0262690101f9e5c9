/* SPDX-License-Identifier: MIT */
/*
 * The local transport's control connection: an AF_UNIX SOCK_SEQPACKET socket
 * from each guest process to canald. Each packet is one struct canal_local,
 * with at most CANAL_LOCAL_FDS descriptors beside it (SCM_RIGHTS). Who the
 * guest is comes from SO_PEERCRED, never from a packet.
 *
 * A connection begins with HELLO (a new channel) or JOIN (a forked child, into
 * its parent's channel); canald answers WELCOME or REFUSED. Of all later packets
 * only STOCK and KERNEL have an answer.
 *
 * A packet whose first byte is '{' is a question of canalctl instead: JSON, see
 * host/control.c.
 *
 * The end of the connection means that the process and all children that have
 * inherited it are gone.
 */
#ifndef CANAL_LOCAL_H
#define CANAL_LOCAL_H

#include "wire.h"

#define CANAL_LOCAL_MAGIC 0x4c43u /* "CL" */
#define CANAL_LOCAL_FDS 16
#define CANAL_LOCAL_STOCK_SLOTS 32 /* of a process; not more than bits of token */
#define CANAL_LOCAL_TEXT 200

enum canal_local_type {
	CANAL_LOCAL_HELLO = 1, /* a new channel, please */
	CANAL_LOCAL_JOIN,      /* into channel_id with the token of WELCOME. number = 1:
				  with the descriptors of WELCOME; channel_id 0: that
				  of a dummy, whose inode is token; same user only */
	CANAL_LOCAL_WELCOME,   /* descriptors: region memfd, kick eventfd */
	CANAL_LOCAL_REFUSED,   /* text says why and what to do */
	CANAL_LOCAL_WAITER,    /* number = wait slot, extra = its serial;
				  descriptor: one end of a socket pair, its
				  "bell": gets one byte when
				  the slot is to be woken */
	CANAL_LOCAL_DUMMY,     /* number = socket, extra = its generation;
				  descriptor: far end of its dummy, which the
				  guest made: carries no bytes */
	CANAL_LOCAL_STOCK,     /* near ends for dummies to come, made by canald.
				  Guest: number = how many, token = slots (bits)
				  that were lost; canald: number = how many
				  descriptors, token = their slots, ascending */
	CANAL_LOCAL_KERNEL,    /* the kernel's socket in place of a dummy. Guest: number =
				  socket, extra = its generation; canald: number = how
				  many descriptors (0 or 1), extra = why none, an errno */
};

struct canal_local {
	canal_u16 magic;   /* CANAL_LOCAL_MAGIC */
	canal_u16 type;    /* enum canal_local_type */
	canal_u32 version; /* CANAL_WIRE_VERSION */
	canal_u32 number;
	canal_u32 extra;
	canal_u64 channel_id;
	canal_u64 token;      /* WELCOME, JOIN: secret of the channel */
	canal_u64 region_len; /* WELCOME */
	canal_u32 client;     /* WELCOME: number of this process */
	canal_u32 pad;
	char text[CANAL_LOCAL_TEXT]; /* HELLO: name of the program; REFUSED */
};

CANAL_AT(sizeof(struct canal_local), 48 + CANAL_LOCAL_TEXT);

#endif
