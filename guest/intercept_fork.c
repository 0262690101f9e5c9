/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: what makes processes.
 *
 * Purpose and rules: intercept.h. A child with memory of its own has its own tables,
 * too, and joins the channel when it needs to. One in its parent's memory, but with
 * descriptors of its own, would take its parent's sockets for its own: where its parent
 * waits for it, as in vfork(), it gets a copy of memory. (A wrapper of the real vfork()
 * could not return twice anyhow.)
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>

#include "intercept.h"
#include "lock.h"
#include "sys.h"
#include "user.h"

/* The child handler of init.c runs inside. */
EXPORT pid_t fork(void)
{
	TRACED(fork);
	return real(fork)();
}

/* Runs no handlers, so that it may be called in a signal handler. */
EXPORT pid_t _Fork(void)
{
	TRACED(_Fork);

	pid_t pid;

	lock_before_fork();
	pid = real(_Fork)();

	if (pid == 0)
		channel_after_fork();
	return pid;
}

/* --- vfork --------------------------------------------------------------- */

/* Ends when nobody has the other end any more: the child has executed a program, or
 * is gone. */
static void wait_end(int fd)
{
	char byte;
	long got;

	do
		got = sys_call4(SYS_read, fd, &byte, 1, 0);
	while (got == -EINTR);
}

/* A pipe of the library's own, closed on exec. */
static bool pipe_make(int *ends)
{
	int saved = errno;
	bool entered = fd_room_enter(), made = sys_call2(SYS_pipe2, ends, O_CLOEXEC) == 0;

	for (int i = 0; made && i < 2; i++)
		ends[i] = fd_move_high(ends[i]);
	fd_room_leave(entered);
	errno = saved;
	return made;
}

EXPORT pid_t vfork(void)
{
	TRACED(vfork);

	int ends[2];
	pid_t pid;

	if (!pipe_make(ends))
		return real(fork)();
	pid = real(fork)();
	if (pid)
		fd_close_own(ends[1]);
	if (pid > 0)
		wait_end(ends[0]);
	fd_close_own(ends[0]);
	return pid;
}

/* --- clone ----------------------------------------------------------------- */

struct clone_job {
	int (*fn)(void *);
	void *arg;
};

/* The parent waits all the same. */
static bool is_vfork(uint64_t flags)
{
	return (flags & CLONE_VM) && (flags & CLONE_VFORK) &&
	       !(flags & (CLONE_FILES | CLONE_THREAD));
}

static int run_child(void *arg)
{
	const struct clone_job job = *(const struct clone_job *)arg;

	channel_after_fork();
	return job.fn(job.arg);
}

EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	struct clone_job job = { .fn = fn, .arg = arg };
	pid_t *parent, *child;
	va_list list;
	void *tls;

	va_start(list, arg);
	parent = va_arg(list, pid_t *);
	tls = va_arg(list, void *);
	child = va_arg(list, pid_t *);
	va_end(list);
	if (is_vfork((unsigned int)flags))
		flags &= ~CLONE_VM;
	if ((flags & CLONE_VM) || !fn)
		return real(clone)(fn, stack, flags, arg, parent, tls, child);
	process_before_fork();
	return real(clone)(run_child, stack, flags, &job, parent, tls, child);
}

/* By syscall(), as long as nobody returns from here on another stack. */
long clone3_by_number(long *a)
{
	const struct clone_args *given = (const void *)(uintptr_t)a[0];
	struct clone_args args = { 0 };
	const size_t len = (size_t)a[1];
	long pid;

	if (len < CLONE_ARGS_SIZE_VER0 || len > sizeof(args) || user_readable(given, len) ||
	    given->stack)
		return give(sys_call2(SYS_clone3, a[0], a[1]));
	memcpy(&args, given, len);
	if (is_vfork(args.flags))
		args.flags &= ~(uint64_t)CLONE_VM;
	if (args.flags & CLONE_VM)
		return give(sys_call2(SYS_clone3, a[0], a[1]));
	process_before_fork();
	pid = sys_call2(SYS_clone3, &args, len);
	if (pid == 0)
		channel_after_fork();
	return give(pid);
}

/* By syscall(). In the memory and on the stack of its parent a child would return from
 * here twice: it gets a copy, and the parent waits all the same (CLONE_VFORK). */
long clone_by_number(long *a)
{
	long pid;

	if (a[1] == 0)
		a[0] &= ~(long)CLONE_VM;
	if (!(a[0] & CLONE_VM))
		process_before_fork();
	pid = sys_call6(SYS_clone, a[0], a[1], a[2], a[3], a[4], 0);
	if (pid == 0 && !(a[0] & CLONE_VM))
		channel_after_fork();
	return give(pid);
}

ALIAS(__fork, fork);
ALIAS(__vfork, vfork);
