// SPDX-License-Identifier: GPL-2.0
/*
 * Bytes through a dummy: what write, read, poll and their relatives do to a canal
 * socket when they come from code that libcanal does not see.
 *
 * Purpose: the same as guest/stream.c and guest/dgram.c, on the same FIFOs and
 * under the same locks, so that both kinds of callers may alternate. It is not a
 * fast path: each call publishes with full fences and looks only once before it
 * sleeps.
 *
 * Invariants
 *  1. What the region says is believed once and after a check: chunk numbers
 *     against the private layout, positions by subtraction against the size of a
 *     FIFO. Nonsense gives -EIO.
 *  2. A call moves at most one FIFO's worth of bytes per turn; each turn can be
 *     interrupted.
 *
 * Ownership and threads: any process context; producers by tx_lock, consumers by
 * rx_lock of the socket.
 *
 * Failure: errnos of Linux's sockets, as libcanal gives them.
 */
#include <linux/delay.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/jiffies.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/socket.h>
#include <linux/uio.h>

#include "canal.h"

/* See guest/data.h. */
#define TX_MOST (CANAL_FIFO_MAX - CANAL_CHUNK)
/* Tries at a pool that others use under our hands. */
#define POOL_TRIES 64
#define DGRAM_MOST_IPV4 65507
#define DGRAM_MOST_IPV6 65527

#define SHUT_READ 1u
#define SHUT_WRITE 2u

/* libcanal's marks of a connect() under way, in canal_sock.status: guest.h. */
#define SOCK_CONNECT_BEGUN (1u << 16)
#define SOCK_CONNECT_ODD (1u << 17)

#define EVENTS_IN (EPOLLIN | EPOLLRDNORM)
#define EVENTS_OUT (EPOLLOUT | EPOLLWRNORM)

/* One call. */
struct job {
	struct canal_channel *ch;
	struct canal_sock *s;
	u32 number;
	struct msghdr *msg;
	int flags;
	long timeo;
	size_t done; /* bytes moved */
	u64 seen;    /* bytes in RX that did not satisfy (MSG_PEEK) */
	u64 span;    /* of the record to be sent */
	bool tell;   /* the host asked to be told */
};

static long timeo_of(const struct canal_sock *s, const u64 *timeo_ns, int flags)
{
	u64 ns = canal_read_once(timeo_ns);

	if (flags & MSG_DONTWAIT)
		return 0;
	return ns && ns < 1ull << 60 ? max_t(long, nsecs_to_jiffies(ns), 1) : MAX_SCHEDULE_TIMEOUT;
}

static int error_take(struct canal_sock *s)
{
	u32 error = canal_read_once(&s->so_error) ? canal_xchg(&s->so_error, 0u) : 0;

	return error < MAX_ERRNO ? -(int)error : -EIO;
}

static bool is_connecting(const struct canal_sock *s)
{
	u32 status = canal_read_once(&s->status);

	if (canal_read_once(&s->state) == CANAL_SOCK_CONNECTING)
		return true;
	/* N1 acquire: the count before the outcome */
	return (status & SOCK_CONNECT_BEGUN) &&
	       !(status & SOCK_CONNECT_ODD) == !(canal_load_acquire(&s->connects) & 1);
}

static bool is_dgram(const struct canal_sock *s)
{
	return READ_ONCE(s->type) == SOCK_DGRAM;
}

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

/* --- sending ----------------------------------------------------------- */

static u64 tx_limit(const struct canal_fifo *f)
{
	return min_t(u64, canal_read_once(&f->limit), TX_MOST);
}

static bool tx_writable(const struct canal_fifo *f)
{
	u64 limit = tx_limit(f);
	/* R2 acquire: the host's reads before our writes to that room */
	u64 head = canal_load_acquire(&f->head);
	u64 used = canal_read_once(&f->tail) - head;

	return used < limit && (limit - used) * 3 >= limit;
}

static bool tx_writable_armed(struct canal_fifo *f)
{
	if (tx_writable(f))
		return true;
	canal_arm(&f->want_room); /* S1: armed before the last look */
	return tx_writable(f);
}

