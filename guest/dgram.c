/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: what sendmsg and recvmsg do on a UDP socket.
 *
 * Purpose: a FIFO of records, docs/wire.md section 5. One call moves one
 * record, published or consumed whole.
 *
 * Invariants
 *  1. tail and head lie on record borders, multiples of CANAL_DGRAM_ALIGN.
 *  2. A record longer than the FIFO's limit is taken by an empty FIFO, so that a
 *     small SO_SNDBUF delays datagrams but does not forbid them.
 *
 * Ownership and threads: as stream.c, with which it shares data.h.
 *
 * Failure: -errno as Linux gives it; UDP raises no SIGPIPE. A pending error is
 * given before anything is moved.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "addr.h"
#include "control.h"
#include "data.h"
#include "errqueue.h"
#include "handover.h"
#include "hold.h"
#include "keep.h"
#include "twin.h"

#define DGRAM_MOST_IPV4 65507
#define DGRAM_MOST_IPV6 65527
#define NO_CHUNK_NAP_NS 1000000

/* --- sending ----------------------------------------------------------- */

struct dgram_job {
	struct canal_sock *s;
	uint32_t n;
	uint32_t generation; /* of the socket that was asked for: sock_lost() */
	int flags;
	struct canal_dgram head; /* of the record to be sent */
	uint64_t span;
	const struct control *control; /* NULL: none */
	struct cursor at;
};

/* Room for the record; used is what the FIFO holds. */
static bool dgram_fits(const struct canal_fifo *f, uint64_t span, uint64_t used)
{
	return used + span <= tx_limit(f) || (!used && span <= TX_MOST);
}

/* Copies @len bytes to position @pos: of the header, or of the buffers. */
static int put_part(struct dgram_job *job, uint64_t pos, const void *header, uint64_t len)
{
	const uint8_t *from = header;

	while (len) {
		uint32_t offset = canal_fifo_offset(pos);
		uint64_t part = CANAL_CHUNK - offset < len ? CANAL_CHUNK - offset : len;
		uint32_t id = tx_chunk(job->s, pos, job->s->tx.head_seen);
		uint8_t *to;

		if (id == CANAL_NONE)
			return -ENOBUFS;
		to = canal_arena_chunk(&the_channel.tx, id) + offset;
		if (from) {
			memcpy(to, from, part);
			from += part;
		} else {
			cursor_take(&job->at, to, part);
		}
		pos += part;
		len -= part;
	}
	return 0;
}

/* The usual record: within the chunk in hand. */
static inline bool put_within(struct dgram_job *job, uint64_t tail)
{
	struct canal_fifo *f = &job->s->tx;
	uint32_t offset = canal_fifo_offset(tail);
	uint32_t id = f->chunk[canal_fifo_index(tail)];
	uint8_t *to;

	if (!offset || offset + job->span > CANAL_CHUNK || id >= the_channel.tx.count ||
	    unlikely(job->head.flags))
		return false;
	to = canal_arena_chunk(&the_channel.tx, id) + offset;
	memcpy(to, &job->head, sizeof(job->head));
	cursor_take(&job->at, to + sizeof(job->head), job->head.len);
	return true;
}

/* Under tx_lock. 0, -EAGAIN: no room, -ENOBUFS: no chunk. */
static int put_record(struct dgram_job *job)
{
	struct canal_fifo *f = &job->s->tx;
	struct cursor start = job->at;
	uint64_t tail = f->tail;
	int err = 0;

	if (!dgram_fits(f, job->span, tail - f->head_seen)) {
		/* R2 acquire: the host's reads before our writes to that room */
		f->head_seen = canal_load_acquire(&f->head);
		if (!dgram_fits(f, job->span, tail - f->head_seen))
			return -EAGAIN;
	}
	if (!put_within(job, tail)) {
		f->head_seen = canal_load_acquire(&f->head); /* R2, for the chunks */
		err = put_part(job, tail, &job->head, sizeof(job->head));
		if (!err)
			err = put_part(job, tail + sizeof(job->head), NULL, job->head.len);
		if (!err && job->control)
			err = put_part(job, tail + canal_dgram_span(job->head.len),
				       job->control->data, job->control->len);
	}
	if (err)
		job->at = start;
	else
		tx_publish(job->s, job->n, tail + job->span);
	return err;
}

