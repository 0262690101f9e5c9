/* SPDX-License-Identifier: MIT */
/*
 * Wait slots that share a bit (docs/wire.md, section 6).
 *
 * Idea: two threads wait for the same socket in the slots n and n + 64, which
 * have one bit in rd_waiters. The host publishes, takes the bit, then takes
 * `armed` of each slot behind it. Every access that matters is a locked
 * instruction, so memory is sequentially consistent here; handshake.pml shows
 * why they must be.
 *
 * Property: when nothing can move any more, nobody sleeps on unseen data.
 *
 * Twin that must fail:
 *	DISARM_BIT	who found data after all clears the shared bit: the
 *			other sleeper is then never looked at
 *	BIT_FIRST	the bit is set before `armed`: the host may take the bit,
 *			find nobody armed, and the bit is gone
 */
#define ROUNDS 3
#define SLEEPERS 2

byte data;
bool bit_set;
bool armed[SLEEPERS];
byte wakeups[SLEEPERS];
bool lost_wakeup;

proctype host()
{
	byte round, n;
	bool taken;

	do
	:: round == ROUNDS -> break
	:: else ->
		round++;
		data = round;
		d_step { taken = bit_set; bit_set = false };
		n = 0;
		do
		:: taken && n < SLEEPERS ->
			if
			:: d_step { armed[n] -> armed[n] = false }; wakeups[n]++
			:: else
			fi;
			n++
		:: else -> break
		od
	od
}

proctype sleeper(byte me)
{
	byte consumed, seen;

	do
	:: consumed == ROUNDS -> break
	:: else ->
#ifdef BIT_FIRST
		bit_set = true;
		armed[me] = true;
#else
		armed[me] = true;
		bit_set = true;
#endif
		seen = data;
		if
		:: seen != consumed ->
			consumed = seen;
			armed[me] = false;
#ifdef DISARM_BIT
			bit_set = false
#endif
		:: else ->
			if
			:: wakeups[me] > 0 -> wakeups[me]--
			:: timeout -> lost_wakeup = true; assert(!lost_wakeup); goto out
			fi
		fi
	od;
out:	skip
}

init
{
	atomic {
		run host();
		run sleeper(0);
		run sleeper(1)
	}
}