static bool send_open(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_CONNECTED &&
	       !canal_read_once(&s->so_error) && !(canal_read_once(&s->shut) & SHUT_WRITE) &&
	       canal_read_once(&s->rx.closed) != CANAL_CLOSED_RESET;
}

/* The kernel's way of canal_fifo_poke(): @from, or the caller's buffer. */
static int tx_put(struct job *job, u64 pos, u64 head, const void *from, u64 len)
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

static void tx_publish(struct job *job, u64 tail)
{
	/* R1 release: bytes and chunks before tail; with the fence for S1 */
	canal_store_fence(&job->s->tx.tail, tail);
	if (canal_take(&job->s->tx.idle))
		job->tell = true;
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
		err = tx_put(job, tail, head, NULL, part);
		if (err)
			break;
		tail += part;
		job->done += part;
	}
	if (tail != start)
		tx_publish(job, tail);
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

static bool dgram_fits(const struct canal_fifo *f, u64 span, u64 used)
{
	return used + span <= tx_limit(f) || (!used && span <= TX_MOST);
}

static bool dgram_possible(void *arg)
{
	struct job *job = arg;
	struct canal_fifo *f = &job->s->tx;

	if (canal_read_once(&job->s->so_error) || (canal_read_once(&job->s->shut) & SHUT_WRITE))
		return true;
	if (dgram_fits(f, job->span, canal_read_once(&f->tail) - canal_load_acquire(&f->head)))
		return true;
	canal_arm(&f->want_room); /* S1 */
	return dgram_fits(f, job->span, canal_read_once(&f->tail) - canal_load_acquire(&f->head));
}

static int job_wait(struct job *job, bool (*ready)(void *arg))
{
	if (job->flags & MSG_DONTWAIT)
		return -EAGAIN;
	return canal_kernel_sleep(job->ch, job->s, ready, job, &job->timeo);
}

/* The channel has no chunk to give at the moment. */
static int chunk_wait(struct job *job)
{
	if (job->flags & MSG_DONTWAIT)
		return -EAGAIN;
	if (job->timeo != MAX_SCHEDULE_TIMEOUT && !job->timeo--)
		return -EAGAIN;
	schedule_timeout_interruptible(1);
	return signal_pending(current) ? -ERESTARTSYS : 0;
}

/* Tells the host, outside of the lock. Who fails leaves it to the next one. */
static void job_tell(struct job *job, u32 op, u32 *flag)
{
	if (job->tell && canal_data_post(job->ch, op, job->number, 0))
		canal_arm(flag);
	job->tell = false;
}

