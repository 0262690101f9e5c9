/* SPDX-License-Identifier: MIT */
/*
 * Streams: what send and recv do on a TCP socket.
 *
 * Purpose: a send that finds room and a recv that finds bytes are a copy and
 * one atomic store, with no system call. They are written straight here, in
 * send_small() and recv_ready(); all else (several buffers, chunk borders, a
 * full or empty FIFO, states, errors) goes through send_slow() and stream_recv_slowly().
 *
 * Invariants
 *  1. Bytes lie in chunks of the table before tail says so (R1).
 *  2. tail - head never exceeds TX_MOST, and an entry of the table that is not
 *     CANAL_NONE is either behind head or belongs to the position in hand.
 *  3. No lock is held across a sleep.
 *
 * Ownership and threads: any thread of any process of the channel; one producer
 * at a time by tx_lock, one consumer by rx_lock.
 *
 * Failure: -errno as Linux gives it, in its order: recv gives the bytes that are
 * there before an error; a pending error comes before EPIPE. SIGPIPE is raised
 * here. A signal handler on top of the same FIFO's holder gets -EAGAIN. A bad
 * buffer is a SIGSEGV, not EFAULT.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "errqueue.h"
#include "handover.h"
#include "hold.h"
#include "hybrid.h"
#include "keep.h"
#include "sys.h"

/* A long send or recv tells the host after this many bytes: it works meanwhile. */
#define SEND_PIECE (32u << 10)
#define RECV_PIECE (64u << 10)
/* Before asking again for a chunk when the channel has none. */
#define NO_CHUNK_NAP_NS 1000000
/* Before the next urgent byte, at the last one. */
#define URGENT_LOOKS 400

/* Flags that change nothing about a send that finds room: MSG_MORE is left to
 * the FIFO, which coalesces anyway. */
#define SEND_PLAIN (MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE | MSG_EOR | MSG_CONFIRM | MSG_BEGUN)
#define RECV_PLAIN (MSG_NOSIGNAL | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_BEGUN)

/* --- sending ----------------------------------------------------------- */

/* Nothing stands against a send. */
static inline bool send_open(const struct canal_sock *s)
{
	return canal_read_once(&s->state) == CANAL_SOCK_CONNECTED &&
	       !canal_read_once(&s->so_error) && !(canal_read_once(&s->shut) & SHUT_WRITE) &&
	       canal_read_once(&s->rx.closed) != CANAL_CLOSED_RESET;
}

/**
 * send_small() - one buffer into the chunk in hand
 *
 * Context: the hot path. head is not looked at while what was seen of it last
 * leaves enough room.
 * Return: false when it needs more than that; nothing is done then.
 */
static inline bool send_small(struct canal_sock *s, uint32_t n, const void *buf, size_t len)
{
	struct canal_fifo *f = &s->tx;
	struct canal_arena *arena = &the_channel.tx;
	uint32_t offset, id;
	uint64_t tail;
	bool fits;

	if (unlikely(len - 1 >= CANAL_CHUNK) || unlikely(!lock_enter(&f->tx_lock)))
		return false;
	tail = f->tail;
	offset = canal_fifo_offset(tail);
	id = f->chunk[canal_fifo_index(tail)];
	/* F1: open, behind the lock. At offset 0 the entry may be that of the round before. */
	fits = likely(send_open(s)) && offset && offset + len <= CANAL_CHUNK && id < arena->count &&
	       tx_room(f, tail, f->head_seen) >= len;
	if (likely(fits)) {
		data_copy(canal_arena_chunk(arena, id) + offset, buf, len);
		tx_publish(s, n, tail + len);
	}
	lock_leave(&f->tx_lock);
	return fits;
}

struct send_job {
	struct canal_sock *s;
	uint32_t n;
	uint32_t generation; /* of the socket that was asked for: sock_lost() */
	int flags;
	struct cursor at;
	size_t left, sent;
	int64_t deadline; /* 0: not yet known */
	bool no_chunk;
	bool urgent; /* MSG_OOB: its last byte is */
	bool holds;  /* signals, for this call: hold.h */
};

/*
 * A call that has moved nothing sleeps as a call of the kernel does, which restarts it
 * if the handler asks for that. One that has is ended by any signal.
 */
