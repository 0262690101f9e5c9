/* SPDX-License-Identifier: MIT */
/*
 * pool.h under load: four workers take and give numbers of a pool that is too
 * small for all. No number has two owners at once, none gets lost, and what the
 * owner wrote into its entry is there for the next (plain memory: TSan judges
 * A1). Twins: order_twin.h.
 */
#include "order_twin.h"
#include "pool.h"
#include "workers.h"

#define COUNT 12u
#define WORKERS 4u
#define HOLD 4u
#define ROUNDS 50000u

struct shared {
	uint64_t head;
	uint32_t used;
	uint32_t next[COUNT];
	uint32_t owner[COUNT]; /* who has it, 0 if nobody */
	uint32_t uses[COUNT];  /* plain: its owner only */
	uint32_t stop;
};

static struct canal_pool pool_of(struct shared *s)
{
	return (struct canal_pool){ &s->head, &s->used, COUNT, (uint8_t *)s->next,
				    sizeof(s->next[0]) };
}

static int fault(struct shared *s, const char *what, uint32_t n)
{
	fprintf(stderr, "pool_stress: number %u %s\n", n, what);
	canal_xchg(&s->stop, 1);
	return 1;
}

static int use(struct shared *s, const struct canal_pool *pool, unsigned int me)
{
	uint32_t held[HOLD], count = 0;

	while (count < HOLD && (held[count] = canal_pool_take(pool)) != CANAL_NONE) {
		uint32_t n = held[count++];

		/* Relaxed: the test itself must not order what A1 orders. */
		if (n >= COUNT)
			return fault(s, "does not exist", n);
		if (__atomic_exchange_n(&s->owner[n], me, __ATOMIC_RELAXED))
			return fault(s, "taken twice", n);
		s->uses[n]++;
	}
	if (!count)
		sched_yield();
	while (count) {
		uint32_t n = held[--count];

		if (__atomic_exchange_n(&s->owner[n], 0u, __ATOMIC_RELAXED) != me)
			return fault(s, "taken twice", n);
		canal_pool_give(pool, n);
	}
	return 0;
}

static int work(void *arg, unsigned int number)
{
	struct shared *s = arg;
	struct canal_pool pool = pool_of(s);

	for (uint32_t i = 0; i < ROUNDS && !canal_read_once(&s->stop); i++)
		if (use(s, &pool, number))
			return 1;
	return 0;
}

/* Afterwards each number is there once. */
static int count_numbers(struct shared *s)
{
	struct canal_pool pool = pool_of(s);
	uint32_t n;

	for (uint32_t i = 0; i < COUNT; i++) {
		n = canal_pool_take(&pool);
		if (n == CANAL_NONE)
			return fault(s, "lost (or another)", i);
		if (s->owner[n]++)
			return fault(s, "taken twice", n);
	}
	return canal_pool_take(&pool) == CANAL_NONE ? 0 : fault(s, "too many", COUNT);
}

int main(int argc, char **argv)
{
	struct workers_job jobs[] = {
		{ work, NULL, 1 },
		{ work, NULL, 2 },
		{ work, NULL, 3 },
		{ work, NULL, 4 },
	};
	struct shared *s = workers_memory(sizeof(*s));
	int failed = workers_main(argc, argv, jobs, WORKERS, s);

	return failed ? failed : count_numbers(s);
}
