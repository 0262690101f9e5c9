/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: waiting for many.
 *
 * Purpose and rules: intercept.h. A call that names nothing of ours goes to the
 * kernel as it is.
 */
#include <limits.h>

#include "deadline.h"
#include "epoll_set.h"
#include "intercept.h"
#include "user.h"

#define NS_PER_MS 1000000
#define NS_PER_US 1000
#define US_PER_S 1000000
#define MS_PER_S 1000

/* libc's header says that poll() only writes into the array. */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

extern int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);
extern int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		       const sigset_t *mask, size_t room);

/* Milliseconds as poll and epoll have them; NULL: for ever. */
static const struct timespec *from_ms(int ms, struct timespec *ts)
{
	if (ms < 0)
		return NULL;
	ts->tv_sec = ms / MS_PER_S;
	ts->tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS;
	return ts;
}

/* Behind a call that may have looked for who is ours. */
static inline int over(int ret)
{
	if (unlikely(epoll_watching))
		epoll_unwatch();
	return ret;
}

/* The kernel says what is wrong with such an array. */
static inline __attribute__((always_inline)) bool is_bad(struct pollfd *fds, nfds_t count)
{
	return count > INT_MAX ||
	       (count && USER_ONCE(user_writable, fds, count * sizeof(*fds)) != 0);
}

static bool is_bad_set(fd_set *set, int n)
{
	return set && n > 0 && user_writable(set, ((size_t)n + 63) / 64 * sizeof(fd_mask)) != 0;
}

/* Asked in full only when one of them is another one than last time. */
static bool are_bad(int n, fd_set *rd, fd_set *wr, fd_set *ex)
{
	static __thread fd_set *seen[3];

	if (rd == seen[0] && wr == seen[1] && ex == seen[2])
		return false;
	if (is_bad_set(rd, n) || is_bad_set(wr, n) || is_bad_set(ex, n))
		return true;
	seen[0] = rd;
	seen[1] = wr;
	seen[2] = ex;
	return false;
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	TRACED(poll, fds, count, timeout);

	struct timespec ts;
	int ready;

	if (!canal_read_once(&fd_table_len) || is_bad(fds, count))
		return real(poll)(fds, count, timeout);
	ready = ready_poll_now(fds, count);
	if (likely(ready))
		return ready;
	if (!ready_poll_ours(fds, count))
		return over(real(poll)(fds, count, timeout));
	return over(give(ready_poll(fds, count, from_ms(timeout, &ts), NULL)));
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask)
{
	TRACED(ppoll, fds, count, timeout, mask);

	int ready;

	if (!canal_read_once(&fd_table_len) || is_bad(fds, count) ||
	    (mask && USER_ONCE(user_readable, mask, sizeof(long))))
		return real(ppoll)(fds, count, timeout, mask);
	ready = timeout_is_valid(timeout) ? ready_poll_now(fds, count) : 0;
	if (likely(ready))
		return ready;
	if (!ready_poll_ours(fds, count))
		return over(real(ppoll)(fds, count, timeout, mask));
	return over(give(ready_poll(fds, count, timeout, mask)));
}

/* Too small an array: libc's own check tells and ends the program. */
EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
	if (room / sizeof(*fds) < count)
		return real(__poll_chk)(fds, count, timeout, room);
	return poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		       const sigset_t *mask, size_t room)
{
	if (room / sizeof(*fds) < count)
		return real(__ppoll_chk)(fds, count, timeout, mask, room);
	return ppoll(fds, count, timeout, mask);
}

/* Linux select(2) takes any number of microseconds, and leaves what is left. */
EXPORT int select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout)
{
	TRACED(select, n, rd, wr, ex, timeout);

	struct timespec ts, left = { 0 };
	int ret;

	if (!canal_read_once(&fd_table_len) || are_bad(n, rd, wr, ex) ||
	    !ready_select_ours(n, rd, wr, ex))
		return over(real(select)(n, rd, wr, ex, timeout));
	if (!timeout)
		return over(give(ready_select(n, rd, wr, ex, NULL, NULL, &left)));
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return over(give(-EINVAL));
	ts.tv_sec = timeout->tv_sec + timeout->tv_usec / US_PER_S;
	ts.tv_nsec = timeout->tv_usec % US_PER_S * NS_PER_US;
	ret = ready_select(n, rd, wr, ex, &ts, NULL, &left);
	timeout->tv_sec = left.tv_sec;
	timeout->tv_usec = left.tv_nsec / NS_PER_US;
	return over(give(ret));
}