static int stream_send(struct job *job)
{
	struct canal_sock *s = job->s;
	int err;

	for (;;) {
		if (canal_channel_gone(job->ch))
			return -EPIPE;
		if (!send_open(s)) {
			if (canal_read_once(&s->so_error) || !is_connecting(s))
				return -EPIPE;
			err = job_wait(job, send_connected);
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
		job_tell(job, CANAL_INR_TX, &s->tx.idle);
		if (!err && msg_data_left(job->msg))
			err = job_wait(job, send_possible);
		else if (err == -ENOBUFS)
			err = chunk_wait(job);
		if (err)
			return err;
	}
}

static int addr_read(struct canal_addr *a, const struct msghdr *msg, int domain)
{
	const struct sockaddr_in6 *in6 = msg->msg_name;
	const struct sockaddr_in *in = msg->msg_name;
	u8 *ip = a->ip;

	memset(a, 0, sizeof(*a));
	if (msg->msg_namelen < (int)sizeof(sa_family_t))
		return -EINVAL;
	if (in->sin_family == AF_INET6 && domain == AF_INET6) {
		if (msg->msg_namelen < (int)sizeof(*in6))
			return -EINVAL;
		a->family = AF_INET6;
		a->port = (__force u16)in6->sin6_port;
		a->scope = in6->sin6_scope_id;
		memcpy(a->ip, &in6->sin6_addr, sizeof(a->ip));
		return 0;
	}
	if (in->sin_family != AF_INET && !(in->sin_family == AF_UNSPEC && domain == AF_INET))
		return domain == AF_INET6 ? -EINVAL : -EAFNOSUPPORT;
	if (msg->msg_namelen < (int)sizeof(*in))
		return -EINVAL;
	a->family = domain;
	a->port = (__force u16)in->sin_port;
	if (domain == AF_INET6) {
		ip[10] = ip[11] = 0xff;
		ip += 12;
	}
	memcpy(ip, &in->sin_addr, 4);
	return 0;
}

/* Under tx_lock: one record. */
static int dgram_put(struct job *job, const struct canal_dgram *record)
{
	struct canal_fifo *f = &job->s->tx;
	u64 tail = canal_read_once(&f->tail);
	/* R2 acquire: the host's reads before our writes to that room */
	u64 head = canal_load_acquire(&f->head);
	struct iov_iter start = job->msg->msg_iter;
	int err;

	if (tail - head > CANAL_FIFO_MAX)
		return -EIO;
	canal_write_once(&f->head_seen, head);
	if (!dgram_fits(f, job->span, tail - head))
		return -EAGAIN;
	err = tx_put(job, tail, head, record, sizeof(*record));
	if (!err)
		err = tx_put(job, tail + sizeof(*record), head, NULL, record->len);
	if (err) {
		job->msg->msg_iter = start;
		return err;
	}
	job->done = record->len;
	tx_publish(job, tail + job->span);
	return 0;
}

static int dgram_send(struct job *job)
{
	struct canal_sock *s = job->s;
	int domain = READ_ONCE(s->domain) == AF_INET6 ? AF_INET6 : AF_INET, err;
	size_t len = msg_data_left(job->msg);
	struct canal_dgram record = { .len = len };

	if (len > (domain == AF_INET6 ? DGRAM_MOST_IPV6 : DGRAM_MOST_IPV4))
		return -EMSGSIZE;
	if (job->msg->msg_name && job->msg->msg_namelen) {
		err = addr_read(&record.addr, job->msg, domain);
		if (err)
			return err;
		if (!record.addr.port)
			return -EINVAL;
	} else if (!canal_read_once(&s->peer.family)) {
		return -EDESTADDRREQ;
	}
	job->span = canal_dgram_span(len);
	for (;;) {
		if (canal_channel_gone(job->ch) || (canal_read_once(&s->shut) & SHUT_WRITE) ||
		    canal_read_once(&s->state) == CANAL_SOCK_CLOSED)
			return -EPIPE;
		err = error_take(s);
		if (!err)
			err = canal_kernel_lock(job->ch, &s->tx.tx_lock, job->flags);
		if (err)
			return err;
		err = dgram_put(job, &record);
		canal_kernel_unlock(&s->tx.tx_lock);
		job_tell(job, CANAL_INR_TX, &s->tx.idle);
		if (err == -EAGAIN)
			err = job_wait(job, dgram_possible);
		else if (err == -ENOBUFS)
			err = chunk_wait(job);
		else
			return err;
		if (err)
			return err;
	}
}

/**
 * canal_data_send() - sendmsg() of a dummy
 * @ch:     the channel
 * @number: of the socket
 * @msg:    as of the system call; MSG_DONTWAIT if it must not sleep
 *
 * Context: process context, sleeps.
 * Return: bytes, or -errno; -EPIPE without the signal.
 */
int canal_data_send(struct canal_channel *ch, u32 number, struct msghdr *msg)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	struct job job = {
		.ch = ch, .s = s, .number = number, .msg = msg, .flags = msg->msg_flags
	};
	int err;

	if (job.flags & (MSG_OOB | MSG_FASTOPEN))
		return -EOPNOTSUPP;
	job.timeo = timeo_of(s, &s->sndtimeo_ns, job.flags);
	err = is_dgram(s) ? dgram_send(&job) : stream_send(&job);
	if (job.done || !err)
		return min_t(size_t, job.done, INT_MAX);
	return err == -EPIPE ? error_take(s) ?: -EPIPE : err;
}