static bool dgram_has_room(const struct dgram_job *job)
{
	const struct canal_fifo *f = &job->s->tx;
	/* R2 acquire: the host's reads before our writes to that room */
	uint64_t head = canal_load_acquire(&f->head);

	return dgram_fits(f, job->span, canal_read_once(&f->tail) - head);
}

/* Room for this record, or a reason not to wait for it; else arms want_room. */
static bool dgram_possible(void *arg)
{
	struct dgram_job *job = arg;
	struct canal_sock *s = job->s;

	if (dgram_has_room(job) || canal_read_once(&s->so_error) ||
	    (canal_read_once(&s->shut) & 2) || sock_lost(s, job->generation))
		return true;
	/* S1: armed (by us or by somebody before) before the last look */
	if (!canal_load_acquire(&s->tx.want_room))
		canal_arm(&s->tx.want_room);
	return dgram_has_room(job);
}

static int dgram_state(struct canal_sock *s)
{
	uint32_t state = canal_read_once(&s->state);

	if (unlikely(state == CANAL_SOCK_GIVEN))
		return -EHANDED;
	if (state == CANAL_SOCK_CLOSED || channel_gone(&the_channel))
		return -EPIPE;
	return canal_read_once(&s->shut) & 2 ? -EPIPE : data_take_error(s);
}

static inline int send_loop(struct dgram_job *job)
{
	struct canal_sock *s = job->s;
	int64_t deadline = 0;
	int err;

	for (;;) {
		err = dgram_state(s);
		if (err)
			return err;
		if (!lock_enter(&s->tx.tx_lock))
			return -EAGAIN;
		err = unlikely(sock_lost(s, job->generation)) ? -EBADF /* F1 */
							      : put_record(job);
		lock_leave(&s->tx.tx_lock);
		if (!err)
			return 0;
		if (err == -EAGAIN && dgram_possible(job))
			continue;
		if (data_nonblock(s, job->flags))
			return -EAGAIN;
		if (!deadline)
			deadline = data_deadline(&s->sndtimeo_ns);
		err = err == -ENOBUFS ? wait_nap(NO_CHUNK_NAP_NS)
				      : (job->flags & MSG_BEGUN ? wait_socket_on : wait_socket)(
						&the_channel, s, job->n, WAIT_WRITE, dgram_possible,
						job, deadline);
		if (err)
			return err;
	}
}

static int send_record(struct dgram_job *job)
{
	int err = send_loop(job);

	keep_over();
	return err;
}

/* The kernel chooses a port before it finds that there is nobody to send to. */
static int no_peer(const struct canal_sock *s, uint32_t n)
{
	struct canal_inr inr = {
		.op = CANAL_INR_BIND,
		.sock = n,
		.u.addr = { .family = s->domain },
	};

	if (!s->local.port && !twin_apart())
		(void)channel_call(&the_channel, &inr, NULL);
	return -EDESTADDRREQ;
}

/* Where to: the name given, or the peer. */
static int dgram_target(const struct canal_sock *s, uint32_t n, const struct msghdr *m,
			struct canal_addr *to)
{
	int domain = s->domain, family, err;

	family = m->msg_name && m->msg_namelen ? addr_family(m->msg_name, m->msg_namelen)
					       : AF_UNSPEC;
	if (family < 0)
		return family;
	/* Linux: to an AF_INET socket, AF_UNSPEC is AF_INET; to an AF_INET6 socket, no name. */
	if (m->msg_name && m->msg_namelen && family == AF_UNSPEC && domain == AF_INET)
		err = addr_from_in(to, m->msg_name, m->msg_namelen, domain);
	else if (family != AF_UNSPEC)
		err = addr_from_sockaddr(to, m->msg_name, m->msg_namelen, domain);
	else
		return canal_read_once(&s->peer.family) ? 0 : no_peer(s, n);
	if (err == -EAFNOSUPPORT && domain == AF_INET6)
		return -EINVAL; /* what udpv6_sendmsg() says */
	return !err && !to->port ? -EINVAL : err;
}

/* As dgram_send(), with control messages. */
static __attribute__((noinline)) int add_control(struct dgram_job *job, const struct msghdr *m,
						 struct control *control)
{
	int err = control_pack(control, m, job->s->domain);

	if (err || !control->len)
		return err;
	job->control = control;
	job->head.flags |= control->len << 16;
	job->span += control->len;
	return 0;
}

/* As dgram_send(), the record being ready but for its control messages. */
static __attribute__((noinline)) int send_controlled(struct dgram_job *job, const struct msghdr *m)
{
	struct control control;
	int err = add_control(job, m, &control);

	return err ? err : send_record(job);
}

