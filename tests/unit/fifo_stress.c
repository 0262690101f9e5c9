/* SPDX-License-Identifier: MIT */
/*
 * fifo.h and pool.h under load: one producer, one consumer, and another user of
 * the chunk pool that writes into every chunk it gets.
 *
 * The producer follows docs/wire.md, section 4: chunks from behind the consumer
 * first, then from a pool that is smaller than the FIFO's limit; what is left
 * over goes to the pool; an empty FIFO now and then gives its last chunk back.
 * Every byte tells its position, so that the consumer notices each wrong one.
 * Bytes are plain memory: TSan judges R1, R2 and A1. Twins: order_twin.h, and
 *
 *	TWIN_EARLY_TAIL	tail is published before the bytes
 *	TWIN_EARLY_HEAD	head is published before the bytes were read
 *	TWIN_R1, TWIN_R2	the publication of tail, of head, is a plain store
 */
#include "fifo.h"
#include "order_twin.h"
#include "pool.h"
#include "workers.h"

#define CHUNKS 12u
#define OTHERS 2u
#define TOTAL (48ull << 20)
#define MOST 24000u /* bytes at once */
#define LIMIT (CANAL_FIFO_MAX - CANAL_CHUNK)

#ifdef TWIN_R1
#define publish_tail(p, v) canal_write_once(p, v)
#else
#define publish_tail(p, v) canal_store_fence(p, v) /* R1 release: bytes before tail */
#endif
#ifdef TWIN_R2
#define publish_head(p, v) canal_write_once(p, v)
#else
#define publish_head(p, v) canal_store_fence(p, v) /* R2 release: reads before head */
#endif

struct shared {
	uint8_t memory[CHUNKS * CANAL_CHUNK];
	struct canal_fifo fifo;
	uint64_t pool_head;
	uint32_t pool_used;
	uint32_t pool_next[CHUNKS];
	uint32_t finished;
	uint32_t stop;
};

static struct canal_pool pool_of(struct shared *s)
{
	return (struct canal_pool){ &s->pool_head, &s->pool_used, CHUNKS, (uint8_t *)s->pool_next,
				    sizeof(s->pool_next[0]) };
}

static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 0x9e3779b97f4a7c15ull >> 56);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* All that the consumer has passed: one to use, the others for the pool. */
static uint32_t take_all_back(struct shared *s, const struct canal_pool *pool, uint64_t head)
{
	uint32_t kept = CANAL_NONE, id;

	while ((id = canal_fifo_take_back(s->fifo.chunk, &s->fifo.reclaim, head)) != CANAL_NONE) {
		if (kept != CANAL_NONE)
			canal_pool_give(pool, kept);
		kept = id;
	}
	return kept;
}

/* The chunk of @pos. The entry may hold one that was not taken back a round ago. */
static uint32_t chunk_at(struct shared *s, const struct canal_pool *pool, uint64_t head,
			 uint64_t pos)
{
	struct canal_fifo *f = &s->fifo;
	uint32_t *entry = &f->chunk[canal_fifo_index(pos)];
	uint32_t id = canal_read_once(entry);

	if (id != CANAL_NONE && pos - canal_fifo_offset(pos) - f->reclaim < CANAL_FIFO_MAX)
		return id;
	id = take_all_back(s, pool, head);
	if (id == CANAL_NONE)
		id = canal_pool_take(pool);
	canal_write_once(entry, id);
	return id;
}

/* How many bytes from @tail on have a chunk, at most @want: chunks are added. */
static uint64_t add_chunks(struct shared *s, const struct canal_pool *pool, uint64_t head,
			   uint64_t tail, uint64_t want)
{
	uint64_t end = tail;

	while (end < tail + want && chunk_at(s, pool, head, end) != CANAL_NONE)
		end += CANAL_CHUNK - canal_fifo_offset(end);
	return end - tail < want ? end - tail : want;
}

static void give_left_over(struct shared *s, const struct canal_pool *pool, uint64_t head)
{
	uint32_t id;

	while ((id = canal_fifo_take_back(s->fifo.chunk, &s->fifo.reclaim, head)) != CANAL_NONE)
		canal_pool_give(pool, id);
}

/* An empty FIFO needs no chunk. */
static void trim(struct shared *s, const struct canal_pool *pool)
{
	uint32_t *entry = &s->fifo.chunk[canal_fifo_index(s->fifo.tail)];
	uint32_t id = *entry;

	if (id == CANAL_NONE)
		return;
	canal_write_once(entry, CANAL_NONE);
	canal_pool_give(pool, id);
}

