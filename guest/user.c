/* SPDX-License-Identifier: MIT */
/*
 * Whether the program's pointers can be read or written; see user.h.
 *
 * Purpose: one harmless system call for each word that is asked for. Reading:
 * rt_sigprocmask() copies its set before it refuses what it shall do with it.
 * Writing: FUTEX_WAKE_OP stores what is there already, in one atomic operation,
 * so that it does not matter who else uses the word.
 *
 * Under valgrind everything is a yes: it would tell of bytes that the program never set,
 * next to those that are asked for, and it finds the bad pointer itself, where it is used.
 *
 * Failure: -EFAULT. A kernel that forbids these calls is taken for a yes.
 */
#include "user.h"

#include <linux/futex.h>
#include <stdint.h>

#include "lock.h"
#include "sys.h"

#define NO_SUCH_HOW 99
#define NOWHERE 4096

static int word_readable(uintptr_t at)
{
	long ret = sys_call4(SYS_rt_sigprocmask, NO_SUCH_HOW, at & ~(uintptr_t)7, 0, 8);

	return ret == -EFAULT ? -EFAULT : 0;
}

static int word_writable(uintptr_t at)
{
	const long nothing = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0);
	long word = (long)(at & ~(uintptr_t)3);
	long ret =
		sys_call6(SYS_futex, word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, word, nothing);

	return ret == -EFAULT ? -EFAULT : 0;
}

static int range_check(int (*check)(uintptr_t at), uintptr_t at, size_t len)
{
	int error;

	if (!len || unlikely(sys_valgrind))
		return 0;
	/* No pointer at all means something else to the kernel's calls. */
	if (at < NOWHERE || len - 1 > UINTPTR_MAX - at)
		return -EFAULT;
	error = check(at);
	return error || (at ^ (at + len - 1)) < 4 ? error : check(at + len - 1);
}

int user_readable(const void *at, size_t len)
{
	return range_check(word_readable, (uintptr_t)at, len);
}

int user_writable(void *at, size_t len)
{
	return range_check(word_writable, (uintptr_t)at, len);
}
