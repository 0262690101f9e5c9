/* SPDX-License-Identifier: MIT */
/*
 * Descriptors as a process handles them: close, dup, ranges, fork.
 *
 * Purpose: keep the descriptor table in step with what the kernel does to the
 * dummies. The kernel counts references (docs/wire.md, 1): nothing here tells
 * canald that a socket is gone, INR_CLOSE only makes it look.
 *
 * Invariants
 *  1. Order of a close: forget the number, then out of the sets if that was the
 *     last one, close the dummy, then the hint. Of two threads that close the
 *     last two descriptors one finds that it was the last. After the dummy is
 *     closed its number may belong to another thread.
 *  2. The library's own descriptors are never closed or replaced for the
 *     program: to the program they do not exist (EBADF).
 *  3. No allocation and no lock of this process: all of it runs in a forked
 *     child and in signal handlers.
 *
 * Ownership and threads: any thread. fork needs no wrapper, its child handler
 * (init.c) sees the forks of libc itself too; only _Fork() skips handlers.
 *
 * Failure: what the kernel says of the dummy. A hint that cannot be posted is
 * not missed: canald sees the hang-up.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <sys/resource.h>

#include "async.h"
#include "internal.h"
#include "keep.h"
#include "lock.h"
#include "sys.h"
#include "twin.h"

#define NS_PER_S 1000000000ll
#define LEAVE_LOOKS 300

void process_before_fork(void)
{
	epoll_before_fork();
	lock_before_fork();
}

/* An entry that is being given up. */
struct goodbye {
	struct fd_entry was;
	bool last;
	bool stays;      /* in a set that other processes have, or had */
	bool shares;     /* datagrams to its port are another's from now on */
	bool settles;    /* the other end is in this channel, too, or it listens: inward.c */
	uint32_t linger; /* SO_LINGER: seconds to wait at most; 0: none */
	uint32_t generation;
};

static bool is_socket(const struct goodbye *bye)
{
	return bye->was.kind == FD_SOCKET || bye->was.kind == FD_HANDED;
}

static struct goodbye forget(int fd)
{
	struct goodbye bye = { .was = fd_table[fd] };

	bye.last = fd_remove(fd);
	if (is_socket(&bye) && bye.last) {
		const struct canal_sock *s = bye.was.object;

		bye.linger = canal_read_once(&s->linger);
		bye.settles = canal_read_once(&s->inward) ||
			      canal_read_once(&s->state) == CANAL_SOCK_LISTENING;
		bye.shares = canal_read_once(&s->status) & CANAL_STATUS_SHARES;
		bye.generation = canal_read_once(&s->generation);
	}
	if (bye.was.kind == FD_SOCKET && bye.last) {
		keep_open(fd, bye.was.number);
		if (twin_any())
			twin_drop(bye.was.number);
		bye.stays = epoll_forget(fd);
	}
	if (unlikely(async_count) && bye.last && bye.was.kind != FD_EPOLL)
		async_forget(bye.was.number);
	if (bye.was.kind == FD_EPOLL)
		epoll_drop(fd, bye.last);
	return bye;
}

/*
 * SO_LINGER with a time: until the peer has all, or the time is over. canald knows both,
 * and answers at once when another process has the socket still, or nothing is to wait
 * for: then, too, it has seen the close.
 */
static void linger(const struct goodbye *bye)
{
	struct canal_inr inr = {
		.op = CANAL_INR_LINGER,
		.sock = bye->was.number,
		.u.arg = { bye->generation },
	};
	struct call_args args = { .level = 0 };

	(void)channel_call_until(&the_channel, &inr, &args,
				 wait_now() + (bye->linger + 1ll) * NS_PER_S);
}

/*
 * A set that others have, or had, tells of the socket until canald has seen that nobody
 * has it any more. Mostly that is at once, and programs expect it to be so.
 */
static void leave(const struct goodbye *bye)
{
	const struct canal_sock *s = bye->was.object;

	for (int i = 0; i < LEAVE_LOOKS && !channel_gone(&the_channel) &&
			canal_read_once(&s->generation) == bye->generation;
	     i++)
		i < LEAVE_LOOKS / 4 ? canal_relax() : sys_yield();
}

