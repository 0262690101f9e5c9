/* SPDX-License-Identifier: MIT */
/*
 * Options that a connection has from its listener.
 *
 * Purpose: the kernel copies them to what accept() gives. An accepted end that
 * was joined in memory has no kernel socket of its own: the listener's options
 * are noted, and given to that socket when an option is asked for at last.
 *
 * Invariants
 *  1. The notes are shared between a listener and what came out of it; who adds
 *     to shared ones makes a copy first.
 *
 * Ownership and threads: the poller that owns the channels. Sockets joined
 * across channels have the same poller.
 * Failure: without memory, or with more options than there is room for, an
 * accepted end has the kernel's defaults.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sock.h"

#define NOTES_MAX 32
#define VALUE_MAX 16 /* all flags and numbers, linger, names of congestion control */

struct note {
	int level, name;
	uint32_t len;
	uint8_t value[VALUE_MAX];
};

struct notes {
	uint32_t refs, count;
	struct note note[NOTES_MAX];
};

/* The notes of @s alone; NULL without memory. */
static struct notes *own_notes(struct sock *s)
{
	struct notes *own;

	if (s->notes && s->notes->refs == 1)
		return s->notes;
	own = calloc(1, sizeof(*own));
	if (!own)
		return NULL;
	if (s->notes)
		*own = *s->notes;
	inherit_drop(s);
	own->refs = 1;
	s->notes = own;
	return own;
}

static struct note *note_of(struct notes *notes, int level, int name)
{
	struct note *end = notes->note + notes->count;

	for (struct note *n = notes->note; n < end; n++)
		if (n->level == level && n->name == name)
			return n;
	if (notes->count == NOTES_MAX)
		return NULL;
	notes->count++;
	end->level = level;
	end->name = name;
	return end;
}

/* @s took the option. Notes it if @s may still become a listener, or is one. */
void inherit_note(struct sock *s, int level, int name, const void *val, uint32_t len)
{
	struct notes *notes;
	struct note *note;

	if (s->type != SOCK_STREAM || s->state == CANAL_SOCK_CONNECTED || len > VALUE_MAX)
		return;
	notes = own_notes(s);
	note = notes ? note_of(notes, level, name) : NULL;
	if (!note)
		return;
	note->len = len;
	memcpy(note->value, val, len);
}

/* @a came out of @l: what the FIFOs follow at once, all else by inherit_apply(). */
void inherit_take(struct sock *a, const struct sock *l)
{
	a->rcvlowat = l->rcvlowat;
	a->lingers = l->lingers;
	if (l->heir_tx_limit)
		a->shared->tx.limit = a->tx_limit = l->heir_tx_limit;
	if (l->heir_rx_limit)
		a->shared->rx.limit = a->rx_limit = l->heir_rx_limit;
	if (a->fd >= 0 || !l->notes)
		return;
	a->notes = l->notes;
	a->notes->refs++;
}

/* The kernel socket of @s is new. */
void inherit_apply(struct sock *s)
{
	const struct notes *notes = s->was_accepted ? s->notes : NULL;

	for (uint32_t i = 0; notes && i < notes->count; i++)
		(void)setsockopt(s->fd, notes->note[i].level, notes->note[i].name,
				 notes->note[i].value, notes->note[i].len);
}

void inherit_drop(struct sock *s)
{
	if (s->notes && !--s->notes->refs)
		free(s->notes);
	s->notes = NULL;
}