static void write_bytes(struct shared *s, uint64_t tail, uint64_t len)
{
	static uint8_t bytes[MOST];
	struct canal_arena arena = { s->memory, CHUNKS };

	for (uint64_t i = 0; i < len; i++)
		bytes[i] = byte_at(tail + i);
	canal_fifo_poke(s->fifo.chunk, &arena, tail, bytes, len);
}

static int produce(void *arg, unsigned int number)
{
	struct shared *s = arg;
	struct canal_fifo *f = &s->fifo;
	struct canal_pool pool = pool_of(s);
	uint32_t seed = number;

	while (f->tail < TOTAL && !canal_read_once(&s->stop)) {
		/* R2 acquire: the consumer's reads before we take chunks back */
		uint64_t head = canal_load_acquire(&f->head);
		uint64_t room = LIMIT - (f->tail - head);
		uint64_t len = next_random(&seed) % MOST + 1;

		if (len > room)
			len = room;
		if (len > TOTAL - f->tail)
			len = TOTAL - f->tail;
		len = add_chunks(s, &pool, head, f->tail, len);
		if (!len) {
			sched_yield();
			continue;
		}
#ifdef TWIN_EARLY_TAIL
		publish_tail(&f->tail, f->tail + len);
		sched_yield();
		write_bytes(s, f->tail - len, len);
#else
		write_bytes(s, f->tail, len);
		publish_tail(&f->tail, f->tail + len);
#endif
		if (seed % 4 == 0)
			give_left_over(s, &pool, head);
		if (seed % 8 == 0 && canal_load_acquire(&f->head) == f->tail)
			trim(s, &pool);
	}
	canal_xchg(&s->finished, 1);
	return 0;
}

static int check_bytes(const uint8_t *bytes, uint64_t head, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++) {
		if (bytes[i] == byte_at(head + i))
			continue;
		fprintf(stderr, "fifo_stress: byte %llu is wrong\n",
			(unsigned long long)(head + i));
		return 1;
	}
	return 0;
}

static int consume_some(struct shared *s, uint64_t head, uint64_t len)
{
	static uint8_t bytes[MOST];
	struct canal_arena arena = { s->memory, CHUNKS };
	int error;

#ifdef TWIN_EARLY_HEAD
	publish_head(&s->fifo.head, head + len);
	sched_yield();
#endif
	error = canal_fifo_peek(s->fifo.chunk, &arena, head, bytes, len);
	if (error) {
		fprintf(stderr, "fifo_stress: byte %llu is wrong: no chunk\n",
			(unsigned long long)head);
		return 1;
	}
	if (check_bytes(bytes, head, len))
		return 1;
#ifndef TWIN_EARLY_HEAD
	publish_head(&s->fifo.head, head + len);
#endif
	return 0;
}

static int consume(void *arg, unsigned int number)
{
	struct shared *s = arg;
	uint64_t head = 0;
	uint32_t seed = number;

	while (head < TOTAL) {
		/* R1 acquire: tail before the bytes */
		uint64_t len = canal_load_acquire(&s->fifo.tail) - head;
		uint64_t most = next_random(&seed) % MOST + 1;

		if (!len) {
			sched_yield();
			continue;
		}
		if (len > most)
			len = most;
		if (consume_some(s, head, len)) {
			canal_xchg(&s->stop, 1);
			return 1;
		}
		head += len;
	}
	return 0;
}

/* Another socket of the guest: what it writes stays until it gives it back. */
static int use_chunks(void *arg, unsigned int number)
{
	struct shared *s = arg;
	struct canal_pool pool = pool_of(s);
	struct canal_arena arena = { s->memory, CHUNKS };

	while (!canal_read_once(&s->finished) && !canal_read_once(&s->stop)) {
		uint32_t id = canal_pool_take(&pool);
		uint8_t *chunk;

		sched_yield();
		if (id == CANAL_NONE)
			continue;
		chunk = canal_arena_chunk(&arena, id);
		memset(chunk, (int)number, CANAL_CHUNK);
		sched_yield();
		for (uint32_t i = 0; i < CANAL_CHUNK; i++) {
			if (chunk[i] == number)
				continue;
			fprintf(stderr, "fifo_stress: byte %u of another's chunk is wrong\n", i);
			canal_xchg(&s->stop, 1);
			return 1;
		}
		canal_pool_give(&pool, id);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct workers_job jobs[] = {
		{ produce, NULL, 1 },
		{ consume, NULL, 2 },
		{ use_chunks, NULL, 3 },
		{ use_chunks, NULL, 4 },
	};
	struct shared *s = workers_memory(sizeof(*s));

	canal_fifo_init(&s->fifo, LIMIT);
	return workers_main(argc, argv, jobs, 2 + OTHERS, s);
}