ssize_t dgram_send(struct canal_sock *s, uint32_t n, const struct msghdr *m, int flags)
{
	struct dgram_job job = {
		.s = s,
		.n = n,
		.generation = canal_read_once(&s->generation),
		.flags = flags,
		.at = { m->msg_iov, 0 },
	};
	ssize_t len = iov_total(m->msg_iov, (int)m->msg_iovlen);
	int err;

	if (unlikely(!data_settled(s))) {
		data_settle(s);
		if (!data_settled(s) && !channel_gone(&the_channel))
			return -EBADF; /* another thread has closed it */
	}
	if (unlikely(len < 0))
		return len;
	if (unlikely(len > (s->domain == AF_INET6 ? DGRAM_MOST_IPV6 : DGRAM_MOST_IPV4)))
		return -EMSGSIZE;
	if (unlikely((flags & MSG_OOB) && s->domain == AF_INET))
		return -EOPNOTSUPP;
	err = dgram_target(s, n, m, &job.head.addr);
	if (unlikely(err))
		return err;
	if (twin_apart() && job.head.addr.family && twin_owns(&job.head.addr))
		return twin_send(s, n, &job.head.addr, m, flags);
	job.head.len = (canal_u32)len;
	job.head.flags = flags & MSG_MORE ? CANAL_DGRAM_MORE : 0;
	job.span = canal_dgram_span(job.head.len);
	err = unlikely(m->msg_controllen) ? send_controlled(&job, m) : send_record(&job);
	return err ? err : len;
}

/* --- receiving --------------------------------------------------------- */

/* What one record left behind. */
struct dgram_got {
	struct canal_dgram head;
	size_t copied;
	struct control *control; /* NULL: nobody asks */
};

/* The payload at @pos into the program's buffers, as much as they hold. */
static int get_payload(const struct canal_fifo *f, uint64_t pos, struct cursor *at, uint64_t len)
{
	while (len) {
		struct iovec piece;
		int n = canal_fifo_pieces(f->chunk, &the_channel.rx, pos, len, &piece, 1);

		if (n < 0)
			return n;
		cursor_put(at, piece.iov_base, piece.iov_len);
		pos += piece.iov_len;
		len -= piece.iov_len;
	}
	return 0;
}

/* Of the record at @head. */
static __attribute__((noinline)) int get_control(const struct canal_fifo *f, uint64_t head,
						 struct dgram_got *got)
{
	uint32_t len = CANAL_DGRAM_CONTROL(got->head.flags);

	if (!got->control)
		return 0;
	if (len > sizeof(got->control->data))
		return -EPROTO;
	got->control->len = len;
	return canal_fifo_peek(f->chunk, &the_channel.rx, head + canal_dgram_span(got->head.len),
			       got->control->data, len);
}

/* Under rx_lock. 1: got one, 0: none, or -errno. */
static int get_record(struct canal_sock *s, uint32_t n, const struct msghdr *m, size_t room,
		      int flags, struct dgram_got *got)
{
	struct canal_fifo *f = &s->rx;
	struct cursor at = { m->msg_iov, 0 };
	uint64_t head = f->head;
	/* R1 acquire: tail before the records below it */
	uint64_t tail = canal_load_acquire(&f->tail), span;
	int err;

	if (head == tail)
		return 0;
	err = canal_fifo_peek(f->chunk, &the_channel.rx, head, &got->head, sizeof(got->head));
	span = canal_dgram_extent(&got->head);
	if (err || span > tail - head)
		return -EIO;
	got->copied = got->head.len < room ? got->head.len : room;
	err = get_payload(f, head + sizeof(got->head), &at, got->copied);
	if (!err && unlikely(CANAL_DGRAM_CONTROL(got->head.flags)))
		err = get_control(f, head, got);
	if (err)
		return -EIO;
	if (!(flags & MSG_PEEK))
		rx_consumed(s, n, head + span, tail);
	return 1;
}

bool dgram_arrived(void *sock)
{
	struct canal_sock *s = sock;

	/* R1 acquire: tail before the records below it */
	return canal_load_acquire(&s->rx.tail) != canal_read_once(&s->rx.head) ||
	       canal_read_once(&s->so_error) || (canal_read_once(&s->shut) & 1) ||
	       canal_read_once(&s->state) == CANAL_SOCK_CLOSED || sock_is_given(s);
}

