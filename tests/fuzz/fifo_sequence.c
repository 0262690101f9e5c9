/* SPDX-License-Identifier: MIT */
/*
 * A FIFO as a sequence of what producer and consumer do, against the simplest
 * model of a queue: the byte at each position is a function of the position.
 *
 * The input says how much is produced and consumed, when the producer looks at
 * head again (its look may be old), and when left-over chunks go to the pool,
 * where somebody writes into them at once. Every chunk is in the table once or
 * in the pool once, never both, never lost.
 *
 * Twin: with TWIN_ANY_ENTRY the producer takes every chunk in the table for one
 * that may be used; corpus/fifo_sequence/last-entry then finds another's bytes
 * (tests/model/fifo_chunks.pml says why).
 */
#include "fifo.h"
#include "fuzz.h"
#include "pool.h"

#define CHUNKS 70u
#define STEPS 160
#define UNIT 97u /* bytes per unit of a step's length */
#define MOST (255u * UNIT)
#define PERIOD 8191u /* of the bytes: shares no divisor with a chunk */
#define LIMIT (CANAL_FIFO_MAX - CANAL_CHUNK)

struct world {
	struct canal_fifo fifo;
	struct canal_arena arena;
	uint64_t pool_head;
	uint32_t pool_used;
	uint32_t pool_next[CHUNKS];
	struct canal_pool pool;
	uint64_t head_seen;
};

/* What lies at position 0, 1, ... and, from PERIOD on, again. */
static uint8_t pattern[PERIOD + MOST];

static const uint8_t *bytes_at(uint64_t pos)
{
	return pattern + pos % PERIOD;
}

static void make_pattern(void)
{
	for (uint64_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i % PERIOD * 0x9e3779b97f4a7c15ull >> 56);
}

static void give(struct world *w, uint32_t id)
{
	memset(canal_arena_chunk(&w->arena, id), 0xee, CANAL_CHUNK);
	canal_pool_give(&w->pool, id);
}

static bool has_chunk(const struct canal_fifo *f, uint64_t pos)
{
	bool any = f->chunk[canal_fifo_index(pos)] != CANAL_NONE;
#ifdef TWIN_ANY_ENTRY
	return any;
#endif
	return any && pos - canal_fifo_offset(pos) - f->reclaim < CANAL_FIFO_MAX;
}

/* Of all that the consumer has passed one is used, the others go to the pool. */
static uint32_t chunk_for(struct world *w)
{
	uint32_t kept = CANAL_NONE, id;

	while ((id = canal_fifo_take_back(w->fifo.chunk, &w->fifo.reclaim, w->head_seen)) !=
	       CANAL_NONE) {
		if (kept != CANAL_NONE)
			give(w, kept);
		kept = id;
	}
	return kept != CANAL_NONE ? kept : canal_pool_take(&w->pool);
}

static uint64_t add_chunks(struct world *w, uint64_t want)
{
	struct canal_fifo *f = &w->fifo;
	uint64_t end = f->tail;

	while (end < f->tail + want) {
		if (!has_chunk(f, end)) {
			uint32_t id = chunk_for(w);

			f->chunk[canal_fifo_index(end)] = id;
			if (id == CANAL_NONE)
				break;
		}
		end += CANAL_CHUNK - canal_fifo_offset(end);
	}
	return end - f->tail < want ? end - f->tail : want;
}

static void produce(struct world *w, uint64_t len)
{
	struct canal_fifo *f = &w->fifo;
	uint64_t room = f->limit - (f->tail - w->head_seen);

	len = add_chunks(w, len < room ? len : room);
	fuzz_check(!canal_fifo_poke(f->chunk, &w->arena, f->tail, bytes_at(f->tail), len));
	f->tail += len;
}

static void consume(struct world *w, uint64_t len)
{
	static uint8_t bytes[MOST];
	struct canal_fifo *f = &w->fifo;

	if (len > f->tail - f->head)
		len = f->tail - f->head;
	fuzz_check(!canal_fifo_peek(f->chunk, &w->arena, f->head, bytes, len));
	fuzz_check(!memcmp(bytes, bytes_at(f->head), len));
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
	w->fifo.limit = (uint32_t)(limit < LIMIT ? limit : LIMIT);
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

	if (!pattern[1])
		make_pattern();
	set_up(&w, &in);
	for (int i = 0; i < STEPS && in.len; i++)
		step(&w, &in);
	while (w.fifo.head != w.fifo.tail)
		consume(&w, MOST);
	check_chunks(&w);
	return 0;
}
