/* SPDX-License-Identifier: MIT */
/*
 * The uneven handshake (S2): a guest that publishes without a fence, and a host
 * that makes up for it with membarrier(2).
 *
 * Idea: memory is that of x86, as in handshake.pml. The publisher is publish()
 * of guest/data.h and then canal_take(): a plain store, which may stay in the
 * store buffer, and a look at the flag, in this order for the compiler only. The
 * sleeper is tx_idle() of host/fifo_host.c: it raises the flags of all FIFOs that
 * it gives up, makes one heavy fence for all of them, and looks at each again.
 * The heavy fence interrupts the publisher's core between two of its steps, and
 * what is in its store buffer reaches memory.
 *
 * Property: when nothing can move any more, nobody sleeps on unseen data.
 *
 * Twins that must fail:
 *	NO_HEAVY_FENCE	flags are raised with a fence of the host's own core only
 *	FENCE_FIRST	the heavy fence comes before the flags
 *	LOOK_FIRST	the publisher looks at the flag before it publishes: what
 *			the compiler could do without the light fence
 */
#define FIFOS 2
#define ROUNDS 2

/* Cells 0 and 1: what was published in each FIFO. 2 and 3: its flag. */
#define DATA(i) (i)
#define FLAG(i) (FIFOS + (i))
byte mem[4];

#define SLEEPER 0
#define PUBLISHER 1
chan buffer[2] = [2] of { byte, byte };

byte wakeups;     /* INR_TX, each with a kick */
bool lost_wakeup;

inline store(who, cell, value)
{
	buffer[who] ! cell, value
}

inline xchg(who, cell, value, old)
{
	d_step {
		len(buffer[who]) == 0;
		old = mem[cell];
		mem[cell] = value
	}
}

proctype flusher(byte who)
{
	byte cell, value;

end:	do
	:: d_step { buffer[who] ? cell, value -> mem[cell] = value }
	od
}

/* membarrier(2): a full fence on the caller's core, and on that of @other. */
inline heavy_fence(who, other)
{
	atomic {
		len(buffer[who]) == 0;
		do
		:: len(buffer[other]) > 0 ->
			buffer[other] ? cell, value;
			mem[cell] = value
		:: else -> break
		od;
		cell = 0;
		value = 0
	}
}

proctype publisher()
{
	byte sent[FIFOS], i, old;

	do
	:: sent[0] == ROUNDS && sent[1] == ROUNDS -> break
	:: else ->
		if
		:: sent[0] < ROUNDS -> i = 0
		:: sent[1] < ROUNDS -> i = 1
		fi;
		sent[i]++;
#ifdef LOOK_FIRST
		old = mem[FLAG(i)];
#endif
		store(PUBLISHER, DATA(i), sent[i]);
#ifndef LOOK_FIRST
		old = mem[FLAG(i)];
#endif
		if
		:: old ->
			xchg(PUBLISHER, FLAG(i), 0, old);
			if
			:: old -> wakeups++
			:: else
			fi
		:: else
		fi
	od
}

inline raise_flags()
{
	xchg(SLEEPER, FLAG(0), 1, old);
	xchg(SLEEPER, FLAG(1), 1, old)
}

/* One more look at a FIFO whose flag is up. */
inline look(i)
{
	seen = mem[DATA(i)];
	if
	:: seen != consumed[i] ->
		assert(seen > consumed[i]);
		consumed[i] = seen;
		store(SLEEPER, FLAG(i), 0);
		found = true
	:: else
	fi
}

proctype sleeper()
{
	byte consumed[FIFOS], seen, old, cell, value;
	bool found;

	do
	:: consumed[0] == ROUNDS && consumed[1] == ROUNDS -> break
	:: else ->
		found = false;
#ifdef FENCE_FIRST
		heavy_fence(SLEEPER, PUBLISHER);
#endif
		raise_flags();
#ifndef FENCE_FIRST
#ifndef NO_HEAVY_FENCE
		heavy_fence(SLEEPER, PUBLISHER);
#endif
#endif
		look(0);
		look(1);
		if
		:: found
		:: else ->
			if
			:: wakeups > 0 -> wakeups--
			:: timeout -> lost_wakeup = true; assert(!lost_wakeup); goto out
			fi
		fi
	od;
out:	skip
}

init
{
	atomic {
		run flusher(SLEEPER);
		run flusher(PUBLISHER);
		run publisher();
		run sleeper()
	}
}
