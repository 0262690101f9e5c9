/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a socket's two FIFOs.
 *
 * Purpose: consumes TX and produces RX. Positions and the RX chunk table live in
 * struct sock; the shared ones are read once, checked by subtraction, and
 * written only to publish.
 *
 * Invariants
 *  1. tx_head <= tail of TX <= tx_head + CANAL_FIFO_MAX, or the channel breaks.
 *  2. rx_reclaim <= head of RX <= rx_tail <= rx_backed; the chunks of
 *     [rx_reclaim, rx_backed) are in rx_chunk and in nobody else's table.
 *  3. A socket is in a poller's list exactly when its flag says so.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: false, after channel_break().
 */
#include <linux/membarrier.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sock.h"

/* --- lists of the poller ----------------------------------------------- */

void sock_mark_tx(struct sock *s)
{
	struct poller *p = s->channel->poller;

	s->tx_quiet = 0;
	s->tx_look_ns = 0;
	ref_mark(s);
	if (s->tx_busy || s->tx_blocked || s->dead)
		return;
	s->tx_busy = true;
	p->tx_busy_count++;
	cds_list_add_tail(&s->tx_link, &p->tx_busy);
}

void sock_unmark_tx(struct sock *s)
{
	if (!s->tx_busy)
		return;
	s->tx_busy = false;
	s->tx_idling = false;
	s->channel->poller->tx_busy_count--;
	cds_list_del(&s->tx_link);
}

void sock_mark_rx(struct sock *s)
{
	if (s->rx_ready || s->rx_parked || s->rx_eof || s->released || s->dead || s->broken_off)
		return;
	s->rx_ready = true;
	cds_list_add_tail(&s->rx_link, &s->channel->poller->rx_ready);
}

void sock_unmark_rx(struct sock *s)
{
	if (!s->rx_ready)
		return;
	s->rx_ready = false;
	cds_list_del(&s->rx_link);
}

/*
 * It has something to take in and nothing to put it into (a chunk, a number, a
 * descriptor). Nobody tells when there is: it is tried again from time to time.
 */
void sock_starve(struct sock *s)
{
	sock_unmark_rx(s);
	if (s->starved || s->dead)
		return;
	s->starved = true;
	urgent_held_up(s);
	cds_list_add_tail(&s->starved_link, &s->channel->poller->starved);
}

void sock_unstarve(struct sock *s)
{
	if (!s->starved)
		return;
	s->starved = false;
	cds_list_del(&s->starved_link);
}

/* --- TX: the host consumes --------------------------------------------- */

bool sock_tx_avail(struct sock *s, uint64_t *ret_bytes)
{
	/* R1 acquire: tail before the bytes; pairs with the guest's publication */
	uint64_t bytes = canal_load_acquire(&s->shared->tx.tail) - s->tx_head;

	if (bytes > CANAL_FIFO_MAX) {
		channel_break(s->channel, BROKEN_TX_POSITION);
		return false;
	}
	*ret_bytes = bytes;
	return true;
}

#define SMALL_TAKE 4096
#define SMALL_REST_NS 1000

void sock_tx_consumed(struct sock *s, uint64_t len)
{
	struct canal_fifo *tx = &s->shared->tx;
	uint64_t used;

	/* A producer of small pieces is left alone for a moment: each look takes
	 * the line of tail away from it. */
	if (len < SMALL_TAKE)
		s->tx_look_ns = s->channel->poller->now_ns + SMALL_REST_NS;
	s->tx_head += len;
	s->tx_bytes += len;
	s->channel->count.tx_bytes += len;
	/* R2 release: our reads before head; a publication of room */
	canal_store_fence(&tx->head, s->tx_head);
	if (!canal_read_once(&tx->want_room))
		return;
	used = canal_read_once(&tx->tail) - s->tx_head;
	if (used <= s->tx_limit - s->tx_limit / 3 && canal_take(&tx->want_room))
		wake_socket(s, EPOLLOUT);
}

/* How many passes an empty FIFO is looked at before the guest must tell. */
#define QUIET_PASSES 256
/* With more busy FIFOs than this an empty one is given up at once. */
#define QUIET_SOCKETS 16

/* Something waits for TX to be empty: sock_drained(). */
static bool wants_drained(const struct sock *s)
{
	return s->released || (s->tx_shut && !s->tx_fin_sent);
}

/*
 * TX is empty. For a while the host goes on looking; then the socket is given
 * up at the end of the pass, with others, until INR_TX.
 */
void sock_tx_quiet(struct sock *s)
{
	struct poller *p = s->channel->poller;

	if (wants_drained(s)) {
		sock_unmark_tx(s);
		sock_drained(s);
		return;
	}
	if (++s->tx_quiet < QUIET_PASSES && p->tx_busy_count <= QUIET_SOCKETS)
		return;
	s->tx_idling = true;
	p->tx_idling = true;
}