EXPORT int pselect(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
		   const sigset_t *mask)
{
	TRACED(pselect, n, rd, wr, ex, timeout, mask);

	struct timespec left;

	if (!canal_read_once(&fd_table_len) || are_bad(n, rd, wr, ex) ||
	    !ready_select_ours(n, rd, wr, ex))
		return over(real(pselect)(n, rd, wr, ex, timeout, mask));
	return over(give(ready_select(n, rd, wr, ex, timeout, mask, &left)));
}

static bool is_set(int fd)
{
	const struct fd_entry *entry = fd_lookup(fd);

	return entry && entry->kind == FD_EPOLL;
}

/* An instance that cannot be made ours is the kernel's, until epoll_ctl() tries again. */
static int made(int epfd)
{
	int saved_errno = errno;

	if (epfd >= 0) {
		(void)epoll_make(epfd);
		errno = saved_errno;
	}
	return epfd;
}

EXPORT int epoll_create1(int flags)
{
	TRACED(epoll_create1, flags);
	return made(real(epoll_create1)(flags));
}

EXPORT int epoll_create(int size)
{
	TRACED(epoll_create, size);
	return made(real(epoll_create)(size));
}

/* Whether @epfd is an epoll instance at all: to take out a dummy, which is in
 * none, finds nothing there, and anywhere else is an error. */
static int check_epoll(int epfd, int dummy)
{
	int saved_errno = errno;
	int ret = real(epoll_ctl)(epfd, EPOLL_CTL_DEL, dummy, NULL) < 0 ? -errno : 0;

	errno = saved_errno;
	return ret == -ENOENT ? 0 : ret;
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	TRACED(epoll_ctl, epfd, op, fd, ev);

	int ret;

	if (!is_set(epfd)) {
		/* Made before us, or by somebody else and passed on. */
		if (!fd_sock(fd) || op != EPOLL_CTL_ADD)
			return real(epoll_ctl)(epfd, op, fd, ev);
		ret = check_epoll(epfd, fd);
		if (ret == 0)
			ret = epoll_make(epfd);
		if (ret < 0)
			return give(ret);
	}
	if (op != EPOLL_CTL_DEL && user_readable(ev, sizeof(*ev)))
		return give(-EFAULT);
	return give(epoll_change(epfd, op, fd, ev));
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *ev, int max, int timeout, const sigset_t *mask)
{
	TRACED(epoll_pwait, epfd, ev, max, timeout, mask);

	struct timespec ts;

	if (!is_set(epfd) || (mask && USER_ONCE(user_readable, mask, sizeof(long))))
		return real(epoll_pwait)(epfd, ev, max, timeout, mask);
	return give(epoll_collect(epfd, ev, max, from_ms(timeout, &ts), mask));
}

EXPORT int epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	TRACED(epoll_wait, epfd, ev, max, timeout);

	struct timespec ts;

	if (!is_set(epfd))
		return real(epoll_wait)(epfd, ev, max, timeout);
	return give(epoll_collect(epfd, ev, max, from_ms(timeout, &ts), NULL));
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
			const sigset_t *mask)
{
	TRACED(epoll_pwait2, epfd, ev, max, timeout, mask);

	if (!is_set(epfd) || (timeout && USER_ONCE(user_readable, timeout, sizeof(*timeout))))
		return real(epoll_pwait2)(epfd, ev, max, timeout, mask);
	return give(epoll_collect(epfd, ev, max, timeout, mask));
}

ALIAS(__poll, poll);
ALIAS(__select, select);