/* --- receiving --------------------------------------------------------- */

/* Bytes in RX; -EIO: nonsense. */
static int rx_look(const struct canal_fifo *f, u64 *ret_head, u64 *ret_len)
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

static bool rx_has(const struct canal_sock *s, u64 more_than)
{
	/* R1 acquire: tail before what we do because of it */
	return canal_load_acquire(&s->rx.tail) - canal_read_once(&s->rx.head) > more_than;
}

static void rx_publish(struct job *job, u64 head, u64 left)
{
	struct canal_fifo *f = &job->s->rx;

	/* R2 release: our reads before head; with the fence for S1 */
	canal_store_fence(&f->head, head);
	if (canal_read_once(&f->want_room) && left * 2 <= canal_read_once(&f->limit) &&
	    canal_take(&f->want_room))
		job->tell = true;
}

/* @len bytes at @pos: to @to, to the caller's buffer, or nowhere. */
static int rx_get(struct job *job, u64 pos, void *to, u64 len, bool drop)
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

/* Takes what there is, chunk by chunk. Under rx_lock. */
static int recv_locked(struct job *job, size_t total)
{
	bool peek = job->flags & MSG_PEEK;
	u64 head, len, start, part;
	int err = rx_look(&job->s->rx, &head, &len);

	if (err)
		return err;
	start = head;
	if (peek) { /* from the beginning each time */
		iov_iter_revert(&job->msg->msg_iter, job->flags & MSG_TRUNC ? 0 : job->done);
		job->done = 0;
		job->seen = len;
	}
	for (; len && job->done < total; len -= part) {
		part = min_t(u64, len, CANAL_CHUNK - canal_fifo_offset(head));
		part = min_t(u64, part, total - job->done);
		err = rx_get(job, head, NULL, part, job->flags & MSG_TRUNC);
		if (err)
			break;
		head += part;
		job->done += part;
	}
	if (!peek && head != start)
		rx_publish(job, head, len);
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

static int stream_recv(struct job *job)
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
		return -EINVAL;
	for (;;) {
		r = canal_kernel_lock(job->ch, &s->rx.rx_lock, job->flags);
		if (r)
			return r;
		r = recv_locked(job, total);
		canal_kernel_unlock(&s->rx.rx_lock);
		job_tell(job, CANAL_INR_RX, &s->rx.want_room);
		if (r || job->done >= enough || (!total && rx_has(s, 0)))
			return r;
		r = recv_verdict(job);
		if (r < 0 || r == RECV_END)
			return min(r, 0);
		if (r != RECV_AGAIN)
			r = job_wait(job, recv_possible);
		else if (signal_pending(current))
			r = -ERESTARTSYS;
		else
			r = 0;
		if (r)
			return r == -ENODEV ? -ECONNRESET : r;
	}
}

/* The length of what was stored in @name, a struct sockaddr_storage. */
static int addr_write(const struct canal_addr *a, int family, void *name)
{
	if (family == AF_INET6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
					    .sin6_port = (__force __be16)a->port,
					    .sin6_scope_id = a->scope };

		memcpy(&in6.sin6_addr, a->ip, sizeof(a->ip));
		memcpy(name, &in6, sizeof(in6));
		return sizeof(in6);
	} else {
		struct sockaddr_in in = { .sin_family = AF_INET,
					  .sin_port = (__force __be16)a->port };

		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(name, &in, sizeof(in));
		return sizeof(in);
	}
}

/* Under rx_lock. 1: got one, 0: none, or -errno. */
static int dgram_get(struct job *job, size_t room, struct canal_dgram *record)
{
	u64 head, len, span;
	int err = rx_look(&job->s->rx, &head, &len);

	if (err || !len)
		return err;
	if (len < sizeof(*record))
		return -EIO;
	err = rx_get(job, head, record, sizeof(*record), false);
	span = canal_dgram_span(record->len);
	if (err || span > len)
		return -EIO;
	job->done = min_t(u64, record->len, room);
	err = rx_get(job, head + sizeof(*record), NULL, job->done, false);
	if (err)
		return err;
	if (!(job->flags & MSG_PEEK))
		rx_publish(job, head + span, len - span);
	return 1;
}

