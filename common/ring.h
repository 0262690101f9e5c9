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
 *	      producer's CAS     producer's CAS       consumer's store
 *
 * The claim is made in the slot and not by a ticket, so the consumer knows who has
 * it, and can free the slot of a client that died between claim and publication.
 * inr_tail is only a hint where to begin: anyone moves it on.
 *
 * Between claim and publication a producer may be stopped, or be interrupted by a
 * signal handler that waits for a request of its own. So the consumer goes past a
 * claimed slot, and looks at it again each time: an INR is there from its publication
 * on, and comes before all that was published later. Only a whole ring later, or with
 * too many such slots, does it wait; in the end it takes one back, and the producer,
 * if there still is one, claims another.
 *
 * Invariants
 *  1. The payload of a slot is written only between CLAIMED and READY, by the
 *     one that claimed.
 *  2. The consumer reads nothing but the states of the slots at its own private
 *     positions: no value of the guest moves it anywhere else.
 *  3. A slot is free again when its INR has been carried out, not before.
 *
 * Which may run together: any number of claim/publish; one consumer.
 * Failure: canal_ring_claim() returns NULL when the ring is full, and
 * canal_ring_publish() false when the slot was taken back; nothing else fails.
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
		 * pairs with canal_ring_free() */
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

/* Hands a filled slot to the consumer. False: it was taken back, so claim another one. */
static inline bool canal_ring_publish(struct canal_inr *slot, uint64_t pos, uint32_t client)
{
	/* Q1 release: payload before READY; pairs with canal_ring_read(). A full fence, which
	 * makes it a publication in the sense of notify.h. */
	return canal_cas(&slot->state, canal_inr_state(pos, client, CANAL_INR_CLAIMED),
			 canal_inr_state(pos, client, CANAL_INR_READY));
}

/* Whether the INR published at @pos has been carried out. */
static inline bool canal_ring_passed(const struct canal_inr *ring, uint32_t count, uint64_t pos)
{
	/* Q2 acquire: what the consumer did for it; pairs with canal_ring_free() */
	return canal_inr_pos(canal_load_acquire(&ring[pos & (count - 1)].state)) > pos;
}

/* --- the consumer ------------------------------------------------------ */

/* Claimed slots that it has gone past, at most. */
#define CANAL_RING_LATE 16

struct canal_ring_reader {
	uint64_t pos;  /* of the next slot */
	uint32_t busy; /* INRs that were got and are not free yet: one may have others read */
	uint32_t late_count;
	uint64_t late[CANAL_RING_LATE]; /* positions gone past, the oldest first */
};

/* What the consumer finds. */
enum canal_ring_look {
	CANAL_RING_EMPTY,
	CANAL_RING_GOT,
	CANAL_RING_LATER,   /* went past a claimed slot, now the last one of late */
	CANAL_RING_STALLED, /* can go past no more of them */
	CANAL_RING_BAD,     /* a state that no rule leads to */
};

/* The slot at @pos alone: LATER is claimed. It is read exactly once. */
static inline enum canal_ring_look canal_ring_read(const struct canal_inr *ring, uint32_t count,
						   uint64_t pos, struct canal_inr *out)
{
	const struct canal_inr *slot = &ring[pos & (count - 1)];
	/* Q1 acquire: READY before the payload; pairs with canal_ring_publish() */
	uint64_t state = canal_load_acquire(&slot->state);

	if (canal_inr_pos(state) != pos)
		return CANAL_RING_BAD;
	switch (state & CANAL_INR_PHASE) {
	case CANAL_INR_FREE:
		return CANAL_RING_EMPTY;
	case CANAL_INR_CLAIMED:
		return CANAL_RING_LATER;
	case CANAL_INR_READY:
		break;
	default:
		return CANAL_RING_BAD;
	}
	out->state = state;
	__builtin_memcpy((uint8_t *)out + sizeof(state), (const uint8_t *)slot + sizeof(state),
			 sizeof(*out) - sizeof(state));
	return CANAL_RING_GOT;
}

static inline void canal_ring_forget(struct canal_ring_reader *r, uint32_t i)
{
	r->late_count--;
	for (; i < r->late_count; i++)
		r->late[i] = r->late[i + 1];
}

