/* SPDX-License-Identifier: MIT */
/*
 * Numbers of sockets: given ahead to the guest, and used again.
 *
 * Invariants
 *  1. A number is in free_socks, or granted (in the grant ring or taken by a guest
 *     that has not used it yet), or names an entry of socks[].
 *  2. What a number names is reset only when no thread of the guest holds a lock of
 *     the socket that had it before (F1).
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: CANAL_NONE when there is no number, or no descriptor, to be had.
 */
#include <string.h>
#include <unistd.h>

#include "sock.h"

/* A free number is tried this often before the guest is told that there is none. */
#define LOCKED_TRIES 16

/*
 * Whether a thread of the guest is still at a socket that ended (wait_trim()): a
 * reset would change it under its hands. F1 store-load: sock_destroy() stored the
 * state before this looks; whoever takes the lock later sees the state.
 */
static bool number_locked(struct channel *ch, uint32_t n)
{
	const struct canal_sock *shared = channel_shared(ch, n);

	return canal_load_acquire(&shared->tx.tx_lock) || canal_load_acquire(&shared->rx.rx_lock);
}

/* The free number that was used last; one that is locked waits further below. */
static uint32_t pop_number(struct channel *ch)
{
	for (uint32_t i = 0; i < ch->free_count && i < LOCKED_TRIES; i++) {
		uint32_t *top = &ch->free_socks[ch->free_count - 1], n = *top;

		if (!number_locked(ch, n)) {
			ch->free_count--;
			return n;
		}
		/* a number whose lock's holder died stays locked: not the same places again */
		ch->free_cursor = (ch->free_cursor + 1) % ch->free_count;
		*top = ch->free_socks[ch->free_cursor];
		ch->free_socks[ch->free_cursor] = n;
	}
	return CANAL_NONE;
}

/* A number for a new socket, its shared part reset; CANAL_NONE at the limit. */
uint32_t channel_take_number(struct channel *ch)
{
	struct canal_sock *shared;
	uint32_t n;

	if (fds_short())
		return CANAL_NONE;
	n = pop_number(ch);
	if (n == CANAL_NONE)
		return n;
	shared = channel_shared(ch, n);
	memset(shared, 0, offsetof(struct canal_sock, tx));
	shared->generation = ++ch->generation[n];
	shared->state = CANAL_SOCK_GRANTED;
	if (ch->generation[n] == 1) {
		canal_fifo_init(&shared->tx, DEFAULT_TX_LIMIT);
		canal_fifo_init(&shared->rx, DEFAULT_RX_LIMIT);
	} else {
		canal_fifo_reset(&shared->tx, DEFAULT_TX_LIMIT);
		canal_fifo_reset(&shared->rx, DEFAULT_RX_LIMIT);
	}
	return n;
}

void channel_give_number(struct channel *ch, uint32_t n)
{
	/* For epoll sets: what they know by this number is gone. */
	if (!ch->broken)
		channel_shared(ch, n)->generation = ++ch->generation[n];
	ch->free_socks[ch->free_count++] = n;
}

/*
 * Numbers are put into the grant ring as guests take them. How many were taken
 * is the guest's word, so it is held against what was given.
 */
void channel_grant(struct channel *ch)
{
	uint64_t taken = canal_load_acquire(&ch->region->grant_head);

	if (ch->grant_tail - taken > CHANNEL_GRANTS) {
		channel_break(ch, BROKEN_RING_STATE);
		return;
	}
	while (ch->grant_tail - taken < CHANNEL_GRANTS) {
		uint32_t n = channel_take_number(ch);

		if (n == CANAL_NONE) {
			/* the guest need not wait for what will not come */
			if (ch->grant_tail == taken)
				canal_write_once(&ch->region->grant_none, ++ch->grant_none);
			return;
		}
		ch->granted[n] = 1;
		canal_write_once(&ch->grant[ch->grant_tail % CHANNEL_GRANTS], n);
		/* G1 release: number and fresh socket before the grant */
		canal_store_release(&ch->region->grant_tail, ++ch->grant_tail);
	}
}

/*
 * The far end of a dummy. It may come before the INR_SOCKET of its socket was
 * served: then it waits for it.
 */
void channel_add_dummy(struct channel *ch, uint32_t n, uint32_t generation, int fd)
{
	if (n < ch->shape.socks && ch->generation[n] == generation) {
		if (ch->socks[n]) {
			sock_set_far(ch->socks[n], fd);
			return;
		}
		if (ch->granted[n] && !ch->early_far[n]) {
			ch->early_far[n] = fd == FD_REMOTE ? FD_REMOTE : fd + 1;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

/* It may have gone before the INR_SOCKET of its socket was served: that one ends then
 * as it begins. */
void channel_end_dummy(struct channel *ch, uint32_t n, uint32_t generation)
{
	if (n >= ch->shape.socks || ch->generation[n] != generation)
		return;
	if (ch->socks[n] && ch->socks[n]->far_fd == FD_REMOTE)
		sock_release(ch->socks[n]);
	else if (!ch->socks[n] && ch->early_far[n] == FD_REMOTE)
		ch->early_far[n] = FD_GONE;
}
