/* SPDX-License-Identifier: MIT */
/*
 * Sockets that are closed while another thread waits in a call on them.
 *
 * Purpose: in the kernel a call holds the open file description, so that close() takes
 * the number away and nothing else. Here the descriptor is the socket's life: who
 * closes the last one while another thread sleeps on that socket leaves that thread a
 * duplicate, which it closes when its call is over, and tells canald so.
 *
 * Invariants
 *  1. Nothing is paid for by who does not sleep, and a sleep costs no system call.
 *  2. A duplicate belongs to the thread that owns the wait slot, until it or the closer
 *     takes it out by an exchange.
 *
 * Ownership and threads: one record for each wait slot that is a thread's of this
 * process. No lock and no allocation: signal handlers close, too.
 *
 * Failure: without a descriptor to be had the waiter is woken, and its call ends. A poll
 * of several sockets keeps none of them. A record that a longjmp left behind keeps a
 * socket open until that thread has slept in another call.
 */
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "guest.h"

#define WAIT_SLOTS 1024 /* the wire has no more */

struct record {
	uint32_t waits_on; /* socket plus 1; 0: does not sleep */
	uint32_t kept;     /* the duplicate plus 1 */
};

__thread uint32_t keep_slot __attribute__((tls_model("initial-exec"), visibility("hidden")));

static struct record records[WAIT_SLOTS];

void keep_begin(uint32_t slot, uint32_t n)
{
	/* alone: nobody else can close it */
	if (slot >= WAIT_SLOTS || __libc_single_threaded)
		return;
	canal_write_once(&records[slot].waits_on, n + 1);
	keep_slot = slot + 1;
}

static bool drop(struct record *r)
{
	uint32_t kept = canal_read_once(&r->kept) ? canal_xchg(&r->kept, 0u) : 0;
	int saved = errno;

	if (kept)
		fd_close_own((int)kept - 1);
	errno = saved;
	return kept;
}

/* The closer's hint came too early: what comes now finds the socket gone, as behind close(). */
static void drop_at_once(struct record *r, uint32_t n)
{
	const struct canal_inr inr = {
		.op = CANAL_INR_CLOSE,
		.sock = n,
		.slot = CANAL_NONE,
	};
	int saved = errno;

	if (drop(r) && the_channel.client && !the_channel.dead)
		(void)channel_post(&the_channel, &inr);
	errno = saved;
}

void keep_end(void)
{
	struct record *r = &records[keep_slot - 1];
	uint32_t n;

	keep_slot = 0;
	/* V1 store-load: the wait is over, before the look at what was kept */
	n = canal_xchg(&r->waits_on, 0u);
	drop_at_once(r, n - 1);
}

static void leave(struct record *r, int fd, uint32_t n)
{
	int copy = fd_move_high(real(fcntl)(fd, F_DUPFD_CLOEXEC, NULL));

	if (copy < 0)
		return;
	if (!canal_cas(&r->kept, 0u, (uint32_t)copy + 1)) {
		fd_close_own(copy);
		return;
	}
	/* V1 store-load: what is kept, before the look whether it waits still */
	canal_full_fence();
	if (canal_read_once(&r->waits_on) != n + 1)
		(void)drop(r);
}

void keep_open(int fd, uint32_t n)
{
	uint32_t used;
	int saved = errno;

	if (__libc_single_threaded)
		return;
	used = canal_read_once(&the_channel.region->wait_used);
	for (uint32_t i = 0; i < used && i < WAIT_SLOTS; i++)
		if (canal_read_once(&records[i].waits_on) == n + 1 && i + 1 != keep_slot)
			leave(&records[i], fd, n);
	errno = saved;
}

void keep_after_fork(void)
{
	for (uint32_t i = 0; i < WAIT_SLOTS; i++) {
		if (!records[i].waits_on && !records[i].kept)
			continue;
		records[i].waits_on = 0;
		(void)drop(&records[i]);
	}
	keep_slot = 0;
}
