/* SPDX-License-Identifier: MIT */
/*
 * canal_fifo_pieces(), peek and poke on arbitrary tables, positions, lengths.
 *
 * Each piece lies in one chunk of the arena, and they are the bytes that the
 * simple arithmetic of wire.h says, in order; anything else is -EPROTO, and only
 * when an entry that is needed names no chunk. The arena is allocated to its
 * exact size: ASan sees any step outside.
 */
#include "fifo.h"
#include "fuzz.h"

#define CHUNKS_MAX 4u
#define PIECES_MAX 70

static uint32_t table[CANAL_FIFO_CHUNKS];

static void take_table(struct fuzz_input *in, uint32_t count)
{
	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++) {
		uint8_t how = fuzz_byte(in);

		if (how < 0xf0)
			table[i] = how % (count ? count : 1);
		else
			fuzz_take(in, &table[i], sizeof(table[i]));
	}
}

/* How many of the first @max pieces at @pos have a chunk: all or it is an error. */
static int count_pieces(uint64_t pos, uint64_t len, int max, uint32_t count)
{
	int n = 0;

	while (len && n < max) {
		uint64_t part = CANAL_CHUNK - pos % CANAL_CHUNK;

		if (table[pos / CANAL_CHUNK % CANAL_FIFO_CHUNKS] >= count)
			return -EPROTO;
		part = part < len ? part : len;
		pos += part;
		len -= part;
		n++;
	}
	return n;
}

static void check_piece(const struct canal_arena *a, const struct iovec *piece, uint64_t *pos,
			uint64_t *len)
{
	uint32_t id = table[*pos / CANAL_CHUNK % CANAL_FIFO_CHUNKS];
	uint8_t *base = piece->iov_base;

	fuzz_check(base == a->base + (uint64_t)id * CANAL_CHUNK + *pos % CANAL_CHUNK);
	fuzz_check(piece->iov_len > 0 && piece->iov_len <= *len);
	fuzz_check(*pos % CANAL_CHUNK + piece->iov_len <= CANAL_CHUNK);
	fuzz_check(base + piece->iov_len <= a->base + (uint64_t)a->count * CANAL_CHUNK);
	*pos += piece->iov_len;
	*len -= piece->iov_len;
}

static void check_pieces(const struct canal_arena *a, uint64_t pos, uint64_t len, int max)
{
	struct iovec iov[PIECES_MAX];
	int want = count_pieces(pos, len, max, a->count);
	int n = canal_fifo_pieces(table, a, pos, len, iov, max);

	fuzz_check(n == want);
	for (int i = 0; i < n; i++)
		check_piece(a, &iov[i], &pos, &len);
	fuzz_check(n < 0 || n == max || !len);
}

static void check_copies(const struct canal_arena *a, uint64_t pos, uint16_t len)
{
	uint8_t *in = calloc(1, len + 1u), *out = malloc(len + 1u);
	int want = count_pieces(pos, len, PIECES_MAX, a->count);

	if (!in || !out)
		abort();
	fuzz_check(canal_fifo_peek(table, a, pos, out, len) == (want < 0 ? want : 0));
	fuzz_check(canal_fifo_poke(table, a, pos, in, len) == (want < 0 ? want : 0));
	free(in);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_input in = { data, len };
	struct canal_arena arena = { NULL, fuzz_byte(&in) % (CHUNKS_MAX + 1) };
	uint64_t pos = fuzz_number(&in), run = fuzz_number(&in);
	int max = fuzz_byte(&in) % (PIECES_MAX + 1);

	arena.base = malloc((size_t)arena.count * CANAL_CHUNK + 1);
	if (!arena.base)
		abort();
	memset(arena.base, 0x5a, (size_t)arena.count * CANAL_CHUNK);
	take_table(&in, arena.count);
	check_pieces(&arena, pos, run, max);
	check_pieces(&arena, pos, run % (2 * CANAL_FIFO_MAX), max);
	check_copies(&arena, pos, (uint16_t)run);
	free(arena.base);
	return 0;
}
