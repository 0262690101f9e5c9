/* SPDX-License-Identifier: MIT */
/*
 * The ready list of a set (docs/wire.md, section 7): push, and take all.
 *
 * Idea: one host pushes two subscriptions whenever their sockets get data; one
 * guest takes the whole list, walks it, and sleeps when there is none. Every
 * access that matters is a locked instruction (or a publication with a fence),
 * so memory is sequentially consistent here.
 *
 * Properties: a guest that sleeps has seen all data of all sockets; a walk
 * meets each subscription at most once.
 *
 * Twins that must fail:
 *	LATE_CLEAR	pending is cleared after the look at the socket
 *	LATE_NEXT	next is read after pending was cleared
 */
#define SUBS 2
#define ROUNDS 3

byte data[SUBS];
bool pending[SUBS];
byte next[SUBS];
byte ready;
bool armed;
byte wakeups;
bool lost_readiness;

proctype host()
{
	byte sub, first;
	bool was, done;

	do
	:: data[0] < ROUNDS -> sub = 0; goto publish
	:: data[1] < ROUNDS -> sub = 1; goto publish
	:: data[0] == ROUNDS && data[1] == ROUNDS -> break;
publish:
		data[sub]++;
		d_step { was = pending[sub]; pending[sub] = true };
		if
		:: !was ->
			done = false;
			do
			:: done -> break
			:: else ->
				first = ready;
				next[sub] = first;
				d_step {
					if
					:: ready == first -> ready = sub + 1; done = true
					:: else
					fi
				}
			od;
			if
			:: d_step { armed -> armed = false }; wakeups++
			:: else
			fi
		:: else
		fi
	od
}

proctype guest()
{
	byte seen[SUBS], list, sub, hops;

	do
	:: seen[0] == ROUNDS && seen[1] == ROUNDS -> break
	:: else ->
		d_step { list = ready; ready = 0 };
		if
		:: list == 0 ->
			armed = true;
			if
			:: ready != 0 -> armed = false
			:: else ->
				if
				:: wakeups > 0 -> wakeups--
				:: timeout -> lost_readiness = true; assert(!lost_readiness); goto out
				fi
			fi
		:: else
		fi;
		hops = 0;
		do
		:: list == 0 -> break
		:: else ->
			hops++;
			assert(hops <= SUBS);
			sub = list - 1;
#ifdef LATE_NEXT
			pending[sub] = false;
			list = next[sub];
			seen[sub] = data[sub]
#else
			list = next[sub];
#ifdef LATE_CLEAR
			seen[sub] = data[sub];
			pending[sub] = false
#else
			pending[sub] = false;
			seen[sub] = data[sub]
#endif
#endif
		od
	od;
out:	skip
}

init
{
	atomic {
		run host();
		run guest()
	}
}