static bool dgram_arrived(void *arg)
{
	struct job *job = arg;
	struct canal_sock *s = job->s;

	return rx_has(s, 0) || canal_read_once(&s->so_error) ||
	       (canal_read_once(&s->shut) & SHUT_READ) ||
	       canal_read_once(&s->state) == CANAL_SOCK_CLOSED;
}

static int dgram_recv(struct job *job)
{
	struct canal_sock *s = job->s;
	struct msghdr *msg = job->msg;
	size_t room = msg_data_left(msg);
	struct canal_dgram record;
	int r;

	if (job->flags & MSG_OOB)
		return -EOPNOTSUPP;
	for (;;) {
		r = error_take(s);
		if (!r)
			r = canal_kernel_lock(job->ch, &s->rx.rx_lock, job->flags);
		if (r)
			return r;
		r = dgram_get(job, room, &record);
		canal_kernel_unlock(&s->rx.rx_lock);
		job_tell(job, CANAL_INR_RX, &s->rx.want_room);
		if (r)
			break;
		if (canal_channel_gone(job->ch))
			return -ECONNRESET;
		if ((canal_read_once(&s->shut) & SHUT_READ) ||
		    canal_read_once(&s->state) == CANAL_SOCK_CLOSED)
			return job->flags & MSG_DONTWAIT ? -EAGAIN : 0;
		r = job_wait(job, dgram_arrived);
		if (r)
			return r == -ENODEV ? -ECONNRESET : r;
	}
	if (r < 0)
		return r;
	if (msg->msg_name)
		msg->msg_namelen = addr_write(&record.addr, record.addr.family, msg->msg_name);
	if (job->done < record.len || (record.flags & CANAL_DGRAM_TRUNC))
		msg->msg_flags |= MSG_TRUNC;
	if (job->flags & MSG_TRUNC)
		job->done = record.len;
	return 0;
}

/**
 * canal_data_recv() - recvmsg() of a dummy
 * @ch:     the channel
 * @number: of the socket
 * @msg:    as of the system call
 * @flags:  MSG_*; MSG_DONTWAIT if it must not sleep
 *
 * Context: process context, sleeps.
 * Return: bytes, or -errno.
 */
int canal_data_recv(struct canal_channel *ch, u32 number, struct msghdr *msg, int flags)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	struct job job = { .ch = ch, .s = s, .number = number, .msg = msg, .flags = flags };
	int err;

	msg->msg_namelen = 0;
	if (flags & MSG_ERRQUEUE)
		return -EAGAIN;
	job.timeo = timeo_of(s, &s->rcvtimeo_ns, flags);
	err = is_dgram(s) ? dgram_recv(&job) : stream_recv(&job);
	return job.done ? min_t(size_t, job.done, INT_MAX) : err;
}

/* --- readiness, names -------------------------------------------------- */

static __poll_t events_of_end(u32 shut, bool hung_up)
{
	__poll_t mask = 0;

	if (shut & SHUT_READ)
		mask |= EVENTS_IN | EPOLLRDHUP;
	if (hung_up || shut == (SHUT_READ | SHUT_WRITE))
		mask |= EPOLLHUP;
	return mask;
}

static u32 shut_mask(const struct canal_sock *s)
{
	u32 mask = canal_read_once(&s->shut) & (SHUT_READ | SHUT_WRITE);
	u32 closed = canal_load_acquire(&s->rx.closed);

	if (closed == CANAL_CLOSED_EOF)
		mask |= SHUT_READ;
	else if (closed)
		mask |= SHUT_READ | SHUT_WRITE;
	return mask;
}

