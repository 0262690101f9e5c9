/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Sleeping and waking: the one handshake of canal.
 *
 * Purpose: a side that is about to sleep must not miss what the other side
 * publishes at that moment. Every sleep in canal is this pair and no other:
 *
 *	sleeper				publisher
 *	canal_arm(flag)			publish (a release store)
 *	look once more: if there is	canal_full_fence, or the store was
 *	  something, canal_disarm	  canal_store_fence
 *	else sleep			if canal_take(flag): wake the sleeper
 *
 * The sleeper stores the flag and then loads what was published; the publisher
 * stores what it publishes and then loads the flag. With a full fence between
 * the two on both sides (S1) at least one of them sees the other.
 * tests/model/handshake.pml shows it, and shows the loss without the fence.
 *
 * The flags: canal_region.host_asleep (the poller), canal_wait.armed (a thread
 * or an epoll set), canal_fifo.idle (the host on a TX FIFO),
 * canal_fifo.want_room (the producer on a full FIFO), canal_sub.pending (the
 * guest on a subscription, inverted), and the bits of canal_sock.rd_waiters and
 * wr_waiters.
 *
 * Where the sleeper is the host and the publisher a guest's fast path, the fence
 * of the publisher may be a light one if the host's is a heavy one (S2): the
 * host arms, has membarrier(2) make every core that runs the guest pass a full
 * fence, and looks. canal_region.heavy says whether it does.
 *
 * Invariants
 *  1. Only the sleeper raises its flag; whoever lowers it with canal_take owes
 *     exactly one wake-up.
 *  2. A wake-up may come late or for nothing: a sleeper always looks again.
 *
 * Ownership and threads: any thread of either side, also in a signal handler.
 * Failure: none can fail. A side that writes nonsense into a flag sleeps too
 * long or is woken for nothing; nobody else is affected.
 */
#ifndef CANAL_NOTIFY_H
#define CANAL_NOTIFY_H

#include "order.h"

/* Sleeper: raises the flag. What it looks at next is not older than the flag. */
static inline void canal_arm(uint32_t *flag)
{
	canal_store_fence(flag, 1u); /* S1 store-load: flag before the last look */
}

/*
 * The same of a canal_wait.armed whose sleeper wants one of many things that come, such as a
 * connection: for each, one sleeper like this is enough.
 */
#define CANAL_ARMED_ONE 2u

static inline void canal_arm_one(uint32_t *flag)
{
	canal_store_fence(flag, CANAL_ARMED_ONE); /* S1 store-load: as above */
}

/* Sleeper: found something after all. A wake-up may already be on its way. */
static inline void canal_disarm(uint32_t *flag)
{
	canal_write_once(flag, 0u);
}

/* Publisher, behind a full fence: true if it must wake the sleeper. */
static inline bool canal_take(uint32_t *flag)
{
	/* S1 store-load: publication before this look; pairs with canal_arm() */
	return canal_read_once(flag) && canal_xchg(flag, 0u);
}

/*
 * The same for one of 64 sleepers that share a word. There is no way to take a
 * bit back: another sleeper may rely on the same bit. One that stays costs the
 * publisher one look in vain.
 */
static inline void canal_arm_bit(uint64_t *word, unsigned int bit)
{
	/* S1 store-load: bit before the last look */
	(void)canal_fetch_or(word, 1ull << (bit & 63));
}

/* Publisher, behind a full fence: the bits of all who must be woken. */
static inline uint64_t canal_take_bits(uint64_t *word)
{
	/* S1 store-load: publication before this look; pairs with canal_arm_bit() */
	return canal_read_once(word) ? canal_xchg(word, 0ull) : 0;
}

#endif
