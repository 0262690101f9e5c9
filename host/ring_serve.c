/* SPDX-License-Identifier: MIT */
/*
 * The INR ring of a channel, as its poller serves it.
 *
 * Purpose: carries out the INRs, and decides for how long a slot that is claimed and not
 * published may stay so (ring.h). A process that has died in between will not publish it.
 * One that lives may have been stopped, or have jumped out of a signal handler: it is
 * waited for only when the ring can go on no longer, and then for STALL_LIMIT_NS.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: a state that no rule leads to, or a claim in nobody's name, closes the channel.
 */
#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "guest.h"

/* How long the ring waits for a slot whose claimer lives, before that is taken back. */
#define STALL_LIMIT_NS 5000000000ull

/*
 * Whether the process itself is gone, which its descendants outlive, and keep its
 * connection open. False where its id is not known here.
 */
static bool client_is_dead(const struct client *c)
{
	struct pollfd pfd = { .events = POLLIN };
	bool dead;

	if (c->pid <= 0)
		return false;
	pfd.fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (pfd.fd < 0)
		return errno == ESRCH;
	dead = poll(&pfd, 1, 0) == 1;
	close(pfd.fd);
	return dead;
}

static uint32_t claimer(const struct channel *ch, uint32_t i)
{
	return canal_ring_claimer(ch->inr, CHANNEL_INRS, ch->reader.late[i]);
}

static bool take_back(struct channel *ch, uint32_t i, uint32_t number)
{
	return canal_ring_take_back(ch->inr, CHANNEL_INRS, &ch->reader, i, number);
}

void ring_drop_client(struct channel *ch, uint32_t number)
{
	for (uint32_t i = ch->reader.late_count; i-- > 0;)
		if (claimer(ch, i) == number)
			(void)take_back(ch, i, number);
}

/* A claimed slot was gone past: by whom must be somebody. */
static void later(struct channel *ch)
{
	uint32_t i = ch->reader.late_count - 1, number = claimer(ch, i);

	if (number == CANAL_NONE) /* published by now */
		return;
	if (!number || number > ch->client_high)
		channel_break(ch, BROKEN_CLIENT);
	else if (!channel_client(ch, number))
		(void)take_back(ch, i, number);
}

/* Takes the slots of the dead back; and when the ring has waited for long, all of them:
 * none became late since. */
static bool look_at_late(struct channel *ch)
{
	bool over = ch->poller->now_ns - ch->stalled_since_ns > STALL_LIMIT_NS, found = false;

	for (uint32_t i = ch->reader.late_count; i-- > 0;) {
		uint32_t number = claimer(ch, i);
		struct client *c = number <= ch->client_high ? channel_client(ch, number) : NULL;

		if (!c || !(over || client_is_dead(c)) || !take_back(ch, i, number))
			continue;
		found = true;
		if (over)
			host_log_limited(ch->name, LOG_WARNING,
					 "guest=%s pid=%d: was stopped in the middle of a request "
					 "and held up others: they go first",
					 ch->name, (int)c->pid);
	}
	return found;
}

/* Whether the ring can go on. */
static bool stalled(struct channel *ch)
{
	uint64_t now_ns = ch->poller->now_ns;

	if (!ch->stalled_since_ns)
		ch->stalled_since_ns = now_ns;
	else if (now_ns < ch->stall_look_ns)
		return false;
	ch->stall_look_ns = now_ns + RING_LOOK_NS;
	return look_at_late(ch);
}

static void serve_one(struct channel *ch, struct canal_inr *inr)
{
	uint64_t pos = canal_inr_pos(inr->state);

	ch->count.inrs++;
	ch->poller->work++;
	request_serve(ch, inr);
	canal_ring_free(ch->inr, CHANNEL_INRS, &ch->reader, pos);
}

void channel_serve(struct channel *ch, unsigned int budget)
{
	struct canal_inr inr;

	for (; budget && !ch->broken; budget--) {
		switch (canal_ring_next(ch->inr, CHANNEL_INRS, &ch->reader, &inr)) {
		case CANAL_RING_EMPTY:
			ch->stalled_since_ns = 0;
			return;
		case CANAL_RING_STALLED:
			if (!stalled(ch))
				return;
			break; /* what lies behind it is served at once */
		case CANAL_RING_BAD:
			channel_break(ch, BROKEN_RING_STATE);
			return;
		case CANAL_RING_LATER:
			later(ch);
			break;
		case CANAL_RING_GOT:
			ch->stalled_since_ns = 0;
			serve_one(ch, &inr);
		}
	}
	if (ch->broken)
		channel_tear_down(ch);
}