bool heavy_fence_works(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/* S2 heavy: what was armed before what is looked at next, on all cores; pairs
 * with publish() of the guest. */
void heavy_fence(void)
{
	if (settings.heavy)
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
}

/* Armed before; false: bytes came meanwhile. */
static bool give_up(struct sock *s)
{
	uint64_t avail;

	s->tx_idling = false;
	/* One that rests (tx_look_ns) may not have been found empty yet: its end is
	 * not to be forgotten. */
	if (!sock_tx_avail(s, &avail) || avail || wants_drained(s) || pump_pending(s)) {
		canal_disarm(&s->shared->tx.idle);
		s->tx_quiet = 0;
		return false;
	}
	sock_unmark_tx(s);
	return true;
}

bool tx_idle(struct poller *p, bool all)
{
	struct sock *s, *next;
	bool quiet = true;

	if (cds_list_empty(&p->tx_busy) || !(all || p->tx_idling))
		return true;
	cds_list_for_each_entry(s, &p->tx_busy, tx_link) if (all || s->tx_idling)
		canal_arm(&s->shared->tx.idle);
	heavy_fence();
	cds_list_for_each_entry_safe(s, next, &p->tx_busy, tx_link) if ((all || s->tx_idling) &&
									!give_up(s)) quiet = false;
	p->tx_idling = false;
	return quiet;
}

/* --- RX: the host produces --------------------------------------------- */

static void take_back(struct sock *s, uint64_t head)
{
	uint32_t chunk;

	while ((chunk = canal_fifo_take_back(s->rx_chunk, &s->rx_reclaim, head)) != CANAL_NONE)
		arena_give(s->channel, chunk);
}

uint64_t sock_rx_head(const struct sock *s)
{
	/* R2 acquire: the guest's reads before we write there again */
	return s->handed ? s->handed_head : canal_load_acquire(&s->shared->rx.head);
}

bool sock_rx_room(struct sock *s, uint64_t *ret_bytes)
{
	uint64_t held = s->rx_tail - sock_rx_head(s);

	/* Neither ahead of tail nor back below what was taken back already: a head
	 * that wrapped around would be "ahead" of every chunk there is. */
	if (held > s->rx_tail - s->rx_reclaim) {
		channel_break(s->channel, BROKEN_RX_POSITION);
		return false;
	}
	take_back(s, s->rx_tail - held);
	*ret_bytes = held < s->rx_limit ? s->rx_limit - held : 0;
	return true;
}

uint64_t sock_rx_prepare(struct sock *s, uint64_t len)
{
	struct poller *p = s->channel->poller;

	if (!s->trimming) {
		s->trimming = true;
		s->trim_tail = s->rx_tail - 1;
		cds_list_add_tail(&s->trim_link, &p->trim);
	}
	while (s->rx_backed < s->rx_tail + len) {
		uint32_t chunk = arena_take(s->channel);
		uint32_t i = canal_fifo_index(s->rx_backed);

		if (chunk == CANAL_NONE)
			return s->rx_backed > s->rx_tail ? s->rx_backed - s->rx_tail : 0;
		s->rx_chunk[i] = chunk;
		canal_write_once(&s->shared->rx.chunk[i], chunk);
		s->rx_backed += CANAL_CHUNK;
	}
	return len;
}

void sock_rx_publish(struct sock *s, uint64_t len)
{
	s->rx_tail += len;
	s->rx_bytes += len;
	s->channel->count.rx_bytes += len;
	if (s->handed) { /* nobody of the guest looks */
		pump_rx(s);
		return;
	}
	/* R1 release: bytes before tail, with the fence of S1 */
	canal_store_fence(&s->shared->rx.tail, s->rx_tail);
	if (__builtin_expect(s->urgent_untold, 0))
		urgent_published(s);
	wake_socket(s, EPOLLIN);
}

/* Gives back the chunks at and above @from, a multiple of CANAL_CHUNK. */
static void give_above(struct sock *s, uint64_t from)
{
	while (s->rx_backed > from) {
		uint32_t *entry;

		s->rx_backed -= CANAL_CHUNK;
		entry = &s->rx_chunk[canal_fifo_index(s->rx_backed)];
		if (*entry != CANAL_NONE)
			arena_give(s->channel, *entry);
		*entry = CANAL_NONE;
	}
}

/* Gives back what was prepared beyond the chunk of rx_tail. */
void sock_rx_shrink(struct sock *s)
{
	uint64_t keep = (s->rx_tail + CANAL_CHUNK - 1) & ~(uint64_t)(CANAL_CHUNK - 1);

	give_above(s, keep);
}

void sock_rx_drop(struct sock *s)
{
	give_above(s, s->rx_reclaim);
	if (s->trimming) {
		s->trimming = false;
		cds_list_del(&s->trim_link);
	}
}

/* Called now and then: a FIFO that has been empty since the last look, and that
 * no operation is filling, keeps no chunk. */
void sock_rx_trim(struct sock *s)
{
	uint64_t room, head;

	if (s->trim_tail != s->rx_tail) {
		s->trim_tail = s->rx_tail;
		return;
	}
	if (s->rx_op.under_way || !sock_rx_room(s, &room))
		return;
	head = sock_rx_head(s);
	if (head != s->rx_tail)
		return;
	give_above(s, s->rx_tail & ~(uint64_t)(CANAL_CHUNK - 1));
	s->trimming = false;
	cds_list_del(&s->trim_link);
}

/* The FIFO is full: the guest tells when there is room (S1). False: there is. */
bool sock_rx_park(struct sock *s)
{
	uint64_t room;

	canal_arm(&s->shared->rx.want_room);
	heavy_fence();
	if (!sock_rx_room(s, &room))
		return true;
	if (room) {
		if (!s->rx_parked) /* else others wait for the guest to tell: connectors */
			canal_disarm(&s->shared->rx.want_room);
		return false;
	}
	s->rx_parked = true;
	sock_unmark_rx(s);
	urgent_held_up(s);
	return true;
}

void sock_rx_resume(struct sock *s)
{
	s->rx_parked = false;
	switch_peer_room(s);
	if (s->state == CANAL_SOCK_LISTENING)
		switch_resume(s);
	if (!s->joined)
		sock_mark_rx(s);
}
