/* SPDX-License-Identifier: MIT */
/*
 * ring.h under load: four producers and one consumer on a small ring. A producer may be
 * stopped between claim and publication, and is gone past.
 *
 * Every INR of a producer must come out once, in its order, with all its words.
 * The payload is plain memory, so that TSan judges Q1 and Q2. Twins: see
 * order_twin.h and CMakeLists.txt.
 */
#include "order_twin.h"
#include "ring.h"
#include "workers.h"

#define RING 8u
#define PRODUCERS 4u
#define EACH 50000u

struct shared {
	struct canal_inr ring[RING];
	uint64_t tail;
	uint32_t finished; /* producers */
	uint32_t stop;     /* the consumer gave up */
};

static uint32_t word_of(uint32_t producer, uint32_t n, uint32_t i)
{
	return (producer * 0x9e3779b9u + n) * 0x85ebca6bu + i;
}

static void fill(struct canal_inr *inr, uint32_t producer, uint32_t n)
{
	inr->op = CANAL_INR_NOP;
	inr->client = (canal_u16)producer;
	inr->sock = n;
	for (uint32_t i = 0; i < 6; i++)
		inr->u.arg[i] = word_of(producer, n, i);
}

static bool is_whole(const struct canal_inr *inr, uint32_t producer, uint32_t n)
{
	bool same = inr->client == producer && inr->sock == n;

	for (uint32_t i = 0; i < 6; i++)
		same = same && inr->u.arg[i] == word_of(producer, n, i);
	return same;
}

static int produce(void *arg, unsigned int number)
{
	struct shared *s = arg;
	uint64_t pos;

	for (uint32_t n = 0; n < EACH; n++) {
		struct canal_inr *slot;

		while (!(slot = canal_ring_claim(s->ring, RING, &s->tail, number, &pos))) {
			if (canal_read_once(&s->stop))
				return 0;
			sched_yield();
		}
		fill(slot, number, n);
		if (n % 64 == 0)
			sched_yield();
		(void)canal_ring_publish(slot, pos, number);
	}
	canal_fetch_add(&s->finished, 1);
	return 0;
}

static int give_up(struct shared *s, const char *what, uint64_t pos)
{
	fprintf(stderr, "ring_stress: INR lost, doubled or torn: %s at position %llu\n", what,
		(unsigned long long)pos);
	canal_xchg(&s->stop, 1);
	return 1;
}

static int consume(void *arg, unsigned int number)
{
	struct shared *s = arg;
	uint32_t next[PRODUCERS + 1] = { 0 }, client;
	struct canal_ring_reader reader = { .pos = 0 };
	struct canal_inr inr;

	(void)number;
	for (;;) {
		bool all = canal_load_acquire(&s->finished) == PRODUCERS;

		switch (canal_ring_next(s->ring, RING, &reader, &inr)) {
		case CANAL_RING_BAD:
			return give_up(s, "bad state", reader.pos);
		case CANAL_RING_EMPTY:
			if (all && reader.pos == PRODUCERS * EACH && !reader.late_count)
				return 0;
			if (all)
				return give_up(s, "too few", reader.pos);
			/* fall through */
		case CANAL_RING_STALLED:
			if (all)
				return give_up(s, "claimed for ever", reader.pos);
			sched_yield();
			continue;
		case CANAL_RING_LATER:
			continue;
		case CANAL_RING_GOT:
			break;
		}
		client = canal_inr_client(inr.state);
		if (client < 1 || client > PRODUCERS || !is_whole(&inr, client, next[client]++))
			return give_up(s, "wrong one", canal_inr_pos(inr.state));
		canal_ring_free(s->ring, RING, &reader, canal_inr_pos(inr.state));
	}
}

int main(int argc, char **argv)
{
	struct workers_job jobs[] = {
		{ consume, NULL, 0 }, { produce, NULL, 1 }, { produce, NULL, 2 },
		{ produce, NULL, 3 }, { produce, NULL, 4 },
	};
	struct shared *s = workers_memory(sizeof(*s));

	canal_ring_init(s->ring, RING);
	return workers_main(argc, argv, jobs, PRODUCERS + 1, s);
}
