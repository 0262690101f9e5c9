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

static TLS struct noted {
	struct canal_sock *s;
	uint64_t vain; /* head of TX when it was waited for in vain */
} noted[NOTED];
TLS uint32_t wait_noted;  /* their number */
TLS bool wait_has_inward; /* of those some were, when they were noted */

void trim_forget(void)
{
	wait_noted = 0;
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
	uint32_t count = wait_noted < NOTED ? wait_noted : NOTED;

	if (canal_read_once(&s->inward))
		wait_has_inward = true;
	for (uint32_t i = 0; i < count; i++)
		if (noted[i].s == s)
			return;
	if (count < NOTED) {
		noted[count] = (struct noted){ s, UINT64_MAX };
		wait_noted = count + 1;
		return;
	}
	/* The oldest goes, with its chunk if that is free by now. */
	(void)trim_socket(&the_channel, noted[0].s);
	memmove(noted, noted + 1, (NOTED - 1) * sizeof(noted[0]));
	noted[NOTED - 1] = (struct noted){ s, UINT64_MAX };
}

void wait_trim(struct channel *ch)
{
	uint32_t count = wait_noted, kept = 0;

	wait_noted = 0;
	for (uint32_t i = 0; i < count; i++)
		if (!trim_socket(ch, noted[i].s))
			noted[kept++] = noted[i];
	wait_noted = kept;
	if (!kept)
		wait_has_inward = false;
}

static uint64_t has_sent(const struct canal_sock *s)
{
	return canal_read_once(&s->tx.tail) - canal_load_acquire(&s->tx.head);
}

static bool never(void *unused)
{
	(void)unused;
	return false;
}

/*
 * Until canald has taken all, or ready(arg): looks, and then asks. What it cannot take, as
 * the other end is full, is not waited for again before it has moved.
 */
static void wait_taken(const struct channel *ch, struct noted *n, bool (*ready)(void *), void *arg)
{
	const struct canal_sock *s = n->s;

	if (!has_sent(s) || canal_read_once(&s->tx.head) == n->vain)
		return;
	for (int i = 0; i < ARRIVAL_LOOKS && has_sent(s) && !ready(arg) && !channel_gone(ch); i++)
		i < ARRIVAL_LOOKS / 2 ? canal_relax() : sys_yield();
	if (!has_sent(s) || ready(arg))
		return;
	inward_settle();
	if (has_sent(s))
		n->vain = canal_read_once(&s->tx.head);
}

void wait_inward(const struct channel *ch, bool datagrams)
{
	/* a socket that was sent on since the last trim is noted: that took a chunk */
	for (uint32_t i = 0; i < wait_noted; i++) {
		const struct canal_sock *s = noted[i].s;
		uint64_t sent = has_sent(s);

		if (sent && (canal_read_once(&s->inward) ? sent <= ARRIVAL_MOST
							 : datagrams && s->type == SOCK_DGRAM))
			wait_taken(ch, &noted[i], never, NULL);
	}
}

/* What @from sends may be for @to. A socket that sends datagrams rarely means itself. */
static bool may_be_for(const struct canal_sock *from, const struct canal_sock *to)
{
	return to->type == SOCK_DGRAM ? from->type == SOCK_DGRAM && from != to
				      : canal_read_once(&from->inward);
}

bool wait_own(const struct channel *ch, const struct canal_sock *to, bool (*ready)(void *),
	      void *arg)
{
	for (uint32_t i = 0; i < wait_noted; i++)
		if (may_be_for(noted[i].s, to))
			wait_taken(ch, &noted[i], ready, arg);
	return ready(arg);
}
