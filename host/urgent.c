/* SPDX-License-Identifier: MIT */
/*
 * Urgent data: the byte that MSG_OOB sends, and its mark in the stream.
 *
 * Purpose: RX of a guest carries every byte of the stream, the urgent one too, and
 * says where that is. So the host has to know, of each byte that it receives from
 * the kernel, whether it is the urgent one. The kernel's recv stops at the mark, but
 * one that begins there goes on past it. Whether it would begin there can be asked
 * (SIOCATMARK), which is too dear for each receive.
 *
 * So the poller's thread owns each of its streams, and gets SIGURG. The kernel sends
 * that before it lets a recv see the mark, and a recv that finds itself at the mark
 * with a signal pending gives EAGAIN. What is left is a signal that is handled
 * between the last look at urgent_signals and the system call: its handler empties
 * the list of buffers of what is about to be received.
 *
 * The signal does not say whose it is, nor how far ahead the mark is: each socket asks
 * before its next receives, until it was at its mark or took as much as can be in front.
 *
 * Invariants
 *  1. A receive of a stream is guarded: it takes no byte at or behind a mark of which
 *     SIGURG has not been heard.
 *  2. The urgent byte comes into RX by urgent_take() alone, one receive of one byte.
 *     The kernel's socket has SO_OOBINLINE, or an urgent byte at which the next one
 *     overtakes the reader would be left out.
 *  3. The place of the mark is told before the byte is in RX, what the byte is when it is
 *     there, or when it cannot come because RX is full.
 *
 * Ownership and threads: the poller that owns the channel; SIGURG is for its thread.
 * Failure: without SIGURG (a thread that did not ask for it) no byte is urgent.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"

#define TRIES 3
/* So far ahead can a mark be. */
#define AHEAD 65536u

/* --- the signal -------------------------------------------------------- */

_Thread_local volatile uint32_t urgent_signals;

/* What is about to be received by this thread. */
static _Thread_local struct {
	struct engine_op *const *volatile ops;
	volatile uint32_t count;
	pid_t tid;
} guarded;

/* The kernel reads the number of buffers when the call is made: none, no byte. */
static void heard(int number)
{
	(void)number;
	urgent_signals = urgent_signals + 1;
	for (uint32_t i = 0; i < guarded.count; i++)
		if (guarded.ops[i]->guarded)
			guarded.ops[i]->msg.msg_iovlen = 0;
}

void urgent_listen(void)
{
	const struct sigaction action = { .sa_handler = heard, .sa_flags = SA_RESTART };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	if (sigaction(SIGURG, &action, NULL) || pthread_sigmask(SIG_UNBLOCK, &set, NULL))
		return;
	guarded.tid = gettid();
}

static void own(int fd)
{
	const struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = guarded.tid };

	if (guarded.tid)
		(void)fcntl(fd, F_SETOWN_EX, &owner);
}

static void in_line(int fd, int on)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
}

/* Of a socket that is not in line: whether a mark is ahead, or here. */
static bool announced(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT);

	return got == 1 || (got < 0 && errno == EAGAIN);
}

/* The same of one that is: not of a mark whose byte has not come yet. */
static bool has_urgent(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLPRI };

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLPRI);
}

/*
 * Whether the stream stands at its mark: 1, 0 or -1. The kernel signals, and then sets
 * the mark, with the socket locked. SIOCATMARK takes no lock, and would miss a mark whose
 * signal was heard that early; SIOCINQ does take it.
 */
static int at_mark(int fd)
{
	int result;

	if (ioctl(fd, SIOCINQ, &result) || ioctl(fd, SIOCATMARK, &result))
		return -1;
	return result != 0;
}

/* From now on each receive asks. */
static void suspect(struct sock *s)
{
	s->urgent_looked = urgent_signals;
	s->urgent_until = s->rx_tail + AHEAD;
	s->urgent = true;
}

void urgent_watch(struct sock *s)
{
	if (s->type != SOCK_STREAM)
		return;
	s->urgent_looked = urgent_signals;
	own(s->fd);
	in_line(s->fd, 1);
}

void urgent_accepted(struct sock *s)
{
	s->urgent_looked = urgent_signals;
	own(s->fd);
	if (announced(s->fd)) /* before it was ours */
		suspect(s);
	in_line(s->fd, 1);
}

void urgent_forget(struct sock *s)
{
	(void)fcntl(s->fd, F_SETOWN, 0);
}

void urgent_guard(struct engine_op *const *ops, uint32_t count)
{
	guarded.count = 0;
	guarded.ops = ops;
	guarded.count = count;
	/* the handler sees them before we look whether it has run */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < count; i++)
		if (ops[i]->guarded && ops[i]->looked != urgent_signals)
			ops[i]->msg.msg_iovlen = 0;
}

int urgent_result(const struct engine_op *op, int res)
{
	if (!op->guarded || op->looked == urgent_signals)
		return res;
	return res == -EAGAIN || (res == 0 && !op->msg.msg_iovlen) ? -EINTR : res;
}

/* --- looking ----------------------------------------------------------- */

