/* SPDX-License-Identifier: MIT */
/*
 * One sleeper is woken for each thing that comes (docs/wire.md, section 6).
 *
 * Idea: two threads sleep in accept() on one listener, in slots that share a bit
 * of rd_waiters; who takes a connection comes back for another one, or never. For
 * each the host wakes one of those that are armed, and puts the bit of who was
 * spared back. Who has just found a connection by himself may be the one that is
 * woken for the next: so the host looks again a while later, as long as one waits.
 * Every access that matters is a locked instruction, so memory is sequentially
 * consistent here; handshake.pml shows why they must be.
 *
 * Property: when nothing can move any more, no connection waits beside a sleeper.
 *
 * Twins that must fail:
 *	FORGET_BIT	the bit is not put back: who was spared is never looked at
 *	ONCE		the host does not look again
 */
#define CONNECTIONS 4
#define SLEEPERS 2

byte waiting;
bool bit_set;
bool armed[SLEEPERS];
byte wakeups[SLEEPERS];
bool left_waiting;

/* Wakes one of those that are armed; the others keep their bit. */
inline wake_one()
{
	d_step { taken = bit_set; bit_set = false };
	woken = false;
	spared = false;
	n = 0;
	do
	:: taken && n < SLEEPERS ->
		if
		:: woken && armed[n] -> spared = true
		:: !woken ->
			if
			:: d_step { armed[n] -> armed[n] = false }; wakeups[n]++; woken = true
			:: else
			fi
		:: else
		fi;
		n++
	:: else -> break
	od;
#ifndef FORGET_BIT
	if
	:: spared -> bit_set = true
	:: else
	fi
#endif
}

proctype host()
{
	byte came, n;
	bool taken, woken, spared;

	do
	:: came == CONNECTIONS -> break
	:: else ->
		came++;
		waiting++;
		wake_one();
#ifndef ONCE
		do
		:: spared && waiting > 0 -> wake_one()
		:: else -> break
		od
#endif
	od
}

proctype sleeper(byte me)
{
	do
	:: d_step { waiting > 0 -> waiting-- };
		if
		:: true
		:: true -> break /* it has its connection to serve */
		fi
	:: else ->
		armed[me] = true;
		bit_set = true;
		if
		:: waiting > 0 -> armed[me] = false
		:: else ->
			if
			:: wakeups[me] > 0 -> wakeups[me]--
			:: timeout -> left_waiting = waiting > 0; assert(!left_waiting); break
			fi
		fi
	od
}

init
{
	atomic {
		run host();
		run sleeper(0);
		run sleeper(1)
	}
}