static void hold_for_sleep(bool *holds, bool moved)
{
	if (moved && !*holds) {
		*holds = hold_begin();
	} else if (!moved && *holds) {
		hold_end();
		*holds = false;
	}
}

static bool send_connected(void *arg)
{
	struct send_job *job = arg;

	return !sock_is_connecting(job->s) || sock_lost(job->s, job->generation);
}

static bool send_possible(void *arg)
{
	struct send_job *job = arg;

	return tx_writable_armed(&job->s->tx) || !send_open(job->s) ||
	       sock_lost(job->s, job->generation);
}

static int send_wait(struct send_job *job, bool (*ready)(void *))
{
	if (data_nonblock(job->s, job->flags))
		return -EAGAIN;
	hold_for_sleep(&job->holds, job->sent || job->flags & MSG_BEGUN);
	if (!job->deadline)
		job->deadline = data_deadline(&job->s->sndtimeo_ns);
	return wait_socket(&the_channel, job->s, job->n, WAIT_WRITE, ready, job, job->deadline);
}

/* Copies what there is room for. Under tx_lock. */
static void send_locked(struct send_job *job)
{
	struct canal_fifo *f = &job->s->tx;
	struct canal_arena *arena = &the_channel.tx;
	uint64_t tail = f->tail, room;

	while (job->left) {
		uint64_t part = CANAL_CHUNK - canal_fifo_offset(tail);
		uint32_t id;

		/* R2 acquire: the host's reads before our writes to that room */
		f->head_seen = canal_load_acquire(&f->head);
		room = tx_room(f, tail, f->head_seen);
		if (!room)
			break;
		id = tx_chunk(job->s, tail, f->head_seen);
		job->no_chunk = id == CANAL_NONE;
		if (job->no_chunk)
			break;
		part = part < room ? part : room;
		part = part < job->left ? part : job->left;
		cursor_take(&job->at, canal_arena_chunk(arena, id) + canal_fifo_offset(tail), part);
		tail += part;
		job->left -= part;
		job->sent += part;
		if (tail - f->tail >= SEND_PIECE && (job->left || !job->urgent))
			tx_publish(job->s, job->n, tail);
	}
	/* R1 release: the mark before tail */
	if (unlikely(job->urgent) && tail != f->tail &&
	    (!job->left || data_nonblock(job->s, job->flags)))
		canal_write_once(&f->mark, tail);
	if (tail != f->tail)
		tx_publish(job->s, job->n, tail);
}

/* The FIFO took less than it was given: room, or the reason why not. */
static int send_full(struct send_job *job)
{
	if (channel_gone(&the_channel))
		return -EPIPE;
	if (job->no_chunk && !data_nonblock(job->s, job->flags))
		return wait_nap(NO_CHUNK_NAP_NS);
	if (send_possible(job)) /* arms want_room, for epoll as well */
		return 0;
	return send_wait(job, send_possible);
}

static int send_loop(struct send_job *job)
{
	struct canal_sock *s = job->s;
	int err;

	for (;;) {
		if (unlikely(sock_lost(s, job->generation)))
			return -EBADF;
		if (unlikely(!send_open(s))) {
			bool connecting = sock_is_connecting(s);

			if (!connecting && send_open(s))
				continue; /* connected meanwhile */
			if (sock_is_handed(s) || sock_is_given(s))
				return -EHANDED;
			if (canal_read_once(&s->so_error) || !connecting)
				return -EPIPE;
			err = send_wait(job, send_connected);
			if (err)
				return err;
			continue;
		}
		if (!job->left)
			return 0;
		if (!job->holds && job->left > tx_limit(&s->tx) && !data_nonblock(s, job->flags))
			job->holds = hold_begin(); /* it will sleep with bytes sent */
		if (!lock_enter(&s->tx.tx_lock))
			return -EAGAIN;
		if (likely(send_open(s) && !sock_lost(s, job->generation))) /* F1 */
			send_locked(job);
		lock_leave(&s->tx.tx_lock);
		if (!job->left)
			return 0;
		err = send_full(job);
		if (err)
			return err;
	}
}

/* A long one, in a virtual machine. What it leaves is copied. */
static __attribute__((noinline)) int send_by_ref(struct send_job *job)
{
	bool nonblock = data_nonblock(job->s, job->flags);
	size_t sent = 0;
	int err;

	if (!nonblock)
		job->deadline = data_deadline(&job->s->sndtimeo_ns);
	err = hybrid_send(job->s, job->n, job->generation, &job->at, job->left, job->deadline,
			  &sent);
	job->left -= sent;
	job->sent += sent;
	return err;
}

