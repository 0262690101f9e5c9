/* SPDX-License-Identifier: MIT */
/*
 * SETTLE: a guest waits until what it did is done.
 *
 * Purpose: over loopback the kernel carries out a close(), a shutdown() or a connect()
 * before the call returns: the other end has it, and a program that has both ends counts
 * on that. So the guest asks behind such a call (inward.c of libcanal), and is answered
 * a few passes later: they do it, what follows from it, and hear what the kernel
 * said to it.
 *
 * Invariants
 *  1. channel.settling has the slots that wait; poller.settling is their number, and
 *     while it is not 0 the poller does not sleep.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: more at once than there is room for are answered at once.
 */
#include <string.h>

#include "sock.h"

/* That in which it was asked, one in which what was still to be sent has ended, and one more. */
#define PASSES 3

int settle_ask(struct channel *ch, const struct canal_inr *inr)
{
	struct settling *one = &ch->settling[ch->settling_count];

	if (inr->slot == CANAL_NONE)
		return RULE_BROKEN;
	if (!channel_has_client(ch, inr->client))
		return 0;
	if (ch->settling_count == SETTLING_MOST) {
		request_complete(ch, inr->slot, 0, 0);
		return 0;
	}
	one->slot = inr->slot;
	one->client = inr->client;
	one->pass = ch->poller->passes + PASSES;
	ch->settling_count++;
	ch->poller->settling++;
	return 0;
}

static void remove_one(struct channel *ch, uint32_t i)
{
	ch->settling[i] = ch->settling[--ch->settling_count];
	ch->poller->settling--;
}

/* Its wait slots are others' from now on. */
void settle_drop_client(struct channel *ch, uint32_t client)
{
	for (uint32_t i = ch->settling_count; i-- > 0;)
		if (ch->settling[i].client == client)
			remove_one(ch, i);
}

static void settle_channel(struct channel *ch)
{
	for (uint32_t i = ch->settling_count; i-- > 0;) {
		uint32_t slot = ch->settling[i].slot;

		if (ch->poller->passes < ch->settling[i].pass)
			continue;
		remove_one(ch, i);
		if (!ch->broken)
			request_complete(ch, slot, 0, 0);
	}
}

void settle_tick(struct poller *p)
{
	struct channel *ch;

	if (!p->settling)
		return;
	cds_list_for_each_entry(ch, &p->channels, link) settle_channel(ch);
}
