/* SPDX-License-Identifier: MIT */
/*
 * RX changes hands (H1): the host becomes the consumer of a FIFO that a guest
 * consumes, without the guest's help.
 *
 * Idea: memory is that of x86, as in uneven.pml, from which the heavy fence is. The
 * guest is recv_ready() of guest/stream.c where lock_enter() takes the lock with a
 * plain store: lock, look at the state, consume, publish head, unlock. The host is
 * announce(), at_rx() and take_over() of host/pump.c: it stores the state, makes a
 * heavy fence, waits until nobody holds the lock, and goes on at the guest's head.
 *
 * Property: no byte is consumed twice, and the host goes on where the guest ended.
 *
 * Twins that must fail:
 *	NO_HEAVY_FENCE	the state is stored with a fence of the host's own core only
 *	LOCK_FIRST	the host looks at the lock before it stores the state
 *	STATE_FIRST	the guest looks at the state before it takes the lock
 */
#define BYTES 3

#define LOCK 0
#define STATE 1 /* 1: handed over */
#define HEAD 2
byte mem[3];

#define HOST 0
#define GUEST 1
chan buffer[2] = [3] of { byte, byte };

byte consumed[BYTES];

inline store(who, cell, value)
{
	buffer[who] ! cell, value
}

proctype flusher(byte who)
{
	byte cell, value;

end:	do
	:: d_step { buffer[who] ? cell, value -> mem[cell] = value }
	od
}

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

inline consume(i)
{
	consumed[i]++;
	assert(consumed[i] == 1)
}

proctype guest()
{
	byte head, state;

	do
	:: head == BYTES -> break
	:: else ->
#ifdef STATE_FIRST
		state = mem[STATE];
		store(GUEST, LOCK, 1);
#else
		store(GUEST, LOCK, 1);
		state = mem[STATE];
#endif
		if
		:: state == 0 ->
			consume(head);
			head++;
			store(GUEST, HEAD, head)
		:: else
		fi;
		store(GUEST, LOCK, 0);
		if
		:: state == 1 -> break
		:: else
		fi
	od
}

proctype host()
{
	byte head, cell, value;

#ifdef LOCK_FIRST
	mem[LOCK] == 0;
#endif
	store(HOST, STATE, 1);
#ifdef NO_HEAVY_FENCE
	len(buffer[HOST]) == 0;
#else
	heavy_fence(HOST, GUEST);
#endif
#ifndef LOCK_FIRST
	mem[LOCK] == 0;
#endif
	head = mem[HEAD];
	do
	:: head == BYTES -> break
	:: else ->
		consume(head);
		head++
	od
}

init
{
	atomic {
		run flusher(HOST);
		run flusher(GUEST);
		run guest();
		run host()
	}
}
