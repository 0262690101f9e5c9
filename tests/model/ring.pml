/* SPDX-License-Identifier: MIT */
/*
 * The INR ring of common/ring.h: claim, publish, consume, skip.
 *
 * Idea: three producers, one consumer, a ring of two slots, so that it is full
 * most of the time. One of the producers may die between its claim and its
 * publication, or right after. Each step is one access to shared memory.
 *
 * Properties: every published INR is consumed exactly once, in the order of its
 * position, with the payload that was published; every slot that the consumer
 * looks at carries its own position; nobody is stuck (no invalid end state).
 *
 * Twins that must fail:
 *	TICKET		positions are handed out by fetch_add: behind a dead
 *			producer's ticket, published INRs are never consumed
 *	BLIND_CLAIM	the claim is a store and not a compare-and-swap: of two
 *			that claim the same slot, one is lost
 *	STALE_LOOK	the consumer skips by what it saw before it learned of the
 *			death: an INR published in between is lost
 */
#define SIZE 2
#define PRODUCERS 3
#define EACH 2                            /* most INRs of one producer */
#define INRS(me) ((me) == 1 -> EACH : 1) /* the others post one */
#define POSITIONS 8
#define MORTAL 1

#define FREE 0
#define CLAIMED 1
#define READY 2
#define STATE(pos, client, phase) ((pos) * 16 + (client) * 4 + (phase))
#define POS(state) ((state) / 16)
#define CLIENT(state) (((state) / 4) % 4)
#define PHASE(state) ((state) % 4)

short state[SIZE];
byte payload[SIZE];
byte tail;

/* What happened, for the properties only; the wire does not have it. */
bool dead[PRODUCERS + 1];
byte finished;
byte published_id[POSITIONS]; /* id + 1 by position */
byte published, consumed;

/* At any such point the mortal producer may be killed. */
inline may_die_here()
{
	if
	:: me == MORTAL -> goto died
	:: true
	fi
}

/* canal_cas(tail, pos, pos + 1) */
inline tail_moves_on()
{
	d_step {
		if
		:: tail == pos -> tail = pos + 1
		:: else
		fi
	}
}

proctype producer(byte me)
{
	byte n, pos;
	short seen;
	bool got;

again:	do
	:: n == INRS(me) -> break
	:: else ->
#ifdef TICKET
		d_step { pos = tail; tail++ };
		may_die_here();
		state[pos % SIZE] == STATE(pos, 0, FREE);
#else
		pos = tail;
		seen = state[pos % SIZE];
		if
		:: POS(seen) < pos ->
			/* Full: the caller tries again. */
			POS(state[pos % SIZE]) >= pos;
			goto again
		:: else
		fi;
		got = false;
		if
		:: seen == STATE(pos, 0, FREE) ->
#ifdef BLIND_CLAIM
			state[pos % SIZE] = STATE(pos, me, CLAIMED);
			got = true
#else
			d_step {
				if
				:: state[pos % SIZE] == seen ->
					state[pos % SIZE] = STATE(pos, me, CLAIMED);
					got = true
				:: else
				fi
			}
#endif
		:: else
		fi;
		if
		:: !got ->
			if
			:: POS(state[pos % SIZE]) >= pos ->
				if
				:: state[pos % SIZE] != STATE(pos, 0, FREE) ->
					tail_moves_on()
				:: else
				fi
			:: else
			fi;
			goto again
		:: else
		fi;
		may_die_here();
		tail_moves_on();
#endif
		payload[pos % SIZE] = me * EACH + n;
		may_die_here();
		d_step {
			state[pos % SIZE] = STATE(pos, me, READY);
			assert(!published_id[pos]);
			published_id[pos] = me * EACH + n + 1;
			published++
		};
		n++;
		pos = 0;
		seen = 0;
		got = false;
		may_die_here()
	od;
	finished++;
	goto out;
died:	skip;
	d_step { dead[me] = true; finished++ };
out:	skip
}

proctype consumer()
{
	byte pos, last[PRODUCERS + 1], id, who;
	short seen;
	bool all;

	do
	:: true ->
		all = (finished == PRODUCERS);
		seen = state[pos % SIZE];
		assert(POS(seen) == pos);
		if
		:: PHASE(seen) == FREE ->
			if
			:: all -> break
			:: else -> (state[pos % SIZE] != seen || finished == PRODUCERS)
			fi
		:: PHASE(seen) == CLAIMED ->
			who = CLIENT(seen);
			(dead[who] || state[pos % SIZE] != seen);
			if
			:: dead[who] ->
#ifndef STALE_LOOK
				/* Dead for good: what is there now will stay. */
				seen = state[pos % SIZE];
#endif
				if
				:: PHASE(seen) == CLAIMED ->
					state[pos % SIZE] = STATE(pos + SIZE, 0, FREE);
					pos++
				:: else
				fi
			:: else
			fi
		:: PHASE(seen) == READY ->
			id = payload[pos % SIZE];
			who = CLIENT(seen);
			d_step {
				assert(published_id[pos] == id + 1);
				assert(id / EACH == who);
				assert(id + 1 > last[who]);
				last[who] = id + 1;
				published_id[pos] = 0;
				id = 0;
				who = 0;
				consumed++
			};
			state[pos % SIZE] = STATE(pos + SIZE, 0, FREE);
			pos++
		fi
	od;
	assert(consumed == published)
}

init
{
	atomic {
		byte i;

		for (i : 0 .. SIZE - 1) {
			state[i] = STATE(i, 0, FREE)
		}
		i = 0;
		run consumer();
		run producer(1);
		run producer(2);
		run producer(3)
	}
}