/*
 * An urgent byte that another one follows before canald has sent it is none any
 * more, as in TCP. But where canald goes on at once, each is to arrive as one.
 */
static void urgent_settle(const struct canal_fifo *f)
{
	for (unsigned int i = 0; i < URGENT_LOOKS && !channel_gone(&the_channel) &&
				 canal_fifo_marked(f, canal_load_acquire(&f->head));
	     i++)
		sys_yield();
}

static void raise_sigpipe(void)
{
	long pid = sys_call2(SYS_getpid, 0, 0);

	(void)sys_call4(SYS_tgkill, pid, sys_call2(SYS_gettid, 0, 0), SIGPIPE, 0);
}

static __attribute__((noinline)) ssize_t send_slow(struct canal_sock *s, uint32_t n,
						   const struct iovec *iov, int count, int flags)
{
	struct send_job job = {
		.s = s,
		.n = n,
		.generation = canal_read_once(&s->generation),
		.flags = flags,
		.at = { iov, 0 },
	};
	ssize_t total = iov_total(iov, count);
	int err, pending;

	if (total < 0)
		return total;
	if (flags & MSG_FASTOPEN) /* without a name */
		return send_open(s) ? -EISCONN : -EINVAL;
	job.left = (size_t)total;
	job.urgent = flags & MSG_OOB && total;
	if (job.urgent)
		urgent_settle(&s->tx);
	err = hybrid_pays(job.left) && !job.urgent && send_open(s) ? send_by_ref(&job) : 0;
	if (!err)
		err = send_loop(&job);
	if (unlikely(job.holds))
		hold_end();
	keep_over();
	if (job.sent || !err)
		return (ssize_t)job.sent;
	if (err != -EPIPE)
		return err;
	pending = data_take_error(s);
	if (pending && pending != -EPIPE)
		return pending;
	if (!(flags & MSG_NOSIGNAL))
		raise_sigpipe();
	return -EPIPE;
}

ssize_t stream_send(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count, int flags)
{
	if (likely(count == 1) && likely(!(flags & ~SEND_PLAIN)) &&
	    likely(send_small(s, n, iov->iov_base, iov->iov_len)))
		return (ssize_t)iov->iov_len;
	return send_slow(s, n, iov, count, flags);
}

/* --- receiving --------------------------------------------------------- */

/* Bytes of the chunk that @pos lies in, at most @most; 0: the host named none. */
static inline uint64_t rx_piece(const struct canal_fifo *f, uint64_t pos, uint64_t most,
				const uint8_t **ret_at)
{
	uint32_t offset = canal_fifo_offset(pos);
	uint64_t part = CANAL_CHUNK - offset;
	uint32_t id = canal_read_once(&f->chunk[canal_fifo_index(pos)]);

	if (unlikely(id >= the_channel.rx.count))
		return 0;
	*ret_at = canal_arena_chunk(&the_channel.rx, id) + offset;
	return part < most ? part : most;
}

/* The same from several chunks, piece by piece: @len bytes are there. Under rx_lock. */
static __attribute__((noinline)) size_t recv_pieces(struct canal_sock *s, uint32_t n, uint8_t *buf,
						    size_t len, uint64_t tail)
{
	struct canal_fifo *f = &s->rx;
	uint64_t head = f->head, told = head, part;
	const uint8_t *at;
	size_t got = 0;

	while (got < len && (part = rx_piece(f, head, len - got, &at))) {
		data_copy(buf + got, at, part);
		got += part;
		head += part;
		if (unlikely(head - told >= RECV_PIECE)) {
			rx_consumed(s, n, head, tail);
			told = head;
		}
	}
	if (head != told)
		rx_consumed(s, n, head, tail);
	return got;
}

/**
 * recv_ready() - what is there, into one buffer
 *
 * Context: the hot path.
 * Return: bytes, 0 when there are none or when it is not that simple.
 */
