/* SPDX-License-Identifier: MIT */
/*
 * The INR ring of common/ring.h: claim, publish, go past, read, free, take back.
 *
 * Idea: two producers, one consumer, a ring of two slots, so that it is full
 * most of the time. One of the producers may die between its claim and its
 * publication, or right after. Each step is one access to shared memory.
 *
 * Properties: every published INR is consumed exactly once, those of one producer in
 * their order, with the payload that was published; every slot that the consumer
 * looks at carries its own position; nobody is stuck (no invalid end state).
 *
 * Twins that must fail:
 *	TICKET		positions are handed out by fetch_add: behind a dead
 *			producer's ticket, published INRs are never consumed
 *	BLIND_CLAIM	the claim is a store and not a compare-and-swap: of two
 *			that claim the same slot, one is lost
 *	STALE_LOOK	the consumer takes a slot back by what it saw before it learned of
 *			the death: an INR published in between is lost
 *	LATE_FIRST	the slots gone past are looked at before the next one: who
 *			publishes in between, and then publishes that, is overtaken
 */
#define SIZE 2
#define PRODUCERS 2
#define EACH 2 /* INRs of one producer */
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
	:: n == EACH -> break
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
#ifndef TICKET
			assert(state[pos % SIZE] == STATE(pos, me, CLAIMED));
#endif
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

/* Something may be done about a late one. */
#define MOVED(n)                                                                          \
	(late_count > n && (state[late[n] % SIZE] != STATE(late[n], CLIENT(state[late[n] % SIZE]), CLAIMED) || \
			    dead[CLIENT(state[late[n] % SIZE])]))
#define LATE_MOVED (MOVED(0) || MOVED(1))

/* One INR, at position @at. */
inline consume(at)
{
	id = payload[at % SIZE];
	who = CLIENT(seen);
	d_step {
		assert(published_id[at] == id + 1);
		assert(id / EACH == who);
		assert(id + 1 > last[who]);
		last[who] = id + 1;
		published_id[at] = 0;
		id = 0;
		who = 0;
		consumed++
	};
	state[at % SIZE] = STATE(at + SIZE, 0, FREE)
}

inline forget(which)
{
	d_step {
		late_count--;
		if
		:: which < late_count -> late[which] = late[which + 1]
		:: else
		fi;
		late[late_count] = 0
	}
}

/* Reads the late ones; then done is set if there was one. */
inline read_late()
{
	done = false;
	i = 0;
	do
	:: i < late_count && !done ->
		seen = state[late[i] % SIZE];
		assert(POS(seen) == late[i]);
		if
		:: PHASE(seen) == READY ->
			consume(late[i]);
			forget(i);
			done = true
		:: else -> i++
		fi
	:: else -> break
	od;
	i = 0
}

/* Of the dead, if there are any: first it is known, then it is looked. */
inline take_back()
{
	i = 0;
	do
	:: i < late_count ->
#ifdef STALE_LOOK
		seen = state[late[i] % SIZE];
		who = CLIENT(seen);
		if
		:: PHASE(seen) == CLAIMED && dead[who] ->
			state[late[i] % SIZE] = STATE(late[i] + SIZE, 0, FREE);
			forget(i)
		:: else -> i++
		fi;
#else
		who = CLIENT(state[late[i] % SIZE]);
		if
		:: dead[who] ->
			d_step {
				done = (state[late[i] % SIZE] == STATE(late[i], who, CLAIMED));
				if
				:: done ->
					state[late[i] % SIZE] = STATE(late[i] + SIZE, 0, FREE)
				:: else
				fi
			};
			if
			:: done -> forget(i)
			:: else -> i++
			fi
		:: else -> i++
		fi;
#endif
		who = 0;
		done = false
	:: else -> break
	od;
	i = 0
}

proctype consumer()
{
	byte pos, last[PRODUCERS + 1], id, who, i, late[SIZE], late_count;
	short seen, ahead;
	bool all, done, whole;

	do
	:: true ->
		all = (finished == PRODUCERS);
		whole = (late_count && pos - late[0] == SIZE);
#ifdef LATE_FIRST
		read_late();
		ahead = state[pos % SIZE];
#else
		ahead = state[pos % SIZE];
		read_late();
#endif
		assert(whole || POS(ahead) == pos);
		if
		:: done -> done = false
		:: !done && whole ->
			/* waits until one is published, or known to be dead */
			(finished == PRODUCERS || LATE_MOVED);
			take_back()
		:: !done && !whole && PHASE(ahead) == FREE ->
			take_back();
			if
			:: all && !late_count -> break
			:: else -> (finished == PRODUCERS || LATE_MOVED || state[pos % SIZE] != ahead)
			fi
		:: !done && !whole && PHASE(ahead) == CLAIMED ->
			d_step {
				late[late_count] = pos;
				late_count++;
				pos++
			}
		:: !done && !whole && PHASE(ahead) == READY ->
			seen = ahead;
			consume(pos);
			pos++
		fi;
		seen = 0;
		ahead = 0
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
		run producer(2)
	}
}
