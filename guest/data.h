/* SPDX-License-Identifier: MIT */
/*
 * What stream.c and dgram.c share: the guest's side of the two FIFOs.
 *
 * Purpose: chunks for the producer, publication, and scattered user buffers.
 *
 * Ownership and threads: tx_*() under tx_lock, rx_*() under rx_lock, except
 * where it is said.
 */
#ifndef CANAL_GUEST_DATA_H
#define CANAL_GUEST_DATA_H

#include <limits.h>
#include <string.h>

#include "guest.h"
#include "lock.h"

/* canal_sock.shut */
#define SHUT_READ 1u
#define SHUT_WRITE 2u

/* The producer keeps one chunk less than the table holds: the chunk of tail and
 * the chunk of head are then never in the same entry. */
#define TX_MOST (CANAL_FIFO_MAX - CANAL_CHUNK)

/* Positions in the program's buffers. */
struct cursor {
	const struct iovec *iov;
	size_t done; /* bytes of iov[0] behind us */
};

/* Total length, or -EINVAL when it is more than ssize_t holds. */
static inline ssize_t iov_total(const struct iovec *iov, int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > (size_t)SSIZE_MAX - total)
			return -EINVAL;
		total += iov[i].iov_len;
	}
	return (ssize_t)total;
}

/* Copies the next @len bytes of the program's buffers to @to. */
void cursor_take(struct cursor *c, uint8_t *to, size_t len);
/* Copies @len bytes into the program's buffers. */
void cursor_put(struct cursor *c, const uint8_t *from, size_t len);

static inline bool data_nonblock(const struct canal_sock *s, int flags)
{
	return (flags & MSG_DONTWAIT) || (canal_read_once(&s->status) & CANAL_STATUS_NONBLOCK);
}

/* When a call that begins to wait now has to stop waiting. */
static inline int64_t data_deadline(const uint64_t *timeo_ns)
{
	uint64_t timeo = canal_read_once(timeo_ns);

	return timeo && timeo < INT64_MAX / 2 ? wait_now() + (int64_t)timeo : WAIT_FOREVER;
}

/* Takes the pending error: 0 or -errno. Any thread. */
static inline int data_take_error(struct canal_sock *s)
{
	return canal_read_once(&s->so_error) ? -(int)canal_xchg(&s->so_error, 0u) : 0;
}

/* Until the host has served INR_SOCKET: domain, type and limits are not there
 * before. Any thread. */
void data_settle(struct canal_sock *s);

static inline bool data_settled(const struct canal_sock *s)
{
	return likely(canal_load_acquire(&s->state) != CANAL_SOCK_GRANTED);
}

/*
 * Another thread closed the socket, and its number is another's by now or will be:
 * this call is not for that one.
 */
static inline bool sock_lost(const struct canal_sock *s, uint32_t generation)
{
	/* raised when the host lets go of it */
	return canal_load_acquire(&s->generation) != generation;
}

static inline bool sock_is_connecting(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_CONNECTING || sock_connecting(s);
}

/* A connect() failed, and none told so yet; afterwards it is as if new. */
static inline bool connect_untold(const struct canal_sock *s, uint32_t state)
{
	return state == CANAL_SOCK_FAILED && (canal_read_once(&s->status) & SOCK_CONNECT_BEGUN);
}

typedef struct {
	uint64_t word[2];
} __attribute__((packed, may_alias)) data_pair;

/*
 * A copy of a small message. A call of memcpy() would cost as much again: it is behind
 * the PLT, and chooses among its ways first. Both ends of a middle size overlap.
 */
static inline __attribute__((always_inline)) void data_copy(uint8_t *to, const uint8_t *from,
							    size_t len)
{
	data_pair first, second, third, last;

	if (unlikely(len > 64) || len < 16) {
		memcpy(to, from, len);
		return;
	}
	first = *(const data_pair *)from;
	last = *(const data_pair *)(from + len - 16);
	if (len > 32) {
		second = *(const data_pair *)(from + 16);
		third = *(const data_pair *)(from + len - 32);
		*(data_pair *)(to + 16) = second;
		*(data_pair *)(to + len - 32) = third;
	}
	*(data_pair *)to = first;
	*(data_pair *)(to + len - 16) = last;
}