static inline size_t recv_ready(struct canal_sock *s, uint32_t n, uint8_t *buf, size_t len)
{
	struct canal_fifo *f = &s->rx;
	uint64_t head, tail;
	const uint8_t *at;

	if (unlikely(!lock_enter(&f->rx_lock)))
		return 0;
	/* F1: connected, behind the lock. H1 light: the lock before the state; pairs with
	 * announce() of the host */
	if (unlikely(canal_load_acquire(&s->state) != CANAL_SOCK_CONNECTED))
		len = 0;
	head = f->head;
	/* R1 acquire: tail before the bytes below it; pairs with the host's publication */
	tail = canal_load_acquire(&f->tail);
	if (len > tail - head)
		len = tail - head;
	if (hybrid_pays(len) || unlikely(canal_fifo_marked(f, head))) /* not here */
		len = 0;
	if (len && likely(rx_piece(f, head, len, &at) == len)) {
		data_copy(buf, at, len);
		rx_consumed(s, n, head + len, tail);
	} else if (len) {
		len = recv_pieces(s, n, buf, len, tail);
	}
	lock_leave(&f->rx_lock);
	return len;
}

struct recv_job {
	struct canal_sock *s;
	uint32_t n;
	uint32_t generation;
	int flags;
	const struct iovec *iov;
	struct cursor at;
	size_t total, got;
	size_t seen;      /* bytes in RX that did not satisfy (MSG_PEEK) */
	bool stopped;     /* at the mark of urgent data, with bytes */
	bool fault;       /* the program's buffer is not there */
	bool holds;       /* signals, for this call */
	bool looked;      /* own_arrived() */
	int64_t deadline; /* 0: not yet known */
};

/* What is there, if that is much, in a virtual machine: rx.head behind it. */
static __attribute__((noinline)) uint64_t recv_by_ref(struct recv_job *job, uint64_t head,
						      uint64_t tail)
{
	uint64_t taken = 0;
	int64_t r = hybrid_recv(job->s, job->n, &job->at, job->total - job->got, &taken);

	job->fault = r < 0;
	if (r > 0)
		job->got += (size_t)r;
	if (taken > tail - head) /* came in meanwhile */
		tail = head + taken;
	if (taken)
		rx_consumed(job->s, job->n, head + taken, tail);
	return head + taken;
}

/*
 * Bytes from *@head on that may be read together. Steps over what is no part of the
 * stream; stops at the mark when there are bytes in front of it.
 */
static uint64_t recv_span(struct recv_job *job, uint64_t *head, uint64_t tail)
{
	const struct canal_fifo *f = &job->s->rx;

	if (likely(!canal_fifo_marked(f, *head)))
		return tail - *head;
	if (*head != tail && canal_read_once(&f->skip) == *head + 1)
		++*head;
	if (!canal_fifo_at_mark(f, *head)) {
		uint64_t most = canal_read_once(&f->mark) - 1 - *head;

		return most < tail - *head ? most : tail - *head;
	}
	job->stopped = job->got;
	if (job->got)
		return 0;
	if (*head != tail && !(canal_read_once(&job->s->status) & CANAL_STATUS_INLINE))
		++*head;
	return tail - *head;
}

/*
 * SO_PEEK_OFF: what of RX a peek leaves out. It is a place, and not a distance as in the
 * kernel, so that who consumes has nothing to change.
 */
static uint64_t peek_offset(const struct canal_sock *s, uint64_t head, uint64_t tail)
{
	uint64_t at = canal_read_once(&s->peek_at);

	if (!at || at - 1 < head)
		return 0;
	return at - 1 < tail ? at - 1 - head : tail - head;
}

/* The next peek begins behind this one. */
static void peek_on(struct canal_sock *s, size_t got)
{
	uint64_t at = canal_read_once(&s->peek_at), head = canal_read_once(&s->rx.head);

	if (at)
		canal_write_once(&s->peek_at, (at - 1 < head ? head + 1 : at) + got);
}

