/* SPDX-License-Identifier: MIT */
/*
 * fifo.h in one thread: where bytes lie, across chunks and across the end of the
 * table; chunks taken back; tables that name chunks that do not exist.
 */
#include "cmocka_begin.h"

#include "fifo.h"

#define CHUNKS 8u
#define MAX (CHUNKS * CANAL_CHUNK)

struct fixture {
	struct canal_fifo fifo;
	uint8_t memory[MAX];
	struct canal_arena arena;
};

static int set_up(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	canal_fifo_init(&f.fifo, CANAL_CHUNK);
	f.arena = (struct canal_arena){ f.memory, CHUNKS };
	*state = &f;
	return 0;
}

static void put_chunk(struct fixture *f, uint64_t pos, uint32_t id)
{
	f->fifo.chunk[canal_fifo_index(pos)] = id;
}

static int pieces(struct fixture *f, uint64_t pos, uint64_t len, struct iovec *iov, int max)
{
	return canal_fifo_pieces(f->fifo.chunk, &f->arena, pos, len, iov, max);
}

static void new_fifo_has_no_chunk(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++)
		assert_int_equal(f->fifo.chunk[i], CANAL_NONE);
	assert_int_equal(f->fifo.limit, CANAL_CHUNK);
	assert_int_equal(f->fifo.idle, 1);
	assert_int_equal(f->fifo.tail, 0);
	assert_int_equal(f->fifo.head, 0);
}

static void piece_within_a_chunk(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2] = { { 0 } };

	put_chunk(f, 0, 3);
	assert_int_equal(pieces(f, 100, 50, iov, 2), 1);
	assert_ptr_equal(iov[0].iov_base, f->memory + 3 * CANAL_CHUNK + 100);
	assert_int_equal(iov[0].iov_len, 50);
}

static void no_bytes_no_piece(void **state)
{
	struct iovec iov[1];

	assert_int_equal(pieces(*state, 100, 0, iov, 1), 0);
}

static void pieces_across_chunks(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[4];

	put_chunk(f, 0, 5);
	put_chunk(f, CANAL_CHUNK, 0);
	put_chunk(f, 2 * CANAL_CHUNK, 7);
	assert_int_equal(pieces(f, CANAL_CHUNK - 1, CANAL_CHUNK + 2, iov, 4), 3);
	assert_ptr_equal(iov[0].iov_base, f->memory + 6 * CANAL_CHUNK - 1);
	assert_int_equal(iov[0].iov_len, 1);
	assert_ptr_equal(iov[1].iov_base, f->memory);
	assert_int_equal(iov[1].iov_len, CANAL_CHUNK);
	assert_ptr_equal(iov[2].iov_base, f->memory + 7 * CANAL_CHUNK);
	assert_int_equal(iov[2].iov_len, 1);
}

static void pieces_that_end_with_a_chunk_need_no_next(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2] = { { 0 } };

	put_chunk(f, 0, 1);
	assert_int_equal(pieces(f, 0, CANAL_CHUNK, iov, 2), 1);
	assert_int_equal(iov[0].iov_len, CANAL_CHUNK);
}

static void pieces_across_the_end_of_the_table(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[2] = { { 0 } };
	uint64_t lap = (uint64_t)CANAL_FIFO_MAX * 1000;

	put_chunk(f, lap - 1, 2);
	put_chunk(f, lap, 4);
	assert_int_equal(canal_fifo_index(lap), 0);
	assert_int_equal(pieces(f, lap - 8, 16, iov, 2), 2);
	assert_ptr_equal(iov[0].iov_base, f->memory + 3 * CANAL_CHUNK - 8);
	assert_ptr_equal(iov[1].iov_base, f->memory + 4 * CANAL_CHUNK);
}

static void short_vector_covers_less(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[1];

	put_chunk(f, 0, 0);
	assert_int_equal(pieces(f, 10, CANAL_FIFO_MAX, iov, 1), 1);
	assert_int_equal(iov[0].iov_len, CANAL_CHUNK - 10);
	assert_int_equal(pieces(f, 10, CANAL_FIFO_MAX, iov, 0), 0);
}

static void chunk_outside_of_the_arena_is_refused(void **state)
{
	struct fixture *f = *state;
	const uint32_t bad[] = { CHUNKS, CHUNKS + 1, 0x80000000u, 0xfffffffeu, CANAL_NONE };
	struct iovec iov[4];
	uint8_t byte = 0;

	put_chunk(f, 0, CHUNKS - 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_chunk(f, CANAL_CHUNK, bad[i]);
		assert_int_equal(pieces(f, 0, CANAL_CHUNK + 1, iov, 4), -EPROTO);
		assert_int_equal(pieces(f, 0, CANAL_CHUNK, iov, 4), 1);
		assert_int_equal(canal_fifo_peek(f->fifo.chunk, &f->arena, CANAL_CHUNK, &byte, 1),
				 -EPROTO);
		assert_int_equal(canal_fifo_poke(f->fifo.chunk, &f->arena, CANAL_CHUNK, &byte, 1),
				 -EPROTO);
	}
}

