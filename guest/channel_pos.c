/* SPDX-License-Identifier: MIT */
/*
 * INRs whose end somebody has to know, but nobody waits for.
 *
 * Purpose: what an UNSUBSCRIBE gives back may be used again only when the host
 * has executed it. The ring tells: the host takes INRs in order, and takes
 * one only after it has executed the one before.
 *
 * Ownership and threads: any thread, no lock.
 * Failure: -EPIPE when canald is gone.
 */
#include <errno.h>
#include <string.h>

#include "guest.h"
#include "sys.h"

#define RING_FULL_YIELDS 64
#define RING_FULL_NAP_NS 50000

int channel_post_pos(struct channel *ch, const struct canal_inr *inr, uint64_t *ret_pos)
{
	struct canal_inr *slot;
	uint64_t pos;

	for (unsigned int tries = 0;; tries++) {
		if (channel_gone(ch))
			return -EPIPE;
		slot = canal_ring_claim(ch->inr, ch->inr_count, &ch->region->inr_tail, ch->client,
					&pos);
		if (slot)
			break;
		canal_full_fence(); /* S1: the full ring before host_asleep */
		channel_kick(ch);
		if (tries < RING_FULL_YIELDS)
			sys_yield();
		else
			(void)wait_nap(RING_FULL_NAP_NS);
	}
	/* All but the state, which is the ring's. */
	memcpy((uint8_t *)slot + sizeof(slot->state), (const uint8_t *)inr + sizeof(inr->state),
	       sizeof(*inr) - sizeof(inr->state));
	slot->client = (canal_u16)ch->client;
	canal_ring_publish(slot, pos, ch->client); /* Q1 release inside */
	channel_kick(ch);
	*ret_pos = pos;
	return 0;
}

bool channel_passed(const struct channel *ch, uint64_t pos)
{
	const struct canal_inr *next = &ch->inr[(pos + 1) & (ch->inr_count - 1)];

	/* Q2 acquire: the host has done with the INR before; pairs with
	 * canal_ring_consume() */
	return canal_inr_pos(canal_load_acquire(&next->state)) > pos + 1;
}