static void recv_locked(struct recv_job *job)
{
	struct canal_fifo *f = &job->s->rx;
	uint64_t head = f->head, told = head, part;
	/* R1 acquire: tail before the bytes below it */
	uint64_t tail = canal_load_acquire(&f->tail);
	bool peek = job->flags & MSG_PEEK;
	const uint8_t *at;

	if (peek) { /* from the beginning each time */
		job->at = (struct cursor){ job->iov, 0 };
		job->got = 0;
		job->seen = tail - head;
		job->stopped = false;
		head += peek_offset(job->s, head, tail);
	}
	if (hybrid_pays(job->total - job->got) && hybrid_pays(tail - head) &&
	    !canal_fifo_marked(f, head) && !(job->flags & (MSG_PEEK | MSG_TRUNC))) {
		head = told = recv_by_ref(job, head, tail);
		if (job->got)
			return;
	}
	while (job->got < job->total && head != tail && !job->fault) {
		uint64_t most = recv_span(job, &head, tail);

		if (most > job->total - job->got)
			most = job->total - job->got;
		part = most ? rx_piece(f, head, most, &at) : 0;
		if (!part)
			break;
		if (!(job->flags & MSG_TRUNC))
			cursor_put(&job->at, at, part);
		job->got += part;
		head += part;
		if (!peek && head - told >= RECV_PIECE) {
			rx_consumed(job->s, job->n, head, tail);
			told = head;
		}
	}
	if (!peek && head != told)
		rx_consumed(job->s, job->n, head, tail);
}

/* Why a recv does not go on waiting: bytes, an end, an error. */
static bool recv_possible(void *arg)
{
	struct recv_job *job = arg;
	struct canal_sock *s = job->s;
	uint32_t state = canal_read_once(&s->state);

	return rx_has(s, job->seen) || sock_lost(s, job->generation) ||
	       canal_load_acquire(&s->rx.closed) || canal_read_once(&s->so_error) ||
	       (canal_read_once(&s->shut) & SHUT_READ) ||
	       (state != CANAL_SOCK_CONNECTED && !sock_is_connecting(s));
}

#define RECV_END 1   /* nothing will follow */
#define RECV_AGAIN 2 /* look once more */

/**
 * recv_verdict() - RX is empty: what now
 *
 * tail is looked at again behind closed: the host publishes the last bytes first.
 * Return: 0 to wait, RECV_END, RECV_AGAIN, or -errno.
 */
static int recv_verdict(struct recv_job *job)
{
	struct canal_sock *s = job->s;
	/* R1 acquire: closed before the look at tail */
	uint32_t closed = canal_load_acquire(&s->rx.closed);
	bool connecting = sock_is_connecting(s);
	uint32_t state = canal_load_acquire(&s->state); /* not before the above */
	int err;

	if (state == CANAL_SOCK_HANDED || state == CANAL_SOCK_GIVEN)
		return job->got ? RECV_END : -EHANDED;
	if (rx_has(s, job->seen))
		return RECV_AGAIN;
	if (closed == CANAL_CLOSED_EOF)
		return RECV_END;
	if (job->got && canal_read_once(&s->so_error))
		return RECV_END; /* the next call takes the error */
	/* A reset behind the end is for who sends. */
	if (closed && canal_read_once(&s->so_error) == EPIPE)
		return RECV_END;
	err = data_take_error(s);
	if (err)
		return err;
	if (closed || (canal_read_once(&s->shut) & SHUT_READ))
		return RECV_END;
	if (connecting || state == CANAL_SOCK_CONNECTED)
		return channel_gone(&the_channel) ? -ECONNRESET : 0;
	return connect_untold(s, state) || state == CANAL_SOCK_CLOSED ? RECV_END : -ENOTCONN;
}

/* Once, for what this thread sent: what makes a recv possible may be no byte. */
static bool own_arrived(struct recv_job *job)
{
	if (!wait_has_inward || job->looked)
		return false;
	job->looked = true;
	return wait_own(&the_channel, job->s, recv_possible, job);
}

static int recv_wait(struct recv_job *job)
{
	struct canal_sock *s = job->s;
	int err;

	if (data_nonblock(s, job->flags))
		return own_arrived(job) ? 0 : -EAGAIN;
	hold_for_sleep(&job->holds, job->got || job->flags & MSG_BEGUN);
	if (!job->deadline)
		job->deadline = data_deadline(&s->rcvtimeo_ns);
	err = wait_socket(&the_channel, s, job->n, WAIT_READ, recv_possible, job, job->deadline);
	return err == -EPIPE ? -ECONNRESET : err;
}

/* Bytes to wait for. A peek never waits for more than RX can hold. */
static size_t recv_enough(const struct recv_job *job)
{
	uint64_t half = canal_read_once(&job->s->rx.limit) / 2;

	if (!(job->flags & MSG_WAITALL) || !job->total) {
		size_t lowat = rx_lowat(job->s);

		return lowat < job->total || !job->total ? lowat : job->total;
	}
	if (!(job->flags & MSG_PEEK) || job->total <= half)
		return job->total;
	return half ? half : 1;
}

