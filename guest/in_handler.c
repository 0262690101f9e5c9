/* SPDX-License-Identifier: MIT */
/*
 * Whether this thread is in a signal handler.
 *
 * Purpose: a lock that has this thread's own number is held by the frame that a handler
 * on top of it has interrupted, or was left by a handler that jumped out. That is asked
 * only when it happens, so that taking a lock costs nothing for it: a handler that is under
 * way has its frame on the stack, and there the address of the code that returns from it.
 *
 * Ownership and threads: any thread, in a handler or not.
 * Failure: where the stack cannot be read, or nothing is known of its frames, the answer is
 * yes. So it is, too, while an old frame still lies in memory that nobody has written since.
 */
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

#include "lock.h"
#include "sys.h"

#if defined(__x86_64__) && !defined(__ILP32__)

#define SIGNALS 64
#define RESTORERS 4
/* No stack is searched further than this. */
#define DEPTH_MOST (16u << 20)
#define PIECE 512 /* words */

/* What the kernel calls struct sigaction. */
struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

extern void *__libc_stack_end;

/* The addresses that handlers return to: one for each C library in the process. */
static unsigned int restorers(uintptr_t found[RESTORERS])
{
	struct kernel_action action;
	unsigned int count = 0, i;

	for (int number = 1; number <= SIGNALS; number++) {
		if (sys_call4(SYS_rt_sigaction, number, NULL, &action, sizeof(action.mask)) ||
		    !action.restorer)
			continue;
		for (i = 0; i < count && found[i] != (uintptr_t)action.restorer; i++)
			;
		if (i == count && count < RESTORERS)
			found[count++] = (uintptr_t)action.restorer;
	}
	return count;
}

/* Where the stack that @here lies in ends. The first thread's lies above all else, and the
 * C library keeps its own data of any other thread at the end of that one's stack. */
static uintptr_t stack_end(uintptr_t here)
{
	uintptr_t thread = (uintptr_t)__builtin_thread_pointer();

	return here < thread ? thread : (uintptr_t)__libc_stack_end;
}

/* Whether one of them stands between @from and @to; or that cannot be read. */
static bool stack_has(uintptr_t from, uintptr_t to, const uintptr_t *words, unsigned int count)
{
	long pid = sys_call2(SYS_getpid, 0, 0);
	uintptr_t piece[PIECE];

	while (from < to) {
		size_t len = to - from < sizeof(piece) ? to - from : sizeof(piece);
		const struct iovec here = { piece, len }, there = { (void *)from, len };

		if (sys_call6(SYS_process_vm_readv, pid, (long)&here, 1, (long)&there, 1, 0) !=
		    (long)len)
			return true;
		for (size_t i = 0; i < len / sizeof(*words); i++)
			for (unsigned int j = 0; j < count; j++)
				if (piece[i] == words[j])
					return true;
		from += len;
	}
	return false;
}

bool lock_in_handler(void)
{
	stack_t ss = { .ss_flags = 0 };
	uintptr_t found[RESTORERS];
	/* what lies deeper is of nobody that called us */
	uintptr_t from = (uintptr_t)__builtin_frame_address(0) & ~(sizeof(from) - 1), to;
	unsigned int count;

	if (sys_filtered || sys_valgrind || sys_call2(SYS_sigaltstack, 0, &ss) ||
	    (ss.ss_flags & SS_ONSTACK))
		return true;
	to = stack_end(from) & ~(sizeof(to) - 1);
	if (to <= from || to - from > DEPTH_MOST)
		return true;
	count = restorers(found);
	return stack_has(from, to, found, count);
}

#else

bool lock_in_handler(void)
{
	return true;
}

#endif
