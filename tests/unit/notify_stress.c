/* SPDX-License-Identifier: MIT */
/*
 * notify.h with real sleep: one host, three threads that wait for its ticks in
 * wait slots, two of which share a bit (0 and 64), and answer each tick; the
 * host waits for all answers. Everybody sleeps in a pipe as soon as it finds
 * nothing.
 *
 * No clock: `account` counts in one word those asleep and the bytes on their
 * way to them. All asleep and no byte on its way is a lost wake-up, said by the
 * one who went to sleep last. Questions and answers are plain memory, so that
 * TSan judges the publication (C1 in one direction, R1 in the other). Twins:
 * order_twin.h, and
 *
 *	TWIN_LOOK_FIRST	a sleeper looks, then arms
 *	TWIN_CLEAR_BIT	a sleeper that found something clears the shared bit
 */
#include <fcntl.h>

#include "notify.h"
#include "order_twin.h"
#include "wire.h"
#include "workers.h"

#define SLEEPERS 3u
#define EVERYBODY (SLEEPERS + 1)
#define TICKS 10000u
#define BYTE (1ull << 32)

static const uint32_t slot_of[SLEEPERS] = { 0, 64, 1 };

struct shared {
	uint32_t tick;
	uint32_t question; /* plain, before tick */
	uint64_t rd_waiters;
	uint32_t host_asleep;
	uint32_t stop;
	uint64_t account;
	uint64_t sleeps;
	struct {
		uint32_t armed CANAL_NEW_LINE;
		uint32_t done;   /* last tick answered */
		uint32_t answer; /* plain, before done */
	} wait[SLEEPERS];
	int pipe[EVERYBODY][2]; /* the last one is the host's */
};

static void wake(struct shared *s, unsigned int who)
{
	canal_fetch_add(&s->account, BYTE);
	if (write(s->pipe[who][1], "", 1) != 1)
		workers_die("write");
}

static void stop_all(struct shared *s)
{
	canal_xchg(&s->stop, 1);
	for (unsigned int i = 0; i < EVERYBODY; i++)
		wake(s, i);
}

/* Who has answered the last tick counts as asleep from then on. */
static void count_asleep(struct shared *s)
{
	if (canal_fetch_add(&s->account, 1) + 1 == EVERYBODY) {
		fprintf(stderr, "notify_stress: lost wake-up, all are asleep\n");
		stop_all(s);
	}
}

static void go_to_sleep(struct shared *s, unsigned int who)
{
	char bytes[64];
	ssize_t len;

	count_asleep(s);
	len = read(s->pipe[who][0], bytes, sizeof(bytes));
	if (len <= 0)
		workers_die("read");
	canal_fetch_add(&s->account, -(uint64_t)len * BYTE - 1);
	canal_fetch_add(&s->sleeps, 1);
}

static bool stopped(struct shared *s)
{
	return canal_read_once(&s->stop);
}

/* --- the threads of the guest ------------------------------------------ */

static bool has_tick(struct shared *s, uint32_t tick)
{
	return canal_load_acquire(&s->tick) >= tick;
}

static bool arm_and_look(struct shared *s, unsigned int me, uint32_t tick)
{
	bool found;
#ifdef TWIN_LOOK_FIRST
	found = has_tick(s, tick);
	sched_yield();
#endif
	canal_arm(&s->wait[me].armed);
	canal_arm_bit(&s->rd_waiters, slot_of[me]);
#ifndef TWIN_LOOK_FIRST
	found = has_tick(s, tick);
#endif
	if (!found)
		return false;
	canal_disarm(&s->wait[me].armed);
#ifdef TWIN_CLEAR_BIT
	canal_fetch_and(&s->rd_waiters, ~(1ull << (slot_of[me] & 63)));
#endif
	return true;
}

static int answer_ticks(void *arg, unsigned int me)
{
	struct shared *s = arg;

	for (uint32_t tick = 1; tick <= TICKS; tick++) {
		while (!stopped(s) && !arm_and_look(s, me, tick))
			go_to_sleep(s, me);
		if (stopped(s))
			return 1;
		s->wait[me].answer = s->question + me;
		canal_store_fence(&s->wait[me].done, tick);
		if (canal_take(&s->host_asleep))
			wake(s, SLEEPERS);
	}
	count_asleep(s);
	return 0;
}

/* --- the host ---------------------------------------------------------- */

static void wake_waiters(struct shared *s)
{
	uint64_t bits = canal_take_bits(&s->rd_waiters);

	for (unsigned int i = 0; i < SLEEPERS; i++)
		if (bits >> (slot_of[i] & 63) & 1 && canal_take(&s->wait[i].armed))
			wake(s, i);
}

static bool has_answers(struct shared *s, uint32_t tick)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < SLEEPERS; i++)
		count += canal_load_acquire(&s->wait[i].done) == tick;
	return count == SLEEPERS;
}

static bool wait_for_answers(struct shared *s, uint32_t tick)
{
	while (!stopped(s)) {
		canal_arm(&s->host_asleep);
		if (has_answers(s, tick)) {
			canal_disarm(&s->host_asleep);
			return true;
		}
		go_to_sleep(s, SLEEPERS);
	}
	return false;
}

static int host(void *arg, unsigned int number)
{
	struct shared *s = arg;

	(void)number;
	for (uint32_t tick = 1; tick <= TICKS; tick++) {
		s->question = tick * 3;
		canal_store_fence(&s->tick, tick);
		wake_waiters(s);
		if (!wait_for_answers(s, tick))
			return 1;
		for (unsigned int i = 0; i < SLEEPERS; i++)
			if (s->wait[i].answer != tick * 3 + i)
				return 1;
	}
	if (!canal_read_once(&s->sleeps)) {
		fprintf(stderr, "notify_stress: nobody ever slept\n");
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct workers_job jobs[] = {
		{ answer_ticks, NULL, 0 },
		{ answer_ticks, NULL, 1 },
		{ answer_ticks, NULL, 2 },
		{ host, NULL, 3 },
	};
	struct shared *s = workers_memory(sizeof(*s));

	for (unsigned int i = 0; i < EVERYBODY; i++)
		if (pipe2(s->pipe[i], O_CLOEXEC) < 0)
			workers_die("pipe2");
	return workers_main(argc, argv, jobs, EVERYBODY, s);
}