static int recv_loop(struct recv_job *job)
{
	size_t enough = recv_enough(job);
	bool lost;
	int r;

	for (;;) {
		if (enough > 1 && !job->holds && !rx_has(job->s, enough - 1) &&
		    !data_nonblock(job->s, job->flags))
			job->holds = hold_begin(); /* it may sleep with bytes in hand */
		if (!lock_enter(&job->s->rx.rx_lock))
			return -EAGAIN;
		lost = sock_lost(job->s, job->generation); /* F1 */
		/* H1 light: the lock before the state */
		if (likely(!lost) && !sock_is_handed(job->s))
			recv_locked(job);
		lock_leave(&job->s->rx.rx_lock);
		if (unlikely(lost))
			return 0;
		if (unlikely(job->fault))
			return -EFAULT;
		if (job->got >= enough || job->stopped ||
		    (!job->total && rx_has(job->s, 0) && !sock_is_handed(job->s)))
			return 0;
		r = recv_verdict(job);
		if (r == RECV_AGAIN)
			continue;
		if (r)
			return r < 0 ? r : 0;
		r = recv_wait(job);
		if (r)
			return r;
	}
}

/*
 * tcp_recv_urg(): the urgent byte, once, if it is not in line. Where it is comes before
 * what it is; a look at the place on both sides says that they belong together.
 */
static ssize_t recv_urgent(struct canal_sock *s, const struct iovec *iov, size_t total, int flags)
{
	struct cursor at = { iov, 0 };
	struct canal_fifo *f = &s->rx;
	uint32_t byte, closed = canal_load_acquire(&f->closed);
	uint64_t mark;
	uint8_t value;

	if (sock_is_handed(s))
		return -EHANDED;
	do {
		mark = canal_load_acquire(&f->mark);
		byte = canal_load_acquire(&f->urgent); /* U1 acquire */
	} while (mark != canal_read_once(&f->mark));
	if ((canal_read_once(&s->status) & CANAL_STATUS_INLINE) ||
	    mark <= canal_read_once(&f->head) || canal_read_once(&f->taken) == mark)
		return -EINVAL;
	if (!(byte & CANAL_URGENT_HERE))
		return closed ? 0 : -EAGAIN;
	if (!(flags & MSG_PEEK))
		canal_write_once(&f->taken, mark);
	value = (uint8_t)byte;
	if (total && !(flags & MSG_TRUNC))
		cursor_put(&at, &value, 1);
	return total ? 1 : 0;
}

static ssize_t recv_queued(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count,
			   int flags)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov,
			    .msg_iovlen = (size_t)count };

	return errqueue_recv(s, n, &m, flags);
}

/* Or one that was shut down: it is as if new, but connections may be left in RX. */
static bool is_listener(const struct canal_sock *s)
{
	uint32_t state = canal_load_acquire(&s->state);

	return state == CANAL_SOCK_LISTENING ||
	       (state == CANAL_SOCK_OPEN && canal_load_acquire(&s->rx.closed));
}

ssize_t stream_recv_slowly(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count,
			   int flags)
{
	struct recv_job job = {
		.s = s,
		.n = n,
		.generation = canal_read_once(&s->generation),
		.flags = flags,
		.iov = iov,
		.at = { iov, 0 },
	};
	ssize_t total = iov_total(iov, count);
	int err;

	if (total < 0)
		return total;
	if (flags & MSG_ERRQUEUE)
		return recv_queued(s, n, iov, count, flags);
	if (is_listener(s))
		return -ENOTCONN;
	if (flags & MSG_OOB)
		return recv_urgent(s, iov, (size_t)total, flags);
	job.total = (size_t)total;
	err = recv_loop(&job);
	if (unlikely(job.holds))
		hold_end();
	if (job.got && (flags & MSG_PEEK))
		peek_on(s, job.got);
	keep_over();
	return job.got ? (ssize_t)job.got : err;
}

ssize_t stream_recv(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count, int flags)
{
	if (likely(count == 1) && likely(!(flags & ~RECV_PLAIN))) {
		size_t got = recv_ready(s, n, iov->iov_base, iov->iov_len);

		if (likely(got))
			return (ssize_t)got;
	}
	return stream_recv_slowly(s, n, iov, count, flags);
}