static void poked_bytes_are_peeked(void **state)
{
	struct fixture *f = *state;
	uint64_t base = 5ull * CANAL_FIFO_MAX - CANAL_CHUNK - 3;
	static uint8_t in[2 * CANAL_CHUNK + 7], out[sizeof(in)];

	for (uint32_t i = 0; i < 4; i++)
		put_chunk(f, base + (uint64_t)i * CANAL_CHUNK, (i * 3 + 1) % CHUNKS);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 31 + i / 251);
	assert_int_equal(canal_fifo_poke(f->fifo.chunk, &f->arena, base, in, sizeof(in)), 0);
	assert_int_equal(canal_fifo_peek(f->fifo.chunk, &f->arena, base, out, sizeof(out)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(canal_fifo_peek(f->fifo.chunk, &f->arena, base + CANAL_CHUNK, out, 5), 0);
	assert_memory_equal(in + CANAL_CHUNK, out, 5);
}

static void nothing_comes_back_before_its_end_was_passed(void **state)
{
	struct fixture *f = *state;
	uint64_t reclaim = 0;

	put_chunk(f, 0, 6);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, 0), CANAL_NONE);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, CANAL_CHUNK - 1),
			 CANAL_NONE);
	assert_int_equal(reclaim, 0);
	assert_int_equal(f->fifo.chunk[0], 6);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, CANAL_CHUNK), 6);
	assert_int_equal(reclaim, CANAL_CHUNK);
	assert_int_equal(f->fifo.chunk[0], CANAL_NONE);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, CANAL_CHUNK), CANAL_NONE);
}

static void chunks_come_back_one_by_one_over_gaps(void **state)
{
	struct fixture *f = *state;
	uint64_t reclaim = (CANAL_FIFO_CHUNKS - 1ull) * CANAL_CHUNK;
	uint64_t head = reclaim + 4 * CANAL_CHUNK + 1;

	put_chunk(f, reclaim, 1);
	put_chunk(f, reclaim + 2 * CANAL_CHUNK, 2);
	put_chunk(f, reclaim + 4 * CANAL_CHUNK, 3);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, head), 1);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, head), 2);
	assert_int_equal(canal_fifo_take_back(f->fifo.chunk, &reclaim, head), CANAL_NONE);
	assert_int_equal(reclaim, (CANAL_FIFO_CHUNKS + 3ull) * CANAL_CHUNK);
	assert_int_equal(f->fifo.chunk[canal_fifo_index(head)], 3);
}

/*
 * Why a limit stays a chunk below CANAL_FIFO_MAX: with head inside a chunk, a
 * full table's worth of bytes begins and ends in the same entry.
 */
static void whole_table_shares_an_entry(void **state)
{
	uint64_t head = 100, last = head + CANAL_FIFO_MAX - 1;

	(void)state;
	assert_int_equal(canal_fifo_index(last), canal_fifo_index(head));
	last = head + CANAL_FIFO_MAX - CANAL_CHUNK - 1;
	for (uint64_t pos = head + CANAL_CHUNK; pos <= last; pos += CANAL_CHUNK)
		assert_int_not_equal(canal_fifo_index(pos), canal_fifo_index(head));
	assert_int_not_equal(canal_fifo_index(last), canal_fifo_index(head));
}

static void dgram_span_is_padded(void **state)
{
	(void)state;
	assert_int_equal(canal_dgram_span(0), sizeof(struct canal_dgram));
	assert_int_equal(canal_dgram_span(1), sizeof(struct canal_dgram) + 8);
	assert_int_equal(canal_dgram_span(8), sizeof(struct canal_dgram) + 8);
	assert_int_equal(canal_dgram_span(9), sizeof(struct canal_dgram) + 16);
	assert_int_equal(canal_dgram_span(UINT32_MAX), sizeof(struct canal_dgram) + (1ull << 32));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		CASE(new_fifo_has_no_chunk),
		CASE(piece_within_a_chunk),
		CASE(no_bytes_no_piece),
		CASE(pieces_across_chunks),
		CASE(pieces_that_end_with_a_chunk_need_no_next),
		CASE(pieces_across_the_end_of_the_table),
		CASE(short_vector_covers_less),
		CASE(chunk_outside_of_the_arena_is_refused),
		CASE(poked_bytes_are_peeked),
		CASE(nothing_comes_back_before_its_end_was_passed),
		CASE(chunks_come_back_one_by_one_over_gaps),
		CASE(whole_table_shares_an_entry),
		CASE(dgram_span_is_padded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
