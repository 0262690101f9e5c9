/* SPDX-License-Identifier: MIT */
/*
 * What poll, select and epoll see of a canal socket.
 *
 * Purpose: tcp_poll() and datagram_poll() of Linux, from shared memory alone.
 *
 * Ownership and threads: any thread, no lock; what is found may have changed by
 * the time that it is told.
 *
 * Failure: a channel that is gone shows as an error and hang-up.
 */
#include "data.h"
#include "handover.h"

#define EVENTS_IN (POLLIN | POLLRDNORM)
#define EVENTS_OUT (POLLOUT | POLLWRNORM)

/* Linux's sk_shutdown: what was shut from here, and from there. */
static uint32_t sock_shutdown_mask(const struct canal_sock *s)
{
	uint32_t mask = canal_read_once(&s->shut) & (SHUT_READ | SHUT_WRITE);
	uint32_t closed = canal_load_acquire(&s->rx.closed);

	if (closed == CANAL_CLOSED_EOF)
		mask |= SHUT_READ;
	else if (closed)
		mask |= SHUT_READ | SHUT_WRITE;
	return mask;
}

static short events_of_end(uint32_t shut, bool hung_up)
{
	short mask = 0;

	if (shut & SHUT_READ)
		mask |= EVENTS_IN | POLLRDHUP;
	if (hung_up || shut == (SHUT_READ | SHUT_WRITE))
		mask |= POLLHUP;
	return mask;
}

/* POLLPRI: the urgent byte is there, and was not given yet. */
static short events_of_urgent(const struct canal_sock *s)
{
	/* U1 acquire: the byte before the place */
	uint32_t byte = canal_load_acquire(&s->rx.urgent);
	uint64_t mark = canal_read_once(&s->rx.mark);

	return (byte & CANAL_URGENT_HERE) && mark > canal_read_once(&s->rx.head) &&
			       mark != canal_read_once(&s->rx.taken)
		       ? POLLPRI
		       : 0;
}

/* At the mark, the urgent byte alone is nothing to read. */
static size_t urgent_alone(const struct canal_sock *s)
{
	return canal_fifo_at_mark(&s->rx, canal_read_once(&s->rx.head)) &&
	       !(canal_read_once(&s->status) & CANAL_STATUS_INLINE);
}

/* tcp_poll() of a socket that does not listen. */
static short events_of_stream(struct canal_sock *s, short events)
{
	bool connecting = sock_is_connecting(s);
	/* N1 acquire: behind the look at `connects`, or it would be that of before */
	uint32_t state = canal_load_acquire(&s->state);
	uint32_t shut = sock_shutdown_mask(s);
	short mask;

	if (connect_untold(s, state) && !connecting)
		shut = SHUT_READ | SHUT_WRITE;
	/* A listener that was shut down is as if new. */
	if (state == CANAL_SOCK_OPEN && canal_read_once(&s->rx.closed))
		shut = canal_read_once(&s->shut) & (SHUT_READ | SHUT_WRITE);
	mask = events_of_end(shut, !connecting && state != CANAL_SOCK_CONNECTED);
	if (connecting)
		return mask;
	/* connections are left in RX of a listener that was shut down */
	if ((events & EVENTS_IN) && state != CANAL_SOCK_OPEN &&
	    rx_has(s, rx_lowat(s) - 1 + urgent_alone(s)))
		mask |= EVENTS_IN;
	if (events & POLLPRI)
		mask |= events_of_urgent(s);
	/* What is not connected sends nothing, and so is never full. */
	if ((shut & SHUT_WRITE) || state != CANAL_SOCK_CONNECTED)
		mask |= EVENTS_OUT;
	else if ((events & EVENTS_OUT) && tx_writable_armed(&s->tx))
		mask |= EVENTS_OUT;
	/* The host stores an error before the end that it makes: told with that. */
	if ((shut == (SHUT_READ | SHUT_WRITE) || state != CANAL_SOCK_CONNECTED) &&
	    canal_read_once(&s->so_error))
		mask |= POLLERR;
	return mask;
}

/* datagram_poll() */
static short events_of_dgram(struct canal_sock *s, short events)
{
	short mask = events_of_end(sock_shutdown_mask(s), false);

	if ((events & EVENTS_IN) && rx_has(s, 0))
		mask |= EVENTS_IN;
	if ((events & (EVENTS_OUT | POLLWRBAND)) && tx_writable_armed(&s->tx))
		mask |= EVENTS_OUT | POLLWRBAND;
	if (canal_read_once(&s->so_error) || canal_read_once(&s->queued))
		mask |= POLLERR;
	return mask;
}

/* The kernel knows: who looks has to ask it from now on. */
static short events_of_handed(void)
{
	canal_write_once(&handover_met, 1u);
	return 0;
}

/*
 * A connected stream, nothing of which is shut, closed, held back or urgent: most are
 * that in most looks, and have nothing to tell but bytes and room.
 */
static inline bool is_plain(const struct canal_sock *s)
{
	/* N1 acquire: behind the look at `connects`, as in events_of_stream() */
	if (sock_connecting(s) || canal_load_acquire(&s->state) != CANAL_SOCK_CONNECTED)
		return false;
	return likely(s->type == SOCK_STREAM) &&
	       !(canal_load_acquire(&s->rx.closed) | canal_read_once(&s->shut) |
		 canal_read_once(&s->rcvlowat) >> 1 | canal_read_once(&s->rx.mark));
}

static inline short events_of_plain(struct canal_sock *s, short events)
{
	short mask = 0;

	if ((events & EVENTS_IN) && rx_has(s, 0))
		mask |= EVENTS_IN;
	if ((events & EVENTS_OUT) && tx_writable_armed(&s->tx))
		mask |= EVENTS_OUT;
	return mask & events;
}

static __attribute__((noinline)) short events_of_any(struct canal_sock *s, short events)
{
	uint32_t state;
	short mask;

	if (unlikely(!data_settled(s)))
		data_settle(s);
	/* N1 acquire: state before what hangs on it; pairs with sock_set_state() */
	state = canal_load_acquire(&s->state);
	if (unlikely(channel_gone(&the_channel)))
		mask = POLLERR | POLLHUP | POLLRDHUP | EVENTS_IN | EVENTS_OUT;
	else if (state == CANAL_SOCK_LISTENING)
		mask = rx_has(s, 0) ? EVENTS_IN : 0;
	else if (unlikely(state == CANAL_SOCK_HANDED || state == CANAL_SOCK_GIVEN))
		mask = events_of_handed();
	else if (s->type == SOCK_DGRAM)
		mask = events_of_dgram(s, events);
	else
		mask = events_of_stream(s, events);
	return mask & (events | POLLERR | POLLHUP);
}

short sock_events(struct canal_sock *s, short events)
{
	return likely(is_plain(s) && !channel_gone(&the_channel)) ? events_of_plain(s, events)
								  : events_of_any(s, events);
}
