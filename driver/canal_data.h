/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One call that came in through a dummy, for the files that serve it:
 *
 *	canal_data.c	what the operations of a dummy call; readiness, names
 *	canal_stream.c	a stream's bytes
 *	canal_dgram.c	datagrams
 *	canal_fifo.c	bytes into and out of a FIFO of the region
 */
#ifndef CANAL_DATA_H
#define CANAL_DATA_H

#include <linux/jiffies.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/socket.h>
#include <linux/uio.h>

#include "canal.h"

/* See guest/data.h. */
#define TX_MOST (CANAL_FIFO_MAX - CANAL_CHUNK)

#define SHUT_READ 1u
#define SHUT_WRITE 2u

/* libcanal's marks of a connect() under way, in canal_sock.status: guest.h. */
#define SOCK_CONNECT_BEGUN (1u << 16)
#define SOCK_CONNECT_ODD (1u << 17)

/* One call. */
struct job {
	struct canal_channel *ch;
	struct canal_sock *s;
	u32 number;
	struct msghdr *msg;
	int flags;
	long timeo;
	size_t done;  /* bytes moved */
	u64 seen;     /* bytes in RX that did not satisfy (MSG_PEEK) */
	u64 span;     /* of the record to be sent */
	bool tell;    /* the host asked to be told */
	bool stopped; /* at the mark of urgent data, with bytes */
};

static inline int error_take(struct canal_sock *s)
{
	u32 error = canal_read_once(&s->so_error) ? canal_xchg(&s->so_error, 0u) : 0;

	return error < MAX_ERRNO ? -(int)error : -EIO;
}

static inline bool is_connecting(const struct canal_sock *s)
{
	u32 status = canal_read_once(&s->status);

	if (canal_read_once(&s->state) == CANAL_SOCK_CONNECTING)
		return true;
	/* N1 acquire: the count before the outcome */
	return (status & SOCK_CONNECT_BEGUN) &&
	       !(status & SOCK_CONNECT_ODD) == !(canal_load_acquire(&s->connects) & 1);
}

static inline bool is_dgram(const struct canal_sock *s)
{
	return READ_ONCE(s->type) == SOCK_DGRAM;
}

static inline u64 tx_limit(const struct canal_fifo *f)
{
	return min_t(u64, canal_read_once(&f->limit), TX_MOST);
}

static inline bool tx_writable(const struct canal_fifo *f)
{
	u64 limit = tx_limit(f);
	/* R2 acquire: the host's reads before our writes to that room */
	u64 head = canal_load_acquire(&f->head);
	u64 used = canal_read_once(&f->tail) - head;

	return used < limit && (limit - used) * 3 >= limit;
}

static inline bool tx_writable_armed(struct canal_fifo *f)
{
	if (tx_writable(f))
		return true;
	canal_arm(&f->want_room); /* S1: armed before the last look */
	return tx_writable(f);
}

static inline bool rx_has(const struct canal_sock *s, u64 more_than)
{
	/* R1 acquire: tail before what we do because of it */
	return canal_load_acquire(&s->rx.tail) - canal_read_once(&s->rx.head) > more_than;
}

static inline bool is_inline(const struct canal_sock *s)
{
	return canal_read_once(&s->status) & CANAL_STATUS_INLINE;
}

/* --- canal_fifo.c ------------------------------------------------------ */

/* Into TX at @pos: @from, or the caller's buffer. -ENOBUFS: no chunk; -EFAULT. */
int canal_job_put(struct job *job, u64 pos, u64 head, const void *from, u64 len);
/* What was put is to be seen up to @tail. Under tx_lock. */
void canal_job_sent(struct job *job, u64 tail);
/* Bytes in a FIFO; -EIO: nonsense. */
int canal_job_look(const struct canal_fifo *f, u64 *ret_head, u64 *ret_len);
/* @len bytes of RX at @pos: to @to, to the caller's buffer, or nowhere. */
int canal_job_get(struct job *job, u64 pos, void *to, u64 len, bool drop);
/* What lay below @head was got, @left bytes are left. Under rx_lock. */
void canal_job_taken(struct job *job, u64 head, u64 left);
/* Sleeps until ready(), unless the call may not. */
int canal_job_wait(struct job *job, bool (*ready)(void *arg));
/* The channel has no chunk to give at the moment. */
int canal_job_nap(struct job *job);
/* Tells the host, outside of the lock. Who fails leaves it to the next one. */
void canal_job_tell(struct job *job, u32 op, u32 *flag);

/* --- canal_stream.c, canal_dgram.c ------------------------------------- */

int canal_stream_send(struct job *job);
int canal_stream_recv(struct job *job);
int canal_dgram_send(struct job *job);
int canal_dgram_recv(struct job *job);
/* The length of what was stored in @name, a struct sockaddr_storage. */
int canal_addr_write(const struct canal_addr *a, int family, void *name);

#endif
