/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A lock-free pool of numbers, kept by the guest in shared memory.
 *
 * Purpose: TX chunks and subscriptions are taken and given back by any thread
 * of any process of a channel. A number that was never used comes from a
 * counter, so that untouched memory stays untouched; a returned one is used
 * again first, because it is warm.
 *
 * Invariants
 *  1. head is (tag << 32 | number + 1); the tag grows with every take, so a
 *     head that was read before cannot be mistaken for the same number later.
 *
 * Ownership and threads: guest only; the host never follows these lists.
 * Failure: a process that dies between take and use loses that one number until
 * the channel is closed.
 */
#ifndef CANAL_POOL_H
#define CANAL_POOL_H

#include "order.h"
#include "wire.h"

/* The link field of number @n; tables differ in their stride. */
struct canal_pool {
	uint64_t *head;
	uint32_t *used;
	uint32_t count;
	uint8_t *link;   /* address of the link of number 0 */
	uint32_t stride; /* bytes from one link to the next */
};

static inline uint32_t *canal_pool_link(const struct canal_pool *p, uint32_t n)
{
	return (uint32_t *)(void *)(p->link + (uint64_t)n * p->stride);
}

/* Return: a number, or CANAL_NONE when all are taken. */
static inline uint32_t canal_pool_take(const struct canal_pool *p)
{
	/* A1 acquire: what the giver wrote; pairs with canal_pool_give() */
	uint64_t head = canal_load_acquire(p->head);
	uint32_t n;

	while ((uint32_t)head) {
		n = (uint32_t)head - 1;
		uint64_t next = ((head >> 32) + 1) << 32 | canal_read_once(canal_pool_link(p, n));

		if (canal_cas(p->head, head, next))
			return n;
		head = canal_load_acquire(p->head);
	}
	n = canal_read_once(p->used);
	while (n < p->count) {
		if (canal_cas(p->used, n, n + 1))
			return n;
		n = canal_read_once(p->used);
	}
	return CANAL_NONE;
}

static inline void canal_pool_give(const struct canal_pool *p, uint32_t n)
{
	for (;;) {
		uint64_t head = canal_load_acquire(p->head);

		canal_write_once(canal_pool_link(p, n), (uint32_t)head);
		/* A1 release: the link before the head (a full fence in fact) */
		if (canal_cas(p->head, head, (head >> 32) << 32 | (uint64_t)(n + 1)))
			return;
	}
}

#endif
