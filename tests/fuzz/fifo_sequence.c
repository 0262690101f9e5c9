/* SPDX-License-Identifier: MIT */
/*
 * A FIFO as a sequence of what producer and consumer do, against the simplest
 * model of a queue: the byte at each position is a function of the position.
 *
 * The input says how much is produced and consumed, when the producer looks at
 * head again (its look may be old), and when left-over chunks go to the pool,
 * where somebody writes into them at once. Every chunk is in the table once or
 * in the pool once, never both, never lost.
 */
#include "fuzz.h"
#include "fifo.h"
#include "pool.h"

#define CHUNKS 10u
#define STEPS 64
#define UNIT 67u /* bytes per unit of a step's length */
#define MOST (255u * UNIT)

struct world {
	struct canal_fifo fifo;
	struct canal_arena arena;
	uint64_t pool_head;
	uint32_t pool_used;
	uint32_t pool_next[CHUNKS];
	struct canal_pool pool;
	uint64_t head_seen;
};

static uint8_t bytes[MOST];

static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 0x9e3779b97f4a7c15ull >> 56);
}

static void give(struct world *w, uint32_t id)
{
	memset(canal_arena_chunk(&w->arena, id), 0xee, CANAL_CHUNK);
	canal_pool_give(&w->pool, id);
}

static uint64_t add_chunks(struct world *w, uint64_t want)
{
	struct canal_fifo *f = &w->fifo;
	uint64_t end = f->tail;

	while (end < f->tail + want) {
		uint32_t *entry = &f->chunk[canal_fifo_index(end)];

		if (*entry == CANAL_NONE)
			*entry = canal_fifo_take_back(f->chunk, &f->reclaim, w->head_seen);
		if (*entry == CANAL_NONE)
			*entry = canal_pool_take(&w->pool);
		if (*entry == CANAL_NONE)
			break;
		end += CANAL_CHUNK - canal_fifo_offset(end);
	}
	return end - f->tail < want ? end - f->tail : want;
}

static void produce(struct world *w, uint64_t len)
{
	struct canal_fifo *f = &w->fifo;
	uint64_t room = f->limit - (f->tail - w->head_seen);

	len = add_chunks(w, len < room ? len : room);
	for (uint64_t i = 0; i < len; i++)
		bytes[i] = byte_at(f->tail + i);
	fuzz_check(!canal_fifo_poke(f->chunk, &w->arena, f->tail, bytes, len));
	f->tail += len;
}

static void consume(struct world *w, uint64_t len)
{
	struct canal_fifo *f = &w->fifo;

	if (len > f->tail - f->head)
		len = f->tail - f->head;
	fuzz_check(!canal_fifo_peek(f->chunk, &w->arena, f->head, bytes, len));
	for (uint64_t i = 0; i < len; i++)
		fuzz_check(bytes[i] == byte_at(f->head + i));
	f->head += len;
}

static void give_left_over(struct world *w)
{
	uint32_t id = canal_fifo_take_back(w->fifo.chunk, &w->fifo.reclaim, w->head_seen);

	if (id != CANAL_NONE)
		give(w, id);
}

static void trim(struct world *w)
{
	uint32_t *entry = &w->fifo.chunk[canal_fifo_index(w->fifo.tail)];

	if (w->fifo.head != w->fifo.tail || *entry == CANAL_NONE)
		return;
	give(w, *entry);
	*entry = CANAL_NONE;
}

static void check_chunks(struct world *w)
{
	uint32_t times[CHUNKS] = { 0 }, n;

	fuzz_check(w->fifo.reclaim <= w->fifo.head && w->fifo.head <= w->fifo.tail);
	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++)
		if (w->fifo.chunk[i] != CANAL_NONE)
			times[w->fifo.chunk[i]]++;
	while ((n = canal_pool_take(&w->pool)) != CANAL_NONE)
		times[n]++;
	for (n = 0; n < CHUNKS; n++)
		fuzz_check(times[n] == 1);
}

static void step(struct world *w, struct fuzz_input *in)
{
	uint8_t what = fuzz_byte(in), len = fuzz_byte(in);

	switch (what % 6) {
	case 0:
	case 1:
		produce(w, len * UNIT);
		break;
	case 2:
	case 3:
		consume(w, len * UNIT);
		break;
	case 4:
		w->head_seen = w->fifo.head;
		break;
	default:
		if (len % 2)
			give_left_over(w);
		else
			trim(w);
	}
}

static void set_up(struct world *w, struct fuzz_input *in)
{
	uint64_t start = (uint64_t)fuzz_byte(in) * CANAL_CHUNK;
	uint64_t limit = (fuzz_byte(in) + 1u) * 4096u;

	canal_fifo_init(&w->fifo, 0);
	w->fifo.limit = limit < CANAL_FIFO_MAX - 2 * CANAL_CHUNK ? limit : CANAL_FIFO_MAX - 2 * CANAL_CHUNK;
	w->fifo.head = w->fifo.tail = w->fifo.reclaim = w->head_seen = start;
	w->pool_head = 0;
	w->pool_used = 0;
	w->pool = (struct canal_pool){ &w->pool_head, &w->pool_used, CHUNKS,
				       (uint8_t *)w->pool_next, sizeof(w->pool_next[0]) };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t memory[CHUNKS * CANAL_CHUNK];
	static struct world w = { .arena = { memory, CHUNKS } };
	struct fuzz_input in = { data, len };

	set_up(&w, &in);
	for (int i = 0; i < STEPS && in.len; i++)
		step(&w, &in);
	consume(&w, MOST);
	check_chunks(&w);
	return 0;
}
