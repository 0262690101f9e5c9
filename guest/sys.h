/* SPDX-License-Identifier: MIT */
/*
 * System calls for libcanal's own use.
 *
 * Purpose: reach the kernel without passing through symbols that we export
 * ourselves, without being a cancellation point, and without touching errno:
 * the program must not see it change in a call that succeeds.
 *
 * Failure: -errno, as the kernel returns it.
 */
#ifndef CANAL_GUEST_SYS_H
#define CANAL_GUEST_SYS_H

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long ret = syscall(nr, a, b, c, d, e, f);

	if (ret == -1)
		ret = -errno;
	errno = saved;
	return ret;
}
#endif

#define sys_call4(nr, a, b, c, d) sys_call6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys_call2(nr, a, b) sys_call4(nr, a, b, 0, 0)

static inline void sys_close(int fd)
{
	(void)sys_call2(SYS_close, fd, 0);
}

/* A filter of system calls is in force (confine.c): it may kill for one that a program
 * with sockets does not need. */
extern bool sys_filtered __attribute__((visibility("hidden")));

/* The program runs on valgrind's processor: what it cannot know of is not done. */
extern bool sys_valgrind __attribute__((visibility("hidden")));

static inline void sys_yield(void)
{
	if (!sys_filtered)
		(void)sys_call2(SYS_sched_yield, 0, 0);
}

#endif
