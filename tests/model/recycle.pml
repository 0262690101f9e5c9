/* SPDX-License-Identifier: MIT */
/*
 * A socket number that is used again (F1) while a thread of the guest still trims
 * the socket that had it before.
 *
 * Idea: the trimmer is trim_socket() of guest/wait.c, a thread that sent on the
 * old socket and does not know that it ended. The host is sock_destroy() and
 * channel_take_number(): it ends the socket, and resets it for the next owner
 * when no lock of it is held. It looks and resets in two steps, so it leaves the
 * lock itself alone. The owner is send_locked() of another process.
 *
 * Property: the bytes of the new owner lie in a chunk that is not in the pool,
 * its position for taking chunks back is not above its bytes, and it keeps its
 * lock until it drops it.
 *
 * Twins that must fail:
 *	STATE_FIRST	the trimmer looks at the state before it has the lock
 *	RESET_LOCKED	the host resets a socket whose lock is held
 *	LOCK_RESET	the reset frees the lock, too
 */
#define NONE 0
#define CHUNK 1 /* left in the table by the old socket */
#define FRESH 2 /* from the pool */

#define TRIMMER 1
#define OWNER 2

mtype = { CONNECTED, CLOSED };
mtype state = CONNECTED;
byte lock; /* 0, or who holds it */
byte entry = CHUNK, tail = 1, head = 1, reclaim;
bool pooled; /* CHUNK is in the pool */
bool granted;

proctype trimmer()
{
	mtype seen;
	byte from;

#ifdef STATE_FIRST
	seen = state;
#endif
	if
	:: atomic { lock == 0 -> lock = TRIMMER }
	:: lock != 0 -> goto out
	fi;
#ifndef STATE_FIRST
	seen = state;
#endif
	if
	:: seen == CONNECTED && head == tail ->
		if
		:: entry == CHUNK -> entry = NONE; pooled = true
		:: else
		fi;
		from = tail;
		reclaim = from
	:: else
	fi;
	lock = 0;
out:	skip
}

proctype host()
{
	state = CLOSED;
#ifndef RESET_LOCKED
	lock == 0; /* else it takes another number, and comes back to this one */
#endif
	head = 0;
	tail = 0;
	reclaim = 0;
#ifdef LOCK_RESET
	lock = 0;
#endif
	state = CONNECTED;
	granted = true
}

proctype owner()
{
	byte mine;

	granted;
	atomic { lock == 0 -> lock = OWNER };
	if
	:: entry == NONE -> entry = FRESH
	:: else
	fi;
	mine = entry;
	tail = 1;
	/* the host reads, whenever it comes to it */
	assert(entry == mine && !(mine == CHUNK && pooled) && reclaim <= head);
	assert(lock == OWNER);
	lock = 0
}

init
{
	atomic {
		run trimmer();
		run host();
		run owner()
	}
}
