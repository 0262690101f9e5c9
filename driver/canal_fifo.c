// SPDX-License-Identifier: GPL-2.0
/*
 * Bytes into and out of a FIFO of the region, for a call of the kernel's.
 *
 * Purpose: common/fifo.h and guest/data.h once more, with memory that programs may
 * change at any time, and with buffers that the kernel copies from and to.
 *
 * Invariants
 *  1. What the region says is believed once and after a check: chunk numbers
 *     against the private layout, positions by subtraction against the size of a
 *     FIFO. Nonsense gives -EIO.
 *  2. No loop over a pool or a table is longer than a constant.
 *
 * Ownership and threads: any process context; producers under tx_lock, consumers
 * under rx_lock of the socket.
 *
 * Failure: -EIO, -EFAULT; -ENOBUFS when the channel has no chunk.
 */
#include <linux/sched/signal.h>

#include "canal_data.h"

/* Tries at a pool that others use under our hands. */
#define POOL_TRIES 64

/* --- the producer's chunks --------------------------------------------- */

static u8 *chunk_at(struct canal_channel *ch, const struct canal_table *t, u32 id)
{
	return (u8 *)ch->region + t->offset + ((u64)id << CANAL_CHUNK_SHIFT);
}

static u32 *chunk_link(struct canal_channel *ch, u32 id)
{
	const struct canal_table *t = &ch->layout.tx_next;

	return (u32 *)((u8 *)ch->region + t->offset + (u64)id * t->stride);
}

/* canal_pool_take() with an end, for a list that may lead anywhere. */
static u32 chunk_take(struct canal_channel *ch)
{
	u32 count = ch->layout.tx.count, n;
	unsigned int i;

	for (i = 0; i < POOL_TRIES; i++) {
		/* A1 acquire: what the giver wrote */
		u64 head = canal_load_acquire(&ch->region->tx_free);
		u64 next;

		n = (u32)head - 1;
		if (!(u32)head || n >= count)
			break;
		next = ((head >> 32) + 1) << 32 | canal_read_once(chunk_link(ch, n));
		if (canal_cas(&ch->region->tx_free, head, next))
			return n;
	}
	for (i = 0; i < POOL_TRIES; i++) {
		n = canal_read_once(&ch->region->tx_used);
		if (n >= count)
			break;
		if (canal_cas(&ch->region->tx_used, n, n + 1))
			return n;
	}
	return CANAL_NONE;
}

/* One that finds no way back is lost until the channel ends. */
static void chunk_give(struct canal_channel *ch, u32 n)
{
	unsigned int i;

	for (i = 0; i < POOL_TRIES; i++) {
		u64 head = canal_load_acquire(&ch->region->tx_free);

		canal_write_once(chunk_link(ch, n), (u32)head);
		/* A1 release: the link before the head */
		if (canal_cas(&ch->region->tx_free, head, (head >> 32) << 32 | (u64)(n + 1)))
			return;
	}
}

/*
 * The chunk that @pos lies in, or one for it: tx_chunk() of libcanal. Of what the
 * host has passed, one is used and the others go to the pool.
 */
static u32 tx_chunk(struct canal_channel *ch, struct canal_fifo *f, u64 pos, u64 head)
{
	u32 count = ch->layout.tx.count, id = canal_read_once(&f->chunk[canal_fifo_index(pos)]);
	u64 reclaim = canal_read_once(&f->reclaim);
	unsigned int i;

	if (id < count && (pos & ~(u64)(CANAL_CHUNK - 1)) - reclaim < CANAL_FIFO_MAX)
		return id;
	id = CANAL_NONE;
	for (i = 0; i < CANAL_FIFO_CHUNKS && reclaim + CANAL_CHUNK <= head; i++) {
		u32 *entry = &f->chunk[canal_fifo_index(reclaim)];
		u32 back = canal_read_once(entry);

		canal_write_once(entry, CANAL_NONE);
		reclaim += CANAL_CHUNK;
		canal_write_once(&f->reclaim, reclaim);
		if (back >= count)
			continue;
		if (id != CANAL_NONE)
			chunk_give(ch, id);
		id = back;
	}
	if (id == CANAL_NONE)
		id = chunk_take(ch);
	if (id != CANAL_NONE)
		canal_write_once(&f->chunk[canal_fifo_index(pos)], id);
	return id;
}

