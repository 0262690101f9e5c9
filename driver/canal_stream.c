// SPDX-License-Identifier: GPL-2.0
/*
 * A stream's bytes through a dummy: guest/stream.c, for callers that libcanal does
 * not see.
 *
 * Invariants
 *  1. A call moves at most one FIFO's worth of bytes per turn; each turn can be
 *     interrupted, and no lock is held between turns.
 *
 * Ownership and threads: any process context.
 * Failure: errnos of Linux's sockets, as libcanal gives them; -EPIPE without the
 * signal.
 */
#include <linux/sched/signal.h>

#include "canal_data.h"

/* --- sending ----------------------------------------------------------- */

static bool send_open(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_CONNECTED &&
	       !canal_read_once(&s->so_error) && !(canal_read_once(&s->shut) & SHUT_WRITE) &&
	       canal_read_once(&s->rx.closed) != CANAL_CLOSED_RESET;
}

/* Copies what there is room for. Under tx_lock. -ENOBUFS: no chunk. */
static int send_locked(struct job *job)
{
	struct canal_fifo *f = &job->s->tx;
	u64 tail = canal_read_once(&f->tail), start = tail, part;
	/* R2 acquire: the host's reads before our writes to that room */
	u64 head = canal_load_acquire(&f->head);
	u64 limit = tx_limit(f), room;
	int err = 0;

	if (tail - head > CANAL_FIFO_MAX)
		return -EIO;
	canal_write_once(&f->head_seen, head);
	room = limit > tail - head ? limit - (tail - head) : 0;
	room = min_t(u64, room, msg_data_left(job->msg));
	for (; room && !err; room -= part) {
		part = min_t(u64, room, CANAL_CHUNK - canal_fifo_offset(tail));
		err = canal_job_put(job, tail, head, NULL, part);
		if (err)
			break;
		tail += part;
		job->done += part;
	}
	/* R1 release: the mark before tail */
	if ((job->flags & MSG_OOB) && tail != start && !msg_data_left(job->msg))
		canal_write_once(&f->mark, tail);
	if (tail != start)
		canal_job_sent(job, tail);
	return err;
}

static bool send_possible(void *arg)
{
	struct job *job = arg;

	return tx_writable_armed(&job->s->tx) || !send_open(job->s);
}

static bool send_connected(void *arg)
{
	struct job *job = arg;

	return !is_connecting(job->s);
}

int canal_stream_send(struct job *job)
{
	struct canal_sock *s = job->s;
	int err;

	for (;;) {
		if (canal_channel_gone(job->ch))
			return -EPIPE;
		if (!send_open(s)) {
			if (canal_read_once(&s->so_error) || !is_connecting(s))
				return -EPIPE;
			err = canal_job_wait(job, send_connected);
			if (err)
				return err;
			continue;
		}
		if (!msg_data_left(job->msg))
			return 0;
		err = canal_kernel_lock(job->ch, &s->tx.tx_lock, job->flags);
		if (err)
			return err;
		err = send_locked(job);
		canal_kernel_unlock(&s->tx.tx_lock);
		canal_job_tell(job, CANAL_INR_TX, &s->tx.idle);
		if (!err && msg_data_left(job->msg))
			err = canal_job_wait(job, send_possible);
		else if (err == -ENOBUFS)
			err = canal_job_nap(job);
		if (err)
			return err;
	}
}

/* --- receiving --------------------------------------------------------- */

/* recv_span() of libcanal: bytes of the @len at *@head that may be read together. */
static u64 recv_span(struct job *job, u64 *head, u64 *len)
{
	const struct canal_fifo *f = &job->s->rx;
	u64 mark = canal_read_once(&f->mark);

	if (mark <= *head || !*len)
		return *len;
	if (canal_read_once(&f->skip) == *head + 1) {
		++*head;
		--*len;
	}
	if (mark != *head + 1)
		return min_t(u64, *len, mark - 1 - *head);
	job->stopped = job->done;
	if (job->done)
		return 0;
	if (*len && !is_inline(job->s)) {
		++*head;
		--*len;
	}
	return *len;
}

