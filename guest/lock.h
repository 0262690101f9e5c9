/* SPDX-License-Identifier: MIT */
/*
 * Locks in shared memory: a word that holds the thread id of the holder, and some bits
 * that tell its pid namespace from others (wire.h, CANAL_LOCK_SPACE).
 *
 * Purpose: two threads, of any processes of a channel, must not produce into
 * (or consume from) one FIFO at once. Held for one copy, never across a sleep.
 *
 * Invariants
 *  1. What a lock protects is consistent after each single store, because
 *     only publishing a position makes work visible. So the lock of a holder
 *     that died can be taken over as it is.
 *  2. Telling the host of a position is done under the lock, too. So whoever takes a
 *     lock over knows that this may not have been done.
 *
 * Ownership and threads: any thread. A signal handler that interrupts a holder
 * and comes for the same lock is told so by lock_enter() and goes away again. A lock
 * of a FIFO that a jump out of a handler left behind is taken over like a dead holder's.
 * Edges: K1, the stores of one holder before those of the next.
 */
#ifndef CANAL_GUEST_LOCK_H
#define CANAL_GUEST_LOCK_H

#include <sys/single_threaded.h>

#include "order.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define TLS __thread __attribute__((tls_model("initial-exec")))

/* This thread's id, 0 until it is known; forgotten in a forked child. */
extern __thread uint32_t lock_self __attribute__((tls_model("initial-exec"), visibility("hidden")));
uint32_t lock_learn_self(void);
/* The slow part of lock_enter(). */
bool lock_contend(uint32_t *lock, uint32_t me);
/* in_handler.c: whether this thread is in a signal handler; true where that is not known. */
bool lock_in_handler(void);
/* tx_lock or rx_lock: nobody comes for it twice, but in a handler. */
bool lock_is_fifo(const uint32_t *lock);
/* Who took @lock over from a dead holder tells the host what that one may not have told. */
void lock_taken_over(const uint32_t *lock);

static inline uint32_t lock_me(void)
{
	uint32_t me = lock_self;

	return likely(me) ? me : lock_learn_self();
}

/* Forks so far. From the first on the channel may have other processes. */
extern uint32_t lock_forks;
void lock_before_fork(void);
/* In a forked child. */
void lock_after_fork(void);

/* Nobody else can come for a lock: no second thread, no other process. */
static inline bool lock_alone(void)
{
	return likely(__libc_single_threaded) && likely(!lock_forks);
}

/* Return: false when this very thread holds it already: we are in a signal
 * handler on top of the holder. */
static inline bool lock_enter(uint32_t *lock)
{
	uint32_t me = lock_me();

	if (lock_alone() && likely(!canal_read_once(lock))) {
		canal_write_once(lock, me); /* for our own signal handlers */
		canal_light_fence();
		return true;
	}
	/* K1 acquire: what the last holder stored; pairs with lock_leave() */
	return likely(canal_cas(lock, 0u, me)) || lock_contend(lock, me);
}

static inline void lock_leave(uint32_t *lock)
{
	/* K1 release: what we stored; pairs with lock_enter() */
	canal_store_release(lock, 0u);
}

#endif