/* 1: got one, 0: shut down and empty, or -errno. */
static inline int recv_loop(struct canal_sock *s, uint32_t n, const struct msghdr *m, size_t room,
			    int flags, struct dgram_got *got)
{
	uint32_t generation = canal_read_once(&s->generation);
	int64_t deadline = 0;
	bool looked = false; /* for what this thread sent, once */
	int r;

	for (;;) {
		r = data_take_error(s);
		if (r)
			return r;
		if (!lock_enter(&s->rx.rx_lock))
			return -EAGAIN;
		r = unlikely(sock_lost(s, generation)) ? -EBADF /* F1 */
						       : get_record(s, n, m, room, flags, got);
		lock_leave(&s->rx.rx_lock);
		if (r)
			return r;
		if (unlikely(sock_is_given(s)))
			return -EHANDED;
		if (channel_gone(&the_channel))
			return -ECONNRESET;
		if (data_nonblock(s, flags)) {
			if (looked || !wait_own(&the_channel, s, dgram_arrived, s))
				return -EAGAIN;
			looked = true;
			continue;
		}
		if ((canal_read_once(&s->shut) & 1) ||
		    canal_read_once(&s->state) == CANAL_SOCK_CLOSED)
			return 0;
		if (!deadline)
			deadline = data_deadline(&s->rcvtimeo_ns);
		r = (flags & MSG_BEGUN ? wait_socket_on : wait_socket)(
			&the_channel, s, n, WAIT_READ | WAIT_ONE, dgram_arrived, s, deadline);
		if (r)
			return r == -EPIPE ? -ECONNRESET : r;
	}
}

static int recv_record(struct canal_sock *s, uint32_t n, const struct msghdr *m, size_t room,
		       int flags, struct dgram_got *got)
{
	int r = recv_loop(s, n, m, room, flags, got);

	keep_over();
	return r;
}

ssize_t dgram_recv(struct canal_sock *s, uint32_t n, struct msghdr *m, int flags)
{
	struct twin *twin = twin_of(n);

	return unlikely(twin) ? twin_recv(twin, s, m, flags) : dgram_recv_canal(s, n, m, flags);
}

/* What recvmsg() tells of the datagram besides its bytes. */
static void give_rest(const struct dgram_got *got, struct msghdr *m)
{
	if (m->msg_name)
		addr_give(&got->head.addr, m->msg_name, &m->msg_namelen);
	else
		m->msg_namelen = 0;
	if (got->copied < got->head.len || (got->head.flags & CANAL_DGRAM_TRUNC))
		m->msg_flags |= MSG_TRUNC;
	if (got->control)
		control_give(got->control, m);
	else if (CANAL_DGRAM_CONTROL(got->head.flags))
		m->msg_flags |= MSG_CTRUNC;
}

/* With room for control messages, or none to be had. */
static inline ssize_t recv_one(struct canal_sock *s, uint32_t n, struct msghdr *m, size_t room,
			       int flags, struct control *control)
{
	struct dgram_got got = { .control = control };
	int r = recv_record(s, n, m, room, flags, &got);

	if (r < 0)
		return r;
	m->msg_flags = flags & MSG_CMSG_CLOEXEC;
	if (r) {
		give_rest(&got, m);
		return (ssize_t)(flags & MSG_TRUNC ? got.head.len : got.copied);
	}
	m->msg_namelen = 0;
	m->msg_controllen = 0;
	return 0;
}

static __attribute__((noinline)) ssize_t recv_controlled(struct canal_sock *s, uint32_t n,
							 struct msghdr *m, size_t room, int flags)
{
	struct control control;

	control.len = 0;
	return recv_one(s, n, m, room, flags, &control);
}

ssize_t dgram_recv_canal(struct canal_sock *s, uint32_t n, struct msghdr *m, int flags)
{
	ssize_t room = iov_total(m->msg_iov, (int)m->msg_iovlen);

	if (unlikely(!data_settled(s)))
		data_settle(s);
	if (unlikely(room < 0))
		return room;
	if (unlikely(sock_is_given(s)))
		return -EHANDED; /* whatever is in RX */
	if (unlikely(flags & MSG_ERRQUEUE))
		return errqueue_recv(s, n, m, flags);
	return unlikely(m->msg_controllen) ? recv_controlled(s, n, m, (size_t)room, flags)
					   : recv_one(s, n, m, (size_t)room, flags, NULL);
}