/* Takes what there is, chunk by chunk. Under rx_lock. */
static int recv_locked(struct job *job, size_t total)
{
	bool peek = job->flags & MSG_PEEK;
	u64 head, len, start, part, span;
	int err = canal_job_look(&job->s->rx, &head, &len);

	if (err)
		return err;
	start = head;
	if (peek) { /* from the beginning each time */
		iov_iter_revert(&job->msg->msg_iter, job->flags & MSG_TRUNC ? 0 : job->done);
		job->done = 0;
		job->seen = len;
		job->stopped = false;
	}
	for (; len && job->done < total; len -= part) {
		span = recv_span(job, &head, &len);
		if (!span)
			break;
		part = min_t(u64, span, CANAL_CHUNK - canal_fifo_offset(head));
		part = min_t(u64, part, total - job->done);
		err = canal_job_get(job, head, NULL, part, job->flags & MSG_TRUNC);
		if (err)
			break;
		head += part;
		job->done += part;
	}
	if (!peek && head != start)
		canal_job_taken(job, head, len);
	return err;
}

static bool recv_possible(void *arg)
{
	struct job *job = arg;
	struct canal_sock *s = job->s;

	return rx_has(s, job->seen) || canal_load_acquire(&s->rx.closed) ||
	       canal_read_once(&s->so_error) || (canal_read_once(&s->shut) & SHUT_READ) ||
	       (canal_read_once(&s->state) != CANAL_SOCK_CONNECTED && !is_connecting(s));
}

#define RECV_END 1   /* nothing will follow */
#define RECV_AGAIN 2 /* look once more */

/* RX is empty: 0 to wait, RECV_END, RECV_AGAIN, or -errno. */
static int recv_verdict(struct job *job)
{
	struct canal_sock *s = job->s;
	/* R1 acquire: closed before the look at tail */
	u32 closed = canal_load_acquire(&s->rx.closed);
	bool connecting = is_connecting(s);
	u32 state = canal_load_acquire(&s->state);
	int err;

	if (rx_has(s, job->seen))
		return RECV_AGAIN;
	if (closed == CANAL_CLOSED_EOF)
		return RECV_END;
	if (job->done && canal_read_once(&s->so_error))
		return RECV_END; /* the next call takes the error */
	err = error_take(s);
	if (err)
		return err;
	if (closed || (canal_read_once(&s->shut) & SHUT_READ))
		return RECV_END;
	if (connecting || state == CANAL_SOCK_CONNECTED)
		return canal_channel_gone(job->ch) ? -ECONNRESET : 0;
	return state == CANAL_SOCK_CLOSED ? RECV_END : -ENOTCONN;
}

/* recv_urgent() of libcanal. */
static int recv_urgent(struct job *job, size_t total)
{
	struct canal_sock *s = job->s;
	struct canal_fifo *f = &s->rx;
	u64 mark = canal_load_acquire(&f->mark);
	u32 urgent = canal_load_acquire(&f->urgent); /* U1 acquire */
	u8 byte = urgent;

	if (is_inline(s) || mark <= canal_read_once(&f->head) || mark == canal_read_once(&f->taken))
		return -EINVAL;
	if (!(urgent & CANAL_URGENT_HERE) || mark != canal_read_once(&f->mark))
		return -EAGAIN;
	if (!(job->flags & MSG_PEEK))
		canal_write_once(&f->taken, mark);
	job->msg->msg_flags |= MSG_OOB;
	if (!total)
		job->msg->msg_flags |= MSG_TRUNC;
	else if (!(job->flags & MSG_TRUNC) && !copy_to_iter(&byte, 1, &job->msg->msg_iter))
		return -EFAULT;
	job->done = total ? 1 : 0;
	return 0;
}

int canal_stream_recv(struct job *job)
{
	size_t total = msg_data_left(job->msg);
	size_t enough = job->flags & MSG_WAITALL ? total : 1;
	struct canal_sock *s = job->s;
	int r;

	if (job->flags & MSG_PEEK)
		enough = 1;
	if (canal_read_once(&s->state) == CANAL_SOCK_LISTENING)
		return -ENOTCONN;
	if (job->flags & MSG_OOB)
		return recv_urgent(job, total);
	for (;;) {
		r = canal_kernel_lock(job->ch, &s->rx.rx_lock, job->flags);
		if (r)
			return r;
		r = recv_locked(job, total);
		canal_kernel_unlock(&s->rx.rx_lock);
		canal_job_tell(job, CANAL_INR_RX, &s->rx.want_room);
		if (r || job->done >= enough || job->stopped || (!total && rx_has(s, 0)))
			return r;
		r = recv_verdict(job);
		if (r < 0 || r == RECV_END)
			return min(r, 0);
		if (r != RECV_AGAIN)
			r = canal_job_wait(job, recv_possible);
		else if (signal_pending(current))
			r = -ERESTARTSYS;
		else
			r = 0;
		if (r)
			return r == -ENODEV ? -ECONNRESET : r;
	}
}