/* --- bytes ------------------------------------------------------------- */

int canal_job_put(struct job *job, u64 pos, u64 head, const void *from, u64 len)
{
	while (len) {
		u32 id = tx_chunk(job->ch, &job->s->tx, pos, head);
		u32 offset = canal_fifo_offset(pos);
		u64 part = min_t(u64, CANAL_CHUNK - offset, len);
		u8 *to;

		if (id == CANAL_NONE)
			return -ENOBUFS;
		to = chunk_at(job->ch, &job->ch->layout.tx, id) + offset;
		if (from) {
			memcpy(to, from, part);
			from += part;
		} else if (!copy_from_iter_full(to, part, &job->msg->msg_iter)) {
			return -EFAULT;
		}
		pos += part;
		len -= part;
	}
	return 0;
}

void canal_job_sent(struct job *job, u64 tail)
{
	/* R1 release: bytes and chunks before tail; with the fence for S1 */
	canal_store_fence(&job->s->tx.tail, tail);
	if (canal_take(&job->s->tx.idle))
		job->tell = true;
}

int canal_job_look(const struct canal_fifo *f, u64 *ret_head, u64 *ret_len)
{
	u64 head = canal_read_once(&f->head);
	/* R1 acquire: tail before the bytes below it */
	u64 len = canal_load_acquire(&f->tail) - head;

	if (len > CANAL_FIFO_MAX)
		return -EIO;
	*ret_head = head;
	*ret_len = len;
	return 0;
}

int canal_job_get(struct job *job, u64 pos, void *to, u64 len, bool drop)
{
	struct canal_channel *ch = job->ch;

	while (len) {
		u32 id = canal_read_once(&job->s->rx.chunk[canal_fifo_index(pos)]);
		u32 offset = canal_fifo_offset(pos);
		u64 part = min_t(u64, CANAL_CHUNK - offset, len);
		u8 *from;

		if (id >= ch->layout.rx.count)
			return -EIO;
		from = chunk_at(ch, &ch->layout.rx, id) + offset;
		if (to) {
			memcpy(to, from, part);
			to += part;
		} else if (!drop && copy_to_iter(from, part, &job->msg->msg_iter) != part) {
			return -EFAULT;
		}
		pos += part;
		len -= part;
	}
	return 0;
}

void canal_job_taken(struct job *job, u64 head, u64 left)
{
	struct canal_fifo *f = &job->s->rx;

	/* R2 release: our reads before head; with the fence for S1 */
	canal_store_fence(&f->head, head);
	if (canal_read_once(&f->want_room) && left * 2 <= canal_read_once(&f->limit) &&
	    canal_take(&f->want_room))
		job->tell = true;
}

/* --- waiting ----------------------------------------------------------- */

int canal_job_wait(struct job *job, bool (*ready)(void *arg))
{
	if (job->flags & MSG_DONTWAIT)
		return -EAGAIN;
	return canal_kernel_sleep(job->ch, job->s, ready, job, &job->timeo);
}

int canal_job_nap(struct job *job)
{
	if (job->flags & MSG_DONTWAIT)
		return -EAGAIN;
	if (job->timeo != MAX_SCHEDULE_TIMEOUT && !job->timeo--)
		return -EAGAIN;
	schedule_timeout_interruptible(1);
	return signal_pending(current) ? -ERESTARTSYS : 0;
}

void canal_job_tell(struct job *job, u32 op, u32 *flag)
{
	if (job->tell && canal_data_post(job->ch, op, job->number, 0))
		canal_arm(flag);
	job->tell = false;
}
