/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: sendfile and splice, between a socket of ours and a file or
 * a pipe of the kernel's. What a datagram socket is given at once is a datagram.
 *
 * Purpose: one copy through a buffer. What must not happen is that bytes taken
 * from one side find no room on the other: the room is found out first, and only
 * so much is taken.
 *
 * Invariants
 *  1. File positions and offsets move by what the stream took, no more.
 *  2. A pipe is written only as far as it has room: a pipe that is empty takes
 *     all of its size, one that is writable takes PIPE_BUF.
 *
 * Failure: as in the kernel; what was moved before an error is the result.
 */
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "hold.h"
#include "intercept.h"
#include "user.h"

#define MOVE_MAX 0x7ffff000u /* the kernel's limit for one call */
#define MOVE_BUFFER 65536u
#define SPLICE_FLAGS \
	(unsigned int)(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool nonblocking(struct sock_ref ref)
{
	return canal_read_once(&ref.s->status) & CANAL_STATUS_NONBLOCK;
}

static ssize_t move_send(struct sock_ref ref, void *buf, size_t len, int flags)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	const struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!is_stream(ref))
		return dgram_send(ref.s, ref.n, &m, 0);
	if (ref.way != SOCK_STREAM)
		stdio_precedes(ref.s);
	return stream_send(ref.s, ref.n, &iov, 1, flags);
}

static ssize_t move_recv(struct sock_ref ref, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return is_stream(ref) ? stream_recv(ref.s, ref.n, &iov, 1, 0)
			      : dgram_recv(ref.s, ref.n, &m, 0);
}

static size_t stream_room(struct canal_sock *s)
{
	uint64_t limit = canal_read_once(&s->tx.limit);
	uint64_t used = canal_read_once(&s->tx.tail) - canal_load_acquire(&s->tx.head);

	if (limit > CANAL_FIFO_MAX - CANAL_CHUNK)
		limit = CANAL_FIFO_MAX - CANAL_CHUNK;
	return used < limit ? limit - used : 0;
}

/* --- sendfile ---------------------------------------------------------- */

/* How much to read for the next send: no more than will be taken, to read it once. */
static size_t send_piece(struct sock_ref ref, size_t left)
{
	size_t piece = least(left, MOVE_BUFFER), room;

	if (!nonblocking(ref) || !is_stream(ref))
		return piece;
	room = stream_room(ref.s);
	return least(piece, room ? room : 1);
}

/* Reads the file at @at and sends; what the stream does not take is read again. */
static ssize_t file_to_socket(struct sock_ref ref, int in, off_t at, size_t len, void *buf)
{
	ssize_t got, sent = 0;
	bool holds = false;
	size_t done = 0;

	while (done < len) {
		int flags = done ? MSG_BEGUN : 0;

		got = real(pread)(in, buf, send_piece(ref, len - done), at + done);
		if (got <= 0) {
			sent = got < 0 ? -errno : 0;
			break;
		}
		if ((size_t)got < len - done)
			flags |= MSG_MORE;
		sent = move_send(ref, buf, got, flags);
		if (sent < 0)
			break;
		done += sent;
		if (sent < got)
			break;
		if (!holds && done < len && !nonblocking(ref))
			holds = hold_begin(); /* signals end it between two pieces, too */
	}
	if (holds)
		hold_end();
	return done ? (ssize_t)done : sent;
}

static ssize_t send_file(struct sock_ref ref, int in, off_t *at, size_t len)
{
	off_t from;
	ssize_t ret;
	void *buf;

	if (at && USER_ONCE(user_writable, at, sizeof(*at)))
		return -EFAULT;
	from = lseek(in, 0, SEEK_CUR);
	if (from < 0)
		return at || errno != ESPIPE ? -errno : -EINVAL;
	if (at)
		from = *at;
	if (from < 0)
		return -EINVAL;
	len = least(len, MOVE_MAX);
	buf = malloc(least(len ? len : 1, MOVE_BUFFER));
	if (!buf)
		return -ENOMEM;
	ret = file_to_socket(ref, in, from, len, buf);
	free(buf);
	if (ret == -ESPIPE || ret == -EISDIR)
		ret = -EINVAL;
	if (ret <= 0)
		return ret;
	if (at)
		*at = from + ret;
	else
		(void)lseek(in, from + ret, SEEK_SET);
	return ret;
}