/* Of the late ones; EMPTY: none is published. */
static inline enum canal_ring_look canal_ring_read_late(const struct canal_inr *ring,
							uint32_t count, struct canal_ring_reader *r,
							struct canal_inr *out)
{
	for (uint32_t i = 0; i < r->late_count; i++) {
		enum canal_ring_look look = canal_ring_read(ring, count, r->late[i], out);

		if (look == CANAL_RING_LATER)
			continue;
		if (look != CANAL_RING_GOT)
			return CANAL_RING_BAD;
		canal_ring_forget(r, i);
		r->busy++;
		return look;
	}
	return CANAL_RING_EMPTY;
}

/* A whole ring later than an INR that is still being carried out there is nothing. */
static inline bool canal_ring_is_round(const struct canal_inr *ring, uint32_t count,
				       const struct canal_ring_reader *r)
{
	uint64_t state = canal_read_once(&ring[r->pos & (count - 1)].state);

	return r->busy && (state & CANAL_INR_PHASE) == CANAL_INR_READY &&
	       canal_inr_pos(state) + count == r->pos;
}

/**
 * canal_ring_next() - copy the next INR out
 * @ring:  the slots
 * @count: how many, a power of two, from the host's private layout
 * @r:     the host's private positions
 * @out:   the INR; its state tells position and client
 *
 * The late ones are looked at behind the next one, and come before it: who published
 * that may have published one of them before. Who got one calls canal_ring_free() when
 * it has been carried out.
 *
 * Context: the poller that owns the channel.
 */
static inline enum canal_ring_look canal_ring_next(const struct canal_inr *ring, uint32_t count,
						   struct canal_ring_reader *r,
						   struct canal_inr *out)
{
	bool whole = r->late_count && r->pos - r->late[0] == count; /* its slot is the next one */
	enum canal_ring_look look = whole ? CANAL_RING_STALLED
					  : canal_ring_read(ring, count, r->pos, out);

	if (__builtin_expect(r->late_count != 0, 0)) {
		struct canal_inr late;

		switch (canal_ring_read_late(ring, count, r, &late)) {
		case CANAL_RING_EMPTY:
			break;
		case CANAL_RING_GOT:
			*out = late;
			return CANAL_RING_GOT;
		default:
			return CANAL_RING_BAD;
		}
	}
	if (look == CANAL_RING_LATER) {
		if (r->late_count == CANAL_RING_LATE)
			return CANAL_RING_STALLED;
		r->late[r->late_count++] = r->pos;
	}
	if (look == CANAL_RING_BAD && canal_ring_is_round(ring, count, r))
		return CANAL_RING_EMPTY;
	if (look == CANAL_RING_GOT || look == CANAL_RING_LATER)
		r->pos++;
	if (look == CANAL_RING_GOT)
		r->busy++;
	return look;
}

/* The slot serves the next round. */
static inline void canal_ring_free(struct canal_inr *ring, uint32_t count,
				   struct canal_ring_reader *r, uint64_t pos)
{
	r->busy--;
	/* Q2 release: our reads, and what we did, before the slot is free again;
	 * pairs with canal_ring_claim() and canal_ring_passed() */
	canal_store_release(&ring[pos & (count - 1)].state,
			    canal_inr_state(pos + count, 0, CANAL_INR_FREE));
}

/* Who has claimed the slot at @pos; CANAL_NONE when it is not in that phase. */
static inline uint32_t canal_ring_claimer(const struct canal_inr *ring, uint32_t count,
					  uint64_t pos)
{
	uint64_t state = canal_read_once(&ring[pos & (count - 1)].state);

	return (state & CANAL_INR_PHASE) == CANAL_INR_CLAIMED ? canal_inr_client(state)
							      : CANAL_NONE;
}

/**
 * canal_ring_take_back() - free a late slot that is still claimed by @client
 * @ring, @count, @r: as above
 * @i: which of r->late
 * @client: first know that it is dead, or has had its time; an INR that it
 *          published in between is not lost
 *
 * A producer that lives and is stopped right while it fills the slot may spoil the INR of
 * its next owner, in its own guest: so it has much time.
 *
 * Return: false when it is claimed no more.
 */
static inline bool canal_ring_take_back(struct canal_inr *ring, uint32_t count,
					struct canal_ring_reader *r, uint32_t i, uint32_t client)
{
	uint64_t pos = r->late[i];

	if (!canal_cas(&ring[pos & (count - 1)].state,
		       canal_inr_state(pos, client, CANAL_INR_CLAIMED),
		       canal_inr_state(pos + count, 0, CANAL_INR_FREE)))
		return false;
	canal_ring_forget(r, i);
	return true;
}

#endif