/*
 * The hint. A child that has not joined the channel does not do so for this: it
 * closes what its parent still has, or it is about to exec.
 */
static void hint(const struct goodbye *bye)
{
	struct canal_inr inr = {
		.op = CANAL_INR_CLOSE,
		.sock = bye->was.number,
		.slot = CANAL_NONE,
	};

	if (!is_socket(bye) || !bye->last || !the_channel.client || the_channel.dead)
		return;
	(void)channel_post(&the_channel, &inr);
	if (bye->linger || bye->shares)
		linger(bye);
	else if (bye->stays && !bye->settles)
		leave(bye);
	if (bye->settles)
		inward_settle();
}

void process_replace(int fd, int by, int flags)
{
	struct goodbye bye = forget(fd);

	(void)real(dup3)(by, fd, flags);
	hint(&bye);
}

void process_drop(int fd)
{
	struct goodbye bye;

	if (!fd_lookup(fd))
		return;
	bye = forget(fd);
	hint(&bye);
}

int process_close(int fd)
{
	struct goodbye bye;
	int ret;

	if (fd_is_ours(fd))
		return -EBADF;
	bye = forget(fd);
	ret = real(close)(fd) < 0 ? -errno : 0;
	hint(&bye);
	return ret;
}

int process_fclose(FILE *f)
{
	struct goodbye bye = { .was.kind = FD_NONE };
	int saved = errno, fd = fileno(f), ret;

	errno = saved;
	if (fd >= 0 && fd_lookup(fd))
		bye = forget(fd);
	ret = real(fclose)(f);
	hint(&bye);
	return ret;
}

int process_dup(int from)
{
	int to = real(dup)(from);

	if (to < 0)
		return -errno;
	fd_copy(from, to);
	return to;
}

static int dup_over(int from, int to, int flags)
{
	int ret = flags < 0 ? real(dup2)(from, to) : real(dup3)(from, to, flags);

	return ret < 0 ? -errno : ret;
}

/* Open, but as high as nothing may be opened any more. */
static bool is_beyond(int fd)
{
	struct rlimit limit;

	return !sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &limit) &&
	       (rlim_t)fd >= limit.rlim_cur;
}

/**
 * process_dup_over() - dup2 and dup3, onto and from anything
 * @flags: of dup3, or -1 for dup2
 */
int process_dup_over(int from, int to, int flags)
{
	struct goodbye bye = { .was.kind = FD_NONE };
	int ret;

	if (from == to)
		return dup_over(from, to, flags);
	if (fd_is_ours(from) || fd_is_ours(to))
		return -EBADF;
	if (real(fcntl)(from, F_GETFD, NULL) < 0)
		return -errno;
	if (flags > 0 && (flags & ~O_CLOEXEC))
		return -EINVAL;
	if (fd_lookup(to)) {
		if (is_beyond(to))
			return -EBADF;
		bye = forget(to);
	}
	ret = dup_over(from, to, flags);
	hint(&bye);
	if (ret >= 0)
		fd_copy(from, to);
	return ret;
}

/* Closes what lies between the library's own descriptors. */
static int close_gaps(unsigned int first, unsigned int last, int flags)
{
	while (first <= last) {
		int own = first <= INT32_MAX ? fd_next_own(first) : -1;
		unsigned int end = own >= 0 && (unsigned int)own <= last ? (unsigned int)own : last;

		if (own < 0 || (unsigned int)own > last)
			return real(close_range)(first, last, flags) < 0 ? -errno : 0;
		if (end > first && real(close_range)(first, end - 1, flags) < 0)
			return -errno;
		first = end + 1;
	}
	return 0;
}

int process_close_range(unsigned int first, unsigned int last, int flags)
{
	if (first > last || (flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)))
		return -EINVAL;
	if (flags & CLOSE_RANGE_CLOEXEC)
		return real(close_range)(first, last, flags) < 0 ? -errno : 0;
	if (first <= INT32_MAX)
		for (int fd = fd_next(first); fd >= 0 && (unsigned int)fd <= last;
		     fd = fd_next(fd + 1))
			(void)process_close(fd);
	return close_gaps(first, last, flags);
}
