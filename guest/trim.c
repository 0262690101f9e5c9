/* SPDX-License-Identifier: MIT */
/*
 * Trimming: chunks of TX that nobody needs go back to the pool.
 *
 * Purpose: a thread notes the sockets that it sent on, and gives back their chunks
 * when it is about to sleep and they are empty. Who finds the pool empty looks
 * through all sockets.
 *
 * Ownership and threads: notes are a thread's own; chunks under the socket's tx_lock.
 *
 * Failure: a socket that is locked, or not empty, is left for later.
 */
#include <string.h>

#include "guest.h"
#include "lock.h"
#include "sys.h"

/* Between searches for chunks that lie idle, while there are none. */
#define SCAVENGE_NS 10000000
/* A thread remembers this many sockets for the trim. */
#define NOTED 16
/* wait_arrival(): looks, the second half of them with a yield, and bytes worth them. */
#define ARRIVAL_LOOKS 400
#define ARRIVAL_MOST 4096

static TLS struct canal_sock *noted[NOTED];
static TLS uint32_t noted_count;
TLS bool wait_has_inward; /* of those some were, when they were noted */

void trim_forget(void)
{
	noted_count = 0;
	wait_has_inward = false;
}

/* Gives the chunks of a table to the pool; whether there were any. Under tx_lock. */
static bool table_empty(struct channel *ch, struct canal_fifo *f)
{
	bool found = false;

	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++) {
		uint32_t id = canal_read_once(&f->chunk[i]);

		if (id >= ch->tx.count)
			continue;
		canal_write_once(&f->chunk[i], CANAL_NONE);
		canal_pool_give(&ch->tx_pool, id);
		found = true;
	}
	return found;
}

/* The same of a FIFO that is empty, and goes on. */
static bool trim_table(struct channel *ch, struct canal_fifo *f)
{
	bool found = table_empty(ch, f);

	canal_write_once(&f->reclaim, f->tail & ~(uint64_t)(CANAL_CHUNK - 1));
	return found;
}

/* It is nobody's now, or not yet. */
static bool sock_ended(uint32_t state)
{
	return state == CANAL_SOCK_FREE || state == CANAL_SOCK_GRANTED ||
	       state == CANAL_SOCK_CLOSED;
}

/*
 * Whether there is nothing more to do for @s, which may be closed by now and its
 * number in other hands. The host resets no socket while a lock of it is held;
 * one that ended keeps its chunks for the next of that number.
 */
static bool trim_socket(struct channel *ch, struct canal_sock *s)
{
	struct canal_fifo *f = &s->tx;
	uint32_t state;
	bool done;

	if (!lock_try(&f->tx_lock))
		return false;
	/* F1 store-load: the lock before the state; pairs with number_locked() */
	state = canal_load_acquire(&s->state);
	done = sock_ended(state);
	/* R2 acquire: the host has read all before we give the chunk away */
	if (!done && canal_load_acquire(&f->head) == f->tail) {
		(void)trim_table(ch, f);
		done = true;
	}
	lock_drop(&f->tx_lock);
	return done;
}

/* The chunks of a socket that ended, or whose FIFO is empty. */
static bool scavenge_socket(struct channel *ch, struct canal_sock *s)
{
	struct canal_fifo *f = &s->tx;
	bool found = false;
	uint32_t state;

	if (!lock_try(&f->tx_lock))
		return false;
	/* F1 store-load: the lock before the state; pairs with number_locked() */
	state = canal_load_acquire(&s->state);
	/* R2 acquire: the host has read all before we give the chunk away */
	if (sock_ended(state))
		found = table_empty(ch, f);
	else if (canal_load_acquire(&f->head) == f->tail)
		found = trim_table(ch, f);
	lock_drop(&f->tx_lock);
	return found;
}

bool wait_scavenge(struct channel *ch)
{
	static int64_t last;
	static uint32_t cursor;
	uint32_t n = canal_read_once(&cursor);
	int64_t now = wait_now();
	bool found = false;

	if (now - canal_read_once(&last) < SCAVENGE_NS)
		return false;
	for (uint32_t i = 0; i < ch->sock_count && !found; i++) {
		struct canal_sock *s = channel_sock(ch, ++n % ch->sock_count);

		/* a number that was never used has no generation */
		found = canal_read_once(&s->generation) && scavenge_socket(ch, s);
	}
	canal_write_once(&cursor, n);
	if (!found)
		canal_write_once(&last, now);
	return found;
}

/* A handler may note on top of us: at worst a socket is forgotten, and its
 * chunk stays until it is used again. */
void wait_note_tx(struct canal_sock *s)
{
	uint32_t count = noted_count < NOTED ? noted_count : NOTED;

	if (canal_read_once(&s->inward))
		wait_has_inward = true;
	for (uint32_t i = 0; i < count; i++)
		if (noted[i] == s)
			return;
	if (count < NOTED) {
		noted[count] = s;
		noted_count = count + 1;
		return;
	}
	/* The oldest goes, with its chunk if that is free by now. */
	(void)trim_socket(&the_channel, noted[0]);
	memmove(noted, noted + 1, (NOTED - 1) * sizeof(noted[0]));
	noted[NOTED - 1] = s;
}

void wait_trim(struct channel *ch)
{
	uint32_t count = noted_count, kept = 0;

	noted_count = 0;
	for (uint32_t i = 0; i < count; i++)
		if (!trim_socket(ch, noted[i]))
			noted[kept++] = noted[i];
	noted_count = kept;
	if (!kept)
		wait_has_inward = false;
}

static bool is_arriving(const struct canal_sock *s)
{
	uint64_t sent = canal_read_once(&s->tx.tail) - canal_load_acquire(&s->tx.head);

	return sent && sent <= ARRIVAL_MOST;
}

void wait_inward(const struct channel *ch)
{
	/* a socket that was sent on since the last trim is noted: that took a chunk */
	for (uint32_t i = 0; i < noted_count; i++) {
		const struct canal_sock *s = noted[i];

		if (!canal_read_once(&s->inward))
			continue;
		for (int j = 0; j < ARRIVAL_LOOKS && is_arriving(s) && !channel_gone(ch); j++)
			j < ARRIVAL_LOOKS / 2 ? canal_relax() : sys_yield();
	}
}
