/* SPDX-License-Identifier: MIT */
/*
 * The handshake of common/notify.h: one sleeper, one publisher, one flag.
 *
 * Idea: memory is that of x86 (TSO). A plain store goes into the process's own
 * store buffer and reaches memory whenever the flusher likes; loads come from
 * memory; a locked instruction (xchg) and a fence wait until the buffer is
 * empty. Nobody here loads what it stored itself by a plain store, so that
 * loads need not look into the buffer.
 *
 * Property: when nothing can move any more, nobody sleeps on unseen data.
 *
 * Twins that must fail:
 *	NO_FENCE_PUBLISHER	DATA is published by a plain store
 *	NO_FENCE_SLEEPER	FLAG is raised by a plain store
 *	LOOK_FIRST		the last look comes before the flag
 */
#define ROUNDS 4

#define DATA 0
#define FLAG 1
byte mem[2];

#define SLEEPER 0
#define PUBLISHER 1
chan buffer[2] = [2] of { byte, byte };

byte wakeups;     /* bytes in the pipe */
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

/* canal_store_fence() on DATA, then canal_take(). */
proctype publisher()
{
	byte round, old;

	do
	:: round == ROUNDS -> break
	:: else ->
		round++;
#ifdef NO_FENCE_PUBLISHER
		store(PUBLISHER, DATA, round);
#else
		xchg(PUBLISHER, DATA, round, old);
#endif
		old = mem[FLAG];
		if
		:: old ->
			xchg(PUBLISHER, FLAG, 0, old);
			if
			:: old -> wakeups++
			:: else
			fi
		:: else
		fi
	od
}

/* canal_arm(), one more look, then canal_disarm() or sleep. */
proctype sleeper()
{
	byte consumed, seen, old;

	do
	:: consumed == ROUNDS -> break
	:: else ->
#ifdef LOOK_FIRST
		seen = mem[DATA];
#endif
#ifdef NO_FENCE_SLEEPER
		store(SLEEPER, FLAG, 1);
#else
		xchg(SLEEPER, FLAG, 1, old);
#endif
#ifndef LOOK_FIRST
		seen = mem[DATA];
#endif
		if
		:: seen != consumed ->
			assert(seen > consumed);
			consumed = seen;
			store(SLEEPER, FLAG, 0)
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
