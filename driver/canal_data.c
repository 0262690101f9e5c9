// SPDX-License-Identifier: GPL-2.0
/*
 * What write, read, poll and their relatives do to a canal socket when they come,
 * through its dummy, from code that libcanal does not see.
 *
 * Purpose: the same as libcanal does, on the same FIFOs and under the same locks,
 * so that both kinds of callers may alternate. It is not a fast path: each call
 * publishes with full fences and looks only once before it sleeps.
 *
 * Invariants
 *  1. What the region says is believed once and after a check (canal_fifo.c).
 *
 * Ownership and threads: any process context.
 *
 * Failure: errnos of Linux's sockets, as libcanal gives them.
 */
#include "canal_data.h"

#define EVENTS_IN (EPOLLIN | EPOLLRDNORM)
#define EVENTS_OUT (EPOLLOUT | EPOLLWRNORM)

/* --- bytes ------------------------------------------------------------- */

static long timeo_of(const struct canal_sock *s, const u64 *timeo_ns, int flags)
{
	u64 ns = canal_read_once(timeo_ns);

	if (flags & MSG_DONTWAIT)
		return 0;
	return ns && ns < 1ull << 60 ? max_t(long, nsecs_to_jiffies(ns), 1) : MAX_SCHEDULE_TIMEOUT;
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

	if ((job.flags & MSG_FASTOPEN) || (is_dgram(s) && (job.flags & MSG_OOB)))
		return -EOPNOTSUPP;
	job.timeo = timeo_of(s, &s->sndtimeo_ns, job.flags);
	err = is_dgram(s) ? canal_dgram_send(&job) : canal_stream_send(&job);
	if (job.done || !err)
		return min_t(size_t, job.done, INT_MAX);
	return err == -EPIPE ? error_take(s) ?: -EPIPE : err;
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
	err = is_dgram(s) ? canal_dgram_recv(&job) : canal_stream_recv(&job);
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

/* The urgent byte is there, and was not given yet. */
static bool is_urgent(const struct canal_sock *s)
{
	/* U1 acquire: the byte before the place */
	u32 urgent = canal_load_acquire(&s->rx.urgent);
	u64 mark = canal_read_once(&s->rx.mark);

	return (urgent & CANAL_URGENT_HERE) && mark > canal_read_once(&s->rx.head) &&
	       mark != canal_read_once(&s->rx.taken);
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
	/* at the mark, the urgent byte alone is nothing to read */
	if (rx_has(s, canal_fifo_at_mark(&s->rx, canal_read_once(&s->rx.head)) && !is_inline(s)))
		mask |= EVENTS_IN;
	if (is_urgent(s))
		mask |= EPOLLPRI;
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
	return canal_addr_write(&a, domain, name);
}

/* The pending error, which stays: 0 or -errno. */
int canal_data_error(struct canal_channel *ch, u32 number)
{
	u32 error = canal_read_once(&canal_data_sock(ch, number)->so_error);

	return error < MAX_ERRNO ? -(int)error : -EIO;
}

/* SIOCATMARK: 0, 1, or -errno. */
int canal_data_at_mark(struct canal_channel *ch, u32 number)
{
	struct canal_sock *s = canal_data_sock(ch, number);

	if (is_dgram(s))
		return -ENOIOCTLCMD;
	return canal_fifo_at_mark(&s->rx, canal_read_once(&s->rx.head));
}

/* FIONREAD and SIOCOUTQ. */
int canal_data_queued(struct canal_channel *ch, u32 number, bool sent)
{
	struct canal_sock *s = canal_data_sock(ch, number);
	struct job job = { .ch = ch, .s = s };
	struct canal_dgram record;
	u64 head, len, mark;
	int err = canal_job_look(sent ? &s->tx : &s->rx, &head, &len);

	if (err)
		return err;
	mark = canal_read_once(&s->rx.mark);
	if (!sent && !is_dgram(s) && mark > head && mark <= head + len && !is_inline(s))
		return mark - 1 - head;
	if (sent || !is_dgram(s))
		return len;
	if (len < sizeof(record))
		return 0;
	err = canal_job_get(&job, head, &record, sizeof(record), false);
	return err ?: min_t(u32, record.len, CANAL_FIFO_MAX);
}