/* Tells the guest where the urgent byte is. */
static void tell_mark(struct sock *s, uint64_t mark, uint8_t byte)
{
	struct canal_fifo *rx = &s->shared->rx;
	uint64_t before = s->urgent_mark;

	if (before == mark && s->urgent_byte == byte)
		return;
	/* Linux leaves out an urgent byte at which the reader stands when the next comes. */
	if (before && before != mark && sock_rx_head(s) + 1 == before && s->rx_tail >= before &&
	    !(canal_read_once(&s->shared->status) & CANAL_STATUS_INLINE))
		canal_write_once(&rx->skip, before);
	s->urgent_mark = mark;
	s->urgent_byte = byte;
	s->urgent_untold = true;
	canal_write_once(&rx->urgent, 0u);
	/* U1 release: no byte before the mark, the mark before its byte; pairs with
	 * recv_urgent() of the guest */
	canal_store_release(&rx->mark, mark);
}

/* SIGURG not before: its handler looks for the byte. */
static void tell_byte(struct sock *s)
{
	s->urgent_untold = false;
	/* U1 release: the mark before its byte; with the fence of S1 */
	canal_store_fence(&s->shared->rx.urgent, CANAL_URGENT_HERE | s->urgent_byte);
	if (!s->urgent_early)
		wake_urgent(s);
	s->urgent_early = false;
}

void urgent_published(struct sock *s)
{
	if (s->urgent_untold && s->rx_tail >= s->urgent_mark)
		tell_byte(s);
}

void urgent_held_up(struct sock *s)
{
	if (!s->urgent_untold)
		return;
	tell_byte(s);
	wake_socket(s, EPOLLIN | EPOLLPRI);
}

/* At the mark: the urgent byte into RX, and nothing else. */
static void urgent_take(struct sock *s)
{
	struct iovec to;
	uint64_t room;
	ssize_t got;

	if (!sock_rx_room(s, &room) || (!room && sock_rx_park(s)))
		return;
	if (!sock_rx_prepare(s, 1)) {
		sock_starve(s);
		return;
	}
	if (canal_fifo_pieces(s->rx_chunk, &s->channel->rx, s->rx_tail, 1, &to, 1) != 1)
		return;
	got = recv(s->fd, to.iov_base, 1, MSG_DONTWAIT);
	if (got == 1) {
		tell_mark(s, s->rx_tail + 1, *(uint8_t *)to.iov_base);
		s->urgent = s->urgent_looked != urgent_signals;
		sock_rx_publish(s, 1);
	} else if (got == 0 || errno != EAGAIN) {
		stream_received(s, 1, got < 0 ? -errno : 0);
	} else if (s->urgent_looked == urgent_signals && !has_urgent(s->fd)) {
		sock_unmark_rx(s); /* announced: it is told when it is there */
	}
	s->channel->poller->work++;
}

void urgent_early(struct sock *s)
{
	if (s->urgent_early || !has_urgent(s->fd))
		return;
	s->urgent_early = true;
	wake_urgent(s);
}

bool urgent_allows(struct sock *s)
{
	int here;

	if (s->urgent_looked != urgent_signals)
		suspect(s);
	here = at_mark(s->fd);
	if (here < 0 || s->urgent_looked != urgent_signals)
		return false; /* the next pass asks again */
	if (here) {
		urgent_take(s);
		return false;
	}
	if (s->rx_tail >= s->urgent_until)
		s->urgent = false;
	else
		urgent_early(s);
	return true;
}

int urgent_again(struct sock *s)
{
	size_t count = s->rx_pieces;
	int res = -EINTR;

	for (int i = 0; i < TRIES && res == -EINTR; i++) {
		suspect(s);
		if (at_mark(s->fd))
			return -EINTR;
		s->rx_op.looked = s->urgent_looked;
		s->rx_op.msg.msg_iovlen = count;
		res = engine_recv_now(&s->rx_op);
	}
	return res;
}

/* --- sending ----------------------------------------------------------- */

/* Bytes up to the urgent one, and that; more than @avail: it is not there. */
static uint64_t tx_urgent(const struct sock *s, uint64_t avail)
{
	uint64_t len = canal_read_once(&s->shared->tx.mark) - s->tx_head;

	return len && len <= avail ? len : UINT64_MAX;
}

/* A send that the kernel takes in part would have its mark there: so the byte goes alone. */
uint64_t urgent_tx(const struct sock *s, uint64_t avail, int *ret_flags)
{
	uint64_t len = tx_urgent(s, avail);

	*ret_flags = len == 1 ? MSG_OOB : 0;
	if (len == UINT64_MAX)
		return avail;
	return len == 1 ? 1 : len - 1;
}

bool urgent_across(struct sock *s, struct sock *d, uint64_t avail)
{
	uint64_t len = tx_urgent(s, avail), mark = s->tx_head + len;
	uint8_t byte;

	if (len == UINT64_MAX || mark == s->urgent_sent)
		return true;
	if (canal_fifo_peek(s->shared->tx.chunk, &s->channel->tx, mark - 1, &byte, 1)) {
		channel_break(s->channel, BROKEN_TX_CHUNK);
		return false;
	}
	s->urgent_sent = mark;
	tell_mark(d, d->rx_tail + len, byte);
	return true;
}

/* --- handed over ------------------------------------------------------- */

/* The dummy is a UNIX socket: the urgent byte is left out, as a plain read would. */
uint64_t urgent_handed(struct sock *s, uint64_t *head)
{
	uint64_t mark = s->urgent_mark;

	if (mark <= *head || (canal_read_once(&s->shared->status) & CANAL_STATUS_INLINE))
		return s->rx_tail - *head;
	if (mark == *head + 1 && mark <= s->rx_tail)
		return s->rx_tail - ++*head;
	return (mark <= s->rx_tail ? mark - 1 : s->rx_tail) - *head;
}
