/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The mailbox: BAR2 of the ivshmem device, shared by canal.ko and canald.
 *
 * Purpose: the driver says in it which pages of its RAM are channels, which
 * processes and dummies exist, and where translation tables lie; canald answers
 * and says which wait slots it woke. Bytes of sockets never go through it.
 *
 * Requests are a ring of CANAL_MAIL_SLOTS: the driver (under its lock) fills slot
 * `tail`, then stores tail + 1 by release, then, if canal_take(&host_asleep)
 * rings the doorbell. The poller that serves the guest looks at tail in
 * each pass, copies a request out, serves it, stores `result` and then `done` =
 * position + 1 of the slot by release, moves `head`, and, for a request that is
 * waited for, interrupts with CANAL_PENDING_MAIL. The driver uses a slot again
 * when it has seen `done` of its last use.
 *
 * A new `epoch` (canald started, or threw the guest out) ends all channels: the
 * driver wakes all waiters with an error and begins again with RESET.
 *
 * Interrupts: canald sets the bit of the wait slot in canal_region.woken, then
 * that of the channel in `pending` (both by fetch_or); if `pending` had been
 * without that bit it writes the eventfd of vector 0. The handler takes both by
 * exchange. Who does not sleep is not armed, and causes none of this.
 *
 * Trust: canald believes nothing of it, as of a region. The driver believes
 * canald, which can read and write all its RAM anyway; it does not believe
 * regions, in which its programs can write.
 */
#ifndef CANAL_MAILBOX_H
#define CANAL_MAILBOX_H

#include "wire.h"

#define CANAL_MAIL_MAGIC 0x4c49414d4143ULL /* "CAMAIL" */
#define CANAL_MAIL_VERSION 1u
#define CANAL_MAIL_SLOTS 256u
#define CANAL_MAIL_LEN (64u << 10) /* of BAR2, bytes */
#define CANAL_MAIL_CHANNELS 64u    /* at most; numbers from 0 */
#define CANAL_MAIL_EXTENTS 4096u   /* of one channel, at most */

#define CANAL_PCI_VENDOR 0x1af4
#define CANAL_PCI_DEVICE 0x1110
#define CANAL_PEER_HOST 0u /* ivshmem peer numbers */
#define CANAL_PEER_GUEST 1u

enum canal_mail_op {
	CANAL_MAIL_RESET = 1, /* waited for. The driver is new: all its channels end.
				 address = guest-physical address of a page that begins
				 with arg64, a number drawn by lot (the cookie). arg =
				 pages of RAM below 4 GiB, up to 16 MiB too many; 0:
				 none lies above */
	CANAL_MAIL_OPEN,      /* waited for. channel, client 1, uid, pid, name; address =
				 a page of struct canal_extent[], count of them in arg,
				 in chains of full pages: see there. result 0 or -errno */
	CANAL_MAIL_JOIN,      /* waited for. channel, uid, pid. result: client number */
	CANAL_MAIL_HYBRID,    /* channel, client; address = root page of its table */
	CANAL_MAIL_LEAVE,     /* waited for: pages of its table may be freed after it.
				 channel, client: that process is gone */
	CANAL_MAIL_CLOSE,     /* waited for: pages may be freed after it. channel */
	CANAL_MAIL_DUMMY,     /* channel, sock, generation, client: it exists */
	CANAL_MAIL_UNDUMMY,   /* channel, sock, generation: its last descriptor closed */
	CANAL_MAIL_WAITER,    /* channel, sock = wait slot, generation = serial, client */
	CANAL_MAIL_OPS,
};

struct canal_mail {
	canal_u32 op;
	canal_u32 channel;
	canal_u32 client;
	canal_u32 sock;
	canal_u32 generation;
	canal_u32 arg;
	canal_u64 address; /* guest-physical */
	canal_u64 arg64;
	canal_u32 uid, pid;
	char name[16];
	/* written by canald */
	canal_s32 result CANAL_NEW_LINE;
	canal_u32 pad;
	canal_u64 done; /* position + 1 */
};

/*
 * A run of pages. The first page of a list holds 255 of them; its entry 255, if
 * there are more, has the guest-physical address of the next page and length 0.
 */
struct canal_extent {
	canal_u64 address; /* guest-physical, a multiple of 4096 */
	canal_u64 len;     /* bytes, a multiple of 4096 */
};

#define CANAL_EXTENTS_PAGE 255u

struct canal_mailbox {
	/* line 0, written by canald before `epoch` */
	canal_u64 magic;
	canal_u32 version;
	canal_u32 epoch;      /* changes when all channels ended; 0: canald is away */
	canal_u64 region_len; /* bytes of a channel, a multiple of 2 MiB */
	canal_u32 channels;   /* that this guest may have */
	canal_u32 pins;       /* pages that one process may pin; 0: no translation */
	canal_u32 spare[8];
	/* line 1, written by the driver */
	canal_u64 tail CANAL_NEW_LINE;
	/* line 2, written by canald */
	canal_u64 head CANAL_NEW_LINE;
	/* line 3, handshake: the poller sleeps, ring */
	canal_u32 host_asleep CANAL_NEW_LINE;
	/* line 4, written by canald: passes begun. A page that was taken out of a
	 * translation table is not used any more once this has grown by 2, or
	 * host_asleep was seen set behind a full fence. */
	canal_u64 passes CANAL_NEW_LINE;
	/* line 5, handshake: bits of channels with woken slots; */
	canal_u64 pending CANAL_NEW_LINE;
	canal_u32 pending_mail; /* a request that is waited for is done */
	struct canal_mail mail[CANAL_MAIL_SLOTS] CANAL_NEW_LINE;
};

/*
 * Hybrid address space (vCanal 3.4): a radix tree over guest-virtual addresses as
 * the processor's own, four levels of 512 entries of 8 bytes, in pages that only
 * the driver writes. An entry is 0 or the guest-physical address of the next
 * table, or, in the last level, of the page, with the bits below. canald walks it
 * anew for each pass: it keeps no translation from one pass to the next.
 *
 * Programs name their buffers by guest-virtual address (CANAL_INR_SEND_REF), so a
 * program that lies names its own memory or nothing.
 */
#define CANAL_HYBRID_VALID 1ULL
#define CANAL_HYBRID_WRITE 2ULL
#define CANAL_HYBRID_ADDRESS 0x000ffffffffff000ULL
#define CANAL_HYBRID_LEVELS 4

CANAL_AT(sizeof(struct canal_mail), 128);
CANAL_AT(sizeof(struct canal_extent), 16);
CANAL_AT(offsetof(struct canal_mailbox, tail), 64);
CANAL_AT(offsetof(struct canal_mailbox, mail), 6 * 64);
_Static_assert(sizeof(struct canal_mailbox) <= CANAL_MAIL_LEN, "the mailbox fits BAR2");

#endif