static __poll_t events_of_stream(struct canal_sock *s, u32 state)
{
	bool connecting = is_connecting(s);
	u32 shut = shut_mask(s);
	__poll_t mask;

	if (state == CANAL_SOCK_OPEN && canal_read_once(&s->rx.closed))
		shut = 0;
	mask = events_of_end(shut, !connecting && state != CANAL_SOCK_CONNECTED);
	if (connecting)
		return mask;
	if (rx_has(s, 0))
		mask |= EVENTS_IN;
	if ((shut & SHUT_WRITE) || state != CANAL_SOCK_CONNECTED || tx_writable_armed(&s->tx))
		mask |= EVENTS_OUT;
	if ((shut == (SHUT_READ | SHUT_WRITE) || state != CANAL_SOCK_CONNECTED) &&
	    canal_read_once(&s->so_error))
		mask |= EPOLLERR;
	return mask;
}

static __poll_t events_of_dgram(struct canal_sock *s)
{
	__poll_t mask = events_of_end(shut_mask(s), false);

	if (rx_has(s, 0))
		mask |= EVENTS_IN;
	if (tx_writable_armed(&s->tx))
		mask |= EVENTS_OUT;
	if (canal_read_once(&s->so_error))
		mask |= EPOLLERR;
	return mask;
}

/**
 * canal_data_poll() - what a socket is ready for; who waits will be woken
 * @ch:     the channel, whose kernel_wait the caller is on already
 * @number: of the socket
 *
 * Context: process context; may wait for canald the first time.
 * Return: EPOLL* as Linux gives them.
 */
__poll_t canal_data_poll(struct canal_channel *ch, u32 number)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	u32 state;

	if (canal_kernel_join(ch) || canal_channel_gone(ch))
		return EPOLLERR | EPOLLHUP | EPOLLRDHUP | EVENTS_IN | EVENTS_OUT;
	(void)canal_kernel_arm(ch, s); /* S1: before the look */
	/* N1 acquire: state before what hangs on it; pairs with sock_set_state() */
	state = canal_load_acquire(&s->state);
	if (state == CANAL_SOCK_LISTENING)
		return rx_has(s, 0) ? EVENTS_IN : 0;
	return is_dgram(s) ? events_of_dgram(s) : events_of_stream(s, state);
}

int canal_data_shutdown(struct canal_channel *ch, u32 number, int how)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	u32 state = canal_load_acquire(&s->state);
	bool connected = is_dgram(s) ? canal_read_once(&s->peer.family) != 0
				     : state == CANAL_SOCK_CONNECTED;
	int err;

	if (how < 0 || how > 2)
		return -EINVAL;
	if (canal_load_acquire(&s->rx.closed) == CANAL_CLOSED_RESET)
		connected = false;
	(void)canal_fetch_or(&s->shut, (u32)how + 1);
	err = canal_data_post(ch, CANAL_INR_SHUTDOWN, number, how);
	wake_up_all(&ch->kernel_wait);
	if (err)
		return err == -ENODEV ? -ENETDOWN : err;
	return connected || state == CANAL_SOCK_LISTENING ? 0 : -ENOTCONN;
}

int canal_data_name(struct canal_channel *ch, u32 number, bool peer, void *name)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	int domain = READ_ONCE(s->domain) == AF_INET6 ? AF_INET6 : AF_INET;
	struct canal_addr a;

	memcpy(&a, peer ? &s->peer : &s->local, sizeof(a));
	if (peer && !a.family)
		return -ENOTCONN;
	return addr_write(&a, domain, name);
}

/* The pending error, which stays: 0 or -errno. */
int canal_data_error(struct canal_channel *ch, u32 number)
{
	u32 error = canal_read_once(&canal_data_sock(ch, number)->so_error);

	return error < MAX_ERRNO ? -(int)error : -EIO;
}

/* FIONREAD and SIOCOUTQ. */
int canal_data_queued(struct canal_channel *ch, u32 number, bool sent)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	struct job job = { .ch = ch, .s = s };
	struct canal_dgram record;
	u64 head, len;
	int err = rx_look(sent ? &s->tx : &s->rx, &head, &len);

	if (err)
		return err;
	if (sent || !is_dgram(s))
		return len;
	if (len < sizeof(record))
		return 0;
	err = rx_get(&job, head, &record, sizeof(record), false);
	return err ?: min_t(u32, record.len, CANAL_FIFO_MAX);
}
