/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * FIFOs: the bytes of one direction of one socket, in chunks.
 *
 * Purpose: the arithmetic that producer and consumer share. What differs by
 * role is not here: the guest works on the shared fields (all its processes
 * do, under tx_lock and rx_lock); the host keeps positions and its own chunk
 * table in private memory and only publishes.
 *
 * Invariants
 *  1. reclaim <= head <= tail <= reclaim + CANAL_FIFO_MAX; reclaim is a
 *     multiple of CANAL_CHUNK. So a producer's limit is at most one chunk less
 *     than CANAL_FIFO_MAX: head may stand in the middle of one.
 *  2. Every byte of [head, tail) lies in a chunk whose number was in the table
 *     before tail was published (R1), and stays there until head has passed
 *     its end (R2).
 *  3. Only the producer writes the table. An entry without chunk is CANAL_NONE.
 *
 * Failure: a consumer that does not trust the producer passes an arena, and
 * gets -EPROTO for a chunk number outside of it.
 */
#ifndef CANAL_FIFO_H
#define CANAL_FIFO_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/uio.h>
#define canal_iovec kvec
#else
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#define canal_iovec iovec
#endif

#include "order.h"
#include "wire.h"

/* Where chunks lie: private to a side, never taken from shared memory. */
struct canal_arena {
	uint8_t *base;
	uint32_t count;
};

static inline uint32_t canal_fifo_index(uint64_t pos)
{
	return (pos >> CANAL_CHUNK_SHIFT) % CANAL_FIFO_CHUNKS;
}

static inline uint32_t canal_fifo_offset(uint64_t pos)
{
	return pos & (CANAL_CHUNK - 1);
}

static inline uint8_t *canal_arena_chunk(const struct canal_arena *a, uint32_t n)
{
	return a->base + ((uint64_t)n << CANAL_CHUNK_SHIFT);
}

/* When a socket number is used again: chunks stay in the table for the next one,
 * and a lock is not taken from who still holds it. */
static inline void canal_fifo_reset(struct canal_fifo *f, uint32_t limit)
{
	f->tail = f->head = f->head_seen = f->reclaim = 0;
	f->limit = limit;
	f->closed = 0;
	f->drops = 0;
	f->mark = f->skip = f->taken = 0;
	f->urgent = 0;
	f->idle = 1;
	f->want_room = 0;
}

/* Before first use. */
static inline void canal_fifo_init(struct canal_fifo *f, uint32_t limit)
{
	memset(f->chunk, 0xff, sizeof(f->chunk));
	f->tx_lock = f->rx_lock = 0;
	canal_fifo_reset(f, limit);
}

/**
 * canal_fifo_pieces() - the memory behind a run of positions
 * @table: chunk table; each entry is read once
 * @a:     arena that the numbers must lie in
 * @pos:   first position
 * @len:   bytes
 * @iov:   filled
 * @max:   entries of @iov
 *
 * Return: entries filled (they may cover less than @len when @max is small), or
 * -EPROTO when the table names a chunk that does not exist.
 */
static inline int canal_fifo_pieces(const uint32_t *table, const struct canal_arena *a,
				    uint64_t pos, uint64_t len, struct canal_iovec *iov, int max)
{
	int n = 0;

	while (len && n < max) {
		uint32_t offset = canal_fifo_offset(pos);
		uint32_t part = CANAL_CHUNK - offset;
		uint32_t id = canal_read_once(&table[canal_fifo_index(pos)]);

		if (id >= a->count)
			return -EPROTO;
		if (part > len)
			part = len;
		iov[n].iov_base = canal_arena_chunk(a, id) + offset;
		iov[n].iov_len = part;
		n++;
		pos += part;
		len -= part;
	}
	return n;
}

/* Copies @len bytes at @pos out of (or into) the FIFO; -EPROTO as above. */
static inline int canal_fifo_peek(const uint32_t *table, const struct canal_arena *a, uint64_t pos,
				  void *buf, uint64_t len)
{
	while (len) {
		struct canal_iovec piece;
		int n = canal_fifo_pieces(table, a, pos, len, &piece, 1);

		if (n < 0)
			return n;
		memcpy(buf, piece.iov_base, piece.iov_len);
		buf = (uint8_t *)buf + piece.iov_len;
		pos += piece.iov_len;
		len -= piece.iov_len;
	}
	return 0;
}

static inline int canal_fifo_poke(const uint32_t *table, const struct canal_arena *a, uint64_t pos,
				  const void *buf, uint64_t len)
{
	while (len) {
		struct canal_iovec piece;
		int n = canal_fifo_pieces(table, a, pos, len, &piece, 1);

		if (n < 0)
			return n;
		memcpy(piece.iov_base, buf, piece.iov_len);
		buf = (const uint8_t *)buf + piece.iov_len;
		pos += piece.iov_len;
		len -= piece.iov_len;
	}
	return 0;
}

/**
 * canal_fifo_take_back() - one chunk that the consumer has passed
 * @table:   the producer's chunk table
 * @reclaim: the producer's position of that name; moves on
 * @head:    how far the consumer is, already checked
 *
 * Return: the chunk's number, CANAL_NONE when there is none.
 */
static inline uint32_t canal_fifo_take_back(uint32_t *table, uint64_t *reclaim, uint64_t head)
{
	while (*reclaim + CANAL_CHUNK <= head) {
		uint32_t *entry = &table[canal_fifo_index(*reclaim)];
		uint32_t id = *entry;

		canal_write_once(entry, CANAL_NONE);
		*reclaim += CANAL_CHUNK;
		if (id != CANAL_NONE)
			return id;
	}
	return CANAL_NONE;
}

/* Whether the mark of urgent data lies at @head or behind it. */
static inline bool canal_fifo_marked(const struct canal_fifo *f, uint64_t head)
{
	return canal_read_once(&f->mark) > head;
}

/* Whether @head stands at the mark: the next byte is the urgent one. */
static inline bool canal_fifo_at_mark(const struct canal_fifo *f, uint64_t head)
{
	return canal_read_once(&f->mark) == head + 1;
}

/* The space that a datagram takes. */
static inline uint64_t canal_dgram_span(uint32_t len)
{
	return sizeof(struct canal_dgram) +
	       (((uint64_t)len + CANAL_DGRAM_ALIGN - 1) & ~(uint64_t)(CANAL_DGRAM_ALIGN - 1));
}

/* With its control messages. */
static inline uint64_t canal_dgram_extent(const struct canal_dgram *record)
{
	return canal_dgram_span(record->len) + CANAL_DGRAM_CONTROL(record->flags);
}

#endif