EXPORT ssize_t sendfile(int out, int in, off_t *at, size_t len)
{
	TRACED(sendfile, out, in, at, len);

	struct sock_ref ref = sock_of(out);
	int saved_errno = errno;
	ssize_t ret;

	if (!ref.s)
		return fd_sock(in) ? give(-EINVAL) : real(sendfile)(out, in, at, len);
	if (fd_sock(in))
		return give(-EINVAL);
	ret = send_file(ref, in, at, len);
	errno = saved_errno;
	return GIVE_IO(out, ret, real(sendfile)(out, in, at, len));
}

/* --- splice ------------------------------------------------------------ */

/* Waits for an event of the kernel's descriptor, or gives -EAGAIN. Nothing has moved yet,
 * so it goes on behind handlers that ask for that. */
static int pipe_wait(int fd, short event, bool nonblock)
{
	struct pollfd p = { .fd = fd, .events = event };
	int ret;

	do
		ret = real(poll)(&p, 1, nonblock ? 0 : -1);
	while (ret < 0 && errno == EINTR && handlers_restart());
	if (ret < 0)
		return -errno;
	return ret == 0 ? -EAGAIN : 0;
}

static bool pipe_nonblock(int fd, unsigned int flags)
{
	int mode = real(fcntl)(fd, F_GETFL, NULL);

	return (flags & SPLICE_F_NONBLOCK) || (mode >= 0 && (mode & O_NONBLOCK));
}

/* Bytes that a write to the pipe takes without waiting; waits for the first. */
static ssize_t pipe_room(int fd, bool nonblock)
{
	int size = real(fcntl)(fd, F_GETPIPE_SZ, NULL);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int used, ret;

	if (size < 0)
		return -EINVAL;
	if (real(poll)(&p, 1, 0) > 0 && (p.revents & POLLERR)) { /* nobody reads it */
		raise(SIGPIPE);
		return -EPIPE;
	}
	if (real(ioctl)(fd, FIONREAD, &used) == 0 && used == 0)
		return size;
	ret = pipe_wait(fd, POLLOUT, nonblock);
	return ret < 0 ? ret : PIPE_BUF;
}

/* All of it: there was room. A pipe with a second writer may have to be waited for. */
static ssize_t pipe_fill(int fd, const char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t put = real(write)(fd, buf + done, len - done);

		if (put < 0 && errno == EAGAIN)
			(void)pipe_wait(fd, POLLOUT, false);
		else if (put < 0 && errno != EINTR)
			return done ? (ssize_t)done : -errno;
		else if (put > 0)
			done += put;
	}
	return done;
}

/* The socket waits or not by its own mode; SPLICE_F_NONBLOCK is for the pipe. */
static ssize_t socket_to_pipe(struct sock_ref ref, int pipe, size_t len, unsigned int flags,
			      char *buf)
{
	ssize_t room = pipe_room(pipe, pipe_nonblock(pipe, flags));
	ssize_t got;

	if (room < 0)
		return room;
	got = move_recv(ref, buf, least(least(len, MOVE_BUFFER), room));
	return got > 0 ? pipe_fill(pipe, buf, got) : got;
}

/* Sees to it that the stream has room, or tells why it never will. */
static int wait_room(int fd, struct sock_ref ref)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	while (!stream_room(ref.s) && !(sock_events(ref.s, POLLOUT) & ~POLLIN)) {
		int ret;

		if (nonblocking(ref))
			return stream_room(ref.s) ? 0 : -EAGAIN;
		ret = ready_poll(&p, 1, NULL, NULL);
		if (ret < 0 && !(ret == -EINTR && handlers_restart()))
			return ret;
	}
	return 0;
}

