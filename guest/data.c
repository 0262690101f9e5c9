/* SPDX-License-Identifier: MIT */
/*
 * What stream.c and dgram.c share, and need seldom enough for a call; see data.h.
 *
 * Ownership and threads: tx_chunk() under tx_lock; the rest by any thread.
 *
 * Failure: no chunk left: CANAL_NONE.
 */
#include <string.h>

#include "data.h"
#include "handover.h"
#include "sys.h"

/* Of a socket that is not there yet, between questions whether it ever will be. */
#define SETTLE_LOOKS 256

void cursor_take(struct cursor *c, uint8_t *to, size_t len)
{
	while (len) {
		size_t part = c->iov->iov_len - c->done;

		if (part > len)
			part = len;
		if (part)
			memcpy(to, (const uint8_t *)c->iov->iov_base + c->done, part);
		to += part;
		len -= part;
		c->done += part;
		if (len) {
			c->iov++;
			c->done = 0;
		}
	}
}

void cursor_put(struct cursor *c, const uint8_t *from, size_t len)
{
	while (len) {
		size_t part = c->iov->iov_len - c->done;

		if (part > len)
			part = len;
		if (part)
			memcpy((uint8_t *)c->iov->iov_base + c->done, from, part);
		from += part;
		len -= part;
		c->done += part;
		if (len) {
			c->iov++;
			c->done = 0;
		}
	}
}

__attribute__((noinline)) void data_post(uint32_t op, uint32_t n)
{
	struct canal_inr inr = { .op = (canal_u8)op, .sock = n, .slot = CANAL_NONE };

	/* A dead channel shows elsewhere. */
	(void)channel_post(&the_channel, &inr);
}

/*
 * It may have published a position and died before the host knew, or with the flag in
 * its hand by which the host asks to be told: then nobody else would tell.
 */
/* The socket that @lock may be one of; NULL: it is of a set, or of this process. */
static const struct canal_sock *lock_socket(const uint32_t *lock, uint32_t *ret_n)
{
	const uint8_t *at = (const uint8_t *)lock;
	const struct channel *ch = &the_channel;
	uint64_t n;

	if (!ch->sock || at < ch->sock)
		return NULL;
	n = (uint64_t)(at - ch->sock) / ch->sock_stride;
	if (n >= ch->sock_count)
		return NULL;
	*ret_n = (uint32_t)n;
	return channel_sock(ch, *ret_n);
}

bool lock_is_fifo(const uint32_t *lock)
{
	uint32_t n;
	const struct canal_sock *s = lock_socket(lock, &n);

	return s && (lock == &s->tx.tx_lock || lock == &s->rx.rx_lock);
}

void lock_taken_over(const uint32_t *lock)
{
	uint32_t n;
	const struct canal_sock *s = lock_socket(lock, &n);

	if (s && lock == &s->tx.tx_lock)
		data_post(CANAL_INR_TX, n);
	if (s && lock == &s->rx.rx_lock)
		data_post(CANAL_INR_RX, n);
}

/* This process has a descriptor of it. */
static bool is_held(const struct canal_sock *s)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (fd_sock(fd) == s)
			return true;
	return false;
}

/* One that another thread has closed may be granted again, and wait for its next user
 * for ever. */
void data_settle(struct canal_sock *s)
{
	for (unsigned int i = 0; !data_settled(s) && !channel_gone(&the_channel); i++) {
		if (i % SETTLE_LOOKS == SETTLE_LOOKS - 1 && !is_held(s))
			return;
		if (i < 100)
			canal_relax();
		else if (i < 200)
			sys_yield();
		else
			(void)wait_nap(50000);
	}
}

/*
 * Of the chunks that the host has passed, the one it passed last is the warmest:
 * that is used, the others go to the pool. An entry that is in use already was
 * left by a producer that got no further.
 */
__attribute__((noinline)) uint32_t tx_chunk(struct canal_sock *s, uint64_t pos, uint64_t head)
{
	struct canal_fifo *f = &s->tx;
	struct canal_pool *pool = &the_channel.tx_pool;
	uint64_t start = pos & ~(uint64_t)(CANAL_CHUNK - 1);
	uint32_t *entry = &f->chunk[canal_fifo_index(pos)];
	uint32_t id = *entry, back;

	if (id < pool->count && start - f->reclaim < CANAL_FIFO_MAX) {
		wait_note_tx(s);
		return id;
	}
	id = CANAL_NONE;
	while ((back = canal_fifo_take_back(f->chunk, &f->reclaim, head)) != CANAL_NONE) {
		if (id != CANAL_NONE)
			canal_pool_give(pool, id);
		id = back;
	}
	if (id == CANAL_NONE)
		id = canal_pool_take(pool);
	if (id == CANAL_NONE && wait_scavenge(&the_channel))
		id = canal_pool_take(pool);
	if (id == CANAL_NONE)
		return id;
	canal_write_once(entry, id);
	wait_note_tx(s);
	return id;
}
