/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The INR ring: many producers, one consumer.
 *
 * Purpose: carries INRs from all threads of a guest, and of the children that
 * it forked, to the one poller that owns the channel (vCanal 3.5).
 *
 * A slot's state holds the position it serves, the client that claimed it and
 * a phase. For position p it goes
 *
 *	FREE(p) -> CLAIMED(p, client) -> READY(p, client) -> FREE(p + size)
 *	      producer's CAS     producer's store     consumer's store
 *
 * The claim is made in the slot and not by a ticket, so the consumer knows who
 * holds up the ring, and can free the slot of a client that died between claim
 * and publication. inr_tail is only a hint where to begin: anyone moves it on.
 *
 * Invariants
 *  1. The payload of a slot is written only between CLAIMED and READY, by the
 *     one that claimed.
 *  2. The consumer reads nothing but the state of the slot at its own private
 *     position: no value of the guest moves it anywhere else.
 *
 * Which may run together: any number of claim/publish; one consume.
 * Failure: canal_ring_claim() returns NULL when the ring is full; nothing else
 * fails.
 */
#ifndef CANAL_RING_H
#define CANAL_RING_H

#include "order.h"
#include "wire.h"

static inline uint64_t canal_inr_state(uint64_t pos, uint32_t client, uint32_t phase)
{
	return pos << CANAL_INR_POS_SHIFT | (uint64_t)client << CANAL_INR_CLIENT_SHIFT | phase;
}

static inline uint64_t canal_inr_pos(uint64_t state)
{
	return state >> CANAL_INR_POS_SHIFT;
}

static inline uint32_t canal_inr_client(uint64_t state)
{
	return (state >> CANAL_INR_CLIENT_SHIFT) &
	       ((1u << (CANAL_INR_POS_SHIFT - CANAL_INR_CLIENT_SHIFT)) - 1);
}

/* Host, before the guest sees the ring: slot i waits for position i. */
static inline void canal_ring_init(struct canal_inr *ring, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ring[i].state = canal_inr_state(i, 0, CANAL_INR_FREE);
}

/**
 * canal_ring_claim() - take the next free slot
 * @ring:   the slots
 * @count:  how many, a power of two
 * @tail:   the hint, canal_region.inr_tail
 * @client: number of the calling process
 * @ret_pos: the position claimed, for canal_ring_publish()
 *
 * Context: any guest thread; lock-free.
 * Return: the slot, to be filled and published; NULL when the ring is full.
 */
static inline struct canal_inr *canal_ring_claim(struct canal_inr *ring, uint32_t count,
						 uint64_t *tail, uint32_t client, uint64_t *ret_pos)
{
	for (;;) {
		uint64_t pos = canal_read_once(tail);
		struct canal_inr *slot = &ring[pos & (count - 1)];
		/* Q2 acquire: the consumer's reads before our writes;
		 * pairs with canal_ring_consume() */
		uint64_t state = canal_load_acquire(&slot->state);

		if (canal_inr_pos(state) < pos)
			return NULL;
		if (state == canal_inr_state(pos, 0, CANAL_INR_FREE) &&
		    canal_cas(&slot->state, state,
			      canal_inr_state(pos, client, CANAL_INR_CLAIMED))) {
			(void)canal_cas(tail, pos, pos + 1);
			*ret_pos = pos;
			return slot;
		}
		/* Somebody else has it: make sure that the hint moves on. */
		if (canal_inr_pos(canal_read_once(&slot->state)) >= pos &&
		    canal_read_once(&slot->state) != canal_inr_state(pos, 0, CANAL_INR_FREE))
			(void)canal_cas(tail, pos, pos + 1);
	}
}

/* Hands a filled slot to the consumer. */
static inline void canal_ring_publish(struct canal_inr *slot, uint64_t pos, uint32_t client)
{
	/* Q1 release: payload before READY; pairs with canal_ring_consume().
	 * The fence makes it a publication in the sense of notify.h. */
	canal_store_fence(&slot->state, canal_inr_state(pos, client, CANAL_INR_READY));
}

/* What the consumer finds at its position. */
enum canal_ring_look {
	CANAL_RING_EMPTY,
	CANAL_RING_GOT,
	CANAL_RING_STALLED, /* claimed, not yet published */
	CANAL_RING_BAD,     /* a state that no rule leads to */
};

/**
 * canal_ring_consume() - copy the next INR out
 * @ring:  the slots
 * @count: how many, a power of two, from the host's private layout
 * @pos:   the host's private position; moves on when an INR was got
 * @out:   the INR; its state tells the client
 *
 * Context: the poller that owns the channel. The slot is read exactly once.
 */
static inline enum canal_ring_look canal_ring_consume(struct canal_inr *ring, uint32_t count,
						      uint64_t *pos, struct canal_inr *out)
{
	struct canal_inr *slot = &ring[*pos & (count - 1)];
	/* Q1 acquire: READY before the payload; pairs with canal_ring_publish() */
	uint64_t state = canal_load_acquire(&slot->state);

	if (canal_inr_pos(state) != *pos)
		return CANAL_RING_BAD;
	switch (state & CANAL_INR_PHASE) {
	case CANAL_INR_FREE:
		return CANAL_RING_EMPTY;
	case CANAL_INR_CLAIMED:
		return CANAL_RING_STALLED;
	case CANAL_INR_READY:
		break;
	default:
		return CANAL_RING_BAD;
	}
	out->state = state;
	__builtin_memcpy((uint8_t *)out + sizeof(state), (const uint8_t *)slot + sizeof(state),
			 sizeof(*out) - sizeof(state));
	/* Q2 release: our reads before the slot is free again */
	canal_store_release(&slot->state, canal_inr_state(*pos + count, 0, CANAL_INR_FREE));
	*pos += 1;
	return CANAL_RING_GOT;
}

/* The claimer of the slot at @pos; CANAL_NONE when it is not in that phase. */
static inline uint32_t canal_ring_staller(const struct canal_inr *ring, uint32_t count,
					  uint64_t pos)
{
	uint64_t state = canal_read_once(&ring[pos & (count - 1)].state);

	return (state & CANAL_INR_PHASE) == CANAL_INR_CLAIMED ? canal_inr_client(state)
							      : CANAL_NONE;
}

/*
 * Frees the slot of a client that died while it held it, and moves on. First
 * know that the client is dead, then look at the slot again: an INR that it
 * published in between would be lost.
 */
static inline void canal_ring_skip(struct canal_inr *ring, uint32_t count, uint64_t *pos)
{
	canal_store_release(&ring[*pos & (count - 1)].state,
			    canal_inr_state(*pos + count, 0, CANAL_INR_FREE));
	*pos += 1;
}

#endif