/* What was taken from the pipe has to go; only a broken stream drops it. */
static ssize_t socket_push(int fd, struct sock_ref ref, char *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	size_t done = 0;

	while (done < len) {
		ssize_t sent = move_send(ref, buf + done, len - done, 0);

		if (sent >= 0)
			done += sent;
		else if (sent == -EAGAIN)
			(void)ready_poll(&p, 1, NULL, NULL);
		else if (sent == -EHANDED && handover_learn(fd))
			return pipe_fill(fd, buf + done, len - done);
		else if (sent != -EINTR)
			return done ? (ssize_t)done : sent;
	}
	return done;
}

static ssize_t pipe_to_socket(int fd, struct sock_ref ref, int pipe, size_t len, unsigned int flags,
			      char *buf)
{
	ssize_t got = wait_room(fd, ref);
	size_t room = stream_room(ref.s);

	if (got < 0)
		return got;
	if (real(fcntl)(pipe, F_GETPIPE_SZ, NULL) < 0)
		return -EINVAL;
	got = pipe_wait(pipe, POLLIN, pipe_nonblock(pipe, flags));
	if (got < 0)
		return got;
	/* A broken stream has no room that matters: the send below tells. */
	got = real(read)(pipe, buf,
			 least(least(len, MOVE_BUFFER), !is_stream(ref) ? len
							: room          ? room
									: 1));
	if (got <= 0)
		return got < 0 ? -errno : 0;
	return socket_push(fd, ref, buf, got);
}

/* Open, and for @mode or both ways. */
static int pipe_end(int fd, int mode)
{
	int flags = real(fcntl)(fd, F_GETFL, NULL);

	if (flags < 0)
		return -EBADF;
	return (flags & O_ACCMODE) == mode || (flags & O_ACCMODE) == O_RDWR ? 0 : -EBADF;
}

static ssize_t splice_ours(int in, const off64_t *in_at, int out, const off64_t *out_at, size_t len,
			   unsigned int flags)
{
	struct sock_ref from = sock_of(in), to = sock_of(out);
	const off64_t *socket_at = from.s ? in_at : out_at;
	const off64_t *pipe_at = from.s ? out_at : in_at;
	ssize_t ret = 0;
	char *buf;

	if (flags & ~SPLICE_FLAGS)
		return -EINVAL;
	if (!(from.s && to.s))
		ret = pipe_end(from.s ? out : in, from.s ? O_WRONLY : O_RDONLY);
	if (ret < 0)
		return ret;
	if (pipe_at && !(from.s && to.s))
		return -ESPIPE;
	if (socket_at)
		return user_readable(socket_at, sizeof(*socket_at)) ? -EFAULT : -EINVAL;
	if (from.s && to.s)
		return -EINVAL;
	if (!len)
		return 0;
	buf = malloc(least(len, MOVE_BUFFER));
	if (!buf)
		return -ENOMEM;
	ret = from.s ? socket_to_pipe(from, out, len, flags, buf)
		     : pipe_to_socket(out, to, in, len, flags, buf);
	free(buf);
	return ret;
}

EXPORT ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t len,
		      unsigned int flags)
{
	TRACED(splice, in, in_at, out, out_at, len, flags);

	int saved_errno = errno;
	ssize_t ret;

	if (!fd_sock(in) && !fd_sock(out))
		return real(splice)(in, in_at, out, out_at, len, flags);
	ret = splice_ours(in, in_at, out, out_at, len, flags);
	errno = saved_errno;
	return GIVE_IO(fd_sock(in) ? in : out, ret,
		       real(splice)(in, in_at, out, out_at, len, flags));
}

ALIAS(sendfile64, sendfile);