static inline bool rx_has(const struct canal_sock *s, size_t more_than)
{
	/* R1 acquire: tail before what we do because of it */
	return canal_load_acquire(&s->rx.tail) - canal_read_once(&s->rx.head) > more_than;
}

/* What recv and poll wait for; never more than RX can hold. */
static inline size_t rx_lowat(const struct canal_sock *s)
{
	uint32_t most, lowat = canal_read_once(&s->rcvlowat);

	if (likely(lowat <= 1))
		return 1;
	most = canal_read_once(&s->rx.limit) / 2;
	return lowat < most ? lowat : most ? most : 1;
}

static inline uint64_t tx_limit(const struct canal_fifo *f)
{
	uint64_t limit = canal_read_once(&f->limit);

	return limit < TX_MOST ? limit : TX_MOST;
}

static inline uint64_t tx_room(const struct canal_fifo *f, uint64_t tail, uint64_t head)
{
	uint64_t limit = tx_limit(f), used = tail - head;

	return used < limit ? limit - used : 0;
}

/* Room enough to be called writable; the host wakes at the same mark. Any
 * thread, without the lock. */
static inline bool tx_writable(const struct canal_fifo *f)
{
	uint64_t limit = tx_limit(f);
	/* R2 acquire: the host's reads before our writes to that room */
	uint64_t head = canal_load_acquire(&f->head);
	uint64_t used = canal_read_once(&f->tail) - head;

	return used < limit && (limit - used) * 3 >= limit;
}

/* A chunk can be had, or is in hand. */
static inline bool tx_has_chunk(const struct canal_fifo *f)
{
	const struct canal_pool *pool = &the_channel.tx_pool;

	return likely(canal_read_once(pool->used) < pool->count) ||
	       (uint32_t)canal_read_once(pool->head) ||
	       canal_read_once(&f->chunk[canal_fifo_index(canal_read_once(&f->tail))]) <
		       pool->count;
}

/* The same for who wants to be told: arms want_room before it says no. */
static inline bool tx_writable_armed(struct canal_fifo *f)
{
	if (tx_writable(f) && tx_has_chunk(f))
		return true;
	/* S1: armed (by us or by somebody before) before the last look */
	if (!canal_load_acquire(&f->want_room))
		canal_arm(&f->want_room);
	return tx_writable(f) && tx_has_chunk(f);
}

/**
 * tx_chunk() - the chunk that a position lies in; takes one when there is none
 * @pos:  at or behind tail, less than TX_MOST behind @head
 * @head: how far the host is
 *
 * Return: chunk number, CANAL_NONE when the channel has no chunk left.
 */
uint32_t tx_chunk(struct canal_sock *s, uint64_t pos, uint64_t head);

void data_post(uint32_t op, uint32_t n);

/* Stores a position, then lets the caller look at what the host armed. */
static inline void publish(uint64_t *position, uint64_t value)
{
	if (likely(the_channel.light)) {
		canal_store_release(position, value);
		canal_light_fence(); /* S2 light; pairs with heavy_fence() */
	} else {
		canal_store_fence(position, value);
	}
}

/* Makes the bytes below @tail visible; tells the host if it stopped looking. */
static inline void tx_publish(struct canal_sock *s, uint32_t n, uint64_t tail)
{
	/* R1 release: bytes and chunks before tail; pairs with the host's
	 * acquire of tail. With the fence for S1, or S2 light. */
	publish(&s->tx.tail, tail);
	if (unlikely(canal_take(&s->tx.idle)))
		data_post(CANAL_INR_TX, n);
}

/* Gives the bytes below @head back; tells the host if it waits for the room. */
static inline void rx_consumed(struct canal_sock *s, uint32_t n, uint64_t head, uint64_t tail)
{
	struct canal_fifo *f = &s->rx;

	/* R2 release: our reads before head; pairs with the host's acquire of
	 * head. With the fence for S1, or S2 light. */
	publish(&f->head, head);
	if (unlikely(canal_read_once(&f->want_room)) &&
	    (tail - head) * 2 <= canal_read_once(&f->limit) && canal_take(&f->want_room))
		data_post(CANAL_INR_RX, n);
}

#endif
